"""What every judge returns: an outcome with its text and figures. Verdicts are reached in the other files of judge/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.vocabulary import Outcome


@dataclass(frozen=True)
class Verdict:
    """The outcome of one judgement. `text` says what was seen, what was asked and on how much data; `details` holds the
    same facts as JSON values."""

    outcome: Outcome
    text: str
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.outcome}: {self.text}"


def percent(share: float) -> str:
    """A share in percent, with four digits."""
    return f"{100 * share:.4g} %"
