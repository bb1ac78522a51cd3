"""What `npu-smi` says of the Ascend devices here: names, cards, health, occupancy, clocks.

The table comes in several layouts (with and without a Hugepages column; with a Device column, a Phy-ID column or
neither; with and without a second table of processes), so rows are read by their cells and not by their columns.
Layouts: the npu-smi manuals of the drivers 20.2 to 26.0, and tables that users published with their reports.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from harness.backends.base import trail
from harness.errors import DeviceError

RESET_S = 300  # a chip is back after one to two minutes
SECONDS = 15  # npu-smi on a sick card can hang; a worker is given 60 to look


class Row(NamedTuple):
    """One chip as the table shows it. `device` is its number for pyACL, which counts from 0; `shown` the number in the
    table, a physical one under Phy-ID; `npu` the card, `chip` its place on the card; `untold` what the table does not
    tell of its processes, and why."""

    device: int
    shown: int
    name: str
    npu: int
    chip: int
    health: str
    celsius: float | None
    busy: float | None  # 0..1
    processes: tuple[str, ...]
    held_mb: tuple[float | None, ...] = ()  # the memory of each of them
    untold: str = ""
    used_mb: float | None = None  # of the chip's memory, by its own system too


def rows() -> list[Row] | None:
    """The chips that `npu-smi info` shows; None when there is no npu-smi. Raises DeviceError when it fails."""
    text = _run("info")
    return None if text is None else parse(text)


class Page(NamedTuple):
    """One chip on the page `npu-smi info -t common`: usage and clock of one moment; None where it does not report it.

    `split`: the page has the chip and no line for its usage. So it is in a container or virtual machine with a part of
    the chip (a vNPU), and where the driver cannot tell; the table then prints 0, which means nothing (npu-smi's own
    source, print_common_info and print_card_total_info_second)."""

    busy: float | None = None  # 0..1
    clock_mhz: float | None = None
    split: bool = False


def page(npu: int, chip: int) -> Page:
    """What the page of a card says of one chip; nothing where this driver has no such page. A card whose page names no
    clock, as a 310's, is not asked again."""
    if npu in _without_clock:
        return Page()
    try:
        text = _run("info", "-t", "common", "-i", str(npu)) or ""
    except DeviceError:
        return Page()
    found = parse_page(text, chip)
    if CLOCK not in text and not found.split:
        _without_clock.add(npu)
    return found


CLOCK, USAGE = "Aicore curFreq(MHZ)", "Aicore Usage Rate(%)"
TEMPERATURE = "Temperature(C)"  # of each chip, whatever else is told
_without_clock: set[int] = set()


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
        raise DeviceError("npu-smi {} did not answer: {}".format(" ".join(arguments), error), hint=HINT) from error
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = " ".join(text.split())[:300]
        fact = "npu-smi {} failed with status {}: {}".format(" ".join(arguments), done.returncode, said)
        raise DeviceError(fact, hint=_hint(said))
    return text


def reset(npu: int, chip: int) -> str:
    """Reset a chip; on some cards all chips of the card go with it. What npu-smi said. Raises DeviceError.

    Source: npu-smi command reference, "npu-smi set -t reset -i id -c chip_id"; it asks whether it may (Y/N), and tells
    "Status : OK"."""
    program = shutil.which("npu-smi")
    if program is None:
        raise DeviceError("npu-smi is not on PATH", hint=HINT)
    command = [program, "set", "-t", "reset", "-i", str(npu), "-c", str(chip)]
    trail("npu-smi set -t reset")
    try:
        done = subprocess.run(
            command, input=b"Y\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=RESET_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{' '.join(command)} did not answer: {error}", hint=HINT) from error
    said = " ".join(done.stdout.decode("utf-8", "replace").split())[-300:]
    if done.returncode != 0 or not re.search(r"Status\s*:\s*OK", said):
        raise DeviceError(f"{' '.join(command)} failed with status {done.returncode}: {said}", hint=_hint(said))
    return f"{' '.join(command)}: {said}"


HINT = "the driver is not loaded or the card is held by another container: lsmod | grep drv, ls /dev/davinci*"
HINTS = {  # by what npu-smi prints; reported by users of drivers 23 to 25
    "-8005": "this user has no permission to open the card: sudo usermod -aG HwHiAiUser $USER, log in again; "
    "ls -l /dev/davinci*",
    "-8020": "the card is held by another container: stop that one, or start this one with --privileged",
}


DEV = Path("/dev")
NODES = ("davinci_manager", "devmm_svm", "hisi_hdc")  # a container needs these beside its davinci0, davinci1 ...


