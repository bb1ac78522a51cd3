"""The models: one row each. A row is also a pytest marker."""

from __future__ import annotations

from harness.models import deepmar, gfocalv2, regnety, retinaface
from harness.models.base import Model

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        retinaface.MOBILENET025,
        retinaface.RESNET50,
        deepmar.RESNET50,
        regnety.REGNETY_016,
        gfocalv2.R50_FPN,
    )
}
