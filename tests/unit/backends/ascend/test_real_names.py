"""Our calls of pyACL have the names of CANN's own C functions, as far as a program that others compiled tells them.

pyACL is a thin layer: acl.mdl.get_num_inputs is aclmdlGetNumInputs (hiascend.com, "pyACL API Reference"). The names are
those that ONNX Runtime's CANN provider is linked to; support/acl_symbols.txt says how they were read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[4]
SYMBOLS = {
    line for line in (ROOT / "tests/support/acl_symbols.txt").read_text().splitlines() if not line.startswith("#")
}
# that provider does not call these: their names rest on CANN's documents alone
UNTOLD = {
    "aclGetSocName",
    "aclmdlGetCurOutputDims",
    "aclmdlGetDynamicBatch",
    "aclmdlGetInputDims",
    "aclmdlGetInputNameByIndex",
    "aclmdlGetOutputNameByIndex",
    "aclmdlSetDynamicBatchSize",
    "aclrtCreateContext",
    "aclrtDestroyContext",
    "aclrtGetRunMode",
    "aclrtResetDevice",
    "aclrtSetContext",
}


def called():
    """C names of all pyACL calls in the backend, by the name that the backend gives them."""
    text = "".join(path.read_text() for path in sorted((ROOT / "harness/backends/ascend").glob("*.py")))
    names = set(re.findall(r"\bacl\.((?:rt\.|mdl\.)?[a-z_]+)(?=[\"(])", text))
    return {f"acl.{name}": c_name(name) for name in names}


def c_name(name):
    """aclmdlGetNumInputs for mdl.get_num_inputs."""
    group, _, function = name.rpartition(".")
    return f"acl{group}" + "".join(word.capitalize() for word in function.split("_"))


def test_our_calls_are_cann_s_functions():
    ours = called()
    unknown = {python: c for python, c in ours.items() if c not in SYMBOLS | UNTOLD}

    assert not unknown, f"CANN has no such function, or this list lacks it: {unknown}"
    assert len(set(ours.values()) & SYMBOLS) >= 20


def test_what_is_untold_is_called_and_untold():
    assert set(called().values()) >= UNTOLD, "no longer called: delete it"
    assert not SYMBOLS & UNTOLD, "told by now: delete it"


def test_a_misspelt_call_would_be_seen():
    assert c_name("mdl.get_num_inputs") in SYMBOLS
    assert c_name("mdl.get_input_num") not in SYMBOLS | UNTOLD
