"""Compiling for Ascend: the command as published, the AIPP file, and every way in which the compiler can fail."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from ascend_tiny import NORMALIZE, cann, network, spec
from onnx import numpy_helper

from harness.backends.ascend import _atc
from harness.backends.base import Normalize, TensorSpec
from harness.errors import BuildError


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        sdk.work = tmp_path / "work"
        sdk.work.mkdir()
        sdk.onnx = network(tmp_path / "tiny.onnx")
        yield sdk


def header(engine):
    data = engine.read_bytes()
    length = int.from_bytes(data[40:44], "little")
    return json.loads(data[44 : 44 + length])


def flags(words):
    return dict(word[2:].split("=", 1) for word in words[1:])


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_published_retinaface_command_is_what_we_run():
    case = replace(
        spec(16),
        inputs=(TensorSpec("image", "float32", (-1, 3, 1000, 1000)),),
        outputs=("output2", "output1", "output0"),
        normalize=Normalize((104, 117, 123), (1, 1, 1), "BGR"),
        options={"out_nodes": ["Concat_205:0", "Softmax_206:0", "Concat_155:0"]},
    )
    published = {
        "framework": "5", "model": "retinaface.onnx", "input_shape": "image:16,3,1000,1000",
        "soc_version": "Ascend310P3", "output": "retinaface_bs16", "log": "error",
        "out_nodes": "Concat_205:0;Softmax_206:0;Concat_155:0", "enable_small_channel": "1",
        "insert_op_conf": "aipp.cfg",
    }  # fmt: skip

    ours = flags(_atc.command("atc", "retinaface.onnx", "retinaface_bs16", case))

    named = {"out_nodes": "output2;output1;output0"}  # the same three, by names that no exporter changes
    assert ours == {**published, **named, "input_format": "NCHW", "precision_mode": "force_fp16"}
    by_node = flags(_atc.command("atc", "retinaface.onnx", "retinaface_bs16", case, case.options["out_nodes"]))
    assert by_node == {**published, "input_format": "NCHW", "precision_mode": "force_fp16"}


@pytest.mark.parametrize(
    ("name", "shape", "soc"),
    [
        ("actual_input_1", (-1, 3, 224, 224), "Ascend310"),
        ("image", (-1, 3, 224, 224), "Ascend710"),
        ("input.1", (-1, 3, 800, 1216), "Ascend310P3"),
    ],
)
def test_the_other_published_commands_are_what_we_run(name, shape, soc):
    case = replace(spec(1), inputs=(TensorSpec(name, "float32", shape),), target=soc, options={"log": "debug"})

    ours = flags(_atc.command("atc", "m.onnx", "m", case))

    assert ours == {
        "framework": "5", "model": "m.onnx", "output": "m", "input_format": "NCHW", "log": "debug",
        "out_nodes": "features;class",
        "input_shape": "{}:1,{}".format(name, ",".join(map(str, shape[1:]))), "soc_version": soc,
        "precision_mode": "force_fp16",
    }  # fmt: skip


def test_batch_sizes_make_the_batch_dynamic_and_one_alone_does_not():
    several = flags(_atc.command("atc", "m.onnx", "m", spec(4, tiers=(8, 1, 4))))
    single = flags(_atc.command("atc", "m.onnx", "m", spec(4, tiers=(4,))))

    assert several["input_shape"] == "image:-1,3,8,8"
    assert several["dynamic_batch_size"] == "1,4,8"
    assert single["input_shape"] == "image:4,3,8,8"
    assert "dynamic_batch_size" not in single


def test_several_inputs_and_other_ranks_are_named_in_full():
    two = (TensorSpec("ids", "int64", (-1, 128)), TensorSpec("mask", "float32", (-1, 1, 128)))

    ours = flags(_atc.command("atc", "m.onnx", "m", replace(spec(2), inputs=two)))

    assert ours["input_shape"] == "ids:2,128;mask:2,1,128"
    assert ours["input_format"] == "ND"


# --- AIPP ----------------------------------------------------------------------------------------------------------


def test_the_aipp_file_computes_what_the_host_would():
    text = _atc.aipp(NORMALIZE, spec().inputs)
    values = {key: float(value) for key, value in re.findall(r"(\w+_chn_\d): (\S+)", text)}
    image = np.arange(256, dtype=np.float32)[:, None]
    mean, rest, scale = (
        np.array([values[f"{key}_chn_{channel}"] for channel in range(3)]) for key in ("mean", "min", "var_reci")
    )

    ours = (image - mean - np.float16(rest).astype(np.float64)) * np.float16(scale).astype(np.float64)

    wanted = (image - np.array(NORMALIZE.mean)) / np.array(NORMALIZE.std)
    assert np.abs(ours - wanted).max() < 2**-10 * np.abs(wanted).max()
    assert (mean == mean.astype(int)).all(), "mean_chn is a whole number"
    assert "rbuv_swap_switch: false" in text, "no backend swaps channels"
    assert "src_image_size_w: 8\n" in text
    assert "input_format: RGB888_U8" in text


def test_width_and_height_are_not_exchanged_in_the_aipp_file():
    text = _atc.aipp(NORMALIZE, (TensorSpec("image", "float32", (-1, 3, 800, 1216)),))

    assert "src_image_size_w: 1216\n" in text
    assert "src_image_size_h: 800\n" in text


@pytest.mark.parametrize(
    ("normalize", "inputs"),
    [
        (Normalize((0.485, 0.456), (1, 1), "RGB"), spec().inputs),
        (Normalize((-1, 0, 0), (1, 1, 1), "RGB"), spec().inputs),
        (Normalize((300, 0, 0), (1, 1, 1), "RGB"), spec().inputs),
        (Normalize((1, 1, 1), (1, 0, 1), "RGB"), spec().inputs),
        (NORMALIZE, (TensorSpec("a", "float32", (-1, 3, 8, 8)), TensorSpec("b", "float32", (-1, 3, 8, 8)))),
        (NORMALIZE, (TensorSpec("a", "float32", (-1, 128)),)),
        (NORMALIZE, (TensorSpec("a", "float32", (-1, 4, 8, 8)),)),
        (Normalize((1,) * 4, (1,) * 4, "RGB"), (TensorSpec("a", "float32", (-1, 4, 8, 8)),)),
        (Normalize((1, 1, 1), (1, 1), "RGB"), spec().inputs),
    ],
)
def test_a_normalisation_that_aipp_cannot_do_is_refused(normalize, inputs):
    with pytest.raises(BuildError):
        _atc.aipp(normalize, inputs)


# --- building ------------------------------------------------------------------------------------------------------


def test_the_engine_is_the_only_new_file_beside_its_log(sdk):
    for name in ("engine.om", "case.engine", "strange name+[1].engine"):
        engine = sdk.work / name
        _atc.build(sdk.onnx, engine, spec())

        assert sorted(path.name for path in sdk.work.iterdir()) == sorted([name, name + ".log"])
        assert header(engine)["soc"] == "Ascend310P3"
        assert "ATC run success" in (sdk.work / (name + ".log")).read_text()
        for path in sdk.work.iterdir():
            path.unlink()


def test_the_engine_has_the_batch_the_outputs_and_the_input_that_were_asked_for(sdk):
    case = spec(4, outputs=("class", "features"), tiers=(1, 4), normalize=NORMALIZE)
    _atc.build(sdk.onnx, sdk.work / "e.om", case)

    made = header(sdk.work / "e.om")

    assert made["tiers"] == [1, 4]
    assert made["inputs"][0] == {"name": "image", "dtype": "uint8", "dims": [-1, 8, 8, 3]}
    assert [output["tensor"] for output in made["outputs"]] == ["class", "features"]


@pytest.mark.parametrize("more", [{}, {"tiers": (1, 4)}, {"normalize": NORMALIZE}], ids=str)
def test_a_tuned_engine_is_compiled_with_what_aoe_learned(sdk, more):
    case = spec(4, tune=True, options={**spec().options, "device": 2}, **more)
    _atc.build(sdk.onnx, sdk.work / "e.om", case)

    assert header(sdk.work / "e.om")["tuned"] == ["opat", "sgat"]
    log = (sdk.work / "e.om.log").read_text()
    assert re.findall(r"--job_type=(\d)", log) == ["1", "2"], "subgraphs, then operators"
    assert "ATC run success" in log
    assert sorted(path.name for path in sdk.work.iterdir()) == ["e.om", "e.om.log"]


def test_an_engine_that_nobody_asked_to_tune_knows_nothing_of_it(sdk, monkeypatch):
    monkeypatch.delenv("TUNE_BANK_PATH", raising=False)
    _atc.build(sdk.onnx, sdk.work / "e.om", spec())

    assert header(sdk.work / "e.om")["tuned"] == []
    assert "aoe" not in (sdk.work / "e.om.log").read_text()
    assert "op_compiler_cache_mode" not in flags(_atc.command("atc", "m.onnx", "m", spec()))


@pytest.mark.parametrize(
    ("device", "fail", "said"), [(9, [], "there is no device 9"), (0, [["aoe", 1, 7]], "made to fail: 7")]
)
def test_aoe_that_fails_is_a_build_error_with_its_words(sdk, device, fail, said):
    sdk.switch(fail=fail)

    with pytest.raises(BuildError, match=f"(?s)aoe failed with status 1.*{said}") as caught:
        _atc.build(sdk.onnx, sdk.work / "e.om", spec(tune=True, options={**spec().options, "device": device}))

    assert "--job_type=1" in caught.value.hint
    assert list(sdk.work.iterdir()) == []


def test_without_aoe_the_error_says_what_to_do(sdk, monkeypatch, tmp_path):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "aoe" else which(name))

    with pytest.raises(BuildError, match="aoe is not on PATH, and --tune needs it") as caught:
        _atc.build(sdk.onnx, sdk.work / "e.om", spec(tune=True))
    assert "leave --tune out" in caught.value.hint


@pytest.mark.parametrize("mode", ["suffixed", "warns"])
def test_what_newer_compilers_do_is_understood(sdk, mode):
    sdk.switch(compiler=mode)

    _atc.build(sdk.onnx, sdk.work / "e.om", spec())

    assert (sdk.work / "e.om").stat().st_size > 100


@pytest.mark.parametrize("mode", ["no_file", "empty"])
def test_success_without_an_engine_is_an_error(sdk, mode):
    sdk.switch(compiler=mode)

    with pytest.raises(BuildError, match="reports success but left 0 engines"):
        _atc.build(sdk.onnx, sdk.work / "e.om", spec())

    assert not (sdk.work / "e.om").exists()


def test_several_engines_are_none(sdk, monkeypatch):
    """Which of them is the case's is not known."""

    def two(words, directory, environment):
        for name in ("engine.om", "engine_old.om"):
            (directory / name).write_bytes(b"engine")
        return 0, _atc.SUCCESS

    monkeypatch.setattr(_atc, "_run", two)

    with pytest.raises(BuildError, match="reports success but left 2 engines"):
        _atc.build(sdk.onnx, sdk.work / "e.om", spec())

    assert not (sdk.work / "e.om").exists()


