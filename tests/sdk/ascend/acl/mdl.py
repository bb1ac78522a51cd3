"""acl.mdl: engines, their descriptions, data sets, and execution."""

from __future__ import annotations

import os

import numpy as np
import simulated_cann as cann
from simulated_cann import simulate

from acl import chip
from acl.chip import Dataset, Model, integer, state, thing, vendor


@vendor("acl.mdl.load_from_file", 0)
def load_from_file(path):
    from acl import rt

    context = chip.current()
    chip.text(path, "the path")
    if not os.path.isfile(path):  # noqa: PTH113
        return 0, chip.fails(chip.GE_PATH, f"EH0002: the model file {path} does not exist")
    try:
        header, graph = cann.read_engine(path)
        network = cann.Network(header, graph)
    except cann.BadEngineError as error:
        return 0, chip.fails(chip.GE_LOAD, f"E19999: Load model failed, {error}")
    if header["soc"] != cann.soc():
        return 0, chip.fails(
            chip.RT_SOC,
            "EE1001: supported socVersion={}, but the model socVersion={}".format(cann.soc(), header["soc"]),
        )
    if len(graph) > rt.room():
        return 0, chip.fails(245000, f"EL0004: {len(graph)} bytes asked for the weights, {rt.room()} free")
    handle = next(state.numbers["model"])
    state.models[handle] = Model(header, network, context, len(graph))
    return handle, 0


@vendor("acl.mdl.unload")
def unload(handle):
    model = _model(handle)
    if model.stream is not None and model.stream.queue:
        chip.refuse(chip.GE_MODEL, "acl.mdl.unload with executes under way")
    chip.drop(state.models, handle)
    return 0


def _model(handle):
    context = chip.current()
    model = thing(state.models, handle, "a model", chip.GE_MODEL)
    if model.context != context:
        chip.refuse(chip.RT_CONTEXT, "a model that was loaded in another context")
    return model


# --- descriptions --------------------------------------------------------------------------------------------------


@vendor("acl.mdl.create_desc", 0, ...)
def create_desc():
    chip.started()
    handle = next(state.numbers["desc"])
    state.descs[handle] = {}
    return handle


@vendor("acl.mdl.get_desc")
def get_desc(desc, model):
    made = thing(state.descs, desc, "a description")
    made["model"] = _model(model)
    return 0


@vendor("acl.mdl.destroy_desc")
def destroy_desc(desc):
    thing(state.descs, desc, "a description")
    chip.drop(state.descs, desc)
    return 0


def _described(desc):
    made = thing(state.descs, desc, "a description")
    if "model" not in made:
        chip.refuse(chip.INVALID_PARAM, "a description that acl.mdl.get_desc has not filled")
    return made["model"]


def _row(desc, side, index):
    rows = _described(desc).header[side]
    if not 0 <= integer(index, "the index") < len(rows):
        chip.refuse(chip.INVALID_PARAM, f"index {index} of {len(rows)} {side}")
    return rows[index]


def _nbytes(row, batch=None):
    dims = row["dims"] if batch is None else [batch, *row["dims"][1:]]
    return int(np.prod(dims)) * np.dtype(row["dtype"]).itemsize


def _sized(model, row):
    """Dims of a tensor at the largest tier."""
    tiers = model.header["tiers"]
    return [max(tiers) if tiers and dim == -1 else dim for dim in row["dims"]]


@vendor("acl.mdl.get_num_inputs", 0, ...)
def get_num_inputs(desc):
    return len(_described(desc).header["inputs"])


@vendor("acl.mdl.get_num_outputs", 0, ...)
def get_num_outputs(desc):
    return len(_described(desc).header["outputs"])


@vendor("acl.mdl.get_input_size_by_index", 0, ...)
def get_input_size_by_index(desc, index):
    row = _row(desc, "inputs", index)
    return _nbytes({"dims": _sized(_described(desc), row), "dtype": row["dtype"]})


@vendor("acl.mdl.get_output_size_by_index", 0, ...)
def get_output_size_by_index(desc, index):
    return _nbytes(_row(desc, "outputs", index))


@vendor("acl.mdl.get_input_dims", None)
def get_input_dims(desc, index):
    return _dims(_row(desc, "inputs", index)), 0


@vendor("acl.mdl.get_output_dims", None)
def get_output_dims(desc, index):
    return _dims(_row(desc, "outputs", index)), 0


