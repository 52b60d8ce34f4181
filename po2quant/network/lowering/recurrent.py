"""Recurrent layers: a step of them is a small network of core layers, which :class:`~po2quant.layers.Recurrent` runs.

The products with the input and with the state have a kernel, a bias and a quantizer each, and so has their sum, which
the tables of the gates read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from po2quant.layers import Recurrent
from po2quant.network.graph import Node
from po2quant.network.kinds import FUNCTIONS, Form, activation_name
from po2quant.network.lowering.arithmetic import rescaled, together
from po2quant.network.lowering.context import Context
from po2quant.network.lowering.operators import concatenated
from po2quant.network.lowering.rearranging import rearranged

Array = Callable[[], np.ndarray]
"""Returns weights as they are when it is called."""


class _Step:
    """Builds one step of a recurrent layer.

    Args:
        node: the call of the layer, after which all is named.
        cell: Keras' cell, whose weights and functions count.
        context: of the network.
        prefix: of the names of parts.
    """

    def __init__(self, node: Node, cell: Any, context: Context, prefix: str) -> None:
        self.cell, self.units = cell, int(cell.units)
        self._node, self._context, self._prefix = node, context, prefix

    def name(self, part: str) -> str:
        """Return a free name of a part."""
        return self._context.name(self._node.layer, self._prefix + part)

    def product(self, x: Any, part: str, kernel: Array, bias: Array | None = None) -> Any:
        """Return ``x @ kernel + bias``; a bias that there is none of is 0."""
        dense = layers.Dense(kernel().shape[1], name=self.name(part))

        def fill() -> None:
            dense.kernel.assign(kernel())
            dense.bias.assign(np.zeros(dense.bias.shape) if bias is None else bias())

        self._context.transfers.append(fill)
        return dense(x)

    def kernel(self, order: Sequence[int]) -> Array:
        """Return what gives the input's kernel of some gates."""
        return lambda: _gates(self.cell.kernel, order, self.units)

    def recurrent_kernel(self, order: Sequence[int]) -> Array:
        """Return what gives the state's kernel of some gates."""
        return lambda: _gates(self.cell.recurrent_kernel, order, self.units)

    def bias(self, order: Sequence[int], row: int = 0) -> Array | None:
        """Return what gives a bias of some gates; None without one."""
        if not self.cell.use_bias:
            return None
        return lambda: _gates(np.atleast_2d(self.cell.bias)[row], order, self.units)

    def gate(self, x: Any, first: int, part: str, count: int = 1) -> Any:
        """Return the vectors of one or more gates that lie side by side."""
        start, end = first * self.units, (first + count) * self.units
        return rearranged(self._node, x, self._context, lambda values: values[start:end], part=self._prefix + part)

    def apply(self, function: Any, x: Any, part: str) -> Any:
        """Return what an activation function makes of a tensor."""
        name = activation_name(function, self._node.layer.name)
        form = FUNCTIONS[name].form
        if form is Form.HOST:
            raise ValueError(f"an activation within a step must be of one integer at a time. Received: {name!r}")
        return x if form is Form.NOTHING else layers.Activation(name, name=self.name(part))(x)

    def join(self, layer_class: Callable[..., Any], x: Any, y: Any, part: str) -> Any:
        """Return the sum or product of two tensors."""
        return layer_class(name=self.name(part))([x, y])


def _gates(weights: Any, order: Sequence[int], units: int) -> np.ndarray:
    """Return the columns of some gates, in an order."""
    columns = [np.arange(gate * units, (gate + 1) * units) for gate in order]
    return np.asarray(weights)[..., np.concatenate(columns)]


def _lstm(step: _Step, x: Any, h: Any, c: Any) -> list[Any]:
    """``c' = f * c + i * g; h' = o * tanh(c')``; Keras' order of gates is i, f, g, o."""
    order, cell = (0, 1, 3, 2), step.cell
    total = step.join(
        layers.Add,
        step.product(x, "kernel", step.kernel(order), step.bias(order)),
        step.product(h, "recurrent_kernel", step.recurrent_kernel(order)),
        "sum",
    )
    gates = step.apply(cell.recurrent_activation, step.gate(total, 0, "gates_in", 3), "gates")
    candidate = step.apply(cell.activation, step.gate(total, 3, "candidate_in"), "candidate")
    kept = step.join(layers.Multiply, step.gate(gates, 1, "forget"), c, "kept")
    added = step.join(layers.Multiply, step.gate(gates, 0, "input"), candidate, "added")
    carried = step.join(layers.Add, kept, added, "carry")
    seen = step.apply(cell.activation, carried, "carry_out")
    return [step.join(layers.Multiply, step.gate(gates, 2, "output"), seen, "state"), carried]


