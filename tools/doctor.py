"""chipproof doctor: what is here and what is not, each with the evidence and the next step."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import HarnessError, UsageError, WorkerError
from harness.report.messages import Translate, translation
from tools.evidence import evidence, matching
from tools.fetch import SETS
from tools.language import lang, say
from tools.suite import CacheOption, DataOption, PythonOption, cache_folder

if TYPE_CHECKING:
    from harness.backends.registry import Pythons, Sdk
    from harness.chips import Chip
    from harness.models.base import Model
    from harness.worker.process import Worker

ROOT = Path(__file__).parents[1]
OLDEST = (3, 10)
OLDEST_WORKER = (3, 7)
EACH = "chipproof fetch says where to get each"
DRAWN, SEEDED = "no --data: scenes are drawn instead", "no checkpoint: seeded weights are used"
AREAS = ("machine", "packages", "chips", "sdks", "data sets", "weights", "storage")
ROOM = 5e9  # bytes; engines, exports and reference outputs of all models take about that


class State(str, Enum):
    """What was found of a thing."""

    OK = "ok"
    PART = "part"  # some of it is there
    ABSENT = "absent"  # and not required
    BROKEN = "broken"  # required, or there and damaged


@dataclass(frozen=True)
class Finding:
    """One line: the area, the thing, its state, what was seen, and the next step."""

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
    sdk_python: PythonOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="write what is here to this file, without personal data, to send it")
    ] = None,
) -> None:
    """Say what can be run here, and what is here and what not. Exit status: 1 when something required is broken, 2 when
    --sdk-python is no Python, else 0; a chip that is absent is no fault."""
    from harness import matrix
    from harness.backends import registry

    pythons = registry.pythons(sdk_python or [], matrix.chips())
    asked = {path: interpreter(path) for path in (pythons.every, *pythons.chips.values())}
    areas = (machine(), packages(), chips(pythons, asked), sdks(asked), sets(data), checkpoints(data), storage(cache))
    findings = [finding for area in areas for finding in area]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=1))
    else:
        print(told(findings, shutil.get_terminal_size((80, 24)).columns, lang()), end="")
    if bundle is not None:
        from harness.report.records import write_whole

        lines = [f"{f.area} {f.name}: {f.state.value}: {f.detail}" for f in findings]
        write_whole(bundle, evidence(lines, _sdks()))
        say(f"written: {bundle}; read it before you send it", sys.stderr)
    if any(finding.state is State.BROKEN for finding in findings):
        raise typer.Exit(1)


@dataclass(frozen=True)
class Interpreter:
    """What the Python of --sdk-python is and which vendor modules it would import."""

    version: tuple[int, int]
    numpy: bool
    modules: frozenset[str]


def interpreter(path: str) -> Interpreter:
    """Ask it, without importing anything of a vendor. Raises UsageError when it is no Python, or too old."""
    program = (
        "import sys, importlib.util as u; print(*sys.version_info[:2]); "
        "print(*[n for n in sys.argv[1:] if u.find_spec(n)])"
    )
    names = ["numpy", *(sdk.module for sdk in _sdks())]
    try:
        run = subprocess.run([path, "-c", program, *names], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--sdk-python {path} does not run: {error}", hint="give a Python interpreter") from error
    found = re.match(r"(\d+) (\d+)\n(.*)", run.stdout)
    if run.returncode != 0 or found is None:
        last = (run.stderr or run.stdout).strip().splitlines()[-1:] or ["it printed nothing"]
        raise UsageError(f"--sdk-python {path} is not a Python interpreter: {last[0]}", hint="give the path of one")
    version = int(found[1]), int(found[2])
    if version < OLDEST_WORKER:
        raise UsageError(
            f"--sdk-python {path} is Python {version[0]}.{version[1]}", hint="give Python 3.7 or newer, with NumPy"
        )
    modules = set(found[3].split())
    return Interpreter(version, "numpy" in modules, frozenset(modules - {"numpy"}))


def machine() -> Iterator[Finding]:
    """The interpreter and the machine."""
    import psutil

    right = sys.version_info >= OLDEST
    python = f"{platform.python_version()} ({sys.executable})"
    older = "" if right else f"use Python {'.'.join(map(str, OLDEST))} or newer"
    yield Finding("machine", "python", State.OK if right else State.BROKEN, python, older)
    memory = psutil.virtual_memory()
    facts = f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {memory.total / 1e9:.0f} GB memory"
    yield Finding("machine", "host", State.OK, facts)


def packages() -> Iterator[Finding]:
    """Each package that pyproject.toml requires here, in the version that is installed."""
    from importlib import metadata

    from packaging.requirements import Requirement  # comes with pytest

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
    from importlib import metadata

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
        from importlib import metadata

        return metadata.requires("chipproof") or []
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # absent on newer Pythons
    return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])


def chips(pythons: Pythons, asked: Mapping[str, Interpreter]) -> Iterable[Finding]:
    """Each chip with what its backends saw; `asked` has the interpreters by their paths. Chips that share a backend and
    its interpreter share its worker, one after another; the others are asked side by side. Without a trace of driver
    and SDK no worker is started, for each takes a second and could only say the same."""
    from concurrent.futures import ThreadPoolExecutor

    from harness import matrix

    groups: list[list[Chip]] = []
    gone = {name: missing for name, chip in matrix.chips().items() if (missing := untraced(chip, pythons, asked))}
    for chip in matrix.chips().values():
        if chip.name in gone:
            continue
        kin = [group for group in groups if any({*chip.backends} & {*other.backends} for other in group)]
        groups = [group for group in groups if group not in kin] + [
            [*(other for group in kin for other in group), chip]
        ]
    with ThreadPoolExecutor(4) as pool:
        told = pool.map(lambda group: _chips(group, pythons), groups)
        found = {finding.name: finding for findings in told for finding in findings}
    absent = {
        name: Finding("chips", name, State.ABSENT, missing, matrix.chips()[name].hint) for name, missing in gone.items()
    }
    return [{**found, **absent}[name] for name in matrix.chips()]


def untraced(chip: Chip, pythons: Pythons, asked: Mapping[str, Interpreter]) -> str:
    """What was looked for in vain where there is no trace of any SDK that drives the chip, else nothing."""
    from harness.backends import registry

    missing = []
    for row in map(registry.backend, chip.backends):
        if row.sdk is None or (row.own_python_with and find_spec(row.own_python_with) is not None):
            return ""
        missing.append(traceless(row.sdk, pythons.of(chip.name), asked[pythons.of(chip.name)]))
    return "; ".join(dict.fromkeys(missing)) if all(missing) else ""


def traceless(sdk: Sdk, sdk_python: str, python: Interpreter) -> str:
    """What was looked for in vain, or nothing when there is any trace of the vendor's driver or SDK."""
    if any(map(matching, sdk.nodes)) or any(map(shutil.which, sdk.programs)) or sdk.module in python.modules:
        return ""
    if any(os.environ.get(name) for name in sdk.variables):
        return ""
    looked = [f"no {', '.join(sdk.nodes)}"] if sdk.nodes else []
    looked += [f"no {', '.join(sdk.programs)} on PATH"] if sdk.programs else []
    return "; ".join([*looked, f"no module {sdk.module} in {sdk_python}"])


