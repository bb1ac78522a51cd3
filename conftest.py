"""Options, markers, the order of the tests, and the summary that ends a run."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import matrix
from harness.backends.registry import backends
from harness.case import Case, Precision
from harness.errors import HarnessError
from harness.report import tables
from harness.report.records import Record, ran, read_run, write_run, write_whole
from tests.session import ASKED, FRESH, RECORDS, STAGES, Gathering, add_record, case_of, simulated, stage_of

BEGUN = pytest.StashKey[float]()
STOPPED = pytest.StashKey[str]()  # that the run did not come to its end, or nothing
UNWRITTEN = pytest.StashKey[str]()  # why there are no records on disk, or nothing


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chipproof", "conformance of AI inference chips")
    group.addoption(
        "--data",
        type=Path,
        default=os.environ.get("CHIPPROOF_DATA"),
        metavar="DIR",
        help="published weights, images and labels (default: $CHIPPROOF_DATA); without it: drawn scenes",
    )
    group.addoption(
        "--cache",
        type=Path,
        default=os.environ.get("CHIPPROOF_CACHE"),
        metavar="DIR",
        help="where exports, engines and reference outputs are kept (default: the user's cache folder)",
    )
    group.addoption("--device", type=int, metavar="N", help="use only this device of the chip")
    group.addoption("--limit", type=int, metavar="N", help="only the first N images of each data set")
    group.addoption(
        "--patience",
        type=float,
        metavar="SECONDS",
        help="time a case for at most so long until its throughput is decided (default: 60 on chips, 30 on cpu)",
    )
    group.addoption(
        "--require",
        action="append",
        default=[],
        metavar="CHIP",
        help="fail when this chip is absent or nothing ran on it (repeat for several)",
    )
    group.addoption(
        "--results", type=Path, metavar="DIR", help="write records and reports here, and read those of other chips"
    )
    group.addoption("--simulate", action="store_true", help="put the simulated SDKs in the place of the vendors'")
    group.addoption(
        "--sdk-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter that has the vendor's SDK (3.7 or newer, with NumPy)",
    )
    group.addoption("--runner", metavar="BACKEND", help=f"drive the chip by another backend: {', '.join(backends())}")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDS], config.stash[FRESH], config.stash[ASKED] = {}, [], set()
    config.stash[BEGUN], config.stash[STOPPED], config.stash[UNWRITTEN] = time.time(), "", ""
    for chip in matrix.chips().values():
        config.addinivalue_line("markers", f"{chip.name}: {chip.title}")
    for model in matrix.models().values():
        config.addinivalue_line("markers", f"{model.name}: {model.title}")
    for precision in Precision:
        config.addinivalue_line("markers", f"{precision}: engines of that arithmetic")
    for batch in sorted({case.batch for case in matrix.cases()}):
        config.addinivalue_line("markers", f"bs{batch}: batch {batch}")
    for stage in STAGES:
        config.addinivalue_line("markers", f"{stage}: tests of that stage")
    if config.getoption("dist", "no") == "load":  # pytest -n
        config.option.dist = "loadgroup"
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Gathering(config))
    unknown = sorted(set(config.getoption("require")) - set(matrix.chips()))
    if unknown:
        raise pytest.UsageError(f"--require {unknown[0]}: no such chip; there are {', '.join(matrix.chips())}")
    limit = config.getoption("limit")
    if limit is not None and limit < 1:
        raise pytest.UsageError(f"--limit {limit}: give at least 1 image")
    patience = config.getoption("patience")
    if patience is not None and not 0 <= patience < float("inf"):
        raise pytest.UsageError(f"--patience {patience:g}: give seconds, 0 or more")
    data = config.getoption("data")
    if data is not None and not Path(data).is_dir():
        raise pytest.UsageError(f"--data {data}: no such folder")
    runner, python = config.getoption("runner"), config.getoption("sdk_python")
    if runner is not None and runner not in backends():
        raise pytest.UsageError(f"--runner {runner}: no such backend; there are {', '.join(backends())}")
    if shutil.which(python) is None:
        raise pytest.UsageError(f"--sdk-python {python}: no such program")
    results = config.getoption("results")
    if results is not None and not config.getoption("collectonly"):  # said now, not after hours
        try:
            results.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=results).close()
        except OSError as error:
            raise pytest.UsageError(f"--results {results} cannot be written: {error}") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, cases in (("case", matrix.cases), ("lineup", matrix.lineups)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [pytest.param(case, id=_id(name, case), marks=_marks(case)) for case in cases()])


def _id(name: str, case: Case) -> str:
    return str(case) if name == "case" else f"{case.model}-{case.chip}-{case.precision}"


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    """The case's names; and with pytest -n all cases of a chip go to one process, for two would spoil each other's
    measurements."""
    names = (case.chip, case.model, str(case.precision), f"bs{case.batch}")
    return [*(getattr(pytest.mark, name) for name in names), pytest.mark.xdist_group(case.chip)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Case by case, so that an engine is built and loaded once for all its tests; figures of all batches last."""
    order = {case: place for place, case in enumerate(matrix.cases())}

    def place(item: pytest.Item) -> tuple[int, int]:
        case = case_of(item)
        if case is None:
            return (-1, 0)
        stage = STAGES.index(stage_of(item)) if stage_of(item) else 0
        return (order[case] if "case" in item.callspec.params else len(order), stage)  # type: ignore[attr-defined]

    items.sort(key=place)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[ASKED] = {case for item in session.items if (case := case_of(item)) is not None}


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = [f"chipproof: data {config.getoption('data') or 'none (drawn scenes)'}"]
    settings = [
        f"--{name} {value}"
        for name in ("limit", "device", "runner", "patience")
        if (value := config.getoption(name)) is not None
    ]
    if config.getoption("simulate"):
        settings.append("--simulate: SIMULATED SDKs, nothing here speaks of a chip")
    typos = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("CHIPPROOF_")]
    return lines + [f"chipproof: {line}" for line in settings + typos]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A harness error reads as its fact and its next step; what was skipped or broke off is on record too."""
    result = yield
    _record(item, call.excinfo.value if call.excinfo is not None else None, result)
    result.chipproof = [json.dumps(record.as_json()) for record in item.config.stash[FRESH]]
    item.config.stash[FRESH].clear()
    return result


def _record(item: pytest.Item, error: BaseException | None, result: pytest.TestReport) -> None:
    case = case_of(item)
    if isinstance(error, HarnessError) and result.failed:
        result.longrepr = f"{error.stage} error: {error}\n  again: {_again(item)}"
    if case is None or error is None:
        return
    stage = stage_of(item)
    known = {(c, s) for c, s, _ in item.config.stash[RECORDS]}
    marks = ("simulated",) if simulated(item.config, case) else ()
    if isinstance(error, pytest.skip.Exception) and (case, stage) not in known:
        add_record(item.config, Record(case, stage, "SKIP", str(error).splitlines()[0], marks=marks))
    elif result.failed and not isinstance(error, AssertionError | pytest.fail.Exception):
        outcome = "INVALID" if getattr(error, "stage", "") == "invalid" else "ERROR"
        text = getattr(error, "fact", None) or repr(error)
        add_record(item.config, Record(case, stage, outcome, text, marks=marks))


def _again(item: pytest.Item) -> str:
    given = {
        name: item.config.getoption(name)
        for name in ("data", "cache", "limit", "device", "runner", "patience", "sdk_python")
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    if given["sdk_python"] == sys.executable:
        options.pop()
    if item.config.getoption("simulate"):
        options.append("--simulate")
    return shlex.join(["pytest", item.nodeid, *options])


def header(config: pytest.Config) -> dict[str, object]:
    """What a record file says of the machine and the run."""
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in (
        "chipproof",
        "torch",
        "onnx",
        "onnxruntime",
        "numpy",
        "opencv-python-headless",
        "pillow",
        "pycocotools",
    ):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(config.stash[BEGUN])),
        "seconds": round(time.time() - config.stash[BEGUN], 1),
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": packages,
        "options": {
            name: str(config.getoption(name))
            for name in ("data", "limit", "device", "require", "simulate", "runner", "patience", "sdk_python")
        },
        "environment": {name: value for name, value in os.environ.items() if name.startswith("CHIPPROOF_")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Nothing ran is never green where something was required, and neither is a red record; records are written
    whatever happened, and what cannot be written takes nothing else with it."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["asked"] = [str(case) for case in config.stash[ASKED]]
        return
    records = list(config.stash[RECORDS].values())
    if config.getoption("collectonly"):
        return
    red = any(record.outcome in ("FAIL", "ERROR", "INVALID") for record in records)
    if exitstatus == pytest.ExitCode.OK and (red or _idle(config, records)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR) or session.shouldfail:
        config.stash[STOPPED] = "STOPPED before its end"
    if config.getoption("results") and records:
        try:
            _write(config, records)
        except Exception as error:
            config.stash[UNWRITTEN] = str(error) if isinstance(error, HarnessError) else repr(error)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _idle(config: pytest.Config, records: list[Record]) -> list[str]:
    """Chips that were required and on which nothing ran."""
    return [c for c in config.getoption("require") if not any(ran(r) and r.case.chip == c for r in records)]


def _write(config: pytest.Config, records: list[Record]) -> None:
    folder = config.getoption("results")
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(config.stash[BEGUN]))
    chips = "+".join(sorted({r.case.chip for r in records}))
    path = folder / f"{stamp}-{platform.node()}-{os.getpid()}-{chips}.jsonl"
    write_run(path, header(config), records, len(config.stash[ASKED]), config.stash[STOPPED])
    run = read_run(path)
    write_whole(folder / "latest.md", tables.markdown(run))
    from harness.report.html import page  # draws charts: not imported where nothing is written

    write_whole(folder / "latest.html", page(run))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    records = list(config.stash[RECORDS].values())
    if not config.stash[ASKED] or config.getoption("collectonly"):
        return
    terminalreporter.section("chipproof")
    width, colour = terminalreporter._tw.fullwidth, terminalreporter.hasmarkup
    terminalreporter.write(
        tables.terminal(records, len(config.stash[ASKED]), width, colour, stopped=config.stash[STOPPED])
    )
    for chip in _idle(config, records):
        terminalreporter.write_line(f"FAILED: --require {chip}: nothing ran on it", red=True, bold=True)
    if config.stash[UNWRITTEN]:
        terminalreporter.write_line(f"FAILED: no records: {config.stash[UNWRITTEN]}", red=True, bold=True)
