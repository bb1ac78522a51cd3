"""What every simulated SDK shares: switches, injected failures, a ledger, a device clock, and FP16 arithmetic.

The stand-ins for vendor SDKs under tests/sdk/ are directories that are put on PYTHONPATH and PATH. They read how to
misbehave from the environment variable CHIPPROOF_SIM (a JSON object, see README.md beside this file) and write what
the caller did wrong to the file named by CHIPPROOF_SIM_LEDGER. Runs under Python 3.7; NumPy, ONNX and ONNX Runtime
are imported when they are needed.
"""

from __future__ import annotations

import json
import os
import signal
import time
import zlib
from collections import Counter

SWITCHES = "CHIPPROOF_SIM"
LEDGER = "CHIPPROOF_SIM_LEDGER"

BASE_SECONDS = 0.002  # what one execute costs, whatever the batch
IMAGE_SECONDS = 0.0005  # what one image of the batch adds


def switches():
    """The switches as a dict; read afresh, so that a test may change them between calls."""
    text = os.environ.get(SWITCHES, "")
    return json.loads(text) if text else {}


def latency_seconds(batch):
    """Device time of one execute: BASE_SECONDS + batch * IMAGE_SECONDS, times the switch `slow`."""
    return float(switches().get("slow", 1.0)) * (BASE_SECONDS + batch * IMAGE_SECONDS)


# --- the ledger ----------------------------------------------------------------------------------------------------


def note(kind, **facts):
    """Append one line to the ledger, if there is one. `kind` is "violation", "leak" or "call"."""
    path = os.environ.get(LEDGER)
    if not path:
        return
    line = json.dumps(dict(facts, kind=kind, pid=os.getpid())) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode("utf-8"))
    finally:
        os.close(handle)


def ledger(path, kinds=("violation", "leak")):
    """Lines of a ledger of the given kinds, as dicts; [] when nothing was written."""
    if not os.path.exists(str(path)):  # noqa: PTH110 - Python 3.7 style, path may be a str
        return []
    with open(str(path), encoding="utf-8") as lines:  # noqa: PTH123
        entries = [json.loads(line) for line in lines]
    return [entry for entry in entries if entry["kind"] in kinds]


# --- calls: counted, made to fail, to hang, to die -----------------------------------------------------------------


class Calls:
    """Counts vendor calls by name and applies `fail`, `hang` and `die` to them."""

    def __init__(self):
        self.counts = Counter()
        self.order = []  # names in the order of their first call

    def enter(self, name):
        """To be called first in every vendor call. Returns the code to fail with, or None to go on.

        `fail` rows are [name, occurrence counted from 1, code]; occurrence 0 means every time. `hang` is a name or
        [name, occurrence]. `die` is [name, signal name] or [name, signal name, occurrence]."""
        self.counts[name] += 1
        if self.counts[name] == 1:
            self.order.append(name)
        text = os.environ.get(SWITCHES, "")
        if not text:
            return None
        active = json.loads(text)
        now = self.counts[name]
        if active.get("trace"):
            note("call", call=name, occurrence=now)
        hang = active.get("hang")
        if hang and _meets([hang] if isinstance(hang, str) else hang, name, now):
            while True:
                time.sleep(3600)
        die = active.get("die")
        if die and _meets([die[0], *die[2:]], name, now):
            os.kill(os.getpid(), getattr(signal, die[1]))
            time.sleep(60)
        for failing, occurrence, code in active.get("fail", ()):
            if failing == name and occurrence in (0, now):
                return code
        return None

    def reset(self):
        self.counts.clear()
        del self.order[:]


def _meets(rule, name, now):
    return rule[0] == name and (len(rule) < 2 or rule[1] == now)


# --- the machine ---------------------------------------------------------------------------------------------------


USED = []  # the device that this process took last


def occupy(device, held=True):
    """Note that this process holds a device, or no longer does, in the folder that the switch `machine` names."""
    if held:
        USED[:] = [device]
    folder = switches().get("machine")
    if not folder:
        return
    note_of_it = os.path.join(folder, f"{device}-{os.getpid()}")  # noqa: PTH118
    if held:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        open(note_of_it, "w").close()  # noqa: PTH123
    elif os.path.exists(note_of_it):  # noqa: PTH110
        os.remove(note_of_it)  # noqa: PTH107


def occupants(device):
    """Process ids of those that hold a device and still live."""
    folder = switches().get("machine")
    if not folder or not os.path.isdir(folder):  # noqa: PTH112
        return []
    pairs = [name.split("-") for name in sorted(os.listdir(folder))]  # noqa: PTH208
    return [int(pid) for number, pid in pairs if int(number) == device and os.path.exists("/proc/" + pid + "/exe")]  # noqa: PTH110


# --- the device's clock --------------------------------------------------------------------------------------------


