"""Ascend 310 and 310P through CANN: atc compiles, pyACL runs, npu-smi reports the state of the device.

Differences between CANN 5 and 8 are detected by function name (`Vendor.offers`), never by version. Order of calls and
ownership: CANN's pyACL guide and Huawei's samples (github.com/Ascend/samples, resnet50_async_imagenet).
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple

import numpy as np

from harness.backends.ascend import _atc, _devices
from harness.backends.ascend._codes import STREAM_FULL, WAIT_TIMEOUT
from harness.backends.ascend._pyacl import Undo, Vendor, initialized
from harness.backends.ascend._tensors import REBUILD, checked, fed_one, shown, told
from harness.backends.base import BuildSpec, Device, TensorSpec, as_list, trail
from harness.errors import RunError

if TYPE_CHECKING:
    from harness.backends.base import Tensors

HUGE_FIRST = 0  # malloc policy that the vendor recommends
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
ON_THE_BOARD = 0  # run mode: the program runs on the device itself, and every copy is device to device
NPY_INT8 = 1
SHAPE_DATA = "ascend_mbatch_shape_data"  # the extra input of an engine with batch sizes
AIPP_DATA = "ascend_dynamic_aipp_data"
IN_FLIGHT = 256  # executes queued before a wait; a stream that is full earlier returns STREAM_FULL
DTYPES = {
    0: "float32", 1: "float16", 2: "int8", 3: "int32", 4: "uint8", 6: "int16", 7: "uint16", 8: "uint32", 9: "int64",
    10: "uint64", 11: "float64", 12: "bool",
}  # fmt: skip

version, devices, health, build = _devices.version, _devices.devices, _devices.health, _atc.build
reset = _devices.reset


class _Tensor(NamedTuple):
    """A tensor of the engine under the suite's name, and its memory."""

    spec: TensorSpec
    device: int  # its address there
    size: int  # bytes: of an input's memory, of an output at the batch that is set
    host: int = 0  # where an output arrives


@contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[Session]:
    """A context with the engine on the device. Raises DeviceError when a vendor call fails, RunError when the engine is
    not the case's."""
    vendor = initialized()
    with Undo(vendor) as undo:
        yield _open(vendor, undo, Path(engine), device, spec)


def _open(vendor: Vendor, undo: Undo, engine: Path, device: Device, spec: BuildSpec) -> Session:
    vendor.do("acl.rt.set_device", device.index)
    undo.then("acl.rt.reset_device", device.index)
    context = vendor.do("acl.rt.create_context", device.index)
    undo.then("acl.rt.destroy_context", context)
    stream = vendor.do("acl.rt.create_stream")
    undo.then("acl.rt.destroy_stream", stream)
    mode = vendor.do("acl.rt.get_run_mode")
    model = vendor.do("acl.mdl.load_from_file", str(engine))
    undo.then("acl.mdl.unload", model)
    desc = vendor.ask("acl.mdl.create_desc")
    undo.then("acl.mdl.destroy_desc", desc)
    vendor.do("acl.mdl.get_desc", desc, model)
    inputs, tier, feeds = _inputs(vendor, undo, desc, spec)
    if tier is not None:
        vendor.do("acl.mdl.set_dynamic_batch_size", model, inputs, tier, spec.batch)
    outputs, results = _outputs(vendor, undo, desc, tier, spec)
    session = Session(vendor, context, stream, (model, inputs, outputs), mode, feeds, results)
    undo.run(session.settle)
    return session


