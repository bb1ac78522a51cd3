"""How throughput is measured: blocks until the verdict is known, outputs looked at, other load waited for."""

import itertools
import math
import threading
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from made_loads import loads
from made_sessions import INPUTS, PLAN, Growing, Session, run_of, series, side

from harness.errors import DeviceError, InvalidMeasurement
from harness.judge.stats import FULL
from harness.judge.throughput import Effort
from harness.judge.timing import Plan, Timing, Window
from harness.judge.verdict import Verdict
from harness.run import other_load as load
from harness.run import side as checks
from harness.run import throughput as measuring
from harness.run.side import Side
from harness.run.throughput import at_once, card_until_decided, until_decided
from harness.run.windows import judged, speed_of
from harness.vocabulary import Outcome

INCONCLUSIVE = Verdict(Outcome.INCONCLUSIVE, "", {"needed_windows": 100})


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def measured(verdicts, first=20, patience_s=60.0):
    """Windows of each block and the effort, where a window takes a second and the verdict is that of a list in turn."""
    clock, asked = Clock(), []
    told = iter(verdicts)

    def measure(windows, left):
        taken = min(windows, max(3, int(left)))
        clock.now += taken
        asked.append((windows, left))
        return (series([10] * taken),)

    blocks, effort = until_decided(measure, lambda blocks, effort: next(told), first, patience_s, clock=clock)
    return [len(block[0].windows) for block in blocks], effort, asked


def test_a_clear_case_takes_no_more_than_the_first_look():
    for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.INVALID):
        assert measured([Verdict(outcome, "")])[:2] == ([20], Effort(1, 20.0))


def test_windows_are_added_until_the_verdict_is_known():
    windows, effort, _ = measured([INCONCLUSIVE, INCONCLUSIVE, Verdict(Outcome.PASS, "")], patience_s=600)

    assert windows == [20, 20, 20], "after the first look as many as make a full series, then half as many again"
    assert effort == Effort(3, 60.0)


def test_slow_engines_get_to_a_full_series_too():
    windows, _, asked = measured([INCONCLUSIVE] * 6 + [Verdict(Outcome.PASS, "")], first=3, patience_s=600)

    assert [n for n, _ in asked] == [3, 3, 6, 12, FULL - 24, 20, 30]
    assert sum(windows) == 90


def test_patience_ends_it_and_bounds_the_last_block():
    windows, effort, asked = measured([INCONCLUSIVE] * 9, patience_s=50)

    assert windows == [20, 20, 10]
    assert asked[-1] == (20, 10.0)
    assert effort.seconds == 50


@pytest.mark.parametrize("details", [{"needed_windows": None}, {"needed_runs": 20}, {}])
def test_what_no_window_decides_is_not_waited_for(details):
    assert measured([Verdict(Outcome.INCONCLUSIVE, "", details)])[0] == [20]


def test_an_interval_that_is_too_wide_is_measured_on():
    wide = Verdict(Outcome.INCONCLUSIVE, "", {"width": 2.0})

    assert measured([wide, Verdict(Outcome.PASS, "")])[0] == [20, 20]


SESSIONS_WANTED = Verdict(Outcome.INCONCLUSIVE, "", {"needed_sessions": 5})


def in_sessions(verdicts, patience_s=60.0, begins_s=7.0, lefts=None):
    """(windows, effort, windows of the sessions begun, their looks); it takes `begins_s` seconds to begin a session.
    `lefts` gets the seconds left for each block."""
    clock, begun, looks, told = Clock(), [], [], iter(verdicts)

    def measure(windows, left):
        if lefts is not None:
            lefts.append(left)
        taken = min(windows, max(3, int(left)))
        clock.now += taken
        return (series([10] * taken),)

    def renew():
        begun.append(clock.now)
        clock.now += begins_s

    def conclude(blocks, effort):
        looks.append((effort.look, effort.sessions, effort.seconds))
        return next(told)

    blocks, effort = until_decided(measure, conclude, 20, patience_s, clock=clock, renew=renew)
    return [len(block[0].windows) for block in blocks], effort, len(begun), looks


