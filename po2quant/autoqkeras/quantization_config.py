"""AutoQKeras' dictionaries ``quantization_config`` and ``limit``, read as a search space."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import keras

from po2quant.autoqkeras.quantizer_texts import ANY_ALPHA, bits_and_alpha, canonical, why_left_out
from po2quant.cost import REFERENCE_ACTIVATION_BITS, REFERENCE_BIAS_BITS, REFERENCE_KERNEL_BITS
from po2quant.layers import Recurrent
from po2quant.network import Placement, fold_batch_norm, place_quantizers
from po2quant.network.graph import Graph, read_graph
from po2quant.network.kinds import activation_of, is_weighted
from po2quant.quantizers import ALPHAS, AUTO_PO2
from po2quant.search.space import PARTS, SearchSpace

KERNEL, BIAS, ACTIVATION = PARTS
LINEAR = "linear"
RECURRENT_SECTIONS = ("pointwise_kernel", "recurrent_kernel", "recurrent_activation")
"""Sections of QKeras that have no effect: such kernels and activations are among the others."""

RECURRENT_CLASSES = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional")
DEFAULT, DEFAULT_LIMIT = "default", 8
LONGEST_ENTRY = 4
"""AutoQKeras' limits of recurrent layers have four bounds."""

REFERENCE_WIDTHS = {
    KERNEL: REFERENCE_KERNEL_BITS,
    BIAS: REFERENCE_BIAS_BITS,
    ACTIVATION: REFERENCE_ACTIVATION_BITS,
}

DEFAULT_QUANTIZATION_CONFIG = {
    KERNEL: {f"quantized_bits({bits},{bits},1,1,alpha='{AUTO_PO2}')": bits for bits in SearchSpace.kernel},
    BIAS: {f"quantized_bits({bits},{bits},1,1,alpha='{AUTO_PO2}')": bits for bits in SearchSpace.bias},
    ACTIVATION: {
        f"quantized_bits_featuremap({bits},{bits},1,1,alpha='{AUTO_PO2}')": bits for bits in SearchSpace.activation
    },
}
"""The published study's widths with power-of-two scales."""


