"""A session that is timed: its outputs are looked at, its memory and its neighbours."""

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from made_sessions import INPUTS, PLAN, Growing, Session, side

from harness.errors import InvalidMeasurement
from harness.judge.timing import Plan, Timing, Window
from harness.judge.verdict import Verdict
from harness.run import side as checks
from harness.run.side import Side
from harness.run.throughput import at_once
from harness.vocabulary import Outcome


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

    with pytest.raises(InvalidMeasurement, match=said) as caught:
        checks.check_devices(sides, close_to_the_right_one)
    assert caught.value.hint == "run each with --device N: pytest -m numerics --device N"


@pytest.mark.parametrize("factor", [1.0, -1.0])
def test_devices_that_compute_alike_are_timed_and_a_wrong_engine_is_not_theirs(factor):
    checks.check_devices({f"device {n}": side(Session(factor=factor)) for n in range(3)}, close_to_the_right_one)


class Remembering(Session):
    """Takes `seconds` for new inputs and `again` for those that it was fed last."""

    def __init__(self, seconds=0.01, again=0.001):
        super().__init__()
        self.seconds, self.again, self.fed = seconds, again, []

    def measure(self, inputs, plan):
        assert plan == Plan(warmup_s=0.0, window_s=1e-9, windows=2, latencies=0)
        self.fed.append(inputs)
        return Timing((), (Window(0, self.seconds, 1), Window(1, 1 + self.again, 1)), ())


@pytest.mark.parametrize(("seconds", "again", "kept"), [
    (0.00999, 0.000999, True), (0.001, 0.000599, True), (0.001, 0.000601, False), (9e-5, 2e-5, False),
    (4e-4, 1.99e-4, True), (4e-4, 2.01e-4, False),
])  # fmt: skip
def test_a_runtime_that_keeps_outputs_by_their_inputs_is_no_measurement(seconds, again, kept):
    one = side(Remembering(seconds, again))

    if kept:
        told = f"{1e3 * seconds:.3g} ms with new inputs and {1e3 * again:.3g} ms when it is repeated"
        with pytest.raises(InvalidMeasurement, match=told):
            one.check_fresh()
    else:
        one.check_fresh()
    assert len(one.session.fed) == 15
    assert len({fed["x"].tobytes() for fed in (*one.session.fed[:2], INPUTS, one.turned[0])}) == 4
    assert not any(now is before for before, now in pairwise(one.session.fed)), "else the runtime may know them"


def test_the_times_of_a_simulator_are_not_held_against_it():
    """It keeps outputs to be quick, and under load its first execute of new inputs takes longer than its pace."""
    one = replace(side(Remembering(0.01, 0.001)), simulated=True)

    one.check_fresh()

    assert not one.session.fed


@pytest.mark.parametrize(("again", "pairs"), [(2.0, 1), (0.5, 3)])
def test_a_slow_engine_is_asked_once_and_once_more_where_it_seems_to_remember(monkeypatch, again, pairs):
    monkeypatch.setattr(checks, "FRESH_ENOUGH", (1, 0.0))
    monkeypatch.setattr(checks, "FRESH_SURE", (3, 0.0))
    one = side(Remembering(2.0, again))

    if pairs > 1:
        with pytest.raises(InvalidMeasurement):
            one.check_fresh()
    else:
        one.check_fresh()
    assert len(one.session.fed) == pairs


@pytest.mark.parametrize(
    ("again", "now", "pairs"), [(2.0, (10.0, 10.25, 10.5), 2), (0.5, (10.0, 11.0, 12.0), 4), (2.0, (10.0, 10.6), 1)]
)
def test_new_inputs_are_tried_for_half_a_second_and_for_two_before_a_runtime_is_accused(monkeypatch, again, now, pairs):
    """The time is looked at after the first pair, or after the third."""
    one, clock = side(Remembering(2.0, again)), iter(now)
    monkeypatch.setattr(checks.time, "perf_counter", lambda: next(clock))

    if again < 2:
        with pytest.raises(InvalidMeasurement):
            one.check_fresh()
    else:
        one.check_fresh()
    assert len(one.session.fed) == pairs


