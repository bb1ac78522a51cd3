"""How throughput is measured: blocks until the verdict is known, outputs looked at, other load waited for."""

import math
import random
import threading
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from made_loads import loads

from harness.backends.base import Health
from harness.baselines import load as published
from harness.errors import DeviceError, InvalidMeasurement
from harness.judge.stats import FULL, Estimate
from harness.judge.throughput import Effort
from harness.judge.timing import Plan, Timing, Window
from harness.judge.verdict import Verdict
from harness.run import load
from harness.run import throughput as measuring
from harness.run.throughput import (
    Measurement,
    Side,
    at_once,
    card_until_decided,
    judged,
    slower,
    speed_of,
    until_decided,
)
from harness.vocabulary import Outcome

CELL = published().best("gfocalv2_r50_fpn", "t4")
INCONCLUSIVE = Verdict(Outcome.INCONCLUSIVE, "", {"needed_windows": 100})


def series(rates, start=0.0, latencies=()):
    return Timing((), tuple(Window(start + n, start + n + 1, rate) for n, rate in enumerate(rates)), tuple(latencies))


def run_of(*blocks, peer=(), devices=1, **more):
    return Measurement(tuple(blocks), tuple(peer), devices, (), (), **more)


# ---------------------------------------------------------------------------------------------- until decided


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
    windows, _, asked = measured([INCONCLUSIVE] * 5 + [Verdict(Outcome.PASS, "")], first=3, patience_s=600)

    assert [n for n, _ in asked] == [3, 6, 18, FULL - 27, 20, 30]
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


def in_sessions(verdicts, patience_s=60.0, begins_s=7.0):
    """(windows, effort, windows of the sessions begun, their looks); it takes `begins_s` seconds to begin a session."""
    clock, begun, looks, told = Clock(), [], [], iter(verdicts)

    def measure(windows, left):
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


# ---------------------------------------------------------------------------------------------- figures


def test_rates_of_all_blocks_count_and_the_time_between_blocks_does_not():
    run = run_of((series([10, 20]),), (series([30], start=1000.0),))

    assert run.rates == pytest.approx((10, 20, 30))
    assert run_of((series([10]), series([5])), devices=2).rates == pytest.approx((15,))
    two = run_of((series([10]), series([5])), (series([10], 50.0), series([7], 50.0)), devices=2)
    assert two.rates == pytest.approx((15, 17))
    assert len(two.timings) == 2


def test_each_session_counts_once_and_all_looks_before_the_fresh_ones_are_one():
    """Windows of 10, 12 and 11 in two looks, then five sessions."""
    fresh = [(series([rate, rate + 0.2], 100.0 * rate),) for rate in (10.0, 10.1, 9.9, 10.0, 10.1)]
    run = run_of((series([10, 12]),), (series([11, 11], 50.0),), *fresh, effort=Effort(3, 40.0, sessions=6))
    speed = speed_of(run, 8)

    assert len(run.rates) == speed.samples == 14
    assert speed.value == pytest.approx(8 * (11 + 10.1 + 10.2 + 10.0 + 10.1 + 10.2) / 6)
    assert speed.sessions == 6
    two = run_of(*((series([10, 12, 11]), series([5, 6, 5, 6])) for _ in range(6)), effort=Effort(2, 9.0, sessions=6))
    assert speed_of(two, 1).samples == len(two.rates) == 18, "of several devices, as many as the shortest series has"


def test_a_card_of_which_one_device_was_there_counts_for_all_of_them_once():
    run = run_of((series([10, 12, 11]),), devices=4)

    assert run.scaled == 4
    assert run.rates == pytest.approx((40, 48, 44))
    assert speed_of(run, 8).value == pytest.approx(8 * 44)
    assert run_of((series([10]), series([10])), devices=2).scaled == 1