@dataclasses.dataclass(frozen=True)
class QuantizationConfig:
    """The quantizers to choose from.

    Args:
        alpha: scales of all quantizers, one of :data:`~po2quant.bit_config.ALPHAS`.
        sections: width of each quantizer, by :func:`canonical` text, for ``kernel``, ``bias``, ``activation`` and
            perhaps ``linear``.
        left_out: why each quantizer that no program holds is left out, by its text.
    """

    alpha: str
    sections: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, config: Mapping[str, Mapping[str, int]] | None) -> QuantizationConfig:
        """Read AutoQKeras' dictionary: section -> quantizer as text -> its width in bits.

        Only widths can change in one compiled graph. So the quantizers are ``quantized_bits``,
        ``quantized_bits_featuremap``, ``ternary``, which is 2 bits, and those of activation functions, of which the
        width counts. A text alpha is one for all. An alpha that is a number, or none, QKeras' default, says that scales
        are powers of two: they follow the values here. What no program holds is left out (:data:`LEFT_OUT`).

        Args:
            config: the dictionary; None means :data:`DEFAULT_QUANTIZATION_CONFIG`.

        Raises:
            ValueError: for a missing or unknown section, another quantizer, a width that contradicts its quantizer,
                alphas that differ or are unknown, or a section of which nothing is left.
        """
        config = DEFAULT_QUANTIZATION_CONFIG if config is None else config
        if not isinstance(config, Mapping) or not all(isinstance(section, Mapping) for section in config.values()):
            raise ValueError(
                "quantization_config must be a dictionary of dictionaries, section -> quantizer -> bits. "
                f"Received: {config!r}"
            )
        known = (*PARTS, LINEAR, *RECURRENT_SECTIONS)
        if not set(PARTS) <= set(config) <= set(known) or not all(config[part] for part in PARTS):
            raise ValueError(
                f"quantization_config must have quantizers for {', '.join(PARTS)} and may have {LINEAR}. "
                f"Received: {', '.join(section for section in config if config[section]) or 'none'}"
            )
        sections: dict[str, dict[str, int]] = {}
        alphas: dict[Any, str] = {}
        left_out: dict[str, str] = {}
        for section in (*PARTS, *((LINEAR,) if config.get(LINEAR) else ())):
            sections[section] = {}
            for text, declared in config[section].items():
                if reason := why_left_out(text):
                    left_out[text] = reason
                    continue
                bits, alpha = bits_and_alpha(text)
                if declared != bits:
                    raise ValueError(f"{text!r} must be listed with its {bits} bits. Received: {declared!r}")
                sections[section][canonical(text)] = bits
                alphas.setdefault(alpha, text)
            if not sections[section]:
                reasons = "; ".join(f"{text}: {reason}" for text, reason in left_out.items())
                raise ValueError(f"section {section!r} must have a quantizer that a program holds. Received: {reasons}")
        if alphas.pop(ANY_ALPHA, None) is not None:
            alphas = alphas or {AUTO_PO2: ""}
        if len(alphas) != 1 or next(iter(alphas)) not in ALPHAS:
            raise ValueError(
                f"alpha must be one of {', '.join(ALPHAS)}, the same in every quantizer of quantization_config. "
                f"Received: {', '.join(alphas.values()) or 'no alpha'}"
            )
        return cls(next(iter(alphas)), sections, left_out)

    def widths(self, section: str, bound: float | Sequence[str] | None = None) -> tuple[int, ...]:
        """Return the widths of a section, narrow to wide.

        Args:
            section: ``'kernel'``, ``'bias'``, ``'activation'`` or ``'linear'``.
            bound: the most bits, a list of quantizers of the section, or None for all of them.

        Raises:
            ValueError: where the bound leaves nothing, or lists a quantizer that the section has not.
        """
        offered = self.sections[section]
        if isinstance(bound, Sequence):
            unknown = [text for text in bound if canonical(text) not in offered and not why_left_out(text)]
            bound = [text for text in bound if text in unknown or canonical(text) in offered]
            if unknown or not bound:
                raise ValueError(
                    f"a limit must list quantizers of section {section!r} in quantization_config. "
                    f"Received: {unknown[0]!r}"
                    if unknown
                    else f"a limit must list at least one quantizer of section {section!r}. Received: {bound!r}"
                )
            return tuple(sorted({offered[canonical(text)] for text in bound}))
        widths = tuple(sorted({bits for bits in offered.values() if bound is None or bits <= bound}))
        if not widths:
            raise ValueError(
                f"a limit must leave a width of section {section!r}: {sorted(set(offered.values()))}. Received: {bound}"
            )
        return widths


@dataclasses.dataclass(frozen=True)
class Site:
    """A slot, and the layer of the float model whose limit it obeys.

    Args:
        slot: e.g. ``'conv2d.kernel'`` or ``'activation_1.activation'``.
        section: where its quantizers stand in ``quantization_config``.
        layer: name of the layer: the one that computes the tensor, under the name that the float model gives it. An
            activation function inside a convolution or dense layer is that layer's.
        class_name: Keras class of the layer.
        has_weights: whether the layer has a kernel.
    """

    slot: str
    section: str
    layer: str
    class_name: str
    has_weights: bool


def find_sites(model: keras.Model, placement: Placement, has_linear: bool = False) -> list[Site]:
    """Return a site for every slot of a float model, in no particular order.

    Args:
        model: float model.
        placement: what the placement rules leave open.
        has_linear: whether tensors that no activation function made have a section of their own.
    """
    folded = fold_batch_norm(model)
    graph = read_graph(folded)
    nodes = {node.layer.name: node for node in graph.every_node}
    layers = {node.layer.name: node.layer for node in read_graph(model).nodes}
    recurrent = _recurrent_layers(graph, layers)
    sites = [
        Site(f"{name}.{part}", part, owner.name, type(owner).__name__, True)
        for name, node in nodes.items()
        if is_weighted(node.layer)
        for owner in [recurrent.get(name, node.layer)]
        for part in (KERNEL, BIAS)
    ]
    for slot in place_quantizers(folded, placement):
        node = nodes[slot.layer]
        section = LINEAR if has_linear and activation_of(node.layer) is None else ACTIVATION
        owner = recurrent.get(slot.layer) or (node.layer if slot.layer in layers else node.inputs[0].layer)
        has_weights = slot.layer in recurrent or is_weighted(owner)
        sites.append(Site(f"{slot.name}.{ACTIVATION}", section, owner.name, type(owner).__name__, has_weights))
    return sites


