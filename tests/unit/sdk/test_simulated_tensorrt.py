"""The simulated TensorRT and CUDA carry what vendor programs do, in the release that has it and in no other."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from functools import partial

import numpy as np
import own_models
import pytest
from onnx import TensorProto
from vendor_sweep import SDK, simulated, tiny_answer, tiny_batch, tiny_model


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    packages = ("tensorrt", "cuda", "pynvml", "simulated_gpu")
    with simulated(monkeypatch, tmp_path, "tensorrt", packages, "simulated_gpu") as sdk:
        yield sdk


@pytest.fixture
def trt(sdk):
    import tensorrt

    return tensorrt


@pytest.fixture(params=["8.6.1", "10.3.0", "11.4.0"])
def release(request, sdk):
    sdk.switch(trt_version=request.param)
    return request.param


@pytest.fixture
def cudart(sdk):
    from cuda.bindings import runtime

    return runtime


@pytest.fixture
def fixed(tmp_path):
    """The tiny model, fixed at batch 4."""
    import onnx

    model = onnx.load(str(tiny_model(tmp_path / "tiny.onnx")))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    return tmp_path / "fixed.onnx"


def parsed(trt, path):
    """builder, network, config: as programs of 8.6 to 11 begin, from bytes."""
    logger = trt.Logger(trt.Logger.ERROR)
    assert trt.init_libnvinfer_plugins(logger, namespace="")
    builder = trt.Builder(logger)
    flags = 1 if trt.__version__.startswith("8") else 0
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(path.read_bytes())
    return builder, network, builder.create_builder_config()


def executed(trt, cudart, engine, images):
    """By execute_v2 and blocking copies of arrays, as samples/python/efficientnet does."""
    context = engine.create_execution_context()
    arrays, addresses = {}, []
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        arrays[name] = np.zeros(engine.get_tensor_shape(name), trt.nptype(engine.get_tensor_dtype(name)))
        error, address = cudart.cudaMalloc(arrays[name].nbytes)
        assert error == cudart.cudaError_t.cudaSuccess
        addresses.append(address)
    kinds = cudart.cudaMemcpyKind
    assert int(cudart.cudaMemcpy(addresses[0], images, images.nbytes, kinds.cudaMemcpyHostToDevice)[0]) == 0
    assert context.execute_v2(addresses)
    assert context.get_tensor_address(engine.get_tensor_name(0)) == addresses[0]
    for (name, array), address in zip(list(arrays.items())[1:], addresses[1:], strict=True):
        assert int(cudart.cudaMemcpy(array, address, array.nbytes, kinds.cudaMemcpyDeviceToHost)[0]) == 0, name
    for address in addresses:
        assert cudart.cudaFree(address) == (0,)
    return list(arrays.values())[1:]


def distance(ours, answer):
    return max(float(np.abs(one - other).max()) for one, other in zip(ours, answer.values(), strict=True))


def test_a_parser_makes_float_of_double(sdk, trt, release, tmp_path):
    double = partial(own_models.dense, dtype=TensorProto.DOUBLE, kind=np.float64)

    builder, network, config = parsed(trt, own_models.save(double, tmp_path / "double.onnx"))
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 8), (2, 8), (2, 8))
    config.add_optimization_profile(profile)

    assert [one.dtype for one in (network.get_input(0), network.get_output(0))] == [trt.float32, trt.float32]
    assert builder.build_serialized_network(network, config) is not None


def test_a_parser_names_a_type_that_it_lacks_and_its_code_is_a_number(sdk, trt, release, tmp_path, capsys):
    """onnx-tensorrt's backend.py prints the code as %i; convertDtype of its importerUtils.cpp has no INT16."""
    path = own_models.save(partial(own_models.dense, dtype=TensorProto.INT16, kind=np.int16), tmp_path / "short.onnx")
    logger = trt.Logger(trt.Logger.ERROR)
    parser = trt.OnnxParser(trt.Builder(logger).create_network(1 if trt.__version__.startswith("8") else 0), logger)

    assert not parser.parse(path.read_bytes())
    error = parser.get_error(0)
    assert ("%i" % error.code(), str(error.code())) == ("8", "UNSUPPORTED_NODE")  # noqa: UP031
    assert error.code() is trt.ErrorCode.UNSUPPORTED_NODE
    assert "Unsupported ONNX data type: INT16" in capsys.readouterr().err


def test_a_network_of_single_numbers_runs(sdk, trt, cudart, tmp_path):
    """onnx-tensorrt's backend over ONNX's node tests."""
    import onnx
    from onnx import helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "exp.onnx"
    )
    builder, network, config = parsed(trt, tmp_path / "exp.onnx")
    config.clear_flag(trt.BuilderFlag.TF32)
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(builder.build_serialized_network(network, config))

    (out,) = executed(trt, cudart, engine, np.ones((), np.float32))

    assert out == pytest.approx(np.e)


