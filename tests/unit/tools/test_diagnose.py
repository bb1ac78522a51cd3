"""chipproof diagnose names the layer, or the mistake, that a compiler made."""

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import onnx
import own_models
import pytest
import warm
from diagnose_tiny import PROTOCOL, SIDE, Tampering, normalized, tampered

from harness import baselines, matrix
from harness.chips import CHIPS
from harness.datasets import scenes
from harness.diagnose import mistakes
from harness.models import MODELS
from harness.models.base import Frame, Prepared
from harness.report.causes import PASSED_ON, SWITCHES
from harness.run.artefacts import ResolvedWeights
from harness.run.context import RunContext
from harness.run.settings import Settings
from harness.store import Store
from tests.session import DIAGNOSED
from tools import cli


@pytest.fixture(autouse=True)
def warm_workers(monkeypatch):
    """No test is about how Python starts."""
    warm.instead(monkeypatch, warm.LIGHT)


def tiny_network():
    from torch import nn

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(3, 8, 3, stride=2)
            self.two = nn.Conv2d(8, 8, 3, stride=2)
            self.three = nn.Conv2d(8, 4, 3, stride=2)

        def forward(self, x):
            return (self.three(self.two(self.one(x).relu()).relu()).flatten(1),)

    return Tiny()


def preprocess_tiny(image, raw):
    pixels = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., ::-1]
    frame = Frame(image.shape[1], image.shape[0], (SIDE / image.shape[1], SIDE / image.shape[0]))
    return Prepared(np.ascontiguousarray(pixels) if raw else normalized(pixels.transpose(2, 0, 1)), frame)


TINY = replace(
    MODELS["regnety_016"], name="tiny", outputs=("class",), network=tiny_network,
    protocols=(replace(PROTOCOL, chips=("cpu",), normalized_by_chip=("cpu",), preprocess=preprocess_tiny),),
)  # fmt: skip


@pytest.fixture
def diagnose(tmp_path, monkeypatch, capsys):
    """Runs the command on the tiny model with a compiler that makes the given mistake: (exit status, output)."""
    import torch

    torch.manual_seed(0)
    state = tiny_network().state_dict()

    def run(*options, graph_of=lambda model: model, spec_of=lambda spec: spec, precision="fp32", times=()):
        torch.save({name: value * dict(times).get(name, 1) for name, value in state.items()}, tmp_path / "tiny.pt")

        class Small(RunContext):
            def worker(self, chip, backend, who=""):
                return Tampering(super().worker(chip, backend, who), graph_of, spec_of)

        small = Small(Settings(Store(tmp_path / "cache"), baselines.load()))
        small._datasets["tiny"] = scenes.dataset("classes", 2)
        small.references._weights["tiny"] = ResolvedWeights(tmp_path / "tiny.pt", "0" * 64, True, "seeded")
        monkeypatch.setattr("tools.diagnose.suite", lambda *arguments, **options: small)
        monkeypatch.setattr(matrix, "models", lambda: {"tiny": TINY})
        with pytest.raises(SystemExit) as ended:
            cli.main(["diagnose", f"tiny-cpu-{precision}-bs2", *options])
        return ended.value.code, capsys.readouterr().out

    return run


def test_a_red_test_gives_diagnose_every_option_that_both_know():
    taken = {option.name for option in cli.app("diagnose").commands["diagnose"].params}
    passed_on = {*PASSED_ON, *SWITCHES}

    assert taken & passed_on == {*DIAGNOSED, "sdk_python", "onnx", "onnx_input"}


