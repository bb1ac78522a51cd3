"""Networks built layer by layer in the simulated TensorRT, against PyTorch; and weights that are refitted."""

from __future__ import annotations

import inspect

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from vendor_sweep import simulated, tiny_answer, tiny_batch, tiny_model

F = torch.nn.functional
VERSIONS = ["8.6.1", "10.3.0", "11.4.0"]


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    packages = ("tensorrt", "cuda", "pynvml", "simulated_gpu")
    with simulated(monkeypatch, tmp_path, "tensorrt", packages, "simulated_gpu") as sdk:
        yield sdk


@pytest.fixture
def trt(sdk):
    import tensorrt

    return tensorrt


def begun(trt):
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 if trt.__version__.startswith("8") else 0)
    return builder, network, builder.create_builder_config()


def built(trt, builder, network, config):
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan)


def run(trt, engine, *arrays):
    """Outputs of execute_v2, by name."""
    from cuda.bindings import runtime as cudart

    context, addresses, outputs, fed = engine.create_execution_context(), [], {}, iter(arrays)
    kinds = cudart.cudaMemcpyKind
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            array = np.ascontiguousarray(next(fed))
        else:
            array = outputs[name] = np.zeros(engine.get_tensor_shape(name), trt.nptype(engine.get_tensor_dtype(name)))
        addresses.append(cudart.cudaMalloc(max(1, array.nbytes))[1])
        cudart.cudaMemcpy(addresses[-1], array, array.nbytes, kinds.cudaMemcpyHostToDevice)
    assert context.execute_v2(addresses)
    for address, array in zip(addresses[len(arrays) :], outputs.values(), strict=True):
        cudart.cudaMemcpy(array, address, array.nbytes, kinds.cudaMemcpyDeviceToHost)
    for address in addresses:
        cudart.cudaFree(address)
    return outputs


def values(*shape, seed=0):
    return np.random.RandomState(seed).uniform(0.1, 1.0, shape).astype(np.float32)


def set_to(layer, **settings):
    for name, value in settings.items():
        setattr(layer, name, value)
    return layer


