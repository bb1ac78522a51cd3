"""A model of the user's own on a chip that goes wrong: what was planted is red where it is asked, and nothing else."""

import own_models
import pytest


@pytest.mark.parametrize(
    ("fault", "marks", "caught"),
    [
        ("", "not int8", {}),
        ("always_in_fp32", "fp16", {"": "INVALID"}),  # right, but no engine of the precision that is asked
        ("bf16", "fp32 and bs4", {"": "FAIL"}),
        ("class_offset", "fp32 and bs4", {"": "FAIL"}),
        ("only_first_row", "fp32 and bs4", {"": "FAIL", "rows": "FAIL"}),
        ("leaks_into_the_next_row", "fp32 and bs4", {"": "FAIL", "rows": "FAIL"}),
        ("unsteady", "fp32 and bs4", {"repeated": "FAIL"}),
    ],
)
def test_a_mistake_in_a_file_of_ones_own_is_caught(conform, monkeypatch, tmp_path, fault, marks, caught):
    monkeypatch.setenv("TESTBED", fault)
    path = own_models.save(own_models.image, tmp_path / "image.onnx")

    watch = conform(f"{marks} and numerics", cache=tmp_path / "cache", more=(f"--onnx={path}",))

    red = {record.metric: str(record.outcome) for record in watch.records if str(record.outcome) != "PASS"}
    assert red == caught, "\n".join(watch.texts)
    assert {record.metric for record in watch.records} >= {"", "repeated"}
    assert all(record.case.model == "own_image" for record in watch.records)
