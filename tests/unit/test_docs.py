"""What README and docs/ name exists: links, verbs, options, markers, files; and both languages say the same."""

import ast
import dataclasses
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

from harness import matrix
from harness.backends import base, registry
from harness.backends.ascend import _codes
from harness.case import Case, Precision
from harness.chips import Chip
from harness.judge import numerics
from harness.report import ci
from harness.report.messages import translation
from harness.report.records import Record
from harness.vocabulary import MARKS, STAGE_MARKERS, Outcome
from tools import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")])
CHINESE = [page for page in PAGES if page.name.endswith(".zh-CN.md")]
PYTEST_OWN = {"--help", "--collect-only", "--markers"}
FOREIGN = {"make", "git", "npu-smi", "nvidia-smi", "cnmon", "source", "cd", "pip", "scp", "ssh",
           "./benchmark.x86_64"}  # fmt: skip
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OTHERS_OPTIONS = {"--pid", "--install-completion", "--tx"}  # of docker, typer, pytest-xdist

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands(page):
    """Each command of the page's shell blocks, as words, continued lines joined."""
    lines = []
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        lines += block.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [part for line in words for part in split_at_and(line) if part]


def split_at_and(words):
    parts = [[]]
    for word in words:
        parts.append([]) if word == "&&" else parts[-1].append(word)
    return parts


