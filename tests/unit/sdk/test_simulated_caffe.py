"""The simulated MagicMind reads Caffe's two files: every layer against PyTorch, whole networks built and run."""

from __future__ import annotations

import struct

import numpy as np
import onnxruntime
import pytest
import torch
from vendor_sweep import simulated

F = torch.nn.functional
RNG = np.random.default_rng(5)


@pytest.fixture
def mm(monkeypatch, tmp_path):
    with simulated(monkeypatch, tmp_path, "magicmind", ("magicmind",), "magicmind.python.runtime._base"):
        import magicmind.python.runtime as mm

        yield mm


def drawn(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# --- the files: a caffemodel is protobuf, written here by hand after caffe.proto ------------------------------------


def varint(value):
    word = b""
    while value > 0x7F:
        word, value = word + bytes([value & 0x7F | 0x80]), value >> 7
    return word + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(array, old):
    dims = [1] * (4 - array.ndim) + list(array.shape)
    head = b"".join(varint(place << 3) + varint(dim) for place, dim in enumerate(dims, 1)) if old else b""
    shape = b"" if old else field(7, field(1, b"".join(varint(dim) for dim in array.shape)))
    return head + field(5, struct.pack(f"<{array.size}f", *array.reshape(-1))) + shape


def caffemodel(weights, old=False):
    """`old`: layers and shapes as before 2014."""
    layers, name, blobs = (2, 4, 6) if old else (100, 1, 7)
    rows = [
        field(name, layer.encode()) + b"".join(field(blobs, blob(array, old)) for array in arrays)
        for layer, arrays in weights.items()
    ]
    return field(1, b"net") + b"".join(field(layers, row) for row in rows)


def layer(name, kind, bottoms, top, rest=""):
    lines = "".join(f'  bottom: "{bottom}"\n' for bottom in bottoms)
    return f'layer {{\n  name: "{name}"\n  type: "{kind}"  # a comment: {{\n{lines}  top: "{top}"\n  {rest}\n}}\n'


def head(**shapes):
    return "".join(
        f'input: "{name}"\ninput_shape {{ {" ".join(f"dim: {d}" for d in s)} }}\n' for name, s in shapes.items()
    )


def ran(text, weights, *arrays, old=False):
    """Outputs of the graph that both files make, at the shapes of `arrays`, whatever the prototxt says."""
    from magicmind.python.runtime import _caffe

    model, inputs, outputs = _caffe.parsed(caffemodel(weights, old), text)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(outputs, dict(zip(inputs, arrays, strict=True))), strict=True))


X = drawn(2, 6, 9, 11)
W, B, GROUPED, UP = drawn(4, 6, 3, 2), drawn(4), drawn(4, 3, 3, 3), drawn(6, 2, 2, 2)
MEAN, VAR, FACTOR = drawn(6), np.abs(drawn(6)) + 1, np.float32([2])
ROWS = drawn(7, 6 * 9 * 11)
T = torch.from_numpy


def normal(x, mean, var, eps, scale=1, shift=0):
    rows = [np.reshape(each, (1, -1, 1, 1)) for each in (mean, var, scale, shift)]
    return (x - rows[0]) / np.sqrt(rows[1] + eps) * rows[2] + rows[3]


