"""A backend whose first execute ends when that of another process has begun: they meet in $CHIPPROOF_FAKE_MEETING."""

import contextlib
import os
import time
from pathlib import Path

from fakes import doubles
from fakes.doubles import build, devices, health, version

meeting = Path(os.environ["CHIPPROOF_FAKE_MEETING"])


class Session(doubles.Session):
    def compute(self, x):
        (meeting / str(os.getpid())).touch()
        while len(list(meeting.iterdir())) < 2:
            time.sleep(0.01)
        return super().compute(x)


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
