"""The bundle for the vendor: the smallest graph, inputs, outputs; all of it or nothing."""

import zipfile

import numpy as np
import own_models
import pytest

from harness.diagnose import bundle, layers
from harness.errors import StoreError


def test_the_part_computes_one_layer_from_the_tensors_before_it():
    model = own_models.image()
    every = layers.layers(model, 2)

    part = bundle.part(model, every[-1], 2)

    assert [value.name for value in part.graph.input] == list(every[-1].inputs)
    assert [value.name for value in part.graph.output] == [every[-1].tensor]
    assert len(part.graph.node) < len(model.graph.node)


def test_a_bundle_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    arrays = {"y": np.zeros(3)}

    with pytest.raises(StoreError, match="cannot be written"):
        bundle.write(tmp_path / "file" / "b.zip", own_models.dense(), arrays, arrays, arrays, {})


def test_a_bundle_holds_what_was_told(tmp_path):
    arrays = {"y": np.arange(3.0)}

    bundle.write(tmp_path / "b.zip", own_models.dense(), arrays, arrays, {"y": np.ones(3)}, {"case": "a-b"})

    with zipfile.ZipFile(tmp_path / "b.zip") as found:
        assert set(found.namelist()) == {"part.onnx", "inputs.npz", "chip.npz", "reference.npz", "facts.json",
                                         "reproduce.py"}  # fmt: skip
