"""Who is strict about warnings: our modules always, our tests about every package, a user's run about ours alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WARNS = "import warnings\nwarnings.warn('on its way out', DeprecationWarning, stacklevel=1)\n"


def warn_in(module):
    exec(compile(WARNS, f"{module}.py", "exec"), {"__name__": module})


@pytest.mark.parametrize("module", ["someones_package", "harness.somewhere", "tests.somewhere"])
def test_our_own_tests_fail_on_warnings_of_every_package(module):
    with pytest.raises(DeprecationWarning, match="on its way out"):
        warn_in(module)


@pytest.mark.filterwarnings("ignore:on its way")
def test_a_test_that_expects_a_warning_can_say_so():
    warn_in("someones_package")


def as_a_users_run(tmp_path, body):
    """pytest on a file outside the repository, with the suite's settings and without its conftest.py: as a conformance
    test stands to a user's packages."""
    (tmp_path / "someones_package.py").write_text(
        "import warnings\nwarnings.warn('someones_package is deprecated', FutureWarning, stacklevel=2)\n"
    )
    (tmp_path / "test_case.py").write_text(body)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    command += ["--rootdir", str(tmp_path), "--noconftest", str(tmp_path / "test_case.py")]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)


LIKE_TORCH = """
import sys, types
sys.path.insert(0, {folder!r})

def test_case():
    exec("import someones_package", {{"__name__": {importer!r}}})
"""


def test_a_package_that_warns_when_another_package_imports_it_breaks_no_case(tmp_path):
    """As the distribution `pynvml` does on `import torch`."""
    done = as_a_users_run(tmp_path, LIKE_TORCH.format(folder=str(tmp_path), importer="torch.cuda"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "someones_package is deprecated" in done.stdout, "the summary still says it"


def test_a_warning_that_our_code_raises_breaks_the_case(tmp_path):
    done = as_a_users_run(tmp_path, LIKE_TORCH.format(folder=str(tmp_path), importer="harness.reference.eager"))

    assert done.returncode == 1
    assert "FutureWarning: someones_package is deprecated" in done.stdout


def test_names_that_only_begin_like_ours_are_not_ours(tmp_path):
    done = as_a_users_run(tmp_path, LIKE_TORCH.format(folder=str(tmp_path), importer="harnessed.thing"))

    assert done.returncode == 0, done.stdout + done.stderr
