"""The run side: System, Device, engine, context, queue, tensors.

What vendor programs do works here; what this project's backend must not do beside that is noted as "house"."""

from __future__ import annotations

import numpy as np

from magicmind.python.cc._pywrap_runtime import ITensor
from magicmind.python.common.types import DataType, get_numpy_dtype_by_datatype
from magicmind.python.runtime import _base as base
from magicmind.python.runtime._base import Alive, Code, compiled, driver, injected, refused, shout, simulate, status
from magicmind.python.runtime._detect import detected


class System:
    _open = False

    def __init__(self):
        if refused("mm.System"):
            raise RuntimeError("mm.System: driver is not loaded")

    def initialize(self):
        failed = injected("mm.System.initialize")
        if failed:
            return failed
        if driver.open:
            base.house("a second System in one process")
        if driver.count() < 1:
            return status("mm.System.initialize", Code.UNAVAILABLE, "no device")
        self._open = True
        driver.open += 1
        return status("mm.System.initialize")

    def destory(self):
        """Spelt as the vendor spells it."""
        call = "mm.System.destory"
        if not self._open:
            base.violation("System closed twice, or never opened")
            return status(call, Code.FAILED_PRECONDITION, "not open")
        self._open = False
        driver.open -= 1
        for item in list(driver.live):
            base.house(f"System closed before its {type(item).__name__}")
        driver.live.clear()
        if not driver.open:
            for device in range(driver.count()):
                simulate.occupy(driver.number(device), held=False)
        driver.activated = driver.activated and driver.open > 0
        return injected(call) or status(call)

    def __enter__(self):
        if not self.initialize().ok():
            raise RuntimeError("System: initialisation failed")
        return self

    def __exit__(self, *error):
        self.destory().ok()

    def __del__(self):
        if self._open and simulate is not None:
            simulate.note("leak", what="a System was dropped open")

    def device_count(self):
        if refused("mm.System.device_count"):
            raise RuntimeError("mm.System.device_count: driver error")
        if not self._open:
            base.violation("device_count of a System that is not open")
        return driver.count()


class Device(Alive):
    def __init__(self):
        if refused("mm.Device"):
            raise RuntimeError("mm.Device: internal error")
        Alive.__init__(self)
        self.id = 0

    def active(self):
        call = "mm.Device.active"
        failed = injected(call)
        if failed:
            return failed
        if not driver.open:
            base.house("Device.active without a System")
        if not 0 <= self.id < driver.count():
            return status(call, Code.INVALID_ARGUMENT, f"device {self.id} of {driver.count()}")
        driver.active, driver.activated = self.id, True
        return status(call)

    def create_queue(self):
        call = "mm.Device.create_queue"
        if refused(call):
            return None
        if driver.device(call) != self.id:
            return shout(call, "device is not active", Code.FAILED_PRECONDITION)
        return Queue(self.id)


class Engine(Alive):
    def __init__(self, header, graph, device):
        Alive.__init__(self)
        self.header = header
        self.graph = graph
        self.device = device
        self._network = None
        self._last = (None, None)
        simulate.occupy(driver.number(device))

    def create_i_context(self):
        if refused("mm.IEngine.create_i_context"):
            return None
        return Context(self)

    def compute(self, arrays):
        """Outputs for inputs (arrays that nobody changes any more); the last result is kept."""
        key = tuple(id(array) for array in arrays)
        if self._last[0] != key:
            if self._network is None:
                rows = self.header.get("graph_outputs", self.header["outputs"])
                self._network = compiled.network(dict(self.header, outputs=rows), self.graph)
            outputs = self._network({row[0]: array for row, array in zip(self.header["inputs"], arrays)})
            outputs = simulate.damage(self._boxes(outputs), len(arrays[0]))
            self._last = (key, (arrays, outputs))  # arrays are kept, so that their ids stay theirs
        return self._last[1][1]

    def _boxes(self, outputs):
        """The engine's outputs from the graph's, boxes decoded."""
        if not self.header.get("detections"):
            return outputs
        made = {row[0]: output for row, output in zip(self.header["graph_outputs"], outputs)}
        for each in self.header["detections"]:
            made.update(zip(each["makes"], detected([outputs[i] for i in each["heads"]], each["rule"])))
        return [made[row[0]] for row in self.header["outputs"]]


class Context(Alive):
    def __init__(self, engine):
        Alive.__init__(self)
        self.engine = engine

    def create_inputs(self):
        if refused("mm.IContext.create_inputs"):
            return None
        return [InputTensor(self.engine, row) for row in self.engine.header["inputs"]]

    def create_outputs(self, inputs, suppress_infer_shape_error=False):
        """Tensors for the outputs at the shapes of these inputs; None where an input was never filled."""
        call = "mm.IContext.create_outputs"
        if refused(call):
            return None
        if any(tensor.on_card is None for tensor in inputs):
            return None if suppress_infer_shape_error else shout(call, "an input was never filled")
        batch = len(inputs[0].on_card)
        rows = self.engine.header["outputs"]
        return [OutputTensor(self.engine, i, DataType[row[1]], _at(row[2], batch)) for i, row in enumerate(rows)]

    def enqueue(self, inputs, outputs, queue, input_by_tensor_order=False):
        """An empty list is filled with new tensors; a list that an earlier enqueue filled is written again. Inputs
        are given in the model's order, by `input_by_tensor_order` or not."""
        call = "mm.IContext.enqueue"
        failed = injected(call)
        if failed:
            return failed
        if len(inputs) != len(self.engine.header["inputs"]) or any(tensor.on_card is None for tensor in inputs):
            return status(call, Code.INVALID_ARGUMENT, "an input was never filled")
        if queue.device != self.engine.device:
            return status(call, Code.INVALID_ARGUMENT, "the queue is another device's")
        arrays = [tensor.on_card for tensor in inputs]
        batch = len(arrays[0])
        rows = self.engine.header["outputs"]
        if outputs and len(outputs) != len(rows):
            return status(call, Code.INVALID_ARGUMENT, f"{len(outputs)} outputs given, the engine has {len(rows)}")
        made = [
            OutputTensor(self.engine, i, DataType[dtype], _at(shape, batch))
            for i, (_, dtype, shape) in enumerate(rows)
            if not outputs or not outputs[i].fits(self.engine, _at(shape, batch))
        ]
        limit = simulate.switches().get("memory_mb")
        if limit is not None:
            held = sum(item.nbytes for item in list(driver.live) if isinstance(item, OutputTensor))
            if held > float(limit) * 2**20:
                return status(call, Code.RESOURCE_EXHAUSTED, f"device memory: outputs hold {held} bytes")
        driver.allocations += len(made)
        if not outputs:
            outputs.extend(made)
        for tensor in made:  # of another batch than before: a guess, no vendor program does it
            outputs[tensor.place] = tensor
        for tensor in outputs:
            tensor.filled_from(arrays)
        queue.add(batch, outputs)
        return status(call)


