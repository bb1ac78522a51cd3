"""Vendor logs become judged records: per device, per card, against the published figure and the targets."""

import json
import sys
from pathlib import Path

import log_samples
import pytest
import typer

from harness.baselines import load
from harness.case import Precision
from harness.chips import CHIPS
from harness.errors import DataError, UsageError
from harness.models import MODELS
from tools import cli, logs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PUBLISHED = tomllib.loads(
    (Path(__file__).parents[2] / "support" / "golden" / "vendorlogs.toml").read_text(encoding="utf-8")
)


def write(folder, name, device=0, faster=1.0):
    """The published log as benchmark would leave it; `faster` scales its figures, so that they still fit together."""
    row = PUBLISHED[name]
    text = row["text"]
    if faster != 1.0:
        for figure in ("714.514", "256.689", "255.635"):
            text = text.replace(figure, f"{float(figure) * faster:.6g}")
        text = text.replace("62.3341", f"{62.3341 / faster:.8g}").replace("16.0426", f"{16.0426 * faster:.8g}")
        text = text.replace("2.86055", f"{2.86055 / faster:.6g}").replace("195592", f"{195592 / faster:.6g}")
    path = folder / f"perf_vision_batchsize_{row['batch']}_device_{device}.txt"
    path.write_text(text)
    return path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(["logs", *map(str, arguments)])
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize("name", [name for name in PUBLISHED if not name.startswith("deepmar")])
def test_a_published_log_gives_the_published_card_figure(tmp_path, capsys, name):
    model, chip, _ = name.split("-")
    row = PUBLISHED[name]
    path = tmp_path / "log.txt"
    path.write_text(row["text"])

    status, out, _ = run(capsys, path, "--chip", chip, "--model", model, "--batch", row["batch"], "--json")

    (record, *targets) = json.loads(out)
    assert record["case"] == f"{model}-{chip}-fp16-bs{row['batch']}"
    assert record["values"]["measured"] == pytest.approx(row["per_card"], rel=1e-4, abs=0.005)
    assert list(record["facts"]["per_device"].values()) == [pytest.approx(row["per_device"], rel=1e-6)]
    assert record["marks"] == (["x4"] if row["devices_per_card"] == 4 else [])
    assert {target["stage"] for target in targets} <= {"targets"}
    bad = {r["outcome"] for r in (record, *targets)} & {"FAIL", "INVALID"}
    assert status == (1 if bad else 0)


def test_four_devices_add_up_to_their_card(tmp_path, capsys):
    files = [
        write(tmp_path, "regnety_016-ascend310-bs16", device, faster)
        for device, faster in enumerate((1.0, 1.01, 0.99, 1.02))
    ]

    status, out, _ = run(capsys, *files, "--chip", "ascend310", "--model", "regnety_016", "--json")

    (record,) = json.loads(out)
    assert record["values"]["measured"] == pytest.approx(714.514 * 4.02, rel=1e-5)
    assert record["marks"] == []
    assert len(record["facts"]["per_device"]) == 4
    assert (status, record["outcome"]) == (0, "PASS")


def test_four_logs_that_name_no_device_may_be_four_runs_of_one(tmp_path, capsys):
    files = [write(tmp_path, "regnety_016-ascend310-bs16", n, 1 + n / 100) for n in range(4)]
    for n, path in enumerate(files):
        files[n] = path.rename(tmp_path / f"run{n}.txt")

    _, out, _ = run(capsys, *files, "--chip", "ascend310", "--model", "regnety_016", "--json", "--batch", 16)

    (record,) = json.loads(out)
    assert record["marks"] == ["x4"]
    assert "the mean of 4 logs is scaled to a card of 4" in record["facts"]["per_card"]
    assert list(record["facts"]["per_device"]) == [f"log {n}" for n in range(1, 5)]


def test_one_device_stands_for_its_card_and_it_is_said(tmp_path, capsys):
    path = write(tmp_path, "regnety_016-ascend310-bs16")

    status, out, _ = run(capsys, path, "--chip", "ascend310", "--model", "regnety_016")

    assert "714.514 x 4: one device is scaled to a card of 4" in out
    assert f"{path}:4" in out
    assert "PASS" in out
    assert status == 0


