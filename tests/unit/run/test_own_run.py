"""A user's file on a chip: its cases, its engine, and a whole run through pytest."""

import json
import subprocess
import sys

import inside
import numpy as np
import own_models
import pytest
import warm
from onnx import numpy_helper

from harness import baselines
from harness.backends.base import Device
from harness.case import Case, Precision
from harness.errors import BuildError
from harness.export import own
from harness.reference import exact
from harness.run.context import RunContext
from harness.run.devices import Presence
from harness.run.own_run import OwnEngine, OwnRun, cases
from harness.run.settings import Settings
from harness.store import Store
from tests.session import ROOT


@pytest.fixture
def run(monkeypatch, capfd):
    """Call pytest on the conformance tests; returns how it ended and the records in tmp_path/results."""

    def within(tmp_path, *options, **environment):
        warm.instead(monkeypatch, warm.LIGHT)
        given = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results"), *options]
        done = inside.conformance(monkeypatch, capfd, *given, **environment)
        return done, records_in(tmp_path / "results")

    return within


def records_in(results):
    lines = [json.loads(line) for path in results.glob("*.jsonl")
             for line in path.read_text(encoding="utf-8").splitlines()]  # fmt: skip
    return [line for line in lines if line.get("kind") == "record" or "outcome" in line]


def read(make, tmp_path):
    return own.read(own_models.save(make, tmp_path / "m.onnx"))


def test_a_free_batch_is_run_at_every_batch_of_the_chip(tmp_path):
    found = cases(read(own_models.dense, tmp_path))

    assert [c.batch for c in found if c.chip == "ascend310p"] == [1, 4, 8, 16, 32, 64]
    assert all(c.precision is not Precision.INT8 for c in found)


def test_a_fixed_shape_is_run_once(tmp_path):
    assert {c.batch for c in cases(read(own_models.TESTED["no_batch_axis"], tmp_path))} == {1}


@pytest.mark.slow
def test_a_process_of_its_own_runs_a_file_whose_output_has_no_batch(tmp_path):
    file = own_models.save(own_models.table_beside, tmp_path / "m.onnx")
    given = ["-m", "cpu and fp32 and bs4 and numerics", "-k", "outputs_are", f"--onnx={file}", "--results", tmp_path]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--cache", tmp_path / "cache", *given]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert set(outcomes(records_in(tmp_path)).values()) == {"PASS"}, done.stdout


def test_int8_is_run_where_the_user_gave_rows(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((8, 8), np.float32))
    file = own_models.save(own_models.dense, tmp_path / "m.onnx")

    found = cases(own.read(file, {"x": str(tmp_path / "rows.npy")}))

    assert {c.chip for c in found if c.precision is Precision.INT8} >= {"cpu", "t4", "mlu370_s4", "rk3588"}
    assert [c.batch for c in found if (c.chip, c.precision) == ("mlu370_s4", Precision.INT8)] == [1, 4, 8]


def test_int8_without_rows_is_refused_with_what_to_give(tmp_path):
    context = RunContext(Settings(Store(tmp_path), baselines.load()))
    engine = OwnEngine(context, Case.parse("own_m-cpu-int8-bs1"), read(own_models.dense, tmp_path))
    vars(engine)["present"] = Presence("ort", "1", (Device(0, "CPU"),), "")

    with pytest.raises(BuildError, match=r"INT8 of m\.onnx cannot be calibrated: no rows are given for x") as raised:
        engine.plain_spec()
    assert "8 or more" in raised.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["cpu", "t4", "mlu370_s4"])
@pytest.mark.parametrize(("scale", "outcome"), [(1.0, "PASS"), (0.01, "FAIL")])
def test_int8_is_judged_on_rows_that_it_was_not_calibrated_on(chip, scale, outcome, tmp_path, run):
    """Ranges of rows that are a hundred times smaller clip all others."""
    rows = np.random.default_rng(0).normal(1, 3, (16, 3, 16, 16)).astype(np.float32)
    rows[1::2] *= scale
    np.save(tmp_path / "rows.npy", rows)
    file = own_models.save(own_models.image, tmp_path / "m.onnx")
    given = [f"--onnx={file}", f"--onnx-input=x={tmp_path / 'rows.npy'}", "--simulate"]

    done, records = run(tmp_path, "-m", f"{chip} and int8 and bs1 and numerics", "-k", "outputs_are", *given)
    (record,) = [line for line in records if line.get("stage") == "numerics"]

    assert record["outcome"] == outcome, done.stdout
    assert record["facts"]["calibration"] == "8 rows of --onnx-input, none of them judged"