def _inputs(vendor: Vendor, undo: Undo, desc: int, spec: BuildSpec) -> tuple[int, int | None, tuple[_Tensor, ...]]:
    """(data set, index of the input for the batch size or None, the tensors that the case feeds)."""
    count = vendor.ask("acl.mdl.get_num_inputs", desc)
    names = [vendor.ask("acl.mdl.get_input_name_by_index", desc, i) for i in range(count)]
    if AIPP_DATA in names:
        raise RunError(
            "the engine takes its AIPP parameters at run time", hint="build it with the suite's own AIPP file"
        )
    tier = names.index(SHAPE_DATA) if SHAPE_DATA in names else None
    if tier is not None:
        _check_tier(vendor, desc, spec)
    memory, dataset = _dataset(vendor, undo, "input", desc, count)
    wanted = [None if i == tier else _input(vendor, desc, i, name, spec) for i, name in enumerate(names)]
    _check_fed([tensor.name for tensor in wanted if tensor is not None], spec)
    return (
        dataset,
        tier,
        tuple(_Tensor(s, pointer, size) for s, (pointer, size) in zip(wanted, memory) if s is not None),
    )


def _outputs(
    vendor: Vendor, undo: Undo, desc: int, tier: int | None, spec: BuildSpec
) -> tuple[int, tuple[_Tensor, ...]]:
    """(data set, the outputs in the order of the case with the host memory that they arrive in)."""
    count = vendor.ask("acl.mdl.get_num_outputs", desc)
    ordered = _ordered([_output(vendor, desc, i, tier) for i in range(count)], spec)
    unsized = [tensor for tensor in ordered if any(size <= 0 for size in tensor.shape)]
    if unsized:
        raise RunError(
            f"output {shown(unsized[:1])} is empty, or its shape depends on the data", hint="export without that output"
        )
    memory, dataset = _dataset(vendor, undo, "output", desc, count)
    results = []
    for (pointer, room), tensor in zip(memory, ordered):
        size = int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
        if not 0 < size <= room:
            raise RunError(f"output {shown([tensor])} has {room} bytes of memory and needs {size}", hint=REBUILD)
        host = vendor.do("acl.rt.malloc_host", size)
        undo.then("acl.rt.free_host", host)
        results.append(_Tensor(tensor, pointer, size, host))
    results.sort(key=lambda tensor: spec.outputs.index(tensor.spec.name))
    return dataset, tuple(results)


def _dataset(vendor: Vendor, undo: Undo, side: str, desc: int, count: int) -> tuple[list[tuple[int, int]], int]:
    """([(device address, bytes)], data set) for all tensors of a side."""
    dataset = vendor.ask("acl.mdl.create_dataset")
    undo.then("acl.mdl.destroy_dataset", dataset)
    memory = []
    for index in range(count):
        size = vendor.ask(f"acl.mdl.get_{side}_size_by_index", desc, index)
        pointer = vendor.do("acl.rt.malloc", size, HUGE_FIRST)
        undo.then("acl.rt.free", pointer)
        buffer = vendor.ask("acl.create_data_buffer", pointer, size)
        undo.then("acl.destroy_data_buffer", buffer)
        vendor.do("acl.mdl.add_dataset_buffer", dataset, buffer)
        memory.append((pointer, size))
    return memory, dataset


def _dtype(vendor: Vendor, side: str, desc: int, index: int) -> str:
    code = vendor.code(f"acl.mdl.get_{side}_data_type", desc, index)
    if code not in DTYPES:
        raise RunError(
            f"{side} {index} of the engine has the data type {code}, which NumPy does not have",
            hint="compile it with --output_type=FP32",
        )
    return DTYPES[code]


def _check_tier(vendor: Vendor, desc: int, spec: BuildSpec) -> None:
    tiers = as_list(vendor.do("acl.mdl.get_dynamic_batch", desc)["batch"])
    if spec.batch not in tiers:
        raise RunError(
            f"the engine has the batch sizes {tiers}, the case needs {spec.batch}",
            hint="delete the engine and build it again",
        )


def _input(vendor: Vendor, desc: int, index: int, name: str, spec: BuildSpec) -> TensorSpec:
    """Input `index` of the engine. Raises RunError when it is not what the case feeds."""
    dims = vendor.do("acl.mdl.get_input_dims", desc, index)["dims"]
    shape = tuple(spec.batch if dim == -1 else int(dim) for dim in dims)
    found = TensorSpec(name, _dtype(vendor, "input", desc, index), shape)
    by_name = {tensor.name: tensor for tensor in spec.inputs}
    asked = by_name.get(name) or (spec.inputs[index] if index < len(spec.inputs) else None)  # long names are replaced
    if asked is None:
        raise RunError(f"the engine has an input {shown([found])} that the case does not feed", hint=REBUILD)
    needed = fed_one(asked, spec)
    if (needed.dtype, needed.shape) != (found.dtype, found.shape):
        raise RunError(
            f"the engine takes {shown([found])}, the case feeds {shown([needed])}",
            hint=REBUILD,
        )
    return needed