KERNEL, BIAS = values(4, 3, 3, 3), values(4)
T = torch.from_numpy
LAYERS = {
    "convolution": (
        lambda net, trt, x: set_to(
            net.add_convolution_nd(input=x, num_output_maps=4, kernel_shape=(3, 3), kernel=KERNEL, bias=BIAS),
            stride_nd=(2, 2), padding_nd=(1, 1),
        ),
        lambda x: F.conv2d(x, T(KERNEL), T(BIAS), stride=2, padding=1),
    ),
    "convolution without a bias, dilated": (
        lambda net, trt, x: set_to(net.add_convolution_nd(x, 4, (3, 3), trt.Weights(KERNEL)), dilation_nd=(2, 2)),
        lambda x: F.conv2d(x, T(KERNEL), dilation=2),
    ),
    "deconvolution": (
        lambda net, trt, x: set_to(
            net.add_deconvolution_nd(x, 5, (2, 2), values(3, 5, 2, 2), values(5)), stride_nd=(2, 2)
        ),
        lambda x: F.conv_transpose2d(x, T(values(3, 5, 2, 2)), T(values(5)), stride=2),
    ),
    "largest of a window": (
        lambda net, trt, x: set_to(net.add_pooling_nd(x, trt.PoolingType.MAX, (3, 3)), stride_nd=(2, 2)),
        lambda x: F.max_pool2d(x, 3, 2),
    ),
    "mean of a window": (
        lambda net, trt, x: set_to(
            net.add_pooling_nd(x, trt.PoolingType.AVERAGE, trt.Dims2(2, 2)), stride_nd=(2, 2), padding_nd=(1, 1),
            average_count_excludes_padding=False,
        ),
        lambda x: F.avg_pool2d(x, 2, 2, padding=1),
    ),
    "relu": (lambda net, trt, x: net.add_activation(x, trt.ActivationType.RELU), F.relu),
    "leaky relu": (
        lambda net, trt, x: set_to(net.add_activation(x, trt.ActivationType.LEAKY_RELU), alpha=0.3),
        lambda x: F.leaky_relu(x, 0.3),
    ),
    "clip": (
        lambda net, trt, x: set_to(net.add_activation(x, trt.ActivationType.CLIP), alpha=0.2, beta=0.5),
        lambda x: x.clip(0.2, 0.5),
    ),
    "gelu": (lambda net, trt, x: net.add_activation(x, trt.ActivationType.GELU_ERF), F.gelu),
    "gelu by tanh": (
        lambda net, trt, x: net.add_activation(x, trt.ActivationType.GELU_TANH),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "scaled tanh": (
        lambda net, trt, x: set_to(net.add_activation(x, trt.ActivationType.SCALED_TANH), alpha=2.0, beta=3.0),
        lambda x: 2 * torch.tanh(3 * x),
    ),
    "product with a constant": (
        lambda net, trt, x: net.add_elementwise(
            x, net.add_constant((1, 3, 1, 1), values(3)).get_output(0), trt.ElementWiseOperation.PROD),
        lambda x: x * T(values(3)).view(1, 3, 1, 1),
    ),
    "a column for each matrix": (
        lambda net, trt, x: net.add_matrix_multiply(
            x, trt.MatrixOperation.NONE, net.add_constant((1, 3, 8), values(1, 3, 8)).get_output(0),
            trt.MatrixOperation.VECTOR),
        lambda x: (x @ T(values(1, 3, 8))[..., None])[..., 0],
    ),
    "a row for each matrix": (
        lambda net, trt, x: net.add_matrix_multiply(
            net.add_constant((1, 3, 8), values(1, 3, 8)).get_output(0), trt.MatrixOperation.VECTOR, x,
            trt.MatrixOperation.TRANSPOSE),
        lambda x: (T(values(1, 3, 8))[..., None, :] @ x.transpose(2, 3))[..., 0, :],
    ),
    "whole quotient": (
        lambda net, trt, x: net.add_elementwise(
            x, net.add_constant((1, 1, 1, 1), np.float32([0.3])).get_output(0), trt.ElementWiseOperation.FLOOR_DIV),
        lambda x: torch.floor(x / 0.3),
    ),
    "matrix product, transposed": (
        lambda net, trt, x: net.add_matrix_multiply(
            x, trt.MatrixOperation.NONE, net.add_constant((1, 1, 5, 8), values(5, 8)).get_output(0),
            trt.MatrixOperation.TRANSPOSE,
        ),
        lambda x: x @ T(values(5, 8)).T,
    ),
    "shuffle": (
        lambda net, trt, x: set_to(
            net.add_shuffle(x), first_transpose=trt.Permutation([0, 2, 3, 1]), reshape_dims=(2, -1, 3),
            second_transpose=(0, 2, 1),
        ),
        lambda x: x.permute(0, 2, 3, 1).reshape(2, -1, 3).permute(0, 2, 1),
    ),
    "concatenation": (
        lambda net, trt, x: set_to(net.add_concatenation([x, x]), axis=2), lambda x: torch.cat([x, x], 2)
    ),
    "softmax": (lambda net, trt, x: set_to(net.add_softmax(x), axes=1 << 3), lambda x: x.softmax(3)),
    "mean over axes": (
        lambda net, trt, x: net.add_reduce(x, trt.ReduceOperation.AVG, axes=1 << 2 | 1 << 3, keep_dims=False),
        lambda x: x.mean((2, 3)),
    ),
    "sum over an axis": (
        lambda net, trt, x: net.add_reduce(x, trt.ReduceOperation.SUM, 1 << 1, True), lambda x: x.sum(1, keepdim=True)
    ),
    "square root": (lambda net, trt, x: net.add_unary(x, trt.UnaryOperation.SQRT), torch.sqrt),
    "reciprocal": (lambda net, trt, x: net.add_unary(x, trt.UnaryOperation.RECIP), torch.reciprocal),
    "scale by channel": (
        lambda net, trt, x: net.add_scale(x, trt.ScaleMode.CHANNEL, shift=values(3, seed=1), scale=values(3)),
        lambda x: x * T(values(3)).view(1, 3, 1, 1) + T(values(3, seed=1)).view(1, 3, 1, 1),
    ),
    "slice": (
        lambda net, trt, x: net.add_slice(x, start=(0, 0, 1, 7), shape=(2, 3, 3, 4), stride=(1, 1, 2, -2)),
        lambda x: x[:, :, 1:6:2].flip(3)[..., ::2],
    ),
    "gather": (
        lambda net, trt, x: net.add_gather(x, net.add_constant((2,), np.int32([2, 0])).get_output(0), 1),
        lambda x: x[:, [2, 0]],
    ),
    "largest two": (lambda net, trt, x: net.add_topk(x, trt.TopKOperation.MAX, 2, 1 << 3), lambda x: x.topk(2, 3)[0]),
    "resize": (
        lambda net, trt, x: set_to(net.add_resize(x), shape=(2, 3, 16, 16)),
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    ),
    "padding": (lambda net, trt, x: net.add_padding_nd(x, (1, 0), (0, 2)), lambda x: F.pad(x, (0, 2, 1, 0))),
    "einsum": (lambda net, trt, x: net.add_einsum([x, x], "nchw,nchw->nc"), lambda x: (x * x).sum((2, 3))),
    "normalisation": (
        lambda net, trt, x: net.add_normalization(
            x, net.add_constant((1, 1, 1, 8), values(8)).get_output(0),
            net.add_constant((1, 1, 1, 8), values(8, seed=1)).get_output(0), 1 << 3,
        ),
        lambda x: F.layer_norm(x, (8,), T(values(8)), T(values(8, seed=1))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_what_pytorch_computes(sdk, trt, name):
    add, expected = LAYERS[name]
    builder, network, config = begun(trt)
    x = network.add_input("x", trt.float32, (2, 3, 8, 8))
    made = add(network, trt, x)
    made.get_output(0).name = "y"
    network.mark_output(made.get_output(0))
    wanted = expected(T(values(2, 3, 8, 8))).numpy()
    assert made.get_output(0).shape == wanted.shape

    found = run(trt, built(trt, builder, network, config), values(2, 3, 8, 8))

    assert list(found) == ["y"]
    np.testing.assert_allclose(found["y"], wanted, rtol=1e-5, atol=1e-6)
    assert sdk.wrongs() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_small_classifier_as_vendor_samples_build_it(sdk, trt, version):
    """As network_api_pytorch_mnist: shapes are asked for between layers, and settings change after the adding."""
    sdk.switch(trt_version=version)
    builder, network, config = begun(trt)
    x = network.add_input(name="data", dtype=trt.float32, shape=(1, 1, 12, 12))
    conv = network.add_convolution_nd(x, 6, (5, 5), values(6, 1, 5, 5), values(6))
    conv.stride_nd = (1, 1)
    pool = network.add_pooling_nd(input=conv.get_output(0), type=trt.PoolingType.MAX, window_size=(2, 2))
    pool.stride_nd = trt.Dims2(2, 2)
    inner = pool.get_output(0)
    count = int(np.prod(inner.shape))
    flat = network.add_shuffle(inner)
    flat.reshape_dims = trt.Dims2(1, count)
    weights = network.add_constant(trt.Dims2(10, count), values(10, count))
    none, turned = trt.MatrixOperation.NONE, trt.MatrixOperation.TRANSPOSE
    product = network.add_matrix_multiply(flat.get_output(0), none, weights.get_output(0), turned)
    product.get_output(0).name = "prob"
    network.mark_output(tensor=product.get_output(0))

    found = run(trt, built(trt, builder, network, config), values(1, 1, 12, 12))

    image = T(values(1, 1, 12, 12))
    features = F.max_pool2d(F.conv2d(image, T(values(6, 1, 5, 5)), T(values(6))), 2)
    np.testing.assert_allclose(found["prob"], (features.flatten(1) @ T(values(10, 96)).T).numpy(), rtol=1e-5)
    assert (network.num_layers, network.get_layer(0).name) == (5, "(Unnamed Layer* 0) [Convolution]")


def test_layers_are_added_behind_a_parsed_graph(sdk, trt, tmp_path):
    path = tiny_model(tmp_path / "tiny.onnx")
    builder, network, config = begun(trt)
    parser = trt.OnnxParser(network, trt.Logger())
    assert parser.parse_from_file(model=str(path))
    network.get_input(0).shape = (4, 3, 8, 8)
    first = network.get_output(0)
    more = network.add_activation(first, trt.ActivationType.SIGMOID)
    network.unmark_output(first)
    network.mark_output(more.get_output(0))
    profile = builder.create_optimization_profile()
    profile.set_shape(input="image", min=(4, 3, 8, 8), opt=(4, 3, 8, 8), max=(4, 3, 8, 8))
    assert profile.get_shape(input="image") == [(4, 3, 8, 8)] * 3
    config.add_optimization_profile(profile)

    engine = built(trt, builder, network, config)

    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    assert names == ["image", "second", more.get_output(0).name]


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (5, 3, 8, 8), (2, 3, 16, 8)])
def test_an_input_of_a_file_takes_another_shape_and_outputs_follow(sdk, trt, tmp_path, shape):
    """As yolov3_onnx of the vendor's samples does, whose file is of a batch of 64."""
    builder, network, config = begun(trt)
    path = tiny_model(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 64
    assert trt.OnnxParser(network, builder.logger).parse(model.SerializeToString())

    network.get_input(0).shape = list(shape)

    told = [tuple(network.get_output(i).shape) for i in range(network.num_outputs)]
    got = run(trt, built(trt, builder, network, config), x := values(*shape))
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.Clear()
    onnx.save(model, path)
    wanted = tiny_answer(path, x)
    assert told == [row.shape for row in wanted.values()]
    for name, want in wanted.items():
        np.testing.assert_allclose(got[name], want, rtol=1e-3, atol=1e-3)


def test_a_setting_that_a_layer_has_not_is_an_error(sdk, trt):
    _, network, _ = begun(trt)
    relu = network.add_activation(network.add_input("x", trt.float32, (1, 2)), trt.ActivationType.RELU)

    with pytest.raises(AttributeError, match="no setting stride_nd"):
        relu.stride_nd = (2, 2)
    assert not hasattr(relu, "stride_nd")
    assert relu.type == trt.ActivationType.RELU
    assert network.add_plugin_v2([], None) is None, "this plug-in is not run here"


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_names_of_8_6_are_there_in_8_6(sdk, trt, version):
    sdk.switch(trt_version=version)
    _, network, _ = begun(trt)
    x = network.add_input("x", trt.float32, (1, 3, 8, 8))
    if version == "10.3.0":
        for gone in ("add_convolution", "add_pooling", "add_fully_connected"):
            assert not hasattr(network, gone)
        return
    conv = network.add_convolution(input=x, num_output_maps=4, kernel_shape=(3, 3), kernel=KERNEL, bias=BIAS)
    conv.stride = (2, 2)
    assert conv.stride_nd == conv.stride == (2, 2)
    full = network.add_fully_connected(conv.get_output(0), 2, values(2, 36), values(2))
    assert full.get_output(0).shape == (1, 2, 1, 1)


def classifier(path, weight, shift):
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"], name="product"),
        helper.make_node("Add", ["product", "shift"], ["y"], name="sum"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [2, 3])], [value("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(shift, "shift")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def refittable(trt, path, *flags):
    builder, network, config = begun(trt)
    assert trt.OnnxParser(network, trt.Logger()).parse(path.read_bytes())
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    config.clear_flag(trt.BuilderFlag.TF32)
    return built(trt, builder, network, config)


@pytest.mark.parametrize("version", VERSIONS)
def test_named_weights_are_refitted(sdk, trt, tmp_path, version):
    sdk.switch(trt_version=version)
    engine = refittable(trt, classifier(tmp_path / "a.onnx", values(3, 4), values(4)), "REFIT")
    assert engine.refittable
    refitter = trt.Refitter(engine, trt.Logger(trt.Logger.INTERNAL_ERROR))
    assert sorted(refitter.get_all_weights()) == ["shift", "weight"]
    assert refitter.get_missing_weights() == []
    x = values(2, 3)
    np.testing.assert_allclose(run(trt, engine, x)["y"], x @ values(3, 4) + values(4), rtol=1e-6)

    new = values(3, 4, seed=7)
    assert refitter.set_named_weights("weight", new)
    assert not refitter.set_named_weights("weight", new[:2]), "of another size"
    assert not refitter.set_named_weights("nothing", new)
    assert refitter.refit_cuda_engine()

    np.testing.assert_allclose(run(trt, engine, x)["y"], x @ new + values(4), rtol=1e-6)


def test_weights_in_device_memory_are_read_when_the_engine_is_refitted(sdk, trt, tmp_path):
    from cuda.bindings import runtime as cudart

    engine = refittable(trt, classifier(tmp_path / "a.onnx", values(3, 4), values(4)), "REFIT")
    refitter = trt.Refitter(engine, trt.Logger(trt.Logger.INTERNAL_ERROR))
    refitter.weights_validation = False
    new = values(3, 4, seed=7)
    _, address = cudart.cudaMalloc(new.nbytes)
    held = trt.Weights(trt.DataType.FLOAT, address, new.size)
    wanted = refitter.get_weights_prototype(weights_name="weight")
    assert (held.dtype, held.size) == (wanted.dtype, wanted.size)
    assert refitter.set_named_weights("weight", held, trt.TensorLocation.DEVICE)
    assert refitter.get_weights_location("weight") == trt.TensorLocation.DEVICE
    cudart.cudaMemcpy(address, new, new.nbytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)
    assert refitter.refit_cuda_engine()

    np.testing.assert_allclose(run(trt, engine, values(2, 3))["y"], values(2, 3) @ new + values(4), rtol=1e-6)
    cudart.cudaFree(address)


def test_a_stripped_engine_needs_all_weights_and_takes_them_from_an_onnx_file(sdk, trt, tmp_path):
    path = classifier(tmp_path / "a.onnx", values(3, 4), values(4))
    engine = refittable(trt, path, "STRIP_PLAN")
    assert not run(trt, engine, values(2, 3))["y"].any(), "it has no weights"
    refitter = trt.Refitter(engine, trt.Logger(trt.Logger.INTERNAL_ERROR))
    assert refitter.get_missing_weights() == ["shift", "weight"]
    assert not refitter.refit_cuda_engine()
    other = trt.OnnxParserRefitter(refitter, trt.Logger())
    assert not other.refit_from_file(str(tmp_path / "absent.onnx"))
    assert "could not open" in str(other.get_error(index=0))
    other.clear_errors()
    assert other.refit_from_bytes(path.read_bytes())
    assert other.num_errors == 0
    assert refitter.refit_cuda_engine()

    np.testing.assert_allclose(run(trt, engine, values(2, 3))["y"], values(2, 3) @ values(3, 4) + values(4), rtol=1e-6)


def test_an_engine_that_was_not_built_for_it_is_not_refitted(sdk, trt, tmp_path):
    engine = refittable(trt, classifier(tmp_path / "a.onnx", values(3, 4), values(4)))

    assert not engine.refittable
    with pytest.raises(TypeError, match="nullptr"):
        trt.Refitter(engine, trt.Logger(trt.Logger.INTERNAL_ERROR))
    sdk.switch(trt_version="8.6.1")
    assert not hasattr(trt, "OnnxParserRefitter")


def test_weights_of_added_layers_are_refitted_by_layer_and_role_or_by_their_name(sdk, trt):
    builder, network, config = begun(trt)
    config.set_flag(trt.BuilderFlag.REFIT)
    conv = network.add_convolution_nd(network.add_input("x", trt.float32, (1, 3, 8, 8)), 4, (3, 3), KERNEL, BIAS)
    conv.name = "first"
    network.set_weights_name(BIAS, "the bias")
    conv.get_output(0).name = "y"
    network.mark_output(conv.get_output(0))
    engine = built(trt, builder, network, config)
    refitter = trt.Refitter(engine, trt.Logger(trt.Logger.INTERNAL_ERROR))
    assert refitter.get_all_weights() == ["first KERNEL", "the bias"]
    assert refitter.get_all() == (["first", "the bias"], [trt.WeightsRole.KERNEL, trt.WeightsRole.ANY])

    assert refitter.set_weights("first", trt.WeightsRole.KERNEL, 2 * KERNEL)
    assert refitter.refit_cuda_engine()

    wanted = F.conv2d(T(values(1, 3, 8, 8)), T(2 * KERNEL), T(BIAS)).numpy()
    np.testing.assert_allclose(run(trt, engine, values(1, 3, 8, 8))["y"], wanted, rtol=1e-5)


@pytest.mark.parametrize(("version", "refit", "tf32"), [("8.6.1", 5, 7), ("10.3.0", 4, 6), ("11.4.0", 4, 6)])
def test_numbers_of_builder_flags_are_those_of_the_release(sdk, trt, version, refit, tf32):
    sdk.switch(trt_version=version)
    _, _, config = begun(trt)

    assert (int(trt.BuilderFlag.REFIT), int(trt.BuilderFlag.TF32)) == (refit, tf32)
    assert config.flags == 1 << tf32, "TF32 is on unless cleared"


NAMED = {
    ("IOptimizationProfile", "set_shape"): "input min opt max",
    ("IBuilderConfig", "set_memory_pool_limit"): "pool pool_size",
    ("IBuilderConfig", "create_timing_cache"): "serialized_timing_cache",
    ("OnnxParser", "parse_from_file"): "model",
    ("OnnxParser", "get_error"): "index",
    ("Runtime", "deserialize_cuda_engine"): "serialized_engine",
    ("ICudaEngine", "get_tensor_name"): "index",
    ("ICudaEngine", "get_tensor_shape"): "name",
    ("ICudaEngine", "get_tensor_mode"): "name",
    ("ICudaEngine", "get_tensor_dtype"): "name",
    ("ICudaEngine", "get_tensor_profile_shape"): "name profile_index",
    ("IExecutionContext", "set_input_shape"): "name shape",
    ("IExecutionContext", "set_tensor_address"): "name memory",
    ("IExecutionContext", "get_tensor_address"): "name",
    ("IExecutionContext", "set_optimization_profile_async"): "profile_index stream_handle",
    ("IExecutionContext", "execute_async_v3"): "stream_handle",
    ("IExecutionContext", "execute_v2"): "bindings",
    ("INetworkDefinition", "get_layer"): "index",
    ("INetworkDefinition", "add_reduce"): "input op axes keep_dims",
    ("INetworkDefinition", "add_topk"): "input op k axes",
    ("Refitter", "set_weights"): "layer_name role weights",
    ("Logger", "log"): "severity msg",
}


@pytest.mark.parametrize("call", NAMED, ids=".".join)
def test_arguments_have_the_names_of_the_bindings(sdk, trt, call):
    owner, name = call

    known = [key for key in inspect.signature(getattr(getattr(trt, owner), name)).parameters if key != "self"]

    assert known == NAMED[call].split()


def two_profiles(trt, path):
    builder, network, config = begun(trt)
    assert trt.OnnxParser(network, trt.Logger()).parse_from_file(str(path))
    for most in (4, 8):
        profile = builder.create_optimization_profile()
        profile.set_shape("image", (1, 3, 8, 8), (most, 3, 8, 8), (most, 3, 8, 8))
        config.add_optimization_profile(profile)
    return built(trt, builder, network, config)


def test_bindings_of_several_profiles_lie_one_behind_the_other_in_8_6(sdk, trt, tmp_path):
    from cuda.bindings import runtime as cudart

    sdk.switch(trt_version="8.6.1")
    engine = two_profiles(trt, tiny_model(tmp_path / "tiny.onnx"))
    assert engine.num_bindings == 6
    assert [engine.get_binding_name(i) for i in (0, 3)] == ["image", "image [profile 1]"]
    assert engine.get_binding_index("first [profile 1]") == 4
    assert engine.get_profile_shape(1, "image")[2] == (8, 3, 8, 8)
    context = engine.create_execution_context()
    context.active_optimization_profile = 1
    assert context.set_binding_shape(3, (2, 3, 8, 8))
    images = tiny_batch(2)
    out = np.zeros(context.get_binding_shape(4), np.float32)
    rest = np.zeros(context.get_binding_shape(5), np.float32)
    addresses = [cudart.cudaMalloc(array.nbytes)[1] for array in (images, out, rest)]
    cudart.cudaMemcpy(addresses[0], images, images.nbytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)

    assert not context.execute_v2(addresses), "those of the first profile are missing"
    assert context.execute_v2([0, 0, 0, *addresses])

    cudart.cudaMemcpy(out, addresses[1], out.nbytes, cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost)
    np.testing.assert_allclose(out, tiny_answer(tmp_path / "tiny.onnx", images)["first"], rtol=1e-6)


def test_the_shape_of_an_output_in_a_profile_is_no_shape(sdk, trt, tmp_path):
    """Samples ask for it and go on: three Dims of rank -1, which iterate over nothing."""
    engine = two_profiles(trt, tiny_model(tmp_path / "tiny.onnx"))

    shapes = engine.get_tensor_profile_shape("first", 0)

    assert [trt.volume(shape) for shape in shapes] == [1, 1, 1]
    with pytest.raises(ValueError, match="should return >= 0"):
        len(shapes[0])
    assert engine.get_tensor_profile_shape("image", 1)[2] == (8, 3, 8, 8)


def test_an_output_allocator_is_asked_and_told_and_a_profiler_hears_of_the_time(sdk, trt, tmp_path):
    from cuda.bindings import runtime as cudart

    engine = refittable(trt, classifier(tmp_path / "a.onnx", values(3, 4), values(4)))
    heard = []

    class Allocator(trt.IOutputAllocator):
        def __init__(self):
            trt.IOutputAllocator.__init__(self)

        def reallocate_output(self, tensor_name, memory, size, alignment):
            heard.append((tensor_name, size))
            return cudart.cudaMalloc(size)[1]

        def notify_shape(self, tensor_name, shape):
            heard.append((tensor_name, tuple(shape)))

    class Profiler(trt.IProfiler):
        def report_layer_time(self, layer_name, ms):
            heard.append((layer_name, ms > 0))

    context = engine.create_execution_context()
    context.profiler = Profiler()
    assert context.set_output_allocator("y", Allocator())
    _, address = cudart.cudaMalloc(24)
    cudart.cudaMemcpy(address, values(2, 3), 24, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)
    context.set_tensor_address("x", address)
    assert context.execute_async_v3(0)

    assert heard == [("y", 32), ("y", (2, 4)), ("product", True)]
    assert context.get_tensor_strides("y") == (4, 1)


def test_dims_are_compared_and_changed_like_lists(trt):
    shape = trt.Dims([1, 3, 8, 8])
    shape[0] = 4

    assert shape == (4, 3, 8, 8) == tuple(shape)
    assert shape[1:] == (3, 8, 8)
    assert str(shape) == "(4, 3, 8, 8)"
    assert trt.DimsHW(2, 3).h == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_the_registry_of_plug_ins_is_looked_into(sdk, trt, version):
    sdk.switch(trt_version=version)
    registry = trt.get_plugin_registry()
    listed = registry.all_creators if version != "8.6.1" else registry.plugin_creator_list
    find = registry.get_creator if version != "8.6.1" else registry.get_plugin_creator

    assert "EfficientNMS_TRT" in [creator.name for creator in listed]
    assert find("EfficientNMS_TRT", "1", "").field_names[0].name == "score_threshold"
    assert find("EfficientNMS_TRT", "9", "") is None
    assert registry.load_library("/nowhere.so") is None

    class Mine(trt.IPluginCreator):
        def __init__(self):
            trt.IPluginCreator.__init__(self)
            self.name, self.plugin_version = "Mine", "1"
            self.field_names = trt.PluginFieldCollection(
                [trt.PluginField("pads", np.array([1, 2], np.int32), trt.PluginFieldType.INT32)]
            )

    mine = Mine()
    assert registry.register_creator(mine, "")
    assert not registry.register_creator(Mine(), "")
    assert find("Mine", "1", "").field_names[0].size == 2
    assert registry.deregister_creator(mine)
    assert find("Mine", "1", "") is None


def test_memory_of_a_pool_and_of_a_stream(sdk):
    from cuda.bindings import driver, runtime

    properties = runtime.cudaMemPoolProps()
    properties.location.type = runtime.cudaMemLocationType.cudaMemLocationTypeDevice
    error, pool = runtime.cudaMemPoolCreate(properties)
    assert error == 0
    threshold = runtime.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
    assert runtime.cudaMemPoolSetAttribute(pool, threshold, driver.cuuint64_t(1 << 20)) == (0,)
    _, stream = runtime.cudaStreamCreate()
    for error, address in (runtime.cudaMallocFromPoolAsync(64, pool, stream), runtime.cudaMallocAsync(64, stream)):
        assert error == 0
        assert runtime.cudaMemsetAsync(address, 3, 64, stream) == (0,)
        assert runtime.cudaFreeAsync(address, stream) == (0,)
    assert runtime.cudaMemPoolDestroy(pool) == (0,)
    assert runtime.cudaStreamQuery(stream) == (0,)
    runtime.cudaStreamDestroy(stream)
    assert sdk.wrongs() == []


# --- EfficientNMS_TRT: the plug-in that detectors are exported with -------------------------------------------------

MOST = 6
BOXES = np.concatenate([100 * values(2, 30, 2, seed=5), 100 + 100 * values(2, 30, 2, seed=6)], axis=2)
SCORES = values(2, 30, 3, seed=7)
ANCHORS = values(1, 30, 4, seed=8)


def suppressed(boxes, scores, agnostic=False, background=-1, score=0.4, overlap=0.5):
    """What the plug-in's README says, by torchvision: numbers, boxes, scores, classes."""
    from torchvision.ops import batched_nms

    rows = ([], [], [], [])
    for box, each in zip(boxes, scores, strict=True):
        anchor, kind = np.nonzero((each >= score) & (np.arange(each.shape[1]) != background))
        told = torch.from_numpy(each[anchor, kind])
        place = box[anchor] if box.ndim == 2 else box[anchor, kind]
        kept = batched_nms(T(place), told, T(0 * kind if agnostic else kind), overlap)[:MOST].numpy()
        lines = (np.array([len(kept)]), place[kept], told.numpy()[kept], kind[kept])
        for row, line, size in zip(rows, lines, (1, MOST, MOST, MOST), strict=True):
            row.append(np.concatenate([line, np.zeros((size - len(line), *line.shape[1:]), line.dtype)]))
    return [np.stack(row) for row in rows]


def nms_file(*inputs, **fields):
    """A file whose only node is the plug-in; anchors are a constant."""
    names = ["boxes", "scores", "anchors"][: len(inputs)]
    shapes = ([2, 1], [2, MOST, 4], [2, MOST], [2, MOST])
    kinds = (TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32)
    ours = {"score_threshold": 0.4, "iou_threshold": 0.5, "max_output_boxes": MOST, "plugin_version": "1"}
    outputs = [helper.make_tensor_value_info(f"o{i}", kinds[i], shapes[i]) for i in range(4)]
    node = helper.make_node(
        "EfficientNMS_TRT", names, [each.name for each in outputs], domain="TRT", **{**ours, **fields}
    )
    graph = helper.make_graph(
        [node],
        "nms",
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape)
            for n, v in zip(names[:2], inputs[:2], strict=True)
        ],
        outputs,
        [numpy_helper.from_array(value, name) for value, name in zip(inputs[2:], names[2:], strict=True)],
    )
    domains = [helper.make_opsetid("", 13), helper.make_opsetid("TRT", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString()


def centred(boxes):
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def decoded(boxes, anchors=ANCHORS):
    """Corners of `boxes` that anchors of centre and size decode."""
    centre, size = boxes[..., :2] * anchors[..., 2:] + anchors[..., :2], anchors[..., 2:] * np.exp(boxes[..., 2:])
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


RAW = values(2, 30, 4, seed=9)
BY_CLASS = BOXES[:, :, None] + np.float32([[0], [7], [31]])
NMS = {
    "by class": ((BOXES, SCORES), {}, lambda: suppressed(BOXES, SCORES)),
    "whatever the class": ((BOXES, SCORES), {"class_agnostic": 1}, lambda: suppressed(BOXES, SCORES, agnostic=True)),
    "without the background": (
        (BOXES, SCORES),
        {"background_class": 1},
        lambda: suppressed(BOXES, SCORES, background=1),
    ),
    "boxes by their centres": ((centred(BOXES), SCORES), {"box_coding": 1}, lambda: suppressed(BOXES, SCORES)),
    "a box for all classes": ((BOXES[:, :, None], SCORES), {}, lambda: suppressed(BOXES, SCORES)),
    "a box for each class": ((BY_CLASS, SCORES), {}, lambda: suppressed(BY_CLASS, SCORES)),
    "a box for each class, whatever it is": (
        (BY_CLASS, SCORES),
        {"class_agnostic": 1},
        lambda: suppressed(BY_CLASS, SCORES, agnostic=True),
    ),
    "anchors of a box for each class": (
        (values(2, 30, 3, 4, seed=10), SCORES, ANCHORS),
        {"box_coding": 1},
        lambda: suppressed(decoded(values(2, 30, 3, 4, seed=10), ANCHORS[:, :, None]), SCORES),
    ),
    "scores before the sigmoid": (
        (BOXES, np.log(SCORES / (1.001 - SCORES))),
        {"score_activation": 1},
        lambda: suppressed(BOXES, 1 / (1 + np.exp(-np.log(SCORES / (1.001 - SCORES))))),
    ),
    "anchors": ((RAW, SCORES, ANCHORS), {"box_coding": 1}, lambda: suppressed(decoded(RAW), SCORES)),
    "anchors of corners": ((RAW, SCORES, ANCHORS), {}, lambda: suppressed(RAW + ANCHORS, SCORES)),
    "nothing found": ((BOXES, SCORES), {"score_threshold": 2.0}, lambda: suppressed(BOXES, SCORES, score=2.0)),
}


@pytest.mark.parametrize("kind", NMS)
@pytest.mark.parametrize("version", VERSIONS)
def test_efficient_nms_of_a_file(sdk, trt, version, kind):
    sdk.switch(trt_version=version)
    inputs, fields, wanted = NMS[kind]
    builder, network, config = begun(trt)
    assert trt.OnnxParser(network, builder.logger).parse(nms_file(*inputs, **fields))

    outputs = run(trt, built(trt, builder, network, config), *inputs[:2])

    for got, want in zip(outputs.values(), wanted(), strict=True):
        assert got.dtype == (np.float32 if want.dtype.kind == "f" else np.int32)
        assert np.allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_efficient_nms_that_a_program_adds(sdk, trt, version):
    sdk.switch(trt_version=version)
    registry = trt.get_plugin_registry()
    creator = next(each for each in registry.plugin_creator_list if each.name == "EfficientNMS_TRT")
    kinds = trt.PluginFieldType
    fields = trt.PluginFieldCollection(
        [
            trt.PluginField("score_threshold", np.array([0.4], np.float32), kinds.FLOAT32),
            trt.PluginField("max_output_boxes", np.array([MOST], np.int32), kinds.INT32),
        ]
    )
    builder, network, config = begun(trt)
    inputs = [network.add_input(n, trt.float32, v.shape) for n, v in (("boxes", BOXES), ("scores", SCORES))]
    layer = network.add_plugin_v2(inputs, creator.create_plugin("nms", fields))
    for i in range(layer.num_outputs):
        network.mark_output(layer.get_output(i))

    outputs = run(trt, built(trt, builder, network, config), BOXES, SCORES)

    assert layer.type == trt.LayerType.PLUGIN_V2
    for got, want in zip(outputs.values(), suppressed(BOXES, SCORES), strict=True):
        assert np.allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        ("DecodeBoxes", "Plugin not found, are the plugin name, version, and namespace correct?"),
        ("BatchedNMS_TRT", "the plug-in BatchedNMS_TRT is not simulated"),
    ],
)
def test_an_operator_that_nobody_knows_is_refused_by_name(sdk, trt, operator, words):
    builder, network, _ = begun(trt)
    parser = trt.OnnxParser(network, builder.logger)
    model = onnx.load_from_string(nms_file(BOXES, SCORES))
    model.graph.node[0].op_type, model.graph.node[0].name = operator, "last"

    assert not parser.parse(model.SerializeToString())

    error = parser.get_error(0)
    assert (error.node(), error.node_name(), error.node_operator()) == (0, "last", operator)
    assert words in str(error)


def looped(trt, net, x, turns, axis=0, reverse=False):
    """h becomes tanh(x of the turn + half of h): (the loop, its recurrence, h of each turn, the count)."""
    loop = net.add_loop()
    count = net.add_constant((), np.array([turns], np.int32)).get_output(0)
    assert loop.add_trip_limit(count, trt.TripLimit.COUNT).kind == trt.TripLimit.COUNT
    held = loop.add_recurrence(net.add_constant((2, 3), np.ones((2, 3), np.float32)).get_output(0))
    piece = loop.add_iterator(x, axis, reverse).get_output(0)
    half = net.add_constant((1, 1), np.full((1, 1), 0.5, np.float32)).get_output(0)
    part = net.add_elementwise(held.get_output(0), half, trt.ElementWiseOperation.PROD).get_output(0)
    total = net.add_elementwise(piece, part, trt.ElementWiseOperation.SUM).get_output(0)
    each = net.add_activation(total, trt.ActivationType.TANH).get_output(0)
    held.set_input(1, each)
    assert (tuple(piece.shape), tuple(each.shape)) == ((2, 3), (2, 3))
    return loop, held, each, count


def turned(pieces):
    held, found = np.ones((2, 3), np.float32), []
    for piece in pieces:
        held = np.tanh(piece + held / 2)
        found.append(held)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("axis", "reverse"), [(0, False), (1, True)])
def test_a_loop_of_a_constant_count_gives_all_turns_and_the_last(sdk, trt, version, axis, reverse):
    """As 2_construct_network_with_layer_apis of the vendor's samples builds an LSTM."""
    sdk.switch(trt_version=version)
    x = values(2, 3, 4).transpose((2, 0, 1) if axis == 0 else (0, 2, 1))
    builder, net, config = begun(trt)
    loop, held, each, count = looped(trt, net, net.add_input("x", trt.float32, x.shape), 4, axis, reverse)
    rows = [
        loop.add_loop_output(each, trt.LoopOutput.CONCATENATE),
        loop.add_loop_output(each, trt.LoopOutput.REVERSE, 2),
    ]
    for row in rows:
        row.set_input(1, count)
    rows.append(loop.add_loop_output(held.get_output(0), trt.LoopOutput.LAST_VALUE))
    for row, name in zip(rows, ("all", "behind", "last"), strict=True):
        row.get_output(0).name = name
        net.mark_output(row.get_output(0))

    got = run(trt, built(trt, builder, net, config), x)

    pieces = [np.take(x, turn, axis) for turn in range(4)]
    wanted = turned(pieces[::-1] if reverse else pieces)
    np.testing.assert_allclose(got["all"], np.stack(wanted), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got["behind"], np.stack(wanted[::-1], 2), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got["last"], wanted[-1], rtol=1e-4, atol=1e-4)
    assert isinstance(loop, trt.ILoop)
    assert isinstance(held, trt.IRecurrenceLayer)
    assert (rows[1].axis, rows[1].loop) == (2, loop)


def test_a_loop_within_a_loop(sdk, trt):
    """The inner one begins each time where the outer one is."""
    x = values(3, 2, 3)
    builder, net, config = begun(trt)
    outer = net.add_loop()
    outer.add_trip_limit(net.add_constant((), np.array([2], np.int32)).get_output(0), trt.TripLimit.COUNT)
    start = net.add_input("start", trt.float32, (2, 3))
    held = outer.add_recurrence(start)
    inner, again, _, _ = looped(trt, net, net.add_input("x", trt.float32, x.shape), 3)
    again.set_input(0, held.get_output(0))
    held.set_input(1, inner.add_loop_output(again.get_output(0), trt.LoopOutput.LAST_VALUE).get_output(0))
    last = outer.add_loop_output(held.get_output(0), trt.LoopOutput.LAST_VALUE).get_output(0)
    net.mark_output(last)

    got = run(trt, built(trt, builder, net, config), start_of := values(2, 3, seed=1), x)

    held = start_of
    for piece in [*x, *x]:
        held = np.tanh(piece + held / 2)
    np.testing.assert_allclose(next(iter(got.values())), held, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", [True, False])
def test_a_branch_takes_the_side_that_its_condition_says(sdk, trt, which):
    x = values(2, 3)
    builder, net, config = begun(trt)
    fed = net.add_input("x", trt.float32, x.shape)
    two = net.add_constant((1, 1), np.full((1, 1), 2, np.float32)).get_output(0)
    branch = net.add_if_conditional()
    branch.set_condition(net.add_constant((), np.array([which])).get_output(0))
    inner = branch.add_input(fed).get_output(0)
    sides = [net.add_elementwise(inner, two, op).get_output(0) for op in
             (trt.ElementWiseOperation.PROD, trt.ElementWiseOperation.SUM)]  # fmt: skip
    made = branch.add_output(*sides)
    net.mark_output(made.get_output(0))

    got = run(trt, built(trt, builder, net, config), x)

    np.testing.assert_allclose(next(iter(got.values())), x * 2 if which else x + 2, rtol=1e-5)
    assert isinstance(made, trt.IIfConditionalOutputLayer)
    assert isinstance(branch, trt.IIfConditional)


def test_a_size_that_the_data_decide_stays_untold_where_no_input_is_free(sdk, trt):
    sdk.switch(trt_version="10.16.0")
    builder, net, config = begun(trt)
    made = net.add_non_zero(net.add_input("x", trt.float32, (2, 3))).get_output(0)
    made.name = "where"
    net.mark_output(made)
    context = built(trt, builder, net, config).create_execution_context()

    assert context.set_input_shape("x", (2, 3))
    assert tuple(context.get_tensor_shape("where")) == (2, -1)


@pytest.mark.parametrize(("given", "kind"), [((), "INT32"), (("INT64",), "INT64")])
def test_the_type_of_indices_of_what_is_not_zero(sdk, trt, given, kind):
    """pyGraph.cpp: INT32 unless said, which can be said from 10.16 on."""
    sdk.switch(trt_version="10.16.0")
    _, net, _ = begun(trt)
    layer = net.add_non_zero(net.add_input("x", trt.float32, (2, 3)), *(getattr(trt.DataType, each) for each in given))
    assert layer.get_output(0).dtype == getattr(trt.DataType, kind)


@pytest.mark.parametrize("most", [None, 3])
def test_a_loop_goes_on_while_its_condition_holds(sdk, trt, most):
    """As LoopStructure of NVIDIA's cookbook: looked at before each turn, a count ends it as well, and what an output of
    all turns has room for is filled with zeros."""
    sdk.switch(trt_version="10.3.0")
    x = np.float32([[[[1, 2], [3, 5]]]])
    builder, net, config = begun(trt)
    loop = net.add_loop()
    held = loop.add_recurrence(net.add_input("x", trt.float32, x.shape))
    line = net.add_shuffle(held.get_output(0))
    line.reshape_dims = [-1]
    first = net.add_shuffle(net.add_slice(line.get_output(0), [0], [1], [1]).get_output(0))
    first.reshape_dims = []
    limit = net.add_constant((), np.float32([32])).get_output(0)
    left = net.add_elementwise(limit, first.get_output(0), trt.ElementWiseOperation.SUB).get_output(0)
    open_ = net.add_cast(net.add_activation(left, trt.ActivationType.RELU).get_output(0), trt.bool).get_output(0)
    loop.add_trip_limit(open_, trt.TripLimit.WHILE)
    if most:
        loop.add_trip_limit(net.add_constant((), np.int32([most])).get_output(0), trt.TripLimit.COUNT)
    twice = net.add_elementwise(held.get_output(0), held.get_output(0), trt.ElementWiseOperation.SUM).get_output(0)
    held.set_input(1, twice)
    rows = [loop.add_loop_output(held.get_output(0), trt.LoopOutput.LAST_VALUE)]
    for kind, tensor in ((trt.LoopOutput.CONCATENATE, held.get_output(0)), (trt.LoopOutput.REVERSE, twice)):
        rows.append(loop.add_loop_output(tensor, kind))
        rows[-1].set_input(1, net.add_constant((), np.int32([6])).get_output(0))
    for row, name in zip(rows, ("last", "all", "behind"), strict=True):
        row.get_output(0).name = name
        net.mark_output(row.get_output(0))

    got = run(trt, built(trt, builder, net, config), x)

    turns = most or 5
    begins = np.stack([x * 2**turn * (turn < turns) for turn in range(6)])
    np.testing.assert_array_equal(got["last"], x * 2**turns)
    np.testing.assert_array_equal(got["all"], begins)
    np.testing.assert_array_equal(got["behind"], 2 * begins[::-1])


def test_a_loop_takes_as_many_turns_as_its_input_is_long(sdk, trt):
    sdk.switch(trt_version="10.3.0")
    builder, net, config = begun(trt)
    x = net.add_input("x", trt.float32, (-1, 2, 3))
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 2, 3), (4, 2, 3), (6, 2, 3))
    config.add_optimization_profile(profile)
    loop, _, each, _ = looped(trt, net, x, 9)
    length = net.add_shuffle(net.add_slice(net.add_shape(x).get_output(0), [0], [1], [1]).get_output(0))
    length.reshape_dims = ()
    count = net.add_cast(length.get_output(0), trt.int32).get_output(0)
    loop.add_trip_limit(count, trt.TripLimit.COUNT)
    row = loop.add_loop_output(each, trt.LoopOutput.CONCATENATE)
    row.set_input(1, count)
    row.get_output(0).name = "all"
    net.mark_output(row.get_output(0))
    engine = built(trt, builder, net, config)

    context = engine.create_execution_context()

    for turns in (3, 5):
        assert context.set_input_shape("x", (turns, 2, 3))
        assert tuple(context.get_tensor_shape("all")) == (turns, 2, 3)
        pieces = values(turns, 2, 3)
        np.testing.assert_allclose(engine.compute({"x": pieces})[0], np.stack(turned(pieces)), rtol=1e-4)


