"""Summaries and reports are whole in both languages."""

import ast
import re
import string
from pathlib import Path

import pytest
from made_runs import ALL, agreed, run_of, timed, whole_matrix

from harness import matrix
from harness.backends.base import OTHERS
from harness.case import Case
from harness.report import ci, compare, tables
from harness.report.causes import head
from harness.report.html import page
from harness.report.messages import CATALOGUES, LANGUAGES, compiled, entries, language, translation
from harness.report.records import Record, head_line
from harness.report.terminal import terminal
from harness.vocabulary import MARKS, STAGES
from tools import doctor, fetch

ROOT = Path(__file__).parents[3]
SOURCES = [*sorted((ROOT / "harness" / "report").glob("*.py")),
           *(ROOT / "tools" / f"{name}.py" for name in ("doctor", "compare", "history", "report", "fetch")),
           ROOT / "tests" / "ending.py"]  # fmt: skip
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


def used():
    found = {text for path in SOURCES for text in literals(path)}
    template = (ROOT / "harness" / "report" / "page.html.j2").read_text(encoding="utf-8")
    found |= {a or b for a, b in re.findall(r"""\bt\((?:"([^"]+)"|'([^']+)')""", template)}
    found |= {*MARKS.values(), *(stage.question for stage in STAGES.values()), *ci.SENTENCES}
    found |= {*tables.ACCURACY_COLUMNS, *tables.THROUGHPUT_COLUMNS, *tables.OTHER_COLUMNS, tables.OTHERS, "details"}
    found |= {title for title, _, _ in (tables.accuracy(()), tables.throughput(()))} | {"Every record"}
    stops = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("conftest.py", "tests/ending.py"))
    found |= set(re.findall(r'STOPPED\] = (?:.* or )?"([^"]+)"', stops))
    found |= {*compare.TITLES, *(name for columns in compare.COLUMNS for name in columns)}
    found |= {*doctor.AREAS, *(state.value for state in doctor.State), doctor.EACH, doctor.DRAWN, doctor.SEEDED}
    found |= {*fetch.STATES, *(what for _, what in fetch.SETS.values())}
    return found - {""}


def hints():
    """Next steps of chips and SDKs: they may stay English, for a new chip is one file."""
    return {chip.hint for chip in matrix.chips().values()} | {sdk.hint for sdk in doctor._sdks()} | {OTHERS}


@pytest.mark.parametrize("name", ["ascend310", "mlu370_s4", "t4", "intel_gpu", "intel_npu", "htp_v73", "rk3588"])
def test_the_next_step_of_a_chip_with_a_chinese_guide_is_chinese(name):
    assert re.search(r"[\u4e00-\u9fff]", translation("zh")(matrix.chips()[name].hint))


def test_no_sentence_is_missing_and_none_is_left_over():
    assert used() - set(ZH) == set()
    assert set(ZH) - used() - hints() - {""} == set()
    assert len(used()) > 100


@pytest.mark.parametrize("sentence", sorted(set(ZH) - {""}))
def test_a_translation_takes_the_same_values_and_is_written_in_chinese(sentence):
    def fields(text):
        return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)

    told = ZH[sentence]
    assert told, "not translated"
    assert fields(told) == fields(sentence)
    assert "精度" not in told
    assert re.search(r"[\u4e00-\u9fff]", told) or sentence in ("batch", "p", "sdks") or sentence in hints()


def test_values_are_filled_in():
    assert translation("en")("{n} cases", n=3) == "3 cases"
    assert translation("zh")("{n} cases", n=3) == "3 个用例"
    assert translation("zh")("a sentence that no catalogue has") == "a sentence that no catalogue has"


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
    import gettext
    import io

    text = 'msgid "a \\"b\\"\\n"\nmsgstr ""\n"x"\n"y"\n\nmsgid "long "\n"one"\nmsgstr "z"\n'
    found = entries(text)

    assert found == {'a "b"\n': "xy", "long one": "z"}
    read = gettext.GNUTranslations(io.BytesIO(compiled({"": "Content-Type: text/plain; charset=UTF-8\n", **found})))
    assert (read.gettext('a "b"\n'), read.gettext("long one")) == ("xy", "z")
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


@pytest.mark.parametrize("width", [80, 200])
def test_chinese_lines_fit_the_width_in_cells(width):
    from rich.cells import cell_len

    text = terminal(whole_matrix(), ALL, width, False, lang="zh")

    assert max(map(cell_len, text.splitlines())) <= width
    assert "个用例" in text
