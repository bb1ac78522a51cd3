"""Every published case is collected, and there is something that it runs on: the machine's CPU or a simulated chip."""

import re

from harness import baselines, matrix
from harness.case import Case
from harness.run.simulation import simulator
from tests.unit.test_session import session

ONLY_REAL = {
    "cpu",
    "intel_cpu",
    "intel_gpu",
    "intel_npu",
    "htp_v73",
    "rk3588",
}  # their runtimes can be had by everybody


def test_every_published_case_is_collected_and_runs_on_a_simulator_or_the_cpu():
    done = session("--collect-only", "--simulate")
    collected = {match[1] for match in re.finditer(r"\[(\S+-bs\d+)\]$", done.stdout, re.MULTILINE)}
    published = baselines.load().cases()

    assert done.returncode == 0, done.stdout[-2000:]
    assert {str(case) for case in matrix.cases()} == collected
    assert published
    assert {str(case) for case in published} <= collected
    for chip in {Case.parse(text).chip for text in collected} - ONLY_REAL:
        assert simulator(matrix.chips()[chip]) is not None, f"nothing runs {chip}"