def test_where_windows_are_not_enough_fresh_sessions_are_begun_and_looked_at_when_there_are_six():
    windows, effort, begun, looks = in_sessions([SESSIONS_WANTED, Verdict(Outcome.PASS, "")])

    assert windows == [20, 4, 4, 4, 4, 4]
    assert begun == 5
    assert looks == [(1, 1, 20.0), (2, 6, 40.0)]
    assert effort == Effort(2, 40.0, sessions=6), "what it takes to begin one is not counted"


def test_sessions_that_the_patience_is_just_enough_for_are_begun_and_have_what_is_left_of_it():
    lefts = []
    windows, _, begun, _ = in_sessions([SESSIONS_WANTED, Verdict(Outcome.PASS, "")], patience_s=40.0, lefts=lefts)

    assert (windows, begun) == ([20, 4, 4, 4, 4, 4], 5)
    assert lefts == [40, 20, 16, 12, 8, 4]


def test_further_sessions_follow_until_the_patience_is_spent():
    windows, effort, begun, looks = in_sessions([SESSIONS_WANTED] * 9)

    assert [look[1] for look in looks] == [1, 6, 9]
    assert begun == effort.sessions - 1 == 10
    assert windows == [20, *[4] * 10]
    assert effort.seconds == 60


def test_sessions_that_the_patience_is_too_short_for_are_not_begun():
    windows, effort, begun, _ = in_sessions([SESSIONS_WANTED] * 9, patience_s=39.0)

    assert begun == 0
    assert windows == [20, 19]
    assert effort.sessions == 1


def test_a_session_that_follows_windows_of_a_second_look_begins_after_all_of_them():
    windows, effort, _, _ = in_sessions([INCONCLUSIVE, SESSIONS_WANTED, Verdict(Outcome.PASS, "")], patience_s=600)

    assert windows == [20, 20, 4, 4, 4, 4, 4]
    assert effort.sessions == 6


def test_a_cpu_has_no_fresh_sessions():
    assert measured([SESSIONS_WANTED, Verdict(Outcome.PASS, "")])[0] == [20, 20]


def test_without_a_verdict_to_reach_there_is_one_block():
    blocks, effort = until_decided(lambda windows, left: (series([1] * windows),), None, 8, 60.0)

    assert len(blocks) == effort.look == 1


def test_a_card_and_a_cpu_are_both_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(Side, "check_fresh", lambda self, *timed: asked.append(self.who))

    card_until_decided([side(), side(who="two")], PLAN, None, 60.0)
    measuring.pairs_until_decided([side()], None, 60.0, lambda: None)

    assert asked == ["chip", "two", "chip"]


@pytest.mark.parametrize("in_turn", [False, True])
def test_memory_is_noted_over_the_windows_and_over_what_comes_after_them(in_turn):
    one = side(Growing(100, 109, 118))

    if in_turn:
        measuring.pairs_until_decided([one], None, 60.0, lambda: None)
    else:
        card_until_decided([one], PLAN, None, 60.0)

    with pytest.raises(InvalidMeasurement, match=r"by 9 MB in \d+ executes, then by 9 MB in \d+\n"):
        one.check_flat()
    assert all(after > before for (before, _), (after, _) in pairwise(one.noted))


class Heavy(Session):
    """Each execute takes 1.2 s, so that a window has one; in the second window the clock is half as fast."""

    def __init__(self):
        super().__init__()
        self.seconds = iter((1.2, 2.4))

    def finish(self):
        seconds = next(self.seconds, 1.2)
        windows = tuple(Window(3.0 * n, 3.0 * n + seconds, 1) for n in range(self.plans[-1].windows))
        return Timing((), windows, (1.2,) * self.plans[-1].latencies)


