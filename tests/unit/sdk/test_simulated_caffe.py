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
    "bn of segnet": ("BN", "bn_param { bn_mode: INFERENCE }", [MEAN[:, None, None], VAR[:, None, None]],
                     lambda x: x * T(MEAN)[:, None, None] + T(VAR)[:, None, None]),
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
    "normalize, whole": ("Normalize", "", [MEAN[:1]], lambda x: F.normalize(x.flatten(1)).view(x.shape) * MEAN[0]),
    "flatten": ("Flatten", "", [], lambda x: x.flatten(1)),
    "flatten, planes": ("Flatten", "flatten_param { axis: 2 }", [], lambda x: x.flatten(2)),
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


DEEP = {
    # depth, height and width: sizes, padding, strides
    "every one its own": (2, 1, 3, 2, 1, 2), "as the first of the published": (3, 1, 7, 3, 1, 2),
    "of one value": (1, 0, 1, 0, 2, 2),
}  # fmt: skip


@pytest.mark.parametrize("named", DEEP)
def test_convolutions_of_c3d(mm, named):
    depth, early, size, pad, slow, stride = DEEP[named]
    filters, bias, x = drawn(4, 3, depth, size, size), drawn(1, 1, 1, 1, 4), drawn(2, 3, 5, 9, 8)
    said = f"num_output: 4 kernel_size: {size} kernel_depth: {depth} pad: {pad} temporal_pad: {early} group: 3"
    said = f"convolution3d_param {{ {said} stride: {stride} temporal_stride: {slow} }}"
    made = ran(head(data=x.shape) + layer("c", "Convolution3D", ["data"], "c", said), {"c": [filters, bias]}, x)

    places = {"stride": (slow, stride, stride), "padding": (early, pad, pad)}
    wanted = F.conv3d(T(x), T(filters), T(bias.reshape(-1)), **places)
    np.testing.assert_allclose(made["c"], wanted.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_pooling_of_c3d_rounds_up(mm, pool):
    x = drawn(2, 3, 7, 8, 9)
    said = f"pooling3d_param {{ pool: {pool} kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 3 }}"
    made = ran(head(data=x.shape) + layer("p", "Pooling3D", ["data"], "p", said), {}, x)

    pooled = F.max_pool3d if pool == "MAX" else F.avg_pool3d
    wanted = pooled(T(x), (2, 3, 3), (3, 2, 2), ceil_mode=True)
    assert made["p"].shape == (2, 3, 3, 4, 4)
    np.testing.assert_allclose(made["p"], wanted.numpy(), rtol=1e-5, atol=1e-6)


UNPOOLED = {
    # sizes of the picture, what Upsample says
    "doubled": ((8, 12), ""), "an odd size": ((7, 12), "pad_out_h: true"),
    "told sizes": ((7, 11), "upsample_h: 7 upsample_w: 11"),
}  # fmt: skip


@pytest.mark.parametrize("named", UNPOOLED)
def test_values_return_to_where_their_pooling_found_them(mm, named):
    """As SegNet's: of equals, of which there are many behind a ReLU, the first of a window counts."""
    sizes, said = UNPOOLED[named]
    x = np.maximum(drawn(2, 3, *sizes), 0)
    text = head(data=x.shape) + layer(
        "p", "Pooling", ["data"], "p", 'top: "m" pooling_param { kernel_size: 2 stride: 2 }'
    )
    text += layer("s", "Sigmoid", ["p"], "s")
    made = ran(text + layer("u", "Upsample", ["s", "m"], "u", f"upsample_param {{ {said} }}"), {}, x)["u"]

    pooled, where = F.max_pool2d(T(x), 2, 2, ceil_mode=True, return_indices=True)
    wanted = F.max_unpool2d(torch.sigmoid(pooled), where, 2, 2, output_size=sizes)
    np.testing.assert_allclose(made, wanted.numpy(), rtol=1e-5, atol=1e-6)


def test_the_places_of_a_pooling_count_in_their_plane(mm):
    """So that a larger plane takes them too, row after row of its own width."""
    x = drawn(2, 3, 6, 6)
    text = head(data=x.shape) + layer(
        "p", "Pooling", ["data"], "p", 'top: "m" pooling_param { kernel_size: 2 stride: 2 }'
    )
    made = ran(text, {}, x)
    where = F.max_pool2d(T(x), 2, 2, return_indices=True)[1].numpy()
    assert made["m"].dtype == np.float32
    np.testing.assert_array_equal(made["m"], where)

    text += layer("u", "Upsample", ["p", "m"], "u", "upsample_param { scale_h: 3 scale_w: 4 }")
    wanted = np.zeros((2, 3, 9 * 12), np.float32)
    for image, channel in np.ndindex(2, 3):
        wanted[image, channel, where[image, channel].ravel()] = made["p"][image, channel].ravel()
    np.testing.assert_array_equal(ran(text, {}, x)["u"], wanted.reshape(2, 3, 9, 12))


PRIORS = {
    # what the layer says; sizes of the picture; (width, height) of the boxes of a cell; step and offset; clipped
    "one": ("min_size: 60.7 aspect_ratio: 4", (90, 120), [(60, 60), (120, 30), (30, 120)], (30, 45, 0.5), False),
    "as ssd's": ("min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 2 aspect_ratio: 1 flip: false clip: true",
                 (90, 120), [(30, 30), (1800**0.5, 1800**0.5), (30 * 2**0.5, 30 / 2**0.5)], (30, 45, 0.5), True),
    "two sizes": ("min_size: 20 min_size: 40 max_size: 30 max_size: 50 step: 16 offset: 0.25 img_size: 64", (90, 120),
                  [(20, 20), (600**0.5, 600**0.5), (40, 40), (2000**0.5, 2000**0.5)], (16, 16, 0.25), False),
    "every way": ("min_size: 10 step_h: 8 step_w: 5 img_h: 30 img_w: 50", (90, 120), [(10, 10)], (5, 8, 0.5), False),
}  # fmt: skip


@pytest.mark.parametrize("variance", [(), (0.3,), (0.1, 0.2, 0.3, 0.4)])
@pytest.mark.parametrize("named", PRIORS)
def test_prior_boxes(mm, named, variance):
    said, picture, boxes, (step_x, step_y, offset), clipped = PRIORS[named]
    said += "".join(f" variance: {each}" for each in variance)
    text = head(data=(1, 3, 90, 120), fed=(1, 5, 2, 4))
    made = ran(text + layer("b", "PriorBox", ["fed", "data"], "b", f"prior_box_param {{ {said} }}"), {},
               drawn(2, 3, *picture), drawn(2, 5, 2, 4))["b"]  # fmt: skip

    height, width = {"two sizes": (64, 64), "every way": (30, 50)}.get(named, picture)
    wanted = []
    for y, x in np.ndindex(2, 4):
        middle = ((x + offset) * step_x, (y + offset) * step_y)
        for size in boxes:
            low, high = ([at + sign * each / 2 for at, each in zip(middle, size, strict=True)] for sign in (-1, 1))
            wanted += [low[0] / width, low[1] / height, high[0] / width, high[1] / height]
    spread = np.tile(variance if len(variance) == 4 else np.repeat(variance or 0.1, 4), len(wanted) // 4)
    assert made.shape == (1, 2, len(wanted))
    np.testing.assert_allclose(made[0, 0], np.clip(wanted, 0, 1) if clipped else wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made[0, 1], spread, rtol=1e-6)


def overlap(one, other):
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def found(moves, scores, priors, least, most, first, kept):
    """Rows as DetectionOutput gives them, box by box: `first` candidates of each class, `kept` of each image."""
    rows = []
    for image, (image_moves, image_scores) in enumerate(zip(moves, scores, strict=True)):
        boxes = []
        for move, (x0, y0, x1, y1), (v0, v1, v2, v3) in zip(image_moves, *priors, strict=True):
            width, height = x1 - x0, y1 - y0
            x, y = (x0 + x1) / 2 + v0 * move[0] * width, (y0 + y1) / 2 + v1 * move[1] * height
            width, height = np.exp(v2 * move[2]) * width, np.exp(v3 * move[3]) * height
            boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        mine = []
        for label in range(1, scores.shape[2]):
            order = sorted(range(len(boxes)), key=lambda i, label=label: -image_scores[i, label])[:first]
            stay = []
            for i in order:
                if image_scores[i, label] > least and all(overlap(boxes[i], boxes[j]) <= most for j in stay):
                    stay.append(i)
            mine += [[image, label, image_scores[i, label], *boxes[i]] for i in stay]
        best = sorted(mine, key=lambda row: -row[2])[:kept]
        rows += [row for row in mine if row in best]
    return np.array(rows).reshape(-1, 7)


DETECTED = {
    # least score, largest overlap, candidates of a class, boxes of an image
    "all": (None, 0.45, None, None), "as mobilenet's": (0.25, 0.45, 100, 100), "few candidates": (0.1, 0.6, 5, None),
    "few boxes": (0.1, 0.45, None, 6), "both": (0.2, 0.3, 7, 9), "more than there are": (0.9, 0.45, 400, 200),
}  # fmt: skip


def detection(least=None, most=0.45, first=None, kept=None, more="code_type: CENTER_SIZE"):
    nms = f"nms_param {{ nms_threshold: {most} " + (f"top_k: {first} }}" if first else "}")
    said = f"num_classes: 4 {nms} {more}" + (f" confidence_threshold: {least}" if least is not None else "")
    said += f" keep_top_k: {kept}" if kept else ""
    return layer("d", "DetectionOutput", ["moves", "scores", "priors"], "out", f"detection_output_param {{ {said} }}")


def drawn_heads(images=2, count=40):
    low = RNG.uniform(0, 0.7, (count, 2))
    corners = np.concatenate([low, low + RNG.uniform(0.1, 0.3, (count, 2))], 1)
    priors = np.float32([corners, np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))])
    return drawn(images, count, 4), RNG.uniform(0, 1, (images, count, 4)).astype(np.float32), priors


