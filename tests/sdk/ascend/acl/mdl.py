"""acl.mdl: engines, their descriptions, data sets, and execution."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import simulated_cann as cann
from simulated_cann import simulate

from acl import chip
from acl.chip import Dataset, Model, integer, state, thing, vendor


@vendor("acl.mdl.load_from_file", 0)
def load_from_file(path):
    context = chip.current()
    return _load(path, lambda: cann.read_engine(_there(path)), context)


@vendor("acl.mdl.load_from_mem", 0)
def load_from_mem(address, size):
    context = chip.current()
    kind, _ = chip.place(integer(address, "the address"), integer(size, "the size"), "acl.mdl.load_from_mem")
    if kind != "host":
        chip.refuse(chip.GE_PARAM, "acl.mdl.load_from_mem of device memory")
    return _load("in memory", lambda: cann.parse_engine(chip.host_view(address, size).tobytes()), context)


@vendor("acl.mdl.query_size", 0, 0)
def query_size(path):
    """(bytes of working memory, bytes of weights)."""
    try:
        header, graph = cann.read_engine(_there(path))
    except cann.BadEngineError as error:
        return 0, 0, chip.fails(chip.GE_LOAD, f"E19999: {error}")
    if header.get("free"):
        chip.refuse(chip.GE_PARAM, "acl.mdl.query_size of a model whose shapes are not known")
    return 1 << 20, len(graph), 0


@vendor("acl.mdl.load_from_file_with_mem", 0)
def load_from_file_with_mem(path, work, work_size, weights, weights_size):
    context = chip.current()
    needed = query_size(path)
    for address, size, least in ((work, work_size, needed[0]), (weights, weights_size, needed[1])):
        kind, _ = chip.place(integer(address, "an address"), integer(size, "a size"), "acl.mdl.load_from_file_with_mem")
        if kind != "device" or size < least:
            chip.refuse(
                chip.GE_PARAM, f"acl.mdl.load_from_file_with_mem with {size} bytes of {kind} memory for {least}"
            )
    return _load(path, lambda: cann.read_engine(_there(path)), context, own=False)


@vendor("acl.mdl.load_from_mem_with_mem", 0)
def load_from_mem_with_mem(address, size, work, work_size, weights, weights_size):
    integer(work_size, "a size"), integer(weights_size, "a size")
    return load_from_mem(address, size)


# --- loading by a configuration: acl_mdl.h, aclmdlConfigAttr ---------------------------------------------------------

PRIORITY, LOAD_TYPE, PATH, MEMORY, MEMORY_SIZE, WEIGHTS, WEIGHTS_SIZE, WORK, WORK_SIZE = range(9)
LOADERS = {  # by load type: the function, and the attributes that it takes
    1: (lambda *given: load_from_file(*given), (PATH,)),
    2: (lambda *given: load_from_file_with_mem(*given), (PATH, WORK, WORK_SIZE, WEIGHTS, WEIGHTS_SIZE)),
    3: (lambda *given: load_from_mem(*given), (MEMORY, MEMORY_SIZE)),
    4: (lambda *given: load_from_mem_with_mem(*given), (MEMORY, MEMORY_SIZE, WORK, WORK_SIZE, WEIGHTS, WEIGHTS_SIZE)),
}


@vendor("acl.mdl.create_config_handle", 0, ...)
def create_config_handle():
    handle = next(state.numbers["config"])
    state.configs[handle] = {}
    return handle


@vendor("acl.mdl.set_config_opt")
def set_config_opt(handle, attribute, value):
    made = thing(state.configs, handle, "a configuration")
    if not 0 <= chip.small(attribute, "the attribute") <= 28:
        chip.refuse(chip.INVALID_PARAM, f"acl.mdl.set_config_opt of attribute {attribute}")
    made[int(attribute)] = chip.text(value, "the path") if attribute == PATH else integer(value, "the value")
    return 0


@vendor("acl.mdl.load_with_config", 0)
def load_with_config(handle):
    made = thing(state.configs, handle, "a configuration")
    if made.get(LOAD_TYPE) not in LOADERS:
        chip.refuse(chip.INVALID_PARAM, f"acl.mdl.load_with_config of load type {made.get(LOAD_TYPE)}")
    load, needed = LOADERS[made[LOAD_TYPE]]
    missing = [attribute for attribute in needed if attribute not in made]
    if missing:
        chip.refuse(chip.INVALID_PARAM, f"acl.mdl.load_with_config without attributes {missing}")
    return load(*(made[attribute] for attribute in needed))


@vendor("acl.mdl.destroy_config_handle")
def destroy_config_handle(handle):
    thing(state.configs, handle, "a configuration")
    chip.drop(state.configs, handle)
    return 0


def _there(path):
    chip.text(path, "the path")
    if not os.path.isfile(path):  # noqa: PTH113
        raise chip.RefusedError(chip.fails(chip.GE_PATH, f"EH0002: the model file {path} does not exist"))
    return path


def _load(path, read, context, own=True):
    """(model, status). `own`: its weights take memory that the caller did not bring."""
    from acl import rt

    try:
        header, graph = read()
        network = cann.Network(header, graph)
    except cann.BadEngineError as error:
        return 0, chip.fails(chip.GE_LOAD, f"E19999: Load model failed, {error}")
    if header["soc"] != cann.soc():
        return 0, chip.fails(
            chip.RT_SOC,
            "EE1001: supported socVersion={}, but the model socVersion={}".format(cann.soc(), header["soc"]),
        )
    if own and len(graph) > rt.room():
        return 0, chip.fails(245000, f"EL0004: {len(graph)} bytes asked for the weights, {rt.room()} free")
    handle = next(state.numbers["model"])
    state.models[handle] = Model(header, network, context, len(graph) if own else 0)
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


# --- bundles: several graphs of one file, loaded and given back together ---------------------------------------------


@vendor("acl.mdl.bundle_load_from_file", 0)
def bundle_load_from_file(path):
    return _bundle(Path(_there(path)).read_bytes())


@vendor("acl.mdl.bundle_load_from_mem", 0)
def bundle_load_from_mem(address, size):
    integer(address, "the address"), integer(size, "the size")
    return _bundle(chip.host_view(address, size).tobytes())


def _bundle(data):
    context = chip.current()
    try:
        engines = cann.parse_bundle(data)
    except cann.BadEngineError as error:
        return 0, chip.fails(chip.INVALID_PARAM, f"EH0001: {error}")
    models = []
    for engine in engines:
        model, code = _load("of a bundle", lambda data=engine: cann.parse_engine(data), context)
        if code:
            for loaded in models:
                chip.drop(state.models, loaded)
            return 0, code
        models.append(model)
    handle = next(state.numbers["model"])
    state.bundles[handle] = models
    return handle, 0


@vendor("acl.mdl.bundle_get_model_num", 0)
def bundle_get_model_num(bundle):
    return len(thing(state.bundles, bundle, "a bundle")), 0


@vendor("acl.mdl.bundle_get_model_id", 0)
def bundle_get_model_id(bundle, index):
    models = thing(state.bundles, bundle, "a bundle")
    if not 0 <= integer(index, "the index") < len(models):
        chip.refuse(chip.INVALID_PARAM, f"model {index} of {len(models)} in a bundle")
    return models[index], 0


@vendor("acl.mdl.bundle_unload")
def bundle_unload(bundle):
    for model in thing(state.bundles, bundle, "a bundle"):
        code = unload(model)
        if code:
            return code
    chip.drop(state.bundles, bundle)
    return 0


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


@vendor("acl.mdl.get_desc_from_file")
def get_desc_from_file(desc, path):
    """Without loading it, so that no device takes part."""
    return _desc_of(desc, lambda: cann.read_engine(_there(path)))


@vendor("acl.mdl.get_desc_from_mem")
def get_desc_from_mem(desc, address, size):
    integer(address, "the address"), integer(size, "the size")
    return _desc_of(desc, lambda: cann.parse_engine(chip.host_view(address, size).tobytes()))


def _desc_of(desc, read):
    made = thing(state.descs, desc, "a description")
    try:
        header, _ = read()
    except cann.BadEngineError as error:
        return chip.fails(chip.GE_LOAD, f"E19999: {error}")
    made["model"] = Model(header, None, None, 0)
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
    """Dims of a tensor at the largest tier or gear."""
    tiers, gears = model.header["tiers"], model.header.get("gears") or []
    if gears and row["name"] in gears[0]:
        return max((gear[row["name"]] for gear in gears), key=np.prod)
    return [max(tiers) if tiers and dim == -1 else dim for dim in row["dims"]]


def _free(desc):
    """Whether the model's shapes are known at the execute only: sizes are 0 then."""
    return bool(_described(desc).header.get("free"))


