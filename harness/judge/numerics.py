"""Whether raw outputs of a chip are those of the reference, and within which tolerances. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.case import Precision, Tensors
from harness.errors import InvalidMeasurement
from harness.judge.differences import differences
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome


@dataclass(frozen=True)
class Tolerance:
    """Allowed deviation of one output of one sample from the reference: `cosine` at least; `largest` and `rms` error at
    most, relative to the reference's largest and root-mean-square value."""

    cosine: float
    largest: float
    rms: float

    def __str__(self) -> str:
        return f"cosine >= {self.cosine:g}, largest error <= {self.largest:g}, rms error <= {self.rms:g}"


@dataclass(frozen=True)
class Loss:
    """What a network's arithmetic alone costs one output (reference.arithmetic): `rms` and `largest` error as in
    Tolerance, of the image that loses most."""

    rms: float
    largest: float


UNITS: dict[Precision, float] = {Precision.FP16: 5.0, Precision.BF16: 2.0, Precision.INT8: 2.0}
"""A chip's error may be so many times the loss of the arithmetic, where that is more than TOLERANCES. Measured on
vendors' own toolchains (docs/measured.md): FP16 0.9 to 3.6 times, BF16 0.7 to 1.5 times, INT8 0.5 to 1.8 times. BF16
in the place of FP16 loses 8 to 11 times as much, INT8 calibrated on images prepared in another way 3.3 to 21 times
(seeded weights)."""


UNITS_OF_A_FILE: dict[Precision, float] = {**UNITS, Precision.FP32: 5.0}
"""The same for a file of the user's, whose loss is that of ONNX Runtime in FP32 against FP64. The published models lose
less than 1e-4 in FP32, else their reference is INVALID; a file may lose any share, and no chip has to lose less."""


TOO_EXACT = 0.06
"""An engine that errs by less than so many times the loss of the arithmetic computes in a higher precision: FP16 in the
place of INT8 errs by 0.02 to 0.045 times, FP32 in the place of FP16 by 0.001 times and of BF16 by less, INT8 in 10 of
82 layers alone by 0.19 times. FP16 in the place of BF16 errs by 0.1 times and passes: it is no slower."""


MISPLACED = 0.1
"""A row that errs so many times less against another row of the reference than against its own holds the wrong row."""


FEW = 16
"""So many values of FP32 are all numbers of FP16 once in 2^(13 x 16) times."""
MOST_RMS = 0.7
"""No loss allows a larger rms error: its power would be half of the output's. An output of zeros has 1 and must fail,
also where INT8 itself costs 0.54 (RetinaFace-mobilenet0.25, published weights, one range a tensor): there QNN and RKNN
have 0.55 and 0.57, and INT8 calibrated on images without their mean subtracted has 0.85 and more."""


TOLERANCES: dict[Precision, Tolerance] = {
    # FP32 sums in another order: 2e-6 measured on these networks; Winograd and TF32 lose two digits more
    Precision.FP32: Tolerance(0.99999, 1e-3, 5e-4),
    # every result rounded to FP16, batch norm folded first: 7e-3 rms, 1.2e-2 largest, cosine 0.99998 measured on
    # RetinaFace with its published weights and on a seeded RegNetY; BF16 gives 4.6e-2 rms, which must not pass
    Precision.FP16: Tolerance(0.999, 5e-2, 2e-2),
    # three bits fewer than FP16, so eight times what that may lose; measured: 4.6e-2 to 1.0e-1 rms
    Precision.BF16: Tolerance(0.987, 4e-1, 1.6e-1),
    # a rounding step is 1/127 of a tensor's range; vendors accept a cosine of 0.99 for a layer, outputs deviate more
    Precision.INT8: Tolerance(0.97, 5e-1, 2.5e-1),
}


