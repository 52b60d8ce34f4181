"""The one description of a float network: folded, with the places of its quantizers and what the accounting counts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import keras

from po2quant.bit_config import FLAT_BIAS_BITS, BitConfig, LayerBits
from po2quant.cost import (
    REFERENCE_ACTIVATION_BITS,
    REFERENCE_KERNEL_BITS,
    LayerShape,
    Size,
    network_size,
    reference_config,
)
from po2quant.layers import Recurrent
from po2quant.network.graph import Graph, Node, read_graph
from po2quant.network.lowering import lower
from po2quant.network.placement import PlacedSlot, Placement, count_layers, place_in_graph
from po2quant.network.quantize import STATIC, quantize_graph
from po2quant.quantizers import AUTO_PO2
from po2quant.uniform import UniformWidths, uniform_widths


@dataclasses.dataclass(frozen=True, eq=False)
class FoldedNetwork:
    """A float network and all that is known of it before it is quantized; :func:`fold` makes one.

    Args:
        source: the float model as it was given.
        placement: what the placement rules leave open.
        model: the equivalent model of core kinds, without BatchNormalization.
        graph: its layer calls.
        entries: the calls in order, each followed by the slots on its output.
        transfers: what :meth:`take_weights` calls.
    """

    source: keras.Model
    placement: Placement
    model: keras.Model
    graph: Graph
    entries: tuple[Node | PlacedSlot, ...]
    transfers: tuple[Callable[[], None], ...]

    @functools.cached_property
    def slots(self) -> tuple[PlacedSlot, ...]:
        """The places of activation quantizers, in network order."""
        return tuple(entry for entry in self.entries if isinstance(entry, PlacedSlot))

    @functools.cached_property
    def layers(self) -> tuple[LayerShape, ...]:
        """What the bit accounting counts, in network order."""
        return tuple(count_layers(self.entries))

    @functools.cached_property
    def input_slots(self) -> tuple[str, ...]:
        """Names of the slots at the network's inputs."""
        inputs = (node for node in self.graph.nodes if isinstance(node.layer, keras.layers.InputLayer))
        return tuple(self._own_slots[node] for node in inputs if node in self._own_slots)

    @functools.cached_property
    def _own_slots(self) -> dict[Node, str]:
        return {placed.node: placed.slot.name for placed in self.slots if placed.consumer is None}

    @functools.cached_property
    def io_slots(self) -> frozenset[str]:
        """Names of the slots at the network's inputs and outputs, which softmax or a reshape may follow."""
        own, waiting, found = self._own_slots, list(self.graph.outputs), set(self.input_slots)
        while waiting:
            node = waiting.pop()
            if node in own:
                found.add(own[node])
            elif isinstance(node.layer, Recurrent):
                waiting.append(read_graph(node.layer.cell).outputs[0])
            else:
                waiting += node.inputs
        return frozenset(found)

    def flat(self, bits: int) -> BitConfig:
        """Return the configuration that gives every kernel and activation ``bits`` bits."""
        return self.uniform(UniformWidths(bits, bits, bits), f"flat{bits}")

    def uniform(self, widths: UniformWidths, name: str) -> BitConfig:
        """Return the configuration with one width for kernels, one for activations, and one for inputs and outputs.

        Args:
            widths: the three widths; biases have 31 bits, or as many as the target has.
            name: of the configuration.
        """
        bias = self.placement.target.nearest("bias", FLAT_BIAS_BITS)
        layers = {layer: LayerBits(widths.kernel, bias) for layer in self.graph.weighted}
        for placed in self.slots:
            is_end = placed.slot.name in self.io_slots
            layers[placed.slot.name] = LayerBits(activation=widths.io if is_end else widths.activation)
        return BitConfig(layers, name)

    def reference(self) -> BitConfig:
        """Return the reference of the score: 16-bit kernels and activations, 31-bit biases."""
        return reference_config(self.layers)

    def widest(self) -> BitConfig:
        """Return the reference, narrowed to the widest widths that the target has."""
        nearest = self.placement.target.nearest
        activation = nearest("activation", REFERENCE_ACTIVATION_BITS)
        return self.uniform(UniformWidths(nearest("kernel", REFERENCE_KERNEL_BITS), activation, activation), "widest")

    def size(self, config: BitConfig | None) -> Size:
        """Return the bits of the network under a configuration; None: float, 32 bits everywhere."""
        return network_size(self.layers, config)

    def quantize(self, config: BitConfig, activation_scale: str = STATIC, scale_rule: str = "mse") -> keras.Model:
        """Return the network with QKeras layers and activation quantizers, and the weights of ``model``.

        Args:
            config: widths and kinds of scales of every layer with weights and every slot; where a kind is left open,
                scales are powers of two.
            activation_scale: as for :func:`quantize_model`.
            scale_rule: as for :func:`quantize_model`.

        Raises:
            ValueError: where the configuration does not fit the network or its target.
        """
        target = self.placement.target
        target.check_widths(config.layers)
        return quantize_graph(self.graph, self.slots, config.with_alpha(AUTO_PO2), activation_scale, scale_rule, target)

    def take_weights(self) -> None:
        """Fold the weights that ``source`` has now into ``model``.

        Raises:
            ValueError: for weights that are not finite.
        """
        for transfer in self.transfers:
            transfer()


