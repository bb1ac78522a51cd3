"""Weights of a model: the published checkpoint, read strictly and without running its code; else seeded weights."""

from __future__ import annotations

import contextlib
import hashlib
import re
import stat
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets import scenes
from harness.errors import WeightsError
from harness.models.base import Model

if TYPE_CHECKING:
    from torch import Tensor

FIRST = 1000  # index of the first scene that seeded weights are calibrated on
PICTURES = {"classes": 24, "attributes": 24, "faces": 8, "objects": 8}  # by task; detectors have large pictures
COUNTER = "num_batches_tracked"
RESEMBLES = 0.9  # a checkpoint that shares this part of keys and shapes with another model is called that model's


def find(model: Model, data: Path | None) -> Path | None:
    """Path of the model's checkpoint in data/weights/, under any of its known names; None without one. Raises
    PermissionError."""
    if data is None:
        return None
    for path in (data / "weights" / name for name in model.weights.files):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # what may not be seen is not absent
            if stat.S_ISREG(path.stat().st_mode):
                return path
    return None


def sha256(path: Path) -> str:
    """SHA-256 of the file, in hex."""
    return _digest(path, "sha256")


def load(model: Model, path: Path) -> dict[str, Tensor]:
    """The checkpoint as the network's state dict, with the network's keys, order, shapes and dtypes, all finite.

    Accepted are a bare state dict, one under `state_dict` or first in `state_dicts`, keys with a leading `module.`, and
    batch norms without `num_batches_tracked`. Raises WeightsError for anything else."""
    found = _plain(_unwrapped(_read(model, path), path), path)
    wanted = model.network().state_dict()
    _same_keys(model, path, wanted, found)
    found = {key: value.new_zeros(()) for key, value in wanted.items() if key.endswith(COUNTER)} | found
    for key, value in wanted.items():
        if value.is_floating_point() != found[key].is_floating_point():
            raise _damaged(path, f"{key} is {found[key].dtype}, not {value.dtype}")
        if not found[key].isfinite().all():
            raise _damaged(path, f"{key} holds NaN or infinity")
    _published(model, path)
    return {key: found[key].to(value.dtype).contiguous() for key, value in wanted.items()}


def seeded(model: Model, calibration: Sequence[NDArray[np.generic]] | None = None) -> dict[str, Tensor]:
    """State dict of weights drawn by the suite, equal in every run, and calibrated so that outputs vary with the input.

    `calibration` holds prepared inputs, float32 (C, H, W) of one size; default: scenes that no test uses."""
    import torch

    from harness.models.networks.seeding import calibrated
    from harness.models.networks.undrawn import undrawn

    if calibration is None:
        prepare = model.protocols[0].preprocess
        pictures = (scenes.draw(model.task, FIRST + i) for i in range(PICTURES.get(model.task, 8)))
        calibration = [prepare(picture, False).tensor for picture in pictures]
    images = torch.from_numpy(np.stack(calibration).astype(np.float32))
    return calibrated(model.name, model.task, undrawn(model.network), images)


def _read(model: Model, path: Path) -> Any:
    """The content of the file by torch.load, which refuses to run code. Raises WeightsError."""
    import torch

    if not path.is_file():
        raise WeightsError(f"there is no checkpoint {path}", hint=f"get it from {model.weights.url}")
    if path.stat().st_size == 0:
        raise _damaged(path, "it is empty")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can make the unpickler raise any exception
        said = str(error)
        refused = "Weights only load failed" in said  # torch's message also says how to run the code: not shown here
        if refused and path.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            call = re.search(r"GLOBAL ([\w.]+)", said)
            raise WeightsError(
                f"{path} would run code when unpickled{f': it calls {call[1]}' if call else ''}; no code was run",
                hint="do not open it with plain torch.load or pickle; get the checkpoint from its authors",
            ) from error
        reason = "it holds no pickle" if refused else (said.splitlines() or [type(error).__name__])[0]
        raise _damaged(path, f"it cannot be read as a checkpoint: {reason}") from error


def _unwrapped(checkpoint: Any, path: Path) -> Any:
    if not isinstance(checkpoint, Mapping):
        raise _damaged(path, f"it holds a {type(checkpoint).__name__}, not a state dict")
    if "state_dict" in checkpoint:
        return checkpoint["state_dict"]
    if "state_dicts" in checkpoint:  # of the model, then of the optimizer
        inner = checkpoint["state_dicts"]
        if not isinstance(inner, list | tuple) or not inner:
            raise _damaged(path, "its `state_dicts` is empty")
        return inner[0]
    return checkpoint


def _plain(state: Any, path: Path) -> dict[str, Tensor]:
    """Tensors by key, without the `module.` that DataParallel adds; checked for each key, because some files mix both
    forms. Raises WeightsError."""
    import torch

    if not isinstance(state, Mapping):
        raise _damaged(path, f"its state dict is a {type(state).__name__}")
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise _damaged(path, f"its entry {key!r} is a {type(value).__name__}, not a tensor")
        name = key.removeprefix("module.")
        if name in plain:
            raise _damaged(path, f"it holds {name} twice, with and without `module.`")
        plain[name] = value
    return plain


def _same_keys(model: Model, path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = [key for key in wanted if key not in found and not key.endswith(COUNTER)]
    unknown = [key for key in found if key not in wanted]
    shapes = [
        f"{key} is {tuple(found[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in found and found[key].shape != value.shape
    ]
    if not missing and not unknown and not shapes:
        return
    facts = [
        f"{len(missing)} keys are missing, {missing[0]} first" if missing else "",
        f"{len(unknown)} keys are unknown, {unknown[0]} first" if unknown else "",
        f"{len(shapes)} shapes differ: {shapes[0]}" if shapes else "",
    ]
    other = _resembled(model, found)
    raise WeightsError(
        f"{path} is not a checkpoint of {model.name}: " + "; ".join(filter(None, facts)),
        hint=f"it looks like one of {other}: give it to that model" if other else f"get it from {model.weights.url}",
    )


def _resembled(model: Model, found: Mapping[str, Tensor]) -> str | None:
    """Name of the other model of the suite that has these keys and shapes; None if there is none."""
    from harness.models import MODELS

    def signature(state: Mapping[str, Tensor]) -> set[tuple[str, tuple[int, ...]]]:
        return {(key, tuple(value.shape)) for key, value in state.items() if not key.endswith(COUNTER)}

    ours = signature(found)
    for name, other in MODELS.items():
        if name == model.name:
            continue
        theirs = signature(other.network().state_dict())
        if len(ours & theirs) >= RESEMBLES * len(ours | theirs):
            return name
    return None


def _published(model: Model, path: Path) -> None:
    """Raises WeightsError when the digest of the file is not the published one."""
    for kind, published in (("sha256", model.weights.sha256), ("md5", model.weights.md5)):
        if published and (got := _digest(path, kind)) != published:
            raise WeightsError(
                f"{path} fits {model.name} but is not the published file: its {kind} is {got}, not {published}",
                hint=f"get it again from {model.weights.url}",
            )


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _damaged(path: Path, fact: str) -> WeightsError:
    return WeightsError(f"{path}: {fact}", hint="get the file again; compare its size and digest with the publisher's")
