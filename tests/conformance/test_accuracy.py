"""The chip finds what the reference finds, and on the whole published set what was published."""

from dataclasses import replace

import pytest

from harness.judge.accuracy import judge_published, of_seeded
from harness.judge.repeat import Judged
from harness.run.case_answers import answers_of
from harness.run.engine import Variant

pytestmark = pytest.mark.accuracy


def published(answers, metric):
    """Authors' figure and chip's figure, for the table: this test judges by neither."""
    cells = zip(("source", "published"), answers.published.get(metric, ()), strict=False)
    return {name: cell.value for name, cell in cells if cell is not None}


def judged(bench, run):
    verdicts = answers_of(bench).verdicts(run)
    if "seeded" not in bench.marks:
        return verdicts
    return {metric: of_seeded(verdict, bench.case.precision, metric) for metric, verdict in verdicts.items()}


def agreement(bench, keep_answers, keep_pictures):
    answers = answers_of(bench)
    run = answers.evaluation.check_of(bench.case)
    keep_answers(bench, run)
    pictures = keep_pictures(bench, run)
    verdicts = judged(bench, run)

    beside = {m: replace(v, details={**v.details, **published(answers, m)}) for m, v in verdicts.items()}
    worst = min(beside, key=lambda metric: beside[metric].outcome.severity)
    beside[worst] = replace(beside[worst], details={**beside[worst].details, **pictures})
    return Judged({**beside, **run.also}, run.marks, run.facts)


def test_the_chip_agrees_with_the_reference(judge, keep_answers, keep_pictures):
    judge(lambda bench: agreement(bench, keep_answers, keep_pictures))


BY_CHIP = " suppressed by chip"


def suppressed(bench, keep_answers):
    answers = answers_of(bench)
    engine = Variant(raw=False, nms=True)
    run = answers.evaluate(engine).check_of(bench.case)
    keep_answers(bench, run, BY_CHIP)
    verdicts = judged(bench, run)
    named = {f"{metric}{BY_CHIP}": verdicts[metric] for metric in bench.model.metrics}
    return Judged(named, run.marks, {**run.facts, **engine.facts})


@pytest.mark.other_engine
def test_suppressing_on_the_chip_finds_the_same_objects(bench, judge, keep_answers):
    if bench.case.chip not in bench.protocol.suppressed_by_chip:
        pytest.skip("no compiler of this chip knows the model's suppression, or the model has none")

    judge(lambda bench: suppressed(bench, keep_answers))


def against_published(bench):
    answers = answers_of(bench)
    run = answers.on_the_whole_set.check_of(bench.case)
    table = bench.context.settings.baselines
    told = {
        metric: [cell and cell.check_of(bench.case, metric) for cell in pair]
        for metric, pair in answers.published.items()
    }
    verdicts = {
        metric: judge_published(run.chip.values[metric], *pair, table.deviation(bench.case, "published", metric))
        for metric, pair in told.items()
    }
    return Judged(verdicts, run.marks, run.facts)


def test_published_accuracy_is_reached(bench, judge):
    answers = answers_of(bench)
    if marks := answers.not_published:
        pytest.skip(f"published figures hold for the published weights; here: {', '.join(marks)}")
    if not answers.published:
        pytest.skip(f"no accuracy of {bench.case} is published")
    if answers.marks:
        here = (*answers.marks, bench.context.dataset(bench.model).note)
        pytest.skip(f"published figures hold for the whole set; here: {', '.join(filter(None, here))}")

    judge(against_published, stage="published")