@pytest.mark.parametrize(("faster", "outcome", "exit_status"), [(0.85, "FAIL", 1), (0.96, "INCONCLUSIVE", 0)])
def test_a_figure_below_the_floor_fails_when_no_other_run_explains_it(faster, outcome, exit_status, tmp_path, capsys):
    """0.83 and 0.94 of the published 2917.84; runs of one card differ by 3 %."""
    path = write(tmp_path, "regnety_016-ascend310-bs16", faster=faster)

    status, out, _ = run(capsys, path, "--chip", "ascend310", "--model", "regnety_016", "--json")

    (record,) = (record for record in json.loads(out) if record["stage"] == "throughput")
    assert record["outcome"] == outcome
    assert ("runs of one chip differ by 3 %" in record["text"]) == (outcome == "INCONCLUSIVE")
    assert status == exit_status


def test_a_log_that_looks_like_another_batch_is_invalid(tmp_path, capsys):
    path = write(tmp_path, "deepmar_resnet50-ascend310-bs64")

    status, out, _ = run(capsys, path, "--chip", "ascend310", "--model", "deepmar_resnet50", "--json")

    (record,) = json.loads(out)
    assert record["outcome"] == "INVALID"
    assert "batch 26.3, not 64" in record["text"]
    assert record["values"]["measured"] == pytest.approx(1666.612)
    assert status == 1


def test_targets_are_judged_only_when_every_published_batch_is_there(tmp_path, capsys):
    names = ["gfocalv2_r50_fpn-ascend310p-bs1", "regnety_016-ascend310p-bs1"]
    files = [tmp_path / f"{name}.txt" for name in names]
    for path, name in zip(files, names, strict=True):
        path.write_text(PUBLISHED[name]["text"])

    _, whole, _ = run(capsys, files[0], "--chip", "ascend310p", "--model", "gfocalv2_r50_fpn", "--batch", 1, "--json")
    _, part, _ = run(capsys, files[1], "--chip", "ascend310p", "--model", "regnety_016", "--batch", 1, "--json")

    assert [(r["metric"], r["outcome"]) for r in json.loads(whole)[1:]] == [
        ("1.2x ascend310", "PASS"),
        ("1.6x t4", "PASS"),
    ]
    assert json.loads(whole)[1]["values"]["ratio"] == pytest.approx(34.4947 / 17.92, rel=1e-4)
    assert {r["outcome"] for r in json.loads(part)[1:]} == {"SKIP"}
    assert "4, 8, 16, 32, 64" in json.loads(part)[1]["text"]


def test_batches_that_take_the_same_time_are_invalid(tmp_path, capsys):
    for batch in (1, 16):
        mean = 10 + batch / 1e4
        (tmp_path / f"gfocal_bs{batch}.txt").write_text(
            f"Inference average time : {mean} ms\nInference average time without first time: {mean} ms\n"
        )

    status, out, _ = run(
        capsys, *sorted(tmp_path.iterdir()), "--chip", "ascend310p", "--model", "regnety_016", "--json"
    )

    assert {record["outcome"] for record in json.loads(out) if record["stage"] == "throughput"} == {"INVALID"}
    assert status == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--chip", "ascend910", "--model", "regnety_016"], "no chip"),
        (["--chip", "ascend310", "--model", "resnet50"], "no model"),
        (["--chip", "ascend310", "--model", "regnety_016", "--batch", "8"], "another batch"),
        (["--chip", "ascend310", "--model", "regnety_016", "--tool", "msame"], "benchmark's, not msame's"),
        (["--chip", "mlu370_s4", "--model", "retinaface_resnet50"], "--precision"),
        (["--chip", "mlu370_s4", "--model", "regnety_016", "--precision", "int8"], "was published"),
    ],
)
def test_what_cannot_be_judged_exits_with_2_and_the_next_step(tmp_path, capsys, arguments, words):
    path = write(tmp_path, "regnety_016-ascend310-bs16")

    status, out, err = run(capsys, path, *arguments)

    assert status == 2
    assert words in err
    assert "next:" in err
    assert "Traceback" not in err
    assert out == ""


def test_a_refusal_is_json_too_where_json_was_asked(tmp_path, capsys):
    path = write(tmp_path, "regnety_016-ascend310-bs16")
    path.write_text(path.read_text()[:200])

    status, out, _ = run(capsys, path, "--chip", "ascend310", "--model", "regnety_016", "--json")

    assert status == 2
    assert json.loads(out)["error"] == "data"
    assert json.loads(out)["next"]


