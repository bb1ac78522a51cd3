"""Who may import whom: a file imports only from floors below its own, or from its own package."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = (  # a room is a file of harness/ or a folder, or a file of a folder that another floor needs
    "errors",
    "case vocabulary",
    "store arrays vendor",
    "chips metrics",
    "datasets baselines",
    "judge",
    "backends",
    "worker models",
    "export matrix",
    "reference",
    "run",
    "diagnose report",
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
FOLDERS = {".ci", "baselines", "docs", "harness", "tests", "tools"}
BESIDE = {"README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "conftest.py"}
SETTINGS = {".editorconfig", ".gitignore", ".pre-commit-config.yaml", "pyproject.toml"}
TOP_LEVEL = FOLDERS | BESIDE | SETTINGS
TOP = len(FLOORS)  # conftest, tests, tools
FILES = [
    path.relative_to(ROOT)
    for folder in ("harness", "tools", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "sdk" not in path.parts
] + [Path("conftest.py")]


def room(path):
    """Name of the part of harness/ that a file belongs to, or None for what is above it."""
    if path.parts[0] != "harness" or path == Path("harness/__init__.py"):
        return None
    return path.parts[1].removesuffix(".py")


@cache
def nodes(path):
    """What a file of the checkout is made of."""
    return tuple(ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))))


def imported_rooms(path):
    for node in nodes(path):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "harness" else [node.module]
            )
        for name in names:
            parts = name.split(".")
            if parts[0] == "harness" and len(parts) > 1 and parts[1] in FLOOR:
                yield parts[1], node.lineno
            if parts[0] in ("pytest", "_pytest"):
                yield "pytest", node.lineno


def test_every_module_of_the_harness_has_a_floor():
    rooms = {room(path) for path in FILES if path.parts[0] == "harness" and room(path) not in (None, "__init__")}

    assert rooms == set(FLOOR), f"without a floor: {rooms - set(FLOOR)}; floors of nothing: {set(FLOOR) - rooms}"


def test_a_file_imports_only_from_floors_below_its_own():
    seen, wrong = 0, []
    for path in filter(room, FILES):
        own = room(path)
        for other, line in imported_rooms(path):
            seen += 1
            if other == "pytest":
                wrong.append(f"{path}:{line} imports pytest, which only the top floor may")
            elif other != own and FLOOR[other] >= FLOOR[own]:
                wrong.append(f"{path}:{line} on floor {FLOOR[own]} imports {other} of floor {FLOOR[other]}")

    assert wrong == []
    assert seen > 300


def test_no_two_files_import_each_other():
    """Not even for their types: to understand one of them, both would have to be read."""
    modules = {".".join(path.with_suffix("").parts): path for path in FILES if path.parts[0] in ("harness", "tools")}
    uses = {name: imported_modules(path) & set(modules) - {name} for name, path in modules.items()}

    assert not [(name, other) for name, others in uses.items() for other in others if name in uses[other]]


def imported_modules(path):
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_root_of_the_harness_is_small():
    """A newcomer sees rooms, not files."""
    assert len([path for path in (ROOT / "harness").glob("*.py") if path.name != "__init__.py"]) <= 6


def place_of(module):
    """Where the tests of a module stand: the same folder under tests/unit, without a leading underscore."""
    folder = module.parent if module.parts[0] == "tools" else module.parent.relative_to("harness")
    return Path("tests/unit") / folder / f"test_{module.stem.lstrip('_')}.py"


def test_nothing_stray_lies_at_the_top():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a checkout of git")
    top = {name.split("/")[0] for name in tracked.stdout.splitlines()}
    assert top == TOP_LEVEL, top ^ TOP_LEVEL


def test_every_module_has_a_test_file_of_its_name():
    modules = [p for p in FILES if p.parts[0] in ("harness", "tools") and not p.stem.startswith("__")]
    alone = {module for module in modules if not (ROOT / place_of(module)).is_file()}

    assert not alone, f"write {', '.join(str(place_of(module)) for module in sorted(alone))}"


def test_files_in_backends_are_rows_of_the_table_or_are_marked_as_helpers():
    from harness.backends.registry import BACKENDS

    known = {f"{row.module.replace('.', '/')}.py" for row in BACKENDS.values()}
    found = {path.as_posix() for path in FILES if path.parts[:2] == ("harness", "backends")}
    plain = {path for path in found if not Path(path).name.startswith("_")}

    assert plain - known == {"harness/backends/base.py", "harness/backends/registry.py"}


def test_no_file_but_the_table_compares_a_backends_name():
    from harness.backends.registry import BACKENDS

    elsewhere = ("harness", "backends"), ("harness", "vendor")  # modules of one name; names of tools' files
    files = [p for p in FILES if p.parts[0] in ("harness", "tools") or len(p.parts) == 1]
    wrong, seen = [], 0
    for path in (path for path in files if path.parts[:2] not in elsewhere):
        for node in nodes(path):
            compared = []
            if isinstance(node, ast.Compare):
                compared = [node.left, *node.comparators]
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("startswith", "endswith"):
                compared = node.args
            texts = {c.value for part in compared for c in ast.walk(part) if isinstance(c, ast.Constant)}
            seen += len(texts)
            if texts & set(BACKENDS):
                wrong.append(f"{path}:{node.lineno} compares {texts & set(BACKENDS)}")

    assert wrong == []
    assert seen > 500


@pytest.mark.slow
def test_the_whole_suite_imports_without_a_vendor_sdk_and_collection_without_torch():
    script = """
import importlib, pkgutil, sys
sys.modules.update({name: None for name in ("acl", "magicmind", "tensorrt", "cuda", "pynvml")})
import harness, tools
for package in (harness, tools):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_collecting_imports_neither_torch_nor_onnxruntime():
    script = """
import sys, pytest
status = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-m", "ascend310p"])
heavy = sorted({name.split(".")[0] for name in sys.modules} & {"torch", "onnxruntime", "torchvision", "timm"})
sys.exit(f"collection imported {heavy}" if heavy else int(status))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr + done.stdout[-500:]
    assert "regnety_016-ascend310p-fp16-bs16" in done.stdout
