"""The plug-in EfficientNMS_TRT, which detectors are exported with, as ONNX operators that suppress image by image.

Meaning, parameters and defaults: plugin/efficientNMSPlugin of github.com/NVIDIA/TensorRT (README,
efficientNMSParameters.h, efficientNMSInference.cu). What lies behind the last detection is zero."""

from __future__ import annotations

import numpy as np

FIELDS = {
    "score_threshold": 0.5,
    "iou_threshold": 0.5,
    "max_output_boxes": 100,
    "background_class": -1,
    "score_activation": 0,
    "class_agnostic": 0,
    "box_coding": 0,
}
OLDEST = 11  # opset of Pad and NonMaxSuppression as they are used here


class Body:
    """Nodes of one image; `node` returns the name of what it makes."""

    def __init__(self, name):
        self.nodes, self._name = [], name

    def node(self, kind, inputs, count=1, **attributes):
        from onnx import helper

        made = [f"{self._name}.{len(self.nodes)}.{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, made, **attributes))
        return made[0] if count == 1 else made

    def constant(self, values, dtype):
        from onnx import numpy_helper

        return self.node("Constant", [], value=numpy_helper.from_array(np.array(values, dtype)))

    def column(self, source, index):
        return self.node("Gather", [source, self.constant([index], "i8")], axis=-1)


def suppressing(name, inputs, outputs, fields, constants=()):
    """The node, in a list, that makes the four `outputs` of boxes, scores and, where they are to be decoded, anchors.
    `fields`: the parameters given; `constants`: names of what is the same for every image."""
    from onnx import TensorProto, helper

    given = dict(FIELDS, **fields)
    most = int(given["max_output_boxes"])
    b = Body(name)
    shared = len(inputs) > 2 and inputs[2] in constants
    scanned = list(inputs[: 2 if shared else 3])
    names = [f"{name}.image.{i}" for i in range(len(scanned))]
    one, four = b.constant([1], "i8"), b.constant([4], "i8")
    rows, classes = (b.node("Gather", [b.node("Shape", [names[1]]), b.constant([axis], "i8")]) for axis in (0, 1))
    each = b.node("Concat", [rows, b.constant([-1], "i8"), four], axis=0)  # one box for all classes, or one for each
    boxes = b.node("Reshape", [names[0], each])
    if len(inputs) > 2:
        anchors = b.node("Reshape", [inputs[2] if shared else names[2], b.node("Concat", [rows, one, four], axis=0)])
        boxes = _decoded(b, boxes, anchors, given["box_coding"])
    corners = _corners(b, boxes) if given["box_coding"] else boxes
    corners = b.node("Expand", [corners, b.node("Concat", [rows, classes, four], axis=0)])
    scores = b.node("Sigmoid", [names[1]]) if given["score_activation"] else names[1]
    anchor, kind = _selected(b, corners, scores, classes, given, most)
    number = b.node("Shape", [anchor])
    where = b.node("Concat", [anchor, kind], axis=1)
    kept = b.node("Min", [b.node("Gather", [number, b.constant([0], "i8")]), b.constant([most], "i8")])
    best, order = b.node("TopK", [b.node("GatherND", [scores, where]), kept], 2)
    where = b.node("Gather", [where, order])
    kind = b.node("Reshape", [b.column(where, 1), b.constant([-1], "i8")])
    lacking = b.node("Sub", [b.constant([most], "i8"), kept])
    none = b.constant([0], "i8")
    line, table = (b.node("Concat", parts, axis=0) for parts in ([none, lacking], [none, none, lacking, none]))
    ends = (
        b.node("Cast", [kept], to=TensorProto.INT32),
        _sized(b, b.node("GatherND", [corners, where]), table, [most, 4]),
        _sized(b, best, line, [most]),
        b.node("Cast", [_sized(b, kind, line, [most])], to=TensorProto.INT32),
    )
    sizes = ((TensorProto.INT32, [1]), (TensorProto.FLOAT, [most, 4]), (TensorProto.FLOAT, [most]))
    body = helper.make_graph(
        b.nodes,
        name,
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in names],
        [helper.make_tensor_value_info(end, *size) for end, size in zip(ends, (*sizes, (TensorProto.INT32, [most])))],
    )
    return [helper.make_node("Scan", scanned, list(outputs), name=name, body=body, num_scan_inputs=len(scanned))]


def _decoded(b, boxes, anchors, coding):
    """As the `decode` of efficientNMSInference.cuh says for each coding."""
    if not coding:
        return b.node("Add", [boxes, anchors])
    parts = [[b.column(source, i) for i in range(4)] for source in (boxes, anchors)]
    (x, y, w, h), (ax, ay, aw, ah) = parts
    centre = [b.node("Add", [b.node("Mul", pair), at]) for pair, at in (((x, aw), ax), ((y, ah), ay))]
    return b.node(
        "Concat", [*centre, *(b.node("Mul", [a, b.node("Exp", [e])]) for e, a in ((w, aw), (h, ah)))], axis=-1
    )


def _corners(b, boxes):
    x, y, w, h = (b.column(boxes, i) for i in range(4))
    half = [b.node("Mul", [size, b.constant(0.5, "f4")]) for size in (w, h)]
    low, high = ([b.node(kind, [at, far]) for at, far in zip((x, y), half)] for kind in ("Sub", "Add"))
    return b.node("Concat", [*low, *high], axis=-1)


def _selected(b, corners, scores, classes, given, most):
    """Columns of the place and the class of what is not suppressed."""
    limits = [b.constant(value, dtype) for value, dtype in
              ((most, "i8"), (given["iou_threshold"], "f4"), (given["score_threshold"], "f4"))]  # fmt: skip
    if given["class_agnostic"]:
        boxes = b.node("Reshape", [corners, b.constant([1, -1, 4], "i8")])
        lines = b.node("Reshape", [scores, b.constant([1, 1, -1], "i8")])
    else:  # each class as an image of its own
        boxes = b.node("Transpose", [corners], perm=[1, 0, 2])
        shape = b.node("Concat", [classes, b.constant([1, -1], "i8")], axis=0)
        lines = b.node("Reshape", [b.node("Transpose", [scores], perm=[1, 0]), shape])
    found = b.node("NonMaxSuppression", [boxes, lines, *limits])
    kind, anchor = b.column(found, 0), b.column(found, 2)
    if given["class_agnostic"]:
        anchor, kind = b.node("Div", [anchor, classes]), b.node("Mod", [anchor, classes])
    if given["background_class"] >= 0:
        other = b.node("Not", [b.node("Equal", [kind, b.constant(given["background_class"], "i8")])])
        other = b.node("Reshape", [other, b.constant([-1], "i8")])
        anchor, kind = (b.node("Compress", [each, other], axis=0) for each in (anchor, kind))
    return anchor, kind


def _sized(b, values, pads, shape):
    return b.node("Reshape", [b.node("Pad", [values, pads]), b.constant(shape, "i8")])
