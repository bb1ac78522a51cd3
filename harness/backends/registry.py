"""The table of backends, one row each. No other file compares a backend's name."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from harness.backends.base import Device
from harness.errors import UsageError

SIMULATORS = Path(__file__).parents[2] / "tests" / "sdk"
"""Folder of the simulated SDKs, one subfolder per vendor."""


class Beside(Protocol):
    """What the suite can make for a compiler besides the ONNX file, for one engine; each is made when it is called.

    A backend under the vendor's Python cannot make these itself, because that Python has neither onnx nor torch."""

    precision: str  # "fp32" | "fp16" | "int8"
    version: str  # SDK and driver, as the backend's `version` reports them
    device: Device

    def out_nodes(self) -> list[str]:
        """For each output, the node and output number that compute it, such as `Conv_12:0`."""

    def out_specs(self) -> list[list[object]]:
        """For each output, [name, NumPy dtype name, shape]; -1 stands for the batch."""

    def torchscript(self) -> str:
        """Path of the network as TorchScript."""

    def rounded(self) -> str:
        """Path of the ONNX file in the case's precision, for compilers that take precision from the graph."""

    def timing_cache(self) -> str:
        """Path of a file where the compiler may keep its kernel timings from one build to the next."""


def _nothing(beside: Beside) -> dict[str, Any]:
    return {}


def _device_only(beside: Beside) -> dict[str, Any]:
    return {"device": beside.device.index}


def _out_nodes_and_specs(beside: Beside) -> dict[str, Any]:
    return {"out_nodes": beside.out_nodes(), "out_specs": beside.out_specs()}


def _torchscript(beside: Beside) -> dict[str, Any]:
    return {"torchscript": beside.torchscript()}


def _tensorrt(beside: Beside) -> dict[str, Any]:
    """Options for TensorRT. From TensorRT 11 on, networks are strongly typed: precision comes from the graph."""
    options: dict[str, Any] = {"device": beside.device.index, "timing_cache": beside.timing_cache()}
    major = re.match(r"TensorRT (\d+)", beside.version)
    if major and int(major[1]) >= 11 and beside.precision != "fp32":
        options[f"onnx_{beside.precision}"] = beside.rounded()
    return options


@dataclass(frozen=True)
class Sdk:
    """What shows that a vendor's SDK is installed: variables that its script sets, programs, a Python module.

    `nodes` are patterns of the driver's device files, `tables` commands that print devices and versions, and `files`
    patterns of files that hold the driver's version."""

    name: str
    variables: tuple[str, ...]
    programs: tuple[str, ...]
    module: str
    hint: str
    nodes: tuple[str, ...] = ()
    tables: tuple[tuple[str, ...], ...] = ()
    files: tuple[str, ...] = ()


CANN = Sdk(
    "CANN",
    ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"),
    ("npu-smi", "atc", "msame"),
    "acl",
    "source /usr/local/Ascend/ascend-toolkit/set_env.sh",
    nodes=("/dev/davinci[0-9]*",),
    tables=(("npu-smi", "info"), ("npu-smi", "info", "-t", "common", "-i", "0")),
    files=("/usr/local/Ascend/driver/version.info", "/usr/local/Ascend/firmware/version.info"),
)
MAGICMIND = Sdk(
    "MagicMind",
    ("NEUWARE_HOME",),
    ("cnmon", "mm_run"),
    "magicmind",
    "start the MagicMind container",
    nodes=("/dev/cambricon_dev*",),
    tables=(("cnmon",), ("cnmon", "version")),
    files=("/proc/driver/cambricon/mlus/*/information",),
)
TENSORRT = Sdk(
    "TensorRT",
    ("CUDA_HOME",),
    ("nvidia-smi", "trtexec"),
    "tensorrt",
    "pip install tensorrt cuda-python",
    nodes=("/dev/nvidia[0-9]*", "/dev/nvhost-gpu", "/dev/dxg"),  # discrete, Tegra, WSL
    tables=(("nvidia-smi",),),
    files=("/proc/driver/nvidia/version",),
)
OPENVINO = Sdk("OpenVINO", (), (), "openvino", 'pip install "chipproof[openvino]"')
RKNN = Sdk("RKNN", (), (), "rknn", 'pip install rknn-toolkit2 "setuptools<81"')
QNN = Sdk("QNN", (), (), "onnxruntime_qnn", "pip install onnxruntime-qnn onnx")


@dataclass(frozen=True)
class Pythons:
    """The interpreters of --sdk-python: that of every chip, and those of single chips, by name of the chip."""

    every: str = sys.executable
    chips: Mapping[str, str] = field(default_factory=dict)

    def of(self, chip: str) -> str:
        """Path of the chip's interpreter."""
        return self.chips.get(chip, self.every)

    def options(self, chip: str) -> list[str]:
        """The option that gives the chip the same interpreter in another command; none where it is the suite's own."""
        if chip in self.chips:
            return [f"--sdk-python={chip}={self.chips[chip]}"]
        return [] if self.every == sys.executable else [f"--sdk-python={self.every}"]


