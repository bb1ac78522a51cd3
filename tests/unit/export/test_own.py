"""ONNX files of users: what can be tested is read, what cannot is refused with the reason."""

import shlex
import sys
from importlib import metadata

import numpy as np
import onnx
import own_models
import pytest
from onnx import numpy_helper

from harness.errors import UsageError
from harness.export import own


def read(make, tmp_path, **options):
    return own.read(own_models.save(make, tmp_path / "my model.onnx"), options)


@pytest.mark.parametrize("name", own_models.TESTED)
def test_files_of_many_shapes_are_read_and_fed(name, tmp_path):
    model = read(own_models.TESTED[name], tmp_path)

    drawn = model.draw(3)

    assert model.name == "own_my_model"
    assert set(drawn) == {tensor.name for tensor in model.inputs}
    for tensor in model.inputs:
        assert drawn[tensor.name].dtype.name == tensor.dtype
        assert drawn[tensor.name].shape == ((3, *tensor.shape[1:]) if model.free_batch and tensor.shape[:1] == (-1,)
                                            else tensor.shape)  # fmt: skip


@pytest.mark.parametrize("name", own_models.REFUSED)
def test_what_cannot_be_tested_is_refused_with_the_reason(name, tmp_path):
    make, said = own_models.REFUSED[name]
    if "ONNX Runtime" in said:
        from harness.reference.own import check

        with pytest.raises(UsageError, match=said):
            check(read(make, tmp_path))
        return
    with pytest.raises(UsageError, match=said):
        read(make, tmp_path)


def test_a_free_axis_comes_with_the_command_that_fixes_it(tmp_path):
    with pytest.raises(UsageError) as refused:
        read(own_models.free_length, tmp_path)

    assert "make_dynamic_shape_fixed --dim_param tokens --dim_value N" in refused.value.hint


def test_inputs_are_drawn_again_alike_and_otherwise_by_another_seed(tmp_path):
    model = read(own_models.two_inputs, tmp_path)

    assert all(np.array_equal(model.draw(4)[name], value) for name, value in model.draw(4).items())
    assert not any(np.array_equal(model.draw(4, 1)[name], value) for name, value in model.draw(4).items())


def test_token_ids_are_rows_of_their_table(tmp_path):
    ids = read(own_models.tokens, tmp_path).draw(200)["ids"]

    assert (ids.min(), ids.max()) == (0, 10)


def test_bytes_are_drawn_over_their_whole_range(tmp_path):
    drawn = read(own_models.pixels, tmp_path).draw(500)["x"]

    assert (drawn.min(), drawn.max()) == (0, 255)


def test_a_user_bounds_an_input(tmp_path):
    drawn = read(own_models.two_inputs, tmp_path, a="0:0.5").draw(100)

    assert 0 <= drawn["a"].min() < drawn["a"].max() < 0.5
    assert drawn["b"].min() < -1


def test_a_user_gives_rows(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", rows)
    model = read(own_models.two_inputs, tmp_path, a=str(tmp_path / "a.npy"))

    assert np.array_equal(model.draw(3)["a"], rows[[0, 1, 0]])
    assert np.array_equal(model.draw(3, 1)["a"], rows[[1, 0, 1]])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"c": "0:1"}, "has no input c"),
        ({"a": "1:0"}, "is empty"),
        ({"a": "0:e"}, "not a range"),
        ({"a": "nowhere.npy"}, "cannot be read"),
    ],
)
def test_what_a_user_gives_wrongly_is_named(options, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        read(own_models.two_inputs, tmp_path, **options)


def test_an_archive_of_rows_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros((2, 3), np.float32))

    with pytest.raises(UsageError, match=r"--onnx-input a=.*a\.npz is an archive of arrays"):
        read(own_models.two_inputs, tmp_path, a=str(tmp_path / "a.npz"))


def test_each_of_several_files_takes_the_options_of_its_own_inputs(tmp_path):
    files = [own_models.save(make, tmp_path / name) for make, name in
             ((own_models.dense, "a.onnx"), (own_models.two_inputs, "b.onnx"))]  # fmt: skip

    first, second = own.several(files, {"x": "0:1", "a": "2:3"})

    assert (first.ranges, second.ranges) == ({"x": (0, 1)}, {"a": (2, 3)})
    with pytest.raises(UsageError, match="no file has an input c") as told:
        own.several(files, {"c": "0:1"})
    assert told.value.hint == "their inputs: x, a, b"


