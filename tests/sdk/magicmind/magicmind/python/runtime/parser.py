"""The parser, for ONNX, traced PyTorch and Caffe."""

from __future__ import annotations

from pathlib import Path

from magicmind.python.common.types import DataType
from magicmind.python.runtime import _caffe
from magicmind.python.runtime._base import Code, compiled, injected, refused, status
from magicmind.python.runtime._kinds import ModelKind
from magicmind.python.runtime._network import NetworkTensor

HIGHEST_OPSET = 13


class Parser:
    def __init__(self, kind):
        if refused("mm.Parser"):
            raise RuntimeError("mm.Parser: out of host memory")
        self._kind = kind
        self._dtypes = None

    def set_model_param(self, key, value):
        failed = injected("mm.Parser.set_model_param")
        if failed:
            return failed
        if key != "pytorch-input-dtypes":
            return status("mm.Parser.set_model_param", Code.INVALID_ARGUMENT, f"unknown parameter {key}")
        self._dtypes = list(value)
        return status("mm.Parser.set_model_param")

    def parse(self, network, path, prototxt=None):
        call = "mm.Parser.parse"
        failed = injected(call)
        if failed:
            return failed
        if not Path(path).is_file():
            return status(call, Code.NOT_FOUND, f"no file {path}")
        if self._kind == ModelKind.kPytorch:
            return self._parse_torch(call, network, path)
        if self._kind == ModelKind.kCaffe:
            return self._parse_caffe(call, network, path, prototxt)
        if self._kind != ModelKind.kOnnx:
            return status(call, Code.UNIMPLEMENTED, f"model kind {self._kind}")
        import onnx

        try:
            model = onnx.load(str(path))
        except Exception as error:
            return status(call, Code.INVALID_ARGUMENT, f"cannot parse {path}: {type(error).__name__}")
        if not model.graph.node:
            return status(call, Code.INVALID_ARGUMENT, f"{path} holds no graph")
        opset = compiled.opset(model)
        if opset > HIGHEST_OPSET:
            text = f"opset {opset} is above {HIGHEST_OPSET}"
            return status(call, Code.UNIMPLEMENTED, text)
        sides = {side: compiled.described(model, side) for side in ("inputs", "outputs")}
        for name, dtype, _ in sides["inputs"] + sides["outputs"]:
            if dtype.upper() not in DataType.__members__:
                return status(call, Code.UNIMPLEMENTED, f"{name} is of {dtype}")
        network.model, network.wide = model, compiled.has_int64(model)
        network.inputs = [NetworkTensor(*row) for row in sides["inputs"]]
        network.outputs = [NetworkTensor(*row) for row in sides["outputs"]]
        return status(call)

    def _parse_caffe(self, call, network, path, prototxt):
        if prototxt is None or not Path(prototxt).is_file():
            return status(call, Code.NOT_FOUND, f"no file {prototxt}")
        try:
            text = Path(prototxt).read_text(encoding="utf-8", errors="replace")
            network.model, inputs, outputs = _caffe.parsed(Path(path).read_bytes(), text)
        except _caffe.CaffeError as error:
            return status(call, Code.UNIMPLEMENTED, f"cannot parse {path}: {error}")
        network.inputs = [NetworkTensor(name, "float32", shape) for name, shape in inputs.items()]
        for tensor in network.inputs:
            tensor.fixed = [-1] * len(tensor.shape)  # what the prototxt says is where a program begins
        network.outputs = [NetworkTensor(name, "float32", None) for name in outputs]
        return status(call)

    def _parse_torch(self, call, network, path):
        if not self._dtypes:
            return status(call, Code.INVALID_ARGUMENT, "pytorch-input-dtypes is not set")
        import torch

        try:
            network.traced = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            return status(call, Code.INVALID_ARGUMENT, f"cannot parse {path}: {error}")
        network.inputs = [NetworkTensor(f"input{i}", dtype, None) for i, dtype in enumerate(self._dtypes)]
        (whole,) = network.traced.graph.outputs()
        network.traced_outputs = {f"output{i}": path for i, path in enumerate(_paths(whole))}
        network.traced_list = whole.node().kind() == "prim::ListConstruct"
        network.outputs = [NetworkTensor(name, "float32", None) for name in network.traced_outputs]
        return status(call)


def _paths(value, path=()):
    """Where each tensor lies that a traced graph returns: positions in lists and tuples, from the outermost on."""
    node = value.node()
    if node.kind() not in ("prim::TupleConstruct", "prim::ListConstruct"):
        return [path]
    return [found for i, part in enumerate(node.inputs()) for found in _paths(part, (*path, i))]
