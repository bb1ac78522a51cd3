"""Published logs give their published figures; damaged, mixed and contradictory ones are refused."""

# ruff: noqa: E501 - logs and tables stand as they are printed

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.vendor.logs import READERS, Throughput, once_a_device, parse, read

if sys.version_info >= (3, 11):
    pass
else:
    pass
from vendor_log_texts import AIS_FOUR, MM, PUBLISHED, TRT8, TRT10

REGNET = PUBLISHED["regnety_016-ascend310-bs16"]["text"]
DEEPMAR = PUBLISHED["deepmar_resnet50-ascend310-bs16"]["text"]
GFOCAL = PUBLISHED["gfocalv2_r50_fpn-ascend310-bs1"]["text"]
TRT7 = PUBLISHED["retinaface_mobilenet025-t4-bs16"]["text"]
PURE = """[INFO] Dataset number: 49 finished cost 2.635ms
[INFO] PureInfer result saved in ./result/PureInfer_perf_of_resnext50_bs1_in_device_0.txt
-----------------PureInfer Performance Summary------------------
[INFO] ave_throughputRate: 374.313samples/s, ave_latency: 2.67914ms
----------------------------------------------------------------
"""
MSAME = """[INFO] acl init success
[INFO] open device 0 success
[INFO] load model ./gfocal_bs4.om success
[INFO] start to process file:./a.bin
Inference time: 31.5ms
[INFO] output data success
Inference time: 30.5ms
Inference time: 30.7ms
Inference average time : 30.90 ms
Inference average time without first time: 30.60 ms
[INFO] unload model success, model Id is 1
[INFO] pid: 77 Execute sample success
[INFO] end to finalize acl
"""
AIS = """[INFO] acl init success
[INFO] open device 1 success
[INFO] load model regnety_bs16.om success
[INFO] try get model batchsize:16
[INFO] warm up 1 done
Inference array Processing: 100%|##########| 10/10
[INFO] -----------------Performance Summary------------------
[INFO] NPU_compute_time (ms): min = 3.5, max = 4.5, mean = 4.0, median = 3.9, percentile(99%) = 4.45
[INFO] throughput 1000*batchsize.mean(16)/NPU_compute_time.mean(4.0): 4000.0
[INFO] ------------------------------------------------------
"""
AIS_OLD = AIS.replace("batchsize.mean(16)/NPU_compute_time.mean(4.0)", "batchsize(16)/NPU_compute_time.mean(4.0)")
AIS_OLDEST = AIS.replace(
    "throughput 1000*batchsize.mean(16)/NPU_compute_time.mean(4.0)", "throughput (1000*batchsize/NPU_compute_time)"
)
SUMMARY = {
    "filesinfo": {},
    "NPU_compute_time": {"min": 3.5, "max": 4.5, "mean": 4.0, "median": 4.0, "percentile(99%)": 4.49, "count": 3},
    "throughput": 4000.0,
    "npu_compute_time_list": [3.5, 4.0, 4.5],
    "pid": 12,
}
MM_NEWER = MM.replace(" with total batch sizes: 8000 and 76.9231 iterations/second", "")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_log_gives_its_published_figure(name):
    row = PUBLISHED[name]

    (figure,) = parse(row["text"], batch=row["batch"])

    assert figure.tool == row["tool"]
    assert figure.batch == row["batch"]
    assert figure.per_device == pytest.approx(row["per_device"], rel=1e-6)
    assert figure.per_device * row["devices_per_card"] == pytest.approx(row["per_card"], rel=1e-4, abs=0.005)


def test_the_published_logs_whose_lines_disagree_say_so():
    figures = {name: parse(row["text"], batch=row["batch"])[0] for name, row in PUBLISHED.items()}

    assert {name for name, f in figures.items() if f.notes} == {n for n in PUBLISHED if n.startswith("deepmar")}
    assert {name for name, f in figures.items() if f.doubts} == {"deepmar_resnet50-ascend310-bs64"}