def code(page):
    """What stands between backquotes in the running text."""
    return code_in(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def code_in(text):
    return re.findall(r"`([^`\n]+)`", text)


def links(page):
    """Targets of the relative links, fragments included."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [link for link in found if not re.match(r"\w+:", link)]


def anchors(page):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@cache
def suite_options():
    """Options that the suite adds to pytest."""
    tree = ast.parse((ROOT / "tests" / "options.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [node for node in calls if getattr(node.func, "attr", "") == "addoption"]
    return {node.args[0].value for node in named}


@cache
def verb_options(verb):
    command = cli.app(verb).commands[verb]
    return {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@cache
def markers():
    batches = {f"bs{case.batch}" for case in matrix.cases()}
    return {*matrix.chips(), *matrix.models(), *map(str, Precision), *batches, *STAGE_MARKERS}


def program(words):
    return words[0].removeprefix(".venv/bin/")


def values_of(words, *names):
    return [words[i + 1] for i, word in enumerate(words[:-1]) if word in names]


def wrong_markers(expression):
    """Names of a marker expression that are none; raises where pytest would refuse the expression."""
    Expression.compile(expression)
    return set(re.findall(r"[a-z_]\w*", expression)) - {"and", "or", "not"} - markers()


def test_there_are_pages_with_commands():
    found = {program(words) for page in PAGES for words in commands(page)}

    assert {"pytest", "chipproof", "make"} <= found
    assert len(PAGES) >= 11


@every_page
def test_every_relative_link_leads_somewhere(page):
    for link in links(page):
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page

        assert target.exists(), f"{page.name} links to {link}, which is not there"
        assert not fragment or fragment in anchors(target), f"{page.name}: {target.name} has no heading {fragment}"


@every_page
def test_every_program_in_a_shell_block_is_known(page):
    for words in commands(page):
        assert program(words) in FOREIGN | {"pytest", "chipproof"}, f"{page.name}: {' '.join(words)}"


@every_page
def test_every_verb_exists_and_has_the_options_that_are_named(page):
    told = [words for words in commands(page) if program(words) == "chipproof"]
    told += [text.split() for text in code(page) if text.startswith("chipproof ") and " " in text]
    for words in told:
        verb = words[1]
        if verb in ("--help", "--install-completion"):
            continue
        assert verb in cli.VERBS, f"{page.name}: chipproof {verb} is no verb"
        wrong = set(OPTION.findall(" ".join(words))) - verb_options(verb)
        assert not wrong, f"{page.name}: chipproof {verb} has no {', '.join(sorted(wrong))}"


@every_page
def test_every_option_of_a_verb_has_the_value_it_needs(page):
    told = [words for words in commands(page) if program(words) == "chipproof" and words[1] in cli.VERBS]
    for words in told:
        verb = cli.app(words[1]).commands[words[1]]
        context = type(verb).context_class(verb, info_name=words[1], **verb.context_settings)
        given, rest, _ = verb.make_parser(context).parse_args(list(words[2:]))
        values = [value for name in given.values() for value in (name if isinstance(name, list | tuple) else [name])]

        taken = [value for value in values if str(value).startswith("-")]
        assert not taken, f"{page.name}: {' '.join(words)} takes {taken[0]} for a value"
        assert not rest, f"{page.name}: {' '.join(words)} leaves {rest} over"


@every_page
def test_every_pytest_option_exists(page):
    told = [words for words in commands(page) if program(words) == "pytest"]
    for words in told:
        wrong = {w.partition("=")[0] for w in words if w.startswith("--")} - suite_options() - PYTEST_OWN
        assert not wrong, f"{page.name}: pytest has no {', '.join(sorted(wrong))}"


@every_page
def test_every_option_in_the_text_exists_somewhere(page):
    known = suite_options().union(PYTEST_OWN, OTHERS_OPTIONS, *map(verb_options, cli.VERBS))
    wrong = {option for text in code(page) for option in OPTION.findall(text)} - known

    assert not wrong, f"{page.name} names {', '.join(sorted(wrong))}"


@every_page
def test_every_marker_expression_is_valid(page):
    text = page.read_text(encoding="utf-8")
    quoted = re.findall(r"-m \"([^\"]+)\"", text) + re.findall(r"-m ([a-z]\w*)", text)
    for expression in quoted:
        wrong = wrong_markers(expression) - {"acme_a1"}  # the chip of the example
        assert not wrong, f"{page.name}: -m {expression!r} names {', '.join(sorted(wrong))}"


@every_page
def test_every_chip_model_and_case_in_a_command_exists(page):
    for words in commands(page):
        chips = values_of(words, "--chip", "--require")
        models = values_of(words, "--model")
        if program(words) == "chipproof" and words[1] in ("preprocess", "evaluate", "export"):
            models.append(words[2])
        assert set(chips) <= {*matrix.chips(), "acme_a1"}, f"{page.name}: {chips}"
        assert set(models) <= set(matrix.models()), f"{page.name}: {models}"


@every_page
def test_every_case_that_is_named_is_in_the_matrix(page):
    named = re.findall(r"\b[a-z]\w+-\w+-(?:fp32|fp16|int8)-bs\d+\b", page.read_text(encoding="utf-8"))
    for text in named:
        if text.startswith("own_"):  # a file of the user's
            assert Case.parse(text).chip in matrix.chips(), f"{page.name}: {text}"
            continue
        assert Case.parse(text) in matrix.cases(), f"{page.name}: {text}"


@every_page
def test_every_file_of_the_suite_that_is_named_exists(page):
    for text in code(page):
        if re.fullmatch(r"(harness|baselines|tests|tools|docs)/[\w./-]+", text):
            assert (ROOT / text).exists(), f"{page.name} names {text}"


@every_page
def test_every_runner_that_is_named_is_a_backend(page):
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `--runner[^|]*\|(.*)\|$", text, re.MULTILINE)
    told = re.findall(r"--runner ([a-z]\w*)", text) + [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    for name in told:
        assert name in registry.BACKENDS, f"{page.name}: --runner {name}"


def test_every_page_exists_in_both_languages_and_leads_to_the_other_at_its_top():
    for page in PAGES:
        name = page.name.removesuffix(".md")
        other = name.removesuffix(".zh-CN") + ".md" if page in CHINESE else name + ".zh-CN.md"
        top = page.read_text(encoding="utf-8").partition("\n## ")[0].partition("```")[0]

        assert page.with_name(other) in PAGES, f"{page.name} has no {other}"
        assert f"]({other})" in top, f"{page.name} does not lead to {other} above its first section"


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_both_languages_give_the_same_commands_options_and_links(page):
    english = page.with_name(page.name.replace(".zh-CN", ""))

    def said(one):
        return sorted(set(OPTION.findall(one.read_text(encoding="utf-8"))))

    def led(one):
        return sorted({link.partition("#")[0].replace(".zh-CN.md", ".md") for link in links(one)} - {english.name})

    def programs(one):
        return [words for words in commands(one) if program(words) != "git"]

    assert said(page) == said(english)
    assert led(page) == led(english)
    assert programs(page) == programs(english)


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.name)
def test_both_languages_list_the_same_things(page):
    english = page.with_name(page.name.replace(".zh-CN", ""))

    def rows(one):
        return len(re.findall(r"^\|", one.read_text(encoding="utf-8"), re.MULTILINE))

    def headings(one):
        return len(re.findall(r"^#+ ", one.read_text(encoding="utf-8"), re.MULTILINE))

    assert (rows(page), headings(page)) == (rows(english), headings(english))


def test_every_option_of_the_suite_stands_in_the_readme():
    told = set(OPTION.findall((ROOT / "README.md").read_text(encoding="utf-8")))

    assert suite_options() <= told


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_readme_explains_what_a_run_prints(name):
    told = " ".join(code(ROOT / name)).split()
    statuses = re.findall(r"^\| (\d+) \|", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)

    assert not {str(outcome) for outcome in Outcome} - set(told)
    assert not {mark.upper() for mark in MARKS} - set(told)
    assert list(map(int, statuses)) == statuses_in_order()


def statuses_in_order():
    """The exit statuses, the one first that counts where several apply."""
    case = Case.parse("regnety_016-cpu-fp32-bs1")
    ways = ([Outcome.FAIL], [Outcome.ERROR], [Outcome.INVALID], [Outcome.INCONCLUSIVE])
    order = []
    for first in range(len(ways)):
        outcomes = [outcome for way in ways[first:] for outcome in way]
        order.append(ci.status([Record(case, "numerics", outcome, "x") for outcome in outcomes], ["cpu"]))
    return [*order, ci.Status.GOOD]


@pytest.mark.parametrize("name", ["ci.md", "ci.zh-CN.md"])
def test_the_page_for_gates_tells_which_status_comes_first(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    (told,) = re.findall(r"\b1(?:, |、)(\d+)(?:, |、)(\d+)(?:, |、)(\d+)\b", text)

    assert [1, *map(int, told)] == statuses_in_order()[:-1]


def test_the_help_of_the_command_tells_every_exit_status():
    told = cli.app(None).help

    assert not {int(status) for status in ci.Status} - set(map(int, re.findall(r"\d+", told)))


def head_lines(page):
    """Head lines that a page quotes, in its language."""
    quoted = r"`(共 \d+ 个用例[^`]*)`" if page in CHINESE else r"`(ran \d+ of \d+ cases?[^`]*)`"
    return re.findall(quoted, page.read_text(encoding="utf-8"))


def in_chinese(line):
    ran, of, rest = re.fullmatch(r"ran (\d+) of (\d+) cases?(.*)", line).groups()
    return translation("zh")("ran {n} of {m} cases", n=ran, m=of) + rest


def test_a_head_line_is_quoted_in_the_language_of_its_page():
    seen = 0
    for page in CHINESE:
        english = head_lines(page.with_name(page.name.replace(".zh-CN", "")))
        assert head_lines(page) == list(map(in_chinese, english)), page.name
        seen += len(english)
    assert seen >= 2


@pytest.mark.slow
def test_the_simulated_run_of_the_guides_ends_as_they_say(tmp_path):
    pages = [ROOT / "docs" / name for name in ("ascend.md", "ascend.zh-CN.md")]
    shown = [head_lines(page) for page in pages]
    (words,) = (words for words in commands(pages[0]) if program(words) == "pytest" and "--simulate" in words)
    options = ["--cache", str(tmp_path), "-p", "no:cacheprovider", "--lang", "en"]

    run = subprocess.run(
        [sys.executable, "-m", *map(str, [program(words), *words[1:], *options])],
        cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip

    said = [line for line in run.stdout.splitlines() if line.startswith("ran ")]
    assert len(said) == 1, run.stdout + run.stderr
    assert shown == [said, [in_chinese(said[0])]]


def test_the_example_of_a_chip_is_a_row_with_names_and_its_table_has_the_fields_of_a_row():
    for page in (ROOT / "docs" / "adding.md", ROOT / "docs" / "adding.zh-CN.md"):
        section = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[3]
        (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        told = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in code_in(row)}
        call = ast.parse(example.strip(), mode="eval").body

        fields = {field.name: field for field in dataclasses.fields(Chip)}
        assert not call.args
        assert {word.arg for word in call.keywords} <= told
        assert told == set(fields)
        needed = {name for name, field in fields.items() if field.default is field.default_factory}
        assert needed <= told


def test_the_plug_in_of_the_docs_is_whole(monkeypatch, tmp_path):
    text = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    _, rows, backend = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    made, module = {"__file__": "rows.py"}, {}
    exec(rows, made)
    exec(backend, module)

    assert isinstance(made["ACME_A1"], Chip)
    assert '"chipproof_acme.rows:ACME_A1"' in text
    verbs = [name for name in vars(base.Backend) if not name.startswith("_")]
    assert verbs
    assert all(callable(module.get(name)) for name in verbs)
    assert module["devices"](made["ACME_A1"].match).devices


def test_the_table_of_functions_names_those_of_a_backend():
    text = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(?:session\.)?(\w+)\(", text, re.MULTILINE))
    wanted = {name for kind in (base.Backend, base.Session) for name in vars(kind) if not name.startswith("_")}

    assert told - {"measure"} == wanted - {"inputs", "outputs"}


def test_counts_of_files_agree_between_the_pages():
    def counts(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        return [int(n) for n in re.findall(r"^\| (?:a|一个|已有)[^|]*\| (\d+) \|", text, re.MULTILINE)]

    assert len(counts("README.md")) == 6
    assert counts("README.md") == counts("README.zh-CN.md") == counts("docs/adding.md")


@every_page
def test_every_vendor_code_that_is_named_has_its_advice(page):
    codes = {text for text in code(page) if re.fullmatch(r"E[A-Z0-9]\d{4}|\d{6}", text)}
    known = {*_codes.COMPILER_ADVICE, *map(str, _codes.MEANINGS)}

    assert codes <= known, f"{page.name}: {', '.join(sorted(codes - known))}"


@pytest.mark.parametrize("name", ["verdicts.md", "verdicts.zh-CN.md"])
def test_the_page_of_verdicts_has_the_numbers_of_the_code(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (FP32|FP16|BF16|INT8) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    told = {Precision(row[0].lower()): numerics.Tolerance(*map(float, row[1:])) for row in rows}
    (times,) = re.findall(r"FP16\D{1,30}(\d+) (?:x|倍).*?BF16 (?:and|和) INT8\D{1,10}(\d+) (?:x|倍)", text)

    assert told == numerics.TOLERANCES
    narrow, others = map(float, times)
    assert dict.fromkeys((Precision.BF16, Precision.INT8), others) | {Precision.FP16: narrow} == numerics.UNITS
    assert re.search(rf"(?:never exceed|均方根误差最多) {numerics.MOST_RMS}[,，]", text)
    (least,) = re.findall(r"`least_of_eager`[^\d]*?(\d+\.\d+)", text)
    assert {chip.least_of_eager for chip in matrix.chips().values()} - {None} == {float(least)}
    (least,) = re.findall(r"`heavy_least_of_eager`[^\d]*?(\d+\.\d+)", text)
    assert {chip.heavy_least_of_eager for chip in matrix.chips().values()} - {None} == {float(least)}


@pytest.mark.parametrize("name", ["onnx.md", "onnx.zh-CN.md"])
def test_the_page_of_own_models_names_every_list_of_operators_and_its_backends(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for row in registry.BACKENDS.values():
        if row.operators:
            source = (
                (ROOT / "harness/vendor/onnx_operators" / row.operators).read_text(encoding="utf-8")[2:].split(":")[0]
            )
            line = rf"^\|[^|]*`{row.name}`[^|]*\| {re.escape(source)}[:：]"
            assert re.search(line, text, re.MULTILINE), f"{row.name}: {source}"


def test_messages_quoted_in_the_guides_are_those_of_the_code():
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("harness/**/*.py")))
    quoted = {
        "docs/ascend.md": ("the compiler atc is not on PATH", "is used by", "is held by"),
        "docs/intel.md": (
            "openvino cannot be imported under",
            "does not compute in",
            "without saying so",
            "INT8 needs NNCF",
        ),
        "docs/mlu370.md": ("magicmind cannot be imported under", "fewer than the host has", "mm.Parser.parse"),
        "docs/nvidia.md": (
            "tensorrt cannot be imported under",
            "no GPU: ",
            "builds strongly typed networks",
            "throttles",
        ),
    }
    for name, messages in quoted.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for message in messages:
            assert message in text, f"{name} quotes no {message!r}"
            assert message in source, f"{name} quotes {message!r}, which nothing says any more"