LAYERS = {
    "convolution": ("Convolution", "convolution_param { kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 1 pad_w: 0 }",
                    [W, B], lambda x: F.conv2d(x, T(W), T(B), stride=2, padding=(1, 0))),
    "dilated in groups": ("Convolution", "convolution_param { group: 2 pad: 2 dilation: 2 }", [GROUPED],
                          lambda x: F.conv2d(x, T(GROUPED), padding=2, dilation=2, groups=2)),
    "deconvolution": ("Deconvolution", "convolution_param { group: 3 stride: 2 }", [UP],
                      lambda x: F.conv_transpose2d(x, T(UP), stride=2, groups=3)),
    "largest, rounded up": ("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }", [],
                            lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True)),
    "mean, padding counts": ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", [],
                             lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    "mean of all": ("Pooling", "pooling_param { pool: AVE global_pooling: true }", [],
                    lambda x: x.mean((2, 3), keepdim=True)),
    "batch norm": ("BatchNorm", "batch_norm_param { eps: 0.01 use_global_stats: true }", [MEAN, VAR, FACTOR],
                   lambda x: T(normal(x.numpy(), MEAN / 2, VAR / 2, 0.01))),
    "batch norm without a factor": ("BatchNorm", "", [MEAN, VAR, FACTOR * 0], lambda x: x / 1e-5**0.5),
    "bn": ("BN", "", [B6 := drawn(6), MEAN, MEAN, VAR], lambda x: T(normal(x.numpy(), MEAN, VAR, 1e-5, B6, MEAN))),
    "scale": ("Scale", "scale_param { bias_term: true }", [MEAN, VAR],
              lambda x: x * T(MEAN)[:, None, None] + T(VAR)[:, None, None]),
    "inner product": ("InnerProduct", "inner_product_param { num_output: 7 }", [ROWS, ROWS[:, 0]],
                      lambda x: F.linear(x.flatten(1), T(ROWS), T(ROWS[:, 0]))),
    "inner product, turned": ("InnerProduct", "inner_product_param { num_output: 7 transpose: true }",
                              [np.ascontiguousarray(ROWS.T)], lambda x: F.linear(x.flatten(1), T(ROWS))),
    "relu": ("ReLU", "", [], F.relu), "sigmoid": ("Sigmoid", "", [], torch.sigmoid),
    "tanh": ("TanH", "", [], torch.tanh),
    "leaky": ("ReLU", "relu_param { negative_slope: 0.1 }", [], lambda x: F.leaky_relu(x, 0.1)),
    "prelu": ("PReLU", "", [MEAN], lambda x: F.prelu(x, T(MEAN))), "mish": ("Mish", "", [], F.mish),
    "softmax": ("Softmax", "", [], lambda x: F.softmax(x, 1)), "dropout": ("Dropout", "", [], lambda x: x),
    "last softmax": ("Softmax", "softmax_param { axis: 3 }", [], lambda x: F.softmax(x, 3)),
    "lrn": ("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }", [],
            lambda x: F.local_response_norm(x, 3, 0.5, 0.6, 2)),
    "normalize": ("Normalize", "norm_param { across_spatial: false channel_shared: false }", [MEAN],
                  lambda x: F.normalize(x, dim=1) * T(MEAN)[:, None, None]),
    "flatten": ("Flatten", "", [], lambda x: x.flatten(1)),
    "permute": ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", [],
                lambda x: x.permute(0, 2, 3, 1)),
    "reshape": ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }", [], lambda x: x.reshape(2, -1, 3)),
    "upsample": ("Upsample", "upsample_param { scale: 2 }", [], lambda x: F.interpolate(x, scale_factor=2)),
}  # fmt: skip


@pytest.mark.parametrize("named", LAYERS)
def test_a_layer_computes_what_pytorch_computes(mm, named):
    kind, said, weights, expected = LAYERS[named]
    made = ran(head(data=(1, 6, 9, 11)) + layer("l", kind, ["data"], "out", said), {"l": weights}, X)

    assert list(made) == ["out"]
    wanted = expected(T(X)).numpy()
    assert made["out"].shape == wanted.shape
    np.testing.assert_allclose(made["out"], wanted, rtol=1e-4, atol=1e-4)


PAIRS = {
    "sum": ("Eltwise", "", lambda a, b, c: a + b + c),
    "weighted": (
        "Eltwise",
        "eltwise_param { operation: SUM coeff: 1 coeff: -2 coeff: 0.5 }",
        lambda a, b, c: a - 2 * b + c / 2,
    ),
    "product": ("Eltwise", "eltwise_param { operation: PROD }", lambda a, b, c: a * b * c),
    "largest": ("Eltwise", "eltwise_param { operation: MAX }", lambda a, b, c: np.maximum(a, np.maximum(b, c))),
    "side by side": ("Concat", "", lambda a, b, c: np.concatenate([a, b, c], 1)),
    "one below another": ("Concat", "concat_param { axis: 2 }", lambda a, b, c: np.concatenate([a, b, c], 2)),
    "axpy": ("Axpy", "", lambda a, b, c: a * b + c),
}


