"""trtexec's logs in full, and those of an engine with an implicit batch."""

import sys

import log_samples
import pytest

from harness.errors import DataError
from harness.vendor.logs import parse

if sys.version_info >= (3, 11):
    pass
else:
    pass
from vendor_log_texts import MM, TRT8, TRT10

STAMP = "[11/03/2024-09:12:44] "
WORDS = [
    "=== Explanations of the performance metrics ===",
    "Total Host Walltime: in words.",
    "GPU Compute Time: in words.",
    "Total GPU Compute Time: in words.",
    "Throughput: in words.",
    "Enqueue Time: in words.",
    "H2D Latency: in words.",
    "Latency: in words, 5 of them.",
]


@pytest.mark.parametrize("level", [STAMP + "[V] ", "[V] ", STAMP + "[I] ", ""])
def test_a_verbose_log_is_judged_like_one_without_explanations(level):
    text = log_samples.trtexec("--onnx=m.onnx --shapes=image:8x3x4x4 --verbose", stamp=STAMP)
    before, end, after = text.partition("&&&& PASSED")
    words = "".join(level + line + "\n" for line in WORDS)
    chatter = STAMP + "[V] [TRT] Throughput: 3 qps of a tactic\n" + STAMP + "[V] GPU Compute Time: min = 0\n"

    (found,) = parse(chatter + before + words + end + after)

    assert found.per_device == pytest.approx(parse(text)[0].per_device)
    assert found.batch == 8


def test_a_verbose_line_is_no_measurement():
    text = log_samples.trtexec("--onnx=m.onnx --shapes=image:8x3x4x4")

    with pytest.raises(DataError, match="no GPU Compute Time"):
        parse(text.replace("[I] GPU Compute Time", "[V] GPU Compute Time"))


@pytest.mark.parametrize("walls", [True, False])
@pytest.mark.parametrize("stamp", [STAMP, ""])
def test_the_rate_of_an_implicit_batch_counts_images(walls, stamp):
    (found,) = parse(log_samples.trtexec("--loadEngine=net.plan --batch=8", rate_times=8, walls=walls, stamp=stamp))

    assert found.per_device == pytest.approx(0.99 * 8 * 250)
    assert (found.batch, found.latency_ms) == (8, 4)
    assert "implicit batch" in found.notes[0]


def test_a_summary_without_its_command_tells_an_implicit_batch_by_its_times():
    text = log_samples.trtexec("", rate_times=8)
    summary = "".join(line + "\n" for line in text.splitlines() if "&&&&" not in line)

    assert parse(summary, batch=8)[0].per_device == pytest.approx(0.99 * 8 * 250)
    assert parse(summary)[0].batch == 8
    with pytest.raises(DataError, match="another batch: its figures say 8, the caller says 16"):
        parse(summary, batch=16)


def test_the_batch_that_trtexec_lists_among_its_options_is_said():
    text = log_samples.trtexec("--loadEngine=net.plan", rate_times=8).replace(
        "[I] === Perf", "[I] Batch: 8\n[I] === Perf"
    )

    assert parse(text)[0].batch == 8
    with pytest.raises(DataError, match="another batch"):
        parse(text, batch=16)


def test_an_explicit_batch_counts_queries():
    text = log_samples.trtexec("--onnx=net.onnx --shapes=image:8x3x4x4")

    (found,) = parse(text)

    assert found.per_device == pytest.approx(0.99 * 8 * 250)
    assert found.notes == ()


@pytest.mark.parametrize("times", [2, 4, 16, 7.5])
def test_a_rate_that_is_another_multiple_of_the_queries_is_refused(times):
    with pytest.raises(DataError, match=r"another batch|contradicts itself"):
        parse(log_samples.trtexec("--loadEngine=net.plan --batch=8", rate_times=times))


