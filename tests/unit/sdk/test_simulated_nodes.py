"""Networks made node by node in the simulated MagicMind, against PyTorch; boxes decoded behind the graph, against a
plain loop; calibration of several inputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from vendor_sweep import simulated

F = torch.nn.functional
T = torch.from_numpy


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with simulated(monkeypatch, tmp_path, "magicmind", ("magicmind",), "magicmind.python.runtime._base") as sdk:
        yield sdk


@pytest.fixture
def mm(sdk):
    import magicmind.python.runtime as mm

    return mm


def values(*shape, seed=0):
    return np.random.RandomState(seed).uniform(0.1, 1.0, shape).astype(np.float32)


def built(mm, network, *texts):
    config = mm.BuilderConfig()
    for text in texts:
        assert config.parse_from_string(text).ok()
    model = mm.Builder().build_model("made", network, config)
    assert model is not None
    return model


def run(mm, model, *arrays):
    context = model.create_i_engine().create_i_context()
    queue = mm.Device().create_queue()
    inputs, outputs = context.create_inputs(), []
    for held, array in zip(inputs, arrays, strict=True):
        assert held.from_numpy(array).ok()
    assert context.enqueue(inputs, outputs, queue).ok()
    assert queue.sync().ok()
    return [output.asnumpy() for output in outputs]


def const(mm, network, array):
    array = np.asarray(array)
    kind = mm.DataType.INT32 if array.dtype.kind == "i" else mm.DataType.FLOAT32
    return network.add_i_const_node(kind, mm.Dims(list(array.shape)), array).get_output(0)


def set_to(node, **settings):
    for name, value in settings.items():
        assert getattr(node, "set_" + name)(*(value if isinstance(value, tuple) else (value,))).ok()
    return node


KERNEL, BIAS = values(4, 3, 3, 3), values(4)
NODES = {
    # a filter is (out, height, width, in) and pictures have channels last, unless set_layout says otherwise
    "convolution": (
        lambda mm, net, x: set_to(
            net.add_i_conv_node(x, const(mm, net, KERNEL.transpose(0, 2, 3, 1)), const(mm, net, BIAS)),
            stride=(2, 2), pad=(1, 0, 2, 1), dilation=(1, 1), padding_mode=mm.IPaddingMode.EXPLICIT,
        ),
        (1, 8, 8, 3),
        lambda x: F.conv2d(
            F.pad(x.permute(0, 3, 1, 2), (2, 1, 1, 0)), T(KERNEL), T(BIAS), stride=2).permute(0, 2, 3, 1),
    ),
    "convolution, channels first": (
        lambda mm, net, x: set_to(
            net.add_i_conv_node(x, const(mm, net, KERNEL), None), layout=(mm.Layout.NCHW,) * 3,
            padding_mode=mm.IPaddingMode.SAME,
        ),
        (1, 3, 8, 8),
        lambda x: F.conv2d(x, T(KERNEL), padding=1),
    ),
    "largest of a window": (
        lambda mm, net, x: set_to(net.add_i_max_pool2d_node(x), kernel=(2, 2), stride=(2, 2)),
        (1, 8, 8, 3),
        lambda x: F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1),
    ),
    "relu": (lambda mm, net, x: net.add_i_activation_node(x, mm.IActivation.RELU), (2, 3), F.relu),
    "leaky relu": (
        lambda mm, net, x: set_to(net.add_i_leaky_relu_node(x), negative_slope=0.3), (2, 3),
        lambda x: F.leaky_relu(x, 0.3),
    ),
    "permute": (
        lambda mm, net, x: net.add_i_permute_node(x, const(mm, net, np.int32([0, 2, 3, 1]))), (2, 3, 4, 5),
        lambda x: x.permute(0, 2, 3, 1),
    ),
    "product": (
        lambda mm, net, x: net.add_i_elementwise_node(x, const(mm, net, values(3)), mm.IElementwise.MUL), (2, 3),
        lambda x: x * T(values(3)),
    ),
    "matrix product, transposed": (
        lambda mm, net, x: set_to(
            net.add_i_mat_mul_node(x, const(mm, net, values(5, 3)), const(mm, net, values(5))), trans_b=True), (2, 3),
        lambda x: x @ T(values(5, 3)).T + T(values(5)),
    ),
    "inner product": (
        lambda mm, net, x: set_to(
            net.add_i_inner_product_node(x, const(mm, net, values(6, 5)), const(mm, net, values(5))), axis=1),
        (2, 2, 3),
        lambda x: x.flatten(1) @ T(values(6, 5)) + T(values(5)),
    ),
    "mean": (
        lambda mm, net, x: net.add_i_reduce_node(x, const(mm, net, np.int32([2, 3])), mm.IReduce.MEAN, False),
        (2, 3, 4, 5),
        lambda x: x.mean((2, 3)),
    ),
    "sum, axis kept": (
        lambda mm, net, x: net.add_i_reduce_node(x, const(mm, net, np.int32([1])), mm.IReduce.ADD, True), (2, 3, 4),
        lambda x: x.sum(1, keepdim=True),
    ),
    "softmax": (
        lambda mm, net, x: net.add_i_softmax_node(x, const(mm, net, np.int32([1]))), (2, 3, 4),
        lambda x: x.softmax(1),
    ),
    "concatenation": (
        lambda mm, net, x: net.add_i_concat_node(const(mm, net, np.int32([1])), [x, x]), (2, 3),
        lambda x: torch.cat([x, x], 1),
    ),
    "pack": (
        lambda mm, net, x: net.add_i_pack_node(const(mm, net, np.int32([1])), [x, x]), (2, 3),
        lambda x: torch.stack([x, x], 1),
    ),
    "reshape": (
        lambda mm, net, x: net.add_i_reshape_node(x, const(mm, net, np.int32([2, -1]))), (2, 3, 4),
        lambda x: x.reshape(2, -1),
    ),
    "squeeze": (
        lambda mm, net, x: net.add_i_squeeze_node(x, const(mm, net, np.int32([1]))), (2, 1, 4), lambda x: x[:, 0]
    ),
    "unsqueeze": (
        lambda mm, net, x: net.add_i_unsqueeze_node(x, const(mm, net, np.int32([1]))), (2, 4), lambda x: x[:, None]
    ),
    "slice": (
        lambda mm, net, x: net.add_i_slice_node(
            x, const(mm, net, np.int32([1, 0])), const(mm, net, np.int32([2, -1])), const(mm, net, np.int32([1, 2]))),
        (2, 4, 5),
        lambda x: x[:, 1:3],
    ),
    "slice with steps": (
        lambda mm, net, x: net.add_i_strided_slice_node(
            x, *(const(mm, net, np.int32(each)) for each in ([0, 1], [2, 5], [1, 2]))), (2, 5),
        lambda x: x[:, 1:5:2],
    ),
    "gather": (
        lambda mm, net, x: net.add_i_gather_node(x, const(mm, net, np.int32([2, 0])), const(mm, net, np.int32([1]))),
        (2, 3),
        lambda x: x[:, [2, 0]],
    ),
    "clip": (
        lambda mm, net, x: net.add_i_clip_node(x, const(mm, net, np.float32(0.2)), const(mm, net, np.float32(0.5))),
        (2, 3),
        lambda x: x.clip(0.2, 0.5),
    ),
    "pad": (
        lambda mm, net, x: net.add_i_pad_node(x, const(mm, net, np.int32([[0, 0], [1, 2]])), None), (2, 3),
        lambda x: F.pad(x, (1, 2)),
    ),
    "tile": (
        lambda mm, net, x: net.add_i_tile_node(x, const(mm, net, np.int32([1, 2]))), (2, 3), lambda x: x.repeat(1, 2)
    ),
    "quotient": (
        lambda mm, net, x: net.add_i_div_node(x, const(mm, net, values(3))), (2, 3), lambda x: x / T(values(3))
    ),
    "square root": (lambda mm, net, x: net.add_i_sqrt_node(x), (2, 3), torch.sqrt),
    "batch norm": (
        lambda mm, net, x: set_to(
            net.add_i_fused_batch_norm_node(x, *(const(mm, net, values(3, seed=i)) for i in range(4))), epsilon=1e-3),
        (2, 3, 4, 4),
        lambda x: F.batch_norm(x, *(T(values(3, seed=i)) for i in range(4)), eps=1e-3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_a_node_computes_what_pytorch_computes(sdk, mm, name):
    add, shape, expected = NODES[name]
    network = mm.Network()
    x = network.add_input(mm.DataType.FLOAT32, mm.Dims(shape))
    assert network.mark_output(add(mm, network, x).get_output(0)).ok()

    (found,) = run(mm, built(mm, network, '{"graph_shape_mutable": false}'), values(*shape, seed=3))

    np.testing.assert_allclose(found, expected(T(values(*shape, seed=3))).numpy(), rtol=1e-5, atol=1e-6)


def test_two_outputs_of_one_node(sdk, mm):
    network = mm.Network()
    x = network.add_input(mm.DataType.FLOAT32, mm.Dims([2, 5]))
    largest = network.add_i_reduce_node(x, const(mm, network, np.int32([1])), mm.IReduce.MAX, False)
    best = set_to(network.add_i_top_k_node(x, const(mm, network, np.int32([2]))), axis=1, largest=False)
    for tensor in (largest.get_output(0), largest.get_output(1), best.get_output(0), best.get_output(1)):
        assert network.mark_output(tensor).ok()
    array = values(2, 5)

    found = run(mm, built(mm, network, '{"graph_shape_mutable": false}'), array)

    assert np.array_equal(found[0], array.max(1))
    assert np.array_equal(found[1], array.argmax(1))
    assert np.array_equal(found[2], np.sort(array, 1)[:, :2])
    assert found[3].dtype == np.int32


def test_a_mask_of_lengths_as_tacotron2_makes_it(sdk, mm):
    """Inputs of no shape, whole numbers for truth, and lengths that are known when it runs."""
    network = mm.Network()
    zero, one = const(mm, network, np.int32([0])), const(mm, network, np.int32([1]))
    size = network.add_input(mm.DataType.INT32, mm.Dims([1]))
    lengths = network.add_input(mm.DataType.INT32)
    longest = network.add_input(mm.DataType.INT32, mm.Dims([1]))
    ids = network.add_i_range_node(zero, longest, one)
    column = network.add_i_unsqueeze_node(lengths, one)
    mask = network.add_i_logic_node(ids.get_output(0), column.get_output(0), mm.enums.ILogic.LT)
    mask = network.add_i_cast_node(mask.get_output(0), mm.DataType.INT32)
    mask = network.add_i_logic_node(mask.get_output(0), zero, mm.enums.ILogic.LE)
    filled = network.add_i_fill_node(
        size, network.add_i_const_node(mm.DataType.FLOAT32, mm.Dims([]), [0]).get_output(0)
    )
    for node in (filled, mask):
        assert network.mark_output(node.get_output(0)).ok()

    zeros, found = run(mm, built(mm, network), np.int32([7]), np.int32([5, 3]), np.int32([6]))

    assert zeros.tolist() == [0.0] * 7
    assert found.tolist() == [[False] * 5 + [True], [False] * 3 + [True] * 3]


def test_nodes_know_their_names_settings_and_what_is_not_theirs(sdk, mm):
    network = mm.Network()
    x = network.add_input(mm.DataType.FLOAT32, mm.Dims([1, 4]))
    relu = network.add_i_activation_node(x, mm.IActivation.RELU)

    assert [node.get_node_type() for node in network.get_all_nodes_in_network()] == ["activation"]
    assert (relu.get_input_count(), relu.get_output_count(), relu.get_input(0)) == (1, 1, x)
    with pytest.raises(AttributeError, match="set_stride"):
        relu.set_stride(1, 1)
    with pytest.raises(AttributeError, match="add_i_nothing_node"):
        network.add_i_nothing_node(x)
    assert x.set_tensor_name("pixels").ok()
    assert x.get_tensor_name() == "pixels"
    sdk.switch(fail=[["mm.Network.add_i_sqrt_node", 1, 13]])
    assert network.add_i_sqrt_node(x) is None


HEADS, ANCHORS = [(4, 4), (2, 2)], [10, 12, 20, 24, 30, 30, 40, 48]
RULE = {"classes": 3, "conf": 0.2, "nms": 0.5, "limit": 6, "size": 32}


def slow_boxes(heads, image):
    """YOLOv5's decoding and the suppression of each class, a box at a time."""
    rows = []
    for scale, head in enumerate(heads):
        grid = head[image]
        step = RULE["size"] / len(grid)
        for y, x, a in np.ndindex(*grid.shape[:2], 2):
            cell = 1 / (1 + np.exp(-grid[y, x].reshape(2, -1)[a].astype("f8")))
            cx, cy = (2 * cell[0] - 0.5 + x) * step, (2 * cell[1] - 0.5 + y) * step
            w, h = (2 * cell[2:4]) ** 2 * np.reshape(ANCHORS, (2, 2, 2))[scale, a]
            for label in range(RULE["classes"]):
                score = cell[4] * cell[5 + label]
                if score > RULE["conf"]:
                    rows.append([label, score, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    kept = []
    for row in sorted(rows, key=lambda row: -row[1]):
        if all(other[0] != row[0] or overlap(other, row) <= RULE["nms"] for other in kept):
            kept.append(row)
    return np.array(kept[: RULE["limit"]])


def overlap(one, other):
    sides = [min(one[i + 4], other[i + 4]) - max(one[i + 2], other[i + 2]) for i in range(2)]
    shared = max(0, sides[0]) * max(0, sides[1])
    areas = [(box[4] - box[2]) * (box[5] - box[3]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_boxes_are_decoded_behind_the_graph_as_the_yolov5_sample_asks(sdk, mm, tmp_path):
    depth = 2 * (5 + RULE["classes"])
    names, shapes = ["big", "small"], [[2, depth, *size] for size in HEADS]
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", [name + ".in"], [name], name=name) for name in names]
    graph = helper.make_graph(
        nodes, "heads", [value(names[i] + ".in", TensorProto.FLOAT, shapes[i]) for i in range(2)],
        [value(names[i], TensorProto.FLOAT, shapes[i]) for i in range(2)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 7
    onnx.save(model, str(tmp_path / "heads.onnx"))
    network = mm.Network()
    assert mm.parser.Parser(mm.ModelKind.kOnnx).parse(network, str(tmp_path / "heads.onnx")).ok()
    perm = const(mm, network, np.int32([0, 2, 3, 1]))
    turned = [network.add_i_permute_node(network.get_output(i), perm).get_output(0) for i in range(2)]
    for _ in range(2):
        assert network.unmark_output(network.get_output(0)).ok()
    detect = network.add_i_detection_output_node(turned, const(mm, network, np.float32(ANCHORS)))
    set_to(
        detect, algo=mm.IDetectionOutputAlgo.YOLOV5, confidence_thresh=RULE["conf"], nms_thresh=RULE["nms"], scale=1.0,
        num_coord=4, num_class=RULE["classes"], num_entry=5, num_anchor=2, num_box_limit=RULE["limit"],
        image_shape=(RULE["size"], RULE["size"]), layout=(mm.Layout.NONE, mm.Layout.NONE),
    )  # fmt: skip
    for i in range(detect.get_output_count()):
        assert network.mark_output(detect.get_output(i)).ok()
    made = built(mm, network, '{"graph_shape_mutable": false}')
    assert [dims.GetDims() for dims in made.get_output_dimensions()] == [[2, RULE["limit"], 7], [2]]
    heads = [np.random.RandomState(i).normal(0, 1.5, shape).astype(np.float32) for i, shape in enumerate(shapes)]

    boxes, counts = run(mm, made, *heads)

    for image in range(2):
        wanted = slow_boxes([head.transpose(0, 2, 3, 1) for head in heads], image)
        assert counts[image] == len(wanted) > 2
        np.testing.assert_allclose(boxes[image, : len(wanted), 1:], wanted, rtol=1e-4, atol=1e-3)
        assert not boxes[image, len(wanted) :].any()
        assert set(boxes[image, : len(wanted), 0]) == {image}


def two_inputs(path):
    """Of a picture and of two numbers for all of them, as yolov3_paddle takes them."""
    value = helper.make_tensor_value_info
    constants = [numpy_helper.from_array(values(3, 4), "one"), numpy_helper.from_array(values(2, 4, seed=1), "other")]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "one"], ["left"], name="left"),
        helper.make_node("MatMul", ["scale", "other"], ["right"], name="right"),
        helper.make_node("Add", ["left", "right"], ["out"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes, "two",
        [value("scale", TensorProto.FLOAT, ["n", 2]), value("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [value("out", TensorProto.FLOAT, ["batch", 4])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 7
    onnx.save(model, str(path))
    return path


def samples(mm, *arrays):
    class Data(mm.CalibDataInterface):
        def __init__(self):
            super().__init__()
            self.left, self.now = [], None

        def reset(self):
            self.left = list(arrays)
            return mm.Status.OK()

        def next(self):
            if not self.left:
                return mm.Status(mm.Code.OUT_OF_RANGE, "end")
            self.now = self.left.pop(0)
            return mm.Status.OK()

        def get_shape(self):
            return mm.Dims(list(self.now.shape))

        def get_data_type(self):
            return mm.DataType.FLOAT32

        def get_sample(self):
            return self.now

    return Data()


def test_several_inputs_are_calibrated_together_and_keep_their_own_first_axes(sdk, mm, tmp_path):
    network = mm.Network()
    assert mm.parser.Parser(mm.ModelKind.kOnnx).parse(network, str(two_inputs(tmp_path / "two.onnx"))).ok()
    assert network.get_input(0).set_dimension(mm.Dims([1, 2])).ok()
    assert network.get_input(1).set_dimension(mm.Dims([4, 3, 8, 8])).ok()
    scale, images = 50 * values(1, 2), values(4, 3, 8, 8)
    config = mm.BuilderConfig()
    for text in ('{"graph_shape_mutable": false}', '{"precision_config": {"precision_mode": "qint8_mixed_float16"}}'):
        assert config.parse_from_string(text).ok()
    alone = mm.Calibrator([samples(mm, images)])
    assert not alone.calibrate(network, config).ok(), "one CalibDataInterface an input"
    calibrator = mm.Calibrator([samples(mm, scale, scale), samples(mm, images, images[::-1].copy())])

    assert calibrator.calibrate(network, config).ok()

    model = mm.Builder().build_model("two", network, config)
    assert [dims.GetDims() for dims in model.get_input_dimensions()] == [[1, 2], [4, 3, 8, 8]]
    (found,) = run(mm, model, scale, images)
    wanted = images.mean((2, 3)) @ values(3, 4) + scale @ values(2, 4, seed=1)
    assert 0 < np.abs(found - wanted).max() < 0.02 * wanted.max(), "each input has a range of its own"
    assert not model.create_i_engine().create_i_context().create_inputs()[1].from_numpy(images[:2]).ok()
