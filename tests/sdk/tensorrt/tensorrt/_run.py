"""The run side: runtime, engine, context."""

from __future__ import annotations

import json
import os
import signal
import time
import weakref
from typing import ClassVar

import numpy as np
from simulated_gpu import Execute, calls, compiled, driver, gpu, house, name, simulate, trt_version, violation, visible

from tensorrt._build import MAGIC, HostMemory, refused
from tensorrt._kinds import (
    NUMPY,
    DataType,
    Dims,
    EngineCapability,
    Kept,
    Listed,
    NoDims,
    Scoped,
    Severity,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    called_back,
    loggable,
    major,
    removed_in,
    since,
    until,
)
from tensorrt._plugins import registry


def _came_with(release):
    if major() < release:
        raise AttributeError(f"came with TensorRT {release}")


live = weakref.WeakSet()


class IProfiler:
    """Base of a program's own."""

    def __init__(self):
        self._constructed = True

    def report_layer_time(self, layer_name, ms):
        raise RuntimeError('Tried to call pure virtual function "IProfiler::report_layer_time"')


class Profiler(IProfiler):
    """The one that comes with TensorRT."""

    def report_layer_time(self, layer_name, ms):
        print(f"{layer_name}: {ms}ms")


class IOutputAllocator:
    """Base of a program's own, for outputs whose shape is known after the execute."""

    def __init__(self):
        self._constructed = True


class IDebugListener:
    """Base of a program's own: process_debug_tensor(addr, location, type, shape, name, stream) at each execute."""

    def __init__(self):
        self._constructed = True


class EngineInspector(Listed):
    """Of the layers the names alone."""

    def __init__(self, engine):
        self._engine = engine
        self.execution_context, self.error_recorder = None, None

    def get_layer_information(self, layer_index, format):
        return self._engine.layers()[layer_index]

    def get_engine_information(self, format):
        if int(format) == 0:
            return "\n".join(["Layers:", *self._engine.layers(), "", "Bindings:", *self._engine])
        return json.dumps({"Layers": self._engine.layers(), "Bindings": list(self._engine)})


class SerializationConfig(Listed):
    flags = 0

    def set_flag(self, flag):
        self.flags |= 1 << int(flag)
        return True

    def clear_flag(self, flag):
        self.flags &= ~(1 << int(flag))
        return True

    def get_flag(self, flag):
        return bool(self.flags >> int(flag) & 1)


class Runtime(Scoped, Kept):
    KEPT: ClassVar = {
        "DLA_core": (-1, 8, 11),
        "num_DLA_cores": (0, 8, 11),
        "error_recorder": (None, 8, 11),
        "gpu_allocator": (None, 8, 11),
        "max_threads": (1, 8, 11),
        "engine_host_code_allowed": (False, 8, 11),
        "temporary_directory": (None, 8, 11),
        "tempfile_control_flags": (3, 8, 11),
    }
    logger = property(lambda self: self._log)

    def get_plugin_registry(self):
        return registry

    def load_runtime(self, path):
        """A runtime of another release in a file: there is none here."""
        self._log.log(Severity.ERROR, f"cannot load the lean runtime {path}")

    def __init__(self, logger):
        self._log = loggable(logger)
        if refused("trt.Runtime", self._log):
            raise TypeError("trt.Runtime: factory function returned nullptr")
        if not driver() or not visible():
            self._log.log(Severity.ERROR, "createInferRuntime: CUDA initialization failure with error: 35")
            if major() < 11:
                raise TypeError("pybind11::init(): factory function returned nullptr")
            os.kill(os.getpid(), signal.SIGSEGV)  # what 11 does, a little later
        live.add(self)

    def deserialize_cuda_engine(self, serialized_engine):
        if refused("trt.Runtime.deserialize_cuda_engine", self._log):
            return None
        if major() >= 10 and hasattr(serialized_engine, "read"):  # an IStreamReader
            parts = iter(lambda: bytes(called_back(serialized_engine.read, 1 << 20, otherwise=b"")), b"")
            serialized_engine = b"".join(parts)
        try:
            header, graph = compiled.unpack(MAGIC, bytes(serialized_engine))
        except ValueError as error:
            self._log.log(Severity.ERROR, f"1: [stdArchiveReader.cpp] Serialization assertion failed: {error}")
            return None
        if header["version"] != trt_version():
            text = "6: The engine plan file is not compatible with this version of TensorRT, expecting library version {} got {}"  # noqa: E501
            self._log.log(Severity.ERROR, text.format(header["version"], trt_version()))
            return None
        if header["gpu"] != name():
            text = "6: The engine plan file is generated on an incompatible device, expecting {} got {}"
            self._log.log(Severity.ERROR, text.format(name(), header["gpu"]))
            return None
        return ICudaEngine(header, graph, self._log)


