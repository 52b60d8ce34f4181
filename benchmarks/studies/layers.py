"""What becomes of each layer, operator and function, and which files can take it: ``docs/layers.md``.

``python -m benchmarks.studies.layers`` lowers one example of each and writes the tables: half a minute.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from benchmarks.studies.document import table, write_results
from po2quant.deploy.formats import FORMATS
from po2quant.deploy.from_keras import OPERATIONS
from po2quant.integer.operations import LookUpTable
from po2quant.network import fold
from po2quant.network.graph import Node, read_graph
from po2quant.network.kinds import FUNCTIONS, KINDS, Form, Role, function_of, kind_of
from po2quant.network.lowering.expansion import EXPANSIONS
from po2quant.network.lowering.obstacles import REFUSED

REPORT, COMMAND = Path("docs/layers.md"), "python -m benchmarks.studies.layers"
SHOWN_FORMATS = {"c": "C", "onnx": "ONNX", "qonnx": "QONNX", "litert": "LiteRT", "qkeras": "qkeras"}
YES, NO = "yes", "no"

PHOTO, IMAGE, SEQUENCE, VECTOR = (4, 4, 3), (4, 4, 4), (6, 4), (4,)

STEP = [keras.Input(VECTOR), keras.Input(VECTOR)]

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "Activation": ("silu",),
    "ActivityRegularization": (0.1,),
    "AlphaDropout": (0.1,),
    "AveragePooling2D": (2,),
    "AveragePooling1D": (2,),
    "Bidirectional": (layers.LSTM(4),),
    "Conv1D": (4, 3),
    "Conv1DTranspose": (4, 3, 2),
    "Conv2D": (4, 3),
    "Conv2DTranspose": (4, 3, 2),
    "CustomScaleLayer": (0.5,),
    "Dense": (4,),
    "DepthwiseConv1D": (3,),
    "DepthwiseConv2D": (3,),
    "Dropout": (0.1,),
    "Elementwise": ("square",),
    "GRU": (4,),
    "GaussianDropout": (0.1,),
    "GaussianNoise": (0.1,),
    "LSTM": (4,),
    "LayerScale": (0.1, 3),
    "Normalization": (-1, [0.5] * 3, [0.5] * 3),
    "PReLU": ("zeros", None, None, [1, 2]),
    "Permute": ((2, 1, 3),),
    "RNN": (layers.GRUCell(4),),
    "RandomBrightness": (0.1,),
    "RandomColorDegeneration": (0.1,),
    "RandomContrast": (0.1,),
    "RandomHue": (0.1,),
    "RandomPosterization": (4,),
    "RandomSaturation": (0.1,),
    "RandomSharpness": (0.1,),
    "RandomShear": (0.1, 0.1),
    "RandomRotation": (0.1,),
    "RandomTranslation": (0.1, 0.1),
    "RandomZoom": (0.1,),
    "TimeDistributed": (layers.Dense(4),),
    "Rearrange": ((4,), (1,), 0, (2, 2)),
    "Recurrent": (keras.Model(STEP, layers.Add()(STEP)),),
    "RepeatVector": (3,),
    "Rescaling": (0.5, 1.0),
    "Reshape": ((-1,),),
    "Resizing": (8, 8, "nearest"),
    "SeparableConv1D": (4, 3),
    "SeparableConv2D": (4, 3),
    "SimpleRNN": (4,),
    "SpatialDropout1D": (0.1,),
    "SpatialDropout2D": (0.1,),
    "StochasticDepth": (0.1,),
}
"""Arguments that a layer needs to be made."""

RECURRENT = ("Bidirectional", "GRU", "LSTM", "RNN", "Recurrent", "SimpleRNN")

TOGETHER = ("Add", "Average", "Concatenate", "CustomScaleLayer", "Maximum", "Minimum", "Multiply", "Subtract")
"""Layers that are called with a list of tensors."""

OPERATORS: dict[str, Callable[[Any], Any]] = {
    "x + y, ops.add": lambda x: x + ops.flip(x, 1),
    "x - y, ops.subtract": lambda x: x - ops.flip(x, 1),
    "x * y, ops.multiply": lambda x: x * ops.flip(x, 1),
    "x / 2.0, ops.true_divide": lambda x: x / 2.0,
    "ops.divide": lambda x: ops.divide(x, 2.0),
    "-x, ops.negative": lambda x: -x,
    "x[:, 1:], ops.getitem": lambda x: x[:, 1:],
    "ops.abs": ops.abs,
    "ops.square": ops.square,
    "ops.exp": ops.exp,
    "ops.clip": lambda x: ops.clip(x, -1.0, 1.0),
    "ops.maximum": lambda x: ops.maximum(x, ops.flip(x, 1)),
    "ops.minimum": lambda x: ops.minimum(x, ops.flip(x, 1)),
    "ops.relu": ops.relu,
    "ops.relu6": ops.relu6,
    "activations.relu(x, slope, ...)": lambda x: keras.activations.relu(x, 0.1, 2.0),
    "ops.leaky_relu": ops.leaky_relu,
    "ops.elu": ops.elu,
    "ops.selu": ops.selu,
    "ops.gelu": ops.gelu,
    "ops.sigmoid": ops.sigmoid,
    "ops.silu": ops.silu,
    "ops.tanh": ops.tanh,
    "ops.hard_sigmoid": ops.hard_sigmoid,
    "ops.hard_silu": ops.hard_silu,
    "ops.hard_tanh": ops.hard_tanh,
    "ops.softplus": ops.softplus,
    "ops.softsign": ops.softsign,
    "ops.softmax": ops.softmax,
    "ops.mean": lambda x: ops.mean(x, axis=(1, 2)),
    "ops.sum": lambda x: ops.sum(x, axis=-1),
    "ops.max": lambda x: ops.max(x, axis=(1, 2)),
    "ops.min": lambda x: ops.min(x, axis=-1),
    "ops.average_pool": lambda x: ops.average_pool(x, 2),
    "ops.max_pool": lambda x: ops.max_pool(x, 2),
    "ops.image.resize": lambda x: ops.image.resize(x, (8, 8), interpolation="nearest"),
    "ops.concatenate": lambda x: ops.concatenate([x, ops.flip(x, 1)], axis=-1),
    "ops.stack": lambda x: ops.stack([x, ops.flip(x, 1)], axis=-1),
    "ops.split": lambda x: ops.split(x, 2, axis=-1)[0],
    "ops.pad": lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
    "ops.reshape": lambda x: ops.reshape(x, (-1, 16, 4)),
    "ops.expand_dims": lambda x: ops.expand_dims(x, 1),
    "ops.squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "ops.transpose": lambda x: ops.transpose(x, (0, 2, 1, 3)),
    "ops.swapaxes": lambda x: ops.swapaxes(x, 1, 2),
    "ops.moveaxis": lambda x: ops.moveaxis(x, 1, 2),
    "ops.flip": lambda x: ops.flip(x, 1),
    "ops.repeat": lambda x: ops.repeat(x, 2, axis=1),
    "ops.tile": lambda x: ops.tile(x, (1, 2, 1, 1)),
    "ops.depth_to_space": lambda x: ops.depth_to_space(x, 2),
    "ops.space_to_depth": lambda x: ops.space_to_depth(x, 2),
}
"""A use of each operator, by how it is written; it comes last."""

HELPERS = ("flip", "expand_dims")
"""Operators that make what another one is called with, as layers are named after them."""

LAYER_MODULES, BASES = "keras.src.layers.", {"Layer", "Wrapper"}

FORMS = {Form.NOTHING: "nothing", Form.CLIP: "limits of the operation before it", Form.HOST: "left to the host"}
GONE = "nothing"
FOLDED = "weights of its neighbours, else a depthwise 1x1 convolution"


@dataclasses.dataclass(frozen=True)
class Row:
    """What becomes of a layer or operator.

    Args:
        name: as users write it.
        layers: of the core that stand for it.
        operations: integer operations that it becomes.
        formats: whether the files of each format can take these.
    """

    name: str
    layers: str
    operations: str
    formats: tuple[bool, ...]

    def cells(self) -> list[str]:
        """Return it as a row of a table."""
        return [f"`{self.name}`", self.layers, self.operations, *(YES if taken else NO for taken in self.formats)]


def supported_layers() -> dict[str, type[keras.Layer]]:
    """Return every class of layer that is of the core or becomes layers of it, by name."""
    core = [kind.layer for kind in KINDS if kind.role is not Role.INPUT]
    return {layer.__name__: layer for layer in sorted({*core, *EXPANSIONS}, key=lambda layer: layer.__name__)}


def other_layers() -> list[str]:
    """Return the names of Keras' layers that are neither supported nor refused for a reason of their own."""
    known = {*supported_layers(), *REFUSED, "InputLayer"}
    classes = {
        value.__name__: value
        for value in vars(layers).values()
        if isinstance(value, type)
        and issubclass(value, layers.Layer)
        and value.__module__.startswith("keras.src.layers")
    }
    return sorted(name for name in classes.keys() - known if not classes[name].__subclasses__() or name == "Wrapper")


