"""The build side: parser, builder, configuration, profiles, calibration, timing cache."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import ClassVar

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

from tensorrt import _kinds
from tensorrt._kinds import (
    NUMPY,
    CalibrationAlgoType,
    DataType,
    DeviceType,
    Dims,
    EngineCapability,
    ErrorCode,
    Kept,
    MemoryPoolType,
    RuntimePlatform,
    Scoped,
    Severity,
    called_back,
    flag,
    kind_of,
    loggable,
    major,
    network_flags,
    removed_in,
    until,
)
from tensorrt._layers import OPSET, Adding, Graph, Layer, NetworkTensor
from tensorrt._loops import before, renamed
from tensorrt._plugins import RUNS, SHIPPED, registry

MAGIC = b"TENSORRT-PLAN-SIMULATED-1"


def refused(call, log):
    code = calls.enter(call)
    if code is None:
        return False
    log.log(Severity.ERROR, f"{call}: Error Code {code}: injected failure")
    return True


def _since(*release):
    if tuple(int(part) for part in trt_version().split(".")[:2]) < release:
        raise AttributeError("came with TensorRT {}.{}".format(*release))


class HostMemory(Scoped, bytes):
    """IHostMemory: the buffer of a plan or a timing cache."""

    dtype = DataType.INT8

    @property
    def nbytes(self):
        return len(self)


class Network(Scoped, Adding):
    """INetworkDefinition: what a parser put into it, and behind that what a program adds layer by layer."""

    error_recorder = None

    def __init__(self, flags, builder=None):
        self.builder = builder
        self.flags, self.name = flags, "Unnamed Network 0"
        self.model = None
        self.layers = None
        self.made = []
        self.inputs = []
        self.outputs = []
        self.tensors = {}
        self.named = []
        self.debugged = []
        self._known, self._depth = {}, 0

    @property
    def num_layers(self):
        return len(self._layers())

    def __len__(self):
        return self.num_layers

    def __getitem__(self, i):
        return self.get_layer(i)

    def __bool__(self):
        return True

    def get_layer(self, index):
        return self._layers()[index]

    def _layers(self):
        if self.layers is None and self.model is not None:
            self.layers = [Layer(self, node) for node in self.model.graph.node]
        return [*(self.layers or []), *self.made]

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    has_implicit_batch_dimension = property(lambda self: False)

    def get_input(self, index):
        return self.inputs[index] if index < len(self.inputs) else None

    def get_output(self, index):
        return self.outputs[index] if index < len(self.outputs) else None

    def filled(self, model):
        """A parser's graph."""
        self.model = model
        rows = {side: compiled.described(model, side) for side in ("inputs", "outputs")}
        self.inputs = [NetworkTensor(*row, self) for row in rows["inputs"]]
        self.tensors = {tensor.key: tensor for tensor in self.inputs}
        self.outputs = [self.tensors.get(row[0]) or NetworkTensor(*row, self) for row in rows["outputs"]]
        self.tensors.update((tensor.key, tensor) for tensor in self.outputs)

    def resized(self, tensor):
        """A program gave an input of the file another shape: those of all that follows are inferred anew."""
        found = [] if self.model is None else [value for value in self.model.graph.input if value.name == tensor.key]
        for value in found:
            value.CopyFrom(compiled.value_info(tensor.key, np.dtype(NUMPY[tensor.dtype]).name, tensor.shape))
            del self.model.graph.value_info[:]
            _told(self.model, {output.name for output in self.model.graph.output})
            for key, _, shape in compiled.described(self.model, "outputs"):
                self.tensor(key)._shape = tuple(shape)

    def tensor(self, key):
        if key not in self.tensors:
            self.tensors[key] = NetworkTensor(key, None, None, self)
        return self.tensors[key]

    def get_flag(self, flag):
        return bool(self.flags >> int(flag) & 1)

    def set_weights_name(self, weights, name):
        """The name under which a Refitter knows these weights, as an array or Weights."""
        self.named.append((weights, name))
        return True

    def mark_output_for_shapes(self, tensor):
        self.mark_output(tensor)
        return True

    def unmark_output_for_shapes(self, tensor):
        self.unmark_output(tensor)
        return True

    def mark_debug(self, tensor):
        """From 10: what an IDebugListener is shown."""
        if tensor not in self._debugged():
            self.debugged.append(tensor)
        return True

    def unmark_debug(self, tensor):
        self.debugged = [known for known in self._debugged() if known is not tensor]
        return True

    def is_debug_tensor(self, tensor):
        return any(known is tensor for known in self._debugged())

    def _debugged(self):
        if major() < 10:
            raise AttributeError("debug tensors came with TensorRT 10")
        return self.debugged

    def mark_output(self, tensor):
        if tensor not in self.outputs:
            self.outputs.append(tensor)

    def unmark_output(self, tensor):
        self.outputs = [known for known in self.outputs if known is not tensor]

    def remove_tensor(self, tensor):
        self.tensors.pop(tensor.key, None)

    def inferred(self, key):
        """(dtype, shape) of any tensor; -1 where it is not known.

        Layers ask for their inputs while they become nodes, so that what is known is kept as long as the outermost
        question lasts. A setting may change after it."""
        if key in self._known:
            return self._known[key]
        self._depth += 1
        try:
            self._known[key] = self._infer(key)
            return self._known[key]
        finally:
            self._depth -= 1
            if not self._depth:
                self._known.clear()

    def _infer(self, key):
        import onnx

        makers = [i for i, layer in enumerate(self.made) if key in layer._outputs]
        model = self._emitted([onnx.ValueInfoProto(name=key)], makers[0] + 1 if makers else 0)
        for value in model.graph.input:
            if value.name == key:
                model.graph.output[0].CopyFrom(value)
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        if key in constants:
            return compiled.numpy_name(constants[key].data_type), list(constants[key].dims)
        return compiled.described(onnx.helper.make_model(graph), "outputs")[0][1:]

    def whole(self):
        """The graph to compile, with the outputs as marked and tensors under the names that they were given."""
        from onnx import shape_inference

        if self.model is None and not self.made:
            raise ValueError("Network must have at least one output" if not self.outputs else "the network is empty")
        if not self.outputs:
            raise ValueError("Network must have at least one output")
        marked = self.outputs + [tensor for tensor in self.debugged if tensor not in self.outputs]
        untouched = not self.made and [tensor.key for tensor in marked] == [
            row[0] for row in compiled.described(self.model, "outputs")
        ]
        if untouched:
            model = type(self.model)()
            model.CopyFrom(self.model)
        else:
            values = [compiled.value_info(t.key, np.dtype(NUMPY[t.dtype]).name, t.shape) for t in marked]
            model = shape_inference.infer_shapes(self._emitted(values))
        names = {tensor.key: tensor.name for tensor in self.tensors.values() if tensor.key != tensor.name}
        for node in model.graph.node:
            node.CopyFrom(renamed(node, names))
        for value in (*model.graph.input, *model.graph.output):
            value.name = names.get(value.name, value.name)
        return model

    def _emitted(self, outputs, count=None):
        """The graph with the first `count` added layers, or all."""
        import onnx
        from onnx import helper

        model = onnx.ModelProto()
        if self.model is not None:
            model.CopyFrom(self.model)
        else:
            model = helper.make_model(helper.make_graph([], "network", [], []))
            del model.opset_import[:]
            model.opset_import.append(helper.make_opsetid("", OPSET))
            model.ir_version = 8
        known = {value.name for value in model.graph.input}
        for tensor in self.inputs:
            if tensor.key not in known:
                row = (tensor.key, np.dtype(NUMPY[tensor.dtype]).name, tensor.shape)
                model.graph.input.append(compiled.value_info(*row))
        makers = {key: layer for layer in self.made for key in layer._outputs}
        done = set()

        def emit(layer):
            """Behind the layers that make its inputs, which may have been added after it."""
            if id(layer) not in done:
                done.add(id(layer))
                for key in before(layer):
                    if key in makers:
                        emit(makers[key])
                layer._emit(layer, Graph(model, layer, compiled.opset(model)))

        for layer in self.made[:count]:
            emit(layer)
        told = {value.name for value in (*model.graph.value_info, *outputs)}  # the file knows more than can be inferred
        model.graph.value_info.extend(value for value in model.graph.output if value.name not in told)
        del model.graph.output[:]
        model.graph.output.extend(outputs)
        return model


