"""A backend without faults: y = 2 x, for any batch. An engine is a copy of the ONNX file."""

import contextlib
import time

import numpy as np

from harness.backends.base import Device, Found, Health, TensorSpec, check, trail


class Session:
    inputs = (TensorSpec("x", "float32", (-1, 3)),)
    outputs = (TensorSpec("y", "float32", (-1, 3)),)

    def write(self, inputs):
        check(inputs, self.inputs, "input")
        self.x = inputs["x"].copy()

    def execute(self, times=1):
        trail("doubles.execute")
        for _ in range(times):
            self.y = self.compute(self.x)

    def compute(self, x):
        time.sleep(1e-4)
        return x * np.float32(2)

    def read(self):
        return {"y": self.y.copy()}


def version():
    return "doubles 1.0"


def devices(match):
    return Found((Device(0, "fake", 0, "fake-1"), Device(1, "fake", 0, "fake-1")), "two of them")


def health(device):
    return Health(busy=0.25, processes=("pid 1",), clock_mhz=1000.0, note=f"device {device.index}")


def build(onnx, engine, spec):
    engine.write_bytes(onnx.read_bytes())


@contextlib.contextmanager
def load(engine, device, spec):
    yield Session()
