"""The simulated CANN refuses what the real one would refuse, or would not survive: the vendor's code, a ledger line.

Without this, a clean run on it would say nothing.
"""

from __future__ import annotations

import gc

import numpy as np
import pytest
from ascend_tiny import NORMALIZE, begin_anew, cann, compiled, images, pixels, spec

H2D, D2H = 1, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        import acl

        sdk.acl = acl
        sdk.state = acl.chip.state
        begin_anew(acl.chip)
        sdk.switch(slow=0.01)
        yield sdk
        begin_anew(acl.chip)


class Held:
    """A model ready to run, made by the bare calls."""

    def __init__(self, acl, engine):
        self.acl = acl
        assert acl.init() == 0
        assert acl.rt.set_device(0) == 0
        self.context, _ = acl.rt.create_context(0)
        self.stream, _ = acl.rt.create_stream()
        self.model, code = acl.mdl.load_from_file(str(engine))
        assert code == 0
        self.desc = acl.mdl.create_desc()
        assert acl.mdl.get_desc(self.desc, self.model) == 0
        self.inputs, self.fed = self.dataset("input")
        self.outputs, self.made = self.dataset("output")

    def dataset(self, side):
        acl, rows = self.acl, []
        dataset = acl.mdl.create_dataset()
        for index in range(getattr(acl.mdl, f"get_num_{side}s")(self.desc)):
            size = getattr(acl.mdl, f"get_{side}_size_by_index")(self.desc, index)
            memory, _ = acl.rt.malloc(size, 0)
            buffer = acl.create_data_buffer(memory, size)
            acl.mdl.add_dataset_buffer(dataset, buffer)
            rows.append((memory, size, buffer))
        return dataset, rows

    def write(self, array=None):
        data = (images() if array is None else array).tobytes()
        memory, size, _ = self.fed[0]
        return self.acl.rt.memcpy(memory, size, self.acl.util.bytes_to_ptr(data), len(data), H2D)

    def submit(self):
        return self.acl.mdl.execute_async(self.model, self.inputs, self.outputs, self.stream)

    def read(self, index=0):
        memory, size, _ = self.made[index]
        host, _ = self.acl.rt.malloc_host(size)
        self.acl.rt.memcpy(host, size, memory, size, D2H)
        data = self.acl.util.ptr_to_bytes(host, size)
        self.acl.rt.free_host(host)
        return np.frombuffer(data, np.float32)

    def close(self):
        acl = self.acl
        for dataset, rows in ((self.inputs, self.fed), (self.outputs, self.made)):
            for memory, _, buffer in rows:
                acl.destroy_data_buffer(buffer)
                acl.rt.free(memory)
            acl.mdl.destroy_dataset(dataset)
        acl.mdl.destroy_desc(self.desc)
        acl.mdl.unload(self.model)
        acl.rt.destroy_stream(self.stream)
        acl.rt.destroy_context(self.context)
        acl.rt.reset_device(0)


@pytest.fixture
def held(sdk, folder):
    _, engine = compiled(folder, "static.om", spec())
    return Held(sdk.acl, engine)


def test_the_right_way_leaves_the_ledger_empty(sdk, held):
    assert held.write() == 0
    assert held.submit() == 0
    assert sdk.acl.rt.synchronize_stream(held.stream) == 0
    first = held.read()
    held.close()

    assert np.isfinite(first).all()
    assert sdk.acl.finalize() == 0
    assert sdk.wrongs() == []
    assert sdk.state.handles() == {}


