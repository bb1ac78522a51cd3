"""The grid holds the worst outcome of every stage and batch."""

from made_runs import agreed, whole_matrix

from harness.case import Case
from harness.report.grid import grid
from harness.report.records import Record


def test_a_cell_is_the_worst_outcome_of_its_stage_and_batch():
    case = Case.parse("regnety_016-t4-fp16-bs4")
    found = grid([agreed(case, "top1"), agreed(case, "top5", "INVALID"), Record(case, "export", "PASS", "x")])

    (row,) = found.rows
    assert dict(row.cells) == {("accuracy", 4): "INVALID", ("export", 4): "PASS"}
    assert found.outcomes == ("PASS", "INVALID")


def test_models_share_a_row_only_where_all_of_the_chip_look_the_same():
    rows = grid(whole_matrix()).rows

    assert [len(row.models) for row in rows if (row.chip, row.precision) == ("ascend310p", "fp16")] == [5]
    assert [len(row.models) for row in rows if (row.chip, row.precision) == ("ascend310", "fp16")] == [1] * 5


def test_a_stage_that_is_judged_once_a_row_has_no_batches():
    small, large = (Case.parse(f"regnety_016-t4-fp16-bs{batch}") for batch in (1, 64))
    found = grid(
        [Record(case, "export", "PASS", "x") for case in (small, large)] + [Record(large, "targets", "FAIL", "x")]
    )

    assert found.columns == (("export", (1, 64)), ("targets", ()))
    assert found.cell(found.rows[0], "targets", None) == "FAIL"
