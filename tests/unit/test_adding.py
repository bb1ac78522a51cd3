"""What it costs to add something: each addition is made in a copy of the project, and its files are counted."""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import installed_tiny
import pytest
import warm

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


def _left(folder, names):
    """What is not copied. What was compiled is: sources keep their time and size, and it is theirs."""
    compiled = (".pyc", ".nbi", ".nbc")  # beside them other tests' processes make files that last a moment
    return [n for n in names if n.startswith(".") or ("__pycache__" in folder and not n.endswith(compiled))]


@pytest.fixture
def project(tmp_path):
    """A copy of the project, in which files are added and changed."""
    copy = tmp_path / "copy"
    for name in ("harness", "baselines", "tools", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=_left)
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


def holds(path, code, folder=None):
    """Whether `code` ends well where what is below `path` is installed: a copy of the project, or packages."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder or path, env=environment, capture_output=True, text=True
    )
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


def test_a_chip_is_one_file(project, monkeypatch):
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
    warm.instead(monkeypatch, warm.WHOLE)
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
ROWS = f"""
from dataclasses import replace
from functools import partial
from pathlib import Path
from harness.backends.registry import BackendRow, one_of
from harness.case import Precision
from harness.chips import Chip
from harness.models.deepmar import RESNET50
{installed_tiny.NETWORK}
HERE = Path(__file__).parent
RUNNER = BackendRow("acme", "chipproof_acme.runner", simulator=str(HERE / "simulator"),
                    settings={{"level": one_of("fast", "exact")}})
