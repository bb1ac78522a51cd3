"""A data set that is larger than the verdict needs: images are asked until it is known, and it comes out again."""

import shutil

import pytest

from harness.report.recompute import recompute
from harness.report.records import read_run
from harness.run import predict

PICTURES = 1100  # those of the tiny world under new names: no whole published set, so no published accuracy
MARKS = "tiny_classes and fp32 and bs4 and accuracy"


@pytest.fixture
def large(planted, tmp_path):
    """A data folder with `PICTURES` pictures of classes."""
    data = shutil.copytree(planted.data, tmp_path / "data")
    folder = data / "tiny_classes"
    lines = dict(line.split() for line in (folder / "val_label.txt").read_text().splitlines())
    names = sorted(lines)
    for number in range(len(names), PICTURES):
        of, name = names[number % len(names)], f"shot_{number:04d}"
        shutil.copy(folder / "val" / f"{of}.bmp", folder / "val" / f"{name}.bmp")
        lines[name] = lines[of]
    (folder / "val_label.txt").write_text("".join(f"{name} {label}\n" for name, label in sorted(lines.items())))
    return data


def judged(watch):
    return {record.metric: record for record in watch.records if record.stage == "accuracy" and record.metric}


def test_a_chip_that_agrees_is_decided_on_part_of_the_images_and_its_verdict_comes_out_again(
    conform, planted, large, tmp_path
):
    results = tmp_path / "results"
    found = judged(conform(MARKS, "agrees", data=large, more=(f"--results={results}",)))
    (path,) = results.glob("*.jsonl")
    checks = {check.record.metric: check for check in recompute(read_run(path), results, planted.table)}

    for metric in ("top1", "top5", "tail"):
        assert found[metric].outcome == "PASS", found[metric].text
        assert found[metric].facts["images"] == 512
        assert (found[metric].values["look"], found[metric].values["images_of"]) == (1, PICTURES)
        assert found[metric].marks == ("partial", "sampled")
        assert checks[metric].result == "same", checks[metric].why
    assert "look 1, at 512 of 1100 images" in found["top1"].text
    resumed = judged(conform(MARKS, "agrees", data=large, more=(f"--results={results}", "--resume=latest")))
    assert {m: r.text for m, r in resumed.items()} == {m: r.text for m, r in found.items()}


def test_what_all_images_leave_open_says_how_many_more_and_how_long(conform, planted, large, tmp_path, monkeypatch):
    """A chip that loses every 200th answer loses about 0.5 %."""
    results, sound = tmp_path / "results", predict.predict

    def now_and_then(*given):
        for place, found in enumerate(sound(*given)):
            yield {"logits": -found["logits"]} if place % 200 == 5 else found

    monkeypatch.setattr(predict, "predict", now_and_then)
    found = judged(conform(MARKS, "agrees", data=large, more=("--limit=1000", f"--results={results}")))["top1"]
    (path,) = results.glob("*.jsonl")
    checks = {check.record.metric: check for check in recompute(read_run(path), results, planted.table)}

    assert found.outcome == "INCONCLUSIVE", found.text
    assert (found.values["look"], found.values["images_of"], found.facts["images"]) == (2, 1000, 1000)
    more = found.values["needed"]
    assert found.values["needed_s"] > 0
    assert f"about {more} more images (" in found.text
    assert found.text.endswith(f" s) would decide: --limit {1000 + more}")
    assert found.marks == ("partial", "limited")
    assert checks["top1"].result == "same", checks["top1"].why
