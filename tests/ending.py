"""How a run ends: the exit status, the record file with its reports, and the summary on the terminal."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from harness.case import Case
from harness.errors import HarnessError, StoreError
from harness.judge import policy
from harness.report import ci, webhook
from harness.report.causes import PASSED_ON, SWITCHES
from harness.report.journal import begun
from harness.report.messages import language, translation
from harness.report.records import Record, Run, read_run, write_run
from harness.report.records import footer as end_of_run
from harness.report.terminal import terminal
from tests.session import (
    ASKED,
    BASELINE,
    BOOK,
    CLOCK,
    EARLIER,
    POLICY,
    RECORDS,
    STOPPED,
    TESTS,
    header,
    opening,
    say,
    stem_of,
)

UNSHOWN = pytest.StashKey[str]()  # why there are no pages of the records, or nothing
UNMET = pytest.StashKey[list[str]]()  # what the lab's policy asks and the run does not give
SAID = pytest.StashKey[list[str]]()  # lines for a CI system


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[UNSHOWN], config.stash[SAID], config.stash[UNMET] = "", [], []


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Nothing ran is never green where something was required, and neither is a red record; records are written
    whatever happened, and what cannot be written takes nothing else with it."""
    config = session.config
    if exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR) or session.shouldfail:
        config.stash[STOPPED] = config.stash[STOPPED] or "STOPPED before its end"
    records = list(config.stash[RECORDS].values())
    if hasattr(config, "workeroutput"):
        _close(config, records)
        config.workeroutput["unwritten"] = config.stash[BOOK].unwritten
        return
    if config.getoption("collectonly"):
        return
    config.stash[UNMET] = _unmet(config, records)
    if config.getoption("results") or config.stash[ASKED]:
        _write(config, records)
    unwritten = bool(config.stash[BOOK].unwritten or config.stash[UNSHOWN])
    found = ci.status(records, config.getoption("require"), unwritten)
    if found is ci.Status.GOOD and config.stash[UNMET]:
        found = ci.Status.UNDECIDED
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
    if (url := config.getoption("webhook")) and config.stash[ASKED]:
        now = Run(header(config), tuple(records), {"asked": len(config.stash[ASKED]), "stopped": config.stash[STOPPED]})
        required = config.getoption("require")
        told = ci.status(records, required, unwritten, config.stash[STOPPED]) or found
        unheard = webhook.post(url, webhook.body(now, int(told), tuple(required)))
        config.stash[SAID] += [f"webhook: {unheard}"] if unheard else []
    if ended and found:  # pytest's own 1 stands where a test failed and no record says why
        session.exitstatus = int(found)


def _unmet(config: pytest.Config, records: list[Record]) -> list[str]:
    """What the policy asks of the run as a whole and does not get."""
    seen: dict[str, list[tuple[Case, str]]] = {}
    for record in records:
        for figure in record.values:
            seen.setdefault(figure, []).append((record.case, record.stage))
    found = policy.unmet(config.stash[POLICY], seen)
    few = policy.undecided(config.stash[POLICY], [record.outcome for record in records])
    return [*found, *([few] if few else [])]


def _close(config: pytest.Config, records: list[Record]) -> bool:
    """End this process's journal; False where it wrote none."""
    seconds = round(time.monotonic() - config.stash[CLOCK], 1)
    book = config.stash[BOOK]
    if book.opened:
        book.add(end_of_run(records, len(config.stash[ASKED]), config.stash[STOPPED], seconds=seconds))
    return book.close()


