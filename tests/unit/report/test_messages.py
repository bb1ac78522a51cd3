"""Summaries and reports are whole in both languages."""

import ast
import itertools
import re
import string
from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from made_runs import ALL, agreed, run_of, timed, whole_matrix

from harness import errors, matrix
from harness.backends.base import OTHERS
from harness.baselines import load
from harness.case import Case, Precision
from harness.judge.accuracy import judge_agreement, judge_published, judge_tail
from harness.judge.numerics import judge_numerics
from harness.judge.stats import Estimate
from harness.judge.throughput import Effort, judge_floor
from harness.metrics.base import Score
from harness.report import ci, compare, messages, tables
from harness.report.causes import head
from harness.report.html import page
from harness.report.messages import (
    CATALOGUES,
    FOREIGN,
    HEADINGS,
    LANGUAGES,
    clauses,
    entries,
    language,
    refusal,
    translation,
)
from harness.report.records import Record, head_line
from harness.report.terminal import terminal
from harness.vocabulary import MARKS, METRICS, STAGES
from tests.options import TIERS
from tools import baselines, diagnose, doctor, evaluate, fetch, selftest
from tools.cli import VERBS, app

ROOT = Path(__file__).parents[3]
SOURCES = [*sorted((ROOT / "harness" / "report").glob("*.py")),
           *(ROOT / "tools" / f"{name}.py" for name in ("doctor", "compare", "history", "report", "fetch")),
           ROOT / "tools" / "cli.py", ROOT / "tests" / "ending.py", ROOT / "tests" / "options.py"]  # fmt: skip
ASKING = ("evidence", "language", "rooted")  # files of tools/ that print nothing themselves
JUDGED = [
    path for folder in ("harness/judge", "harness/run", "tests/conformance")
    for path in sorted((ROOT / folder).glob("*.py")) if path.name != "policyfile.py"
]  # fmt: skip
JUDGED += [ROOT / "harness" / name for name in ("worker/process.py", "worker/pipe.py", "store.py",
           "reference/recurrent.py", "report/recompute.py", "report/speeds.py",
           "baselines/arithmetic.py", "metrics/widertext.py",
           "diagnose/layers.py", "diagnose/mistakes.py", "diagnose/taps.py", "datasets/imagenet.py",
           "datasets/coco.py", "datasets/peta.py")]  # fmt: skip
