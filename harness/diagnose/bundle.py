"""What a vendor needs to see a difference: the smallest ONNX file that shows it, inputs, both outputs, and how it was
seen."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.case import Tensors
from harness.errors import StoreError
from harness.export import graph
from harness.store import whole_file

if TYPE_CHECKING:
    from onnx import ModelProto

    from harness.diagnose.layers import Layer

REPRODUCE = """import numpy, onnxruntime
inputs, chip = numpy.load("inputs.npz"), numpy.load("chip.npz")
session = onnxruntime.InferenceSession("part.onnx", providers=["CPUExecutionProvider"])
for output, value in zip(session.get_outputs(), session.run(None, dict(inputs))):
    print(output.name, "largest difference of the chip:", abs(value - chip[output.name]).max())
"""


def part(model: ModelProto, layer: Layer, batch: int) -> ModelProto:
    """The graph that computes `layer` from the tensors before it, at that batch. Raises ExportError."""
    fixed = graph.set_batch(model, batch)
    cut = graph.cut(fixed, [layer.tensor], layer.inputs)
    return graph.set_batch(cut, batch)


def write(
    path: Path, part: ModelProto, inputs: Tensors, chip: Tensors, reference: Tensors, told: Mapping[str, Any]
) -> Path:
    """Write the bundle, a .zip: part.onnx, inputs.npz, chip.npz, reference.npz, facts.json, reproduce.py. `told` is
    what was found, as JSON values. Raises StoreError."""
    try:
        with whole_file(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr("part.onnx", part.SerializeToString())
            for name, arrays in (("inputs", inputs), ("chip", chip), ("reference", reference)):
                body = io.BytesIO()
                np.savez(body, allow_pickle=False, **arrays)
                bundle.writestr(f"{name}.npz", body.getvalue())
            bundle.writestr("facts.json", json.dumps(told, indent=1, ensure_ascii=False, default=str))
            bundle.writestr("reproduce.py", REPRODUCE)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}", hint="give another --bundle FILE") from error
    return path
