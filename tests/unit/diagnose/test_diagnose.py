"""A planted mistake is named before all others; a layer that was tampered with is found exactly."""

import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness import baselines, matrix
from harness.backends.base import Normalize
from harness.case import Precision
from harness.chips import CHIPS
from harness.datasets import scenes
from harness.diagnose import layers, mistakes
from harness.diagnose.picture import picture
from harness.errors import BuildError, InvalidMeasurement
from harness.export import graph
from harness.judge.verdict import Verdict
from harness.models import MODELS
from harness.models.base import Frame, Prepared, Protocol
from harness.run.context import ResolvedWeights, RunContext, Settings
from harness.store import Store
from harness.vocabulary import Outcome
from tools import cli

SIDE = 24
MEAN, STD = np.array([123.0, 116.0, 103.0]).reshape(3, 1, 1), np.array([58.0, 57.0, 62.0]).reshape(3, 1, 1)
RANDOM = np.random.RandomState(7)
PROJECTION = RANDOM.standard_normal((3 * SIDE * SIDE, 40)) / SIDE
MIXING = RANDOM.standard_normal((40, 33)) / 6
BLOTS = [cv2.resize(RANDOM.randint(0, 256, (12, 16, 3)).astype(np.float32), (66, 50)) for _ in range(3)]
IMAGES = [np.clip(1.6 * blots - 70, 0, 255).round().astype(np.uint8) for blots in BLOTS]


def content(image, interpolation=cv2.INTER_AREA):
    return cv2.resize(image, (24, 18), interpolation=interpolation)[..., ::-1]


def canvas(image, top=0, interpolation=cv2.INTER_AREA):
    """RGB pixels, 3 x 24 x 24 float64; the picture is 24 wide and 18 high, the rest is black."""
    pixels = np.zeros((SIDE, SIDE, 3))
    pixels[top : top + 18] = content(image, interpolation)
    return pixels.transpose(2, 0, 1)


def normalized(pixels):
    return ((pixels - MEAN) / STD).astype(np.float32)


def preprocess(image, raw):
    if image.shape[:2] == (SIDE, SIDE):  # the plain colours with which a protocol is probed
        return Prepared(normalized(image[..., ::-1].transpose(2, 0, 1)), Frame(SIDE, SIDE, (1.0, 1.0)))
    tensor = normalized(canvas(image))
    return Prepared(tensor, Frame(66, 50, (24 / 66, 18 / 50)))


PROTOCOL = Protocol(
    "small", (SIDE, SIDE), (), preprocess, lambda outputs, frame: {},
    Normalize(tuple(MEAN.ravel()), tuple(STD.ravel()), "RGB"),
)  # fmt: skip


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(x / 2)


def network(tensors, end=softmax, last=sigmoid):
    """(N, 3, 24, 24) -> two heads of 10 logits, 7 probabilities that sum to 1 and 6 that do not."""
    hidden = np.maximum(np.asarray(tensors, np.float64).reshape(len(tensors), -1) @ PROJECTION, -0.3)
    y = hidden @ MIXING
    heads = {"left": y[:, :10], "right": y[:, 10:20], "class": end(y[:, 20:27]), "marks": last(y[:, 27:])}
    return {name: value.astype(np.float32) for name, value in heads.items()}


TENSORS = np.stack([normalized(canvas(image)) for image in IMAGES])
REFERENCE = network(TENSORS)


def fed(change):
    """The chip's outputs when `change` makes the network's input of the pixels."""
    return network(np.stack([change(canvas(image)) for image in IMAGES]))


def put(**changes):
    return {name: changes.get(name, value) for name, value in REFERENCE.items()}


def rolled(by):
    return {name: np.roll(value, by, axis=0) for name, value in REFERENCE.items()}


