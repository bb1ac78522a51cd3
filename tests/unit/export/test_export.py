"""What is exported is the model: its names, its opset, its batch, its numbers; and nothing else passes the check."""

import dataclasses
import errno
import zlib

import golden_rules
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from harness.errors import ExportError
from harness.export import export, graph
from harness.models import MODELS
from harness.models.base import Frame, Prepared, Protocol
from harness.models.networks.gfocalv2 import Candidates
from harness.reference import golden as golden_answers

SIZES = {
    "retinaface_mobilenet025": (160, 104),
    "retinaface_resnet50": (104, 72),
    "deepmar_resnet50": (224, 224),
    "regnety_016": (224, 224),
    "gfocalv2_r50_fpn": (128, 192),
}
LEVELS = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
OUTPUTS = {
    "retinaface_mobilenet025": [[700, 4], [700, 2], [700, 10]],
    "retinaface_resnet50": [[328, 4], [328, 2], [328, 10]],
    "deepmar_resnet50": [[35]],
    "regnety_016": [[1000]],
    "gfocalv2_r50_fpn": [[channels, *level] for channels in (81, 68) for level in LEVELS],
}
MNET = "retinaface_mobilenet025"


def small(name):
    """The model at a size that takes no time, under a protocol that only scales."""

    def preprocess(image, raw):
        return Prepared((image.transpose(2, 0, 1) / np.float32(64) - 2).astype(np.float32), Frame(1, 1, (1, 1)))

    protocol = Protocol("small", SIZES[name], (), preprocess, None, None)
    return dataclasses.replace(MODELS[name], protocols=(protocol,), batches=None), protocol


@pytest.fixture(scope="module")
def mnet(tmp_path_factory):
    """RetinaFace-mobilenet0.25 with drawn weights: model, protocol, state, file."""
    model, protocol = small(MNET)
    state = golden_rules.state(model.network())
    path = tmp_path_factory.mktemp("mnet") / "model.onnx"
    export.export(model, protocol, state, path)
    return model, protocol, state, path


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_each_model_exports_to_what_its_row_says(name, tmp_path):
    model, protocol = small(name)
    state = golden_rules.state(model.network())
    path = tmp_path / "model.onnx"

    export.export(model, protocol, state, path)
    gaps = export.check(model, protocol, state, path, batches=(1, 3))

    exported = onnx.load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"], "one file, no external data, nothing staged"
    assert [(opset.domain, opset.version) for opset in exported.opset_import] == [("", 11)]
    values = [*exported.graph.input, *exported.graph.output]
    shapes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values]
    assert [value.name for value in values] == [model.input, *model.outputs]
    assert shapes == [["batch", 3, *SIZES[name]], *(["batch", *shape] for shape in OUTPUTS[name])]
    assert not {"BatchNormalization", "Identity", "Pad"} & {node.op_type for node in exported.graph.node}
    assert all(not node.doc_string for node in exported.graph.node)
    assert list(gaps) == list(model.outputs)
    assert max(gaps.values()) < export.PARITY
    where = graph.outputs_of(exported)
    nodes = {node.name: node for node in exported.graph.node}
    for output in model.outputs:
        node, index = where[output].rsplit(":", 1)
        assert nodes[node].output[int(index)] == output


@pytest.mark.slow
def test_equal_arguments_give_equal_bytes(mnet, tmp_path):
    model, protocol, state, path = mnet
    again = tmp_path / "again.onnx"

    export.export(model, protocol, state, again)

    assert again.read_bytes() == path.read_bytes()


def first(exported, kind):
    return next(node for node in exported.graph.node if node.op_type == kind)


def scale_a_weight(exported):
    name = first(exported, "Conv").input[1]
    tensor = next(tensor for tensor in exported.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.05), name))


def a_weight_of_nan(exported):
    name = first(exported, "Conv").input[1]
    tensor = next(tensor for tensor in exported.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32("nan"), name))


def the_first_row_for_all(exported):
    conv, make = first(exported, "Conv"), onnx.helper.make_node
    exported.graph.initializer.append(numpy_helper.from_array(np.array([0]), "at"))
    nodes = [make("Shape", [conv.input[0]], ["all"]), make("Gather", [conv.input[0], "at"], ["one"], axis=0),
             make("Expand", ["one", "all"], ["ones"])]  # fmt: skip
    conv.input[0] = "ones"
    for node in reversed(nodes):
        exported.graph.node.insert(0, node)


def wrong_slope(exported):
    first(exported, "LeakyRelu").attribute[0].f = 0.01


def swapped_names(exported):
    names = [value.name for value in exported.graph.output]
    exported.graph.output[0].name, exported.graph.output[1].name = names[1], names[0]


def swapped_tensors(exported):
    swap = {"output0": "output2", "output2": "output0"}
    for node in exported.graph.node:
        node.output[:] = [swap.get(name, name) for name in node.output]


def another_opset(exported):
    exported.opset_import[0].version = 12