@pytest.mark.parametrize(
    ("text", "tool", "rate", "batch", "latency", "device"),
    [
        (PURE, "benchmark", 374.313, 1, 1000 / 374.313, 0),
        (MSAME, "msame", 4000 / 30.9, 4, 30.9, 0),
        (AIS, "ais_bench", 4000, 16, 4.0, 1),
        (AIS_OLD, "ais_bench", 4000, 16, 4.0, 1),
        (AIS_OLDEST, "ais_bench", 4000, 16, 4.0, 1),
        (json.dumps(SUMMARY), "ais_bench", 4000, 16, 4.0, None),
        (json.dumps(SUMMARY, indent=1), "ais_bench", 4000, 16, 4.0, None),
        (MM, "mm_run", 615.385, 8, 12.9, 0),
        (MM_NEWER, "mm_run", 615.385, 8, 12.9, 0),
        (MM.replace("[input: [8,", "[main/arg:0: [1, 3, 24, 24], main/arg:1: [], a: [8,"), "mm_run", 615.385, 8, 12.9, 0),
        (MM + "Input shape group             0: [input: [8, 3, 672, 1024]]\n", "mm_run", 615.385, 8, 12.9, 0),  # --analysis
        (TRT10, "trtexec", 128.422 * 16, 16, 7.76549, None),
        (REGNET, "benchmark", 714.514, 16, 16000 / 714.514, None),
        (REGNET.replace("[infer]", "[inference]").replace("[post]", "[postprocess]"), "benchmark", 714.514, 16, 16000 / 714.514, None),
        (REGNET.replace("\n", "\r\n"), "benchmark", 714.514, 16, 16000 / 714.514, None),
        (REGNET.replace("195592", "1.95592e+05"), "benchmark", 714.514, 16, 16000 / 714.514, None),
    ],
)  # fmt: skip
def test_each_tool_is_known_by_its_text(text, tool, rate, batch, latency, device):
    (figure,) = parse(text)

    assert (figure.tool, figure.batch, figure.device) == (tool, batch, device)
    assert figure.per_device == pytest.approx(rate)
    assert figure.latency_ms == pytest.approx(latency)


def test_the_name_of_a_perf_file_says_batch_and_device(tmp_path):
    path = tmp_path / "perf_vision_batchsize_16_device_3.txt"
    path.write_text(REGNET)

    (figure,) = read(path)

    assert (figure.batch, figure.device, figure.lines, figure.source) == (16, 3, (4,), str(path))


def without(word):
    return lambda text: "\n".join(line for line in text.splitlines() if word not in line)


def swap(old, new):
    def edit(text):
        assert old in text, f"{old!r} is not in the sample"
        return text.replace(old, new, 1)

    return edit


def twice(text):
    return text + "\n" + text


def up_to(word):
    return lambda text: text[: text.index(word)]


