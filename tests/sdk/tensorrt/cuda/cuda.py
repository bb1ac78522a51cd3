"""The driver API under its name before cuda-python 13."""

from cuda.bindings.driver import *  # noqa: F403
