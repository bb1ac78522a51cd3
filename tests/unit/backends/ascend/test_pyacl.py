"""Every answer of pyACL is looked at, it is initialised once, and what was taken is given back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ascend_tiny import DEVICE, apart, compiled, expected, images, outputs_of, python, spec

from harness.backends import base
from harness.backends.ascend import _pyacl, acl
from harness.errors import DeviceError


def test_a_failing_release_alone_is_an_error(sdk, folder):
    _, engine = compiled(folder, "static", spec())
    sdk.switch(slow=0.001, fail=[["acl.mdl.unload", 1, 545009], ["acl.rt.destroy_context", 1, 507007]])

    with pytest.raises(DeviceError, match=r"acl.mdl.unload failed: 545009.*acl.rt.destroy_context failed: 507007"):
        outputs_of(engine, spec(), images())


def test_the_first_error_wins_and_a_failing_release_is_told_with_it(sdk, folder):
    _, engine = compiled(folder, "static", spec())
    sdk.switch(slow=0.001, fail=[["acl.rt.memcpy", 1, 507899], ["acl.rt.free", 2, 207002]])

    with pytest.raises(DeviceError) as caught:
        outputs_of(engine, spec(), images())

    assert caught.value.fact.startswith("acl.rt.memcpy failed: 507899")
    assert "then, releasing resources, acl.rt.free failed: 207002" in caught.value.fact
    assert "507899" in str(caught.value)
    assert "207002" in str(caught.value)


def test_a_foreign_error_passes_and_a_failing_release_is_told_on_stderr(sdk, folder, capsys):
    _, engine = compiled(folder, "static", spec())
    sdk.switch(slow=0.001, fail=[["acl.mdl.unload", 1, 545009]])

    with pytest.raises(ZeroDivisionError), acl.load(engine, DEVICE, spec()):
        raise ZeroDivisionError

    assert "acl.mdl.unload failed: 545009" in capsys.readouterr().err


def sdk_with(**functions):
    """A module `acl` whose acl.rt has these functions only."""
    return _pyacl.Vendor(SimpleNamespace(rt=SimpleNamespace(**functions)))


@pytest.mark.parametrize("answer", [None, (), "0", (1, None), (1, True), [0]], ids=repr)
def test_an_answer_without_a_status_is_not_success(answer):
    with pytest.raises(DeviceError, match="ends with no status"):
        sdk_with(malloc=lambda: answer).do("acl.rt.malloc")


def test_a_call_that_this_release_lacks_is_a_typed_error():
    with pytest.raises(DeviceError, match=r"acl.rt.malloc does not exist in this release"):
        sdk_with().do("acl.rt.malloc")


@pytest.mark.parametrize("answer", [None, 0, -1, ""])
def test_a_handle_that_is_none_is_a_typed_error(answer):
    with pytest.raises(DeviceError, match=f"acl.rt.make failed: it answered {answer!r}"):
        sdk_with(make=lambda: answer).ask("acl.rt.make")


def test_an_unknown_status_is_told_as_it_is():
    with pytest.raises(DeviceError, match=r"acl.rt.malloc failed: 999999 a code that is in none"):
        sdk_with(malloc=lambda: (0, 999999)).do("acl.rt.malloc")


def test_a_release_without_messages_still_tells_the_code():
    with pytest.raises(DeviceError, match="failed: 207001 RT_MEMORY_ALLOCATION: memory could not be allocated\n"):
        sdk_with(malloc=lambda: (0, 207001)).do("acl.rt.malloc")


def test_pyacl_is_initialised_once_and_finalised_when_the_process_ends(sdk, folder, tmp_path):
    _, engine = compiled(folder, "static", spec())
    ledger = tmp_path / "process.jsonl"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from ascend_tiny import *\n"
        "for _ in range(3):\n"
        f"    with acl.load({str(engine)!r}, DEVICE, spec()) as session:\n"
        "        session.write({'image': images()}); session.execute(); session.read()\n"
    )

    done = python(code, CHIPPROOF_SIM='{"trace": true}', CHIPPROOF_SIM_LEDGER=str(ledger))

    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    calls = [line["call"] for line in lines if line["kind"] == "call"]
    assert [line for line in lines if line["kind"] != "call"] == []
    assert calls.count("acl.init") == calls.count("acl.finalize") == 1
    assert calls[0] == "acl.init"
    assert calls[-1] == "acl.finalize"


def test_a_finalize_that_fails_is_told(sdk, capsys):
    vendor = _pyacl.initialized()
    sdk.switch(fail=[["acl.finalize", 1, 500000]])

    _pyacl.finalize(vendor)

    assert "acl.finalize failed: 500000 INTERNAL_ERROR" in capsys.readouterr().err


def test_a_process_that_somebody_else_initialised_is_used_and_left(sdk, folder):
    import acl as simulated_acl

    onnx, engine = compiled(folder, "static", spec())
    simulated_acl.init()

    outputs = outputs_of(engine, spec(), images())

    assert apart(outputs, expected(onnx, images())) < 0.002
    sdk.chip.state.violations.clear()  # the simulator counts the second init, which the backend may not avoid


def test_without_pyacl_the_error_says_how_to_get_it(monkeypatch):
    _pyacl.initialized.cache_clear()
    monkeypatch.setitem(sys.modules, "acl", None)

    with pytest.raises(DeviceError, match="no module acl") as caught, acl.load(Path("x.om"), DEVICE, spec()):
        pass

    assert "set_env.sh" in caught.value.hint


def test_the_trail_names_the_call_under_way(sdk, folder, monkeypatch):
    _, engine = compiled(folder, "static", spec())
    trail = bytearray(4096)
    monkeypatch.setattr(base, "_trail", trail)
    sdk.switch(slow=0.001, fail=[["acl.rt.create_stream", 1, 207008]])

    with pytest.raises(DeviceError):
        outputs_of(engine, spec(), images())

    seen = bytes(trail).split(b"\0", 1)[0].decode()
    assert seen == "acl.rt.reset_device", "the last call of all"