class ParserError:
    def __init__(self, code, text, node=-1, operator="", name=""):
        self._code, self._text = ErrorCode[code], text
        self._node, self._operator, self._name = node, operator, name

    def __str__(self):
        front = f"In node {self._node} with name: {self.node_name()} and operator: {self._operator}"
        return f"{front} ({self.func()}): {self._code}: {self._text}"

    def code(self):
        return self._code

    def desc(self):
        return self._text

    def file(self):
        return "ModelImporter.cpp"

    def line(self):
        return 1

    def func(self):
        return "importModel"

    def node(self):
        return self._node

    def node_name(self):
        return self._name

    def node_operator(self):
        return self._operator


class OnnxParser(Scoped):
    def __init__(self, network, logger):
        self._log = loggable(logger)
        if refused("trt.OnnxParser", self._log):
            raise RuntimeError("trt.OnnxParser: out of memory")
        self._network = network
        self._errors = []
        self.flags = 0

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index):
        return self._errors[index]

    def clear_errors(self):
        self._errors = []

    def set_builder_config(self, builder_config):
        """From 10.16, without effect."""
        _since(10, 16)
        return True

    def supports_operator(self, op_name):
        """By the list of ONNX operators; those that TensorRT lacks are not known here."""
        import onnx

        return onnx.defs.has(op_name)

    def set_flag(self, flag):
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag):
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag):
        return bool(self.flags >> int(flag) & 1)

    def get_used_vc_plugin_libraries(self):
        return []

    @property
    def parse_with_weight_descriptors(self):
        removed_in(11)
        return self.parse

    @property
    def supports_model(self):
        """(whether all of it can be parsed, its subgraphs), until 10; then supports_model_v2."""
        removed_in(11)
        return lambda model, path=None: (self.parse(model, path), [(list(range(len(self._network._layers()))), True)])

    def parse_from_file(self, model):
        path = model
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
        for i, node in enumerate(model.graph.node):
            lacking = _lacking(model, node)
            if lacking:
                return self._fail("UNSUPPORTED_NODE", lacking, i, node)
        try:
            model = _raised(model)
            _with_plugins(model)
        except ValueError as error:
            return self._fail("INVALID_NODE", str(error))
        _foreign_dropped(model)
        _singles(model)
        unsaid = {value.name for value in model.graph.output if not value.type.tensor_type.shape.dim}
        if unsaid:
            model = _told(model, unsaid)
        for side in ("inputs", "outputs"):
            for key, dtype, _ in compiled.described(model, side):
                if major() >= 10 and dtype in ("bfloat16", "float8_e4m3fn", "int4"):
                    return self._fail("UNSUPPORTED_NODE", f"{dtype} of {key} is not simulated")
                if np.dtype(dtype) not in map(np.dtype, NUMPY.values()):
                    print(f"Unsupported ONNX data type: {dtype.upper()}", file=sys.stderr)
                    return self._fail("UNSUPPORTED_NODE", f"Failed to convert ONNX date type to TensorRT's: {key}")
        network.filled(model)
        return True

    def _fail(self, code, text, place=-1, node=None):
        self._errors.append(ParserError(code, text, place, *(() if node is None else (node.op_type, node.name))))
        return False