def test_a_condition_does_not_depend_on_an_iterator(sdk, trt):
    """NvInfer.h, addTripLimit."""
    _, net, _ = begun(trt)
    loop, held, each, _ = looped(trt, net, net.add_input("x", trt.float32, (4, 2, 3)), 4)
    loop.add_trip_limit(net.add_cast(each, trt.bool).get_output(0), trt.TripLimit.WHILE)

    with pytest.raises(ValueError, match="a condition cannot depend on an iterator"):
        assert loop.add_loop_output(held.get_output(0), trt.LoopOutput.LAST_VALUE).get_output(0).shape


def test_a_loop_whose_turns_an_input_says_is_refused(sdk, trt):
    _, net, _ = begun(trt)
    loop, held, _, _ = looped(trt, net, net.add_input("x", trt.float32, (4, 2, 3)), 4)
    loop.add_trip_limit(net.add_input("count", trt.int32, ()), trt.TripLimit.COUNT)
    last = loop.add_loop_output(held.get_output(0), trt.LoopOutput.LAST_VALUE)
    net.mark_output(last.get_output(0))

    with pytest.raises(ValueError, match="count, an input that says how many turns there are, is not simulated"):
        assert last.get_output(0).shape


# --- ROIAlign_TRT and PyramidROIAlign_TRT: the plug-ins that two-stage detectors are exported with ------------------