@pytest.mark.parametrize("times", [2, 16])
def test_without_wall_times_an_implicit_batch_still_has_to_fit_its_compute_time(times):
    with pytest.raises(DataError, match="contradicts itself"):
        parse(log_samples.trtexec("--loadEngine=net.plan --batch=8", rate_times=times, walls=False))


@pytest.mark.parametrize("flag", ["--buildOnly", "--skipInference"])
def test_a_run_that_only_built_is_not_called_cut_off(flag):
    name = f"TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=m.onnx {flag}"

    with pytest.raises(DataError, match="printed no performance summary"):
        parse(f"&&&& RUNNING {name}\n[I] Engine built in 12.5 sec.\n&&&& PASSED {name}\n", batch=1)


def test_two_mlus_of_one_run_share_the_figure():
    (figure,) = parse(MM.replace("--devices 0", "--devices 0 1"))

    assert figure.per_device == pytest.approx(615.385 / 2)
    assert "2 devices" in figure.notes[0]


@pytest.mark.parametrize("kind", ["<Vector>", "<Vec<Int>>"])
def test_the_parameters_that_mm_run_lists_say_batch_and_devices(kind):
    """The tool's own guide has the types in either form; two devices in one figure are not one."""
    listed = MM.replace("--devices 0", f"\n--batch_size{kind}     : 8\n--devices{kind}        : 0,1\n")

    (figure,) = parse(listed)

    assert figure.per_device == pytest.approx(615.385 / 2)
    with pytest.raises(DataError, match="another batch"):
        parse(listed.replace(f"--batch_size{kind}     : 8", f"--batch_size{kind}     : 16"))


@pytest.mark.parametrize(("given", "count"), [("--devices 0", 1), ("--devices 0 1", 2)])
def test_a_run_of_mm_run_without_clocks_tells_no_latency_of_the_mlu(given, count):
    """With --trace_time none its source (report.cc) prints how long the queueing call took and nothing else."""
    lines = [line for line in MM.splitlines() if not line.strip().startswith("Latency(")]
    called = (
        "  Interface Duration(ms):     min: 0.04 max: 0.06 mean: 0.05 median: 0.05 percentile: (90%) 0.05 (99%) 0.06"
    )
    at = next(i for i, line in enumerate(lines) if "MLU Compute (Launch jobs)" in line)

    text = "\n".join([*lines[: at + 1], called, *lines[at + 1 :]])
    (figure,) = parse(text.replace("--devices 0", given))

    assert figure.per_device == pytest.approx(615.385 / count)
    assert figure.latency_ms == pytest.approx(1000 * 8 / figure.per_device)
    assert "no clock was recorded" in figure.notes[-1]


FIRST, _, SUMMARY = MM.replace("--devices 0", "--devices 0 1").partition("\n")
SECOND = SUMMARY.replace("615.385", "610.687").replace("76.9231", "76.3359").replace("13.0\n", "13.1\n")


@pytest.mark.parametrize("named", [True, False])
def test_a_summary_a_device_is_a_figure_a_device(named):
    """As mm_run's source has it; utilisation is printed where it was asked for."""
    above = [f"=================== Device {i} Utilization Summary\n" if named else "" for i in (0, 1)]
    analysis = "=================== Report Dev 1 Analysis Summary\n"

    first, second = parse("\n".join([FIRST, analysis + above[0] + SUMMARY, above[1] + SECOND]))

    assert (first.per_device, second.per_device) == (615.385, 610.687)
    assert (first.device, second.device) == ((0, 1) if named else (None, None))
    assert (first.batch, second.notes) == (8, ())


def test_two_runs_on_two_devices_are_no_figure_a_device():
    with pytest.raises(DataError, match="several runs"):
        parse("\n".join([FIRST, SUMMARY, FIRST, SECOND]))


def test_a_summary_more_than_devices_is_several_runs():
    with pytest.raises(DataError, match="several runs"):
        parse("\n".join([FIRST, SUMMARY, SECOND, SECOND]))


