"""One case of a model of the user's own: the same road as a published one, with inputs that are drawn."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness import matrix
from harness.backends import registry
from harness.backends.base import BuildSpec
from harness.case import Case, Precision, Tensors
from harness.chips import Chip
from harness.errors import BuildError
from harness.export.own import ROWS_FOR_INT8, OwnModel, whole
from harness.export.own import operators as used
from harness.judge.numerics import in_precision
from harness.judge.own import judge_own
from harness.judge.verdict import Verdict
from harness.reference import own
from harness.reference.exact import PRODUCTS
from harness.run import artefacts
from harness.run.case_run import CaseRun
from harness.run.context import RunContext
from harness.run.engine import Built, CaseEngine, Variant
from harness.vendor import operators
from harness.vocabulary import Outcome
from harness.worker.process import RemoteSession, Worker

ROWS = f"give {ROWS_FOR_INT8} or more for each input, as many for all: --onnx-input NAME=FILE.npy"
OTHER = 1  # seed of the inputs that outputs are checked on between timed runs


def cases(model: OwnModel) -> list[Case]:
    """The model on every chip: at every batch of the chip where its batch is free, else at 1. INT8 only where the user
    gave rows to calibrate on: ranges of drawn inputs would not be those of real ones."""
    return [
        Case(model.name, chip.name, precision, batch)
        for chip in matrix.chips().values()
        for precision in chip.precisions
        if precision is not Precision.INT8 or not model.lacks_for_int8
        for batch in _batches(model, chip, precision)
    ]


def _batches(model: OwnModel, chip: Chip, precision: Precision) -> tuple[int, ...]:
    reduced = precision is not Precision.FP32 and chip.reduced_batches is not None
    asked = chip.reduced_batches if reduced else chip.batches
    return tuple(sorted(asked or ())) if model.free_batch else (1,)


class OwnEngine(CaseEngine):
    """The engine of the user's file: compiled as it is."""

    def __init__(self, context: RunContext, case: Case, model: OwnModel, anew: bool = False) -> None:
        self.context, self.case, self.own = context, case, model
        self.anew, self.rebuilt = anew, ""
        self.chip = matrix.chip(case.chip)
        self.variant = Variant(raw=False)

    def onnx(self, variant: Variant | None = None) -> Path:
        """Path of the file in the store, its weights inside."""
        return artefacts.own_file(self.context.settings.store, self.own)

    def outputs_of(self, variant: Variant) -> tuple[str, ...]:
        """ONNX names of the outputs."""
        return self.own.outputs

    def plain_spec(self) -> BuildSpec:
        """The spec of the file's inputs and outputs."""
        return BuildSpec(
            precision=str(self.case.precision),
            batch=self.case.batch,
            inputs=self.own.inputs,
            outputs=self.own.outputs,
            calibration=str(self.calibration()) if self.case.precision is Precision.INT8 else None,
            target=self.device.target or self.chip.target,
        )

    def calibration(self) -> Path:
        """Path of every second row that the user gave. Raises BuildError without rows."""
        if self.own.lacks_for_int8:
            raise BuildError(f"INT8 of {self.own.path.name} cannot be calibrated: {self.own.lacks_for_int8}", hint=ROWS)
        return artefacts.own_rows_file(self.context.settings.store, self.own.parted()[0])

    def check_calibration(self, path: Path) -> None:
        """Nothing: the file holds the user's own rows."""

    def spec(self, variant: Variant) -> BuildSpec:
        """As for a published model. Raises BuildError for a backend that does not compile ONNX."""
        try:
            return super().spec(variant)
        except AttributeError as error:  # it asked for the network as TorchScript, which a file does not give
            raise BuildError(
                f"{self.present.backend} compiles PyTorch modules, not ONNX files",
                hint=f"drive {self.chip.name} by another backend: --runner; there are {', '.join(registry.backends())}",
            ) from error

    @cached_property
    def unlisted(self) -> str:
        """Operators of the file, with their nodes, that the maker's list lacks, and which list that is; "" without a
        list and where it has them all."""
        name = registry.backend(self.present.backend).operators
        listed = operators.read(name) if name else None
        lacking = listed.lacks(used(whole(self.own.path))) if listed is not None else {}
        return f"{operators.told(lacking)}: not in the list of {listed.source}" if listed and lacking else ""

    def built(self, worker: Worker, variant: Variant) -> Built:
        """As for a published model. What the maker's list lacks is reported first, and the compiler runs anyway: it
        may be newer than the list. Raises BuildError."""
        if self.unlisted:
            self.context.tell_once(f"{self.own.path.name} on {self.chip.name}: {self.unlisted}")
        try:
            return super().built(worker, variant)
        except BuildError as error:
            if not self.unlisted:
                raise
            raise BuildError(f"{error.fact}; {self.unlisted}", hint=error.hint) from error


