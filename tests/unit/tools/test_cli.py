"""The command line: verbs load when named, errors are a fact and a next step, the exit status says which."""

import ast
import importlib
import importlib.metadata
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import log_samples
import pytest

from harness.errors import DataError
from tools import cli

ROOT = Path(cli.__file__).parents[1]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_is_a_module_with_a_command(verb):
    module, line = cli.VERBS[verb]

    command = importlib.import_module(module).command

    assert inspect.getdoc(command), f"{module}.command says nothing of itself"
    assert line.endswith(".")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(capsys, verb):
    status, out, _ = run(capsys, verb, "--help")

    assert status == 0
    assert f"chipproof {verb}" in out


def test_every_file_of_tools_that_has_a_command_is_a_verb():
    files = {path for path in (ROOT / "tools").glob("*.py") if "def command(" in path.read_text(encoding="utf-8")}

    assert {f"tools.{path.stem}" for path in files} == {module for module, _ in cli.VERBS.values()}


HELP_IMPORTS = """
import contextlib, io, os, sys
from tools.cli import VERBS, main

def imported(*words):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return set(sys.modules)

overview = imported()
print("overview", *overview, flush=True)
for verb in VERBS:
    if not os.fork():
        print(verb, *imported(verb) - overview, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def imports():
    """Verb -> modules that its help imports beside those of the overview; "overview" -> those of the overview."""
    run = subprocess.run([sys.executable, "-c", HELP_IMPORTS], capture_output=True, text=True, check=True, cwd=ROOT)
    return {verb: set(modules) for verb, *modules in map(str.split, run.stdout.splitlines())}


def test_the_overview_imports_no_verb(imports):
    ours = {name for name in imports["overview"] if name.startswith(("tools.", "harness."))}

    language = {"harness.report", "harness.report.counting", "harness.report.messages"}
    assert ours == {"harness.errors", "tools.cli", "tools.language"} | language
    assert not {"rich.console", "importlib.metadata", "pydantic", "numpy", "torch", "cv2"} & imports["overview"]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_imports_little_and_nothing_but_our_own_and_the_standard_library(verb, imports):
    """Of what takes long: tests/benchmarks/test_startup.py has the times."""
    foreign = {name.split(".")[0] for name in imports[verb]} - sys.stdlib_module_names - {"tools", "harness"}

    assert not foreign
    assert len(imports[verb]) <= 25, sorted(imports[verb])


def test_python_dash_m_tools_is_the_same_command():
    run = subprocess.run(
        [sys.executable, "-m", "tools", "logs", "nothing.txt", "--chip", "t4", "--model", "regnety_016"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip

    assert run.returncode == 2
    assert "nothing.txt cannot be read" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("arguments", [["frobnicate"], ["logs"], ["logs", "--frob"], ["--frob"], []])
def test_a_wrong_call_exits_with_2(capsys, arguments):
    status, _, _ = run(capsys, *arguments)

    assert status == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "没有命令 'frobnicate'"),
        (["logs"], "缺少参数 "),
        (["logs", "--frob"], "没有这个选项：--frob"),
        (["logs", "x", "--chip"], "选项 '--chip' 需要一个值"),
        (["doctor", "--json=1"], "选项 '--json' 不带值"),
        (["doctor", "more"], "多余的参数（more）"),
        (["doctor", "--lang", "fr"], "'--lang' 的值无效：fr：可选 en, zh"),
        (["logs", "gone.txt", "--chip", "t4", "--model", "regnety_016"], "请给出工具写出的文本文件"),
        (["run", "cpu", "and", "fp32"], "标记表达式不是一个参数"),
    ],
)
def test_a_wrong_call_is_told_in_the_readers_language(capsys, monkeypatch, arguments, said):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")

    status, _, err = run(capsys, *arguments)

    assert status == 2
    assert said in err
    assert not re.search("[a-z]{3,} [a-z]{2,} [a-z]{2,}", re.sub("'.*?'|Errno.*", "", err))
    monkeypatch.setenv("LC_ALL", "C")
    assert not re.search("[\u4e00-\u9fff]", run(capsys, *arguments)[2])


@pytest.fixture
def verb_that(monkeypatch):
    """Makes the verb `doctor` do something else."""

    def put(do):
        def command() -> None:
            do()

        monkeypatch.setattr(cli, "import_module", lambda name: type("verb", (), {"command": staticmethod(command)}))

    return put


def refuse():
    raise DataError("the set is short", hint="fetch the rest")


def test_an_error_is_a_fact_and_a_next_step(verb_that, capsys):
    verb_that(refuse)

    status, out, err = run(capsys, "doctor")

    assert (status, out) == (2, "")
    assert err == "chipproof: the set is short\n  next: fetch the rest\n"


def test_a_path_that_may_not_be_read_is_no_defect_of_our_own(verb_that, capsys):
    def look():
        raise PermissionError(13, "Permission denied", "/data")

    verb_that(look)

    status, _, err = run(capsys, "doctor")

    assert status == 2
    assert err == "chipproof: no access to /data: Permission denied\n  next: check its permissions\n"


def test_a_defect_of_our_own_is_not_a_failed_check(verb_that, capsys):
    verb_that(lambda: 1 / 0)

    status, _, err = run(capsys, "doctor")

    assert status == 2
    assert "ZeroDivisionError" in err
    assert "please report" in err


def test_an_interrupt_is_neither_passed_nor_failed(verb_that, capsys):
    def interrupt():
        raise KeyboardInterrupt

    verb_that(interrupt)

    status, _, _ = run(capsys, "doctor")

    assert status not in (0, 1)


def test_a_reader_that_goes_away_is_no_crash():
    """Nor a failed check. It is gone before the first byte: all of it fits into the pipe of a reader that is slow."""
    program = "from tools import cli; cli.main(['baselines', '--json'])"
    reader, writer = os.pipe()
    os.close(reader)

    with os.fdopen(writer, "wb") as gone:
        run = subprocess.run(
            [sys.executable, "-c", program], stdout=gone, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
        )

    assert run.stderr == ""
    assert run.returncode == cli.COULD_NOT_RUN


@pytest.mark.parametrize("verb", cli.VERBS)
def test_errors_of_a_verb_reach_the_user_through_one_door(verb):
    """No verb exits by itself but through typer.Exit, so that the exit status keeps its meaning."""
    source = Path(importlib.import_module(cli.VERBS[verb][0]).__file__).read_text(encoding="utf-8")

    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]

    assert not {"sys.exit", "exit", "quit", "os._exit"} & set(calls)


def test_json_is_asked_for_by_one_name_everywhere(capsys):
    machine = [verb for verb in cli.VERBS if "--json" in run(capsys, verb, "--help")[1]]

    assert {"doctor", "logs", "evaluate", "baselines", "report", "fetch", "preprocess"} <= set(machine)


def test_a_refusal_for_a_machine_is_json(capsys):
    cli.refuse(DataError("the set is short", hint="fetch the rest"), ["--json"])

    assert json.loads(capsys.readouterr().out) == {
        "error": "data",
        "fact": "the set is short",
        "next": "fetch the rest",
    }


# --- terminals that are not UTF-8 ---------------------------------------------------------------------------------

ENCODINGS = ["latin-1", "ascii", "gbk", "ascii:strict"]


def shell(encoding, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "tools", *map(os.fsencode, map(str, arguments))],
        capture_output=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_a_terminal_cannot_show_is_replaced(tmp_path, encoding):
    """The path, a picture's name in GBK, has no character in any of these encodings."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xc8\xcb\xf0\x9f\x98\x80_bs16.log"))
    path.write_text(log_samples.ais_bench(mean=21, batch=16))

    run = shell(encoding, "logs", path, "--chip", "ascend310", "--model", "regnety_016")

    assert run.returncode == 0, run.stderr
    assert b"PASS" in run.stdout
    assert run.stderr == b""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_refusal_is_shown_on_every_terminal(tmp_path, encoding):
    arguments = ("logs", tmp_path / "没有.log", "--chip", "t4", "--model", "regnety_016", "--json")

    run = shell(encoding, *arguments)

    assert run.returncode == cli.COULD_NOT_RUN
    assert b"cannot be read" in run.stderr
    assert b"Traceback" not in run.stderr
    assert json.loads(run.stdout.decode(encoding.split(":")[0]))["error"] == "data"