MAPS = [values(2, 3, side, side + 2, seed=side) for side in (32, 16, 8, 4)]
CORNERS = 1.4 * values(2, 9, 4, seed=11) - 0.2  # some outside the image, in any order
CORNERS[0, 0] = (0.4, 0.4, 0.4, 0.4)  # without area
CORNERS[0, 1] = (0.1, 0.1, 0.13, 0.12)


def plugin_file(kind, inputs, shape, opset=11, domain="", **fields):
    """A file whose only node is the plug-in `kind`, with one output, as export scripts write it."""
    told = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in inputs.items()
    ]
    node = helper.make_node(kind, list(inputs), ["y"], domain=domain, plugin_version="1", **fields)
    graph = helper.make_graph([node], kind, told, [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)])
    domains = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString()


def sampled(plane, y, x):
    """Bilinear, with the coordinates held within the plane."""
    height, width = plane.shape
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    a, b = y - top, x - left
    return (plane[top, left] * (1 - b) + plane[top, right] * b) * (1 - a) + (
        plane[below, left] * (1 - b) + plane[below, right] * b
    ) * a


def of_pyramid(
    fpn_scale=224, pooled_size=7, image_size=(1024, 1024), roi_coords_absolute=1, roi_coords_swap=0,
    roi_coords_plusone=0, roi_coords_transform=2, sampling_ratio=0, rois=CORNERS,
):  # fmt: skip
    """What the plug-in's README and kernel say, sample by sample."""
    out = np.zeros((2, 9, 3, pooled_size, pooled_size))
    extent = np.array(image_size, "f8")
    before, inside = {-1: (0, 0), 0: (0, 0), 1: (0, 0.5), 2: (0.5, 0.5)}[roi_coords_transform]
    for image, region in np.ndindex(2, 9):
        ends = rois[image, region].astype("f8").reshape(2, 2)
        ends = np.sort(ends if roi_coords_swap else ends[:, ::-1], axis=0)
        ends = np.clip(ends, 0, extent if roi_coords_absolute else 1) / (extent if roi_coords_absolute else 1)
        area = np.prod(ends[1] - ends[0] + roi_coords_plusone / extent)
        side = np.sqrt(area * extent.prod())
        level = sum(side > fpn_scale * step for step in (0.5, 1, 2))
        source = MAPS[level][image]
        size = np.array(source.shape[1:]) - (roi_coords_transform == -1)
        start, end = ends * size - before
        step = (end - start) / (pooled_size - (roi_coords_transform == -1))
        number = [sampling_ratio or max(1, int(np.ceil(each))) for each in step]
        for channel, i, j in np.ndindex(3, pooled_size, pooled_size):
            out[image, region, channel, i, j] = np.mean(
                [
                    sampled(
                        source[channel],
                        start[0] + step[0] * (i + (down + inside) / number[0]),
                        start[1] + step[1] * (j + (along + inside) / number[1]),
                    )
                    for down in range(number[0])
                    for along in range(number[1])
                ]
            )
    return out