def example(name: str, layer: type[keras.Layer]) -> keras.Model:
    """Return a model of one layer."""
    shape = (
        VECTOR if name in ("RepeatVector", "Rearrange") else SEQUENCE if "1D" in name or name in RECURRENT else PHOTO
    )
    x, made = keras.Input(shape), layer(*ARGUMENTS.get(name, ()))
    return keras.Model(x, made([x, ops.flip(x, 1)] if name in TOGETHER else x))


def layer_row(name: str, layer: type[keras.Layer]) -> Row:
    """Return what becomes of a layer."""
    row = _row(name, example(name, layer))
    return dataclasses.replace(row, layers=FOLDED) if name == "BatchNormalization" else row


def operator_row(name: str) -> Row:
    """Return what becomes of an operator."""
    x = keras.Input(IMAGE)
    return _row(name, keras.Model(x, OPERATORS[name](x)))


def operator_class(name: str) -> str:
    """Return the name of Keras' class of an operator."""
    return type(OPERATORS[name](keras.Input(IMAGE))._keras_history.operation).__name__


def _row(name: str, model: keras.Model) -> Row:
    """Return the row of what is last in a model."""
    graph = fold(model).graph
    own = read_graph(model).outputs[0].layer.name
    nodes = [
        node
        for node in graph.nodes
        if kind_of(node.layer).role is not Role.INPUT
        and (node.layer.name.startswith(own) or not node.layer.name.startswith(HELPERS))
    ]
    operations = [operation for operation in map(_operation, nodes) if operation]
    kinds = [OPERATIONS[name] for name in operations if name in OPERATIONS]
    taken = tuple(all(map(FORMATS[format].takes, kinds)) for format in SHOWN_FORMATS)
    standing = _counted(type(node.layer).__name__ for node in nodes)
    return Row(name, standing or GONE, _counted(operations) or GONE, taken)