def test_the_latency_is_the_median_of_single_executes_or_the_quickest_window_beside_eager_pytorch():
    assert run_of((series([10, 20], latencies=(0.3, 0.1, 0.2)),)).latency == 0.2
    assert run_of((series([10, 20], latencies=(0.3,)),), peer=(Window(0, 1, 1),)).latency == pytest.approx(1 / 20)
    assert run_of((series([10, 20]),)).latency == pytest.approx(1 / 20)
    assert run_of((series([10], latencies=(1.0,)), series([10], latencies=(2.0,)))).latencies == (1.0, 2.0)


# ---------------------------------------------------------------------------------------------- verdicts


def chip(share, **more):
    """A chip at that share of what was published at batch 8, one execute after the other."""
    rate = share * CELL.value / 8
    timing = Timing((), tuple(Window(n, n + 1, rate) for n in range(FULL)), (1 / rate,) * 20)
    return run_of((timing,), **more)


def of(run, speed=None, eager=None):
    return judged(run, speed or speed_of(run, 8), 8, CELL if eager is None else None, eager)


def test_a_chip_is_held_against_what_was_published():
    assert of(chip(1.0)).outcome is Outcome.PASS
    assert of(chip(0.6)).outcome is Outcome.FAIL
    assert of(chip(1.0, effort=Effort(2, 70.0))).details["look"] == 2


def test_a_chip_at_60_percent_that_counts_double_is_told():
    run = chip(0.6)
    verdict = of(run, speed_of(run, 16))

    assert verdict.outcome is Outcome.INVALID
    assert "2 executes at once on each device" in verdict.text


def test_devices_that_were_not_there_are_taken_into_account():
    assert of(chip(0.25, devices=4)).outcome is Outcome.PASS


def test_a_cpu_is_held_against_eager_pytorch_and_a_figure_alone_gets_no_verdict():
    rate = [Window(n, n + 1, 10) for n in range(FULL)]
    run = run_of((Timing((), tuple(rate), ()),), peer=rate, effort=Effort(1, 9.0, "pairs of windows"))

    assert of(run, eager=1.0).outcome is Outcome.PASS
    assert of(run, eager=2.0).outcome is Outcome.FAIL
    assert of(run_of((Timing((), tuple(rate), ()),)), eager=1.0).outcome is Outcome.INCONCLUSIVE


def test_other_load_all_the_time_leaves_no_verdict():
    verdict = of(chip(1.0, disturbed="other programs used 97% of the cores"))

    assert verdict.outcome is Outcome.INVALID
    assert "other programs used 97% of the cores: end it" in verdict.text


# ---------------------------------------------------------------------------------------------- outputs


class Session:
    """Sums its inputs row by row; of its executes, counted from 1, those in `skipped` are not done."""

    places, resident_mb = 1, None

    def __init__(self, skipped=lambda number: False, factor=1.0, windows_skip=False):
        self.skipped, self.factor, self.windows_skip = skipped, factor, windows_skip
        self.executes, self.result, self.plans = 0, None, []

    def _execute(self, inputs, skip=False):
        self.executes += 1
        if self.result is None or not (skip or self.skipped(self.executes)):
            weights = np.arange(1, inputs["x"].shape[-2] + 1)[:, None]
            self.result = {"y": self.factor * (inputs["x"] * weights).sum((-2, -1))}

    def run(self, inputs):
        self._execute(inputs)
        return self.read()

    def start(self, inputs, plan):
        self.plans.append(plan)
        self._execute(inputs, self.windows_skip)

    def finish(self):
        return series([10] * self.plans[-1].windows, latencies=(0.1,) * min(3, self.plans[-1].latencies))

    def measure(self, inputs, plan):
        self.start(inputs or INPUTS, plan)
        return self.finish()

    def read(self):
        return {"y": self.result["y"].copy()}


INPUTS = {"x": np.random.default_rng(0).uniform(0, 1, (2, 3, 4, 4)).astype(np.float32)}
PLAN = Plan(windows=20, latencies=3)


def side(session=None, who="chip"):
    session = session or Session()
    return Side(who, session, INPUTS, session.run(INPUTS))


def test_what_computes_every_execute_passes_every_look():
    for seed in range(20):
        (timing,) = at_once([side()], PLAN, random.Random(seed))
        assert len(timing.windows) == 20