@pytest.mark.slow
def test_int8_that_is_left_out_is_told_with_the_reason_where_rows_were_given(tmp_path, run):
    np.save(tmp_path / "rows.npy", np.ones((8, 3), np.float32))
    file = own_models.save(own_models.two_inputs, tmp_path / "m.onnx")

    done, _ = run(
        tmp_path, "-m", "cpu and int8", "--collect-only", f"--onnx={file}", f"--onnx-input=a={tmp_path / 'rows.npy'}"
    )

    assert (
        "m.onnx: INT8 is not tested, no rows are given for b; give 8 or more for each input"
        in done.stdout + done.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["cpu", "t4", "mlu370_s4"])
@pytest.mark.parametrize("make", ["two_inputs", "fixed"])
def test_int8_of_several_inputs_and_of_a_fixed_shape_is_judged(chip, make, tmp_path, run):
    draw, given = np.random.default_rng(0), []
    shapes = {"two_inputs": {"a": (16, 3), "b": (16, 5)}, "fixed": {"x": (16, 4, 8)}}[make]
    for name, shape in shapes.items():
        np.save(tmp_path / f"{name}.npy", draw.normal(1, 3, shape).astype(np.float32))
        given.append(f"--onnx-input={name}={tmp_path / f'{name}.npy'}")
    file = own_models.save(own_models.TESTED[make], tmp_path / "m.onnx")

    done, records = run(tmp_path, "-m", f"{chip} and int8 and bs1 and numerics", "-k", "outputs_are",
                        f"--onnx={file}", *given, "--simulate")  # fmt: skip
    (record,) = [line for line in records if line.get("stage") == "numerics"]

    assert record["outcome"] == "PASS", done.stdout
    assert record["facts"]["calibration"] == "8 rows of --onnx-input, none of them judged"


def outcomes(records):
    return {(line["case"], line["metric"]): line["outcome"] for line in records if line.get("stage") == "numerics"}


@pytest.mark.slow
def test_files_of_many_shapes_are_right_on_the_cpu(tmp_path, run):
    files = [own_models.save(make, tmp_path / f"{name}.onnx") for name, make in own_models.TESTED.items()]

    done, records = run(tmp_path, "-m", "cpu and numerics", *(f"--onnx={file}" for file in files))

    assert done.returncode == 0, done.stdout + done.stderr
    assert {case.split("-")[0] for case, _ in outcomes(records)} == {f"own_{name}" for name in own_models.TESTED}
    assert set(outcomes(records).values()) == {"PASS"}


@pytest.mark.slow
def test_what_the_user_sets_is_on_record_and_a_key_of_another_backend_is_refused(tmp_path, run):
    file = own_models.save(own_models.dense, tmp_path / "m.onnx")
    options = ("-m", "cpu and fp32 and bs1 and numerics", "-k", "outputs_are", f"--onnx={file}")

    done, records = run(tmp_path, *options, "--backend-option=cpu:threads=1", "--backend-option=rk3588:algorithm=mmse")
    (record,) = [line for line in records if line.get("stage") == "numerics"]
    (path,) = (tmp_path / "results").glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    (key,) = [line["key"] for line in lines if line.get("kind") == "engine"]

    assert done.returncode == 0, done.stdout + done.stderr
    assert record["facts"]["backend_options"] == {"threads": 1}
    assert key["spec"]["options"] == {"threads": 1}

    python = f"--sdk-python=cpu={sys.executable}"
    done, records = run(tmp_path / "b", *options, "--backend-option=streams=2", python)
    (record,) = [line for line in records if line.get("stage") == "numerics"]

    assert record["outcome"] == "ERROR", done.stdout
    assert "the backend ort has no option streams" in done.stdout
    assert "known: threads, in_fp32, method" in done.stdout
    for command in ("again", "diagnose"):
        assert "--backend-option=streams=2" in record["facts"][command]
        assert python in record["facts"][command]


