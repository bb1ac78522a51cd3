"""Ascend through msame and ais_bench: the same outputs as through pyACL, times from the tool, refusals."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from ascend_tiny import DEVICE, NORMALIZE, apart, cann, compiled, expected, images, pixels, spec
from ascend_told import OUT, told

from harness.backends.ascend import _command_line, acl, ais_bench, msame
from harness.backends.base import Device, TensorSpec
from harness.errors import DeviceError, RunError
from harness.judge.timing import Plan

TOOLS = pytest.mark.parametrize("tool", [msame, ais_bench], ids=lambda tool: tool.name)


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        yield sdk
        assert sdk.wrongs() == []


@TOOLS
@pytest.mark.parametrize("more", [{}, {"normalize": NORMALIZE}, {"outputs": ("class", "features")}], ids=str)
def test_outputs_are_those_of_the_network(sdk, folder, tool, more):
    known = told(**more)
    onnx, engine = compiled(folder, "-".join(["cli", *more, *known.outputs]), known)
    tensors = pixels() if known.normalize else images()

    with tool.load(engine, DEVICE, known) as session:
        assert session.inputs == _command_line.fed(known)
        session.write({"image": tensors})
        session.execute()
        outputs = session.read()

    assert list(outputs) == list(known.outputs)
    assert apart(outputs, expected(onnx, tensors)) < 0.002


@TOOLS
@pytest.mark.parametrize("batch", [1, 4, 8])
@pytest.mark.parametrize("release", ["2024", "typer"])
def test_an_engine_of_several_batches_is_told_which(sdk, folder, tool, batch, release):
    known = replace(told(tiers=(1, 4, 8)), batch=batch)
    onnx, engine = compiled(folder, "cli-tiers", replace(known, batch=8))
    sdk.switch(ais_bench=release)

    with tool.load(engine, DEVICE, known) as session:
        session.write({"image": images(batch)})
        session.execute()
        outputs = session.read()

    assert apart(outputs, expected(onnx, images(batch))) < 0.002


@pytest.fixture(scope="module")
def alike(folder):
    """ONNX file of two outputs of one size, x + 1 and x + 2."""
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    names = ("first", "second")
    graph = helper.make_graph(
        [helper.make_node("Add", ["image", name + ".by"], [name], name=f"Add_{i}") for i, name in enumerate(names)],
        "alike", [value("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [value(name, TensorProto.FLOAT, ["batch", 3, 8, 8]) for name in names],
        [helper.make_tensor(name + ".by", TensorProto.FLOAT, [], [1.0 + i]) for i, name in enumerate(names)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 7
    onnx.save(model, str(folder / "alike.onnx"))
    return folder / "alike.onnx"


def of_one_size(outputs=("first", "second")):
    rows = {name: [name, "float32", [-1, 3, 8, 8]] for name in outputs}
    nodes = {"first": "Add_0:0", "second": "Add_1:0"}
    return replace(
        told(), outputs=outputs,
        options={"out_nodes": [nodes[name] for name in outputs], "out_specs": [rows[name] for name in outputs]},
    )  # fmt: skip


@TOOLS
@pytest.mark.parametrize("order", ["as_asked", "reversed"])
@pytest.mark.parametrize("names", ["full", "node"])
def test_outputs_of_one_size_are_told_apart_by_the_names_in_the_engine(sdk, alike, tmp_path, tool, order, names):
    """The tools number their files, so that an exchange of the two would show nowhere."""
    sdk.switch(out_order=order, out_names=names)
    known = of_one_size()
    acl.build(alike, tmp_path / "alike.om", known)

    with tool.load(tmp_path / "alike.om", DEVICE, known) as session:
        session.write({"image": images()})
        session.execute()
        outputs = session.read()

    assert list(outputs) == ["first", "second"]
    for number, name in enumerate(outputs):
        np.testing.assert_allclose(outputs[name], images() + 1 + number, atol=0.01)


@TOOLS
def test_outputs_of_one_size_under_foreign_names_are_refused(sdk, alike, tmp_path, tool):
    sdk.switch(out_names="foreign")
    known = of_one_size()
    acl.build(alike, tmp_path / "alike.om", known)

    with pytest.raises(RunError, match=r"one size, .*trans_TransData_40:0.* do not show") as caught:
        tool.load(tmp_path / "alike.om", DEVICE, known).__enter__()

    assert "pyACL" in caught.value.hint


def test_without_atc_outputs_of_one_size_are_not_guessed(sdk, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    known = of_one_size()
    with pytest.raises(RunError, match="atc is not on PATH"):
        _command_line.in_order(tmp_path / "e.om", _command_line.produced(known), known)


def test_one_name_that_tells_is_enough_for_two_outputs(monkeypatch):
    monkeypatch.setattr(_command_line._atc, "output_names", lambda engine: ["trans_40:0", "Add_0:0:first"])
    known = of_one_size()

    ordered = _command_line.in_order("e.om", _command_line.produced(known), known)

    assert [tensor.name for tensor in ordered] == ["second", "first"]


@TOOLS
def test_times_are_the_tools_own_and_not_those_of_its_process(sdk, folder, tool):
    known = told()
    _, engine = compiled(folder, "cli", known)
    sdk.switch(slow=2.5)  # 10 ms an execute

    with tool.load(engine, DEVICE, known) as session:
        session.write({"image": images()})
        timing = session.measure(Plan(warmup_s=0.1, window_s=0.1, windows=4, latencies=5))
        outputs = session.read()

    assert [window.executes for window in timing.windows] == [timing.windows[0].executes] * 4
    assert len(timing.latencies) == 5
    seconds = [(window.stop - window.start) / window.executes for window in timing.windows]
    assert min(seconds) == pytest.approx(0.01, rel=0.1), "what the chip takes, without the start of the process"
    assert outputs["class"].shape == (4, 4)
    for earlier, later in zip(timing.windows, timing.windows[1:], strict=False):
        assert later.start >= earlier.stop - 1e-9


@pytest.fixture
def careless(monkeypatch):
    """A user whose files are writable for everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