def test_timed_work_that_is_not_done_leaves_another_answer_behind():
    with pytest.raises(InvalidMeasurement, match="chip: output y differs after the timed runs"):
        at_once([side(Session(windows_skip=True))], PLAN)


@pytest.mark.parametrize("period", [2, 3, 5])
def test_executes_that_are_skipped_now_and_then_are_caught_by_looks_at_random(period):
    caught = 0
    for seed in range(60):
        session = Session()
        one = side(session)
        session.skipped = lambda number: number % period == 0
        try:
            for look in range(4):  # blocks of windows
                at_once([one], PLAN, random.Random(10 * seed + look))
        except InvalidMeasurement:
            caught += 1

    assert caught >= (57 if period < 5 else 50), f"caught {caught} of 60"


def test_a_look_runs_an_unforeseeable_number_of_executes():
    counts = set()
    for seed in range(40):
        one = side()
        before = one.session.executes
        one.look(random.Random(seed))
        counts.add(one.session.executes - before)

    assert counts == {2, 3, 4}, "one for the images upside down, and one to three"


def test_a_runtime_that_answers_every_input_alike_is_no_measurement():
    one = side()
    one.session.skipped = lambda number: True

    with pytest.raises(InvalidMeasurement, match="images upside down give the same outputs"):
        one.look(random.Random(0))


def close_to_the_right_one(outputs):
    right = np.allclose(outputs["y"], Session().run(INPUTS)["y"], rtol=0.2)
    return Verdict(Outcome.PASS if right else Outcome.FAIL, "a verdict")


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ((1.0, 1.1, 1.0), "device 1 of the 3 devices measured: outputs differ"),
        ((1.0, 1.0, -1.0), "device 2 of the 3 devices measured computes wrong"),
        ((-1.0, 1.0, 1.0), "device 0 of the 3 devices measured computes wrong"),
        ((1.0, -1.0, -1.0), "device 1, device 2 of the 3 devices"),
        ((1.0, 1.1), "device 0, device 1 of the 2 devices measured: outputs differ"),
    ],
)
def test_the_device_of_a_card_that_computes_otherwise_is_named(factors, said):
    sides = {f"device {n}": side(Session(factor=factor)) for n, factor in enumerate(factors)}

    with pytest.raises(InvalidMeasurement, match=said):
        measuring.check_devices(sides, close_to_the_right_one)


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_devices_that_compute_alike_are_timed_and_a_wrong_engine_is_not_theirs(factor):
    measuring.check_devices({f"device {n}": side(Session(factor=factor)) for n in range(3)}, close_to_the_right_one)


class Remembering(Session):
    """Takes `seconds` for new inputs and `again` for those that it was fed last."""

    def __init__(self, seconds=0.01, again=0.001):
        super().__init__()
        self.seconds, self.again, self.fed = seconds, again, []

    def measure(self, inputs, plan):
        self.fed.append(inputs)
        return Timing((), (Window(0, self.seconds, 1), Window(1, 1 + self.again, 1)), ())


@pytest.mark.parametrize(("seconds", "again", "kept"), [(0.01, 0.001, True), (0.01, 0.006, False), (4e-5, 1e-5, False)])
def test_a_runtime_that_keeps_outputs_by_their_inputs_is_no_measurement(seconds, again, kept):
    one = side(Remembering(seconds, again))

    if kept:
        with pytest.raises(InvalidMeasurement, match="10 ms with new inputs and 1 ms when it is repeated"):
            one.check_fresh()
    else:
        one.check_fresh()
    assert len(one.session.fed) == measuring.FRESH
    assert one.session.fed[0] is one.turned[0], "the windows before were fed the usual ones"
    assert one.session.fed[1] is INPUTS


def test_the_times_of_a_simulator_are_not_held_against_it():
    """It keeps outputs to be quick, and under load its first execute of new inputs takes longer than its pace."""
    one = replace(side(Remembering(0.01, 0.001)), simulated=True)

    one.check_fresh()

    assert not one.session.fed


