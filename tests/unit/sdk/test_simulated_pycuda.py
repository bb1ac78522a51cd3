"""The simulated PyCUDA, and libcudart by ctypes: what inference programs of users do with them."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
from vendor_sweep import simulated, tiny_answer, tiny_batch, tiny_model


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    monkeypatch.setattr(ctypes, "CDLL", ctypes.CDLL)  # put back afterwards
    monkeypatch.setattr(ctypes, "cdll", ctypes.cdll)
    packages = ("tensorrt", "cuda", "pycuda", "simulated_gpu", "simulated_libraries")
    with simulated(monkeypatch, tmp_path, "tensorrt", packages, "simulated_gpu") as sdk:
        yield sdk


@pytest.fixture
def cuda(sdk):
    """pycuda.driver with a current context, which autoinit of a program makes."""
    from pycuda import driver

    driver.init()
    context = driver.Device(0).make_context()
    yield driver
    context.pop()


@pytest.fixture
def cudart(sdk):
    import simulated_gpu

    assert simulated_gpu.gpu
    return ctypes.CDLL("libcudart.so")


def engine_of(tmp_path):
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1)
    model = tiny_model(tmp_path / "tiny.onnx")
    assert trt.OnnxParser(network, logger).parse(model.read_bytes())
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return trt.Runtime(logger).deserialize_cuda_engine(plan)


def test_bindings_are_filled_and_read_through_pycuda(sdk, cuda, tmp_path):
    """The loop of yolov3_onnx's common.py and of nearly every program since: page-locked arrays and one stream."""
    sdk.switch(trt_version="8.6.1")
    engine = engine_of(tmp_path)
    context, stream = engine.create_execution_context(), cuda.Stream()
    context.set_binding_shape(0, (2, 3, 8, 8))
    hosts, devices = [], []
    for binding in engine:
        shape = context.get_binding_shape(engine.get_binding_index(binding))
        hosts.append(cuda.pagelocked_empty(tuple(shape), np.float32))
        devices.append(cuda.mem_alloc(hosts[-1].nbytes))
    np.copyto(hosts[0], tiny_batch())

    cuda.memcpy_htod_async(devices[0], hosts[0], stream)
    assert context.execute_async_v2([int(each) for each in devices], stream.handle)
    for host, device in zip(hosts[1:], devices[1:], strict=True):
        cuda.memcpy_dtoh_async(host, device, stream)
    stream.synchronize()

    for ours, answer in zip(hosts[1:], tiny_answer(tmp_path / "tiny.onnx", tiny_batch()).values(), strict=True):
        np.testing.assert_allclose(ours, answer, atol=1e-3)


def test_device_memory_goes_with_its_object_and_errors_are_pycudas(sdk, cuda):
    import simulated_gpu

    held = simulated_gpu.gpu.held()
    made = cuda.to_device(np.arange(4, dtype=np.float32))
    assert simulated_gpu.gpu.held() != held
    back = np.empty(4, np.float32)
    cuda.memcpy_dtoh(back, made)
    assert back.tolist() == [0, 1, 2, 3]
    with pytest.raises(cuda.LogicError, match="cuMemcpyDtoH failed: invalid argument"):
        cuda.memcpy_dtoh(np.empty(1000, np.float32), made)
    with pytest.raises(BufferError, match="not contiguous"):
        cuda.memcpy_htod(made, np.zeros((4, 4), np.float32)[:, 0])
    del made
    gc.collect()
    assert simulated_gpu.gpu.held() == held
    sdk.switch(memory_mb=1)
    with pytest.raises(cuda.MemoryError, match="cuMemAlloc failed: out of memory"):
        cuda.mem_alloc(2 << 20)


def test_pycuda_wants_a_current_context(sdk, cuda):
    cuda.Context.pop()
    try:
        with pytest.raises(cuda.LogicError, match="no currently active context"):
            cuda.mem_alloc(16)
    finally:
        cuda.Device(0).make_context()


