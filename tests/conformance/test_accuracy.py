"""The chip finds what the reference finds, and on the whole published set what was published."""

import pytest

from harness.verdict import judge_agreement, judge_published

pytestmark = pytest.mark.accuracy


def test_the_chip_agrees_with_the_reference(bench, accept):
    run = bench.evaluation

    accept(
        {metric: judge_agreement(run.chip, run.reference, metric) for metric in bench.model.metrics},
        bench,
        end_to_end=run.images_per_second,
        samples=len(run.dataset),
    )


def test_published_accuracy_is_reached(bench, accept):
    if bench.marks:
        pytest.skip(f"published figures hold for the whole set and weights; here: {', '.join(bench.marks)}")
    table, case = bench.suite.settings.baselines, bench.case
    measured = bench.evaluation.chip.values

    accept(
        {
            metric: judge_published(
                measured[metric],
                table.source(case.model, metric),
                table.cell(case, metric),
                table.deviation(case, "accuracy", metric),
            )
            for metric in bench.model.metrics
        },
        bench,
    )