# each mistake as someone would make it, written without a look at the table
PLANTED = {
    "swapped channels": lambda: fed(lambda p: (p[[2, 1, 0]] - MEAN) / STD),
    "swapped channels, mean and std with them": lambda: fed(lambda p: normalized(p)[[2, 1, 0]]),
    "mean and std of the other channel order": lambda: fed(lambda p: (p - MEAN[[2, 1, 0]]) / STD[[2, 1, 0]]),
    "mean not subtracted": lambda: fed(lambda p: p / STD),
    "mean subtracted twice": lambda: fed(lambda p: (p - MEAN - MEAN) / STD),
    "std omitted": lambda: fed(lambda p: p - MEAN),
    "not normalised": lambda: fed(lambda p: p),
    "/255 missing": lambda: fed(lambda p: (p - MEAN / 255) / (STD / 255)),
    "/255 doubled": lambda: fed(lambda p: (p / 255 / 255 - MEAN / 255) / (STD / 255)),
    "mean off by one grey level": lambda: fed(lambda p: (p - (MEAN + 1)) / STD),
    "video range": lambda: fed(lambda p: (np.rint(16 + p * 219 / 255) - MEAN) / STD),
    "uint8 read as int8": lambda: fed(lambda p: (p.astype(np.uint8).view(np.int8) - MEAN) / STD),
    "transposed": lambda: fed(lambda p: normalized(p).swapaxes(1, 2)),
    "mirrored": lambda: fed(lambda p: np.stack([np.fliplr(plane) for plane in normalized(p)])),
    "upside down": lambda: fed(lambda p: np.stack([np.flipud(plane) for plane in normalized(p)])),
    "turned by 180 degrees": lambda: fed(lambda p: np.rot90(normalized(p), 2, axes=(1, 2))),
    "channels last read as channels first": lambda: fed(
        lambda p: np.frombuffer(np.moveaxis(normalized(p), 0, -1).tobytes(), np.float32).reshape(p.shape)
    ),
    "padding at the other side": lambda: network(np.stack([normalized(canvas(i, top=6)) for i in IMAGES])),
    "padding on both sides": lambda: network(np.stack([normalized(canvas(i, top=3)) for i in IMAGES])),
    "nearest neighbour": lambda: network(
        np.stack([normalized(canvas(i, interpolation=cv2.INTER_NEAREST)) for i in IMAGES])
    ),
    "bilinear": lambda: network(np.stack([normalized(canvas(i, interpolation=cv2.INTER_LINEAR)) for i in IMAGES])),
    "rows of the batch shifted": lambda: rolled(1),
    "only the first row is run": lambda: network(TENSORS[[0, 0, 0]]),
    "outputs permuted": lambda: put(left=REFERENCE["right"], right=REFERENCE["left"]),
    "softmax missing": lambda: network(TENSORS, end=lambda x: x),
    "softmax doubled": lambda: network(TENSORS, end=lambda x: softmax(softmax(x))),
    "sigmoid missing": lambda: network(TENSORS, last=lambda x: x),
    "sigmoid doubled": lambda: network(TENSORS, last=lambda x: sigmoid(sigmoid(x))),
    "one class off": lambda: put(**{"class": REFERENCE["class"][:, [6, 0, 1, 2, 3, 4, 5]]}),
}


def gap_of(chip):
    """As the chip would answer: rounded to FP16."""
    rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in chip.items()}
    return mistakes.Gap(
        rounded, REFERENCE, picture(PROTOCOL, IMAGES[0]), network, lambda images: network(images, end=lambda x: x)
    )


def test_every_mistake_of_the_table_is_planted_here():
    assert [mistake.name for mistake in mistakes.MISTAKES] == list(PLANTED)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_comes_first(name):
    found = mistakes.explain(gap_of(PLANTED[name]()))

    assert found[0].mistake.name == name, "\n".join(map(str, found[:3]))
    assert found[0].share > 0.9, found[0]
    assert mistakes.conclusion(found).startswith(f"{100 * found[0].share:.0f} % of the gap: {name}")


