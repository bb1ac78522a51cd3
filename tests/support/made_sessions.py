"""Sessions without a device behind them, and the windows of a measurement as they would be."""

import numpy as np

from harness.judge.timing import Plan, Timing, Window
from harness.run.side import Side
from harness.run.windows import Measurement


def series(rates, start=0.0, latencies=()):
    return Timing((), tuple(Window(start + n, start + n + 1, rate) for n, rate in enumerate(rates)), tuple(latencies))


def run_of(*blocks, peer=(), devices=1, **more):
    return Measurement(tuple(blocks), tuple(peer), devices, (), (), **more)


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
        plan, start = self.plans[-1], 1e4 * len(self.plans)
        return series([10] * plan.windows, start, (0.1,) * min(3, plan.latencies))

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


class Growing(Session):
    """Its resident memory at each note, in MB."""

    def __init__(self, *resident):
        super().__init__()
        self.resident = iter(resident)

    @property
    def resident_mb(self):
        return next(self.resident)
