"""The simulated MagicMind carries what vendor programs do: partial configurations, no System, casts, reused lists."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import own_models
import pytest
from onnx import TensorProto
from vendor_sweep import simulated, tiny_answer, tiny_batch, tiny_model


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with simulated(monkeypatch, tmp_path, "magicmind", ("magicmind",), "magicmind.python.runtime._base") as sdk:
        yield sdk


@pytest.fixture
def mm(sdk):
    import magicmind.python.runtime as mm

    return mm


@pytest.fixture
def onnx(tmp_path):
    return tiny_model(tmp_path / "tiny.onnx")


def parsed(mm, path, batch=2):
    network = mm.Network()
    assert mm.parser.Parser(mm.ModelKind.kOnnx).parse(network, str(path)).ok()
    assert network.get_input(0).set_dimension(mm.Dims([batch, 3, 8, 8])).ok()
    return network


def configured(mm, *texts):
    config = mm.BuilderConfig()
    for text in ('{"opt_config": {"type64to32_conversion": true}}', *texts):
        assert config.parse_from_string(text).ok()
    return config


def executed(mm, model, array, outputs=None):
    """As vendor programs run a model: no System, no active device, statuses dropped."""
    context = model.create_i_engine().create_i_context()
    queue = mm.Device().create_queue()
    inputs = context.create_inputs()
    inputs[0].from_numpy(array)
    outputs = [] if outputs is None else outputs
    assert context.enqueue(inputs, outputs, queue).ok()
    queue.sync()
    return [output.asnumpy() for output in outputs]


def distance(ours, answer):
    return max(float(np.abs(one - other).max()) for one, other in zip(ours, answer.values(), strict=True))


class Samples:
    """Mixed into mm.CalibDataInterface: one batch, whose shape is known after `next` alone, as in resnet50_onnx."""

    def set(self, batch):
        self._all, self._left = batch, 1
        return self

    def reset(self):
        self._left = 1
        return self._mm.Status.OK()

    def next(self):
        if not self._left:
            return self._mm.Status(self._mm.Code.OUT_OF_RANGE, "done")
        self._left, self._sample = 0, self._all
        return self._mm.Status()

    def get_shape(self):
        return self._mm.Dims(self._sample.shape)

    def get_data_type(self):
        return self._mm.DataType.FLOAT32

    def get_sample(self):
        return self._sample


def samples(mm, batch):
    kind = type("Calib", (Samples, mm.CalibDataInterface), {"_mm": mm})
    return kind().set(batch)


# --- configuration -------------------------------------------------------------------------------------------------


def test_partial_strings_add_up_at_every_depth(mm, onnx):
    """The vendor's helpers give precision_config in three strings and opt_config in two."""
    config = configured(
        mm,
        '{"precision_config": {"precision_mode": "force_float16"}}',
        '{"precision_config": {"weight_quant_granularity": "per_axis"}}',
        '{"opt_config": {"conv_scale_fold": true}}',
    )

    model = mm.Builder().build_model("tiny", parsed(mm, onnx), config)

    assert model is not None, "type64to32_conversion was lost"
    assert model.header["precision"] == "fp16"


def test_a_later_value_replaces_an_earlier_one_and_lists_whole(mm):
    config = configured(mm, '{"archs": [{"mtp_372": [2, 6, 8]}]}', '{"archs": [{"mtp_372": [6]}]}')

    assert config.values["archs"] == [{"mtp_372": [6]}]


def test_a_file_is_merged_over_the_strings(mm, tmp_path):
    path = tmp_path / "build.json"
    path.write_text(json.dumps({"opt_config": {"conv_scale_fold": True}}))
    config = configured(mm)

    assert config.parse_from_file(str(path)).ok()
    assert config.values["opt_config"] == {"type64to32_conversion": True, "conv_scale_fold": True}
    assert "NOT_FOUND" in str(config.parse_from_file(str(tmp_path / "none.json")))
    path.write_text("[1]")
    assert not config.parse_from_file(str(path)).ok()


@pytest.mark.parametrize("mode", ["qint8_mixed_float32", "qint16_mixed_float16", "qint16_mixed_float32"])
def test_every_precision_mode_of_the_vendor_is_built_once_there_are_ranges(mm, onnx, mode):
    network = parsed(mm, onnx)
    texts = json.dumps({"precision_config": {"precision_mode": mode}})

    assert mm.Builder().build_model("tiny", network, configured(mm, texts)) is None
    ranges = '{"custom_ranges": {"": {"max": [1], "min": [-1]}}}'
    assert mm.Builder().build_model("tiny", network, configured(mm, texts, ranges)) is not None


