"""Surgery leaves what a graph computes as it was, and leaves alone what it cannot prove harmless."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import ExportError
from harness.export import graph

FLOAT = TensorProto.FLOAT
IMAGE = np.random.RandomState(0).standard_normal((2, 3, 14, 14)).astype(np.float32)


def build(nodes, constants, outputs, opset=11, batch="batch"):
    """A checked graph from `image` (batch, 3, 14, 14) float32 to `outputs`: name -> shape."""
    built = helper.make_model(
        helper.make_graph(
            nodes,
            "drawn",
            [helper.make_tensor_value_info("image", FLOAT, [batch, 3, 14, 14])],
            [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=6,
    )
    onnx.checker.check_model(built, full_check=True)
    return built


def run(model, image=IMAGE):
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})


def padded_pool(pads):
    """The tail that torch 1.6 writes for DeepMAR: a Pad from a Constant node, then an average pool of 7 x 7."""
    nodes = [
        helper.make_node("Relu", ["image"], ["map"], "Relu_0"),
        helper.make_node("Constant", [], ["pads"], "Constant_1", value=numpy_helper.from_array(np.array(pads))),
        helper.make_node("Pad", ["map", "pads"], ["padded"], "Pad_2", mode="constant"),
        helper.make_node(
            "AveragePool", ["padded"], ["out"], "AveragePool_3", kernel_shape=[7, 7], strides=[7, 7]
        ),
    ]  # fmt: skip
    side = (14 + pads[3] + pads[7] - 7) // 7 + 1
    return build(nodes, {}, {"out": ["batch", 3, (14 + pads[2] + pads[6] - 7) // 7 + 1, side]})


def test_a_pad_of_zeros_is_removed_with_its_constant():
    model = padded_pool([0] * 8)
    before = model.SerializeToString()

    slim, removed = graph.drop_noop_pads(model)

    assert removed == ("Pad_2",)
    assert [node.op_type for node in slim.graph.node] == ["Relu", "AveragePool"]
    assert np.array_equal(run(slim)[0], run(model)[0])
    assert model.SerializeToString() == before, "the argument was changed"


@pytest.mark.parametrize("where", [2, 3, 6, 7])
def test_a_pad_of_one_pixel_stays(where):
    model = padded_pool([int(i == where) for i in range(8)])

    slim, removed = graph.drop_noop_pads(model)

    assert removed == ()
    assert slim == model


def test_a_pad_whose_amounts_are_computed_stays():
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Sub", ["shape", "shape"], ["zeros"]),
        helper.make_node("Concat", ["zeros", "zeros"], ["pads"], axis=0),
        helper.make_node("Pad", ["image", "pads"], ["out"], "computed"),
    ]
    model = build(nodes, {}, {"out": ["batch", 3, "h", "w"]})

    slim, removed = graph.drop_noop_pads(model)

    assert removed == ()
    assert slim == model


def test_a_pad_of_an_old_opset_is_judged_by_its_attribute():
    def old(amount):
        node = helper.make_node("Pad", ["image"], ["padded"], "old", pads=[0, 0, 0, 0, 0, 0, 0, amount])
        relu = helper.make_node("Relu", ["padded"], ["out"], "relu")
        return build([node, relu], {}, {"out": ["batch", 3, 14, 14 + amount]}, opset=9)

    assert graph.drop_noop_pads(old(0))[1] == ("old",)
    assert graph.drop_noop_pads(old(1))[1] == ()


def test_a_pad_that_makes_a_graph_output_hands_its_name_on():
    nodes = [
        helper.make_node("Relu", ["image"], ["map"], "relu"),
        helper.make_node("Sigmoid", ["map"], ["other"], "sigmoid"),
        helper.make_node("Pad", ["map", "pads"], ["out"], "pad"),
    ]
    shape = ["batch", 3, 14, 14]
    model = build(nodes, {"pads": np.zeros(8, np.int64)}, {"out": shape, "other": shape})

    slim, removed = graph.drop_noop_pads(model)

    assert removed == ("pad",)
    assert not slim.graph.initializer
    for got, want in zip(run(slim), run(model), strict=True):
        assert np.array_equal(got, want)


def test_a_pad_between_the_graphs_input_and_its_output_stays_for_its_names():
    model = build(
        [helper.make_node("Pad", ["image", "pads"], ["out"], "pad")],
        {"pads": np.zeros(8, np.int64)},
        {"out": ["batch", 3, 14, 14]},
    )

    assert graph.drop_noop_pads(model)[1] == ()


NORM = ("scale", "shift", "mean", "var")


def norms(shared=False):
    """Convolution, batch norm, ReLU; with `shared` the convolution's output is returned beside."""
    random = np.random.RandomState(1)
    constants = {
        "weight": random.standard_normal((5, 3, 3, 3)),
        "bias": random.standard_normal(5),
        "scale": random.standard_normal(5),
        "shift": random.standard_normal(5),
        "mean": random.standard_normal(5),
        "var": random.random_sample(5) * 1e-3,  # so small that epsilon counts
    }
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["conv"], "conv_0", kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["conv", *NORM], ["normed"], "norm_1", epsilon=1e-3),
        helper.make_node("Relu", ["normed"], ["out"], "relu_2"),
    ]  # fmt: skip
    shape = ["batch", 5, 12, 12]
    outputs = {"out": shape, "conv": shape} if shared else {"out": shape}
    return build(nodes, {name: array.astype(np.float32) for name, array in constants.items()}, outputs)


