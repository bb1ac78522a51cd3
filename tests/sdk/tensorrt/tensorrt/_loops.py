"""Loops and branches that a program builds: ILoop and IIfConditional.

The layers of a loop, emitted once, are its first turn, whose condition begins it; each output of the loop is an ONNX
Loop with a copy of them. Of a branch both sides are computed and one is taken. Rests on NvInfer.h and pyGraph.cpp.
"""

from __future__ import annotations

import numpy as np
from simulated_gpu import compiled

from tensorrt._kinds import NUMPY, LoopOutput, TripLimit


class Boundary:
    """What loops and branches have in common: a name, and layers that tell whose they are."""

    def __init__(self, network, word):
        self._network = network
        self.name = f"(Unnamed {word} {len(network.made)})"
        self._layers = []

    def _layer(self, word, inputs, emit, **settings):
        layer = self._network._add(word, inputs, emit)
        layer._settings.update(settings)
        self._layers.append(layer)
        return layer


class ILoop(Boundary):
    def __init__(self, network):
        super().__init__(network, "Loop")
        self._count = self._goes_on = None  # names of the tensors of its trip limits

    def add_trip_limit(self, tensor, kind):
        if kind == TripLimit.COUNT:
            self._count = tensor.key
        else:
            self._goes_on = tensor.key
        return self._layer("TRIP_LIMIT", [tensor], _nothing, kind=kind, loop=self)

    def add_recurrence(self, initial_value):
        return self._layer("RECURRENCE", [initial_value], _first, loop=self)

    def add_iterator(self, tensor, axis=0, reverse=False):
        return self._layer("ITERATOR", [tensor], _piece, axis=axis, reverse=reverse, loop=self)

    def add_loop_output(self, tensor, kind, axis=0):
        return self._layer("LOOP_OUTPUT", [tensor], _turns, kind=kind, axis=axis, loop=self)


def before(layer):
    """Names of the tensors that a layer needs: not the next value of a recurrence, but all of a loop for its output."""
    kind = layer.type.name
    if kind != "LOOP_OUTPUT":
        return layer._inputs[:1] if kind == "RECURRENCE" else layer._inputs
    nexts = [key for each in layer.loop._layers if each.type.name == "RECURRENCE" for key in each._inputs[1:]]
    return [*layer._inputs, *nexts, layer.loop._count, layer.loop._goes_on]


def _nothing(layer, g):
    """A trip limit makes no tensor."""


def _first(layer, g):
    return g.out("Identity", layer._inputs[:1])


def _piece(layer, g):
    """Of the first turn."""
    return g.out("Gather", [layer._inputs[0], g.value(np.int64(-1 if layer.reverse else 0), "turn")], axis=layer.axis)


def _turns(layer, g):
    """The output of a loop: an ONNX Loop with a copy of the layers between its recurrences and their next values."""
    from onnx import TensorProto, helper

    loop, (value, *length) = layer.loop, layer._inputs
    kind = LoopOutput(layer.kind)
    carried = {each._outputs[0]: each for each in loop._layers if each.type.name == "RECURRENCE"}
    pieces = {each._outputs[0]: each for each in loop._layers if each.type.name == "ITERATOR"}
    if (loop._count is None and loop._goes_on is None) or any(len(each._inputs) < 2 for each in carried.values()):
        raise ValueError(f"{loop.name}: no trip limit, or a recurrence without the value of its next turn")
    if kind == LoopOutput.LAST_VALUE and value not in carried:
        raise ValueError(f"{loop.name}: the last value is that of a recurrence")
    if kind != LoopOutput.LAST_VALUE and not length:
        raise ValueError(f"{loop.name}: an output of all turns needs their number as its second input")
    for each in (loop._count, *length):
        _not_of_data(loop, g, each)
    inside, body = {*carried, *pieces}, []
    for node in g._model.graph.node:
        if inside.intersection(_read(node)):
            body.append(node)
            inside.update(node.output)
    turn, names = f"{layer.name}.turn", {key: f"{layer.name}.{key}" for key in carried}
    nodes = []

    def node(kind, inputs, **settings):
        nodes.append(helper.make_node(kind, inputs, [f"{layer.name}.in{len(nodes)}"], **settings))
        return nodes[-1].output[0]

    def copied(wanted, names, mark):
        for each in wanted:
            names.update((name, f"{layer.name}.{name}{mark}") for name in each.output)
            nodes.append(renamed(each, names))
            nodes[-1].name = f"{layer.name}.{each.name}{mark}"

    behind = node("Sub", [g.value(np.int64(-1), "turn"), turn])
    for key, each in pieces.items():
        names[key] = node("Gather", [each._inputs[0], behind if each.reverse else turn], axis=each.axis)
    copied(body, names, "")
    after = {key: names.get(each._inputs[1], each._inputs[1]) for key, each in carried.items()}
    ends = [node("Identity", [each]) for each in after.values()]
    going = f"{layer.name}.going"
    if loop._goes_on is not None:  # looked at before each turn, of the values that it begins with
        asked = {loop._goes_on}
        needed = [each for each in reversed(body) if asked.intersection(each.output) and not asked.update(_read(each))]
        if asked.intersection(pieces):
            raise ValueError(f"{loop.name}: a condition cannot depend on an iterator")
        copied(needed[::-1], after, ".after")
        going = after.get(loop._goes_on, loop._goes_on)
    ends.insert(0, node("Identity", [going]))
    if kind != LoopOutput.LAST_VALUE:
        ends.append(node("Identity", [names.get(value, value)]))
    kinds = {name: _element(layer, name) for name in (value, *carried)}
    told = [(f"{layer.name}.going", TensorProto.BOOL, []), *((names[key], kinds[key], None) for key in carried)]
    made = [TensorProto.BOOL, *(kinds[key] for key in carried), kinds[value]]
    graph = helper.make_graph(
        nodes,
        f"{layer.name}.body",
        [
            helper.make_tensor_value_info(turn, TensorProto.INT64, []),
            *(helper.make_tensor_value_info(*each) for each in told),
        ],
        [helper.make_tensor_value_info(name, of, None) for name, of in zip(ends, made)],
    )
    results = [g._named("carried") for _ in carried] + [g._named("rows")] * (kind != LoopOutput.LAST_VALUE)
    count = "" if loop._count is None else g.node("Cast", [loop._count], to=TensorProto.INT64)
    start = loop._goes_on or ""
    g.node("Loop", [count, start, *(each._inputs[0] for each in carried.values())], results, body=graph)
    if kind == LoopOutput.LAST_VALUE:
        last = results[list(carried).index(value)]
        return g.out("Reshape", [last, g.node("Shape", carried[value]._inputs[:1])])  # whose shape it has
    return _stacked(layer, g, results[-1], _line(g, length[0]))


