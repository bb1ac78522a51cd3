"""The run side: runtime, engine, context."""

from __future__ import annotations

import os
import signal
import time
import weakref

import numpy as np
from simulated_gpu import Execute, calls, compiled, driver, gpu, house, name, simulate, trt_version, violation, visible

from tensorrt._build import MAGIC, HostMemory, refused
from tensorrt._kinds import (
    NUMPY,
    DataType,
    Dims,
    Scoped,
    Severity,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    loggable,
    major,
    removed_in,
)

live = weakref.WeakSet()


class Runtime(Scoped):
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

    def deserialize_cuda_engine(self, plan):
        if refused("trt.Runtime.deserialize_cuda_engine", self._log):
            return None
        try:
            header, graph = compiled.unpack(MAGIC, bytes(plan))
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
        live.add(self)

    num_io_tensors = property(lambda self: len(self._rows))
    num_optimization_profiles = property(lambda self: max(1, len(self.header["profiles"])))

    def get_tensor_name(self, i):
        return list(self._rows)[i]

    def get_tensor_mode(self, key):
        return self._rows[key][0] if key in self._rows else TensorIOMode.NONE

    def __len__(self):
        return len(self._rows)

    def __iter__(self):
        return iter(list(self._rows))

    def __getitem__(self, i):
        return list(self._rows)[i]

    def serialize(self):
        return HostMemory(compiled.pack(MAGIC, self.header, self._graph))

    def get_tensor_location(self, key):
        return TensorLocation.DEVICE

    def get_tensor_format(self, key):
        return TensorFormat.LINEAR

    @property
    def has_implicit_batch_dimension(self):
        removed_in(11)
        return False

    # bindings by number, until 8.6

    @property
    def num_bindings(self):
        removed_in(10)
        return len(self._rows)

    def _binding(self, i):
        removed_in(10)
        return i if isinstance(i, str) else list(self._rows)[i]

    def get_binding_name(self, i):
        return self._binding(i)

    def get_binding_index(self, key):
        removed_in(10)
        return list(self._rows).index(key) if key in self._rows else -1

    def binding_is_input(self, i):
        return self.get_tensor_mode(self._binding(i)) == TensorIOMode.INPUT

    def get_binding_shape(self, i):
        return self.get_tensor_shape(self._binding(i))

    def get_binding_dtype(self, i):
        return self.get_tensor_dtype(self._binding(i))

    def get_tensor_shape(self, key):
        return Dims(self._rows[key][1][2])

    def get_tensor_dtype(self, key):
        return DataType[self._rows[key][1][1]]

    def get_tensor_profile_shape(self, key, i):
        if self.get_tensor_mode(key) != TensorIOMode.INPUT:
            raise ValueError("Invalid dimensions with rank -1")
        return [tuple(shape) for shape in self.header["profiles"][i][key]]

    def create_execution_context(self):
        if refused("trt.ICudaEngine.create_execution_context", self._log):
            return None
        return IExecutionContext(self, self._log)

    def compute(self, feed):
        if self._network is None:
            self._network = compiled.network(self.header, self._graph)
        return simulate.damage(self._network(feed), len(next(iter(feed.values()))))


class IExecutionContext(Scoped):
    def __init__(self, engine, log):
        self._engine = engine
        self._log = log
        self._profile = 0
        self._shapes = {}
        self._addresses = {}
        live.add(self)

    def _say(self, text):
        self._log.log(Severity.ERROR, f"3: [executionContext.cpp] Error Code 3: API Usage Error ({text})")
        return False

    def set_optimization_profile_async(self, i, stream):
        if refused("trt.IExecutionContext.set_optimization_profile_async", self._log):
            return False
        if not 0 <= i < self._engine.num_optimization_profiles:
            return self._say(f"no profile {i}")
        self._profile = i
        self._shapes = {}
        return True

    def set_input_shape(self, key, shape):
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

    def set_binding_shape(self, i, shape):
        return self.set_input_shape(self._engine._binding(i), shape)

    def get_binding_shape(self, i):
        return self.get_tensor_shape(self._engine._binding(i))

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
        return [row[0] for row in self._engine.header["inputs"] if -1 in row[2] and row[0] not in self._shapes]

    def get_tensor_shape(self, key):
        shape = self._engine.get_tensor_shape(key)
        if self._engine.get_tensor_mode(key) == TensorIOMode.INPUT:
            return self._shapes.get(key, shape)
        if self._shapes and shape[:1] == (-1,):
            return (next(iter(self._shapes.values()))[0], *shape[1:])
        return shape

    def set_tensor_address(self, key, address):
        if refused("trt.IExecutionContext.set_tensor_address", self._log):
            return False
        if self._engine.get_tensor_mode(key) == TensorIOMode.NONE:
            return self._say(f"there is no tensor {key}")
        if type(address) is not int:
            raise TypeError("set_tensor_address(): incompatible function arguments")
        self._addresses[key] = address
        return True

    def get_tensor_address(self, key):
        """0 where none was set."""
        if self._engine.get_tensor_mode(key) == TensorIOMode.NONE:
            self._say(f"there is no tensor {key}")
        return self._addresses.get(key, 0)

    def execute_v2(self, bindings):
        """Addresses in the order of the tensors, done when it returns."""
        call = "trt.IExecutionContext.execute_v2"
        return not refused(call, self._log) and self._bind(bindings) and self._run(gpu.streams[0], wait=True)

    def execute_async_v2(self, bindings, stream_handle):
        """Until 8.6."""
        removed_in(10)
        call = "trt.IExecutionContext.execute_async_v2"
        return not refused(call, self._log) and self._bind(bindings) and self._queued(call, stream_handle)

    def execute_async_v3(self, stream_handle):
        call = "trt.IExecutionContext.execute_async_v3"
        return not refused(call, self._log) and self._queued(call, stream_handle)

    def _bind(self, bindings):
        keys = list(self._engine)
        if len(bindings) != len(keys):
            return self._say(f"{len(bindings)} bindings given, the engine has {len(keys)}")
        return all(self.set_tensor_address(key, int(address)) for key, address in zip(keys, bindings))

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
        return self._run(stream)

    def _run(self, stream, wait=False):
        header = self._engine.header
        bound = {}
        for key, dtype, _ in header["inputs"] + header["outputs"]:
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

        def run():
            def array(key):
                item, offset, nbytes, dtype, shape = bound[key]
                return item.data[offset : offset + nbytes].view(dtype).reshape(shape)

            for key, output in zip(given, engine.compute({key: array(key).copy() for key in fed})):
                array(key)[...] = output

        addresses = {item[0].address for item in bound.values()}
        stream.until = gpu.clock.submit((*bound[fed[0]][4], 1)[0])
        stream.ops.append(Execute((id(self), tuple(sorted(addresses))), run, addresses))
        if wait:
            stream.synchronise()
        return True


def held():
    return len(live)


__all__ = ["ICudaEngine", "IExecutionContext", "Runtime", "calls"]
