"""What passes between a backend and the suite, and the check of tensors that every backend makes."""

import numpy as np
import pytest

from harness.backends.base import Device, TensorSpec, as_list, check, of_chip
from harness.errors import RunError

SPECS = (TensorSpec("image", "float32", (-1, 3, 4, 4)), TensorSpec("scale", "float32", (-1, 2)))


def tensors(batch=2, **other):
    made = {"image": np.zeros((batch, 3, 4, 4), np.float32), "scale": np.zeros((batch, 2), np.float32)}
    return {**made, **other}


def test_the_batch_of_tensors_that_fit_is_told():
    assert check(tensors(5), SPECS, "input") == 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image": tensors()["image"]}, "inputs are called image"),
        (tensors(more=np.zeros(1)), "inputs are called"),
        (tensors(image=np.zeros((2, 3, 4, 4))), "input image is float64"),
        (tensors(image=np.zeros((2, 3, 4, 5), np.float32)), r"input image has the shape \(2, 3, 4, 5\)"),
        (tensors(scale=np.zeros((3, 2), np.float32)), "inputs disagree about the batch: 2, 3"),
    ],
)
def test_what_does_not_fit_is_said_with_what_is_wanted(given, said):
    with pytest.raises(RunError, match=said) as raised:
        check(given, SPECS, "input")
    assert "image float32" in raised.value.hint


def test_a_batch_that_is_fixed_is_held():
    with pytest.raises(RunError, match=r"input x has the shape \(2, 3\)"):
        check({"x": np.zeros((2, 3), np.float32)}, (TensorSpec("x", "float32", (4, 3)),), "input")


def test_an_output_may_have_as_many_rows_as_its_data_says():
    specs = tuple(TensorSpec(name, "float32", (-1, 2)) for name in ("y", "z"))
    given = {"y": np.zeros((4, 2), np.float32), "z": np.zeros((7, 2), np.float32)}

    check(given, specs, "output")
    with pytest.raises(RunError, match="inputs disagree about the batch: 4, 7"):
        check(given, specs, "input")


def test_a_device_is_numbered_by_the_vendors_tools_where_they_tell():
    assert Device(1, "chip").number == 1
    assert Device(1, "chip", physical=6).number == 6


def test_nothing_is_an_empty_list():
    assert as_list(None) == []
    assert as_list((1, 2)) == [1, 2]


@pytest.mark.parametrize(
    ("names", "hint", "step"),
    [
        ([], "", ""),
        ([], "install it", "install it"),
        (["A10", "T4"], "", ""),
        (["A10"], "", "select a chip that is here: chipproof doctor"),
        (["A10"], "unset HIDDEN", "unset HIDDEN"),
    ],
)
def test_where_only_other_devices_are_no_sdk_is_to_be_installed(names, hint, step):
    found = of_chip("T4", [Device(i, name) for i, name in enumerate(names)], "seen", hint)

    assert [device.name for device in found.devices] == [name for name in names if name == "T4"]
    assert (found.evidence, found.hint) == ("seen", step)
