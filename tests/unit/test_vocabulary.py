"""The words of the suite: each is there once, and says what it means."""

import pytest

from harness.vocabulary import ACCURACIES, MARKS, METRICS, STAGE_MARKERS, STAGES, TASKS, Outcome


def test_every_metric_row_is_whole():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.unit in ("fraction", "images/s")


def test_every_accuracy_is_of_a_task_and_throughput_is_of_all():
    assert set(METRICS) - set(ACCURACIES) == {"throughput"}
    assert {METRICS[name].task for name in ACCURACIES} == set(TASKS)
    assert METRICS["throughput"].task == ""


@pytest.mark.parametrize(
    ("outcome", "red", "ran"),
    [
        (Outcome.FAIL, True, True),
        (Outcome.ERROR, True, True),
        (Outcome.INVALID, True, True),
        (Outcome.INCONCLUSIVE, False, True),
        (Outcome.PASS, False, True),
        (Outcome.SKIP, False, False),
    ],
)
def test_an_outcome_says_whether_it_is_red_and_whether_something_ran(outcome, red, ran):
    assert (outcome.red, outcome.ran) == (red, ran)


def test_of_several_outcomes_the_worst_is_the_most_severe():
    assert min(Outcome, key=lambda outcome: outcome.severity) is Outcome.FAIL
    assert min((Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.ERROR), key=lambda o: o.severity) is Outcome.ERROR
    assert max(Outcome, key=lambda outcome: outcome.severity) is Outcome.SKIP


def test_an_outcome_is_written_as_its_name():
    assert [f"{outcome}" for outcome in Outcome] == [outcome.name for outcome in Outcome]


def test_stages_are_asked_in_the_order_in_which_they_run():
    assert list(STAGES) == [
        "protocol",
        "export",
        "numerics",
        "accuracy",
        "published",
        "throughput",
        "targets",
        "closing",
    ]
    assert STAGE_MARKERS == ("protocol", "export", "numerics", "accuracy", "throughput", "targets")
    assert all(stage.question.endswith("?") for stage in STAGES.values())


def test_every_mark_is_explained():
    assert all(len(text.split()) > 3 for text in MARKS.values())