def test_both_ways_of_taking_the_nearest_pixel_are_known():
    chip = network(np.stack([normalized(canvas(i, interpolation=cv2.INTER_NEAREST_EXACT)) for i in IMAGES]))

    found = mistakes.explain(gap_of(chip))

    assert (found[0].mistake.name, found[0].variant) == ("nearest neighbour", "of pixel centres")
    assert found[0].share > 0.9, found[0]


def test_nothing_explains_what_is_only_rounded():
    found = mistakes.explain(gap_of(REFERENCE))

    assert found[0].share < 0.2, found[0]
    assert mistakes.conclusion(found).startswith(f"none of the {len(PLANTED)} mistakes")


def test_nothing_explains_another_network():
    other = {name: np.roll(value[::-1], 3, axis=1) for name, value in network(TENSORS[:, :, ::-1, ::-1] * 0.5).items()}

    found = mistakes.explain(gap_of(other))

    assert found[0].share < mistakes.ENOUGH, found[0]


def test_nothing_is_explained_where_nothing_differs():
    found = mistakes.explain(replace(gap_of(REFERENCE), chip=REFERENCE))

    assert {explanation.share for explanation in found} <= {0.0, None}


def test_a_share_is_the_part_of_the_gap_that_goes_away():
    def off(by):
        return {name: value + by * np.abs(value).mean() for name, value in REFERENCE.items()}

    gap = replace(gap_of(REFERENCE), chip=off(1.0))

    assert mistakes.share(gap, off(1.0)) == pytest.approx(1, abs=1e-6)
    assert mistakes.share(gap, off(0.75)) == pytest.approx(0.75, abs=1e-6)
    assert mistakes.share(gap, REFERENCE) == 0
    assert mistakes.share(gap, off(-1.0)) == 0


def letterboxed(image, raw, top=3, around=128.0, after=False):
    """In the middle of a grey canvas; with `after` the padding is zero after normalisation."""
    pixels = np.full((3, SIDE, SIDE), around)
    if image.shape[:2] == (SIDE, SIDE):
        return preprocess(image, raw)
    pixels[:, top : top + 18] = content(image).transpose(2, 0, 1)
    tensor = normalized(pixels)
    if after:
        tensor[:, :top] = tensor[:, top + 18 :] = 0
    return Prepared(tensor, Frame(66, 50, (24 / 66, 18 / 50), 0.0, float(top)))


def test_a_letterboxed_picture_is_moved_with_its_own_grey_around():
    seen = picture(replace(PROTOCOL, preprocess=letterboxed), IMAGES[0])

    assert seen.content == (0, 3, 24, 21)
    for left, top, at in ((0, 0, 0), (1, 1, 6), (0.5, 0.5, 3)):
        assert np.abs(seen.moved(left, top) - letterboxed(IMAGES[0], False, top=at).tensor).max() < 1e-5
    nearest = cv2.resize(IMAGES[0], (24, 18), interpolation=cv2.INTER_NEAREST)[..., ::-1].transpose(2, 0, 1)
    assert np.abs(seen.nearest(0.0)[:, 3:21] - normalized(nearest)).max() < 1e-5
    assert np.array_equal(seen.nearest(0.0)[:, :3], seen.tensor[:, :3])


def test_padding_that_no_pixel_stands_for_keeps_its_value():
    def padded_after(image, raw):
        return letterboxed(image, raw, top=0, after=True)

    seen = picture(replace(PROTOCOL, preprocess=padded_after, normalize=None), IMAGES[0])
    gap = replace(gap_of(REFERENCE), picture=seen)
    fed = [tensor for _, tensor in _tensors_fed("swapped channels", gap)]

    assert not fed[0][:, :, 18:].any()
    assert np.abs(fed[0][0, :, :18] - ((canvas(IMAGES[0])[::-1] - MEAN) / STD)[:, :18]).max() < 1e-4


def _tensors_fed(name, gap):
    """What a mistake feeds the reference."""
    mistake = next(mistake for mistake in mistakes.MISTAKES if mistake.name == name)
    return mistake.answers(replace(gap, run=lambda tensors: tensors))