class Clock:
    """When a device will be done with what was queued on it. Work is serial: each item takes latency_seconds."""

    def __init__(self):
        self.free_at = 0.0
        self.last = 0.0  # seconds of device time that the last execute takes

    def submit(self, batch):
        """Queue one execute; returns the time (time.perf_counter) at which it will be done."""
        self.last = latency_seconds(batch)
        self.free_at = max(self.free_at, time.perf_counter()) + self.last
        return self.free_at

    @staticmethod
    def wait(until):
        """Return at `until`, to within some microseconds."""
        left = until - time.perf_counter()
        if left > 0.0005:
            time.sleep(left - 0.0003)
        while time.perf_counter() < until:
            pass


# --- arithmetic ----------------------------------------------------------------------------------------------------

WEIGHTED = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "PRelu",
        "BatchNormalization",
        "InstanceNormalization",
    ]
)


def half(values):
    """float32 or float64 values rounded to FP16 and back; other dtypes unchanged."""
    import numpy as np

    if values.dtype not in (np.float32, np.float64):
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(values.dtype)


def fold_batch_norm(model):
    """Fold every BatchNormalization that alone consumes a Conv into that Conv's weights, in float64. In place."""
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or uses[norm.input[0]] != 1 or conv.input[1] not in values or uses[conv.input[1]] != 1:
            continue
        scale, shift, mean, var = (numpy_helper.to_array(values[name]).astype("f8") for name in norm.input[1:5])
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        gain = scale / np.sqrt(var + epsilon)
        weight = numpy_helper.to_array(values[conv.input[1]])
        bias = numpy_helper.to_array(values[conv.input[2]]).astype("f8") if len(conv.input) > 2 else 0.0
        folded = (weight * gain.reshape((-1,) + (1,) * (weight.ndim - 1))).astype(np.float32)
        values[conv.input[1]].CopyFrom(numpy_helper.from_array(folded, conv.input[1]))
        name = norm.output[0] + ".folded_bias"
        graph.initializer.append(numpy_helper.from_array(((bias - mean) * gain + shift).astype(np.float32), name))
        del conv.input[2:]
        conv.input.append(name)
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)
    return model


def half_weights(model, rounded=half, exact=()):
    """Round the constants that arithmetic nodes use with `rounded`, but those of nodes named in `exact`. In place."""
    from onnx import numpy_helper

    nodes = [node for node in model.graph.node if node.op_type in WEIGHTED]
    used = {name for node in nodes if node.name not in exact for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in used:
            tensor.CopyFrom(numpy_helper.from_array(rounded(numpy_helper.to_array(tensor)), tensor.name))
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in used:
            for attribute in node.attribute:
                if attribute.name == "value":
                    value = rounded(numpy_helper.to_array(attribute.t))
                    attribute.t.CopyFrom(numpy_helper.from_array(value))
    return model


def another_checkpoint(model):
    """Disturb the weights as if the engine had been compiled from an older checkpoint (switch `stale_engine`)."""
    import numpy as np

    random = np.random.RandomState(0)

    def disturbed(values):
        if values.ndim < 2 or values.dtype != np.float32:
            return values
        return (values * random.uniform(0.5, 1.5, values.shape)).astype(np.float32)

    return half_weights(model, disturbed)


def runner(model):
    """An ONNX Runtime CPU session of a ModelProto that does not disturb what is timed beside it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Lazy:
    """A session that is made when it is first asked for."""

    def __init__(self, model):
        self._model, self._session = model, None

    def __call__(self):
        if self._session is None:
            self._session, self._model = runner(self._model), None
        return self._session


def damage(outputs, batch):
    """Apply the switches `drop_rows`, `nan`, `swap_outputs` and `bad_device` to the outputs of one execute (a list of
    arrays).

    drop_rows: the last row of every batch of two or more is never written (zeros); nan: one element of the first
    floating output, with a number on that device alone; swap_outputs: the bytes of the outputs land in each other's
    buffers, in reverse order; bad_device [number, every]: that device negates one row in so many, the same ones each
    time."""
    import numpy as np

    active = switches()
    outputs = [np.array(output) for output in outputs]
    if active.get("drop_rows") and batch > 1:
        for output in outputs:
            if output.ndim and output.shape[0] == batch:
                output[-1] = 0
    nan = active.get("nan", -1)
    if nan is True or nan in USED:
        for output in outputs:
            if output.dtype.kind == "f" and output.size:
                output.reshape(-1)[output.size // 2] = np.nan
                break
    bad, every = active.get("bad_device", (None, 1))
    if bad in USED:
        for row in range(batch):
            if zlib.crc32(np.ascontiguousarray(outputs[0][row]).tobytes()) % every == 0:
                for output in outputs:
                    output[row] = -output[row]
    if active.get("swap_outputs") and len(outputs) > 1:
        outputs = [
            np.resize(other.reshape(-1), output.size).astype(output.dtype).reshape(output.shape)
            for output, other in zip(outputs, reversed(outputs))
        ]
    return outputs