def test_a_log_may_not_be_given_twice(tmp_path):
    first = write(tmp_path, "regnety_016-ascend310-bs16", device=0)
    copy = tmp_path / "perf_vision_batchsize_16_device_1.txt"
    copy.write_text(first.read_text())
    (tmp_path / "b").mkdir()
    other = write(tmp_path / "b", "regnety_016-ascend310-bs16", device=0, faster=1.01)

    with pytest.raises(DataError, match="same log"):
        logs.read([first, copy])
    with pytest.raises(DataError, match="two logs of device 0"):
        logs.read([first, other])


def test_logs_of_two_tools_are_no_measurement(tmp_path):
    first = write(tmp_path, "regnety_016-ascend310-bs16")
    other = tmp_path / "msame_bs16.txt"
    other.write_text("Inference average time : 22.3 ms\nInference average time without first time: 22.3 ms\n")

    with pytest.raises(DataError, match="different things"):
        logs.read([first, other])


def test_a_chip_measured_at_several_precisions_needs_one_stated(tmp_path):
    path = tmp_path / "mm.txt"
    path.write_text(
        "Total iterations:             100\nHost wall time(s):            2.0938\n"
        "Throughput (qps):             382.08\n  MLU Compute (Launch jobs) Summary:\n"
        "  Latency(host clock, ms):    min: 20 max: 22 mean: 21 median: 21 percentile: (90%) 21 (95%) 21 (99%) 22\n"
    )

    with pytest.raises(UsageError, match="fp16, fp32, int8"):
        logs.command([path], "mlu370_s4", "retinaface_resnet50")

    logs.command([path], "mlu370_s4", "retinaface_resnet50", precision=logs.Precision.INT8)  # published: 382.091
    with pytest.raises(typer.Exit):
        logs.command([path], "mlu370_x4", "retinaface_resnet50", precision=logs.Precision.INT8)  # published: 615.642


# --- logs and terminals of other encodings ------------------------------------------------------------------------

AIS = log_samples.ais_bench(mean=21, batch=16)


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030", "utf-8-sig"])
def test_a_log_of_another_encoding_is_judged(tmp_path, capsys, encoding):
    path = tmp_path / "bs16.log"
    path.write_text("保存结果\n" + AIS, encoding=encoding)

    _, out, err = run(capsys, path, "--chip", "ascend310", "--model", "regnety_016")

    assert "761.905 x 4" in out, err


def test_one_log_in_two_encodings_is_one_log(tmp_path):
    for name, encoding in (("a", "utf-16"), ("b", "utf-8")):
        (tmp_path / name).write_text(AIS, encoding=encoding)

    with pytest.raises(DataError, match="are the same log"):
        logs.read([tmp_path / "a", tmp_path / "b"])


def test_a_slow_first_run_is_said_beside_the_figure(tmp_path, capsys):
    path = tmp_path / "msame.log"
    path.write_text(log_samples.msame([300, 21, 21, 21], batch=16))

    status, out, _ = run(capsys, path, "--chip", "ascend310", "--model", "regnety_016")

    assert "761.905 x 4" in out
    assert "note: the first run was slow" in out
    assert status == 0


def test_a_slow_first_run_that_nothing_shows_is_not_judged(tmp_path, capsys):
    path = tmp_path / "msame.log"
    path.write_text(log_samples.msame([300, 21, 21, 21], batch=16, listed=False))

    status, out, _ = run(capsys, path, "--chip", "ascend310", "--model", "regnety_016")

    assert "INVALID: the mean is 90.75 ms, without the first run 21 ms, and no run is listed" in out
    assert status == 1


@pytest.mark.parametrize("best", [1, 8, 64])
def test_a_target_is_of_the_best_batch_wherever_it_stands(best):
    cards = {batch: 300.0 + batch for batch in (1, 4, 8, 16, 32, 64)} | {best: 4000.0}

    found = logs._targets(load(), CHIPS["ascend310p"], MODELS["regnety_016"], Precision("fp16"), cards)

    assert [(r.case.batch, r.metric, r.outcome, r.values["measured"], r.values["published"]) for r in found] == [
        (best, "1.2x ascend310", "PASS", 4000.0, 2917.84),
        (best, "1.6x t4", "PASS", 4000.0, 1918.7328),
    ]