@pytest.mark.slow
def test_throughput_is_measured_and_verified_on_the_cpu(tmp_path, run):
    file = own_models.save(own_models.image, tmp_path / "image.onnx")

    done, records = run(tmp_path, "-m", "cpu and fp32 and bs1", f"--onnx={file}", "--patience=0")
    (speed,) = [line for line in records if line.get("stage") == "throughput"]

    assert speed["outcome"] in ("PASS", "INVALID"), done.stdout  # INVALID: another program was busy
    assert speed["values"].get("measured", 0) > 0 or "% busy" in speed["text"], speed


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["ascend310p", "mlu370_s4", "t4"])
def test_a_simulated_chip_runs_it(chip, tmp_path, run):
    names = ("image", "two_inputs", "beside_the_batch")
    files = [own_models.save(getattr(own_models, name), tmp_path / f"{name}.onnx") for name in names]
    given = ["-m", f"{chip} and numerics and bs4 and fp16", "--simulate", *(f"--onnx={file}" for file in files)]

    done, records = run(tmp_path, *given)

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(outcomes(records)) == 8, "the rows of the third are not apart"
    assert set(outcomes(records).values()) == {"PASS"}


@pytest.mark.slow
@pytest.mark.parametrize(("chip", "said"), [
    ("ascend310p", "output y float32[0] is empty, or its shape depends on the data"),
    ("t4", "the shape of y depends on the data: (-1,)"), ("mlu370_s4", "y came back as float32 ("),
])  # fmt: skip
def test_an_output_whose_shape_depends_on_the_data_is_refused_for_that(chip, said, tmp_path, run):
    file = own_models.save(lambda: own_models.as_many_as_there_are(more=False), tmp_path / "m.onnx")

    done, records = run(tmp_path, "-m", f"{chip} and numerics and bs4 and fp32 or {chip} and numerics and bs4 and fp16",
                        "-k", "outputs_are", "--simulate", f"--onnx={file}")  # fmt: skip

    assert {line["outcome"] for line in records if line.get("stage") == "numerics"} == {"ERROR"}
    assert said in " ".join(done.stdout.split()), done.stdout


def unstable():
    """2^13 is added and subtracted: FP32 loses the digits below 2^-10, whatever the chip."""
    far = numpy_helper.from_array(np.float32(2**13), "far")
    return own_models.file(
        [own_models.node("Conv", ["x", "w"], ["h"]), own_models.node("Add", ["h", "far"], ["g"]),
         own_models.node("Sub", ["g", "far"], ["y"])],
        [own_models.info("x", own_models.F, ("n", 3, 6, 6))], [own_models.info("y", own_models.F, ("n", 4, 4, 4))],
        [own_models.weight("w", 4, 3, 3, 3), far],
    )  # fmt: skip


def local():
    shape = ("n", 3, 2, 2)
    return own_models.file([own_models.node("LRN", ["x"], ["y"], size=3)], [own_models.info("x", shape=shape)],
                           [own_models.info("y", shape=shape)])  # fmt: skip