def test_a_mistake_that_cannot_be_made_says_so():
    def one(outputs):
        return {name: value[:1] for name, value in outputs.items()}

    gap = gap_of(PLANTED["mirrored"]())
    found = mistakes.explain(replace(gap, chip=one(gap.chip), reference=one(gap.reference), bare=None))

    impossible = {explanation.mistake.name for explanation in found if explanation.share is None}
    assert impossible == {"rows of the batch shifted", "only the first row is run", "softmax missing"}
    assert found[0].mistake.name == "mirrored"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_mistake_is_weighed_by_what_is_not_finite(bad):
    chip = put(left=np.full_like(REFERENCE["left"], bad))

    with pytest.raises(InvalidMeasurement, match="left"):
        mistakes.explain(replace(gap_of(REFERENCE), chip=chip))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_mean_and_std_are_seen_from_what_a_protocol_does(name):
    for protocol in MODELS[name].protocols:
        seen = picture(protocol, IMAGES[0])

        if protocol.normalize is not None:
            assert seen.mean.ravel() == pytest.approx(protocol.normalize.mean, abs=1e-3)
            assert seen.std.ravel() == pytest.approx(protocol.normalize.std, rel=1e-4)
            assert ("BGR" if seen.bgr else "RGB") == protocol.normalize.order
            raw = protocol.preprocess(IMAGES[0], True).tensor.transpose(2, 0, 1)
            assert np.abs(seen.pixels - raw).max() < 1e-3
        left, top, right, bottom = seen.content
        if protocol.normalize is None:
            outside = np.ones(protocol.size, bool)
            outside[top:bottom, left:right] = False
            assert not seen.tensor[:, outside].any(), "what lies outside of the picture is zero after normalisation"


# ---------------------------------------------------------------- layers


def chain(length, seed=0):
    """Convolutions and rectifiers in turn, with a branch beside each third; from `image` to `out` and `classes`."""
    random, nodes, constants, last = np.random.RandomState(seed), [], {}, "image"
    for i in range(length):
        mixed = 0.7 * random.standard_normal((3, 3)) + np.eye(3)
        constants[f"w{i}"] = mixed.astype(np.float32)[..., None, None]
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"conv{i}"], f"Conv_{i}", kernel_shape=[1, 1]))
        nodes.append(helper.make_node("LeakyRelu", [f"conv{i}"], [f"relu{i}"], f"Relu_{i}", alpha=0.5))
        last = f"relu{i}"
        if i % 3 == 2:
            nodes.append(helper.make_node("Sigmoid", [f"relu{i - 1}"], [f"gate{i}"], f"Gate_{i}"))
            nodes.append(helper.make_node("Mul", [last, f"gate{i}"], [f"mul{i}"], f"Mul_{i}"))
            last = f"mul{i}"
    constants["flat"] = np.array([-1, 3 * 36])
    constants["dense"] = random.standard_normal((3 * 36, 5)).astype(np.float32) / 100
    nodes += [
        helper.make_node("Reshape", [last, "flat"], ["rows"], "Reshape_0"),
        helper.make_node("Gemm", ["rows", "dense"], ["logits"], "Gemm_0"),
        helper.make_node("Softmax", ["logits"], ["classes"], "Softmax_0", axis=1),
        helper.make_node("Identity", [last], ["out"], "Identity_0"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "chain", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 6])],
            [helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", 5]),
             helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3, 6, 6])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 11)], ir_version=6,
    )  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    return model


def tampered(model, name, change=lambda array: array * 1.5):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    (tensor,) = (tensor for tensor in other.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)).astype(np.float32), name))
    return other


IMAGE = np.random.RandomState(1).standard_normal((2, 3, 6, 6)).astype(np.float32)