PYRAMIDS = {
    "detectron 2": {"pooled_size": 5, "image_size": [256, 272], "roi_coords_absolute": 0},
    "mask r-cnn benchmark": {
        "pooled_size": 3, "image_size": [128, 136], "roi_coords_transform": 1, "roi_coords_plusone": 1,
        "sampling_ratio": 2,
    },
    "corners as y and x": {"image_size": [128, 136], "roi_coords_swap": 1, "pooled_size": 4, "fpn_scale": 60},
    "no half pixel": {"image_size": [64, 80], "roi_coords_absolute": 0, "roi_coords_transform": 0, "sampling_ratio": 3},
    "no half pixel, as many as fit": {"image_size": [300, 300], "roi_coords_absolute": 0, "roi_coords_transform": 0},
}  # fmt: skip


def in_pixels(fields):
    height, width = fields["image_size"]
    if not fields.get("roi_coords_absolute", 1):
        return CORNERS
    return CORNERS * np.float32(
        [height, width, height, width] if fields.get("roi_coords_swap") else [width, height] * 2
    )


def pooled(sdk, trt, version, text, inputs):
    sdk.switch(trt_version=version)
    builder, network, config = begun(trt)
    assert trt.OnnxParser(network, builder.logger).parse(text)
    return run(trt, built(trt, builder, network, config), *inputs.values())["y"]