JUDGED += sorted((ROOT / "harness" / "vendor" / "logs").glob("*.py"))
JUDGED += [path for path in sorted((ROOT / "tools").glob("*.py")) if path not in SOURCES and path.stem not in ASKING]
"""Files whose sentences stand in records. What is wrong with a policy file is said before anything runs."""
ERRING = [
    path for folder in ("harness", "tools", "tests/conformance") for path in sorted((ROOT / folder).rglob("*.py"))
    if "backends" not in path.parts or path.parent.name == "backends"
]  # fmt: skip
ERRING += [ROOT / "conftest.py", *sorted((ROOT / "tests").glob("*.py"))]
"""Files whose errors and notes are shown. Those of a backend may be English: a new one is two files."""
ERRORS = {
    "BadParameter",
    "say",
    "_say",
    "another_batch",
    "contradiction",
    "refuse",
    "refused",
    "Absent",
    *(name for name in vars(errors) if name[0].isupper()),
}
"""What is called with sentences for the user."""
COMMAND = re.compile(r"(pytest|rm|lsof|chipproof|pip|python|iconv|convmv|sed|\w+ =) |[-/%]|.*%Y")
EXPRESSION = re.compile(r"\\[dsSwWb(+*.|\[\]$]|\(\?|^\^|\[\^|\.\*|^=")  # regular, or lines of a log
SENTENCE = re.compile(" (is|cannot|needs|names|lists|says|writes|every|one|both|in|of|two|with|does) ")
"""Clauses that begin as commands do; words that commands do not have."""
ASIDE = {
    "{0} depends on the model's code", "{0} depends on the backend's code", "{0} device {1} ({2})", "device {0}",
    "batch {0}", "log {0}", "line {0}", "(x - 2 mean) / std",
    "x / std",
    "N x H x W x C is taken for N x C x H x W", "to device", "from device", "<event>/<name>.txt",
    "passed over", "reference {0}", "card {0}", "{0} over {1}",
    "eager PyTorch", "ONNX Runtime", "import sys", "sys.path[:] = sys.argv[2:]", "from harness.run.pool import serve",
    r"^VmHWM:\s+(\d+) kB", "finish() comes before the next command to a worker that measures",
    "start() comes before finish()", "keys of a store key must be strings",
    "sent {!r}, which is not a valid reply", "worker's log",
    "worker of {0} {1}{2}", "the worker of {0} {1}", r"GLOBAL ([\w.]+)", "=+ Performance Summary", "check-model {0}",
    "GPU Compute", r"NPU_compute_time \(ms\):\s*(?P<spread>.*\d)", "score_range(all rows)", "two clocks", "heavy tails",
    "slow clock", "clock {0}",
    ") and (", ") iterations/second)?", ") ms", ") s", ") start_time", "{0} end_time", "D2H Latency",
    "End-to-End Host Latency", "Enqueue Time", "Execute sample success", "GPU Compute Time", "GPU Compute Time:",
    "GPU Compute block", "GPU Compute mean", "GPU Compute$", "H2D Latency", "H2D or D2H Latency", "Host wall time",
    "Inference average time", "Inference time", "Interface throughputRate", "MLU Compute (Launch jobs)",
    "MLU Compute summary", "NPU_compute_time line", "NPU_compute_time {0}", "Performance Summary", "Throughput (qps)",
    "Total GPU Compute Time:", "Total Host Walltime or Total GPU Compute Time", "Total Host Walltime:",
    "Total GPU Compute Time", "Total Host Walltime", "Total iterations", "Total iterations:", "[{0}] line",
    "acl init success", "ave_throughputRate line", "data read",
    "deep preprocess", "wide preprocess", "infer {0}/s, moduleLatency {1} ms, Interface {2}/s",
    "annotation {0}", "coco/val2017/000000000139.jpg ... and coco/annotations/instances_val2017.json", "stop sign",
    "imagenet/val/ILSVRC2012_val_00000001.JPEG ... (one flat folder) and imagenet/val_label.txt (name label, from 0)",
    "peta/images/13056.png ..., peta/label.json (name: 35 values of 0 or 1) and, for their order, peta/image.txt",
    "gunzip -k", "unxz -k", "summary throughput", "summary throughput:",
    "unload model success", "throughput line", "{0} without first time",
    "mean of NPU_compute_time", "wall time",
    "[35 values of 0, 1 or 2], ...}", 'expected {"13056.png"', "x y width height score",
    "event {0}", '{0} class="{1}"', "{0} is translated twice",
    *(clause for _, whole in fetch.SETS.values() for clause in clauses(whole)[::2]),
}  # fmt: skip
"""Clauses of JUDGED that no record shows, or that read the same in every language."""
SOURCE = {
    "\0 figures, \0 chosen; to check their arithmetic: chipproof baselines lint",
    "the worker of \0 \0", "start() comes before finish()", "chipproof policy update RESULTS",
    "finish() comes before the next command to a worker that measures", "keys of a store key must be strings: \0",
    "the line says: x y width height score; write the file again",
}  # fmt: skip
"""Errors whose English is a defect of ours, a command or a file's content."""
NAMES = {"PASS"}
ALIKE = {"batch", "{0} (at batch {1})", "p", "sdks", "{name}: {text}", "{0} MB  {1}",
         "{0} images/s ({1})", "{0} images/s ({1}, {2}, {3})",
         "{0} images/s{1} at batch {2} ({3})"}  # fmt: skip