def test_who_attaches_to_a_context_and_detaches_leaves_it(sdk, cuda):
    """NVIDIA/DL4AGX (SparsityINT8, infer_engine.py) allocates so, and copies afterwards."""
    held = cuda.Context.attach()
    memory = cuda.mem_alloc(16)
    held.detach()

    cuda.memcpy_htod(memory, np.zeros(4, np.float32))
    assert sdk.wrongs() == []


def test_arrays_of_pycuda_and_kernels_are_refused_by_name(cuda):
    from pycuda import compiler, gpuarray

    made, stream = gpuarray.to_gpu(np.arange(3)), cuda.Stream()
    assert made.get().tolist() == [0, 1, 2]
    made.set_async(np.arange(3) + 5, stream)  # as onnx-tensorrt's tensorrt_engine.py does
    there = cuda.pagelocked_empty(3, made.dtype)
    assert made.get_async(stream, there) is there
    own = made.get_async(stream)
    stream.synchronize()
    assert there.tolist() == own.tolist() == [5, 6, 7]
    with pytest.raises(NotImplementedError, match="SourceModule is not simulated"):
        compiler.SourceModule("__global__ void f() {}")


def test_libcudart_by_ctypes_writes_through_its_first_pointers(cudart):
    address, stream, free, total = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    there, back = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    cudart.cudaMalloc.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t]

    assert cudart.cudaMalloc(ctypes.byref(address), 32) == 0
    assert cudart.cudaStreamCreate(ctypes.pointer(stream)) == 0
    assert cudart.cudaMemcpyAsync(address, there.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(32), 1, stream) == 0
    assert cudart.cudaStreamSynchronize(stream) == 0
    assert cudart.cudaMemcpy(ctypes.c_void_p(back.ctypes.data), address, 32, ctypes.c_int(2)) == 0
    assert back.tolist() == there.tolist()
    assert cudart.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
    assert 0 < free.value < total.value
    assert cudart.cudaGetErrorString(2) == b"out of memory"
    assert cudart.cudaFree(address) == 0
    assert cudart.cudaFree(address) != 0


def test_a_toolkits_own_file_is_not_loaded_and_a_packages_is(cudart, tmp_path):
    """Polygraphy looks in /usr/local/cuda/lib64 first; PyTorch loads what came with it."""
    for folder, simulated_one in ((tmp_path, True), (tmp_path / "site-packages", False)):
        folder.mkdir(exist_ok=True)
        (folder / "libcudart.so.13").write_bytes(b"no library")
        if simulated_one:
            assert ctypes.CDLL(str(folder / "libcudart.so.13")).cudaFree(0) == 0
        else:
            with pytest.raises(OSError, match="libcudart"):
                ctypes.CDLL(str(folder / "libcudart.so.13"))


def test_what_the_library_lacks_is_named_and_other_libraries_load(cudart):
    with pytest.raises(AttributeError, match="undefined symbol: cudaGraphAddKernelNode"):
        cudart.cudaGraphAddKernelNode  # noqa: B018
    assert ctypes.cdll.LoadLibrary("libnvinfer_plugin.so").initLibNvInferPlugins(None, b"") == 1
    with pytest.raises(OSError, match="absent"):
        ctypes.CDLL("libabsent.so")
    assert ctypes.CDLL(None).getpid


def test_a_network_goes_on_from_an_output_that_was_unmarked(sdk, tmp_path):
    """TensorRT-For-YOLO-Series puts layers behind the file's own output, whose shape the file alone knows."""
    import onnx
    import tensorrt as trt
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Unheard", ["image"], ["boxes"], domain="of.users")]
    graph = helper.make_graph(
        nodes, "one", [value("image", TensorProto.FLOAT, [1, 4])], [value("boxes", TensorProto.FLOAT, [1, 6, 5])]
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("of.users", 1)]
    network = trt.Builder(trt.Logger()).create_network(1)
    network.filled(onnx.load_from_string(helper.make_model(graph, opset_imports=imports).SerializeToString()))
    boxes = network.get_output(0)
    network.unmark_output(boxes)

    turned = network.add_shuffle(boxes)
    turned.second_transpose = (0, 2, 1)

    assert tuple(turned.get_output(0).shape) == (1, 5, 6)