def test_the_reference_is_in_fp64_is_kept_and_says_where_it_cannot_be(tmp_path, monkeypatch):
    asked = []
    real = exact.outputs
    monkeypatch.setattr(exact, "outputs", lambda *given, **more: asked.append(given) or real(*given, **more))

    def case_run(make, case, **settings):
        context = RunContext(Settings(Store(tmp_path / "cache"), baselines.load(), **settings))
        return OwnRun(context, Case.parse(case), model=read(make, tmp_path))

    first = case_run(unstable, "own_m-cpu-fp32-bs4")
    again = case_run(unstable, "own_m-cpu-fp32-bs4")
    x = first.inputs()["x"].astype(np.float64)
    w = numpy_helper.to_array(unstable().graph.initializer[0])

    wanted = sum(
        np.einsum("nchw,oc->nohw", x[:, :, i : i + 4, j : j + 4], w[:, :, i, j]) for i in range(3) for j in range(3)
    )
    np.testing.assert_allclose(first.wanted["y"], wanted, atol=1e-11)
    assert np.array_equal(first.wanted["y"], again.wanted["y"])
    assert len(asked) == 1
    assert np.abs(first.plain["y"] - wanted).max() > 1e-4

    verdict = first.judged(first.plain)
    assert verdict.outcome == "PASS"
    assert verdict.details["units"] == pytest.approx(1)
    assert verdict.details["reference"] == "FP64 reference"
    assert first.judged({"y": np.float32(np.float16(first.plain["y"]))}).outcome == "PASS", "2^-10 is what FP16 has too"
    assert first.judged({"y": first.plain["y"] * np.float32(1.02)}).outcome == "FAIL"

    other = case_run(local, "own_m-cpu-fp32-bs1")
    told = "reference in the file's own data types: ONNX Runtime has no FP64 kernel of LRN"
    assert other.judged(other.plain).text.endswith(told)
    assert "units" not in other.judged(other.plain).details
    quick = case_run(unstable, "own_m-cpu-fp32-bs1", exact=False)
    assert quick.judged(quick.plain).details["reference"].endswith("the tier quick does not compute in FP64")


def test_why_there_is_no_fp64_is_found_out_once(tmp_path, monkeypatch):
    """It may take a minute a batch to find that FP64 takes longer than that."""
    asked = []

    def slow(*given, **more):
        asked.append(more)
        raise exact.NotExact("FP64 takes longer than 60 s at this batch")

    monkeypatch.setattr(exact, "outputs", slow)
    for _ in range(2):
        context = RunContext(Settings(Store(tmp_path / "cache"), baselines.load()))
        case_run = OwnRun(context, Case.parse("own_m-cpu-fp16-bs4"), model=read(own_models.dense, tmp_path))
        told = case_run.judged(case_run.plain).details["reference"]

    assert told == "reference in the file's own data types: FP64 takes longer than 60 s at this batch"
    assert len(asked) == 1


def test_the_units_at_fp16_are_those_of_fp16(tmp_path):
    context = RunContext(Settings(Store(tmp_path / "cache"), baselines.load()))
    case_run = OwnRun(context, Case.parse("own_m-cpu-fp16-bs4"), model=read(own_models.image, tmp_path))

    chip = {name: value.astype(np.float32) for name, value in case_run.rounded.items()}

    assert case_run.judged(chip).details["units"] == pytest.approx(1, abs=0.01)
    finer = case_run.judged(case_run.plain)
    assert (finer.outcome, finer.details["units"] < 0.01) == ("INVALID", True)
    assert "the engine computes in a higher precision than fp16" in finer.text


def test_a_file_without_products_may_be_as_exact_as_fp32(tmp_path):
    context = RunContext(Settings(Store(tmp_path / "cache"), baselines.load()))
    file = read(own_models.TESTED["no_dropout"], tmp_path)
    case_run = OwnRun(context, Case.parse("own_m-cpu-fp16-bs4"), model=file)

    verdict = case_run.judged(case_run.plain)

    assert (verdict.outcome, verdict.details["units"] < 0.01) == ("PASS", True)


def offset():
    """A product, a large offset, and its mean taken away again: in FP16 the sum loses more than the product."""
    return own_models.file(
        [own_models.node("MatMul", ["x", "w"], ["h"]), own_models.node("Add", ["h", "b"], ["s"]),
         own_models.node("ReduceMean", ["s"], ["m"], axes=[1]), own_models.node("Sub", ["s", "m"], ["y"])],
        [own_models.info("x")], [own_models.info("y", shape=("batch", 4))],
        [own_models.weight("w", 8, 4), numpy_helper.from_array(np.full(4, 1e4, np.float32), "b")],
    )  # fmt: skip


def test_an_engine_that_keeps_sums_in_fp32_is_not_taken_for_one_of_a_higher_precision(tmp_path):
    context = RunContext(Settings(Store(tmp_path / "cache"), baselines.load()))
    case_run = OwnRun(context, Case.parse("own_m-cpu-fp16-bs4"), model=read(offset, tmp_path))
    products, _ = context.references.exact(case_run.own, case_run.inputs(), Precision.FP16, products_only=True)

    mixed, finer = case_run.judged(products), case_run.judged(case_run.wanted)

    assert (mixed.outcome, mixed.details["units"] < 0.05) == ("PASS", True)
    assert finer.outcome == "INVALID"