def _recurrent_layers(folded: Graph, layers: Mapping[str, keras.Layer]) -> dict[str, keras.Layer]:
    """Return, for each layer of a cell, the recurrent layer of the float model: of what its parts are named after."""
    owners: dict[str, keras.Layer] = {}
    for node in folded.nodes:
        if isinstance(node.layer, Recurrent):
            named = [name for name in layers if node.layer.name == name or node.layer.name.startswith(f"{name}_")]
            inner = read_graph(node.layer.cell).nodes
            owners |= dict.fromkeys((step.layer.name for step in inner), layers[max(named, key=len)])
    return owners


@dataclasses.dataclass(frozen=True)
class _Rule:
    """The bound of a site: the most bits or a list of quantizers. Sites of one pattern and section share a choice."""

    bound: float | Sequence[str] | None
    pattern: str | None = None


class Limits:
    """AutoQKeras' ``limit``: which quantizers a layer may have.

    A key is a Keras class or a regular expression that matches the start of layer names; the first expression that
    matches a layer counts, before its class. Its value is ``[kernel, bias, activation]``, each the most bits or a list
    of quantizers; ``Activation`` and other layers without weights have ``[activation]``. Missing entries are those of
    ``'default'``, 8 bits without one. Layers that an expression matches share their choices.

    A layer that no key names is left alone; with ``'default'`` alone all layers obey it, and an empty dictionary
    bounds nothing. An activation quantizer on a layer without weights obeys ``Activation``
    unless its own class has a limit.

    Args:
        limit: the dictionary; None bounds nothing.
        layer_names: names of the float model's layers.

    Raises:
        ValueError: for a value that is no list of bounds, or a key that names neither a layer nor a Keras class.
    """

    def __init__(self, limit: Mapping[str, Sequence] | None, layer_names: Iterable[str]) -> None:
        if limit is not None and not isinstance(limit, Mapping):
            raise ValueError(f"limit must be a dictionary of lists [kernel, bias, activation]. Received: {limit!r}")
        entries = dict(limit or {})
        self._is_given, self._is_of_all = bool(entries), set(entries) == {DEFAULT}
        default: Any = entries.pop(DEFAULT, None)
        default = DEFAULT_LIMIT if default is None else default
        self._default = list(default) if isinstance(default, (list, tuple)) else [default] * len(PARTS)
        _check_entry(DEFAULT, self._default)
        if len(self._default) < len(PARTS):
            raise ValueError(
                f"limit of {DEFAULT!r} must be a number or [kernel, bias, activation]. Received: {default}"
            )
        for key, entry in entries.items():
            _check_entry(key, entry)
        self._classes = {key: list(entry) for key, entry in entries.items() if hasattr(keras.layers, key)}
        self._patterns = {key: list(entry) for key, entry in entries.items() if key not in self._classes}
        names = list(layer_names)
        for pattern in self._patterns:
            _check_pattern(pattern, names)

    def rule(self, site: Site) -> _Rule | None:
        """Return the rule for a site, None where its layer is left alone."""
        if not self._is_given:
            return _Rule(None)
        if self._is_of_all:
            return _Rule(self._bound(self._default, site))
        for pattern, entry in self._patterns.items():
            if re.match(pattern, site.layer):
                if not entry:
                    raise ValueError(f"limit of {pattern!r} must have a bound for layer {site.layer!r}. Received: []")
                return _Rule(self._bound(entry, site), pattern)
        filled = self._classes.get(site.class_name)
        if not site.has_weights:
            filled = filled or self._classes.get("Activation")
        elif filled is not None:
            filled = _of_three(filled, site)
            filled = [*filled, *self._default[len(filled) : 2], self._default[-1]][:3]
        return _Rule(self._bound(filled, site)) if filled else None

    def _bound(self, entry: Sequence, site: Site) -> float | Sequence[str]:
        if site.section not in (KERNEL, BIAS):
            return entry[-1]
        entry, index = _of_three(entry, site), PARTS.index(site.section)
        return entry[index] if index < len(entry) else self._default[index]