"""What has no word that is translated, but values that are."""
EVIDENCE = {
    "{0} MB  {1}", "{0} % of the gap", "{0} images, {1} data set", "whole", "partial", "card", "note", "known", "NEW",
    "red", "same", "differs", "seeded", "doubted", "unused for {0} days", "half made", "bilinear", "mirrored",
    "transposed", "/255 missing", "/255 doubled", "undecided", "mistakes", "yes", "noise", "all", "(windows)",
    "equals PyTorch", "written", "kept", "outputs", "no module {0}", "module {0} in {1}",
    "{0} is undefined on these {1} images",
    "images/s per device", "fraction", "{0}, {1} cores of {2}",
    "no {0} on PATH", "no module {0} in {1}", "no {0}", "look at {0}", "{0} is not on PATH", "windows",
    "worst of {0} outputs of {1} rows at {2}",
    "{0} cannot be imported under {1}", "worker of {0} died of {1} in {2}", "worker of {0} exited with {1} in {2}",
    "worker of {0} hung in {1} for more than {2} s", "it printed nothing (in {0})",
    "worker of {0} hung in {1} for more than {2} s, and cannot be killed",
    "there is no folder {0}", "there is no picture in {0}", "{0} holds {1} entries, first {2}, and no picture",
    "put under --data", "{0} is not a folder", "give the folder that holds imagenet/, widerface/, ...",
    "{0} of {1} pictures", "pictures without labels", "there is no {0}",
    "{0} of {1} files in {2} are not pictures, first {3}", "fetch them again, or remove them and their labels",
    "the set is then partial", "{0} is empty", "fetch the file again",
    "{0} names {1} pictures that are not there, first {2}", "fetch them, or remove their lines", "{0} cannot be read",
    "check its permissions", "{0} files, {1} GB", "{0} GB free", "{0} cannot be written",
    "give --cache another folder", "free space, or give --cache another disk", "{0} GB are needed for everything",
    "{0} has no NumPy, which the worker needs", "{0} {1}, {2} cores, {3} GB memory", "get it again",
    "STOPPED by {0} before its end", "CUT OFF after line {0}", "CUT OFF after line {0}, in {1}",
    "its processes ended before a summary was written", "no card under {0}", "ONNX Runtime {0} has no {1}",
    "it has {0}", "no record file of shard {0} is here", "copy it beside the others",
    "the log is {0}'s, not {1}'s", "then", "models", "protocols", "endings", "the tests of chipproof are in {0}",
}  # fmt: skip
"""Clauses of other files, and of several strings, that records and chipproof doctor show often."""
ZH = entries((CATALOGUES / "zh.po").read_text(encoding="utf-8"))
CASE = Case.parse("regnety_016-ascend310p-fp16-bs16")


def literals(path):
    """Sentences that a file hands to t(...) or translation(...)(...) as they stand."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "func", None) or node.func  # translation(lang)(...) or t(...)
            wanted = "translation" if called is not node.func else "t"
            if getattr(called, "id", "") == wanted and isinstance(node.args[0].value, str):
                yield node.args[0].value


@cache
def used():
    found = {text for path in SOURCES for text in literals(path)}
    template = (ROOT / "harness" / "report" / "page.html.j2").read_text(encoding="utf-8")
    found |= {a or b for a, b in re.findall(r"""\bt\((?:"([^"]+)"|'([^']+)')""", template)}
    found |= {metric.title for metric in METRICS.values()} | {
        *MARKS.values(),
        *(stage.question for stage in STAGES.values()),
        *ci.SENTENCES,
    }
    found |= {*tables.ACCURACY_COLUMNS, *tables.THROUGHPUT_COLUMNS, *tables.OTHER_COLUMNS, tables.OTHERS, "details"}
    found |= {title for title, _, _ in (tables.accuracy(()), tables.throughput(()))} | {"Every record"}
    stops = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("conftest.py", "tests/ending.py"))
    found |= set(re.findall(r'STOPPED\] = (?:.* or )?"([^"]+)"', stops))
    found |= {*compare.TITLES, *(name for columns in compare.COLUMNS for name in columns)}
    found |= {*doctor.AREAS, *(state.value for state in doctor.State), doctor.EACH, doctor.DRAWN, doctor.SEEDED}
    found |= {part for text in helps() for part in ([text] if text in ZH else clauses(text)[::2])}
    found |= {erratum.why for erratum in load().errata} | {row.reason for row in load().deviations}
    found |= {*diagnose.LAYERS, *diagnose.PARTS, *evaluate.COLUMNS, *baselines.COLUMNS, *selftest.COLUMNS} - NAMES
    found |= {*FOREIGN, *HEADINGS, *TIERS.values(), *fetch.STATES, *(what for _, what in fetch.SETS.values())}
    found |= set(said()) | set(said(node for path in ERRING for node in raised(path))) | EVIDENCE
    return (found - {"", *ASIDE}) | {what for _, what in fetch.SETS.values()}


