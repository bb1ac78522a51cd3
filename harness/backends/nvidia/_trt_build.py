"""TensorRT's build side: from ONNX to a plan for this GPU and this TensorRT.

Options of a BuildSpec that this backend reads; others are only recorded:

* `onnx_fp16`: path of the same model with FP16 weights and arithmetic and FP32 inputs and outputs. TensorRT 11 has no
  FP16 flag, its networks are strongly typed: fp16 then builds this file, and is refused without it.
* `onnx_int8`: path of the same model with explicit Q/DQ nodes. It is built instead of calibrating, where it is given;
  TensorRT 11 has no calibrator, so int8 is refused without it.
* `timing_cache`: path of a timing cache, read before and written after a build; one made by another TensorRT or for
  another GPU is replaced.
* `in_fp32`: ONNX nodes whose layers are computed in FP32. For TensorRT 11 the converted model has them so already.
* `workspace_mb`: most memory in MiB that a layer may use; TensorRT's default is all of it.
* `device`: CUDA index of the GPU to build for, default 0.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Collection

import numpy as np

from harness.backends._calibration import calibration_batches, calibration_samples
from harness.backends._calls import Calls
from harness.backends.base import shape_at
from harness.backends.nvidia._trt_sdk import logger, sdk, with_gpu
from harness.errors import BuildError

if TYPE_CHECKING:
    from harness.backends.base import BuildSpec
    from harness.backends.nvidia._cuda import Cuda


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Compile `onnx`, or the file of option `onnx_fp16` or `onnx_int8`, to the plan `engine`. Raises BuildError with
    TensorRT's messages, DeviceError without TensorRT or cuda-python."""
    trt = sdk()
    cuda = with_gpu(BuildError)
    cuda.call("cudaSetDevice", int(spec.options.get("device", 0)))
    source = _source(trt, onnx, spec)
    log = logger(trt)
    calls = Calls(BuildError, "for TensorRT's full log run trtexec --verbose on the ONNX file", log.words)
    with ExitStack() as stack:
        plan = _plan(trt, cuda, stack, calls, log, source, spec)
    engine.write_bytes(plan)


def _source(trt: Any, onnx: Path, spec: BuildSpec) -> Path:
    """The file to parse: the plain model where the builder rounds, else the one made for the precision."""
    if spec.normalize is not None:
        raise BuildError("TensorRT engines cannot normalise raw pixels", hint="build with normalize=None")
    rounds = hasattr(trt.BuilderFlag, "FP16")
    wanted = {"fp32": None, "fp16": "onnx_fp16", "int8": "onnx_int8"}[spec.precision]
    if wanted is None or (rounds and wanted not in spec.options):
        return onnx
    if wanted not in spec.options:
        raise BuildError(
            f"TensorRT {trt.__version__} builds strongly typed networks and has no {spec.precision} flag",
            hint=f"give the converted model as options[{wanted!r}], or use TensorRT 10 or older",
        )
    return onnx if rounds and spec.precision == "fp16" else Path(spec.options[wanted])


