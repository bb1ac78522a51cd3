"""Ascend on this machine: versions of CANN and driver, the devices, and the state of a device."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from harness.backends._own_processes import ours, own_mb
from harness.backends.ascend import _npu_smi
from harness.backends.base import Device, Found, Health, of_chip, trail
from harness.errors import DeviceError

CHIPS_OF_A_CARD = {"310": 4}
OF_THE_CHIP_MB = 2048  # memory that the system of an idle chip holds: 1,074 to 1,910 in published tables of a 310P
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
LOADED = 0.5  # usage of the AI cores (0..1) from which the clock counts as that of a device under load


def version() -> str:
    """Versions of CANN and driver from their version files, in one line; the same whether or not a device is open."""
    toolkit = [os.environ.get(name, "") for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")]
    compiler = shutil.which("atc")
    if compiler:
        toolkit += [str(parent) for parent in list(Path(os.path.realpath(compiler)).parents)[:3]]
    toolkit += ["/usr/local/Ascend/ascend-toolkit/latest", "/usr/local/Ascend/cann"]
    names = ("*-linux/ascend_toolkit_install.info", "version.cfg", "compiler/version.info", "runtime/version.info")
    cann = _first_version(toolkit, names)
    driver = _first_version(["/usr/local/Ascend/driver", "/usr/local/Ascend"], ("version.info",))
    return "CANN {}, driver {}".format(cann or "of unknown version", driver or "of unknown version")


def _first_version(folders: list[str], names: tuple[str, ...]) -> str | None:
    for folder in filter(None, folders):
        for name in names:
            for path in sorted(Path(folder).glob(name)):
                match = re.search(
                    r"^\s*\w*version\s*=\s*\[?(?:[^:\]\n]*:)?([\w.+-]+)\]?", path.read_text("utf-8", "replace"),
                    re.MULTILINE | re.IGNORECASE,
                )  # fmt: skip
                if match:
                    return match.group(1)
    return None


def devices(match: str) -> Found:
    """Devices whose name fully matches `match`, by npu-smi, else by pyACL. `card` is npu-smi's NPU id; without npu-smi,
    four Ascend 310 count as one card."""
    nodes = sorted(Path("/dev").glob("davinci[0-9]*"))
    seen = ["{} /dev/davinci*".format(len(nodes) or "no")]
    rows: list[_npu_smi.Row] = []
    repair = ""
    try:
        shown = _npu_smi.rows()
        seen.append(_summary(shown))
        rows = shown or []
    except DeviceError as error:
        seen.append(error.fact)
        repair = error.hint
    if rows:
        found = [Device(i, row.name, row.npu, soc_version(row.name), row.shown) for i, row in _visible(rows)]
    else:
        found, words = _by_pyacl()
        seen.append(words)
    there = any(re.fullmatch(match, device.name) for device in found)
    hint = "" if there else _hidden(rows, match, len(found), seen) or ("" if found else repair)
    return of_chip(match, found, "; ".join(seen), hint)


def _hidden(rows: list[_npu_smi.Row], match: str, visible: int, seen: list[str]) -> str:
    """The next step where $ASCEND_RT_VISIBLE_DEVICES hides the chip that was looked for; what was seen is added."""
    told = os.environ.get(VISIBLE)
    wanted = [str(row.device) for row in rows if re.fullmatch(match, row.name)]
    if told is None or (rows and not wanted):
        return ""
    if not wanted:  # pyACL alone was asked
        seen.append(f"{VISIBLE}={told} is set")
        return f"unset {VISIBLE} and look again: chipproof doctor"
    seen.append(f"{VISIBLE}={told} shows {visible} of them, and hides {', '.join(wanted)}")
    return f"unset {VISIBLE}, or name devices that exist: {VISIBLE}={','.join(wanted)}"


def _visible(rows: list[_npu_smi.Row]) -> list[tuple[int, _npu_smi.Row]]:
    """pyACL's index and npu-smi's row of each device. $ASCEND_RT_VISIBLE_DEVICES, which npu-smi does not heed, names
    those that pyACL sees and counts from 0; what follows a number of no device is hidden."""
    told = os.environ.get(VISIBLE)
    if told is None:
        return [(row.device, row) for row in rows]
    by_number = {str(row.device): row for row in rows}
    words = [word.strip() for word in told.split(",")]
    known = itertools.takewhile(by_number.__contains__, words)
    return [(index, by_number[word]) for index, word in enumerate(known)]


def soc_version(name: str) -> str:
    """The compiler's name of a chip that npu-smi calls `name`: Ascend310P3 for 310P3."""
    return name if name.startswith("Ascend") else "Ascend" + name


