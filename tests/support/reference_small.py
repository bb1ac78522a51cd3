"""A small case for eager PyTorch."""

from harness.models import MODELS

MODEL = MODELS["retinaface_mobilenet025"]
