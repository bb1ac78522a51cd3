"""ONNX Runtime's CANN provider: which Ascend devices it may use, and what it is asked for."""

from pathlib import Path

import onnxruntime
from ascend_tiny import spec

from harness.backends.ascend import _devices, ort_cann
from harness.backends.base import Device, Found
from harness.backends.cpu import ort

SEEN = Found((Device(1, "310P3"),), "npu-smi info shows 2 x 310P3")


def test_the_devices_are_those_of_npu_smi_where_the_provider_is_built_in(monkeypatch):
    asked = []
    monkeypatch.setattr(_devices, "devices", lambda match: asked.append(match) or SEEN)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CANNExecutionProvider"])
    found = ort_cann.devices("310P3")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    absent = ort_cann.devices("310P3")

    assert asked == ["310P3", "310P3"]
    assert found.devices == SEEN.devices
    assert SEEN.evidence in found.evidence
    assert absent.devices == ()


def test_the_device_of_the_case_is_asked_for(monkeypatch):
    given = []
    monkeypatch.setattr(ort, "load", lambda *arguments: given.append(arguments))
    case = spec()

    ort_cann.load(Path("e"), Device(3, "310P3"), case)

    assert given == [(Path("e"), Device(3, "310P3"), case, "CANNExecutionProvider", {"device_id": "3"})]


def test_int8_is_symmetric_as_the_chips_take_it(monkeypatch):
    given = {}
    monkeypatch.setattr(ort, "build", lambda *arguments, **more: given.update(more))

    ort_cann.build(Path("m.onnx"), Path("e"), spec())

    assert given == {"symmetric": True}


def test_the_version_names_onnx_runtime_and_cann(monkeypatch):
    monkeypatch.setattr(_devices, "version", lambda: "CANN 8.0.RC2, driver 24.1")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CANNExecutionProvider"])

    version = ort_cann.version()

    assert onnxruntime.__version__ in version
    assert version.endswith(", CANN 8.0.RC2, driver 24.1")
