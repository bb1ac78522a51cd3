"""The build side: parser, builder, configuration, profiles, calibration, timing cache."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from simulated_gpu import (
    calls,
    capability,
    compiled,
    driver,
    gpu,
    house,
    name,
    simulate,
    trt_version,
    violation,
    visible,
)

from tensorrt._kinds import (
    LAYERS,
    DataType,
    LayerType,
    MemoryPoolType,
    Scoped,
    Severity,
    kind_of,
    loggable,
    major,
    network_flags,
    removed_in,
)

MAGIC = b"TENSORRT-PLAN-SIMULATED-1"


def refused(call, log):
    code = calls.enter(call)
    if code is None:
        return False
    log.log(Severity.ERROR, f"{call}: Error Code {code}: injected failure")
    return True


class HostMemory(Scoped, bytes):
    """IHostMemory: the buffer of a plan or a timing cache."""

    @property
    def nbytes(self):
        return len(self)


class NetworkTensor:
    def __init__(self, key, dtype, shape):
        self.name = key
        self.dtype = kind_of(dtype)
        self.shape = tuple(shape)


class Layer:
    """A layer of a parsed network: an ONNX node. `precision` HALF keeps it out of INT8."""

    def __init__(self, node):
        self.name = node.name or node.output[0]
        self.type = LayerType[LAYERS.get(node.op_type, "OTHER")]
        self.makes = node.output[0]
        self.num_inputs, self.num_outputs = len(node.input), len(node.output)
        self.precision = DataType.FLOAT


class Network(Scoped):
    """INetworkDefinition, as a parser fills it; layers that a program adds one by one are not simulated."""

    def __init__(self, flags):
        self.flags = flags
        self.model = None
        self.layers = None
        self.inputs = []
        self.outputs = []

    @property
    def num_layers(self):
        return len(self._layers())

    def get_layer(self, i):
        return self._layers()[i]

    def _layers(self):
        if self.layers is None and self.model is not None:
            self.layers = [Layer(node) for node in self.model.graph.node]
        return self.layers or []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_input(self, i):
        return self.inputs[i]

    def get_output(self, i):
        return self.outputs[i]


class ParserError:
    def __init__(self, code, text):
        self._code = code
        self._text = text

    def __str__(self):
        return f"In node -1 with name: and operator: (importModel): {self._code}: {self._text}"


class OnnxParser(Scoped):
    def __init__(self, network, logger):
        self._log = loggable(logger)
        if refused("trt.OnnxParser", self._log):
            raise RuntimeError("trt.OnnxParser: out of memory")
        self._network = network
        self._errors = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, i):
        return self._errors[i]

    def clear_errors(self):
        self._errors = []

    def parse_from_file(self, path):
        if refused("trt.OnnxParser.parse_from_file", self._log):
            return False
        if not Path(path).is_file():
            return self._fail("MODEL_DESERIALIZE_FAILED", f"could not open file {path}")
        return self._take(Path(path).read_bytes(), str(path))

    def parse(self, model, path=None):
        """The bytes of an ONNX file; `path` is where its external weights lie."""
        if refused("trt.OnnxParser.parse", self._log):
            return False
        return self._take(bytes(model), path)

    def _take(self, data, path):
        import onnx

        network = self._network
        if major() < 10 and not network.flags & 1:
            return self._fail("UNSUPPORTED_GRAPH", "only explicit batch is supported: set EXPLICIT_BATCH")
        try:
            model = onnx.load_from_string(data)
            if path is not None:
                onnx.load_external_data_for_model(model, str(Path(path).parent))
        except Exception as error:
            return self._fail("MODEL_DESERIALIZE_FAILED", f"failed to parse {path}: {type(error).__name__}")
        if not model.graph.node:
            return self._fail("INVALID_GRAPH", "the graph is empty")
        network.model = model
        network.inputs = [NetworkTensor(*row) for row in compiled.described(model, "inputs")]
        network.outputs = [NetworkTensor(*row) for row in compiled.described(model, "outputs")]
        return True

    def _fail(self, code, text):
        self._errors.append(ParserError(code, text))
        return False


class Profile:
    def __init__(self):
        self.ranges = {}

    def set_shape(self, key, low, best, high):
        if calls.enter("trt.IOptimizationProfile.set_shape") is not None:
            raise RuntimeError("trt.IOptimizationProfile.set_shape: injected failure 700")
        low, best, high = tuple(low), tuple(best), tuple(high)
        if not len(low) == len(best) == len(high) or any(not a <= b <= c for a, b, c in zip(low, best, high)):
            raise RuntimeError("set_shape: dimensions are not min <= opt <= max")
        self.ranges[key] = [list(low), list(best), list(high)]


class TimingCache:
    def __init__(self, data):
        self.data = data

    def serialize(self):
        if calls.enter("trt.ITimingCache.serialize") is not None:
            raise RuntimeError("trt.ITimingCache.serialize: injected failure 700")
        return HostMemory(self.data)


def _cache_header():
    return f"TIMING {trt_version()} {name()}\n".encode()


class BuilderConfig(Scoped):
    """IBuilderConfig. Attributes that a release does not have raise, as those of bound classes do."""

    __slots__ = (
        "_calibration_profile",
        "_flags",
        "_int8_calibrator",
        "_limits",
        "_log",
        "_profiles",
        "_timing",
        "builder_optimization_level",
        "hardware_compatibility_level",
        "profiling_verbosity",
        "progress_monitor",
        "used_flags",
    )

    def __init__(self, log):
        self._log = log
        self._limits = {}
        self.builder_optimization_level = 3
        self.profiling_verbosity = self.hardware_compatibility_level = 0
        self.progress_monitor = None
        self._flags = {7}  # TF32 is on unless cleared
        self._profiles = []
        self._calibration_profile = None
        self._int8_calibrator = None
        self._timing = None

    def set_flag(self, flag):
        self._enter("trt.IBuilderConfig.set_flag")
        self._flags.add(int(flag))

    def clear_flag(self, flag):
        self._enter("trt.IBuilderConfig.clear_flag")
        self._flags.discard(int(flag))

    def get_flag(self, flag):
        return int(flag) in self._flags

    @property
    def flags(self):
        return sum(1 << flag for flag in self._flags)

    @flags.setter
    def flags(self, mask):
        self._flags = {bit for bit in range(64) if int(mask) >> bit & 1}

    def set_memory_pool_limit(self, pool, size):
        self._enter("trt.IBuilderConfig.set_memory_pool_limit")
        self._limits[pool] = int(size)

    def get_memory_pool_limit(self, pool):
        return self._limits.get(pool, 0)

    @property
    def max_workspace_size(self):
        """Until 8.6 (pyCore.cpp of that tag); since then set_memory_pool_limit alone."""
        removed_in(10)
        return self.get_memory_pool_limit(MemoryPoolType.WORKSPACE)

    @max_workspace_size.setter
    def max_workspace_size(self, size):
        removed_in(10)
        self._limits[MemoryPoolType.WORKSPACE] = int(size)

    @staticmethod
    def _enter(call):
        code = calls.enter(call)
        if code is not None:
            raise RuntimeError(f"{call}: injected failure {code}")

    def add_optimization_profile(self, profile):
        if refused("trt.IBuilderConfig.add_optimization_profile", self._log):
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def _calibrates(self):
        if major() >= 11:
            raise AttributeError("'IBuilderConfig' object has no calibration")

    @property
    def num_optimization_profiles(self):
        return len(self._profiles)

    def set_calibration_profile(self, profile):
        self._calibrates()
        if refused("trt.IBuilderConfig.set_calibration_profile", self._log):
            return False
        self._calibration_profile = profile
        return True

    @property
    def int8_calibrator(self):
        self._calibrates()
        return self._int8_calibrator

    @int8_calibrator.setter
    def int8_calibrator(self, calibrator):
        self._calibrates()
        if not getattr(calibrator, "_constructed", False):
            raise TypeError("IInt8EntropyCalibrator2.__init__() must be called when overriding __init__")
        self._int8_calibrator = calibrator

    def create_timing_cache(self, data):
        if refused("trt.IBuilderConfig.create_timing_cache", self._log):
            raise RuntimeError("trt.IBuilderConfig.create_timing_cache: injected failure 700")
        if data and not bytes(data).startswith(b"TIMING "):
            self._log.log(Severity.ERROR, "the timing cache is damaged")
            return None
        return TimingCache(bytes(data))

    def set_timing_cache(self, cache, ignore_mismatch):
        if refused("trt.IBuilderConfig.set_timing_cache", self._log):
            return False
        if cache.data and not cache.data.startswith(_cache_header()) and not ignore_mismatch:
            self._log.log(Severity.WARNING, "the timing cache was made by another TensorRT or for another GPU")
            return False
        self._timing = cache
        return True

    def get_timing_cache(self):
        if refused("trt.IBuilderConfig.get_timing_cache", self._log):
            return None
        return self._timing


class IInt8Calibrator:
    def __init__(self):
        self._constructed = True


class IInt8EntropyCalibrator(IInt8Calibrator):
    pass


class IInt8EntropyCalibrator2(IInt8Calibrator):
    pass


class IInt8MinMaxCalibrator(IInt8Calibrator):
    pass


class IInt8LegacyCalibrator(IInt8Calibrator):
    pass


class IProgressMonitor:
    """Base of a program's own; the builder calls it (from 10)."""

    def __init__(self):
        self._constructed = True


