"""The worker's own end of the pipe: errors as they were raised, the SDK's words in the log, Python 3.7."""

import ast
import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_workers import DEVICE, QUICK, ROOT, SPEC, X, worker

from harness import errors
from harness.backends import registry
from harness.backends.base import BuildSpec
from harness.errors import BuildError, DeviceError, InvalidMeasurement, WorkerError
from harness.worker.process import Worker

HARNESS = ROOT / "harness"
SHORT_LIST = ("errors.py", "judge/timing.py", "worker/child.py", "worker/wire.py")  # beside all of backends/
IN_WORKER = [
    *(HARNESS / name for name in SHORT_LIST),
    *(path for path in sorted((HARNESS / "backends").rglob("*.py")) if path.name != "registry.py"),
    *sorted((HARNESS / "vendor" / "logs").glob("*.py")),
]


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="only Linux is told whom to end first")
def test_where_memory_runs_out_the_worker_goes_and_the_suite_stays():
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    with worker("doubles") as chip:
        chip.version()

        assert Path(f"/proc/{chip.pipe._process.pid}/oom_score_adj").read_text() == "1000\n"
    assert own.read_text() == before


def test_what_the_sdk_prints_goes_to_the_log_and_not_into_the_pipe(tmp_path):
    with worker("prints_to_stdout", log=tmp_path / "logs" / "case.log") as chip:
        assert chip.version() == "doubles 1.0"

    said = (tmp_path / "logs" / "case.log").read_text()
    assert said.splitlines() == ['{"ok": "not me"}', "from below", "and from the side"]


def test_errors_of_the_harness_arrive_as_they_were_raised():
    with worker("raises_errors") as chip:
        with pytest.raises(BuildError, match="too new") as caught:
            chip.build(Path("m"), Path("e"), BuildSpec("int8", 1, (), ()))
        with pytest.raises(InvalidMeasurement, match="fell back"):
            chip.load(Path("e"), DEVICE, SPEC)

    assert caught.value.hint == "export at opset 11"
    assert type(caught.value) is BuildError, "a class that only the worker knows comes as the one it derives from"


def test_errors_of_the_sdk_name_the_call_and_what_it_said():
    with worker("raises_errors") as chip:
        with pytest.raises(DeviceError, match=r"vendor\.version \(version\) failed: .*VendorError: code 507018"):
            chip.version()
        with pytest.raises(BuildError, match=r"vendor\.compile \(build\) failed: ValueError: bad graph"):
            chip.build(Path("m"), Path("e"), SPEC)

        assert chip.alive


def test_an_sdk_that_ends_the_program_is_an_error():
    with worker("calls_sys_exit") as chip:
        with pytest.raises(BuildError, match=r"vendor\.compile .*SystemExit: no licence"):
            chip.build(Path("m"), Path("e"), SPEC)
        with pytest.raises(WorkerError, match=r"exited with 3 in vendor\.open"):
            chip.load(Path("e"), DEVICE, SPEC)


def test_a_backend_that_cannot_be_imported_says_what_is_missing():
    with pytest.raises(DeviceError, match="No module named 'a_vendor_sdk"), worker("needs_a_missing_module") as chip:
        chip.version()


