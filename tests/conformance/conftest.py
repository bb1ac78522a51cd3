"""Fixtures of the conformance tests: they do the work, the tests judge what comes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from harness import matrix
from harness.backends.registry import backend_options
from harness.case import Case
from harness.chips import Chip
from harness.errors import DataError, DeviceError, HarnessError, InvalidMeasurement, StoreError
from harness.judge import policy
from harness.judge.known import excuse
from harness.judge.repeat import Again, Judged, confirmed, suspect
from harness.judge.timing import Plan
from harness.judge.verdict import Verdict
from harness.report import pictures
from harness.report.messages import language
from harness.report.progress import Shown
from harness.report.records import Record, Run, merge, read_run
from harness.report.samples import write_answers
from harness.report.speeds import Speed, best_of, by_batch
from harness.run import peers
from harness.run.accuracy import Evaluation
from harness.run.case_answers import answers_of
from harness.run.case_run import CaseRun, peers_of
from harness.run.case_speed import speed_of
from harness.run.context import RunContext
from harness.run.idle import Disturbed
from harness.run.settings import CHIP_PLAN, Settings
from harness.run.simulation import simulator
from harness.store import Store
from harness.vocabulary import Outcome
from harness.worker.limits import Limits, limits
from tests.session import (
    BOOK,
    ENGINES,
    FAILED,
    HUNG,
    MOST_HANGS,
    POLICY,
    RECORDS,
    RESET,
    SCREEN,
    add_record,
    case_of,
    exact,
    plain,
    pythons_of,
    remember,
    say,
    stage_of,
    way_on,
)

PROGRESS = pytest.StashKey[Shown]()
SIMULATED_PLAN = Plan(warmup_s=0.2, window_s=0.1, windows=15, latencies=5)  # a stand-in needs no long look


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --onnx the tests of the published models are left out, without it those of a model of one's own; and those
    of all cards without --all-cards."""
    if collection_path.parent != Path(__file__).parent or not collection_path.name.startswith("test_"):
        return None
    if collection_path.name == "test_cards.py" and not config.getoption("all_cards"):
        return True
    return True if bool(config.getoption("onnx")) != (collection_path.name == "test_own.py") else None


def limits_of(config: pytest.Config, chip: Chip) -> Limits | None:
    """What the policy and the options set for a chip, an option before the policy; None when neither sets anything."""
    rules = config.stash[POLICY].limits_of(chip.name)
    of_policy = rules.pop("memory_gb", None)
    memory = config.getoption("memory_limit") or of_policy
    seconds = [*(f"{name}={value}" for name, value in rules.items()), *config.getoption("time_limit")]
    return limits(seconds, memory) if seconds or memory is not None else None


@pytest.fixture(scope="session")
def suite(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunContext]:
    cache = pytestconfig.getoption("cache") or platformdirs.user_cache_path("chipproof")
    data = pytestconfig.getoption("data")
    simulate = pytestconfig.getoption("simulate")
    given: Mapping[str, Any] = getattr(pytestconfig, "workerinput", {})
    machine = {"machine": str(tmp_path_factory.mktemp("machine")), "memory": str(Path(cache) / "simulated")}
    shared = RunContext(
        Settings(
            store=Store(Path(cache), say=partial(say, pytestconfig)),
            baselines=matrix.published(),
            data=None if data is None else Path(data),
            limit=pytestconfig.getoption("limit"),
            tune=pytestconfig.getoption("tune"),
            device=pytestconfig.getoption("device"),
            pythons=pythons_of(pytestconfig),
            backend_options=backend_options(pytestconfig.getoption("backend_option"), matrix.chips()),
            runner=pytestconfig.getoption("runner"),
            environment=partial(simulator, runner=pytestconfig.getoption("runner"), **machine)
            if simulate
            else lambda chip: None,
            logs=(pytestconfig.getoption("results") or Path(cache)) / "logs",
            progress=_progress(pytestconfig, map(case_of, request.session.items)),
            limits=partial(limits_of, pytestconfig),
            prepared_gb=pytestconfig.getoption("prepared_gb"),
            exact=exact(pytestconfig),
            wait=pytestconfig.getoption("wait"),
            process=int(given.get("workerid", "gw0").removeprefix("gw")),
            processes=int(given.get("workercount", 1)),
            tell=partial(say, pytestconfig),
            policy=pytestconfig.stash[POLICY],
            plan=SIMULATED_PLAN if simulate else CHIP_PLAN,
            patience=pytestconfig.getoption("patience"),
        )
    )
    items = [item for item in request.session.items if not pytestconfig.getoption("onnx")]
    timed = {case_of(item) for item in items if stage_of(item) == "throughput"}
    for name in {name for case in timed if case is not None for name in peers_of(case)}:
        peers.expect(shared, name)
    yield shared
    shared.close()