def until_11(kind):
    """Calibrators are gone in 11."""
    return lambda: kind if major() < 11 else None


class Builder(Scoped):
    def __init__(self, logger):
        self._log = loggable(logger)
        self._largest = 1
        if refused("trt.Builder", self._log):
            raise TypeError("trt.Builder: factory function returned nullptr")
        if not driver() or not visible():
            self._log.log(Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    @property
    def platform_has_fast_fp16(self):
        removed_in(11)
        return capability() >= (5, 3) and capability() != (6, 1)

    @property
    def platform_has_fast_int8(self):
        removed_in(11)
        return capability() >= (6, 1)

    @property
    def platform_has_tf32(self):
        return capability() >= (8, 0)

    @property
    def max_batch_size(self):
        """Of implicit batches, which explicit ones ignore."""
        removed_in(10)
        return self._largest

    @max_batch_size.setter
    def max_batch_size(self, batch):
        removed_in(10)
        self._largest = int(batch)

    def create_network(self, flags=0):
        if refused("trt.Builder.create_network", self._log):
            return None
        if flags >= 1 << (max(network_flags()) + 1):
            violation(f"create_network with flags {flags} that this TensorRT does not have")
        if major() >= 11 and flags & ~1:
            violation("create_network prefers JIT plugins by accident: a hard-coded shift")
        return Network(flags)

    def create_builder_config(self):
        if refused("trt.Builder.create_builder_config", self._log):
            return None
        return BuilderConfig(self._log)

    def create_optimization_profile(self):
        if refused("trt.Builder.create_optimization_profile", self._log):
            return None
        return Profile()

    def build_engine(self, network, config):
        """Until 8.6; in 10.8 it came back under the name build_engine_with_config."""
        removed_in(10)
        return self._engine("trt.Builder.build_engine", network, config)

    def build_engine_with_config(self, network, config):
        if tuple(int(part) for part in trt_version().split(".")[:2]) < (10, 8):
            raise AttributeError("build_engine_with_config came with TensorRT 10.8")
        return self._engine("trt.Builder.build_engine_with_config", network, config)

    def _engine(self, call, network, config):
        from tensorrt._run import Runtime

        plan = None if refused(call, self._log) else self._plan(network, config)
        return None if plan is None else Runtime(self._log).deserialize_cuda_engine(plan)

    def build_serialized_network(self, network, config):
        if refused("trt.Builder.build_serialized_network", self._log):
            return None
        return self._plan(network, config)

    def _plan(self, network, config):
        monitor = config.progress_monitor
        try:
            if monitor is not None:
                monitor.phase_start("Building engine", None, 1)
            plan = HostMemory(self._build(network, config))
            if monitor is not None:
                monitor.step_complete("Building engine", 0)
                monitor.phase_finish("Building engine")
            return plan
        except ValueError as error:
            self._log.log(Severity.ERROR, f"4: [network.cpp::validate::3015] Error Code 4: Internal Error ({error})")
            return None

    def _build(self, network, config):
        dynamic = [tensor.name for tensor in network.inputs if -1 in tensor.shape]
        profiles = [profile.ranges for profile in config._profiles]
        if dynamic and not profiles:
            raise ValueError("Network has dynamic or shape inputs, but no optimization profile has been defined.")
        for ranges in profiles:
            missing = [key for key in dynamic if key not in ranges]
            if missing:
                raise ValueError(f"optimization profile is missing values for {missing[0]}")
        precision, batches = self._precision(network, config)
        halves = [layer.makes for layer in network._layers() if layer.precision == DataType.HALF]
        model = compiled.rounded(network.model, precision, batches, halves=halves)
        if precision == "fp32" and 7 in config._flags and capability() >= (8, 0):
            simulate.half_weights(model, _tf32)
        if major() < 10:
            model = compiled.narrow_outputs(model)
        header = {
            "version": trt_version(),
            "gpu": name(),
            "precision": precision,
            "level": config.builder_optimization_level,
            "profiles": profiles,
            "inputs": [[tensor.name, tensor.dtype.name, list(tensor.shape)] for tensor in network.inputs],
            "outputs": [
                [key, kind_of(dtype).name, list(shape)] for key, dtype, shape in compiled.described(model, "outputs")
            ],
        }
        if config._timing is not None:
            digest = f"{precision} {len(model.graph.node)}\n".encode()
            data = config._timing.data or _cache_header()
            config._timing.data = data if digest in data else data + digest
        return compiled.pack(MAGIC, header, model.SerializeToString())

    def _precision(self, network, config):
        if major() >= 11:
            return ("int8" if compiled.has_qdq(network.model) else "fp32"), None
        if 1 in config._flags:
            if compiled.has_qdq(network.model):
                return "int8", None
            if config._int8_calibrator is None:
                raise ValueError("Calibration table does not exist, and no calibrator was given")
            return "int8", self._calibrate(network, config)
        return ("fp16" if 0 in config._flags else "fp32"), None

    @staticmethod
    def _calibrate(network, config):
        """Batches of the calibration profile's or the network's own shape, or those that a cache holds. What
        get_batch_size says counts for implicit batches alone: samples/python/efficientnet gives 8 for any network."""
        calibrator, tensor = config._int8_calibrator, network.inputs[0]
        known = calibrator.read_calibration_cache()
        if known:
            return _from_cache(bytes(known))
        shape = list(tensor.shape)
        if -1 in shape:
            if config._calibration_profile is None and not config._profiles:
                raise ValueError("the network is dynamic and has no calibration profile")
            profile = config._calibration_profile or config._profiles[0]
            shape = profile.ranges[tensor.name][1]
        if calibrator.get_batch_size() != shape[0]:
            house(f"the calibrator says {calibrator.get_batch_size()} images, {shape[0]} are read")
        batches = []
        nbytes = int(np.prod(shape)) * 4
        while True:
            addresses = calibrator.get_batch([tensor.name])
            if addresses is None:
                break
            found = gpu.find(int(addresses[0]), nbytes, "calibration") if isinstance(addresses[0], int) else None
            if found is None:
                raise ValueError(f"get_batch returned no device memory of {nbytes} bytes")
            item, offset = found
            batches.append(item.data[offset : offset + nbytes].view(np.float32).reshape(shape).copy())
        if not batches:
            raise ValueError("Calibration failure occurred with no scaling factors detected")
        calibrator.write_calibration_cache(_cache_of(batches))
        return batches


CACHE = b"TRT-EntropyCalibration2\n"


def _cache_of(batches):
    """TensorRT writes a scale for each tensor; here the batches themselves, from which the same scales follow."""
    file = io.BytesIO()
    np.savez(file, *batches)
    return CACHE + file.getvalue()


def _from_cache(data):
    if not data.startswith(CACHE):
        raise ValueError("Calibration table does not match calibrator algorithm type.")
    try:
        with np.load(io.BytesIO(data[len(CACHE) :]), allow_pickle=False) as kept:
            return [kept[f"arr_{i}"] for i in range(len(kept.files))]
    except Exception as error:
        raise ValueError("the calibration cache is damaged") from error


def _tf32(values):
    if values.dtype != np.float32:
        return values
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32).reshape(values.shape)