@TOOLS
@pytest.mark.parametrize("mode", [0o644, 0o664, 0o666])
@pytest.mark.parametrize("release", ["old", "2024", "typer"])
def test_files_are_such_as_every_release_takes(sdk, folder, tmp_path, careless, tool, mode, release):
    """From 2024 on ais_bench refuses soft links, inputs that others may write, and an output folder over 0750."""
    known = told()
    onnx, engine = compiled(folder, "cli", known)
    copy = tmp_path / "elsewhere.engine"
    copy.write_bytes(engine.read_bytes())
    copy.chmod(mode)
    sdk.switch(ais_bench=release, slow=0.1)

    with tool.load(copy, DEVICE, known) as session:
        session.write({"image": images()})
        session.execute(2)
        assert apart(session.read(), expected(onnx, images())) < 0.002
        assert len(session.measure(Plan(warmup_s=0.0, window_s=0.001, windows=3, latencies=0)).windows) == 3

    assert copy.stat().st_mode & 0o777 == mode, "the engine of the store is left as it was"


@TOOLS
def test_a_tool_that_fails_is_a_typed_error_with_its_words(sdk, folder, tool, tmp_path):
    known = told()
    _, engine = compiled(folder, "cli", known)
    (tmp_path / "garbage").write_bytes(b"\0" * 1000)
    with tool.load(engine, DEVICE, known) as session:
        session.write({"image": images()})
        sdk.switch(fail=[["acl.mdl.execute", 1, 507011]])
        with pytest.raises(DeviceError, match="execute model failed, errorCode is 507011") as caught:
            session.execute()
        with pytest.raises(RunError, match="nothing was executed"):
            session.read()
        sdk.switch()
    with tool.load(tmp_path / "garbage", DEVICE, known) as session:
        session.write({"image": images()})
        with pytest.raises(DeviceError, match="errorCode is 545001"):
            session.execute()
    with tool.load(engine, Device(9, "310P3"), known) as session:
        session.write({"image": images()})
        with pytest.raises(DeviceError, match="open device failed, errorCode is 107001"):
            session.execute()

    assert "--model" in caught.value.hint
    sdk._ledger.unlink()  # the tools end without giving back what they took: not ours to mend


