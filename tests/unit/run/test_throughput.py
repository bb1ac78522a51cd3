"""What is measured of a card: how many of its devices, what is multiplied, what is looked at meanwhile."""

import threading

import numpy as np
import pytest

from harness.errors import DeviceError
from harness.judge.timing import Plan, Timing, Window
from harness.run import throughput
from harness.run.throughput import Measurement, Side, at_once

TIMING = Timing((), tuple(Window(float(i), i + 1.0, 100) for i in range(4)), (0.01,))


def measured(devices, of_card, here):
    return Measurement((TIMING,) * devices, (), of_card, (), (), here)


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
    run = measured(devices, of_card, here)

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
        return {"image": np.ones((1, 2, 2), "f4")}


@pytest.mark.parametrize("fails", [False, True])
def test_devices_are_looked_at_while_they_work(monkeypatch, fails):
    monkeypatch.setattr(throughput, "LOOK_S", 0.001)
    session, looks = Slow(), []
    inputs = {"image": np.ones((1, 2, 2), "f4")}

    def look():
        looks.append(1)
        if fails or len(looks) == 3:
            session.end.set()
        if fails:
            raise DeviceError("npu-smi is gone", "look")

    timings = at_once([Side("a", session, inputs, inputs)], Plan(), look)

    assert timings == (TIMING,)
    assert len(looks) == 1 if fails else len(looks) >= 3
