"""Simulated MagicMind: the part of the Python API that inference needs, stricter than the real one."""

__version__ = "1.7.0"
