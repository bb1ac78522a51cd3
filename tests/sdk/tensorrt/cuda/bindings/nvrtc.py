"""Simulated NVRTC: the error type that vendor helpers look at. Nothing is compiled here, and every attempt says so."""

from __future__ import annotations

from enum import IntEnum


class nvrtcResult(IntEnum):
    NVRTC_SUCCESS = 0
    NVRTC_ERROR_OUT_OF_MEMORY = 1
    NVRTC_ERROR_PROGRAM_CREATION_FAILURE = 2
    NVRTC_ERROR_INVALID_INPUT = 3
    NVRTC_ERROR_COMPILATION = 6
    NVRTC_ERROR_INTERNAL_ERROR = 11


def nvrtcVersion():
    return nvrtcResult.NVRTC_SUCCESS, 12, 6


def nvrtcGetErrorString(result):
    return nvrtcResult.NVRTC_SUCCESS, nvrtcResult(result).name.encode()


def nvrtcCreateProgram(source, name, count, headers, names):
    return nvrtcResult.NVRTC_ERROR_PROGRAM_CREATION_FAILURE, None
