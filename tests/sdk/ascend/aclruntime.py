"""A simulated aclruntime, the compiled half of ais_bench's Python API: InferSession of the vendor runs on it as it is.

Names and behaviour are those of PyInterface.cpp and ModelInferenceProcessor.cpp in the vendor's ais_bench. Everything
is done through the simulated pyACL, so the ledger sees it. A failure is a RuntimeError with the code, as there."""

from __future__ import annotations

import ctypes
import enum
import time
from pathlib import Path
from typing import ClassVar

import acl
import numpy as np
import simulated_cann as cann

dtype = enum.IntEnum(
    "dtype", {"float32": 0, "float16": 1, "int8": 2, "int32": 3, "uint8": 4, "int64": 9, "double": 11, "bool": 12}
)
MEMORY = enum.IntEnum("type", {"memory_host": 0, "memory_device": 1, "memory_dvpp": 2})
NUMPY = {kind: np.dtype("float64" if kind.name == "double" else kind.name) for kind in dtype}


def check(call, code):
    if code:
        raise RuntimeError(f"[{code}][ACL: {call} failed] ")


class Tensor:
    """An array on the host or, after to_device, out of the host's reach until to_host."""

    def __init__(self, array):
        self._array, self.device, self.type = np.ascontiguousarray(array), -1, MEMORY.memory_host

    def to_device(self, device):
        if not 0 <= device < cann.device_count():
            check("to_device", 100001)
        self.device, self.type = device, MEMORY.memory_device

    def to_host(self):
        self.device, self.type = -1, MEMORY.memory_host

    def __array__(self, dtype=None, copy=None):
        if self.type != MEMORY.memory_host:
            raise RuntimeError("this tensor is not in host: call to_host() first")
        return np.array(self._array, dtype)

    @property
    def shape(self):
        return list(self._array.shape)

    @property
    def dtype(self):
        return next(kind for kind, numpy in NUMPY.items() if numpy == self._array.dtype)


class BaseTensor:
    """An address and its bytes; what lies there is the caller's."""

    def __init__(self, buf, size):
        self.buf, self.size = buf, size


class Record:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def session_options():
    return Record(loop=1, log_level=2, acl_json_path="")


def infer_options():
    return Record(output_dir="", auto_dym_shape=False, auto_dym_dims=False, out_format="BIN", pure_infer_mode=False)


class MemorySummary:
    H2D_time_list: ClassVar[list[float]] = []
    D2H_time_list: ClassVar[list[float]] = []

    def reset(self):
        self.H2D_time_list.clear(), self.D2H_time_list.clear()


def _save(stem, kind, array):
    """As NPY, TXT (a line for each row of the last axis) or, by default, the bytes; for the owner and its group."""
    path = Path(f"{stem}.{kind.lower() if kind in ('NPY', 'TXT') else 'bin'}")
    if kind == "NPY":
        np.save(path, array)
    elif kind == "TXT":
        np.savetxt(path, array.reshape(-1, array.shape[-1] if array.ndim else 1), "%g")
    else:
        path.write_bytes(array.tobytes())
    path.chmod(0o640)


