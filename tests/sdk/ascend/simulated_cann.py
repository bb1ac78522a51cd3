"""What the simulated compiler writes and the simulated chip runs: the engine file and its arithmetic in FP16.

An engine is MAGIC, a SHA-256 of what follows, the length of a JSON header, that header, and the compiled ONNX graph.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np


def _shared(name):
    """A module of tests/sdk by its path: that folder on sys.path would offer folders named like vendors' packages."""
    if name not in sys.modules:
        where = Path(__file__).resolve().parent.parent / (name + ".py")
        spec = importlib.util.spec_from_file_location(name, str(where))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


simulate = _shared("simulate")
rowwise = _shared("rowwise")

MAGIC, BUNDLE = b"SIMCANN1", b"SIMBUNDL"
SOCS = ("Ascend310", "Ascend310P1", "Ascend310P3", "Ascend310P5", "Ascend310P7", "Ascend710", "Ascend910B3")
VERSION = "8.0.RC1 (simulated)"
NMS = "BatchMultiClassNMS"
SHAPE_DATA = "ascend_mbatch_shape_data"

# aclDataType codes
DTYPES = {
    "float32": 0,
    "float16": 1,
    "int8": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 6,
    "uint16": 7,
    "uint32": 8,
    "int64": 9,
    "uint64": 10,
    "float64": 11,
    "bool": 12,
}


def bank():
    """Names of what AOE has left in the bank of TUNE_BANK_PATH."""
    place = os.environ.get("TUNE_BANK_PATH")
    return sorted(path.name for path in Path(place).iterdir()) if place else []


def soc():
    """The name of the simulated chip."""
    return simulate.switches().get("soc", "Ascend310P3")


def device_count():
    active = simulate.switches()
    chips = 4 if soc() == "Ascend310" else 2 if active.get("card") == "duo" else 1
    return int(active.get("devices", chips))


class BadEngineError(Exception):
    """The file is not an engine, or is damaged."""


def write_engine(path, header, graph):
    body = json.dumps(header, sort_keys=True).encode("utf-8")
    rest = struct.pack("<I", len(body)) + body + graph
    Path(path).write_bytes(MAGIC + hashlib.sha256(rest).digest() + rest)


def read_engine(path):
    """(header, bytes of the ONNX graph). Raises BadEngineError, FileNotFoundError."""
    return parse_engine(Path(path).read_bytes())


def parse_engine(data):
    """(header, bytes of the ONNX graph) of the bytes of an engine. Raises BadEngineError."""
    if data[: len(MAGIC)] != MAGIC:
        raise BadEngineError("the model file has a wrong magic number")
    digest, rest = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if hashlib.sha256(rest).digest() != digest:
        raise BadEngineError("the length of the model file does not match its header")
    (length,) = struct.unpack("<I", rest[:4])
    return json.loads(rest[4 : 4 + length].decode("utf-8")), rest[4 + length :]


def pack_bundle(engines):
    """Bytes of a bundle: `engines`, the bytes of several engines that are loaded and given back as one. The vendor's is
    made by bundle_save_model of its graph API, which is not simulated."""
    return BUNDLE + b"".join(struct.pack("<Q", len(engine)) + engine for engine in engines)


def parse_bundle(data):
    """The engines of a bundle. Raises BadEngineError."""
    if data[: len(BUNDLE)] != BUNDLE:
        raise BadEngineError("this is not a bundle")
    engines, at = [], len(BUNDLE)
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data.ljust(at + 8, b"\0"), at)
        engines.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return engines


class Network:
    """A compiled graph: takes what the chip is fed, returns the outputs rounded to FP16."""

    def __init__(self, header, graph):
        import onnx

        self.header = header
        model = rowwise.freed(onnx.load_model_from_string(graph))
        self.outputs = [output["tensor"] for output in header["outputs"]]
        half = onnx.TensorProto.FLOAT16
        self._halves = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == half}
        found = [index for index, node in enumerate(model.graph.node) if node.op_type == NMS]
        if len(found) > 1:
            raise BadEngineError("more than one " + NMS)
        self._rows = rowwise.Rows(
            rowwise.name_of(model, self.outputs, header["aipp"]), self._compute, rowwise.decides(model)
        )
        self._tails = {}  # by batch
        self.nms = model.graph.node[found[0]] if found else None
        head, self._rest = _split(model, found[0]) if found else (model, None)
        self._head = simulate.Lazy(head)

    def run(self, feeds, batch):
        """`feeds`: arrays by input name, as the chip is fed. Returns a list of arrays in the compiled order."""
        return simulate.damage(self._rows(feeds), batch)

    def _compute(self, feeds):
        values = {name: self._fed(name, array) for name, array in feeds.items()}
        head = self._head()
        names = [output.name for output in head.get_outputs()]
        got = dict(zip(names, head.run(names, values)))
        if self.nms is not None:
            kept = multi_class_nms(
                got[self.nms.input[0]],
                got[self.nms.input[1]],
                **{attribute.name: attribute.f or attribute.i for attribute in self.nms.attribute},
            )
            got.update((name, value) for name, value in zip(self.nms.output, kept) if name)
            tail = self._tail(got)
            names = [output.name for output in tail.get_outputs()]
            needed = [tensor.name for tensor in tail.get_inputs()]
            got.update(zip(names, tail.run(names, {name: got[name] for name in needed})))
        return [simulate.half(got[name]) for name in self.outputs]

    def _tail(self, got):
        batch = len(got[self.nms.input[0]])
        if batch not in self._tails:
            self._tails[batch] = simulate.runner(_tail(self._rest, got))
        return self._tails[batch]

    def _fed(self, name, array):
        aipp = self.header["aipp"].get(name)
        if aipp is None:
            if name in self._halves:
                return array.astype(np.float16)
            # an input of --input_fp16_nodes: the graph takes FP32
            return simulate.half(array.astype(np.float32) if array.dtype == np.float16 else array)
        return normalized(array, aipp)