DAMAGED = [
    # name, sample, edit, stated batch, words of the refusal
    ("an empty file", REGNET, lambda text: " \n", 16, "no line"),
    ("not a log", REGNET, lambda text: "hello\nworld\n", 16, "no known tool"),
    ("a word only", GFOCAL, lambda text: "Inference average time", 1, "cut off"),
    # benchmark
    ("no e2e line", REGNET, without("[e2e]"), 16, "e2e"),
    ("no data read line", REGNET, without("[data read]"), 16, "data read"),
    ("no preprocess line", REGNET, without("[preprocess]"), 16, "preprocess"),
    ("no infer line", REGNET, without("[infer]"), 16, "infer"),
    ("no post line", REGNET, without("[post]"), 16, "post"),
    ("cut in the interface figure", REGNET, up_to(".514"), 16, "cut off: no [post]"),
    ("cut after the decimal point", REGNET, up_to("0426"), 16, "damaged or cut off"),
    ("cut in the last figure", REGNET, up_to("341"), 16, "contradicts itself"),
    ("cut before the last figure", REGNET, up_to("62.3341"), 16, "damaged or cut off"),
    ("cut in an exponent", REGNET, swap("195592", "1.95592e+"), 16, "damaged or cut off"),
    ("interface figure without its label", REGNET, swap("Interface throughputRate", "throughputRate"), 16, "damaged"),
    ("interface figure lost", REGNET, swap(" Interface throughputRate: 714.514,", ""), 16, "damaged"),
    ("interface figure is nan", REGNET, swap("714.514", "nan"), 16, "damaged"),
    ("interface figure is negative", REGNET, swap("714.514", "-714.514"), 16, "damaged"),
    ("interface figure is zero", REGNET, swap("714.514", "0"), 16, "zero"),
    ("interface slower than the module", REGNET, swap("714.514", "71.4514"), 16, "contradicts itself"),
    ("module slower than the pipeline", REGNET, swap("2.86055", "28.6055"), 16, "contradicts itself"),
    ("pipeline faster than its inference", REGNET, swap("[e2e] throughputRate: 255.635", "[e2e] throughputRate: 355.635"), 16, "e2e"),
    ("one line does not fit itself", REGNET, swap("271.167", "217.167"), 16, "data read"),
    ("post counts other batches", REGNET, swap("16.0426, moduleLatency: 62.3341", "32.0852, moduleLatency: 31.16705"), 16, "batch"),
    ("stated batch 8", REGNET, str, 8, "another batch"),
    ("stated batch 32", REGNET, str, 32, "another batch"),
    ("stated batch 0", REGNET, str, 0, "batch of 0"),
    ("batch of the command line", REGNET, lambda text: "./benchmark.x86_64 -batch_size=8 -om_path=m.om\n" + text, 16, "another batch"),
    ("batch of the model's name", REGNET, lambda text: "./benchmark.x86_64 -om_path=RegNetY_bs8.om\n" + text, 16, "another batch"),
    ("two runs", REGNET, twice, 16, "several runs"),
    ("runs of two batches", REGNET, lambda text: text + PUBLISHED["regnety_016-ascend310-bs8"]["text"], 16, "several runs"),
    ("lines of two tools", REGNET, lambda text: text + GFOCAL, 16, "benchmark and msame"),
    ("two devices", REGNET, lambda text: "-device_id=0\n-device_id=1\n" + text, 16, "devices"),
    ("half-edited odd log", DEEPMAR, swap("7.14704", "3.61118"), 16, "contradicts itself"),
    ("odd log, a digit lost", DEEPMAR, swap("7.15391", "71.5391"), 16, "contradicts itself"),
    ("odd log, batch 1 stated", DEEPMAR, str, 1, "another batch"),
    ("odd log, batch 64 stated", DEEPMAR, str, 64, "another batch"),
    ("odd log, no batch known", DEEPMAR, str, None, "does not say its batch"),
    # benchmark, pure inference
    ("pure: no figure", PURE, without("ave_throughputRate"), 1, "cut off"),
    ("pure: no unit", PURE, up_to("ms\n-----"), 1, "cut off"),
    ("pure: rate against latency", PURE, swap("2.67914ms", "26.7914ms"), 1, "contradicts itself"),
    ("pure: batch unknown", PURE, swap("_bs1_", "_"), None, "does not say its batch"),
    # msame
    ("msame: no average", GFOCAL, without("time :"), 1, "cut off"),
    ("msame: one run only", GFOCAL, without("without first"), 1, "without the first time"),
    ("msame: cut in the figure", GFOCAL, up_to("22ms"), 1, "cut off"),
    ("msame: cut in the unit", GFOCAL, lambda text: text.rstrip()[:-1], 1, "cut off"),
    ("msame: averages disagree", GFOCAL, swap("223.21ms", "22.321ms"), 1, "contradicts itself"),
    ("msame: two runs", GFOCAL, twice, 1, "several runs"),
    ("msame: batch unknown", GFOCAL, str, None, "does not say its batch"),
    ("msame: no success line", MSAME, without("Execute sample success"), 4, "Execute sample success"),
    ("msame: an execute failed", MSAME, swap("[INFO] output", "[ERROR] execute model failed\n[INFO] output"), 4, "failed"),
    ("msame: runs do not add up", MSAME, swap("31.5ms", "51.5ms"), 4, "contradicts itself"),
    ("msame: model of another batch", MSAME, str, 1, "another batch"),
    ("msame: zero", GFOCAL, lambda text: text.replace("223.21", "0").replace("223.22", "0"), 1, "zero"),
    # ais_bench
    ("ais_bench: no throughput", AIS, without("throughput"), 16, "throughput"),
    ("ais_bench: no compute time", AIS, without("NPU_compute_time (ms)"), 16, "NPU_compute_time"),
    ("ais_bench: cut in the figure", AIS, up_to(": 4000.0"), 16, "damaged or cut off"),
    ("ais_bench: cut after the point", AIS, lambda text: text[: text.index("4000.") + 5], 16, "damaged or cut off"),
    ("ais_bench: formula does not hold", AIS, swap(": 4000.0", ": 400.0"), 16, "contradicts itself"),
    ("ais_bench: another mean", AIS, swap("mean = 4.0", "mean = 4.1"), 16, "contradicts itself"),
    ("ais_bench: mean above max", AIS_OLDEST, swap("mean = 4.0", "mean = 40"), 16, "outside"),
    ("ais_bench: no median", AIS, swap("median = 3.9, ", ""), 16, "median"),
    ("ais_bench: stated batch 8", AIS, str, 8, "another batch"),
    ("ais_bench: --batchsize of another model", AIS, swap("batchsize:16", "batchsize:8"), 16, "another batch"),
    ("ais_bench: fractional batch", AIS_OLDEST.replace("_bs16", "").replace("batchsize:16", ""), swap("4000.0", "4111.0"), None, "another batch"),
    ("ais_bench: two runs", AIS, twice, 16, "several runs"),
    ("ais_bench: a traceback", AIS, lambda text: "Traceback (most recent call last):\n" + text, 16, "failed"),
    ("ais_bench: a device is missing", AIS_FOUR, without("device_2"), 16, "add up"),
    ("ais_bench: a device appears twice", AIS_FOUR, swap("device_2", "device_1"), 16, "twice"),
    ("ais_bench: no sum", AIS_FOUR, without("summary"), 16, "summary"),
    ("summary: cut off", json.dumps(SUMMARY), lambda text: text[:-20], 16, "cut off"),
    ("summary: no throughput", json.dumps({k: v for k, v in SUMMARY.items() if k != "throughput"}), str, 16, "cut off"),
    ("summary: not a number", json.dumps({**SUMMARY, "throughput": "4000"}), str, 16, "contradicts"),
    ("summary: NaN", json.dumps({**SUMMARY, "throughput": float("nan")}), str, 16, "contradicts"),
    ("summary: times are missing", json.dumps({**SUMMARY, "npu_compute_time_list": [3.5, 4.5]}), str, 16, "contradicts"),
    ("summary: other times", json.dumps({**SUMMARY, "npu_compute_time_list": [3.5, 4.0, 4.0]}), str, 16, "contradicts"),
    ("summary: stated batch 1", json.dumps(SUMMARY), str, 1, "another batch"),
    # mm_run
    ("mm_run: no throughput", MM, without("Throughput"), 8, "Throughput"),
    ("mm_run: no iterations", MM, without("Total iterations"), 8, "Total iterations"),
    ("mm_run: no wall time", MM, without("Host wall"), 8, "Host wall time"),
    ("mm_run: no compute latency", MM, up_to("  MLU Compute"), 8, "MLU Compute"),
    ("mm_run: cut in the latency", MM, up_to("median: 12.8"), 8, "median"),
    ("mm_run: cut in the percentiles", MM, up_to(" 13.1"), 8, "percentile"),
    ("mm_run: images against time", MM, swap("615.385", "61.5385"), 8, "contradicts itself"),
    ("mm_run: iterations against time", MM, swap("76.9231", "77.9231"), 8, "contradicts itself"),
    ("mm_run: images against iterations", MM, swap("sizes: 8000", "sizes: 4000"), 8, "contradicts itself"),
    ("mm_run: figures of another batch", MM_NEWER, swap("615.385", "307.692"), 8, "another batch"),
    ("mm_run: no whole batch", MM_NEWER, swap("615.385", "640.385"), 8, "whole batch"),
    ("mm_run: cut in the figure", MM_NEWER, swap("615.385", "615."), 8, "damaged or cut off"),
    ("mm_run: stated batch 4", MM, str, 4, "another batch"),
    ("mm_run: two runs", MM, twice, 8, "several runs"),
    ("mm_run: two shapes", MM, lambda text: text + "Input shape group 1: [input: [8, 3, 64, 64]]\n", 8, "2 input shapes"),
    ("mm_run: shapes of another batch", MM, swap("[input: [8,", "[input: [16,"), 8, "another batch"),
    # trtexec
    ("trtexec 7: no mean", TRT7, without("mean"), 16, "mean expected"),
    ("trtexec 7: no total", TRT7, without("total compute"), 16, "total expected"),
    ("trtexec 7: cut in the mean", TRT7, up_to("174 ms"), 16, "cut off"),
    ("trtexec 7: cut in the unit", TRT7, lambda text: text.rstrip()[:-1], 16, "cut off"),
    ("trtexec 7: mean above max", TRT7, swap("mean: 22.174", "mean: 42.174"), 16, "outside"),
    ("trtexec 7: total of another mean", TRT7, swap("mean: 22.174", "mean: 22.284"), 16, "queries"),
    ("trtexec 7: two runs", TRT7, twice, 16, "several runs"),
    ("trtexec 7: only the host block", TRT7, lambda text: "[I] Host Latency\n[I] mean: 22.3 ms\n[I] throughput: 0 qps", 16, "GPU Compute"),
    ("trtexec 7: batch unknown", TRT7, str, None, "does not say its batch"),
    ("trtexec 7: shapes of another batch", TRT7, lambda text: "trtexec --shapes=image:1x3x9x9\n" + text, 16, "another batch"),
    ("trtexec 8: no throughput", TRT8, without("Throughput"), 1, "Throughput"),
    ("trtexec 8: no compute time", TRT8, without("GPU Compute"), 1, "GPU Compute Time"),
    ("trtexec 8: no D2H", TRT8, without("D2H"), 1, "D2H"),
    ("trtexec 8: no unit", TRT8, swap(" qps", ""), 1, "damaged"),
    ("trtexec 8: cut in a percentile", TRT8, lambda text: text.rstrip()[:-4], 1, "cut off"),
    ("trtexec 8: faster than its compute", TRT8, swap("231.086", "331.086"), 1, "contradicts itself"),
    ("trtexec 8: slower than its parts", TRT8, swap("231.086", "23.1086"), 1, "contradicts itself"),
    ("trtexec 8: parts do not add up", TRT8, swap("mean = 4.29297", "mean = 4.39297"), 1, "contradicts itself"),
    ("trtexec 8: zero", TRT8, swap("231.086", "0"), 1, "contradicts itself"),
    ("trtexec 8: two runs", TRT8, twice, 1, "several runs"),
    ("trtexec 10: no end", TRT10, without("PASSED"), 16, "PASSED"),
    ("trtexec 10: failed", TRT10, swap("&&&& PASSED", "&&&& FAILED"), 16, "failed"),
    ("trtexec 10: queries against time", TRT10, swap("128.422", "127.422"), 16, "queries"),
    ("trtexec 10: stated batch 32", TRT10, str, 32, "another batch"),
]  # fmt: skip