def _told(model, unsaid):
    """The model with shapes of these outputs inferred: a file need not say them, or says that of a single number where
    it is none, and a parser asks no file for them."""
    import onnx

    bare = onnx.ModelProto.FromString(model.SerializeToString())
    for value in bare.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.ClearField("dim_value")
    for value in bare.graph.output:
        if value.name in unsaid:
            value.type.tensor_type.ClearField("shape")
    shapes = {
        value.name: value.type.tensor_type
        for value in onnx.shape_inference.infer_shapes(bare, data_prop=True).graph.output
    }
    for value in model.graph.output:
        if value.name in unsaid and shapes[value.name].HasField("shape"):
            value.type.tensor_type.shape.CopyFrom(shapes[value.name].shape)
    return model


def _raised(model):
    """The model in the opset of the nodes that plug-ins in it become, which a parser does not ask for. Raises
    ValueError where ONNX cannot convert it."""
    from onnx import helper, version_converter

    oldest = max((RUNS[node.op_type].oldest for node in model.graph.node if node.op_type in RUNS), default=0)
    if compiled.opset(model) >= oldest:
        return model
    raised = type(model)()
    raised.CopyFrom(model)
    for node in raised.graph.node:
        if node.op_type in RUNS:
            node.domain = "TRT"  # which keeps it out of the conversion
    if "TRT" not in [each.domain for each in raised.opset_import]:
        raised.opset_import.append(helper.make_opsetid("TRT", 1))
    try:
        return version_converter.convert_version(raised, oldest)
    except Exception as error:
        raise ValueError(f"the simulator runs its plug-ins from opset {oldest} on: {error}") from error


