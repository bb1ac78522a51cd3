"""What the hooks and the fixtures of a test session share: the records of the run, and what a test is about."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from _pytest.mark.expression import Expression

from harness import matrix
from harness.backends.registry import Pythons, pythons
from harness.case import Case
from harness.errors import BuildError, ExportError, HarnessError, StoreError, WorkerError, closed
from harness.judge.policy import Policy
from harness.report.causes import PASSED_ON, SWITCHES, passed_on
from harness.report.journal import Journal
from harness.report.messages import Translate, language, refusal, translation
from harness.report.records import Record, Run
from harness.run.settings import lab_policy
from harness.run.simulation import simulator_folder
from harness.vocabulary import STAGE_MARKERS, Outcome

if TYPE_CHECKING:
    from harness.export.own import OwnModel

ROOT = Path(__file__).parents[1]
RECORDS = pytest.StashKey[dict[tuple[Case, str, str], Record]]()
FRESH = pytest.StashKey[list[Record]]()  # records of the test that runs now
ASKED = pytest.StashKey[set[Case]]()
POLICY = pytest.StashKey[Policy]()  # of the lab
BASELINE = pytest.StashKey[Run | None]()  # that of --baseline
STOPPED = pytest.StashKey[str]()  # that the run did not come to its end, or nothing
CLOCK = pytest.StashKey[float]()  # of time.monotonic, for the duration: the other clock may be set meanwhile
BEGUN = pytest.StashKey[float]()  # seconds since 1970
BOOK = pytest.StashKey["Book"]()
TESTS = pytest.StashKey[dict[tuple[Case, str, str], str]]()  # whose a record is: node id
EARLIER = pytest.StashKey["Earlier"]()  # what --resume found
SCREEN = pytest.StashKey[IO[str]]()  # what the user sees, also while a test's output is captured
FAILED = pytest.StashKey[dict[Case, HarnessError]]()  # what a case broke off with that would cost as much again
HUNG = pytest.StashKey[dict[str, list[Case]]]()  # cases in which a chip's device hung, by chip
COSTLY = (WorkerError, BuildError, ExportError, StoreError)  # a hang, a crash, a failed build: once a case
MOST_HANGS = 2  # of a chip's device, then it is left alone, or reset once (--device-reset)
RESET = pytest.StashKey[dict[str, str]]()  # chip -> why its device could not be reset, or nothing
ENGINES = pytest.StashKey[set[str]]()  # whose keys are in the journal
OWN = pytest.StashKey["list[Own]"]()  # cases of --onnx
ATTEMPTS = pytest.StashKey[Counter[str]]()  # how often a test was begun, by node id
PACKAGES = ("chipproof", "torch", "onnx", "onnxruntime", "numpy", "opencv-python-headless", "pillow", "pycocotools")
OPTIONS = ("data", "limit", "device", "require", "tune", "simulate", "runner", "sdk_python", "backend_option", "tier",
           "memory_limit", "patience")  # fmt: skip
DIAGNOSED = ("data", "cache", "device", "runner", "policy", "backend_option", "tune", "simulate")  # options of diagnose
ASIDE = ("data", "require", "tier", "memory_limit", "patience")  # of these, what decides no verdict that is reached


def case_of(item: pytest.Item) -> Case | None:
    """The case of a conformance test; for one about all batches, the case of the largest."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    own = params.get("own")
    return params.get("case") or params.get("lineup") or (own.case if own is not None else None)


def selectable(config: pytest.Config) -> Callable[[Iterable[str]], bool]:
    """Whether -m can select a test of a case with these marks, whatever marks the test itself has. Thousands that it
    cannot select need not be made."""

    def every(marks: Iterable[str]) -> bool:
        return True

    expression = config.getoption("markexpr")
    if not expression or "=" in expression or any("::" in arg for arg in config.args):
        return every  # arguments of markers, and tests that are asked for by name
    names = set(re.findall(r"[\w:+\-.\[\]\\/]+", expression)) - {"and", "or", "not"}
    of_cases = {name for case in matrix.cases() for name in marks_of(case)}
    own = sorted(names - of_cases)
    if len(own) > 8:  # more ways than are quicker than to make the tests
        return every
    try:
        asked = Expression.compile(expression)
    except SyntaxError:  # pytest says so in a moment
        return every
    possible = [frozenset(some) for count in range(len(own) + 1) for some in combinations(own, count)]

    @cache
    def any_of(marks: frozenset[str]) -> bool:
        return any(asked.evaluate(lambda name, all=marks | some, **_: name in all) for some in possible)

    return lambda marks: any_of(frozenset(names.intersection(marks)))


