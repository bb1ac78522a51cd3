"""A driver that does not answer when it is asked what is there."""

import time

from fakes.doubles import build, health, load, version


def devices(match):
    time.sleep(600)