def losses(rounded: Tensors, reference: Tensors) -> dict[str, Loss]:
    """The loss of each output. `rounded` and `reference` map output names to arrays of equal shape, axis 0 being the
    images. An output that is not finite when rounded has none: its tolerance is that of the precision."""
    found = {}
    for name, wanted in reference.items():
        if not np.isfinite(rounded[name]).all():
            continue
        pairs = zip(np.asarray(rounded[name], np.float64), np.asarray(wanted, np.float64), strict=True)
        seen = [_deviation(name, image, *pair) for image, pair in enumerate(pairs)]
        loss = Loss(max(d["rms"] for d in seen), max(d["largest"] for d in seen))
        if math.isfinite(loss.rms) and math.isfinite(loss.largest):  # not so where the reference is all zeros
            found[name] = loss
    return found


def tolerance_of(precision: Precision, loss: Loss | None, of_a_file: bool = False) -> Tolerance:
    """What is asked of an output: the tolerance of `precision`, or `UNITS` (`UNITS_OF_A_FILE`) times its loss where
    that is more, up to `MOST_RMS`. The cosine asked is at most sqrt(1 - r^2), which an rms error of r leaves at
    least."""
    asked, units = TOLERANCES[precision], (UNITS_OF_A_FILE if of_a_file else UNITS).get(precision)
    if loss is None or units is None:
        return asked
    rms = min(units * loss.rms, MOST_RMS)
    cosine = min(asked.cosine, math.sqrt(1 - rms**2))
    return Tolerance(cosine, max(asked.largest, units * loss.largest), max(asked.rms, rms))


def within_engine(precision: Precision, loss: Mapping[str, Loss]) -> dict[str, float]:
    """Bounds, as judge_numerics takes them, for outputs of one engine for the same images at other places of a batch.
    It rounds them in the same way or in another order, so they may differ by `UNITS` times the loss of the arithmetic
    where that is less than TOLERANCES; {} where the loss is not known, and at FP32."""
    if precision not in UNITS or not loss:
        return {}
    asked, units = TOLERANCES[precision], UNITS[precision]
    rms = min(asked.rms, units * max(one.rms for one in loss.values()))
    largest = min(asked.largest, units * max(one.largest for one in loss.values()))
    return {"cosine": max(asked.cosine, math.sqrt(1 - rms**2)), "largest": largest, "rms": rms}


def judge_numerics(
    chip: Tensors,
    reference: Tensors,
    precision: Precision,
    loss: Mapping[str, Loss] | None = None,
    bounds: Mapping[str, float] | None = None,
    of_a_file: str = "",
) -> Verdict:
    """PASS when every output of every sample of the chip is within its tolerance, else FAIL. This is that of
    tolerance_of, with the figures of `bounds` in the place of its own. For a file of the user's, `of_a_file` says
    whose error the loss is, such as "ONNX Runtime in FP32".

    `chip` and `reference` map output names to arrays of equal shape, axis 0 being the batch. Each sample is compared by
    itself, so that one dropped row is found in a large batch too. A value that is not finite fails. Raises
    InvalidMeasurement when the reference is empty or not finite."""
    loss = loss or {}
    broken = _not_comparable(chip, reference)
    if broken:
        return Verdict(Outcome.FAIL, broken)
    seen = [
        _deviation(name, sample, np.asarray(chip[name][sample], np.float64), np.asarray(rows, np.float64))
        for name, wanted in reference.items()
        for sample, rows in enumerate(wanted)
    ]
    limits = {
        name: replace(tolerance_of(precision, loss.get(name), bool(of_a_file)), **(bounds or {})) for name in reference
    }
    worst = {
        "cosine": max(seen, key=lambda d: (1 - d["cosine"]) / (1 - limits[d["output"]].cosine)),
        "largest": max(seen, key=lambda d: d["largest"] / limits[d["output"]].largest),
        "rms": max(seen, key=lambda d: d["rms"] / limits[d["output"]].rms),
    }
    asked = Tolerance(*(getattr(limits[worst[key]["output"]], key) for key in ("cosine", "largest", "rms")))
    would = Tolerance(*(worst[key][key] for key in ("cosine", "largest", "rms")))
    units, told = _in_units(worst, loss, of_a_file or "PyTorch in this arithmetic")
    details: dict[str, Any] = {**_finite(vars(would)), "tolerance": vars(asked), **_finite(units)}
    observed = f"cosine {would.cosine:.6f}, largest error {would.largest:.3g}, rms error {would.rms:.3g}{told}"
    basis = f"{len(reference)} outputs of {len(next(iter(reference.values())))} rows at {precision}"
    missed = [
        key
        for key, ok in (
            ("cosine", would.cosine >= asked.cosine),
            ("largest", would.largest <= asked.largest),
            ("rms", would.rms <= asked.rms),
        )
        if not ok
    ]
    if not missed:
        return Verdict(Outcome.PASS, f"{observed}; asked {asked}; worst of {basis}", details)
    at = worst[missed[0]]
    told, more = _shown(chip, reference, at, limits[at["output"]].rms)
    text = f"{observed}; asked {asked}; would pass with {_loose(would)}; worst of {basis}: {told}"
    return Verdict(Outcome.FAIL, text, {**details, **more})