def normalized(pixels, aipp):
    """AIPP: uint8 N x H x W x C to float32 N x C x H x W: (in - mean_chn - min_chn) * var_reci_chn, in FP16."""
    if "crop" in aipp:
        top, left, height, width = aipp["crop"]
        pixels = pixels[:, top : top + height, left : left + width]
    picture = pixels[..., ::-1] if aipp["swap"] else pixels
    values = picture.astype(np.float32) - np.float32(aipp["mean"])
    values = (values - np.float16(aipp["min"]).astype(np.float32)) * np.float16(aipp["var"]).astype(np.float32)
    return np.ascontiguousarray(simulate.half(values).transpose(0, 3, 1, 2))


def _split(model, index):
    """(graph up to the inputs of node `index`, graph of all that depends on its outputs)."""
    import onnx

    nms = model.graph.node[index]
    late = {name for name in nms.output if name}
    behind = []
    for node in model.graph.node[index + 1 :]:
        if late.intersection(node.input):
            behind.append(node)
            late.update(node.output)
    kept = [node for node in model.graph.node if node is not nms and not any(node is other for other in behind)]
    made = {name for node in kept for name in node.output}
    made.update(tensor.name for tensor in model.graph.input)
    wanted = [name for name in nms.input if name]
    crossing = [name for node in behind for name in node.input if name in made]
    wanted += [name for name in [*crossing, *(o.name for o in model.graph.output)] if name in made]
    head = onnx.ModelProto()
    head.CopyFrom(model)
    del head.graph.node[:], head.graph.output[:], head.graph.value_info[:]
    head.graph.node.extend(kept)
    head.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(wanted))
    tail = onnx.ModelProto()
    tail.CopyFrom(model)
    del tail.graph.node[:], tail.graph.input[:], tail.graph.output[:], tail.graph.value_info[:]
    tail.graph.node.extend(behind)
    names = [output.name for output in model.graph.output if output.name in late]
    tail.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return head, tail


def _tail(model, values):
    """A copy of `model` with its inputs declared from the arrays that it is going to be fed."""
    import onnx
    from onnx import helper

    try:
        dtype_of = helper.np_dtype_to_tensor_dtype
    except AttributeError:  # onnx before 1.13
        from onnx.mapping import NP_TYPE_TO_TENSOR_TYPE

        dtype_of = NP_TYPE_TO_TENSOR_TYPE.__getitem__
    declared = onnx.ModelProto()
    declared.CopyFrom(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    made = {name for node in model.graph.node for name in node.output}
    needed = dict.fromkeys(name for node in model.graph.node for name in node.input)
    for name in needed:
        if name in values and name not in constants and name not in made:
            kind = dtype_of(values[name].dtype)
            declared.graph.input.append(helper.make_tensor_value_info(name, kind, values[name].shape))
    return declared


def multi_class_nms(boxes, scores, score_threshold, iou_threshold, max_size_per_class, max_total_size):
    """BatchMultiClassNMS: boxes (B, N, q, 4), q = 1 or C, scores (B, N, C), both FP16.

    Per class: drop scores not above the threshold, keep greedily what overlaps no better kept box by more than
    iou_threshold, at most max_size_per_class; then the best max_total_size of all classes. Returns boxes
    (B, max, 4), scores (B, max), classes (B, max), all FP16 and zero where nothing was kept, and counts (B,) int32.
    """
    batch, _, classes = scores.shape
    out_boxes = np.zeros((batch, max_total_size, 4), np.float16)
    out_scores = np.zeros((batch, max_total_size), np.float16)
    out_classes = np.zeros((batch, max_total_size), np.float16)
    counts = np.zeros(batch, np.int32)
    for row in range(batch):
        kept = []
        for label in range(classes):
            column = scores[row, :, label].astype(np.float32)
            corner = boxes[row, :, label if boxes.shape[2] > 1 else 0].astype(np.float32)
            candidates = np.flatnonzero(column > np.float32(score_threshold))
            candidates = candidates[np.argsort(-column[candidates], kind="stable")]
            taken = 0
            while candidates.size and taken < max_size_per_class:
                best = candidates[0]
                kept.append((float(column[best]), label, best))
                taken += 1
                rest = candidates[1:]
                candidates = rest[_iou(corner[best], corner[rest]) <= np.float32(iou_threshold)]
        kept.sort(key=lambda item: -item[0])
        counts[row] = min(len(kept), max_total_size)
        for place, (score, label, index) in enumerate(kept[:max_total_size]):
            out_boxes[row, place] = boxes[row, index, label if boxes.shape[2] > 1 else 0]
            out_scores[row, place], out_classes[row, place] = score, label
    return out_boxes, out_scores, out_classes, counts


def _iou(box, others):
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    union = (box[2] - box[0]) * (box[3] - box[1]) + areas - shared
    return shared / np.maximum(union, np.float32(1e-12))