def test_an_axis_that_a_profile_holds_fixed_is_told(sdk, trt, cudart, tmp_path):
    """NvInferRuntime.h of 8.6 (getBindingDimensions) and of 10 (getTensorShape): -1 only for what varies within the
    profile. onnx-tensorrt's backend builds for the shapes of its inputs and then reads the engine's."""
    sdk.switch(trt_version="8.6.1")
    builder, network, config = parsed(trt, tiny_model(tmp_path / "tiny.onnx"))
    for low, high in ((2, 2), (1, 4)):
        profile = builder.create_optimization_profile()
        profile.set_shape("image", (low, 3, 8, 8), (high, 3, 8, 8), (high, 3, 8, 8))
        config.add_optimization_profile(profile)
        engine = builder.build_engine(network, config)
        if low == high:
            assert [engine.get_tensor_shape(name)[0] for name in engine] == [2] * len(engine)
            context = engine.create_execution_context()
            assert context.infer_shapes() == []
            assert not context.set_input_shape("image", (1, 3, 8, 8))
            outputs = executed(trt, cudart, engine, tiny_batch(2))
            assert distance(outputs, tiny_answer(tmp_path / "tiny.onnx", tiny_batch(2))) == 0

    assert engine.get_tensor_shape("image")[0] == -1  # the second profile varies
    context = engine.create_execution_context()
    assert context.set_input_shape("image", (2, 3, 8, 8))
    assert context.set_optimization_profile_async(0, 0)
    assert tuple(context.get_tensor_shape("image")) == (2, 3, 8, 8), "the profile is the same one"
    assert context.set_optimization_profile_async(1, 0)
    assert context.infer_shapes() == ["image"]
    names = len(engine)
    assert [engine.get_binding_shape(i)[0] for i in range(engine.num_bindings)] == [2] * names + [-1] * names
    with pytest.raises(ValueError, match="__len__"):
        len(engine.get_tensor_shape("no such tensor"))


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0"])
def test_bytes_are_parsed_and_run_by_execute_v2(sdk, trt, cudart, fixed, version):
    sdk.switch(trt_version=version)
    builder, network, config = parsed(trt, fixed)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 30
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan)

    outputs = executed(trt, cudart, engine, tiny_batch(4))

    assert distance(outputs, tiny_answer(fixed, tiny_batch(4))) == 0
    assert sdk.wrongs() == []


def test_execute_of_8_6_takes_a_batch_that_changes_nothing(sdk, trt, cudart, fixed):
    """What programs for TensorRT 5 to 7 call: the number is of implicit batches."""
    sdk.switch(trt_version="8.6.1")
    builder, network, config = parsed(trt, fixed)
    config.clear_flag(trt.BuilderFlag.TF32)
    context = builder.build_engine(network, config).create_execution_context()
    shapes = [context.engine.get_binding_shape(i) for i in range(3)]
    addresses = [cudart.cudaMalloc(4 * int(np.prod(shape)))[1] for shape in shapes]
    stream, kinds = cudart.cudaStreamCreate()[1], cudart.cudaMemcpyKind
    for call in (
        lambda: context.execute(1, addresses),
        lambda: context.execute_async(bindings=addresses, stream_handle=int(stream)),
    ):
        images, output = tiny_batch(4), np.zeros(shapes[1], np.float32)
        cudart.cudaMemcpy(addresses[0], images, images.nbytes, kinds.cudaMemcpyHostToDevice)
        cudart.cudaMemcpy(addresses[1], output, output.nbytes, kinds.cudaMemcpyHostToDevice)

        assert call()
        assert int(cudart.cudaStreamSynchronize(stream)[0]) == 0

        cudart.cudaMemcpy(output, addresses[1], output.nbytes, kinds.cudaMemcpyDeviceToHost)
        assert np.allclose(output, tiny_answer(fixed, images)["first"], atol=1e-6), call
    sdk.switch(trt_version="10.3.0")
    assert [hasattr(context, name) for name in ("execute", "execute_async")] == [False, False]  # as programs ask


READS = {
    "by a blocking copy": lambda cudart, stream, _: stream,
    "by a copy of another stream": lambda cudart, stream, _: cudart.cudaStreamCreate()[1],
    "when its input is gone": lambda cudart, stream, image: cudart.cudaFree(image) and stream,
    "when its stream is gone": lambda cudart, stream, _: cudart.cudaStreamDestroy(stream) and None,
    "when its input was written again": lambda cudart, stream, image: cudart.cudaMemset(image, 0, 64) and stream,
}