@pytest.mark.parametrize(("again", "pairs"), [(2.0, 1), (0.5, 3)])
def test_a_slow_engine_is_asked_once_and_once_more_where_it_seems_to_remember(monkeypatch, again, pairs):
    monkeypatch.setattr(measuring, "FRESH_ENOUGH", (1, 0.0))
    monkeypatch.setattr(measuring, "FRESH_SURE", (3, 0.0))
    one = side(Remembering(2.0, again))

    if pairs > 1:
        with pytest.raises(InvalidMeasurement):
            one.check_fresh()
    else:
        one.check_fresh()
    assert len(one.session.fed) == pairs


def test_one_stall_of_an_execute_with_new_inputs_is_no_proof(monkeypatch):
    monkeypatch.setattr(measuring, "FRESH_ENOUGH", (1, 0.0))
    one = side(Remembering(2.0, 0.5))
    stalled = one.session.measure

    def measure(inputs, plan):
        found = stalled(inputs, plan)
        one.session.seconds = 0.5
        return found

    monkeypatch.setattr(one.session, "measure", measure)

    one.check_fresh()

    assert 1 < len(one.session.fed) <= measuring.FRESH


def test_a_card_and_a_cpu_are_both_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(Side, "check_fresh", lambda self: asked.append(self.who))

    card_until_decided([side(), side(who="two")], PLAN, None, 60.0)
    measuring.pairs_until_decided([side()], None, 60.0, lambda: None)

    assert asked == ["chip", "two", "chip"]


class Together(Session):
    """Three executes in flight; with `shared` all have the outputs of the last."""

    places = 3

    def __init__(self, shared):
        super().__init__()
        self.shared, self.fed = shared, []

    def together(self, batches):
        self.fed.append(batches)
        found = [self.run(inputs) for inputs in batches]
        return [found[-1]] * len(found) if self.shared else found


@pytest.mark.parametrize("shared", [False, True])
def test_executes_in_flight_together_give_what_each_gives_alone(shared):
    for seed in range(10):
        one = side(Together(shared))
        if shared:
            with pytest.raises(InvalidMeasurement, match=r"of 3 executes in flight together, [12] give other outputs"):
                one.check_together(random.Random(seed))
        else:
            one.check_together(random.Random(seed))
        (fed,) = one.session.fed
        assert {inputs is INPUTS for inputs in fed} == {True, False}, "both inputs are there"


def test_a_device_that_runs_one_execute_at_a_time_is_not_asked_for_several():
    side().check_together(random.Random(0))  # it has no `together`


class Growing(Session):
    """Its resident memory at each note, in MB."""

    def __init__(self, *resident):
        super().__init__()
        self.resident = iter(resident)

    @property
    def resident_mb(self):
        return next(self.resident)


@pytest.mark.parametrize(
    ("resident", "grown"),
    [((100, 109, 109.5), 0.5), ((100, 101, 109), 8), ((100, 109, 118), None), ((100, 99, 98), -1)],
)
def test_a_process_that_grows_with_every_execute_is_no_server(resident, grown):
    one = side(Growing(*resident))
    for executes in (0, 30, 1030):
        one.session.executes = executes
        one.note()

    if grown is None:
        told = "the process grew by 9 MB in 30 executes, then by 9 MB in 1000\n"
        with pytest.raises(InvalidMeasurement, match=told):
            one.check_flat()
    else:
        assert one.check_flat() == {"memory_growth_mb": grown, "memory_executes": 1000}


def test_memory_that_the_system_does_not_tell_is_no_figure():
    one, simulated = side(), replace(side(Growing(1, 2, 3, 4)), simulated=True)
    for each in (one, simulated):
        each.note()
        each.note()

        assert each.check_flat() == {}


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
    assert of(run_of((timing,), peer=timing.windows), eager=1.0).outcome is not Outcome.INVALID
    assert measuring.SINGLES_PLAN not in one.session.plans


def test_another_process_must_give_the_same_outputs():
    measuring.check_processes(side(), {"y": side().answered["y"] * 1.0005})
    with pytest.raises(InvalidMeasurement, match="output y differs from that of an earlier process"):
        measuring.check_processes(side(), {"y": side().answered["y"] * 1.1})


