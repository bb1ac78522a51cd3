"""A model cut into single layers and small blocks, each run by itself on the reference's activations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.diagnose.layers import ROOM, Layer
from harness.export import graph

if TYPE_CHECKING:
    from onnx import ModelProto

BLOCK = 3  # layers of a block: enough for what compilers fuse, such as convolution, addition and activation
FEW = 8  # nodes up to which each is tried without: one engine is built for each


@dataclass(frozen=True)
class Part:
    """Layers that follow one another; only the tensor of the last is compared."""

    layers: tuple[Layer, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that it reads."""
        return self.layers[0].inputs

    @property
    def tensor(self) -> str:
        """The tensor that it computes."""
        return self.layers[-1].tensor

    def of(self, model: ModelProto, batch: int) -> ModelProto:
        """The graph of the part at that batch. Raises ExportError."""
        cut = graph.cut(graph.set_batch(model, batch), [self.tensor], self.inputs)
        return graph.set_batch(cut, batch)


def parts(every: Sequence[Layer]) -> tuple[Part, ...]:
    """Each layer by itself, then blocks of two to `BLOCK` layers of which each is read by the next alone."""
    table = {layer.tensor: layer for layer in every}
    readers = Counter(name for layer in every for name in layer.inputs)
    blocks = []
    for last in every:
        chain = [last]
        while len(chain) < BLOCK and len(chain[0].inputs) == 1 and readers[chain[0].inputs[0]] == 1:
            before = table.get(chain[0].inputs[0])
            if before is None:
                break
            chain.insert(0, before)
        if len(chain) > 1:
            blocks.append(Part(tuple(chain)))
    return (*(Part((layer,)) for layer in every), *blocks)


def groups(found: Iterable[Part], every: Sequence[Layer], room: int = ROOM) -> Iterator[list[Part]]:
    """The parts in groups whose inputs take at most `room` bytes together, or one part."""
    sizes = {layer.tensor: layer.bytes for layer in every}
    group: list[Part] = []
    names: set[str] = set()
    for part in found:
        wanted = names | set(part.inputs)
        if group and sum(sizes.get(name, 0) for name in wanted) > room:
            yield group
            group, wanted = [], set(part.inputs)
        group.append(part)
        names = wanted
    if group:
        yield group


def worst_first(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a sweep: those that differ, then by rms error, then by time; those that did not run come last."""

    def key(row: Mapping[str, Any]) -> tuple[bool, bool, float, float]:
        rms = math.inf if row.get("rms") is None else float(row["rms"])
        return "error" in row, bool(row.get("fine")), -rms, -float(row.get("ms") or 0.0)

    return [dict(row) for row in sorted(rows, key=key)]


def fewest(ranked: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> tuple[str, ...] | None:
    """The nodes that have to stay in FP32 for the outputs to pass: `passes(nodes)` says whether they do with these so.
    None where they do not even with all of `ranked`, the most harmful first.

    The first of them are taken, twice as many each time until it passes, then as few as will do: that keeps layers by
    their sensitivity, as Wu et al. do, "Integer Quantization for Deep Learning Inference" (arXiv 2004.09602). Of up to
    `FEW`, those without which it passes too are left out."""
    low, high = 0, 1  # so many do not pass, and do
    while not passes(ranked[:high]):
        if high >= len(ranked):
            return None
        low, high = high, min(2 * high, len(ranked))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(ranked[:middle]) else (middle, high)
    kept = list(ranked[:high])
    for name in ranked[: high - 1] if high <= FEW else ():
        others = [other for other in kept if other != name]
        if passes(others):
            kept = others
    return tuple(kept)


def most_tries(nodes: int) -> int:
    """How often `fewest` asks at most, of that many nodes."""

    def tries(kept: int) -> int:
        doublings = math.ceil(math.log2(kept))
        between = min(2**doublings, nodes) - (2 ** (doublings - 1) if doublings else 0)
        return 1 + doublings + math.ceil(math.log2(between)) + (kept - 1 if kept <= FEW else 0)

    return max(tries(kept) for kept in range(1, nodes + 1))
