"""Every pyACL call that the backend makes fails once, at its first, middle and last time.

Always a typed error that names the call, the code and the next step; nothing is left on the device; and the next
case in the same process runs clean.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from ascend_tiny import (
    DEVICE,
    NORMALIZE,
    apart,
    begin_anew,
    cann,
    compiled,
    expected,
    images,
    pixels,
    python,
    spec,
)
from vendor_sweep import occurrences

from harness.backends.ascend import _pyacl, acl
from harness.errors import DeviceError, HarnessError

CODE = 507899
VARIANTS = {
    "static": ({}, {}),
    "tiers": ({"tiers": (1, 4, 8)}, {}),
    "aipp": ({"normalize": NORMALIZE}, {}),
    "cann5": ({}, {"python_api": "old"}),
    "board": ({}, {"run_mode": 0}),
}
# what a call that gives something back can, when it fails, leave behind: that very thing
GIVES_BACK = {
    "acl.rt.free": "device memory", "acl.rt.free_host": "host memory", "acl.destroy_data_buffer": "data buffer",
    "acl.mdl.destroy_dataset": "dataset", "acl.mdl.destroy_desc": "desc", "acl.mdl.unload": "model",
    "acl.rt.destroy_stream": "stream", "acl.rt.destroy_context": "context", "acl.rt.reset_device": "device",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        import acl as simulated_acl

        sdk.chip = simulated_acl.chip
        begin_anew(sdk.chip)
        yield sdk
        begin_anew(sdk.chip)


def run(engine, case, tensors):
    with acl.load(engine, DEVICE, case) as session:
        for _ in range(2):
            session.write({"image": tensors})
            session.execute(3)
            outputs = session.read()
    return outputs


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_call_that_fails_is_a_typed_error_and_leaves_nothing(sdk, folder, variant):
    more, switches = VARIANTS[variant]
    case = spec(**more)
    onnx, engine = compiled(folder, f"{variant}.om", case)
    tensors = pixels() if case.normalize else images()
    wanted = expected(onnx, tensors)

    def whole():
        outputs = run(engine, case, tensors)
        assert apart(outputs, wanted) < 0.01
        _pyacl.initialized().do("acl.finalize")

    quick = {"slow": 0.001, **switches}
    sdk.switch(**quick)
    whole()
    assert sdk.wrongs() == []
    points = occurrences(dict(sdk.calls.counts))

    assert len(points) >= 60
    for call, n in points:
        begin_anew(sdk.chip)
        before = len(sdk.wrongs())
        sdk.switch(fail=[[call, n, CODE]], **quick)
        where = f"{call}, time {n}"
        with pytest.raises(HarnessError) as caught:
            whole()
        error = caught.value
        assert isinstance(error, DeviceError), f"{where}: {error!r}"
        assert call in error.fact, f"{where}: the error does not name the call: {error}"
        assert str(CODE) in error.fact or "answered" in error.fact, f"{where}: no code: {error}"
        assert error.hint.strip(), f"{where}: no next step"
        left = sdk.chip.state.handles()
        assert set(left) <= {GIVES_BACK.get(call)}, f"{where}: left behind {left}"
        wrongs = sdk.wrongs()[before:]
        assert not wrongs or call in GIVES_BACK, f"{where}: {wrongs}"
        assert not sdk.chip.state.violations, f"{where}: {sdk.chip.state.violations}"

        sdk.switch(**quick)
        if call == "acl.finalize":
            continue
        outputs = run(engine, case, tensors)
        assert apart(outputs, wanted) < 0.01, f"{where}: the next case computes something else"
        assert not sdk.chip.state.violations, f"{where}: the next case is not clean: {sdk.chip.state.violations}"
        again = sdk.chip.state.handles()
        assert again == left, f"{where}: the next case leaves {again}"


def test_the_sweep_reaches_every_call_that_the_backend_can_make(sdk, folder):
    made = set()
    for variant, (more, switches) in VARIANTS.items():
        case = spec(**more)
        _, engine = compiled(folder, f"{variant}.om", case)
        begin_anew(sdk.chip)
        sdk.switch(slow=0.001, **switches)
        run(engine, case, pixels() if case.normalize else images())
        _pyacl.initialized().do("acl.finalize")
        made.update(sdk.calls.counts)

    source = "".join(Path(module.__file__).read_text(encoding="utf-8") for module in (acl, _pyacl))
    written = set(re.findall(r'"(acl(?:\.[\w{}]+)+)"', source))
    named = {name.replace("{side}", side) for name in written for side in ("input", "output")}

    assert len(named) > 30
    assert named - made == {"acl.get_recent_err_msg"}, "called only after a failure"


def test_a_call_that_times_out_is_made_once_more(sdk, folder):
    case = spec()
    onnx, engine = compiled(folder, "static.om", case)
    tensors = images()
    wanted = expected(onnx, tensors)
    sdk.switch(slow=0.001)
    run(engine, case, tensors)
    calls = [
        call for call in sdk.calls.counts if call.startswith(("acl.rt.synchronize", "acl.mdl.execute", "acl.rt.m"))
    ]

    for call in calls:
        begin_anew(sdk.chip)
        sdk.switch(slow=0.001, fail=[[call, 1, 107019]])
        assert apart(run(engine, case, tensors), wanted) < 0.01, call
        begin_anew(sdk.chip)
        sdk.switch(slow=0.001, fail=[[call, 1, 107019], [call, 2, 107019]])
        with pytest.raises(DeviceError, match="107019"):
            run(engine, case, tensors)
    assert len(calls) >= 5


CYCLES = """
import gc, json, os, sys
from pathlib import Path
import acl
from ascend_tiny import DEVICE, images, spec
from harness.backends.ascend import acl as backend

resident = []
for cycle in range(1000):
    with backend.load(Path(sys.argv[1]), DEVICE, spec()) as session:
        session.write({"image": images()})
        session.execute()
        session.read()
    if cycle % 100 == 99:
        gc.collect()
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
print(json.dumps([resident, acl.chip.state.handles()]))
"""


def test_a_thousand_cycles_leave_no_handle_and_no_memory(sdk, folder, tmp_path):
    _, engine = compiled(folder, "static.om", spec())
    ledger = tmp_path / "cycles.jsonl"
    done = python(
        CYCLES, str(engine), CHIPPROOF_SIM=json.dumps({"slow": 0.0}), CHIPPROOF_SIM_LEDGER=str(ledger)
    )  # a process of its own: others' garbage would be counted
    assert done.returncode == 0, done.stderr
    resident, handles = json.loads(done.stdout.splitlines()[-1])

    assert handles == {}
    assert not ledger.exists(), ledger.read_text()
    growth = np.polyfit(range(5), resident[5:], 1)[0] / 100  # bytes a cycle, after the allocators have settled
    assert growth < 2048, f"{growth:.0f} bytes a cycle: {resident}"