def _of_three(entry: Sequence, site: Site) -> list:
    """Return ``[kernel, bias, activation]``; of a recurrent layer's two kernels, the first bound counts for both."""
    has_two_kernels = site.class_name in RECURRENT_CLASSES and len(entry) == LONGEST_ENTRY
    return [entry[0], *entry[2:]] if has_two_kernels else list(entry)


def _check_entry(key: str, entry: Any) -> None:
    is_list = isinstance(entry, (list, tuple)) and len(entry) <= LONGEST_ENTRY
    if not is_list or not all(_is_bound(bound) for bound in entry):
        raise ValueError(
            f"limit of {key!r} must be a list [kernel, bias, activation] of numbers of bits or lists of quantizers. "
            f"Received: {entry!r}"
        )


def _is_bound(bound: Any) -> bool:
    if isinstance(bound, (list, tuple)):
        return all(isinstance(text, str) for text in bound)
    return isinstance(bound, (int, float)) and not isinstance(bound, bool)


def _check_pattern(pattern: str, layer_names: Sequence[str]) -> None:
    try:
        is_used = any(re.match(pattern, name) for name in layer_names)
    except re.error as error:
        raise ValueError(f"limit {pattern!r} must be a regular expression: {error}") from None
    if not is_used:
        raise ValueError(
            f"a key of limit must be a Keras layer class or match a layer of {', '.join(layer_names)}. "
            f"Received: {pattern!r}"
        )


def search_space(
    model: keras.Model,
    config: QuantizationConfig,
    limit: Mapping[str, Sequence] | None = None,
    layer_indexes: Iterable[int] | None = None,
    left_alone: Mapping[str, int] = REFERENCE_WIDTHS,
    placement: Placement = Placement(),
    frozen: Collection[str] = (),
) -> SearchSpace:
    """Return the search space that AutoQKeras' dictionaries describe for a float model.

    Args:
        model: float model.
        config: quantizers to choose from.
        limit: which of them a layer may have, see :class:`Limits`.
        layer_indexes: positions in ``model.layers`` of the layers to search; None means all layers, and the input.
        left_alone: widths by slot, or by part, of layers that ``limit`` or ``layer_indexes`` leave out.
        placement: what the placement rules leave open.
        frozen: names of layers that are left alone.

    Raises:
        ValueError: for a limit or index that does not fit the model, or where nothing is left to search.
    """
    searched = _layers_at(model, layer_indexes)
    limits = Limits(limit, [node.layer.name for node in read_graph(model).nodes])
    slots: dict[str, tuple[int, ...]] = {}
    groups: dict[str, str] = {}
    is_searched = False
    for site in find_sites(model, placement, LINEAR in config.sections):
        is_open = site.layer not in frozen and (searched is None or site.layer in searched)
        rule = limits.rule(site) if is_open else None
        if rule is None:
            slots[site.slot] = (left_alone.get(site.slot, left_alone.get(site.slot.rpartition(".")[2], 0)),)
            continue
        slots[site.slot] = config.widths(site.section, rule.bound)
        if rule.pattern is not None:
            groups[site.slot] = f"{rule.pattern} {site.section}"
        is_searched = True
    if not is_searched:
        raise ValueError(
            "limit and layer_indexes must leave a layer to search. "
            f"Received: limit={limit!r}, layer_indexes={layer_indexes!r}"
        )
    kernel, bias, activation = map(config.widths, PARTS)
    return SearchSpace(kernel, bias, activation, slots, groups)


def searched_layers(space: SearchSpace) -> set[str]:
    """Return the names of the layers whose kernel has more than one width to choose from."""
    return {
        slot.rpartition(".")[0] for slot, widths in space.slots.items() if slot.endswith(KERNEL) and len(widths) > 1
    }


def _layers_at(model: keras.Model, indexes: Iterable[int] | None) -> set[str] | None:
    if indexes is None:
        return None
    names, indexes = [layer.name for layer in model.layers], list(indexes)
    if not all(isinstance(index, int) and 0 <= index < len(names) for index in indexes):
        raise ValueError(f"layer_indexes must be in [0, {len(names) - 1}], as in model.layers. Received: {indexes}")
    return {names[index] for index in indexes}
