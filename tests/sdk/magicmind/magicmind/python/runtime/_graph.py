"""The build side: network, configuration, calibration, builder."""

from __future__ import annotations

import json

import numpy as np

from magicmind.python.common.types import DataType, get_datatype_by_numpy
from magicmind.python.runtime import _base as base
from magicmind.python.runtime._base import Code, compiled, injected, refused, shout, status
from magicmind.python.runtime.model import Model


class Dims:
    def __init__(self, values):
        self._values = [int(value) for value in values]

    def GetDims(self):
        return list(self._values)

    def GetDimValue(self, i):
        return self._values[i]

    def __str__(self):
        return str(self._values)


class NetworkTensor:
    def __init__(self, name, dtype, shape):
        self.name = name
        self.dtype = get_datatype_by_numpy(dtype)
        self.fixed = list(shape)  # what the graph itself bakes in
        self.shape = list(shape)

    def set_dimension(self, dims):
        failed = injected("mm.ITensor.set_dimension")
        if failed:
            return failed
        values = dims.GetDims()
        if len(values) != len(self.fixed) or any(own not in (-1, new) for own, new in zip(self.fixed, values)):
            text = f"{self.name} of the graph is {self.fixed}, not {values}"
            return status("mm.ITensor.set_dimension", Code.INVALID_ARGUMENT, text)
        self.shape = values
        return status("mm.ITensor.set_dimension")

    def get_dimension(self):
        return Dims(self.shape)

    def set_data_type(self, dtype):
        self.dtype = dtype
        return status("mm.ITensor.set_data_type")


class Network:
    def __init__(self):
        if refused("mm.Network"):
            raise RuntimeError("mm.Network: out of host memory")
        self.model = None  # a ModelProto once parsed
        self.traced = None  # a TorchScript module once parsed
        self.inputs = []
        self.outputs = []
        self.calibration = None

    def get_input_count(self):
        return len(self.inputs)

    def get_output_count(self):
        return len(self.outputs)

    def get_input(self, i):
        return self.inputs[i]

    def get_output(self, i):
        return self.outputs[i]


class BuilderConfig:
    KEYS = frozenset(
        [
            "archs",
            "precision_config",
            "graph_shape_mutable",
            "dim_range",
            "convert_input_layout",
            "convert_output_layout",
            "insert_bn_before_firstnode",
            "opt_config",
            "computation_preference",
            "compute_determinism",
            "debug_config",
            "cross_compile_toolchain_path",
            "custom_ranges",
        ]
    )

    def __init__(self):
        if refused("mm.BuilderConfig"):
            raise RuntimeError("mm.BuilderConfig: out of host memory")
        self.values = {}

    def parse_from_string(self, text):
        call = "mm.BuilderConfig.parse_from_string"
        failed = injected(call)
        if failed:
            return failed
        try:
            values = json.loads(text)
        except ValueError as error:
            return status(call, Code.INVALID_ARGUMENT, f"not JSON: {error}")
        unknown = sorted(set(values) - self.KEYS)
        if unknown:
            return status(call, Code.INVALID_ARGUMENT, f"unknown key {unknown[0]}")
        self.values.update(values)
        return status(call)


PRECISIONS = {"force_float32": "fp32", "force_float16": "fp16", "qint8_mixed_float16": "int8"}


class CalibDataInterface:
    def __init__(self):
        self._constructed = True


class QuantizationAlgorithm:
    LINEAR_ALGORITHM = 0
    EQNM_ALGORITHM = 1


class RemoteConfig:
    address = ""


class Calibrator(base.Alive):
    def __init__(self, data):
        if refused("mm.Calibrator"):
            raise RuntimeError("mm.Calibrator: internal error")
        base.Alive.__init__(self)
        for item in data:
            if not getattr(item, "_constructed", False):
                raise TypeError("CalibDataInterface.__init__() must be called when overriding __init__")
        self._data = data

    def set_quantization_algorithm(self, algorithm):
        return injected("mm.Calibrator.set_quantization_algorithm") or status(
            "mm.Calibrator.set_quantization_algorithm"
        )

    def calibrate(self, network, config):
        call = "mm.Calibrator.calibrate"
        failed = injected(call)
        if failed:
            return failed
        if not base.driver.open or base.driver.active is None:
            base.violation("calibrate without an active device")
            return status(call, Code.FAILED_PRECONDITION, "no active device")
        if len(self._data) != len(network.inputs):
            return status(call, Code.INVALID_ARGUMENT, "one CalibDataInterface an input")
        data, tensor = self._data[0], network.inputs[0]
        if not data.reset().ok():
            return status(call, Code.INTERNAL, "reset failed")
        shape = data.get_shape().GetDims()
        if any(own not in (-1, fed) for own, fed in zip(tensor.shape, shape)) or len(shape) != len(tensor.shape):
            text = f"calibration data {shape} for input {tensor.shape}"
            return status(call, Code.INVALID_ARGUMENT, text)
        batches = []
        while True:
            answer = data.next()
            if not answer.ok():
                if answer._code != Code.OUT_OF_RANGE:
                    return status(call, Code.INTERNAL, f"next: {answer}")
                break
            sample = data.get_sample()
            if list(sample.shape) != shape or data.get_data_type() != get_datatype_by_numpy(sample.dtype):
                return status(call, Code.INVALID_ARGUMENT, f"a sample is {sample.dtype} {sample.shape}")
            if not sample.flags.c_contiguous:
                base.violation("a calibration sample is not contiguous: its bytes would be read in the wrong order")
            batches.append(np.array(sample))
        if not batches:
            return status(call, Code.INVALID_ARGUMENT, "no calibration data")
        network.calibration = batches
        return status(call)


