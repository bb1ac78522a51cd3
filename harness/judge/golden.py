"""The suite's preparation, reading and scoring, compared with the results of the authors' programs for one input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome


@dataclass(frozen=True)
class Compared:
    """One result of the suite, and the authors'. Arrays of numbers, of text lines, or checksums."""

    what: str  # "picture A, prepared"
    ours: NDArray[Any]
    authors: NDArray[Any]
    tolerance: float = 0.0  # largest absolute difference that a build of a library may make


def difference(compared: Compared) -> str:
    """What differs, in words; "" where nothing does."""
    ours, authors = np.asarray(compared.ours), np.asarray(compared.authors)
    if ours.shape != authors.shape:
        return f"{compared.what}: {_shape(ours)} values, the authors' program gives {_shape(authors)}"
    if ours.dtype.kind in "US" or authors.dtype.kind in "US":
        wrong = np.flatnonzero(ours.ravel() != authors.ravel())
    else:
        apart = np.abs(ours.astype(np.float64) - authors.astype(np.float64)).ravel()
        wrong = np.flatnonzero(~(apart <= compared.tolerance))  # NaN is wrong
    if not wrong.size:
        return ""
    first = int(wrong[0])
    return (
        f"{compared.what}: {wrong.size} of {ours.size} values differ; number {first} is {ours.ravel()[first]}, "
        f"the authors' {authors.ravel()[first]}"
    )


def judge_golden(compared: Sequence[Compared]) -> Verdict:
    """PASS when every result is the authors' within its tolerance, FAIL with the first that is not. A FAIL is the
    suite's fault or that of a library it uses, not the chip's: no other verdict of the case can be trusted."""
    wrong = [text for text in map(difference, compared) if text]
    details = {"compared": len(compared), "differing": len(wrong)}
    if not wrong:
        return Verdict(Outcome.PASS, f"{len(compared)} results equal those of the authors' programs", details)
    text = f"{len(wrong)} of {len(compared)} results are not those of the authors' programs: {wrong[0]}"
    return Verdict(Outcome.FAIL, f"{text}; the suite or a library that it uses is wrong, not the chip", details)


def _shape(array: NDArray[Any]) -> str:
    return " x ".join(map(str, array.shape)) or "1"