@pytest.mark.parametrize("named", PAIRS)
def test_a_layer_of_several_inputs(mm, named):
    kind, said, expected = PAIRS[named]
    arrays = [drawn(2, 3, 4, 5) for _ in range(3)]
    made = ran(head(a=(1, 3, 4, 5), b=(1, 3, 4, 5), c=(1, 3, 4, 5)) + layer("l", kind, "abc", "out", said), {}, *arrays)

    np.testing.assert_allclose(made["out"], expected(*arrays), rtol=1e-5, atol=1e-5)


RANKS = {  # behind an InnerProduct, and of pictures one behind the other
    "fc": ((3, 5), lambda t: t), "clip": ((2, 5, 3, 4, 6), lambda t: t[..., None, None, None]),
}  # fmt: skip


@pytest.mark.parametrize("rank", RANKS)
def test_a_row_for_each_channel_fits_every_rank(mm, rank):
    shape, wide = RANKS[rank]
    x, factor, shift, slope = drawn(*shape), drawn(5), drawn(5), drawn(5)
    text = head(data=shape) + layer("s", "Scale", ["data"], "s") + layer("p", "PReLU", ["s"], "p")
    made = ran(text, {"s": [factor, shift], "p": [slope]}, x)

    scaled = x * wide(factor) + wide(shift)
    np.testing.assert_allclose(made["p"], np.where(scaled > 0, scaled, scaled * wide(slope)), rtol=1e-5, atol=1e-6)


def test_filters_and_windows_of_three_axes(mm):
    filters, x = drawn(4, 3, 3, 3, 3), drawn(1, 3, 6, 8, 8)
    three = "kernel_size: 2 kernel_size: 2 kernel_size: 2 stride: 2"
    text = head(data=(1, 3, 6, 8, 8)) + layer("c", "Convolution", ["data"], "c", "convolution_param { pad: 1 }")
    made = ran(text + layer("p", "Pooling", ["c"], "p", f"pooling_param {{ {three} }}"), {"c": [filters]}, x)

    wanted = F.max_pool3d(F.conv3d(T(x), T(filters), padding=1), 2, 2)
    np.testing.assert_allclose(made["p"], wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_layers_that_write_in_place_and_outputs_that_nobody_reads(mm):
    text = head(data=(1, 6, 9, 11)) + layer("n", "BatchNorm", ["data"], "x") + layer("r", "ReLU", ["x"], "x")
    text += layer("t", "Sigmoid", ["x"], "side") + layer("drop", "Dropout", ["x"], "x")
    text += layer("only in training", "Nonsense", ["x"], "y", "include { phase: TRAIN }")
    made = ran(text, {"n": [MEAN, VAR, FACTOR]}, X)

    relu = np.maximum(normal(X, MEAN / 2, VAR / 2, 1e-5), 0)
    assert sorted(made) == ["side", "x"]
    np.testing.assert_allclose(made["x"], relu, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made["side"], 1 / (1 + np.exp(-relu)), rtol=1e-4, atol=1e-5)


def test_files_of_the_first_generation(mm):
    """As VGG16's: `layers` with kinds in capitals, one list of dims, arrays of four."""
    text = "input: 'data'\ninput_dim: 10\ninput_dim: 6\ninput_dim: 9\ninput_dim: 11\n"
    text += 'layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" convolution_param { num_output: 4 } }\n'
    text += 'layers { name: "r" type: RELU bottom: "c" top: "c" }\n'
    text += 'layers { name: "f" type: INNER_PRODUCT bottom: "c" top: "f" inner_product_param { num_output: 5 } }\n'
    rows = drawn(5, 4 * 7 * 10)
    made = ran(text, {"c": [W, B], "f": [rows, rows[:, 0]]}, X, old=True)

    wanted = F.linear(F.relu(F.conv2d(T(X), T(W), T(B))).flatten(1), T(rows), T(rows[:, 0]))
    np.testing.assert_allclose(made["f"], wanted.numpy(), rtol=1e-3, atol=1e-3)


def written(tmp_path, text, weights):
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(weights))
    return [str(tmp_path / name) for name in ("net.caffemodel", "net.prototxt")]


