"""Each worked example has its outcome and figures, and usual mistakes in a judge are seen by one of them."""

from pathlib import Path

import pytest

from harness.judge import accuracy, numerics, stats, throughput
from harness.judge.verdict import Verdict
from harness.judge.worked import examples, judge_examples
from harness.vocabulary import Outcome

GOLDEN = Verdict(Outcome.PASS, "31 results equal those of the authors' programs", {"compared": 31})


@pytest.mark.parametrize(("what", "found", "wanted"), list(examples()), ids=lambda value: str(value)[:40])
def test_an_example_has_the_outcome_that_was_worked_out(what, found, wanted):
    assert found.outcome is wanted, found.text


def figures(verdict):
    """The numbers of a verdict to four digits; its text where there are none."""
    told = {name: value for name, value in verdict.details.items() if type(value) in (int, float)}
    return ", ".join(f"{name} {round(value, 9):.4g}" for name, value in told.items()) or verdict.text


def test_the_examples_and_their_figures_are_those_that_were_worked_out():
    """A line of worked.txt changes only with an example, or with what a judge tells of it."""
    told = [f"{found.outcome} {what}: {figures(found)}".rstrip() for what, found, _ in examples()]

    assert told == Path(__file__).with_name("worked.txt").read_text(encoding="utf-8").splitlines()


def test_a_judge_that_judges_adds_how_many_were_looked_at():
    told = judge_examples(GOLDEN)

    assert told.outcome is Outcome.PASS
    assert told.text.endswith(f"; {len(list(examples()))} worked examples are judged rightly")
    assert told.details == {"compared": 31}


def test_a_verdict_that_is_red_already_stays():
    red = Verdict(Outcome.FAIL, "a wrong preparation")

    assert judge_examples(red) is red


@pytest.mark.parametrize(
    ("where", "name", "wrong"),
    [
        (stats.Estimate, "bound", lambda self, alpha, *, upper: 1.2 * self.high),
        (numerics, "_over", lambda error, size: error / 1000),
        (numerics, "_over", lambda error, size: 100 * error),
        (throughput, "IN_FLIGHT", 3.0),
        (throughput, "ALONE", 2.0),
        (throughput, "CEILING", 10.0),
        (throughput, "RANGE", (-1.0, 1.5)),
        (throughput, "RANGE", (0.02, 5.0)),
        (throughput, "COUNTED", 2.0),
        (throughput, "BETWEEN", 0.3),
        (accuracy, "TOO_GOOD", 1.0),
        (accuracy, "RUINED", 0.3),
        (accuracy, "RUINED", 0.7),
        (accuracy, "judge_published", None),
    ],
)
def test_a_judge_that_does_not_judge_is_seen(where, name, wrong, monkeypatch):
    if wrong is None:
        monkeypatch.setattr(accuracy.judge_published, "__defaults__", (None, 0.1))
    else:
        monkeypatch.setattr(where, name, wrong)

    told = judge_examples(GOLDEN)

    assert told.outcome is Outcome.FAIL
    assert "worked examples are judged wrongly" in told.text
    assert told.text.endswith("no verdict of this run can be trusted")
