"""What `npu-smi` says of the Ascend devices here: names, cards, health, occupancy, clocks.

The table comes in several layouts (with and without a Hugepages column, with and without a Device column, with and
without a second table of processes), so rows are read by their cells and not by their columns.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import NamedTuple

from harness.backends.base import trail
from harness.errors import DeviceError

SECONDS = 15  # npu-smi on a sick card can hang; a worker is given 60 to look


class Row(NamedTuple):
    """One chip as the table shows it. `device` is its logical number, `npu` the card, `chip` its place on the card."""

    device: int
    name: str
    npu: int
    chip: int
    health: str
    celsius: float | None
    busy: float | None  # 0..1
    processes: tuple[str, ...]


def rows() -> list[Row] | None:
    """The chips that `npu-smi info` shows; None when there is no npu-smi. Raises DeviceError when it fails."""
    text = _run("info")
    return None if text is None else parse(text)


def clocks(npu: int, chip: int) -> tuple[float | None, float | None]:
    """(current, rated) clock of the AI cores in MHz; None where this driver does not tell."""
    try:
        text = _run("info", "-t", "common", "-i", str(npu))
    except DeviceError:
        return None, None  # older drivers have no such page
    return parse_clocks(text or "", chip)


def _run(*arguments: str) -> str | None:
    program = shutil.which("npu-smi")
    if program is None:
        return None
    trail("npu-smi")
    try:
        done = subprocess.run(
            [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError("npu-smi {} did not answer: {}".format(" ".join(arguments), error), HINT) from error
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = " ".join(text.split())[:300]
        fact = "npu-smi {} failed with status {}: {}".format(" ".join(arguments), done.returncode, said)
        raise DeviceError(fact, HINT)
    return text


HINT = "the driver is not loaded or the card is held by another container: lsmod | grep drv, ls /dev/davinci*"


def parse(text: str) -> list[Row]:
    """Chips of the table that `npu-smi info` prints, in its order. Raises DeviceError on a table it cannot read."""
    found: list[Row] = []
    processes: dict[tuple[int, int], list[str]] = {}
    upper: list[str] | None = None
    listing = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            continue
        listing = listing or any("Process id" in cell for cell in cells)
        first = cells[0].split()
        if listing:
            if len(cells) >= 3 and len(first) == 2 and first[0].isdigit() and first[1].isdigit():
                who = "{} {}".format(cells[1], " ".join(cells[2].split()[:1]))
                processes.setdefault((int(first[0]), int(first[1])), []).append(who)
            continue
        if len(cells) < 3 or not first or not first[0].isdigit():
            continue
        if (len(first) == 2 and not first[1].isdigit()) or upper is None:
            upper = cells  # | 0  310P3 | OK | 15.8  42 ... |, and a name that is a number is known by its place
            continue
        found.append(_row(upper, cells, len(found)))
        upper = None
    if upper is not None or (not found and "NPU" not in text):
        raise DeviceError(f"npu-smi printed a table that cannot be read: {text.strip()[:300]}", HINT)
    return [row._replace(processes=tuple(processes.get((row.npu, row.chip), ()))) for row in found]


def _row(upper: list[str], lower: list[str], place: int) -> Row:
    names, chip = upper[0].split(), lower[0].split()
    if len(names) < 2:
        raise DeviceError(f"npu-smi printed a row without a chip name: {upper}", HINT)
    power_and_heat = upper[2].split()  # a figure that is not known is NA
    usage = re.match(r"\d+", lower[2])
    device = int(chip[1]) if len(chip) > 1 and chip[1].isdigit() else place
    return Row(
        device=device,
        name=names[1],
        npu=int(names[0]),
        chip=int(chip[0]),
        health=upper[1],
        celsius=_number(power_and_heat[1]) if len(power_and_heat) > 1 else None,
        busy=int(usage.group()) / 100.0 if usage else None,
        processes=(),
    )


def _number(text: str) -> float | None:
    return float(text) if re.match(r"\d+(\.\d+)?$", text) else None


def parse_clocks(text: str, chip: int) -> tuple[float | None, float | None]:
    """(current, rated) MHz of one chip from `npu-smi info -t common`; a page without chip ids is of one chip."""
    current = rated = None
    here = 0
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if key == "Chip ID" and value.isdigit():
            here = int(value)
        if here == chip and key == "Aicore curFreq(MHZ)":
            current = _number(value)
        elif here == chip and key == "Aicore Freq(MHZ)":
            rated = _number(value)
    return current, rated