def test_windows_of_one_execute_are_the_single_executes_of_a_slow_engine(monkeypatch):
    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", 0.0)
    one = side(Heavy())

    ((timing,),), _, _ = measuring.pairs_until_decided([one], None, 60.0, lambda: None)

    assert timing.latencies == pytest.approx((1.2,))
    run = run_of((timing,), peer=timing.windows)
    assert judged(run, speed_of(run, 8), 8, None, 1.0).outcome is not Outcome.INVALID
    assert measuring.SINGLES_PLAN not in one.session.plans


def test_windows_of_one_execute_are_the_chips_whatever_its_peer_does(monkeypatch):
    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", 0.0)
    one = side(Heavy())

    ((timing, _),), _, _ = measuring.pairs_until_decided([one, side(who="eager")], None, 60.0, lambda: None)

    assert timing.latencies == pytest.approx((1.2,))
    assert measuring.SINGLES_PLAN not in one.session.plans


def test_of_a_card_the_first_device_is_run_on_to_look_at_its_memory(monkeypatch):
    one, two = side(Growing(100, 101, 102)), Side("two", Session(), {"x": 2 * INPUTS["x"]}, {})
    two = replace(two, answered=two.session.run(two.inputs))
    fed, run = [], one.session.measure
    monkeypatch.setattr(one.session, "measure", lambda inputs, plan: fed.append((inputs, plan)) or run(inputs, plan))

    card_until_decided([one, two], PLAN, None, 60.0)

    assert fed[-1] == (INPUTS, measuring.FLAT_PLAN)
    assert measuring.FLAT_PLAN not in two.session.plans
    assert [resident for _, resident in one.noted] == [100, 101, 102]


class Streams(Session):
    """Two executes are in flight together and take 1.2 s, one alone takes as long as the clock says."""

    places = 2

    def together(self, batches, **_):
        return [self.run(inputs) for inputs in batches]

    def finish(self):
        windows = tuple(Window(3.0 * n, 3.0 * n + 1.2, 2) for n in range(self.plans[-1].windows))
        return Timing((), windows, (0.5,) * self.plans[-1].latencies, in_flight=2)


@pytest.mark.parametrize(("alone", "asked"), [(1.1, 0), (0.9, 1)])
def test_looks_are_the_single_executes_of_a_slow_engine_of_several_streams(monkeypatch, alone, asked):
    """Its windows are not: executes in flight together lengthen one another."""
    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", 0.0)
    now = itertools.count()
    monkeypatch.setattr(checks.time, "perf_counter", lambda: alone * next(now))
    one = side(Streams())

    ((timing,),), _, _ = measuring.pairs_until_decided([one], None, 60.0, lambda: None)

    assert one.session.plans.count(measuring.SINGLES_PLAN) == asked
    assert len(one.session.plans) == measuring.FEWEST_PAIRS + asked, "and no repeated executes beside the windows"
    assert {round(seconds, 6) for seconds in timing.latencies} == {0.5 if asked else alone}
    assert asked or 1 <= len(timing.latencies) <= checks.LOOKS


def test_streams_that_repeat_inputs_in_half_the_time_of_new_ones_are_asked_for_both_in_turn(monkeypatch):
    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", 0.0)
    now = itertools.count()
    monkeypatch.setattr(checks.time, "perf_counter", lambda: 2.5 * next(now))
    one = side(Streams())

    measuring.pairs_until_decided([one], None, 60.0, lambda: None)

    assert checks.FRESH_PLAN in one.session.plans


def test_single_executes_beside_other_load_are_run_again(monkeypatch):
    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", 0.0)
    monkeypatch.setattr(measuring, "others_rest", lambda others, end: True)
    monkeypatch.setattr(measuring, "others_share", lambda before, after: next(shares))
    shares, looks = iter((0.0, 0.5, 0.0)), []
    monkeypatch.setattr(Side, "look", lambda self, draw: looks.append(1) or (2.0 + len(looks),))

    ((timing,),), _, _ = measuring.pairs_until_decided([side(Streams())], None, 60.0, lambda: None)

    assert timing.latencies == (4.0,), "those of the second look"


