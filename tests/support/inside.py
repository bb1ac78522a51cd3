"""pytest on the conformance tests within the process of a test: all is imported, and a run takes a fraction of what the
start of a process takes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.session import ROOT


def conformance(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *arguments: str,
    plugins: tuple[object, ...] = (),
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """As a user's pytest with these arguments and variables: its status and what it printed."""
    for name in os.environ:
        if name.startswith(("CHIPPROOF", "PYTEST")):
            monkeypatch.delenv(name)
    for name, value in {"LC_ALL": "C.UTF-8", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "fsync", lambda file: None)  # of no use but against a power cut
    monkeypatch.chdir(ROOT)
    quick = ["-p", "no:unraisableexception"]  # the process of the test looks for them, once
    settings = ["-c", str(ROOT / "pyproject.toml"), "-W", "ignore::pytest.PytestAssertRewriteWarning", *quick]
    command = ["-p", "no:cacheprovider", "-q", *settings, str(ROOT / "tests" / "conformance"), *arguments]
    monkeypatch.setattr(sys, "argv", ["pytest", *command])  # where the language is looked up
    capfd.readouterr()
    status = pytest.main(command, plugins=[*plugins])
    printed = capfd.readouterr()
    return subprocess.CompletedProcess(command, int(status), printed.out, printed.err)
