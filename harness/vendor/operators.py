"""Which ONNX operators a maker says that its compiler supports: lists of names, each with the document it is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LISTS = Path(__file__).with_name("onnx_operators")
SHOWN = 3  # nodes of an operator that are named
FOLDED = "Constant"  # every compiler takes it for a constant, whether its maker lists it or not


@dataclass(frozen=True)
class Operators:
    """Names of operators, those of other domains than ONNX's own as "domain:Name", and where they are published."""

    source: str
    names: frozenset[str]

    def lacks(self, used: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
        """What of the operators in use, with their nodes, is not in the list."""
        return {name: nodes for name, nodes in used.items() if name not in self.names and name != FOLDED}


def read(name: str) -> Operators:
    """The list in a file of LISTS, or at an absolute path: its first line is "# SOURCE", the others hold names."""
    first, *lines = (LISTS / name).read_text(encoding="utf-8").splitlines()
    return Operators(first.removeprefix("#").strip(), frozenset(word for line in lines for word in line.split()))


def told(lacking: Mapping[str, Sequence[str]]) -> str:
    """Operators with their nodes, such as "Unique (node /u), lab:Foo (5 nodes: a, b, c, ...)"."""
    parts = []
    for name, nodes in sorted(lacking.items()):
        shown = ", ".join(nodes[:SHOWN]) + (", ..." if len(nodes) > SHOWN else "")
        parts.append(f"{name} (node {shown})" if len(nodes) == 1 else f"{name} ({len(nodes)} nodes: {shown})")
    return ", ".join(parts)
