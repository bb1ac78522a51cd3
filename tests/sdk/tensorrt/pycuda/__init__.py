"""Simulated PyCUDA: the part that inference programs use, upon the simulated driver and runtime."""

VERSION = (2024, 1, 2)
VERSION_TEXT = "2024.1.2"