def _lacking(model, node):
    """Why a parser would not take a node; "" where it does. It looks at the name of an operator, not at its domain."""
    import onnx

    if node.op_type in RUNS:
        return ""
    shipped = [row[0] for row in SHIPPED]
    if node.op_type in shipped:
        return f"the plug-in {node.op_type} is not simulated"
    if not onnx.defs.has(node.op_type) and node.op_type not in [function.name for function in model.functions]:
        return "Plugin not found, are the plugin name, version, and namespace correct?"
    return ""


def _singles(model):
    """Make FLOAT of what is DOUBLE, as a parser does. In place."""
    from onnx import TensorProto, numpy_helper

    double, single = TensorProto.DOUBLE, TensorProto.FLOAT
    graphs, attributes, tensors = [model.graph], [], []
    for graph in graphs:  # which grows by branches and the bodies of loops
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == double:
                value.type.tensor_type.elem_type = single
        new = [attribute for node in graph.node for attribute in node.attribute]
        attributes += new
        graphs += [attribute.g for attribute in new if attribute.HasField("g")]
        tensors += [*graph.initializer, *(attribute.t for attribute in new)]
    for tensor in tensors:
        if tensor.data_type == double:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for attribute in attributes:
        if attribute.name in ("to", "dtype") and attribute.i == double:
            attribute.i = single


def _foreign_dropped(model):
    """Take away attributes that ONNX does not know of an operator: a parser asks for those that it knows. In place."""
    import onnx

    opset = compiled.opset(model)
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        try:
            known = onnx.defs.get_schema(node.op_type, opset).attributes
        except onnx.defs.SchemaError:  # to ask has() of a version, ONNX must be newer than Python 3.7 has it
            continue
        kept = [attribute for attribute in node.attribute if attribute.name in known]
        del node.attribute[:]
        node.attribute.extend(kept)


def _with_plugins(model):
    """Put what a plug-in computes in its place. In place. Raises ValueError where it refuses its parameters."""
    from onnx import helper

    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type in RUNS:
            fields = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            made = RUNS[node.op_type].nodes(node.name or node.output[0], node.input, node.output, fields, constants)
            model.graph.node.extend(made)
        else:
            model.graph.node.append(node)