def _plan(trt: Any, cuda: Cuda, stack: ExitStack, calls: Calls, log: Any, source: Path, spec: BuildSpec) -> bytes:
    builder = calls.make("trt.Builder", trt.Builder, log)
    flags = 0
    if int(trt.__version__.split(".")[0]) < 10:
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = calls.make("trt.Builder.create_network", builder.create_network, flags)
    parser = calls.make("trt.OnnxParser", trt.OnnxParser, network, log)
    parsed = calls.do("trt.OnnxParser.parse_from_file", parser.parse_from_file, str(source))
    errors = "\n".join(str(parser.get_error(i)) for i in range(parser.num_errors))
    if not parsed or errors:
        raise calls.failure("trt.OnnxParser.parse_from_file", f"{source.name} was refused", errors or log.words())
    shapes = _network_inputs(trt, network, spec)
    config = calls.make("trt.Builder.create_builder_config", builder.create_builder_config)
    calibrator = _set_precision(trt, cuda, stack, calls, config, spec)
    if hasattr(trt.BuilderFlag, "FP16"):
        _keep_in_fp32(trt, calls, network, config, spec.options.get("in_fp32", ()))
    if spec.tune:
        config.builder_optimization_level = 5  # the highest: more tactics are timed; the default is 3
    if "workspace_mb" in spec.options:
        pool, size = trt.MemoryPoolType.WORKSPACE, int(spec.options["workspace_mb"]) << 20
        calls.do("trt.IBuilderConfig.set_memory_pool_limit", config.set_memory_pool_limit, pool, size)
    if any(-1 in shape for shape in shapes.values()):
        tiers = spec.tiers or (spec.batch,)
        profile = _profile(calls, builder, shapes, min(tiers), max(tiers))
        index = calls.do("trt.IBuilderConfig.add_optimization_profile", config.add_optimization_profile, profile)
        if index < 0:
            raise calls.failure("trt.IBuilderConfig.add_optimization_profile", f"returned {index}", log.words())
        if calibrator is not None:
            profile = _profile(calls, builder, shapes, spec.batch, spec.batch)
            calls.true("trt.IBuilderConfig.set_calibration_profile", config.set_calibration_profile, profile)
    cache = spec.options.get("timing_cache")
    if cache is not None:
        _read_timing_cache(calls, config, Path(cache))
    try:
        plan = calls.make("trt.Builder.build_serialized_network", builder.build_serialized_network, network, config)
    except BuildError:
        if calibrator is None or calibrator.failed is None:
            raise
    if calibrator is not None and calibrator.failed is not None:  # the builder went on with the batches before
        raise calibrator.failed
    if cache is not None:
        _write_timing_cache(calls, config, Path(cache))
    return bytes(plan)


def _network_inputs(trt: Any, network: Any, spec: BuildSpec) -> dict[str, tuple[int, ...]]:
    """Inputs of the parsed network by name, checked against the model's: the parser makes float32 of float64."""
    inputs, kinds = {}, {}
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        inputs[tensor.name], kinds[tensor.name] = tuple(tensor.shape), tensor.dtype
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    if set(inputs) != {tensor.name for tensor in spec.inputs} or not set(spec.outputs) <= set(outputs):
        raise BuildError(
            f"the network has inputs {sorted(inputs)} and outputs {outputs}, the model "
            f"{[tensor.name for tensor in spec.inputs]} and {list(spec.outputs)}",
            hint="export the model again",
        )
    for tensor in spec.inputs:
        taken = np.dtype(trt.nptype(kinds[tensor.name])).name
        if taken != tensor.dtype:
            raise BuildError(
                f"input {tensor.name} of the model is {tensor.dtype}, TensorRT makes {taken} of it",
                hint=f"export the model with {taken} inputs",
            )
        wanted = shape_at(tensor, spec.batch)
        sizes = zip(inputs[tensor.name], (-1, *wanted[1:]))
        if len(inputs[tensor.name]) != len(tensor.shape) or any(a != b for a, b in sizes if -1 not in (a, b)):
            raise BuildError(f"{tensor.name} of the network is {inputs[tensor.name]}", hint=f"expected {tensor.shape}")
        if inputs[tensor.name][:1] not in ((-1,), wanted[:1]):
            raise BuildError(
                f"the graph is fixed at batch {inputs[tensor.name][0]}, the case has {wanted[0]}",
                hint="export it with a dynamic batch",
            )
    return inputs


def _profile(calls: Calls, builder: Any, shapes: dict[str, tuple[int, ...]], low: int, high: int) -> Any:
    """An optimisation profile for batches from `low` to `high`, tuned for `high`. One batch alone is not a range: its
    engine is tuned for it and for nothing else."""
    profile = calls.make("trt.Builder.create_optimization_profile", builder.create_optimization_profile)
    for name, shape in shapes.items():
        least, most = ((size, *shape[1:]) if shape[:1] == (-1,) else shape for size in (low, high))
        calls.do("trt.IOptimizationProfile.set_shape", profile.set_shape, name, least, most, most)
    return profile


