"""MagicMind's build side: parse, configure, calibrate, build, serialise.

Options of a BuildSpec that this backend reads: `config` (a mapping merged over the builder configuration, in
MagicMind's own keys), `clusters` (cluster counts to compile for, default 2, 6, 8), `quantization_algorithm`
("linear" or "eqnm"), `device` (runtime index of the card that calibrates), `in_fp32` (names of ONNX nodes that are
computed in FP32). Others are recorded, not read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Collection

from harness.backends._calibration import Samples, calibration_batches, calibration_samples
from harness.backends._calls import Calls, let_go
from harness.backends.base import shape_at
from harness.backends.cambricon._sdk import sdk, system
from harness.errors import BuildError

if TYPE_CHECKING:
    from harness.backends.base import BuildSpec, TensorSpec

PRECISION_MODES = {"fp32": "force_float32", "fp16": "force_float16", "int8": "qint8_mixed_float16"}

CLUSTERS = (2, 6, 8)
"""Cluster counts compiled in for mtp_372; the runtime chooses the nearest that the card has. An engine whose counts
all exceed the card's does not run."""


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Compile ONNX, or a TorchScript file (`.pt`), to `engine`. int8 calibrates on a card; fp32 and fp16 need none.
    Raises BuildError, and DeviceError without MagicMind."""
    mm = sdk()
    calls = Calls(BuildError, "read the error of MagicMind in this message; the builder configuration is in the record")
    samples = calibration_samples(spec) if spec.precision == "int8" else None
    network = calls.make("mm.Network", mm.Network)
    _parse(mm, calls, network, onnx, spec)
    _keep_in_fp32(mm, calls, network, spec.options.get("in_fp32", ()))
    config = calls.make("mm.BuilderConfig", mm.BuilderConfig)
    words = json.dumps(builder_config(spec), sort_keys=True)
    calls.ok("mm.BuilderConfig.parse_from_string", config.parse_from_string, words)
    if samples is not None:
        _calibrate(mm, calls, network, config, samples, spec)
    builder = calls.make("mm.Builder", mm.Builder)
    model = calls.make("mm.Builder.build_model", builder.build_model, engine.stem, network, config)
    count = calls.make("mm.Model.get_output_num", model.get_output_num)
    if count != len(spec.outputs):
        raise BuildError(
            f"the engine has {count} outputs, the model {len(spec.outputs)}",
            hint=f"export again: MagicMind merged or dropped outputs of {onnx.name}",
        )
    try:
        calls.ok("mm.Model.serialize_to_file", model.serialize_to_file, str(engine))
        if not engine.is_file():
            raise BuildError(f"serialize_to_file wrote no {engine}", hint="is the disk full?")
    except BuildError:
        if engine.is_file():
            engine.unlink()
        raise


def builder_config(spec: BuildSpec) -> dict[str, Any]:
    """The builder's configuration, in MagicMind's keys. Shapes are in the network's layout, before any conversion;
    `var` is the square of the standard deviation. Raises BuildError."""
    arch = spec.target or "mtp_372"
    config: dict[str, Any] = {
        "archs": [{arch: list(spec.options.get("clusters", CLUSTERS))}],
        "precision_config": {"precision_mode": PRECISION_MODES[spec.precision]},
        "graph_shape_mutable": bool(spec.tiers),
        "opt_config": {"type64to32_conversion": True, "conv_scale_fold": True},
    }
    if spec.precision == "int8":
        config["precision_config"]["weight_quant_granularity"] = "per_axis"  # as the published engines were built
    if spec.tiers:
        config["dim_range"] = {
            str(index): {
                "min": [min(spec.tiers), *tensor.shape[1:]],
                "max": [max(spec.tiers), *tensor.shape[1:]],
            }
            for index, tensor in enumerate(spec.inputs)
        }
    if spec.normalize is not None:
        images = [str(i) for i, tensor in enumerate(spec.inputs) if len(tensor.shape) == 4]
        if len(images) != 1:
            raise BuildError(
                f"normalisation inside the engine needs one image input, found {len(images)}",
                hint="build with normalize=None and feed normalised tensors",
            )
        config["insert_bn_before_firstnode"] = {
            images[0]: {"mean": list(spec.normalize.mean), "var": [std * std for std in spec.normalize.std]}
        }
        config["convert_input_layout"] = {images[0]: {"src": "NCHW", "dst": "NHWC"}}
    return _merged(config, spec.options.get("config", {}))


def _parse(mm: Any, calls: Calls, network: Any, path: Path, spec: BuildSpec) -> None:
    from magicmind.python.runtime.parser import Parser

    for tensor in spec.inputs:
        if not hasattr(mm.DataType, tensor.dtype.upper()):
            known = "float32" if tensor.dtype.startswith("float") else "int32"
            raise BuildError(
                f"input {tensor.name} of the model is {tensor.dtype}, a type that MagicMind does not have",
                hint=f"export the model with {known} inputs",
            )
    traced = path.suffix == ".pt"
    parser = calls.make("mm.Parser", Parser, mm.ModelKind.kPytorch if traced else mm.ModelKind.kOnnx)
    if traced:
        kinds = [getattr(mm.DataType, tensor.dtype.upper()) for tensor in spec.inputs]
        calls.ok("mm.Parser.set_model_param", parser.set_model_param, "pytorch-input-dtypes", kinds)
    calls.ok("mm.Parser.parse", parser.parse, network, str(path))
    count = network.get_input_count()
    if count != len(spec.inputs):
        raise BuildError(f"{path.name} has {count} inputs, expected {len(spec.inputs)}", hint="export the model again")
    for i, tensor in enumerate(spec.inputs):
        shape = list(shape_at(tensor, -1 if spec.tiers else spec.batch))
        dims = calls.make("mm.Dims", mm.Dims, shape)
        calls.ok("mm.ITensor.set_dimension", network.get_input(i).set_dimension, dims)


def _keep_in_fp32(mm: Any, calls: Calls, network: Any, names: Collection[str]) -> None:
    """Force what these ONNX nodes take and make to FLOAT32. Raises BuildError where the network has no node so called.

    Source: gen_model.py of the vendor's mmdetection sample (magicmind_cloud), which does so for nodes by their names.
    """
    if not names:
        return
    wide, floats, missing = mm.DataType.FLOAT32, (mm.DataType.FLOAT16, mm.DataType.FLOAT32), set(names)
    for node in calls.make("mm.Network.get_all_nodes_in_network", network.get_all_nodes_in_network):
        name = node.get_node_name()
        if name not in names:
            continue
        missing.discard(name)
        for place in range(node.get_input_count()):
            if node.get_input(place).get_data_type() in floats:
                calls.ok("mm.INode.set_precision", node.set_precision, place, wide)
        for place in range(node.get_output_count()):
            if node.get_output(place).get_data_type() in floats:
                calls.ok("mm.INode.set_output_type", node.set_output_type, place, wide)
    if missing:
        raise BuildError(
            f"MagicMind's network has no node called {', '.join(sorted(missing))}", hint="leave these out of in_fp32"
        )


def _calibrate(mm: Any, calls: Calls, network: Any, config: Any, samples: Samples, spec: BuildSpec) -> None:
    """Calibrate on a card with batches in the order of the file; the last is padded from the start of the file. Raises
    BuildError."""
    batch = 1 if spec.tiers else spec.batch
    name = spec.options.get("quantization_algorithm", "linear")
    algorithm = getattr(mm.QuantizationAlgorithm, name.upper() + "_ALGORITHM", None)
    if algorithm is None:
        raise BuildError(f"{name!r} is not a quantisation algorithm", hint="linear or eqnm")
    with system(mm, calls):
        device = calls.make("mm.Device", mm.Device)
        device.id = int(spec.options.get("device", 0))
        data = [_fixed_data(mm, samples, spec, tensor, batch) for tensor in spec.inputs]
        calibrator = None
        try:
            calls.ok("mm.Device.active", device.active)
            calibrator = calls.make("mm.Calibrator", mm.Calibrator, data)
            calls.ok("mm.Calibrator.set_quantization_algorithm", calibrator.set_quantization_algorithm, algorithm)
            calls.ok("mm.Calibrator.calibrate", calibrator.calibrate, network, config)
            failed = next((each.failed for each in data if each.failed is not None), None)
            if failed is not None:
                raise failed.with_traceback(None)  # whose frames hold what must go before the System
        except BaseException as error:
            let_go(error)
            raise
        finally:
            del calibrator  # before its data, and all before the System closes
            del data, device


def _fixed_data(mm: Any, samples: Samples, spec: BuildSpec, tensor: TensorSpec, batch: int) -> Any:
    """The calibrator's data of one input: the network's inputs take theirs in turn."""

    class FixedCalibData(mm.CalibDataInterface):  # type: ignore[misc]
        """Samples in the network's layout, images normalised, because the normalisation is inserted only at build."""

        def __init__(self) -> None:
            super().__init__()
            self._batches = calibration_batches(samples, spec, batch)
            self._sample: Any = None
            self.failed: Exception | None = None  # in case MagicMind takes an exception for the end of the data

        def get_shape(self) -> Any:
            return mm.Dims(list(shape_at(tensor, batch)))

        def get_data_type(self) -> Any:
            return getattr(mm.DataType, tensor.dtype.upper())

        def get_sample(self) -> Any:
            return self._sample

        def next(self) -> Any:
            try:
                fed = next(self._batches, None)
                if fed is not None:
                    self._sample = fed[tensor.name]
            except Exception as error:
                self.failed = error
                raise
            return mm.Status.OK() if fed is not None else mm.Status(mm.Code.OUT_OF_RANGE, "all samples were fed")

        def reset(self) -> Any:
            self._batches = calibration_batches(samples, spec, batch)
            return mm.Status.OK()

    return FixedCalibData()


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
