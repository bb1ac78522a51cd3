"""Fixtures of the conformance tests: they do the work, the tests judge what comes of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import platformdirs
import pytest

from harness import baselines, matrix
from harness.case import Case
from harness.chips import Chip
from harness.errors import DataError, HarnessError
from harness.judge.stats import Estimate
from harness.judge.timing import Plan
from harness.judge.verdict import Outcome, Verdict
from harness.report.records import Record, Run, merge, read_run
from harness.run.case_run import Bench, has_peer
from harness.run.context import CHIP_PLAN, Settings, Suite
from harness.store import Store
from tests.session import RECORDS, add_record, case_of, simulator_folder, stage_of

SIMULATED_PLAN = Plan(warmup_s=0.2, window_s=0.1, windows=15, latencies=5)  # a stand-in needs no long look


@pytest.fixture(scope="session")
def suite(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suite]:
    cache = pytestconfig.getoption("cache") or platformdirs.user_cache_path("chipproof")
    data = pytestconfig.getoption("data")
    simulate = pytestconfig.getoption("simulate")
    machine = {"machine": str(tmp_path_factory.mktemp("machine")), "memory": str(Path(cache) / "simulated")}
    shared = Suite(
        Settings(
            store=Store(Path(cache), say=lambda note: print(f"chipproof: {note}", file=sys.stderr)),
            baselines=baselines.load(),
            data=None if data is None else Path(data),
            limit=pytestconfig.getoption("limit"),
            device=pytestconfig.getoption("device"),
            sdk_python=pytestconfig.getoption("sdk_python"),
            runner=pytestconfig.getoption("runner"),
            environment=partial(simulator, **machine) if simulate else lambda chip: None,
            logs=tmp_path_factory.mktemp("logs"),
            progress=_progress(pytestconfig),
            plan=SIMULATED_PLAN if simulate else CHIP_PLAN,
            patience=pytestconfig.getoption("patience"),
        )
    )
    timed = {case_of(item) for item in request.session.items if stage_of(item) == "throughput"}
    if any(case is not None and has_peer(case) for case in timed):
        shared.expect_peer()
    yield shared
    shared.close()


def simulator(chip: Chip, **machine: object) -> Mapping[str, str] | None:
    """Environment that puts the simulated SDK of a chip in the vendor's place, with the switches `machine`, those of
    the chip and those of $CHIPPROOF_SIM, the latter first; None for the cpu chip, which is always real."""
    folder = simulator_folder(chip)
    if folder is None:
        return None
    place = str(folder)
    switches = {**machine, **chip.simulated, **json.loads(os.environ.get("CHIPPROOF_SIM") or "{}")}
    return {
        "PYTHONPATH": os.pathsep.join([place, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PATH": os.pathsep.join([place, str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "CHIPPROOF_SIM": json.dumps(switches),
    }


def _progress(config: pytest.Config) -> Callable[[str, int], Callable[[int], None]]:
    """A line that counts images on the terminal; nothing where no one looks."""
    stream = sys.__stderr__
    if stream is None or not stream.isatty():
        return lambda what, total: lambda done: None

    def begin(what: str, total: int) -> Callable[[int], None]:
        seen = 0

        def advance(done: int) -> None:
            nonlocal seen
            seen += done
            width = shutil.get_terminal_size().columns - 1
            bar = "#" * (20 * seen // total)
            stream.write("\r" + f"  {what} [{bar:<20}] {seen}/{total}"[:width] + ("\n" if seen >= total else ""))
            stream.flush()

        return advance

    return begin


@pytest.fixture(scope="session")
def benches(suite: Suite, pytestconfig: pytest.Config) -> Iterator[Callable[[Case], Bench]]:
    """One case on the bench at a time: that of the case before is closed."""
    taken: list[Bench] = []

    def close() -> None:
        """What goes wrong in closing is the error of the case that was closed, and no test is running that is its."""
        bench = taken.pop()
        try:
            bench.close()
        except HarnessError as error:
            add_record(pytestconfig, Record(bench.case, "closing", "ERROR", str(error), marks=bench.marks))

    def take(case: Case) -> Bench:
        if not taken or taken[0].case != case or not taken[0].sound:
            if taken:
                close()
            taken.append(Bench(suite, case))
        return taken[0]

    yield take
    if taken:
        close()


@pytest.fixture
def bench(suite: Suite, benches: Callable[[Case], Bench], case: Case, pytestconfig: pytest.Config) -> Bench:
    """The case on the bench, or a skip that says what was looked for."""
    skip_absent(suite, case, pytestconfig)
    return benches(case)


def skip_absent(suite: Suite, case: Case, config: pytest.Config) -> None:
    present = suite.present(matrix.chips()[case.chip])
    if present.devices:
        return
    text = f"{case.chip} is absent ({present.evidence}); to have it: {matrix.chips()[case.chip].hint}"
    if case.chip in config.getoption("require"):
        pytest.fail(f"--require {case.chip}: {text}", pytrace=False)
    pytest.skip(text)


@pytest.fixture
def accept(request: pytest.FixtureRequest, pytestconfig: pytest.Config, suite: Suite) -> Callable[..., None]:
    """Put verdicts on record, then fail, skip or pass by the worst of them."""
    case: Case = request.getfixturevalue("case" if "case" in request.fixturenames else "lineup")
    stage = stage_of(request.node)

    def judge(
        verdicts: Verdict | Mapping[str, Verdict],
        bench: Bench | None = None,
        skip: bool = True,
        stage: str = stage,
        **facts: object,
    ) -> None:
        named = {"": verdicts} if isinstance(verdicts, Verdict) else verdicts
        simulated = ("simulated",) if suite.simulated(matrix.chips()[case.chip]) else ()
        marks = simulated if bench is None else bench.marks
        shared = {} if bench is None else bench.facts
        for metric, verdict in named.items():
            own = verdict.details
            values = {k: v for k, v in own.items() if v is None or isinstance(v, int | float)}
            also = {k: v for k, v in own.items() if k not in values}
            extra = tuple(facts.get("marks", ()))
            all_marks = tuple(dict.fromkeys((*marks, *extra)))
            record = Record(case, stage, verdict.outcome.value, verdict.text, metric, values, all_marks,
                            {**shared, **{k: v for k, v in facts.items() if k != "marks"}, **also})  # fmt: skip
            add_record(pytestconfig, record)
        lines = [f"{v.outcome.value} {case} {stage} {m}: {v.text}" for m, v in named.items()]
        for outcome in (Outcome.FAIL, Outcome.INVALID):
            if any(v.outcome is outcome for v in named.values()):
                pytest.fail("\n".join(lines), pytrace=False)
        if skip and any(v.outcome is Outcome.INCONCLUSIVE for v in named.values()):
            pytest.skip("; ".join(line for line in lines if line.startswith("INCONCLUSIVE")))

    return judge


@dataclass(frozen=True)
class Speed:
    """What was measured of a case in this run: images a second and card, and seconds of one execute."""

    estimate: Estimate
    latency: float
    sound: bool  # False: the measurement was INVALID
    marks: tuple[str, ...]  # of its record: they hold for what is concluded from it
    ratio: float | None = None  # of its verdict: to what is published, or to eager PyTorch


@pytest.fixture
def speeds(pytestconfig: pytest.Config) -> Callable[[Case], dict[int, Speed]]:
    """What this run measured of a line-up, by batch."""

    def of(lineup: Case) -> dict[int, Speed]:
        found = {}
        for record in pytestconfig.stash[RECORDS].values():
            same = replace(record.case, batch=lineup.batch) == lineup
            if same and record.stage == "throughput" and "measured" in record.values:
                found[record.case.batch] = _speed(record)
        return found

    return of


def _speed(record: Record) -> Speed:
    v = record.values
    return Speed(
        Estimate(v["measured"], v["low"], v["high"], v.get("spread") or 0.0, 1),
        v["latency"], record.outcome != "INVALID", record.marks,
        v.get("ratio"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def others(pytestconfig: pytest.Config) -> Callable[[Case, str], Speed | None]:
    """The best batch of another chip on record in --results, of the same model and precision, measured for real."""
    folder = pytestconfig.getoption("results")
    runs: list[Run] = []
    for path in sorted(folder.glob("*.jsonl")) if folder else ():
        try:
            runs.append(read_run(path))
        except DataError as error:
            print(f"chipproof: passed over: {error}", file=sys.stderr)
    records = merge(runs).records if runs else ()

    def best(lineup: Case, chip: str) -> Speed | None:
        found = [
            _speed(record)
            for record in records
            if (record.case.model, record.case.chip, record.case.precision) == (lineup.model, chip, lineup.precision)
            and record.stage == "throughput" and "measured" in record.values and record.outcome != "INVALID"
            and "simulated" not in record.marks
        ]  # fmt: skip
        return max(found, key=lambda speed: speed.estimate.value, default=None)

    return best


@pytest.fixture
def simulated_latency(suite: Suite, bench: Bench) -> float | None:
    """Seconds that the simulated chip takes for a batch, or None on a real one."""
    if not suite.simulated(bench.chip):
        return None
    from tests.sdk import simulate

    return simulate.latency_seconds(bench.case.batch)
