"""Which source files decide what a module does, and their digest, which is part of the keys of kept files."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from harness.models.base import Model

HARNESS = Path(__file__).parents[1]
DECIDES_NOTHING = ("harness.errors", "harness.vocabulary", "harness.store")  # texts, names, where files are kept


def modules_of(model: Model) -> list[str]:
    """Names of the modules that define a model's network, pre-processing and post-processing."""
    functions: list[Any] = [model.network]
    for protocol in model.protocols:
        functions += [protocol.preprocess, protocol.postprocess, protocol.postprocess_suppressed]
    return sorted({getattr(f, "func", f).__module__ for f in functions if f is not None})


def code_digest(modules: tuple[str, ...]) -> str:
    """SHA-256 over the source of these modules and of the modules that they import from their own package.

    For a module of the harness these are its imports from the harness; for a plug-in's module, every file of its
    top-level package."""
    total = hashlib.sha256()
    for path in sorted(source_files(modules)):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def source_files(modules: Iterable[str]) -> set[Path]:
    """Files whose code decides what these modules do."""
    own = [name for name in modules if name.split(".")[0] == "harness"]
    files = {_file(name) for name in closure(tuple(own))}
    for name in modules:
        if name not in own:
            files |= _outside(name)
    return files


@cache
def closure(modules: tuple[str, ...]) -> frozenset[str]:
    """These modules of the harness and all its modules that they import, directly or not, also inside functions."""
    seen: set[str] = set()
    waiting = [name for name in modules if name not in DECIDES_NOTHING]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [found for found in _imports(name) if found not in seen and found not in DECIDES_NOTHING]
    return frozenset(seen)


@cache
def _imports(module: str) -> tuple[str, ...]:
    found: set[str] = set()
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    for node in _running(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "harness"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "harness":
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if _exists(name)}
            found |= modules if modules == inner else {*modules, node.module}
    return tuple(sorted(found))


def _running(node: ast.AST) -> Iterable[ast.AST]:
    """Every node except those under `if TYPE_CHECKING`, which do not run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield other
                yield from _running(other)
            continue
        yield child
        yield from _running(child)


def _exists(module: str) -> bool:
    path = HARNESS.parent / module.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@cache  # a key asks for a hundred of them
def _file(module: str) -> Path:
    path = HARNESS.parent / module.replace(".", "/")
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"


def _outside(module: str) -> set[Path]:
    """Files of a plug-in: all of its outermost package, or the module's own. None where only the vendor's Python can
    import it: its version is in the key."""
    for name in accumulate(module.split("."), "{}.{}".format):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return set()
        origin = Path(spec.origin) if spec is not None and spec.origin is not None else None
        if origin is not None and origin.is_file():
            return set(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else {origin}
    return set()
