"""Devices are found with evidence."""

from pathlib import Path

import pytest

from harness.backends.base import Device
from harness.chips import Chip
from harness.errors import WorkerError
from harness.run.devices import find
from harness.worker.limits import Limits
from harness.worker.process import Worker

CARD = Device(0, "NVIDIA T4")
ROOT = Path(__file__).parents[3]
SDK = ROOT / "tests" / "sdk"


def chip(*backends):
    return Chip("fake", "Fake", tuple("fakes." + name for name in backends), "fake", "f", (), (1,))


def start(backend):
    limits = Limits(look=0.5) if backend.endswith("hangs_in_devices") else Limits()
    return Worker(backend, env={"PYTHONPATH": str(SDK)}, limits=limits)


def test_the_first_backend_that_finds_a_device_drives_the_chip():
    present = find(chip("writes_no_engine", "doubles"), start)

    assert present.backend == "fakes.writes_no_engine"
    assert present.version == "doubles 1.0"
    assert len(present.devices) == 2


def test_a_backend_that_says_why_it_finds_nothing_is_evidence_and_the_next_is_asked():
    present = find(chip("needs_a_missing_module", "doubles"), start)

    assert present.backend == "fakes.doubles"
    assert "No module named" in present.evidence
    assert "two of them" in present.evidence


def test_the_first_device_is_known_where_another_was_asked_for():
    present = find(chip("doubles"), start)

    assert present.first == present.only(1).first == present.devices[0]


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["hangs_in_devices", "crashes_in_devices"])
def test_an_sdk_that_crashes_or_hangs_in_discovery_is_no_absent_chip(broken):
    with pytest.raises(WorkerError, match="while it looked for fake") as caught:
        find(chip(broken, "doubles"), start)

    assert "repair the SDK" in caught.value.hint


def test_an_absent_chip_comes_with_the_evidence_of_every_backend():
    present = find(chip("needs_a_missing_module", "needs_a_missing_module"), start)

    assert present.devices == ()
    assert present.backend == ""
    assert present.evidence.count("fakes.") == 2
