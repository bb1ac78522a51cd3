"""Cambricon cards seen without the SDK: cnmon's table, else the driver's /proc files, else the /dev nodes."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc/driver/cambricon/mlus")
DEV = Path("/dev")
UNNAMED = "MLU of unknown name"

# the two lines of one card; the middle column is the bus id (5.x) or "On v4.20.6" (4.20)
_FIRST = re.compile(r"^\|\s*(\d+)\s+(\S+)\s+(MLU\S+)\s+[^|]*\|\s*([^|]*?)\s*\|\s*(?:(\d+)\s*%)?[^|]*\|")
_SECOND = re.compile(r"^\|\s*\S+\s+(?:(-?\d+)\s*C\b)?[^|]*\|\s*(?:(\d+)\s*MiB\b)?[^|]*\|")
_PROCESS = re.compile(r"^\|\s*(\d+)\s+(\S+)\s+(\d+)\s+(.*?)\s+(\d+)\s*MiB\s*\|")
_DRIVER = re.compile(r"\bDriver\s+(v\d\S*)")


@dataclass(frozen=True)
class Card:
    """What the host knows of a card; None where the source does not say. `processes` are (pid, command), `held_mb` the
    memory of each, `used_mb` all that is in use."""

    number: int
    name: str
    driver: str = ""
    busy: float | None = None
    temperature_c: float | None = None
    processes: tuple[tuple[int, str], ...] | None = None
    held_mb: tuple[float, ...] = ()
    used_mb: float | None = None


def cards() -> tuple[tuple[Card, ...], str]:
    """All cards of the host and where that was read. Raises nothing: a tool that fails is evidence."""
    looked: list[str] = []
    for source in (_from_cnmon, _from_proc, _from_dev):
        found, evidence = source()
        looked.append(evidence)
        if found:
            return tuple(found), "; ".join(looked)
    return (), "; ".join(looked)


def parse_table(text: str) -> list[Card]:
    """Cards of cnmon's default table, drivers 4.20 to 5.10. What a card does not tell, or tells by another word, is
    None; the card is there. A number that comes again is a virtual function of that card. Processes are None where
    the table ends before them or has a row that cannot be read: that is no idle card."""
    head, _, tail = text.partition("Processes:")
    title = _DRIVER.search(head.split("Card", 1)[0])
    holders = _holders(tail)
    found: list[Card] = []
    lines = head.splitlines()
    for line, after in zip(lines, lines[1:]):
        first, second = _FIRST.match(line), _SECOND.match(after)
        if first is None or int(first.group(1)) in [card.number for card in found]:
            continue
        number = int(first.group(1))
        here = [row for row in holders or [] if row[0] == number]
        middle = re.search(r"\bv\d\S*", first.group(4))
        found.append(
            Card(
                number,
                first.group(3),
                title.group(1) if title else middle.group(0) if middle else "",
                int(first.group(5)) / 100.0 if first.group(5) else None,
                float(second.group(1)) if second and second.group(1) else None,
                None if holders is None else tuple((pid, name) for _, pid, name, _ in here),
                tuple(mb for *_, mb in here),
                float(second.group(2)) if second and second.group(2) else None,
            )
        )
    return found


def _holders(tail: str) -> list[tuple[int, int, str, float]] | None:
    """(card, PID, command, MiB) of each row below "Processes:"."""
    rows = [line for line in tail.splitlines() if line.startswith("|") and line.strip("|= ")]
    held: list[tuple[int, int, str, float]] = []
    told = False
    for line in rows:
        row = _PROCESS.match(line)
        if row:
            held.append((int(row.group(1)), int(row.group(3)), row.group(4), float(row.group(5))))
        elif "No running processes" not in line and " PID " not in line:
            return None
        told = told or " PID " not in line
    return held if told else None


def _from_cnmon() -> tuple[list[Card], str]:
    try:
        done = subprocess.run(["cnmon"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
    except FileNotFoundError:
        return [], "cnmon is not on PATH"
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"cnmon failed: {error}"
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        last = text.strip().splitlines()[-1:] or ["no output"]
        return [], f"cnmon exited with {done.returncode}: {last[0]}"
    found = parse_table(text)
    if not found:
        return [], "cnmon printed no card that could be read"
    return found, "cnmon: " + ", ".join(f"{card.number} {card.name}" for card in found)


def _from_proc() -> tuple[list[Card], str]:
    found = []
    for path in sorted(PROC.glob("*/information")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        name = re.search(r"^Device name:\s*(\S+)", text, re.MULTILINE)
        node = re.search(r"^Device inode path:\s*/dev/cambricon_dev(\d+)\s*$", text, re.MULTILINE)
        driver = re.search(r"^Driver Version:\s*(\S+)", text, re.MULTILINE)
        if name and node:
            found.append(Card(int(node.group(1)), name.group(1), driver.group(1) if driver else ""))
    found.sort(key=lambda card: card.number)
    if not found:
        return [], f"no card under {PROC}"
    return found, "{}: {}".format(PROC, ", ".join(f"{card.number} {card.name}" for card in found))


def _from_dev() -> tuple[list[Card], str]:
    # cambricon_ctl, cambricon_ipcm0 and cambricon_dev0_mi1 are no cards
    nodes = [re.fullmatch(r"cambricon_dev(\d+)", path.name) for path in DEV.glob("cambricon_dev*")]
    found = [Card(number, UNNAMED) for number in sorted(int(node.group(1)) for node in nodes if node)]
    if not found:
        return [], f"no {DEV}/cambricon_dev<N>"
    return found, f"{len(found)} {DEV}/cambricon_dev<N>, which carry no name: map cnmon or {PROC} in"
