"""The data set: counted, ordered samples with their truth, and whether it is the whole published set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.case import Image
from harness.errors import DataError


class Absent(DataError):  # noqa: N818 - a state of the data, not a fault
    """No part of the data set is there. Any other DataError means that a part is there and damaged."""


@dataclass(frozen=True)
class Sample:
    """One image. `id` is its name in result files ("0--Parade/0_Parade_marchingband_1_20",
    "ILSVRC2012_val_00000001")."""

    id: str
    read: Callable[[], Image]  # raises DataError: missing, truncated, unreadable


@dataclass(frozen=True)
class Dataset:
    """Counted, ordered images with their truth."""

    name: str  # "widerface", ..., "scenes"
    kind: str  # "whole" | "partial" | "scenes"
    samples: Sequence[Sample]
    total: int  # samples in the whole published set
    truth: Sequence[Any] | None
    """One entry per sample, of the type that its scorer takes; None: the reference's own predictions are the truth."""
    digest: str  # of names, sizes and labels: part of every record and key
    note: str = ""  # for the user: files that were looked for and are missing

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indices: Sequence[int]) -> Dataset:
        """The samples at those indices, as a data set of kind "partial" ("scenes" stays)."""
        if list(indices) == list(range(len(self))):
            return self
        return replace(
            self,
            kind="scenes" if self.kind == "scenes" else "partial",
            samples=[self.samples[i] for i in indices],
            truth=None if self.truth is None else [self.truth[i] for i in indices],
            digest=hashlib.sha256(f"{self.digest} {list(indices)}".encode()).hexdigest(),
        )

    def sample(self, limit: int) -> Dataset:
        """`limit` samples drawn at random, in the set's order, as `take` gives them. The draw depends on their names
        alone (lowest SHA-256), so that every machine draws the same, and a larger sample holds the smaller ones: the
        first images of a set are of one folder or one event, and no sample of it."""
        return self.parts([limit])[0] if limit < len(self) else self

    def parts(self, ends: Sequence[int]) -> list[Dataset]:
        """Disjoint parts in the random order of `sample`, each as `take` gives it: the first `k` parts together hold
        the samples of sample(ends[k - 1])."""
        digests = [hashlib.sha256(f"sample {one.id}".encode()).digest() for one in self.samples]
        drawn = sorted(range(len(self)), key=digests.__getitem__)
        return [self.take(sorted(drawn[begin:end])) for begin, end in zip([0, *ends], ends, strict=False)]

    def head(self, limit: int) -> Dataset:
        """The first `limit` samples, as `take` gives them."""
        return self.take(range(min(limit, len(self))))
