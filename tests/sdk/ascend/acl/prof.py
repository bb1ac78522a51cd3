"""acl.prof: profiling by hand; nothing is written, and the order of the calls is watched."""

from __future__ import annotations

import os

from acl import chip
from acl.chip import integer, small, state, thing, vendor


@vendor("acl.prof.init")
def init(path):
    """The folder must be there, and acl.init must have been called."""
    chip.started()
    if not os.path.isdir(chip.text(path, "the path")):  # noqa: PTH112
        return chip.fails(chip.INVALID_PARAM, f"EH0002: the folder {path} does not exist")
    return 0


@vendor("acl.prof.create_config", 0, ...)
def create_config(devices, metrics, events, data_types):
    if not isinstance(devices, list) or not devices:
        chip.refuse(chip.INVALID_PARAM, f"acl.prof.create_config of the devices {devices!r}")
    small(metrics, "the metrics"), integer(events, "the events"), integer(data_types, "the data types")
    handle = next(state.numbers["profile"])
    state.profiles[handle] = {"running": False}
    return handle


def _profile(handle, running):
    made = thing(state.profiles, handle, "a configuration of profiling")
    if made["running"] != running:
        chip.refuse(chip.INVALID_PARAM, f"profiling that {'does not run' if running else 'runs already'}")
    return made


@vendor("acl.prof.start")
def start(handle):
    _profile(handle, running=False)["running"] = True
    return 0


@vendor("acl.prof.stop")
def stop(handle):
    _profile(handle, running=True)["running"] = False
    return 0


@vendor("acl.prof.destroy_config")
def destroy_config(handle):
    _profile(handle, running=False)
    chip.drop(state.profiles, handle)
    return 0


@vendor("acl.prof.finalize")
def finalize():
    chip.started()
    return 0