def test_windows_in_turn_whose_executes_are_all_skipped_leave_the_outputs_of_other_inputs():
    one, eager = side(Session(windows_skip=True)), side(who="eager")

    with pytest.raises(InvalidMeasurement, match="output y"):
        measuring.pairs_until_decided([one, eager], None, 60.0, lambda: None)


def test_a_card_gets_the_plan_first_and_then_windows_only():
    one = side()
    verdicts = iter([INCONCLUSIVE, Verdict(Outcome.PASS, "")])

    blocks, effort = card_until_decided([one], PLAN, lambda blocks, effort: next(verdicts), 60.0)

    after = (checks.FRESH_PLAN, measuring.FLAT_PLAN)
    first, second = (plan for plan in one.session.plans if plan not in after)
    assert first == PLAN
    assert (second.windows, second.latencies, second.warmup_s) == (20, 0, 0.2)
    assert second.limit_s <= 60.0
    assert effort.look == len(blocks) == 2


def test_a_fresh_session_of_a_card_is_warmed_up_looked_at_and_checked_as_the_first(monkeypatch):
    sides, old = [side()], []
    verdicts = iter([SESSIONS_WANTED, Verdict(Outcome.PASS, "")])
    together = []
    monkeypatch.setattr(Side, "check_together", lambda self, draw: together.append(self))
    monkeypatch.setattr(
        measuring, "time", SimpleNamespace(monotonic=iter(range(1000)).__next__, perf_counter=lambda: 0)
    )

    def renew():
        old.extend(sides)
        sides[:] = [side()]

    plan = replace(PLAN, warmup_s=1.0)
    blocks, effort = card_until_decided(sides, plan, lambda blocks, effort: next(verdicts), 600.0, renew=renew)

    assert len(blocks) == effort.sessions == 6
    assert together == [*old, *sides]
    for one in (*old[1:], *sides):
        (asked,) = (asked for asked in one.session.plans if asked is not checks.FRESH_PLAN)
        assert (asked.windows, asked.warmup_s, asked.latencies) == (4, 1.0, 0)
    assert old[0].session.plans == [plan]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_any_device_of_a_card_that_skips_work_is_told(place):
    sides = [side(Session(windows_skip=number == place)) for number in range(3)]

    with pytest.raises(InvalidMeasurement, match="differs after the timed runs"):
        at_once(sides, PLAN)


def test_a_fresh_session_that_skips_work_is_told():
    sides, verdicts = [side()], iter([SESSIONS_WANTED])

    def renew():
        sides[:] = [side(Session(windows_skip=True))]

    with pytest.raises(InvalidMeasurement, match="differs after the timed runs"):
        card_until_decided(sides, PLAN, lambda blocks, effort: next(verdicts), 600.0, renew=renew)


def pairs(monkeypatch, readings, conclude=None, patience=60.0):
    monkeypatch.setattr(measuring, "PAUSE_S", 0.0)
    monkeypatch.setattr(load.time, "sleep", lambda seconds: None)
    told = iter(readings)
    found = measuring.pairs_until_decided([side(), side(who="eager")], conclude, patience, lambda: next(told))
    return *found, next(told, None) is not None


def test_pairs_beside_other_load_are_taken_again_when_it_has_gone(monkeypatch):
    waits = [0.9, 0.5, 0.0]  # the block; while waiting; the end of waiting
    readings = [*loads(waits[0]), *loads(waits[1]), *loads(waits[2]), *loads(0.02), *loads(0.0)]

    blocks, effort, disturbed, unread = pairs(monkeypatch, readings)

    assert disturbed == ""
    assert len(blocks) == effort.look == 1
    assert not unread
    assert len(blocks[0][0].windows) == measuring.PAIRS
    assert len(blocks[0][0].latencies) == 3