def measuring(model, chip, runs, limit=1000):
    """A chip that runs the graph `chip` where `model` was meant, and takes so many outputs; notes what it is asked."""

    def measure(names):
        runs.append(list(names))
        if len(names) > limit:
            raise BuildError(f"{len(names)} are too many outputs", hint="ask for fewer")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(graph.tap(chip, names).SerializeToString(), options)
        outputs = [value.name for value in session.get_outputs()]
        found = dict(zip(outputs, session.run(None, {"image": IMAGE}), strict=True))
        return layers.compare(found, layers.reference(graph.tap(model, names), IMAGE, 2), Precision.FP32)

    return measure


@pytest.mark.parametrize("most", [4, 8, 48])
@pytest.mark.parametrize("at", [0, 1, 7, 19])
def test_the_layer_that_was_tampered_with_is_the_first_to_differ(at, most):
    model, runs = chain(20), []

    located = layers.locate(layers.layers(model, 2), measuring(model, tampered(model, f"w{at}"), runs), most)

    assert located.first.tensor == f"conv{at}", layers.sentence(located, True)
    assert located.first.node == f"Conv_{at}"
    assert all(verdict is None or verdict.outcome is Outcome.PASS for _, verdict in located.before)
    assert len(located.before) == 1, "what it is computed from was not looked at"
    assert max(map(len, runs)) <= most
    assert located.notes == ()


@pytest.mark.parametrize("at", [0, 29, 59])
def test_few_runs_find_one_layer_among_many(at):
    model, runs = chain(60), []

    located = layers.locate(layers.layers(model, 2), measuring(model, tampered(model, f"w{at}"), runs), 6)

    assert located.first.tensor == f"conv{at}"
    assert len(runs) <= 6, f"{len(runs)} runs of {[len(run) for run in runs]} tensors, of {len(located.seen)} in all"


def narrowing(bad, links, most):
    """Runs of a search among layers `links` (name -> inputs) of which those named in `bad` fail."""
    every, runs = [layers.Layer(name, name.upper(), "Conv", given, (1, 4)) for name, given in links.items()], []

    def measure(names):
        runs.append("".join(names))
        returned = [*names, every[-1].tensor]
        return {name: Verdict(Outcome.FAIL if name in bad else Outcome.PASS, name) for name in returned}

    return layers.locate(every, measure, most), runs


def row(names):
    """Layers one after the other."""
    return {name: (before,) for before, name in zip(["image", *names], names, strict=False)}


def test_what_is_fine_behind_the_first_clears_nothing_before_it():
    located, runs = narrowing("cdefgh", row("abcdefghi"), 1)

    assert located.first.tensor == "c"
    assert runs == ["e", "c", "b"]


def test_what_is_fine_before_the_first_clears_all_before_it():
    located, runs = narrowing("efg", row("abcdefg"), 1)

    assert located.first.tensor == "e"
    assert runs == ["d", "f", "e"]


def test_what_the_first_is_computed_from_is_looked_at_even_when_it_is_cleared():
    located, runs = narrowing("cd", {**row("abcd"), "c": ("b", "a")}, 1)

    assert runs == ["c", "b", "a"]
    assert [name for name, _ in located.before] == ["b", "a"]


def test_the_dense_layer_at_the_end_is_told_from_the_reshape_before_it():
    model = chain(6)

    located = layers.locate(layers.layers(model, 2), measuring(model, tampered(model, "dense"), []), 5)

    assert located.first.tensor == "logits"
    assert "first to differ: logits (Gemm Gemm_0)" in layers.sentence(located, True)
    assert "its inputs are still fine: rows (rms error 0)" in layers.sentence(located, True)


def test_the_first_layer_of_all_has_only_the_networks_input_before_it():
    model = chain(6)

    located = layers.locate(layers.layers(model, 2), measuring(model, tampered(model, "w0"), []), 5)

    assert located.before == (("image", None),)
    assert "it reads image, the network's input" in layers.sentence(located, True)


