"""Loops and branches that a program builds: ILoop and IIfConditional.

A loop of a constant count is unrolled: its layers, emitted once, are the first turn; each output of the loop copies
them for the turns behind it. Of a branch both sides are computed and one is taken. Rests on NvInfer.h and pyGraph.cpp.
"""

from __future__ import annotations

import numpy as np

from tensorrt._kinds import LoopOutput, TripLimit


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
        self._count = None  # the tensor of the trip limit

    def add_trip_limit(self, tensor, kind):
        if kind == TripLimit.COUNT:
            self._count = tensor.key
        return self._layer("TRIP_LIMIT", [tensor], _nothing, kind=kind, loop=self)

    def add_recurrence(self, initial_value):
        return self._layer("RECURRENCE", [initial_value], _first, loop=self)

    def add_iterator(self, tensor, axis=0, reverse=False):
        return self._layer("ITERATOR", [tensor], _piece, axis=axis, reverse=reverse, loop=self)

    def add_loop_output(self, tensor, kind, axis=0):
        return self._layer("LOOP_OUTPUT", [tensor], _turns, kind=kind, axis=axis, loop=self)

    def _limit(self):
        makers = [layer for layer in self._network.made if self._count in layer._outputs]
        if not makers or makers[0].type.name != "CONSTANT":
            raise ValueError(f"{self.name}: a loop without a constant count of its turns is not simulated")
        return int(np.ravel(getattr(makers[0].weights, "numpy", lambda: makers[0].weights)())[0])


def _nothing(layer, g):
    """A trip limit makes no tensor."""


def _first(layer, g):
    return g.out("Identity", layer._inputs[:1])


def _piece(layer, g):
    """Of the first turn."""
    return g.out("Gather", [layer._inputs[0], g.value(_index(layer, 0), "turn")], axis=layer.axis)


def _index(layer, turn):
    """Which piece of its tensor an iterator gives in a turn, as ONNX counts: from behind where it is negative."""
    return np.int64(-1 - turn if layer.reverse else turn)


def _turns(layer, g):
    """All turns but the first, which is in the graph, and the output."""
    loop, (value, *length) = layer.loop, layer._inputs
    limit, kind = loop._limit(), LoopOutput(layer.kind)
    carried = {each._outputs[0]: each for each in loop._layers if each.type.name == "RECURRENCE"}
    pieces = {each._outputs[0]: each for each in loop._layers if each.type.name == "ITERATOR"}
    if limit < 1 or any(len(each._inputs) < 2 for each in carried.values()):
        raise ValueError(f"{loop.name}: no turn, or a recurrence without the value of its next one")
    if kind == LoopOutput.LAST_VALUE and value not in carried:
        raise ValueError(f"{loop.name}: the last value is that of a recurrence")
    inside, body = {*carried, *pieces}, []
    for node in g._model.graph.node:
        if inside.intersection(node.input):
            body.append(node)
            inside.update(node.output)
    names = [{}]  # by turn: what each tensor of the loop is called; in the first as it is
    for turn in range(1, limit):
        last, now = names[-1], {}
        for key, each in carried.items():
            now[key] = last.get(each._inputs[1], each._inputs[1])
        for key, each in pieces.items():
            now[key] = g.node("Gather", [each._inputs[0], g.value(_index(each, turn), "turn")], axis=each.axis)
        for node in body:
            fed = [now.get(name, name) for name in node.input]
            now.update((name, f"{layer.name}.{name}.{turn}") for name in node.output)
            made = g._model.graph.node.add()
            made.CopyFrom(node)
            made.input[:], made.output[:] = fed, [now[name] for name in node.output]
            made.name = f"{layer.name}.{node.name}.{turn}"
        names.append(now)
    if kind == LoopOutput.LAST_VALUE:
        next_one = carried[value]._inputs[1]
        return g.out("Identity", [names[-1].get(next_one, next_one)])
    if not length:
        raise ValueError(f"{loop.name}: an output of all turns needs their number as its second input")
    axis = g.value([layer.axis], "axis", "int64")
    rows = [g.node("Unsqueeze", [now.get(value, value), axis]) for now in names]
    return g.out("Concat", rows[::-1] if kind == LoopOutput.REVERSE else rows, axis=layer.axis)


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
