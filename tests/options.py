"""The options of the suite: what there is to set, and what of it cannot be."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness import matrix
from harness.backends.registry import backend_options, backends, pythons
from harness.case import Case
from harness.errors import HarnessError
from harness.report import webhook
from harness.report.messages import LANGUAGES, chosen, language, translation
from harness.run.prepared import PREPARED_GB
from harness.worker.limits import limits
from tests.session import reachable, reader, refused

FOLDER = "chipproof fetch lists what belongs there; leave --data out for drawn pictures"
TIERS = {
    "quick": "the first precision of each chip; accuracy at the smallest batch, and not of heavy models",
    "nightly": "everything, with the accuracy of the smallest and the largest batch",
    "full": "everything",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    _speak_to_the_reader(parser)
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
    group.addoption(
        "--wait",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="wait that long for a device that another run holds, or that others use when it is to be timed "
        "(default: 600)",
    )
    group.addoption(
        "--time-limit",
        action="append",
        default=[],
        metavar="STEP=SECONDS",
        help="how long a step may take before it counts as hung: start, look, build, load, run, measure or close "
        "(repeat for several)",
    )
    group.addoption(
        "--memory-limit",
        type=float,
        metavar="GB",
        help="most memory of the process that holds the SDK (default: 80 %% of the machine's)",
    )
    group.addoption(
        "--tier",
        choices=list(TIERS),
        default="full",
        help="how much: " + "; ".join(f"{name}: {text}" for name, text in TIERS.items()) + " (default: full)",
    )
    group.addoption(
        "--shard",
        metavar="K/N",
        help="only the K-th of N parts of the run, alike on every machine; merge their records with chipproof report",
    )
    group.addoption(
        "--onnx",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="test this ONNX file instead of the published models (repeat for several)",
    )
    group.addoption(
        "--onnx-input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what to feed an input of --onnx: LOW:HIGH, or rows in an .npy file (default: drawn by its dtype)",
    )
    group.addoption(
        "--all-cards", action="store_true", help="measure the throughput of every card of the host, and judge each"
    )
    group.addoption(
        "--device-reset",
        action="store_true",
        help="reset a chip's device with the vendor's tool, once a run, when it has hung in two cases",
    )
    group.addoption("--device", type=int, metavar="N", help="use only this device of the chip")
    group.addoption("--limit", type=int, metavar="N", help="at most N images of each data set, drawn at random")
    group.addoption(
        "--prepared-gb",
        type=float,
        default=PREPARED_GB,
        metavar="GB",
        help="keep prepared images on disk for the run, so that each is prepared once (default: %(default)g; 0: none)",
    )
    group.addoption(
        "--patience",
        type=float,
        metavar="SECONDS",
        help="measure a case until its throughput is decided, at most so long (default: 60 on chips, 30 on cpu)",
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
    group.addoption(
        "--resume",
        metavar="FILE",
        help="keep verdicts of an earlier run where nothing that decides them has changed: a record file, or latest",
    )
    group.addoption(
        "--policy",
        type=Path,
        metavar="FILE",
        help="the lab's own rules: expected outcomes, gates, limits (default: chipproof.toml here, if there is one)",
    )
    group.addoption("--webhook", metavar="URL", help="post the head line there when the run ends, as JSON")
    group.addoption("--baseline", type=Path, metavar="RUN", help="a record file: say what changed since that run")
    group.addoption(
        "--lang", choices=LANGUAGES, default=None, help="language of summary and reports (default: the locale's)"
    )
    group.addoption(
        "--tune",
        action="store_true",
        help="let the compilers search longer for fast engines (AOE on Ascend, TensorRT's highest level); takes hours",
    )
    group.addoption("--simulate", action="store_true", help="replace the vendors' SDKs with simulated ones")
    group.addoption(
        "--sdk-python",
        action="append",
        default=[],
        metavar="[CHIP=]PATH",
        help="Python that has the vendor's SDK (3.7 or newer, with NumPy), for all chips or for one (repeat for "
        "several)",
    )
    group.addoption(
        "--backend-option",
        action="append",
        default=[],
        metavar="[CHIP:]KEY=VALUE",
        help="a setting of the compiler or runtime, of all chips or of one (repeat for several)",
    )
    group.addoption("--runner", metavar="BACKEND", help=f"drive the chip by another backend: {', '.join(backends())}")


def _speak_to_the_reader(parser: pytest.Parser) -> None:
    """Translate what the parser itself refuses: an unknown option, a value of the wrong kind."""
    own: Any = getattr(parser, "optparser", None)  # of pytest 9; an older one makes it when it parses
    if own is not None:
        refuse, t = own.error, translation(language(chosen(sys.argv), encoding=sys.stderr.encoding))
        own.error = lambda message: refuse(t(message))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse a marker that there is not, with those there are. Raises pytest.UsageError."""
    expression = session.config.getoption("markexpr")
    if "=" in expression:  # arguments of markers: pytest's own check is enough
        return
    known = {re.split(r"[:(\s]", line)[0] for line in session.config.getini("markers")}
    for name in re.findall(r"[\w:+\-.\[\]\\/]+", expression):
        if name in known or name in ("and", "or", "not", "True", "False", "None"):
            continue
        with suppress(HarnessError):
            case = Case.parse(name)
            marks = f"{case.model} and {case.chip} and {case.precision} and bs{case.batch}"
            raise refused(session.config, f"-m: {name} is a case, not a marker", f"-m {shlex.quote(marks)}")
        near = difflib.get_close_matches(name, known, 1)
        fact = f"-m: no marker {name}; chips: {', '.join(matrix.chips())}; models: {', '.join(matrix.models())}"
        raise refused(
            session.config, fact, f"did you mean {near[0]}? all: pytest --markers" if near else "pytest --markers"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot be done, now and not after hours.

    Raises:
        pytest.UsageError: with the option, what was given and what is possible.
    """
    try:  # installed packages may be broken, or contradict each other
        chips, _ = matrix.chips(), matrix.models()
        if matrix.figures():
            matrix.published()
    except HarnessError as error:
        raise refused(config, error) from error
    unknown = sorted(set(config.getoption("require")) - set(chips))
    if unknown:
        raise refused(config, f"--require {unknown[0]}: no such chip; there are {', '.join(matrix.chips())}")
    if not 0 <= config.getoption("wait") < float("inf"):
        raise refused(config, f"--wait {config.getoption('wait')}: give seconds, 0 or more")
    try:
        limits(config.getoption("time_limit"), config.getoption("memory_limit"))
    except HarnessError as error:
        raise refused(config, error) from error
    if config.getoption("all_cards") and config.getoption("dist", "no") != "no":
        raise refused(config, "--all-cards measures one card after the other, in one process: leave out -n")
    if config.getoption("shard"):
        from tests import shards  # needs pytest-xdist

        try:
            shards.shard_of(config.getoption("shard"))
        except HarnessError as error:
            raise refused(config, error) from error
    for spec in (*(config.getoption("tx", None) or ()), *(config.getoption("px", None) or ())):
        if re.search(r"\b(ssh|vagrant_ssh|socket)=", spec):
            raise refused(
                config,
                f"{spec}: one run cannot use several hosts, because pytest-xdist gives a test to any of them, whatever "
                "chip it has, and leaves the data of its records there",
                "run on each host and merge: docs/ci.md, Several hosts",
            )
    if again := config.getoption("reruns", None):  # of pytest-rerunfailures
        raise refused(
            config,
            f"--reruns {again}: leave it out. It would report a FAIL as the PASS of a later try; the suite itself "
            "measures a FAIL or INVALID a second time, and says so when the two differ",
        )
    limit = config.getoption("limit")
    if limit is not None and limit < 1:
        raise refused(config, f"--limit {limit}: give at least 1 image")
    if not 0 <= config.getoption("prepared_gb") < float("inf"):
        raise refused(config, f"--prepared-gb {config.getoption('prepared_gb'):g}: give GB, 0 or more")
    patience = config.getoption("patience")
    if patience is not None and not 0 <= patience < float("inf"):
        raise refused(config, f"--patience {patience:g}: give seconds, 0 or more")
    data = config.getoption("data")
    with reachable(config):
        if data is not None and not Path(data).is_dir():
            raise refused(config, f"--data {data}: no such folder", FOLDER)
    runner = config.getoption("runner")
    if runner is not None and runner not in backends():
        raise refused(config, f"--runner {runner}: no such backend; there are {', '.join(backends())}")
    try:
        pythons(config.getoption("sdk_python"), matrix.chips())
        backend_options(config.getoption("backend_option"), matrix.chips())
    except HarnessError as error:
        raise refused(config, error) from error
    if (url := config.getoption("webhook")) is not None:
        try:
            webhook.check(url)
        except HarnessError as error:
            raise refused(config, error) from error
    results = config.getoption("results")
    if results is not None and not config.getoption("collectonly"):
        try:
            results.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=results).close()
        except OSError as error:
            raise refused(config, f"--results {results} cannot be written: {error}") from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    t = reader(config, sys.stdout)
    lines = [t("data {folder}", folder=config.getoption("data") or t("none (drawn scenes)"))]
    settings = [
        f"--{name} {value}"
        for name in ("limit", "device", "runner", "patience")
        if (value := config.getoption(name)) is not None
    ]
    settings += [f"--time-limit {given}" for given in config.getoption("time_limit")]
    settings += [f"--backend-option {given}" for given in config.getoption("backend_option")]
    if config.getoption("tier") != "full":
        settings.append(t(f"--tier {config.getoption('tier')}: {TIERS[config.getoption('tier')]}"))
    if config.getoption("tune"):
        settings.append(t("--tune: engines are tuned where the backend can"))
    if config.getoption("simulate"):
        settings.append(t("--simulate: SIMULATED SDKs; says nothing about real hardware"))
    typos = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("CHIPPROOF_")]
    return [f"chipproof: {line}" for line in (*lines, *settings, *typos)]