def _shown(chip: Tensors, reference: Tensors, at: dict[str, Any], allowed: float) -> tuple[str, dict[str, Any]]:
    """What is told of the worst deviation, and what the record keeps: its place, values, how its row differs, and which
    other row it holds, within an rms error `allowed`."""
    name, sample = at["output"], at["element"][0]
    ours, wanted = (np.asarray(side[name][sample], np.float64) for side in (chip, reference))
    how = differences(ours, wanted)
    text = (
        f"{name}{at['element']} is {at['chip']:.6g}, reference {at['reference']:.6g}, "
        f"rms error of that row {at['rms']:.3g}"
    )
    return text + _misplaced(ours, at["rms"], allowed, reference), {
        "worst": _finite(at),
        **({"differences": {"output": name, "sample": sample, **how}} if how else {}),
    }


def _misplaced(ours: NDArray[np.float64], error: float, allowed: float, reference: Tensors) -> str:
    """ "; it holds what row 2 of scores should", for a row of the chip's that errs by `error` (rms): that row of the
    reference is nearest to it, within `allowed` and `MISPLACED` x `error`. "" where none is."""
    others = [
        (_deviation(name, row, ours, wanted)["rms"], row, name)
        for name, rows in reference.items()
        for row, wanted in enumerate(np.asarray(rows, np.float64))
        if wanted.shape == ours.shape
    ]
    least, row, name = min(others)
    return f"; it holds what row {row} of {name} should" if least <= min(allowed, MISPLACED * error) else ""


def in_half(chip: Tensors, reference: Tensors) -> str:
    """Name of the first output of which every value is a number that FP16 has, where hardly one of the reference's is;
    "" where none is. Rounded to FP16, outputs err by less than FP32 may. Few values are such numbers by chance."""

    def share(values: NDArray[Any]) -> float:
        with np.errstate(over="ignore"):
            return float(np.mean(values == values.astype(np.float16)))

    told = (name for name, wanted in reference.items() if wanted.size >= FEW and name in chip)
    return next((name for name in told if share(chip[name]) == 1 and share(reference[name]) < 0.5), "")


def in_precision(verdict: Verdict, precision: Precision) -> Verdict:
    """The verdict of judge_numerics, or INVALID for outputs within their tolerance that are too exact (`TOO_EXACT`):
    the engine computes in a higher precision than `precision`, and neither its accuracy nor its speed is that of it."""
    units = verdict.details.get("units")
    if verdict.outcome is not Outcome.PASS or precision not in UNITS or units is None or units >= TOO_EXACT:
        return verdict
    cause = f"the engine computes in a higher precision than {precision}, whose errors are 0.2 x that and more"
    return Verdict(Outcome.INVALID, f"{verdict.text}: {cause}", verdict.details)