@pytest.mark.parametrize("how", READS)
def test_an_execute_that_was_waited_for_is_read(sdk, trt, cudart, fixed, how):
    """Most programs queue on a stream of their own, wait, and copy in another way."""
    builder, network, config = parsed(trt, fixed)
    config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan)
    context, images, kinds = engine.create_execution_context(), tiny_batch(4), cudart.cudaMemcpyKind
    addresses = [cudart.cudaMalloc(4 * int(np.prod(engine.get_tensor_shape(name))))[1] for name in engine]
    for name, address in zip(engine, addresses, strict=True):
        context.set_tensor_address(name, address)
    stream, output = cudart.cudaStreamCreate()[1], np.zeros(engine.get_tensor_shape("first"), np.float32)
    cudart.cudaMemcpy(addresses[0], images, images.nbytes, kinds.cudaMemcpyHostToDevice)
    assert context.execute_async_v3(int(stream))
    assert int(cudart.cudaStreamSynchronize(stream)[0]) == 0

    other = READS[how](cudart, stream, addresses[0])
    if how == "by a copy of another stream":
        cudart.cudaMemcpyAsync(output.ctypes.data, addresses[1], output.nbytes, kinds.cudaMemcpyDeviceToHost, other)
    else:
        cudart.cudaMemcpy(output, addresses[1], output.nbytes, kinds.cudaMemcpyDeviceToHost)

    assert np.allclose(output, tiny_answer(fixed, images)["first"], atol=1e-6)


