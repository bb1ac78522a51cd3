"""Every verb speaks Chinese to a Chinese reader: what it prints, and its help."""

import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import log_samples
import numpy as np
import own_models
import pytest
import typer
import warm
from made_runs import HEADER, SERIES, agreed, past, timed

from harness import matrix
from harness.case import Case, Precision
from harness.chips import CHIPS
from harness.models import MODELS
from harness.report.lines import COMMAND
from harness.report.records import Record, write_run
from harness.run.case_run import CaseRun
from harness.run.engine import Built
from harness.vendor import files
from harness.vocabulary import METRICS, STAGES
from tools import cli, export, language
from tools import run as run_verb
from tools.language import folded, known

CASE = Case.parse("regnety_016-cpu-fp32-bs1")
TERMS = re.compile(
    r"ONNX Runtime|PyTorch eager|WIDER FACE|MLU Compute|Inference average time|total time|JUnit|"
    r"AMCT|GNU General|log-log|ms at batch|images/s|OpenVINO GenAI"
)
"""Names of the field that have two words."""
NAMES = {*STAGES, *CHIPS, *MODELS, *METRICS, *(precision.value for precision in Precision), "fast", "enough", "agrees"}
"""What is called the same in every language."""


@pytest.fixture(autouse=True)
def warm_workers(monkeypatch):
    """No test is about how Python starts."""
    warm.instead(monkeypatch, warm.RUN)
    monkeypatch.setenv("WARM_BELOW", "")


def english(text):
    """Where two English words follow each other, and are no command, path, option, name or quotation."""
    text = re.sub(r"https?://\S+|<[^>]*>|'[^']*'|\"[^\"]*\"|“[^”]*”", " · ", text)
    text = TERMS.sub(" · ", COMMAND.sub(" · ", text))
    text = re.sub(r"\S*[/\\_=|+]\S*|(?<!\S)-\S+|\S*[A-Za-z0-9]\.[A-Za-z]\S*", " · ", text)
    text = re.sub(r"\w+", lambda word: "·" if word[0] in NAMES else word[0], text)
    return re.findall(r"[A-Za-z']{2,} [a-z']{2,}(?: [a-z']+)*", text)


def run(capfd, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, words), "--lang", "zh"])
    return ended.value.code or 0, capfd.readouterr()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("用 pytest -m cpu --require cpu 运行 chipproof fetch all", []),
        ("缺少 no such thing", ["no such thing"]),
        ("/a/no/such thing.log 不在", []),
        ("differs: 不一致 only here", ["only here"]),
    ],
)
def test_english_is_found_and_commands_are_none(text, found):
    assert english(text) == found