def test_other_load_that_outlasts_the_patience_is_on_record(monkeypatch):
    blocks, _, disturbed, _ = pairs(monkeypatch, [*loads(0.6), *loads(0.6)], patience=0.0)

    assert disturbed == "other programs used 60% of the cores (up to 10% is idle)"
    assert blocks[0][0].latencies == (), "single executes beside other load say nothing either"


def test_a_later_block_beside_other_load_does_not_spoil_the_first(monkeypatch):
    readings = loads(0.0, 0.0, *[0.9] * 1_000_000)  # read twice a block

    blocks, _, disturbed, _ = pairs(monkeypatch, readings, lambda blocks, effort: INCONCLUSIVE, patience=0.3)

    assert disturbed == ""
    assert [len(block[0].windows) for block in blocks] == [measuring.PAIRS]


def test_every_block_keeps_its_own_windows_and_the_last_has_the_single_executes(monkeypatch):
    told = iter([INCONCLUSIVE, INCONCLUSIVE, Verdict(Outcome.PASS, "")])

    blocks, *_ = pairs(monkeypatch, loads(*[0.0] * 20), lambda blocks, effort: next(told))

    for one in (0, 1):
        starts = [window.start for block in blocks for window in block[one].windows]
        assert starts == sorted(set(starts))
    assert [len(block[0].latencies) for block in blocks] == [0, 0, 3]


TIMING = Timing((), tuple(Window(float(i), i + 1.0, 100) for i in range(4)), (0.01,))
PICTURE = {"image": np.arange(4, dtype="f4").reshape(1, 2, 2)}


class Slow:
    """A session whose timed run ends when it is told to."""

    def __init__(self):
        self.end = threading.Event()

    def run(self, inputs):
        return inputs

    def start(self, inputs, plan):
        pass

    def finish(self):
        assert self.end.wait(10)
        return TIMING

    def read(self):
        return PICTURE


@pytest.mark.parametrize("fails", [False, True])
def test_devices_are_looked_at_while_they_work(monkeypatch, fails):
    monkeypatch.setattr(measuring, "LOOK_S", 0.001)
    session, looks = Slow(), []

    def look():
        assert threading.current_thread().daemon, "a vendor's tool that hangs does not keep the process"
        looks.append(1)
        if fails or len(looks) == 3:
            session.end.set()
        if fails:
            raise DeviceError("npu-smi is gone", "look")

    timings = at_once([Side("a", session, PICTURE, PICTURE)], Plan(), look=look)

    assert timings == (TIMING,)
    assert len(looks) == 1 if fails else len(looks) >= 3


def test_sides_in_turn_keep_how_many_executes_are_in_flight(monkeypatch):
    """Else a runtime with two streams would be taken for one that counts twice."""
    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", math.inf)
    two = SimpleNamespace(measure=lambda inputs, plan: Timing((), (Window(0.0, 1.0, 4),), (), in_flight=2), read=dict)

    (timing,) = measuring.in_turn([Side("chip", two, INPUTS, {})])

    assert (timing.in_flight, len(timing.windows)) == (2, measuring.PAIRS)


def test_sides_in_turn_are_fed_with_their_first_window_and_keep_that(monkeypatch):
    fed = []

    def measure(inputs, plan):
        fed.append(inputs)
        return Timing((), (Window(0.0, 1.0, 1),), ())

    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", math.inf)
    ours = {"x": np.ones(1)}
    measuring.in_turn([Side("chip", SimpleNamespace(measure=measure, read=dict), ours, {})])

    assert fed[0] is ours
    assert fed[1:] == [None] * (measuring.PAIRS - 1)


