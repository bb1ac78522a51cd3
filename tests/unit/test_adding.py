"""What it costs to add something: each addition is made in a copy of the project, and its files are counted."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).parents[2]

BACKEND = """
from contextlib import contextmanager
from harness.backends.base import Device, Found, Health, check

def version(): return "Acme 1.0"
def devices(match): return Found((Device(0, "Acme A1"),), "an Acme A1 at index 0")
def health(device): return Health()
def build(onnx, engine, spec): engine.write_bytes(onnx.read_bytes())

class Session:
    def __init__(self, spec): self.inputs, self.outputs = spec.inputs, ()
    def write(self, inputs): check(inputs, self.inputs, "input")
    def execute(self, times=1): pass
    def read(self): return {}

@contextmanager
def load(engine, device, spec): yield Session(spec)
"""
MODEL = """
from dataclasses import replace
from harness.models.regnety import REGNETY_016

ACME_NET = replace(REGNETY_016, name="acme_net", title="AcmeNet")
"""
FIGURES = """
[[section]]
document = "AcmeNet on the T4 (0123456789abcdef0123456789abcdef01234567)"
section = "1"
protocol = "ascend"
chip = "t4"
precision = "fp16"
unit = "images/s"
metric = "throughput"
figures = [
    { batch = 1, value = 100 },
]
"""
DEVIATION = """
[[deviation]]
case = "regnety_016-ascend310-fp16-bs1"
stage = "accuracy"
metric = "top1"
reason = "planted"
link = "https://example.org"
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the project, in which files are added and changed."""
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("harness", "baselines", "tools", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for file in (*ROOT.glob("*.md"), *ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "Makefile"):
        shutil.copy(file, copy)
    return copy


def changed(project):
    """Files that are not as in the project, as paths below it."""
    found = []
    for path in sorted(project.rglob("*")):
        original = ROOT / path.relative_to(project)
        whole = path.is_file() and "__pycache__" not in path.parts
        if whole and not (original.is_file() and filecmp.cmp(path, original, shallow=False)):
            found.append(path.relative_to(project).as_posix())
    return found


def insert(path, before, text):
    old = path.read_text(encoding="utf-8")
    assert old.count(before) == 1, f"{before!r} stands {old.count(before)} times in {path.name}"
    path.write_text(old.replace(before, text), encoding="utf-8")


def holds(project, code):
    """Whether `code`, run in the copy, ends well."""
    environment = {**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return True


# tests that read the table of chips and the pages about it
OF_CHIPS = (
    "test_chips.py",
    "test_docs.py",
    "test_matrix.py",
    "report/test_messages.py",
    "tools/test_doctor.py",
    "tools/test_language.py",
)


def test_a_chip_is_one_file(project):
    """The row of docs/adding.md, added as the page says."""
    page = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    row = re.search(r"```python\n(Chip\(.*?)```", page, re.DOTALL)[1]
    path = project / "harness" / "chips.py"
    text = path.read_text(encoding="utf-8").rstrip()
    assert text.endswith("    )\n}")
    path.write_text(
        text.removesuffix("    )\n}") + indent(row.rstrip() + ",\n", " " * 8) + "    )\n}\n", encoding="utf-8"
    )

    assert holds(project, "from harness import matrix; assert any(c.chip == 'ascend910b' for c in matrix.cases())")
    assert changed(project) == ["harness/chips.py"]
    files = [str(Path("tests") / "unit" / name) for name in OF_CHIPS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--no-header", *files],
        cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_backend_is_two_files(project):
    (project / "harness" / "backends" / "acme.py").write_text(BACKEND, encoding="utf-8")
    row = '        BackendRow("acme", "harness.backends.acme"),\n        BackendRow("ort", '
    insert(project / "harness" / "backends" / "registry.py", '        BackendRow("ort", ', row)

    asked = "from harness.worker.process import Worker\nwith Worker('acme') as w: assert w.devices('.*').devices"
    assert holds(project, asked)
    assert changed(project) == ["harness/backends/acme.py", "harness/backends/registry.py"]


def test_a_model_is_two_files(project):
    (project / "harness" / "models" / "acme.py").write_text(MODEL, encoding="utf-8")
    (project / "baselines" / "acme_net.toml").write_text(FIGURES, encoding="utf-8")

    asked = "from harness import matrix\nassert {c.model for c in matrix.published().cases()} >= {'acme_net'}\n"
    assert holds(project, asked + "assert any(c.model == 'acme_net' for c in matrix.cases())")
    assert changed(project) == ["baselines/acme_net.toml", "harness/models/acme.py"]


def test_a_metric_is_two_files(project):
    insert(
        project / "harness" / "vocabulary.py",
        '        Metric("throughput"',
        '        Metric("top3", "ImageNet top-3 accuracy", "classes"),\n        Metric("throughput"',
    )
    value = '"top3": places < 3, "top5": places < 5'
    insert(project / "harness" / "metrics" / "topk.py", '"top5": places < 5', value)

    asked = """
