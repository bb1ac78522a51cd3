"""What a line of a journal may hold: a file of another's making is refused where it is read, not where it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from pathlib import PurePath
from typing import Any

MOST = 1e100  # above any figure of float32 outputs, and far below what float overflows at
Shape = tuple[str, Callable[[Any], bool]]  # in words, and whether a value is of it


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and -MOST <= value <= MOST


def _count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= 10**15


def _name(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and value == PurePath(value).name not in ("", "..")


TEXT: Shape = ("text", lambda value: isinstance(value, str))
NUMBER: Shape = ("a number", _number)
COUNT: Shape = ("a count", _count)
OBJECT: Shape = ("an object", lambda value: isinstance(value, dict))
TEXTS: Shape = ("a list of texts", lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value))
NAMES: Shape = ("a list of file names", lambda value: isinstance(value, list) and all(map(_name, value)))
FIGURES: Shape = (
    "an object of numbers",
    lambda value: isinstance(value, dict) and all(v is None or _number(v) for v in value.values()),
)
SHAPES: Mapping[str, Mapping[str, Shape]] = {
    "header": {"time": TEXT, "host": TEXT, "asked": COUNT, "resumes": NAMES, "options": OBJECT, "packages": OBJECT,
               "environment": OBJECT, "baselines": TEXT, "policy": TEXT, "shard": TEXT},
    "begin": {"test": TEXT, "attempt": COUNT},
    "record": {"case": TEXT, "stage": TEXT, "metric": TEXT, "outcome": TEXT, "text": TEXT, "values": FIGURES,
               "marks": TEXTS, "facts": OBJECT, "test": TEXT},
    "end": {"test": TEXT, "outcome": TEXT, "seconds": NUMBER, "decided_by": TEXT, "taken_over": TEXT},
    "windows": {"case": TEXT, "test": TEXT, "card": TEXT},
    "answers": {"case": TEXT, "test": TEXT, "suffix": TEXT, "file": TEXT, "sha256": TEXT, "images": COUNT},
    "engine": {"digest": TEXT},
    "footer": {"asked": COUNT, "stopped": TEXT, "seconds": NUMBER},
}  # fmt: skip
"""By the kind of a line; what is not named here is only shown, or computed with by those who expect anything."""
OF_FACTS: Mapping[str, Shape] = {"attempt": COUNT, "images": NUMBER, "beside": OBJECT, "loss": OBJECT}


def figure(value: Any) -> Any:
    """A figure as a record holds it: None for one that is too large to be read back, such as the error of outputs near
    the largest FP64 number."""
    return None if isinstance(value, float) and MOST < abs(value) < inf else value


def wrong(line: Mapping[str, Any]) -> str:
    """What is wrong with a line, or nothing: "asked must be a count"."""
    kind = line.get("kind")
    shapes = SHAPES.get(kind, {}) if isinstance(kind, str) else {}
    facts = line.get("facts") if kind == "record" else None
    rows = [(name, line[name], shape) for name, shape in shapes.items() if name in line]
    if isinstance(facts, dict):
        rows += [(name, facts[name], shape) for name, shape in OF_FACTS.items() if facts.get(name) is not None]
    return next((f"{name} must be {words}" for name, value, (words, fits) in rows if not fits(value)), "")