def pythons(given: Sequence[str], chips: Collection[str]) -> Pythons:
    """The interpreters that options of the form PATH or CHIP=PATH name; of two for the same chip the last holds. Raises
    UsageError for a chip that is not of `chips` and for a program that does not exist."""
    every, single = sys.executable, {}
    for text in given:
        chip, sign, path = text.partition("=")
        if not sign or "/" in chip:
            chip, path = "", text
        if chip and chip not in chips:
            raise UsageError(f"--sdk-python {text}: no such chip", hint=f"there are {', '.join(chips)}")
        if shutil.which(path) is None:
            raise UsageError(f"--sdk-python {text}: no such program", hint="give the path of a Python interpreter")
        if chip:
            single[chip] = path
        else:
            every = path
    return Pythons(every, single)


@dataclass(frozen=True)
class BackendRow:
    """One backend. `module` has the functions of `base.Backend` and is imported in the worker only.

    `simulator` is the folder that stands in for the SDK on PYTHONPATH and PATH: a name below tests/sdk, or the
    absolute path of a plug-in's; "" where there is none."""

    name: str
    module: str
    sdk: Sdk | None = None
    own_python: bool = False  # runs in the suite's own Python; else in the one of --sdk-python
    own_python_with: str = ""  # runs in the suite's own Python where that has this module; else as above
    simulator: str = ""
    needs: Callable[[Beside], Mapping[str, Any]] = _nothing  # options of the BuildSpec; files as absolute paths
    unkeyed: tuple[str, ...] = ()  # options that do not change what is built: not part of the engine's key
    engine_is_onnx: bool = False  # its engine is an ONNX file, whose metadata say how many layers are in INT8

    def python(self, given: Pythons, chip: str) -> str:
        """The interpreter that the backend's worker runs under for a chip: the one that --sdk-python gives this chip,
        else the suite's own where the row says so, else that of every chip."""
        own = self.own_python or (self.own_python_with and find_spec(self.own_python_with) is not None)
        return sys.executable if own and chip not in given.chips else given.of(chip)

    @property
    def simulator_folder(self) -> Path | None:
        """Absolute path of the simulated SDK, or None."""
        return SIMULATORS / self.simulator if self.simulator else None


BACKENDS: dict[str, BackendRow] = {
    row.name: row
    for row in (
        BackendRow("acl", "harness.backends.ascend.acl", CANN, simulator="ascend", needs=_out_nodes_and_specs),
        BackendRow("ais_bench", "harness.backends.ascend.ais_bench", CANN, simulator="ascend",
                   needs=_out_nodes_and_specs),
        BackendRow("msame", "harness.backends.ascend.msame", CANN, simulator="ascend", needs=_out_nodes_and_specs),
        BackendRow("ort_cann", "harness.backends.ascend.ort_cann", CANN, engine_is_onnx=True),
        BackendRow("magicmind", "harness.backends.cambricon.magicmind", MAGICMIND, simulator="magicmind",
                   needs=_device_only, unkeyed=("device",)),
        BackendRow("trt", "harness.backends.nvidia.trt", TENSORRT, simulator="tensorrt", needs=_tensorrt,
                   unkeyed=("device", "timing_cache")),
        BackendRow("ort_tensorrt", "harness.backends.nvidia.ort_tensorrt", TENSORRT, engine_is_onnx=True),
        BackendRow("ort_cuda", "harness.backends.nvidia.ort_cuda", TENSORRT, engine_is_onnx=True),
        BackendRow("torch_cuda", "harness.backends.nvidia.torch_cuda", TENSORRT, needs=_torchscript),
        BackendRow("openvino", "harness.backends.intel.openvino", OPENVINO, own_python_with="openvino"),
        BackendRow("qnn_htp", "harness.backends.qualcomm.htp", QNN),
        BackendRow("rknn", "harness.backends.rockchip.rknn", RKNN),
        BackendRow("ort", "harness.backends.cpu.ort", own_python=True, engine_is_onnx=True),
    )
}  # fmt: skip


@cache
def backends() -> dict[str, BackendRow]:
    """BACKENDS and the rows of the entry-point group `chipproof.backends`, by name. Raises UsageError when a plug-in's
    row is not a BackendRow or has a name that exists already."""
    return with_plugins(BACKENDS, "chipproof.backends", BackendRow)


def backend(name: str) -> BackendRow:
    """The row of that name. A name with a dot is a module on PYTHONPATH and gets a row without an SDK. Raises
    UsageError for an unknown name."""
    if "." in name:
        return BackendRow(name, module=name)
    rows = backends()
    if name not in rows:
        raise UsageError(f"there is no backend {name}", hint=f"choose one of: {', '.join(rows)}")
    return rows[name]


def module_of(name: str) -> str:
    """Name of the module to import for a backend. Raises UsageError for an unknown name."""
    return backend(name).module


def with_plugins(rows: Mapping[str, Any], group: str, kind: type) -> dict[str, Any]:
    """`rows` and the rows that installed packages add through the entry-point group `group`. Raises UsageError when a
    plug-in's row is not a `kind` or has a name that exists already."""
    table = dict(rows)
    for point in entry_points(group=group):
        row = point.load()
        if not isinstance(row, kind):
            raise UsageError(
                f"entry point {point.value} of {group} is a {type(row).__name__}",
                hint=f"let it name a {kind.__name__}",
            )
        name: str = getattr(row, "name")  # noqa: B009  every kind has one; mypy sees only `type`
        if name in table:
            raise UsageError(
                f"entry point {point.value} adds {name}, which exists already", hint="give it a name of its own"
            )
        table[name] = row
    return table