def trtexec(*arguments):
    command = [sys.executable, str(SDK / "tensorrt" / "trtexec"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0"])
def test_trtexec_saves_an_engine_that_programs_load(sdk, trt, cudart, tmp_path, version):
    sdk.switch(trt_version=version)
    onnx, plan = tiny_model(tmp_path / "free.onnx"), tmp_path / "free.plan"
    ranges = [f"--{word}Shapes=image:{n}x3x8x8" for word, n in (("min", 1), ("opt", 2), ("max", 4))]

    done = trtexec(f"--onnx={onnx}", f"--saveEngine={plan}", *ranges, "--noTF32")

    assert done.returncode == 0, done.stdout
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan.read_bytes())
    assert engine.get_tensor_profile_shape("image", 0) == [(1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8)]
    assert trtexec(f"--loadEngine={plan}").returncode == 0


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
@pytest.mark.parametrize("word", ["int8", "best"])
def test_trtexec_makes_up_ranges_for_a_graph_without_any(sdk, trt, tmp_path, version, word):
    """sampleEngines.cpp: random numbers, for the speed alone. NVIDIA's Model-Optimizer builds its engines so."""
    sdk.switch(trt_version=version)
    onnx, plan = tiny_model(tmp_path / "free.onnx"), tmp_path / "free.plan"

    done = trtexec(
        f"--onnx={onnx}", f"--saveEngine={plan}", "--optShapes=image:2x3x8x8", f"--{word}", "--skipInference"
    )

    assert done.returncode == 0, done.stdout
    assert b"QuantizeLinear" in plan.read_bytes()


def test_trtexec_writes_the_files_that_it_is_asked_for(sdk, tmp_path):
    """sampleReporting.cpp; Model-Optimizer reads the profile."""
    onnx = tiny_model(tmp_path / "free.onnx")
    files = {word: tmp_path / word for word in ("exportTimes", "exportProfile", "exportLayerInfo")}

    done = trtexec(f"--onnx={onnx}", *(f"--{word}={path}" for word, path in files.items()))

    assert done.returncode == 0, done.stdout
    times, profile, layers = (json.loads(path.read_text()) for path in files.values())
    mean = float(re.search(r"GPU Compute Time: .*?mean = ([0-9.]+) ms", done.stdout).group(1))
    assert [row["computeMs"] for row in times] == pytest.approx([mean] * len(times))
    assert profile[0] == {"count": len(times)}
    assert [row["name"] for row in profile[1:]] == layers["Layers"]
    assert sum(row["averageMs"] for row in profile[1:]) == pytest.approx(mean)


def test_trtexec_says_what_it_cannot_build(sdk, tmp_path):
    (tmp_path / "none.onnx").write_bytes(b"no model")

    done = trtexec(f"--onnx={tmp_path / 'none.onnx'}", f"--saveEngine={tmp_path / 'a.plan'}")

    assert done.returncode == 1
    assert "failed to parse" in done.stdout + done.stderr
    assert "&&&& FAILED" in done.stdout


def test_the_builder_of_8_6_makes_engines_and_takes_a_workspace_size(sdk, trt, cudart, fixed):
    sdk.switch(trt_version="8.6.1")
    builder, network, config = parsed(trt, fixed)
    config.max_workspace_size = 1 << 33
    builder.max_batch_size = 4
    engine = builder.build_engine(network, config)

    assert [engine.get_binding_name(i) for i in range(engine.num_bindings)] == ["image", "first", "second"]
    assert [engine.binding_is_input(i) for i in range(3)] == [True, False, False]
    assert engine.get_binding_shape(0) == (4, 3, 8, 8)
    again = trt.Runtime(trt.Logger()).deserialize_cuda_engine(engine.serialize())
    assert distance(executed(trt, cudart, again, tiny_batch(4)), tiny_answer(fixed, tiny_batch(4))) == 0


def test_classes_of_algorithms_are_there_until_10(trt, release):
    """pyAlgorithmSelector.cpp, which 11 does not have; NVIDIA's cookbook derives from them."""
    names = [f"IAlgorithm{word}" for word in ("", "Context", "IOInfo", "Selector", "Variant")]
    assert [hasattr(trt, name) for name in names] == [release[:2] != "11"] * 5


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0"])
def test_what_a_release_removed_is_not_there(sdk, trt, fixed, version):
    sdk.switch(trt_version=version)
    builder, network, config = parsed(trt, fixed)

    with pytest.raises(AttributeError):
        builder.build_engine(network, config)
    with pytest.raises(AttributeError):
        config.max_workspace_size = 1
    with pytest.raises(AttributeError):
        config.no_such_setting = 1
    assert hasattr(builder, "platform_has_fast_fp16") == (version < "11")
    assert hasattr(trt, "IInt8MinMaxCalibrator") == (version < "11")
    assert hasattr(trt.BuilderFlag, "FP16") == (version < "11")


@pytest.mark.parametrize(("soc", "fast"), [("Tesla T4", (True, True)), ("NVIDIA H200", (True, True))])
def test_platforms_say_what_they_are_fast_in(sdk, trt, fixed, soc, fast):
    sdk.switch(soc=soc)
    builder, _, _ = parsed(trt, fixed)

    assert (builder.platform_has_fast_fp16, builder.platform_has_fast_int8) == fast
    assert builder.platform_has_tf32 == (soc == "NVIDIA H200")


def calibrator(trt, cudart, batch, cache):
    """As samples/python/efficientnet: says 8 images whatever the network takes, and keeps a cache."""
    error, address = cudart.cudaMalloc(8 * batch[0].nbytes)
    assert int(error) == 0
    fed = np.concatenate([batch, batch])[:8]
    cudart.cudaMemcpy(address, fed, fed.nbytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)
    left = [[address]]

    class Calibrator(trt.IInt8EntropyCalibrator2):
        def get_batch_size(self):
            return 8

        def get_batch(self, names):
            return left.pop() if left else None

        def read_calibration_cache(self):
            return cache.read_bytes() if cache.exists() else None

        def write_calibration_cache(self, data):
            cache.write_bytes(data)

    return Calibrator(), address


def test_a_static_batch_is_calibrated_whole_and_a_cache_gives_the_same_engine(sdk, trt, cudart, fixed, tmp_path):
    plans = []
    for _ in range(2):
        builder, network, config = parsed(trt, fixed)
        config.set_flag(trt.BuilderFlag.INT8)
        config.int8_calibrator, address = calibrator(trt, cudart, tiny_batch(4), tmp_path / "calibration.cache")
        plans.append(builder.build_serialized_network(network, config))
        cudart.cudaFree(address)

    assert plans[0] == plans[1]
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(plans[0])
    assert 0 < distance(executed(trt, cudart, engine, tiny_batch(4)), tiny_answer(fixed, tiny_batch(4))) < 0.3
    (tmp_path / "calibration.cache").write_bytes(b"something else")
    builder, network, config = parsed(trt, fixed)
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator, address = calibrator(trt, cudart, tiny_batch(4), tmp_path / "calibration.cache")
    assert builder.build_serialized_network(network, config) is None
    cudart.cudaFree(address)


def test_an_exception_in_a_callback_ends_the_calibration_and_goes_no_further(sdk, trt, cudart, fixed, tmp_path, capsys):
    """pyInt8.cpp of 8.6: getBatch prints what it caught and answers as after the last batch."""
    sdk.switch(trt_version="8.6.1")
    builder, network, config = parsed(trt, fixed)
    config.set_flag(trt.BuilderFlag.INT8)
    whole, address = calibrator(trt, cudart, tiny_batch(4), tmp_path / "calibration.cache")
    asked = []

    class Fails(type(whole)):
        def get_batch(self, names):
            asked.append(names)
            if len(asked) == 2:
                raise OSError("the disk is gone")
            return [np.int64(address)]

    for first, made in ((0, True), (1, False)):
        asked[:] = [None] * first  # the first batch, or the second
        config.int8_calibrator = Fails()
        assert (builder.build_serialized_network(network, config) is not None) == made
        assert "Exception caught in get_batch(): OSError: the disk is gone" in capsys.readouterr().err
        (tmp_path / "calibration.cache").unlink(missing_ok=True)
    cudart.cudaFree(address)


def test_a_layer_kept_in_half_is_not_in_int8(sdk, trt, cudart, fixed, tmp_path):
    plans = []
    for keep in (False, True):
        builder, network, config = parsed(trt, fixed)
        config.set_flag(trt.BuilderFlag.INT8)
        config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
        kinds = [network.get_layer(i) for i in range(network.num_layers)]
        for layer in kinds:
            if keep and layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.MATRIX_MULTIPLY):
                layer.precision = trt.float16
        config.int8_calibrator, address = calibrator(trt, cudart, tiny_batch(4), tmp_path / f"{keep}.cache")
        plans.append(bytes(builder.build_serialized_network(network, config)))
        cudart.cudaFree(address)

    assert b"QuantizeLinear" in plans[0]
    assert b"QuantizeLinear" not in plans[1]