def _at(shape, batch):
    return [batch, *shape[1:]] if shape and shape[0] == -1 else shape


class Queue(Alive):
    def __init__(self, device):
        Alive.__init__(self)
        self.device = device
        self._until = 0.0
        self._pending = []

    def add(self, batch, outputs):
        self._until = driver.clock(self.device).submit(batch)
        self._pending += outputs

    def sync(self):
        failed = injected("mm.IQueue.sync")
        if failed:
            return failed
        driver.clock(self.device).wait(self._until)
        for output in self._pending:
            output.ready = True
        self._pending = []
        return status("mm.IQueue.sync")


class InputTensor(ITensor, Alive):
    def __init__(self, engine, row):
        Alive.__init__(self)
        key, dtype, self._shape = row
        self._range = engine.header["range"] if engine else (0, 1 << 31)
        self._limits = engine.header.get("limits", {}).get(key) if engine else None
        self._dtype = np.dtype(get_numpy_dtype_by_datatype(DataType[dtype]))
        self.on_card = None

    def from_numpy(self, array):
        """Values of another number type are cast: resnet50_onnx feeds float64 to UINT8, bert float64 to INT32."""
        call = "mm.ITensor.from_numpy"
        failed = injected(call)
        if failed:
            return failed
        if array.dtype.kind not in "biuf":
            return status(call, Code.INVALID_ARGUMENT, f"{array.dtype} given for {self._dtype}")
        if array.dtype != self._dtype:
            base.house(f"from_numpy casts {array.dtype} to {self._dtype}")
        low, high = self._range
        fits = not self._shape or array.ndim == len(self._shape)  # without dims: any rank
        fits = fits and all(own in (-1, size) for size, own in zip(array.shape, self._shape))
        least, most = self._limits or ([], [])
        fits = fits and all(one <= size <= other for one, size, other in zip(least, array.shape, most))
        if not fits or (self._shape[:1] == [-1] and not low <= len(array) <= high):
            text = f"shape {array.shape} given for {self._shape} with batch {low} to {high}"
            text += f", sizes {least} to {most}" if least else ""
            return status(call, Code.INVALID_ARGUMENT, text)
        if not array.flags.c_contiguous:
            base.house("from_numpy of an array that is not contiguous")
        self.on_card = np.ascontiguousarray(array).astype(self._dtype)  # also without `to`, which most programs omit
        return status(call)

    def to(self, device):
        """No vendor program looks at the answer, so that it may be of any kind: switch `to_answers`."""
        failed = injected("mm.ITensor.to")
        if failed:
            return failed
        if self.on_card is None:
            return status("mm.ITensor.to", Code.FAILED_PRECONDITION, "nothing to copy")
        kind = simulate.switches().get("to_answers", "status")
        if kind == "status":
            return status("mm.ITensor.to")
        return self if kind == "tensor" else None


class Tensor(InputTensor):
    """One that a program makes itself, of a fixed shape."""

    def __init__(self, shape, dtype, location=None):
        row = ("", DataType(dtype).name, [int(size) for size in shape])
        InputTensor.__init__(self, None, row)


class OutputTensor(ITensor, Alive):
    def __init__(self, engine, i, dtype, shape):
        Alive.__init__(self)
        self.place = i
        self._engine = engine
        self._arrays = None
        self._dtype = np.dtype(get_numpy_dtype_by_datatype(dtype))
        self._shape = tuple(shape)
        self.nbytes = 0 if min(shape, default=0) < 0 else int(np.prod(shape)) * self._dtype.itemsize  # 0: not known yet
        self.ready = False

    def fits(self, engine, shape):
        """Whether an enqueue of that engine can write here."""
        return self._engine is engine and self._shape == tuple(shape)

    def to(self, device):
        """Of a tensor that create_outputs made: where it shall lie, which it does."""

    def filled_from(self, arrays):
        self._arrays, self.ready = arrays, False

    def asnumpy(self):
        call = "mm.ITensor.asnumpy"
        if refused(call):
            return None
        if not driver.open:
            base.house("asnumpy after the System closed")
        if not self.ready:
            base.violation("asnumpy before the queue was synchronised")
            return np.frombuffer(b"\x5a" * self.nbytes, self._dtype).reshape([max(0, size) for size in self._shape])
        return np.array(self._engine.compute(self._arrays)[self.place])
