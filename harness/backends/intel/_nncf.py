"""INT8 for OpenVINO: post-training quantisation by NNCF, the tool that Intel publishes for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from harness.backends._calibration import calibration_batches, calibration_samples
from harness.backends.base import trail
from harness.errors import BuildError

if TYPE_CHECKING:
    from harness.backends.base import BuildSpec


def quantised(ov: Any, model: Any, spec: BuildSpec) -> Any:
    """The model with convolutions and products in INT8, ranges from the whole calibration set, image by image.

    The preset is MIXED: weights symmetric, activations asymmetric. With NNCF's default, PERFORMANCE, activations are
    symmetric, and RetinaFace-mobilenet0.25 has outputs of cosine 0.648 with FP32's, instead of 0.974.
    Option `preset`: NNCF's other name. Raises BuildError without NNCF, and with NNCF's own words."""
    samples = calibration_samples(spec)
    nncf = _imported()
    fed = spec.inputs[0]
    trail("nncf.quantize")
    try:
        model.reshape({fed.name: [1, *fed.shape[1:]]})
        return nncf.quantize(
            model,
            nncf.Dataset([{fed.name: batch} for batch in calibration_batches(samples, 1)]),
            preset=nncf.QuantizationPreset[spec.options.get("preset", "MIXED")],
            target_device=nncf.TargetDevice[spec.target.partition(".")[0]],
            subset_size=len(samples),
        )
    except (RuntimeError, ValueError, KeyError, TypeError, nncf.errors.ValidationError) as error:
        said = " ".join(str(error).split())[:500]
        raise BuildError(f"nncf.quantize failed: {said}", hint="build fp32 or fp16 instead") from error


def _imported() -> Any:
    """NNCF, without its telemetry: it would write a client's number into the home folder, and send usage figures to its
    makers without asking (nncf/telemetry/wrapper.py of NNCF 3.4). Without the package that sends them it does neither.
    Raises BuildError without NNCF."""
    sender = "openvino_telemetry"
    before = sys.modules.get(sender)
    sys.modules[sender] = None  # type: ignore[assignment]  # it cannot be imported
    trail("import nncf")
    try:
        import nncf
    except ImportError as error:
        raise BuildError(f"INT8 needs NNCF: {error}", hint='pip install "chipproof[openvino]"') from error
    finally:
        del sys.modules[sender]
        if before is not None:
            sys.modules[sender] = before
    return nncf
