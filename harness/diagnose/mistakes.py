"""Which porting mistake explains the gap: the reference makes each mistake, and the remaining gap is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.case import Tensors
from harness.diagnose.picture import Floats, Picture
from harness.errors import InvalidMeasurement

if TYPE_CHECKING:
    from onnx import ModelProto

ENOUGH = 0.5  # share of the gap that a mistake must explain to be named as the cause


Ask: TypeAlias = Callable[[NDArray[np.float32]], Tensors]
"""The reference as a function: float32 (N, 3, H, W), normalised, to outputs by ONNX name."""


@dataclass(frozen=True)
class Gap:
    """Outputs of the chip and of the reference for one batch, and functions that run the reference on other inputs."""

    chip: Tensors
    reference: Tensors
    picture: Picture  # the first of the batch
    run: Callable[
        [NDArray[np.float32]], Tensors
    ]  # the reference: float32 (N, 3, H, W), normalised, to outputs by ONNX name
    bare: Callable[[NDArray[np.float32]], Tensors] | None = None  # the reference without its last softmax, if any


Answers: TypeAlias = Iterator[tuple[str, Tensors]]
"""(variant of the mistake, outputs of the reference with it), for the whole batch or its first images; empty where the
mistake cannot be made."""


@dataclass(frozen=True)
class Mistake:
    """A mistake that people make when they port a model: its name, what it does, and the outputs that it would give."""

    name: str
    sentence: str
    answers: Callable[[Gap], Answers]


@dataclass(frozen=True)
class Explanation:
    """`share` of the gap, 0..1, that the mistake explains in its best variant; None where it cannot be made."""

    mistake: Mistake
    share: float | None
    variant: str = ""

    def __str__(self) -> str:
        variant = f" ({self.variant})" if self.variant else ""
        share = "cannot be made here" if self.share is None else f"{100 * self.share:.0f} % of the gap"
        return f"{share}: {self.mistake.name}{variant}, that is: {self.mistake.sentence}"


def explain(gap: Gap, advance: Callable[[int], None] = lambda done: None) -> tuple[Explanation, ...]:
    """Every mistake of the table with its share, the largest first. `advance` is called with 1 after each mistake.
    Raises InvalidMeasurement when the chip's outputs are not finite or have other names or shapes."""
    for name, wanted in gap.reference.items():
        if name not in gap.chip or gap.chip[name].shape != wanted.shape or not np.isfinite(gap.chip[name]).all():
            raise InvalidMeasurement(
                f"output {name} is absent, of another shape or not finite: no mistake can be compared with it",
                hint="find the first layer that differs: chipproof diagnose CASE",
            )
    found = []
    for mistake in MISTAKES:
        shares = [(share(gap, answer), variant) for variant, answer in mistake.answers(gap)]
        best = max(shares, key=lambda pair: pair[0], default=None)
        found.append(Explanation(mistake, *(best or (None,))))
        advance(1)
    return tuple(sorted(found, key=lambda e: -1.0 if e.share is None else e.share, reverse=True))


def share(gap: Gap, answer: Tensors) -> float:
    """Share of the gap (0..1) that `answer` explains: 1 - |chip - answer| / |chip - reference|, at least 0.

    |.| is the root mean square over all outputs, each relative to the reference's mean square, over the images of the
    answer."""
    count = len(next(iter(answer.values())))
    before = after = 0.0
    for name, wanted in gap.reference.items():
        chip, right, made = (v[:count].astype(np.float64) for v in (gap.chip[name], wanted, answer[name]))
        size = float(np.mean(np.square(right))) or 1.0
        before += float(np.mean(np.square(chip - right))) / size
        after += float(np.mean(np.square(chip - made))) / size
    if before == 0 or not math.isfinite(after):
        return 0.0
    return max(0.0, 1 - math.sqrt(after / before))


def explained(found: Sequence[Explanation]) -> bool:
    """Whether the best explains `ENOUGH` of the gap."""
    return (found[0].share or 0.0) >= ENOUGH


def conclusion(found: Sequence[Explanation]) -> str:
    """The best explanation as a sentence, or the statement that none explains `ENOUGH` of the gap."""
    best = found[0]
    if not explained(found):
        tried = sum(e.share is not None for e in found)
        return f"none of the {tried} mistakes that could be tried explains more than {100 * ENOUGH:.0f} % of the gap"
    return str(best)


# ---------------------------------------------------------------- what is fed


def _fed(change: Callable[[Picture], Iterator[tuple[str, Floats]]]) -> Callable[[Gap], Answers]:
    """Outputs of the reference for the first picture, fed as `change` changes it."""

    def answers(gap: Gap) -> Answers:
        for variant, tensor in change(gap.picture):
            if not np.array_equal(tensor, gap.picture.tensor):
                yield variant, gap.run(np.ascontiguousarray(tensor[None], np.float32))

    return answers


