"""A planted mistake is named before all others, and nothing explains what is only rounded."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from diagnose_tiny import (
    IMAGE,
    IMAGES,
    MEAN,
    REFERENCE,
    STD,
    TENSORS,
    canvas,
    chain,
    gap_of,
    network,
    normalized,
    sigmoid,
    softmax,
)
from onnx import helper

from harness.diagnose import layers, mistakes
from harness.errors import InvalidMeasurement
from harness.export import graph


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