@pytest.mark.parametrize(("timed", "asked"), [((2.0, 1.9, 2.2), 0), ((0.1, 2.0, 0.1), 3)])
def test_windows_of_a_slow_engine_are_its_repeated_executes(monkeypatch, timed, asked):
    """They are held against the first execute of the other inputs, which took 2 s."""
    monkeypatch.setattr(checks, "FRESH_ENOUGH", (1, 0.0))
    monkeypatch.setattr(checks, "FRESH_SURE", (3, 0.0))
    clock = iter((10.0, 12.0))
    one = side(Remembering(2.0, 0.1))
    monkeypatch.setattr(checks.time, "perf_counter", lambda: next(clock, 20.0))
    assert one.turned
    assert one.took == [2.0]

    if asked:
        with pytest.raises(InvalidMeasurement, match="when it is repeated"):
            one.check_fresh(timed)
    else:
        one.check_fresh(timed)
    assert len(one.session.fed) == asked


def test_one_stall_of_an_execute_with_new_inputs_is_no_proof(monkeypatch):
    monkeypatch.setattr(checks, "FRESH_ENOUGH", (1, 0.0))
    one = side(Remembering(2.0, 0.5))
    stalled = one.session.measure

    def measure(inputs, plan):
        found = stalled(inputs, plan)
        one.session.seconds = 0.5
        return found

    monkeypatch.setattr(one.session, "measure", measure)

    one.check_fresh()

    assert 1 < len(one.session.fed) <= checks.FRESH


class Wavering(Remembering):
    """Of each pair, the repeated execute takes that much of the other, one after the other."""

    def __init__(self, ratios, seconds=0.01):
        super().__init__(seconds, seconds)
        self.ratios = iter(ratios)

    def measure(self, inputs, plan):
        self.again = self.seconds * next(self.ratios)
        return super().measure(inputs, plan)


@pytest.mark.parametrize(
    ("ratios", "seconds", "wrong"),
    [
        ([0.7] * 15, 0.01, True),
        ([*[0.7] * 7, 0.9, *[0.7] * 7], 0.01, True),
        ([*[0.7] * 7, 0.9, 0.9, *[0.7] * 6], 0.01, False),
        ([0.76] * 15, 0.01, False),
        ([0.7] * 15, 0.0016, False),  # 0.48 ms are gained: what a launch may take
        ([0.7] * 15, 0.0018, True),
    ],
)
def test_a_runtime_that_saves_a_quarter_of_what_is_repeated_is_found_where_nearly_all_pairs_say_so(
    ratios, seconds, wrong
):
    one = side(Wavering(ratios, seconds))

    if wrong:
        with pytest.raises(InvalidMeasurement, match="when it is repeated"):
            one.check_fresh()
    else:
        one.check_fresh()
    assert len(one.session.fed) == 15


def test_pairs_are_added_for_some_seconds_where_a_quarter_may_be_saved(monkeypatch):
    one, clock = side(Wavering([0.7] * 15, 0.3)), iter([0.0, 1.0, 2.0, 4.9, 5.0])
    monkeypatch.setattr(checks.time, "perf_counter", lambda: next(clock))

    one.check_fresh()

    assert len(one.session.fed) == 4, "too few to accuse a runtime"


class Keeping(Remembering):
    """Keeps the outputs of all inputs that it ever met."""

    def measure(self, inputs, plan):
        key = inputs["x"].tobytes()
        met = key in [one["x"].tobytes() for one in self.fed]
        told = super().measure(inputs, plan)
        return Timing((), (Window(0, self.again if met else self.seconds, 1), *told.windows[1:]), ())


def test_a_runtime_that_keeps_the_outputs_of_all_inputs_meets_new_ones():
    high = {"x": np.random.default_rng(0).uniform(0, 1, (2, 3, 40, 4)).astype(np.float32)}
    one = Side("chip", Keeping(), high, Session().run(high))
    one.session.fed += [high, one.turned[0]]

    with pytest.raises(InvalidMeasurement, match="10 ms with new inputs and 1 ms when it is repeated"):
        one.check_fresh()


