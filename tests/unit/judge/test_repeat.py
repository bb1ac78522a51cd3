"""A red verdict is measured twice: what agrees is told, what does not is INVALID and has a name."""

import pytest

from harness.errors import InvalidMeasurement, WorkerError
from harness.judge.repeat import Again, Judged, confirmed, suspect
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome

PASS = Verdict(Outcome.PASS, "cosine 1", {"cosine": 1.0})
FAIL = Verdict(Outcome.FAIL, "cosine 0.5", {"cosine": 0.5})
UNDECIDED = Verdict(Outcome.INCONCLUSIVE, "too few")
BUSY = InvalidMeasurement("the device is busy", hint="wait")
SAME, NEW, TIMED = Again(), Again("another"), Again(timed=True)


@pytest.mark.parametrize(
    ("verdicts", "wanted"),
    [
        ([PASS, UNDECIDED], False),
        ([PASS, FAIL], True),
        ([Verdict(Outcome.INVALID, "x")], True),
        ([Verdict(Outcome.INVALID, "other load", {"waited": True})], False),
        ([], False),
    ],
)
def test_only_red_verdicts_that_did_not_wait_are_measured_again(verdicts, wanted):
    assert suspect(dict(enumerate(verdicts))) is wanted


def test_what_fails_twice_fails_with_the_figures_of_both():
    worse = Verdict(Outcome.FAIL, "cosine 0.4", {"cosine": 0.4})

    (verdict,) = confirmed({"": FAIL}, {"": worse}, NEW).values()

    assert verdict.outcome is Outcome.FAIL
    assert verdict.text == "cosine 0.5; measured again in a new process and with a new engine: the same"
    assert verdict.details == {"cosine": 0.5, "first": "FAIL", "second": "FAIL", "second_text": "cosine 0.4",
                               "second_values": {"cosine": 0.4}}  # fmt: skip


def test_differences_are_kept_of_the_first_measurement_only():
    first, second = (Verdict(Outcome.FAIL, "x", {"differences": {"largest": value}}) for value in (1.0, 2.0))

    details = confirmed({"": first}, {"": second}, SAME)[""].details

    assert details["differences"] == {"largest": 1.0}
    assert details["second_values"] == {}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (NEW, "the engine in the cache was stale or damaged; the new one has replaced it"),
        (SAME, "the device or its runtime is not steady"),
        (Again("the same"), "the device or its runtime is not steady"),
        (TIMED, "other load passed, or the device is not steady"),
        (
            Again("another", timed=True),
            "other load passed, or the device is not steady, or the engine in the cache was stale",
        ),
    ],
)
def test_what_does_not_repeat_is_invalid_and_says_what_to_suspect(how, said):
    (verdict,) = confirmed({"": FAIL}, {"": PASS}, how).values()

    assert verdict.outcome is Outcome.INVALID
    assert verdict.text == f"does not repeat: FAIL at first, PASS {how}: {said}. First: cosine 0.5. Second: cosine 1"
    assert (verdict.details["first"], verdict.details["second"]) == ("FAIL", "PASS")


def test_a_metric_that_turns_red_the_second_time_does_not_repeat_either():
    found = confirmed({"top1": FAIL, "top5": PASS}, {"top1": FAIL, "top5": FAIL}, SAME)

    assert (found["top1"].outcome, found["top5"].outcome) == (Outcome.FAIL, Outcome.INVALID)
    assert found["top5"].text.startswith("does not repeat: PASS at first, FAIL in a new process")


def test_metrics_that_are_not_red_keep_their_first_verdict():
    assert confirmed({"top1": FAIL, "top5": PASS}, {"top1": FAIL, "top5": UNDECIDED}, SAME)["top5"] is PASS


def test_invalid_at_first_and_sound_afterwards_does_not_repeat():
    found = confirmed(BUSY, {"top1": PASS, "top5": PASS}, TIMED)

    assert {verdict.outcome for verdict in found.values()} == {Outcome.INVALID}
    assert all("First: the device is busy. Second: cosine 1" in verdict.text for verdict in found.values())


def test_a_second_measurement_that_breaks_off_does_not_unsay_the_first():
    (verdict,) = confirmed({"": FAIL}, WorkerError("worker died of SIGSEGV", hint="see its log"), SAME).values()

    assert verdict.outcome is Outcome.INVALID
    assert verdict.text == (
        "not confirmed: FAIL at first, and in a new process it crashed: worker died of SIGSEGV. First: cosine 0.5"
    )
    assert (verdict.details["first"], verdict.details["second"]) == ("FAIL", "ERROR")
    assert verdict.details["second_text"] == "worker died of SIGSEGV"


def test_a_second_measurement_that_says_what_is_wrong_is_believed():
    wrong = InvalidMeasurement("the kept reference is stale", hint="delete it")

    (verdict,) = confirmed({"": FAIL}, wrong, SAME).values()

    assert verdict.outcome is Outcome.INVALID
    assert verdict.text == (
        "the kept reference is stale. Found when it was measured again in a new process, after FAIL: cosine 0.5"
    )
    assert (verdict.details["first"], verdict.details["second"]) == ("FAIL", "INVALID")


def test_invalid_twice_stays_what_it_is():
    with pytest.raises(InvalidMeasurement) as caught:
        confirmed(BUSY, InvalidMeasurement("still busy", hint="wait"), TIMED)

    assert caught.value.fact == "the device is busy; measured again in a new process: still busy"
    assert caught.value.hint == "wait"


def test_a_metric_that_one_of_two_measurements_lacks_stands_as_it_is():
    """Kept answers are not compared with those of another device; asked anew they are."""
    fail = Verdict(Outcome.FAIL, "wrong")
    found = confirmed({"ap": fail}, {"ap": fail, "devices": Verdict(Outcome.PASS, "alike")}, Again("", False))

    assert found["devices"].outcome is Outcome.PASS
    assert found["ap"].outcome is Outcome.FAIL


def test_what_a_measurement_gave_has_marks_and_facts_only_where_it_tells_them():
    plain = Judged({"": PASS})

    assert (plain.verdicts, plain.marks, plain.facts) == ({"": PASS}, (), {})
    assert Judged({"": PASS}) == plain
