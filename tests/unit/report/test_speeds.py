"""What the target ratios are made of: the best batch of this chip, and that of the other one on record."""

import importlib.util
from dataclasses import replace
from types import SimpleNamespace

import pytest
from made_runs import timed

from harness import matrix
from harness.baselines import load
from harness.case import Case
from harness.report.records import Record
from harness.report.speeds import best_of, by_batch, judge_latencies
from tests.session import ROOT

spec = importlib.util.spec_from_file_location("targets", ROOT / "tests" / "conformance" / "test_targets.py")
targets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(targets)

OURS = Case.parse("regnety_016-ascend310p-fp16-bs1")
RATES = {1: 900.0, 4: 1500.0, 8: 1200.0}
OTHER = [
    replace(timed(Case.parse(f"regnety_016-ascend310-fp16-bs{batch}"), rate), marks=("scenes",))
    for batch, rate in RATES.items()
]


def altered(**more):
    """A record that would be the best, were it not another's."""
    return replace(timed(Case.parse("regnety_016-ascend310-fp16-bs16"), 9999.0), marks=(), **more)


def test_the_best_batch_of_the_other_chip_counts_whichever_it_is():
    found = best_of(OTHER, OURS, "ascend310")

    assert (found.estimate.value, found.estimate.low, found.estimate.high) == (1500, 1485, 1515)
    assert (found.latency, found.marks, found.sound, found.ratio) == (4 / 1500, ("scenes",), True, None)
    assert best_of([], OURS, "ascend310") is None
    assert best_of(OTHER, OURS, "t4") is None


@pytest.mark.parametrize(
    "foreign",
    [
        altered(case=Case.parse("regnety_016-ascend310p-fp16-bs16")),
        altered(case=Case.parse("regnety_016-t4-fp16-bs16")),
        altered(case=Case.parse("regnety_016-ascend310-int8-bs16")),
        altered(case=Case.parse("deepmar_resnet50-ascend310-fp16-bs16")),
        altered(stage="accuracy"),
        altered(outcome="INVALID"),
        replace(altered(), marks=("simulated",)),
        replace(altered(), marks=("scenes", "emulated")),
        replace(altered(), values={}),
    ],
    ids=["this chip", "third chip", "precision", "model", "stage", "INVALID", "simulated", "emulated", "no figure"],
)
def test_a_record_of_something_else_is_not_compared_with(foreign):
    assert best_of([*OTHER, foreign], OURS, "ascend310").estimate.value == 1500


def test_a_failed_throughput_of_the_other_chip_is_measured_all_the_same():
    assert best_of([*OTHER, altered(outcome="FAIL")], OURS, "ascend310").estimate.value == 9999


def test_this_runs_throughputs_stand_by_batch():
    mine = [timed(replace(OURS, batch=batch), 100.0 * batch, outcome, published=200.0)
            for batch, outcome in ((1, "PASS"), (4, "INVALID"))]  # fmt: skip
    none = Record(replace(OURS, batch=8), "throughput", "ERROR", "crashed")

    found = by_batch([*OTHER, *mine, none, altered(), replace(mine[0], stage="numerics", values={})], OURS)

    assert {batch: (speed.estimate.value, speed.sound, speed.ratio) for batch, speed in found.items()} == {
        1: (100, True, 0.5),
        4: (400, False, 2.0),
    }


def judged(rates, other, lineup=OURS):
    """The verdicts of the target ratios on rates by batch."""
    told = {}
    mine = by_batch([timed(replace(lineup, batch=batch), rate) for batch, rate in rates.items()], lineup)
    suite = SimpleNamespace(settings=SimpleNamespace(baselines=load()), simulated=lambda chip: False)
    targets.test_the_best_batch_reaches_the_target_ratios(
        lineup, lambda lineup: mine, lambda lineup, chip: best_of(other, lineup, chip), suite,
        lambda verdicts, marks: told.update(verdicts=verdicts, marks=marks),
    )  # fmt: skip
    return told


@pytest.mark.parametrize("rates", [{1: 100.0, 4: 4000.0, 8: 300.0}, {1: 4000.0, 8: 300.0}, {1: 300.0, 8: 4000.0}])
def test_a_target_is_of_the_best_batch_whatever_its_place(rates):
    told = judged(rates, OTHER)

    against = {name: verdict.details for name, verdict in told["verdicts"].items()}
    assert {name: details["measured"] for name, details in against.items()} == {"ascend310": 4000, "t4": 4000}
    assert against["ascend310"]["other"] == 1500, "the other's best batch on record"
    assert against["t4"]["other"] == 1918.7328, "its best published one, where none is on record"
    assert told["marks"] == ("simulated", "scenes"), "those of both measurements"


CPU = Case.parse("regnety_016-cpu-fp32-bs1")


@pytest.mark.parametrize(
    ("of", "against", "outcome", "says"),
    [
        (CPU, (100.0, 1600.0), "PASS", "times eager PyTorch"),  # as fast beside PyTorch as at batch 1: other load
        (CPU, (100.0, 200.0), "INVALID", "the batch is not computed"),
        (CPU, (100.0, None), "INCONCLUSIVE", "other load on the CPU"),  # other load spoilt one of the ratios
        (CPU, (None, None), "INCONCLUSIVE", "other load on the CPU"),
        (OURS, (100.0, 1600.0), "INVALID", "the batch is not computed"),  # a ratio to what is published
        (OURS, (None, None), "INVALID", "the batch is not computed"),
    ],
)
def test_latencies_are_judged_by_ratios_to_eager_pytorch_where_there_is_one_of_each(of, against, outcome, says):
    """Batch 4 takes a quarter of the time of batch 1."""
    records = [
        timed(replace(of, batch=batch), rate, published=published)
        for batch, rate, published in zip((1, 4), (100.0, 1600.0), against, strict=True)
    ]

    verdict = judge_latencies(by_batch(records, of), of)

    assert (verdict.outcome, says in verdict.text) == (outcome, True), verdict.text


def test_an_invalid_measurement_is_no_best_batch():
    lineup = next(one for one in matrix.lineups() if one.chip == "ascend310p" and one.model == "regnety_016")
    records = [timed(replace(lineup, batch=1), 9999.0, "INVALID"), timed(replace(lineup, batch=4), 2000.0)]
    mine, told = by_batch(records, lineup), {}
    suite = SimpleNamespace(settings=SimpleNamespace(baselines=load()), simulated=lambda chip: False)

    targets.test_the_best_batch_reaches_the_target_ratios(
        lineup, lambda lineup: mine, lambda lineup, chip: None, suite, lambda verdicts, marks: told.update(verdicts)
    )

    assert told["t4"].details["measured"] == 2000