def marks_of(case: Case) -> tuple[str, ...]:
    """Names of the marks that a case gives its tests."""
    return (case.chip, case.model, str(case.precision), f"bs{case.batch}")


@dataclass(frozen=True)
class Own:
    """A case of a model of the user's own."""

    model: OwnModel
    case: Case


def policy_of(config: pytest.Config) -> Policy:
    """The lab's policy, or an empty one. Raises pytest.UsageError for a file that is wrong."""
    own = [one.case for one in config.stash[OWN]]
    try:
        return lab_policy(config.getoption("policy"), Path(config.invocation_params.dir), own)
    except HarnessError as error:
        raise refused(config, error) from error


def pythons_of(config: pytest.Config) -> Pythons:
    """The interpreters that the policy and the options name, an option before the policy."""
    return pythons([*config.stash[POLICY].pythons, *config.getoption("sdk_python")], matrix.chips())


def own_of(item: pytest.Item) -> OwnModel | None:
    """The model of the user's own that a test is about."""
    own = getattr(getattr(item, "callspec", None), "params", {}).get("own")
    return own.model if own is not None else None


def own_cases(config: pytest.Config) -> list[Own]:
    """The cases of --onnx. Raises pytest.UsageError for a file that cannot be tested."""
    given, bounds = config.getoption("onnx"), config.getoption("onnx_input")
    if not given and not bounds:
        return []
    from harness.export import own  # imports onnx: not where it is not asked for
    from harness.reference import own as reference
    from harness.run.own_run import ROWS, cases

    try:
        options = own.inputs(bounds, len(given))
        models = own.several(given, options)
        for model in models:
            reference.check(model)
    except HarnessError as error:
        raise refused(config, error) from error
    doubled = [model.name for model in models if [m.name for m in models].count(model.name) > 1]
    if doubled:
        raise refused(config, f"--onnx: two files are called {doubled[0]}: rename one")
    for model in models:
        if model.given and model.lacks_for_int8 and not hasattr(config, "workerinput"):
            say(config, f"{model.path.name}: INT8 is not tested, {model.lacks_for_int8}; {ROWS}")
    return [Own(model, case) for model in models for case in cases(model)]


def stage_of(item: pytest.Item) -> str:
    return next((stage for stage in STAGE_MARKERS if item.get_closest_marker(stage)), "")


def not_the_chip(config: pytest.Config, case: Case) -> tuple[str, ...]:
    """The mark of a case that ran, or would have run, on a simulated SDK or on the vendor's simulator of the chip."""
    chip, runner = matrix.chips()[case.chip], config.getoption("runner")
    if config.getoption("simulate") and simulator_folder(chip, runner) is not None:
        return ("simulated",)
    return ("emulated",) if chip.emulated else ()


def again(item: pytest.Item) -> str:
    """The command that runs a test again where the run was started, in the same environment and with the same
    options."""
    config = item.config
    told = {name: config.getoption(name) for name in (*PASSED_ON, *SWITCHES)}
    options = passed_on({**told, **_own_file(config, case_of(item))})
    here = Path(config.invocation_params.dir)
    file, sign, test = item.nodeid.partition("::")
    place = file if here == config.rootpath else os.path.relpath(config.rootpath / file, here)
    words = [called("python", config), "-m", "pytest", place + sign + test, *options]
    return " ".join([*_environment(config), shlex.join(words)])


def called(program: str, config: pytest.Config) -> str:
    """What a shell calls a program of this Python's environment where the run was started: its name when PATH leads
    there, else its path."""
    folder, here = Path(sys.executable).parent, Path(config.invocation_params.dir)
    found = shutil.which(program)
    if found is not None and Path(found).parent == folder:
        return program
    path = folder / program
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _own_file(config: pytest.Config, case: Case | None) -> dict[str, list[str]]:
    """--onnx and --onnx-input as far as they are of the case: its own file and what that is fed."""
    models = [one.model for one in config.stash[OWN] if one.case == case]
    names = {tensor.name for model in models for tensor in model.inputs}
    fed = [text for text in config.getoption("onnx_input") if text.partition("=")[0] in names]
    return {"onnx": [str(model.path) for model in models], "onnx_input": fed}


def _environment(config: pytest.Config) -> list[str]:
    """Settings of the simulated SDKs, as a shell takes them before a command."""
    if not config.getoption("simulate"):
        return []
    return [
        f"{name}={shlex.quote(os.environ[name])}" for name in sorted(os.environ) if name.startswith("CHIPPROOF_SIM")
    ]