def test_a_network_is_built_for_another_batch_and_runs(mm, tmp_path):
    """As gen_model.py of resnext50_caffe does it, at FP32."""
    text = 'name: "net"\n' + layer(
        "data", "Input", [], "data", "input_param { shape { dim: 1 dim: 6 dim: 9 dim: 11 } }"
    )
    text += layer("c", "Convolution", ["data"], "c", "convolution_param { num_output: 4 }") + layer(
        "r", "ReLU", ["c"], "c"
    )
    text += layer("p", "Pooling", ["c"], "p", "pooling_param { pool: AVE global_pooling: true }")
    text += layer("prob", "Softmax", ["p"], "prob")
    network, config = mm.Network(), mm.BuilderConfig()
    assert mm.parser.Parser(mm.ModelKind.kCaffe).parse(network, *written(tmp_path, text, {"c": [W, B]})).ok()
    assert network.get_input(0).get_dimension().GetDims() == [1, 6, 9, 11]
    assert network.get_input(0).set_dimension(mm.Dims([2, 6, 9, 11])).ok()
    for said in ('{"graph_shape_mutable": false}', '{"precision_config": {"precision_mode": "force_float32"}}'):
        assert config.parse_from_string(said).ok()
    model = mm.Builder().build_model("network", network, config)
    context = model.create_i_engine().create_i_context()
    inputs, outputs, queue = context.create_inputs(), [], mm.Device().create_queue()
    inputs[0].from_numpy(X)
    assert context.enqueue(inputs, outputs, queue).ok()
    queue.sync()

    wanted = F.softmax(F.relu(F.conv2d(T(X), T(W), T(B))).mean((2, 3), keepdim=True), 1)
    np.testing.assert_allclose(outputs[0].asnumpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)


REFUSED = {
    "no such layer": (layer("d", "DetectionOutput", ["data"], "out"), {}, "layer d of type DetectionOutput"),
    "another axis": (
        layer("s", "Scale", ["data"], "out", "scale_param { axis: 0 }"),
        {"s": [B]},
        "along another axis than 1",
    ),
    "no such blob": (layer("r", "ReLU", ["dat"], "out"), {}, "no blob dat"),
    "weights are missing": (
        layer("c", "Convolution", ["data"], "out"),
        {"x": [W]},
        "0 arrays in the caffemodel, 1 are needed",
    ),
    "cut off": ("layer { name:", {}, "nothing stands behind name"),
}


@pytest.mark.parametrize("named", REFUSED)
def test_files_that_make_no_network_are_refused_with_the_layer(mm, tmp_path, capfd, named):
    text, weights, said = REFUSED[named]
    files = written(tmp_path, head(data=(1, 6, 9, 11)) + text, weights)

    assert not mm.parser.Parser(mm.ModelKind.kCaffe).parse(mm.Network(), *files).ok()
    assert said in capfd.readouterr().err


def test_a_caffemodel_that_is_none_and_a_prototxt_that_is_not_there(mm, tmp_path):
    model, text = written(tmp_path, head(data=(1, 6, 9, 11)), {})
    (tmp_path / "cut.caffemodel").write_bytes(field(100, field(1, b"c") + field(7, blob(W, False)))[:-9])
    parser = mm.parser.Parser(mm.ModelKind.kCaffe)

    assert not parser.parse(mm.Network(), str(tmp_path / "cut.caffemodel"), text).ok()
    assert not parser.parse(mm.Network(), model, str(tmp_path / "absent")).ok()
    assert not parser.parse(mm.Network(), model).ok()
