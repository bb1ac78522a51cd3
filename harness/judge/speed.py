"""What a throughput is judged by."""

from __future__ import annotations

from collections.abc import Sequence

from harness.baselines import Cell
from harness.judge.stats import Estimate
from harness.judge.verdict import Verdict, judge_floor, judge_ratio
from harness.vocabulary import Outcome


def judge_speed(
    speed: Estimate, cell: Cell | None, rates: Sequence[float], eager: Sequence[float], at_least: float | None
) -> Verdict:
    """Against the published cell; else `rates` of the windows against those of eager PyTorch in the same run, asked at
    least `at_least` times as many; else a figure without a verdict. `speed` is in images per second and card."""
    if cell is not None:
        return judge_floor(speed, cell)
    if eager and at_least is not None:
        return judge_ratio(rates, eager, at_least)
    return Verdict(Outcome.INCONCLUSIVE, f"{speed} images/s; nothing is published for this case")
