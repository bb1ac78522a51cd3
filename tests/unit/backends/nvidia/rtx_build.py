"""Builds the file argv[1] to argv[2] with the TensorRT backend on NVIDIA's TensorRT for RTX, in place of TensorRT.

argv[3] is the compute capability, argv[4] the case's precision. Runs in a Python that has tensorrt_rtx. It has
TensorRT's names, networks of one type as TensorRT 11 has, and builds for a capability that is named instead of one
that is found (docs.nvidia.com, "TensorRT for RTX: AOT compilation"): no GPU is needed, and none is asked for here."""

import sys
from pathlib import Path
from types import SimpleNamespace

import tensorrt_rtx as trt

from harness.backends.base import BuildSpec, TensorSpec
from harness.backends.nvidia import _trt_build

source, engine, capability, precision = sys.argv[1:]


class Builder(trt.Builder):
    def create_builder_config(self):
        config = super().create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
        return config


names = {name: getattr(trt, name) for name in dir(trt) if not name.startswith("_")}
module = SimpleNamespace(**{**names, "Builder": Builder, "__version__": "11.0"})
_trt_build.sdk = lambda: module
_trt_build.with_gpu = lambda error: SimpleNamespace(call=lambda *args: None)
inputs = (TensorSpec("image", "float32", (-1, 3, 12, 12)),)
options = {f"onnx_{precision}": source} if precision != "fp32" else {}
_trt_build.build(
    Path(source), Path(engine), BuildSpec(precision, 4, inputs, ("logits", "share"), target=capability, options=options)
)
print(trt.__version__)
