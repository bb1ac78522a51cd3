"""Kernels of a program's own are not simulated."""

from __future__ import annotations


class SourceModule:
    def __init__(self, *source, **options):
        raise NotImplementedError("pycuda.compiler.SourceModule is not simulated: see tests/sdk/tensorrt/README.md")