def _in_units(
    worst: Mapping[str, Mapping[str, Any]], loss: Mapping[str, Loss], what: str
) -> tuple[dict[str, Any], str]:
    """(facts, text): the loss of the outputs that are worst by each figure, and the rms error in units of it."""
    of = {key: loss.get(seen["output"]) for key, seen in worst.items()}
    if any(one is None for one in of.values()):
        return {}, ""
    known = {key: one.largest if key == "largest" else one.rms for key, one in of.items() if one is not None}
    units = _over(worst["rms"]["rms"], known["rms"])
    facts = {"units": units, "arithmetic_rms": known["rms"], "loss": known}
    return facts, f" ({units:.3g} x the error of {what})"


def tolerance_again(precision: Precision, loss: Mapping[str, float] | None, of_a_file: bool = False) -> Tolerance:
    """The tolerance that judge_numerics asked, from the fact `loss` of its verdict."""
    if loss is None:
        return TOLERANCES[precision]
    of = {key: Loss(error, error) for key, error in loss.items()}
    return Tolerance(
        *(getattr(tolerance_of(precision, of[key], of_a_file), key) for key in ("cosine", "largest", "rms"))
    )


def _not_comparable(chip: Tensors, reference: Tensors) -> str:
    """Why the chip's outputs cannot be compared with the reference's, or "". Raises InvalidMeasurement when the
    reference is empty or not finite."""
    if not reference:
        raise InvalidMeasurement("the reference has no outputs", hint="name the outputs of the model's row")
    if chip.keys() != reference.keys():
        return f"outputs {', '.join(sorted(chip)) or 'none'} instead of {', '.join(sorted(reference))}"
    for name, wanted in reference.items():
        if wanted.size == 0 or not np.isfinite(wanted).all():
            raise InvalidMeasurement(
                f"the reference's own {name} is empty or not finite", hint="check the weights and the input"
            )
        broken = _broken(name, chip[name], wanted)
        if broken:
            return broken
    return ""


def _broken(name: str, ours: NDArray[Any], wanted: NDArray[Any]) -> str:
    """Why one output cannot be compared (shape, values that are not finite), or ""."""
    if ours.shape != wanted.shape:
        return f"{name} has shape {ours.shape}, the reference {wanted.shape}"
    bad = ~np.isfinite(np.asarray(ours, np.float64))
    if not bad.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{name} has {int(bad.sum())} of {bad.size} values not finite, the first {ours[at]} at {list(at)}"


def _deviation(name: str, sample: int, ours: NDArray[np.float64], wanted: NDArray[np.float64]) -> dict[str, Any]:
    """Deviation of one output of one sample, with the element that deviates most."""
    error = np.abs(ours - wanted)
    at = np.unravel_index(int(np.argmax(error)), error.shape)
    norms = float(np.linalg.norm(ours)), float(np.linalg.norm(wanted))
    cosine = 0.0 if error.any() else 1.0  # of equal outputs too, of which rounding leaves 0.9999999999999998
    if error.any() and min(norms) > 0:
        cosine = float(np.vdot(ours / norms[0], wanted / norms[1]))
    return {
        "output": name,
        "element": [sample, *(int(i) for i in at)],
        "chip": float(ours[at]),
        "reference": float(wanted[at]),
        "cosine": min(cosine, 1.0),
        "largest": _over(float(error.max()), float(np.abs(wanted).max())),
        "rms": _over(float(np.linalg.norm(error)), norms[1]),
    }


def _over(error: float, size: float) -> float:
    return error / size if size else math.inf if error else 0.0


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with None for infinite ones, because JSON has no infinity."""
    return {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in values.items()}


def _loose(seen: Tolerance) -> Tolerance:
    """The tightest tolerance, rounded to two digits, under which `seen` would pass."""

    def up(error: float) -> float:
        if not error or math.isinf(error):
            return error
        step = 10.0 ** (math.floor(math.log10(error)) - 1)
        return math.ceil(error / step) * step

    return Tolerance(math.floor(seen.cosine * 1e6) / 1e6, up(seen.largest), up(seen.rms))
