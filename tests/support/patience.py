"""For tests of limits: the wait begins where a call is reached, and what comes before may take its time."""

import time


def patient(worker, reached):
    """The worker's limit is not looked at before `reached()`, or its process ended."""
    waiting = worker.pipe._waiting

    class Patient:
        def poll(self, milliseconds):
            end = time.monotonic() + 60
            while not reached() and worker.pipe._process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            return waiting.poll(milliseconds)

    worker.pipe._waiting = Patient()


def in_call(worker, name):
    """Whether the worker is in the vendor's call of that name."""
    return lambda: worker.pipe.doing("").startswith(name)
