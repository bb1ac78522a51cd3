"""The reference of a user's file is ONNX Runtime, row by row where the model's rows are apart."""

import numpy as np
import own_models
import pytest
from onnx import numpy_helper

from harness.errors import UsageError
from harness.export import own as files
from harness.reference import own


def read(make, tmp_path):
    return files.read(own_models.save(make, tmp_path / "m.onnx"))


def test_outputs_are_those_of_the_graph(tmp_path):
    model = read(own_models.dense, tmp_path)
    given = model.draw(5)

    found = own.outputs(model, given)

    weights = numpy_helper.to_array(own_models.dense().graph.initializer[0])
    np.testing.assert_allclose(found["y"], np.maximum(given["x"] @ weights, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("make", "batch", "apart"), [
    (own_models.dense, 4, True), (own_models.dense, 1, False), (own_models.mixing, 4, False),
    (own_models.to_scalar, 4, False), (own_models.scaled, 3, True),
])  # fmt: skip
def test_whether_rows_depend_on_each_other_is_tried(make, batch, apart, tmp_path):
    assert own.rows_are_apart(read(make, tmp_path), batch) is apart


def test_only_inputs_with_a_free_batch_are_permuted(tmp_path):
    model = read(own_models.scaled, tmp_path)
    given = model.draw(3)

    turned = own.permuted(model, given, np.array([2, 1, 0]))

    assert np.array_equal(turned["x"], given["x"][::-1])
    assert turned["s"] is given["s"]


def test_inputs_that_the_graph_refuses_are_the_users(tmp_path):
    model = read(own_models.tokens, tmp_path)
    given = model.draw(2)
    given["ids"] = given["ids"] + 1000

    with pytest.raises(UsageError, match="ONNX Runtime cannot run it") as refused:
        own.outputs(model, given)
    assert "--onnx-input" in refused.value.hint


def test_a_batch_that_a_node_holds_is_told_with_the_command_that_fixes_it(tmp_path):
    model = read(own_models.held_batch, tmp_path)

    assert own.outputs(model, model.draw(1))["y"].shape == (1, 4)
    with pytest.raises(
        UsageError, match=r"rows run one by one and not 4 together: a node holds a fixed batch: .*Reshape_r"
    ) as told:
        own.outputs(model, model.draw(4))
    assert "make_dynamic_shape_fixed --dim_param n --dim_value 1 " in told.value.hint


def test_the_words_of_onnx_runtime_come_without_places_in_its_source(tmp_path):
    def make():
        model = own_models.dense()
        model.opset_import[0].version = 99
        return model

    with pytest.raises(UsageError, match=r"cannot load it: ONNX Runtime only \*guarantees\* support"):
        own.check(read(make, tmp_path))


def test_every_operator_without_a_kernel_is_named_with_its_nodes(tmp_path):
    from onnx import helper

    def make():
        model = own_models.file(
            [own_models.node("Relu", ["x"], ["h"]), helper.make_node("Bend", ["h"], ["g"], "/bend", domain="lab"),
             helper.make_node("Fold", ["g"], ["f"], domain="lab"), own_models.node("Celu", ["f"], ["y"])],
            [own_models.info("x")], [own_models.info("y")],
        )  # fmt: skip
        model.opset_import.append(helper.make_opsetid("lab", 1))
        return model

    with pytest.raises(
        UsageError, match=r"it has no kernel on the CPU for lab:Bend \(node /bend\), lab:Fold \(node Fold_2\)\n"
    ):
        own.check(read(make, tmp_path))


def test_only_where_both_or_neither_are_finite_the_reference_is_in_fp64():
    fine, over = np.ones(2), np.array([1, np.inf])
    plain, exact = {"a": fine, "b": over, "c": over}, {"a": 2 * fine, "b": 2 * fine, "c": over}

    found = own.settled(plain, exact)

    assert found["a"] is exact["a"]
    assert found["b"] is plain["b"]
    assert found["c"] is exact["c"]
    assert own.settled({"a": fine}, {"a": np.ones(3)}) is None