def test_the_figures_are_shown_on_every_terminal():
    """Their tables and their notes have characters that Latin-1 lacks."""
    for arguments in (("baselines",), ("baselines", "lint", "--json")):
        run = shell("latin-1", *arguments)

        assert run.returncode == 0, run.stderr
        assert run.stderr == b""


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_replaces_what_cannot_be_shown(verb_that, verb, monkeypatch):
    """Before the verb does anything, so that none can forget it."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    verb_that(lambda: (print("芯片 é", flush=True), print("芯片 é", file=sys.stderr, flush=True)))

    with pytest.raises(SystemExit) as ended:
        cli.main([verb])

    assert ended.value.code == 0
    assert streams["stdout"].buffer.getvalue() == b"?? ?\n"
    assert streams["stderr"].buffer.getvalue() == b"\\u82af\\u7247 \\xe9\n"


def test_the_version_is_that_of_the_package(capsys):
    status, out, _ = run(capsys, "--version")

    assert (status, out.strip()) == (0, f"chipproof {importlib.metadata.version('chipproof')}")


def test_run_passes_every_option_of_the_suite_on_to_pytest(tmp_path):
    """From any folder: paths are those of where the command is given."""
    given = [
        "--sdk-python",
        sys.executable,
        "--runner=acl",
        "--device=0",
        "--limit",
        "3",
        "--cache",
        "here",
        "--simulate",
    ]
    called = "from tools.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", called, "run", "ascend310p and regnety_016 and bs1 and export", *given, "--co"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "regnety_016-ascend310p-fp16-bs1" in done.stdout
    for said in ("--limit 3", "--device 0", "--runner acl", "--simulate"):
        assert said in done.stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_help_of_a_verb_ends_with_a_command_that_the_verb_takes(verb, capsys):
    program, name, *words = shlex.split(cli.EXAMPLES[verb])

    cli.app(verb).commands[name].make_context(name, words)  # raises for a wrong option

    assert (program, name) == ("chipproof", verb)
    assert cli.EXAMPLES[verb] in " ".join(run(capsys, verb, "--help")[1].split())


def test_run_refuses_what_pytest_does_not_know(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tools", "run", "cpu", "--no-such-option"], capture_output=True, text=True, cwd=ROOT
    )

    assert done.returncode == 2
    assert "--no-such-option" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"), [("chipproof dia", "diagnose"), ("chipproof diagnose --sw", "--sweep"), ("chipproof x", "")]
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_verbs_and_their_options(words, expected, shell, monkeypatch):
    given = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)} if shell == "bash" else {
        "_TYPER_COMPLETE_ARGS": words}  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", "from tools.cli import main; main([])"],
        env={**os.environ, **given, "_CHIPPROOF_COMPLETE": f"complete_{shell}"},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert expected in run.stdout, run.stdout + run.stderr
    assert expected or "diagnose" not in run.stdout