def _progress(config: pytest.Config, cases: Iterable[Case | None]) -> Callable[[str, int], Callable[[int], None]]:
    """Bars or lines of long work; none in a process of pytest -n, which has no terminal."""
    if hasattr(config, "workerinput"):
        return lambda what, total: lambda done: None
    names = [str(case) for case in dict.fromkeys(cases) if case is not None]
    shown = Shown(config.stash[SCREEN], names, lang=language(config.getoption("lang")))
    config.stash[PROGRESS] = shown
    return shown


@pytest.fixture(autouse=True)
def _no_bar_stays(pytestconfig: pytest.Config) -> Iterator[None]:
    yield
    if (shown := pytestconfig.stash.get(PROGRESS, None)) is not None:
        shown.clear()


class CaseRuns:
    """One CaseRun at a time: that of the case before is closed."""

    def __init__(self, suite: RunContext, config: pytest.Config) -> None:
        self.suite, self.config = suite, config
        self.taken: CaseRun | None = None
        self.make: Callable[..., CaseRun] = CaseRun

    def take(self, case: Case, make: Callable[..., CaseRun]) -> CaseRun:
        """The CaseRun of the case, in a new process where the last one ended. `make` as CaseRun."""
        self.make = make
        if self.taken is None or self.taken.case != case or not self.taken.sound:
            self.put(case)
        assert self.taken is not None
        return self.taken

    def put(self, case: Case, anew: bool = False) -> CaseRun:
        """The case in a new process; with `anew` nothing that was kept of the chip is used."""
        self.close()
        self.suite.settings.store.latest.clear()
        self.taken = self.make(self.suite, case, anew)
        return self.taken

    def close(self) -> None:
        """What goes wrong in closing is the error of the case that was closed, and no test is running that is its."""
        if self.taken is None:
            return
        case_run, self.taken = self.taken, None
        for shared in (answers_of, speed_of):  # what its tests shared
            shared.cache_clear()
        try:
            case_run.leave_device()
        except HarnessError as error:
            facts = {"fact": error.fact, "hint": error.hint}
            record = Record(case_run.case, "closing", Outcome.ERROR, error.fact, marks=case_run.marks, facts=facts)
            add_record(self.config, record, "closing")
            remember(self.config, case_run.case, error)


@pytest.fixture(scope="session")
def case_runs(suite: RunContext, pytestconfig: pytest.Config) -> Iterator[CaseRuns]:
    shared = CaseRuns(suite, pytestconfig)
    yield shared
    shared.close()