def test_answers_may_differ_by_rounding_only():
    one = Side("chip", Session(factor=1.0005), INPUTS, Session().run(INPUTS))
    two = Side("chip", Session(factor=1.003), INPUTS, Session().run(INPUTS))
    for each in (one, two):
        each.session.run(INPUTS)

    one.audit()
    with pytest.raises(InvalidMeasurement):
        two.audit()


def test_a_card_gets_the_plan_first_and_then_windows_only():
    one = side()
    verdicts = iter([INCONCLUSIVE, Verdict(Outcome.PASS, "")])

    blocks, effort = card_until_decided([one], PLAN, lambda blocks, effort: next(verdicts), 60.0)

    after = (measuring.FRESH_PLAN, measuring.FLAT_PLAN)
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
        (asked,) = (asked for asked in one.session.plans if asked is not measuring.FRESH_PLAN)
        assert (asked.windows, asked.warmup_s, asked.latencies) == (4, 1.0, 0)
    assert old[0].session.plans == [plan]


def test_a_fresh_session_that_skips_work_is_told():
    sides, verdicts = [side()], iter([SESSIONS_WANTED])

    def renew():
        sides[:] = [side(Session(windows_skip=True))]

    with pytest.raises(InvalidMeasurement, match="differs after the timed runs"):
        card_until_decided(sides, PLAN, lambda blocks, effort: next(verdicts), 600.0, renew=renew)


# ---------------------------------------------------------------------------------------------- other load


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


# ---------------------------------------------------------------------------------------------- devices of a card

TIMING = Timing((), tuple(Window(float(i), i + 1.0, 100) for i in range(4)), (0.01,))
PICTURE = {"image": np.arange(4, dtype="f4").reshape(1, 2, 2)}


@pytest.mark.parametrize(
    ("devices", "of_card", "here", "scaled", "mark"),
    [
        (4, 4, 4, 1, ""),  # a 310 card
        (1, 4, 1, 4, "x4"),
        (2, 4, 2, 2, "x2"),
        (1, 1, 1, 1, ""),  # a 310P card
        (1, 1, 2, 1, "1-of-2"),  # a Duo: two 310P
    ],
)
def test_the_mark_says_what_was_done(devices, of_card, here, scaled, mark):
    run = Measurement(((TIMING,) * devices,), (), of_card, (), (), devices_here=here)

    assert (run.scaled, run.mark) == (scaled, mark)
    assert run.rates[0] == pytest.approx(100 * devices * scaled)


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
        looks.append(1)
        if fails or len(looks) == 3:
            session.end.set()
        if fails:
            raise DeviceError("npu-smi is gone", "look")

    timings = at_once([Side("a", session, PICTURE, PICTURE)], Plan(), look=look)

    assert timings == (TIMING,)
    assert len(looks) == 1 if fails else len(looks) >= 3


def test_a_chip_that_computes_several_executes_at_once_may_be_so_much_faster_than_one_alone():
    run = chip(1.0)
    alone = tuple(replace(timing, latencies=tuple(4 * s for s in timing.latencies)) for timing in run.timings)
    several = tuple(replace(timing, in_flight=4) for timing in alone)

    assert of(run_of(alone)).outcome is Outcome.INVALID
    assert of(run_of(several)).outcome is Outcome.PASS


def test_the_verdict_that_ends_a_measurement_takes_chip_and_eager_pytorch_apart():
    """Windows of 20/s beside eager PyTorch's 10/s, in one block: at least as fast is asked, then three times."""
    block = (series([20] * FULL), series([10] * FULL))

    for eager, outcome in ((1.0, Outcome.PASS), (3.0, Outcome.FAIL)):
        conclude = measuring.conclusion(8, None, eager, 1, peers=["eager PyTorch"])
        verdict = conclude((block,), Effort(1, 9.0, "pairs of windows"))
        assert verdict.outcome is outcome
        assert verdict.details["ratio"] == pytest.approx(2.0)