@vendor("acl.mdl.get_num_inputs", 0, ...)
def get_num_inputs(desc):
    return len(_described(desc).header["inputs"])


@vendor("acl.mdl.get_num_outputs", 0, ...)
def get_num_outputs(desc):
    return len(_described(desc).header["outputs"])


@vendor("acl.mdl.get_input_size_by_index", 0, ...)
def get_input_size_by_index(desc, index):
    row = _row(desc, "inputs", index)
    if _free(desc):
        return 0
    return _nbytes({"dims": _sized(_described(desc), row), "dtype": row["dtype"]})


@vendor("acl.mdl.get_output_size_by_index", 0, ...)
def get_output_size_by_index(desc, index):
    return 0 if _free(desc) else _nbytes(_row(desc, "outputs", index))


@vendor("acl.mdl.get_input_dims", {})
def get_input_dims(desc, index):
    return _dims(_row(desc, "inputs", index)), 0


@vendor("acl.mdl.get_output_dims", {})
def get_output_dims(desc, index):
    return _dims(_row(desc, "outputs", index)), 0


@vendor("acl.mdl.get_cur_output_dims", {})
def get_cur_output_dims(desc, index):
    row, model = _row(desc, "outputs", index), _described(desc)
    dims = row["dims"]
    if model.tier is not None and row["batched"]:
        dims = [dims[0] // max(model.header["tiers"]) * model.tier, *dims[1:]]
    if model.gear is not None:
        dims = row["gears"][model.gear]
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


@vendor("acl.mdl.get_output_index_by_name", 0)
def get_output_index_by_name(desc, name):
    names = [row["name"] for row in _described(desc).header["outputs"]]
    if name not in names:
        return 0, chip.fails(chip.INVALID_PARAM, f"EH0001: the model has no output {name}")
    return names.index(name), 0


@vendor("acl.mdl.get_input_dims_v2", {})
def get_input_dims_v2(desc, index):
    """The same as get_input_dims but for YUV420SP, which is not simulated."""
    return _dims(_row(desc, "inputs", index)), 0


@vendor("acl.mdl.get_input_format", -1, ...)
def get_input_format(desc, index):
    row = _row(desc, "inputs", index)
    if row["name"] in _described(desc).header["aipp"]:
        return NHWC
    return NCHW if len(row["dims"]) == 4 else ND


@vendor("acl.mdl.get_output_format", -1, ...)
def get_output_format(desc, index):
    return NCHW if len(_row(desc, "outputs", index)["dims"]) == 4 else ND


NCHW, NHWC, ND = 0, 1, 2


@vendor("acl.mdl.get_dynamic_hw", {})
def get_dynamic_hw(desc, index):
    header = _described(desc).header
    if integer(index, "the index") not in range(-1, len(header["inputs"])):
        chip.refuse(chip.INVALID_PARAM, f"index {index} of {len(header['inputs'])} inputs")
    sizes = header.get("sizes") or []
    return {"hwCount": len(sizes), "hw": sizes}, 0


@vendor("acl.mdl.set_dynamic_hw_size")
def set_dynamic_hw_size(model, dataset, index, height, width):
    size = [integer(height, "the height"), integer(width, "the width")]
    sizes = _model(model).header.get("sizes") or []

    def fits(number):
        return sizes[number] == size

    return _set_gear("acl.mdl.set_dynamic_hw_size", "hw", model, dataset, index, fits)


@vendor("acl.mdl.get_input_dynamic_gear_count", 0)
def get_input_dynamic_gear_count(desc, index):
    header = _described(desc).header
    if integer(index, "the index") != -1:
        chip.refuse(chip.INVALID_PARAM, f"acl.mdl.get_input_dynamic_gear_count with index {index}, which is to be -1")
    return len(header.get("gears") or []) if header.get("gear_kind") == "dims" else 0, 0


@vendor("acl.mdl.get_input_dynamic_dims", [])
def get_input_dynamic_dims(desc, index, count):
    """Each gear as one dims dictionary: the shapes of all inputs, one behind the other."""
    header = _described(desc).header
    gears = (header.get("gears") or [])[: integer(count, "the count")]
    if integer(index, "the index") != -1:
        chip.refuse(chip.INVALID_PARAM, f"acl.mdl.get_input_dynamic_dims with index {index}, which is to be -1")
    return [_dims({"name": "", "dims": _row_by_row(header, gear)}) for gear in gears], 0


def _row_by_row(header, gear):
    return [dim for row in header["inputs"] if row["name"] in gear for dim in gear[row["name"]]]


@vendor("acl.mdl.set_input_dynamic_dims")
def set_input_dynamic_dims(model, dataset, index, dims):
    if not isinstance(dims, dict) or dims.get("dimCount") != len(dims.get("dims", ())):
        chip.refuse(chip.INVALID_PARAM, f"acl.mdl.set_input_dynamic_dims with {dims!r}")
    header = _model(model).header

    def fits(number):
        return _row_by_row(header, header["gears"][number]) == list(dims["dims"])

    return _set_gear("acl.mdl.set_input_dynamic_dims", "dims", model, dataset, index, fits)


def _set_gear(call, kind, model, dataset, index, fits):
    """Choose the gear for the next executes; code of a gear that was not compiled: a guess, that of the batch."""
    loaded, made = _model(model), thing(state.datasets, dataset, "a data set")
    header = loaded.header
    if header.get("gear_kind") != kind:
        return chip.wrong(chip.NOT_DYNAMIC, f"{call} on a model without such sizes")
    names = [row["name"] for row in header["inputs"]]
    if len(made.buffers) != len(names) or names[integer(index, "the index")] != cann.SHAPE_DATA:
        return chip.wrong(chip.GE_PARAM, f"{call}: index or data set is not the model's")
    chosen = [number for number in range(len(header["gears"])) if fits(number)]
    if not chosen:
        return chip.wrong(chip.GE_BATCH, f"{call}: these sizes are none of the model's")
    block = chip.block_at(*_address(made, index), call)
    if block.pending:
        return chip.wrong(chip.GE_PARAM, f"{call} with executes under way")
    made.gear = loaded.gear = chosen[0]
    block.written = block.size
    return 0


@vendor("acl.mdl.get_dynamic_batch", {})
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


@vendor("acl.mdl.set_dataset_tensor_desc", 0)
def set_dataset_tensor_desc(dataset, desc, index):
    """Gives an input its shape, for models that have none; a copy goes with the data set."""
    made = thing(state.datasets, dataset, "a data set")
    given = thing(state.tensor_descs, desc, "a tensor description")
    if not 0 <= integer(index, "the index") < len(made.buffers):
        chip.refuse(chip.INVALID_PARAM, f"tensor {index} of {len(made.buffers)}")
    made.descs[index] = chip.tensor_desc(given["dtype"], given["dims"], given["format"], owner=dataset)
    return dataset, 0


@vendor("acl.mdl.get_dataset_tensor_desc", 0, ...)
def get_dataset_tensor_desc(dataset, index):
    return thing(state.datasets, dataset, "a data set").descs.get(integer(index, "the index"), 0)


@vendor("acl.mdl.destroy_dataset")
def destroy_dataset(dataset):
    for desc in thing(state.datasets, dataset, "a data set").descs.values():
        state.tensor_descs.pop(desc, None)
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
        self.given, self.shapes = written, self.model.shapes
        for made, rows in ((read, header["inputs"]), (written, header["outputs"])):
            if len(made.buffers) != len(rows):
                chip.refuse(chip.GE_PARAM, f"a data set of {len(made.buffers)} buffers for {len(rows)} tensors")
        self.dims = [self._dims(read, index, row) for index, row in enumerate(header["inputs"])]
        self.batch = self.dims[0][0] if self.dims[0] else 1
        sizes = [_nbytes({"dims": dims, "dtype": row["dtype"]}) for dims, row in zip(self.dims, header["inputs"])]
        largest = [_nbytes({"dims": _sized(self.model, row), "dtype": row["dtype"]}) for row in header["inputs"]]
        self.read = [
            _blocks(read, index, sizes[index] if header.get("free") else largest[index], "input")
            for index in range(len(sizes))
        ]
        self.written = [
            _blocks(written, index, 1 if header.get("free") else _nbytes(row), "output")
            for index, row in enumerate(header["outputs"])
        ]
        device = chip.device_of(self.model.context)
        for (block, _), row, size in zip(self.read, header["inputs"], sizes):
            if block.written < size and row["name"] != cann.SHAPE_DATA:
                chip.wrong(0, f"an execute reads {size} bytes of an input of which {block.written} were written")
        for block, _ in self.read + self.written:
            if block.device != device:
                chip.refuse(chip.GE_PARAM, "an execute on memory of another device")
            block.pending += 1
        self.until = state.clocks[device].submit(self.batch)

    def _dims(self, read, index, row):
        """Shape of an input in this execute."""
        header = self.model.header
        if header.get("free"):
            desc = state.tensor_descs.get(read.descs.get(index))
            if desc is None or len(desc["dims"]) != len(row["dims"]):
                chip.refuse(chip.GE_PARAM, f"input {index} has no shape: acl.mdl.set_dataset_tensor_desc gives it")
            return desc["dims"]
        gears = header.get("gears")
        if gears and row["name"] in gears[0]:
            return _sized(self.model, row) if read.gear is None else gears[read.gear][row["name"]]
        batch = (read.tier or max(header["tiers"])) if header["tiers"] else header["batch"]
        return [batch if dim == -1 else dim for dim in row["dims"]]

    def finish(self):
        """Compute, unless the same result is there already, and let go of the blocks, whatever happens."""
        try:
            self._compute()
        finally:
            for block, _ in self.read + self.written:
                block.pending -= 1

    def _compute(self):
        key = (id(self.model), str(self.dims), *tuple((b.address, b.version) for b, _ in self.read))
        if self.model.key != key:
            self.model.result = self._outputs()
            self.model.key = key
        for index, ((block, size), output) in enumerate(zip(self.written, self.model.result)):
            if self.model.header.get("free"):
                size = self._shaped(index, len(output), block)
            if block.holds != key:
                flat = np.frombuffer(output, np.uint8)[: block.size]
                block.data[: flat.size] = flat
                block.written, block.holds = size, key
                block.version += 1

    def _shaped(self, index, size, block):
        """Leave the shape of an output with its data set; returns its bytes."""
        if size > block.size:
            chip.wrong(chip.GE_PARAM, f"output {index} has {size} bytes, its buffer {block.size}")
        row = self.model.header["outputs"][index]
        old = self.given.descs.pop(index, None)
        state.tensor_descs.pop(old, None)
        owner = next((handle for handle, made in state.datasets.items() if made is self.given), 0)
        desc = chip.tensor_desc(cann.DTYPES[row["dtype"]], self.shapes[index], ND, owner)
        self.given.descs[index] = desc
        return min(size, block.size)

    def _outputs(self):
        feeds = {}
        for (block, _), row, dims in zip(self.read, self.model.header["inputs"], self.dims):
            if row["name"] == cann.SHAPE_DATA:
                continue
            size = _nbytes({"dims": dims, "dtype": row["dtype"]})
            feeds[row["name"]] = block.data[:size].view(row["dtype"]).reshape(dims)
        rows = self.model.header["outputs"]
        outputs = self.model.network.run(feeds, self.batch)
        self.shapes = self.model.shapes = [output.shape for output in outputs]
        return [np.ascontiguousarray(output.astype(row["dtype"])).tobytes() for output, row in zip(outputs, rows)]


def _blocks(made, index, size, side):
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
    from acl import rt

    made = rt._stream(stream)
    loaded = _model(model)
    if loaded.stream is not None and loaded.stream is not made and loaded.stream.queue:
        return chip.wrong(chip.GE_MODEL, "one model on two streams at once")
    made.queue.append(Execution(model, inputs, outputs))
    loaded.stream = made
    return 0