import numpy as np
from harness import matrix, metrics
assert "top3" in matrix.models()["regnety_016"].metrics
assert metrics.score("classes", [{"logits": np.arange(1000.0)}], [997]).values["top3"] == 1.0
"""
    assert holds(project, asked)
    assert changed(project) == ["harness/metrics/topk.py", "harness/vocabulary.py"]


def test_a_figure_is_a_line_and_its_second_transcription(project):
    """The second stands in tests/unit/baselines/test_registry.py, which compares all of both."""
    path = project / "baselines" / "gfocalv2_r50_fpn.toml"
    path.write_text(path.read_text(encoding="utf-8") + FIGURES.replace("fp16", "fp32").replace("100", "9.99"), "utf-8")

    asked = "from harness import matrix; assert any(str(c.printed) == '9.99' for c in matrix.published().cells)"
    assert holds(project, asked)
    assert changed(project) == ["baselines/gfocalv2_r50_fpn.toml"]


def test_a_known_failure_is_one_row(project):
    path = project / "baselines" / "deviations.toml"
    path.write_text(path.read_text(encoding="utf-8") + DEVIATION, encoding="utf-8")

    asked = "from harness import matrix\nfrom harness.case import Case\n"
    asked += "case = Case.parse('regnety_016-ascend310-fp16-bs1')\n"
    assert holds(project, asked + "assert matrix.published().deviation(case, 'accuracy', 'top1').reason == 'planted'")
    assert changed(project) == ["baselines/deviations.toml"]


# ---------------------------------------------------------------- from an installed package

RUNNER = """
from harness.backends.cpu.ort import build, health, load  # the stand-in computes with ONNX Runtime
from harness.backends.base import Device, Found

def version(): return "Acme 1.0, simulated" if acme() else "Acme 1.0"

def devices(match):
    return Found((Device(0, "Acme A1"),) if acme() else (), "the acme SDK says: " + (acme() or "nothing"))

def acme():
    try:
        import acme_sdk
    except ImportError:
        return ""
    return acme_sdk.NAME
"""
ROWS = """
from pathlib import Path
from textwrap import indent
from harness.backends.registry import BackendRow
from harness.case import Precision
from harness.chips import Chip

RUNNER = BackendRow("acme", "chipproof_acme.runner", simulator=str(Path(__file__).with_name("simulator")))
A1 = Chip("acme_a1", "Acme A1", ("acme",), r"Acme A1", "", (Precision.FP32,), (1,))
"""
ENTRY_POINTS = """[chipproof.backends]
acme = chipproof_acme.rows:RUNNER
[chipproof.chips]
acme_a1 = chipproof_acme.rows:A1
"""


@pytest.fixture
def installed(tmp_path):
    """A folder with a package as pip would install it: its modules, its simulated SDK, its entry points."""
    site = tmp_path / "site"
    package, info = site / "chipproof_acme", site / "chipproof_acme-1.0.dist-info"
    (package / "simulator").mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rows.py").write_text(ROWS)
    (package / "runner.py").write_text(RUNNER)
    (package / "simulator" / "acme_sdk.py").write_text("NAME = 'A1'\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chipproof-acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return site


@pytest.mark.parametrize("options", [[], ["--runner=acme"]], ids=["its own chip", "--runner"])
def test_a_backend_of_an_installed_package_runs_with_its_simulator(installed, options, tmp_path, request):
    cache = request.config.cache.mkdir("adding")  # the model is exported once for both
    chip = "acme_a1" if not options else "ascend310p"
    select = f"{chip} and deepmar_resnet50 and bs1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/conformance", "-m", select, "-k", "outputs_are_those", "--simulate",
         f"--require={chip}", f"--cache={cache}", "-p", "no:cacheprovider", "-rA", *options],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "SIMULATED" in done.stdout
