"""NVRTC under its name before cuda-python 13."""

from cuda.bindings.nvrtc import *  # noqa: F403