def test_rows_of_another_shape_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 4), np.float32))

    with pytest.raises(UsageError, match=r"float32 \[2, 4\], input a float32 \['N', 3\]"):
        read(own_models.two_inputs, tmp_path, a=str(tmp_path / "a.npy"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused_with_their_place(value, tmp_path):
    rows = np.zeros((4, 3), np.float32)
    rows[2, 1] = rows[3, 0] = value
    np.save(tmp_path / "a.npy", rows)

    with pytest.raises(
        UsageError, match=r"a\.npy has 2 of 12 values that are NaN or infinite, first at \[2, 1\]"
    ) as told:
        read(own_models.two_inputs, tmp_path, a=str(tmp_path / "a.npy"))
    assert "finite" in told.value.hint


def test_the_digest_changes_with_the_weights_and_with_what_is_fed(tmp_path):
    model = read(own_models.dense, tmp_path)
    other = own_models.dense()
    other.graph.initializer[0].CopyFrom(own_models.weight("w", 8, 4, seed=1))

    assert own.read(own_models.save(lambda: other, tmp_path / "b.onnx")).digest != model.digest
    assert read(own_models.dense, tmp_path, x="0:1").inputs_digest != model.inputs_digest


def with_weights_outside(tmp_path, place):
    model = own_models.dense()
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], place)
    model.graph.initializer[0].ClearField("raw_data")
    return own_models.save(lambda: model, tmp_path / "a" / "model.onnx")


def test_weights_beside_the_file_are_read(tmp_path):
    onnx.save(own_models.dense(), str(tmp_path / "m.onnx"), save_as_external_data=True, location="w.bin",
              size_threshold=0)  # fmt: skip

    (found,), (wanted,) = own.whole(tmp_path / "m.onnx").graph.initializer, own_models.dense().graph.initializer

    assert (tmp_path / "w.bin").stat().st_size >= 128
    np.testing.assert_array_equal(numpy_helper.to_array(found), numpy_helper.to_array(wanted))


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/passwd"])
def test_weights_outside_the_folder_are_refused(place, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(128))

    with pytest.raises(UsageError, match="outside its folder"):
        own.read(with_weights_outside(tmp_path, place))


def test_weights_that_were_not_copied_are_named(tmp_path):
    onnx.save(own_models.dense(), str(tmp_path / "m.onnx"), save_as_external_data=True, location="w.bin",
              size_threshold=0)  # fmt: skip
    (tmp_path / "w.bin").unlink()

    with pytest.raises(UsageError, match=r"m\.onnx keeps its weights in 'w\.bin', which is not beside it") as refused:
        own.read(tmp_path / "m.onnx")
    assert refused.value.hint == f"copy it to {tmp_path}"


def test_weights_are_no_inputs_in_files_of_an_old_version_either(tmp_path):
    file = own_models.save(own_models.weights_as_inputs, tmp_path / "m.onnx")

    model = own.whole(file)

    assert [value.name for value in model.graph.input] == ["x"]
    assert model.ir_version == 4


@pytest.mark.parametrize("content", [b"", b"no onnx", bytes(range(200))])
def test_a_file_that_is_no_onnx_file_is_refused(content, tmp_path):
    (tmp_path / "x.onnx").write_bytes(content)

    with pytest.raises(UsageError, match=r"is not an ONNX file|computes nothing|is not valid") as refused:
        own.read(tmp_path / "x.onnx")
    assert "checker" not in refused.value.hint, "python -m onnx.checker accepts whatever it is given"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its file open
def test_the_program_that_the_hint_for_an_invalid_file_names_refuses_it(tmp_path, monkeypatch):
    model = own_models.dense()
    model.graph.node[0].op_type = "NoSuchOperator"
    file = own_models.save(lambda: model, tmp_path / "a model.onnx")

    with pytest.raises(UsageError, match="is not valid") as refused:
        own.read(file)

    _, program, given = shlex.split(refused.value.hint)
    assert given == str(file)
    (entry,) = metadata.entry_points(group="console_scripts", name=program)
    monkeypatch.setattr(sys, "argv", [program, given])
    with pytest.raises(onnx.checker.ValidationError):
        entry.load()()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        own.read(tmp_path / "x.onnx")


def test_values_of_inputs_are_read_with_their_names():
    assert own.inputs(["a=0:1", "b=x=y.npy"], 1) == {"a": "0:1", "b": "x=y.npy"}
    assert own.inputs([], 0) == {}


@pytest.mark.parametrize(("text", "files", "said"), [("a=0:1", 0, "needs --onnx FILE"), ("a", 1, "is not NAME=VALUE")])
def test_values_of_inputs_without_a_file_or_a_name_are_refused(text, files, said):
    with pytest.raises(UsageError, match=f"--onnx-input {text} {said}"):
        own.inputs([text], files)


