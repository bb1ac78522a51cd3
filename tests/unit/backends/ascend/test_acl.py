"""The Ascend backend on the simulated CANN: what comes out, what is refused, and in which words."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from ascend_tiny import DEVICE, NORMALIZE, apart, compiled, expected, images, network, outputs_of, pixels, spec

from harness.backends.ascend import acl
from harness.backends.base import Device, TensorSpec
from harness.errors import DeviceError, RunError

TWO = (TensorSpec("image", "float32", (-1, 3, 8, 8)), TensorSpec("more", "float32", (-1, 2)))


# --- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", [{}, {"python_api": "old"}, {"python_api": "new"}, {"run_mode": 0}], ids=str)
@pytest.mark.parametrize(
    "more", [{}, {"tiers": (1, 4, 8)}, {"tiers": (4,)}, {"normalize": NORMALIZE}], ids=lambda m: str(*m)
)
def test_outputs_are_those_of_the_network_in_half_precision(sdk, folder, more, switches):
    case = spec(**more)
    onnx, engine = compiled(folder, "-".join(["numbers", *map(str, more), *map(str, more.get("tiers", ()))]), case)
    tensors = pixels() if case.normalize else images()
    sdk.switch(slow=0.001, **switches)

    outputs = outputs_of(engine, case, tensors)

    wanted = expected(onnx, tensors)
    assert apart(outputs, wanted) < 0.002
    assert apart(outputs, wanted) > 0, "half precision is not single precision"
    assert {name: value.dtype.name for name, value in outputs.items()} == {"features": "float32", "class": "float32"}


def test_the_smallest_and_the_largest_batch_of_one_engine(sdk, folder):
    for batch in (1, 4, 8):
        case = spec(batch, tiers=(1, 4, 8))
        onnx, engine = compiled(folder, "batches", case)

        outputs = outputs_of(engine, case, images(batch))

        assert outputs["class"].shape == (batch, 4)
        assert apart(outputs, expected(onnx, images(batch))) < 0.002


def test_outputs_have_their_onnx_names_whatever_order_they_were_compiled_in(sdk, folder):
    for names in (("features", "class"), ("class", "features"), ("class",)):
        case = spec(outputs=names)
        onnx, engine = compiled(folder, "order-" + "-".join(names), case)
        wanted = expected(onnx, images())

        with acl.load(engine, DEVICE, case) as session:
            assert tuple(output.name for output in session.outputs) == names
            session.write({"image": images()})
            session.execute()
            outputs = session.read()

        assert list(outputs) == list(names)
        assert apart(outputs, {name: wanted[name] for name in names}) < 0.002


def test_an_engine_of_another_output_order_is_understood_by_its_names(sdk, folder):
    _, engine = compiled(folder, "order-class-features", spec(outputs=("class", "features")))
    onnx = folder / "tiny.onnx"

    outputs = outputs_of(engine, spec(outputs=("features", "class")), images())

    assert apart(outputs, expected(onnx, images())) < 0.002


@pytest.mark.parametrize(
    ("reported", "names"),
    [
        (("Concat_205:0:output2", "Softmax_206:0:output1", "Concat_155:0:output0"), ("output2", "output1", "output0")),
        (("output0", "output1", "output2"), ("output0", "output1", "output2")),
        (
            ("output_0_Concat_205_0", "output_1_Softmax_206_0", "output_2_Concat_155_0"),
            ("output2", "output1", "output0"),
        ),
        (("a", "Softmax_206:0", "Concat_155:0:output0"), ("output2", "output1", "output0")),  # what is left
        (("Concat_155:0", "Softmax_206:0", "Concat_205:0"), ("output0", "output1", "output2")),
    ],
)
def test_runtime_names_of_every_release_are_understood(reported, names):
    case = spec(outputs=("features", "class"))
    case = replace(
        case, outputs=("output2", "output1", "output0"),
        options={"out_nodes": ["Concat_205:0", "Softmax_206:0", "Concat_155:0"]},
    )  # fmt: skip
    found = [TensorSpec(name, "float32", (1, 2)) for name in reported]

    assert tuple(output.name for output in acl._ordered(found, case)) == names


SHAPES = {"output2": [-1, 9, 10], "output1": [-1, 9, 2], "output0": [-1, 9, 4]}


@pytest.mark.parametrize("specs", [True, False])
def test_foreign_names_are_understood_by_shapes_or_else_by_the_order(specs):
    rows = [[name, "float32", shape] for name, shape in SHAPES.items()]
    case = replace(spec(), outputs=tuple(SHAPES), options={"out_specs": rows} if specs else {})
    found = [TensorSpec(f"trans_{i}:0", "float32", (4, *shape[1:])) for i, shape in enumerate(SHAPES.values())]

    assert [output.name for output in acl._ordered(found, case)] == list(SHAPES)
    if specs:
        assert [output.name for output in acl._ordered(found[::-1], case)] == list(SHAPES)[::-1]


def test_two_outputs_of_one_shape_under_foreign_names_do_not_change_places_in_silence():
    rows = [["first", "float32", [-1, 5]], ["second", "float32", [-1, 5]]]
    case = replace(spec(), outputs=("first", "second"), options={"out_specs": rows})
    found = [TensorSpec(f"trans_{i}:0", "float32", (4, 5)) for i in range(2)]

    with pytest.raises(RunError, match=r"say nothing, and two have the same shape.*\['first', 'second'\]"):
        acl._ordered(found, case)
    one = [TensorSpec("Gemm_7:0:second", "float32", (4, 5)), found[1]]
    assert [output.name for output in acl._ordered(one, case)] == ["second", "first"]


def test_a_foreign_name_of_a_foreign_shape_is_refused():
    rows = [["first", "float32", [-1, 5]], ["second", "float32", [-1, 6]]]
    case = replace(spec(), outputs=("first", "second"), options={"out_specs": rows})

    with pytest.raises(RunError, match="fit none"):
        acl._ordered([TensorSpec(f"trans_{n}:0", "float32", (4, n)) for n in (6, 7)], case)


@pytest.mark.parametrize("style", ["node", "foreign"])
@pytest.mark.parametrize("outputs", [("features", "class"), ("class", "features")])
def test_outputs_are_found_whatever_the_compiler_calls_them(sdk, tmp_path, style, outputs):
    specs = {"features": ["features", "float32", [-1, 4, 8, 8]], "class": ["class", "float32", [-1, 4]]}
    case = spec(outputs=outputs, options={"out_specs": [specs[name] for name in outputs]})
    onnx = network(tmp_path / "tiny.onnx")
    sdk.switch(slow=0.001, out_names=style)
    acl.build(onnx, tmp_path / "e.om", case)

    assert apart(outputs_of(tmp_path / "e.om", case, images()), expected(onnx, images())) < 0.002


def test_a_tensor_whose_name_has_colons_is_understood():
    case = replace(spec(), outputs=("a:0", "b:0"), options={})
    found = [TensorSpec(name, "float32", (1,)) for name in ("Add_1:0:b:0", "b:0:a:0")]

    assert [output.name for output in acl._ordered(found, case)] == ["b:0", "a:0"]


def test_names_that_contradict_the_case_are_refused():
    case = spec()
    found = [TensorSpec(name, "float32", (1, 2)) for name in ("Flatten_3:0:class", "Flatten_3:0:class")]

    with pytest.raises(RunError, match="the engine's outputs are"):
        acl._ordered(found, case)


def test_what_was_read_stays_as_it_was_when_the_session_goes_on(sdk, folder):
    _, engine = compiled(folder, "fresh", spec())
    with acl.load(engine, DEVICE, spec()) as session:
        session.write({"image": images(seed=1)})
        session.execute()
        first = session.read()
        kept = first["class"].copy()
        session.write({"image": images(seed=2)})
        session.execute()
        second = session.read()

    assert (first["class"] == kept).all()
    assert not (second["class"] == kept).all()
    assert first["class"].flags.writeable


def test_every_step_of_a_session_may_come_from_another_thread(sdk, folder):
    onnx, engine = compiled(folder, "thread", spec())
    got = {}
    with acl.load(engine, DEVICE, spec()) as session:
        steps = (
            lambda: session.write({"image": images()}),
            lambda: session.execute(3),
            lambda: got.update(session.read()),
        )
        for step in steps:
            thread = threading.Thread(target=step)
            thread.start()
            thread.join()

    assert apart(got, expected(onnx, images())) < 0.002


def test_two_engines_on_one_device_do_not_disturb_each_other(sdk, folder):
    onnx, engine = compiled(folder, "static", spec())
    with acl.load(engine, DEVICE, spec()) as one, acl.load(engine, DEVICE, spec()) as other:
        one.write({"image": images(seed=1)})
        other.write({"image": images(seed=2)})
        one.execute()
        other.execute()
        first, second = one.read(), other.read()

    assert apart(first, expected(onnx, images(seed=1))) < 0.002
    assert apart(second, expected(onnx, images(seed=2))) < 0.002


def test_an_execute_has_ended_when_it_returns(sdk, folder):
    """Else only the queueing is timed, and reading, which waits too, gives the right outputs."""
    _, engine = compiled(folder, "static", spec())

    with acl.load(engine, DEVICE, spec()) as session:
        session.write({"image": images()})
        for times in (1, acl.IN_FLIGHT, acl.IN_FLIGHT + 3):
            session.execute(times)
            assert [stream.queue for stream in sdk.chip.state.streams.values() if stream.queue] == [], times


def test_an_engine_runs_on_the_device_that_it_was_loaded_for(sdk, folder):
    _, engine = compiled(folder, "static", spec())
    sdk.switch(devices=2)
    acl.initialized().do("acl.rt.set_device", 0)  # as a session of another device in this process has it

    with acl.load(engine, Device(1, "310P3"), spec()):
        (model,) = sdk.chip.state.models.values()
        assert sdk.chip.device_of(model.context) == 1

    acl.initialized().do("acl.rt.reset_device", 0)


@pytest.mark.parametrize("times", [1, 2, 255, 256, 257, 600])
def test_as_many_executes_are_made_as_were_asked_for(sdk, folder, times):
    _, engine = compiled(folder, "static", spec())
    before = sdk.calls.counts["acl.mdl.execute_async"]

    outputs_of(engine, spec(), images(), times)

    assert sdk.calls.counts["acl.mdl.execute_async"] - before == times
    assert sdk.calls.counts["acl.rt.synchronize_stream"] == -(-times // acl.IN_FLIGHT), "no more waits than needed"


def test_a_stream_that_is_full_is_waited_for(sdk, folder):
    onnx, engine = compiled(folder, "static", spec())
    sdk.switch(slow=0.001, fail=[["acl.mdl.execute_async", 3, 507002], ["acl.mdl.execute_async", 5, 507002]])

    outputs = outputs_of(engine, spec(), images(), times=6)

    assert sdk.calls.counts["acl.mdl.execute_async"] == 8
    assert sdk.calls.counts["acl.rt.synchronize_stream"] == 3
    assert apart(outputs, expected(onnx, images())) < 0.002


# --- defects of a chip reach the outputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("defect", [{"drop_rows": True}, {"nan": True}, {"swap_outputs": True}], ids=str)
def test_a_defect_of_the_chip_shows_in_the_outputs(sdk, folder, defect):
    onnx, engine = compiled(folder, "static", spec())
    sdk.switch(slow=0.001, **defect)

    outputs = outputs_of(engine, spec(), images())

    assert apart(outputs, expected(onnx, images())) > 0.1


@pytest.mark.parametrize("defect", [{"wrong_mean": 10}, {"swap_channels": True}, {"stale_engine": True}], ids=str)
def test_a_defect_of_the_compiler_shows_in_the_outputs(sdk, folder, tmp_path, defect):
    case = spec(normalize=NORMALIZE)
    onnx = network(tmp_path / "tiny.onnx")
    sdk.switch(slow=0.001, **defect)
    acl.build(onnx, tmp_path / "defect.om", case)

    outputs = outputs_of(tmp_path / "defect.om", case, pixels())

    assert apart(outputs, expected(onnx, pixels())) > 0.05


# --- refusals ------------------------------------------------------------------------------------------------------


def test_inputs_that_are_not_the_engines_are_refused_before_they_reach_the_device(sdk, folder):
    _, engine = compiled(folder, "static", spec())
    good = images()
    with acl.load(engine, DEVICE, spec()) as session:
        copies = sdk.calls.counts["acl.rt.memcpy"]
        for bad, words in (
            ({"picture": good}, "picture"),
            ({}, "image"),
            ({"image": good.astype(np.float64)}, "float64"),
            ({"image": good[:3]}, r"\[3, 3, 8, 8\]"),
            ({"image": good.transpose(0, 2, 3, 1)}, r"\[4, 8, 8, 3\]"),
        ):
            with pytest.raises(RunError, match=words):
                session.write(bad)

        assert sdk.calls.counts["acl.rt.memcpy"] == copies


def test_a_view_that_is_not_contiguous_is_fed_as_it_reads(sdk, folder):
    onnx, engine = compiled(folder, "static", spec())
    for api in ("old", "new"):
        sdk.switch(slow=0.001, python_api=api)
        view = np.ascontiguousarray(images().transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

        assert apart(outputs_of(engine, spec(), view), expected(onnx, images())) < 0.002


def test_a_session_refuses_steps_in_the_wrong_order(sdk, folder):
    _, engine = compiled(folder, "static", spec())
    with acl.load(engine, DEVICE, spec()) as session:
        with pytest.raises(RunError, match="nothing was written"):
            session.execute()
        session.write({"image": images()})
        with pytest.raises(RunError, match="nothing was executed"):
            session.read()
        session.execute()
        session.write({"image": images(seed=2)})
        with pytest.raises(RunError, match="nothing was executed"):
            session.read()


def test_an_execute_that_failed_leaves_no_old_outputs_to_read(sdk, folder):
    onnx, engine = compiled(folder, "static", spec())
    with acl.load(engine, DEVICE, spec()) as session:
        session.write({"image": images()})
        session.execute()
        count = sdk.calls.counts["acl.mdl.execute_async"]
        sdk.switch(slow=0.001, fail=[["acl.mdl.execute_async", count + 2, 507011]])
        with pytest.raises(DeviceError, match="507011 RT_MODEL_EXECUTE"):
            session.execute(3)
        with pytest.raises(RunError, match="nothing was executed"):
            session.read()
        session.write({"image": images()})
        session.execute()

        assert apart(session.read(), expected(onnx, images())) < 0.002


def told(inputs=None, **more):
    return spec(**more) if inputs is None else replace(spec(**more), inputs=inputs)


@pytest.mark.parametrize(
    ("built", "asked", "words"),
    [
        ({}, {"batch": 8}, r"takes image float32\[4, 3, 8, 8\], the case feeds image float32\[8, 3, 8, 8\]"),
        ({"normalize": NORMALIZE}, {}, r"takes image uint8\[4, 8, 8, 3\]"),
        ({}, {"normalize": NORMALIZE}, r"the case feeds image uint8\[4, 8, 8, 3\]"),
        ({}, {"inputs": TWO}, r"takes \['image'\], the case feeds \['image', 'more'\]"),
        ({"outputs": ("class",)}, {}, "has 1 outputs, the case names 2"),
        ({"tiers": (1, 4)}, {"batch": 2}, r"batch sizes \[1, 4\], the case needs 2"),
    ],
)
def test_an_engine_of_another_case_is_refused_when_it_is_loaded(sdk, folder, built, asked, words):
    _, engine = compiled(folder, "another" + "-".join(f"{k}" for k in built), spec(**built))

    with pytest.raises(RunError, match=words) as caught, acl.load(engine, DEVICE, told(**asked)):
        pass

    assert "build it again" in caught.value.hint


def test_a_damaged_or_foreign_engine_is_a_typed_error(sdk, folder, tmp_path):
    _, engine = compiled(folder, "static", spec())
    whole = engine.read_bytes()
    for name, data in (("empty", b""), ("garbage", b"\x00" * 4096), ("cut", whole[:-100]), ("bit", whole[:-1] + b"?")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DeviceError, match=r"acl.mdl.load_from_file failed: 545001") as caught:
            outputs_of(tmp_path / name, spec(), images())
        assert "build it again" in caught.value.hint
    with pytest.raises(DeviceError, match=r"acl.mdl.load_from_file failed: 145002"):
        outputs_of(tmp_path / "nowhere", spec(), images())


def test_an_engine_for_another_chip_is_a_typed_error(sdk, folder, tmp_path):
    onnx = network(tmp_path / "tiny.onnx")
    acl.build(onnx, tmp_path / "e.om", spec(target="Ascend310"))

    with pytest.raises(DeviceError, match=r"507008 RT_SOC_VERSION.*model socVersion=Ascend310\n") as caught:
        outputs_of(tmp_path / "e.om", spec(), images())

    assert "npu-smi info" in caught.value.hint


def test_too_little_device_memory_is_a_typed_error(sdk, folder):
    _, engine = compiled(folder, "static", spec())
    sdk.switch(memory_mb=0)

    with pytest.raises(DeviceError, match=r"acl.mdl.load_from_file failed: 245000 .*0 free") as caught:
        outputs_of(engine, spec(), images())

    assert "smaller batch" in caught.value.hint


def test_a_device_that_is_not_there_is_a_typed_error_and_is_not_reset(sdk, folder):
    _, engine = compiled(folder, "static", spec())

    absent = acl.load(engine, Device(7, "310P3"), spec())
    with pytest.raises(DeviceError, match=r"acl.rt.set_device failed: 107001") as caught, absent:
        pass

    assert "driver" in caught.value.hint
    assert sdk.calls.counts["acl.rt.reset_device"] == 0


# --- giving back ---------------------------------------------------------------------------------------------------


def test_leaving_while_executes_are_under_way_waits_for_them(sdk, folder):
    _, engine = compiled(folder, "static", spec())
    sdk.switch(slow=0.001, fail=[["acl.mdl.execute_async", 5, 507015]])

    with pytest.raises(DeviceError, match="507015"):
        outputs_of(engine, spec(), images(), times=20)

    assert sdk.chip.state.violations == [], "nothing that the device still used was freed"


# --- an engine's own description -----------------------------------------------------------------------------------


class Described:
    """A vendor that describes tensors as given: dims, dtype code, name."""

    def __init__(self, dims, code=0, name="Flatten_3:0:class"):
        self.answers = {"dims": {"dims": dims}, "type": code, "index": name}

    def do(self, call, *arguments):
        return self.answers[call.split("_")[-1]]

    code = ask = do


def test_an_input_whose_long_name_was_replaced_is_known_by_its_place():
    found = acl._input(Described([4, 3, 8, 8]), 1, 0, "acl_modelId_1_input_0_17", spec())

    assert found == TensorSpec("image", "float32", (4, 3, 8, 8))


def test_an_input_too_many_is_refused():
    with pytest.raises(RunError, match=r"has an input more float32\[4, 3, 8, 8\] that the case does not feed"):
        acl._input(Described([4, 3, 8, 8]), 1, 1, "more", spec())


def test_a_type_that_numpy_lacks_is_refused():
    with pytest.raises(RunError, match="data type 27") as caught:
        acl._output(Described([4, 4], code=27), 1, 0, None)

    assert "--output_type" in caught.value.hint
