"""The TensorRT module: its import, the check for a GPU, and a logger that keeps its messages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from harness.backends.nvidia._cuda import Cuda
from harness.errors import DeviceError

if TYPE_CHECKING:
    from harness.errors import HarnessError


def sdk() -> Any:
    """The module tensorrt. Raises DeviceError when it cannot be imported."""
    try:
        import tensorrt
    except Exception as error:  # a missing libnvinfer is an ImportError or an OSError
        raise DeviceError(
            f"tensorrt cannot be imported under {sys.executable}: {error!r}",
            hint="pip install tensorrt (with NVIDIA's index) in the Python given by --sdk-python",
        ) from error
    return tensorrt


NO_GPU = (
    "install the NVIDIA driver: TensorRT times its kernels on the GPU while it builds "
    "(TensorRT for RTX builds without a GPU; this backend does not drive it)"
)


def with_gpu(error: type[HarnessError]) -> Cuda:
    """CUDA's runtime. Raises `error` when it has no GPU, DeviceError when cuda-python cannot be imported."""
    cuda = Cuda()
    count, why = cuda.count()
    if not count:
        raise error(f"no GPU: {why}", hint=NO_GPU)
    return cuda


def logger(trt: Any) -> Any:
    """A TensorRT logger that keeps warnings and errors: builders and runtimes return None and log the reason only."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:  # called from C++: must not raise
            names = {trt.Logger.INTERNAL_ERROR: "F", trt.Logger.ERROR: "E", trt.Logger.WARNING: "W"}
            if severity in names:
                self._lines.append(f"[{names[severity]}] {message}")
                del self._lines[:-100]

        def words(self) -> str:
            """The errors, or the warnings where there are no errors, one a line."""
            errors = [line for line in self._lines if not line.startswith("[W]")]
            return "\n".join(errors or self._lines)

    return Logger()