def test_the_builder_reports_its_progress_and_may_be_stopped(sdk, trt, fixed, monkeypatch):
    seen = []

    class Monitor(trt.IProgressMonitor):
        def phase_start(self, phase_name, parent_phase, num_steps):
            seen.append(("start", phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name, step):
            seen.append(("step", step))
            return True

        def phase_finish(self, phase_name):
            seen.append(("finish", phase_name))

    builder, network, config = parsed(trt, fixed)
    config.progress_monitor = Monitor()
    assert builder.build_serialized_network(network, config)

    assert [row[0] for row in seen] == ["start", "step", "finish"]
    for answer in (lambda *_: False, lambda *_: 1 / 0):  # pyCore.cpp: an exception cancels as well
        monkeypatch.setattr(Monitor, "step_complete", answer)
        assert builder.build_serialized_network(network, config) is None


@pytest.mark.filterwarnings("error")
def test_context_managers_warn_that_they_do_nothing(sdk, trt):
    """mmdeploy and TensorRT's own samples put them around a logger too; other classes have none."""
    builder = trt.Builder(trt.Logger())
    for each in (builder, trt.Logger()):
        with pytest.warns(DeprecationWarning, match="Context managers for TensorRT types are deprecated"), each as same:
            assert same is each
    assert builder.create_network(0) is not None
    assert not hasattr(trt.tensorrt.EngineInspector, "__enter__")


def test_names_of_types_and_classes_that_samples_use(sdk, trt):
    assert trt.nptype(trt.float16) is np.float16
    assert trt.int64 is trt.DataType.INT64
    assert (trt.float32.itemsize, trt.bfloat16.itemsize) == (4, 2)
    assert trt.Dims4(1, 3, 8, 8) == trt.Dims([1, 3, 8, 8]) == (1, 3, 8, 8)
    for name in ("IBuilderConfig", "ITimingCache", "INetworkDefinition", "IHostMemory", "IOptimizationProfile"):
        assert isinstance(getattr(trt, name), type)
    assert f"{trt.DataType.HALF}" == "DataType.HALF"
    sdk.switch(trt_version="8.6.1")
    assert not hasattr(trt, "int64")


def test_streams_of_copies_take_arrays_and_the_default_stream_is_there(sdk, cudart):
    kinds = cudart.cudaMemcpyKind
    one = np.arange(16, dtype=np.float32)
    other = np.zeros_like(one)
    _, first = cudart.cudaMalloc(one.nbytes)
    _, second = cudart.cudaMalloc(one.nbytes)
    assert cudart.cudaMemcpyAsync(first, one, one.nbytes, kinds.cudaMemcpyHostToDevice, 0) == (0,)
    assert cudart.cudaMemcpyAsync(second, first, one.nbytes, kinds.cudaMemcpyDeviceToDevice, 0) == (0,)
    assert cudart.cudaMemcpyAsync(other, second, one.nbytes, kinds.cudaMemcpyDeviceToHost, 0) == (0,)
    assert cudart.cudaDeviceSynchronize() == (0,)
    cudart.cudaFree(first)
    cudart.cudaFree(second)

    assert other.tolist() == one.tolist()
    assert set(sdk.wrongs()) == {"cudaMemcpyAsync on the default stream"}, "our own backend must not"


def test_pinned_memory_is_read_when_the_copy_runs_not_when_it_is_queued(sdk, cudart):
    import ctypes

    _, host = cudart.cudaMallocHost(4)
    _, device = cudart.cudaMalloc(4)
    _, stream = cudart.cudaStreamCreate()
    back = np.zeros(4, np.uint8)
    ctypes.memset(host, 1, 4)
    cudart.cudaMemcpyAsync(device, host, 4, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)
    ctypes.memset(host, 2, 4)
    cudart.cudaStreamSynchronize(stream)
    cudart.cudaMemcpy(back, device, 4, cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost)
    cudart.cudaStreamDestroy(stream)
    cudart.cudaFree(device)
    cudart.cudaFreeHost(host)

    assert back.tolist() == [2, 2, 2, 2]


def test_the_driver_api_under_both_of_its_names(sdk):
    from cuda import cuda as old
    from cuda.bindings import driver, nvrtc

    assert old.cuInit is driver.cuInit
    assert driver.cuDeviceGetCount()[0] == driver.CUresult.CUDA_ERROR_NOT_INITIALIZED
    assert driver.cuInit(0) == (driver.CUresult.CUDA_SUCCESS,)
    assert driver.cuDeviceGetCount() == (0, 1)
    with pytest.raises(TypeError):
        driver.cuCtxCreate(None, 0, 0)
    assert driver.cuCtxCreate(0, 0)[0] == 0
    array, back = np.arange(8, dtype=np.uint8), np.zeros(8, np.uint8)
    error, address = driver.cuMemAlloc(8)
    assert (error, driver.cuMemcpyHtoD(address, array, 8), driver.cuMemcpyDtoH(back, address, 8)) == (0, (0,), (0,))
    assert driver.cuMemFree(address) == (0,)
    assert back.tolist() == array.tolist()
    assert driver.cuGetErrorName(driver.CUresult.CUDA_ERROR_NO_DEVICE) == (0, b"CUDA_ERROR_NO_DEVICE")
    assert nvrtc.nvrtcGetErrorString(nvrtc.nvrtcResult(6))[1] == b"NVRTC_ERROR_COMPILATION"
    sdk.switch(driver=False)
    with pytest.raises(RuntimeError, match="libcuda"):
        driver.cuInit(0)


def test_the_old_names_of_cuda_python_are_there(sdk):
    from cuda import cudart, nvrtc

    assert cudart.cudaGetDeviceCount() == (0, 1)
    assert int(nvrtc.nvrtcVersion()[0]) == 0


# --- what programs that list, derive and debug need ------------------------------------------------------------------


def test_an_object_lists_what_its_release_has(trt, fixed, release):
    """Programs go through dir() and ask each name (TensorRT cookbook, 02-API)."""
    for made in parsed(trt, fixed):
        names = [name for name in dir(made) if not name.startswith("_")]
        assert all(hasattr(made, name) for name in names)
        assert "max_workspace_size" not in names or release.startswith("8")


def test_layers_have_a_class_by_their_type(trt, fixed, release):
    _, network, _ = parsed(trt, fixed)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    one = next(layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION)

    assert isinstance(one, trt.IConvolutionLayer)
    assert not isinstance(one, trt.IPoolingLayer)
    assert trt.IConvolutionLayer is trt.tensorrt.IConvolutionLayer
    with pytest.raises(AttributeError, match="has no attribute 'INoSuchLayer'"):
        trt.INoSuchLayer  # noqa: B018


def test_what_is_not_simulated_says_so(trt):
    with pytest.raises(AttributeError, match="CaffeParser is not simulated: see tests/sdk/tensorrt"):
        trt.CaffeParser  # noqa: B018
    assert issubclass(type("Mine", (trt.IPluginV3, trt.IPluginV3OneCore), {}), trt.IPluginV3)


def test_every_free_axis_of_an_output_follows_the_inputs(sdk, trt, cudart, release):
    """TensorRT cookbook, 01-SimpleDemo: three free axes, of which only the batch was followed."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 if release.startswith("8") else 0)
    tensor = network.add_input("x", trt.float32, (-1, -1, -1))
    turned = network.add_shuffle(tensor)
    turned.first_transpose = (0, 2, 1)
    network.mark_output(turned.get_output(0))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("x", (1, 1, 1), (3, 4, 5), (6, 8, 10))
    config.add_optimization_profile(profile)
    engine = trt.Runtime(logger).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    context = engine.create_execution_context()
    name = engine.get_tensor_name(1)

    assert -1 in context.get_tensor_shape(name)
    assert context.set_input_shape("x", (3, 4, 5))
    assert tuple(context.get_tensor_shape(name)) == (3, 5, 4)
    assert context.set_input_shape("x", (1, 2, 9))
    assert tuple(context.get_tensor_shape(name)) == (1, 9, 2)


def test_a_calibrator_may_be_none(trt, fixed):
    _, _, config = parsed(trt, fixed)
    config.int8_calibrator = None

    assert config.int8_calibrator is None


def test_tensors_marked_for_debugging_are_shown_at_each_execute(sdk, trt, cudart, fixed):
    """samples of 10: mark_debug, a listener on the context, a state for each tensor."""
    sdk.switch(trt_version="10.3.0")
    builder, network, config = parsed(trt, fixed)
    inner = network.get_layer(0).get_output(0)
    assert network.mark_debug(inner)
    assert network.is_debug_tensor(inner)
    logger = trt.Logger(trt.Logger.ERROR)
    engine = trt.Runtime(logger).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    seen = []

    class Listener(trt.IDebugListener):
        def process_debug_tensor(self, addr, location, type, shape, name, stream):
            values = np.empty(tuple(shape), np.float32)
            kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
            assert cudart.cudaMemcpy(values, addr, values.nbytes, kind)[0] == 0
            seen.append((name, values))

    images = tiny_batch(4)
    context = engine.create_execution_context()
    listener = Listener()
    assert context.set_debug_listener(listener)
    assert context.get_debug_listener() is listener
    assert engine.num_io_tensors == 1 + network.num_outputs
    assert not context.set_tensor_debug_state("no such tensor", True)
    assert context.set_tensor_debug_state(inner.name, True)
    _, stream = cudart.cudaStreamCreate()
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        size = 4 * int(np.prod(tuple(engine.get_tensor_shape(name))))
        _, address = cudart.cudaMalloc(size)
        context.set_tensor_address(name, address)
        if i == 0:
            cudart.cudaMemcpy(address, images, images.nbytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)
    assert context.execute_async_v3(stream)
    assert cudart.cudaStreamSynchronize(stream)[0] == 0

    assert [name for name, _ in seen] == [inner.name]
    assert np.isfinite(seen[0][1]).all()
    assert seen[0][1].std() > 0
    assert context.set_all_tensors_debug_state(False)
    context.execute_async_v3(stream)
    assert len(seen) == 1


def test_an_address_is_an_int_an_array_or_a_buffer(sdk, cudart):
    """cuda-python takes a NumPy integer for a buffer, and copies from where the number lies."""
    _, address = cudart.cudaMalloc(8)
    kinds = cudart.cudaMemcpyKind
    assert cudart.cudaMemcpy(address, b"12345678", 8, kinds.cudaMemcpyHostToDevice) == (0,)
    back = bytearray(8)
    assert cudart.cudaMemcpy(back, address, 8, kinds.cudaMemcpyDeviceToHost) == (0,)
    assert back == b"12345678"
    for wrong in (np.int64(address), np.float32(1), 1.0, None):
        with pytest.raises(TypeError, match="an address of type"):
            cudart.cudaMemcpy(wrong, back, 8, kinds.cudaMemcpyHostToDevice)


def test_the_null_address_is_freed_without_an_error(sdk, cudart):
    assert cudart.cudaFree(0) == (0,)
    assert cudart.cudaFreeHost(0) == (0,)
    assert sdk.wrongs() == []


def test_types_of_half_a_byte_have_half_an_item_size(sdk, trt):
    assert (trt.int4.itemsize, trt.fp4.itemsize, trt.e8m0.itemsize, trt.bfloat16.itemsize) == (0.5, 0.5, 1, 2)
    assert trt._itemsize(trt.float32) == 4


def test_outputs_without_a_shape_in_the_file_have_one(trt, fixed):
    """Polygraphy's dynamic_identity.onnx says no shape of its output; it was taken for a single number."""
    import onnx

    model = onnx.load(str(fixed))
    told = [tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in model.graph.output]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, str(fixed))

    _, network, _ = parsed(trt, fixed)

    assert [tuple(network.get_output(i).shape) for i in range(network.num_outputs)] == told


