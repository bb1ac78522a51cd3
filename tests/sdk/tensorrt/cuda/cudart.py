"""The name before cuda-python 13."""

from cuda.bindings.runtime import *  # noqa: F403