def test_inputs_that_were_not_met_hold_the_same_pixels_and_no_two_alike_rows():
    few = {"x": np.repeat(INPUTS["x"][:1], 3, axis=0)}
    one = Side("chip", Session(), few, {})
    met = [few["x"][0].tobytes()]

    for number in range(2):
        new = one.unseen(4 * number)["x"]
        assert np.array_equal(np.sort(new, axis=-2), np.sort(few["x"], axis=-2))
        if not number:
            assert len({row.tobytes() for row in [*new, few["x"][0]]}) == 4
    assert met[0] == few["x"][0].tobytes()


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 5), (4, 5)])
def test_pictures_are_turned_upside_down_whatever_axes_come_before(shape):
    inputs = {"x": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}
    session = Session()
    session.run = lambda fed: {"y": fed["x"].ravel()[:1]}
    turned, _ = Side("chip", session, inputs, session.run(inputs)).turned

    assert np.array_equal(turned["x"], inputs["x"][..., ::-1, :])
    assert turned["x"].flags.c_contiguous


def test_inputs_of_a_users_model_are_not_moved():
    one = Side("chip", Session(), INPUTS, Session().run(INPUTS), {"x": -INPUTS["x"]})

    assert one.unseen(1) is one.unseen(3) is INPUTS
    assert one.unseen(0)["x"] is one.unseen(2)["x"] is one.changed["x"]


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
            with pytest.raises(InvalidMeasurement) as caught:
                one.check_together(random.Random(seed))
            *_, last = fed = one.session.fed[0]
            wrong = [str(number) for number, inputs in enumerate(fed, 1) if inputs is not last]
            told = f"of 3 executes in flight together, {len(wrong)} give other outputs than alone: number "
            assert caught.value.fact.endswith(told + ", ".join(wrong))
        else:
            one.check_together(random.Random(seed))
        (fed,) = one.session.fed
        assert {inputs is INPUTS for inputs in fed} == {True, False}, "both inputs are there"


def test_which_inputs_are_in_flight_is_not_foreseeable():
    orders = set()
    for seed in range(40):
        one = side(Together(shared=False))
        one.check_together(random.Random(seed))
        orders.add(tuple(inputs is INPUTS for inputs in one.session.fed[0]))

    assert len(orders) == 6, "all of eight but those of one input alone"


def test_a_device_that_runs_one_execute_at_a_time_is_not_asked_for_several():
    side().check_together(random.Random(0))  # it has no `together`


