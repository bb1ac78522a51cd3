"""Chatters on both streams, in Python and below it, at every call."""

import os

from fakes import doubles
from fakes.doubles import build, devices, health, load


def version():
    print('{"ok": "not me"}')
    os.write(1, b"from below\n")
    os.write(2, b"and from the side\n")
    return doubles.version()