def _arithmetic(*formulas: Callable[[Floats, Floats, Floats], Floats]) -> Callable[[Gap], Answers]:
    """A mistake in the normalisation: formulas of (pixels 0..255, mean, std) replace (x - mean) / std."""

    def change(picture: Picture) -> Iterator[tuple[str, Floats]]:
        for formula in formulas:
            yield "", picture.within(formula(picture.pixels, picture.mean, picture.std))

    return _fed(change)


def _grey_level(picture: Picture) -> Iterator[tuple[str, Floats]]:
    for sign in (1, -1):
        yield f"{-sign:+d}", picture.within((picture.pixels + sign - picture.mean) / picture.std)


def _turned(turn: Callable[[Floats], Floats]) -> Callable[[Gap], Answers]:
    def change(picture: Picture) -> Iterator[tuple[str, Floats]]:
        turned = turn(picture.tensor)
        if turned.shape == picture.tensor.shape:
            yield "", turned

    return _fed(change)


def _padded(*places: tuple[str, float, float]) -> Callable[[Gap], Answers]:
    """A mistake in the padding: `places` are (name, share of free columns left of the content, share of rows above)."""

    def change(picture: Picture) -> Iterator[tuple[str, Floats]]:
        for variant, left, top in places:
            yield variant, picture.moved(left, top)

    return _fed(change)


def _nearest(picture: Picture) -> Iterator[tuple[str, Floats]]:
    for variant, centre in (("of pixel corners", 0.0), ("of pixel centres", 0.5)):
        yield variant, picture.nearest(centre)


def _bilinear(picture: Picture) -> Iterator[tuple[str, Floats]]:
    yield "", picture.bilinear()


def _interleaved(tensor: Floats) -> Floats:
    interleaved: Floats = tensor.transpose(1, 2, 0).reshape(tensor.shape)
    return interleaved


def _signed(pixels: Floats) -> Floats:
    return np.where(np.rint(pixels) > 127, pixels - 256, pixels)


# ---------------------------------------------------------------- what comes out


def _rows_shifted(gap: Gap) -> Answers:
    rows = len(next(iter(gap.reference.values())))
    for by in dict.fromkeys((1, rows - 1)) if rows > 1 else ():
        yield f"by {by} of {rows}", {name: np.roll(value, by, axis=0) for name, value in gap.reference.items()}


def _first_row_only(gap: Gap) -> Answers:
    if len(next(iter(gap.reference.values()))) > 1:
        yield "", {name: np.repeat(value[:1], len(value), axis=0) for name, value in gap.reference.items()}


def _permuted(gap: Gap) -> Answers:
    """Outputs of the same shape exchanged, in the order that is nearest to the chip's outputs."""
    from scipy.optimize import linear_sum_assignment

    groups: dict[tuple[int, ...], list[str]] = {}
    for name, value in gap.reference.items():
        groups.setdefault(value.shape, []).append(name)
    answer = dict(gap.reference)
    for names in groups.values():
        chips, references = ([side[name].astype(np.float64) for name in names] for side in (gap.chip, gap.reference))
        apart = np.array([[np.square(a - b).sum() for b in references] for a in chips])
        for chip, reference in zip(*linear_sum_assignment(apart), strict=True):
            answer[names[chip]] = gap.reference[names[reference]]
    if len(groups) < len(answer):
        yield ", ".join(name for name in answer if answer[name] is not gap.reference[name]), answer


def _some(change: Callable[[NDArray[Any], int], NDArray[Any]], axes: Sequence[int]) -> Callable[[Gap], Answers]:
    """A mistake in one output, or in all: `change(values, axis)` along one of the axes."""

    def answers(gap: Gap) -> Answers:
        names = list(gap.reference)
        for chosen, axis in product([[name] for name in names] + ([names] if len(names) > 1 else []), axes):
            if all(gap.reference[name].ndim > 2 or axis == axes[0] for name in chosen):
                yield (
                    ", ".join(chosen),
                    {name: change(value, axis) if name in chosen else value for name, value in gap.reference.items()},
                )

    return answers


def _softmax(values: NDArray[Any], axis: int) -> NDArray[Any]:
    powers = np.exp(values - values.max(axis=axis, keepdims=True), dtype=np.float64)
    result: NDArray[Any] = powers / powers.sum(axis=axis, keepdims=True)
    return result


def _sigmoid(values: NDArray[Any], axis: int) -> NDArray[Any]:
    result: NDArray[Any] = 0.5 * (1 + np.tanh(0.5 * values.astype(np.float64)))
    return result


def _logit(values: NDArray[Any], axis: int) -> NDArray[Any]:
    inside = np.clip(values.astype(np.float64), 1e-12, 1 - 1e-7)
    result: NDArray[Any] = np.log(inside / (1 - inside))
    return result


def _bare(gap: Gap) -> Answers:
    if gap.bare is not None:
        yield "", gap.bare(gap.picture.tensor[None].astype(np.float32))


def _rolled(by: int, values: NDArray[Any], axis: int) -> NDArray[Any]:
    return np.roll(values, by, axis=axis)