def _operation(node: Node) -> str:
    """Return what a layer of the core becomes, empty for nothing."""
    function = function_of(node.layer)
    if function is None:
        return kind_of(node.layer).operation
    return LookUpTable.__name__ if function.form is Form.TABLE else FORMS[function.form]


def _counted(words: Iterable[str]) -> str:
    """Return words in their order, repeated ones as a number."""
    runs = [(word, len(list(run))) for word, run in itertools.groupby(words)]
    return ", ".join(word if count == 1 else f"{count} {word}" for word, count in runs)


def sections() -> Iterator[str]:
    """Return the tables of the document."""
    header = ["", "layers of the core", "integer operations", *SHOWN_FORMATS.values()]
    yield "## Layers"
    yield table(["layer", *header[1:]], (layer_row(*item).cells() for item in supported_layers().items()))
    yield "## Operators and `keras.ops`"
    yield table(["operator", *header[1:]], (operator_row(name).cells() for name in OPERATORS))
    yield "## Activation functions"
    rows = ([f"`{name}`", FORMS.get(function.form, LookUpTable.__name__)] for name, function in FUNCTIONS.items())
    yield table(["function", "becomes"], rows)
    yield "## Refused"
    yield table(["layer", "why, and what to do"], ([f"`{name}`", reason] for name, reason in sorted(REFUSED.items())))
    yield f"Not known yet: {', '.join(f'`{name}`' for name in other_layers())}."


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the document."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args(arguments)
    write_results(REPORT, COMMAND, list(sections()))


if __name__ == "__main__":
    main()
