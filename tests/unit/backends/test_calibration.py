"""Calibration data of another model is refused; what is fed to a compiler is whole and in order."""

from dataclasses import replace

import numpy as np
import pytest
from ort_small import spec

from harness.backends._calibration import calibration_batches, calibration_samples
from harness.backends.base import TensorSpec
from harness.backends.cpu import ort
from harness.errors import BuildError


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, "without calibration"),
        (np.zeros((4, 3, 16, 16), np.float32), "takes float32"),
        (np.zeros((4, 3, 12, 12), np.uint8), "takes float32"),
        (np.zeros((0, 3, 12, 12), np.float32), "takes float32"),
        (np.full((4, 3, 12, 12), np.nan, np.float32), "not finite"),
    ],
)
def test_calibration_data_that_is_not_this_models_is_refused(source, tmp_path, made, says):
    path = None if made is None else str(tmp_path / "c.npy")
    if made is not None:
        np.save(path, made)

    with pytest.raises(BuildError, match=says):
        ort.build(source, tmp_path / "e", spec("int8", calibration=path))
    assert not (tmp_path / "e").exists()


ROWS, WHOLE, IDS = (
    TensorSpec("a", "float32", (-1, 3)),
    TensorSpec("b", "float32", (2, 2)),
    TensorSpec("c", "int64", (-1,)),
)
KEPT = {
    "a": np.arange(15, dtype=np.float32).reshape(5, 3),
    "b": np.arange(20, dtype=np.float32).reshape(5, 2, 2),
    "c": np.arange(5),
}


def of(folder, *inputs, **more):
    """The spec of those inputs with their samples in a file."""
    np.savez(folder / "c.npz", **{str(place): {**KEPT, **more}[tensor.name] for place, tensor in enumerate(inputs)})
    return replace(spec("int8"), inputs=inputs, calibration=str(folder / "c.npz"))


def test_rows_of_several_inputs_stay_together_and_the_last_batch_is_filled_from_the_start(tmp_path):
    wanted = of(tmp_path, ROWS, IDS)
    fed = list(calibration_batches(calibration_samples(wanted), wanted, 2))

    assert [batch["c"].tolist() for batch in fed] == [[0, 1], [2, 3], [4, 0]]
    assert all(np.array_equal(batch["a"], KEPT["a"][batch["c"]]) for batch in fed)


def test_a_whole_tensor_beside_rows_is_that_of_the_first_row(tmp_path):
    wanted = of(tmp_path, ROWS, WHOLE)
    fed = list(calibration_batches(calibration_samples(wanted), wanted, 2))

    assert [batch["a"].shape for batch in fed] == [(2, 3)] * 3
    assert all(np.array_equal(batch["b"], KEPT["b"][place]) for batch, place in zip(fed, (0, 2, 4), strict=True))


def test_whole_tensors_alone_are_a_batch_each_whatever_the_batch(tmp_path):
    wanted = of(tmp_path, WHOLE, replace(WHOLE, name="d"), d=2 * KEPT["b"])
    fed = list(calibration_batches(calibration_samples(wanted), wanted, 4))

    assert len(fed) == 5
    assert all(np.array_equal(batch["b"], KEPT["b"][place]) for place, batch in enumerate(fed))
    assert all(np.array_equal(batch["d"], 2 * batch["b"]) for batch in fed)


@pytest.mark.parametrize(
    ("inputs", "more", "says"),
    [
        ((ROWS, IDS), {"c": np.arange(4)}, "different numbers of samples: a 5, c 4"),
        ((ROWS, IDS), {"c": np.arange(5.0)}, r"takes int64 \(N, \) as c"),
        ((ROWS, WHOLE), {"b": KEPT["b"][:, 0]}, r"takes float32 \(N, 2, 2\) as b"),
        ((ROWS, WHOLE), {"b": np.full((5, 2, 2), np.inf, np.float32)}, "not finite"),
    ],
)
def test_samples_of_several_inputs_are_held_against_the_model(tmp_path, inputs, more, says):
    with pytest.raises(BuildError, match=says):
        calibration_samples(of(tmp_path, *inputs, **more))


@pytest.mark.parametrize(
    ("file", "says"), [("c.npz", "cannot be read"), ("one.npy", "is for 1 inputs, the model has 3")]
)
def test_a_file_for_fewer_inputs_is_refused(tmp_path, file, says):
    wanted = of(tmp_path, ROWS, WHOLE)
    np.save(tmp_path / "one.npy", KEPT["a"])

    with pytest.raises(BuildError, match=says):
        calibration_samples(replace(wanted, inputs=(ROWS, WHOLE, IDS), calibration=str(tmp_path / file)))