class Builder:
    def __init__(self):
        if refused("mm.Builder"):
            raise RuntimeError("mm.Builder: out of host memory")

    def build_model(self, name, network, config=None):
        call = "mm.Builder.build_model"
        if refused(call):
            return None
        values = config.values if config is not None else {}
        try:
            return self._build(name, network, values)
        except ValueError as error:
            return shout(call, str(error), Code.INVALID_ARGUMENT)

    @staticmethod
    def _build(name, network, values):
        model = network.model if network.traced is None else _exported(network)
        if model is None:
            raise ValueError("the network is empty")
        mutable = values.get("graph_shape_mutable", True)
        if not mutable and any(-1 in tensor.shape for tensor in network.inputs):
            raise ValueError("graph_shape_mutable is false and an input has no fixed shape")
        if compiled.has_int64(model) and not values.get("opt_config", {}).get("type64to32_conversion"):
            raise ValueError("data type INT64 is not supported; type64to32_conversion is off")
        mode = values.get("precision_config", {}).get("precision_mode", "force_float32")
        if mode not in PRECISIONS:
            raise ValueError(f"unknown precision_mode {mode!r}")
        precision = PRECISIONS[mode]
        if precision == "int8" and network.calibration is None and "custom_ranges" not in values:
            raise ValueError("the network has no quantisation ranges: calibrate it first")
        archs = values.get("archs") or ["mtp_372"]
        clusters = []
        for arch in archs:
            named = arch if isinstance(arch, dict) else {arch: [2, 6, 8]}
            if list(named) != ["mtp_372"]:
                raise ValueError(f"arch {sorted(named)} is not built for here")
            clusters += named["mtp_372"]
        names = [tensor.name for tensor in network.inputs]
        per_axis = values.get("precision_config", {}).get("weight_quant_granularity", "per_tensor") == "per_axis"
        model = compiled.rounded(model, precision, network.calibration, per_axis)
        converted = {int(i): rule for i, rule in values.get("convert_input_layout", {}).items()}
        norms = {int(i): rule for i, rule in values.get("insert_bn_before_firstnode", {}).items()}
        for i in sorted(set(converted) | set(norms)):
            rule = converted.get(i)
            if rule is not None and rule != {"src": "NCHW", "dst": "NHWC"}:
                raise ValueError(f"convert_input_layout {rule} is not possible")
            norm = norms.get(i)
            if norm is not None and not len(norm["mean"]) == len(norm["var"]) == network.inputs[i].shape[1]:
                raise ValueError("insert_bn_before_firstnode: mean and var are not of the channels")
            model = compiled.with_front(
                model, names[i], norm and norm["mean"], norm and norm["var"], nhwc=rule is not None
            )
            tensor = network.inputs[i]
            if rule is not None:
                n, c, h, w = tensor.shape
                tensor.shape = [n, h, w, c]
            if norm is not None:
                tensor.dtype = DataType.UINT8
        model = compiled.narrow_outputs(model)
        ranges = {int(i): (rule["min"][0], rule["max"][0]) for i, rule in values.get("dim_range", {}).items()}
        if ranges and not mutable:
            raise ValueError("dim_range needs graph_shape_mutable")
        fixed = network.inputs[0].shape[0]
        outputs = compiled.described(model, "outputs")
        header = {
            "name": name,
            "clusters": clusters,
            "precision": precision,
            "batch": fixed,
            "range": list(ranges.get(0, (1, 1 << 20))) if fixed == -1 else [fixed, fixed],
            "inputs": [[tensor.name, tensor.dtype.name, tensor.shape] for tensor in network.inputs],
            "outputs": [[key, get_datatype_by_numpy(dtype).name, [fixed, *shape[1:]]] for key, dtype, shape in outputs],
        }
        return Model(header, model.SerializeToString())


def _exported(network):
    """ONNX of a traced PyTorch file, now that shapes are known."""
    import io

    import onnx
    import torch

    shapes = [[max(dim, 1) for dim in tensor.shape] for tensor in network.inputs]
    file = io.BytesIO()
    names = [tensor.name for tensor in network.inputs]
    torch.onnx.export(
        network.traced,
        tuple(torch.zeros(shape) for shape in shapes),
        file,
        opset_version=11,
        dynamo=False,
        input_names=names,
        dynamic_axes={name: {0: "batch"} for name in names},
    )
    return onnx.load_from_string(file.getvalue())
