"""A command answers at once: help of every verb in both languages, and doctor where no SDK is installed.

Processor time of the process and its children, the least of several runs, so that other programs count for less.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.report.messages import LANGUAGES
from tools.cli import VERBS

pytestmark = pytest.mark.benchmark

ROOT = Path(__file__).parents[2]
HELP, DOCTOR = 0.3, 3.0  # seconds


def seconds(*arguments, runs):
    """Least processor time of `chipproof` with these arguments."""
    taken = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "tools", *arguments], cwd=ROOT, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stdout + done.stderr
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_takes_less_than_a_third_of_a_second(verb, lang):
    taken = seconds(*([verb] if verb else []), "--help", "--lang", lang, runs=5)

    print(f"seconds {taken:.3f}")
    assert taken < HELP


def test_doctor_takes_less_than_3_seconds(tmp_path):
    taken = seconds("doctor", "--cache", str(tmp_path), "--json", runs=3)

    print(f"seconds {taken:.3f}")
    assert taken < DOCTOR
