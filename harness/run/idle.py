"""Whether a device is idle and healthy before a measurement, during it and after it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from harness.backends.base import Device, Health
from harness.errors import InvalidMeasurement

IDLE = 0.05  # utilisation by others up to which a device counts as idle
CLOCK = 0.02  # relative change of the clock up to which two moments are alike
UNSEEN_MB = 2048  # memory that nobody shown holds, up to which a device counts as idle: drivers keep some themselves
LOOKS = 2  # looks under load, beside the first, after which a device that shows no utilisation tells none
LOST_MB = 4.0  # as of the worker's own memory (side.GROWTH_MB); allocators of devices take 2 MB at a time
VACANT_S = 1.0  # between two looks at a device that others use: a vendor's tool takes up to a second of the host
TELL_S = 30.0  # between two words to someone who waits


class Disturbed(InvalidMeasurement):
    """The device was in use, unhealthy or throttled, or its clock changed: that says nothing of the engine."""


def rested(ask: Callable[[], Health], patience: float = 3.0) -> Health:
    """How a device is when the suite's own work of a moment ago has left its utilisation, which is a mean over up to a
    second: while nothing but that stands against it, it is asked again for `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        health = ask()
        if health.busy is None or health.busy <= IDLE or strangers(health) or time.monotonic() >= end:
            return health
        time.sleep(0.2)


def vacated(
    ask: Callable[[], Health],
    what: str,
    patience: float,
    tell: Callable[[str], None] = lambda text: None,
    known: Collection[str] = (),
) -> Health:
    """How a device is once processes of others have left it, or after `patience` seconds; tells who is waited for.
    Nobody waits for those that are `known` to stay."""
    begun, told = time.monotonic(), -TELL_S
    while True:
        health = rested(ask)
        waited = time.monotonic() - begun
        others = [process for process in users(health) if process not in known]
        if not others or waited >= patience:
            return health
        if waited - told >= TELL_S:
            told = waited
            who = ", ".join(f"{process}{_since(process)}" for process in others)
            tell(f"{what} is used by {who}: waiting, {waited:.0f} of {patience:.0f} s")
        time.sleep(min(VACANT_S, max(0.0, patience - waited)))


def _since(process: str) -> str:
    """Since when a process of this machine, "NUMBER NAME", has been there; "" where that cannot be seen."""
    import psutil

    with contextlib.suppress(psutil.Error, ValueError):
        born = psutil.Process(int(process.split(" ", 1)[0])).create_time()
        return time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(born))
    return ""


def check_idle(device: Device, health: Health) -> None:
    """Raises Disturbed when the device is unhealthy, throttled, or used by others. What a vendor does not
    report counts as fine."""
    name = f"{device.name} {device.index}"
    if not health.healthy:
        raise Disturbed(
            f"{name} is not healthy: {health.note or 'it does not say why'}",
            hint="see npu-smi info, cnmon or nvidia-smi",
        )
    if users(health):
        raise Disturbed(f"{name} is used by {', '.join(users(health))}", hint="measure when the device is idle")
    if health.busy is not None and not health.busy <= IDLE:  # NaN is not idle
        raise Disturbed(
            f"{name} is {health.busy:.0%} busy; up to {IDLE:.0%} is idle", hint="measure when the device is idle"
        )
    if health.throttled:
        raise Disturbed(
            f"{name} throttles{_temperature(health)}", hint="cool it, or raise its power limit, then measure again"
        )


def _temperature(health: Health) -> str:
    return "" if health.temperature_c is None else f" at {health.temperature_c:g} °C"


def users(health: Health) -> tuple[str, ...]:
    """Who of others uses the device: their processes, and what holds more than UNSEEN_MB of its memory without being
    shown, as a process of another container does."""
    hidden = (f"a program not visible here that holds more than {UNSEEN_MB} MB of its memory",)
    return (*strangers(health), *(hidden if (health.unseen_mb or 0.0) > UNSEEN_MB else ()))


def strangers(health: Health) -> tuple[str, ...]:
    """Processes of others: those that this machine or container knows; all of them where the suite's own were told by
    their numbers, for then a number that is not in /proc is another's, hidden or gone."""
    return tuple(process for process in health.processes if health.own or not _unseen(process))


def _unseen(process: str) -> bool:
    """Whether a process, "NUMBER NAME", is not in /proc."""
    number = process.split(" ", 1)[0]
    return number.isdigit() and not Path("/proc", number).exists()


def incomparable(devices: Sequence[Device], before: Sequence[Health], after: Sequence[Health]) -> str:
    """A note where a device lists processes that may be the suite's own or others': in a container the driver may
    give the host's numbers. One that came with the suite's own load is its own, a worker for each device; "" then."""
    told = []
    for device, earlier, later in zip(devices, before, after, strict=True):
        old = [process for process in earlier.processes if _unseen(process)]
        new = [process for process in later.processes if _unseen(process) and process not in old]
        if not later.own and (old or len(new) > 1):
            told.append(f"{device.name} {device.index}: {', '.join([*old, *new])}")
    return "processes cannot be compared here, their numbers are not in /proc: " + "; ".join(told) if told else ""


def check_same(
    devices: Sequence[Device],
    before: Sequence[Health],
    after: Sequence[Health],
    during: Sequence[Sequence[Health]] = (),
    elsewhere: Callable[[], Sequence[Health]] = tuple,
) -> None:
    """Raises Disturbed when a device became unhealthy, throttled or used by others while it was measured, or
    its clock changed; under load, when it fell below the first clock seen under load; and when it shows none of the
    suite's own processes, where another device does and this one tells all of its use. Utilisation and memory after a
    measurement are its own and say nothing. `during` has a row of the devices for every moment under load; `elsewhere`
    asks devices that are not measured, and is called when none of those that are shows such a process."""
    for number, (device, earlier, later) in enumerate(zip(devices, before, after, strict=True)):
        clocks = [row[number].clock_mhz for row in (*during, after)]
        loaded = [clock for clock in clocks if clock]
        if loaded and min(loaded) < (1 - CLOCK) * loaded[0]:
            raise Disturbed(
                f"{device.name} {device.index} throttled: its clock fell from {loaded[0]:g} to {min(loaded):g} MHz "
                f"under load{_temperature(later)}",
                hint="cool it, or raise its power limit, then measure again",
            )
        for moment in (*(row[number] for row in during), later):
            check_idle(device, replace(moment, busy=None, unseen_mb=None))  # its own, where it is not shown either
        if earlier.clock_mhz and later.clock_mhz and not abs(later.clock_mhz / earlier.clock_mhz - 1) <= CLOCK:
            raise Disturbed(
                f"the clock of {device.name} {device.index} went from {earlier.clock_mhz:g} to {later.clock_mhz:g} MHz",
                hint="lock the clock, then measure again",
            )
    here = any(health.own for health in after)
    if here or any(health.own for health in elsewhere()):
        for device, health in zip(devices, after, strict=True):
            if not health.own and not health.untold:
                raise Disturbed(
                    f"{device.name} {device.index} shows no process of this run, and others that were measured with it "
                    "do: its work ran on another device"
                    if here
                    else f"{device.name} {device.index} shows no process of this run, and another that is not measured "
                    "does: its work ran on another device",
                    hint=f"compare the numbers of the vendor's tool with those of the runtime, then each device alone: "
                    f"pytest -m throughput --device {device.index}",
                )


def check_flat(devices: Sequence[Device], during: Sequence[Sequence[Health]], after: Sequence[Health]) -> None:
    """Raises InvalidMeasurement when the memory that the suite holds on a device never shrank under load, and grew by
    more than `LOST_MB` in the first half of the moments and in the second: in the first a runtime may fill its pools,
    in the last it may not. `during` as in check_same."""
    for number, device in enumerate(devices):
        told = [row[number].own_mb for row in (*during, after)]
        held = [mb for mb in told if mb is not None]
        if len(held) < max(3, len(told)) or held != sorted(held):
            continue
        first, middle = held[0], held[len(held) // 2]
        if min(middle - first, held[-1] - middle) > LOST_MB:
            raise InvalidMeasurement(
                f"the memory that the suite holds on {device.name} {device.index} grew from {first:.0f} to "
                f"{middle:.0f} and to {held[-1]:.0f} MB while it was measured",
                hint="the runtime or its backend keeps device memory at each execute: a server would run out of it; "
                "report it",
            )


def check_working(devices: Sequence[Device], during: Sequence[Sequence[Health]]) -> None:
    """Raises InvalidMeasurement when a device, by its own counters, computed nothing in any look under load: it says so
    itself, or it shows the utilisation of an idle one while another that is timed with it shows more. `during` as in
    check_same; its first row is of the moment the load begins."""
    looks = during[1:]
    if len(looks) < LOOKS:
        return
    shown = [[row[number].busy for row in looks] for number in range(len(devices))]
    works = any(share is not None and share > IDLE for shares in shown for share in shares)
    for number, (device, shares) in enumerate(zip(devices, shown, strict=True)):
        alone = f"compare the vendor's numbers with the runtime's, then time it alone: --device {device.index}"
        if all(row[number].idle for row in looks) and all((share or 0.0) <= IDLE for share in shares):
            raise InvalidMeasurement(
                f"{device.name} {device.index} said itself that it is idle, in {len(looks)} looks while it was timed: "
                "its work was not done, or ran elsewhere",
                hint=alone,
            )
        if works and all(share is not None and share <= IDLE for share in shares):
            raise InvalidMeasurement(
                f"{device.name} {device.index} showed no utilisation in {len(looks)} looks while it was timed, and "
                "others beside it did: its work was not done, or ran elsewhere",
                hint=alone,
            )


def counters(during: Sequence[Sequence[Health]]) -> dict[str, float]:
    """What the devices' own counters showed under load, where they tell: {"device_busy": mean utilisation (0..1),
    "device_clock_mhz": the lowest clock that ran}. `during` as in check_working."""
    seen = [health for row in during[1:] for health in row]
    busy = [health.busy for health in seen if health.busy is not None]
    clocks = [health.now_mhz or health.clock_mhz for health in seen]
    told = [clock for clock in clocks if clock]
    return {
        **({"device_busy": round(sum(busy) / len(busy), 4)} if busy else {}),
        **({"device_clock_mhz": min(told)} if told else {}),
    }


def seeing(
    devices: Sequence[Device], after: Sequence[Health], during: Sequence[Sequence[Health]]
) -> tuple[Health, ...]:
    """`after`, with a note where a device showed the utilisation of an idle one in all looks under the suite's own
    load: it cannot tell that of others either. `during` as in check_same; its first row is of the moment the load
    begins."""
    told = []
    for number, (device, health) in enumerate(zip(devices, after, strict=True)):
        busy = [row[number].busy for row in during[1:]]
        seen = max((share for share in busy if share is not None), default=1.0)
        if len(busy) >= LOOKS and seen <= IDLE:
            note = f"utilisation unknown ({device.name} {device.index} shows {seen:.0%} under the load of this run)"
            health = replace(health, untold=", ".join(filter(None, [health.untold, note])))
        told.append(health)
    return tuple(told)


def untold(healths: Sequence[Health]) -> str:
    """What devices did not tell of their use while they were measured, each once; "" where they told all."""
    return "; ".join(dict.fromkeys(health.untold for health in healths if health.untold))
