"""The digest of everything that decides the verdicts on a case: while it is unchanged, a verdict can be reused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from harness import matrix
from harness.backends import registry
from harness.case import Case
from harness.export.own import OwnModel
from harness.reference import weights
from harness.run import artefacts, sources
from harness.run.context import RunContext

ROOT = Path(__file__).parents[2]
SUITE = ("harness", "tests/conformance", "tests/session.py", "conftest.py")
PACKAGES = (
    "torch",
    "onnx",
    "onnxruntime",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pycocotools",
    "numba",
    "scipy",
)


def decided_by(context: RunContext, case: Case, options: Mapping[str, str], own: OwnModel | None = None) -> str:
    """SHA-256 over the suite's code, the published figures, the options, the packages, the chip with its SDK and the
    lab's variables, and the content of weights and data set, or of a model of the user's `own`. Raises DeviceError,
    WeightsError and DataError."""
    chip = matrix.chips()[case.chip]
    present = context.present(chip)
    return artefacts.digest_of({
        "case": str(case),
        "suite": suite_code(),
        "baselines": context.settings.baselines.digest,
        "options": dict(options),
        "packages": {name: artefacts.installed(name) for name in PACKAGES},
        "chip": [present.backend, present.version, [device.name for device in present.devices], repr(chip)],
        "environment": dict(context.settings.policy.environment.get(chip.name, {})),  # with what $NAME stands for here
        "backend": sources.code_digest((registry.backend(present.backend).module,)) if present.backend else "",
        **(_of_model(context, case) if own is None else {"own": own.digest, "inputs": own.inputs_digest}),
    })  # fmt: skip


def _of_model(context: RunContext, case: Case) -> dict[str, str]:
    model = matrix.models()[case.model]
    checkpoint = weights.find(model, context.settings.data)
    return {
        "model": sources.code_digest(tuple(sources.modules_of(model))),
        "weights": "seeded" if checkpoint is None else _sha256(checkpoint, *_stamp(checkpoint)),
        "dataset": context.dataset(model).digest,
    }


@cache
def suite_code() -> str:
    """SHA-256 over all code that contributes to a verdict."""
    total = hashlib.sha256()
    for name in SUITE:
        place = ROOT / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """SHA-256 of the file; `size` (bytes) and `changed` (ns) are there so that a changed file is read again."""
    return weights.sha256(path)
