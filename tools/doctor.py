"""chipproof doctor: what is here and what is not, each with the evidence and the next step."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from packaging.requirements import Requirement  # comes with pytest

from harness.errors import HarnessError
from tools.fetch import SETS
from tools.suite import CacheOption, DataOption, PythonOption, cache_folder

if TYPE_CHECKING:
    from harness.backends.registry import Sdk
    from harness.chips import Chip
    from harness.models.base import Model
    from harness.worker.process import Worker

ROOT = Path(__file__).parents[1]
OLDEST = (3, 10)
ROOM = 5e9  # bytes; engines, exports and reference outputs of all models take about that


class State(str, Enum):
    OK = "ok"
    PART = "part"  # some of it is there
    ABSENT = "absent"  # and not required
    BROKEN = "broken"  # required, or there and damaged


COLOURS = {State.OK: "green", State.PART: "yellow", State.ABSENT: "dim", State.BROKEN: "bold red"}


@dataclass(frozen=True)
class Finding:
    area: str
    name: str
    state: State
    detail: str
    next: str = ""


def _sdks() -> tuple[Sdk, ...]:
    """The vendor SDKs that the backends need, each once."""
    from harness.backends import registry

    return tuple(dict.fromkeys(row.sdk for row in registry.backends().values() if row.sdk is not None))


def command(
    data: DataOption = None,
    cache: CacheOption = None,
    sdk_python: PythonOption = sys.executable,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Say what is here. Exit status: 1 when something required is broken, else 0; a chip that is absent is no fault."""
    areas = (machine(), packages(), chips(sdk_python), sdks(sdk_python), sets(data), checkpoints(data), storage(cache))
    findings = [finding for area in areas for finding in area]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=1))
    else:
        _show(findings)
    if any(finding.state is State.BROKEN for finding in findings):
        raise typer.Exit(1)


def machine() -> Iterator[Finding]:
    import psutil

    right = sys.version_info >= OLDEST
    python = f"{platform.python_version()} at {sys.executable}"
    older = "" if right else f"use Python {'.'.join(map(str, OLDEST))} or newer"
    yield Finding("machine", "python", State.OK if right else State.BROKEN, python, older)
    memory = psutil.virtual_memory()
    facts = f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {memory.total / 1e9:.0f} GB memory"
    yield Finding("machine", "host", State.OK, facts)


def packages() -> Iterator[Finding]:
    """Each package that pyproject.toml requires here, in the version that is installed."""
    for line in requirements():
        required = Requirement(line)
        if required.marker is not None and not required.marker.evaluate({"extra": ""}):
            continue
        hint = f"pip install '{required.name}{required.specifier}'"
        try:
            version = metadata.version(required.name)
        except metadata.PackageNotFoundError:
            yield Finding("packages", required.name, State.BROKEN, "is not installed", hint)
            continue
        fits = required.specifier.contains(version, prereleases=True)
        detail = version if fits else f"{version}, required {required.specifier}"
        yield Finding("packages", required.name, State.OK if fits else State.BROKEN, detail, "" if fits else hint)
    yield from deprecated()


DEPRECATED = {
    "pynvml": "pip uninstall pynvml && pip install nvidia-ml-py",
    "nvidia-ml-py3": "pip uninstall nvidia-ml-py3 && pip install nvidia-ml-py",
}
"""Distributions that stand in the way of the module `pynvml` of nvidia-ml-py: the first warns whenever PyTorch is
imported (its own text says so), the second is a copy of 2017 without newer calls. What replaces each."""


def deprecated() -> Iterator[Finding]:
    """Packages that are installed here and were given up by their authors for another."""
    for name, hint in DEPRECATED.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        yield Finding("packages", name, State.PART, f"{version}, deprecated: it warns, or lacks calls of NVML", hint)


def requirements() -> list[str]:
    """From the checkout's pyproject.toml, else from the installed package."""
    project = ROOT / "pyproject.toml"
    if not project.is_file():
        return metadata.requires("chipproof") or []
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # absent on newer Pythons
    return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])


def chips(sdk_python: str) -> Iterable[Finding]:
    """Each chip with what its backends saw. Chips that share a backend share its worker, one after another; the others
    are asked side by side."""
    from harness import matrix

    groups: list[list[Chip]] = []
    for chip in matrix.chips().values():
        kin = [group for group in groups if any({*chip.backends} & {*other.backends} for other in group)]
        groups = [group for group in groups if group not in kin] + [
            [*(other for group in kin for other in group), chip]
        ]
    with ThreadPoolExecutor(4) as pool:
        asked = pool.map(lambda group: _chips(group, sdk_python), groups)
        found = {finding.name: finding for findings in asked for finding in findings}
    return [found[name] for name in matrix.chips()]


def _chips(rows: Sequence[Chip], sdk_python: str) -> list[Finding]:
    from harness.backends import registry
    from harness.worker.process import Worker

    workers: dict[str, Worker] = {}
    with ExitStack() as stack:

        @contextmanager
        def start(backend: str) -> Iterator[Worker]:
            if backend not in workers or not workers[backend].alive:
                python = registry.backend(backend).python(sdk_python)
                workers[backend] = stack.enter_context(Worker(backend, python=python))
            yield workers[backend]

        return [_chip(chip, start) for chip in rows]


