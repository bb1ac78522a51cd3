"""ONNX Runtime on NVIDIA GPUs, through its CUDA provider."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.backends.base import BuildSpec, Device, Found, Health
from harness.backends.cpu import ort
from harness.backends.nvidia import _nvml

if TYPE_CHECKING:
    from harness.backends.base import Session

PROVIDER = "CUDAExecutionProvider"


def version() -> str:
    return gpu_version(PROVIDER)


def devices(match: str) -> Found:
    return gpus(PROVIDER, match)


def health(device: Device) -> Health:
    return _nvml.state(device.card)


def build(onnx: Path, engine: Path, spec: BuildSpec) -> None:
    ort.build(onnx, engine, spec, symmetric=True)


def load(engine: Path, device: Device, spec: BuildSpec) -> AbstractContextManager[Session]:
    prepare()
    return ort.load(engine, device, spec, PROVIDER, {"device_id": str(device.index)})


def gpu_version(provider: str) -> str:
    """ONNX Runtime's version and the driver's."""
    found, evidence = _nvml.gpus()
    return "{}, driver {}".format(ort.version(provider), found[0].driver if found else f"unknown ({evidence})")


def gpus(provider: str, match: str) -> Found:
    """GPUs by CUDA's index, with NVML's number as `card`: they differ where CUDA_VISIBLE_DEVICES hides some."""
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
    matching = [(index, gpu) for index, gpu in enumerate(found) if re.fullmatch(match, gpu.name)]
    seen = Found(tuple(Device(index, gpu.name, gpu.number, physical=gpu.number) for index, gpu in matching), evidence)
    return ort.seen_through(provider, seen)


def prepare() -> None:
    """CUDA numbers the GPUs as NVML does, and computes no FP32 in TF32; it reads both when it starts."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
