"""The raw bindings, as far as vendor programs import them: the tensor class and its element types."""

from __future__ import annotations

from magicmind.python.cc._pywrap_runtime import enums


class ITensor:
    """What tensors of a network and tensors on a card have in common: their class."""


__all__ = ["ITensor", "enums"]
