"""The network that a parser or a program makes: tensors, nodes, and which of them are inputs and outputs."""

from __future__ import annotations

import numpy as np

from magicmind.python.cc._pywrap_runtime import ITensor
from magicmind.python.common.types import DataType, get_datatype_by_numpy
from magicmind.python.runtime._base import Code, compiled, injected, refused, status
from magicmind.python.runtime._nodes import Adding, Described


class Dims:
    def __init__(self, values):
        self._values = [int(value) for value in values]

    def GetDims(self):
        return list(self._values)

    def GetDimValue(self, i):
        return self._values[i]

    def __str__(self):
        return str(self._values)


class NetworkTensor(ITensor):
    """`shape` None: unknown rank, as the inputs of a traced graph have it."""

    def __init__(self, name, dtype, shape):
        self.key = self.name = name  # in the graph, and as a program may call it
        self.dtype = self.own_dtype = dtype if isinstance(dtype, DataType) else get_datatype_by_numpy(dtype)
        self.fixed = None if shape is None else list(shape)  # what the graph itself bakes in
        self.shape = [] if shape is None else list(shape)

    def set_dimension(self, dims):
        call = "mm.ITensor.set_dimension"
        failed = injected(call)
        if failed:
            return failed
        values = dims.GetDims()
        wrong = self.fixed is not None and (
            len(values) != len(self.fixed) or any(own not in (-1, new) for own, new in zip(self.fixed, values))
        )
        if wrong:
            return status(call, Code.INVALID_ARGUMENT, f"{self.name} of the graph is {self.fixed}, not {values}")
        self.shape = values
        return status(call)

    def get_dimension(self):
        return Dims(self.shape)

    def get_tensor_name(self):
        return self.name

    def set_tensor_name(self, name):
        self.name = name
        return status("mm.ITensor.set_tensor_name")

    def get_data_type(self):
        return self.dtype

    def set_data_type(self, dtype):
        self.dtype = dtype
        return status("mm.ITensor.set_data_type")


class Node(Described):
    """A node as get_all_nodes_in_network lists it. Forced to FLOAT32, it keeps its constants whole."""

    def __init__(self, network, node, tensors):
        self._network = network
        self._name = node.name or node.output[0]
        self._type = node.op_type
        self._inputs = [tensors(name) for name in node.input if name]
        self._outputs = [tensors(name) for name in node.output if name]

    def set_precision(self, i, dtype):
        call = "mm.INode.set_precision"
        failed = injected(call)
        if failed:
            return failed
        if not 0 <= i < len(self._inputs):
            return status(call, Code.INVALID_ARGUMENT, f"{self._name} has no input {i}")
        held = self._network.exact
        (held.add if dtype == DataType.FLOAT32 else held.discard)(self._inputs[i].name)
        return status(call)

    def set_output_type(self, i, dtype):
        """Says what the node hands on; this simulator rounds no tensor between nodes, so that FLOAT32 is what it is."""
        call = "mm.INode.set_output_type"
        failed = injected(call)
        if failed:
            return failed
        if not 0 <= i < len(self._outputs):
            return status(call, Code.INVALID_ARGUMENT, f"{self._name} has no output {i}")
        return status(call)


class Network(Adding):
    def __init__(self):
        if refused("mm.Network"):
            raise RuntimeError("mm.Network: out of host memory")
        self.model = None  # a ModelProto once parsed
        self.traced = None  # a TorchScript module once parsed
        self.traced_outputs = {}  # names of all its outputs, marked or not, and where they lie in what it returns
        self.traced_list = False  # whether it returns a list
        self.inputs = []
        self.outputs = []
        self.calibration = None
        self.wide = False  # whether a parsed graph has INT64 constants; none of Caffe has
        self.made = []  # nodes that a program added
        self.detections = []  # those of them that are computed behind the graph
        self.exact = set()  # names of tensors that nodes take in FLOAT32 whatever the precision mode

    def get_input_count(self):
        return len(self.inputs)

    def get_output_count(self):
        return len(self.outputs)

    def get_input(self, i):
        return self.inputs[i]

    def get_output(self, i):
        return self.outputs[i]

    def add_input(self, dtype, dims=None):
        """A new input, by position; without `dims` its rank is not known until the program runs."""
        if refused("mm.Network.add_input"):
            return None
        made = NetworkTensor(f"input{len(self.inputs)}", dtype, None)
        made.shape = [] if dims is None else dims.GetDims()
        self.inputs.append(made)
        return made

    def node_tensor(self, name):
        """A tensor of an added node, of a type that becomes known when the network is built."""
        return NetworkTensor(name, "float32", None)

    def mark_output(self, tensor):
        call = "mm.Network.mark_output"
        failed = injected(call)
        if failed:
            return failed
        if any(tensor.name == known.name for known in self.outputs):
            return status(call, Code.INVALID_ARGUMENT, f"{tensor.name} is an output already")
        self.outputs.append(tensor)
        return status(call)

    def unmark_output(self, tensor):
        call = "mm.Network.unmark_output"
        failed = injected(call)
        if failed:
            return failed
        if all(tensor.name != known.name for known in self.outputs):
            return status(call, Code.NOT_FOUND, f"{tensor.name} is no output")
        self.outputs = [known for known in self.outputs if known.name != tensor.name]
        return status(call)

    def get_all_nodes_in_network(self):
        if refused("mm.Network.get_all_nodes_in_network"):
            return None
        if self.model is None:
            return list(self.made)
        types = inferred(self.model)
        known = {tensor.name: tensor for tensor in (*self.inputs, *self.outputs)}

        def tensors(name):
            if name not in known:
                known[name] = NetworkTensor(name, *types.get(name, ("float32", None)))
            return known[name]

        return [*(Node(self, node, tensors) for node in self.model.graph.node), *self.made]


def inferred(model):
    """{tensor name: (NumPy dtype name, shape or None)} of the constants and of what ONNX can infer."""
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # a graph that ONNX itself does not know through and through
        graph = model.graph
    types = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.tensor_type.elem_type:
            types[value.name] = (compiled.numpy_name(value.type.tensor_type.elem_type), None)
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        types[tensor.name] = (str(array.dtype), array.shape)
    return {name: row for name, row in types.items() if np.dtype(row[0]).name.upper() in DataType.__members__}