def _check_fed(names: list[str], spec: BuildSpec) -> None:
    if sorted(names) != sorted(tensor.name for tensor in spec.inputs):
        raise RunError(
            f"the engine takes {names}, the case feeds {[tensor.name for tensor in spec.inputs]}", hint=REBUILD
        )


def _output(vendor: Vendor, desc: int, index: int, tier: int | None) -> TensorSpec:
    """Output `index` under the runtime's name, at the current batch."""
    call = "acl.mdl.get_output_dims" if tier is None else "acl.mdl.get_cur_output_dims"
    shape = tuple(int(dim) for dim in vendor.do(call, desc, index)["dims"])
    name = vendor.ask("acl.mdl.get_output_name_by_index", desc, index)
    return TensorSpec(name, _dtype(vendor, "output", desc, index), shape)


def _ordered(found: list[TensorSpec], spec: BuildSpec) -> list[TensorSpec]:
    """The engine's outputs, in the engine's order, under their ONNX names.

    Names decide where they tell (see `told`); else the shapes, from `options["out_specs"]`; else the order of
    --out_nodes, which the compiler keeps, but not between outputs of one shape: an exchange would show nowhere. Raises
    RunError."""
    nodes = [str(node) for node in as_list(spec.options.get("out_nodes"))]
    if len(found) != len(spec.outputs) or (nodes and len(nodes) != len(spec.outputs)):
        raise RunError(
            f"the engine has {len(found)} outputs, the case names {len(spec.outputs)} of the nodes {nodes}",
            hint=REBUILD,
        )
    names = told([output.name for output in found], spec)
    open_places = [place for place, name in enumerate(names) if name is None]
    left = [name for name in spec.outputs if name not in names]
    if open_places and len(left) == len(open_places):
        for place, name in zip(open_places, _by_shape([found[place] for place in open_places], left, spec)):
            names[place] = name
    if sorted(map(str, names)) != sorted(spec.outputs):
        raise RunError(
            f"the engine's outputs are {[output.name for output in found]}, the case needs {list(spec.outputs)}",
            hint=REBUILD,
        )
    return [TensorSpec(str(name), output.dtype, output.shape) for name, output in zip(names, found)]


def _by_shape(found: list[TensorSpec], names: list[str], spec: BuildSpec) -> list[str]:
    """The names, in the order of `found`, whose own names tell nothing."""
    if len(found) > 1 and len({output.shape for output in found}) < len(found):
        raise RunError(
            f"the engine names outputs {shown(found)}, which say nothing, and two have the same shape: which is which "
            f"of {names} is not known",
            hint="name them in the graph: export the model again, delete the engine, and build it with a newer CANN",
        )
    shapes = {str(row[0]): row[2] for row in as_list(spec.options.get("out_specs"))}
    if any(name not in shapes for name in names):
        return names
    wanted = {name: tuple(spec.batch if dim == -1 else int(dim) for dim in shapes[name]) for name in names}
    chosen = []
    for output in found:
        fits = [name for name in names if name not in chosen and _alike(output.shape, wanted[name])]
        if len(fits) != 1:
            raise RunError(
                f"the engine's output {shown([output])} has a name and a shape that fit {fits or 'none'} of {wanted}",
                hint=REBUILD,
            )
        chosen += fits
    return chosen