# each row: what the caller does wrong, and the code that he gets (None: only the ledger tells, as on a real chip)
WRONG = {
    "init twice": (lambda h: h.acl.init(), 100002),
    "memory freed twice": (lambda h: (h.acl.rt.free(h.fed[0][0]), h.acl.rt.free(h.fed[0][0]))[1], 107000),
    "memory freed that was never given": (lambda h: h.acl.rt.free(0x1234), 107000),
    "host memory freed as device memory": (lambda h: h.acl.rt.free(h.acl.rt.malloc_host(64)[0]), 107000),
    "device memory freed as host memory": (lambda h: h.acl.rt.free_host(h.fed[0][0]), 107000),
    "a stream destroyed twice": (
        lambda h: (h.acl.rt.destroy_stream(h.stream), h.acl.rt.destroy_stream(h.stream))[1], 107003),
    "a model unloaded twice": (lambda h: (h.acl.mdl.unload(h.model), h.acl.mdl.unload(h.model))[1], 145003),
    "a description destroyed twice": (
        lambda h: (h.acl.mdl.destroy_desc(h.desc), h.acl.mdl.destroy_desc(h.desc))[1], 100000),
    "a data set destroyed twice": (
        lambda h: (h.acl.mdl.destroy_dataset(h.inputs), h.acl.mdl.destroy_dataset(h.inputs))[1], 100000),
    "a buffer destroyed twice": (
        lambda h: (h.acl.destroy_data_buffer(h.fed[0][2]), h.acl.destroy_data_buffer(h.fed[0][2]))[1], 100000),
    "a device reset twice": (lambda h: (h.acl.rt.reset_device(0), h.acl.rt.reset_device(0))[1], 507007),
    "arguments exchanged in get_desc": (lambda h: h.acl.mdl.get_desc(h.model, h.desc), 100000),
    "data sets exchanged in execute": (lambda h: h.acl.mdl.execute(h.model, h.outputs, h.inputs), 145000),
    "a model taken for a data set": (lambda h: h.acl.mdl.execute(h.model, h.model, h.outputs), 100000),
    "size and policy exchanged": (lambda h: h.acl.rt.malloc(0, 4096)[1], 107000),
    "a size that is a float": (lambda h: h.acl.rt.malloc(64.0, 0)[1], 100000),
    "no memory asked for": (lambda h: h.acl.rt.malloc(0, 0)[1], 107000),
    "a path that is bytes": (lambda h: h.acl.mdl.load_from_file(b"x.om")[1], 100000),
    "a copy larger than its target": (
        lambda h: h.acl.rt.memcpy(h.fed[0][0], 16, h.acl.rt.malloc_host(64)[0], 64, H2D), 107000),
    "a target said larger than it is": (
        lambda h: h.acl.rt.memcpy(h.fed[0][0], h.fed[0][1] + 1, h.acl.rt.malloc_host(64)[0], 64, H2D), 107000),
    "a copy larger than its source": (
        lambda h: h.acl.rt.memcpy(h.fed[0][0], h.fed[0][1], h.acl.rt.malloc_host(64)[0], 65, H2D), 107000),
    "a copy of the wrong kind": (
        lambda h: h.acl.rt.memcpy(h.fed[0][0], h.fed[0][1], h.acl.rt.malloc_host(64)[0], 64, D2H), 107000),
    "a copy from nowhere": (lambda h: h.acl.rt.memcpy(h.fed[0][0], h.fed[0][1], 0x99, 64, H2D), 107000),
    "a stream destroyed while it works": (
        lambda h: (h.write(), h.submit(), h.acl.rt.destroy_stream(h.stream))[2], 107003),
    "memory freed while it is used": (lambda h: (h.write(), h.submit(), h.acl.rt.free(h.fed[0][0]))[2], 107000),
    "inputs written while they are used": (lambda h: (h.write(), h.submit(), h.write())[2], 107000),
    "a model unloaded while it runs": (lambda h: (h.write(), h.submit(), h.acl.mdl.unload(h.model))[2], 145003),
    "one model on two streams": (
        lambda h: (h.write(), h.submit(), h.acl.mdl.execute_async(
            h.model, h.inputs, h.outputs, h.acl.rt.create_stream()[0]))[2], 145003),
    "an execute with a buffer missing": (
        lambda h: h.acl.mdl.execute(h.model, h.acl.mdl.create_dataset(), h.outputs), 145000),
    "an execute on memory given back": (
        lambda h: (h.acl.rt.free(h.fed[0][0]), h.acl.mdl.execute(h.model, h.inputs, h.outputs))[1], 145000),
    "an execute with a destroyed buffer": (
        lambda h: (h.acl.destroy_data_buffer(h.fed[0][2]), h.acl.mdl.execute(h.model, h.inputs, h.outputs))[1], 100000),
    "an execute in another context": (
        lambda h: (h.acl.rt.create_context(0), h.acl.mdl.execute(h.model, h.inputs, h.outputs))[1], 107002),
    "an execute without a context": (
        lambda h: (h.acl.rt.destroy_context(h.context), h.acl.mdl.execute(h.model, h.inputs, h.outputs))[1], 107002),
    "a stream of another context": (
        lambda h: (h.acl.rt.create_context(0), h.acl.rt.synchronize_stream(h.stream))[1], 107003),
    "a batch set on a static model": (
        lambda h: h.acl.mdl.set_dynamic_batch_size(h.model, h.inputs, 0, 4), 100019),
    "a context of a device that was not set": (lambda h: h.acl.rt.create_context(1)[1], 107001),
    "finalize twice": (lambda h: (h.close(), h.acl.finalize(), h.acl.finalize())[2], 100037),
    "finalize before all is given back": (lambda h: h.acl.finalize(), 148051),
    "an execute that reads nothing written": (lambda h: h.submit(), None),
    "outputs read before they were waited for": (lambda h: (h.write(), h.submit(), h.read())[0], None),
    "outputs read that nothing wrote": (lambda h: (h.read(), 0)[1], None),
}  # fmt: skip


