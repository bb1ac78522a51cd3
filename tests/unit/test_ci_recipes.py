"""The recipes of docs/ci.md can be read by the systems they are for, and their commands are those of the suite."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from _pytest.mark.expression import Expression

from harness import matrix
from harness.report.ci import Status
from harness.report.records import Run

ROOT = Path(__file__).parents[2]
PAGES = ("docs/ci.md", "docs/ci.zh-CN.md")
ON = True  # the key `on`, which YAML 1.1 reads as a truth value, and GitHub does not
OPTIONS = {"--junitxml", *re.findall(r'"(--[a-z-]+)"', (ROOT / "tests" / "options.py").read_text(encoding="utf-8"))}


def blocks(page, kind):
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def scripts():
    """Every shell command of the recipes, by the system."""
    github, gitlab = (yaml.safe_load(text) for text in blocks(PAGES[0], "yaml"))
    (jenkins,) = blocks(PAGES[0], "groovy")
    found = [("github", step["run"]) for job in github["jobs"].values() for step in job["steps"] if "run" in step]
    found += [("gitlab", line) for job in gitlab.values() for line in job["script"]]
    return [*found, *(("jenkins", text) for text in re.findall(r"sh '''(.*?)'''", jenkins, re.DOTALL))]


def pytest_commands():
    found = [
        shlex.split(line.split("||")[0], comments=True)
        for _, script in scripts() for line in script.splitlines() if re.search(r"(^|/|\s)pytest ", line)
    ]  # fmt: skip
    return [words[next(i for i, word in enumerate(words) if word.endswith("pytest")) :] for words in found]


def test_both_languages_give_the_same_recipes():
    for kind, count in (("yaml", 2), ("groovy", 1)):
        assert blocks(PAGES[0], kind) == blocks(PAGES[1], kind)
        assert len(blocks(PAGES[0], kind)) == count


def test_every_job_has_a_time_limit_artifacts_a_junit_file_and_keeps_its_engines():
    github, gitlab = (yaml.safe_load(text) for text in blocks(PAGES[0], "yaml"))
    assert set(github[ON]) == {"push", "schedule"}
    for job in github["jobs"].values():
        uploads = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
        assert job["timeout-minutes"] > 0
        assert [step["if"] for step in uploads] == ["always()"]
        assert "actions/cache" in str(job) or "/cache" in str(job["container"]["volumes"])
    for job in gitlab.values():
        assert job["timeout"]
        assert job["artifacts"]["when"] == "always"
        assert job["artifacts"]["reports"]["junit"] == "results/junit.xml"
        assert job["retry"]["exit_codes"] == [int(Status.LABORATORY)]


def test_the_jenkins_pipeline_is_balanced_and_keeps_what_the_run_wrote():
    (text,) = blocks(PAGES[0], "groovy")
    depth = 0
    for sign in re.sub(r"'''.*?'''|'[^']*'", "", text, flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    for word in ("junit 'results/junit.xml'", "archiveArtifacts", "timeout(", "always {"):
        assert word in text


def test_commands_name_options_markers_and_chips_that_exist():
    commands = pytest_commands()
    assert len(commands) == 5
    for words in commands:
        wrong = {word for word in words if word.startswith("--")} - OPTIONS
        assert not wrong, f"{' '.join(words)}: {wrong}"
        marker = words[words.index("-m") + 1]
        Expression.compile(marker)
        chip = words[words.index("--require") + 1]
        assert chip in matrix.chips()
        assert chip in marker.split()


@pytest.mark.parametrize(("status", "runs"), [(0, 1), (1, 1), (10, 1), (11, 2)])
@pytest.mark.parametrize("system", ["github", "jenkins"])
def test_only_a_fault_of_the_laboratory_is_tried_again(tmp_path, system, status, runs):
    (script,) = (text for name, text in scripts() if name == system and "attempt" in text)
    tool = tmp_path / "pytest"
    tool.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\nexit {status}\n")
    tool.chmod(0o755)
    script = "\n".join(line for line in script.splitlines() if "source " not in line and "make " not in line)

    done = subprocess.run(
        ["bash", "-e", "-c", script.replace(".venv/bin/pytest", "pytest")],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )

    assert done.returncode == status
    assert (tmp_path / "runs").read_text().count("run") == runs


@pytest.mark.parametrize("page", [*PAGES, "README.md", "README.zh-CN.md"])
def test_every_exit_status_is_documented_in_both_languages(page):
    text = (ROOT / page).read_text(encoding="utf-8")

    for status in Status:
        assert re.search(rf"(?<!\d){int(status)}(?!\d)", text), f"{page} does not say what {int(status)} means"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_run_writes_is_documented(page, tmp_path):
    from harness.report.publish import publish

    publish(tmp_path, Run({}, (), {}), {})
    text = (ROOT / page).read_text(encoding="utf-8")

    assert {path.name for path in tmp_path.iterdir()} == {"latest.md", "latest.html", "latest.csv"}
    for path in tmp_path.iterdir():
        assert f"`{path.name}`" in text