@pytest.mark.parametrize("path", IN_WORKER, ids=lambda path: str(path.relative_to(HARNESS)))
def test_what_runs_in_the_worker_parses_as_python_3_7(path):
    ast.parse(path.read_text(), feature_version=(3, 7))


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/architecture.zh-CN.md"])
def test_the_pages_name_the_files_of_the_worker(page):
    """Files, and folders with what is excepted of them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (told,) = (part for part in re.split(r"^\* |\n\n|\n(?=\|)", text, flags=re.MULTILINE) if "`IN_WORKER`" in part)
    names = [ROOT / name for name in re.findall(r"`(harness/[^`]+)`", told)]
    files = [path for name in names for path in (name.rglob("*.py") if name.is_dir() else [name])]

    assert "`tests/unit/worker/test_child.py`" in told
    assert "`registry.py`" in told
    assert {path for path in files if path.name != "registry.py"} == set(IN_WORKER)


def test_the_folder_of_the_worker_hides_no_vendor_module(tmp_path):
    """child.py takes its own folder off the path: a vendor may have a module called wire, too."""
    (tmp_path / "wire.py").write_text("")
    (tmp_path / "vendor_sdk").mkdir()
    (tmp_path / "vendor_sdk" / "backend.py").write_text("import wire\n\n\ndef version():\n    return wire.__file__\n")

    with Worker("vendor_sdk.backend", env={"PYTHONPATH": str(tmp_path)}) as chip:
        assert chip.version() == str(tmp_path / "wire.py")


@pytest.mark.parametrize("module", ["lab_acme.backend", "lab_alone"])
def test_a_plug_in_is_the_one_of_the_suite_whatever_the_other_python_has(tmp_path, monkeypatch, module):
    """The code of the suite's copy is in the engine's key."""
    for name in ("here", "there"):
        (tmp_path / name / "lab_acme").mkdir(parents=True)
        (tmp_path / name / "lab_acme" / "__init__.py").write_text("")
        (tmp_path / name / "lab_acme" / "backend.py").write_text("from lab_acme.helper import version")
        (tmp_path / name / "lab_acme" / "helper.py").write_text(f"def version(): return {name!r}")
        (tmp_path / name / "lab_alone.py").write_text(f"def version(): return {name!r}")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))

    for path in (None, str(tmp_path / "there")):
        env = {"PYTHONPATH": path or ""}
        with Worker(_dotted(monkeypatch, module), env=env) as chip:
            assert chip.version() == "here"


def _dotted(monkeypatch, module):
    """A name that the table of backends knows."""
    row = registry.BackendRow(module, module)
    monkeypatch.setattr(registry, "backends", lambda: {module: row})
    return module


def test_every_error_class_can_come_through_the_pipe():
    names = [name for name, kind in vars(errors).items() if isinstance(kind, type)]

    assert len(names) > 10
    assert all(str(getattr(errors, name)("fact", hint="hint")) == "fact\n  next: hint" for name in names)


@functools.lru_cache
def python37():
    """A Python 3.7 with NumPy, or None. CHIPPROOF_PYTHON37 may name one."""
    names = [os.environ.get("CHIPPROOF_PYTHON37"), shutil.which("python3.7")]
    names += map(str, Path.home().glob(".pyenv/versions/3.7.*/bin/python"))
    for name in filter(None, names):
        asked = [name, "-c", "import sys, numpy; assert sys.version_info[:2] == (3, 7)"]
        if subprocess.run(asked, capture_output=True).returncode == 0:
            return name
    return None


def test_every_backend_imports_under_a_real_python_3_7_without_its_sdk():
    python = python37()
    if python is None:
        pytest.skip("no python3.7 with NumPy; name one in CHIPPROOF_PYTHON37")
    needs_onnx = {"cpu/_graph.py"}  # builds only, and is imported when it does
    backends = HARNESS / "backends"
    files = [path.relative_to(backends) for path in IN_WORKER if path.is_relative_to(backends)]
    names = [".".join(path.with_suffix("").parts) for path in files if str(path) not in needs_onnx]
    script = "import sys; sys.path.insert(0, {!r}); import child; child.bare_packages()\nimport importlib\n"
    script += "for name in {!r}: importlib.import_module('harness.backends.' + name)"

    done = subprocess.run([python, "-c", script.format(str(HARNESS / "worker"), names)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_a_real_python_3_7_drives_the_worker(tmp_path):
    python = python37()
    if python is None:
        pytest.skip("no python3.7 with NumPy; name one in CHIPPROOF_PYTHON37")
    (tmp_path / "m.onnx").write_bytes(b"graph")

    with worker("doubles", python=python) as chip:
        chip.build(tmp_path / "m.onnx", tmp_path / "m.engine", SPEC)
        with chip.load(tmp_path / "m.engine", DEVICE, SPEC) as session:
            y = session.run({"x": X})["y"]
            timing = session.measure({"x": X}, QUICK)

        assert chip.python_version.startswith("3.7.")
        assert chip.health(DEVICE).busy == 0.25
    assert y.tolist() == (2 * X).tolist()
    assert len(timing.windows) == 3