@pytest.mark.parametrize("kind", PYRAMIDS)
def test_regions_of_a_pyramid_of_a_file(sdk, trt, kind):
    fields = PYRAMIDS[kind]
    rois = in_pixels(fields).astype(np.float32)
    inputs = {"rois": rois, **{f"p{i + 2}": each for i, each in enumerate(MAPS)}}
    side = fields.get("pooled_size", 7)

    got = pooled(
        sdk, trt, "10.3.0", plugin_file("PyramidROIAlign_TRT", inputs, (2, 9, 3, side, side), **fields), inputs
    )

    wanted = of_pyramid(**fields, rois=rois)
    assert len({float(each) for each in wanted[0, :, 0, 0, 0]}) > 3
    assert np.allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_regions_of_a_pyramid_as_the_first_release_took_them_by_a_program(sdk, trt, version):
    sdk.switch(trt_version=version)
    creator = next(e for e in trt.get_plugin_registry().plugin_creator_list if e.name == "PyramidROIAlign_TRT")
    kinds = trt.PluginFieldType
    fields = [("legacy", [1]), ("pooled_size", [3]), ("image_size", [512, 512])]
    given = trt.PluginFieldCollection([trt.PluginField(n, np.array(v, np.int32), kinds.INT32) for n, v in fields])
    builder, network, config = begun(trt)
    tensors = {"rois": CORNERS, **{f"p{i + 2}": each for i, each in enumerate(MAPS)}}
    inputs = [network.add_input(n, trt.float32, v.shape) for n, v in tensors.items()]
    layer = network.add_plugin_v2(inputs, creator.create_plugin("roi", given))
    network.mark_output(layer.get_output(0))

    (got,) = run(trt, built(trt, builder, network, config), *tensors.values()).values()

    old = {"fpn_scale": 158.4, "roi_coords_absolute": 0, "roi_coords_swap": 1, "roi_coords_transform": -1}
    assert np.allclose(got, of_pyramid(pooled_size=3, sampling_ratio=1, **old), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("half", [0, 1])
def test_regions_of_a_map(sdk, trt, version, half):
    from torchvision.ops import roi_align

    rois = (40 * CORNERS[0]).astype(np.float32)
    rois[:, 2:] = np.maximum(rois[:, 2:], rois[:, :2] + 0.5)
    image = np.array([0, 1, 1, 0, 0, 1, 0, 1, 0], np.int32)
    inputs = {"x": MAPS[1], "rois": rois, "images": image}
    fields = {"output_height": 3, "output_width": 2, "spatial_scale": 0.5, "sampling_ratio": 2}
    fields["coordinate_transformation_mode"] = half

    got = pooled(sdk, trt, version, plugin_file("ROIAlign_TRT", inputs, (9, 3, 3, 2), **fields), inputs)

    wanted = roi_align(T(MAPS[1]), T(np.hstack([image[:, None], rois]).astype(np.float32)), (3, 2), 0.5, 2, bool(half))
    assert np.allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-5)


