"""Closes descriptors that are not its own, and lives on."""

import os
import sys
import time

from fakes.doubles import build, devices, health, load


def version():
    os.close(int(sys.argv[3]))
    time.sleep(600)
