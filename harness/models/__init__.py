"""The table of models: every `Model` that a module of this folder defines. Each name is also a pytest marker."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from harness.models.base import Model
from harness.vocabulary import TASKS


def _rows() -> Iterator[Model]:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        if not module.ispkg:
            yield from (row for row in vars(importlib.import_module(module.name)).values() if isinstance(row, Model))


MODELS: dict[str, Model] = {
    model.name: model for model in sorted(_rows(), key=lambda model: list(TASKS).index(model.task))
}
