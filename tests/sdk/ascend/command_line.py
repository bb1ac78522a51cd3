"""What the simulated msame and ais_bench do on the chip, through the simulated runtime: load, copy, execute, time."""

from __future__ import annotations

import sys
from pathlib import Path

import acl
import numpy as np
import simulated_cann as cann


class FailedError(Exception):
    """A message that the tool prints as an error."""


def check(name, code):
    if code != 0:
        raise FailedError(f"{name} failed, errorCode is {code}")


def options(words, known):
    """{flag: value} of `--flag value` and `--flag=value`."""
    found, waiting = {}, None
    for word in words:
        if waiting is not None:
            found[waiting], waiting = word, None
            continue
        flag, equals, value = word.partition("=")
        flag = flag.lstrip("-")
        if flag not in known:
            raise FailedError(f"unrecognized arguments: {word}")
        if equals:
            found[flag] = value
        else:
            waiting = flag
    return found


class Chip:
    """A model on a device, at batch `tier` where it has several: `execute` returns its milliseconds, by the device's
    clock: what is judged by them is that the harness reads what a tool prints, and not how busy this machine is."""

    def __init__(self, device, model, say, tier=0):
        self.say = say
        check("acl init", acl.init())
        say("acl init success")
        check("open device", acl.rt.set_device(device))
        say(f"open device {device} success")
        self.context, code = acl.rt.create_context(device)
        check("create context", code)
        self.device = device
        self.model, code = acl.mdl.load_from_file(model)
        if code:
            raise FailedError(f"load model from file failed, model file is {model}, errorCode is {code}")
        say(f"load model {model} success")
        self.desc = acl.mdl.create_desc()
        check("get desc", acl.mdl.get_desc(self.desc, self.model))
        say("create model description success")
        self.inputs, self.outputs = self._dataset("input"), self._dataset("output")
        self.tier = tier
        names = [acl.mdl.get_input_name_by_index(self.desc, index) for index in range(len(self.inputs[1]))]
        self.fed = [index for index, name in enumerate(names) if name != cann.SHAPE_DATA]
        if len(self.fed) < len(names) or tier:
            setting = names.index(cann.SHAPE_DATA) if cann.SHAPE_DATA in names else 0
            check("set dynamic batch", acl.mdl.set_dynamic_batch_size(self.model, self.inputs[0], setting, tier))

    def _dataset(self, side):
        rows = []
        dataset = acl.mdl.create_dataset()
        for index in range(getattr(acl.mdl, f"get_num_{side}s")(self.desc)):
            size = getattr(acl.mdl, f"get_{side}_size_by_index")(self.desc, index)
            memory, code = acl.rt.malloc(size, 0)
            check("malloc", code)
            buffer = acl.create_data_buffer(memory, size)
            check("add buffer", acl.mdl.add_dataset_buffer(dataset, buffer)[1])
            rows.append((memory, size, buffer))
        return dataset, rows

    def batch(self):
        return self.tier or acl.mdl.get_input_dims(self.desc, 0)[0]["dims"][0]

    def feed(self, files):
        """One file an input, of the size of the batch that was set."""
        if len(files) not in (0, len(self.fed)):
            raise FailedError(f"input count {len(files)} is not the model's {len(self.fed)}")
        for place, index in enumerate(self.fed):
            memory, room, _ = self.inputs[1][index]
            size = room if not self.tier else room * self.tier // max(acl.mdl.get_dynamic_batch(self.desc)[0]["batch"])
            data = Path(files[place]).read_bytes() if files else bytes(size)
            if len(data) != size:
                raise FailedError(f"arg{index} tensorsize: {size} filesize: {len(data)} not match")
            check("memcpy", acl.rt.memcpy(memory, room, acl.util.bytes_to_ptr(data), size, 1))

    def settle(self):
        """Let the simulator do its arithmetic for these inputs, so that no execute that is timed has to."""
        check("execute model", acl.mdl.execute(self.model, self.inputs[0], self.outputs[0]))

    def execute(self):
        check("execute model", acl.mdl.execute(self.model, self.inputs[0], self.outputs[0]))
        return 1000 * acl.chip.state.clocks[self.device].last

    def results(self):
        names = {0: "float32", 1: "float16", 2: "int8", 3: "int32", 4: "uint8", 9: "int64", 12: "bool"}
        for index, (memory, _, _) in enumerate(self.outputs[1]):
            dims = acl.mdl.get_cur_output_dims(self.desc, index)[0]["dims"]
            dtype = names[acl.mdl.get_output_data_type(self.desc, index)]
            size = int(np.prod(dims)) * np.dtype(dtype).itemsize
            host, code = acl.rt.malloc_host(size)
            check("malloc host", code)
            check("memcpy", acl.rt.memcpy(host, size, memory, size, 2))
            array = np.frombuffer(acl.util.ptr_to_bytes(host, size), dtype)
            check("free host", acl.rt.free_host(host))
            yield array.reshape(dims)

    def close(self):
        for dataset, rows in (self.inputs, self.outputs):
            for memory, _, buffer in rows:
                check("free", acl.rt.free(memory))
                check("destroy buffer", acl.destroy_data_buffer(buffer))
            check("destroy dataset", acl.mdl.destroy_dataset(dataset))
        check("destroy desc", acl.mdl.destroy_desc(self.desc))
        check("unload model", acl.mdl.unload(self.model))
        self.say(f"unload model success, model Id is {self.model}")
        check("destroy context", acl.rt.destroy_context(self.context))
        check("reset device", acl.rt.reset_device(self.device))
        check("finalize", acl.finalize())


def injected(name):
    """The switch `fail` applied to the tool as a whole."""
    from simulated_cann import simulate

    code = simulate.Calls().enter(name)
    if code is not None:
        raise FailedError(f"{name} was made to fail, errorCode is {code}")


def stem(path):
    return Path(path).name.split(".")[0]


def say(text, level="INFO"):
    sys.stdout.write(f"[{level}] {text}\n")
    sys.stdout.flush()