def _summary(rows: list[_npu_smi.Row] | None) -> str:
    if rows is None:
        return "npu-smi is not on PATH"
    names = sorted({row.name for row in rows})
    return "npu-smi info shows " + (
        ", ".join(f"{sum(row.name == name for row in rows)} x {name}" for name in names) or "no chip"
    )


PROBE = """
import acl, json
status = acl.init()
assert status == 0, "acl.init answered %d" % status
count, status = acl.rt.get_device_count()
name = acl.get_soc_name() if hasattr(acl, "get_soc_name") else None
acl.finalize()
assert status == 0, "acl.rt.get_device_count answered %d" % status
print("\\nfound " + json.dumps([count, name]))
"""


def _by_pyacl() -> tuple[list[Device], str]:
    """Devices that pyACL counts, asked in a process of its own: atc may not be started after acl.init."""
    trail("acl.rt.get_device_count")
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"pyACL did not answer: {error}"
    match = re.search(r"^found (.*)$", done.stdout.decode("utf-8", "replace"), re.MULTILINE)
    if done.returncode != 0 or match is None:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"status {done.returncode}"]
        return [], "pyACL: " + words[0]
    count, name = json.loads(match.group(1))
    if not name:
        return [], f"pyACL counts {count} devices and does not name them"
    short = re.sub("^Ascend", "", name)
    chips = CHIPS_OF_A_CARD.get(short, 1)
    return (
        [Device(index, short, index // chips, soc_version(short)) for index in range(count)],
        f"pyACL counts {count} x {name}",
    )


def reset(device: Device) -> str:
    """Reset a device by npu-smi; returns the command and what it said. Raises DeviceError."""
    row = next((row for row in _npu_smi.rows() or [] if row.shown == device.number), None)
    if row is None:
        raise DeviceError(f"npu-smi does not show device {device.number}", hint=_npu_smi.HINT)
    return _npu_smi.reset(row.npu, row.chip)


def health(device: Device) -> Health:
    """By npu-smi: health word, AI core usage, temperature, clock, processes other than the suite's own. Raises
    DeviceError when npu-smi fails or no longer shows the device.

    The clock of an idle device floats below the rated one (960 of 1080 MHz on a healthy 310P), and so it may under
    load: nothing is compared with the rated clock. It is given only with the usage on the same page, from LOADED on;
    what it is compared with are other moments under load."""
    rows = _npu_smi.rows()
    if rows is None:
        note = "npu-smi is not on PATH: occupancy, temperature and clock are not known"
        return Health(note=note, untold=note)
    row = next((row for row in rows if row.shown == device.number), None)
    if row is None:
        raise DeviceError(f"npu-smi no longer shows device {device.number}", hint=_npu_smi.HINT)
    page = _npu_smi.page(row.npu, row.chip)
    busy = row.busy if page.busy is None and not page.split else page.busy
    healthy = row.health.upper() == "OK"
    others = tuple(process for process in row.processes if not _own(process))
    why = "its 0 means nothing on a part of a chip" if page.split else "NA"
    unknown = [*([f"utilisation unknown (npu-smi: {why})"] if busy is None else []), *filter(None, [row.untold])]
    clock = "" if page.clock_mhz is None else f", AI cores at {page.clock_mhz:g} MHz"
    return Health(
        healthy=healthy,
        busy=busy,
        processes=others,
        own=len(row.processes) - len(others),
        own_mb=own_mb((int(who.split()[0]), mb) for who, mb in zip(row.processes, row.held_mb) if _numbered(who)),
        clock_mhz=page.clock_mhz if page.busy is not None and page.busy >= LOADED else None,
        temperature_c=row.celsius,
        note="" if healthy else f"npu-smi: health {row.health}{clock}",
        untold=", ".join(unknown),
        unseen_mb=_unseen(row),
    )


def _unseen(row: _npu_smi.Row) -> float | None:
    """MB that neither the chip's own system nor a listed process holds; None where the table does not report it. In a
    container that is not privileged npu-smi lists the processes of that container alone (its manual, proc-mem)."""
    if row.used_mb is None or row.untold or None in row.held_mb:
        return None
    return max(0.0, row.used_mb - OF_THE_CHIP_MB - sum(mb for mb in row.held_mb if mb is not None))


def _numbered(process: str) -> bool:
    return process.split()[0].isdigit()


def _own(process: str) -> bool:
    return _numbered(process) and ours(int(process.split()[0]))