def test_a_sample_larger_than_its_shape_is_read_from_its_start(mm, onnx):
    """u2net_pytorch hands all its images over at once and says the shape of a batch."""

    def made(batch, told):
        network = parsed(mm, onnx)
        config = configured(mm, '{"precision_config": {"precision_mode": "qint8_mixed_float16"}}')
        data = samples(mm, batch)
        data.get_shape = lambda: mm.Dims((told, 3, 8, 8))
        status = mm.Calibrator([data]).calibrate(network, config)
        return mm.Builder().build_model("tiny", network, config).graph if status.ok() else str(status)

    assert made(tiny_batch(7), 2) == made(tiny_batch(7)[:2], 2)
    assert "a sample is float32 (1, 3, 8, 8)" in made(tiny_batch(1), 2)


# --- without a System ----------------------------------------------------------------------------------------------


def test_calibrating_and_running_without_a_system_happen_on_device_0(sdk, mm, onnx):
    network = parsed(mm, onnx)
    config = configured(mm, '{"precision_config": {"precision_mode": "qint8_mixed_float16"}}')
    calibrator = mm.Calibrator([samples(mm, tiny_batch())])
    assert calibrator.calibrate(network, config).ok()
    model = mm.Builder().build_model("tiny", network, config)

    outputs = executed(mm, model, tiny_batch())

    assert 0 < distance(outputs, tiny_answer(onnx, tiny_batch())) < 0.3
    assert "mm.Model.create_i_engine without an active device" in sdk.wrongs(), "our own backend must not"


def test_what_was_made_under_a_system_works_after_it_closed(mm, onnx):
    """mm_runner.py leaves its `with mm.System()` in the constructor and runs afterwards."""
    model = mm.Builder().build_model("tiny", parsed(mm, onnx), configured(mm))
    with mm.System():
        device = mm.Device()
        assert device.active().ok()
        context, queue = model.create_i_engine().create_i_context(), device.create_queue()
        inputs, outputs = context.create_inputs(), []

    inputs[0].from_numpy(tiny_batch())
    assert context.enqueue(inputs, outputs, queue).ok()
    assert queue.sync().ok()
    assert distance([output.asnumpy() for output in outputs], tiny_answer(onnx, tiny_batch())) == 0


def test_a_filled_list_is_written_again_and_nothing_allocated(mm, onnx):
    from magicmind.python.runtime._base import driver

    model = mm.Builder().build_model("tiny", parsed(mm, onnx), configured(mm))
    context, queue = model.create_i_engine().create_i_context(), mm.Device().create_queue()
    inputs, outputs = context.create_inputs(), []
    for seed in range(3):
        inputs[0].from_numpy(tiny_batch(seed=seed))
        context.enqueue(inputs, outputs, queue)
        queue.sync()
        assert distance([o.asnumpy() for o in outputs], tiny_answer(onnx, tiny_batch(seed=seed))) == 0

    assert driver.allocations == 2
    assert not context.enqueue(inputs, outputs[:1], queue).ok(), "a list of another engine"


# --- types and layouts ---------------------------------------------------------------------------------------------


def test_doubles_are_cast_to_a_uint8_input(mm, onnx):
    """resnet50_onnx feeds np.empty(..., dtype=np.float) to an engine whose input is UINT8."""
    network = parsed(mm, onnx)
    config = configured(
        mm,
        '{"insert_bn_before_firstnode": {"0": {"mean": [1, 2, 3], "var": [4, 4, 4]}}}',
        '{"convert_input_layout": {"0": {"src": "NCHW", "dst": "NHWC"}}}',
    )
    model = mm.Builder().build_model("tiny", network, config)
    pixels = np.random.RandomState(0).randint(0, 256, (2, 8, 8, 3)).astype(np.float64)
    normal = ((pixels - [1, 2, 3]) / 2).astype(np.float32).transpose(0, 3, 1, 2)

    outputs = executed(mm, model, pixels)

    assert model.get_input_data_type(0) == mm.DataType.UINT8
    assert distance(outputs, tiny_answer(onnx, np.ascontiguousarray(normal))) < 1e-4