def _write(config: pytest.Config, records: list[Record]) -> None:
    """The record file and the reports, also of a run in which nothing ran; without --results only what a CI system
    shows by itself."""
    folder, book = config.getoption("results"), config.stash[BOOK]
    asked, stopped, lang = len(config.stash[ASKED]), config.stash[STOPPED], language(config.getoption("lang"))
    if folder is None:
        run = Run(header(config), tuple(records), {"asked": asked, "stopped": stopped})
        config.stash[SAID] = ci.github(run, os.environ, lang)
        return
    path = folder / f"{stem_of(config)}.jsonl"
    try:
        written = _close(config, records) and path.exists()
        if not written or book.unwritten:  # in parts (pytest -n), or the disk was full or the folder removed meanwhile
            parts = sorted(folder.glob(f"{stem_of(config)}.*.part"))
            left = [part for part in (*parts, path) if part.exists() and begun(part)]
            lines = [line for part in left for line in read_run(part).lines]
            write_run(path, opening(config), records, asked, stopped, lines, config.stash[TESTS])
            for part in parts:
                part.unlink()
            if book.unwritten:
                say(
                    config,
                    f"all records are on disk now; windows or answers that some depend on are not: {book.unwritten}",
                )
                book.unwritten = ""
        run = read_run(path)
    except Exception as error:
        book.unwritten = book.unwritten or (str(error) if isinstance(error, HarnessError) else repr(error))
        for place in (None, config.getoption("cache"), config.invocation_params.dir, "/dev/shm"):
            with suppress(OSError), ExitStack() as undo:
                beside = Path(tempfile.mkdtemp(prefix="chipproof-records-", dir=place))
                undo.callback(shutil.rmtree, beside, ignore_errors=True)
                with suppress(StoreError):
                    write_run(beside / path.name, opening(config), records, asked, stopped, (), config.stash[TESTS])
                    book.unwritten += f"\n  all of them are in {beside / path.name}"
                    undo.pop_all()
                    break
        return
    try:
        from harness.report.publish import publish  # imports the page's templates: not where nothing is written

        config.stash[SAID] = publish(folder, run, os.environ, lang, config.stash[BASELINE])
    except Exception as error:
        config.stash[UNSHOWN] = str(error) if isinstance(error, HarnessError) else repr(error)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """Ours comes last. What it tells of a failure, pytest does not tell again, but with -v; a traceback is pytest's."""
    told = {}
    if config.stash[RECORDS] and terminalreporter.verbosity <= 0:
        told = {key: terminalreporter.stats[key] for key in ("failed", "error") if key in terminalreporter.stats}
    for key, reports in told.items():
        terminalreporter.stats[key] = [report for report in reports if not _told(report)]
    yield
    terminalreporter.stats.update(told)
    _summary(terminalreporter, config)


def _told(report: pytest.TestReport) -> bool:
    """Whether a record says what the report says. A verdict and a harness error have no traceback ("value" is pytest's
    word for that); a defect of the suite has one, which is shown."""
    style = getattr(getattr(report.longrepr, "reprtraceback", None), "style", "value")
    return bool(getattr(report, "chipproof", None)) and style == "value"


def _summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    records = list(config.stash[RECORDS].values())
    results = config.getoption("results")
    stream = getattr(terminalreporter._tw, "_file", None)
    lang = language(config.getoption("lang"), encoding=getattr(stream, "encoding", None))
    t = translation(lang)
    idle = ci.idle(records, config.getoption("require"))
    failures = [t("FAILED: --require {chip}: nothing ran on it", chip=chip) for chip in idle]
    if config.getoption("collectonly") or not (config.stash[ASKED] or failures):
        return
    if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 shows ? for what it lacks
        stream.reconfigure(errors="replace")
    for line in config.stash[SAID]:
        terminalreporter.write_line(line)
    terminalreporter.section("chipproof")
    if config.stash[EARLIER].files:
        over = [record for record in records if "taken_over" in record.facts]
        told = f"resumed {config.stash[EARLIER].files[0]}: {len(over)} of {len(records)} verdicts taken over"
        terminalreporter.write_line(told)
        for attempt in sorted({int(r.facts["attempt"]) for r in records if "attempt" in r.facts} - {1}):
            count = sum(r.facts.get("attempt") == attempt for r in records)
            terminalreporter.write_line(f"{count} of attempt {attempt}")
    failures += [t("FAILED: policy: {reason}", reason=reason) for reason in config.stash[UNMET]]
    unwritten, unshown = config.stash[BOOK].unwritten, config.stash[UNSHOWN]
    if unwritten:
        failures.append(t("FAILED: not all records are on disk: {reason}", reason=unwritten))
    if unshown and not unwritten:
        failures.append(t("FAILED: the records are on disk, their pages are not: {reason}", reason=unshown))
    changed = ""
    if baseline := config.stash[BASELINE]:
        from harness.report import compare

        now = Run(header(config), tuple(records), {})
        changed = compare.summary(compare.compare(baseline, now), lang)
    terminalreporter.write(
        terminal(
            records,
            len(config.stash[ASKED]),
            terminalreporter._tw.fullwidth,
            terminalreporter.hasmarkup,
            stopped=config.stash[STOPPED],
            verbose=terminalreporter.verbosity > 0,
            failures=failures,
            report=results / "latest.html" if results and not (unwritten or unshown) else None,
            options={name: config.getoption(name) for name in (*PASSED_ON, *SWITCHES)},
            lang=lang,
            changed=changed,
        )
    )