def _gru(step: _Step, x: Any, h: Any) -> list[Any]:
    """``h' = z * h + (1 - z) * g``; Keras' order of gates is z, r, g."""
    cell, gates, every = step.cell, (0, 1), (0, 1, 2)
    of_x = step.product(x, "kernel", step.kernel(every), step.bias(every))
    if cell.reset_after:
        of_h = step.product(h, "recurrent_kernel", step.recurrent_kernel(every), step.bias(every, row=1))
        first = step.gate(of_h, 0, "state_gates", 2)
    else:
        first = step.product(h, "recurrent_kernel", step.recurrent_kernel(gates))
    total = step.join(layers.Add, step.gate(of_x, 0, "input_gates", 2), first, "sum")
    both = step.apply(cell.recurrent_activation, total, "gates")
    update, reset = step.gate(both, 0, "update"), step.gate(both, 1, "reset")
    if cell.reset_after:
        remembered = step.join(layers.Multiply, reset, step.gate(of_h, 2, "state_candidate"), "remembered")
    else:
        read = step.join(layers.Multiply, reset, h, "read")
        remembered = step.product(read, "candidate_kernel", step.recurrent_kernel((2,)))
    candidate_in = step.join(layers.Add, step.gate(of_x, 2, "input_candidate"), remembered, "candidate_sum")
    candidate = step.apply(cell.activation, candidate_in, "candidate")
    kept = step.join(layers.Multiply, update, h, "kept")
    rest = layers.Rescaling(-1.0, 1.0, name=step.name("rest"))(update)
    return [step.join(layers.Add, kept, step.join(layers.Multiply, rest, candidate, "added"), "state")]


def _simple(step: _Step, x: Any, h: Any) -> list[Any]:
    """``h' = tanh(x @ kernel + h @ recurrent_kernel + bias)``."""
    only = (0,)
    total = step.join(
        layers.Add,
        step.product(x, "kernel", step.kernel(only), step.bias(only)),
        step.product(h, "recurrent_kernel", step.recurrent_kernel(only)),
        "sum",
    )
    return [step.apply(step.cell.activation, total, "state")]


CELLS: dict[type, tuple[Callable[..., list[Any]], tuple[str, ...]]] = {
    layers.LSTMCell: (_lstm, ("h", "c")),
    layers.GRUCell: (_gru, ("h",)),
    layers.SimpleRNNCell: (_simple, ("h",)),
}
"""What makes a step of each cell, and the names of its states."""


def _flipped(node: Node, x: Any, context: Context, part: str) -> Any:
    return rearranged(node, x, context, lambda values: values[::-1], part=part)


def _recurrent(node: Node, layer: Any, x: Any, context: Context, prefix: str = "") -> Any:
    """Return what a recurrent layer of Keras makes of a sequence."""
    cell = layer.cell
    if type(cell) not in CELLS:
        known = ", ".join(known.__name__ for known in CELLS)
        raise ValueError(f"its cell must be one of {known}. Received: {type(cell).__name__}")
    make, states = CELLS[type(cell)]
    step = _Step(node, cell, context, prefix)
    now = keras.Input(x.shape[2:], name=step.name("x"))
    before = [keras.Input((cell.units,), name=step.name(f"{state}_before")) for state in states]
    network = keras.Model([now, *before], make(step, now, *before), name=step.name("cell"))
    if layer.go_backwards:
        x = _flipped(node, x, context, f"{prefix}reversed")
    name = step.name("recurrent") if prefix else context.name(node.layer)
    return Recurrent(network, layer.return_sequences, name=name)(x)


def _check_one_call(node: Node, context: Context) -> None:
    if context.once(node.layer, lambda: node) is not node:
        raise ValueError("it must be called once: make a layer for each call")


def recurrent(node: Node, inputs: list[Any], context: Context) -> Any:
    """LSTM, GRU, SimpleRNN, and RNN of one of their cells."""
    _check_one_call(node, context)
    return _recurrent(node, node.layer, inputs[0], context)


def bidirectional(node: Node, inputs: list[Any], context: Context) -> Any:
    """Bidirectional: two recurrent layers, one of which reads the sequence from its end."""
    _check_one_call(node, context)
    layer, (x,) = node.layer, inputs
    pair = (("forward", layer.forward_layer), ("backward", layer.backward_layer))
    for _, one in pair:
        if type(one) not in (layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN):
            raise ValueError(f"it must be around LSTM, GRU, SimpleRNN or RNN. Received: {type(one).__name__}")
    both = [_recurrent(node, one, x, context, f"{part}_") for part, one in pair]
    if layer.return_sequences:
        both[1] = _flipped(node, both[1], context, "backward_turned")
    if layer.merge_mode == "concat":
        return concatenated(node, context, both)
    joined = together(node, both, context, layers.Multiply if layer.merge_mode == "mul" else layers.Add)
    return rescaled(node, joined, context, 0.5, part="scaled") if layer.merge_mode == "ave" else joined


EXPANSIONS = {
    layers.LSTM: recurrent,
    layers.GRU: recurrent,
    layers.SimpleRNN: recurrent,
    layers.RNN: recurrent,
    layers.Bidirectional: bidirectional,
}
