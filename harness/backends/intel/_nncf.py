"""INT8 for OpenVINO: post-training quantisation by NNCF, the tool that Intel publishes for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Collection

from harness.backends._calibration import calibration_batches, calibration_samples
from harness.backends.base import shape_at, trail
from harness.backends.intel._quiet import without, without_telemetry, without_torch
from harness.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.backends.base import BuildSpec


def quantised(ov: Any, model: Any, spec: BuildSpec, onnx: Path) -> Any:
    """The model with convolutions and products in INT8, ranges from the whole calibration set, image by image.

    The preset is MIXED: weights symmetric, activations asymmetric. With NNCF's default, PERFORMANCE, activations are
    symmetric; RetinaFace-mobilenet0.25 and GFocalV2 then lose 1.2 to 1.6 times as much (docs/measured.md).
    Options: `preset`, NNCF's other name; `overflow_fix`, in which layers weights take 7 of the 8 bits. A CPU without
    VNNI adds two products in 16 bits, which may overflow; NNCF by itself allows for that in the first layer, and the
    bits may be worth more (docs/intel.md); `in_fp32`, the nodes of the file `onnx` that are not quantised. Raises
    BuildError without NNCF, and with NNCF's own words."""
    samples = calibration_samples(spec)
    nncf = _imported()
    fed = list(calibration_batches(samples, spec, 1))
    kept = operations(model, onnx, spec.options.get("in_fp32", ()))
    trail("nncf.quantize")
    try:
        model.reshape({tensor.name: list(shape_at(tensor, 1)) for tensor in spec.inputs})
        with without_torch():  # NNCF asks of every model whether it is PyTorch's
            return nncf.quantize(
                model,
                nncf.Dataset(fed),
                preset=nncf.QuantizationPreset[spec.options.get("preset", "MIXED")],
                target_device=nncf.TargetDevice[spec.target.partition(".")[0]],
                subset_size=len(fed),
                ignored_scope=nncf.IgnoredScope(names=kept) if kept else None,
                **_advanced(nncf, spec),
            )
    except (RuntimeError, ValueError, KeyError, TypeError, nncf.errors.ValidationError) as error:
        said = " ".join(str(error).split())[:500]
        raise BuildError(f"nncf.quantize failed: {said}", hint="build fp32 or fp16 instead") from error


def operations(model: Any, onnx: Path, names: Collection[str]) -> list[str]:
    """What OpenVINO calls the operations that it made of these nodes: by the node's name, by that and a part, or, of
    one whose result is an output, by the output's. Raises BuildError for a node of which it made none."""
    if not names:
        return []
    trail("import onnx")
    try:
        import onnx as reader
    except ImportError as error:
        raise BuildError(f"in_fp32 needs onnx: {error}", hint="pip install onnx") from error
    nodes = {node.name: set(node.output) for node in reader.load(str(onnx), load_external_data=False).graph.node}
    made: dict[str, list[str]] = {name: [] for name in names}
    for operation in model.get_ops():
        if operation.get_type_name() in ("Constant", "Parameter", "Result"):
            continue
        called = operation.friendly_name
        tensors = {name for output in operation.outputs() for name in output.names}
        for name, found in made.items():
            part = called.startswith(f"{name}/") and called not in nodes
            if called == name or part or tensors & nodes.get(name, set()):
                found.append(called)
    missing = [name for name, found in made.items() if not found]
    if missing:
        raise BuildError(f"OpenVINO made no operation of {', '.join(missing)}", hint="leave these out of in_fp32")
    return sorted({called for found in made.values() for called in found})


def _advanced(nncf: Any, spec: BuildSpec) -> dict[str, Any]:
    if "overflow_fix" not in spec.options:
        return {}
    fix = nncf.OverflowFix[spec.options["overflow_fix"]]
    return {"advanced_parameters": nncf.AdvancedQuantizationParameters(overflow_fix=fix)}


def _imported() -> Any:
    """NNCF, without its telemetry, and without PyTorch, which it imports where it can, for models of that kind alone:
    1.4 s of a processor. Raises BuildError without NNCF."""
    trail("import nncf")
    try:
        with without_telemetry(), without("torch"):
            import nncf
    except ImportError as error:
        raise BuildError(f"INT8 needs NNCF: {error}", hint='pip install "chipproof[openvino]"') from error
    return nncf
