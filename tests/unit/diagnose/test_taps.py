"""The first layer of a user's file that differs on a chip, found without being asked for."""

import json

import onnx
import own_models
import pytest
import warm
from diagnose_tiny import Tampering, tampered
from own_models import F, file, info, node, weight

from harness import baselines
from harness.backends.base import BuildSpec, TensorSpec
from harness.case import Case
from harness.diagnose import layers, taps
from harness.export import own
from harness.run.context import RunContext
from harness.run.own_run import OwnRun
from harness.run.settings import Settings
from harness.store import Store


@pytest.fixture(autouse=True)
def warm_workers(monkeypatch):
    """No test is about how Python starts."""
    warm.instead(monkeypatch, warm.LIGHT)


def deep(shape=("n", 8)):
    """Twelve products, after each an activation."""
    nodes = [node("MatMul", ["x", "w0"], ["h0"])]
    for i in range(1, 12):
        nodes += [node("Tanh", [f"h{i - 1}"], [f"a{i}"]), node("MatMul", [f"a{i}", f"w{i}"], [f"h{i}"])]
    weights = [weight(f"w{i}", 8, 8, seed=i) for i in range(12)]
    return file(nodes, [info("x", F, shape)], [info("h11", F, shape)], weights)


@pytest.fixture
def case_run(tmp_path):
    made = []

    def make(change, model=deep, batch=4):
        class Wrong(RunContext):
            def worker(self, chip, backend, who=""):
                return Tampering(super().worker(chip, backend, who), change, built=self.built)

        context = Wrong(Settings(Store(tmp_path / "cache"), baselines.load()))
        context.built = []
        path = own_models.save(model, tmp_path / "m.onnx")
        made.append(OwnRun(context, Case.parse(f"own_m-cpu-fp32-bs{batch}"), model=own.read(path)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def of(weight):
    return lambda model: tampered(model, weight)


@pytest.mark.parametrize("wrong", [0, 6, 11])
def test_the_layer_that_the_compiler_spoilt_is_named(wrong, case_run):
    one = case_run(of(f"w{wrong}"))
    assert one.judged(one.outputs()[0]).outcome == "FAIL"

    text, facts = taps.first_layer(one)

    assert (facts["tensor"], facts["op"], facts["node"]) == (f"h{wrong}", "MatMul", f"MatMul_h{wrong}")
    assert text.startswith(f"first to differ: h{wrong} (MatMul MatMul_h{wrong}), rms error")
    assert one.context.built.count("tapped.onnx") == 1, "23 layers are compared in one engine"
    assert json.dumps(facts)
    assert one.sound, "the tests that follow load the engine again"


def test_a_mistake_that_shows_without_further_outputs_alone_is_told_as_such(case_run):
    def when_nothing_is_laid_bare(model):
        return model if len(model.graph.output) > 1 else tampered(model, "w3")

    text, facts = taps.first_layer(case_run(when_nothing_is_laid_bare))

    assert "no layer differs with 23 layers as outputs" in text
    assert "what the compiler fuses" in text
    assert "tensor" not in facts


def test_no_engine_is_begun_after_the_limit_and_that_is_said(case_run, monkeypatch):
    monkeypatch.setattr(layers, "pick", lambda suspects, most: suspects[len(suspects) // 2 :][:1])
    one = case_run(of("w0"))

    text, facts = taps.first_layer(one, seconds=0)

    assert one.context.built.count("tapped.onnx") == 1
    assert facts["compared"] == 2
    assert text.endswith("its inputs were not compared; stopped for time, 11 layers before it were not compared")


@pytest.mark.parametrize("model", [lambda: deep((3, 8)), own_models.scaled, own_models.tokens])
def test_files_of_fixed_shape_and_with_inputs_beside_the_batch_are_cut_too(model, case_run):
    """Of a chip that is right, an error of the engine without further outputs is the only explanation left."""
    text, facts = taps.first_layer(case_run(lambda graph: graph, model, 1))

    assert text.startswith(f"no layer differs with {facts['compared']} layers as outputs")
    assert facts["compared"]


def test_a_fixed_shape_names_its_layer(case_run):
    _, facts = taps.first_layer(case_run(of("w6"), lambda: deep((3, 8)), 1))

    assert facts["tensor"] == "h6"


def test_a_graph_that_cannot_be_cut_costs_no_verdict(case_run):
    text, facts = taps.first_layer(case_run(lambda graph: graph, own_models.whole_numbers, 1))

    assert (
        text == "the first layer that differs was not found: no floating-point tensor has a row for each of the batch"
    )
    assert facts == {}


def test_a_compiler_that_takes_rounded_graphs_is_given_that_of_the_part(tmp_path):
    """TensorRT 11: a part of the model is built, and not the whole model again."""
    source = own_models.save(deep, tmp_path / "part.onnx")
    kept = ["MatMul_h3"]
    options = {"onnx_fp16": "of the whole model", "out_nodes": ["of it"], "device": 0, "in_fp32": kept}
    spec = BuildSpec("fp16", 4, (TensorSpec("x", "float32", (-1, 8)),), ("h11",), options=options)

    told = taps._told(spec, source)

    assert set(told) == {"onnx_fp16", "out_nodes"}
    assert told["out_nodes"] == ["MatMul_h11:0"]
    made = onnx.load(told["onnx_fp16"])
    kinds = {value.name: value.data_type for value in made.graph.initializer}
    fed = {node.name: node.input[1] for node in made.graph.node if node.op_type == "MatMul"}
    assert kinds[fed["MatMul_h3"]] == onnx.TensorProto.FLOAT
    assert kinds[fed["MatMul_h4"]] == onnx.TensorProto.FLOAT16
