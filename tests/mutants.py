"""Mutation testing: small changes to a module, each of which a test must notice. `make mutants` runs it.

The changes are cosmic-ray's, and two neighbouring arguments swapped. `[tool.cosmic-ray]` in pyproject.toml lists the
modules; a mutant runs the test file that mirrors its module, and those listed beside it. All happens in a copy of the
tree. `tests/survivors.toml` says which mutants need not be noticed, and why.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import TestOutcome

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
COPIED = (
    "harness",
    "tools",
    "baselines",
    "tests",
    "docs",
    "conftest.py",
    "pyproject.toml",
    "README.md",
    "README.zh-CN.md",
)
COMMUTATIVE = (
    "max",
    "min",
    "maximum",
    "minimum",
    "hypot",
    "_drop",
    "_unlike",
    "suppress",
    "isclose",
)  # whose arguments have no order
Span = tuple[tuple[int, int], tuple[int, int]]  # (line from 1, column from 0) of start and end


class SwapArguments(Operator):
    """Swaps two neighbouring positional arguments of a call."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        """The pairs that can be swapped."""
        for one, other in self._pairs(node):
            yield node.children[one].start_pos, node.children[other].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """The call with that pair swapped."""
        one, other = self._pairs(node)[index]
        node.children[one], node.children[other] = node.children[other], node.children[one]
        return node

    @staticmethod
    def _pairs(node: Any) -> list[tuple[int, int]]:
        if node.type != "arglist":
            return []
        called = node.parent.get_previous_sibling() if node.parent else None
        if called is not None and called.get_last_leaf().value in COMMUTATIVE:
            return []
        plain = [place for place in range(0, len(node.children), 2) if node.children[place].type != "argument"]
        return [
            (one, other)
            for one, other in pairwise(plain)
            if other == one + 2 and node.children[one].get_code().strip() != node.children[other].get_code().strip()
        ]

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """For cosmic-ray's own tests of operators."""
        return (Example("f(a, b)", "f( b,a)"),)


@dataclass(frozen=True)
class Mutant:
    """One change: `line` (from 1) read `was` and reads `now`."""

    module: str
    operator: str
    line: int
    was: str
    now: str
    code: str


def mutants(source: str, left_out: Sequence[str]) -> dict[Span, list[tuple[str, Operator, int]]]:
    """(name, operator, occurrence) of every change of `source`, by its place; `left_out`: patterns of names."""
    tree, silent = get_ast(source), list(_silent(source))
    made = {name: get_operator(name) for name in operator_names() if not any(re.search(one, name) for one in left_out)}
    operators = {name: operator() for name, operator in made.items() if not operator.arguments()}
    found: dict[Span, list[tuple[str, Operator, int]]] = {}
    for name, operator in {**operators, "SwapArguments": SwapArguments()}.items():
        spans = (span for node in ast_nodes(tree) for span in operator.mutation_positions(node))
        for occurrence, span in enumerate(spans):
            if not any(start <= span[0] and span[1] <= end for start, end in silent):
                found.setdefault(span, []).append((name, operator, occurrence))
    return dict(sorted(found.items()))


def _silent(source: str) -> Iterator[Span]:
    """Places where a change does nothing: annotations are never evaluated, and the others only forbid or hasten."""
    for node in ast.walk(ast.parse(source)):
        quiet: list[ast.expr | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            quiet.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            quiet.append(node.returns)
            for one in node.decorator_list:
                if ast.unparse(one) in ("cache", "staticmethod"):
                    yield (one.lineno, 0), (one.lineno + 1, 0)
        elif isinstance(node, ast.keyword) and node.arg in ("strict", "frozen", "nogil", "cache", "maxsize", "hint"):
            quiet.append(node.value)
        for one in quiet:
            if one is not None:
                yield (one.lineno, one.col_offset), (one.end_lineno or 0, one.end_col_offset or 0)


def chosen(module: str, source: str, left_out: Sequence[str], each: int, seed: int) -> Iterator[Mutant]:
    """All mutants of a module, or `each` at different places drawn at random: the same for the same source and seed."""
    places = list(mutants(source, left_out).values())
    draw = random.Random(f"{seed} {module}")
    drawn = [[draw.choice(place)] for place in draw.sample(places, min(each, len(places)))] if each else places
    for name, operator, occurrence in (change for place in drawn for change in place):
        try:
            code = mutate_code(source, operator, occurrence)
        except AttributeError:  # cosmic-ray cannot replace a dotted name among several exceptions
            continue
        if code is None or code == source:
            continue
        old, new = source.splitlines(), code.splitlines()
        at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old) - 1)
        yield Mutant(module, name.rpartition("/")[2], at + 1, old[at].strip(), new[at].strip(), code)


