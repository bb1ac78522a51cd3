"""The table of backends: every name is a module, plug-ins add rows, and compilers get the files that they need."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.backends import registry
from harness.backends.base import Device
from harness.backends.registry import BACKENDS, BackendRow
from harness.chips import CHIPS
from harness.errors import UsageError


def beside(version="", precision="fp16"):
    """What the suite would make beside the ONNX file, each by its name."""
    made = {
        name: lambda name=name: name for name in ("out_nodes", "out_specs", "torchscript", "rounded", "timing_cache")
    }
    return SimpleNamespace(version=version, precision=precision, device=Device(3, "chip"), **made)


def test_every_backend_of_a_chip_is_a_module():
    for chip in CHIPS.values():
        for backend in chip.backends:
            assert find_spec(registry.module_of(backend)) is not None, f"{chip.name} names {backend}"


def test_every_simulated_sdk_of_the_table_is_there():
    folders = [row.simulator_folder for row in BACKENDS.values() if row.simulator]

    assert folders
    assert all(folder.is_dir() for folder in folders)
    assert BACKENDS["ort"].simulator_folder is None


def test_what_compiles_for_one_batch_alone_promises_no_others():
    assert {row.name for row in BACKENDS.values() if not row.tiers} == {"qnn_htp", "rknn"}
    assert not BackendRow("plug-in", "acme.backend").tiers, "an older plug-in does not look at spec.tiers"


@pytest.mark.parametrize(
    ("version", "precision", "wanted"),
    [
        ("TensorRT 10.3.0, driver 550", "fp16", set()),
        ("TensorRT 11.0.0, driver 610", "fp16", {"onnx_fp16"}),
        ("TensorRT 12.1.0, driver 700", "int8", {"onnx_int8"}),
        ("TensorRT 12.1.0, driver 700", "fp32", set()),
        ("TensorRT 8.6.1", "int8", set()),
    ],
)
def test_tensorrt_from_11_on_takes_precision_from_the_graph(version, precision, wanted):
    options = BACKENDS["trt"].needs(beside(version, precision))

    assert set(options) == {"device", "timing_cache"} | wanted
    assert options["device"] == 3
    assert all(options[name] == "rounded" for name in wanted)


@pytest.mark.parametrize(
    ("backend", "wanted"),
    [
        ("acl", {"out_nodes", "out_specs", "device"}), ("ais_bench", {"out_nodes", "out_specs", "device"}),
        ("msame", {"out_nodes", "out_specs", "device"}), ("torch_cuda", {"torchscript"}), ("magicmind", {"device"}),
        ("ort", set()), ("openvino", set()),
        ("qnn_htp", set()), ("rknn", set()),
    ],
)  # fmt: skip
def test_each_backend_is_given_what_it_needs_and_nothing_else(backend, wanted):
    assert set(BACKENDS[backend].needs(beside())) == wanted


@pytest.mark.parametrize(
    ("backend", "target", "told"),
    [
        ("acl", "Ascend310P3", "aoe, subgraphs, then operators"),
        ("trt", "sm_75", "builder optimisation level 5"),
        ("openvino", "NPU", "NPU_COMPILATION_MODE_PARAMS optimization-level=2"),
        ("openvino", "CPU", ""),
        ("ort", "cpu", ""),
    ],
)
def test_a_row_tells_how_its_compiler_tunes(backend, target, told):
    assert BACKENDS[backend].tunes(Device(0, "chip", target=target)) == told


def test_what_is_of_no_key_is_among_the_options():
    for row in BACKENDS.values():
        assert set(row.unkeyed) <= set(row.needs(beside("TensorRT 11.0"))), f"{row.name}: an option that is not given"


def test_a_name_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="there is no backend aisbench") as raised:
        registry.backend("aisbench")
    assert "ais_bench" in raised.value.hint


def test_a_dotted_name_is_a_module_of_its_own():
    row = registry.backend("lab.chips.runner")

    assert (row.module, row.simulator_folder, dict(row.needs(beside()))) == ("lab.chips.runner", None, {})


def test_an_interpreter_is_that_of_the_chip_before_that_of_all():
    given = registry.pythons([f"rk3588={sys.executable}", "sh", "cat", "rk3588=ls"], CHIPS)

    assert (given.of("rk3588"), given.of("t4")) == ("ls", "cat")  # of two the last
    assert given.options("rk3588") == ["--sdk-python=rk3588=ls"]
    assert given.options("t4") == ["--sdk-python=cat"]
    assert registry.Pythons().options("t4") == []


def test_a_path_with_an_equals_sign_is_a_path(tmp_path):
    program = tmp_path / "a=b"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    assert registry.pythons([str(program)], CHIPS) == registry.Pythons(str(program))


def test_the_backend_of_the_cpu_runs_in_the_suites_python_unless_the_chip_is_named():
    given = registry.Pythons("/a/python", {"cpu": "/another/python"})

    assert BACKENDS["trt"].python(given, "t4") == "/a/python"
    assert BACKENDS["ort"].python(registry.Pythons("/a/python"), "cpu") == sys.executable
    assert BACKENDS["ort"].python(given, "cpu") == "/another/python"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("rk3589=sh", "--sdk-python rk3589=sh: no such chip"),
        ("rk3588=/no/such", "rk3588=/no/such: no such program"),
        ("rk3588=", "rk3588=: no such program"),
        ("/no/such", "--sdk-python /no/such: no such program"),
    ],
)
def test_an_interpreter_that_is_none_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        registry.pythons([given], CHIPS)


def test_settings_are_those_of_the_chip_before_those_of_all():
    given = registry.backend_options(["threads=2", "cpu:threads=4", "cpu:method=Entropy", "threads=3"], CHIPS)

    assert (given.of("cpu"), given.of("t4")) == ({"threads": "4", "method": "Entropy"}, {"threads": "3"})


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ("threads", "no key and value", "KEY=VALUE"),
        ("cpu:=3", "no key and value", "KEY=VALUE"),
        ("cqu:threads=3", "cqu:threads=3: no such chip", "ascend310"),
        (":threads=3", "no such chip", "ascend310"),
        ("thread=3", "no backend knows thread", "algorithm, clusters, config"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(given, said, hint):
    with pytest.raises(UsageError, match=said) as raised:
        registry.backend_options([given], CHIPS)
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("backend", "given", "value"),
    [
        ("openvino", {"streams": "4", "preset": "MIXED"}, {"streams": 4, "preset": "MIXED"}),
        (
            "magicmind",
            {"clusters": "2,8", "config": '{"a": {"b": 1}}'},
            {"clusters": [2, 8], "config": {"a": {"b": 1}}},
        ),
        ("acl", {"precision_mode": "allow_mix_precision"}, {"precision_mode": "allow_mix_precision"}),
        ("trt", {"in_fp32": "/a/Conv, /b/Add"}, {"in_fp32": ["/a/Conv", "/b/Add"]}),
    ],
)
def test_settings_are_read_as_the_backend_takes_them(backend, given, value):
    assert BACKENDS[backend].read_settings(given) == value


@pytest.mark.parametrize(
    ("backend", "key", "value", "hint"),
    [
        ("ort", "threads", "0", "a whole number from 1"),
        ("ort", "threads", "1e3", "a whole number from 1"),
        ("ort", "method", "minmax", "one of MinMax, Entropy"),
        ("magicmind", "clusters", "2,", "whole numbers from 1, separated by commas"),
        ("trt", "in_fp32", "/a/Conv,", "names, separated by commas"),
        ("magicmind", "config", "[1]", "an object in JSON"),
        ("magicmind", "config", "[" * 100_000, "an object in JSON"),
    ],
)
def test_a_value_that_the_backend_does_not_take_is_refused(backend, key, value, hint):
    with pytest.raises(UsageError, match=f"--backend-option {key}=") as raised:
        BACKENDS[backend].read_settings({key: value})
    assert hint in raised.value.hint


def test_a_backend_without_settings_says_so():
    with pytest.raises(UsageError, match=r"lab\.runner has no option threads") as raised:
        registry.backend("lab.runner").read_settings({"threads": "1"})
    assert "known: none" in raised.value.hint


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_keys_of_every_backend_are_in_the_readme(page):
    text = (Path(__file__).parents[3] / page).read_text(encoding="utf-8")
    for row in BACKENDS.values():
        for key in row.settings:
            assert re.search(rf"^\| .*`{row.name}`.*\|.*`{key}`", text, re.MULTILINE), f"{row.name}: {key}"


def test_no_key_of_a_user_is_one_that_the_suite_sets():
    for row in BACKENDS.values():
        assert not set(row.settings) & set(row.needs(beside("TensorRT 11.0")))


def points(*rows):
    return lambda group: [SimpleNamespace(value=f"lab:{i}", load=lambda row=row: row) for i, row in enumerate(rows)]


def test_an_installed_package_adds_a_row(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", points(BackendRow("lab", "lab.runner")))

    assert registry.with_plugins(BACKENDS, "chipproof.backends", BackendRow)["lab"].module == "lab.runner"


@pytest.mark.parametrize(
    ("row", "said"), [("lab", "is a str"), (BackendRow("ort", "lab.runner"), "adds ort, which exists already")]
)
def test_a_row_that_is_none_or_takes_a_name_that_exists_is_refused(monkeypatch, row, said):
    monkeypatch.setattr(registry, "entry_points", points(row))

    with pytest.raises(UsageError, match=said):
        registry.with_plugins(BACKENDS, "chipproof.backends", BackendRow)


def test_equal_bits_are_promised_by_tensorrt_and_by_atc_where_it_is_asked():
    promised = {row.name: (row.same_bytes({}), row.same_bytes({"deterministic": "1"})) for row in BACKENDS.values()}

    said = "ATC with --deterministic=1"
    assert {name: told for name, told in promised.items() if any(told)} == {
        "trt": ("TensorRT", "TensorRT"), **dict.fromkeys(("acl", "ais_bench", "msame"), ("", said)),
    }  # fmt: skip
    assert BACKENDS["acl"].same_bytes({"deterministic": "0"}) == ""