@pytest.mark.parametrize("verb", ["", *cli.VERBS])
def test_every_page_of_help_is_chinese_and_fits_80_columns(verb, capfd, monkeypatch):
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", "80")

    status, told = run(capfd, *([verb] if verb else []), "--help")

    assert status == 0
    assert english(told.out) == []
    assert re.search("[\u4e00-\u9fff]{4}", told.out)
    lines = [line for line in told.out.splitlines() if not line.startswith("  示例：")]
    assert max(map(cell_len, lines)) <= 80
    assert not verb or f"  示例：{cli.EXAMPLES[verb]}" in told.out.splitlines()  # whole, so that it can be copied


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Words for each verb, with which it has much to say."""
    monkeypatch.setenv("CHIPPROOF_CACHE", str(tmp_path / "cache"))
    weights = lambda model: SimpleNamespace(source="seeded")  # noqa: E731
    made = SimpleNamespace(references=SimpleNamespace(exported=lambda *given: tmp_path, weights=weights))

    def runs(folder, several):
        folder.mkdir()
        for day, one in enumerate(several):
            header = {name: value for name, value in one.header.items() if name != "kind"}
            write_run(folder / f"{day:02d}.jsonl", header, one.records, len(one.records))
        return folder

    def judged(folder):
        folder.mkdir()
        good, bad = ({"cosine": 1.0, "largest": error, "rms": error} for error in (1e-6, 1.0))
        other = Case.parse("regnety_016-t4-fp16-bs1")
        records = [Record(other, "numerics", "PASS", "x", values=bad),
                   Record(CASE, "numerics", "PASS", "x", values=good),
                   Record(other, "throughput", "SKIP", "t4 is absent (no nvidia-smi on PATH)"),
                   Record(CASE, "throughput", "PASS", "x"), Record(CASE, "protocol", "PASS", "x")]  # fmt: skip
        write_run(folder / "a.jsonl", {}, records, 1)
        return folder

    def policy():
        path = tmp_path / "p.toml"
        path.write_text(
            '[[expect]]\ncase = "regnety_016-cpu-*"\nstage = "numerics"\nreason = "known"\nuntil = 2099-01-01\n'
        )
        return path

    def cache():
        half = tmp_path / "cache" / "ab" / "cd.part"
        half.mkdir(parents=True)
        return tmp_path / "cache"

    def picture(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))

    def evaluated():
        (tmp_path / "out" / "2026_11_20-10_10_10").mkdir(parents=True)
        names = [f"ILSVRC2012_val_{i:08d}" for i in range(10)]
        for name in names:
            picture(tmp_path / "imagenet" / "val" / f"{name}.jpg")
            values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
            files.write(tmp_path / "out" / "2026_11_20-10_10_10", files.FORMATS["ais_bench"], name, [values], "bin")
        labels = "".join(f"{name}.JPEG {i}\n" for i, name in enumerate(names))
        (tmp_path / "imagenet" / "val_label.txt").write_text(labels)
        return ["regnety_016", "--outputs", tmp_path / "out", "--format", "ais_bench", "--data", tmp_path]

    def log(mean):
        path = tmp_path / "ais_bs16.log"
        path.write_text(log_samples.ais_bench(mean=mean, batch=16))
        return [path, "--chip", "ascend310", "--model", "regnety_016"]

    def pictures():
        picture(tmp_path / "pictures" / "a.jpg")
        return tmp_path / "pictures"

    def building():
        monkeypatch.setattr(CaseRun, "facts", {"version": "CANN 8.0", "weights": "seeded"})
        monkeypatch.setattr(CaseRun, "built", lambda case: Built(Path("engine.om"), None))
        return "regnety_016-ascend310-fp16-bs1"

    def exporting():
        monkeypatch.setattr(export, "suite", lambda *given: made)
        return "regnety_016"

    def onnx():
        return own_models.save(own_models.dense, tmp_path / "mine.onnx")

    def two(folder):
        runs(folder, [past([100.0] * 9 + [90.0] * 6)[i] for i in (0, 14)])
        return folder / "00.jsonl", folder / "01.jsonl"

    def red(folder):
        folder.mkdir()
        red = Record(CASE, "numerics", "FAIL", "outputs class instead of scores", facts={"next": "delete the row"})
        skipped = Record(CASE, "export", "SKIP", "t4 is absent (no nvidia-smi on PATH); next: delete the row")
        open_ = Record(CASE, "accuracy", "INCONCLUSIVE", "top1 is undefined on these 9 images", "top1")
        write_run(folder / "a.jsonl", HEADER, [red, skipped, open_, timed(CASE, 100.0), agreed(CASE, "top5")], 2)
        return folder

    return {
        "doctor": lambda: ([], ["--bundle", tmp_path / "lab.txt"]),
        "fetch": lambda: ([], ["regnety_016", "coco"]),
        "export": lambda: ([exporting()],),
        "build": lambda: ([building()],),
        "preprocess": lambda: (["regnety_016", "--images", pictures(), "--out", tmp_path / "prepared"],),
        "run": lambda: (["regnety_016 and t4 and fp16 and bs1 and export"],),
        "check": lambda: ([onnx(), "--select", "numerics and fp32"],),
        "evaluate": lambda: (evaluated(),),
        "logs": lambda: map(log, (21, 90)),
        "baselines": lambda: ([], ["lint"]),
        "policy": lambda: (["show", "--policy", policy()],
                           ["update", red(tmp_path / "red"), "--policy", tmp_path / "q.toml"]),
        "selftest": lambda: (["--runs", "1", "--noise", "independent", "--no-faults"],),
        "report": lambda: ([red(tmp_path / "red")], ["-v", tmp_path / "red"]),
        "verify": lambda: ([judged(tmp_path / "judged")],),
        "compare": lambda: (list(two(tmp_path / "two")),),
        "history": lambda: ([SERIES, "--results", runs(tmp_path / "past", past([100.0] * 9 + [90.0] * 6))],),
        "clean": lambda: (["--cache", cache()], ["--cache", tmp_path / "cache", "--remove"]),
        "diagnose": lambda: tuple(["own_mine-cpu-fp32-bs1", "--onnx", onnx(), *more] for more in ([], ["--sweep"])),
    }  # fmt: skip


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_prints_chinese(verb, lab, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in lab[verb]():
        status, told = run(capfd, verb, *words)

        assert status in (0, 1, 10), told.err
        text = told.out + told.err
        if verb in ("run", "check"):  # around it is pytest's
            text = re.split(r"=+ chipproof =+|\n=+ .* in [\d.]+s.* =+\n", told.out)[1]
        for cell in matrix.published().cells:
            text = text.replace(f"{cell.document}, {cell.section}", "")
        assert english(text) == []
        assert re.search("[\u4e00-\u9fff]{2}", text), text


def test_a_verb_with_lang_before_it_and_one_that_passes_options_on(capfd):
    with pytest.raises(SystemExit):
        cli.main(["--lang", "zh", "clean"])
    assert "可删除" in capfd.readouterr().out
    takes = {verb for verb in cli.VERBS if any(p.name == "lang" for p in cli.app(verb).commands[verb].params)}
    assert set(cli.VERBS) - takes == {"run", "check"}


@pytest.mark.parametrize("said", [["--lang", "zh"], ["--lang=zh"]])
def test_a_run_has_the_language_that_stands_before_the_verb(monkeypatch, said):
    asked = []
    monkeypatch.setattr(run_verb, "conformance", lambda select, more: asked.append((select, list(more))))

    with pytest.raises(SystemExit):
        cli.main([*said, "run", "cpu and fp32", "-v"])

    assert asked == [("cpu and fp32", ["-v", *said])]


def test_another_language_is_refused_by_name():
    assert [known(lang) for lang in ("zh", "en", None)] == ["zh", "en", None]
    with pytest.raises(typer.BadParameter, match="fr: there are en, zh"):
        known("fr")


def test_a_line_of_chinese_is_as_wide_as_its_cells_and_begins_with_no_mark():
    text = "一二三四，五六 chipproof 七八（九十）。"

    assert folded(text, 8) == ["一二三", "四，五六", "chipproof", "七八（九", "十）。"]
    assert folded("", 8) == [""]


def test_lines_keep_their_indent_and_unknown_ones_their_words(capsys):
    with language.read_in(["--lang", "zh"]):
        language.say("  next: delete the row\nnever heard of it")

    assert capsys.readouterr().out == "  下一步：请删除该行\nnever heard of it\n"
