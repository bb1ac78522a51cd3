"""LSTM, GRU and RNN of ONNX in FP64, step by step; ONNX Runtime computes them in FP32 only.

Definitions: github.com/onnx/onnx/docs/Operators.md. Shapes: T steps, N sequences, D directions, H hidden values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
State: TypeAlias = tuple[Array, ...]
Step: TypeAlias = Callable[[Array, State], State]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Sigmoid": _sigmoid, "Tanh": np.tanh, "Relu": lambda x: np.maximum(x, 0),
}  # fmt: skip


def lacks(kind: str, attributes: Mapping[str, Any]) -> str:
    """Why a node is not computed here, or ""."""
    if (
        attributes.get("clip")
        or attributes.get("input_forget")
        or not set(_activations(attributes)) <= set(ACTIVATIONS)
    ):
        return f"{kind} with a clip, coupled gates or activations other than {', '.join(ACTIVATIONS)}"
    return ""


def _activations(attributes: Mapping[str, Any]) -> list[str]:
    """Names of those that the node gives; none where they are the usual ones."""
    return [name.decode() for name in attributes.get("activations") or []]


def outputs(kind: str, attributes: Mapping[str, Any], x: Array, *given: Array | None) -> State:
    """(Y, Y_h), of an LSTM also Y_c: every step's hidden values (T, D, N, H), and the last (D, N, H).

    `given`: W, R, then B, sequence_lens, initial_h, of an LSTM initial_c and P; None for one that is left out. With
    layout 1, N is the first axis of x, of the initial states and of the outputs. Only for what `lacks` says "" of."""
    w, r, *rest = given
    assert w is not None
    assert r is not None
    rest += [None] * (5 - len(rest))
    bias, lengths, *initial = rest
    directions = DIRECTIONS[attributes.get("direction", b"forward").decode()]
    names = _activations(attributes) or [*USUAL[kind] * len(directions)]
    batch_first = bool(attributes.get("layout", 0))
    if batch_first:
        x = x.swapaxes(0, 1)
    steps, count, hidden = x.shape[0], x.shape[1], r.shape[-1]
    lengths = np.full(count, steps) if lengths is None else lengths
    every, last = [], []
    for place, backwards in enumerate(directions):
        of_gates = len(USUAL[kind])
        functions = [ACTIVATIONS[name] for name in names[place * of_gates : (place + 1) * of_gates]]
        both = np.zeros(2 * GATES[kind] * hidden) if bias is None else bias[place]
        peephole = initial[2] if kind == "LSTM" else None
        step = _STEPS[kind](
            w[place], r[place], both, functions, attributes, None if peephole is None else peephole[place]
        )
        begin = tuple(
            np.zeros((count, hidden)) if one is None else (one.swapaxes(0, 1) if batch_first else one)[place]
            for one in initial[: 2 if kind == "LSTM" else 1]
        )
        made, end = _run(step, x, begin, lengths, backwards)
        every.append(made)
        last.append(end)
    whole = np.stack(every, axis=1)
    ends = [np.stack(parts) for parts in zip(*last, strict=True)]
    if batch_first:  # (N, T, D, H), (N, D, H)
        return whole.transpose(2, 0, 1, 3), *(end.swapaxes(0, 1) for end in ends)
    return whole, *ends


def _run(step: Step, x: Array, state: State, lengths: Array, backwards: bool) -> tuple[Array, State]:
    """(hidden values of every step (T, N, H), the last state). Beyond a sequence's length they are 0, and its state
    stays."""
    made = np.zeros((len(x), *state[0].shape))
    for at in reversed(range(len(x))) if backwards else range(len(x)):
        within = (at < lengths)[:, None]
        state = tuple(np.where(within, new, old) for new, old in zip(step(x[at], state), state, strict=True))
        made[at] = np.where(within, state[0], 0)
    return made, state


def _lstm(
    w: Array, r: Array, bias: Array, functions: Sequence[Any], attributes: Mapping[str, Any], peephole: Array | None
) -> Step:
    gate, candidate, squash = functions
    hidden = r.shape[-1]
    total = bias[: 4 * hidden] + bias[4 * hidden :]
    p_in, p_out, p_forget = np.zeros((3, hidden)) if peephole is None else np.split(peephole, 3)

    def step(x: Array, state: State) -> State:
        h, c = state
        into, out, forget, new = np.split(x @ w.T + h @ r.T + total, 4, axis=1)
        c_next = gate(forget + p_forget * c) * c + gate(into + p_in * c) * candidate(new)
        return gate(out + p_out * c_next) * squash(c_next), c_next

    return step


def _gru(
    w: Array, r: Array, bias: Array, functions: Sequence[Any], attributes: Mapping[str, Any], peephole: None
) -> Step:
    gate, candidate = functions
    hidden = r.shape[-1]
    of_input, of_hidden = bias[: 3 * hidden], bias[3 * hidden :]
    r_gates, r_new = r[: 2 * hidden], r[2 * hidden :]

    def step(x: Array, state: State) -> State:
        (h,) = state
        seen = x @ w.T + of_input
        update, reset = np.split(gate(seen[:, : 2 * hidden] + h @ r_gates.T + of_hidden[: 2 * hidden]), 2, axis=1)
        if attributes.get("linear_before_reset", 0):
            carried = reset * (h @ r_new.T + of_hidden[2 * hidden :])
        else:
            carried = (reset * h) @ r_new.T + of_hidden[2 * hidden :]
        return ((1 - update) * candidate(seen[:, 2 * hidden :] + carried) + update * h,)

    return step


def _rnn(
    w: Array, r: Array, bias: Array, functions: Sequence[Any], attributes: Mapping[str, Any], peephole: None
) -> Step:
    (candidate,) = functions
    total = bias[: r.shape[-1]] + bias[r.shape[-1] :]
    return lambda x, state: (candidate(x @ w.T + state[0] @ r.T + total),)


_STEPS: dict[str, Callable[..., Step]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