def odd():
    return own_models.file(
        [own_models.node("MatMul", ["x", "w"], ["h"]), own_models.node("BitShift", ["n", "n"], ["m"], direction="LEFT"),
         own_models.node("Relu", ["h"], ["y"])],
        [own_models.info("x"), own_models.info("n", own_models.U8, ("batch", 2))],
        [own_models.info("y", shape=("batch", 4)), own_models.info("m", own_models.U8, ("batch", 2))],
        [own_models.weight("w", 8, 4)],
    )  # fmt: skip


UNLISTED = "BitShift (node BitShift_m): not in the list of TensorRT 10.15"


@pytest.mark.slow
def test_what_the_makers_list_lacks_is_named_before_the_compiler_is_asked(tmp_path, run):
    file = own_models.save(odd, tmp_path / "odd.onnx")

    done, records = run(tmp_path, "-m", "t4 and fp32 and bs1 and numerics", "--simulate", f"--onnx={file}")
    facts = [line["facts"] for line in records if line.get("stage") == "numerics"]

    assert done.stderr.count(f"odd.onnx on t4: {UNLISTED}") == 1, done.stdout + done.stderr
    assert facts
    assert all(fact["unlisted_operators"].startswith(UNLISTED) for fact in facts)


@pytest.mark.parametrize(("make", "lacks"), [(odd, True), (own_models.dense, False)])
def test_what_the_makers_list_lacks_is_in_the_error_of_the_compiler(make, lacks, tmp_path, monkeypatch):
    told = []
    context = RunContext(Settings(Store(tmp_path), baselines.load(), tell=told.append))
    engine = OwnEngine(context, Case.parse("own_m-t4-fp32-bs1"), read(make, tmp_path))
    vars(engine)["present"] = Presence("trt", "TensorRT 10.3", (Device(0, "T4"),), "")

    class Refuses:
        def build(self, onnx, path, spec):
            assert bool(told) is lacks
            raise BuildError("parse failed", hint="-")

    for _ in range(2):
        with pytest.raises(BuildError) as raised:
            engine.built(Refuses(), engine.variant)

    assert raised.value.fact.startswith("parse failed; " + UNLISTED if lacks else "parse failed")
    assert len(told) == lacks


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["drop_rows", "swap_outputs", "nan"])
def test_a_chip_that_computes_wrongly_fails(fault, tmp_path, run):
    file = own_models.save(own_models.two_alike, tmp_path / "m.onnx")
    given = ["-m", "ascend310p and numerics and bs4", "--simulate", f"--onnx={file}"]

    done, records = run(tmp_path, *given, CHIPPROOF_SIM=json.dumps({fault: True}))

    assert done.returncode == 1, done.stdout
    assert outcomes(records)["own_m-ascend310p-fp16-bs4", ""] == "FAIL"
    assert "INVALID" not in outcomes(records).values(), "the reference is not to blame"
    (record,) = [line for line in records if line.get("case") == "own_m-ascend310p-fp16-bs4"
                 and line.get("stage") == "numerics" and not line["metric"]]  # fmt: skip
    told = record["facts"]["first_layer"]["text"]
    assert record["text"].startswith(told)
    assert told.startswith({"swap_outputs": "first to differ: y (MatMul MatMul_y)"}.get(fault, "first to differ: "))
    assert "".join(told.split())[:30] in "".join(done.stdout.split()), "the failure itself names it"


@pytest.mark.slow
def test_a_file_that_cannot_be_tested_ends_the_run_with_the_reason(tmp_path, run):
    file = own_models.save(own_models.free_length, tmp_path / "m.onnx")

    done, _ = run(tmp_path, "-m", "cpu", f"--onnx={file}")

    assert done.returncode == 4
    assert "axis 1 of input x is free (tokens)" in done.stderr
    assert "make_dynamic_shape_fixed" in done.stderr
