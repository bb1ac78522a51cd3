"""The table of backends, one row each. No other file compares a backend's name."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
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

    precision: str  # "fp32" | "fp16" | "bf16" | "int8"
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


def _untuned(device: Device) -> str:
    return ""


def _tuned_on_npu(device: Device) -> str:
    return "NPU_COMPILATION_MODE_PARAMS optimization-level=2" if device.target.startswith("NPU") else ""


def _no_promise(options: Mapping[str, Any]) -> str:
    return ""


def _deterministic_operators(options: Mapping[str, Any]) -> str:
    return "ATC with --deterministic=1" if options.get("deterministic") == "1" else ""


def _deterministic_engines(options: Mapping[str, Any]) -> str:
    return "TensorRT"  # developer guide, Determinism: an engine without fill and scatter layers, once it is built


AOE = "aoe, subgraphs, then operators"
LEVEL_5 = "builder optimisation level 5"


def _nothing(beside: Beside) -> dict[str, Any]:
    return {}


def _device_only(beside: Beside) -> dict[str, Any]:
    return {"device": beside.device.index}


def _cann(beside: Beside) -> dict[str, Any]:
    return {"out_nodes": beside.out_nodes(), "out_specs": beside.out_specs(), "device": beside.device.index}


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


Setting = Callable[[str], Any]
"""Turns the text of a --backend-option into what the backend takes. Raises ValueError, which says what it takes."""


def text(given: str) -> str:
    """Any text, unchanged."""
    return given


def whole(given: str) -> int:
    """A whole number from 1."""
    if not re.fullmatch(r"0*[1-9]\d*", given, re.ASCII):
        raise ValueError("a whole number from 1")
    return int(given)


def wholes(given: str) -> list[int]:
    """Whole numbers from 1, separated by commas."""
    try:
        return [whole(part) for part in given.split(",")]
    except ValueError:
        raise ValueError("whole numbers from 1, separated by commas") from None


def json_object(given: str) -> dict[str, Any]:
    """An object in JSON."""
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("an object in JSON")
    return found


def names(given: str) -> list[str]:
    """Names, separated by commas."""
    found = [part.strip() for part in given.split(",")]
    if not all(found):
        raise ValueError("names, separated by commas")
    return found


def one_of(*words: str) -> Setting:
    """One of these words."""

    def read(given: str) -> str:
        if given not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return given

    return read


@dataclass(frozen=True)
class BackendOptions:
    """What --backend-option sets: text by key, for every chip, and for single chips, which comes first."""

    every: Mapping[str, str] = field(default_factory=dict)
    chips: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, chip: str) -> dict[str, str]:
        """Text by key for one chip."""
        return {**self.every, **self.chips.get(chip, {})}


def backend_options(given: Sequence[str], chips: Collection[str]) -> BackendOptions:
    """What options of the form KEY=VALUE or CHIP:KEY=VALUE set; of two for the same key the last holds. Raises
    UsageError for another form, a chip that is not of `chips`, and a key that no backend knows."""
    every: dict[str, str] = {}
    single: dict[str, dict[str, str]] = {}
    known = sorted({key for row in backends().values() for key in row.settings})
    for option in given:
        key, sign, value = option.partition("=")
        chip, colon, key = key.rpartition(":")
        if not sign or not key:
            raise UsageError(f"--backend-option {option}: no key and value", hint="write KEY=VALUE or CHIP:KEY=VALUE")
        if colon and chip not in chips:
            raise UsageError(f"--backend-option {option}: no such chip", hint=f"there are {', '.join(chips)}")
        if key not in known:
            raise UsageError(f"--backend-option {option}: no backend knows {key}", hint=f"known: {', '.join(known)}")
        (single.setdefault(chip, {}) if colon else every)[key] = value
    return BackendOptions(every, single)


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
            raise UsageError(f"--sdk-python {text}: no such program", hint="see what is here: chipproof doctor")
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
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")  # that `build` knows; which a device has, `devices` tells
    settings: Mapping[str, Setting] = field(default_factory=dict)  # options of the BuildSpec that a user may set
    operators: str = ""  # file that names the ONNX operators its maker says it compiles; see vendor.operators.read
    traced: bool = False  # it compiles TorchScript files too (Protocol.traced)
    tiers: bool = False  # it can compile one engine for several batches (BuildSpec.tiers)
    tunes: Callable[[Device], str] = _untuned  # what BuildSpec.tune does on a device, for the record; "": nothing
    same_bytes: Callable[[Mapping[str, Any]], str] = _no_promise  # who promises, for engines built with these options,
    # that equal inputs give equal outputs to the last bit, in every process; "": nobody
    launched_whole: bool = False  # the host launches the engine at once, or far ahead of the device
    engine_is_onnx: bool = False  # its engine is an ONNX file, whose metadata say how many layers are in INT8
    quantises_apart: bool = False  # `build` with the option `only: quantised` makes what INT8 engines of all batches
    # and inputs share; its path is then their option `quantised`

    def python(self, given: Pythons, chip: str) -> str:
        """The interpreter that the backend's worker runs under for a chip: the one that --sdk-python gives this chip,
        else the suite's own where the row says so, else that of every chip."""
        own = self.own_python or (self.own_python_with and find_spec(self.own_python_with) is not None)
        return sys.executable if own and chip not in given.chips else given.of(chip)

    def read_settings(self, given: Mapping[str, str]) -> dict[str, Any]:
        """The values of --backend-option, by key, as the backend takes them. Raises UsageError for a key that it does
        not know, with those that it knows, and for a value that it does not take."""
        found = {}
        for key, value in given.items():
            if key not in self.settings:
                known = f"known: {', '.join(self.settings) or 'none'}"
                raise UsageError(
                    f"the backend {self.name} has no option {key}",
                    hint=f"{known}; for another chip write --backend-option CHIP:{key}={value}",
                )
            try:
                found[key] = self.settings[key](value)
            except ValueError as error:
                raise UsageError(f"--backend-option {key}={value} cannot be", hint=f"give {error}") from error
        return found

    @property
    def simulator_folder(self) -> Path | None:
        """Absolute path of the simulated SDK, or None."""
        return SIMULATORS / self.simulator if self.simulator else None


