"""Status objects that notice when nobody looks at them, and the state of the simulated driver."""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import weakref
from enum import IntEnum
from pathlib import Path

_name = "compiled"
if _name not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_name, str(Path(__file__).resolve().parents[4] / "compiled.py"))
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])
compiled = sys.modules[_name]
simulate = compiled.simulate

MAGIC = b"MAGICMIND-SIMULATED-1"
CLUSTERS = {"MLU370-S4": 6, "MLU370-X4": 8}

calls = simulate.Calls()


class Code(IntEnum):
    OK = 0
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15


class Status:
    """Truthy whatever it says. One that came from the runtime and was never asked `ok()` breaks a rule of this
    project; MagicMind does not mind, and vendor programs do it."""

    def __init__(self, code=Code.OK, message=""):
        self._code = code
        self._message = message
        self._call = None  # the vendor call that returned it; None when the caller made it

    @staticmethod
    def OK():
        return Status()

    def ok(self):
        self._call = None
        return self._code == Code.OK

    def __str__(self):
        return "OK" if self._code == Code.OK else f"{_word(self._code)} ({int(self._code)}): {self._message}"

    def __del__(self):
        if self._call is not None and simulate is not None:
            house(f"Status of {self._call} was never asked: {self}")


def _word(code):
    try:
        return Code(code).name
    except ValueError:
        return "CODE"


def status(call, code=Code.OK, message=""):
    """What vendor call `call` answers; the reason of a failure goes to stderr too, as many programs ask no Status."""
    if code != Code.OK:
        shout(call, message, code)
    made = Status(code, message)
    made._call = call
    return made


def injected(call):
    """Status of an injected failure of this call, or None."""
    code = calls.enter(call)
    return None if code is None else status(call, code, f"injected failure of {call}")


def shout(call, text, code=Code.INTERNAL):
    """The reason for a None goes to stderr, past Python's own buffers; returns that None."""
    line = f"2026-11-20 10:00:00.000000: ERROR: runtime.cc:101] {call}: {_word(code)} ({int(code)}): {text}\n"
    os.write(2, line.encode("utf-8"))


def refused(call):
    """True when the call that should return an object must return None because of an injected failure."""
    code = calls.enter(call)
    if code is None:
        return False
    shout(call, "injected failure", code)
    return True


def violation(what):
    """What gives rubbish or fails on the card."""
    simulate.note("violation", what=what)


def house(what):
    """What MagicMind accepts (vendor programs do it and work) and this project's backend must not do."""
    simulate.note("house", what=what)


class Driver:
    """Open Systems, the active device (0 until another is activated), the objects that should die before the System
    closes, and how many output tensors were allocated."""

    def __init__(self):
        self.open = 0
        self.active = 0
        self.activated = False
        self.allocations = 0
        self.live = weakref.WeakSet()
        self.clocks = {}

    def device(self, call):
        """The device on which a call works. Without an open System or an active device that is device 0, as vendor
        programs rely on (dbnet activates before the System, common_calibrate calibrates after it closed)."""
        if not (self.open and self.activated):
            house(f"{call} without an active device")
        return self.active

    def number(self, index):
        """cnmon's number of a device that the runtime counts from 0."""
        visible = os.environ.get("MLU_VISIBLE_DEVICES")
        return index if visible is None else int(visible.split(",")[index])

    def count(self):
        """Cards that MLU_VISIBLE_DEVICES leaves; a guess: it cuts at the first name of no card, as CUDA's does."""
        visible = os.environ.get("MLU_VISIBLE_DEVICES")
        count = int(simulate.switches().get("devices", 1))
        if visible is None:
            return count
        shown = 0
        for part in visible.split(","):
            if not part.strip().isdigit() or int(part) >= count:
                break
            shown += 1
        return shown

    def clock(self, number):
        return self.clocks.setdefault(number, simulate.Clock())


driver = Driver()


class Alive:
    """Base of what lives on the card: engines, contexts, queues, tensors."""

    def __init__(self):
        driver.live.add(self)
        self._generation = driver.open


@atexit.register
def _at_exit():
    if driver.open:
        simulate.note("leak", what=f"{driver.open} System never closed")
    for item in list(driver.live):
        house(f"{type(item).__name__} alive at exit")
