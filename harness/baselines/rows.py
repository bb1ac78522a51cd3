"""What the rows of baselines/ say: one frozen value a row, figures with the digits of the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from harness.case import Case, Precision
from harness.errors import InvalidMeasurement

SCALES = {"%": Decimal("0.01"), "fraction": Decimal(1), "images/s": Decimal(1)}  # printed unit -> ours
UNITS = {"card": "images/s", "device": "images/s per device", "execution": "executions/s"}  # of a throughput


@dataclass(frozen=True)
class Cell:
    """One number published for one case and metric. `value` is a fraction for accuracies, images/s for throughputs;
    `printed` keeps the digits of the document. `role` is "source" for the authors' accuracy, "cell" for a chip's
    figure. Of the figures of one key exactly one is `chosen`: the one that judges."""

    model: str
    chip: str | None
    precision: Precision | None
    batch: int | None
    metric: str
    value: float
    unit: str
    role: str
    document: str
    section: str
    protocol: str
    chosen: bool
    note: str
    file: str
    line: int
    printed: Decimal
    scale: Decimal = Decimal(1)
    per: str = "card"  # "card" | "device" | "execution" (of a whole batch)
    formula: str = ""  # the computation that the document prints beside the figure
    labelled: int | None = None  # batch that the document's own label gives, where it is another one
    complement: Decimal | None = None  # the error rate printed beside an accuracy
    then: tuple[Decimal, ...] = ()  # top-2 to top-4, printed between top-1 and top-5

    @property
    def lowest(self) -> float:
        """The smallest number that prints as this figure, in the unit of `value`."""
        return float((self.printed - ulp(self.printed) / 2) * self.scale)

    def check_of(self, case: Case, metric: str) -> Cell:
        """This figure, where it is one by which the case may be judged: of its model and metric; a chip's also of its
        chip and precision; a throughput of its batch. Raises InvalidMeasurement."""
        mine: list[object] = [self.model, self.metric]
        asked: list[object] = [case.model, metric]
        if self.role != "source":
            mine, asked = [*mine, self.chip, self.precision], [*asked, case.chip, case.precision]
        if metric == "throughput":
            mine, asked = [*mine, self.batch], [*asked, case.batch]
        if mine != asked:
            raise InvalidMeasurement(
                f"{case} {metric} would be judged by {self.place}, the {self.metric} of {self.subject}",
                hint="this is a fault of the suite: report it",
            )
        return self

    @property
    def place(self) -> str:
        """File and line, such as `baselines/regnety_016.toml:12`."""
        return f"{self.file}:{self.line}"

    @property
    def subject(self) -> str:
        """Case id as far as it was published, such as `regnety_016-t4-fp16-bs4`."""
        batch = None if self.batch is None else f"bs{self.batch}"
        return "-".join(str(part) for part in (self.model, self.chip, self.precision, batch) if part is not None)

    def __str__(self) -> str:
        return f"{self.printed}{'' if self.unit == 'fraction' else ' ' + self.unit} ({self.document}, {self.section})"


@dataclass(frozen=True)
class Log:
    """What the `benchmark` tool prints of one run: (images/s, latency in ms) a stage; for `post` (batches/s, ms)."""

    model: str
    chip: str
    precision: Precision
    batch: int
    images: int  # in the data set
    e2e: tuple[Decimal, Decimal]
    read: tuple[Decimal, Decimal]
    preprocess: tuple[Decimal, Decimal]
    infer: tuple[Decimal, Decimal]
    post: tuple[Decimal, Decimal]
    document: str
    section: str
    file: str
    line: int


@dataclass(frozen=True)
class Times:
    """A line of latencies in milliseconds, as trtexec and msame print them."""

    model: str
    chip: str
    precision: Precision
    batch: int
    of: str
    mean: Decimal
    others: Mapping[str, Decimal]  # of min, median, p99, max, total_s, without_first: those printed
    document: str
    section: str
    file: str
    line: int


@dataclass(frozen=True)
class Ratio:
    """A printed quotient of two throughputs (`value`), or a printed claim that it is `at_least` so much. A batch of
    None means best against best."""

    model: str
    chip: str
    other: str
    precision: Precision
    batch: int | None
    other_batch: int | None
    value: Decimal | None
    at_least: Decimal | None
    formula: str
    document: str
    section: str
    file: str
    line: int


@dataclass(frozen=True)
class Best:
    """The throughput that a document prints as the best of all batches."""

    model: str
    chip: str
    precision: Precision
    value: Decimal
    document: str
    section: str
    file: str
    line: int


@dataclass(frozen=True)
class Target:
    """`chip` must reach `ratio` times the throughput of `other`, compared by `aggregation` ("best_batch")."""

    chip: str
    other: str
    ratio: float
    aggregation: str
    document: str
    section: str
    file: str
    line: int


@dataclass(frozen=True)
class Deviation:
    """A known failure: cases by pattern, stage and metric. Strict: it has to fail."""

    case: str  # shell pattern over case ids
    stage: str  # of STAGES
    metric: str  # name of the stage's verdict that is known to fail; "" where it has a single one
    reason: str
    link: str
    file: str
    line: int


@dataclass(frozen=True)
class Erratum:
    """A known disagreement of a document with itself, matched word for word with what the lint says."""

    rule: str
    about: str
    says: str
    why: str
    file: str
    line: int


def ulp(printed: Decimal) -> Decimal:
    """One unit of the last printed digit."""
    return Decimal(1).scaleb(int(printed.as_tuple().exponent))
