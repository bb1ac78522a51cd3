"""A layer that was tampered with is the first to differ, and is found in few runs."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from diagnose_tiny import IMAGE, chain, tampered
from onnx import TensorProto, helper, numpy_helper

from harness.case import Precision
from harness.diagnose import layers
from harness.errors import BuildError
from harness.export import graph
from harness.judge.verdict import Verdict
from harness.vocabulary import Outcome


def measuring(model, chip, runs, limit=1000):
    """A chip that runs the graph `chip` where `model` was meant, and takes so many outputs; notes what it is asked."""

    def measure(names):
        runs.append(list(names))
        if len(names) > limit:
            raise BuildError(f"{len(names)} are too many outputs", hint="ask for fewer")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(graph.tap(chip, names).SerializeToString(), options)
        outputs = [value.name for value in session.get_outputs()]
        found = dict(zip(outputs, session.run(None, {"image": IMAGE}), strict=True))
        return layers.compare(found, layers.reference(graph.tap(model, names), IMAGE, 2), Precision.FP32)

    return measure


@pytest.mark.parametrize("most", [4, 8, 48])
@pytest.mark.parametrize("at", [0, 1, 7, 19])
def test_the_layer_that_was_tampered_with_is_the_first_to_differ(at, most):
    model, runs = chain(20), []

    located = layers.locate(layers.layers(model, 2), measuring(model, tampered(model, f"w{at}"), runs), most)

    assert located.first.tensor == f"conv{at}", layers.sentence(located, True)
    assert located.first.node == f"Conv_{at}"
    assert all(verdict is None or verdict.outcome is Outcome.PASS for _, verdict in located.before)
    assert len(located.before) == 1, "what it is computed from was not looked at"
    assert max(map(len, runs)) <= most
    assert located.notes == ()


@pytest.mark.parametrize("at", [0, 29, 59])
def test_few_runs_find_one_layer_among_many(at):
    model, runs = chain(60), []

    located = layers.locate(layers.layers(model, 2), measuring(model, tampered(model, f"w{at}"), runs), 6)

    assert located.first.tensor == f"conv{at}"
    assert len(runs) <= 6, f"{len(runs)} runs of {[len(run) for run in runs]} tensors, of {len(located.seen)} in all"


def narrowing(bad, links, most):
    """Runs of a search among layers `links` (name -> inputs) of which those named in `bad` fail."""
    every, runs = [layers.Layer(name, name.upper(), "Conv", given, (1, 4)) for name, given in links.items()], []

    def measure(names):
        runs.append("".join(names))
        returned = [*names, every[-1].tensor]
        return {name: Verdict(Outcome.FAIL if name in bad else Outcome.PASS, name) for name in returned}

    return layers.locate(every, measure, most), runs


def row(names):
    """Layers one after the other."""
    return {name: (before,) for before, name in zip(["image", *names], names, strict=False)}


def test_what_is_fine_behind_the_first_clears_nothing_before_it():
    located, runs = narrowing("cdefgh", row("abcdefghi"), 1)

    assert located.first.tensor == "c"
    assert runs == ["e", "c", "b"]


def test_what_is_fine_before_the_first_clears_all_before_it():
    located, runs = narrowing("efg", row("abcdefg"), 1)

    assert located.first.tensor == "e"
    assert runs == ["d", "f", "e"]


def test_what_the_first_is_computed_from_is_looked_at_even_when_it_is_cleared():
    located, runs = narrowing("cd", {**row("abcd"), "c": ("b", "a")}, 1)

    assert runs == ["c", "b", "a"]
    assert [name for name, _ in located.before] == ["b", "a"]


def test_the_dense_layer_at_the_end_is_told_from_the_reshape_before_it():
    model = chain(6)

    located = layers.locate(layers.layers(model, 2), measuring(model, tampered(model, "dense"), []), 5)

    assert located.first.tensor == "logits"
    assert "first to differ: logits (Gemm Gemm_0)" in layers.sentence(located, True)
    assert "its inputs are still fine: rows (rms error 0)" in layers.sentence(located, True)


def test_the_first_layer_of_all_has_only_the_networks_input_before_it():
    model = chain(6)

    located = layers.locate(layers.layers(model, 2), measuring(model, tampered(model, "w0"), []), 5)

    assert located.before == (("image", None),)
    assert "it reads image, the network's input" in layers.sentence(located, True)


def test_an_error_that_grows_over_the_layers_is_not_put_on_the_one_that_exceeds_the_tolerance():
    a, b = layers.Layer("a", "n", "Conv", ("image",), (1,)), layers.Layer("b", "m", "Conv", ("a",), (1,))

    def off(rms, outcome):
        return Verdict(outcome, "", {"rms": rms})

    def said(before, after):
        fine, bad = off(before, Outcome.PASS), off(after, Outcome.FAIL)
        return layers.sentence(layers.Located(((a, fine), (b, bad)), b, (("a", fine),), ()), True)

    assert "The error begins before it and grows" in said(0.019, 0.021)
    assert "its inputs are still fine: a (rms error 0.019)" in said(0.019, 0.3)


def test_a_layer_that_overflows_is_the_first_to_differ():
    model = chain(12)
    chip = tampered(model, "w5", lambda array: array * np.inf)

    located = layers.locate(layers.layers(model, 2), measuring(model, chip, []), 6)

    assert located.first.tensor == "conv5"
    assert "not finite" in layers.sentence(located, True)


def test_nothing_differs_in_a_graph_that_was_left_alone():
    model = chain(12)

    located = layers.locate(layers.layers(model, 2), measuring(model, model, []), 6)

    assert located.first is None
    assert layers.sentence(located, False) == f"nothing differs in {len(located.seen)} layers"
    assert "what the compiler fuses" in layers.sentence(located, True)


def test_a_compiler_that_refuses_many_outputs_is_asked_for_fewer():
    model, runs = chain(12), []
    chip = tampered(model, "w4")

    located = layers.locate(layers.layers(model, 2), measuring(model, chip, runs, limit=5), 48)

    assert located.first.tensor == "conv4"
    assert "too many outputs" in located.notes[0]
    assert len(runs[-1]) <= 5


def test_a_compiler_that_refuses_even_one_output_is_an_error():
    model = chain(3)

    with pytest.raises(BuildError, match="1 are too many"):
        layers.locate(layers.layers(model, 2), measuring(model, model, [], limit=0))


def test_what_was_seen_before_the_last_refusal_is_kept():
    model, calls = chain(12), []
    real = measuring(model, tampered(model, "w4"), [])

    def measure(names):
        calls.append(names)
        if len(calls) > 1:
            raise BuildError("no more", hint="rest")
        return real(names)

    located = layers.locate(layers.layers(model, 2), measure, 4)

    assert located.first is not None
    assert "cannot be made an output: no more" in located.notes[-1]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_layers_of_every_floating_point_type_are_compared(kind):
    ends = [helper.make_tensor_value_info(name, kind, ("n", 4)) for name in ("x", "y")]
    nodes = [helper.make_node("Relu", ["x"], ["h"], "first"), helper.make_node("Neg", ["h"], ["y"], "second")]
    model = helper.make_model(helper.make_graph(nodes, "two", ends[:1], ends[1:]))

    assert [layer.tensor for layer in layers.layers(model, 2)] == ["h", "y"]


def test_tensors_without_the_batch_in_front_are_passed_over():
    nodes = [
        helper.make_node("Relu", ["image"], ["a"], "Relu_0"),
        helper.make_node("Transpose", ["a"], ["b"], "Transpose_1", perm=[1, 0, 2, 3]),
        helper.make_node("Sigmoid", ["b"], ["c"], "Sigmoid_2"),
        helper.make_node("Transpose", ["c"], ["d"], "Transpose_3", perm=[1, 0, 2, 3]),
        helper.make_node("Shape", ["a"], ["shape"], "Shape_4"),
        helper.make_node("Reshape", ["d", "shape"], ["out"], "Reshape_5"),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 6, 6]) for name in ("image", "out")]
    model = helper.make_model(helper.make_graph(nodes, "turns", value[:1], value[1:]),
                              opset_imports=[helper.make_opsetid("", 11)], ir_version=6)  # fmt: skip

    found = {layer.tensor: layer.inputs for layer in layers.layers(model, 2)}

    assert found == {"a": ("image",), "d": ("a",), "out": ("d",)}


def upsampled():
    """Doubled to a size that is computed, so that ONNX infers no shape behind it, not even the batch."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["small"], "Conv_0", kernel_shape=[1, 1]),
        helper.make_node("Shape", ["small"], ["shape"], "Shape_1"),
        helper.make_node("Mul", ["shape", "factors"], ["sizes"], "Mul_2"),
        helper.make_node("Resize", ["small", "none", "none", "sizes"], ["large"], "Resize_3", mode="nearest"),
        helper.make_node("Conv", ["large", "v"], ["out"], "Conv_4", kernel_shape=[1, 1]),
        helper.make_node("Transpose", ["large"], ["turned"], "Transpose_5", perm=[1, 0, 2, 3]),
        helper.make_node("ReduceMean", ["turned"], ["means"], "ReduceMean_6", axes=[0, 2, 3], keepdims=0),
    ]
    random = np.random.RandomState(3)
    constants = {name: random.standard_normal((3, 3, 1, 1)).astype(np.float32) for name in "wv"}
    constants |= {"factors": np.array([1, 1, 2, 2]), "none": np.array([], np.float32)}
    model = helper.make_model(
        helper.make_graph(
            nodes, "upsampled", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 6, 6])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3, "h", "w"]),
             helper.make_tensor_value_info("means", TensorProto.FLOAT, ["batch"])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 11)], ir_version=6,
    )  # fmt: skip
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize(("at", "first"), [("w", "small"), ("v", "out")])
def test_layers_behind_a_resize_to_a_computed_size_are_looked_at(at, first):
    model = upsampled()

    every = layers.layers(model, 2)
    located = layers.locate(every, measuring(model, tampered(model, at), []), 48)

    assert {"small", "large", "out"} <= {layer.tensor for layer, _ in located.seen}
    assert located.first.tensor == first
    assert "turned" not in {layer.tensor for layer, _ in located.seen}, "its rows are no images"
    bare = layers.tapped(model, every, ["large", "out"])
    assert [len(value.type.tensor_type.shape.dim) for value in bare.graph.output] == [4, 1, 4]


def test_no_run_returns_more_than_there_is_room_for():
    every = [layers.Layer(f"t{i}", f"n{i}", "Conv", (), (1, layers.ROOM // 16)) for i in range(40)]
    huge = replace(every[0], shape=(1, layers.ROOM))

    assert len(layers.pick(every, 48)) == 4
    assert layers.pick([huge], 48) == [huge]


def test_the_reference_repeats_the_images_in_turn():
    model = chain(3)

    found = layers.reference(model, IMAGE, 5)

    assert found["out"].shape == (5, 3, 6, 6)
    assert np.array_equal(found["out"][[0, 1, 2, 3, 4]], found["out"][[2, 3, 0, 1, 0]])
    assert not np.array_equal(found["out"][0], found["out"][1])