def helps():
    """The paragraphs of every page of help, in one line each, but for what click adds."""
    for name in VERBS:
        group = app(name)
        for command in (group, group.commands[name]):
            texts = [command.help, *(param.help for param in command.params if getattr(param, "help", None))]
            yield from (" ".join(part.split()) for text in texts for part in text.split("\n\n"))
        yield VERBS[name][1]


def sentences(tree):
    """Every string of it that is no docstring and no help (see helps), with NUL for the values of an f-string or of
    format()."""
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            seen.add(node.value)  # a docstring
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("Option", "Argument"):  # typer's
            seen |= set(ast.walk(node))
        elif isinstance(node, ast.JoinedStr):
            seen |= {value for value in node.values if isinstance(value, ast.Constant)}
            specs = [value.format_spec for value in node.values if isinstance(value, ast.FormattedValue)]
            seen |= {part for spec in specs if spec for part in ast.walk(spec)}
            if node not in seen:
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in seen:
            yield re.sub(r"\{(:[\w.]*)?\}", "\0", node.value)


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def raised(path):
    """The calls that make the errors of a file or say a note, and what the names in them were set to."""
    nodes = list(ast.walk(parsed(path)))
    thrown = {node.exc for node in nodes if isinstance(node, ast.Raise)}
    given = defaultdict(list)
    found = {}  # in order, each once
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                given[getattr(target, "id", "")].append(node.value)
        if isinstance(node, ast.FunctionDef):
            for argument, default in zip(node.args.args[::-1], node.args.defaults[::-1], strict=False):
                given[argument.arg].append(default)
    for node in nodes:
        name = (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if name in ERRORS or node in thrown:
            found[node] = None
            found |= dict.fromkeys(v for part in ast.walk(node) for v in given.get(getattr(part, "id", None), ()))
    return found


def said(trees=None):
    """Clauses of the sentences that judges write, with {0}, {1} ... for their values. A clause has two words at least,
    one of four letters where it has values; one that goes on an earlier sentence has that as its first value. Commands
    are none."""
    texts = (text for tree in (map(parsed, JUDGED) if trees is None else trees) for text in sentences(tree))
    for text in itertools.filterfalse(EXPRESSION.search, texts):
        for clause in map(str.rstrip, clauses(text)[::2]):
            whole = "\0" + clause if clause[:1] in (",", " ") else clause
            words = re.search("[A-Za-z]{4}" if "\0" in whole else "[a-z]", whole)
            command = COMMAND.match(whole) and not SENTENCE.search(whole)
            if words and not command and re.search(r"\S \S", whole.replace("\0", "x")):
                places = itertools.count()
                yield re.sub("\0", lambda _, places=places: f"{{{next(places)}}}", whole)


@cache
def hints():
    """Next steps of chips and SDKs, and what backends say: they may stay English, for a new chip is one file."""
    backends = set(said(map(parsed, (ROOT / "harness" / "backends").rglob("*.py"))))
    return backends | {chip.hint for chip in matrix.chips().values()} | {sdk.hint for sdk in doctor._sdks()} | {OTHERS}


@pytest.mark.parametrize("name", ["ascend310", "mlu370_s4", "t4", "intel_gpu", "intel_npu", "htp_v73", "rk3588"])
def test_the_next_step_of_a_chip_with_a_chinese_guide_is_chinese(name):
    assert re.search(r"[\u4e00-\u9fff]", translation("zh")(matrix.chips()[name].hint))


def test_no_sentence_is_missing_and_none_is_left_over():
    assert used() - set(ZH) == set()
    assert set(ZH) - used() - hints() - {""} == set()
    assert len(used()) > 100


def test_a_translation_takes_the_same_values_and_is_written_in_chinese():
    def fields(text):
        return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)

    def wrong(sentence, told):
        if not told:
            return "it is not translated"
        if fields(told) != fields(sentence):
            return f"it takes {fields(told)}"
        if "精度" in told:
            return "精度 is both precision and accuracy"
        latin = ALIKE | hints()
        return "" if re.search(r"[\u4e00-\u9fff]", told) or sentence in latin else "it is not Chinese"

    faults = {sentence: wrong(sentence, told) for sentence, told in ZH.items() if sentence}
    assert {sentence: fault for sentence, fault in faults.items() if fault} == {}


