"""A backend whose import ends when the file $CHIPPROOF_FAKE_GO is there."""

import os
import time
from pathlib import Path

while not Path(os.environ["CHIPPROOF_FAKE_GO"]).exists():
    time.sleep(0.01)


def version():
    return "went on"