def test_no_damage_is_named_twice():
    names = [row[0] for row in DAMAGED]

    assert len(set(names)) == len(names) >= 30


@pytest.mark.parametrize(
    ("sample", "edit", "batch", "words"), [row[1:] for row in DAMAGED], ids=[r[0] for r in DAMAGED]
)
def test_a_damaged_log_is_refused(sample, edit, batch, words):
    with pytest.raises(DataError) as refused:
        parse(edit(sample), batch=batch)

    assert words in refused.value.fact
    assert re.match(r"log(:\d+)?: |a batch of 0", refused.value.fact), "the source, and the line where it is one line's"
    assert re.match("[a-z]+ ", refused.value.hint)


def test_a_log_of_another_tool_than_stated_is_refused():
    with pytest.raises(DataError, match="benchmark's, not msame's") as refused:
        parse(REGNET, tool="msame", batch=16)
    assert refused.value.hint == "name the tool that wrote it"


def test_a_file_name_of_another_batch_is_refused(tmp_path):
    path = tmp_path / "perf_vision_batchsize_8_device_0.txt"
    path.write_text(REGNET)

    with pytest.raises(DataError, match="another batch"):
        read(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00[e2e]"], ids=["absent", "not text"])
def test_an_unreadable_file_is_refused(tmp_path, content):
    path = tmp_path / "log.txt"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_a_line_lost_anywhere_is_refused():
    for row in PUBLISHED.values():
        lines = row["text"].splitlines()
        for lost in range(len(lines)):
            if not lines[lost].strip() or "Performance summary" in lines[lost] or "End-to-End" in lines[lost]:
                continue  # a heading, and the one line that newer versions leave out
            if lines[lost].endswith("GPU Compute") or "Enqueue" in lines[lost]:
                continue

            with pytest.raises(DataError):
                parse("\n".join(lines[:lost] + lines[lost + 1 :]), batch=row["batch"])


@pytest.mark.slow
def test_a_log_cut_at_any_character_never_gives_another_figure():
    for row in PUBLISHED.values():
        text = row["text"].rstrip()
        for end in range(len(text)):
            try:
                (figure,) = parse(text[:end], batch=row["batch"])
            except DataError:
                continue

            assert figure.per_device == pytest.approx(row["per_device"], rel=1e-6)
            assert end >= len(text) - 6, f"cut {len(text) - end} characters early and still read"


@pytest.mark.parametrize(("rate", "fine"), [(0.0, False), (0.5, True), (9_999_999.5, True), (1e7, False)])
def test_no_device_makes_no_image_or_ten_millions_a_second(rate, fine, monkeypatch):
    figure = Throughput("msame", rate, 1, 100.0, "Inference average time", (1,))
    monkeypatch.setitem(READERS, "msame", lambda log, text: [figure])
    text = "Inference average time: 100.0 ms\n"

    if fine:
        assert parse(text, tool="msame") == [figure]
    else:
        with pytest.raises(DataError, match=re.escape(f"{rate:g} images/s")):
            parse(text, tool="msame")


def test_one_device_may_not_be_given_twice():
    one = Throughput("msame", 10.0, 1, 100.0, "Inference average time", (1,), device=0)

    with pytest.raises(DataError, match="two logs of device 0"):
        once_a_device([one, one])
    several = [replace(one, device=device) for device in (2, 1, 3, 3, 1, 1)]
    with pytest.raises(DataError, match="two logs of device 1 at batch 1\n"):
        once_a_device(several)
    once_a_device([replace(one, device=device, batch=batch) for device in (0, 1) for batch in (1, 2)])


def test_logs_are_read_under_the_oldest_vendor_python():
    old = next(iter(sorted(Path.home().glob(".pyenv/versions/3.7.*/bin/python3.7"))), shutil.which("python3.7"))
    if old is None:
        pytest.skip("python3.7 is not installed here: pyenv install 3.7")
    program = (
        "from harness.vendor.logs import parse; import sys; print(parse(sys.stdin.read(), batch=16)[0].per_device)"
    )

    run = subprocess.run(
        [str(old), "-c", program], input=REGNET, capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[4],
    )  # fmt: skip

    assert run.stdout.strip() == "714.514", run.stderr