class InferenceSession:
    _live: ClassVar[list[InferenceSession]] = []

    def __init__(self, model, device, options):
        self._device, self._options, self._summary = device, options, Record(exec_time_list=[])
        code = acl.init()
        check("init", 0 if code == acl.chip.REPEAT_INITIALIZE else code)
        check("set_device", acl.rt.set_device(device))
        self._context, code = acl.rt.create_context(device)
        check("create_context", code)
        self._model, code = acl.mdl.load_from_file(model)
        check("load_from_file", code)
        self._desc = acl.mdl.create_desc()
        check("get_desc", acl.mdl.get_desc(self._desc, self._model))
        self._inputs = [row for row in self._described("input") if row.name != cann.SHAPE_DATA]
        self._outputs = self._described("output")
        self._dynamic, self._sizes, self._kept = (), [], None
        self._live.append(self)

    def _described(self, side):
        found = []
        for index in range(getattr(acl.mdl, f"get_num_{side}s")(self._desc)):
            dims, code = getattr(acl.mdl, f"get_{side}_dims")(self._desc, index)
            check(f"get_{side}_dims", code)
            size = getattr(acl.mdl, f"get_{side}_size_by_index")(self._desc, index)
            kind = dtype(getattr(acl.mdl, f"get_{side}_data_type")(self._desc, index))
            layout = getattr(acl.mdl, f"get_{side}_format")(self._desc, index)
            found.append(
                Record(name=dims["name"], shape=dims["dims"], datatype=kind, format=layout, size=size, realsize=size)
            )
        return found

    def get_inputs(self):
        return self._inputs

    def get_outputs(self):
        return self._outputs

    def options(self):
        return self._options

    def sumary(self):
        return self._summary

    def reset_sumaryinfo(self):
        self._summary.exec_time_list.clear()

    # --- what may change between executes ---------------------------------------------------------------------------

    def set_staticbatch(self):
        self._dynamic = ()

    def get_max_dym_batchsize(self):
        self._bound()
        return max(acl.mdl.get_dynamic_batch(self._desc)[0]["batch"], default=0)

    def set_dynamic_batchsize(self, batch):
        largest = self.get_max_dym_batchsize()
        if batch not in acl.mdl.get_dynamic_batch(self._desc)[0]["batch"]:
            raise RuntimeError(f"the dynamic_batch parameter is not correct: {batch}")
        for row in self._inputs:
            if -1 in row.shape:
                row.realsize = row.size * batch // largest
        self._dynamic = ("batch", batch)

    def set_dynamic_hw(self, height, width):
        """InferSession gives the height first, whatever the vendor's names of the arguments say."""
        self._real({row.name: [*row.shape[:2], height, width] for row in self._inputs if row.shape[2:] == [-1, -1]})
        self._dynamic = ("hw", height, width)

    def set_dynamic_dims(self, text):
        shapes = self._parsed(text)
        self._real(shapes)
        self._dynamic = ("dims", [dim for row in self._inputs for dim in shapes[row.name]])

    def set_dynamic_shape(self, text):
        shapes = self._parsed(text)
        self._real(shapes)
        self._dynamic = ("shape", shapes)

    def set_custom_outsize(self, sizes):
        self._sizes = list(sizes)

    def _parsed(self, text):
        shapes = {name: [int(dim) for dim in dims.split(",")] for name, _, dims in
                  (part.rpartition(":") for part in text.split(";"))}  # fmt: skip
        if set(shapes) != {row.name for row in self._inputs}:
            raise RuntimeError(f"the names of {text} are not the model's")
        return shapes

    def _real(self, shapes):
        for row in self._inputs:
            if row.name in shapes:
                row.realsize = int(np.prod(shapes[row.name])) * NUMPY[row.datatype].itemsize

    def get_dym_aipp_input_exist(self):
        return 0

    def check_dym_aipp_input_exist(self):
        raise RuntimeError("dynamic AIPP is not simulated: run this beside a card")

    def create_tensor_from_fileslist(self, desc, files):
        """The files of a batch, one behind the other, as the bytes that the input takes."""
        data = b"".join(Path(file).read_bytes() for file in files)
        if len(data) != desc.realsize:
            raise RuntimeError(f"name {desc.name} in size {len(data)} needsize {desc.realsize} not match")
        tensor = Tensor(np.frombuffer(data, np.uint8))
        tensor.to_device(self._device)
        return tensor

    # --- executes ---------------------------------------------------------------------------------------------------

    def run(self, names, feeds):
        if not all(
            isinstance(feed, (Tensor, BaseTensor)) for feed in (feeds.values() if isinstance(feeds, dict) else feeds)
        ):
            raise TypeError("run(): incompatible function arguments")
        if isinstance(feeds, dict):
            if set(feeds) != {row.name for row in self._inputs}:
                raise RuntimeError(f"the names of {list(feeds)} are not the model's")
            feeds = [feeds[row.name] for row in self._inputs]
        self._kept = None
        return self._execute([self._bytes(feed) for feed in feeds], names)

    def first_inner_run(self, names, feeds):
        fed = [self._bytes(feed) for feed in feeds]
        outputs = self._execute(fed, [row.name for row in self._outputs])
        self._kept = (fed, [each._array.tobytes() for each in outputs])
        return []

    def inner_run(self, relation, names, get_outputs, mem_copy):
        """An input whose entry is not negative is that output of the execute before."""
        if self._kept is None:
            raise RuntimeError("inner_run without first_inner_run")
        fed = [old if of < 0 else self._kept[1][of] for old, of in zip(self._kept[0], relation)]
        outputs = self._execute(fed, [row.name for row in self._outputs])
        self._kept = (fed, [each._array.tobytes() for each in outputs])
        return [each for each, row in zip(outputs, self._outputs) if row.name in names] if get_outputs else []

    def run_pipeline(self, names, feeds, *how):
        if not isinstance(feeds, list):
            return self._over_files(names, feeds, *how)
        shapes, by_shape, by_dims = how
        outputs = []
        for fed, dims in zip(feeds, shapes):
            text = ";".join(f"{row.name}:{','.join(map(str, shape))}" for row, shape in zip(self._inputs, dims))
            if by_shape or by_dims:
                (self.set_dynamic_shape if by_shape else self.set_dynamic_dims)(text)
            outputs.append(self.run(names, fed))
            for each in outputs[-1]:
                each.to_host()
        return outputs

    def _over_files(self, batches, options, others=()):
        """One after the other, dealt to the sessions of as many threads; outputs go to files (pipeline.cpp)."""
        sessions = [self, *others]
        for place, files in enumerate(batches):
            session = sessions[place % len(sessions)]
            arrays = [session._from_file(file, row) for file, row in zip(files, session._inputs)]
            text = ";".join(
                f"{row.name}:{','.join(map(str, each.shape))}" for row, each in zip(session._inputs, arrays)
            )
            if options.auto_dym_shape or options.auto_dym_dims:
                (session.set_dynamic_shape if options.auto_dym_shape else session.set_dynamic_dims)(text)
            outputs = session.run([row.name for row in session._outputs], [Tensor(each) for each in arrays])
            for index, each in enumerate(outputs if options.output_dir else []):
                each.to_host()
                _save(Path(options.output_dir) / f"{Path(files[0]).stem}_{index}", options.out_format, np.array(each))
        for other in others:
            self._summary.exec_time_list += other._summary.exec_time_list
            other.reset_sumaryinfo()

    @staticmethod
    def _from_file(file, row):
        if file.startswith("pure_infer_data_"):
            highest = 1 if file.endswith("zero") else 255
            return np.random.RandomState(0).randint(0, highest, row.realsize).astype(np.uint8)
        return np.load(file) if file.lower().endswith(".npy") else np.fromfile(file, np.uint8)

    def _bytes(self, feed):
        if isinstance(feed, BaseTensor):
            return ctypes.string_at(feed.buf, feed.size)
        return feed._array.tobytes()

    def _bound(self):
        check("set_context", acl.rt.set_context(self._context))

    def _execute(self, feeds, names):
        """Outputs as tensors on the device."""
        self._bound()
        if len(feeds) != len(self._inputs):
            raise RuntimeError(f"{len(feeds)} inputs are given, the model has {len(self._inputs)}")
        places = {row.name: place for place, row in enumerate(self._outputs)}
        strange = [name for name in names if name not in places]
        if strange:
            raise RuntimeError(f"outnames {strange[0]} not valid")
        for row, data in zip(self._inputs, feeds):
            if len(data) != row.realsize:
                raise RuntimeError(f"name {row.name} in size {len(data)} needsize {row.realsize} not match")
        fed, held = self._dataset([max(row.size, row.realsize) for row in self._inputs])
        found, written = self._dataset([row.size or size for row, size in zip(self._outputs, self._asked())])
        try:
            for (address, _), data in zip(held, feeds):
                pointer = acl.util.bytes_to_ptr(data)
                check("memcpy", acl.rt.memcpy(address, len(data), pointer, len(data), 1))
            self._set(fed, held)
            for _ in range(self._options.loop):
                check("execute", acl.mdl.execute(self._model, fed, found))
                self._summary.exec_time_list.append(self._time())
            outputs = [self._fetched(index, found, address) for index, (address, _) in enumerate(written)]
        finally:
            for dataset, rows in ((fed, held), (found, written)):
                acl.mdl.destroy_dataset(dataset)
                for address, buffer in rows:
                    acl.destroy_data_buffer(buffer), acl.rt.free(address)
        return [outputs[places[name]] for name in names]

    def _time(self):
        """(begin, end) of the last execute in ms, by the device's clock; older releases tell its length alone."""
        took, end = 1000 * acl.chip.state.clocks[self._device].last, 1000 * time.perf_counter()
        return took if cann.simulate.switches().get("ais_bench") == "old" else (end - took, end)

    def _asked(self):
        return self._sizes or [0] * len(self._outputs)

    def _dataset(self, sizes):
        dataset, rows = acl.mdl.create_dataset(), []
        for size in sizes:
            self._add(dataset, rows, size)
        return dataset, rows

    def _add(self, dataset, rows, size):
        address, code = acl.rt.malloc(size, 0)
        check("malloc", code)
        rows.append((address, acl.create_data_buffer(address, size)))
        check("add_dataset_buffer", acl.mdl.add_dataset_buffer(dataset, rows[-1][1])[1])

    def _set(self, fed, held):
        kind, *given = self._dynamic or ("",)
        if kind == "shape":
            for index, row in enumerate(self._inputs):
                desc = acl.create_tensor_desc(int(row.datatype), given[0][row.name], 2)
                check("set_dataset_tensor_desc", acl.mdl.set_dataset_tensor_desc(fed, desc, index)[1])
                acl.destroy_tensor_desc(desc)
            return
        index, code = acl.mdl.get_input_index_by_name(self._desc, cann.SHAPE_DATA)
        if code:  # a static model
            return
        self._add(fed, held, acl.mdl.get_input_size_by_index(self._desc, index))
        if kind == "batch":
            check("set_dynamic_batch_size", acl.mdl.set_dynamic_batch_size(self._model, fed, index, *given))
        elif kind == "hw":
            check("set_dynamic_hw_size", acl.mdl.set_dynamic_hw_size(self._model, fed, index, *given))
        elif kind == "dims":
            dims = {"name": "", "dimCount": len(given[0]), "dims": given[0]}
            check("set_input_dynamic_dims", acl.mdl.set_input_dynamic_dims(self._model, fed, index, dims))

    def _fetched(self, index, found, address):
        desc = acl.mdl.get_dataset_tensor_desc(found, index) if (self._dynamic or ("",))[0] == "shape" else 0
        if desc:
            dims = [acl.get_tensor_desc_dim_v2(desc, axis)[0] for axis in range(acl.get_tensor_desc_num_dims(desc))]
        else:
            dims = acl.mdl.get_cur_output_dims(self._desc, index)[0]["dims"]
        kind = NUMPY[self._outputs[index].datatype]
        size = int(np.prod(dims)) * kind.itemsize
        host, code = acl.rt.malloc_host(size)
        check("malloc_host", code)
        check("memcpy", acl.rt.memcpy(host, size, address, size, 2))
        tensor = Tensor(np.frombuffer(acl.util.ptr_to_bytes(host, size), kind).reshape(dims))
        check("free_host", acl.rt.free_host(host))
        tensor.to_device(self._device)
        return tensor

    # --- the end ----------------------------------------------------------------------------------------------------

    def free_resource(self):
        if self._model is None:
            return
        self._bound()
        check("unload", acl.mdl.unload(self._model))
        check("destroy_desc", acl.mdl.destroy_desc(self._desc))
        check("destroy_context", acl.rt.destroy_context(self._context))
        check("reset_device", acl.rt.reset_device(self._device))
        self._model = None
        self._live.remove(self)

    @classmethod
    def finalize(cls):
        """Whatever sessions are left go with it, as TensorContext::Finalize and the destructors see to."""
        for session in list(cls._live):
            session.free_resource()
        return acl.finalize()