def _chip(chip: Chip, start: Callable[[str], AbstractContextManager[Worker]]) -> Finding:
    from harness.run import devices

    found = devices.find(chip, start)
    if not found.devices:
        return Finding("chips", chip.name, State.ABSENT, found.evidence, found.hint or chip.hint)
    names = ", ".join(sorted({device.name for device in found.devices}))
    detail = f"{len(found.devices)} x {names}; {found.version}; {found.evidence}"
    return Finding("chips", chip.name, State.OK, detail)


def sdks(sdk_python: str) -> Iterator[Finding]:
    """Traces of each vendor's SDK: part of them is the usual reason for a chip that is not found."""
    modules = _modules(sdk_python)
    for sdk in _sdks():
        seen = {name: os.environ.get(name) for name in sdk.variables} | {
            name: shutil.which(name) for name in sdk.programs
        }
        traces = [f"{name} at {place}" for name, place in seen.items() if place]
        if sdk.module in modules:
            traces.append(f"module {sdk.module} in {sdk_python}")
        missing = [name for name in sdk.programs if not seen[name]]
        missing += [] if sdk.module in modules else [f"module {sdk.module}"]
        state = State.ABSENT if not traces else State.PART if missing else State.OK
        detail = "; ".join(traces + ([f"no {', '.join(missing)}"] if missing else []))
        yield Finding("sdks", sdk.name, state, detail, sdk.hint if missing else "")


def _modules(sdk_python: str) -> set[str]:
    """Which vendor modules that interpreter would import, without importing them."""
    program = "import sys, importlib.util as u; print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    try:
        run = subprocess.run(
            [sdk_python, "-c", program, *(sdk.module for sdk in _sdks())], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return set(run.stdout.split())


def sets(data: Path | None) -> Iterator[Finding]:
    from harness import datasets
    from harness.datasets.base import Absent

    for name, (url, _) in SETS.items():
        get = f"chipproof fetch {name} says where to get it"
        if data is None:
            yield Finding("data sets", name, State.ABSENT, "no --data: scenes are drawn in its place", f"{get} ({url})")
            continue
        try:
            found = datasets.load(name, data)
        except Absent as error:
            yield Finding("data sets", name, State.ABSENT, error.fact, error.hint)
        except HarnessError as error:
            yield Finding("data sets", name, State.BROKEN, error.fact, error.hint)
        else:
            whole = found.kind == "whole"
            detail = f"{len(found)} of {found.total} pictures" + (f"; {found.note}" if found.note else "")
            yield Finding("data sets", name, State.OK if whole else State.PART, detail, "" if whole else get)


def checkpoints(data: Path | None) -> Iterator[Finding]:
    from harness import matrix

    for model in matrix.models().values():
        yield _checkpoint(model, data)


def _checkpoint(model: Model, data: Path | None) -> Finding:
    from harness.reference.weights import find
    from tools.fetch import state

    path = find(model, data)
    if path is None:
        hint = f"chipproof fetch {model.name} says where to get it"
        return Finding("weights", model.name, State.ABSENT, "seeded weights take its place", hint)
    said = state(model.weights, path)
    if "WRONG" in said:
        return Finding("weights", model.name, State.BROKEN, f"{path}: {said}", f"get it again: {model.weights.url}")
    return Finding("weights", model.name, State.OK, f"{path}: {said}")


def storage(cache: Path | None) -> Iterator[Finding]:
    folder = cache_folder(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding(
            "storage", "cache", State.BROKEN, f"{folder} cannot be written: {error}", "give --cache another folder"
        )
        return
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    yield Finding("storage", "cache", State.OK, f"{folder}: {len(files)} files, {size / 1e9:.2f} GB")
    free = shutil.disk_usage(folder).free
    enough = free >= ROOM
    hint = "" if enough else f"free space, or give --cache another disk: {ROOM / 1e9:.0f} GB are needed for everything"
    yield Finding("storage", "disk", State.OK if enough else State.PART, f"{free / 1e9:.1f} GB free", hint)


def _show(findings: list[Finding]) -> None:
    """A line a finding under its area; packages that are as required are only counted."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    fine = [finding for finding in findings if finding.area == "packages" and finding.state is State.OK]
    shown = [finding for finding in findings if finding not in fine]
    place = next((i for i, finding in enumerate(shown) if finding.area != "machine"), len(shown))
    shown.insert(place, Finding("packages", f"{len(fine)} packages", State.OK, "as required"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for width in (10, 7, 23, None):
        table.add_column(min_width=width, overflow="fold")
    area = ""
    for row in shown:
        text = Text(row.detail) + Text(f"\nnext: {row.next}" if row.next else "", style="dim")
        title = Text(row.area if row.area != area else "", style="bold")
        table.add_row(title, Text(row.state.value, style=COLOURS[row.state]), row.name, text)
        area = row.area
    Console(highlight=False, width=max(100, shutil.get_terminal_size().columns)).print(table)