def a_batch_norm(exported):
    conv = first(exported, "Conv")
    channels = next(t for t in exported.graph.initializer if t.name == conv.input[1]).dims[0]
    ones = [numpy_helper.from_array(np.full(channels, i % 2 == 0, np.float32), f"norm{i}") for i in range(4)]
    for tensor, value in zip(ones, (1, 0, 0, 1), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(np.full(channels, value, np.float32), tensor.name))
    exported.graph.initializer.extend(ones)
    out = conv.output[0]
    conv.output[0] = "before"
    node = onnx.helper.make_node("BatchNormalization", ["before", *(t.name for t in ones)], [out], "norm")
    exported.graph.node.insert(list(exported.graph.node).index(conv) + 1, node)


def a_batch_baked_in(exported):
    reshape = first(exported, "Reshape")
    exported.graph.initializer.append(numpy_helper.from_array(np.array([1, -1, 4]), "baked"))
    reshape.input[1] = "baked"


def a_dangling_node(exported):
    first(exported, "Conv").input[0] = "nowhere"


PLANTED = {
    scale_a_weight: "is off by",
    a_weight_of_nan: "is off by nan",
    the_first_row_for_all: "is off by .* at batch 2",
    wrong_slope: "is off by",
    swapped_names: "not from",
    swapped_tensors: "checker says|gives",
    another_opset: "opset 11",
    a_batch_norm: "not folded",
    a_batch_baked_in: "cannot run it at batch 2",
    a_dangling_node: "checker says",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_file_that_is_not_the_model_is_refused(plant, mnet, tmp_path):
    model, protocol, state, path = mnet
    exported = onnx.load(path)
    plant(exported)
    planted = tmp_path / "planted.onnx"
    planted.write_bytes(exported.SerializeToString())

    with pytest.raises(ExportError, match=PLANTED[plant]):
        export.check(model, protocol, state, planted)


def test_other_weights_than_the_exported_ones_are_noticed(mnet):
    model, protocol, state, path = mnet
    others = {**state, "BboxHead.1.conv1x1.bias": state["BboxHead.1.conv1x1.bias"] + 0.5}

    with pytest.raises(ExportError, match="'output0' is off by"):
        export.check(model, protocol, others, path)


@pytest.mark.parametrize("nms", [True, False])
def test_weights_of_another_model_are_refused_and_nothing_is_written(nms, tmp_path):
    model, protocol = small(MNET)

    with pytest.raises(ExportError, match="do not fit retinaface_mobilenet025"):
        export.export(model, protocol, {"fc.weight": torch.zeros(1)}, tmp_path / "model.onnx", nms=nms)

    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said(mnet, tmp_path):
    model, protocol, state, _ = mnet
    (tmp_path / "file").write_text("")

    with pytest.raises(ExportError, match="cannot write"):
        export.export(model, protocol, state, tmp_path / "file" / "model.onnx")


def test_an_operator_that_opset_11_lacks_is_an_export_error(tmp_path):
    class Unexportable(torch.nn.Module):
        def forward(self, images):
            return (torch.unflatten(images, 3, (4, -1)),)

    model, protocol = small(MNET)
    model = dataclasses.replace(model, network=Unexportable, outputs=("out",))

    with pytest.raises(ExportError, match="unflatten"):
        export.export(model, protocol, {}, tmp_path / "model.onnx")

    assert not list(tmp_path.iterdir())


def test_a_model_without_classes_takes_no_nms(mnet, tmp_path):
    model, protocol, state, _ = mnet

    with pytest.raises(ExportError, match="no classes to suppress"):
        export.export(model, protocol, state, tmp_path / "model.onnx", nms=True)


# ------------------------------------------------------------------ GFocalV2 with BatchMultiClassNMS


class Maps(torch.nn.Module):
    """Stands for GFocalV2: returns the maps it was given, whatever the picture."""

    def __init__(self, maps):
        super().__init__()
        self.maps = tuple(torch.from_numpy(array).reshape(1, *array.shape[-3:]) for array in maps)
        self.bbox_head = MODELS["gfocalv2_r50_fpn"].network().bbox_head

    def forward(self, images):
        return self.maps


@pytest.mark.parametrize("number", [0, 1, 2])
def test_candidates_are_the_authors(number):
    scores, logits = golden_answers.heads(number)
    with np.load(golden_answers.FOLDER / "gfocal_post.npz") as golden:
        wanted, crc = golden[f"case{number}/boxes_before_nms"], golden[f"case{number}/scores_crc32"]

    boxes, classes = (o.numpy() for o in Candidates(Maps([*scores, *logits]))(torch.zeros(1, 3, 250, 317)))

    assert boxes.shape == wanted.shape == (1426, 4)
    assert np.abs(boxes - wanted).max() <= 2e-4, "pixels"
    with_background = np.pad(classes, [(0, 0), (0, 1)])
    assert zlib.crc32(np.ascontiguousarray(with_background).tobytes()) == crc, "scores, or the order of the cells"


def test_the_published_size_gives_as_many_candidates_as_the_published_graph():
    sizes = [(100, 152), (50, 76), (25, 38), (13, 19), (7, 10)]
    maps = [np.random.RandomState(0).random_sample((1, c, *s)).astype(np.float32) for c in (81, 68) for s in sizes]

    boxes, scores = Candidates(Maps(maps))(torch.zeros(1, 3, *MODELS["gfocalv2_r50_fpn"].protocols[0].size))

    assert (boxes.shape, scores.shape) == ((3267, 4), (3267, 81))


class BatchMultiClassNMS(OpRun):
    """Not the op: it hands out the first boxes, and each row's best class, to show what the tail makes of them."""

    op_domain = ""

    def _run(self, boxes, scores, score_threshold, iou_threshold, max_size_per_class, max_total_size):
        assert boxes.dtype == scores.dtype == np.float16
        assert not scores[:, :, -1].any(), "the last column is the background"
        kept = slice(max_total_size)
        best = scores[:, kept]
        count = np.array([max_total_size], np.float16)
        return boxes[:, kept, 0], best.max(2), best.argmax(2).astype(np.float16), count


@pytest.fixture(scope="module")
def suppressed(tmp_path_factory):
    model, protocol = small("gfocalv2_r50_fpn")
    state = golden_rules.state(model.network())
    path = tmp_path_factory.mktemp("nms") / "model.onnx"
    export.export(model, protocol, state, path, nms=True)
    return model, protocol, state, path


@pytest.mark.slow
def test_the_nms_graph_ends_as_the_published_one(suppressed):
    exported = onnx.load(suppressed[3])
    rows = 384 + 96 + 24 + 6 + 2

    node = first(exported, "BatchMultiClassNMS")
    assert node.domain == ""
    assert {a.name: round(onnx.helper.get_attribute_value(a), 6) for a in node.attribute} == {
        "score_threshold": 0.05, "iou_threshold": 0.6, "max_size_per_class": 100, "max_total_size": 100,
    }  # fmt: skip
    assert len(node.output) == 4
    described = {value.name: value.type.tensor_type for value in graph.tap(exported, node.input).graph.output}
    half = onnx.TensorProto.FLOAT16
    shapes = {name: [dim.dim_value for dim in described[name].shape.dim] for name in node.input}
    assert [described[name].elem_type for name in node.input] == [half, half]
    assert list(shapes.values()) == [[1, rows, 1, 4], [1, rows, 82]]
    outputs = [(v.name, v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim])
               for v in exported.graph.output]  # fmt: skip
    assert outputs == [("dets", onnx.TensorProto.FLOAT, [1, 100, 5]), ("labels", onnx.TensorProto.INT64, [1, 100])]
    assert [d.dim_value for d in exported.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 128, 192]
    assert set(graph.outputs_of(exported)) == {"dets", "labels"}