def test_an_output_that_a_file_calls_a_single_number_has_its_own_shape(sdk, trt, cudart, fixed):
    """Polygraphy's residual_block: TensorRT asks no file for the shapes of outputs."""
    import onnx

    model = onnx.load(str(fixed))
    said = [len(value.type.tensor_type.shape.dim) for value in model.graph.output]
    for value in model.graph.output:
        del value.type.tensor_type.shape.dim[:]
        value.type.tensor_type.shape.SetInParent()
    onnx.save(model, str(fixed))
    _, network, _ = parsed(trt, fixed)
    assert [len(network.get_output(i).shape) for i in range(network.num_outputs)] == said


def test_an_attribute_that_an_operator_does_not_have_is_passed_over(sdk, trt, cudart, fixed):
    """Detectron 2's sample gives Gather the attribute "axes"."""
    import onnx

    wanted = tiny_answer(fixed, tiny_batch(4))
    model = onnx.load(str(fixed))
    for node in model.graph.node:
        node.attribute.append(onnx.helper.make_attribute("axes", [0]))
    onnx.save(model, str(fixed))
    sdk.switch(trt_version="10.3.0")
    builder, network, config = parsed(trt, fixed)
    engine = trt.Runtime(builder.logger).deserialize_cuda_engine(builder.build_serialized_network(network, config))

    assert distance(executed(trt, cudart, engine, tiny_batch(4)), wanted) == 0