def test_every_error_that_is_raised_is_told_in_chinese_with_its_values():
    """Each with numbers for its values, and as an error of every class."""
    english, kinds = [], [kind for kind in vars(errors).values() if isinstance(kind, type)]
    texts = {text for path in ERRING for node in raised(path) for text in sentences(node)}
    for text, kind in zip(sorted(texts), itertools.cycle(kinds), strict=False):
        number = itertools.count(71)
        fact = re.sub("(?<=[a-z]{2})\0", lambda _, number=number: f" ({next(number)})", text)
        fact = re.sub("\0", lambda _, number=number: str(next(number)), fact)
        told = refusal(kind(fact, hint=fact), translation("zh"))
        first, _, then = told.partition("\n  下一步：")
        assert first == then
        if re.search(r"(?<![-/`'\"])\b[a-z]{3,} [a-z]{2,} [a-z]{2,}\b(?![-/`'\"])", first) and text not in SOURCE:
            english.append(first)

    assert len(texts) > 800
    assert english == []


FOLLOW = frozenset(
    """is has says sees was does as needs requires builds adds differs costs holds counts depends annotates asks
    compiles computes excuses expects finds fits gives goes judges knows lacks lies lists reads stands throttles
    writes us ms qps keeps continues contains appears""".split()  # noqa: SIM905
)
"""What ends in s after a value and is no noun."""


def test_no_sentence_counts_one_in_the_plural():
    """Nor is a Chinese one lost where the English has the singular."""
    counted = [key for key in ZH if re.search(r"\{(n|0)\} [a-z]+s\b", key) and not re.search(r"\w\{", key)]
    assert len(counted) > 250
    for key in counted:
        values = {name: 1 for _, name, _, _ in string.Formatter().parse(key) if name and not name.isdigit()}
        text = key.format(*[1] * 9, **values)
        told = translation("en")(key, **values) if values else translation("en")(text)
        counted_one = {word for word in re.findall(r"(?<![\w.])1 ([a-z]+s)\b(?!/)", told) if not word.endswith("ss")}
        assert counted_one <= FOLLOW, told
        if not values:
            assert translation("zh")(told) == translation("zh")(text) != text, told


@pytest.mark.parametrize(
    ("arguments", "lang"),
    [(["--lang", "zh"], "zh"), (["doctor", "--lang=zh", "--data"], "zh"), (["--lang"], None), (["--lang=fr"], None)],
)
def test_a_command_line_that_cannot_be_read_still_names_its_language(arguments, lang):
    assert messages.chosen(arguments) == lang


def test_values_are_filled_in():
    assert translation("en")("{n} cases", n=3) == "3 cases"
    assert translation("zh")("{n} cases", n=3) == "3 个用例"
    assert translation("zh")("a sentence that no catalogue has") == "a sentence that no catalogue has"