def test_a_trtexec_warning_stays_with_the_figure():
    (figure,) = parse(TRT10)

    assert figure.notes == ("GPU compute time is unstable, with coefficient of variance = 3.1%.",)


def test_trtexec_counts_batches_and_mm_run_counts_images():
    (trt,), (mm,) = parse(TRT8, batch=1), parse(MM)

    assert trt.per_device == pytest.approx(231.086 * 1)
    assert parse(TRT8, batch=16)[0].per_device == pytest.approx(231.086 * 16)
    assert mm.per_device == pytest.approx(615.385)


def test_an_engine_that_takes_seconds_a_query_has_a_rate_below_one():
    (found,) = parse(log_samples.trtexec("--onnx=net.onnx --shapes=image:8x3x4x4", gpu=2000.0))

    assert found.per_device == pytest.approx(8 * 0.495)
    assert found.latency_ms == 2000


@pytest.mark.parametrize("line", ["Throughput", "GPU Compute Time", "Latency", "Enqueue Time"])
def test_a_line_of_the_summary_that_is_not_there_is_named(line):
    text = log_samples.trtexec("--onnx=net.onnx --shapes=image:8x3x4x4", walls=False)
    without = "".join(one for one in text.splitlines(keepends=True) if not one.startswith(f"[I] {line}:"))

    with pytest.raises(DataError, match=rf"the log is cut off: no {line}\n"):
        parse(without)


def test_a_rate_of_queries_is_one_even_where_the_command_has_an_implicit_batch():
    (found,) = parse(log_samples.trtexec("--loadEngine=net.plan --batch=8", rate_times=1))

    assert found.per_device == pytest.approx(0.99 * 8 * 250)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("streams", "rate", "fits"), [(2, 509, True), (2, 511, False), (3, 764, True), (3, 766, False)]
)
def test_so_many_streams_do_so_many_queries_at_once(streams, rate, fits):
    """One does 250 queries/s; 2 % more is rounding."""
    text = log_samples.trtexec(f"--onnx=net.onnx --shapes=image:8x3x4x4 --streams={streams}", walls=False)
    text = text.replace("Throughput: 247.5 qps", f"Throughput: {rate} qps")

    if fits:
        assert parse(text)[0].per_device == 8 * rate
    else:
        with pytest.raises(DataError, match=f"{rate} qps with 4 ms of compute a query"):
            parse(text)


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_an_implicit_batch_of_any_size_counts_images(batch):
    (found,) = parse(log_samples.trtexec(f"--loadEngine=net.plan --batch={batch}", rate_times=batch))

    assert found.per_device == pytest.approx(0.99 * batch * 250)
    assert found.notes == (f"implicit batch: the rate counts images, {batch} a query",)


def test_lines_that_a_page_joined_are_read():
    stamped = log_samples.trtexec_7().replace("[I]", "[07/20/2021-01:49:12] [I]")

    (found,) = parse(stamped.replace("\n", ""), batch=8)
    assert (found.per_device, found.batch) == (2000, 8)


@pytest.mark.parametrize(
    ("command", "lines", "batch"),
    [
        ("--onnx=m.onnx --shapes=image:8x3x4x4", (), 8),
        ("--onnx=m.onnx --shapes=x:0:8x28x28", (), 8),  # a name of TensorFlow
        ("--onnx=m.onnx --shapes='x:0':8x28x28", (), 8),
        ("--onnx=m.onnx --shapes=ids:8", (), 8),
        ("--onnx=m.onnx --shapes=ids:8x128,mask:8x128", (), 8),
        ("--onnx=m.onnx --optShapes=x:32x3x4x4", ("Input inference shape : x:0=8x28x28",), 8),
        ("--loadEngine=m.plan", ("Batch: Explicit", "Created input binding for x:0 with dimensions 8x28x28"), 8),
        ("--loadEngine=m.plan", ("Input binding for image with dimensions 8x3x4x4",), 8),
        (
            "--loadEngine=m.plan",
            ("Input binding for ids with dimensions 8", "Output binding for y with dimensions 3"),
            8,
        ),
    ],
)
def test_shapes_of_the_inputs_say_the_batch(command, lines, batch):
    """Else a log of batch 8 is judged at whatever batch the caller states."""
    text = log_samples.trtexec(command).replace("[I] ===", "".join(f"[I] {line}\n" for line in lines) + "[I] ===")

    assert parse(text)[0].batch == batch
    with pytest.raises(DataError, match="another batch: the caller says 16"):
        parse(text, batch=16)


