"""The environment of a worker that finds a simulated SDK in the vendor's place."""

import json
import re

import pytest

from harness import matrix
from harness.backends.registry import backend
from harness.chips import CHIPS
from harness.run.simulation import simulator, simulator_folder


@pytest.mark.parametrize("name", sorted(name for name, chip in CHIPS.items() if chip.simulated))
def test_a_simulated_machine_holds_the_chip_that_it_is_to_stand_in_for(name):
    chip = matrix.chips()[name]
    environment = simulator(chip, memory="/some/folder")

    switches = json.loads(environment["CHIPPROOF_SIM"])
    assert re.fullmatch(chip.match, switches["soc"]), f"{switches['soc']} is no {chip.title}"
    assert switches["memory"] == "/some/folder"
    assert backend(chip.backends[0]).simulator, "the chip's own backend is the one that is simulated"
    assert simulator_folder(chip).is_dir()


def test_the_user_has_the_last_word_about_the_simulated_machine(monkeypatch):
    monkeypatch.setenv("CHIPPROOF_SIM", '{"soc": "NVIDIA T4", "trt_version": "11.4.0"}')

    switches = json.loads(simulator(matrix.chips()["t4"], memory="m")["CHIPPROOF_SIM"])

    assert switches == {"soc": "NVIDIA T4", "trt_version": "11.4.0", "memory": "m"}


def test_the_cpu_is_never_simulated():
    assert simulator(matrix.chips()["cpu"]) is None
