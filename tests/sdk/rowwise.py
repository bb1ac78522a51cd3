"""What a simulated chip computes, a row at a time: each different row of a batch once, and what is known not again.

The suite fills large batches by repeating few images, and cases that differ in their batch alone share a network. So
answers are kept by network and row: the latest in this process, all of them in the folder that the switch `memory`
names. The key holds whatever decides the answer, the simulators' own code included. Runs under Python 3.7.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

IN_PROCESS = 256 << 20  # bytes of answers
IN_FOLDER = 8 << 30
LIKE = 1e-3  # how far a row among others may be from the row alone, of the largest magnitude: rounding


class Rows:
    """`compute` (arrays by input name -> list of arrays, axis 0 the batch) applied row by row.

    A network that mixes the rows of a batch, or is made for one batch only, is found out by a batch of two and then
    computed whole, as the graph says; one that decides by values (`decides`) is whole from the beginning."""

    def __init__(self, name, compute, decides=False):
        self.name, self._compute, self._whole = name, compute, decides or None

    def __call__(self, feeds):
        """Outputs of the batch, which is axis 0 of all feeds; where these differ in length, of the whole graph."""
        batch = next((value.shape[0] for value in feeds.values() if value.shape), 1)
        if any(value.shape[:1] != (batch,) for value in feeds.values()):
            return self._compute(feeds)
        keys = [self._key(feeds, row) for row in range(batch)]
        places = {}
        for row, key in enumerate(keys):
            places.setdefault(key, row)
        if batch > 1 and self._mixes(feeds, list(places.values())):
            return self._compute(feeds)
        alone = {key: self._row(feeds, row, key) for key, row in places.items()}
        if any(output.shape[:1] != (1,) for outputs in alone.values() for output in outputs):
            return self._compute(feeds)
        import numpy as np

        return [np.concatenate(parts) for parts in zip(*(alone[key] for key in keys))]

    def _key(self, feeds, row):
        total = hashlib.sha256(self.name.encode())
        for name in sorted(feeds):
            part = feeds[name][row : row + 1]
            total.update(json.dumps([name, part.dtype.str, part.shape]).encode())
            total.update(part.tobytes())
        return total.hexdigest()

    def _row(self, feeds, row, key):
        found = memory.get(key)
        if found is None:
            found = self._compute({name: value[row : row + 1] for name, value in feeds.items()})
            memory.put(key, found)
        return found

    def _mixes(self, feeds, different):
        """Whether two rows together are not what they are one by one. Asked once of a network."""
        import numpy as np

        if self._whole is not None:
            return self._whole
        key = hashlib.sha256(("mixes " + self.name).encode()).hexdigest()
        known = memory.get(key)
        if known is None:
            first = {name: value[:1] for name, value in feeds.items()}
            if len(different) > 1:
                other = {name: value[different[1] :][:1] for name, value in feeds.items()}
            else:  # upside down, and not as bright
                other = {name: np.ascontiguousarray(value[..., ::-1] // 2) for name, value in first.items()}
            together = {name: np.concatenate([first[name], other[name]]) for name in feeds}
            known = [np.array(not self._alike(together, first, other))]
            memory.put(key, known)
        self._whole = bool(known[0])
        return self._whole

    def _alike(self, together, *rows):
        import numpy as np

        try:
            alone = [self._row(row, 0, self._key(row, 0)) for row in rows]
            both = self._compute(together)
        except Exception:  # made for one batch only: ONNX Runtime says so in many ways
            return False
        for parts, whole in zip(zip(*alone), both):
            if any(part.shape[:1] != (1,) for part in parts) or whole.shape[:1] != (len(rows),):
                return False
            if len({part.shape for part in parts}) > 1:  # a shape that depends on the values
                return False
            apart = np.concatenate(parts)
            sizes = np.abs(apart.astype("f8"))
            magnitude = max(1e-30, float(np.max(sizes, where=~np.isnan(sizes), initial=0.0)))
            if not np.allclose(apart, whole, rtol=0, atol=LIKE * magnitude, equal_nan=True):
                return False
        return True


def decides(model):
    """Whether a branch or loop decides by values: what two rows decide together shows on no sample of them."""
    return any(node.op_type in ("If", "Loop") for node in model.graph.node)


def freed(model):
    """The model with a free batch on its inputs and outputs, whatever batch it was compiled for. In place.

    Each has a name of its own: inputs may differ in length, and ONNX Runtime takes sizes of one name for equal."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in [*model.graph.input, *model.graph.output]:
        shape = value.type.tensor_type.shape
        if value.name not in constants and shape.dim:
            shape.dim[0].Clear()
            shape.dim[0].dim_param = "batch of " + value.name
    del model.graph.value_info[:]
    return model


def name_of(model, *facts):
    """What decides the answers of a model: itself, `facts` (plain values), and the simulators' own code."""
    import onnxruntime

    total = hashlib.sha256(json.dumps([onnxruntime.__version__, CODE, facts], sort_keys=True).encode())
    total.update(model.SerializeToString())
    return total.hexdigest()


def _code():
    total = hashlib.sha256()
    for path in sorted(Path(__file__).resolve().parent.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


CODE = _code()


class Memory:
    """Lists of arrays by key (hexadecimal digits), at most `IN_PROCESS` bytes here and `IN_FOLDER` in the folder."""

    def __init__(self):
        self._held, self._bytes, self._swept = OrderedDict(), 0, False

    def get(self, key):
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        found = self._read(key)
        if found is not None:
            self._hold(key, found)
        return found

    def put(self, key, arrays):
        self._hold(key, arrays)
        folder = self._folder()
        if folder is None:
            return
        import numpy as np

        part = ""
        try:
            handle, part = tempfile.mkstemp(dir=str(folder), suffix=".part")
            with os.fdopen(handle, "wb") as file:
                np.savez(file, *arrays)
            os.replace(part, str(folder / (key + ".npz")))  # noqa: PTH105
        except OSError:  # full, or another user's: it is computed again
            if part:
                os.unlink(part)  # noqa: PTH108

    def _hold(self, key, arrays):
        if key in self._held:
            return
        self._held[key] = arrays
        self._bytes += sum(array.nbytes for array in arrays)
        while self._bytes > IN_PROCESS and len(self._held) > 1:
            self._bytes -= sum(array.nbytes for array in self._held.popitem(last=False)[1])

    def _read(self, key):
        folder = self._folder()
        if folder is None:
            return None
        import numpy as np

        try:
            with (folder / (key + ".npz")).open("rb") as file, np.load(file, allow_pickle=False) as kept:
                return [kept[f"arr_{i}"] for i in range(len(kept.files))]
        except Exception:  # absent, or damaged in one of the ways that a zip file can be
            return None

    def _folder(self):
        from simulate import switches

        named = switches().get("memory")
        if not named:
            return None
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        if not self._swept:
            self._swept = True
            sweep(folder, IN_FOLDER)
        return folder


def sweep(folder, most):
    """Remove the oldest answers of a folder until `most` bytes are left."""
    known = []
    for path in folder.glob("*.npz"):
        try:
            known.append((path.stat().st_mtime, path.stat().st_size, path))
        except OSError:  # another process sweeps, too
            continue
    total = sum(size for _, size, _ in known)
    for _, size, path in sorted(known):
        if total <= most:
            return
        total -= size
        with contextlib.suppress(OSError):
            path.unlink()


memory = Memory()
