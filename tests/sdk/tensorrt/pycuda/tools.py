"""Contexts by themselves, as in PyCUDA's tools."""

from __future__ import annotations


def make_default_context(ctx_maker=None):
    from pycuda import driver

    if not driver.Device.count():
        raise RuntimeError("No CUDA enabled device found. Please check your installation.")
    return driver.Device(0).make_context() if ctx_maker is None else ctx_maker(driver.Device(0))


def clear_context_caches():
    """Nothing is cached here."""