def test_an_error_that_grows_over_the_layers_is_not_put_on_the_one_that_exceeds_the_tolerance():
    a, b = layers.Layer("a", "n", "Conv", ("image",), (1,)), layers.Layer("b", "m", "Conv", ("a",), (1,))

    def off(rms, outcome):
        return Verdict(outcome, "", {"rms": rms})

    def said(before, after):
        fine, bad = off(before, Outcome.PASS), off(after, Outcome.FAIL)
        return layers.sentence(layers.Located(((a, fine), (b, bad)), b, (("a", fine),), ()), True)

    assert "The error begins before, and grows" in said(0.019, 0.021)
    assert "its inputs are still fine: a (rms error 0.019)" in said(0.019, 0.3)


def test_a_layer_that_overflows_is_the_first_to_differ():
    model = chain(12)
    chip = tampered(model, "w5", lambda array: array * np.inf)

    located = layers.locate(layers.layers(model, 2), measuring(model, chip, []), 6)

    assert located.first.tensor == "conv5"
    assert "not finite" in layers.sentence(located, True)


def test_nothing_differs_in_a_graph_that_was_left_alone():
    model = chain(12)

    located = layers.locate(layers.layers(model, 2), measuring(model, model, []), 6)

    assert located.first is None
    assert layers.sentence(located, False) == f"nothing differs in {len(located.seen)} layers"
    assert "what the compiler fuses" in layers.sentence(located, True)


def test_a_compiler_that_refuses_many_outputs_is_asked_for_fewer():
    model, runs = chain(12), []
    chip = tampered(model, "w4")

    located = layers.locate(layers.layers(model, 2), measuring(model, chip, runs, limit=5), 48)

    assert located.first.tensor == "conv4"
    assert "too many outputs" in located.notes[0]
    assert len(runs[-1]) <= 5


def test_a_compiler_that_refuses_even_one_output_is_an_error():
    model = chain(3)

    with pytest.raises(BuildError, match="1 are too many"):
        layers.locate(layers.layers(model, 2), measuring(model, model, [], limit=0))


def test_what_was_seen_before_the_last_refusal_is_kept():
    model, calls = chain(12), []
    real = measuring(model, tampered(model, "w4"), [])

    def measure(names):
        calls.append(names)
        if len(calls) > 1:
            raise BuildError("no more", hint="rest")
        return real(names)

    located = layers.locate(layers.layers(model, 2), measure, 4)

    assert located.first is not None
    assert "cannot be laid bare: no more" in located.notes[-1]


def test_tensors_without_the_batch_in_front_are_passed_over():
    nodes = [
        helper.make_node("Relu", ["image"], ["a"], "Relu_0"),
        helper.make_node("Transpose", ["a"], ["b"], "Transpose_1", perm=[1, 0, 2, 3]),
        helper.make_node("Sigmoid", ["b"], ["c"], "Sigmoid_2"),
        helper.make_node("Transpose", ["c"], ["d"], "Transpose_3", perm=[1, 0, 2, 3]),
        helper.make_node("Shape", ["a"], ["shape"], "Shape_4"),
        helper.make_node("Reshape", ["d", "shape"], ["out"], "Reshape_5"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 6, 6]) for name in ("image", "out")]
    model = helper.make_model(helper.make_graph(nodes, "turns", value[:1], value[1:]),
                              opset_imports=[helper.make_opsetid("", 11)], ir_version=6)  # fmt: skip

    found = {layer.tensor: layer.inputs for layer in layers.layers(model, 2)}

    assert found == {"a": ("image",), "d": ("a",), "out": ("d",)}