@pytest.mark.slow
def test_the_nms_graph_is_the_model_up_to_the_node(suppressed):
    model, protocol, state, path = suppressed

    gaps = export.check(model, protocol, state, path)

    assert list(gaps) == ["boxes", "scores"]
    shifted = {**state, "bbox_head.gfl_cls.bias": state["bbox_head.gfl_cls.bias"] + 0.1}
    with pytest.raises(ExportError, match="'scores' is off by"):
        export.check(model, protocol, shifted, path)


@pytest.mark.slow
def test_behind_the_nms_node_boxes_scores_and_labels_are_put_together(suppressed):
    exported = onnx.load(suppressed[3])
    rows = 512
    random = np.random.RandomState(3)
    fed = {
        "boxes": (random.random_sample((rows, 4)) * 100).astype(np.float32),
        "scores": random.random_sample((rows, 81)).astype(np.float32),
    }

    tail = graph.cut(exported, ["dets", "labels"], inputs=["boxes", "scores"])
    dets, labels = ReferenceEvaluator(tail, new_ops=[BatchMultiClassNMS]).run(None, fed)

    assert dets.dtype == np.float32
    assert np.array_equal(dets[0, :, :4], fed["boxes"][:100].astype(np.float16).astype(np.float32))
    assert np.array_equal(dets[0, :, 4], fed["scores"][:100].astype(np.float16).max(1).astype(np.float32))
    assert labels.dtype == np.int64
    assert np.array_equal(labels[0], fed["scores"][:100].astype(np.float16).argmax(1))


@pytest.mark.slow
def test_no_standard_runtime_takes_the_nms_graph(suppressed):
    with pytest.raises(Exception, match="BatchMultiClassNMS"):
        onnxruntime.InferenceSession(suppressed[3], providers=["CPUExecutionProvider"])


def test_a_full_folder_for_temporary_files_is_no_fault_of_pytorchs(monkeypatch, tmp_path):
    def full(*_given, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.onnx, "export", full)
    model = MODELS["retinaface_mobilenet025"]

    with pytest.raises(ExportError, match="cannot write the traced network") as caught:
        export.export(model, model.protocols[0], model.network().state_dict(), tmp_path / "model.onnx")
    assert "TMPDIR" in caught.value.hint
    assert not list(tmp_path.iterdir())
