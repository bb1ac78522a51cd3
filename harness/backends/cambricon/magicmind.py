"""Cambricon MLU370 through MagicMind: an engine on the card, fed, enqueued and read (magicmind_build.py makes it).

Every call goes through `Calls`, which looks at the Status that came back.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence

import numpy as np

from harness.backends._calls import Calls, good, let_go
from harness.backends._own_processes import ours, own_mb
from harness.backends.base import BuildSpec, Device, Found, Health, TensorSpec, check, of_chip, trail
from harness.backends.cambricon import _cnmon
from harness.backends.cambricon._build import build
from harness.backends.cambricon._sdk import sdk, system
from harness.errors import DeviceError, HarnessError, RunError

if TYPE_CHECKING:
    from harness.backends.base import Tensors

__all__ = ["build", "devices", "health", "load", "version"]

IN_FLIGHT = 256
"""Batches enqueued between two syncs: the card stands still for some microseconds at every sync."""

RING = 2
"""Lists of output tensors, filled in turn. enqueue allocates where it gets an empty list and writes again into one that
it filled before, so that the timed loop allocates nothing. Batches of one queue run one after the other."""


HIDING = ("MLU_VISIBLE_DEVICES", "CAMBRICON_VISIBLE_DEVICES")
"""Variables that hide cards: from a process that uses the runtime; from a container by Cambricon's device plugin."""
UNHIDE = "unset that variable, or name a card that exists: cnmon"
BY_THE_DATA = (
    "an operator such as NonZero or NonMaxSuppression makes its length depend on the data: export without such an "
    "output; where there is none, build the engine again"
)


def version() -> str:
    """MagicMind's version, or what tells two builds of it apart when it does not say, and the driver's."""
    sdk()
    import magicmind

    known = getattr(magicmind, "__version__", None)
    if known is None:
        package = Path(magicmind.__file__).parent
        known = "of unknown version, {} bytes".format(sum(file.stat().st_size for file in package.rglob("*.so*")))
    drivers = sorted({card.driver for card in _cnmon.cards()[0] if card.driver})
    return "MagicMind {}, driver {}".format(known, ", ".join(drivers) or "unknown")


def devices(match: str) -> Found:
    """`card` is the number that cnmon gives, `index` the one that the runtime counts among MLU_VISIBLE_DEVICES."""
    cards, evidence = _cnmon.cards()
    try:
        mm = sdk()
    except HarnessError as error:
        return Found((), f"{evidence}; {error.fact}")
    try:
        count = _device_count(mm)
    except HarnessError as error:
        hidden = _hidden(bool(cards))
        return Found((), f"{evidence}; {error.fact}{hidden}", UNHIDE if hidden and cards else error.hint)
    visible = os.environ.get(HIDING[0])
    if visible is not None:
        numbers = [int(number) for number in re.findall(r"\d+", visible)]
        by_number = {card.number: card for card in cards}
        cards = tuple(by_number[number] for number in numbers if number in by_number)
        evidence += f"; {HIDING[0]}={visible}"
    evidence += f"; MagicMind counts {count}"
    if not count:
        hidden = _hidden(bool(cards))
        return Found((), evidence + hidden, UNHIDE if hidden and cards else "")
    if not cards:
        cards = tuple(_cnmon.Card(number, _cnmon.UNNAMED) for number in range(count))
    if count < len(cards) and len({card.name for card in cards}) > 1:
        return Found((), evidence + ", fewer than the host has, so it is unknown which is which: "
                                    "set MLU_VISIBLE_DEVICES")  # fmt: skip
    found = [Device(index, card.name, card.number, physical=card.number) for index, card in enumerate(cards[:count])]
    unnamed = any(card.name == _cnmon.UNNAMED for card in cards)
    return of_chip(match, found, evidence, "see why it names no card: cnmon" if unnamed else "")


def health(device: Device) -> Health:
    """From cnmon; the driver tells neither clock nor throttling in its table. Processes are those of others."""
    cards, evidence = _cnmon.cards()
    card = next((card for card in cards if card.number == device.card), None)
    if card is None:
        return Health(healthy=False, note=f"card {device.card} is gone: {evidence}")
    if card.processes is None:
        note = f"processes unknown: {evidence}"
        return Health(True, card.busy, temperature_c=card.temperature_c, note=note, untold=note)
    others = tuple(f"{pid} {name}" for pid, name in card.processes if not ours(pid))
    mine = own_mb((pid, mb) for (pid, _), mb in zip(card.processes, card.held_mb))
    unseen = None if card.used_mb is None else max(0.0, card.used_mb - sum(card.held_mb))
    return Health(
        True,
        card.busy,
        others,
        temperature_c=card.temperature_c,
        note=evidence,
        own_mb=mine,
        unseen_mb=unseen,
        untold="utilisation unknown (cnmon: N/A)" if card.busy is None else "",
    )


