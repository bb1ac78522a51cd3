"""Errors of every kind: the harness's own, and an SDK's."""

from fakes.doubles import devices, health
from harness.backends.base import trail
from harness.errors import BuildError, InvalidMeasurement


class VendorError(Exception):
    pass


class TooOldError(BuildError):
    pass


def version():
    trail("vendor.version")
    raise VendorError("code 507018")


def build(onnx, engine, spec):
    if spec.precision == "int8":
        raise TooOldError("operator Resize is too new", hint="export at opset 11")
    trail("vendor.compile")
    raise ValueError("bad graph")


def load(engine, device, spec):
    raise InvalidMeasurement("fell back to the CPU", hint="install the provider")