IN_FP32 = {"in_fp32": names}  # nodes of the ONNX file that are computed in FP32 whatever the precision
ATC = {**IN_FP32, "precision_mode": text, "op_select_implmode": text, "deterministic": one_of("0", "1"),
       "log": one_of("debug", "info", "warning", "error", "null")}  # fmt: skip
ORT = {**IN_FP32, "method": one_of("MinMax", "Entropy", "Percentile", "Distribution")}

BACKENDS: dict[str, BackendRow] = {
    row.name: row
    for row in (
        *(BackendRow(name, f"harness.backends.ascend.{name}", CANN, simulator="ascend", needs=_cann,
                     unkeyed=("device",), settings=ATC, operators="cann.txt", tiers=True, tunes=lambda device: AOE,
                     launched_whole=True, same_bytes=_deterministic_operators)
          for name in ("acl", "ais_bench", "msame")),
        BackendRow("ort_cann", "harness.backends.ascend.ort_cann", CANN, settings=ORT, tiers=True,
                   engine_is_onnx=True),
        BackendRow("magicmind", "harness.backends.cambricon.magicmind", MAGICMIND, simulator="magicmind",
                   needs=_device_only, unkeyed=("device",), traced=True, tiers=True, launched_whole=True,
                   settings={**IN_FP32, "clusters": wholes, "config": json_object, "quantization_algorithm": text}),
        BackendRow("trt", "harness.backends.nvidia.trt", TENSORRT, simulator="tensorrt", needs=_tensorrt,
                   unkeyed=("device", "timing_cache"), settings={**IN_FP32, "workspace_mb": whole},
                   operators="tensorrt.txt", tiers=True, tunes=lambda device: LEVEL_5, launched_whole=True,
                   same_bytes=_deterministic_engines),
        BackendRow("ort_tensorrt", "harness.backends.nvidia.ort_tensorrt", TENSORRT, settings=ORT, tiers=True,
                   engine_is_onnx=True, tunes=lambda device: LEVEL_5),
        BackendRow("ort_cuda", "harness.backends.nvidia.ort_cuda", TENSORRT, settings=ORT, tiers=True,
                   engine_is_onnx=True),
        BackendRow("torch_cuda", "harness.backends.nvidia.torch_cuda", TENSORRT, needs=_torchscript, tiers=True),
        BackendRow("openvino", "harness.backends.intel.openvino", OPENVINO, own_python_with="openvino",
                   precisions=("fp32", "fp16", "bf16", "int8"),
                   settings={**IN_FP32, "streams": whole, "threads": whole, "preset": one_of("MIXED", "PERFORMANCE"),
                             "overflow_fix": one_of("FIRST_LAYER", "ENABLE", "DISABLE")},
                   operators="openvino.txt", tiers=True, tunes=_tuned_on_npu, quantises_apart=True),
        BackendRow("qnn_htp", "harness.backends.qualcomm.htp", QNN, operators="qnn.txt"),
        BackendRow("rknn", "harness.backends.rockchip.rknn", RKNN,
                   settings={"algorithm": one_of("normal", "mmse", "kl_divergence")}, operators="rknn.txt"),
        BackendRow("ort", "harness.backends.cpu.ort", own_python=True, settings={"threads": whole, **ORT},
                   tiers=True, engine_is_onnx=True),
    )
}  # fmt: skip


@cache
def backends() -> dict[str, BackendRow]:
    """BACKENDS and the rows of the entry-point group `chipproof.backends`, by name. Raises UsageError when a plug-in's
    row is not a BackendRow or has a name that exists already."""
    return with_plugins(BACKENDS, "chipproof.backends", BackendRow)


def backend(name: str) -> BackendRow:
    """The row of that name. A name with a dot is a module on PYTHONPATH and gets a row without an SDK, which promises
    `tiers`. Raises UsageError for an unknown name."""
    if "." in name:
        return BackendRow(name, module=name, tiers=True)
    rows = backends()
    if name not in rows:
        raise UsageError(f"there is no backend {name}", hint=f"choose one of: {', '.join(rows)}")
    return rows[name]


def module_of(name: str) -> str:
    """Name of the module to import for a backend. Raises UsageError for an unknown name."""
    return backend(name).module


def loaded(point: EntryPoint, group: str) -> Any:
    """What an entry point names. Raises UsageError where it cannot be imported."""
    try:
        return point.load()
    except Exception as error:  # a package may raise anything when it is imported
        raise UsageError(
            f"entry point {point.value} of {group}: {' '.join(str(error).split()) or type(error).__name__}",
            hint="import it with this Python, or pip uninstall the package",
        ) from error


def with_plugins(rows: Mapping[str, Any], group: str, kind: type) -> dict[str, Any]:
    """`rows` and the rows that installed packages add through the entry-point group `group`. Raises UsageError when a
    plug-in's row is not a `kind` or has a name that exists already."""
    table = dict(rows)
    for point in entry_points(group=group):
        row = loaded(point, group)
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