def test_a_slow_engine_is_asked_for_no_repeated_executes_beside_its_windows(monkeypatch):
    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", 0.0)
    slow = side(Heavy())
    slow.took.append(1.2)

    measuring.pairs_until_decided([slow], None, 60.0, lambda: None)

    assert len(slow.session.plans) == measuring.FEWEST_PAIRS


def test_what_each_session_is_asked_for():
    """Eight windows of a tenth of a second each in turn, then of the chip alone inputs that it has not met, each
    repeated once, and single executes for a second."""
    chip, eager = side(Growing(100, 101, 102)), side(who="eager")
    measuring.pairs_until_decided([chip, eager], None, 60.0, lambda: None)

    pair, repeated = Plan(0.0, 0.1, 1, 0), Plan(0.0, 1e-9, 2, 0)
    assert eager.session.plans == [pair] * 8
    *rest, singles = chip.session.plans
    assert rest[:8] == [pair] * 8
    assert rest[8:] == [repeated] * len(rest[8:])
    assert len(rest) > 8
    assert singles == Plan(0.0, 0.001, 1, 1000, latency_s=1.0)

    card = side(Growing(100, 101, 102))
    card_until_decided([card], PLAN, None, 60.0)
    assert card.session.plans[-1] == Plan(0.0, 1e-9, 1000, 0, limit_s=1.0)


def test_only_the_chip_is_asked_for_several_executes_and_new_inputs(monkeypatch):
    asked = []
    monkeypatch.setattr(Side, "check_together", lambda self, draw: asked.append(("together", self.who)))
    monkeypatch.setattr(Side, "check_fresh", lambda self, timed: asked.append(("fresh", self.who)))

    measuring.pairs_until_decided([side(), side(who="eager")], None, 60.0, lambda: None)

    assert asked == [("together", "chip"), ("fresh", "chip")]


def test_the_first_look_takes_three_seconds_and_rests_after_eager_pytorch(monkeypatch):
    slept = []
    for sides, rests in (([side(), side(who="eager")], [0.03] * 6), ([side()], [])):
        now = iter((10.0, 12.9, 12.99, 13.0))
        clock = SimpleNamespace(perf_counter=lambda now=now: next(now), sleep=slept.append)
        monkeypatch.setattr(measuring, "time", clock)

        assert [len(timing.windows) for timing in measuring.in_turn(sides)] == [6] * len(sides)
        assert slept == rests
        slept.clear()


@pytest.mark.parametrize(("limit_s", "windows"), [(0.0, 4), (-1.0, 6), (60.0, 6)])
def test_a_limit_of_no_time_leaves_the_fewest_pairs(limit_s, windows):
    (timing,) = measuring.in_turn([side()], 6, limit_s)

    assert len(timing.windows) == windows


def test_devices_are_queried_every_second_and_a_half():
    waited, over = [], iter((False, False, True))

    measuring._watch(lambda: None, SimpleNamespace(is_set=lambda: next(over), wait=waited.append))

    assert waited == [1.5, 1.5]


def test_a_slow_engine_is_looked_at_after_four_pairs(monkeypatch):
    monkeypatch.setattr(measuring, "PAIRS_LIMIT_S", 0.0)
    slow = SimpleNamespace(measure=lambda inputs, plan: Timing((), (Window(0.0, 4.0, 1),), ()), read=dict)

    (timing,) = measuring.in_turn([Side("chip", slow, INPUTS, {})])

    assert len(timing.windows) == measuring.FEWEST_PAIRS == 4


def test_looks_count_the_windows_of_the_first_side():
    """A second device may fill more windows in the same time."""
    asked = []

    def measure(windows, left):
        asked.append(windows)
        return series([10] * windows), series([10] * 2 * windows)

    verdicts = iter([INCONCLUSIVE, INCONCLUSIVE, Verdict(Outcome.PASS, "")])
    until_decided(measure, lambda blocks, effort: next(verdicts), 3, 600.0, clock=Clock())

    assert asked == [3, 3, 6]