def test_an_input_can_be_given_another_type_without_normalisation(mm, onnx):
    network = parsed(mm, onnx)
    assert network.get_input(0).set_data_type(mm.DataType.UINT8).ok()
    model = mm.Builder().build_model("tiny", network, configured(mm))
    pixels = np.random.RandomState(0).randint(0, 256, (2, 3, 8, 8)).astype(np.uint8)

    outputs = executed(mm, model, pixels)

    assert model.get_input_data_types() == [mm.DataType.UINT8]
    assert distance(outputs, tiny_answer(onnx, pixels.astype(np.float32))) == 0


def test_an_output_can_be_given_another_type(mm, onnx):
    network = parsed(mm, onnx)
    network.get_output(1).set_data_type(mm.DataType.FLOAT16)
    model = mm.Builder().build_model("tiny", network, configured(mm))

    first, second = executed(mm, model, tiny_batch())

    assert (first.dtype, second.dtype) == (np.float32, np.float16)


def test_convert_output_layout_turns_the_output(mm, tmp_path):
    import onnx as package
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["map"])],
        "relu",
        [value("image", TensorProto.FLOAT, ["batch", 3, 8, 4])],
        [value("map", TensorProto.FLOAT, ["batch", 3, 8, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 8
    package.save(model, str(tmp_path / "relu.onnx"))
    network = mm.Network()
    assert mm.parser.Parser(mm.ModelKind.kOnnx).parse(network, str(tmp_path / "relu.onnx")).ok()
    rule = '{"convert_output_layout": {"0": {"src": "NCHW", "dst": "NHWC"}}}'
    built = mm.Builder().build_model("relu", network, configured(mm, rule))
    images = np.random.RandomState(0).uniform(-1, 1, (2, 3, 8, 4)).astype(np.float32)

    (turned,) = executed(mm, built, images)

    assert built.get_output_dimensions()[0].GetDims() == [-1, 8, 4, 3]
    np.testing.assert_array_equal(turned, np.maximum(images, 0).transpose(0, 2, 3, 1))


def test_a_mutable_engine_says_minus_one_and_runs_every_batch_of_its_range(mm, onnx):
    """The published engines fix the input at the batch and give dim_range beside it."""
    network = parsed(mm, onnx, batch=4)
    rule = '{"dim_range": {"0": {"min": [1, 3, 8, 8], "max": [8, 3, 8, 8]}}}'
    model = mm.Builder().build_model("tiny", network, configured(mm, '{"graph_shape_mutable": true}', rule))

    assert model.get_input_dimensions()[0].GetDims() == [-1, 3, 8, 8]
    assert distance(executed(mm, model, tiny_batch(7)), tiny_answer(onnx, tiny_batch(7))) == 0
    context = model.create_i_engine().create_i_context()
    assert "batch 1 to 8" in str(context.create_inputs()[0].from_numpy(tiny_batch(9)))


def test_height_and_width_can_be_free_as_well(mm, tmp_path):
    """hoitransformer and maskrcnn give ranges for N, H and W."""
    import onnx as package
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["map"])],
        "relu",
        [value("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [value("map", TensorProto.FLOAT, ["n", 3, "h", "w"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 8
    package.save(model, str(tmp_path / "free.onnx"))
    network = mm.Network()
    assert mm.parser.Parser(mm.ModelKind.kOnnx).parse(network, str(tmp_path / "free.onnx")).ok()
    rule = '{"dim_range": {"0": {"min": [1, 3, 4, 4], "max": [2, 3, 9, 9]}}}'
    built = mm.Builder().build_model("free", network, configured(mm, rule))

    for shape in ((1, 3, 5, 6), (2, 3, 9, 4)):
        images = np.random.RandomState(0).uniform(-1, 1, shape).astype(np.float32)
        outputs = executed(mm, built, images)
        np.testing.assert_array_equal(outputs[0], np.maximum(images, 0))


def traced(tmp_path, module, *given):
    import torch

    torch.jit.trace(module, given, check_trace=False).save(str(tmp_path / "traced.pt"))
    return str(tmp_path / "traced.pt")


def parsed_torch(mm, path, *inputs):
    """A network of a traced file; each input is (element type, dims)."""
    parser, network = mm.parser.Parser(mm.ModelKind.kPytorch), mm.Network()
    assert parser.set_model_param("pytorch-input-dtypes", [dtype for dtype, _ in inputs]).ok()
    assert parser.parse(network, path).ok()
    for i, (_, dims) in enumerate(inputs):
        assert network.get_input(i).set_dimension(mm.Dims(dims)).ok()
    return network


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated, and what the vendor's programs use
def test_a_traced_graph_may_return_lists_and_take_integers(mm, tmp_path):
    """yolov5, yolov7 and centernet return lists, some within tuples; the inputs of bert_squad are INT32."""
    import torch

    class Heads(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(5, 3)

        def forward(self, words):
            found = self.words(words)
            return found, [found + 1, found * 2]

    heads = Heads().eval()
    words = torch.tensor([[0, 4], [2, 1]], dtype=torch.int32)
    network = parsed_torch(mm, traced(tmp_path, heads, words), (mm.DataType.INT32, [2, 2]))
    assert network.get_output_count() == 3

    model = mm.Builder().build_model("heads", network, configured(mm, '{"graph_shape_mutable": false}'))

    with torch.no_grad():
        first, (second, third) = heads(words)
    for ours, answer in zip(executed(mm, model, words.numpy()), (first, second, third), strict=True):
        np.testing.assert_allclose(ours, answer.numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated, and what the vendor's programs use
def test_a_mutable_engine_of_a_traced_graph_takes_the_sizes_of_its_range(mm, tmp_path):
    """crnn is traced at a width of 200, built for 100 to 300, and fed 100."""
    import torch

    path = traced(tmp_path, torch.nn.ReLU(), torch.zeros(1, 1, 4, 8))
    network = parsed_torch(mm, path, (mm.DataType.FLOAT32, [1, 1, 4, 8]))
    rule = '{"dim_range": {"0": {"min": [1, 1, 4, 6], "max": [2, 1, 4, 9]}}}'
    model = mm.Builder().build_model("ranged", network, configured(mm, rule))
    images = np.random.RandomState(0).uniform(-1, 1, (2, 1, 4, 6)).astype(np.float32)

    np.testing.assert_array_equal(executed(mm, model, images)[0], np.maximum(images, 0))
    assert model.get_input_dimensions()[0].GetDims() == [-1, 1, 4, -1]
    assert model.get_output_dimensions()[0].GetDims() == [-1] * 4
    (tensor,) = model.create_i_engine().create_i_context().create_inputs()
    assert "sizes [1, 1, 4, 6] to [2, 1, 4, 9]" in str(tensor.from_numpy(np.zeros((1, 1, 4, 5), "f4")))
    free = mm.Builder().build_model("free", network, configured(mm))
    assert free.get_input_dimensions()[0].GetDims() == [-1] * 4


def test_mm_run_counts_the_largest_first_axis_and_wants_the_sizes_that_are_free(mm, tmp_path, capfd):
    """yolov3_paddle gives --input_dims 1,2 N,3,608,608 1,2; crnn's engine tells no width."""
    network = mm.Network()
    for dims in ([1, 2], [4, 3]):
        assert network.mark_output(network.add_input(mm.DataType.FLOAT32, mm.Dims(dims))).ok()
    path = tmp_path / "two"
    assert mm.Builder().build_model("two", network, configured(mm)).serialize_to_file(str(path)).ok()

    def ran(*words):
        command = [sys.executable, str(Path(mm.__file__).parents[3] / "mm_run"), "--magicmind_model", str(path), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = ran("--input_dims", "1,2", "4,3", "--duration", "10", "--host_async", "True")
    assert f"Throughput (qps):             {4 / 0.004:.6g}\n" in done.stdout
    assert "input0: [1, 2], input1: [4, 3]]" in done.stdout
    assert "give --batch_size or --input_dims" in ran("--batch_size", "4").stderr
    assert "1 input_dims for 2 inputs" in ran("--input_dims", "4,3").stderr
    assert ran("--no_such_word", "1").returncode


def test_the_reason_of_a_failure_is_printed_where_a_program_asks_no_status(mm, tmp_path, capfd):
    """The vendor's framework_parser.py drops the Status of parse."""
    mm.parser.Parser(mm.ModelKind.kOnnx).parse(mm.Network(), str(tmp_path / "absent.onnx"))

    assert "NOT_FOUND (5): no file" in capfd.readouterr().err


def test_calibration_of_a_graph_fixed_at_its_batch_takes_whole_batches(mm, tmp_path, onnx):
    import onnx as package

    model = package.load(str(onnx))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    package.save(model, str(tmp_path / "fixed.onnx"))
    network = parsed(mm, tmp_path / "fixed.onnx", batch=4)
    config = configured(mm, '{"precision_config": {"precision_mode": "qint8_mixed_float16"}}')
    assert mm.Calibrator([samples(mm, tiny_batch(4))]).calibrate(network, config).ok()

    built = mm.Builder().build_model("fixed", network, config)

    assert 0 < distance(executed(mm, built, tiny_batch(4)), tiny_answer(onnx, tiny_batch(4))) < 0.3


# --- the network ---------------------------------------------------------------------------------------------------


def test_outputs_can_be_unmarked_and_tensors_of_nodes_marked(mm, onnx):
    network = parsed(mm, onnx)
    nodes = {node.get_node_type(): node for node in network.get_all_nodes_in_network()}
    pooled = nodes["GlobalAveragePool"].get_output(0)
    assert pooled.get_data_type() == mm.DataType.FLOAT32
    while network.get_output_count():
        assert network.unmark_output(network.get_output(0)).ok()

    assert mm.Builder().build_model("tiny", network, configured(mm)) is None, "a network without outputs"
    assert network.mark_output(pooled).ok()
    assert not network.mark_output(pooled).ok()
    model = mm.Builder().build_model("tiny", network, configured(mm))

    (out,) = executed(mm, model, tiny_batch())
    assert out.shape == (2, 4, 1, 1)


def test_a_node_forced_to_fp32_keeps_its_weights_whole(mm, onnx):
    def built(force):
        network = parsed(mm, onnx)
        for node in network.get_all_nodes_in_network():
            if force and node.get_node_type() == "Gemm":
                for i in range(node.get_input_count()):
                    assert node.set_precision(i, mm.DataType.FLOAT32).ok()
                assert node.set_output_type(0, mm.DataType.FLOAT32).ok()
        config = configured(mm, '{"precision_config": {"precision_mode": "force_float16"}}')
        return mm.Builder().build_model("tiny", network, config).graph

    assert built(True) != built(False)


def test_inputs_can_be_added_and_handed_through(mm):
    network = mm.Network()
    tensor = network.add_input(mm.DataType.INT32, mm.Dims([2, 3]))
    assert network.mark_output(tensor).ok()
    model = mm.Builder().build_model("through", network)

    (out,) = executed(mm, model, np.arange(6, dtype=np.int64).reshape(2, 3))

    assert out.dtype == np.int32
    assert out.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_calibrator_on_another_machine_needs_no_device_here(sdk, mm, onnx):
    network, config = parsed(mm, onnx), configured(mm)
    calibrator = mm.Calibrator([samples(mm, tiny_batch())])
    remote = mm.RemoteConfig()
    assert not calibrator.set_remote(remote).ok()
    remote.address = "10.0.0.1:8008"
    assert calibrator.set_remote(remote).ok()

    assert calibrator.calibrate(network, config).ok()
    assert not [line for line in sdk.wrongs() if "active device" in line]


def test_the_raw_bindings_can_be_imported(mm):
    from magicmind.python.cc._pywrap_runtime import ITensor
    from magicmind.python.cc._pywrap_runtime.enums import DataType

    assert DataType is mm.DataType
    network = SimpleNamespace(tensor=mm.Network().add_input(mm.DataType.FLOAT32))
    assert isinstance(network.tensor, ITensor)


def test_tensors_that_a_program_makes_are_fed_and_filled(mm, onnx):
    """tacotron2_onnx of v1.1 makes its own inputs, bert_tensorflow of v1.2 its outputs."""
    model = mm.Builder().build_model("tiny", parsed(mm, onnx), configured(mm))
    context, queue = model.create_i_engine().create_i_context(), mm.Device().create_queue()
    batch = tiny_batch(2)
    tensor = mm.Tensor(shape=batch.shape, dtype=mm.DataType.FLOAT32, location=mm.TensorLocation.kMLU)

    assert context.create_outputs([tensor], suppress_infer_shape_error=True) is None
    assert tensor.from_numpy(batch).ok()
    outputs = context.create_outputs([tensor])
    given = list(outputs)
    assert context.enqueue([tensor], outputs, queue, input_by_tensor_order=True).ok()
    queue.sync()

    assert outputs == given, "written, not replaced"
    assert distance([output.asnumpy() for output in outputs], tiny_answer(onnx, batch)) < 1e-5


def test_a_parser_takes_no_double(mm, tmp_path):
    double = partial(own_models.dense, dtype=TensorProto.DOUBLE, kind=np.float64)

    told = mm.parser.Parser(mm.ModelKind.kOnnx).parse(mm.Network(), str(own_models.save(double, tmp_path / "d.onnx")))

    assert not told.ok()
    assert "x is of float64" in str(told)
