"""The inputs of an Ascend engine, the check of what a caller feeds, and which output is which; shared by pyACL and the
command-line tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Sequence

import numpy as np

from harness.backends.base import BuildSpec, TensorSpec, as_list, shape_at
from harness.errors import RunError

if TYPE_CHECKING:
    from harness.backends.base import Tensors

REBUILD = "the engine belongs to another case or an older build: delete it and build it again"


def fed(spec: BuildSpec) -> tuple[TensorSpec, ...]:
    """Inputs of the engine of a case: uint8 (N, H, W, C) where the chip normalises, else those of the graph."""
    return tuple(fed_one(tensor, spec) for tensor in spec.inputs)


def fed_one(tensor: TensorSpec, spec: BuildSpec) -> TensorSpec:
    """The engine's input for one input of the graph."""
    shape = shape_at(tensor, spec.batch)
    if spec.normalize is None:
        return TensorSpec(tensor.name, tensor.dtype, shape)
    return TensorSpec(tensor.name, "uint8", (shape[0], *shape[2:], *shape[1:2]))


def checked(inputs: Tensors, wanted: Iterable[TensorSpec]) -> Tensors:
    """The inputs as arrays. Raises RunError when a name, dtype or shape is not the engine's."""
    wanted = tuple(wanted)
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    given = {name: TensorSpec(name, array.dtype.name, array.shape) for name, array in arrays.items()}
    if given != {tensor.name: tensor for tensor in wanted}:
        raise RunError(
            f"the inputs are {shown(given.values())}, the engine takes {shown(wanted)}",
            hint="feed the engine's inputs with these names, dtypes and shapes",
        )
    return arrays


def shown(tensors: Iterable[TensorSpec]) -> str:
    """Names, dtypes and shapes, as in `image float32[4, 3, 8, 8]`."""
    return ", ".join(f"{tensor.name} {tensor.dtype}{list(tensor.shape)}" for tensor in tensors) or "none"


def told(names: Sequence[str], spec: BuildSpec) -> list[str | None]:
    """The ONNX names that runtime names of outputs stand for, in their order; None for one that tells nothing.

    The compiler names an output after its node and tensor ("Concat_205:0:output2"), its node ("Concat_205:0", older
    releases "output_0_Concat_205_0"), or, where one operator became several, another node."""
    known = {name: name for name in spec.outputs}
    for name, whole in zip(spec.outputs, map(str, as_list(spec.options.get("out_nodes")))):
        node, _, port = whole.rpartition(":")
        known[whole] = name
        known.update((f"output_{i}_{node}_{port}", name) for i in range(len(spec.outputs)))
    parts = [name.split(":") for name in names]
    return [
        known.get(name) or known.get(":".join(words[2:])) or known.get(":".join(words[:2]))
        for name, words in zip(names, parts)
    ]
