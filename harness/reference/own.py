"""What is right for a model of the user's own: FP64 (reference.exact), else ONNX Runtime on the CPU in the
file's own data types, not optimised."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from harness.case import Tensors
from harness.errors import UsageError
from harness.export import own
from harness.vendor.operators import Operators, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto
    from onnxruntime import InferenceSession

    from harness.export.own import OwnModel


def check(model: OwnModel) -> None:
    """Raises UsageError when ONNX Runtime cannot load the file, with its reason."""
    _session(str(model.path), model.digest)


def outputs(model: OwnModel, inputs: Tensors) -> Tensors:
    """Outputs by ONNX name. Raises UsageError when ONNX Runtime cannot run the file, with its reason."""
    session = _session(str(model.path), model.digest)
    try:
        found = session.run(list(model.outputs), dict(inputs))
    except Exception as error:  # ONNX Runtime's exceptions have no class in common
        batch = next((len(inputs[tensor.name]) for tensor in model.inputs if tensor.shape[:1] == (-1,)), 1)
        if batch > 1 and _run_alone(session, model, inputs, batch):
            command = own.FIX.format(axis=own.batch_axis(model), file=model.path).replace(" N ", " 1 ")
            raise UsageError(
                f"{model.path}: its batch (axis 0) is free, and its rows run one by one and not {batch} together: a "
                f"node holds a fixed batch: {said(error)}",
                hint=f"fix the batch: {command}",
            ) from error
        raise UsageError(
            f"{model.path}: ONNX Runtime cannot run it: {said(error)}",
            hint="bound integer inputs with --onnx-input NAME=LOW:HIGH, or give rows with --onnx-input NAME=FILE.npy",
        ) from error
    wrong = [name for name, value in zip(model.outputs, found, strict=True) if not isinstance(value, np.ndarray)]
    if wrong:
        raise UsageError(
            f"{model.path}: output {wrong[0]} is not a tensor", hint="give a graph whose outputs are tensors"
        )
    return dict(zip(model.outputs, map(np.asarray, found), strict=True))


def _run_alone(session: InferenceSession, model: OwnModel, inputs: Tensors, batch: int) -> bool:
    """Whether ONNX Runtime runs each row of the batch by itself."""
    try:
        for row in range(batch):
            session.run(list(model.outputs), dict(permuted(model, inputs, np.array([row]))))
    except Exception:  # as in outputs
        return False
    return True


def said(error: Exception) -> str:
    """ONNX Runtime's message without its error class and the place in its source."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"/\S+\.(?:h|cc):\d+ .*?\)(?: const)? ", "", text)[:300]


@lru_cache(maxsize=1)
def _session(path: str, digest: str) -> InferenceSession:
    from pathlib import Path

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it raises holds the same words
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    whole = own.whole(Path(path))
    graph = whole.SerializeToString()
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        lacking = _without_kernel(whole)
        why = f"it has no kernel on the CPU for {told(lacking)}" if lacking else said(error)
        raise UsageError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {why}",
            hint="the reference is ONNX Runtime: give a file of standard operators that it knows",
        ) from error


def _without_kernel(model: ModelProto) -> dict[str, Sequence[str]]:
    """Operators of a file, with their nodes, that ONNX Runtime has no kernel for on the CPU and that are no functions
    of other operators; none where this release does not tell its kernels."""
    import onnx
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    if not hasattr(runtime, "get_all_opkernel_def"):
        return {}
    names = {(kernel.domain, kernel.op_name) for kernel in runtime.get_all_opkernel_def()}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.has_function or schema.has_context_dependent_function:  # type: ignore[attr-defined,unused-ignore]
            names.add((schema.domain, schema.name))
    kernels = Operators("", frozenset(f"{domain}:{name}" if domain else name for domain, name in names))
    return kernels.lacks(own.operators(model))


def settled(plain: Tensors, exact: Tensors) -> Tensors | None:
    """The outputs to judge by: those in FP64, but the `plain` ones of ONNX Runtime where only one of the two is finite:
    then FP32 overflows, and no chip need not. None where the two have different shapes: the file itself decides by the
    last digit how much it returns."""
    if any(plain[name].shape != value.shape for name, value in exact.items()):
        return None
    sides = {name: [bool(np.isfinite(one[name]).all()) for one in (plain, exact)] for name in plain}
    return {name: exact[name] if one == other else plain[name] for name, (one, other) in sides.items()}


def rows_are_apart(model: OwnModel, batch: int) -> bool:
    """Whether each row of the outputs depends on its own row of the inputs alone, by permuting a batch."""
    if not model.free_batch or batch < 2:
        return False
    given = model.draw(batch)
    order = np.arange(batch)[::-1]
    straight, turned = outputs(model, given), outputs(model, permuted(model, given, order))
    return all(
        value.shape[:1] == (batch,) and np.allclose(turned[name], value[order], rtol=1e-4, atol=1e-5, equal_nan=True)
        for name, value in straight.items()
    )


def permuted(model: OwnModel, inputs: Tensors, order: np.ndarray) -> Tensors:
    """Inputs with the rows of every free batch axis in that order."""
    free = {tensor.name for tensor in model.inputs if tensor.shape[:1] == (-1,)}
    return {name: value[order] if name in free else value for name, value in inputs.items()}
