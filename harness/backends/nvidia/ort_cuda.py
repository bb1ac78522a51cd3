"""ONNX Runtime on NVIDIA GPUs, through its CUDA provider."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.base import BuildSpec, Device, Found, Health, of_chip
from harness.backends.cpu import ort
from harness.backends.nvidia import _nvml

if TYPE_CHECKING:
    from harness.backends.base import Session

PROVIDER = "CUDAExecutionProvider"


def version() -> str:
    """Versions of ONNX Runtime and the driver in one line."""
    return gpu_version(PROVIDER)


def devices(match: str) -> Found:
    """GPUs whose name fully matches `match`, if ONNX Runtime has its CUDA provider."""
    return gpus(PROVIDER, match)


def reset(device: Device) -> str:
    """Reset the GPU by nvidia-smi; returns the command and what it said. Raises DeviceError."""
    return _nvml.reset(device.card)


def health(device: Device) -> Health:
    """The state of the GPU by NVML or nvidia-smi."""
    return _nvml.state(device.card)


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    """Write the ONNX graph in the precision of `spec` to `engine`, INT8 symmetric. Raises BuildError."""
    ort.build(onnx, engine, spec, symmetric=True)


def load(engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[Session]:
    """A context with the engine on the GPU. Raises DeviceError without the provider, InvalidMeasurement when nodes run
    on the CPU."""
    prepare()
    return ort.load(engine, device, spec, PROVIDER, {"device_id": str(device.index)})


def gpu_version(provider: str) -> str:
    """ONNX Runtime's version and the driver's."""
    found, evidence = _nvml.gpus()
    return "{}, driver {}".format(ort.version(provider), found[0].driver if found else f"unknown ({evidence})")


def gpus(provider: str, match: str) -> Found:
    """GPUs by CUDA's index, with NVML's number as `card`; the two differ where CUDA_VISIBLE_DEVICES hides GPUs."""
    found, evidence = _nvml.gpus()
    there, shown = len(found), os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        evidence += f"; CUDA_VISIBLE_DEVICES={shown}"
        named: list[_nvml.Gpu] = []
        for word in map(str.strip, shown.split(",")):
            known = [
                gpu for gpu in found if word == str(gpu.number) or (word[:4] == "GPU-" and gpu.uuid.startswith(word))
            ]
            if not known:  # CUDA hides what follows the name of no GPU
                break
            named += known
        found = tuple(named)
    evidence += _nvml.hidden(len(found), there)
    counted = [Device(index, gpu.name, gpu.number, physical=gpu.number) for index, gpu in enumerate(found)]
    hint = "" if counted else _nvml.repair(evidence)
    return ort.seen_through(provider, of_chip(match, counted, evidence, hint))


def prepare() -> None:
    """Set CUDA's environment before it starts: GPUs are numbered as by NVML, and FP32 is not computed in TF32."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
