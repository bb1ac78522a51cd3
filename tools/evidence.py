"""What `chipproof doctor --bundle` writes: text about this machine that can be sent to others."""

from __future__ import annotations

import getpass
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.backends.registry import Sdk


def evidence(findings: Iterable[str], sdks: Iterable[Sdk]) -> str:
    """Findings, the tables of the vendors' tools and the versions of their drivers as text that can be sent to others:
    without host and user names, home folders, serial numbers, addresses and processes."""
    parts = ["chipproof doctor --bundle", "", *findings]
    for sdk in sdks:
        for command in sdk.tables:
            if shutil.which(command[0]) is None:
                continue
            try:
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30)
                text = done.stdout + done.stderr
            except (OSError, subprocess.TimeoutExpired) as error:
                text = str(error)
            parts += ["", f"$ {' '.join(command)}", _without_addresses(_without_processes(text))]
        for path in (path for pattern in sdk.files for path in matching(pattern)):
            with suppress(OSError):
                parts += ["", f"# {path}", path.read_text(encoding="utf-8", errors="replace")]
    return scrubbed("\n".join(parts)) + "\n"


def matching(pattern: str) -> list[Path]:
    """Files and device nodes that match a pattern such as /dev/davinci[0-9]*, sorted."""
    return sorted(Path("/").glob(pattern.lstrip("/")))


def _without_addresses(table: str) -> str:
    """Without IPv4 addresses; a version of four parts, such as npu-smi 23.0.3.1, stays."""
    address = r"\b(?:\d{1,3}\.){3}\d{1,3}\b"

    def told(found: re.Match[str]) -> str:
        before = table[max(0, found.start() - 20) : found.start()]
        return found[0] if re.search(r"(?i)(version|smi|driver|firmware|cnmon|\bv)[\s:=|]*$", before) else "<address>"

    return re.sub(address, told, table)


def _without_processes(table: str) -> str:
    """The table up to its list of processes, whose names and folders are other people's."""
    kept = []
    for line in table.splitlines():
        if re.search(r"\bProcess(es)?(:| id| name|\s*\|)", line, re.IGNORECASE):
            kept.append("(processes are left out)")
            break
        kept.append(line.rstrip())
    return "\n".join(kept)


def scrubbed(text: str) -> str:
    """Without what names a machine or a person."""
    home = str(Path.home())
    text = text.replace(home, "~") if len(home) > 1 else text
    text = re.sub(r"(/home/|/Users/|/data/home/)[^/\s:;,'\"]+", r"\1<user>", text)
    for name, word in ((platform.node(), "<host>"), (platform.node().split(".")[0], "<host>"), (_user(), "<user>")):
        if len(name) > 1 and name != "root":
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", word, text)
    text = re.sub(r"(?i)\b(?:GPU-|MLU-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>", text)
    text = re.sub(r"(?i)\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b", "<mac>", text)
    label = r"(?:serial(?: ?(?:number|num|no\.?))?|s/?n|board id|vdie id|die id|uuid|hostname|host name)"
    return re.sub(rf"(?im)(\b{label}\s*[:=|]\s*)[^\s|][^|\n]*", r"\1<removed>", text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, in containers
        return ""
