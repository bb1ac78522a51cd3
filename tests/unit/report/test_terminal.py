"""The summary that ends a run fits its terminal and shows what failed, why, and the command that repeats it."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_runs import ALL, HEADER, LOST, agreed, run_of, timed, whole_matrix
from markupsafe import escape
from rich.cells import cell_len

from harness import matrix
from harness.case import Case, Precision
from harness.judge.numerics import judge_numerics
from harness.report.html import page
from harness.report.records import Record
from harness.report.terminal import terminal
from harness.vocabulary import MARKS, Outcome

OPTIONS = HEADER["options"]
LONGEST = Case.parse("retinaface_mobilenet025-ascend310p-fp16-bs16")


def said(records, width=80, colour=False, asked=ALL, **more):
    return terminal(records, asked, width, colour, options=OPTIONS, **more)


def four_cases():
    cases = [case for case in matrix.cases() if case.chip == "ascend310" and case.batch == 16][:4]
    assert len(cases) == 4
    return whole_matrix(cases)


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_whole_matrix_takes_at_most_120_lines_of_the_width_of_the_terminal(width):
    lines = said(whole_matrix(), width).splitlines()

    assert len(lines) <= 120
    assert max(map(len, lines)) <= width


def test_four_cases_with_one_cause_take_at_most_40_lines_and_say_it_once():
    text = said(four_cases(), asked=4)

    assert len(text.splitlines()) <= 40
    assert text.count("507018") == 1
    assert "ERROR numerics, accuracy, throughput: 4 cases" in text


def test_the_last_screen_says_what_failed_why_and_the_command_to_run_next(tmp_path):
    screen = said(whole_matrix(), report=tmp_path / "latest.html").splitlines()[-23:]  # and pytest's own last line
    text = "\n".join(screen)

    for part in ("ERROR numerics", LOST, "FAIL numerics", "cosine 0.9", "FAIL throughput", "0.500 of the published"):
        assert part in text, part
    assert text.count("again: pytest") == 3
    assert "next: npu-smi info" in text
    assert "latest.html" in text
    assert screen[-1].startswith(f"ran {ALL} of {ALL} cases")


def test_causes_with_long_commands_fit_the_last_screen_too_and_no_command_is_cut():
    """A node id that is longer than a line takes two rows of a terminal; of three such causes two stand in full."""
    names = ("device 0 was lost", "outputs are wrong", "it is too slow")
    test = "tests/conformance/test_throughput.py::test_throughput_reaches_what_was_published"
    records = [
        Record(case, "throughput", "ERROR", f"{name}; {'evidence ' * 40}", facts={
            "next": f"chipproof diagnose {case} --cache=/a/folder/of/caches --data=/datasets/of/the/lab",
            "again": f"pytest '{test}[{case}]'",
        })
        for case, name in zip(matrix.cases()[:3], names, strict=True)
    ]  # fmt: skip
    lines = said(records, report=Path("/results/latest.html")).splitlines()
    end, rows = [], 1  # pytest's own last line
    for line in reversed(lines):
        rows += -(-len(line) // 80) or 1
        if rows > 24:
            break
        end.insert(0, line)
    text = "\n".join(end)

    assert all(name in text for name in names)
    assert text.count("next: chipproof diagnose") == text.count("again: pytest") == 2
    assert text.count("--data=/datasets/of/the/lab") == 2
    assert "ERROR throughput" in end[1]


def test_of_many_causes_the_worst_three_are_told_last_and_in_full():
    records = [
        Record(case, "numerics", "FAIL" if at < 3 else "ERROR", f"cause {'abcdefghijklmnop'[at]}", "", {}, ())
        for at, case in enumerate(matrix.cases()[:14])
    ]
    lines = said(records).splitlines()
    end = "\n".join(lines[-24:])

    assert all(f"cause {letter}" in end for letter in "abc")
    assert end.count("again:") == 3
    assert "and 5 more causes" in "\n".join(lines)


def test_the_grid_tells_every_outcome_apart_without_colour():
    cases = [Case("regnety_016", "t4", "fp16", batch) for batch in (1, 4, 8, 16, 32, 64)]
    records = [Record(c, "numerics", outcome, "x") for c, outcome in zip(cases, Outcome, strict=True)]
    text = said(records)
    row = next(line for line in text.splitlines() if "regnety_016" in line)

    signs = row.split()[-len(records) :]
    assert len(set(signs)) == len(Outcome)
    legend = next(line for line in text.splitlines() if "INCONCLUSIVE" in line and "PASS" in line)
    for sign, outcome in zip(signs, Outcome, strict=True):
        assert f"{sign} {outcome}" in legend


def test_a_cell_shows_the_worst_of_its_metrics():
    case = matrix.cases()[0]
    text = said([agreed(case, "ap_easy"), agreed(case, "ap_hard", "FAIL"), agreed(case, "ap_medium")])

    row = next(line for line in text.splitlines() if line.startswith(f"{case.chip} "))
    assert row.split()[-1] == "F"


@pytest.mark.slow
def test_a_cell_stands_under_its_batch():
    """A chip that has no batch 16 leaves its place empty."""
    text = said(whole_matrix(), 200)
    lines = text.splitlines()
    at = lines[1].index("16")
    row = next(line for line in lines if line.startswith("ascend310 fp16  retinaface_mobilenet025"))
    assert "16" in lines[1]
    assert row[lines[1].index("16", lines[0].index("numerics"))] == "E"
    assert next(line for line in lines if line.startswith("mlu370_s4 fp32"))[at] == " "


def test_the_command_on_record_is_the_one_that_is_shown():
    case = matrix.cases()[0]
    known = Record(case, "numerics", "ERROR", "broken", facts={"again": "pytest -k it", "next": "look at it"})

    text = said([known])

    assert "again: pytest -k it" in text
    assert "next: look at it" in text


def test_a_command_over_several_lines_is_one_for_a_shell():
    case = LONGEST
    options = {**OPTIONS, "data": "/a folder/" + "data/" * 12, "limit": "5", "device": "1"}
    lines = terminal([Record(case, "numerics", "ERROR", "broken")], 1, 80, False, options=options).splitlines()
    start = next(i for i, line in enumerate(lines) if "again:" in line)
    end = next(i for i in range(start, len(lines)) if not lines[i].endswith("\\"))
    script = "\n".join(lines[start : end + 1]).replace("again: pytest", "printf '%s|'")

    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split("|")

    assert end > start
    assert words[:2] == ["-m", "retinaface_mobilenet025 and ascend310p and fp16 and bs16 and numerics"]
    assert words[2:-1] == [f"--data={options['data']}", "--limit=5", "--device=1", "--simulate"]


def test_the_command_that_diagnoses_is_one_for_a_shell_wherever_the_program_is():
    """As make run calls it, and as a run on simulated SDKs does."""
    words = [".venv/bin/chipproof", "diagnose", str(LONGEST), "--data=/a/long/folder/of/data", "--simulate"]
    for before in ("", "CHIPPROOF_SIM='{\"nan\": true}' "):
        record = Record(LONGEST, "numerics", "FAIL", "differs", facts={"diagnose": before + " ".join(words)})
        lines = terminal([record], 1, 80, False).splitlines()
        start = next(i for i, line in enumerate(lines) if "next:" in line)
        script = "\n".join(lines[start:]).split("again:")[0].replace("next:", "").replace(words[0], "printf '%s|'")

        told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout

        assert told.split("|")[:-1] == words[1:]
        assert f"<code>{escape(record.facts['diagnose'])}</code>" in page(run_of([record]))


def test_paragraphs_of_what_passed_need_verbose():
    records = whole_matrix(matrix.cases()[:30], broken=False)

    assert "opset 11" not in said(records)
    assert "opset 11" in said(records, verbose=True)


def test_tables_stand_in_the_summary_when_they_fit_and_the_ratio_has_its_interval():
    case = LONGEST
    text = said([timed(case, 90.0, published=100.0, half=0.02)], 200, asked=1)

    assert "0.90x (0.88..0.92)" in text
    assert "16" in text
    assert "figures: in the report" in said(whole_matrix(broken=False))


def test_tables_of_more_rows_than_there_is_room_are_not_drawn(monkeypatch):
    """It takes a second for the whole matrix, at the end of each run."""
    monkeypatch.setattr("harness.report.terminal._table", None)

    assert "figures: in the report" in said(whole_matrix(broken=False))


def test_tables_whose_rows_fit_and_whose_heads_do_not_are_left_out():
    def shown(room):
        return said([timed(LONGEST, 90.0)], asked=1, room=room)

    height = len(shown(1000).splitlines())

    assert ["figures: in the report" in shown(room) for room in (height, height - 1)] == [False, True]


def test_a_ratio_measured_in_pairs_shows_its_own_interval():
    record = timed(LONGEST, 90.0, ratio=1.5, ratio_low=1.4, ratio_high=1.625)

    assert "1.50x (1.40..1.62)" in said([record], 200)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_row_of_figures_is_one_line_and_no_line_is_too_long(width):
    failed = Record(LONGEST, "numerics", "FAIL", "far " * 60)
    records = (agreed(LONGEST, "instance_precision"), agreed(matrix.cases()[-1], "top1"), failed)
    text = said((*records, timed(LONGEST, 90.0, published=100.0)), width, verbose=True)

    assert re.search(r"instance_precision .*77\.00 .*0\.10 .*PASS", text)
    assert re.search(r"16 .*90\.00 .*0\.90x \(0\.89\.\.0\.91\) .*PASS", text)
    assert max(map(len, text.splitlines())) <= max(width, 80)


def test_latency_percentiles_are_columns_where_they_were_measured():
    with_them, without = timed(LONGEST, 100.0), timed(LONGEST, 100.0)
    plain = Record(LONGEST, "throughput", "PASS", "x", "", {"measured": 100.0})

    assert "240,000" in said([with_them], 200)
    assert "p99.9 us" in said([without], 200)
    assert "p99" not in said([plain], 200)


def test_skips_of_one_reason_are_told_once_with_all_chips():
    text = "{} is absent (acl: No module named 'acl'); next: install the driver"
    records = [
        Record(case, stage, "SKIP", text.format(case.chip))
        for case in matrix.cases() if case.chip.startswith("ascend") for stage in ("export", "numerics")
    ]  # fmt: skip
    lines = said(records)

    assert lines.count("next: ") == 1
    assert "ascend310, ascend310p" in lines
    assert "No module named 'acl'" in " ".join(lines.split())


def test_marks_are_one_line_and_explained_with_verbose():
    short, long = said(four_cases()), said(four_cases(), verbose=True)

    assert len([line for line in short.splitlines() if "SIMULATED" in line]) == 1
    assert MARKS["simulated"] not in short
    assert MARKS["simulated"] in long


@pytest.mark.parametrize(("lang", "page"), [("en", "README.md"), ("zh", "README.zh-CN.md")])
def test_the_line_of_marks_names_the_section_that_explains_them(lang, page):
    (line,) = [line for line in said(four_cases(), lang=lang).splitlines() if "SIMULATED" in line]
    (heading,) = re.findall(rf"{page}#([\w-]+)", line)

    text = (Path(__file__).parents[3] / page).read_text(encoding="utf-8")
    section = next(part for part in re.split(r"^#+ ", text, flags=re.MULTILINE) if part.lower().startswith(heading))
    assert "`SIMULATED`" in section


def test_a_failure_in_numerics_shows_the_tolerance_that_would_pass():
    wanted = {"scores": np.linspace(-1, 1, 4000).reshape(2, 2000)}
    verdict = judge_numerics({"scores": wanted["scores"] * 1.125 + 0.03125}, wanted, Precision.FP16)
    told = " ".join(said([Record(LONGEST, "numerics", str(verdict.outcome), verdict.text)], 80).split())

    assert "would pass with cosine >= 0.99" in told
    assert re.search(r"would pass with [^;.]*cosine >= \S+, largest error <= \S+, rms error <= [\d.e-]+;", told)


def test_what_was_undecided_takes_three_lines_at_most():
    letters = "abcdefgh"
    records = [
        Record(case, "accuracy", "INCONCLUSIVE", f"reason {letter}")
        for case, letter in zip(matrix.cases(), letters, strict=False)
    ]
    told = [line for line in said(records).splitlines() if "INCONCLUSIVE" in line and "? " not in line]

    assert 1 <= len([line for line in told if not line.startswith("ran")]) <= 3


def test_colour_is_there_only_when_asked_for():
    assert "\x1b[" in said(four_cases(), colour=True)
    assert "\x1b[" not in said(four_cases())


def test_nothing_on_record_gives_the_head_line_alone():
    assert said((), asked=7).splitlines() == ["ran 0 of 7 cases"]


def test_markup_in_a_text_is_shown_as_it_stands():
    assert "[red]odd[/red]" in said([Record(LONGEST, "numerics", "ERROR", "[red]odd[/red] [/nothing]")])


def test_what_fails_the_run_as_a_whole_stands_before_the_head_line():
    lines = said((), asked=7, failures=["FAILED: --require t4: nothing ran on it"]).splitlines()

    assert lines == ["FAILED: --require t4: nothing ran on it", "ran 0 of 7 cases"]


@pytest.mark.parametrize("width", [80, 120])
def test_a_skip_keeps_what_was_seen_first_and_its_next_step_when_it_is_too_long(width):
    text = f"t4 is absent (trt: 1 x NVIDIA A10; {'no such library (x); ' * 40}); next: install the driver"
    told = said([Record(Case.parse("regnety_016-t4-fp16-bs1"), "export", "SKIP", text)], width)

    assert "t4 is absent (trt: 1 x NVIDIA A10; no such" in " ".join(told.split())
    assert "...); next: install the driver" in " ".join(told.split())
    assert len(told.splitlines()) < 10


def test_a_skip_without_room_for_what_was_seen_and_the_next_step_names_the_command_that_tells_both():
    text = "{} is absent ({} sees 1 x 910B3; and nothing else at all); next: " + "install the driver and CANN, " * 4
    chips = ("ascend310", "t4", "cuda")
    told = said(
        [
            Record(Case.parse(f"regnety_016-{chip}-fp16-bs1"), "export", "SKIP", text.format(chip, chip * 2))
            for chip in chips
        ],
        80,
    )

    assert told.count("sees 1 x 910B3") == told.count("next: chipproof doctor") == len(chips)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_would_decide_is_told_in_two_lines_of_80_columns(lang):
    record = Record(
        LONGEST, "accuracy", "INCONCLUSIVE",
        "top1 100 % against 100 % of the reference, a relative drop of 0 %, one-sided 95 % bounds 0 % and 31.32 %; "
        "allowed 1 %; 8 paired answers, 0 lost and 0 gained (exact; McNemar p = 1); about 292 more images (374 s) "
        "would decide: --limit 300",
        "top1",
    )  # fmt: skip

    lines = [line for line in said([record], lang=lang).splitlines() if line.strip()]
    start = next(i for i, line in enumerate(lines) if line.startswith("INCONCLUSIVE accuracy"))

    assert "--limit 300" in "".join(lines[start : start + 2]), lines
    assert "..." in "".join(lines[start : start + 2]), lines
    assert all(cell_len(line) <= 80 for line in lines)


def test_stages_are_named_whole_and_marks_told_whole_where_80_columns_have_room():
    marks = ("limited", "scenes", "seeded", "simulated", "unsteady")
    records = [Record(Case.parse(f"regnety_016-ascend310p-fp16-bs{batch}"), stage, "PASS", "fine", marks=marks)
               for stage in ("export", "numerics", "accuracy", "throughput") for batch in (1, 4)]  # fmt: skip

    for lang, place in (("en", "README.md#marks"), ("zh", "README.zh-CN.md#结果标注")):
        text = said(records, lang=lang)
        assert "numerics accuracy throughput" in text, text
        assert place in text, text
        assert all(cell_len(line) <= 80 for line in text.splitlines()), text