def _chips(rows: Sequence[Chip], pythons: Pythons) -> list[Finding]:
    from harness.backends import registry
    from harness.worker.process import Worker

    workers: dict[tuple[str, str], Worker] = {}
    with ExitStack() as stack:

        @contextmanager
        def start(chip: str, backend: str) -> Iterator[Worker]:
            key = backend, registry.backend(backend).python(pythons, chip)
            if key not in workers or not workers[key].alive:
                workers[key] = stack.enter_context(Worker(backend, python=key[1]))
            yield workers[key]

        return [_chip(chip, partial(start, chip.name)) for chip in rows]


def _chip(chip: Chip, start: Callable[[str], AbstractContextManager[Worker]]) -> Finding:
    from harness.run import devices

    try:
        found = devices.find(chip, start)
    except WorkerError as error:
        return Finding("chips", chip.name, State.BROKEN, error.fact, error.hint)
    if not found.devices:
        return Finding("chips", chip.name, State.ABSENT, found.evidence, found.hint or chip.hint)
    names = ", ".join(sorted({device.name for device in found.devices}))
    detail = f"{len(found.devices)} x {names}; {found.version}; {found.evidence}"
    return Finding("chips", chip.name, State.OK, detail)


def sdks(asked: Mapping[str, Interpreter]) -> Iterator[Finding]:
    """Traces of each vendor's SDK: part of them is the usual reason for a chip that is not found. `asked` has the
    interpreters by their paths."""
    for path, python in asked.items():
        if not python.numpy:
            hint = f"{path} -m pip install numpy"
            yield Finding("sdks", "--sdk-python", State.BROKEN, f"{path} has no NumPy, which the worker needs", hint)
    for sdk in _sdks():
        seen = {name: os.environ.get(name) for name in sdk.variables} | {
            name: shutil.which(name) for name in sdk.programs
        }
        traces = [f"{name}: {place}" for name, place in seen.items() if place]
        having = [path for path, python in asked.items() if sdk.module in python.modules]
        traces += [f"module {sdk.module} in {path}" for path in having]
        programs = ", ".join(name for name in sdk.programs if not seen[name])
        missing = [f"no {programs}"] if programs else []
        missing += [] if having else [f"no module {sdk.module}"]
        state = State.ABSENT if not traces else State.PART if missing else State.OK
        detail = "; ".join(traces + missing)
        yield Finding("sdks", sdk.name, state, detail, sdk.hint if missing else "")


