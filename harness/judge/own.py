"""Outputs of a model of the user's own: numbers within a tolerance, whole numbers equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.case import Precision, Tensors
from harness.errors import InvalidMeasurement
from harness.judge.accuracy import SLACK
from harness.judge.numerics import judge_numerics, losses
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

FEED = "give the file the inputs that it is made for: --onnx-input NAME=LOW:HIGH, or --onnx-input NAME=FILE.npy"


def judge_own(
    chip: Tensors,
    reference: Tensors,
    precision: Precision,
    batch: int | None,
    plain: Tensors | None = None,
    rounded: Tensors | None = None,
) -> Verdict:
    """The verdict on all outputs of one batch against the reference. Where that is in FP64, `plain` has the outputs of
    ONNX Runtime in the file's own data types, and `rounded` those in the arithmetic of FP16 or INT8 (reference.exact).

    Floating-point outputs are judged as those of the published models are (judge_numerics): row by row where axis 0 is
    the `batch`, else as one. Whole numbers and booleans must be equal at FP32; at lower precision at most 1 % of them
    may differ, because the nearest class may change with the last digit. What `rounded`, else `plain`, loses against
    the reference is the unit of a chip's error, and a whole number in which they differ may be any of them. An output
    that is empty must have the reference's shape. Raises InvalidMeasurement when all are, or a floating-point one of
    the reference is not finite."""
    if chip.keys() != reference.keys():
        named = ", ".join(sorted(chip)) or "none"
        return Verdict(Outcome.FAIL, f"outputs {named} instead of {', '.join(sorted(reference))}")
    _check(reference)
    whole = [name for name, value in reference.items() if value.dtype.kind != "f" or not value.size]
    for name in whole:
        if chip[name].shape != reference[name].shape:
            return Verdict(Outcome.FAIL, f"{name} has shape {chip[name].shape}, the reference {reference[name].shape}")
    plain = reference if plain is None else plain
    alike = _like(rounded or {}, reference)
    lossy = {**plain, **alike}
    told = [_whole(name, chip, reference, precision, (plain, lossy)) for name in whole]
    floats = [name for name in reference if name not in whole]
    if floats:
        as_rows = {name: reference[name].shape[:1] == (batch,) for name in floats}
        ours, wanted, costly = (
            {n: v[n] if as_rows[n] else np.asarray(v[n])[None] for n in floats} for v in (chip, reference, lossy)
        )
        seen = wanted if plain is not reference else {}
        known = floats if rounded is None else alike
        loss = {name: one for name, one in losses(costly, seen).items() if one.rms and name in known}
        kind, arithmetic = f"FP{8 * min(plain[name].dtype.itemsize for name in floats)}", str(precision).upper()
        of = f"ONNX Runtime in {kind}" if rounded is None else f"{arithmetic} itself"
        verdict = judge_numerics(ours, wanted, precision, loss, of_a_file=of)
        beyond = [name for name, value in costly.items() if rounded is not None and not np.isfinite(value).all()]
        if beyond:
            text = f"{verdict.text}; {arithmetic} itself makes {', '.join(beyond)} NaN or infinite in this file"
            verdict = replace(verdict, text=text, details={**verdict.details, "beyond": ", ".join(beyond)})
    else:
        verdict = Verdict(Outcome.PASS, f"whole numbers only, at {precision}")
    wrong = [text for text, fine in told if not fine]
    outcome = Outcome.FAIL if wrong else verdict.outcome
    return replace(verdict, outcome=outcome, text="; ".join([*(text for text, _ in told), verdict.text]))


def _like(rounded: Tensors, reference: Tensors) -> Tensors:
    """Those of the shape that they have in the reference: how many rows there are may depend on the last digit."""
    return {name: value for name, value in rounded.items() if value.shape == reference[name].shape}


def _check(reference: Tensors) -> None:
    """Raises InvalidMeasurement where the reference's outputs are all empty, or one of them is not finite."""
    if not any(value.size for value in reference.values()):
        raise InvalidMeasurement(
            f"the reference's {', '.join(reference)} is empty: there is nothing to compare", hint=FEED
        )
    for name, value in reference.items():
        bad = value.size - int(np.isfinite(value).sum()) if value.dtype.kind == "f" else 0
        if bad:
            raise InvalidMeasurement(
                f"the reference's own {name} has {bad} of {value.size} values that are NaN or infinite", hint=FEED
            )


def _whole(
    name: str, chip: Tensors, reference: Tensors, precision: Precision, others: Sequence[Tensors]
) -> tuple[str, bool]:
    """(what was seen of an output of whole numbers, or of none, whether it is right)."""
    if not reference[name].size:
        return f"{name}: empty, as the reference's", True
    ours, wanted = chip[name].ravel(), reference[name].ravel()
    differing = np.flatnonzero(np.all([ours != one[name].ravel() for one in ({name: wanted}, *others)], axis=0))
    allowed = 0 if precision is Precision.FP32 else int(SLACK * wanted.size)
    if not differing.size:
        return f"{name}: {wanted.size} whole numbers equal", True
    first = int(differing[0])
    text = f"{name}: {differing.size} of {wanted.size} whole numbers differ (allowed {allowed})"
    return f"{text}: number {first} is {ours[first]} for {wanted[first]}", differing.size <= allowed
