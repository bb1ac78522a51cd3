"""The chips under test: one row each. A row is also a pytest marker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.case import Precision
from harness.errors import UsageError

FP32, FP16, BF16, INT8 = Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8
EAGER, ONNX_RUNTIME = PEERS = "eager PyTorch", "ONNX Runtime"  # rows of harness.run.peers
CHIP_PATIENCE_S, CPU_PATIENCE_S = 60.0, 30.0  # seconds that a case may be timed until it is decided


@dataclass(frozen=True)
class Chip:
    """`match` is the regular expression a device's vendor name must match as a whole; `target` is what the compiler
    calls the chip when no device is there to ask. `backends` are tried in order: the first that finds a device
    drives it. Raises UsageError for a row that no run could use."""

    name: str
    title: str
    backends: tuple[str, ...]
    match: str
    target: str
    precisions: tuple[Precision, ...]
    batches: tuple[int, ...]
    devices_per_card: int = 1
    heavy_batches: tuple[int, ...] | None = None  # batches of heavy models, when fewer than `batches`
    reduced_batches: tuple[int, ...] | None = None  # batches below FP32, when fewer than `batches`
    normalizes: bool = False  # the compiler can take over normalisation (AIPP, insert_bn)
    keeps: bool = False  # its answers follow from the engine's key alone, and are kept like the reference's
    least_of_eager: float | None = None  # asked where nothing is published: FP32 throughput / that of eager PyTorch
    heavy_least_of_eager: float | None = None  # that of heavy models, when it is less
    timed_in_turn: bool = False  # timed window by window in turn with its peers, not on all devices at once
    peers: tuple[str, ...] = (EAGER,)  # programs that this is at FP32: eager PyTorch is asked for, the others are told
    shared: bool = False  # other programs use it too: batches are compared by their ratios to eager PyTorch
    hint: str = ""  # what to do when it is absent
    emulated: bool = False  # its runtime is the vendor's own simulator of the chip: throughput is not judged
    simulated: Mapping[str, object] = field(default_factory=dict, hash=False)  # what --simulate puts in its place

    def __post_init__(self) -> None:
        def refuse(fact: str, hint: str) -> None:
            raise UsageError(f"chip {self.name!r}: {fact}", hint=hint)

        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            refuse("the name cannot be a pytest marker", "write lower-case letters, digits and _, a letter first")
        for batches in (self.batches, self.heavy_batches, self.reduced_batches):
            if batches is not None and (not batches or list(batches) != sorted({*batches} - {0})):
                refuse(f"batches are {batches}", "write them rising, each once, from 1 on: (1, 8, 32)")
        if not all(isinstance(precision, Precision) for precision in self.precisions):
            refuse(f"precisions are {self.precisions}", "write members of harness.case.Precision: (Precision.FP16,)")
        if unknown := set(self.peers) - set(PEERS):
            refuse(f"no peer is called {', '.join(sorted(unknown))}", f"there are {', '.join(PEERS)}")
        try:
            re.compile(self.match)
        except re.error as error:
            refuse(f"match is {self.match!r}: {error}", "write a regular expression that fits the device's whole name")


ASCEND_HINT = "install the driver and CANN, then: source /usr/local/Ascend/ascend-toolkit/set_env.sh"
MLU_HINT = "start the MagicMind container with /dev/cambricon_dev0 mapped in"
CUDA_HINT = "install the NVIDIA driver, and TensorRT or onnxruntime-gpu, in the Python given by --sdk-python"
OPENVINO_HINT = 'pip install "chipproof[openvino]"'
RKNN_HINT = 'pip install rknn-toolkit2 "setuptools<81" into a Python of its own, then --sdk-python PATH'
QNN_HINT = "pip install onnxruntime-qnn onnx into a Python of its own, then --sdk-python PATH"

CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            "ascend310",
            "Ascend 310",
            ("acl", "ort_cann"),
            r"(Ascend)?310",
            "Ascend310",
            (FP16,),
            (1, 4, 8, 16, 32, 64),
            devices_per_card=4,
            normalizes=True,
            hint=ASCEND_HINT,
            simulated={"soc": "Ascend310", "devices": 4},
        ),
        Chip(
            "ascend310p",
            "Ascend 310P",
            ("acl", "ort_cann"),
            r"(Ascend)?(310P\d?|710)",
            "Ascend310P3",
            (FP16,),
            (1, 4, 8, 16, 32, 64),
            normalizes=True,
            hint=ASCEND_HINT,
            simulated={"soc": "Ascend310P3", "devices": 1},
        ),
        Chip(
            "mlu370_s4",
            "MLU370-S4",
            ("magicmind",),
            r"MLU370-S4",
            "mtp_372",
            (FP32, FP16, INT8),
            (1, 4, 8),
            normalizes=True,
            hint=MLU_HINT,
            simulated={"soc": "MLU370-S4"},
        ),
        Chip(
            "mlu370_x4",
            "MLU370-X4",
            ("magicmind",),
            r"MLU370-X4",
            "mtp_372",
            (FP32, FP16, INT8),
            (1, 4, 8),
            normalizes=True,
            hint=MLU_HINT,
            simulated={"soc": "MLU370-X4"},
        ),
        Chip(
            "t4",
            "NVIDIA T4",
            ("trt", "ort_tensorrt", "ort_cuda"),
            r"(NVIDIA )?Tesla T4|NVIDIA T4",
            "sm_75",
            (FP32, FP16, INT8),
            (1, 4, 8, 16, 32, 64),
            hint=CUDA_HINT,
            simulated={"soc": "Tesla T4"},
        ),
        Chip(
            "cuda",
            "NVIDIA GPU",
            ("trt", "ort_tensorrt", "ort_cuda", "torch_cuda"),
            r".*",
            "",
            (FP32, FP16, INT8),
            (1, 4, 8, 16, 32, 64),
            hint=CUDA_HINT,
            simulated={"soc": "NVIDIA A10"},
        ),
        Chip(
            "cpu",
            "CPU",
            ("ort",),
            r".*",
            "cpu",
            (FP32, FP16, INT8),
            (1, 4),
            heavy_batches=(1,),
            reduced_batches=(1,),
            normalizes=True,
            keeps=True,
            least_of_eager=1.0,
            heavy_least_of_eager=0.7,  # 0.92 to 1.5 where it is sound, on one thread of two about half of that
            timed_in_turn=True,
            shared=True,
            hint="pip install onnxruntime",
        ),
        Chip(
            "intel_cpu",
            "CPU through OpenVINO",
            ("openvino",),
            r"CPU .*",
            "CPU",
            (FP32, FP16, BF16, INT8),
            (1, 4),
            heavy_batches=(1,),
            normalizes=True,
            least_of_eager=1.0,
            timed_in_turn=True,
            peers=(EAGER, ONNX_RUNTIME),
            shared=True,
            hint=OPENVINO_HINT,
        ),
        Chip(
            "intel_gpu",
            "Intel GPU",
            ("openvino",),
            r"GPU(\.\d+)? Intel.*",
            "GPU",
            (FP32, FP16, INT8),
            (1, 4, 8, 16, 32, 64),
            normalizes=True,
            hint=f"install Intel's OpenCL and Level Zero drivers, then: {OPENVINO_HINT}",
        ),
        Chip(
            "intel_npu",
            "Intel NPU",
            ("openvino",),
            r"NPU(\.\d+)? .*",
            "NPU",
            (FP16, INT8),
            (1, 4),
            normalizes=True,
            hint=f"install the driver of the NPU, then: {OPENVINO_HINT}",
        ),
        Chip(
            "htp_v73",
            "Hexagon HTP v73, Qualcomm's emulator",
            ("qnn_htp",),
            r"HTP v73",
            "v73",
            (FP16, INT8),
            (1,),
            emulated=True,
            hint=QNN_HINT,
        ),
        Chip(
            "rk3588",
            "RK3588, Rockchip's simulator",
            ("rknn",),
            r"RK3588",
            "rk3588",
            (FP16, INT8),
            (1,),
            emulated=True,
            hint=RKNN_HINT,
        ),
    )
}