A1 = Chip("acme_a1", "Acme A1", ("acme",), r"Acme A1", "", (Precision.FP32,), (1,))
NET = replace(RESNET50, name="acme_net", title="AcmeNet", network=partial(network, 35))
FIGURES = HERE / "published"
"""
ENTRY_POINTS = """[chipproof.backends]
acme = chipproof_acme.rows:RUNNER
[chipproof.chips]
acme_a1 = chipproof_acme.rows:A1
[chipproof.models]
acme_net = chipproof_acme.rows:NET
[chipproof.baselines]
acme = chipproof_acme.rows:FIGURES
"""
DATASHEET = """
[[section]]
document = "Acme A1 datasheet"
section = "2"
protocol = "ascend"
chip = "acme_a1"
precision = "fp32"
metric = "throughput"
unit = "images/s"
figures = [
    { batch = 1, value = 0.125 },
]
"""
TARGETS = """
[[target]]
chip = "acme_a1"
other = "ascend310"
ratio = 0.0001
aggregation = "best_batch"
document = "Acme A1 datasheet"
section = "3"
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder with a package as pip would install it: modules, simulated SDK, published figures, entry points."""
    warm.instead(monkeypatch, warm.WHOLE)
    monkeypatch.setenv("WARM_BELOW", "")
    site = tmp_path / "site"
    package, info = site / "chipproof_acme", site / "chipproof_acme-1.0.dist-info"
    (package / "simulator").mkdir(parents=True)
    (package / "published").mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rows.py").write_text(ROWS)
    (package / "runner.py").write_text(RUNNER)
    (package / "simulator" / "acme_sdk.py").write_text("NAME = 'A1'\n")
    for name, text in (("acme_net", DATASHEET), ("deepmar_resnet50", DATASHEET), ("targets", TARGETS)):
        (package / "published" / f"{name}.toml").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chipproof-acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return site


def ran(request, path, *options, module="pytest"):
    """What comes of a command where the packages of `path` are installed; models are exported once for all tests."""
    given = ["tests/conformance", f"--cache={request.config.cache.mkdir('adding')}", "-p", "no:cacheprovider", "-rA"]
    return subprocess.run(
        [sys.executable, "-m", module, *(given if module == "pytest" else []), *options],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("select", "options", "passed"),
    [
        ("acme_a1 and (deepmar_resnet50 or acme_net)", ["--require=acme_a1", "--backend-option=level=exact"], 2),
        ("ascend310p and deepmar_resnet50", ["--require=ascend310p", "--runner=acme"], 1),
    ],
    ids=["its own chip and model", "--runner"],
)
def test_an_installed_package_runs_with_its_simulator(installed, select, options, passed, request):
    done = ran(request, [installed], "-m", f"{select} and bs1", "-k", "outputs_are_those", "--simulate", *options)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{passed} passed" in done.stdout
    assert "SIMULATED" in done.stdout


@pytest.mark.slow
def test_an_installed_package_runs_under_a_python_that_lacks_it(installed, tmp_path, request):
    """The other Python has the vendor's SDK, and of the package only what the suite brings."""
    python, simulator = tmp_path / "python", installed / "chipproof_acme" / "simulator"
    python.write_text(f'#!/bin/sh\ntouch {tmp_path}/asked\nexport PYTHONPATH={simulator}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    given = ["-m", "acme_a1 and deepmar_resnet50", "-k", "outputs_are_those", f"--sdk-python=acme_a1={python}"]

    done = ran(request, [installed], *given, "--require=acme_a1")

    assert (tmp_path / "asked").exists()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "SIMULATED" not in done.stdout


def test_an_installed_package_is_held_against_its_own_figures(installed):
    code = """
from harness import matrix
from harness.case import Case
table = matrix.published()
for model in ("deepmar_resnet50", "acme_net"):
    cell = table.cell(Case.parse(model + "-acme_a1-fp32-bs1"), "throughput")
    assert str(cell) == "0.125 images/s (Acme A1 datasheet, 2)", cell
assert [(row.other, row.ratio) for row in table.targets("acme_a1")] == [("ascend310", 0.0001)]
"""
    assert holds(installed, code, ROOT)


@pytest.mark.slow
def test_a_package_that_contradicts_another_ends_the_run_with_both_places(installed, tmp_path, request):
    other, info = tmp_path / "other" / "chipproof_rival", tmp_path / "other" / "chipproof_rival-1.0.dist-info"
    shutil.copytree(installed / "chipproof_acme" / "published", other / "figures")
    info.mkdir()
    (other / "rows.py").write_text("from pathlib import Path\nFIGURES = Path(__file__).parent / 'figures'\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chipproof-rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[chipproof.baselines]\nrival = chipproof_rival.rows:FIGURES\n")

    done = ran(request, [installed, tmp_path / "other"], "--collect-only", "-m", "acme_a1")

    assert done.returncode == 4, done.stdout
    assert "chipproof_acme/published/targets.toml:2: " in done.stderr
    assert "is already at chipproof_rival/figures/targets.toml:2" in done.stderr


def test_a_package_that_cannot_be_imported_is_named(installed, request):
    rows = installed / "chipproof_acme" / "rows.py"
    rows.write_text("import absent_sdk\n")
    (installed / "chipproof_acme-1.0.dist-info" / "entry_points.txt").write_text(
        "[chipproof.chips]\nacme_a1 = chipproof_acme.rows:A1\n"
    )

    done = ran(request, [installed], "--collect-only", "-m", "cpu")

    assert done.returncode == 4, done.stdout
    assert "entry point chipproof_acme.rows:A1 of chipproof.chips: No module named 'absent_sdk'" in done.stderr
    assert "next: import it with this Python, or pip uninstall the package" in done.stderr


@pytest.mark.slow
def test_figures_of_an_installed_package_are_shown_and_checked(installed, request):
    shown = ran(request, [installed], "baselines", "--json", module="tools")
    lint = ran(request, [installed], "baselines", "lint", module="tools")

    assert [row["value"] for row in json.loads(shown.stdout) if row["chip"] == "acme_a1"] == [0.125, 0.125]
    assert lint.returncode == 0, lint.stdout + lint.stderr


def files_of(page):
    """The files of the package that a page shows, by name."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"`(pyproject\.toml|chipproof_acme/[\w./]+)`[:：]\n\n```\w+\n(.*?)```", text, re.DOTALL)
    return dict(found)


@pytest.mark.slow
def test_the_package_of_the_docs_is_installed_by_pip_and_runs(tmp_path, request):
    files = files_of("adding.md")
    assert len(files) == 5
    for name, text in {**files, "chipproof_acme/__init__.py": ""}.items():
        path = tmp_path / "chipproof-acme" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", tmp_path / "site", tmp_path / "chipproof-acme"], check=True)

    select = "acme_a1 and deepmar_resnet50 and bs1"
    options = ["-k", "outputs_are_those", "--require=acme_a1", "--backend-option=acme_a1:threads=1"]
    done = ran(request, [tmp_path / "site"], "-m", select, *options)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    code = """
from harness import matrix
from harness.case import Case
cell = matrix.published().cell(Case.parse("regnety_016-acme_a1-fp32-bs4"), "throughput")
assert str(cell) == "14.0 images/s (Acme A1 datasheet, rev. B, 2 Throughput)", cell
"""
    assert holds(tmp_path / "site", code, ROOT)


def test_both_pages_show_the_same_package():
    assert files_of("adding.md") == files_of("adding.zh-CN.md")