@pytest.mark.parametrize(("mode", "status"), [("silent", 0), ("falls", 139)])
def test_an_engine_without_success_on_both_counts_is_not_taken(sdk, mode, status):
    sdk.switch(compiler=mode)

    with pytest.raises(BuildError, match=f"atc failed with status {status}"):
        _atc.build(sdk.onnx, sdk.work / "e.om", spec())

    assert not (sdk.work / "e.om").exists()


def test_an_engine_that_was_there_stays_when_the_build_fails(sdk):
    (sdk.work / "e.om").write_bytes(b"older")
    sdk.switch(fail=[["atc", 1, "E19999"]])

    with pytest.raises(BuildError):
        _atc.build(sdk.onnx, sdk.work / "e.om", spec())

    assert (sdk.work / "e.om").read_bytes() == b"older"
    assert sorted(path.name for path in sdk.work.iterdir()) == ["e.om", "e.om.log"]


# --- failing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "onnx", "code", "advice"),
    [
        (spec(target="Ascend999"), {}, "E10001", "not one this release"),
        (spec(target="ascend310p3"), {}, "E10001", "not one this release"),
        (spec(options={"log": "verbose"}), {}, "E10010", "see it again"),
        (replace(spec(), outputs=("gone",), options={"out_nodes": ["Conv_77:0"]}), {}, "E10016", "an output node"),
        (replace(spec(), outputs=("gone",), options={"out_nodes": ["Conv_0:3"]}), {}, "E11017", "fewer outputs"),
        (replace(spec(), outputs=("gone",), options={}), {}, "E10016", "an output node"),
        (replace(spec(), inputs=(TensorSpec("picture", "float32", (-1, 3, 8, 8)),)), {}, "E10016", "export"),
        (replace(spec(), inputs=(TensorSpec("image", "float32", (-1, 3, 0, 8)),)), {}, "E10011", "positive"),
        (
            replace(spec(), inputs=(TensorSpec("image", "float32", (-1, 3, -1, 8)),), tiers=(1, 4)),
            {},
            "E10018",
            "batch axis",
        ),
        (replace(spec(), inputs=(TensorSpec("image", "float32", (-1, 1, 8, 8)),)), {}, "E19025", "another shape"),
        (spec(), {"batch": 2}, "E19025", "another shape"),
        (spec(), {"opset": 19}, "E19010", "opset 11"),
        (spec(), {"opset": 9}, "E19010", "opset 11"),
        (spec(), {"domain": "com.custom"}, "E16005", "replace the operators of the other domain by ONNX's own"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_of_the_compiler_is_told_with_its_code_and_the_command(sdk, asked, onnx, code, advice):
    if onnx:
        network(sdk.onnx, **onnx)

    with pytest.raises(BuildError) as caught:
        _atc.build(sdk.onnx, sdk.work / "e.om", asked)

    assert f"atc failed with status 255: {code}" in caught.value.fact
    assert f"\n{code}: " in caught.value.fact, "the compiler's own words"
    assert advice in caught.value.hint
    assert str(sdk.onnx) in caught.value.hint
    assert [path.name for path in sdk.work.iterdir()] == ["e.om.log"]


def test_a_damaged_onnx_file_is_told(sdk):
    sdk.onnx.write_bytes(sdk.onnx.read_bytes()[:200])

    with pytest.raises(BuildError, match="E10041"):
        _atc.build(sdk.onnx, sdk.work / "e.om", spec())


def test_the_command_in_the_error_fails_again_in_a_shell_in_the_same_way(sdk):
    case = replace(spec(normalize=NORMALIZE), outputs=("gone",), options={"out_nodes": ["Conv_77:0"]})
    with pytest.raises(BuildError) as caught:
        _atc.build(sdk.onnx, sdk.work / "e.om", case)
    command = caught.value.hint.split("to see it again: ", 1)[1]

    again = subprocess.run(command, shell=True, cwd=sdk.work, capture_output=True, text=True, check=False)

    assert again.returncode == 255
    assert "E10016: Opname [Conv_77]" in again.stdout


def test_the_log_holds_a_command_that_builds_again(sdk):
    _atc.build(sdk.onnx, sdk.work / "e.om", spec(normalize=NORMALIZE))
    command = (sdk.work / "e.om.log").read_text().split("ATC start working", 1)[0]
    elsewhere = sdk.work / "elsewhere"
    elsewhere.mkdir()

    again = subprocess.run(command, shell=True, cwd=elsewhere, capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stdout
    assert (elsewhere / "engine.om").read_bytes() == (sdk.work / "e.om").read_bytes()
    assert shlex.split(command.splitlines()[-1])[0] == "atc"


@pytest.mark.parametrize(
    ("asked", "words", "hint"),
    [
        (spec(precision="int8"), "AMCT", "Ascend Model Compression Toolkit"),
        (spec(precision="fp32"), "FP16", "run fp16"),
        (spec(target=""), "soc_version", "npu-smi info"),
        (spec(3, tiers=(1, 4)), "batch 3 is none of the sizes", "add it"),
        (replace(spec(), inputs=()), "names no inputs", "inputs of the ONNX graph"),
    ],
)
def test_what_the_chip_does_not_offer_is_refused_before_the_compiler_runs(sdk, asked, words, hint):
    with pytest.raises(BuildError, match=words) as caught:
        _atc.build(sdk.onnx, sdk.work / "e.om", asked)

    assert hint in caught.value.hint
    assert list(sdk.work.iterdir()) == []


def test_without_the_compiler_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BuildError, match="atc is not on PATH") as caught:
        _atc.build(tmp_path / "m.onnx", tmp_path / "e.om", spec())

    assert "source" in caught.value.hint
    assert "set_env.sh" in caught.value.hint


def test_without_the_onnx_file_nothing_is_left_behind(sdk):
    with pytest.raises(BuildError, match="there is not an ONNX file"):
        _atc.build(sdk.work / "none.onnx", sdk.work / "e.om", spec())

    assert list(sdk.work.iterdir()) == []


def test_a_compiler_that_is_killed_is_told(sdk):
    sdk.switch(die=["atc", "SIGKILL"])

    with pytest.raises(BuildError, match="killed by signal 9"):
        _atc.build(sdk.onnx, sdk.work / "e.om", spec())

    assert [path.name for path in sdk.work.iterdir()] == ["e.om.log"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("ATC run failed, Please check the detail log\nE10016: Opname [x]\n", "E10016"),
        ("[ERROR] E40020: import failed\n", "E40020"),
        ("EZ3003: No supported Ops kernel\nE10001: later\n", "EZ3003"),
        ("Invalid_Argument(E10016): Opname [x]\n", "E10016"),
        ("Title(E10016): Opname [x]\n        Possible Cause: (E10001) is another\n", "E10016"),
        (
            "[PID: 10490] 2026-03-18-09:02:18.501.341 Invalid_Argument_Operator_Name(E10016): Opname [imag]\n"
            "        TraceBack (most recent call last):\n",
            "E10016",
        ),
        ("[PID: 7] 2026-03-18 09:02:18.501 Invalid_Argument(E10016): Opname [imag]\n", "E10016"),
        ("[ERROR] 2026-03-18-09:02:18.501.341 EZ9010: No parser\n", "EZ9010"),
        ("E19999: Inner Error!\n        TraceBack (most recent call last):\nE10016: Opname [x]\n", "E10016"),
        ("EZ9999: Inner Error!\n", "EZ9999"),
        ("as the manual says (E10016), see there\n", None),
        ("see E10016 in the manual\nERROR: unknown command line flag 'x'\n", None),
    ],
)
def test_the_code_that_says_most_is_found(said, code):
    assert _atc.error_code(said) == code


def test_a_compiler_without_the_driver_is_told_with_the_driver():
    """As users of containers published it; the loader's words carry no code."""
    said = (
        "atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared object file: No such file"
    )

    assert "map /usr/local/Ascend/driver" in _atc._failure(127, said, 0, "atc").hint
    assert "map /usr" not in _atc._failure(255, f"E10001: bad\n{said}", 0, "atc").hint


@pytest.mark.parametrize("messages", ["plain", "titled"])
def test_a_code_behind_a_title_gets_its_advice(sdk, messages):
    sdk.switch(atc_messages=messages)
    case = replace(spec(), inputs=(TensorSpec("picture", "float32", (-1, 3, 8, 8)),))

    with pytest.raises(BuildError, match="status 255: E10016") as caught:
        _atc.build(sdk.onnx, sdk.work / "e.om", case)

    assert "an input" in caught.value.hint


def test_nodes_without_names_are_no_hindrance(sdk):
    network(sdk.onnx, names=False)

    _atc.build(sdk.onnx, sdk.work / "e.om", spec())

    assert [output["tensor"] for output in header(sdk.work / "e.om")["outputs"]] == ["features", "class"]


def test_a_release_that_knows_no_tensor_names_is_told_the_nodes(sdk):
    sdk.switch(nodes_only=True)

    _atc.build(sdk.onnx, sdk.work / "e.om", spec(outputs=("class", "features")))

    assert [output["tensor"] for output in header(sdk.work / "e.om")["outputs"]] == ["class", "features"]
    assert "--out_nodes=Flatten_3:0;" in (sdk.work / "e.om.log").read_text().replace("'", "")


def test_a_tensor_name_that_out_nodes_would_take_apart_is_not_given():
    case = replace(spec(), outputs=("a:0", "b;1"), options={"out_nodes": ["Add_1:0", "Add_2:0"]})

    assert flags(_atc.command("atc", "m.onnx", "m", case))["out_nodes"] == "Add_1:0;Add_2:0"


# --- the operator compiler's Python --------------------------------------------------------------------------------


@pytest.fixture
def bare(sdk, tmp_path, monkeypatch):
    """A terminal whose first python3 has no packages, as the suite's own environment has no sympy for CANN."""
    folder = tmp_path / "bare"
    folder.mkdir()
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    sdk.switch(operator_compiler=["numpy", "onnx"])
    return sdk


def test_the_operator_compiler_runs_under_the_interpreter_of_the_sdk(bare):
    _atc.build(bare.onnx, bare.work / "e.om", spec())

    assert header(bare.work / "e.om")["soc"] == "Ascend310P3"


def test_an_interpreter_of_another_name_is_found_too(bare, tmp_path, monkeypatch):
    """CANN's images have /usr/local/python3.7/bin/python3.7; the python3 beside it may be none, or another."""
    folder = tmp_path / "python3.7"
    folder.mkdir()
    own = folder / "python3.7"
    own.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    own.chmod(0o755)
    (folder / "python3").symlink_to(tmp_path / "bare" / "python3")
    monkeypatch.setattr(_atc.sys, "executable", str(own))

    _atc.build(bare.onnx, bare.work / "e.om", spec())

    assert sorted(path.name for path in bare.work.iterdir()) == ["e.om", "e.om.log"]


def test_a_python_without_the_modules_is_told_with_the_modules(bare):
    bare.switch(operator_compiler=["no_such_module_of_te"])

    with pytest.raises(BuildError, match="E40020: Failed to import Python module") as caught:
        _atc.build(bare.onnx, bare.work / "e.om", spec())

    assert "pip install decorator sympy" in caught.value.hint


def test_the_names_in_an_engine_are_read_or_not_known(sdk, tmp_path):
    _atc.build(sdk.onnx, tmp_path / "e.om", spec())

    assert _atc.output_names(tmp_path / "e.om") == ["BatchNormalization_1:0:features", "Flatten_3:0:class"]
    (tmp_path / "no.om").write_bytes(b"no engine")
    assert _atc.output_names(tmp_path / "no.om") == []


@pytest.mark.parametrize(
    "held", ["", "[]", "{}", '{"attr": [{"key": "other"}]}', '{"attr": [{"key": "attr_model_out_nodes_name"}]}']
)
def test_a_description_of_another_form_tells_no_names(monkeypatch, tmp_path, held):
    atc = tmp_path / "atc"
    atc.write_text(f"#!/bin/sh\necho '{held}' > model.json\n")
    atc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + ":" + os.environ["PATH"])
    (tmp_path / "e.om").write_bytes(b"engine")

    assert _atc.output_names(tmp_path / "e.om") == []