@pytest.mark.parametrize(("version", "sources", "previews"), [("8.6.1", 31, 2), ("10.3.0", 24, 1), ("11.4.0", 3, 0)])
def test_a_new_configuration_has_what_is_usual(sdk, trt, version, sources, previews):
    """Polygraphy's own tests of 8.6 and 10."""
    sdk.switch(trt_version=version)
    config = trt.Builder(trt.Logger(trt.Logger.ERROR)).create_builder_config()
    assert config.get_tactic_sources() == sources
    assert sum(config.get_preview_feature(one) for one in trt.PreviewFeature) == previews
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) > 1 << 30
    assert config.get_memory_pool_limit(trt.MemoryPoolType.DLA_GLOBAL_DRAM) == 1 << 29
    assert f"{config.engine_capability} {trt.DataType.HALF}" == "EngineCapability.STANDARD DataType.HALF"
    assert str(trt.ProfilingVerbosity.DETAILED) == "ProfilingVerbosity.DETAILED"


def test_programs_ask_whether_an_object_has_a_method(trt, fixed, release):
    """Polygraphy asks a context for set_all_tensors_debug_state, others for execute_async_v2, before they call it."""
    builder, network, config = parsed(trt, fixed)
    plan = builder.build_serialized_network(network, config)
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(plan)
    context, old = engine.create_execution_context(), release.startswith("8")
    assert [hasattr(context, name) for name in ("execute_async_v2", "set_all_tensors_debug_state")] == [old, not old]
    names = ("get_binding_index", "create_serialization_config", "streamable_weights_size")
    assert [hasattr(engine, name) for name in names] == [old, not old, not old]


def test_a_slice_with_tensors_for_its_sizes_is_not_built(sdk, trt, capsys):
    """It was built with the sizes that it had at first."""
    sdk.switch(trt_version="10.3.0")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    sizes = network.add_constant((2,), np.array([1, 3], np.int64)).get_output(0)
    layer = network.add_slice(network.add_input("x", trt.float32, (1, 8)), (0, 1), (1, 1), (1, 2))
    layer.set_input(2, sizes)
    assert (layer.num_inputs, layer.get_input(1), layer.get_input(2)) == (3, None, sizes)
    network.mark_output(layer.get_output(0))
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert "takes its sizes from tensors is not simulated" in capsys.readouterr().out


