"""Tables hold every figure of a run, the worst first."""

from dataclasses import replace

from made_runs import timed

from harness.case import Case
from harness.judge.timing import PERCENTILES
from harness.report import tables
from harness.report.records import Record

CASE = Case.parse("regnety_016-cpu-fp32-bs1")


def test_columns_without_a_figure_are_left_out():
    ((_, columns, _),) = tables.sections([Record(CASE, "accuracy", "PASS", "x", "top1", {"measured": 0.5})], str)

    assert columns == ["case", "metric", "measured", "verdict"]


def test_a_part_of_the_images_is_told_with_the_number_of_all():
    def row(of):
        values = {"measured": 0.5, "images_of": of}
        return tables.accuracy_rows([Record(CASE, "accuracy", "PASS", "x", "top1", values, (), {"images": 512})])[0]

    place = tables.ACCURACY_COLUMNS.index("images")
    assert (row(5000)[place], row(512)[place], row(None)[place]) == ("512 of 5000", "512", "512")


def test_what_is_worst_comes_first():
    outcomes = ["PASS", "INCONCLUSIVE", "FAIL", "PASS", "ERROR"]
    rows = tables.other_rows([Record(CASE, "numerics", outcome, "x") for outcome in outcomes])

    assert [row[2] for row in rows] == ["FAIL", "ERROR", "INCONCLUSIVE", "PASS", "PASS"]


def test_why_a_figure_did_not_pass_stands_beside_the_tables_of_figures():
    rows = tables.other_rows([Record(CASE, stage, "FAIL", "why") for stage in ("accuracy", "published", "throughput")])

    assert [row[1:] for row in rows] == [[stage, "FAIL", "why"] for stage in ("accuracy", "published", "throughput")]


def test_the_best_batch_of_a_line_up_is_marked():
    four = Case.parse("regnety_016-cpu-fp32-bs4")
    rows = tables.throughput_rows([timed(CASE, 139.0), timed(four, 140.0)])

    assert [row[tables.THROUGHPUT_COLUMNS.index("best")] for row in rows] == ["", "best"]


def test_each_latency_stands_in_its_column():
    values = {name: 1000.0 * place for place, name in enumerate(tables.LATENCIES, 1)}
    (row,) = tables.throughput_rows([replace(timed(CASE, 100.0), values={"measured": 100.0, **values})])

    told = dict(zip(tables.THROUGHPUT_COLUMNS, row, strict=True))
    assert [told[name] for name in ("p50 us", "p90 us", "p99 us", "p99.9 us")] == ["1,000", "2,000", "3,000", "4,000"]
    assert tuple(f"latency_{name}_us" for name, _ in PERCENTILES) == tables.LATENCIES


def test_a_program_that_was_timed_in_turn_stands_beside_with_its_interval():
    told = replace(timed(CASE, 100.0), facts={"beside": {"ONNX Runtime": [0.9, 0.876, 0.93]}})
    ((_, columns, rows),) = tables.sections([told, timed(replace(CASE, batch=4), 100.0)], str)

    assert [row[columns.index("beside")] for row in rows] == ["0.90x ONNX Runtime (0.88..0.93)", ""]


def test_markup_in_a_text_is_shown_and_not_followed():
    text = "see [here](http://x) ![](http://y) \\[z](u) `a` *b* <script> | c"

    assert tables.escaped(text) == (r"see \[here\](http://x) !\[\](http://y) \\\[z\](u) \`a\` \*b\* &lt;script> \| c")


def test_the_reason_of_a_skip_keeps_its_stars_and_loses_the_name_of_one_of_several_chips():
    text = "{} is absent (no /dev/davinci*)"
    chips = ("ascend310", "ascend310p")
    records = [Record(Case.parse(f"regnety_016-{c}-fp16-bs1"), "export", "SKIP", text.format(c)) for c in chips]

    assert tables.skips(records) == [(list(chips), text.format("each"), 2)]
    assert tables.skips(records[1:]) == [(["ascend310p"], text.format("ascend310p"), 1)]