def _hint(said: str) -> str:
    lacking = [node for node in NODES if not (DEV / node).exists()]
    if lacking and any(DEV.glob("davinci[0-9]*")):
        given = " ".join(f"--device=/dev/{node}" for node in lacking)
        return f"this container has a chip and not what goes with it: start it with docker run {given}"
    return next((hint for code, hint in HINTS.items() if code in said), HINT)


def parse(text: str) -> list[Row]:
    """Chips of the table that `npu-smi info` prints, in its order; lines outside the table, such as the driver's
    complaint DrvMngGetConsoleLogLevel, are passed over. A process whose row names a card and no chip is on all chips of
    the card. Raises DeviceError on a table it cannot read."""
    found: list[Row] = []
    processes: dict[tuple[int, int | None], list[tuple[str, float | None]]] = {}
    untold = "processes unknown (npu-smi prints no table of them)"
    upper: list[str] | None = None
    inside = 0  # column of the process number in this container, in the table of processes
    column = ""
    listing = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            continue
        first = cells[0].split()
        if "Process id" in cells:
            listing, inside, untold = True, cells.index(INSIDE) if INSIDE in cells else 0, ""
        elif listing:
            if len(cells) >= 3 and len(first) in (1, 2) and all(word.isdigit() for word in first):
                who = "{} {}".format(_process(cells, inside), " ".join(cells[2].split()[:1])).strip()
                held = _number(cells[3].split()[0]) if len(cells) > 3 and cells[3] else None
                place = (int(first[0]), int(first[1]) if len(first) > 1 else None)
                processes.setdefault(place, []).append((who, held))
            elif "No running processes" not in line:
                untold = f"processes unknown (npu-smi: {' '.join(line.split())})"
        elif first[:1] == ["Chip"]:
            column = first[1] if len(first) > 1 else ""
        elif len(cells) >= 3 and first and first[0].isdigit():
            if (len(first) == 2 and not first[1].isdigit()) or upper is None:
                upper = cells  # | 0  310P3 | OK | 15.8  42 ... |, and a name that is a number is known by its place
            else:
                found.append(_row(upper, cells, len(found), column))
                upper = None
    if upper is not None or (not found and "NPU" not in text):
        raise DeviceError(f"npu-smi printed a table that cannot be read: {text.strip()[:300]}", hint=_hint(text))
    return [
        _with(row, [*processes.get((row.npu, row.chip), []), *processes.get((row.npu, None), [])], untold)
        for row in found
    ]


def _with(row: Row, processes: list[tuple[str, float | None]], untold: str) -> Row:
    return row._replace(
        processes=tuple(who for who, _ in processes), held_mb=tuple(held for _, held in processes), untold=untold
    )


INSIDE = "Process id in container"  # a column of the newest drivers; NA where the driver cannot tell


def _process(cells: list[str], inside: int) -> str:
    """Number of a process: in this container, where the table tells it."""
    told = cells[inside] if 0 < inside < len(cells) else ""
    return told if told.isdigit() else cells[1]


def _row(upper: list[str], lower: list[str], place: int, column: str) -> Row:
    """`column` is the head of the number beside the chip. Device is the number that pyACL knows; Phy-ID is the one on
    the host, while pyACL counts what is visible here."""
    names, chip = upper[0].split(), lower[0].split()
    if len(names) < 2:
        raise DeviceError(f"npu-smi printed a row without a chip name: {upper}", hint=HINT)
    power_and_heat = upper[2].split()  # a figure that is not known is NA
    usage = re.match(r"\d+", lower[2])
    used = re.findall(r"(\d+)\s*/\s*\d+", lower[2])  # DDR and, where there is any, HBM
    shown = int(chip[1]) if len(chip) > 1 and chip[1].isdigit() else place
    return Row(
        device=place if column == "Phy-ID" else shown,
        shown=shown,
        name=names[1],
        npu=int(names[0]),
        chip=int(chip[0]),
        health=upper[1],
        celsius=_number(power_and_heat[1]) if len(power_and_heat) > 1 else None,
        busy=int(usage.group()) / 100.0 if usage else None,
        processes=(),
        used_mb=float(sum(map(int, used))) if used else None,
    )


def _number(text: str) -> float | None:
    return float(text) if re.match(r"\d+(\.\d+)?$", text) else None


def parse_page(text: str, chip: int) -> Page:
    """What `npu-smi info -t common` says of one chip; a page without chip ids is of one chip. The section of the
    board's own controller, which follows the chips, has a name and no id."""
    found: dict[str, str] = {}
    here: int | None = 0
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "Chip ID" and value.isdigit():
            here = int(value)
        elif key == "Chip Name":
            here = None
        elif here == chip:
            found[key] = value
    usage = _number(found.get(USAGE, ""))
    clock = _number(found.get(CLOCK, ""))
    return Page(None if usage is None else usage / 100.0, clock, split=TEMPERATURE in found and USAGE not in found)