def upsampled():
    """Doubled to a size that is computed, so that ONNX infers no shape behind it, not even the batch."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["small"], "Conv_0", kernel_shape=[1, 1]),
        helper.make_node("Shape", ["small"], ["shape"], "Shape_1"),
        helper.make_node("Mul", ["shape", "factors"], ["sizes"], "Mul_2"),
        helper.make_node("Resize", ["small", "none", "none", "sizes"], ["large"], "Resize_3", mode="nearest"),
        helper.make_node("Conv", ["large", "v"], ["out"], "Conv_4", kernel_shape=[1, 1]),
        helper.make_node("Transpose", ["large"], ["turned"], "Transpose_5", perm=[1, 0, 2, 3]),
        helper.make_node("ReduceMean", ["turned"], ["means"], "ReduceMean_6", axes=[0, 2, 3], keepdims=0),
    ]
    random = np.random.RandomState(3)
    constants = {name: random.standard_normal((3, 3, 1, 1)).astype(np.float32) for name in "wv"}
    constants |= {"factors": np.array([1, 1, 2, 2]), "none": np.array([], np.float32)}
    model = helper.make_model(
        helper.make_graph(
            nodes, "upsampled", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 6])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3, "h", "w"]),
             helper.make_tensor_value_info("means", TensorProto.FLOAT, ["batch"])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 11)], ir_version=6,
    )  # fmt: skip
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize(("at", "first"), [("w", "small"), ("v", "out")])
def test_layers_behind_a_resize_to_a_computed_size_are_looked_at(at, first):
    model = upsampled()

    every = layers.layers(model, 2)
    located = layers.locate(every, measuring(model, tampered(model, at), []), 48)

    assert {"small", "large", "out"} <= {layer.tensor for layer, _ in located.seen}
    assert located.first.tensor == first
    assert "turned" not in {layer.tensor for layer, _ in located.seen}, "its rows are no images"
    bare = layers.tapped(model, every, ["large", "out"])
    assert [len(value.type.tensor_type.shape.dim) for value in bare.graph.output] == [4, 1, 4]


def test_no_run_returns_more_than_there_is_room_for():
    every = [layers.Layer(f"t{i}", f"n{i}", "Conv", (), (1, layers.ROOM // 16)) for i in range(40)]
    huge = replace(every[0], shape=(1, layers.ROOM))

    assert len(layers.pick(every, 48)) == 4
    assert layers.pick([huge], 48) == [huge]


def test_the_reference_repeats_the_images_in_turn():
    model = chain(3)

    found = layers.reference(model, IMAGE, 5)

    assert found["out"].shape == (5, 3, 6, 6)
    assert np.array_equal(found["out"][[0, 1, 2, 3, 4]], found["out"][[2, 3, 0, 1, 0]])
    assert not np.array_equal(found["out"][0], found["out"][1])


def test_the_last_softmax_is_left_out_and_no_other():
    model = chain(3)

    bare = mistakes.without_softmax(model)

    logits = layers.reference(graph.tap(model, ["logits"]), IMAGE, 2)["logits"]
    assert np.array_equal(layers.reference(bare, IMAGE, 2)["classes"], logits)
    assert mistakes.without_softmax(graph.cut(model, ["out"])) is None
    inner = graph.cut(model, ["classes"])
    inner.graph.node.append(helper.make_node("Relu", ["classes"], ["behind"], "Relu_behind"))
    inner.graph.output[0].name = "behind"
    assert mistakes.without_softmax(inner) is None, "a softmax inside of the network is no last one"


# ---------------------------------------------------------------- the command


def tiny_network():
    from torch import nn

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(3, 8, 3, stride=2)
            self.two = nn.Conv2d(8, 8, 3, stride=2)
            self.three = nn.Conv2d(8, 4, 3, stride=2)

        def forward(self, x):
            return (self.three(self.two(self.one(x).relu()).relu()).flatten(1),)

    return Tiny()


def preprocess_tiny(image, raw):
    pixels = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., ::-1]
    frame = Frame(image.shape[1], image.shape[0], (SIDE / image.shape[1], SIDE / image.shape[0]))
    return Prepared(np.ascontiguousarray(pixels) if raw else normalized(pixels.transpose(2, 0, 1)), frame)


TINY = replace(
    MODELS["regnety_016"], name="tiny", outputs=("class",), network=tiny_network,
    protocols=(replace(PROTOCOL, chips=("cpu",), normalized_by_chip=("cpu",), preprocess=preprocess_tiny),),
)  # fmt: skip


class Tampering:
    """A worker whose compiler makes a mistake."""

    def __init__(self, worker, graph_of, spec_of):
        self._worker, self._graph_of, self._spec_of = worker, graph_of, spec_of

    def __enter__(self):
        self._worker.__enter__()
        return self

    def __exit__(self, *error):
        self._worker.__exit__(*error)

    def __getattr__(self, name):
        return getattr(self._worker, name)

    def build(self, source, engine, spec):
        model = self._graph_of(onnx.load(source))
        other = source.with_name("tampered.onnx") if source.name == "tapped.onnx" else engine.with_name("tampered.onnx")
        onnx.save(model, other)
        self._worker.build(other, engine, self._spec_of(spec))


@pytest.fixture
def diagnose(tmp_path, monkeypatch, capsys):
    """Runs the command on the tiny model with a compiler that makes the given mistake: (exit status, output)."""
    import torch

    torch.manual_seed(0)
    state = tiny_network().state_dict()
    torch.save(state, tmp_path / "tiny.pt")

    def run(*options, graph_of=lambda model: model, spec_of=lambda spec: spec):
        class Small(RunContext):
            def weights(self, model):
                return ResolvedWeights(tmp_path / "tiny.pt", "0" * 64, True, "seeded")

            def worker(self, chip, backend):
                return Tampering(super().worker(chip, backend), graph_of, spec_of)

        small = Small(Settings(Store(tmp_path / "cache"), baselines.load()))
        small._datasets["tiny"] = scenes.dataset("classes", 2)
        monkeypatch.setattr("tools.diagnose.suite", lambda *arguments, **options: small)
        monkeypatch.setattr(matrix, "models", lambda: {"tiny": TINY})
        with pytest.raises(SystemExit) as ended:
            cli.main(["diagnose", "tiny-cpu-fp32-bs2", *options])
        return ended.value.code, capsys.readouterr().out

    return run


def test_the_command_finds_nothing_where_nothing_is_wrong(diagnose):
    status, out = diagnose()

    assert status == 0, out
    assert "nothing differs in 6 layers" in out


def test_the_command_names_the_layer_that_the_compiler_spoilt(diagnose):
    def spoil(model):
        weight = next(node.input[1] for node in model.graph.node if node.name == "/two/Conv")
        return tampered(model, weight)

    status, out = diagnose("--json", graph_of=spoil)

    found = json.loads(out)
    assert status == 1
    assert found["differs"]
    assert (found["first"]["op"], found["first"]["node"]) == ("Conv", "/two/Conv")
    assert [given["fine"] for given in found["first"]["inputs"]] == [True]
    assert found["explanation"].startswith("none of the")


def test_the_command_names_the_mistake_of_a_chip_that_normalises(diagnose):
    def forget_the_mean(spec):
        return replace(spec, normalize=replace(spec.normalize, mean=(0.0, 0.0, 0.0)))

    status, out = diagnose(spec_of=forget_the_mean)

    assert status == 1
    assert "first to differ: /one/Conv_output_0" in out
    assert "look at what is fed" in out
    assert "100 % of the gap: mean not subtracted" in out


def test_the_command_tells_a_mistake_of_fusing_from_one_of_a_layer(diagnose):
    def spoil_when_nothing_is_laid_bare(model):
        return model if len(model.graph.output) > 1 else tampered(model, model.graph.initializer[0].name)

    status, out = diagnose(graph_of=spoil_when_nothing_is_laid_bare)

    assert status == 1
    assert "what the compiler fuses" in out


def test_the_command_cannot_run_without_the_chip(diagnose, monkeypatch):
    monkeypatch.setattr(matrix, "chips", lambda: {"cpu": replace(CHIPS["cpu"], match="none of all")})

    status, out = diagnose("--json")

    assert status == 2
    assert json.loads(out)["error"] == "device"
