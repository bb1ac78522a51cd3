"""The models of a run as their authors made them: weights, ONNX and TorchScript files, answers of the reference."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.case import Precision, Predictions, Tensors
from harness.datasets.base import Dataset
from harness.errors import InvalidMeasurement
from harness.export import export
from harness.export.own import OwnModel
from harness.judge.accuracy import RUINED
from harness.judge.numerics import Loss, judge_numerics, losses
from harness.metrics.changes import compared
from harness.models.base import Model, Protocol
from harness.reference import arithmetic, eager, predictions
from harness.reference.exact import NotExact
from harness.run import artefacts
from harness.run.artefacts import ResolvedWeights
from harness.run.prepared import PreparedImages
from harness.run.settings import Settings
from harness.vocabulary import Outcome

if TYPE_CHECKING:
    from torch import nn

ANSWERED_AGAIN = 2  # images that the reference answers once more when a verdict is red
OF_FP32 = 1e-4  # rms: these networks lose 1e-6 to 1e-5 in FP32; TF32, FP16 and BF16 lose from 3e-4 on


class References:
    """Weights, files made from them, and answers of the reference. Each is made once, on first use; expensive ones are
    kept in the store."""

    def __init__(
        self, settings: Settings, dataset: Callable[[Model], Dataset], prepared: Callable[[], PreparedImages]
    ) -> None:
        """`dataset` gives a model's data set in this run, `prepared` the images that were prepared in it."""
        self.settings = settings
        self._dataset, self._prepared = dataset, prepared
        self._losses: dict[tuple[str, str, Precision], dict[str, Loss]] = {}
        self._not_exact: dict[tuple[str, Precision, bool], str] = {}  # why a user's file has no FP64
        self._weights: dict[str, ResolvedWeights] = {}
        self._networks: dict[str, nn.Module] = {}
        self._answers: dict[tuple[str, str, str], tuple[list[Predictions], float]] = {}

    def weights(self, model: Model) -> ResolvedWeights:
        """The published checkpoint in --data, else seeded weights. Raises WeightsError."""
        if model.name not in self._weights:
            self._weights[model.name] = artefacts.resolve_weights(self.settings.store, model, self.settings.data)
        return self._weights[model.name]

    def network(self, model: Model) -> nn.Module:
        """The reference: eager PyTorch, FP32, on the CPU. It is channels last, which takes up to a third less time; the
        peer that is timed has PyTorch's default layout."""
        if model.name not in self._networks:
            import torch

            made = eager.network(model, self.weights(model).path).to(memory_format=torch.channels_last)
            self._networks = {model.name: made}  # only the latest, because large networks take much memory
        return self._networks[model.name]

    def eager(self, model: Model, images: NDArray[np.float32]) -> Tensors:
        """Outputs of the reference for prepared images (N, 3, H, W), by ONNX name."""
        return eager.outputs(self.network(model), model.outputs, images)

    def exported(self, model: Model, protocol: Protocol) -> Path:
        """Path of the ONNX file, checked against PyTorch. Raises ExportError."""
        return self._onnx(model, protocol, nms=False)

    def exported_with_suppression(self, model: Model, protocol: Protocol) -> Path:
        """Path of the ONNX file that ends in the suppression of boxes, for chips that run it. Raises ExportError."""
        return self._onnx(model, protocol, nms=True)

    def _onnx(self, model: Model, protocol: Protocol, nms: bool) -> Path:
        return artefacts.onnx_file(
            self.settings.store, model, protocol, self.weights(model), lambda: self.network(model), nms
        )

    def traced(self, model: Model, protocol: Protocol) -> Path:
        """Path of the network as TorchScript."""
        resolved = self.weights(model)
        return artefacts.torchscript_file(
            self.settings.store, model, protocol, resolved, lambda: eager.network(model, resolved.path)
        )

    def answers(self, model: Model, protocol: Protocol, dataset: Dataset) -> tuple[list[Predictions], float]:
        """(the reference's predictions for every image of the data set, seconds they took)."""
        memo = (model.name, protocol.name, dataset.digest)
        if memo not in self._answers:
            self._answers[memo] = artefacts.reference_answers(
                self.settings.store,
                model,
                protocol,
                self.weights(model),
                dataset,
                lambda: self.network(model),
                self._prepared().ahead(dataset.name, protocol, False),
                lambda: self.settings.progress(f"reference {model.name}", len(dataset)),
            )
        return self._answers[memo]

    def witnesses(self, model: Model, protocol: Protocol, count: int) -> Tensors:
        """The reference's raw outputs, by ONNX name, for the first `count` images of the data set."""
        images = self.images(model, protocol, count)
        return artefacts.witness_outputs(
            self.settings.store, model, protocol, self.weights(model), images, lambda: self.network(model)
        )

    def check_reference(self, model: Model, protocol: Protocol, count: int) -> None:
        """The reference on the first `count` images once more: as it was kept, and as ONNX Runtime computes the
        exported file. Raises InvalidMeasurement when either differs: then it is not the chip that is wrong."""
        images = self.images(model, protocol, count)
        today = predictions.raw_outputs(self.network(model), model, images)
        kept, file = self.witnesses(model, protocol, count), self.exported(model, protocol)
        beside: dict[str, tuple[Tensors, str]] = {
            "its kept outputs": (kept, f"delete the folder witness in {self.settings.store.root}, then run again"),
            "ONNX Runtime on the exported file": (
                dict(zip(model.outputs, export.computed(file, model.input, images), strict=True)),
                f"delete {file.parent}, then run again; if the result is the same, the export is wrong: report it",
            ),
        }
        for what, (found, hint) in beside.items():
            verdict = judge_numerics(found, today, Precision.FP32)
            if verdict.outcome is Outcome.FAIL:
                raise InvalidMeasurement(
                    f"eager PyTorch and {what} differ, so it is not the chip that is wrong: {verdict.text}", hint=hint
                )

    def check_answers(
        self, model: Model, protocol: Protocol, dataset: Dataset, answered: Sequence[Predictions]
    ) -> None:
        """A few images are answered by the reference once more. Raises InvalidMeasurement when an answer is not the one
        that the chip's is compared with, one for each image of `dataset`: then it is not the chip that is wrong."""
        places = sorted(random.sample(range(len(dataset)), min(ANSWERED_AGAIN, len(dataset))))
        images = self._prepared().ahead(dataset.name, protocol, False)(dataset.take(places).samples)
        today = predictions.of_the_reference(self.network(model), model, protocol, images, lambda done: None)
        # answers turn over at their thresholds when images have other neighbours in a batch, but not by half
        moved = compared(model.task, today, [answered[place] for place in places])
        for place, difference in zip(places, moved, strict=True):
            if difference.share > RUINED:
                raise InvalidMeasurement(
                    f"the reference's answer for {dataset.samples[place].id} is not the one that the chip's is "
                    "compared with: it is not the chip that is wrong",
                    hint=f"delete the folder reference in {self.settings.store.root}, then run again",
                )

    def loss(self, model: Model, protocol: Protocol, precision: Precision) -> dict[str, Loss]:
        """What the arithmetic of `precision` alone costs each output, by ONNX name, on the first images of the data
        set; {} for FP32 where `Settings.exact` is off."""
        if precision is Precision.FP32 and not self.settings.exact:
            return {}
        memo = (model.name, protocol.name, precision)
        if memo not in self._losses:
            count = arithmetic.IMAGES_OF_HEAVY if model.heavy else arithmetic.IMAGES
            images = self.images(model, protocol, count)
            rounded = artefacts.rounded_outputs(
                self.settings.store, model, protocol, self.weights(model), images, precision,
                lambda: self.network(model),
            )  # fmt: skip
            wanted = self.witnesses(model, protocol, count)
            plain = precision is not Precision.FP32
            found = losses(rounded, wanted) if plain else losses(wanted, rounded)
            worst = max((loss.rms for loss in found.values()), default=0.0)
            if not plain and worst > OF_FP32:
                raise InvalidMeasurement(
                    f"the reference loses {worst:.2g} (rms) against FP64; FP32 loses less than {OF_FP32:g}",
                    hint="let PyTorch compute in FP32 (no TF32, no BF16: TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, "
                    "ONEDNN_DEFAULT_FPMATH_MODE), delete the folders witness and reference of the cache, run again",
                )
            self._losses[memo] = found
        return self._losses[memo]

    def exact(
        self,
        model: OwnModel,
        inputs: Tensors,
        precision: Precision = Precision.FP32,
        products_only: bool = False,
    ) -> tuple[Tensors | None, str]:
        """(outputs of a user's file in FP64, or in the arithmetic of FP16 or INT8, see reference.exact; ""), or (None,
        why there are none)."""
        if not self.settings.exact:
            return None, "the tier quick does not compute in FP64"
        of = (model.digest, precision, products_only)
        if of not in self._not_exact:
            try:
                return artefacts.exact_outputs(self.settings.store, model, inputs, precision, products_only), ""
            except NotExact as error:
                self._not_exact[of] = str(error)
        return None, self._not_exact[of]

    def images(self, model: Model, protocol: Protocol, count: int) -> NDArray[np.float32]:
        """The first `count` images of the data set, prepared as the reference is fed, (N, 3, H, W)."""
        dataset = self._dataset(model)
        prepare = self._prepared().prepare(dataset.name, protocol, False)
        images = np.stack([prepare(sample).tensor for sample in dataset.head(count).samples])
        return images.astype(np.float32, copy=False)
