"""The chip finds what the reference finds, and on the whole published set what was published."""

from dataclasses import replace

import pytest

from harness.case import Precision
from harness.judge.repeat import Judged
from harness.judge.verdict import SLACK, judge_agreement, judge_published, judge_tail
from harness.run.case_answers import answers_of
from harness.run.engine import Variant
from harness.vocabulary import Outcome

pytestmark = pytest.mark.accuracy


def published(bench, metric):
    """Authors' figure and chip's figure, for the table: this test judges by neither."""
    table = bench.context.settings.baselines
    cells = {"source": table.source(bench.case.model, metric), "published": table.cell(bench.case, metric)}
    return {name: cell.value for name, cell in cells.items() if cell is not None}


def reported(verdict):
    """Hardly an answer of a seeded network has a margin that eight bits keep: its drop says nothing of trained ones."""
    text = f"reported, not judged, for seeded weights say nothing of what INT8 costs trained ones: {verdict.text}"
    return replace(verdict, outcome=Outcome.INCONCLUSIVE, text=text)


def agreements(bench, run):
    """The verdict on each metric, by the bounds of the lab where it has any."""
    row = bench.bound("accuracy")
    slack = SLACK if row.drop is None else row.drop
    return {m: row.told(judge_agreement(run.chip, run.reference, m, slack)) for m in bench.model.metrics}


def agreement(bench, keep_answers, keep_pictures):
    run = answers_of(bench).evaluation
    keep_answers(bench, run)
    pictures = keep_pictures(bench, run)
    verdicts = agreements(bench, run)
    shares = {sample.id: one.share for sample, one in zip(run.dataset.samples, run.changes, strict=True)}
    verdicts["tail"] = judge_tail(shares, bench.case.precision)
    if bench.case.precision is Precision.INT8 and "seeded" in bench.marks:
        verdicts = {metric: reported(verdict) for metric, verdict in verdicts.items()}

    beside = {m: replace(v, details={**v.details, **published(bench, m)}) for m, v in verdicts.items()}
    worst = min(beside, key=lambda metric: beside[metric].outcome.severity)
    beside[worst] = replace(beside[worst], details={**beside[worst].details, **pictures})
    return Judged({**beside, **run.also}, run.marks, run.facts)


def test_the_chip_agrees_with_the_reference(judge, keep_answers, keep_pictures):
    judge(lambda bench: agreement(bench, keep_answers, keep_pictures))


def suppressed(bench):
    run = answers_of(bench).evaluate(Variant(raw=False, nms=True))
    verdicts = {f"{metric} suppressed by chip": verdict for metric, verdict in agreements(bench, run).items()}
    return Judged(verdicts, run.marks, run.facts)


@pytest.mark.other_engine
def test_suppressing_on_the_chip_finds_the_same_objects(bench, judge):
    if bench.case.chip not in bench.protocol.suppressed_by_chip:
        pytest.skip("no compiler of this chip knows the model's suppression, or the model has none")

    judge(suppressed)


def against_published(bench, told):
    run = answers_of(bench).on_the_whole_set
    table = bench.context.settings.baselines
    verdicts = {
        metric: judge_published(run.chip.values[metric], *pair, table.deviation(bench.case, "published", metric))
        for metric, pair in told.items()
    }
    return Judged(verdicts, run.marks, run.facts)


def test_published_accuracy_is_reached(bench, judge):
    if marks := [mark for mark in bench.marks if mark != "emulated"]:
        pytest.skip(f"published figures hold for the published weights; here: {', '.join(marks)}")
    table, case = bench.context.settings.baselines, bench.case
    figures = {metric: (table.source(case.model, metric), table.cell(case, metric)) for metric in bench.model.metrics}
    told = {metric: pair for metric, pair in figures.items() if any(pair)}
    if not told:
        pytest.skip(f"no accuracy of {case} is published")
    if marks := answers_of(bench).marks:
        here = (*marks, bench.context.dataset(bench.model).note)
        pytest.skip(f"published figures hold for the whole set; here: {', '.join(filter(None, here))}")

    judge(lambda bench: against_published(bench, told), stage="published")