@pytest.mark.parametrize("deed", WRONG)
def test_a_broken_rule_gets_its_code_and_a_line_in_the_ledger(sdk, held, deed):
    do, code = WRONG[deed]

    answer = do(held)

    assert answer == (code or 0)
    assert sdk.wrongs(), "the ledger says nothing"
    if code not in (None, 148051):
        assert sdk.acl.get_recent_err_msg()
        assert sdk.acl.get_recent_err_msg() is None, "reading the message clears it"


def test_what_is_read_too_early_is_garbage(sdk, held):
    held.write()
    held.submit()

    early = held.read()

    sdk.acl.rt.synchronize_stream(held.stream)
    assert not np.allclose(early, held.read())


def test_a_pointer_outlives_its_bytes_no_longer_than_they_live(sdk, held):
    memory, size, _ = held.fed[0]
    kept = images().tobytes()
    gone = sdk.acl.util.bytes_to_ptr(images(seed=2).tobytes())
    gc.collect()

    assert sdk.acl.rt.memcpy(memory, size, gone, size, H2D) == 107000
    assert sdk.acl.rt.memcpy(memory, size, sdk.acl.util.bytes_to_ptr(kept), size, H2D) == 0


def test_a_device_address_is_no_address_of_the_process(sdk, held):
    assert sdk.acl.util.ptr_to_bytes(held.fed[0][0], 64) is None
    assert "SIGSEGV" in sdk.wrongs()[0]


def test_an_array_that_is_not_contiguous_warns_and_is_noted(sdk, held):
    with pytest.warns(UserWarning, match="discontiguous"):
        sdk.acl.util.numpy_to_ptr(images().transpose(0, 2, 3, 1))

    assert sdk.wrongs()


def test_calls_before_init_are_refused(sdk):
    assert sdk.acl.rt.set_device(0) == 100001
    assert sdk.acl.rt.get_device_count() == (0, 100001)
    assert sdk.acl.create_data_buffer(1, 1) == 0


def test_each_kind_of_leak_is_told_when_the_device_is_reset(sdk, held):
    sdk.acl.rt.reset_device(0)

    told = " ".join(sdk.wrongs())
    for kind in ("context", "stream", "model", "device memory"):
        assert kind in told


def test_a_batch_that_was_not_compiled_is_refused(sdk, folder):
    _, engine = compiled(folder, "tiers.om", spec(tiers=(1, 4, 8)))
    held = Held(sdk.acl, engine)

    assert sdk.acl.mdl.get_dynamic_batch(held.desc) == ({"batchCount": 3, "batch": [1, 4, 8]}, 0)
    assert sdk.acl.mdl.set_dynamic_batch_size(held.model, held.inputs, 1, 2) == 145013
    assert sdk.acl.mdl.set_dynamic_batch_size(held.model, held.inputs, 0, 4) == 145000
    assert sdk.acl.mdl.set_dynamic_batch_size(held.model, held.inputs, 1, 4) == 0
    assert sdk.acl.mdl.get_input_dims(held.desc, 0)[0]["dims"] == [-1, 3, 8, 8]
    assert sdk.acl.mdl.get_output_dims(held.desc, 0)[0]["dims"] == [8, 4, 8, 8]
    assert sdk.acl.mdl.get_cur_output_dims(held.desc, 0)[0]["dims"] == [4, 4, 8, 8]


def test_the_largest_batch_runs_when_none_was_set(sdk, folder):
    _, engine = compiled(folder, "tiers.om", spec(tiers=(1, 4, 8)))
    held = Held(sdk.acl, engine)
    held.write(images(8))

    assert sdk.acl.mdl.execute(held.model, held.inputs, held.outputs) == 0
    assert np.isfinite(held.read()).all()
    assert sdk.wrongs() == []


def test_an_engine_that_normalises_takes_bytes(sdk, folder):
    _, engine = compiled(folder, "aipp.om", spec(normalize=NORMALIZE))
    held = Held(sdk.acl, engine)

    assert sdk.acl.mdl.get_input_dims(held.desc, 0)[0]["dims"] == [4, 8, 8, 3]
    assert sdk.acl.mdl.get_input_data_type(held.desc, 0) == 4
    assert held.fed[0][1] == pixels().nbytes


def test_executes_wait_for_one_another_on_the_devices_own_clock(sdk, held):
    import simulate

    clock = sdk.state.clocks[0]
    sdk.switch(slow=1000)
    held.write()
    held.submit()
    first = clock.free_at
    for _ in range(9):
        held.submit()

    assert clock.free_at - first == pytest.approx(9 * simulate.latency_seconds(4))
    assert simulate.latency_seconds(8) > simulate.latency_seconds(4)


# --- BatchMultiClassNMS --------------------------------------------------------------------------------------------