def test_a_plan_is_read_from_a_stream_and_its_weights_may_stay_away(sdk, trt, fixed):
    sdk.switch(trt_version="10.3.0")
    builder, network, config = parsed(trt, fixed)
    config.set_flag(trt.BuilderFlag.WEIGHT_STREAMING)
    plan = io.BytesIO(bytes(builder.build_serialized_network(network, config)))

    class Reader(trt.IStreamReader):
        def read(self, size):
            return plan.read(size)

    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(Reader())
    assert engine.weight_streaming_budget_v2 == engine.streamable_weights_size > 1
    engine.weight_streaming_budget_v2 = 1
    assert engine.weight_streaming_budget_v2 == 1
    assert engine.get_device_memory_size_for_profile_v2(0) == engine.device_memory_size_v2
    assert engine.create_execution_context().update_device_memory_size_for_shapes() == engine.device_memory_size_v2


def test_a_captured_graph_computes_again_at_each_launch(sdk, trt, cudart, fixed):
    """TensorRT's diffusion demo and ultralytics' backend capture one execute and launch it for each batch."""
    sdk.switch(trt_version="10.3.0")
    builder, network, config = parsed(trt, fixed)
    config.clear_flag(trt.BuilderFlag.TF32)
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    context, held, kinds = engine.create_execution_context(), {}, cudart.cudaMemcpyKind
    for name in engine:
        held[name] = np.zeros(tuple(engine.get_tensor_shape(name)), np.float32)
        context.set_tensor_address(name, cudart.cudaMalloc(held[name].nbytes)[1])
    address = context.get_tensor_address
    _, stream = cudart.cudaStreamCreate()
    assert cudart.cudaStreamEndCapture(stream)[1] is None, "nothing is captured"

    assert cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal) == (0,)
    cudart.cudaMemcpyAsync(address("image"), held["image"], held["image"].nbytes, kinds.cudaMemcpyHostToDevice, stream)
    assert context.execute_async_v3(stream)
    assert cudart.cudaStreamIsCapturing(stream) == (0, 1)
    assert cudart.cudaStreamSynchronize(stream) == (cudart.cudaError_t.cudaErrorStreamCaptureUnsupported,)
    error, graph = cudart.cudaStreamEndCapture(stream)
    error, launched = cudart.cudaGraphInstantiate(graph, 0)
    assert int(error) == 0
    for images in (tiny_batch(4), 2 * tiny_batch(4)):
        held["image"][...] = images
        assert cudart.cudaGraphLaunch(launched, stream) == (0,)
        for name in list(held)[1:]:
            there = held[name]
            cudart.cudaMemcpyAsync(there, address(name), there.nbytes, kinds.cudaMemcpyDeviceToHost, stream)
        assert cudart.cudaStreamSynchronize(stream) == (0,)
        assert distance(list(held.values())[1:], tiny_answer(fixed, images)) == 0

    assert sdk.wrongs() == []
    cudart.cudaFree(address("image"))
    assert cudart.cudaGraphLaunch(launched, stream) == (cudart.cudaError_t.cudaErrorIllegalAddress,)
    assert (cudart.cudaGraphExecDestroy(launched), cudart.cudaGraphDestroy(graph)) == ((0,), (0,))


def test_what_programs_show_of_a_gpu_is_told(sdk):
    """codecarbon, TensorRT's cookbook and tensorrt_starter ask NVML for it; GPUtil asks nvidia-smi."""
    import pynvml

    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    first = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    assert pynvml.nvmlDeviceGetPowerUsage(gpu) < pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) == 70000
    assert pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM) == 1590
    assert pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM) == 5001
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) >= first
    assert pynvml.nvmlClocksThrottleReasonHwThermalSlowdown == pynvml.nvmlClocksEventReasonHwThermalSlowdown == 0x40
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetFanSpeed(gpu)
    with pytest.raises(pynvml.NVMLError_NoPermission):
        pynvml.nvmlDeviceSetGpuLockedClocks(gpu, 300, 1590)
    sdk.switch(fail=[["nvmlDeviceGetPowerUsage", 0, 15]])
    with pytest.raises(pynvml.NVMLError, match="GPU is lost"):
        pynvml.nvmlDeviceGetPowerUsage(gpu)

    wanted = "index,uuid,memory.total,memory.used,memory.free,gpu_name,gpu_serial,display_active,power.draw"
    command = [
        sys.executable,
        str(SDK / "tensorrt" / "nvidia-smi"),
        f"--query-gpu={wanted}",
        "--format=csv,noheader,nounits",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = dict(zip(wanted.split(","), done.stdout.strip().split(", "), strict=True))
    assert int(row["memory.used"]) + int(row["memory.free"]) == int(row["memory.total"]) == 15360
    assert row["gpu_name"] == "Tesla T4"