def test_rows_of_the_policy_may_be_about_the_case_of_a_users_file(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(RunContext, "worker", lambda self, chip, backend: asked.append(self.settings) or 1 / 0)
    (tmp_path / "lab.toml").write_text('[[observe]]\ncase = "*-cpu-fp32-bs7"\nstage = "*"\nreason = "x"\n')
    path = own_models.save(own_models.dense, tmp_path / "lane.onnx")

    with pytest.raises(SystemExit):
        cli.main(["diagnose", "own_lane-cpu-fp32-bs7", f"--onnx={path}", f"--policy={tmp_path / 'lab.toml'}",
                  f"--cache={tmp_path}"])  # fmt: skip

    assert [row.case for row in asked[0].policy.observed] == ["*-cpu-fp32-bs7"]


def test_the_command_finds_nothing_where_nothing_is_wrong(diagnose):
    status, out = diagnose()

    assert status == 0, out
    assert "nothing differs in 6 layers" in out


def test_the_command_names_the_layer_that_the_compiler_spoilt(diagnose):
    def spoil(model):
        weight = next(node.input[1] for node in model.graph.node if node.name == "/two/Conv")
        return tampered(model, weight)

    status, out = diagnose("--json", graph_of=spoil)

    found = json.loads(out)
    assert status == 1
    assert found["differs"]
    assert (found["first"]["op"], found["first"]["node"]) == ("Conv", "/two/Conv")
    assert [given["fine"] for given in found["first"]["inputs"]] == [True]
    assert found["explanation"].startswith("none of the")


def test_the_bundle_holds_the_layer_and_shows_the_difference_without_the_suite(diagnose, tmp_path):
    def spoil(model):
        for node in model.graph.node:
            if node.name == "/two/Conv":
                return tampered(model, node.input[1])
        return model

    status, out = diagnose("--json", "--bundle", str(tmp_path / "vendor.zip"), graph_of=spoil)

    found = json.loads(out)
    assert status == 1
    assert found["bundle"] == {"file": str(tmp_path / "vendor.zip"), "layer": found["first"]["tensor"],
                               "differs_alone": True}  # fmt: skip
    with zipfile.ZipFile(tmp_path / "vendor.zip") as bundle:
        bundle.extractall(tmp_path / "bundle")
    shown = subprocess.run([sys.executable, "reproduce.py"], cwd=tmp_path / "bundle", capture_output=True, text=True)
    difference = float(shown.stdout.split()[-1])
    part = onnx.load(tmp_path / "bundle" / "part.onnx")
    assert len(part.graph.node) <= 3
    assert difference > 0.01, shown.stderr
    wanted = np.load(tmp_path / "bundle" / "reference.npz")[found["first"]["tensor"]]
    chip = np.load(tmp_path / "bundle" / "chip.npz")[found["first"]["tensor"]]
    assert np.abs(wanted - chip).max() == pytest.approx(difference, rel=1e-3)
    facts = json.loads((tmp_path / "bundle" / "facts.json").read_text())
    assert facts["case"] == "tiny-cpu-fp32-bs2"
    assert facts["version"].startswith("ONNX Runtime")
    assert facts["engine_key"]["spec"]["batch"] == 2
    assert re.fullmatch("[0-9a-f]{64}", facts["engine_sha256"])
    assert "--bundle" in facts["command"] or facts["command"]


def test_the_sweep_puts_the_spoilt_layer_first_and_says_what_each_takes(diagnose):
    def spoil(model):
        for node in model.graph.node:
            if node.name == "/two/Conv":
                return tampered(model, node.input[1])
        return model

    status, out = diagnose("--sweep", "--json", graph_of=spoil)

    found = json.loads(out)
    assert status == 1
    assert found["differ_alone"] == ["/two/Conv"]
    assert "keep_in_fp32" not in found, "it is FP32 that differs"
    assert all("error" not in row for row in found["parts"]), found["parts"]
    bad = [row for row in found["parts"] if not row["fine"]]
    assert found["parts"][: len(bad)] == bad
    assert all("/two/Conv" in row["nodes"] for row in bad)
    assert [row["rms"] for row in bad] == sorted((row["rms"] for row in bad), reverse=True)
    assert all(row["ms"] > 0 for row in found["parts"])
    assert any(len(row["nodes"]) > 1 for row in found["parts"])


def test_the_sweep_of_a_sound_chip_finds_nothing(diagnose):
    status, out = diagnose("--sweep")

    assert status == 0, out
    assert "no layer or block differs by itself" in out
    assert "not those of the chip" not in out


def test_a_sweep_of_a_simulated_chip_says_so(diagnose, monkeypatch):
    monkeypatch.setattr(RunContext, "not_the_chip", lambda self, chip: ("simulated",))
    _, out = diagnose("--sweep")

    assert "SIMULATED: errors and ms are not those of the chip" in out


OVERFLOWING = {"two.weight": 2e6, "two.bias": 2e6, "three.weight": 5e-7}.items()  # above 65504 after two, 1 after three


def test_the_sweep_finds_the_nodes_that_have_to_stay_in_fp32(diagnose):
    status, out = diagnose("--sweep", "--json", "--device=0", precision="fp16", times=OVERFLOWING)

    found = json.loads(out)
    assert status == 1
    assert set(found["keep_in_fp32"]) == {"/two/Conv", "/Relu_1", "/three/Conv"}
    named = ",".join(found["keep_in_fp32"])
    again = f"pytest -m 'tiny and cpu and fp16 and bs2' --device=0 --backend-option=cpu:in_fp32={named}"
    assert found["kept"].endswith(again)
    assert f"{len(found['keep_in_fp32'])} of 6 layers have to stay in FP32" in found["kept"]


def test_a_sweep_says_that_no_node_has_to_stay_where_the_outputs_pass(diagnose):
    status, out = diagnose("--sweep", precision="fp16")

    assert status == 0, out
    assert "the outputs pass at fp16: no node has to stay in FP32" in out


def test_a_mistake_that_is_none_of_precision_is_told_as_such(diagnose):
    def spoil(model):
        for node in model.graph.node:
            if node.name == "/two/Conv":
                return tampered(model, node.input[1])
        return model

    status, out = diagnose("--sweep", precision="fp16", graph_of=spoil)

    assert status == 1, out
    assert re.search(r"with all \d layers in FP32 the outputs still differ: it is not their precision", out), out


def test_a_part_in_int8_is_calibrated_on_what_it_is_fed(diagnose):
    _, out = diagnose("--sweep", "--json", precision="int8")

    rows = {row["nodes"][0]: row for row in json.loads(out)["parts"] if len(row["nodes"]) == 1}
    assert rows["/two/Conv"].get("error", "") == ""
    assert rows["/three/Conv"].get("error", "") == ""


def test_a_sweep_writes_no_bundle(diagnose, tmp_path):
    status, _ = diagnose("--sweep", "--bundle", str(tmp_path / "vendor.zip"))

    assert status == 2


def test_no_bundle_is_written_where_nothing_differs(diagnose, tmp_path):
    status, _ = diagnose("--bundle", str(tmp_path / "vendor.zip"))

    assert status == 0
    assert not (tmp_path / "vendor.zip").exists()


def test_a_file_of_ones_own_is_diagnosed(tmp_path, capsys, monkeypatch):
    file = own_models.save(own_models.image, tmp_path / "image.onnx")
    given = ["diagnose", "own_image-cpu-fp32-bs1", "--onnx", str(file), "--cache"]

    with pytest.raises(SystemExit) as sound:
        cli.main([*given, str(tmp_path / "cache")])
    monkeypatch.setattr(
        RunContext, "worker", lambda self, *given, real=RunContext.worker: Tampering(real(self, *given), spoilt, same)
    )
    with pytest.raises(SystemExit) as broken:
        cli.main([*given, str(tmp_path / "another"), "--json"])

    assert sound.value.code == 0
    assert broken.value.code == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["first"]["op"] == "Conv"


def spoilt(model):
    return tampered(model, model.graph.initializer[0].name)


def same(spec):
    return spec


def test_the_file_of_another_case_is_refused(tmp_path, capsys):
    file = own_models.save(own_models.image, tmp_path / "image.onnx")

    with pytest.raises(SystemExit) as ended:
        cli.main(["diagnose", "own_other-cpu-fp32-bs1", "--onnx", str(file), "--cache", str(tmp_path / "cache")])

    assert ended.value.code == 2
    assert "is own_image, the case is of own_other" in capsys.readouterr().err


def test_the_command_names_the_mistake_of_a_chip_that_normalises(diagnose):
    def forget_the_mean(spec):
        return replace(spec, normalize=replace(spec.normalize, mean=(0.0, 0.0, 0.0)))

    status, out = diagnose(spec_of=forget_the_mean)

    assert status == 1
    assert "first to differ: /one/Conv_output_0" in out
    assert "check what is fed" in out
    assert "100 % of the gap: mean not subtracted" in out


@pytest.mark.parametrize(("enough", "status"), [(0.5, 0), (0.3, 1)])
def test_a_mistake_within_the_tolerance_is_told_for_the_accuracy_may_show_it(diagnose, monkeypatch, enough, status):
    """A grey level is a third of what INT8 costs this network; most of it would be something to mend."""

    def round_the_mean(spec):
        mean = tuple(value - 1 for value in spec.normalize.mean)
        return replace(spec, normalize=replace(spec.normalize, mean=mean))

    monkeypatch.setattr(mistakes, "ENOUGH", enough)
    ended, out = diagnose(spec_of=round_the_mean, precision="int8")

    assert ended == status
    assert "nothing differs in 6 layers" in out
    assert (status == 0) == ("explains more than 50 % of the gap" in out)
    assert len(re.findall("3[0-9] % of the gap: mean off by one grey level", out)) == 1


def test_the_command_tells_a_mistake_of_fusing_from_one_of_a_layer(diagnose):
    def spoil_when_nothing_is_laid_bare(model):
        return model if len(model.graph.output) > 1 else tampered(model, model.graph.initializer[0].name)

    status, out = diagnose(graph_of=spoil_when_nothing_is_laid_bare)

    assert status == 1
    assert "what the compiler fuses" in out


def test_the_command_cannot_run_without_the_chip(diagnose, monkeypatch):
    monkeypatch.setattr(matrix, "chips", lambda: {"cpu": replace(CHIPS["cpu"], match="none of all")})

    status, out = diagnose("--json")

    assert status == 2
    assert json.loads(out)["error"] == "device"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--onnx-input", "x=0:1"], "needs --onnx FILE"),
        (["--onnx", "m.onnx", "--onnx-input", "x"], "is not NAME=VALUE"),
    ],
)
def test_values_of_inputs_that_would_be_ignored_are_refused(words, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["diagnose", "regnety_016-cpu-fp32-bs1", *words, "--cache", str(tmp_path)])

    assert ended.value.code == 2
    assert said in capsys.readouterr().err
