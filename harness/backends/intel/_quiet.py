"""Imports of Intel's packages without their telemetry."""

from __future__ import annotations

import contextlib
import sys
from typing import Iterator

SENDER = "openvino_telemetry"


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Keep `openvino_telemetry` from being imported meanwhile. Where it can be imported, OpenVINO 2026.4 and NNCF 3.4
    write a number of the client to ~/intel when they are imported, and NNCF then sends usage figures to its makers
    without asking; else they do neither (openvino/tools/ovc/telemetry_utils.py, nncf/telemetry/wrapper.py)."""
    before = sys.modules.get(SENDER)
    sys.modules[SENDER] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        yield
    finally:
        del sys.modules[SENDER]
        if before is not None:
            sys.modules[SENDER] = before