REFUSED_ROIS = {
    "mode": ("ROIAlign_TRT", {"mode": 2}, "mode is out of its range"),
    "size": ("ROIAlign_TRT", {"output_width": 0}, "output_width is out of its range"),
    "samples": ("ROIAlign_TRT", {"sampling_ratio": -1}, "sampling_ratio is out of its range"),
    "offset": ("PyramidROIAlign_TRT", {"roi_coords_transform": 3}, "parameters within their ranges"),
    "first": ("PyramidROIAlign_TRT", {"roi_coords_transform": -1}, "with a sampling_ratio of 1"),
    "opset": ("ROIAlign_TRT", {"opset": 0}, "runs its plug-ins from opset 16 on"),
}


@pytest.mark.parametrize("kind", REFUSED_ROIS)
def test_parameters_of_regions_that_are_refused(sdk, trt, kind):
    sdk.switch(trt_version="10.3.0")
    name, fields, text = REFUSED_ROIS[kind]
    inputs = {"x": MAPS[1], "rois": CORNERS[0], "images": np.zeros(9, np.int32)}
    if name.startswith("P"):
        inputs = {"rois": CORNERS, **{f"p{i}": each for i, each in enumerate(MAPS)}}
    builder, network, _ = begun(trt)
    parser = trt.OnnxParser(network, builder.logger)

    assert not parser.parse(plugin_file(name, inputs, (9, 3, 1, 1), **fields))
    assert text in parser.get_error(0).desc()