def test_a_records_text_is_read_clause_by_clause_with_its_values():
    t = translation("zh")

    assert t("asked at least 95 % (vendor.md, 3.2); allowed 1 %") == "要求至少 95 %（vendor.md，3.2）；允许 1 %"
    assert t("measured again in a new process: the same") == "重测（新进程中）：结果相同"
    assert t("t4 is absent (no nvidia-smi on PATH; no module trt in /p); next: restart it") == (
        "未检测到 t4（PATH 中没有 nvidia-smi；/p 中没有模块 trt）；下一步：restart it"
    )
    assert t("rk3588 is absent (rknn: rknn cannot be imported under /p: No module named 'rknn')") == (
        "未检测到 rk3588（rknn：rknn 无法在 /p 下导入：No module named 'rknn'）"
    )
    assert t("atc reports success but left 0 engines\nATC run: x") == "atc 报告成功，却留下 0 个引擎\nATC run: x"
    assert t("aclrtMalloc gave 207001: out of memory; see plog") == "aclrtMalloc gave 207001: out of memory; see plog"
    assert t("3 images (0.9 s) of ( it") == "3 images (0.9 s) of ( it"
    assert translation("en")("measured again in a new process: the same").startswith("measured again")
    assert t("a: b; c (d; e: f); g") == "a: b; c (d; e: f); g"
    assert t("worst of 2 outputs of 4 rows at fp16: box") == "2 个输出中最差的一个（每个 4 行，fp16）：box"
    assert t("delete the row; : x") == "请删除该行；: x"
    beside = " (0.8 and 1.2 times eager PyTorch, whose slope is 0.9)"
    for more, told in (("", ""), (beside, "（分别是 PyTorch eager 的 0.8 倍和 1.2 倍，后者的斜率为 0.9）")):
        assert t(f"1.2 ms at batch 1, 4.8 ms at batch 4{more}") == f"batch 1 为 1.2 毫秒，batch 4 为 4.8 毫秒{told}"


def test_brackets_hold_a_clause_together_and_those_that_never_close_are_none():
    assert clauses("a (b; c: d); e: f") == ["a (b; c: d)", "; ", "e", ": ", "f"]
    assert clauses("a (b; c") == ["a (b", "; ", "c"]
    assert "".join(clauses("x) ; (y: z")) == "x) ; (y: z"


def test_a_verdict_has_no_english_sentence_left_and_all_its_figures():
    """As the judges write them."""
    t, cell = translation("zh"), load().cell(CASE, "throughput")
    right = np.arange(400) % 10 > 0
    worse = right & (np.arange(400) >= 80)
    fewer = right & (np.arange(400) != 1)
    scores = {name: Score({"top1": float(hits.mean())}, 400, dict, {"top1": hits})
              for name, hits in (("right", right), ("worse", worse), ("fewer", fewer))}  # fmt: skip
    outputs = {"class": np.linspace(-1, 1, 4000).reshape(2, 2000)}
    slow, fast = (Estimate(v * cell.value, 0.99 * v * cell.value, 1.01 * v * cell.value, 0.01, 60) for v in (0.95, 9.0))
    verdicts = [
        *(judge_agreement(scores[name], scores["right"], "top1") for name in scores),
        judge_tail({f"image{n}": float(n < 20) for n in range(100)}, Precision.FP16),
        judge_published(0.75, None, replace(cell, metric="top1", value=0.78)),
        judge_floor(slow, cell, effort=Effort(look=1, seconds=40.0)),
        judge_floor(fast, cell),
        judge_numerics(outputs, outputs, Precision.FP16),
        judge_numerics({"class": outputs["class"] * 2}, outputs, Precision.FP16),
        judge_numerics({"class": outputs["class"][[0, 0]]}, outputs, Precision.FP16),
    ]
    assert len({verdict.outcome for verdict in verdicts}) == 4

    for verdict in verdicts:
        told = t(verdict.text)
        kept = told.replace("McNemar p", "").replace("PyTorch eager", "").replace(cell.document, "")
        assert re.findall(r"[a-z]{3,} [a-z]{2,}", kept.replace(cell.section, "")) == [], told
        assert sorted(re.findall(r"\d+", told)) == sorted(re.findall(r"\d+", verdict.text))