def sets(data: Path | None) -> Iterator[Finding]:
    """Each data set in --data: whole, a part, absent or damaged."""
    from harness import datasets
    from harness.datasets.base import Absent

    for name in SETS:
        if data is None:
            yield Finding("data sets", name, State.ABSENT, DRAWN, EACH)
            continue
        try:
            found = datasets.load(name, data)
        except Absent as error:
            yield Finding("data sets", name, State.ABSENT, error.fact.removeprefix(f"{name}: "), error.hint)
        except HarnessError as error:
            yield Finding("data sets", name, State.BROKEN, error.fact.removeprefix(f"{name}: "), error.hint)
        else:
            whole = found.kind == "whole"
            detail = f"{len(found)} of {found.total} pictures" + (f"; {found.note}" if found.note else "")
            yield Finding(
                "data sets", name, State.OK if whole else State.PART, detail, "" if whole else f"chipproof fetch {name}"
            )


def checkpoints(data: Path | None) -> Iterator[Finding]:
    """Each model's published checkpoint in --data."""
    from harness import matrix

    for model in matrix.models().values():
        yield _checkpoint(model, data)


def _checkpoint(model: Model, data: Path | None) -> Finding:
    from harness.reference.weights import find
    from tools.fetch import state

    path = find(model, data)
    if path is None:
        return Finding("weights", model.name, State.ABSENT, SEEDED, EACH)
    said = state(model.weights, path)
    if "WRONG" in said:
        return Finding("weights", model.name, State.BROKEN, f"{path}: {said}", f"get it again: {model.weights.url}")
    return Finding("weights", model.name, State.OK, f"{path}: {said}")


def storage(cache: Path | None) -> Iterator[Finding]:
    """The cache folder: its size, whether it can be written, and what is free there."""
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


def told(findings: Sequence[Finding], width: int, chosen: str) -> str:
    """The conclusion, then the findings under their areas, for a terminal of that width. What several names share is
    told once; packages that are as required are only counted."""
    from rich.cells import cell_len

    t = translation(chosen)
    lines = [*conclusion(findings, t), ""]
    fine = [finding for finding in findings if finding.area == "packages" and finding.state is State.OK]
    shown = [finding for finding in findings if finding not in fine]
    counted = Finding("packages", t("{n} packages", n=len(fine)), State.OK, t("as required"))
    place = next((i for i, finding in enumerate(shown) if finding.area != "machine"), len(shown))
    area = ""
    text: list[str] = []
    for names, row in _shared([*shown[:place], *([counted] if fine else []), *shown[place:]]):
        if row.area != area:
            text.append(t(row.area))
            area = row.area
        body = t("{name}: {text}", name=", ".join(names), text=t(row.detail))
        state = t(row.state.value)
        text += _hung(f"  {state}{' ' * max(1, 8 - cell_len(state))}", body, width)
        if row.next:
            text += _hung("          ", t("next: {text}", text=t(row.next)), width)
    head = [piece for line in lines for piece in (_hung("", line, width, 2) or [""])]
    return "\n".join([*head, *text]) + "\n"


def conclusion(findings: Sequence[Finding], t: Translate) -> list[str]:
    """What can be run here with its command, what is broken, and what each absent chip needs."""

    here = [finding.name for finding in findings if finding.area == "chips" and finding.state is State.OK]
    lines = []
    for name in here:
        own = "make run" if name == "cpu" else f"pytest -m {name} --require {name}"
        lines.append(t("you can run: {chip} -> {command}", chip=name, command=own))
    if not here:
        lines.append(t("no chip was found: pytest -m cpu --simulate tries the suite itself"))
    for names, row in _shared([finding for finding in findings if finding.state is State.BROKEN]):
        lines.append(t("broken: {name}: {detail}", name=", ".join(names), detail=t(row.detail)))
        lines += ["  " + t("next: {text}", text=t(row.next))] if row.next else []
    for names, row in _shared([f for f in findings if f.area == "chips" and f.state is State.ABSENT]):
        lines.append(t("{chips}: absent; to have it: {hint}", chips=", ".join(names), hint=t(row.next)))
    return lines


def _shared(findings: Sequence[Finding]) -> list[tuple[list[str], Finding]]:
    """Findings that say the same but for their name, with their names."""
    groups: dict[tuple[str, State, str, str], list[Finding]] = {}
    for finding in findings:
        detail = re.sub(rf"\b{re.escape(finding.name)}\b", "*", finding.detail)
        unseen = finding.area == "chips" and finding.state is State.ABSENT
        key = (finding.area, finding.state, finding.next if unseen else detail, finding.next)
        groups.setdefault(key, []).append(finding)
    return [([finding.name for finding in group], group[0]) for group in groups.values()]


def _hung(first: str, text: str, width: int, later: int | None = None) -> list[str]:
    """Lines of at most `width` cells, the later ones under the text or `later` cells in."""
    from rich.cells import cell_len

    from harness.report.lines import wrapped

    later = cell_len(first) if later is None else later
    room = max(20, width - max(cell_len(first), later))
    lines = [line.plain.rstrip() for line in wrapped(text, room)]
    return [(first if i == 0 else " " * later) + line for i, line in enumerate(lines)]