def way_on(item: pytest.Item) -> dict[str, str]:
    """What helps on after a red test, by name: the command to run it again, where outputs or answers were compared the
    one to diagnose its case, the engine, the worker's log, the device and its SDK. Only what there is."""
    found = {"again": again(item)}
    case, case_run = case_of(item), getattr(item, "funcargs", {}).get("case_run")
    if case is None or case_run is None:
        return found
    config = item.config
    if stage_of(item) in ("numerics", "accuracy"):
        found["diagnose"] = _diagnose(config, case, case_run.context.settings.pythons.options(case.chip))
    settings = case_run.context.settings
    if engine := settings.store.latest.get("engine"):
        found["engine"] = str(engine)
    logs: list[Path] = []
    with suppress(OSError):  # a folder of another user
        logs = sorted(settings.logs.glob(f"{case}*.log")) if settings.logs else []
    logs = [log for log in logs if log.name[len(str(case))] == "."]
    if logs:
        found["log"] = " ".join(map(str, logs))
    if "present" in vars(case_run.engine):
        found["device"], found["version"] = case_run.device.name, case_run.present.version
    return found


def _diagnose(config: pytest.Config, case: Case, pythons: list[str]) -> str:
    told = {name: config.getoption(name) for name in DIAGNOSED}
    options = pythons + passed_on({**told, **_own_file(config, case)})
    words = [called("chipproof", config), "diagnose", str(case), *options]
    return " ".join([*_environment(config), shlex.join(words)])


WORDS = {"again": "again", "diagnose": "why", "engine": "engine", "log": "log", "device": "device", "version": "SDK"}
"""Fact of a red record -> the word before it in the terminal."""


def footer(way: Mapping[str, str]) -> str:
    """The lines below a red test."""
    return "\n".join(f"  {WORDS[name] + ':':<8}{value}" for name, value in way.items())


def reader(config: pytest.Config, stream: Any = None) -> Translate:
    """Translates for whoever reads the stream, standard error unless another is given."""
    encoding = getattr(stream or sys.stderr, "encoding", None)
    return translation(language(config.getoption("lang"), encoding=encoding))


def refused(config: pytest.Config, what: str | HarnessError, hint: str = "") -> pytest.UsageError:
    """The end of a run that cannot begin: an error, or the option, what was given and what is possible."""
    t = reader(config)
    error = HarnessError(what, hint) if hint else what
    return pytest.UsageError(t(error) if isinstance(error, str) else refusal(error, t))


@contextmanager
def reachable(config: pytest.Config) -> Iterator[None]:
    """Refuse options with a path that may not be read. Raises pytest.UsageError."""
    try:
        yield
    except PermissionError as error:
        raise refused(config, closed(error)) from error


def say(config: pytest.Config, text: str) -> None:
    """Tell the user something at once, whatever pytest captures."""
    with suppress(OSError, ValueError):  # a terminal that is gone
        config.stash[SCREEN].write(f"chipproof: {reader(config)(text)}\n")
        config.stash[SCREEN].flush()


class Book:
    """The journal of this process: opened at the first line, silent without --results or once it cannot be written."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.silent = False  # with pytest -n, in the process that only sums up: the others write
        self.unwritten = ""  # why a line is not on disk, or nothing
        self._journal: Journal | None = None

    @property
    def path(self) -> Path | None:
        """Its own file: of the run, or with pytest -n the part of one process."""
        folder = self.config.getoption("results")
        given = getattr(self.config, "workerinput", {})
        if folder is None:
            return None
        stem = given.get("chipproof_stem") or stem_of(self.config)
        return Path(folder) / (f"{stem}.{given['workerid']}.part" if given else f"{stem}.jsonl")

    @property
    def opened(self) -> bool:
        return self._journal is not None

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line; it is on disk when this returns. A line that cannot be written ends the journal."""
        path = self.path
        if path is None or self.unwritten or self.silent:
            return
        try:
            if self._journal is None:
                self._journal = Journal(path, opening(self.config))
                for engine in self.config.stash[EARLIER].engines.values():
                    self._journal.add(engine)
            self._journal.add(line)
        except HarnessError as error:
            self.unwritten = str(error)

    def close(self) -> bool:
        """Whether there was anything in it."""
        written = self._journal is not None
        if self._journal is not None:
            self._journal.close()
        return written