def test_a_batch_norm_is_folded_into_its_convolution():
    model = norms()

    folded, names = graph.fold_batch_norm(model)

    assert names == ("norm_1",)
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Relu"]
    assert len(folded.graph.initializer) == 2
    assert np.allclose(run(folded)[0], run(model)[0], rtol=1e-5, atol=1e-5 * abs(run(model)[0]).max())


def test_a_batch_norm_stays_when_the_convolution_is_read_elsewhere():
    model = norms(shared=True)

    folded, names = graph.fold_batch_norm(model)

    assert names == ()
    assert folded == model


def chain(batch="batch"):
    """Three steps with names, the middle one fed by a shared weight through an Identity."""
    weight = np.random.RandomState(2).standard_normal((3, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Identity", ["weight"], ["twin"], "twin_0"),
        helper.make_node("Conv", ["image", "weight"], ["one"], "first"),
        helper.make_node("Conv", ["one", "twin"], ["two"], "second"),
        helper.make_node("Split", ["two"], ["low", "high"], "third", axis=3),
    ]
    shape = [batch, 3, 14, 7]
    return build(nodes, {"weight": weight}, {"high": shape, "low": shape}, batch=batch)


def test_outputs_are_named_by_the_node_and_index_that_compute_them():
    assert graph.outputs_of(chain()) == {"high": "third:1", "low": "third:0"}


def test_an_output_without_a_node_to_name_is_refused():
    nameless = chain()
    nameless.graph.node[-1].name = ""

    with pytest.raises(ExportError, match="has no name"):
        graph.outputs_of(nameless)


def test_identities_go_and_the_weights_are_shared():
    model = chain()

    slim = graph.drop_identities(model)

    assert [node.name for node in slim.graph.node] == ["first", "second", "third"]
    assert slim.graph.node[1].input[1] == "weight"
    for got, want in zip(run(slim), run(model), strict=True):
        assert np.array_equal(got, want)


def test_a_cut_graph_computes_what_the_whole_computes_there():
    model = chain()

    part = graph.cut(model, ["two", "one"])
    rest = graph.cut(model, ["low"], inputs=["two"])

    assert [value.name for value in part.graph.output] == ["two", "one"]
    assert [node.name for node in part.graph.node] == ["twin_0", "first", "second"]
    assert part.ir_version == model.ir_version
    two = run(part)[0]
    session = onnxruntime.InferenceSession(rest.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"two": two})[0], run(model)[1])


def test_a_tapped_graph_shows_its_inside_beside_its_outputs():
    model = chain()

    tapped = graph.tap(model, ["one", "low"])

    assert [value.name for value in tapped.graph.output] == ["high", "low", "one"]
    outputs = run(tapped)
    assert np.array_equal(outputs[2], run(graph.cut(model, ["one"]))[0])
    assert np.array_equal(outputs[0], run(model)[0])


@pytest.mark.parametrize("reach", [graph.cut, graph.tap])
def test_a_tensor_the_graph_does_not_have_is_named_with_its_neighbours(reach):
    with pytest.raises(ExportError, match=r"no tensor 'hihg'[\s\S]*did you mean high"):
        reach(chain(), ["hihg"])


def test_a_fixed_batch_reaches_every_shape():
    model = chain()

    fixed = graph.set_batch(model, 2)

    values = [*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info]
    assert {value.name for value in values} >= {"image", "high", "low", "one", "two"}
    assert {value.type.tensor_type.shape.dim[0].dim_value for value in values if value.name != "twin"} == {2}
    assert np.array_equal(run(fixed)[0], run(model)[0])


def test_a_batch_that_is_already_another_is_refused():
    with pytest.raises(ExportError, match="fixed at batch 4, not 2"):
        graph.set_batch(chain(batch=4), 2)
    with pytest.raises(ExportError, match="not a batch"):
        graph.set_batch(chain(), 0)