def fold(model: keras.Model, placement: Placement = Placement()) -> FoldedNetwork:
    """Return the description of a float network that quantization, search and the bit accounting share.

    Args:
        model: Sequential or functional model, with weights; it is left alone.
        placement: what the placement rules leave open.

    Raises:
        ValueError: for an unsupported layer, a BatchNormalization that cannot be folded, or weights that are not
            finite.

    Example:
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="dense")])
        >>> network = fold(model)
        >>> network.size(network.flat(8))
        Size(activation_bits=80, parameter_bits=126)
    """
    lowered = lower(model)
    graph = read_graph(lowered.model)
    entries = tuple(place_in_graph(graph, placement))
    return FoldedNetwork(model, placement, lowered.model, graph, entries, lowered.transfers)


def quantize_model(
    model: keras.Model,
    config: BitConfig,
    alpha: str = AUTO_PO2,
    placement: Placement = Placement(),
    activation_scale: str = STATIC,
    scale_rule: str = "mse",
) -> keras.Model:
    """Return the model with QKeras layers and activation quantizers, and the same weights.

    Args:
        model: float Sequential or functional model; BatchNormalization is folded on the way.
        config: widths of every layer with weights and every slot of
            :func:`~po2quant.network.place_quantizers`, with the ``alpha`` of those that have one of their own.
        alpha: ``'auto'`` (real scales), ``'auto_po2'`` (powers of two) or ``'learned_po2'`` (trained powers of two).
        placement: what the placement rules leave open.
        activation_scale: ``'static'``, or ``'per_sample'``, which computes scales at run time.
        scale_rule: how weights choose power-of-two exponents: ``'mse'``, ``'max'``, ``'nearest'`` or ``'stock'``.

    Returns:
        Functional model; its quantizers are named like the slots. Calibrate it before use.

    Raises:
        ValueError: where the configuration does not fit the network, or a layer is not supported.

    Example:
        >>> model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="dense")])
        >>> quantized = quantize_model(model, flat_config(model, 8))
        >>> [layer.name for layer in quantized.layers]
        ['x', 'activation', 'dense', 'activation_1']
    """
    return fold(model, placement).quantize(config.with_alpha(alpha), activation_scale, scale_rule)


def flat_config(model: keras.Model, bits: int | str, placement: Placement = Placement()) -> BitConfig:
    """Return the configuration of one width for a float model, or of a few.

    Args:
        model: float model.
        bits: width of every kernel and activation, or a name such as ``"w4a8"``: kernels of 4 bits, activations of 8,
            inputs and outputs of 8 (``"w4a4-io16"``: of 16).
        placement: as for :func:`quantize_model`.

    Raises:
        ValueError: for a width outside [2, 32] or another name.
    """
    widths = uniform_widths(bits) if isinstance(bits, str) else UniformWidths(bits, bits, bits)
    if widths is None:
        raise ValueError(f"bits must be a width or a name such as 'w4a8'. Received: {bits!r}")
    return fold(model, placement).uniform(widths, bits if isinstance(bits, str) else f"flat{bits}")