def test_the_verdict_that_ends_a_measurement_is_by_eager_pytorch_whatever_else_takes_turns():
    block = (series([20] * FULL), series([40] * FULL), series([10] * FULL))

    conclude = measuring.conclusion(8, None, 1.0, 1, peers=["ONNX Runtime", "eager PyTorch"])
    verdict = conclude((block,), Effort(1, 9.0, "pairs of windows"))

    assert (verdict.outcome, verdict.details["ratio"]) == (Outcome.PASS, pytest.approx(2.0))


@pytest.mark.parametrize(
    ("rate", "place"), [(5, "the chip is faster"), (20, "the chip is slower"), (10, "no difference is certain")]
)
def test_a_program_beside_is_told_and_changes_no_outcome(rate, place):
    windows = [Window(n, n + 1, 10) for n in range(FULL)]
    other = tuple(Window(n, n + 1 + 0.1 * (n % 3 - 1), rate) for n in range(FULL))
    run = run_of((Timing((), tuple(windows), ()),), peer=windows, effort=Effort(1, 9.0, "pairs of windows"),
                 beside={"ONNX Runtime": other})  # fmt: skip

    verdict = of(run, eager=1.0)

    assert verdict.outcome is Outcome.PASS
    assert verdict.text.endswith(f" times ONNX Runtime in the same run; not judged; {place}")
    assert verdict.details["ratio"] == 1.0
    assert verdict.details["onnx_runtime_ratio"] == pytest.approx(10 / rate, rel=0.01)
    low, high = verdict.details["onnx_runtime_ratio_low"], verdict.details["onnx_runtime_ratio_high"]
    assert low < verdict.details["onnx_runtime_ratio"] < high
    assert verdict.details["beside"] == {"ONNX Runtime": [verdict.details["onnx_runtime_ratio"], low, high]}


def test_the_verdict_that_ends_a_measurement_is_of_the_batch_and_the_cards_devices():
    published = measuring.conclusion(8, CELL, None, 2)((((series([CELL.value / 16] * FULL)),),), Effort(1, 9.0))

    assert published.outcome is Outcome.PASS
    assert published.details["ratio"] == pytest.approx(1.0)


def test_cards_that_are_certainly_slower_than_the_others_are_named():
    rates = {0: (100, 1), 1: (101, 1), 2: (93, 1), 3: (93, 3), 4: (99, 1), 5: (130, 1)}
    speeds = {n: Estimate(rate, rate - width, rate + width, width, 9) for n, (rate, width) in rates.items()}

    assert slower(speeds) == {2: pytest.approx(1 - 93 / 99.5)}


def test_looks_count_the_windows_of_the_first_side():
    """A second device may fill more windows in the same time."""
    asked = []

    def measure(windows, left):
        asked.append(windows)
        return series([10] * windows), series([10] * 2 * windows)

    verdicts = iter([INCONCLUSIVE, INCONCLUSIVE, Verdict(Outcome.PASS, "")])
    until_decided(measure, lambda blocks, effort: next(verdicts), 3, 600.0, clock=Clock())

    assert asked == [3, 6, 18]


def test_a_card_on_which_no_other_stage_ran_is_held_against_the_reference():
    measuring.check_right([side()], close_to_the_right_one)
    with pytest.raises(InvalidMeasurement, match="chip: wrong outputs"):
        measuring.check_right([side(), side(Session(factor=-1.0))], close_to_the_right_one)


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
    measuring.in_turn([measuring.Side("chip", SimpleNamespace(measure=measure, read=dict), ours, {})])

    assert fed[0] is ours
    assert fed[1:] == [None] * (measuring.PAIRS - 1)


def test_memory_of_a_card_is_that_of_its_device_with_most():
    held = [Health(own_mb=300.0), Health(own_mb=None), Health(own_mb=512.06)]

    assert Measurement((), (), 4, (), tuple(held)).device_peak_mb == {"device_peak_mb": 512.1}
    assert Measurement((), (), 4, (), (Health(),)).device_peak_mb == {}
