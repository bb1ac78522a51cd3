"""A lab's policy changes verdicts strictly both ways, and says where."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from harness.case import Case
from harness.judge.policy import Asked, Expected, Gate, Observed, Policy, apply, undecided, unmet
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

CASE = Case.parse("regnety_016-ascend310p-fp16-bs16")
TODAY = date(2026, 11, 29)
ROW = {"case": "regnety_016-*", "stage": "numerics", "reason": "driver 24", "link": "T-1", "place": "chipproof.toml:3"}
PASS, FAIL = Verdict(Outcome.PASS, "fine", {"rms": 0.1}), Verdict(Outcome.FAIL, "rms 0.5", {"rms": 0.5})


def applied(verdict, *rows, stage="numerics", metric="", **more):
    kinds = {"expected": Expected, "observed": Observed, "gates": Gate}
    sorted_rows = {name: tuple(row for row in rows if isinstance(row, kind)) for name, kind in kinds.items()}
    return apply(Policy(place="chipproof.toml", **sorted_rows, **more), CASE, stage, metric, verdict, TODAY)


def test_what_is_expected_passes_with_its_reason():
    verdict = applied(FAIL, Expected(**ROW))

    assert verdict.outcome is Outcome.PASS
    assert verdict.text == "expected by chipproof.toml:3 (driver 24; T-1): FAIL: rms 0.5"
    assert verdict.details == {"rms": 0.5, "policy": "chipproof.toml:3", "without_policy": "FAIL"}


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [("regnety_016-ascend310-fp16-bs16", False), ("regnety_016-ascend310p-fp16-bs1", False),
     ("regnety_016-ascend310p-fp16-bs16", True), ("regnety_016-ascend310p-*", True), ("regnety_016", False)],
)  # fmt: skip
def test_a_row_covers_the_whole_name_of_a_case(pattern, covered):
    assert (applied(FAIL, Expected(**{**ROW, "case": pattern})).outcome is Outcome.PASS) is covered


@pytest.mark.parametrize("bounds", [{"most": 1.0}, {"least": 0.0}, {"least": 0.0, "most": 1.0}])
def test_a_figure_that_is_no_number_passes_no_gate(bounds):
    told = Verdict(Outcome.PASS, "fine", {"rms": float("nan")})

    assert applied(told, Gate(**ROW, figure="rms", **bounds)).outcome is Outcome.FAIL


def test_what_is_expected_and_does_not_occur_fails():
    verdict = applied(PASS, Expected(**ROW))

    assert verdict.outcome is Outcome.FAIL
    assert "chipproof.toml:3 expects FAIL, which no longer occurs; delete the row" in verdict.text


@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.INVALID, Outcome.ERROR])
def test_another_outcome_than_the_expected_stays(outcome):
    assert applied(Verdict(outcome, "x"), Expected(**ROW)) == Verdict(outcome, "x")


def test_an_error_can_be_expected():
    row = Expected(**ROW, outcome=Outcome.ERROR)

    assert applied(Verdict(Outcome.ERROR, "the SDK died"), row).outcome is Outcome.PASS


def test_after_its_last_day_a_row_excuses_nothing_and_says_so():
    last, over = Expected(**ROW, until=TODAY), Expected(**ROW, until=date(2026, 11, 28))

    assert applied(FAIL, last).outcome is Outcome.PASS
    assert applied(FAIL, over).outcome is Outcome.FAIL
    assert "accepted it until 2026-11-28" in applied(FAIL, over).text
    assert applied(PASS, over) is PASS


@pytest.mark.parametrize(("pattern", "stage"), [("gfocalv2*", "numerics"), ("regnety_016-*", "accuracy")])
def test_a_row_of_another_case_or_stage_changes_nothing(pattern, stage):
    assert applied(FAIL, Expected(**{**ROW, "case": pattern, "stage": stage})) is FAIL


@pytest.mark.parametrize(("pattern", "metric", "used"), [
    ("", "top1", False), ("top1", "top1", True), ("top*", "top5", True), ("top1", "", False),
])  # fmt: skip
def test_a_row_is_about_one_verdict_of_its_stage(pattern, metric, used):
    found = applied(FAIL, Expected(**ROW, metric=pattern), metric=metric)

    assert (found.outcome is Outcome.PASS) is used


def test_a_star_is_every_stage():
    assert applied(FAIL, Expected(**{**ROW, "stage": "*"}), stage="throughput").outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [({"most": 0.2}, Outcome.PASS), ({"most": 0.05}, Outcome.FAIL), ({"least": 0.2}, Outcome.FAIL),
     ({"least": 0.05, "most": 0.2}, Outcome.PASS), ({"least": 0.1, "most": 0.1}, Outcome.PASS)],
)  # fmt: skip
def test_a_figure_outside_its_gate_fails(bounds, outcome):
    verdict = applied(PASS, Gate(**ROW, figure="rms", **bounds))

    assert verdict.outcome is outcome
    assert verdict.details["without_policy"] == "PASS"
    assert verdict.details["gates"][0].startswith("chipproof.toml:3: rms at ")
    if outcome is Outcome.FAIL:
        assert verdict.text.startswith("rms is 0.1; chipproof.toml:3 asks rms at ")


def test_a_figure_that_was_not_measured_misses_its_gate():
    missing = Verdict(Outcome.PASS, "fine", {"rms": None})

    assert applied(missing, Gate(**ROW, figure="rms", most=1.0)).outcome is Outcome.FAIL


def test_a_figure_that_a_verdict_does_not_have_is_gated_elsewhere():
    assert applied(PASS, Gate(**ROW, figure="latency_p99_us", most=1.0)) is PASS


def test_what_misses_a_gate_can_be_expected():
    verdict = applied(PASS, Gate(**ROW, figure="rms", most=0.05), Expected(**ROW))

    assert (verdict.outcome, verdict.details["without_policy"]) == (Outcome.PASS, "PASS")


def test_observed_rows_name_what_is_only_told():
    row = Observed(**ROW)
    policy = Policy(observed=(row,), place="chipproof.toml")

    assert policy.observes(CASE, "numerics", TODAY) is row
    assert policy.observes(CASE, "throughput", TODAY) is None
    assert Policy(observed=(Observed(**ROW, until=date(2026, 1, 1)),)).observes(CASE, "numerics", TODAY) is None


def test_a_gate_whose_figure_no_record_had_is_told():
    policy = Policy(gates=(Gate(**ROW, figure="rsm", most=1.0),))

    assert unmet(policy, {"rms": [(CASE, "numerics")]}) == [
        "chipproof.toml:3: no record of regnety_016-*, stage numerics, has a figure 'rsm'"
    ]
    assert unmet(policy, {"rsm": [(CASE, "numerics")]}) == []
    assert unmet(policy, {}) == [], "nothing of it ran"


@pytest.mark.parametrize(
    ("decided", "told"), [(0.4, ""), (0.5, ""), (0.6, "50% of 2 verdicts are decided"), (None, "")]
)
def test_the_least_share_of_decided_verdicts(decided, told):
    outcomes = [Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.SKIP]

    assert undecided(Policy(decided=decided, place="p.toml"), outcomes).startswith(told)
    assert bool(undecided(Policy(decided=decided), outcomes)) is bool(told)


def test_what_is_not_inconclusive_is_decided():
    outcomes = [Outcome.PASS, Outcome.FAIL, Outcome.INVALID, Outcome.INCONCLUSIVE, Outcome.SKIP]

    assert undecided(Policy(decided=0.75), outcomes) == ""
    assert undecided(Policy(decided=0.76, place="p.toml"), outcomes).startswith("75% of 4 verdicts are decided")


BOUND = Asked("regnety_016-*", "*", "the lab's", "", "lab.toml:3", rms=0.05, floor=0.9)


def test_a_bound_holds_for_its_stage_until_its_last_day():
    policy = Policy(
        asked=(replace(BOUND, case="gfocal*"), BOUND, replace(BOUND, rms=1.0, cosine=0.9, place="lab.toml:9"))
    )

    numerics = policy.bound(CASE, "numerics", TODAY)
    assert numerics.tolerance == {"rms": 0.05, "cosine": 0.9}, "each figure of the first row that has it"
    assert numerics.place == "lab.toml:3, lab.toml:9"
    assert (numerics.case, numerics.stage, numerics.reason, numerics.link) == (str(CASE), "numerics", "", "")
    assert policy.bound(CASE, "throughput", TODAY).floor == 0.9
    assert policy.bound(CASE, "throughput", TODAY).place == "lab.toml:3"
    assert policy.bound(CASE, "accuracy", TODAY).place == "", "it has no drop"
    assert policy.bound(CASE, "export", TODAY).place == ""
    ended = Policy(asked=(replace(BOUND, until=TODAY - timedelta(days=1)),))
    assert ended.bound(CASE, "numerics", TODAY).tolerance == {}


def test_a_bound_is_told():
    assert BOUND.tolerance == {"rms": 0.05}
    told = BOUND.told(Verdict(Outcome.PASS, "fine", {"rms": 0.01}))
    assert (told.text, told.details) == ("fine; bound of lab.toml:3", {"rms": 0.01, "bound_of": "lab.toml:3"})
    assert Policy().bound(CASE, "numerics", TODAY).told(PASS) is PASS
