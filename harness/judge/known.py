"""Known failures: how a row of deviations.toml changes a verdict."""

from __future__ import annotations

from dataclasses import replace

from harness.baselines import Deviation
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome


def excuse(verdict: Verdict, deviation: Deviation | None) -> Verdict:
    """The verdict after `deviation`, the known failure that covers it, was applied; without a deviation, the verdict.

    A FAIL becomes a PASS that shows the row's reason, file and line. A PASS becomes a FAIL until the row is deleted.
    INCONCLUSIVE and INVALID stay, because they do not say whether the failure still occurs."""
    if deviation is None:
        return verdict
    row = f"{deviation.file}:{deviation.line}"
    details = {**verdict.details, "deviation": row, "without_deviation": verdict.outcome.value}
    if verdict.outcome is Outcome.FAIL:
        text = f"known failure ({row}: {deviation.reason}; {deviation.link}): {verdict.text}"
        return replace(verdict, outcome=Outcome.PASS, text=text, details=details)
    if verdict.outcome is Outcome.PASS:
        text = f"{verdict.text}: the known failure at {row} no longer occurs, delete the row"
        return replace(verdict, outcome=Outcome.FAIL, text=text, details=details)
    return verdict
