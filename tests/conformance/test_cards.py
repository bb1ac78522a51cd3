"""With --all-cards: every card of the host is as fast as was published, and which is slower than the others."""

import pytest

from harness.errors import DeviceError, InvalidMeasurement
from harness.judge.repeat import Judged
from harness.judge.verdict import Verdict
from harness.report.samples import of_measurement
from harness.run import windows
from harness.run.case_speed import speed_of, untold
from harness.run.windows import judged, slower
from harness.vocabulary import Outcome
from tests.session import COSTLY

pytestmark = pytest.mark.throughput


def cards(case_run, keep, simulated):
    """One verdict a card; a card that breaks off takes nothing from the others."""
    case, asked, verdicts, speeds, runs = case_run.case, speed_of(case_run), {}, {}, []
    cell = case_run.context.settings.baselines.cell(case, "throughput")
    for number in asked.cards:
        try:
            run = asked.on_card(number)
        except COSTLY:  # a crash or a hang is the case's, and each further card would cost it again
            raise
        except (InvalidMeasurement, DeviceError) as error:
            broken = {"hint": error.hint, "waited": True}  # measured again, all cards would wait once more
            verdicts[number] = Verdict(Outcome.INVALID, f"not measured: {error.fact}", broken)
            continue
        runs.append(run)
        speeds[number] = windows.speed_of(run, case.batch)
        keep({**of_measurement(case, run, None), "card": f"card {number}", "again": case_run.anew})
        verdict = judged(run, speeds[number], case.batch, cell, None, asked.floor)
        if simulated:
            verdict = Verdict(Outcome.INCONCLUSIVE, f"SIMULATED, no verdict: {speeds[number]} images/s")
        figures = {"card_measured": speeds[number].value, "card_low": speeds[number].low,
                   "card_high": speeds[number].high, "floor": asked.floor}  # fmt: skip
        verdicts[number] = case_run.bound("throughput").told(Verdict(verdict.outcome, verdict.text, figures))
    for number, share in slower(speeds).items() if speeds else ():
        text = f"{verdicts[number].text}; {share:.1%} slower than the median of {len(speeds)} cards"
        verdicts[number] = Verdict(verdicts[number].outcome, text, verdicts[number].details)
    marks = tuple(sorted({run.mark for run in runs} - {""}))
    return Judged({f"card {number}": verdict for number, verdict in verdicts.items()}, marks, untold(*runs))


def test_every_card_reaches_what_was_published(case_run, judge, keep, simulated_latency):
    if case_run.chip.emulated or case_run.chip.timed_in_turn or len(speed_of(case_run).cards) == 1:
        pytest.skip("one card of this chip is here, and test_throughput measures it")

    judge(lambda case_run: cards(case_run, keep, simulated_latency is not None), skip=simulated_latency is None)