class Profile:
    def __init__(self):
        self.ranges, self._values = {}, {}

    def set_shape(self, input, min, opt, max):
        if calls.enter("trt.IOptimizationProfile.set_shape") is not None:
            raise RuntimeError("trt.IOptimizationProfile.set_shape: injected failure 700")
        low, best, high = tuple(min), tuple(opt), tuple(max)
        if not len(low) == len(best) == len(high) or any(not a <= b <= c for a, b, c in zip(low, best, high)):
            raise RuntimeError("set_shape: dimensions are not min <= opt <= max")
        self.ranges[input] = [list(low), list(best), list(high)]

    def get_shape(self, input):
        """[] where none was set."""
        return [Dims(shape) for shape in self.ranges.get(input, ())]

    def set_shape_input(self, input, min, opt, max):
        """Values of an input that is a shape: kept, without effect."""
        self._values[input] = [list(min), list(opt), list(max)]

    def get_shape_input(self, input):
        return self._values.get(input, [])

    extra_memory_target = 1.0


class TimingCache:
    def __init__(self, data):
        self.data = data

    def combine(self, input_cache, ignore_mismatch):
        self.data += input_cache.data[len(_cache_header()) if self.data else 0 :]
        return True

    def reset(self):
        self.data = b""
        return True

    def serialize(self):
        if calls.enter("trt.ITimingCache.serialize") is not None:
            raise RuntimeError("trt.ITimingCache.serialize: injected failure 700")
        return HostMemory(self.data)


def _cache_header():
    return f"TIMING {trt_version()} {name()}\n".encode()


class BuilderConfig(Scoped, Kept):
    """IBuilderConfig. Attributes that a release does not have raise, as those of bound classes do."""

    KEPT: ClassVar = {
        "builder_optimization_level": (3, 8, 11),
        "profiling_verbosity": (0, 8, 11),
        "hardware_compatibility_level": (0, 8, 11),
        "runtime_platform": (RuntimePlatform.SAME_AS_BUILD, 10, 11),
        "progress_monitor": (None, 10, 11),
        "algorithm_selector": (None, 8, 10),
        "avg_timing_iterations": (1, 8, 11),
        "min_timing_iterations": (1, 8, 8),
        "DLA_core": (-1, 8, 11),
        "default_device_type": (DeviceType.GPU, 8, 11),
        "engine_capability": (EngineCapability.STANDARD, 8, 11),
        "max_aux_streams": (-1, 8, 11),
        "max_num_tactics": (-1, 10, 11),
        "plugins_to_serialize": ([], 8, 11),
        "profile_stream": (0, 8, 11),
        "quantization_flags": (0, 8, 10),
        "tiling_optimization_level": (0, 10, 11),
        "l2_limit_for_tiling": (-1, 10, 11),
    }

    def __init__(self, log):
        self._log = log
        self.reset()

    def reset(self):
        self._limits, self._previews, self._sources, self._devices = {}, {}, None, {}
        self._flags = {flag("TF32")}  # on unless cleared
        self._profiles = []
        self._calibration_profile = None
        self._int8_calibrator = None
        self._timing = None
        self._kept = {}

    def set_preview_feature(self, feature, enable):
        self._previews[feature] = enable

    def get_preview_feature(self, feature):
        return self._previews.get(feature, feature.name in _kinds.PREVIEWS_ON[major()])

    def set_tactic_sources(self, tactic_sources):
        self._sources = tactic_sources
        return True

    def get_tactic_sources(self):
        return _kinds.usual_tactic_sources() if self._sources is None else self._sources

    def set_quantization_flag(self, flag):
        self.quantization_flags |= 1 << int(flag)

    def clear_quantization_flag(self, flag):
        self.quantization_flags &= ~(1 << int(flag))

    def get_quantization_flag(self, flag):
        return bool(self.quantization_flags >> int(flag) & 1)

    def set_device_type(self, layer, device_type):
        self._devices[layer.name] = device_type

    def get_device_type(self, layer):
        return self._devices.get(layer.name, self.default_device_type)

    def is_device_type_set(self, layer):
        return layer.name in self._devices

    def reset_device_type(self, layer):
        self._devices.pop(layer.name, None)

    def can_run_on_DLA(self, layer):
        """No GPU here has one."""
        return False

    def get_calibration_profile(self):
        self._calibrates()
        return self._calibration_profile

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

    def set_memory_pool_limit(self, pool, pool_size):
        self._enter("trt.IBuilderConfig.set_memory_pool_limit")
        self._limits[pool] = int(pool_size)

    def get_memory_pool_limit(self, pool):
        """Unless set, what NvInfer.h says: all memory of the device, or a size of its own."""
        usual = {"DLA_MANAGED_SRAM": 0, "DLA_LOCAL_DRAM": 1 << 30, "DLA_GLOBAL_DRAM": 1 << 29}
        usual["TACTIC_SHARED_MEMORY"] = 1 << 30  # as Polygraphy's tests of 10 have it
        return self._limits[pool] if pool in self._limits else usual.get(pool.name, gpu.free_and_total()[1])

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
        if calibrator is not None and not getattr(calibrator, "_constructed", False):
            raise TypeError("IInt8EntropyCalibrator2.__init__() must be called when overriding __init__")
        self._int8_calibrator = calibrator

    def create_timing_cache(self, serialized_timing_cache):
        data = serialized_timing_cache
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

    def get_algorithm(self):
        return CalibrationAlgoType[type(self).ALGORITHM]

    ALGORITHM = "ENTROPY_CALIBRATION_2"

    def get_batch_size(self):
        return 1

    def get_batch(self, names):
        raise RuntimeError('Tried to call pure virtual function "IInt8Calibrator::get_batch"')

    def read_calibration_cache(self):
        return None

    def write_calibration_cache(self, cache):
        """Kept by those who override it."""


