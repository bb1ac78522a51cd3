"""The simulated TensorRT and CUDA carry what vendor programs do, in the release that has it and in no other."""

from __future__ import annotations

import numpy as np
import pytest
from vendor_sweep import simulated, tiny_answer, tiny_batch, tiny_model


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    packages = ("tensorrt", "cuda", "pynvml", "simulated_gpu")
    with simulated(monkeypatch, tmp_path, "tensorrt", packages, "simulated_gpu") as sdk:
        yield sdk


@pytest.fixture
def trt(sdk):
    import tensorrt

    return tensorrt


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


def test_the_builder_reports_its_progress(sdk, trt, fixed):
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


@pytest.mark.filterwarnings("error")
def test_context_managers_warn_that_they_do_nothing(sdk, trt):
    builder = trt.Builder(trt.Logger())
    with pytest.warns(DeprecationWarning, match="Context managers for TensorRT types are deprecated"), builder as same:
        assert same is builder
    assert builder.create_network(0) is not None


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