def test_inputs_of_two_first_axes_leave_the_batch_to_the_caller():
    text = log_samples.trtexec("--onnx=m.onnx --shapes=im_shape:1x2,image:8x3x4x4")

    assert parse(text, batch=8)[0].per_device == pytest.approx(0.99 * 8 * 250)
    with pytest.raises(DataError, match="begin with 1 and 8 do not say the batch"):
        parse(text)
    with pytest.raises(DataError, match="the caller says 16, the inputs begin with 1 and 8"):
        parse(text, batch=16)


def test_shapes_of_an_implicit_batch_hold_one_image():
    text = log_samples.trtexec("--loadEngine=net.plan --batch=8", rate_times=8)
    text = text.replace(
        "[I] ===", "[I] Batch: 8\n[I] Created input binding for data with dimensions 3x224x224\n[I] ==="
    )

    assert parse(text)[0].batch == 8


def idle(share, walls=True):
    """A log of a GPU that computes in this share of the time, 4 ms a query."""
    text, rate = log_samples.trtexec("--onnx=net.onnx --shapes=image:8x3x4x4", walls=walls), 250 * share
    return text.replace("247.5 qps", f"{rate:g} qps").replace("Time: 2.97 s", f"Time: {rate * 3 * 4 / 1000:g} s")


@pytest.mark.parametrize("share", [0.64, 0.28])
def test_a_gpu_that_waits_is_told_where_the_wall_time_shows_it(share):
    """Published logs of a desktop card without --useSpinWait have 0.75, those of tiny networks 0.15."""
    (found,) = parse(idle(share))

    assert found.per_device == pytest.approx(8 * 250 * share)
    assert found.notes[-1].startswith(f"the GPU computed in {100 * share:.0f} % of the time")
    with pytest.raises(DataError, match="contradicts itself"):
        parse(idle(share, walls=False))


def test_a_clock_of_single_precision_rounds_short_latencies():
    """0.05 ms a query: published logs of 8.6 differ by 0.03 % there."""
    text = log_samples.trtexec("--onnx=net.onnx --shapes=image:8x3x4x4", gpu=0.05)
    copies = [line for line in text.splitlines() if "Latency" in line and "H2D" not in line and "D2H" not in line]

    assert parse(text.replace(copies[0], copies[0].replace("1.05 ms", "1.0502 ms")))[0].batch == 8


def test_a_paste_of_explanations_alone_is_called_so():
    with pytest.raises(DataError) as caught:
        parse("[11/01/2024-10:33:09] [V] === Explanations of the performance metrics ===\n[V] Throughput: in words\n")

    assert "there are only explanations" in caught.value.fact


def test_a_total_that_is_no_number_of_queries_is_told_with_both_figures():
    text = log_samples.trtexec_7().replace("time: 3 s", "time: 3.003 s")

    with pytest.raises(DataError, match=r"contradicts itself: 3\.003 s in queries of 4 ms are 750\.75 queries"):
        parse(text)


@pytest.mark.parametrize("least", ["0", "0.0", "0.000"])
def test_a_time_of_zero_in_the_block_of_an_old_trtexec_is_no_time(least):
    with pytest.raises(DataError, match=r":2: the log contradicts itself: a time of zero"):
        parse(log_samples.trtexec_7().replace("min: 3.9 ms", f"min: {least} ms"), batch=8)