class IInt8EntropyCalibrator(IInt8Calibrator):
    ALGORITHM = "ENTROPY_CALIBRATION"


class IInt8EntropyCalibrator2(IInt8Calibrator):
    ALGORITHM = "ENTROPY_CALIBRATION_2"


class IInt8MinMaxCalibrator(IInt8Calibrator):
    ALGORITHM = "MINMAX_CALIBRATION"


class IInt8LegacyCalibrator(IInt8Calibrator):
    ALGORITHM = "LEGACY_CALIBRATION"


class IProgressMonitor:
    """Base of a program's own; the builder calls it (from 10)."""

    def __init__(self):
        self._constructed = True


def until_11(kind):
    """Calibrators are gone in 11."""
    return lambda: kind if major() < 11 else None


class Builder(Scoped, Kept):
    KEPT: ClassVar = {
        "error_recorder": (None, 8, 11),
        "gpu_allocator": (None, 8, 11),
        "max_threads": (1, 8, 11),
        "num_DLA_cores": (0, 8, 11),
        "max_DLA_batch_size": (1, 8, 11),
    }

    def __init__(self, logger):
        self._log = loggable(logger)
        self._largest = 1
        if refused("trt.Builder", self._log):
            raise TypeError("trt.Builder: factory function returned nullptr")
        if not driver() or not visible():
            self._log.log(Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    logger = property(lambda self: self._log)

    def reset(self):
        """Back to the settings of a new one."""
        self._kept = {}

    def is_network_supported(self, network, config):
        """Whether it would be built: here whether its graph is whole."""
        try:
            network.whole()
        except ValueError:
            return False
        return True

    def get_plugin_registry(self):
        return registry

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
        return Network(flags, self)

    def create_builder_config(self):
        if refused("trt.Builder.create_builder_config", self._log):
            return None
        return BuilderConfig(self._log)

    def create_optimization_profile(self):
        if refused("trt.Builder.create_optimization_profile", self._log):
            return None
        return Profile()

    @until(10)
    def build_engine(self, network, config):
        """Until 8.6; in 10.8 it came back under the name build_engine_with_config."""
        return self._engine("trt.Builder.build_engine", network, config)

    def build_engine_with_config(self, network, config):
        _since(10, 8)
        return self._engine("trt.Builder.build_engine_with_config", network, config)

    def _engine(self, call, network, config):
        from tensorrt._run import Runtime

        plan = None if refused(call, self._log) else self._plan(network, config)
        return None if plan is None else Runtime(self._log).deserialize_cuda_engine(plan)

    def build_serialized_network(self, network, config):
        if refused("trt.Builder.build_serialized_network", self._log):
            return None
        return self._plan(network, config)

    def build_serialized_network_to_stream(self, network, config, writer):
        """From 10.13 on (samples/python/stream_writer of 11)."""
        plan = self.build_serialized_network(network, config)
        return plan is not None and writer.write(bytes(plan)) == len(plan)

    def _plan(self, network, config):
        monitor = config.progress_monitor if major() >= 10 else None
        try:
            if monitor is None:
                return HostMemory(self._build(network, config))
            called_back(monitor.phase_start, "Building engine", None, 1)
            plan = HostMemory(self._build(network, config))
            goes_on = called_back(monitor.step_complete, "Building engine", 0)
            called_back(monitor.phase_finish, "Building engine")
            return plan if goes_on else None
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
        whole = network.whole()
        precision, batches = self._precision(network, whole, config)
        halves = [layer.makes for layer in network._layers() if layer.precision == DataType.HALF]
        obeys = (
            flag("OBEY_PRECISION_CONSTRAINTS") in config._flags or flag("PREFER_PRECISION_CONSTRAINTS") in config._flags
        )
        wholes = [layer.makes for layer in network._layers() if obeys and layer.forced == DataType.FLOAT]
        tf32 = precision == "fp32" and flag("TF32") in config._flags and capability() >= (8, 0)
        how = {"precision": precision, "halves": halves, "wholes": wholes, "tf32": tf32}
        stripped = flag("STRIP_PLAN") in config._flags
        if stripped:
            _without_weights(whole)
        source = whole.SerializeToString()
        model = finished(whole, how, batches)
        outputs = [
            [key, kind_of(dtype).name, list(shape)] for key, dtype, shape in compiled.described(model, "outputs")
        ]
        header = {
            "version": trt_version(),
            "gpu": name(),
            "precision": precision,
            "level": config.builder_optimization_level,
            "profiles": profiles,
            "inputs": [[tensor.name, tensor.dtype.name, list(tensor.shape)] for tensor in network.inputs],
            "outputs": outputs[: len(network.outputs)],
        }
        if flag("WEIGHT_STREAMING") in config._flags:
            header["streams"] = True
        if network.debugged:
            named = [tensor.name for tensor in network.debugged]
            header["debug"] = [row for row in outputs if row[0] in named]
        if stripped or flag("REFIT") in config._flags:
            header["refit"] = dict(how, stripped=stripped, source=base64.b64encode(source).decode())
        if config._timing is not None:
            digest = f"{precision} {len(model.graph.node)}\n".encode()
            data = config._timing.data or _cache_header()
            config._timing.data = data if digest in data else data + digest
        return compiled.pack(MAGIC, header, model.SerializeToString())

    def _precision(self, network, whole, config):
        if major() >= 11:
            return ("int8" if compiled.has_qdq(whole) else "fp32"), None
        if flag("INT8") in config._flags:
            if compiled.has_qdq(whole):
                return "int8", None
            if config._int8_calibrator is None:
                raise ValueError("Calibration table does not exist, and no calibrator was given")
            return "int8", self._calibrate(network, config)
        return ("fp16" if flag("FP16") in config._flags else "fp32"), None

    @staticmethod
    def _calibrate(network, config):
        """Batches of the calibration profile's or the network's own shape, or those that a cache holds. What
        get_batch_size says counts for implicit batches alone: samples/python/efficientnet gives 8 for any network."""
        calibrator = config._int8_calibrator
        known = called_back(calibrator.read_calibration_cache)
        if known:
            return _from_cache(bytes(known))
        shapes = {}
        for tensor in network.inputs:
            shapes[tensor.name] = list(tensor.shape)
            if -1 in tensor.shape:
                if config._calibration_profile is None and not config._profiles:
                    raise ValueError("the network is dynamic and has no calibration profile")
                profile = config._calibration_profile or config._profiles[0]
                shapes[tensor.name] = profile.ranges[tensor.name][1]
        rows = next((shape[0] for shape in shapes.values() if shape), 1)
        said = called_back(calibrator.get_batch_size, otherwise=-1)
        if said != rows:
            house(f"the calibrator says {said} images, {rows} are read")
        batches = []
        while True:
            addresses = called_back(calibrator.get_batch, list(shapes))
            if not addresses:  # so does an exception end it, and an engine is made of what there is
                break
            if len(addresses) != len(shapes):
                raise ValueError(f"get_batch returned {len(addresses)} addresses for {len(shapes)} inputs")
            fed = [Builder._read_back(at, tensor, shapes) for at, tensor in zip(addresses, network.inputs)]
            batches.append(fed[0] if len(fed) == 1 else dict(zip(shapes, fed)))
        if not batches:
            raise ValueError("Calibration failure occurred with no scaling factors detected")
        called_back(calibrator.write_calibration_cache, memoryview(_cache_of(batches)))
        return batches

    @staticmethod
    def _read_back(address, tensor, shapes):
        """What lies at a device address for an input."""
        shape, dtype = shapes[tensor.name], np.dtype(_kinds.nptype(tensor.dtype))
        nbytes = int(np.prod(shape)) * dtype.itemsize
        found = gpu.find(int(address), nbytes, "calibration")
        if found is None:
            raise ValueError(f"get_batch returned no device memory of {nbytes} bytes")
        item, offset = found
        return item.data[offset : offset + nbytes].view(dtype).reshape(shape).copy()


def finished(model, how, batches=None):
    """The graph as the engine computes it. In place."""
    model = compiled.rounded(model, how["precision"], batches, halves=how["halves"], wholes=how.get("wholes", ()))
    if how["tf32"]:
        simulate.half_weights(model, _tf32)
    return compiled.narrow_outputs(model) if major() < 10 else model


def _without_weights(model):
    """Values of zero in place of the weights; constants of whole numbers, such as shapes, stay."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(values), tensor.name))


CACHE = b"TRT-EntropyCalibration2\n"


def _cache_of(batches):
    """TensorRT writes a scale for each tensor; here the batches themselves, from which the same scales follow."""
    file = io.BytesIO()
    several = [{f"{i} {name}": array for name, array in fed.items()} for i, fed in enumerate(batches)
               if isinstance(fed, dict)]  # fmt: skip
    np.savez(file, **{name: array for part in several for name, array in part.items()}) if several \
        else np.savez(file, *batches)  # fmt: skip
    return CACHE + file.getvalue()


def _from_cache(data):
    if not data.startswith(CACHE):
        raise ValueError("Calibration table does not match calibrator algorithm type.")
    try:
        with np.load(io.BytesIO(data[len(CACHE) :]), allow_pickle=False) as kept:
            if "arr_0" in kept.files:
                return [kept[f"arr_{i}"] for i in range(len(kept.files))]
            fed = {}
            for name in kept.files:
                fed.setdefault(int(name.partition(" ")[0]), {})[name.partition(" ")[2]] = kept[name]
            return [fed[i] for i in sorted(fed)]
    except Exception as error:
        raise ValueError("the calibration cache is damaged") from error


def _tf32(values):
    if values.dtype != np.float32:
        return values
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32).reshape(values.shape)