def test_every_page_and_summary_tells_verdicts_in_chinese():
    case = Case.parse("regnety_016-t4-fp16-bs4")
    red = Record(case, "numerics", "FAIL", "outputs class instead of scores\nlast", facts={"next": "delete the row"})
    skipped = Record(
        CASE, "export", "SKIP", "t4 is absent (no nvidia-smi on PATH); next: measure when the device is idle"
    )
    open_ = Record(case, "accuracy", "INCONCLUSIVE", "top1 is undefined on these 9 images", "top1")
    run = run_of([red, skipped, open_])
    before = run_of([Record(case, "numerics", "PASS", "x")])
    flipped = compare.compare(before, run)
    texts = [terminal(run.records, 2, 100, False, lang="zh"), ci.markdown(run, "zh"), page(run, "zh"),
             terminal(run.records, 2, 100, False, lang="zh", verbose=True)]  # fmt: skip

    for text in texts:
        for part in (
            "输出是 class，应为 scores",
            "请删除该行",
            "top1 在这 9 张图片上没有定义",
            "PATH 中没有 nvidia-smi",
        ):
            assert part in text, part
        assert "instead of" not in text
        assert "is absent" not in text
    for text in (compare.markdown(flipped, "zh"), compare.html(flipped, "zh")):
        assert "输出是 class，应为 scores" in text


@pytest.mark.parametrize(
    ("chosen", "environment", "expected"),
    [
        (None, {"LANG": "zh_CN.UTF-8"}, "zh"),
        (None, {"LANG": "en_US.UTF-8"}, "en"),
        (None, {"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        (None, {"LC_MESSAGES": "zh_TW.UTF-8", "LANG": "C"}, "zh"),
        (None, {}, "en"),
        ("zh", {"LANG": "C"}, "zh"),
        ("en", {"LANG": "zh_CN"}, "en"),
    ],
)
def test_the_language_is_the_chosen_one_or_that_of_the_locale(chosen, environment, expected):
    assert language(chosen, environment) == expected
    assert set(LANGUAGES) == {"en", "zh"}


def test_the_english_head_line_is_that_of_the_record_file():
    records = whole_matrix(matrix.cases()[:3])
    for stopped in ("", "STOPPED before its end"):
        assert head(records, 9, stopped, translation("en")) == head_line(records, 9, stopped)
    assert head(records, 9, stopped, translation("zh")).startswith("共 9 个用例，运行了 3 个: ")


@pytest.mark.parametrize(("encoding", "expected"), [("utf-8", "zh"), ("gbk", "zh"), ("ascii", "en"), (None, "en")])
def test_an_output_without_chinese_signs_gets_english(encoding, expected):
    assert language(None, {"LANG": "zh_CN.UTF-8"}, encoding) == expected
    assert language("zh", {}, "ascii") == "zh"


def test_a_catalogue_reads_as_gettext_writes_it():
    text = 'msgid "a \\"b\\"\\n"\nmsgstr ""\n"x"\n"y"\n\nmsgid "long "\n"one"\nmsgstr "z"\n'

    assert entries(text) == {'a "b"\n': "xy", "long one": "z"}
    with pytest.raises(ValueError, match="twice"):
        entries(text + text)


def test_terminal_markdown_and_html_are_chinese_and_keep_next_and_again():
    failed = Record(CASE, "numerics", "FAIL", "off", "", {}, ("seeded",), {"next": "npu-smi info"})
    records = [failed, timed(CASE, 100.0), agreed(CASE, "top1")]
    for text in (terminal(records, 1, 80, False, lang="zh"), ci.markdown(run_of(records), "zh"),
                 page(run_of(records), "zh")):  # fmt: skip
        assert re.search("下一步.{0,6}npu-smi info", text)
        assert re.search("重跑.{0,30}pytest -m", text)
        assert "吞吐" in text or "标记" in text
        assert "what they mean" not in text


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 200])
def test_chinese_lines_fit_the_width_in_cells(width):
    from rich.cells import cell_len

    text = terminal(whole_matrix(), ALL, width, False, lang="zh")

    assert max(map(cell_len, text.splitlines())) <= width
    assert "个用例" in text
