"""The simulated aclruntime: what InferSession of the vendor's ais_bench asks of it, in the same order."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from ascend_tiny import begin_anew, cann, convert


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        import acl

        begin_anew(acl.chip)
        sdk.switch(slow=0.01)
        sys.modules.pop("aclruntime", None)
        sdk.aclruntime = importlib.import_module("aclruntime")
        yield sdk
        sys.modules.pop("aclruntime", None)
        begin_anew(acl.chip)


KINDS = {  # flags of atc, the calls that set a shape, the shape
    "static": (["--input_shape=image:2,3,8,8"], lambda s, _: s.set_staticbatch(), [2, 3, 8, 8]),
    "batch": (
        ["--input_shape=image:-1,3,8,8", "--dynamic_batch_size=1,2,4"],
        lambda s, dims: s.set_dynamic_batchsize(dims[0]),
        [2, 3, 8, 8],
    ),
    "sizes": (
        ["--input_shape=image:1,3,-1,-1", "--dynamic_image_size=8,8;16,12"],
        lambda s, dims: s.set_dynamic_hw(*dims[2:]),
        [1, 3, 16, 12],
    ),
    "dims": (
        ["--input_shape=image:-1,3,-1,8", "--dynamic_dims=1,8;2,10", "--input_format=ND"],
        lambda s, dims: s.set_dynamic_dims("image:" + ",".join(map(str, dims))),
        [2, 3, 10, 8],
    ),
    "shape": (
        ["--input_shape_range=image:[1~4,3,8~32,8]"],
        lambda s, dims: (s.set_dynamic_shape("image:" + ",".join(map(str, dims))), s.set_custom_outsize([99999] * 2)),
        [3, 3, 16, 8],
    ),
}


def opened(sdk, engine, loop=1):
    options = sdk.aclruntime.session_options()
    options.loop = loop
    return sdk.aclruntime.InferenceSession(str(engine), 0, options)


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_of_each_kind_runs_and_leaves_nothing(sdk, tmp_path, kind):
    flags, choose, dims = KINDS[kind]
    status, said, engine = convert(sdk, tmp_path, *flags)
    assert status == 0, said
    session = opened(sdk, engine)
    assert [row.name for row in session.get_inputs()] == ["image"], "the input of the gear is not the caller's"
    names = [row.name for row in session.get_outputs()]
    data = np.random.RandomState(5).rand(*dims).astype(np.float32)
    address = data.__array_interface__["data"][0]

    choose(session, dims)
    by_address = session.run(names, [sdk.aclruntime.BaseTensor(address, data.nbytes)])
    by_name = session.run(names, {"image": sdk.aclruntime.Tensor(data)})

    with pytest.raises(RuntimeError, match="not in host"):
        np.array(by_address[0])
    for one, other in zip(by_address, by_name, strict=True):
        one.to_host()
        other.to_host()
        np.testing.assert_array_equal(np.array(one), np.array(other))
    assert np.array(by_address[0]).shape == (dims[0], 4, *dims[2:])
    with pytest.raises(RuntimeError, match="not match"):
        session.run(names, [sdk.aclruntime.BaseTensor(address, data.nbytes // 2)])
    session.free_resource()
    assert session.finalize() == 0
    assert sdk.wrongs() == []


def test_what_was_not_compiled_is_refused_and_times_are_the_devices(sdk, tmp_path):
    status, said, engine = convert(sdk, tmp_path, *KINDS["batch"][0])
    assert status == 0, said
    session = opened(sdk, engine, loop=3)
    assert session.get_max_dym_batchsize() == 4
    with pytest.raises(RuntimeError, match="dynamic_batch"):
        session.set_dynamic_batchsize(3)
    session.set_dynamic_batchsize(4)
    session.run(
        [row.name for row in session.get_outputs()], [sdk.aclruntime.Tensor(np.zeros((4, 3, 8, 8), np.float32))]
    )

    times = [end - begin for begin, end in session.sumary().exec_time_list]

    assert times == pytest.approx([0.01 * (2 + 0.5 * 4)] * 3, rel=1e-3)
    session.reset_sumaryinfo()
    assert session.sumary().exec_time_list == []
    assert session.get_dym_aipp_input_exist() == 0
    assert session.finalize() == 0, "a session that is left goes with it"
    assert sdk.wrongs() == []


def test_outputs_become_inputs_and_a_pipeline_is_one_after_the_other(sdk, tmp_path):
    status, said, engine = convert(sdk, tmp_path, *KINDS["static"][0])
    assert status == 0, said
    session = opened(sdk, engine)
    names = [row.name for row in session.get_outputs()]
    first, second = (np.full((2, 3, 8, 8), value, np.float32) for value in (1, 2))
    session.first_inner_run(names, [sdk.aclruntime.Tensor(first)])
    (kept, _) = session.inner_run([-1], names, True, True)
    with pytest.raises(RuntimeError, match="not match"):
        session.inner_run([0], names, True, True)  # an output of another size than the input
    made = session.run_pipeline(
        names, [[sdk.aclruntime.Tensor(x)] for x in (first, second)], [[x.shape] for x in (first, second)], False, False
    )

    kept.to_host()
    np.testing.assert_array_equal(np.array(kept), np.array(made[0][0]))
    assert not np.array_equal(np.array(made[0][0]), np.array(made[1][0]))
    session.finalize()
    assert sdk.wrongs() == []


def test_an_older_release_tells_lengths_and_files_of_a_batch_are_one_tensor(sdk, tmp_path):
    status, said, engine = convert(sdk, tmp_path, *KINDS["static"][0])
    assert status == 0, said
    sdk.switch(ais_bench="old", slow=0.01)
    session = opened(sdk, engine)
    (row,) = session.get_inputs()
    files = [tmp_path / "a.bin", tmp_path / "b.bin"]
    for file in files:
        file.write_bytes(np.ones((3, 8, 8), np.float32).tobytes())

    session.run([row.name for row in session.get_outputs()], [session.create_tensor_from_fileslist(row, files)])

    assert session.sumary().exec_time_list == pytest.approx([0.03], rel=1e-3)
    with pytest.raises(RuntimeError, match="not match"):
        session.create_tensor_from_fileslist(row, files[:1])
    session.finalize()


def test_outputs_come_as_they_are_asked_for_and_what_is_strange_is_refused(sdk, tmp_path):
    """ait's own tests of aclruntime (test_inference.py), and AddOutTensors of ModelInferenceProcessor.cpp."""
    status, said, engine = convert(sdk, tmp_path, "--input_shape=image:2,3,8,8")
    assert status == 0, said
    session = opened(sdk, engine)
    first, second = (row.name for row in session.get_outputs())
    tensor = sdk.aclruntime.Tensor(np.random.RandomState(5).rand(2, 3, 8, 8).astype(np.float32))

    def fetched(names):
        outputs = session.run(names, {"image": tensor})
        for each in outputs:
            each.to_host()
        return [np.array(each) for each in outputs]

    forth, back = fetched([first, second]), fetched([second, first])
    for one, other in zip(forth, back[::-1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert forth[0].shape != forth[1].shape or (forth[0] != forth[1]).any()
    with pytest.raises(RuntimeError, match="xxx not valid"):
        session.run([first + "xxx"], {"image": tensor})
    with pytest.raises(RuntimeError, match="are not the model's"):
        session.run([first], {"other": tensor})
    with pytest.raises(TypeError, match="incompatible function arguments"):
        session.run([first], {"image": np.zeros((2, 3, 8, 8), np.float32)})
    with pytest.raises(RuntimeError, match="to_device failed"):
        tensor.to_device(100)


def test_a_pipeline_over_files_writes_what_a_run_gives(sdk, tmp_path):
    """pipeline.cpp of ait: `ais_bench --pipeline 1` and `--threads` run so."""
    status, said, engine = convert(sdk, tmp_path, "--input_shape_range=image:[1~4,3,8~32,8]")
    assert status == 0, said
    session, other = opened(sdk, engine), opened(sdk, engine)
    names = [row.name for row in session.get_outputs()]
    batches = [np.random.RandomState(i).rand(1 + i, 3, 8, 8).astype(np.float32) for i in range(3)]
    for i, batch in enumerate(batches):
        np.save(tmp_path / f"batch{i}.npy", batch)
    options = sdk.aclruntime.infer_options()
    options.output_dir, options.auto_dym_shape, options.out_format = str(tmp_path / "out"), True, "NPY"
    (tmp_path / "out").mkdir()
    for each in (session, other):
        each.set_custom_outsize([99999] * 2)

    assert session.run_pipeline([[str(tmp_path / f"batch{i}.npy")] for i in range(3)], options, [other]) is None

    assert len(session.sumary().exec_time_list) == 3
    assert other.sumary().exec_time_list == []
    for i, batch in enumerate(batches):
        session.set_dynamic_shape(f"image:{1 + i},3,8,8")
        for index, tensor in enumerate(session.run(names, [sdk.aclruntime.Tensor(batch)])):
            tensor.to_host()
            np.testing.assert_array_equal(np.load(tmp_path / "out" / f"batch{i}_{index}.npy"), np.array(tensor))
    (tmp_path / "batch.bin").write_bytes(batches[0].tobytes())
    session.set_dynamic_shape("image:1,3,8,8")
    options.auto_dym_shape, options.out_format = False, "BIN"
    session.run_pipeline([[str(tmp_path / "batch.bin")]], options, [])
    assert (tmp_path / "out" / "batch_0.bin").read_bytes() == np.load(tmp_path / "out" / "batch0_0.npy").tobytes()
    session.run_pipeline([["pure_infer_data_zero"]], options, [])
    assert len((tmp_path / "out" / "pure_infer_data_zero_0.bin").read_bytes()) > 0