def slow_nms(boxes, scores, threshold, overlap, most_of_a_class, most):
    """The operator as its documentation says it, one box at a time."""
    kept = []
    for label in range(scores.shape[1]):
        order = sorted(
            (i for i in range(len(boxes)) if scores[i, label] > threshold), key=lambda i: (-float(scores[i, label]), i)
        )
        alive = []
        for i in order:
            if len(alive) == most_of_a_class:
                break
            if all(iou(boxes[i], boxes[j]) <= overlap for j in alive):
                alive.append(i)
        kept += [(float(scores[i, label]), label, i) for i in alive]
    return sorted(kept, key=lambda item: -item[0])[:most]


def iou(a, b):
    a, b = [float(v) for v in a], [float(v) for v in b]
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def candidates(seed, count=60, classes=5):
    random = np.random.RandomState(seed)
    corner = random.uniform(0, 600, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(20, 300, (count, 2))], 1).astype(np.float16)
    return boxes, random.uniform(0, 1, (count, classes)).astype(np.float16) ** 2


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("most_of_a_class", "most"), [(100, 100), (3, 100), (100, 7), (1, 2)])
def test_the_operator_for_nms_equals_its_definition(sdk, seed, most_of_a_class, most):
    import simulated_cann

    boxes, scores = candidates(seed)
    wanted = slow_nms(boxes, scores, 0.05, 0.6, most_of_a_class, most)

    out, best, labels, count = simulated_cann.multi_class_nms(
        boxes[None, :, None], scores[None], np.float32(0.05), np.float32(0.6), most_of_a_class, most
    )

    assert count[0] == len(wanted)
    assert out.shape == (1, most, 4)
    assert {array.dtype.name for array in (out, best, labels)} == {"float16"}
    assert best[0, : len(wanted)].astype(float).tolist() == [item[0] for item in wanted]
    ours = {(label, tuple(box)) for label, box in zip(labels[0].tolist(), out[0].tolist(), strict=True)}
    assert {(float(label), tuple(boxes[i].tolist())) for _, label, i in wanted} <= ours
    assert not out[0, len(wanted) :].any()
    assert not best[0, len(wanted) :].any()


def test_a_graph_with_the_operator_is_compiled_and_run(sdk, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    from harness.backends.ascend import acl
    from harness.backends.base import BuildSpec, Device, TensorSpec

    value = helper.make_tensor_value_info
    attributes = {"score_threshold": 0.05, "iou_threshold": 0.6, "max_size_per_class": 100, "max_total_size": 100}
    nodes = [
        helper.make_node("Slice", ["image", "zero", "four", "axis"], ["boxes"], name="Slice_0"),
        helper.make_node("Slice", ["image", "four", "nine", "axis"], ["scores"], name="Slice_1"),
        helper.make_node("Unsqueeze", ["boxes"], ["boxes4"], name="Unsqueeze_2", axes=[2]),
        helper.make_node("Cast", ["boxes4"], ["b16"], name="Cast_3", to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["scores"], ["s16"], name="Cast_4", to=TensorProto.FLOAT16),
        helper.make_node(
            "BatchMultiClassNMS", ["b16", "s16"], ["nb", "ns", "nc", "nn"], name="BatchMultiClassNMS_5", **attributes
        ),
        helper.make_node("Cast", ["nb"], ["dets"], name="Cast_6", to=TensorProto.FLOAT),
        helper.make_node("Cast", ["nc"], ["labels"], name="Cast_7", to=TensorProto.INT64),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [number])
        for name, number in (("zero", 0), ("four", 4), ("nine", 9), ("axis", 2))
    ]
    outputs = [value("dets", TensorProto.FLOAT, [1, 100, 4]), value("labels", TensorProto.INT64, [1, 100])]
    graph = helper.make_graph(nodes, "nms", [value("image", TensorProto.FLOAT, [1, 60, 9])], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 7
    onnx.save(model, str(tmp_path / "nms.onnx"))
    boxes, scores = candidates(0)
    image = np.concatenate([boxes, scores], 1).astype(np.float32)[None]
    known = BuildSpec(
        "fp16", 1, (TensorSpec("image", "float32", (-1, 60, 9)),), ("labels", "dets"), target="Ascend310P3",
        options={"out_nodes": ["Cast_7:0", "Cast_6:0"]},
    )  # fmt: skip

    acl.build(tmp_path / "nms.onnx", tmp_path / "nms.om", known)
    with acl.load(tmp_path / "nms.om", Device(0, "310P3"), known) as session:
        session.write({"image": image})
        session.execute()
        found = session.read()

    wanted = slow_nms(boxes, scores, np.float16(0.05), 0.6, 100, 100)
    assert found["labels"].dtype == np.int64
    assert found["labels"][0, : len(wanted)].tolist() == [label for _, label, _ in wanted]
    assert found["dets"][0, : len(wanted)].tolist() == [boxes[i].astype(float).tolist() for _, _, i in wanted]
    assert not found["dets"][0, len(wanted) :].any()
