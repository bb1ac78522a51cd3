"""The table of chips: whole rows, and the names that drivers give their devices."""

import re
from dataclasses import replace

import pytest

from harness.backends.registry import BACKENDS
from harness.case import Precision
from harness.chips import CHIPS
from harness.errors import UsageError

# names as the vendors' tools and libraries print them
NAMES = {
    "ascend310": ["Ascend310", "310"],
    "ascend310p": ["Ascend310P3", "Ascend310P", "310P3", "Ascend710"],
    "mlu370_s4": ["MLU370-S4"],
    "mlu370_x4": ["MLU370-X4"],
    "t4": ["Tesla T4", "NVIDIA Tesla T4", "NVIDIA T4"],
}


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_a_row_is_whole(chip):
    assert CHIPS[chip.name] is chip
    assert re.fullmatch(r"[a-z]\w*", chip.name), "a chip's name is a pytest marker too"
    assert chip.title
    assert chip.hint
    assert set(chip.backends) <= set(BACKENDS)
    assert set(chip.precisions) <= set(Precision)
    assert chip.devices_per_card >= 1


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_batches_rise_and_fewer_ones_are_some_of_them(chip):
    assert list(chip.batches) == sorted(set(chip.batches))
    for fewer in (chip.heavy_batches, chip.reduced_batches):
        assert fewer is None or set(fewer) < set(chip.batches)


@pytest.mark.parametrize(("chip", "name"), [(chip, name) for chip, names in NAMES.items() for name in names])
def test_a_device_is_known_by_its_vendors_name_and_taken_for_no_other_chip(chip, name):
    found = {row.name for row in CHIPS.values() if row.match != ".*" and re.fullmatch(row.match, name)}

    assert found == {chip}


def test_a_card_of_four_devices_is_the_ascend_310_alone():
    assert {chip.name: chip.devices_per_card for chip in CHIPS.values() if chip.devices_per_card > 1} == {
        "ascend310": 4
    }


def test_a_row_can_be_a_key():
    assert len({*CHIPS.values(), *CHIPS.values()}) == len(CHIPS)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "Ascend910B", "the name cannot be a pytest marker"),
        ("name", "910b", "the name cannot be a pytest marker"),
        ("batches", (8, 1), r"batches are \(8, 1\)"),
        ("batches", (1, 1), r"batches are \(1, 1\)"),
        ("batches", (0, 1), r"batches are \(0, 1\)"),
        ("batches", (), r"batches are \(\)"),
        ("heavy_batches", (8, 1), r"batches are \(8, 1\)"),
        ("reduced_batches", (4, 4), r"batches are \(4, 4\)"),
        ("reduced_batches", (), r"batches are \(\)"),
        ("precisions", ("fp16",), "precisions are"),
        ("peers", ("TVM",), "no peer is called TVM"),
        ("match", "(910", r"match is '\(910': missing"),
    ],
)
def test_a_row_that_no_run_could_use_is_refused(field, value, said):
    with pytest.raises(UsageError, match=said):
        replace(CHIPS["t4"], **{field: value})