class OwnRun(CaseRun):
    """One case of the user's file on its chip. Accuracy is not asked: there are no labels."""

    engine: OwnEngine
    another_program = False  # ONNX Runtime is the reference, and the cpu's
    wide = False  # a file may hold FP16 itself
    rows = False  # an output need not have the batch at axis 0; shapes are compared with the reference's

    def __init__(self, context: RunContext, case: Case, anew: bool = False, *, model: OwnModel) -> None:
        self._begin(context, case, OwnEngine(context, case, model, anew), anew)
        self.own = model.parted()[1] if case.precision is Precision.INT8 and not model.lacks_for_int8 else model

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """Why the figures are not those of the chip; empty if they are."""
        return self.context.not_the_chip(self.chip)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The facts that every record of this case holds."""
        return {
            "backend": self.present.backend, "version": self.present.version, "device": self.device.name,
            "evidence": self.present.evidence, "file": self.own.path.name, "onnx_digest": self.own.digest,
            "inputs_digest": self.own.inputs_digest, **self._set_by_user, **self._tuned,
            **({"unlisted_operators": self.engine.unlisted} if self.engine.unlisted else {}), **self._calibrated_on,
        }  # fmt: skip

    @property
    def _calibrated_on(self) -> dict[str, Any]:
        if self.case.precision is not Precision.INT8:
            return {}
        return {"calibration": f"{len(self.engine.own.parted()[0][0])} rows of --onnx-input, none of them judged"}

    def inputs(self, raw: bool = False) -> Tensors:
        """One batch of drawn inputs."""
        return self.own.draw(self.case.batch)

    @cached_property
    def different(self) -> int:
        """Every row of a batch: each is drawn."""
        return self.case.batch

    def changed(self) -> Tensors:
        """Other inputs of the same shapes."""
        return self.own.draw(self.case.batch, OTHER)

    @property
    def peers(self) -> tuple[str, ...]:
        """None: there is no PyTorch module."""
        return ()

    @cached_property
    def plain(self) -> Tensors:
        """ONNX Runtime's outputs for the inputs, in the file's own data types."""
        return own.outputs(self.own, self.inputs())

    @cached_property
    def _exact(self) -> tuple[Tensors | None, str]:
        exact, why = self.context.references.exact(self.own, self.inputs())
        if exact is not None and (exact := own.settled(self.plain, exact)) is None:
            why = "outputs have other shapes in FP64"
        return exact, why

    @property
    def wanted(self) -> Tensors:
        """Outputs of the reference for the inputs: in FP64 where the file can be computed so."""
        exact, _ = self._exact
        return self.plain if exact is None else exact

    @cached_property
    def rounded(self) -> Tensors | None:
        """The file's outputs in the arithmetic of the case's precision: what that costs. None at FP32, whose cost ONNX
        Runtime shows, and where there is no FP64 to compare with."""
        if self.case.precision is Precision.FP32 or self._exact[0] is None:
            return None
        return self.context.references.exact(self.own, self.inputs(), self.case.precision)[0]

    def judged(self, outputs: Tensors) -> Verdict:
        """The verdict on outputs of the chip for one batch, which tells what the reference is."""
        verdict = self._against(outputs, self.rounded)
        exacter = in_precision(verdict, self.case.precision)
        if exacter.outcome is not verdict.outcome and self._beyond_products(outputs):
            verdict = exacter
        exact, why = self._exact
        told = "FP64 reference" if exact is not None else f"reference in the file's own data types: {why}"
        return replace(verdict, text=f"{verdict.text}; {told}", details={**verdict.details, "reference": told})

    def _against(self, outputs: Tensors, rounded: Tensors | None) -> Verdict:
        return judge_own(outputs, self.wanted, self.case.precision, self.case.batch, self.plain, rounded)

    def _beyond_products(self, outputs: Tensors) -> bool:
        """Whether outputs are too exact for an engine that computes just the file's products in the case's precision.
        Without products a file may be as exact as in FP32."""
        if self.rounded is None or not PRODUCTS.keys() & used(whole(self.own.path)).keys():
            return False
        least, _ = self.context.references.exact(self.own, self.inputs(), self.case.precision, products_only=True)
        return in_precision(self._against(outputs, least), self.case.precision).outcome is Outcome.INVALID

    def compare_devices(self, sessions: dict[str, RemoteSession]) -> None:
        """Nothing: there are no other images."""

    def turned(self) -> tuple[Tensors, Tensors]:
        """(chip's outputs for the batch in reverse order, its outputs for the batch with their rows reversed)."""
        order = np.arange(self.case.batch)[::-1]
        backwards = self.session.run(own.permuted(self.own, self.inputs(), order), finite=False)
        return backwards, {name: value[order] for name, value in self.first.items()}