def test_operators_are_found_in_branches_and_functions_too():
    from onnx import helper

    def branch(op):
        return helper.make_graph([own_models.node(op, ["x"], ["z"])], op, [], [own_models.info("z")])

    model = own_models.file(
        [own_models.node("If", ["c"], ["h"], then_branch=branch("Relu"), else_branch=branch("Tanh")),
         helper.make_node("Twice", ["h"], ["g"], domain="own"), helper.make_node("Foo", ["g"], ["y"], domain="lab")],
        [own_models.info("x"), own_models.info("c", own_models.B, ())], [own_models.info("y")],
    )  # fmt: skip
    twice = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], twice, [helper.make_opsetid("", 13)]))

    assert own.operators(model) == {"If": ["If_h"], "lab:Foo": ["y"], "Add": ["b"], "Relu": ["Relu_z"],
                                    "Tanh": ["Tanh_z"]}  # fmt: skip


def test_nodes_without_a_name_get_one(tmp_path):
    model = own_models.dense()
    model.graph.node[0].name, model.graph.node[1].name = "Relu_1", ""
    onnx.save(model, tmp_path / "m.onnx")

    assert [node.name for node in own.whole(tmp_path / "m.onnx").graph.node] == ["Relu_1", "Relu_1_"]


# ---------------------------------------------------------------- INT8

ROWS = np.arange(16 * 8, dtype=np.float32).reshape(16, 8)


def given(tmp_path, make, rows, name="x"):
    np.save(tmp_path / "rows.npy", rows)
    return read(make, tmp_path, **{name: str(tmp_path / "rows.npy")})


def test_every_second_row_calibrates_and_the_others_are_fed(tmp_path):
    model = given(tmp_path, own_models.dense, ROWS)

    rows, fed = model.parted()

    assert model.lacks_for_int8 == ""
    assert np.array_equal(rows[0], ROWS[1::2])
    assert np.array_equal(fed.draw(8)["x"], ROWS[0::2])
    assert fed.inputs_digest != model.inputs_digest


def given_all(tmp_path, make, **rows):
    for name, values in rows.items():
        np.save(tmp_path / f"{name}.npy", values)
    return read(make, tmp_path, **{name: str(tmp_path / f"{name}.npy") for name in rows})


def test_several_inputs_are_calibrated_row_by_row_together(tmp_path):
    model = given_all(tmp_path, own_models.two_inputs, a=ROWS[:, :3], b=ROWS[:, :5])

    (first, second), fed = model.parted()

    assert model.lacks_for_int8 == ""
    assert np.array_equal(first[:, 0], second[:, 0])
    assert np.array_equal(fed.draw(8)["b"], ROWS[0::2, :5])


@pytest.mark.parametrize("shape", [(4, 8), (8,), (1, 8)])
def test_whole_tensors_of_a_fixed_shape_are_counted_and_not_cut(shape, tmp_path):
    """An array with an axis more is of several; where axis 0 is 1, an array with more there is, too."""
    tensors = np.random.default_rng(0).standard_normal((10, *shape)).astype(np.float32)
    saved = tensors[:, 0] if shape[:1] == (1,) else tensors
    model = given_all(tmp_path, lambda: own_models.dense(shape), x=saved)

    (first,), fed = model.parted()

    assert model.lacks_for_int8 == ""
    assert np.array_equal(first, tensors[1::2])
    assert [np.array_equal(fed.draw(1, seed)["x"], tensors[2 * seed]) for seed in (0, 1)] == [True, True]


def test_one_whole_tensor_of_a_fixed_shape_is_fed_each_time(tmp_path):
    tensor = np.ones((4, 8), np.float32)
    model = given_all(tmp_path, lambda: own_models.dense((4, 8)), x=tensor)

    assert np.array_equal(model.draw(1, 1)["x"], tensor)
    assert model.lacks_for_int8 == "no rows are given for x"


@pytest.mark.parametrize(
    ("make", "rows", "why"),
    [
        (own_models.dense, {"x": ROWS[:7]}, "7 rows are given, 8 are needed"),
        (own_models.two_inputs, {"a": ROWS[:, :3]}, "no rows are given for b"),
        (own_models.two_inputs, {"a": ROWS[:, :3], "b": ROWS[:9, :5]}, "different numbers of rows: 16 for a, 9 for b"),
        (own_models.TESTED["doubles"], {"x": ROWS.astype(np.float64)}, "x is not float32"),
        (own_models.TESTED["no_batch_axis"], {}, "no rows are given for x"),
        (own_models.pixels, {}, "no rows are given for x"),
    ],
)
def test_other_files_are_not_calibrated_and_it_is_said_why(make, rows, why, tmp_path):
    assert why in given_all(tmp_path, make, **rows).lacks_for_int8