def _one_off(gap: Gap) -> Answers:
    for by in (1, -1):
        for names, answer in _some(partial(_rolled, by), (1, -1))(gap):
            yield f"{names}, {by:+d}", answer


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "swapped channels",
        "red and blue change places, mean and std do not",
        _arithmetic(lambda x, mean, std: (x[::-1] - mean) / std),
    ),
    Mistake(
        "swapped channels, mean and std with them",
        "red and blue change places after they were normalised",
        _arithmetic(lambda x, mean, std: ((x - mean) / std)[::-1]),
    ),
    Mistake(
        "mean and std of the other channel order",
        "red is normalised as blue and blue as red",
        _arithmetic(lambda x, mean, std: (x - mean[::-1]) / std[::-1]),
    ),
    Mistake("mean not subtracted", "x / std", _arithmetic(lambda x, mean, std: x / std)),
    Mistake("mean subtracted twice", "(x - 2 mean) / std", _arithmetic(lambda x, mean, std: (x - 2 * mean) / std)),
    Mistake(
        "std omitted",
        "x - mean, of pixels 0..255 or 0..1",
        _arithmetic(lambda x, mean, std: x - mean, lambda x, mean, std: (x - mean) / 255),
    ),
    Mistake(
        "not normalised",
        "pixels as they are, 0..255 or 0..1",
        _arithmetic(lambda x, mean, std: x + 0 * mean, lambda x, mean, std: x / 255 + 0 * mean),
    ),
    Mistake(
        "/255 missing", "mean and std of 0..1 on pixels of 0..255", _arithmetic(lambda x, m, std: (255 * x - m) / std)
    ),
    Mistake("/255 doubled", "divided by 255 once too often", _arithmetic(lambda x, m, std: (x / 255 - m) / std)),
    Mistake("mean off by one grey level", "it was rounded, or pixels were", _fed(_grey_level)),
    Mistake(
        "video range",
        "pixels of 0..255 squeezed into 16..235, as for YUV",
        _arithmetic(lambda x, mean, std: (16 + x * (219 / 255) - mean) / std),
    ),
    Mistake(
        "uint8 read as int8",
        "pixels above 127 are negative",
        _arithmetic(lambda x, mean, std: (_signed(x) - mean) / std),
    ),
    Mistake("transposed", "rows and columns change places", _turned(lambda t: t.transpose(0, 2, 1))),
    Mistake("mirrored", "left and right change places", _turned(lambda t: t[:, :, ::-1])),
    Mistake("upside down", "the last row comes first", _turned(lambda t: t[:, ::-1])),
    Mistake("turned by 180 degrees", "the last pixel comes first", _turned(lambda t: t[:, ::-1, ::-1])),
    Mistake("channels last read as channels first", "N x H x W x C is taken for N x C x H x W", _turned(_interleaved)),
    Mistake(
        "padding at the other side",
        "the picture lies at another edge of the canvas",
        _padded(("above and left", 1, 1), ("below and right", 0, 0)),
    ),
    Mistake("padding on both sides", "the picture lies in the middle of the canvas", _padded(("", 0.5, 0.5))),
    Mistake("nearest neighbour", "resized by taking the nearest pixel", _fed(_nearest)),
    Mistake("bilinear", "resized by bilinear interpolation without averaging", _fed(_bilinear)),
    Mistake("rows of the batch shifted", "each image gets its neighbour's answer", _rows_shifted),
    Mistake("only the first row is run", "every image gets the first one's answer", _first_row_only),
    Mistake("outputs permuted", "outputs of one shape change places", _permuted),
    Mistake("softmax missing", "the last softmax is left out", _bare),
    Mistake("softmax doubled", "softmax of what is final already", _some(_softmax, (1, -1))),
    Mistake("sigmoid missing", "logits instead of probabilities", _some(_logit, (1,))),
    Mistake("sigmoid doubled", "sigmoid of what is final already", _some(_sigmoid, (1,))),
    Mistake("one class off", "labels begin at the wrong number", _one_off),
)


def without_softmax(model: ModelProto) -> ModelProto | None:
    """The graph without each softmax that an output follows directly or through reshaping nodes; None without one."""
    bare = type(model)()
    bare.CopyFrom(model)
    source = {out: node for node in bare.graph.node for out in node.output}
    waiting, found = [value.name for value in bare.graph.output], False
    while waiting:
        node = source.get(waiting.pop())
        if node is None:
            continue
        if node.op_type == "Softmax":
            node.op_type, found = "Identity", True
            del node.attribute[:]
        elif node.op_type in ("Reshape", "Transpose", "Concat", "Identity", "Squeeze", "Unsqueeze", "Slice", "Cast"):
            waiting += node.input
    return bare if found else None


def as_json(found: Sequence[Explanation]) -> list[Mapping[str, Any]]:
    """Explanations as JSON values, the largest share first."""
    return [
        {"mistake": e.mistake.name, "sentence": e.mistake.sentence, "share": e.share, "variant": e.variant}
        for e in found
    ]