@vendor("acl.mdl.get_cur_output_dims", None)
def get_cur_output_dims(desc, index):
    row, model = _row(desc, "outputs", index), _described(desc)
    dims = row["dims"]
    if model.tier is not None and row["batched"]:
        dims = [dims[0] // max(model.header["tiers"]) * model.tier, *dims[1:]]
    return _dims(dict(row, dims=dims)), 0


def _dims(row):
    return {"name": row["name"][:127], "dimCount": len(row["dims"]), "dims": list(row["dims"])}


@vendor("acl.mdl.get_input_data_type", -1, ...)
def get_input_data_type(desc, index):
    return cann.DTYPES[_row(desc, "inputs", index)["dtype"]]


@vendor("acl.mdl.get_output_data_type", -1, ...)
def get_output_data_type(desc, index):
    return cann.DTYPES[_row(desc, "outputs", index)["dtype"]]


@vendor("acl.mdl.get_input_name_by_index", "", ...)
def get_input_name_by_index(desc, index):
    return _row(desc, "inputs", index)["name"]


@vendor("acl.mdl.get_output_name_by_index", "", ...)
def get_output_name_by_index(desc, index):
    return _row(desc, "outputs", index)["name"]


@vendor("acl.mdl.get_input_index_by_name", 0)
def get_input_index_by_name(desc, name):
    names = [row["name"] for row in _described(desc).header["inputs"]]
    if name not in names:
        return 0, chip.fails(chip.INVALID_PARAM, f"EH0001: the model has no input {name}")
    return names.index(name), 0


@vendor("acl.mdl.get_dynamic_batch", None)
def get_dynamic_batch(desc):
    tiers = _described(desc).header["tiers"]
    return {"batchCount": len(tiers), "batch": list(tiers)}, 0


@vendor("acl.mdl.set_dynamic_batch_size")
def set_dynamic_batch_size(model, dataset, index, batch):
    loaded, made = _model(model), thing(state.datasets, dataset, "a data set")
    header = loaded.header
    if not header["tiers"]:
        return chip.wrong(chip.NOT_DYNAMIC, "acl.mdl.set_dynamic_batch_size on a static model")
    names = [row["name"] for row in header["inputs"]]
    if len(made.buffers) != len(names) or names[integer(index, "the index")] != cann.SHAPE_DATA:
        return chip.wrong(chip.GE_PARAM, "acl.mdl.set_dynamic_batch_size: index or data set is not the model's")
    if integer(batch, "the batch") not in header["tiers"]:
        return chip.wrong(chip.GE_BATCH, "batch {} is none of the tiers {}".format(batch, header["tiers"]))
    block = chip.block_at(*_address(made, index), "acl.mdl.set_dynamic_batch_size")
    if block.pending:
        return chip.wrong(chip.GE_PARAM, "acl.mdl.set_dynamic_batch_size with executes under way")
    made.tier = loaded.tier = batch
    block.written = block.size
    return 0


# --- data sets -----------------------------------------------------------------------------------------------------


@vendor("acl.mdl.create_dataset", 0, ...)
def create_dataset():
    chip.started()
    handle = next(state.numbers["dataset"])
    state.datasets[handle] = Dataset()
    return handle


@vendor("acl.mdl.add_dataset_buffer", 0)
def add_dataset_buffer(dataset, buffer):
    made = thing(state.datasets, dataset, "a data set")
    thing(state.buffers, buffer, "a data buffer")
    if buffer in made.buffers:
        chip.refuse(chip.INVALID_PARAM, "a data buffer twice in one data set")
    made.buffers.append(buffer)
    return dataset, 0


@vendor("acl.mdl.get_dataset_num_buffers", 0, ...)
def get_dataset_num_buffers(dataset):
    return len(thing(state.datasets, dataset, "a data set").buffers)


@vendor("acl.mdl.get_dataset_buffer", 0, ...)
def get_dataset_buffer(dataset, index):
    buffers = thing(state.datasets, dataset, "a data set").buffers
    if not 0 <= integer(index, "the index") < len(buffers):
        chip.refuse(chip.INVALID_PARAM, f"buffer {index} of {len(buffers)}")
    return buffers[index]


@vendor("acl.mdl.destroy_dataset")
def destroy_dataset(dataset):
    thing(state.datasets, dataset, "a data set")
    chip.drop(state.datasets, dataset)
    return 0


def _address(made, index):
    return thing(state.buffers, made.buffers[index], "a data buffer of a data set")


# --- execution -----------------------------------------------------------------------------------------------------


class Execution:
    """One execute on its way: the blocks that it reads and writes, and when the chip is done with it."""

    def __init__(self, handle, inputs, outputs):
        self.model = _model(handle)
        header = self.model.header
        read, written = thing(state.datasets, inputs, "a data set"), thing(state.datasets, outputs, "a data set")
        self.batch = header["batch"]
        if header["tiers"]:
            self.batch = read.tier or max(header["tiers"])
        self.read = [
            _blocks(read, index, _nbytes({"dims": _sized(self.model, row), "dtype": row["dtype"]}), "input", header)
            for index, row in enumerate(header["inputs"])
        ]
        self.written = [
            _blocks(written, index, _nbytes(row), "output", header) for index, row in enumerate(header["outputs"])
        ]
        for made, rows in ((read, header["inputs"]), (written, header["outputs"])):
            if len(made.buffers) != len(rows):
                chip.refuse(chip.GE_PARAM, f"a data set of {len(made.buffers)} buffers for {len(rows)} tensors")
        device = chip.device_of(self.model.context)
        for (block, _), row in zip(self.read, header["inputs"]):
            size = _nbytes({"dims": [self.batch if dim == -1 else dim for dim in row["dims"]], "dtype": row["dtype"]})
            if block.written < size and row["name"] != cann.SHAPE_DATA:
                chip.wrong(0, f"an execute reads {size} bytes of an input of which {block.written} were written")
        for block, _ in self.read + self.written:
            if block.device != device:
                chip.refuse(chip.GE_PARAM, "an execute on memory of another device")
            block.pending += 1
        self.until = state.clocks[device].submit(self.batch)

    def finish(self):
        """Compute, unless the same result is there already, and let go of the blocks, whatever happens."""
        try:
            self._compute()
        finally:
            for block, _ in self.read + self.written:
                block.pending -= 1

    def _compute(self):
        key = (id(self.model), self.batch, *tuple((b.address, b.version) for b, _ in self.read))
        if self.model.key != key:
            self.model.result = self._outputs()
            self.model.key = key
        for (block, size), output in zip(self.written, self.model.result):
            if block.holds != key:
                flat = np.frombuffer(output, np.uint8)
                block.data[: flat.size] = flat
                block.written, block.holds = size, key
                block.version += 1

    def _outputs(self):
        feeds = {}
        for (block, _), row in zip(self.read, self.model.header["inputs"]):
            if row["name"] == cann.SHAPE_DATA:
                continue
            dims = [self.batch if dim == -1 else dim for dim in row["dims"]]
            size = _nbytes({"dims": dims, "dtype": row["dtype"]})
            feeds[row["name"]] = block.data[:size].view(row["dtype"]).reshape(dims)
        rows = self.model.header["outputs"]
        return [
            np.ascontiguousarray(output.astype(row["dtype"])).tobytes()
            for output, row in zip(self.model.network.run(feeds, self.batch), rows)
        ]


def _blocks(made, index, size, side, header):
    if index >= len(made.buffers):
        chip.refuse(chip.GE_PARAM, f"the data set has no buffer for {side} {index}")
    address, length = _address(made, index)
    if length < size:
        chip.refuse(chip.GE_PARAM, f"{side} {index} needs {size} bytes, its buffer has {length}")
    block = chip.block_at(address, length, f"{side} {index}")
    if block is None:
        chip.refuse(chip.GE_PARAM, f"the memory of {side} {index} was given back already")
    return block, size


@vendor("acl.mdl.execute")
def execute(model, inputs, outputs):
    item = Execution(model, inputs, outputs)
    item.finish()
    simulate.Clock.wait(item.until)
    return 0


@vendor("acl.mdl.execute_async")
def execute_async(model, inputs, outputs, stream):
    made = thing(state.streams, stream, "a stream", chip.RT_STREAM)
    if made.context != chip.current():
        return chip.wrong(chip.RT_STREAM, "a stream of another context")
    loaded = _model(model)
    if loaded.stream is not None and loaded.stream is not made and loaded.stream.queue:
        return chip.wrong(chip.GE_MODEL, "one model on two streams at once")
    made.queue.append(Execution(model, inputs, outputs))
    loaded.stream = made
    return 0