@TOOLS
def test_an_engine_of_another_case_is_refused(sdk, folder, tool):
    known = told()
    _, engine = compiled(folder, "cli", known)
    one = replace(known, outputs=("features",))
    with tool.load(engine, DEVICE, one) as session:
        session.write({"image": images()})
        with pytest.raises(RunError, match=r"wrote outputs \[0, 1\], the case has 1"):
            session.execute()
    bad = replace(known, options={"out_specs": [OUT["features"], ["class", "float32", [-1, 5]]]})
    with tool.load(engine, DEVICE, bad) as session:
        session.write({"image": images()})
        with pytest.raises(RunError, match="the tool wrote"):
            session.execute()
    eight = replace(known, batch=8)
    with tool.load(engine, DEVICE, eight) as session:
        session.write({"image": images(8)})
        with pytest.raises(DeviceError, match="tensorsize: 3072 filesize: 6144 not match"):
            session.execute()
    sdk._ledger.unlink()


@TOOLS
def test_inputs_that_are_not_the_engines_are_refused(sdk, folder, tool):
    known = told()
    _, engine = compiled(folder, "cli", known)
    with tool.load(engine, DEVICE, known) as session:
        with pytest.raises(RunError, match="nothing was written"):
            session.execute()
        for bad in ({"picture": images()}, {"image": images().astype("f8")}, {"image": images(3)}, {}):
            with pytest.raises(RunError, match="the engine takes"):
                session.write(bad)


@TOOLS
def test_without_the_tool_the_error_says_where_it_is(monkeypatch, tmp_path, tool):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(DeviceError, match="PATH") as caught, tool.load(tmp_path / "e.om", DEVICE, told()):
        pass

    assert "github.com/Ascend/tools" in caught.value.hint


def test_without_shapes_a_tool_cannot_be_used(sdk, folder):
    _, engine = compiled(folder, "cli", told())

    with pytest.raises(RunError, match="does not report the shapes"), msame.load(engine, DEVICE, spec()):
        pass


def test_the_files_of_a_session_are_gone_after_it(sdk, folder, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    known = told()
    _, engine = compiled(folder, "cli", known)
    before = set(tmp_path.iterdir())
    with msame.load(engine, DEVICE, known) as session:
        session.write({"image": images()})
        session.execute()
        assert set(tmp_path.iterdir()) > before

    assert set(tmp_path.iterdir()) <= before | {sdk._ledger}


def test_windows_are_laid_end_to_end():
    windows = _command_line._windows([1.0, 2.0, 3.0, 4.0, 5.0], 2, end=100.0)

    assert [(w.start, w.stop, w.executes) for w in windows] == [(85.0, 88.0, 2), (88.0, 95.0, 2), (95.0, 100.0, 1)]
    assert np.isclose(sum(w.stop - w.start for w in windows), 15.0)


@pytest.mark.parametrize(("tool", "name"), [(ais_bench, "outputs/model_{}.npy"), (msame, "2026/model_output_{}.bin")])
def test_the_tenth_output_does_not_come_before_the_second(tmp_path, tool, name):
    tensors = tuple(TensorSpec(f"out{number}", "float32", (1,)) for number in range(12))
    for number in range(12):
        path = tmp_path / name.format(number)
        path.parent.mkdir(exist_ok=True)
        value = np.array([number], np.float32)
        np.save(path, value) if path.suffix == ".npy" else path.write_bytes(value.tobytes())

    found = tool.outputs(tmp_path, tensors)

    assert {key: value.item() for key, value in found.items()} == {f"out{number}": number for number in range(12)}