def tested_by(module: str, also: dict[str, list[str]]) -> list[str]:
    """The test files that must notice a change of `module`."""
    path = Path(module)
    mirrored = Path("tests/unit", *path.parts[1:-1], f"test_{path.name}")
    return [*([str(mirrored)] if (ROOT / mirrored).is_file() else []), *also.get(module, [])]


def copy(root: Path) -> None:
    """A copy of the tree in `root`, with its machine code."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=ignored)
        else:
            shutil.copy(source, root / name)
    # the default .pyc is taken for fresh when a file changes twice in a second and keeps its size
    command = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "harness", "tests", "tools"]
    subprocess.run([sys.executable, *command], cwd=root, check=True)


def survivors(path: Path, planted: Iterable[Mutant], tests: Sequence[str]) -> tuple[int, list[Mutant]]:
    """(number planted, those that no test noticed) in the file at `path`; a test that hangs has noticed.

    Raises RuntimeError with their output when the tests fail without any change."""
    command = shlex.join([sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests])
    begun = time.monotonic()
    outcome, output = run_tests(command, 600)
    limit = 3 * (time.monotonic() - begun) + 10
    if not tests or outcome is not TestOutcome.SURVIVED:
        raise RuntimeError(f"without any change this fails: {command}\n{output[-2000:]}")
    source, number, alive = path.read_text(encoding="utf-8"), 0, list[Mutant]()
    for mutant in planted:
        path.write_text(mutant.code, encoding="utf-8")
        outcome, _ = run_tests(command, limit)
        number += 1
        if outcome is TestOutcome.SURVIVED:
            alive.append(mutant)
    path.write_text(source, encoding="utf-8")
    return number, alive


def reason(mutant: Mutant, known: Sequence[dict[str, str]]) -> str:
    """Why nobody need notice, by the rows of survivors.toml; else ""."""
    now = " ".join(mutant.now.split())
    return next((row["why"] for row in known if row["module"] == mutant.module and row["now"] == now), "")


def main(argv: Sequence[str] | None = None) -> int:
    """0 when enough mutants were noticed and every other one has its reason, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutants")
    parser.add_argument("module", nargs="*", help="files of harness/; default: those of pyproject.toml")
    parser.add_argument("--each", type=int, default=10, help="mutants drawn from each module; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    asked = parser.parse_args(argv)
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cosmic-ray"]
    known = tomllib.loads((ROOT / "tests" / "survivors.toml").read_text(encoding="utf-8"))["survivor"]
    files = [path for pattern in config["modules"] for path in sorted(ROOT.glob(pattern)) if path.stat().st_size > 1000]
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    planted, alive, unexplained = 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy(Path(folder))
        os.chdir(folder)
        for module in asked.module or [path.relative_to(ROOT).as_posix() for path in files]:
            source = Path(module).read_text(encoding="utf-8")
            drawn = chosen(module, source, config["left_out"], asked.each, asked.seed)
            number, left = survivors(Path(module), drawn, tested_by(module, config["also"]))
            print(f"{module}: {number - len(left)} of {number} killed", flush=True)
            for mutant in left:
                why = reason(mutant, known)
                print(f"  line {mutant.line}, {mutant.operator}: {why or 'NO REASON GIVEN'}")
                print(f"    - {mutant.was}\n    + {mutant.now}", flush=True)
                unexplained += not why
            planted, alive = planted + number, alive + len(left)
        os.chdir(ROOT)
    share = 1 - alive / max(1, planted)
    print(f"{planted - alive} of {planted} mutants killed, {share:.1%}; {unexplained} survivors without a reason")
    return 0 if share >= config["killed"] and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