@contextmanager
def load(engine: Path, device: Device, spec: BuildSpec) -> Iterator[_Session]:
    """The System is opened first and closed last; nothing but the session holds what was made under it."""
    mm = sdk()
    calls = Calls(DeviceError, f"see that {engine} was built by this MagicMind for this card")
    session = _Session(spec)
    with system(mm, calls), ExitStack() as stack:

        def hold(name: str, call: str, function: Callable[..., Any], *values: Any) -> None:
            stack.callback(setattr, session, name, None)
            setattr(session, name, calls.make(call, function, *values))

        try:
            hold("device", "mm.Device", mm.Device)
            session.device.id = device.index
            calls.ok("mm.Device.active", session.device.active)
            hold("model", "mm.Model", mm.Model)
            calls.ok("mm.Model.deserialize_from_file", session.model.deserialize_from_file, str(engine))
            session.describe()
            settings = mm.Model.EngineConfig()
            settings.device_type = "MLU"
            hold("engine", "mm.Model.create_i_engine", session.model.create_i_engine, settings)
            hold("context", "mm.IEngine.create_i_context", session.engine.create_i_context)
            hold("queue", "mm.Device.create_queue", session.device.create_queue)
            hold("tensors", "mm.IContext.create_inputs", session.context.create_inputs)
            stack.callback(setattr, session, "results", None)
            stack.callback(setattr, session, "ring", ())
            if len(session.tensors) != len(session.inputs):
                raise DeviceError(
                    f"create_inputs made {len(session.tensors)} tensors for {len(session.inputs)} inputs",
                    hint="build the engine again",
                )
            yield session
        except BaseException as error:
            let_go(error)
            raise


