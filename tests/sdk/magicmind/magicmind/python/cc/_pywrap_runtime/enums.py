"""Element types under the name of the raw bindings."""

from __future__ import annotations

from magicmind.python.common.types import DataType

__all__ = ["DataType"]
