"""A run in which the chip is wrong leaves pictures that the report shows; without them nothing else is lost."""

import pytest

from harness.report import pictures
from harness.report.records import read_run

MARKS = "fp32 and bs4 and (numerics or accuracy)"


@pytest.fixture
def wrong(conform, monkeypatch, tmp_path):
    """Records of a run with swapped colours, of the tiny model of that task."""
    monkeypatch.setenv("TESTBED", "channels_swapped")

    def run(task):
        conform(f"tiny_{task} and {MARKS}", more=(f"--results={tmp_path}",))
        (path,) = tmp_path.glob("*.jsonl")
        return read_run(path).records

    return run


@pytest.mark.parametrize("task", ["classes", "attributes", "objects", "faces"])
def test_pictures_and_differences_of_a_wrong_chip_are_in_the_report(wrong, tmp_path, task):
    records = wrong(task)
    facts = [record.facts["pictures"] for record in records if "pictures" in record.facts]
    page = (tmp_path / "latest.html").read_text(encoding="utf-8")

    assert [len(found) for found in facts] == [3]
    assert all(pictures.read([tmp_path], fact) for fact in facts[0])
    assert not any({"pictures", "differences"} & {*r.facts.get("second_values", ())} for r in records)
    assert page.count('<img loading="lazy" src="data:image/jpeg;base64,/9j/') == 3
    assert page.count("largest difference by place</text>") == sum("differences" in r.facts for r in records) > 0
    assert ('class="reference' in page[page.index("<figure>") :]) == (task in ("objects", "faces"))


def test_pictures_that_cannot_be_written_cost_no_verdict_and_no_record(wrong, tmp_path, monkeypatch, capfd):
    def broken(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write", broken)
    records = wrong("classes")

    assert {r.outcome for r in records if r.metric == "top1"} == {"FAIL"}
    assert not any("pictures" in record.facts for record in records)
    assert (tmp_path / "latest.html").exists()
    assert "the report has no pictures, they cannot be written: [Errno 28]" in capfd.readouterr().err