def test_nodes_that_stay_in_fp32_are_named_in_a_file(sdk):
    conv = next(node.name for node in onnx.load(str(sdk.onnx)).graph.node if node.op_type == "Conv")
    weights = []
    for options in ({}, {"in_fp32": [conv]}):
        _atc.build(sdk.onnx, sdk.work / "e.om", spec(options=options))
        data = (sdk.work / "e.om").read_bytes()
        graph = onnx.load_from_string(data[44 + int.from_bytes(data[40:44], "little") :])
        fed = next(node.input[1] for node in graph.graph.node if node.name == conv)
        weights += [numpy_helper.to_array(value) for value in graph.graph.initializer if value.name == fed]
        log = (sdk.work / "e.om.log").read_text()

    assert np.array_equal(weights[0], weights[0].astype(np.float16))
    assert not np.array_equal(weights[1], weights[1].astype(np.float16)), "rounded to FP16 all the same"
    assert f"cat > keep.cfg <<'END'\n{conv}\nEND\natc " in log
    assert "--keep_dtype=keep.cfg" in log
    with pytest.raises(BuildError, match="E10003"):
        _atc.build(sdk.onnx, sdk.work / "e.om", spec(options={"in_fp32": ["gone"]}))


def test_a_user_may_ask_for_deterministic_operators(sdk):
    assert flags(_atc.command("atc", "m.onnx", "m", spec(options={"deterministic": "1"})))["deterministic"] == "1"
    assert "deterministic" not in flags(_atc.command("atc", "m.onnx", "m", spec()))
