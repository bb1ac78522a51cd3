"""The words of the suite, each once: outcomes, stages, marks, metrics. Nothing else lists them again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(str, Enum):
    """What became of one stage of one case, worst first. The first four and PASS are verdicts or errors of something
    that ran; SKIP means that nothing ran."""

    FAIL = "FAIL"  # measured, and outside what is asked
    ERROR = "ERROR"  # a step crashed; no value was produced
    INVALID = "INVALID"  # measured, and the measurement cannot be trusted
    INCONCLUSIVE = "INCONCLUSIVE"  # too little data to decide
    PASS = "PASS"
    SKIP = "SKIP"  # nothing ran

    def __str__(self) -> str:
        return self.value

    @property
    def red(self) -> bool:
        """Whether it ends a run with an exit status other than 0: report/ci.py says which."""
        return self in (Outcome.FAIL, Outcome.ERROR, Outcome.INVALID)

    @property
    def ran(self) -> bool:
        """Whether something ran for it."""
        return self is not Outcome.SKIP

    @property
    def severity(self) -> int:
        """0 for the worst."""
        return list(Outcome).index(self)


@dataclass(frozen=True)
class Stage:
    """One question that is asked of a case. `marker` is the pytest marker of its tests, "" where no test asks it."""

    name: str
    question: str
    marker: str


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("protocol", "Are pictures prepared and outputs read as by the authors' programs?", "protocol"),
        Stage("export", "Is the ONNX file the model?", "export"),
        Stage("numerics", "Are the raw outputs the network's?", "numerics"),
        Stage("accuracy", "Does the chip find what the reference finds?", "accuracy"),
        Stage("published", "Is the published accuracy reached on the whole data set?", "accuracy"),
        Stage("throughput", "Is the chip as fast as was published?", "throughput"),
        Stage("targets", "Is its best batch as fast as a multiple of another chip's?", "targets"),
        Stage("closing", "Could the session be closed?", ""),
    )
}
"""In the order in which they run."""

STAGE_MARKERS: tuple[str, ...] = tuple(dict.fromkeys(stage.marker for stage in STAGES.values() if stage.marker))


MARKS: dict[str, str] = {
    "simulated": "ran on a simulated SDK; says nothing about real hardware",
    "emulated": "ran on the vendor's own simulator of the chip; throughput is not judged",
    "seeded": "weights are random (calibrated), because no published checkpoint was found",
    "scenes": "pictures drawn by the suite; the reference's own answers are the labels",
    "partial": "only part of the published data set was there",
    "limited": "--limit cut the data set",
    "sampled": "images were drawn until the verdict was decided; the record says how many of how many",
    "kept": "answers of an earlier run of the same engine on the same images, scored again; speed and outputs are new",
    "host-bound": "the host submitted work no faster than the device computed it: the host limits the throughput",
    "x4": "one device was measured; the value is scaled to a card of four",
    "x2": "two devices were measured; the value is scaled to a card of four",
    "x1.33": "three devices were measured; the value is scaled to a card of four",
    "1-of-2": "one device of a card of two was measured: the published figures are those of a card of one",
    "use-untold": "the device does not report whether other programs used it during the measurement; see the record",
    "observed": "the lab's policy reports this result and leaves it out of the exit status",
    "unsteady": "the windows of a measurement vary or drift; the record says how",
}
"""What limits a record's meaning: name -> explanation."""


TASKS: dict[str, str] = {
    "faces": "boxes of faces, with a score each",
    "attributes": "yes or no for each of a list of attributes",
    "classes": "one class",
    "objects": "boxes of objects, with a class and a score each",
}
"""What a model is asked of an image: name -> answer."""


@dataclass(frozen=True)
class Metric:
    """A figure that is measured and published. Accuracies are fractions of a task; throughput, of every task, is images
    per second and card."""

    name: str
    title: str
    task: str = ""
    unit: str = "fraction"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("ap_easy", "WIDER FACE AP, easy", "faces"),
        Metric("ap_medium", "WIDER FACE AP, medium", "faces"),
        Metric("ap_hard", "WIDER FACE AP, hard", "faces"),
        Metric("ap", "COCO AP 0.50:0.95", "objects"),
        Metric("top1", "ImageNet top-1 accuracy", "classes"),
        Metric("top5", "ImageNet top-5 accuracy", "classes"),
        Metric("instance_accuracy", "PETA instance accuracy", "attributes"),
        Metric("instance_precision", "PETA instance precision", "attributes"),
        Metric("instance_recall", "PETA instance recall", "attributes"),
        Metric("instance_f1", "PETA instance F1", "attributes"),
        Metric("mean_accuracy", "PETA label-based mean accuracy", "attributes"),
        Metric("throughput", "images per second and card", unit="images/s"),
    )
}
ACCURACIES: tuple[str, ...] = tuple(metric.name for metric in METRICS.values() if metric.unit == "fraction")
