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


def judged(case_run, run):
    verdicts = answers_of(case_run).verdicts(run)
    if "seeded" not in case_run.marks:
        return verdicts
    return {metric: of_seeded(verdict, case_run.case.precision, metric) for metric, verdict in verdicts.items()}


def agreement(case_run, keep_answers, keep_pictures):
    answers = answers_of(case_run)
    run = answers.evaluation.check_of(case_run.case)
    keep_answers(case_run, run)
    pictures = keep_pictures(case_run, run)
    verdicts = judged(case_run, run)

    beside = {m: replace(v, details={**v.details, **published(answers, m)}) for m, v in verdicts.items()}
    worst = min(beside, key=lambda metric: beside[metric].outcome.severity)
    beside[worst] = replace(beside[worst], details={**beside[worst].details, **pictures})
    return Judged({**beside, **run.also}, run.marks, run.facts)


def test_the_chip_agrees_with_the_reference(judge, keep_answers, keep_pictures):
    judge(lambda case_run: agreement(case_run, keep_answers, keep_pictures))


BY_CHIP = " suppressed by chip"


def suppressed(case_run, keep_answers):
    answers = answers_of(case_run)
    engine = Variant(raw=False, nms=True)
    run = answers.evaluate(engine).check_of(case_run.case)
    keep_answers(case_run, run, BY_CHIP)
    verdicts = judged(case_run, run)
    named = {f"{metric}{BY_CHIP}": verdicts[metric] for metric in case_run.model.metrics}
    return Judged(named, run.marks, {**run.facts, **engine.facts})


@pytest.mark.other_engine
def test_suppressing_on_the_chip_finds_the_same_objects(case_run, judge, keep_answers):
    if case_run.case.chip not in case_run.protocol.suppressed_by_chip:
        pytest.skip("no compiler of this chip knows the model's suppression, or the model has none")

    judge(lambda case_run: suppressed(case_run, keep_answers))


def against_published(case_run):
    answers = answers_of(case_run)
    run = answers.on_the_whole_set.check_of(case_run.case)
    table = case_run.context.settings.baselines
    told = {
        metric: [cell and cell.check_of(case_run.case, metric) for cell in pair]
        for metric, pair in answers.published.items()
    }
    verdicts = {
        metric: judge_published(run.chip.values[metric], *pair, table.deviation(case_run.case, "published", metric))
        for metric, pair in told.items()
    }
    return Judged(verdicts, run.marks, run.facts)


def test_published_accuracy_is_reached(case_run, judge):
    answers = answers_of(case_run)
    if marks := answers.not_published:
        pytest.skip(f"published figures hold for the published weights; here: {', '.join(marks)}")
    if not answers.published:
        pytest.skip(f"no accuracy of {case_run.case} is published")
    if answers.marks:
        here = (*answers.marks, case_run.context.dataset(case_run.model).note)
        pytest.skip(f"published figures hold for the whole set; here: {', '.join(filter(None, here))}")

    judge(against_published, stage="published")
