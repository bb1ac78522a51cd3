"""chipproof baselines shows every figure as printed; its lint exits with 1 when something is new."""

import json
import shutil
from collections import Counter

import pytest
import typer
from baselines_copies import spoil
from typer.testing import CliRunner

from harness.baselines import load
from harness.baselines.registry import DIRECTORY
from harness.chips import CHIPS
from harness.vocabulary import METRICS


@pytest.fixture(scope="module")
def registry():
    return load()


@pytest.fixture
def copied(tmp_path):
    """A copy of baselines/ to spoil."""
    return shutil.copytree(DIRECTORY, tmp_path / "baselines", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def command():
    from tools.baselines import command

    app = typer.Typer()
    app.command()(command)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_the_command_prints_one_json_object_a_figure(command, registry):
    result = command("--json")
    figures = json.loads(result.stdout)

    assert result.exit_code == 0
    assert len(figures) == len(registry.cells)
    keys = {"model", "chip", "precision", "batch", "metric", "value", "unit", "role", "document", "section", "chosen"}
    assert all(set(figure) == keys for figure in figures)
    assert {figure["metric"] for figure in figures} == set(METRICS) - {"mean_accuracy"}, "which nobody published"
    assert [
        f["value"] for f in figures if (f["model"], f["metric"], f["role"]) == ("regnety_016", "top1", "source")
    ] == [0.77862]
    assert {figure["role"] for figure in figures} == {"source", "cell"}
    assert {figure["chip"] for figure in figures} <= {None, *CHIPS}
    key = ("model", "chip", "precision", "batch", "metric", "role")
    chosen = Counter(tuple(f[k] for k in key) for f in figures if f["chosen"])
    assert set(chosen.values()) == {1}
    assert all(f["unit"] == "images/s" for f in figures if f["chosen"] and f["metric"] == "throughput")


def test_the_command_shows_the_figures_as_printed(command):
    result = command()

    assert result.exit_code == 0
    for word in ("1918.7328", "0.9485227574365432", "93.720", "7.1 npu性能数据", "images/s per device"):
        assert word in result.stdout


def test_the_lint_exits_0_when_all_is_known_and_1_when_something_is_new(command, copied):
    known = command("lint")
    spoil(copied, "gfocalv2_r50_fpn.toml", "value = 9.4", "value = 9.6")
    new = command("lint", "--dir", str(copied))

    assert known.exit_code == 0, known.stdout
    assert "0 new" in known.stdout
    assert new.exit_code == 1
    assert "NEW" in new.stdout
    assert "34.49/9.6" in new.stdout


def test_the_lint_prints_json(command):
    findings = json.loads(command("lint", "--json").stdout)

    assert all(finding["known"] and finding["why"] for finding in findings)
    assert {"rule", "about", "says", "file", "line"} <= set(findings[0])