@pytest.fixture
def present(suite: RunContext, lineup: Case, pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> None:
    """The chip of a line-up is there, or the test is skipped; it is not touched."""
    skip_absent(suite, lineup, pytestconfig, stage_of(request.node), plain(request.node.nodeid))


@pytest.fixture
def runner() -> Callable[..., CaseRun]:
    """What makes the run of a case; a model of the user's own has another."""
    return CaseRun


@pytest.fixture
def case_run(
    suite: RunContext,
    case_runs: CaseRuns,
    case: Case,
    runner: Callable[..., CaseRun],
    pytestconfig: pytest.Config,
    request: pytest.FixtureRequest,
) -> CaseRun:
    """The CaseRun of the case, or a skip that says what was looked for."""
    skip_absent(suite, case, pytestconfig, stage_of(request.node), plain(request.node.nodeid))
    if case_runs.taken is not None and case_runs.taken.case != case:
        case_runs.close()  # its device may hang in that
    hung = pytestconfig.stash[HUNG].get(case.chip, [])
    if len(hung) >= MOST_HANGS and case not in hung:
        told = f"{case.chip} is not used again: its device hung in {' and in '.join(map(str, hung))}"
        tried = reset(suite, case, pytestconfig, plain(request.node.nodeid))
        if tried is None or tried:
            raise DeviceError(
                f"{told}; {tried}" if tried else told,
                hint="reset the device with the vendor's tool, then continue with --resume latest",
            )
        hung.clear()
    if (error := pytestconfig.stash[FAILED].get(case)) is not None:
        raise type(error)(f"not tried again, because it failed before: {error.fact}", hint=error.hint)
    return case_runs.take(case, runner)


def reset(suite: RunContext, case: Case, config: pytest.Config, test: str) -> str | None:
    """Reset the device of a chip, once a run, and put it into the journal: "" where it was reset, else why it was not;
    None without --device-reset and after the first time."""
    if not config.getoption("device_reset") or config.stash[RESET].get(case.chip) == "":
        return None
    if case.chip not in config.stash[RESET]:
        why = ""
        try:
            said = suite.reset(matrix.chips()[case.chip])
        except HarnessError as error:
            said = why = f"it could not be reset: {error.fact}"
        config.stash[RESET][case.chip] = why
        config.stash[BOOK].add({"kind": "reset", "chip": case.chip, "test": test, "said": said})
        say(config, f"{case.chip}: its device hung twice; {why or f'it was reset: {said}'}")
    return config.stash[RESET][case.chip]


def skip_absent(suite: RunContext, case: Case, config: pytest.Config, stage: str, test: str) -> None:
    """Skip where the chip is absent, or fail where it is required: nothing ran, and that is on record."""
    present = suite.present(matrix.chips()[case.chip])
    if present.devices:
        device = present.devices[0]
        if device.precisions and case.precision not in device.precisions:
            pytest.skip(f"{device.name} computes in {', '.join(device.precisions)}, not in {case.precision}")
        return
    hint = present.hint or matrix.chips()[case.chip].hint
    text = f"{case.chip} is absent ({present.evidence}); next: {hint}"
    if case.chip in config.getoption("require"):
        add_record(config, Record(case, stage, Outcome.SKIP, text), test)
        pytest.fail(f"--require {case.chip}: {text}", pytrace=False)
    pytest.skip(text)


def note_engine(config: pytest.Config, store: Store) -> None:
    """Put the key of the engine in use into the journal, once."""
    engine, noted = store.latest.get("engine"), config.stash[ENGINES]
    if engine is None or engine.parent.name in noted:
        return
    noted.add(engine.parent.name)
    try:
        key = json.loads((engine.parent / "meta.json").read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError):
        key = None
    config.stash[BOOK].add({"kind": "engine", "digest": engine.parent.name, "key": key})


def excused(suite: RunContext, case: Case, stage: str, verdicts: Mapping[str, Verdict]) -> Mapping[str, Verdict]:
    """Verdicts after the known failures that cover them, and after the lab's policy."""
    table, only = suite.settings.baselines, "throughput" if stage == "throughput" else ""
    if not suite.simulated(matrix.chips()[case.chip]) and stage != "published":
        # no simulator has known failures; judge_published knows its own
        verdicts = {n: excuse(verdict, table.deviation(case, stage, only or n)) for n, verdict in verdicts.items()}
    return {n: policy.apply(suite.settings.policy, case, stage, n, v, date.today()) for n, v in verdicts.items()}


@pytest.fixture
def accept(request: pytest.FixtureRequest, pytestconfig: pytest.Config, suite: RunContext) -> Callable[..., None]:
    """Put verdicts on record, then fail, skip or pass by the worst of them."""
    case: Case = request.getfixturevalue("case" if "case" in request.fixturenames else "lineup")
    stage = stage_of(request.node)

    def judge(
        verdicts: Verdict | Mapping[str, Verdict],
        case_run: CaseRun | None = None,
        skip: bool = True,
        stage: str = stage,
        **facts: object,
    ) -> None:
        named = {"": verdicts} if isinstance(verdicts, Verdict) else verdicts
        named = excused(suite, case, stage, named)
        observed = suite.settings.policy.observes(case, stage, date.today())
        way = way_on(request.node)
        note_engine(pytestconfig, suite.settings.store)
        marks = suite.not_the_chip(matrix.chips()[case.chip]) if case_run is None else case_run.marks
        shared = {} if case_run is None else dict(case_run.facts)
        if case_run is not None and (engine := suite.settings.store.latest.get("engine")):
            shared["engine_key"] = engine.parent.name
        for metric, verdict in named.items():
            own = verdict.details
            values = {k: v for k, v in own.items() if v is None or isinstance(v, int | float)}
            also = {k: v for k, v in own.items() if k not in values}
            seen = ("observed",) if observed and verdict.outcome.red else ()
            extra = (*facts.get("marks", ()), *(("use-untold",) if "untold" in facts else ()), *seen)
            all_marks = tuple(dict.fromkeys((*marks, *extra)))
            record = Record(case, stage, verdict.outcome, verdict.text, metric, values, all_marks,
                            {**shared, **{k: v for k, v in facts.items() if k != "marks"}, **also,
                             **(way if verdict.outcome.red else {})})  # fmt: skip
            add_record(pytestconfig, record, plain(request.node.nodeid))
        lines = [f"{v.outcome.value} {case} {stage} {m}: {v.text}" for m, v in named.items()]
        for outcome in (Outcome.FAIL, Outcome.INVALID):
            if any(v.outcome is outcome for v in named.values()):
                told = "\n".join(lines)
                pytest.xfail(f"observed ({observed.place}): {told}") if observed else pytest.fail(told, pytrace=False)
        if skip and any(v.outcome is Outcome.INCONCLUSIVE for v in named.values()):
            pytest.skip("; ".join(line for line in lines if line.startswith("INCONCLUSIVE")))

    return judge


@pytest.fixture
def judge(
    request: pytest.FixtureRequest,
    case_run: CaseRun,
    case_runs: CaseRuns,
    suite: RunContext,
    accept: Callable[..., None],
) -> Callable[..., None]:
    """Measure, and where the verdict is red measure once more in a new process, with a new engine where the cache gave
    the first; then put the verdicts on record (accept). What stays FAIL is explained by `explain`."""

    def once(measure: Callable[[CaseRun], Judged], on: CaseRun) -> Judged | InvalidMeasurement:
        on.name_engine()
        try:
            judged = measure(on)
        except InvalidMeasurement as error:
            return error
        if stage_of(request.node) != "numerics" or "" not in judged.verdicts:
            return judged
        first = judged.verdicts[""]
        return replace(judged, verdicts={**judged.verdicts, "": replace(first, details={**first.details, **on.costs})})

    def run(
        measure: Callable[[CaseRun], Judged],
        skip: bool = True,
        stage: str = stage_of(request.node),
        explain: Callable[[CaseRun], tuple[str, Mapping[str, Any]]] | None = None,
    ) -> None:
        first, told = once(measure, case_run), case_run
        judged = first if isinstance(first, Judged) else Judged({})
        verdicts: Mapping[str, Verdict] = judged.verdicts
        if isinstance(first, InvalidMeasurement) or suspect(excused(suite, case_run.case, stage, verdicts)):
            timed = stage == "throughput"
            anew = not isinstance(first, Disturbed)  # which says nothing of an engine that may take hours to build
            again = case_runs.put(case_run.case, anew)
            second: Judged | HarnessError
            try:
                second = once(measure, again)
            except HarnessError as error:  # it crashed: the first verdict stays
                second = error
                remember(request.config, case_run.case, error)
            again.anew = again.engine.anew = False  # tests that follow are first measurements
            how = Again(again.engine.rebuilt, timed)
            if isinstance(first, InvalidMeasurement) and isinstance(second, Judged):
                told, judged = again, second
            verdicts = confirmed(*(one.verdicts if isinstance(one, Judged) else one for one in (first, second)), how)
            if explain is not None and verdicts[""].outcome is Outcome.FAIL:
                text, facts = explain(again)
                explained = {**verdicts[""].details, "first_layer": {**facts, "text": text}}
                verdicts = {
                    **verdicts,
                    "": replace(verdicts[""], text=f"{text}; {verdicts[''].text}", details=explained),
                }
        accept(verdicts, told, skip=skip, stage=stage, marks=judged.marks, **judged.facts)

    return run


@pytest.fixture
def keep(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Callable[[Mapping[str, object]], None]:
    """Put a line into the journal: what a verdict of this test rests on."""
    test = plain(request.node.nodeid)
    return lambda line: pytestconfig.stash[BOOK].add({**line, "test": test})


@pytest.fixture
def keep_answers(pytestconfig: pytest.Config, keep: Callable[[Mapping[str, object]], None]) -> Callable[..., None]:
    """Keep what was answered to each image, beside the journal. `suffix`: what follows a metric's name in the
    records."""
    book = pytestconfig.stash[BOOK]

    def write(case_run: CaseRun, run: Evaluation, suffix: str = "") -> None:
        if book.path is None or book.unwritten:
            return
        folder = book.path.with_name(book.path.name.split(".")[0])
        try:
            name = f"{case_run.case}{suffix.replace(' ', '.')}{'.again' if case_run.anew else ''}"
            line = write_answers(folder, name, suffix, run)
            keep({**line, "again": case_run.anew})
        except StoreError as error:
            book.unwritten = str(error)

    return write


@pytest.fixture
def keep_pictures(pytestconfig: pytest.Config) -> Callable[[CaseRun, Evaluation], dict[str, object]]:
    """Write the pictures on which chip and reference differ most beside the journal. Returns their fact, or nothing
    where there are none: of a second measurement none are taken, and one that cannot be written costs no verdict."""
    book = pytestconfig.stash[BOOK]

    def write(case_run: CaseRun, run: Evaluation) -> dict[str, object]:
        if book.path is None or case_run.anew:
            return {}
        folder = book.path.with_name(book.path.name.split(".")[0])
        try:
            found = pictures.write(folder, str(case_run.case), run)
        except Exception as error:
            say(pytestconfig, f"{case_run.case}: the report has no pictures, they cannot be written: {error}")
            return {}
        return {"pictures": found} if found else {}

    return write


@pytest.fixture
def speeds(pytestconfig: pytest.Config) -> Callable[[Case], dict[int, Speed]]:
    """What this run measured of a line-up, by batch."""
    return lambda lineup: by_batch(pytestconfig.stash[RECORDS].values(), lineup)


@pytest.fixture(scope="session")
def others(pytestconfig: pytest.Config) -> Callable[[Case, str], Speed | None]:
    """The best batch of another chip on record in --results, of the same model and precision, measured for real."""
    folder = pytestconfig.getoption("results")
    runs: list[Run] = []
    for path in sorted(folder.glob("*.jsonl")) if folder else ():
        try:
            runs.append(read_run(path))
        except DataError as error:
            print(f"chipproof: skipped: {error}", file=sys.stderr)
    records = merge(runs).records if runs else ()
    return lambda lineup, chip: best_of(records, lineup, chip)


@pytest.fixture
def simulated_latency(suite: RunContext, case_run: CaseRun) -> float | None:
    """Seconds that the simulated chip takes for a batch, or None on a real one."""
    if not suite.simulated(case_run.chip):
        return None
    from tests.sdk import simulate

    return simulate.latency_seconds(case_run.case.batch)