def stem_of(config: pytest.Config) -> str:
    """Name of the run's files, without the folder and the ending."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(config.stash[BEGUN]))}-{platform.node()}-{os.getpid()}"


def add_record(config: pytest.Config, record: Record, test: str = "") -> None:
    """Put a record on record, at once on disk. A SKIP never takes the place of something that ran, nor the record of
    one test that of another."""
    records = config.stash[RECORDS]
    key = (record.case, record.stage, record.metric)
    before = records.get(key)
    if before is not None and before.outcome.ran and not record.outcome.ran:
        return
    if before is not None and before.outcome.ran and config.stash[TESTS].get(key, test) != test:
        key = (record.case, record.stage, f"{record.metric} {words(test)}".strip())
        record = replace(record, metric=key[2])
    attempt = config.stash[ATTEMPTS][test]
    if attempt > 1:
        record = replace(record, facts={**record.facts, "attempt": attempt})
    records[key] = record
    config.stash[TESTS][key] = test
    config.stash[FRESH].append(record)
    config.stash[BOOK].add({**record.as_json(), "test": test})


def words(test: str) -> str:
    """What a test is about: "the same input gives the same output twice"."""
    found = re.search(r"::test_(\w+)", test)
    return found[1].replace("_", " ") if found else test


class Gathering:
    """With pytest -n: brings the records of all processes to the one that sums the run up."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["chipproof_stem"] = stem_of(self.config)
        files = self.config.stash[EARLIER].files
        node.workerinput["chipproof_resume"] = [str(path) for path in files]

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a process that died there is a report without records: its test is an error on record."""
        for line in getattr(report, "chipproof", ()):
            add_record(self.config, Record.of_json(json.loads(line)), plain(report.nodeid))
        found = re.search(r"conformance/test_(\w+)\.py::.*\[(.+)\]$", plain(report.nodeid))
        if hasattr(report, "chipproof") or not found:
            return
        if (case := self._named.get(found[2])) is not None:
            stage = found[1] if found[1] in STAGE_MARKERS else "throughput" if "throughput" in found[0] else "numerics"
            record = Record(case, stage, Outcome.ERROR, str(report.longrepr), marks=not_the_chip(self.config, case))
            add_record(self.config, record, plain(report.nodeid))

    @property
    def _named(self) -> dict[str, Case]:
        """Cases by what stands in brackets in the name of a test."""
        named = {str(case): case for case in matrix.cases()}
        named |= {lineup_id(case): case for case in matrix.lineups()}
        return named | {str(own.case): own.case for own in self.config.stash[OWN]}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Iterable[str]) -> None:
        """All processes collect the same tests: what is asked is known before any of them ends."""
        brackets = {plain(test).rpartition("[")[2].removesuffix("]") for test in ids if "conformance/" in test}
        self.config.stash[ASKED] |= {case for name, case in self._named.items() if name in brackets}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        unwritten = getattr(node, "workeroutput", {}).get("unwritten", "")
        self.config.stash[BOOK].unwritten = self.config.stash[BOOK].unwritten or unwritten


def remember(config: pytest.Config, case: Case, error: BaseException) -> None:
    """Keep what a case broke off with that would cost as much again, and that its chip's device hung."""
    if not isinstance(error, COSTLY):
        return
    config.stash[FAILED].setdefault(case, error)
    hung = config.stash[HUNG].setdefault(case.chip, [])
    if getattr(error, "hung", False) and case not in hung:
        hung.append(case)


def exact(config: pytest.Config) -> bool:
    """Whether FP32 is compared with FP64 (Settings.exact), which the tier quick has no time for."""
    return config.getoption("tier") != "quick"


def options(config: pytest.Config) -> dict[str, str]:
    """Options and environment that decide verdicts, apart from the content of the data folder."""
    given = {name: str(config.getoption(name)) for name in OPTIONS if name not in ASIDE}
    given["policy"] = config.stash[POLICY].digest
    given["exact"] = str(exact(config))
    return {**given, **{name: value for name, value in os.environ.items() if name.startswith("CHIPPROOF_SIM")}}


def plain(nodeid: str) -> str:
    """A test's name without the group that pytest-xdist appends to it."""
    return re.sub(r"\](@[^\[\]]*)?$", "]", nodeid)


def lineup_id(case: Case) -> str:
    """Name of a test about all batches."""
    return f"{case.model}-{case.chip}-{case.precision}"


def header(config: pytest.Config) -> dict[str, object]:
    """What a record file says of the machine and the run."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(config.stash[BEGUN])),
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": packages,
        "baselines": matrix.published().digest,
        "options": {name: _told(config.getoption(name)) for name in OPTIONS},
        "policy": config.stash[POLICY].digest,
        "shard": config.getoption("shard") or "",
        "environment": {name: value for name, value in os.environ.items() if name.startswith("CHIPPROOF_")},
    }


def opening(config: pytest.Config) -> dict[str, object]:
    """The first line of this run's record file."""
    resumes = [file.name for file in config.stash[EARLIER].files]
    return {**header(config), "asked": len(config.stash[ASKED]), "resumes": resumes}


def _told(value: object) -> object:
    """An option as a record file has it: text, or a list of what was given several times."""
    return value if isinstance(value, list) else str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
