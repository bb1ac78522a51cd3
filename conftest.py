"""Markers, the order of the tests, and what goes on record of each. tests/options.py has the options, tests/ending.py
the end of a run."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from _pytest._code.code import ExceptionRepr

from harness import matrix
from harness.case import Case, Precision
from harness.errors import HarnessError, closed
from harness.judge import policy
from harness.judge.verdict import Verdict
from harness.report import ci
from harness.report.causes import PASSED_ON, SWITCHES
from harness.report.records import Record, ran, read_run
from harness.run.deciding import decided_by
from harness.vocabulary import STAGE_MARKERS, Outcome
from tests import resume
from tests.session import (
    ASKED,
    ATTEMPTS,
    BASELINE,
    BEGUN,
    BOOK,
    CLOCK,
    EARLIER,
    ENGINES,
    FAILED,
    FRESH,
    HUNG,
    OWN,
    POLICY,
    RECORDS,
    RESET,
    SCREEN,
    STOPPED,
    TESTS,
    Book,
    Gathering,
    add_record,
    case_of,
    footer,
    lineup_id,
    marks_of,
    not_the_chip,
    options,
    own_cases,
    own_of,
    plain,
    policy_of,
    reachable,
    refused,
    remember,
    selectable,
    stage_of,
    way_on,
)

pytest_plugins = ["tests.options", "tests.ending"]
CONFORMANCE = Path(__file__).parent / "tests" / "conformance"
PARAMETERS = pytest.StashKey[dict[str, list[Any]]]()  # by fixture: its cases with their marks
OVER = pytest.StashKey[str]()  # of a test: the file that its verdicts were taken over from
STARTED = pytest.StashKey[float]()  # of a test: time.monotonic when it began
ENDED = pytest.StashKey[str]()  # of a test: its outcome so far


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDS], config.stash[FRESH], config.stash[ASKED], config.stash[TESTS] = {}, [], set(), {}
    config.stash[BEGUN], config.stash[CLOCK] = time.time(), time.monotonic()
    config.stash[STOPPED] = ""
    config.stash[BOOK], config.stash[ATTEMPTS], config.stash[ENGINES] = Book(config), Counter(), set()
    config.stash[FAILED], config.stash[HUNG], config.stash[RESET] = {}, {}, {}
    coding = sys.__stderr__.encoding if sys.__stderr__ else None  # of the terminal, also while pytest captures
    config.stash[SCREEN] = os.fdopen(os.dup(2), "w", encoding=coding, errors="backslashreplace")
    config.add_cleanup(config.stash[SCREEN].close)
    _end_as_ctrl_c_does(config)
    with reachable(config):
        config.stash[OWN] = own_cases(config)
        config.stash[POLICY] = policy_of(config)
    _add_markers(config)
    if config.getoption("dist", "no") == "each":
        raise refused(config, "--dist each runs every test in every process, on the same device: leave it out")
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Gathering(config))
        config.stash[BOOK].silent = True
    baseline = config.getoption("baseline")
    try:
        config.stash[BASELINE] = None if baseline is None else read_run(baseline)
    except HarnessError as error:
        raise refused(config, f"--baseline {baseline}: {error.fact}", error.hint) from error
    with reachable(config):
        _resume(config)


def _add_markers(config: pytest.Config) -> None:
    for chip in matrix.chips().values():
        config.addinivalue_line("markers", f"{chip.name}: {chip.title}")
    for model in matrix.models().values():
        config.addinivalue_line("markers", f"{model.name}: {model.title}")
    for name in dict.fromkeys(own.case.model for own in config.stash[OWN]):
        config.addinivalue_line("markers", f"{name}: a model of --onnx")
    for precision in Precision:
        config.addinivalue_line("markers", f"{precision}: engines of that arithmetic")
    for batch in sorted({case.batch for case in (*matrix.cases(), *(own.case for own in config.stash[OWN]))}):
        config.addinivalue_line("markers", f"bs{batch}: batch {batch}")
    config.addinivalue_line(
        "markers", "other_engine: the test drives another engine than the published one of its case"
    )
    config.addinivalue_line("markers", "dynamic: one engine is built for every batch of the chip")
    for stage in STAGE_MARKERS:
        config.addinivalue_line("markers", f"{stage}: tests of that stage")


def _resume(config: pytest.Config) -> None:
    """Read what an earlier run left. With pytest -n the processes are told which run that is."""
    asked, results = config.getoption("resume"), config.getoption("results")
    config.stash[EARLIER] = resume.Earlier()
    if asked is None:
        return
    if asked == "latest" and results is None:
        raise refused(config, "--resume latest: give --results DIR, the folder of the earlier run")
    given = getattr(config, "workerinput", {}).get("chipproof_resume")
    try:
        files = [Path(asked)] if asked != "latest" else resume.latest(results) if given is None else map(Path, given)
        config.stash[EARLIER] = resume.read(list(files))
    except HarnessError as error:
        raise refused(config, error) from error
    config.stash[ATTEMPTS].update(config.stash[EARLIER].attempts)


def _end_as_ctrl_c_does(config: pytest.Config) -> None:
    """SIGTERM and SIGHUP end the run with its records, and leave no worker behind. A SIGHUP that is ignored (nohup)
    stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(number: int, frame: object) -> None:
        config.stash[STOPPED] = f"STOPPED by {signal.Signals(number).name} before its end"
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        if before is signal.SIG_DFL:
            signal.signal(number, stop)
            config.add_cleanup(partial(signal.signal, number, before))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """With pytest -n the line-ups of a chip are spread over the processes, each with a device of its own, whatever
    --dist says. Tests other than the conformance tests are left to pytest-xdist."""
    if not any("conformance" in Path(str(arg).split("::")[0]).parts for arg in config.args):
        return None
    from tests.spread import ByLineup  # needs pytest-xdist

    return ByLineup(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "own" in metafunc.fixturenames:
        own = metafunc.config.stash[OWN]
        metafunc.parametrize("own", [pytest.param(one, id=str(one.case), marks=_marks(one.case)) for one in own])
        return
    for name, cases in (("case", matrix.cases), ("lineup", matrix.lineups)):
        if name in metafunc.fixturenames:
            made = metafunc.config.stash.setdefault(PARAMETERS, {})
            if name not in made:  # for the first function: there are hundreds of cases, with four marks each
                possible = selectable(metafunc.config)
                chosen = [case for case in cases() if possible(marks_of(case))] or list(cases())[:1]
                made[name] = [pytest.param(case, id=_id(name, case), marks=_marks(case)) for case in chosen]
            metafunc.parametrize(name, made[name])


def _id(name: str, case: Case) -> str:
    return str(case) if name == "case" else lineup_id(case)


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    return [getattr(pytest.mark, name) for name in marks_of(case)]


@pytest.hookimpl(trylast=True)  # after plug-ins that shuffle: throughput comes before what is concluded from it
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Case by case, so that an engine is built and loaded once for all its tests, and of each stage first its own file:
    another card that crashes costs the first one no verdict. Figures of all batches last."""
    every = [*(own.case for own in config.stash[OWN]), *matrix.cases()]
    order = {case: place for place, case in enumerate(every)}

    def place(item: pytest.Item) -> tuple[int, ...]:
        case = case_of(item)
        if case is None:
            return (-1,)
        marker = stage_of(item)
        stage, beside = STAGE_MARKERS.index(marker) if marker else 0, item.path.stem != f"test_{marker}"
        of_all = len(order) if "lineup" in item.callspec.params else 0  # type: ignore[attr-defined]
        return (of_all + order[case], stage, beside, item.location[1] or 0)

    left_out = [item for item in items if not _in_tier(item, config.getoption("tier"))]
    if shard := config.getoption("shard"):
        left_out += _of_others(config, [item for item in items if item not in left_out], shard)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=place)
    for item in items:
        if CONFORMANCE not in item.path.parents:  # tests of our own are strict about every package
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)


def _of_others(config: pytest.Config, items: list[pytest.Item], shard: str) -> list[pytest.Item]:
    """Conformance tests that other shards run."""
    from tests import shards  # needs pytest-xdist

    judged = [item for item in items if case_of(item) is not None]
    known = shards.durations(config.stash[BASELINE])
    own = shards.mine([item.nodeid for item in judged], shards.shard_of(shard), known)
    return [item for item in judged if item.nodeid not in own]


def _in_tier(item: pytest.Item, tier: str) -> bool:
    """Whether a test is run in that tier; tests of the suite itself are in all."""
    case = case_of(item)
    if case is None or tier == "full" or case.model not in matrix.models():
        return True
    chip, model = matrix.chips()[case.chip], matrix.models()[case.model]
    batches = matrix.batches(model, chip, case.precision)
    accuracy = stage_of(item) == "accuracy"
    if tier == "nightly":
        return not accuracy or case.batch in (batches[0], batches[-1])
    return case.precision is chip.precisions[0] and not (accuracy and (model.heavy or case.batch != batches[0]))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[ASKED] = {case for item in session.items if (case := case_of(item)) is not None}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    test = plain(item.nodeid)
    item.config.stash[ATTEMPTS][test] += 1
    item.stash[ENDED], item.stash[STARTED] = "passed", time.monotonic()
    if case_of(item) is not None:
        process = getattr(item.config, "workerinput", {}).get("workerid", "")
        begin = {"kind": "begin", "test": test, "attempt": item.config.stash[ATTEMPTS][test], "process": process}
        item.config.stash[BOOK].add(begin)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """A test whose verdicts are known, and are decided by the same, ends as it did; anything else runs."""
    config, case, test = pyfuncitem.config, case_of(pyfuncitem), plain(pyfuncitem.nodeid)
    earlier, context = config.stash[EARLIER], pyfuncitem.funcargs.get("suite")
    if case is None or context is None or test not in earlier.decided_by:
        return None
    if stage_of(pyfuncitem) == "targets" and _measured_anew(config, case):
        return None
    decided = decided_by(context, case, options(config), own_of(pyfuncitem))
    records = earlier.kept(test, decided, str(config.getoption("patience")))
    if records is None:
        return None
    pyfuncitem.stash[OVER] = earlier.files[0].name
    config.stash[ATTEMPTS][test] = max(int(record.facts.get("attempt", 1)) for record in records)
    for record in records:
        add_record(config, record, test)
    for line in earlier.samples[test]:
        config.stash[BOOK].add(line)
    lines = [f"{r.outcome} {r.case} {r.stage} {r.metric}: {r.text}" for r in records]
    told = "\n".join((*lines, f"taken over from {records[0].facts['taken_over']}"))
    if any(record.outcome.red and "observed" in record.marks for record in records):
        pytest.xfail(told)
    if any(record.outcome.red for record in records):
        pytest.fail(told, pytrace=False)
    if earlier.ended.get(test) != "passed" and any(record.outcome is Outcome.INCONCLUSIVE for record in records):
        pytest.skip(told)
    return True


def _measured_anew(config: pytest.Config, lineup: Case) -> bool:
    """Whether a throughput that a ratio rests on is of this run."""
    return any(
        record.stage == "throughput" and replace(record.case, batch=lineup.batch) == lineup
        and "taken_over" not in record.facts
        for record in config.stash[RECORDS].values()
    )  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A harness error reads as its fact and its next step; what was skipped or crashed is on record too."""
    error = call.excinfo.value if call.excinfo is not None else None
    style = item.config.option.tbstyle
    if isinstance(error, HarnessError) and style == "auto":
        item.config.option.tbstyle = "value"  # _show leaves the traceback out; to make one takes a tenth of a second
    try:
        result = yield
    finally:
        item.config.option.tbstyle = style
    if isinstance(error, PermissionError) and error.filename:
        error = closed(error)
    _record(item, error, result)
    verdict = isinstance(error, AssertionError | pytest.fail.Exception) or getattr(error, "stage", "") == "invalid"
    if result.failed and result.when == "call" and case_of(item) is not None and not verdict:
        result.when = "run"  # pytest and JUnit take what failed in a call for a failure, and all else for an error
    if result.outcome != "passed" and item.stash[ENDED] != "failed":
        item.stash[ENDED] = result.outcome
    if result.when == "teardown" and case_of(item) is not None:
        item.config.stash[BOOK].add(_end(item))
    given = {name: item.config.getoption(name) for name in (*PASSED_ON, *SWITCHES)}
    for record in item.config.stash[FRESH]:
        item.user_properties += ci.properties(record, given)
    result.chipproof = [json.dumps(record.as_json()) for record in item.config.stash[FRESH]]
    item.config.stash[FRESH].clear()
    return result


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """A step that crashed is counted among the errors."""
    return ("error", "E", "ERROR") if report.when == "run" and report.failed else None


def _end(item: pytest.Item) -> dict[str, Any]:
    """The line that ends a test: its outcome, and what decided its verdicts where it reached any."""
    config, test, case = item.config, plain(item.nodeid), case_of(item)
    seconds = round(time.monotonic() - item.stash[STARTED], 2)
    line: dict[str, Any] = {"kind": "end", "test": test, "outcome": item.stash[ENDED], "seconds": seconds}
    if item.stash.get(OVER, ""):
        line["taken_over"] = item.stash[OVER]
    context = item.funcargs.get("suite") if isinstance(item, pytest.Function) else None
    ran_here = any(config.stash[TESTS].get(key) == test and ran(r) for key, r in config.stash[RECORDS].items())
    if config.stash[BOOK].path is not None and context is not None and case is not None and ran_here:
        with suppress(HarnessError, OSError):  # then it has failed by the same
            line["decided_by"] = decided_by(context, case, options(config), own_of(item))
    return line


def _record(item: pytest.Item, error: BaseException | None, result: pytest.TestReport) -> None:
    case = case_of(item)
    if case is None or error is None:
        return
    way = way_on(item) if result.failed else {}
    if result.failed:
        _show(item, error, result, way)
    stage, test = stage_of(item), plain(item.nodeid)
    known = {(c, s) for c, s, _ in item.config.stash[RECORDS]}
    marks = not_the_chip(item.config, case)
    if isinstance(error, pytest.skip.Exception):
        if (case, stage) not in known:
            record = Record(case, stage, Outcome.SKIP, str(error).splitlines()[0], marks=marks)
            add_record(item.config, record, test)
        return
    judged = any(record.outcome.red or not record.outcome.ran for record in item.config.stash[FRESH])
    if not result.failed or (isinstance(error, AssertionError | pytest.fail.Exception) and judged):
        return  # a verdict, on record already
    outcome = Outcome.INVALID if getattr(error, "stage", "") == "invalid" else Outcome.ERROR
    text = getattr(error, "fact", None) or (str(error) if isinstance(error, pytest.fail.Exception) else repr(error))
    if not item.get_closest_marker("other_engine"):
        remember(item.config, case, error)
    told = {"fact": error.fact, "hint": error.hint} if isinstance(error, HarnessError) else {}
    metric = "teardown" if result.when == "teardown" else ""
    after = policy.apply(item.config.stash[POLICY], case, stage, "", Verdict(outcome, text), date.today())
    if after.outcome is Outcome.PASS:  # it is expected
        result.outcome, result.longrepr, way = "passed", None, {}
    elif row := item.config.stash[POLICY].observes(case, stage, date.today()):
        result.outcome, result.wasxfail, marks = "skipped", f"observed ({row.place})", (*marks, "observed")
    record = Record(case, stage, after.outcome, after.text, metric, marks=marks, facts={**told, **after.details, **way})
    add_record(item.config, record, test)


def _show(item: pytest.Item, error: BaseException, result: pytest.TestReport, way: Mapping[str, str]) -> None:
    """A harness error without its traceback, unless --tb asks for one; and below whatever is red, the way on."""
    if isinstance(error, HarnessError) and item.config.option.tbstyle == "auto":
        result.longrepr = f"{error.stage} error: {error}\n{footer(way)}"
    elif isinstance(result.longrepr, ExceptionRepr):
        result.longrepr.addsection("the way on", footer(way), "-")
    else:
        result.longrepr = f"{result.longrepr}\n{footer(way)}"