def fed_heads(moves, scores, priors):
    return moves.reshape(len(moves), -1), scores.reshape(len(scores), -1), priors.reshape(1, 2, -1)


HEADS = head(moves=(1, 160), scores=(1, 160), priors=(1, 2, 160))


@pytest.mark.parametrize("named", DETECTED)
def test_boxes_are_found_one_by_one(mm, named):
    least, most, first, kept = DETECTED[named]
    heads = drawn_heads()
    made = ran(HEADS + detection(*DETECTED[named]), {}, *fed_heads(*heads))["out"]

    wanted = found(*heads, -1 if least is None else least, most, first, kept)
    assert len(wanted) > 5
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)


def test_without_any_box_there_is_a_row_for_each_image(mm):
    heads = drawn_heads(images=3)
    made = ran(HEADS + detection(least=2, first=100, kept=100), {}, *fed_heads(*heads))["out"]
    np.testing.assert_array_equal(made, [[image, -1, -1, -1, -1, -1, -1] for image in range(3)])


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


def parsed(mm, tmp_path, text, weights):
    network = mm.Network()
    assert mm.parser.Parser(mm.ModelKind.kCaffe).parse(network, *written(tmp_path, text, weights)).ok()
    return network


def built(mm, network, *said):
    config = mm.BuilderConfig()
    for each in ('{"precision_config": {"precision_mode": "force_float32"}}', *said):
        assert config.parse_from_string(each).ok()
    model = mm.Builder().build_model("network", network, config)
    assert model is not None
    return model