def _alike(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether the shapes match; sizes of 0 or less in `wanted` are unknown and match any."""
    return len(shape) == len(wanted) and all(want < 1 or size == want for size, want in zip(shape, wanted))


class Session:
    """An engine on a device. Any thread may call it, one at a time: each call binds the context to its thread."""

    def __init__(
        self, vendor: Vendor, context: int, stream: int, run: tuple[int, int, int], mode: int,
        inputs: tuple[_Tensor, ...], outputs: tuple[_Tensor, ...],
    ) -> None:  # fmt: skip
        self.inputs = tuple(tensor.spec for tensor in inputs)
        self.outputs = tuple(tensor.spec for tensor in outputs)
        self._vendor, self._context, self._stream, self._run = vendor, context, stream, run
        self._to, self._from = (
            (DEVICE_TO_DEVICE, DEVICE_TO_DEVICE) if mode == ON_THE_BOARD else (HOST_TO_DEVICE, DEVICE_TO_HOST)
        )
        self._feeds = {tensor.spec.name: tensor for tensor in inputs}
        self._results = outputs
        self._flying = False
        self._written, self._done = False, False

    def write(self, inputs: Tensors) -> None:
        """Copy the batch to the device. Raises RunError when a name, dtype or shape is not the engine's."""
        arrays = checked(inputs, self.inputs)
        self.settle()
        self._written = self._done = False
        for name, tensor in self._feeds.items():
            self._upload(tensor, arrays[name])
        self._written = True

    def _upload(self, tensor: _Tensor, array: Any) -> None:
        # `kept` keeps the memory of the address alive until the copy is done
        if self._vendor.offers("acl.util.bytes_to_ptr"):
            kept = array.tobytes()
            source = self._vendor.ask("acl.util.bytes_to_ptr", kept)
        else:  # CANN 5
            kept = np.ascontiguousarray(array)
            source = self._vendor.ask("acl.util.numpy_to_ptr", kept)
        self._vendor.do("acl.rt.memcpy", tensor.device, tensor.size, source, array.nbytes, self._to)
        del kept

    def execute(self, times: int = 1) -> None:
        """Queue `times` executes on the stream, at most IN_FLIGHT at once, and wait for the device."""
        if not self._written:
            raise RunError("nothing was written before execute", hint="write the inputs first")
        vendor, stream = self._vendor, self._stream
        model, inputs, outputs = self._run
        self.settle()
        self._done = False
        submit = vendor.function("acl.mdl.execute_async")
        left = times
        while left > 0:
            together = min(left, IN_FLIGHT)
            trail("acl.mdl.execute_async")
            self._flying = True
            for _ in range(together):
                status = submit(model, inputs, outputs, stream)
                if status == STREAM_FULL:
                    vendor.do("acl.rt.synchronize_stream", stream)
                if status in (STREAM_FULL, WAIT_TIMEOUT):
                    status = submit(model, inputs, outputs, stream)
                if status != 0:
                    raise vendor.error("acl.mdl.execute_async", status)
            vendor.do("acl.rt.synchronize_stream", stream)
            self._flying = False
            left -= together
        self._done = True

    def read(self) -> Tensors:
        """The outputs of the last execute, by ONNX name, as fresh arrays."""
        if not self._done:
            raise RunError("nothing was executed since the last write", hint="execute before read")
        self.settle()
        return {tensor.spec.name: self._download(tensor) for tensor in self._results}

    def _download(self, tensor: _Tensor) -> Any:
        vendor, size = self._vendor, tensor.size
        vendor.do("acl.rt.memcpy", tensor.host, size, tensor.device, size, self._from)
        if vendor.offers("acl.util.ptr_to_bytes"):
            raw = np.frombuffer(vendor.ask("acl.util.ptr_to_bytes", tensor.host, size), np.int8)
        else:  # CANN 5
            raw = vendor.ask("acl.util.ptr_to_numpy", tensor.host, (size,), NPY_INT8)
        return raw.view(tensor.spec.dtype).reshape(tensor.spec.shape).copy()

    def settle(self) -> None:
        """Bind the context to this thread, and wait for executes that an interruption left in flight."""
        self._vendor.do("acl.rt.set_context", self._context)
        if self._flying:
            self._vendor.do("acl.rt.synchronize_stream", self._stream)
            self._flying = False