class ICudaEngine(Scoped):
    def __init__(self, header, graph, log):
        self.header = header
        self._graph = graph
        self._log = log
        self._network = None
        self._rows = {row[0]: (TensorIOMode.INPUT, row) for row in header["inputs"]}
        self._rows.update({row[0]: (TensorIOMode.OUTPUT, row) for row in header["outputs"]})
        self._inferred, self._budget = {}, None
        live.add(self)

    refittable = property(lambda self: "refit" in self.header)
    name = property(lambda self: self.header.get("name", "Unnamed Network 0"))

    def refitted(self, graph):
        self._graph, self._network = graph, None

    def layers(self):
        import onnx

        return [node.name or node.output[0] for node in onnx.load_from_string(self._graph).graph.node]

    num_layers = property(lambda self: len(self.layers()))
    error_recorder = None

    @property
    def engine_capability(self):
        return EngineCapability.STANDARD

    def create_engine_inspector(self):
        return EngineInspector(self)

    @since(10)
    def create_serialization_config(self):
        """From 10."""
        return SerializationConfig()

    @since(10)
    def serialize_with_config(self, config):
        return self.serialize()

    @property
    def device_memory_size(self):
        """Working memory of one context: 1 MiB here, whatever the network."""
        removed_in(11)
        return 1 << 20

    @property
    def device_memory_size_v2(self):
        _came_with(10)
        return 1 << 20

    @since(10)
    @until(11)
    def get_device_memory_size_for_profile(self, profile_index):
        return 1 << 20

    @since(10)
    def get_device_memory_size_for_profile_v2(self, profile_index):
        return 1 << 20

    @property
    def streamable_weights_size(self):
        """Bytes of weights that stay on the host on demand: 0 unless built with WEIGHT_STREAMING."""
        import onnx

        _came_with(10)
        if not self.header.get("streams"):
            return 0
        return sum(tensor.ByteSize() for tensor in onnx.load_from_string(self._graph).graph.initializer)

    @property
    def weight_streaming_budget_v2(self):
        """Bytes of them that are on the device: all unless set. Nothing becomes slower here."""
        return self.streamable_weights_size if self._budget is None else self._budget

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, size):
        if int(size) < 0 or not self.streamable_weights_size:
            self._log.log(Severity.ERROR, f"a budget of {size} for {self.streamable_weights_size} bytes of weights")
        else:
            self._budget = min(int(size), self.streamable_weights_size)

    @since(10)
    def get_weight_streaming_automatic_budget(self):
        return self.streamable_weights_size

    @property
    def weight_streaming_scratch_memory_size(self):
        _came_with(10)
        return 0

    @until(11)
    def create_execution_context_without_device_memory(self):
        return self.create_execution_context()

    def get_tensor_bytes_per_component(self, name, profile_index=0):
        return self.get_tensor_dtype(name).itemsize

    def get_tensor_components_per_element(self, name, profile_index=0):
        """-1 where the format has no components: linear."""
        return -1

    def get_tensor_vectorized_dim(self, name, profile_index=0):
        return -1

    def get_tensor_format_desc(self, name, profile_index=0):
        return "Row major linear FP32 format (kLINEAR)"

    def is_shape_inference_io(self, name):
        return False

    num_io_tensors = property(lambda self: len(self._rows))
    num_optimization_profiles = property(lambda self: max(1, len(self.header["profiles"])))

    def get_tensor_name(self, index):
        return list(self._rows)[index]

    def get_tensor_mode(self, name):
        return self._rows[name][0] if name in self._rows else TensorIOMode.NONE

    def __len__(self):
        return len(self._rows)

    def __iter__(self):
        return iter(list(self._rows))

    def __getitem__(self, i):
        return list(self._rows)[i]

    def serialize(self):
        return HostMemory(compiled.pack(MAGIC, self.header, self._graph))

    def get_tensor_location(self, name):
        return TensorLocation.DEVICE

    def get_tensor_format(self, name, profile_index=0):
        return TensorFormat.LINEAR

    @property
    def has_implicit_batch_dimension(self):
        removed_in(11)
        return False

    # bindings by number, until 8.6: those of each profile one behind the other

    @property
    def num_bindings(self):
        removed_in(10)
        return len(self._rows) * self.num_optimization_profiles

    @until(10)
    def _binding(self, i):
        return i if isinstance(i, str) else list(self._rows)[i % len(self._rows)]

    def get_binding_name(self, index):
        profile = index // len(self._rows)
        return self._binding(index) + (f" [profile {profile}]" if profile else "")

    @until(10)
    def get_binding_index(self, name):
        names = [self.get_binding_name(i) for i in range(self.num_bindings)]
        return names.index(name) if name in names else -1

    def binding_is_input(self, i):
        return self.get_tensor_mode(self._binding(i)) == TensorIOMode.INPUT

    def get_binding_shape(self, i):
        name = self._binding(i)
        return self.get_tensor_shape(name) if isinstance(i, str) else Dims(self.shape(name, i // len(self._rows)))

    @property
    def max_batch_size(self):
        removed_in(10)
        return 1

    def get_profile_shape(self, profile_index, binding):
        return self.get_tensor_profile_shape(self._binding(binding), profile_index)

    def get_location(self, index):
        self._binding(index)
        return TensorLocation.DEVICE

    def is_shape_binding(self, binding):
        self._binding(binding)
        return False

    def is_execution_binding(self, binding):
        self._binding(binding)
        return True

    def get_binding_format(self, index):
        self._binding(index)
        return TensorFormat.LINEAR

    def get_binding_format_desc(self, index):
        return self.get_tensor_format_desc(self._binding(index))

    def get_binding_bytes_per_component(self, index):
        return self.get_binding_dtype(index).itemsize

    def get_binding_components_per_element(self, index):
        self._binding(index)
        return -1

    def get_binding_vectorized_dim(self, index):
        self._binding(index)
        return -1

    def get_binding_dtype(self, i):
        return self.get_tensor_dtype(self._binding(i))

    def get_tensor_shape(self, name):
        return Dims(self.shape(name)) if name in self._rows else NoDims()

    def shape(self, name, profile=None):
        """Of a tensor in a profile, or in all: -1 for what varies, so that an axis whose least and largest size are the
        same is told (NvInferRuntime.h: getBindingDimensions of 8.6, IExecutionContext::getTensorShape of 10)."""
        mode, (_, _, shape) = self._rows[name]
        if -1 not in shape:
            return shape
        known = self.header["profiles"]  # none where every input is fixed and an output's size is the data's
        profiles = known if profile is None else known[profile : profile + 1]
        free = {row[0]: row[2] for row in self.header["inputs"] if -1 in row[2]}
        told = {}
        for key in free:
            ends = [end for ranges in profiles for end in ranges[key]]
            told[key] = [sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*ends)]
        if mode == TensorIOMode.INPUT:
            return told[name]
        return self.output_shapes(told).get(name, shape) if told != free else shape

    def get_tensor_dtype(self, name):
        return DataType[self._rows[name][1][1]]

    def get_tensor_profile_shape(self, name, profile_index):
        """For anything but an input of a profile three Dims of rank -1, which no error stops a program from using."""
        profiles = self.header["profiles"]
        if self.get_tensor_mode(name) != TensorIOMode.INPUT or not 0 <= profile_index < max(1, len(profiles)):
            return [NoDims(), NoDims(), NoDims()]
        known = profiles[profile_index] if profiles else {}
        return [Dims(shape) for shape in known.get(name, [self.get_tensor_shape(name)] * 3)]

    def create_execution_context(self, strategy=0):
        """The strategy of allocation (from 10) has no effect."""
        if refused("trt.ICudaEngine.create_execution_context", self._log):
            return None
        return IExecutionContext(self, self._log)

    @since(10)
    def is_debug_tensor(self, name):
        return name in [row[0] for row in self.header.get("debug", [])]

    def output_shapes(self, given):
        """Shapes of the outputs for these of the inputs, by ONNX's inference: without those that it cannot tell, and -1
        where the data decide."""
        import onnx

        key = tuple(sorted((name, tuple(shape)) for name, shape in given.items()))
        if key not in self._inferred:
            model = onnx.load_from_string(self._graph)
            for value in model.graph.input:
                for dim, size in zip(value.type.tensor_type.shape.dim, given.get(value.name, ())):
                    if size >= 0:
                        dim.dim_value = size
            del model.graph.value_info[:]
            for value in model.graph.output:
                value.type.tensor_type.ClearField("shape")
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
            told = {value.name for value in model.graph.output if value.type.tensor_type.HasField("shape")}
            rows = compiled.described(model, "outputs")
            self._inferred[key] = {name: shape for name, _, shape in rows if name in told}
        return self._inferred[key]

    def debugged(self, feed):
        """(name, type, values) of each tensor marked for debugging."""
        rows = self.header.get("debug", [])
        values = compiled.network(dict(self.header, outputs=rows), self._graph)(feed)
        return [(name, DataType[dtype], value) for (name, dtype, _), value in zip(rows, values)]

    def compute(self, feed):
        if self._network is None:
            self._network = compiled.network(self.header, self._graph)
        return simulate.damage(self._network(feed), next((each.shape[0] for each in feed.values() if each.shape), 1))


class IExecutionContext(Scoped, Kept):
    KEPT: ClassVar = {
        "name": ("", 8, 11),
        "debug_sync": (False, 8, 11),
        "device_memory": (0, 8, 11),
        "enqueue_emits_profile": (True, 8, 11),
        "error_recorder": (None, 8, 11),
        "nvtx_verbosity": (0, 8, 11),
        "persistent_cache_limit": (0, 8, 11),
        "profiler": (None, 8, 11),
        "temporary_allocator": (None, 8, 11),
    }

    @property
    def active_optimization_profile(self):
        return self._profile

    @active_optimization_profile.setter
    def active_optimization_profile(self, index):
        """Until 8.6; then set_optimization_profile_async."""
        removed_in(10)
        if not self.set_optimization_profile_async(index, 0):
            raise RuntimeError("Error in set optimization profile")

    all_shape_inputs_specified = True

    def set_aux_streams(self, aux_streams):
        """Kept, without effect, as what follows is."""

    def set_input_consumed_event(self, event):
        return True

    def get_input_consumed_event(self):
        return 0

    @since(10)
    def update_device_memory_size_for_shapes(self):
        return 1 << 20

    def set_device_memory(self, memory, size):
        self.device_memory = memory

    def report_to_profiler(self):
        if self.profiler is not None:
            self._report()
        return self.profiler is not None

    def _report(self):
        """One time for the whole network, under the name of its first layer."""
        called_back(self.profiler.report_layer_time, self._engine.layers()[0], 1000 * gpu.clock.last)

    def get_tensor_strides(self, name):
        shape = self.get_tensor_shape(name)
        return Dims([int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape))])

    def get_strides(self, binding):
        return self.get_tensor_strides(self._engine._binding(binding))

    def get_max_output_size(self, name):
        """Bytes at the largest shapes of the profile."""
        shape = list(self._engine.get_tensor_shape(name))
        if shape[:1] == [-1]:
            profile = self._engine.header["profiles"][self._profile]
            shape[0] = max(high[0] for _, _, high in profile.values())
        return int(np.prod(shape, dtype=np.int64)) * self._engine.get_tensor_dtype(name).itemsize

    def set_output_allocator(self, name, output_allocator):
        """Asked for memory before the execute, and told the shape."""
        if self._engine.get_tensor_mode(name) != TensorIOMode.OUTPUT:
            return self._say(f"{name} is no output")
        self._allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name):
        return self._allocators.get(name)

    def __init__(self, engine, log):
        self._allocators, self._listener, self._debugged = {}, None, set()
        self._engine = engine
        self._log = log
        self._profile = 0
        self._shapes = {}
        self._addresses = {}
        live.add(self)

    def _say(self, text):
        self._log.log(Severity.ERROR, f"3: [executionContext.cpp] Error Code 3: API Usage Error ({text})")
        return False

    def set_optimization_profile_async(self, profile_index, stream_handle):
        i = profile_index
        if refused("trt.IExecutionContext.set_optimization_profile_async", self._log):
            return False
        if not 0 <= i < self._engine.num_optimization_profiles:
            return self._say(f"no profile {i}")
        if i != self._profile:
            self._shapes = {}
        self._profile = i
        return True

    def set_input_shape(self, name, shape):
        key = name
        if refused("trt.IExecutionContext.set_input_shape", self._log):
            return False
        if self._engine.get_tensor_mode(key) != TensorIOMode.INPUT:
            return self._say(f"{key} is no input")
        shape = tuple(shape)
        own = self._engine.get_tensor_shape(key)
        if len(own) != len(shape) or any(a not in (-1, b) for a, b in zip(own, shape)):
            return self._say(f"{shape} of {key} does not fit {own}")
        if -1 in own:
            low, _, high = self._engine.header["profiles"][self._profile][key]
            if any(not a <= b <= c for a, b, c in zip(low, shape, high)):
                text = f"{shape} of {key} is outside profile {self._profile}: {low} to {high}"
                return self._say(text)
        self._shapes[key] = shape
        return True

    def set_binding_shape(self, binding, shape):
        return self.set_input_shape(self._engine._binding(binding), shape)

    def get_binding_shape(self, binding):
        return self.get_tensor_shape(self._engine._binding(binding))

    @property
    def engine(self):
        return self._engine

    @property
    def all_binding_shapes_specified(self):
        removed_in(10)
        return not self.infer_shapes()

    def infer_shapes(self):
        if refused("trt.IExecutionContext.infer_shapes", self._log):
            raise RuntimeError("trt.IExecutionContext.infer_shapes: injected failure")
        return [name for name in self._free() if -1 in self.get_tensor_shape(name)]

    def _free(self):
        return [row[0] for row in self._engine.header["inputs"] if -1 in row[2]]

    def get_tensor_shape(self, name):
        mode = self._engine.get_tensor_mode(name)
        if mode == TensorIOMode.NONE:
            return NoDims()
        shape = Dims(self._engine.shape(name, self._profile))
        if mode == TensorIOMode.INPUT:
            return self._shapes.get(name, shape)
        if self._shapes and -1 in shape:
            fed = {key: self.get_tensor_shape(key) for key in self._free()}
            if fed and not any(-1 in each for each in fed.values()):
                inferred = self._engine.output_shapes(fed)
                return tuple(inferred.get(name, (next(iter(fed.values()))[0], *shape[1:])))
        return shape

    def set_tensor_address(self, name, memory):
        key, address = name, memory
        if refused("trt.IExecutionContext.set_tensor_address", self._log):
            return False
        if self._engine.get_tensor_mode(key) == TensorIOMode.NONE:
            return self._say(f"there is no tensor {key}")
        if isinstance(address, float) or not hasattr(address, "__int__"):  # as pybind11 takes a number
            raise TypeError("set_tensor_address(): incompatible function arguments")
        self._addresses[key] = int(address)
        return True

    def get_tensor_address(self, name):
        """0 where none was set."""
        if self._engine.get_tensor_mode(name) == TensorIOMode.NONE:
            self._say(f"there is no tensor {name}")
        return self._addresses.get(name, 0)

    def execute_v2(self, bindings):
        """Addresses in the order of the tensors, done when it returns."""
        call = "trt.IExecutionContext.execute_v2"
        return not refused(call, self._log) and self._bind(bindings) and self._run(gpu.streams[0], wait=True)

    @until(10)
    def execute(self, batch_size=1, bindings=()):
        """Until 8.6. The number is of implicit batches: of an explicit one it changes nothing."""
        return self.execute_v2(bindings)

    @until(10)
    def execute_async(self, batch_size=1, bindings=(), stream_handle=0, input_consumed=None):
        """Until 8.6, as `execute`."""
        return self.execute_async_v2(bindings, stream_handle)

    @until(10)
    def execute_async_v2(self, bindings, stream_handle, input_consumed=None):
        """Until 8.6."""
        call = "trt.IExecutionContext.execute_async_v2"
        return not refused(call, self._log) and self._bind(bindings) and self._queued(call, stream_handle)

    def execute_async_v3(self, stream_handle):
        call = "trt.IExecutionContext.execute_async_v3"
        return not refused(call, self._log) and self._queued(call, stream_handle)

    def _bind(self, bindings):
        """Addresses of the tensors; until 8.6 those of the profiles before come first."""
        keys, first = list(self._engine), 0
        if major() < 10:
            first = len(keys) * self._profile
        if len(bindings) < first + len(keys):
            return self._say(f"{len(bindings)} bindings given, the profile's end at {first + len(keys)}")
        return all(self.set_tensor_address(key, int(address)) for key, address in zip(keys, bindings[first:]))

    def _queued(self, call, stream_handle):
        slow_host = simulate.switches().get("slow_host")
        if slow_host:
            time.sleep(float(slow_host))
        if int(stream_handle) == 0:
            house(f"{call} on the default stream")
        stream = gpu.streams.get(int(stream_handle))
        if stream is None:
            violation(f"{call} on a stream that does not exist")
            return self._say("invalid stream")
        return self._run(stream, handle=int(stream_handle))

    @since(10)
    def set_debug_listener(self, listener):
        self._listener = listener
        return True

    @since(10)
    def get_debug_listener(self):
        return self._listener

    @since(10)
    def set_tensor_debug_state(self, name, flag):
        if name not in [row[0] for row in self._engine.header.get("debug", [])]:
            return self._say(f"{name} was not marked for debugging")
        (self._debugged.add if flag else self._debugged.discard)(name)
        return True

    @since(10)
    def set_all_tensors_debug_state(self, flag):
        self._debugged = {row[0] for row in self._engine.header.get("debug", [])} if flag else set()
        return True

    @since(10)
    def get_debug_state(self, name):
        return name in self._debugged

    def _show(self, name, kind, value, handle):
        """Values in device memory for as long as the listener looks."""
        _, address = gpu.malloc(max(1, value.nbytes))
        gpu.memory[address].data[: value.nbytes] = value.reshape(-1).view(np.uint8)
        show = self._listener.process_debug_tensor
        called_back(show, address, TensorLocation.DEVICE, kind, Dims(value.shape), name, handle)
        gpu.free(address, host=False)

    def _run(self, stream, wait=False, handle=0):
        header = self._engine.header
        bound = {}
        for key, dtype, _ in header["inputs"] + header["outputs"]:
            allocator = self._allocators.get(key)
            if allocator is not None:
                shape = self.get_tensor_shape(key)
                needed = int(np.prod(shape)) * np.dtype(NUMPY[DataType[dtype]]).itemsize
                memory = self._addresses.get(key, 0)
                made = called_back(allocator.reallocate_output, key, memory, needed, 256, otherwise=0)
                self._addresses[key] = int(made or 0)
                called_back(allocator.notify_shape, key, Dims(shape))
            if key not in self._addresses:
                return self._say(f"the address of {key} was never set")
            shape = self.get_tensor_shape(key)
            if -1 in shape:
                return self._say(f"the shape of {key} was never set")
            nbytes = int(np.prod(shape)) * np.dtype(NUMPY[DataType[dtype]]).itemsize
            found = gpu.find(self._addresses[key], nbytes, f"tensor {key}")
            if found is None or found[0].host is not None:
                violation(f"the address of {key} is no device memory of {nbytes} bytes")
                return self._say(f"illegal address of {key}")
            bound[key] = (found[0], found[1], nbytes, np.dtype(NUMPY[DataType[dtype]]), shape)
        engine = self._engine
        fed = [row[0] for row in header["inputs"]]
        given = [row[0] for row in header["outputs"]]
        shown = [row[0] for row in header.get("debug", []) if row[0] in self._debugged]
        if shown and self._listener is not None:
            stream.synchronise()
            feed = {key: bound[key][0].data[bound[key][1] : bound[key][1] + bound[key][2]] for key in fed}
            feed = {key: data.copy().view(bound[key][3]).reshape(bound[key][4]) for key, data in feed.items()}
            for key, kind, value in engine.debugged(feed):
                if key in shown:
                    self._show(key, kind, np.ascontiguousarray(value), handle)

        def run():
            def array(key):
                item, offset, nbytes, dtype, shape = bound[key]
                return item.data[offset : offset + nbytes].view(dtype).reshape(shape)

            for key, output in zip(given, engine.compute({key: array(key).copy() for key in fed})):
                array(key)[...] = output

        addresses = {item[0].address for item in bound.values()}
        images = next((bound[key][4][0] for key in fed if len(bound[key][4])), 1)
        stream.put(Execute((id(self), tuple(sorted(addresses))), run, addresses), images)
        if wait:
            stream.synchronise()
        if self.profiler is not None and self.enqueue_emits_profile:
            stream.synchronise()
            self._report()
        return True


def held():
    return len(live)


__all__ = ["ICudaEngine", "IExecutionContext", "Runtime", "calls"]