def computed(mm, model, array):
    """The first output, as infer.py reads it."""
    context = model.create_i_engine().create_i_context()
    inputs, outputs, queue = context.create_inputs(), [], mm.Device().create_queue()
    inputs[0].from_numpy(array)
    assert context.enqueue(inputs, outputs, queue).ok()
    queue.sync()
    return outputs[0].asnumpy()


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
    network = parsed(mm, tmp_path, text, {"c": [W, B]})
    assert network.get_input(0).get_dimension().GetDims() == [1, 6, 9, 11]
    assert network.get_input(0).set_dimension(mm.Dims([2, 6, 9, 11])).ok()
    made = computed(mm, built(mm, network, '{"graph_shape_mutable": false}'), X)

    wanted = F.softmax(F.relu(F.conv2d(T(X), T(W), T(B))).mean((2, 3), keepdim=True), 1)
    np.testing.assert_allclose(made, wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_an_engine_of_fixed_sizes_tells_all_that_follow(mm, tmp_path):
    """As infer.py of the vendor's samples makes its buffers of them."""
    text = head(data=(1, 6, 9, 11)) + layer("c", "Convolution", ["data"], "c", "convolution_param { num_output: 4 }")
    text += layer("u", "Upsample", ["c"], "u", "upsample_param { scale: 2 }")
    network = parsed(mm, tmp_path, text, {"c": [W, B]})
    assert network.get_input(0).set_dimension(mm.Dims([2, 6, 9, 11])).ok()

    fixed = built(mm, network, '{"graph_shape_mutable": false}').get_output_dimensions()
    free = built(mm, network, '{"graph_shape_mutable": true}').get_output_dimensions()

    wanted = F.interpolate(F.conv2d(T(X[:2]), T(W), T(B)), scale_factor=2).shape
    assert [dims.GetDims() for dims in fixed] == [list(wanted)]
    assert [dims.GetDims() for dims in free] == [[-1] * 4]


@pytest.mark.parametrize("order", [[1], [2, 1], [3, 0, 2], []])
def test_the_axes_that_an_order_leaves_out_follow(mm, order):
    """permute_layer.cpp of the branch ssd."""
    said = "permute_param { " + "".join(f"order: {axis} " for axis in order) + "}"
    text = head(data=(1, 6, 9, 11)) + layer("r", "ReLU", ["data"], "r") + layer("p", "Permute", ["r"], "p", said)

    rest = [axis for axis in range(4) if axis not in order]
    np.testing.assert_array_equal(ran(text, {}, X)["p"], np.maximum(X, 0).transpose(*order, *rest))


def detecting():
    """A network with the last layers of MobileNet-SSD: 5 classes, 4 x 4 cells of 3 boxes and 2 x 2 cells of 4."""
    text = 'input: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 32\ninput_dim: 32\n'
    weights, flat = {}, {"loc": [], "conf": [], "priorbox": []}
    for name, fed, stride, size, priors in (
        ("one", "data", 8, "min_size: 8", 3),
        ("two", "one", 2, "min_size: 16 max_size: 24", 4),
    ):
        text += layer(
            name, "Convolution", [fed], name, f"convolution_param {{ kernel_size: {stride} stride: {stride} }}"
        )
        weights[name] = [drawn(8, 3 if fed == "data" else 8, stride, stride) * 0.2, drawn(8)]
        for head_of, width in (("loc", 4), ("conf", 5)):
            said, top = "convolution_param { kernel_size: 1 }", f"{name}_{head_of}"
            text += layer(top, "Convolution", [name], top, said)
            text += layer(
                f"{top}_perm", "Permute", [top], f"{top}_perm", "permute_param { order: 0 order: 2 order: 3 order: 1 }"
            )
            text += layer(f"{top}_flat", "Flatten", [f"{top}_perm"], f"{top}_flat", "flatten_param { axis: 1 }")
            weights[top], flat[head_of] = (
                [drawn(width * priors, 8, 1, 1), drawn(width * priors)],
                [*flat[head_of], f"{top}_flat"],
            )
        said = f"prior_box_param {{ {size} aspect_ratio: 2 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }}"
        text += layer(f"{name}_prior", "PriorBox", [name, "data"], f"{name}_prior", said)
        flat["priorbox"].append(f"{name}_prior")
    for name, bottoms in flat.items():
        text += layer(
            f"mbox_{name}",
            "Concat",
            bottoms,
            f"mbox_{name}",
            f"concat_param {{ axis: {2 if name == 'priorbox' else 1} }}",
        )
    text += layer("rows", "Reshape", ["mbox_conf"], "rows", "reshape_param { shape { dim: 0 dim: -1 dim: 5 } }")
    text += layer("soft", "Softmax", ["rows"], "soft", "softmax_param { axis: 2 }") + layer(
        "flat", "Flatten", ["soft"], "flat"
    )
    said = "num_classes: 5 code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.3"
    said += " nms_param { nms_threshold: 0.45 top_k: 30 }"
    bottoms = ["mbox_loc", "flat", "mbox_priorbox"]
    return text + layer("d", "DetectionOutput", bottoms, "boxes", f"detection_output_param {{ {said} }}"), weights


def expected_boxes(weights, x):
    """By PyTorch and the loops above; the boxes of a cell lie in the order of the layers' definition."""
    moves, scores, priors = [], [], []
    fed = T(x)
    for name, stride, sizes in (
        ("one", 8, [(8, 8), (8, 8, 2), (8, 8, 0.5)]),
        ("two", 2, [(16, 16), (384**0.5,) * 2, (16, 16, 2), (16, 16, 0.5)]),
    ):
        fed = F.conv2d(fed, *map(T, weights[name]), stride=stride)
        cells = fed.shape[2]
        for of, width, rows in (("loc", 4, moves), ("conf", 5, scores)):
            rows.append(F.conv2d(fed, *map(T, weights[f"{name}_{of}"])).permute(0, 2, 3, 1).reshape(len(x), -1, width))
        for (i, j), (wide, high, *ratio) in ((at, size) for at in np.ndindex(cells, cells) for size in sizes):
            wide, high = (wide * ratio[0] ** 0.5, high / ratio[0] ** 0.5) if ratio else (wide, high)
            x0, y0 = (j + 0.5) * 32 / cells - wide / 2, (i + 0.5) * 32 / cells - high / 2
            priors.append([x0 / 32, y0 / 32, (x0 + wide) / 32, (y0 + high) / 32])
    moves, scores = torch.cat(moves, 1).numpy(), torch.cat(scores, 1).softmax(2).numpy()
    return found(moves, scores, np.array([priors, np.tile([0.1, 0.1, 0.2, 0.2], (len(priors), 1))]), 0.3, 0.45, 30, 20)


def test_boxes_of_a_built_network_image_by_image(mm, tmp_path):
    """As ssd_caffe's gen_model.py and infer.py do it: fed in NHWC, rows of seven numbers read. Caffe has no INT64."""
    text, weights = detecting()
    x = drawn(3, 3, 32, 32)
    wanted = expected_boxes(weights, x)
    assert set(wanted[:, 0]) == {0, 1, 2}
    said = '{"convert_input_layout": {"0": {"src": "NCHW", "dst": "NHWC"}}}'
    model = built(mm, parsed(mm, tmp_path, text, weights), said)

    turned = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(computed(mm, model, turned), wanted, rtol=1e-3, atol=1e-4)
    alone = computed(mm, model, turned[1:2])
    np.testing.assert_allclose(alone[:, 1:], wanted[wanted[:, 0] == 1][:, 1:], rtol=1e-3, atol=1e-4)


def test_planes_behind_an_unpooling_are_turned(mm, tmp_path):
    """As segnet_caffe asks for its output in NHWC, at any size: the ranks are known without the sizes."""
    text = head(data=(1, 6, 8, 12)) + layer(
        "p", "Pooling", ["data"], "p", 'top: "m" pooling_param { kernel_size: 2 stride: 2 }'
    )
    text += layer("u", "Upsample", ["p", "m"], "u", "upsample_param { scale: 2 }")
    text += layer("c", "Convolution", ["u"], "c", "convolution_param { num_output: 4 }")
    network = parsed(mm, tmp_path, text, {"c": [W, B]})
    model = built(mm, network, '{"convert_output_layout": {"0": {"src": "NCHW", "dst": "NHWC"}}}')

    x = drawn(2, 6, 8, 12)
    unpooled = F.max_unpool2d(*F.max_pool2d(T(x), 2, 2, return_indices=True), 2, 2)
    assert model.get_output_dimensions()[0].GetDims() == [-1, -1, -1, -1]
    np.testing.assert_allclose(
        computed(mm, model, x), F.conv2d(unpooled, T(W), T(B)).permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4
    )


REFUSED = {
    "no such layer": (layer("d", "ROIPooling", ["data"], "out"), {}, "layer d of type ROIPooling"),
    "corners as code": (
        layer("d", "DetectionOutput", ["data"] * 3, "out", "detection_output_param { num_classes: 4 }"),
        {},
        "layer d of type DetectionOutput with another code_type",
    ),
    "places of a mean": (
        layer("p", "Pooling", ["data"], "out", 'top: "m" pooling_param { pool: AVE kernel_size: 2 }'),
        {},
        "layer p of type Pooling: a second top of another than the largest of windows",
    ),
    "padded depth": (
        layer("p", "Pooling3D", ["data"], "out", "pooling3d_param { pool: AVE kernel_size: 2 pad: 1 }"),
        {},
        "layer p of type Pooling3D of three axes with padding",
    ),
    "flattened to an end": (
        layer("f", "Flatten", ["data"], "out", "flatten_param { axis: 1 end_axis: 2 }"),
        {},
        "layer f of type Flatten with an axis from the end, or an end",
    ),
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
    "too many bottoms": (
        layer("c", "Convolution", ["data", "data"], "out"),
        {"c": [W]},
        "layer c of type Convolution with 2 bottoms: 1 is read",
    ),
    "too few bottoms": (
        layer("d", "PriorBox", ["data"], "out"),
        {},
        "layer d of type PriorBox with 1 bottoms: 2 is read",
    ),
    "one of several": (layer("e", "Eltwise", ["data"], "out"), {}, "with 1 bottoms: 2 or more are read"),
    "none": (layer("u", "Upsample", [], "out"), {}, "with 0 bottoms: 1 or 2 are read"),
    "an order of an axis too many": (
        layer("p", "Permute", ["data"], "out", "permute_param { order: 4 }"),
        {},
        "order [4] for 4 axes",
    ),
    "an order that says an axis twice": (
        layer("p", "Permute", ["data"], "out", "permute_param { order: 1 order: 1 }"),
        {},
        "order [1, 1] for 4 axes",
    ),
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