class _Session:
    """An engine on a card. Inputs and outputs carry the ONNX names: the engine's own where it kept them, else by
    position, which is the order of the ONNX graph and must be that of `spec`."""

    def __init__(self, spec: BuildSpec) -> None:
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.device: Any = None
        self.model: Any = None
        self.engine: Any = None
        self.context: Any = None
        self.queue: Any = None
        self.tensors: Any = None  # the engine's inputs on the card
        self.results: list[Any] | None = None  # outputs of the last execute: one of the ring
        self.ring: Any = tuple([] for _ in range(RING))
        self._spec = spec
        self._order: tuple[int, ...] = ()
        self._calls = Calls(DeviceError, "look at the driver's log (dmesg) and at cnmon; then run the case alone")

    def describe(self) -> None:
        """Read names, types and shapes off the model. Raises RunError when they are not those of the spec."""
        from magicmind.python.common.types import get_numpy_dtype_by_datatype as dtype_of

        spec, model, make = self._spec, self.model, self._calls.make
        inputs = list(
            zip(
                make("mm.Model.get_input_data_types", model.get_input_data_types),
                make("mm.Model.get_input_dimensions", model.get_input_dimensions),
            )
        )
        outputs = list(
            zip(
                make("mm.Model.get_output_data_types", model.get_output_data_types),
                make("mm.Model.get_output_dimensions", model.get_output_dimensions),
            )
        )
        if len(inputs) != len(spec.inputs) or len(outputs) != len(spec.outputs):
            raise RunError(
                f"the engine has {len(inputs)} inputs and {len(outputs)} outputs, "
                f"the model {len(spec.inputs)} and {len(spec.outputs)}",
                hint="the engine is another model's: build it again",
            )
        fed = _named(make("mm.Model.get_input_names", model.get_input_names), [tensor.name for tensor in spec.inputs])
        told = _named(make("mm.Model.get_output_names", model.get_output_names), list(spec.outputs))
        self._order = tuple(told.index(name) for name in spec.outputs)
        free = {tensor.name for tensor in spec.inputs if tensor.shape[:1] == (-1,)}
        self.inputs = tuple(
            TensorSpec(name, np.dtype(dtype_of(dtype)).name, self._shape(dims, name in free))
            for name, (dtype, dims) in zip(fed, inputs)
        )
        self.outputs = tuple(
            TensorSpec(name, np.dtype(dtype_of(outputs[i][0])).name, self._shape(outputs[i][1]))
            for name, i in zip(spec.outputs, self._order)
        )

    def _shape(self, dims: Any, batched: bool = False) -> tuple[int, ...]:
        """Sizes of a tensor, of one that is `batched` with the batch at axis 0. Raises RunError where that has another;
        an output may have as many rows as its data says, which is then -1."""
        values = [int(value) for value in dims.GetDims()]
        batch = values[0] if values else None
        if not batched:
            return tuple(values)
        if batch in (-1, self._spec.batch):
            return (self._spec.batch, *values[1:])
        raise RunError(
            f"the engine takes batch {batch}, the case {self._spec.batch}",
            hint="build it for this batch, or with tiers",
        )

    def write(self, inputs: Tensors) -> None:
        check(inputs, self.inputs, "input")
        for tensor, held in zip(self.inputs, self.tensors):
            array = np.ascontiguousarray(inputs[tensor.name])
            self._calls.ok("mm.ITensor.from_numpy", held.from_numpy, array)
            move = getattr(held, "to", None)  # older releases have none, and enqueue takes what from_numpy got
            if move is not None:
                self._calls.ok("mm.ITensor.to", move, self.device, void=True)

    def execute(self, times: int = 1) -> None:
        trail("mm.IContext.enqueue")
        self.results = None
        for start in range(0, times, IN_FLIGHT):
            for number in range(start, min(start + IN_FLIGHT, times)):
                status = self.context.enqueue(self.tensors, self.ring[number % RING], self.queue)
                if not good(status):
                    good(self.queue.sync())  # the enqueue is the failure to report
                    raise self._calls.failure("mm.IContext.enqueue", str(status))
            status = self.queue.sync()
            if not good(status):
                raise self._calls.failure("mm.IQueue.sync", str(status))
        self.results = self.ring[(times - 1) % RING]

    def read(self) -> Tensors:
        if self.results is None:
            raise RunError("nothing was executed", hint="write, execute, then read")
        if len(self.results) != len(self.outputs):
            raise RunError(
                f"enqueue gave {len(self.results)} outputs, the engine has {len(self.outputs)}",
                hint="build the engine again",
            )
        arrays: Tensors = {}
        for tensor, i in zip(self.outputs, self._order):
            if isinstance(self.results[i], (list, tuple)):
                raise RunError(f"{tensor.name} is a list of tensors", hint="export a graph with plain outputs")
            array = self._calls.make("mm.ITensor.asnumpy", self.results[i].asnumpy)
            arrays[tensor.name] = np.array(array)
            # a mutable engine may promise -1, whatever the size, on any axis
            sizes = [size for size, promised in zip(array.shape, tensor.shape) if promised not in (-1, size)]
            alike = array.ndim == len(tensor.shape) and array.dtype.name == tensor.dtype
            if sizes or not alike:
                raise RunError(
                    f"{tensor.name} came back as {array.dtype} {array.shape}, "
                    f"the engine promised {tensor.dtype} {tensor.shape}",
                    hint=BY_THE_DATA
                    if alike
                    else "build the engine again; if the error persists, run the model under mm_run",
                )
        return arrays


def _hidden(known: bool) -> str:
    """What to add to the evidence where MagicMind counts no card: the variables that hide cards, or nothing."""
    told = [f"{name}={os.environ[name]}" for name in HIDING if os.environ.get(name, "all").strip().lower() != "all"]
    words = " and ".join(told)
    if not told:
        return ""
    return f"; {words} hides every card: unset it, or name a card that exists" if known else f"; {words} is set"


def _device_count(mm: Any) -> int:
    calls = Calls(DeviceError, "see that /dev/cambricon_dev0 and /dev/cambricon_ctl are mapped into the container")
    with system(mm, calls) as opened:
        return int(calls.make("mm.System.device_count", opened.device_count))


def _named(own: Sequence[str], wanted: list[str]) -> list[str]:
    """The ONNX names of an engine's inputs or outputs, in the engine's order. MagicMind may write them as
    `main/name:0`. Raises RunError where names it kept show another order and two others tell nothing."""
    plain = [re.sub(r":0$", "", re.sub(r"^main/", "", name)) for name in own]
    if len(plain) != len(wanted) or len(set(plain)) != len(plain):
        return wanted
    rest = [name for name in wanted if name not in plain]
    moved = any(name in wanted and name != at for name, at in zip(plain, wanted))
    if moved and len(rest) > 1:
        raise RunError(
            f"the engine's names {list(own)} are in another order than the model's {wanted} and do not all tell which "
            "is which",
            hint="export the graph with names that the parser keeps (letters, digits and _)",
        )
    left = iter(rest)
    return [name if name in wanted else next(left) for name in plain]