def _not_of_data(loop, g, key):
    """Raises ValueError for a number of turns that the values of an input decide: such an input lies in host memory."""
    makers = {name: node for node in g._model.graph.node for name in node.output}
    asked = [key]
    for name in asked:  # which grows
        if name in [value.name for value in g._model.graph.input]:
            raise ValueError(f"{loop.name}: {name}, an input that says how many turns there are, is not simulated")
        if name in makers and makers[name].op_type != "Shape":
            asked += makers[name].input


def _line(g, key):
    """The number of `key` as a tensor of one axis, past what leaves it as it is: inference does not follow that."""
    from onnx import numpy_helper

    makers = {name: node for node in g._model.graph.node for name in node.output}
    while key in makers and makers[key].op_type in ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze"):
        key = makers[key].input[0]
    for tensor in g._model.graph.initializer:
        if tensor.name == key:
            return g.value(numpy_helper.to_array(tensor).reshape(-1), "number", np.int64)
    if makers[key].op_type != "Slice":
        key = g.node("Reshape", [key, g.value([1], "one", np.int64)])
    return g.node("Cast", [key], to=7)


def _stacked(layer, g, rows, number):
    """As many rows as asked for, along an axis of their own; zero where there were fewer turns."""
    rank = g.rank(layer._inputs[0])
    axis = g.value([0], "axis", np.int64)
    zeros = [g.value([0] * size, "zeros", np.int64) for size in (rank + 1, rank)]
    pads = g.node("Concat", [zeros[0], number, zeros[1]], axis=0)
    rows = g.node("Slice", [g.node("Pad", [rows, pads]), axis, number, axis])
    if LoopOutput(layer.kind) == LoopOutput.REVERSE:
        ends = [g.value([end], "end", np.int64) for end in (-1, np.iinfo(np.int64).min)]
        rows = g.node("Slice", [rows, *ends, axis, g.value([-1], "step", np.int64)])
    shape = g.node("Concat", [number, g.node("Shape", [layer._inputs[0]])], axis=0)  # which inference does not find
    order = [*range(1, layer.axis + 1), 0, *range(layer.axis + 1, rank + 1)]
    return g.out("Transpose", [g.node("Reshape", [rows, shape])], perm=order)


def _element(layer, key):
    return compiled.element_type(np.dtype(NUMPY[layer._network.tensor(key).dtype]).name)


def _read(node):
    """Names of the tensors that a node reads, in its graphs too."""
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {*node.input, *(name for graph in graphs for each in graph.node for name in _read(each))}


def renamed(node, names):
    """A copy with its tensors under their new names, in its graphs too."""
    made = type(node)()
    made.CopyFrom(node)
    made.input[:] = [names.get(name, name) for name in node.input]
    made.output[:] = [names.get(name, name) for name in node.output]
    for attribute in made.attribute:
        for i, each in enumerate(attribute.g.node):
            attribute.g.node[i].CopyFrom(renamed(each, names))
    return made


class IIfConditional(Boundary):
    def __init__(self, network):
        super().__init__(network, "Conditional")
        self._condition = None

    def set_condition(self, condition):
        self._condition = condition
        return self._layer("CONDITION", [condition], _nothing, conditional=self)

    def add_input(self, input):
        return self._layer("CONDITIONAL_INPUT", [input], _first, conditional=self)

    def add_output(self, true_subgraph_output, false_subgraph_output):
        tensors = [self._condition, true_subgraph_output, false_subgraph_output]
        return self._layer(
            "CONDITIONAL_OUTPUT", tensors, lambda layer, g: g.out("Where", layer._inputs), conditional=self
        )
