"""What the simulated chips remember is what they would compute: keyed by network and row, bounded, and never stale."""

from __future__ import annotations

import errno
import json
import os
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from vendor_sweep import SDK, simulated, tiny_answer, tiny_batch, tiny_model

sys.path.append(str(SDK.parent.parent))
from tests.sdk import rowwise


class Counting:
    """A network that doubles its input, and how many rows it was asked for."""

    def __init__(self, function=lambda image: [2 * image]):
        self.function, self.rows = function, 0

    def __call__(self, feeds):
        self.rows += len(feeds["image"])
        return self.function(feeds["image"])


@pytest.fixture(autouse=True)
def memory(monkeypatch, tmp_path):
    """A fresh memory with a folder."""
    monkeypatch.setitem(sys.modules, "simulate", __import__("tests.sdk.simulate", fromlist=["simulate"]))
    monkeypatch.setenv("CHIPPROOF_SIM", json.dumps({"memory": str(tmp_path / "memory")}))
    monkeypatch.setattr(rowwise, "memory", rowwise.Memory())
    return rowwise.memory


def batch(*seeds):
    return {"image": np.stack([tiny_batch(1, seed)[0] for seed in seeds])}


def test_each_different_row_is_computed_once():
    network = Counting()
    rows = rowwise.Rows("doubling", network)

    (out,) = rows(batch(0, 1, 0, 1, 0, 2))

    assert np.array_equal(out, 2 * batch(0, 1, 0, 1, 0, 2)["image"])
    assert network.rows == 3 + 2, "three different rows, and two together to see whether they mix"
    rows(batch(2, 1, 0))
    assert network.rows == 5


def test_inputs_of_several_lengths_have_no_rows():
    rows = rowwise.Rows("no batch", lambda feeds: [feeds["image"].sum() + feeds["memory"]])

    (out,) = rows({"image": np.ones((2, 4)), "memory": np.zeros((3, 4))})

    assert out.tolist() == [[8.0] * 4] * 3


def test_a_single_number_has_no_rows():
    whole = []
    rows = rowwise.Rows("adding", lambda feeds: whole.append(feeds) or [feeds["image"] + feeds["bias"]])

    (out,) = rows({"bias": np.float32(3), **batch(0, 0)})
    (alone,) = rows({"bias": np.float32(3), "image": np.float32(4)})

    assert np.array_equal(out, batch(0, 0)["image"] + 3)
    assert (alone, len(whole)) == (7, 2)


def test_a_row_that_changed_is_computed_again():
    network = Counting()
    rows = rowwise.Rows("doubling", network)
    feeds = batch(0, 1)
    rows(feeds)
    feeds["image"][1, 2, 7, 7] += 1

    (out,) = rows(feeds)

    assert np.array_equal(out, 2 * feeds["image"])
    assert network.rows == 2 + 2 + 1


def test_a_row_of_another_type_or_name_or_network_is_another_row():
    for name, feeds in (("a", batch(0)), ("b", batch(0)), ("a", {"image": batch(0)["image"].view(np.int32)})):
        network = Counting()
        rowwise.Rows(name, network)(feeds)
        assert network.rows == 1, f"{name} {feeds['image'].dtype}"


@pytest.mark.parametrize(
    "mixes",
    [
        lambda image: [image - image.mean(0)],
        lambda image: [np.roll(image, 1, 0)],
        lambda image: [image, image.sum((0, 2, 3))[None]],
        lambda image: [image.reshape(2, 2, -1)],
    ],
    ids=["takes the mean away", "rolls", "sums up", "made for four"],
)
@pytest.mark.parametrize("seeds", [(0, 1, 2, 0), (0, 0, 0, 0)], ids=["different rows", "one row"])
def test_a_network_that_mixes_the_rows_of_a_batch_is_computed_whole(mixes, seeds):
    feeds = batch(*seeds)
    rows = rowwise.Rows("mixing", Counting(mixes))

    for _ in range(2):
        for out, wanted in zip(rows(feeds), mixes(feeds["image"]), strict=True):
            assert np.array_equal(out, wanted)


def test_what_one_process_computed_another_knows(monkeypatch):
    wanted = rowwise.Rows("doubling", Counting())(batch(0, 1, 2))
    monkeypatch.setattr(rowwise, "memory", rowwise.Memory())
    network = Counting()

    found = rowwise.Rows("doubling", network)(batch(2, 1, 0))

    assert network.rows == 0
    assert np.array_equal(found[0], wanted[0][::-1])


def test_a_damaged_answer_is_computed_again(monkeypatch, tmp_path):
    rowwise.Rows("doubling", Counting())(batch(0))
    for path in (tmp_path / "memory").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setattr(rowwise, "memory", rowwise.Memory())
    network = Counting()

    (out,) = rowwise.Rows("doubling", network)(batch(0))

    assert network.rows == 1
    assert np.array_equal(out, 2 * batch(0)["image"])


def test_the_memory_is_bounded(monkeypatch, memory, tmp_path):
    monkeypatch.setattr(rowwise, "IN_PROCESS", 10_000)
    for number in range(30):
        memory.put(f"{number:02x}", [np.zeros(1000, np.uint8)])
        os.utime(tmp_path / "memory" / f"{number:02x}.npz", (number, number))

    assert sum(array.nbytes for held in memory._held.values() for array in held) == memory._bytes <= 10_000
    rowwise.sweep(tmp_path / "memory", 6_000)
    left = sorted(path.stem for path in (tmp_path / "memory").glob("*.npz"))
    assert left == ["19", "1a", "1b", "1c", "1d"][-len(left) :], "the latest stay"
    assert sum(path.stat().st_size for path in (tmp_path / "memory").iterdir()) <= 6_000