@pytest.mark.parametrize(
    ("resident", "grown"),
    [
        ((100, 109, 109.5), 0.5),
        ((100, 101, 109), 8),
        ((100, 109, 118), None),
        ((100, 99, 98), -1),
        ((100, 104, 108.5), 4.5),
        ((100, 104.5, 108.5), 4),
        ((100, 101, 102.0626), 1.063),
    ],
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


@pytest.mark.parametrize(("each", "kept"), [(4.0, False), (4.25, True)])
def test_four_megabytes_in_each_stretch_are_no_growth(each, kept):
    one = side(Growing(100, 100 + each, 100 + 2 * each))
    for executes in (0, 1000, 2000):
        one.session.executes = executes
        one.note()

    if kept:
        with pytest.raises(InvalidMeasurement, match=r"by 4.25 MB in 1000 executes, then by 4.25 MB in 1000"):
            one.check_flat()
    else:
        assert one.check_flat() == {"memory_growth_mb": each, "memory_executes": 1000}


@pytest.mark.parametrize(("last", "grown"), [(119, 0.0), (131, None)])
def test_of_several_stretches_the_first_and_the_last_are_told(last, grown):
    one = side(Growing(100, 109, 119, last))
    for executes in (0, 30, 1030, 3030):
        one.session.executes = executes
        one.note()

    if grown is None:
        with pytest.raises(InvalidMeasurement, match="grew by 9 MB in 30 executes, then by 12 MB in 2000\n"):
            one.check_flat()
    else:
        assert one.check_flat() == {"memory_growth_mb": grown, "memory_executes": 2000}


def test_outputs_that_are_no_numbers_are_alike_where_both_are_none():
    """Numerics judges them."""
    no_number = {"y": np.array([1.0, np.nan])}

    checks.check_processes(replace(side(), answered=no_number), no_number)
    with pytest.raises(InvalidMeasurement):
        checks.check_processes(replace(side(), answered=no_number), {"y": np.array([1.0, 2.0])})


def test_memory_that_the_system_does_not_tell_is_no_figure():
    one, simulated = side(), replace(side(Growing(1, 2, 3, 4)), simulated=True)
    for each in (one, simulated):
        each.note()
        each.note()

        assert each.check_flat() == {}


def test_another_process_must_give_the_same_outputs():
    checks.check_processes(side(), {"y": side().answered["y"] * 1.0005})
    with pytest.raises(InvalidMeasurement, match="output y differs from that of an earlier process"):
        checks.check_processes(side(), {"y": side().answered["y"] * 1.1})


def test_where_equal_bits_are_promised_another_process_gives_them():
    last = {"y": np.nextafter(side().answered["y"], np.inf, dtype=side().answered["y"].dtype)}
    checks.check_processes(side(), last)
    checks.check_processes(side(), {"y": side().answered["y"].copy()}, "the vendor")
    count = last["y"].size
    told = f": {count} of {count} values of output y differ in their last bits .* and the vendor promises equal ones"
    with pytest.raises(InvalidMeasurement, match=told):
        checks.check_processes(side(), last, "the vendor")


def test_values_that_are_not_finite_do_not_hide_the_others_and_do_not_accuse_them():
    answered = np.array([1.0, 2.0, np.nan, np.inf], np.float32)
    one = replace(side(), answered={"y": answered})

    checks.check_processes(one, {"y": answered * np.float32(1.0005)})
    with pytest.raises(InvalidMeasurement, match="output y differs"):
        checks.check_processes(one, {"y": np.array([1.0, 2.1, np.nan, np.inf], np.float32)})


def test_zeros_of_two_signs_are_two_and_nan_is_nan():
    zeros = {"y": np.array([0.0, np.nan], np.float32)}
    one = replace(side(), answered=zeros)
    checks.check_processes(one, {"y": zeros["y"].copy()}, "the vendor")
    with pytest.raises(InvalidMeasurement, match="1 of 2 values"):
        checks.check_processes(one, {"y": np.array([-0.0, np.nan], np.float32)}, "the vendor")


def test_answers_may_differ_by_rounding_only():
    one = Side("chip", Session(factor=1.0005), INPUTS, Session().run(INPUTS))
    two = Side("chip", Session(factor=1.003), INPUTS, Session().run(INPUTS))
    for each in (one, two):
        each.session.run(INPUTS)

    one.audit()
    with pytest.raises(InvalidMeasurement):
        two.audit()


def test_a_card_on_which_no_other_stage_ran_is_held_against_the_reference():
    checks.check_right([side()], close_to_the_right_one)
    with pytest.raises(InvalidMeasurement, match="chip: wrong outputs"):
        checks.check_right([side(), side(Session(factor=-1.0))], close_to_the_right_one)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_outputs_of_any_size_are_compared_by_their_own_rounding(size):
    """Of an engine whose outputs are all small, an answer of another input is no rounding."""
    right = {"y": np.array([1.0, -0.5, 0.0], np.float32) * np.float32(size)}
    rounded, other = ({"y": right["y"] + np.float32(part * size)} for part in (5e-4, 2e-3))

    checks.check_processes(replace(side(), answered=rounded), right)
    with pytest.raises(InvalidMeasurement, match="output y differs from that of an earlier process"):
        checks.check_processes(replace(side(), answered=other), right)