def _set_precision(trt: Any, cuda: Cuda, stack: ExitStack, calls: Calls, config: Any, spec: BuildSpec) -> Any:
    """Set the precision flags; returns the calibrator, or None. With int8, layers without an 8-bit kernel may run in
    FP16, as in the mixed modes of the other vendors."""
    kinds = trt.BuilderFlag
    if spec.precision == "fp32":
        # TF32 is on by default since Ampere; with its 10 bits of mantissa it is not FP32
        calls.do("trt.IBuilderConfig.clear_flag", config.clear_flag, kinds.TF32)
        return None
    if not hasattr(kinds, "FP16"):
        return None
    calls.do("trt.IBuilderConfig.set_flag", config.set_flag, kinds.FP16)
    if spec.precision == "fp16":
        return None
    calls.do("trt.IBuilderConfig.set_flag", config.set_flag, kinds.INT8)
    if "onnx_int8" in spec.options:
        return None
    calibrator = _calibrator(trt, cuda, stack, spec)
    config.int8_calibrator = calibrator
    return calibrator


def _keep_in_fp32(trt: Any, calls: Calls, network: Any, config: Any, names: Collection[str]) -> None:
    """Force the layers of these ONNX nodes, and what they hand on, to FP32. The parser names a layer after its node.
    Raises BuildError where a node has no layer of its own.

    Source: NVIDIA's TensorRT developer guide, layer-level control of precision."""
    if not names:
        return
    calls.do("trt.IBuilderConfig.set_flag", config.set_flag, trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    missing = set(names)
    for index in range(network.num_layers):
        layer = calls.make("trt.INetworkDefinition.get_layer", network.get_layer, index)
        if layer.name not in names:
            continue
        missing.discard(layer.name)
        layer.precision = trt.float32
        for place in range(layer.num_outputs):
            if layer.get_output(place).dtype in (trt.float32, trt.float16):
                calls.do("trt.ILayer.set_output_type", layer.set_output_type, place, trt.float32)
    if missing:
        raise BuildError(
            f"TensorRT's parser made no layer called {', '.join(sorted(missing))}",
            hint="leave these nodes out of in_fp32; trtexec --verbose lists the layers",
        )


def _calibrator(trt: Any, cuda: Cuda, stack: ExitStack, spec: BuildSpec) -> Any:
    """The INT8 calibrator. It keeps no calibration cache: TensorRT would accept another model's cache without an
    error, and the engine itself is stored."""
    samples = calibration_samples(spec)
    stream = cuda.stream(stack)
    batches = calibration_batches(samples, spec, spec.batch)
    one = next(calibration_batches(samples, spec, spec.batch))
    places = {name: cuda.memory(stack, array.nbytes) for name, array in one.items()}
    rows = next((len(array) for array in one.values() if array.ndim), 1)

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.failed: Exception | None = None  # TensorRT prints exceptions and takes them for the last batch

        def get_batch_size(self) -> int:
            return rows

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                fed = next(batches, None)
                if fed is None:
                    return None
                for name, array in fed.items():
                    cuda.to_device(places[name], array, stream)
                cuda.call("cudaStreamSynchronize", stream)
                return [places[name] for name in names]
            except Exception as error:
                self.failed = error
                return None

        def read_calibration_cache(self) -> None:
            return None

        def write_calibration_cache(self, cache: Any) -> None:
            return None

    return Calibrator()


def _read_timing_cache(calls: Calls, config: Any, path: Path) -> None:
    known = path.read_bytes() if path.is_file() else b""
    call = "trt.IBuilderConfig.set_timing_cache"
    for data in (known, b"") if known else (b"",):
        cache = calls.do("trt.IBuilderConfig.create_timing_cache", config.create_timing_cache, data)
        if cache is not None and calls.do(call, config.set_timing_cache, cache, False):
            return
    raise calls.failure(call, "refused an empty cache", calls.words() if calls.words else "")


def _write_timing_cache(calls: Calls, config: Any, path: Path) -> None:
    cache = calls.make("trt.IBuilderConfig.get_timing_cache", config.get_timing_cache)
    data = bytes(calls.make("trt.ITimingCache.serialize", cache.serialize))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(data)
    part.replace(path)