@pytest.mark.parametrize("fixed", [4, "batch"])
def test_an_engine_of_any_batch_is_the_same_network(tmp_path, fixed):
    model = onnx.load(tiny_model(tmp_path / "tiny.onnx"))
    other = onnx.load(tiny_model(tmp_path / "tiny.onnx"))
    for value in (*other.graph.input, *other.graph.output):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [
            fixed, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])
        ]))  # fmt: skip

    assert rowwise.name_of(rowwise.freed(model), "fp16") == rowwise.name_of(rowwise.freed(other), "fp16")
    assert rowwise.name_of(model, "fp16") != rowwise.name_of(model, "fp32")
    other.graph.initializer[0].raw_data = other.graph.initializer[1].raw_data
    assert rowwise.name_of(model) != rowwise.name_of(other)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    packages = ("tensorrt", "cuda", "pynvml", "simulated_gpu", "compiled", "rowwise")
    with simulated(monkeypatch, tmp_path, "tensorrt", packages, "simulated_gpu"):
        monkeypatch.setenv("CHIPPROOF_SIM", json.dumps({"memory": str(tmp_path / "memory")}))
        yield sys.modules["compiled"]


def test_a_batch_of_rows_is_what_onnx_runtime_computes_of_the_batch(compiled, tmp_path):
    path = tiny_model(tmp_path / "tiny.onnx")
    header = {"precision": "fp32", "outputs": [["second"], ["first"]]}
    images = tiny_batch(5)[[0, 1, 2, 1, 4]]

    second, first = compiled.network(header, path.read_bytes())({"image": images})

    for name, value in tiny_answer(path, images).items():
        np.testing.assert_allclose({"first": first, "second": second}[name], value, rtol=1e-5, atol=1e-6)


def test_faults_act_on_what_is_remembered(compiled, tmp_path, monkeypatch):
    import tensorrt as sdk

    path = tiny_model(tmp_path / "tiny.onnx")
    header = {"precision": "fp16", "inputs": [["image", "FLOAT", [-1, 3, 8, 8]]],
              "outputs": [["first", "FLOAT", [-1, 5]], ["second", "FLOAT", [-1, 5]]]}  # fmt: skip
    feeds = {"image": tiny_batch(4)}

    def outputs(**switches):
        monkeypatch.setenv("CHIPPROOF_SIM", json.dumps({"memory": str(tmp_path / "memory"), **switches}))
        return sdk._run.ICudaEngine(header, path.read_bytes(), None).compute(feeds)

    first, second = outputs()

    dropped = outputs(drop_rows=True)
    assert not dropped[0][-1].any()
    assert np.array_equal(dropped[0][:-1], first[:-1])
    assert np.isnan(outputs(nan=True)[0]).sum() == 1
    assert np.array_equal(outputs(swap_outputs=True)[0], second)
    assert np.array_equal(outputs()[0], first), "what is remembered stays as it was"
    assert np.array_equal(outputs()[1], second)


def test_eight_bits_are_the_same_however_the_calibration_set_is_batched(compiled, tmp_path):
    images = tiny_batch(5, seed=3)
    wanted = compiled.different([images])
    for size in (1, 2, 4, 8):
        batches = [images[[i % 5 for i in range(start, start + size)]] for start in range(0, 5, size)]

        assert np.array_equal(compiled.different(batches), wanted), f"in batches of {size}"

    whole, alone = (
        compiled.rounded(onnx.load(tiny_model(tmp_path / "tiny.onnx")), "int8", batches).SerializeToString()
        for batches in ([images], [images[i : i + 1] for i in range(5)])
    )
    assert whole == alone
    other = compiled.rounded(onnx.load(tiny_model(tmp_path / "tiny.onnx")), "int8", [3 * images]).SerializeToString()
    assert other != whole, "another calibration set makes another engine"


def test_eight_bits_may_find_more_or_fewer_than_the_whole_graph(compiled):
    """The sums of three columns are above 1 by less than 8 bit or FP16 hold: they stay of the whole graph alone."""
    from onnx import numpy_helper

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["sums"]), helper.make_node("Greater", ["sums", "one"], ["above"]),
        helper.make_node("Compress", ["sums", "above"], ["out"]),
    ]  # fmt: skip
    held = {"w": np.float32([[0.25 + 2**-20] * 3 + [1 / 3]] * 4), "one": np.float32(1)}
    graph = helper.make_graph(
        nodes, "found", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["found"])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = np.ones((1, 4), np.float32)

    whole, mixed = (
        compiled.simulate.runner(each).run(None, {"x": x})[0] for each in (model, compiled.rounded(model, "int8", [x]))
    )
    assert (len(whole), len(mixed)) == (4, 1)


def test_a_folder_that_takes_nothing_costs_no_answer(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)

    (out,) = rowwise.Rows("doubling", Counting())(batch(0))

    assert np.array_equal(out, 2 * batch(0)["image"])
    assert not list((tmp_path / "memory").rglob("*.part"))


def test_a_graph_that_decides_by_values_is_computed_whole(memory):
    """Two rows of this batch show nothing: alone and together their sum is positive."""
    from onnx import helper

    def by_sum(feeds):
        return [feeds["x"] * (1 if feeds["x"].sum() > 0 else -1)]

    fed = {"x": np.array([[1.0], [2.0], [-9.0]])}
    nodes = [helper.make_node(op, ["x"], ["y"]) for op in ("If", "Relu")]
    graphs = [helper.make_model(helper.make_graph([node], "g", [], [])) for node in nodes]

    assert [rowwise.decides(graph) for graph in graphs] == [True, False]
    assert np.array_equal(rowwise.Rows("whole", by_sum, True)(fed)[0], -fed["x"])
    assert not np.array_equal(rowwise.Rows("rows", by_sum)(fed)[0], -fed["x"])
