"""Runs the conformance tests as they are, inside a test, on the tiny models and the chip of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import warm

from harness import datasets, matrix
from harness.backends import registry
from harness.chips import Chip
from harness.judge import accuracy
from harness.judge.drops import paired_bootstrap
from harness.judge.timing import Plan
from harness.report.ci import Status
from harness.run import devices
from harness.run.context import RunContext
from harness.run.devices import Presence
from harness.vocabulary import STAGE_MARKERS
from harness.worker.process import Worker
from tests.faults import tiny
from tests.session import RECORDS, ROOT

PLAN = Plan(warmup_s=0.02, window_s=0.03, windows=40, latencies=9)
WORST = ("SKIP", "PASS", "INCONCLUSIVE", "FAIL", "INVALID", "ERROR")
Seen = dict[str, str]
"""Worst outcome by case and stage: {"tiny_classes-fp32-bs1 numerics": "FAIL"}."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Read where tests/faults is named on the command line, as make test does."""
    parser.addoption("--many", type=int, default=40, metavar="N", help="run N cases in one process (test_growth.py)")
    parser.addoption("--kills", type=int, default=6, metavar="N", help="kill runs at N random moments (test_killed.py)")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tiny.World]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are smaller than a thread's start
    yield tiny.make(tmp_path_factory.mktemp("data"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is the same whatever was planted is made once; store keys hold the rest apart."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def present() -> dict[str, Presence]:
    """The chips that were looked for and found: no fault is about that."""
    return {}


@pytest.fixture
def planted(world: tiny.World, present: dict[str, Presence], monkeypatch: pytest.MonkeyPatch) -> tiny.World:
    """The matrix holds the tiny models and their chip only; measurements are short; workers start warm."""
    warm.instead(monkeypatch, warm.LIGHT)
    begin, look = RunContext.__init__, devices.find
    rows = {"chipproof.chips": [tiny.CHIP], "chipproof.models": list(tiny.MODELS.values()), "chipproof.backends": []}

    def points(group: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(value=row.name, load=lambda row=row: row) for row in rows[group]]

    def find(chip: Chip, start: Callable[[str], Worker]) -> Presence:
        if chip.name not in present:
            present[chip.name] = look(chip, start)
        return present[chip.name]

    monkeypatch.setattr(os, "fsync", lambda file: None)  # of no use but against a power cut
    monkeypatch.setattr(devices, "find", find)
    monkeypatch.setattr(registry, "entry_points", points)
    monkeypatch.setattr(matrix, "CHIPS", {})
    monkeypatch.setattr(matrix, "MODELS", {})
    monkeypatch.setattr("harness.models.MODELS", tiny.MODELS)
    monkeypatch.setattr(datasets, "DATASETS", world.loaders)
    monkeypatch.setattr("harness.run.context.DATASETS", world.loaders)
    answers = {name: partial(tiny.compared, kept, name) for name, kept in world.golden.items()}
    monkeypatch.setattr("harness.reference.golden.GOLDEN", answers)
    monkeypatch.setattr(matrix, "published", lambda: world.table)
    monkeypatch.setattr(
        RunContext, "__init__", lambda suite, settings: begin(suite, replace(settings, plan=PLAN, patience=0.0))
    )
    monkeypatch.setattr(accuracy, "paired_bootstrap", partial(paired_bootstrap, resamples=100))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("CHIPPROOF_DATA", raising=False)
    return world


class Watch:
    """What became of each test, as the terminal shows it."""

    def __init__(self) -> None:
        self.seen: Seen = {}
        self.texts: list[str] = []
        self.messages: list[str] = []  # the first line of what each red test says

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.records = list(session.config.stash[RECORDS].values())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and not report.failed and not report.skipped:
            return
        function, case = re.match(r".*::(\w+)\[(.+)\]$", report.nodeid).groups()
        stage = next(stage for stage in STAGE_MARKERS if stage in report.keywords)
        key = f"{case.replace('-testbed', '')} {'published' if 'published_accuracy' in function else stage}"
        outcome = outcome_of(report)
        self.seen[key] = max(self.seen.get(key, "SKIP"), outcome, key=WORST.index)
        if outcome not in ("PASS", "SKIP"):
            self.texts.append(f"{key} {outcome} {report.longrepr}")
            lines = str(report.longrepr).splitlines()
            self.messages += [line for line in lines if line.startswith(outcome) or "error: " in line][:1]


def outcome_of(report: pytest.TestReport) -> str:
    text = str(report.longrepr)
    if report.passed:
        return "PASS"
    if report.skipped:
        return "INCONCLUSIVE" if "INCONCLUSIVE" in text else "SKIP"
    error = re.match(r"(\w+) error: ", text)
    if error:
        return "INVALID" if error[1] == "invalid" else "ERROR"
    verdicts = re.findall(r"^(FAIL|INVALID) tiny", text, re.MULTILINE)
    if verdicts:
        return max(verdicts, key=WORST.index)
    return "FAIL" if "AssertionError" in text or "assert " in text else "ERROR"


@pytest.fixture
def conform(planted: tiny.World, cache: Path) -> Callable[..., Watch]:
    """Run the conformance tests that the marker expression (and -k) selects."""

    def run(
        marks: str = "",
        names: str = "",
        data: Path = planted.data,
        cache: Path = cache,
        more: tuple[str, ...] = (),
        plugins: tuple[object, ...] = (),
    ) -> Watch:
        matrix.chips.cache_clear()
        matrix.models.cache_clear()
        watch = Watch()
        options = ["--data", str(data), "--cache", str(cache), "-m", marks, "-k", names, *more]
        plain = [
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:unraisableexception",
            "-p",
            "no:logging",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",  # pytest within pytest: all is imported already
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir",
            str(ROOT),
        ]
        try:
            status = pytest.main([str(ROOT / "tests" / "conformance"), *options, *plain], plugins=[watch, *plugins])
        finally:
            matrix.chips.cache_clear()
            matrix.models.cache_clear()
        watch.status = status
        assert status in set(Status), f"pytest ended with {status!r}"
        return watch

    return run
