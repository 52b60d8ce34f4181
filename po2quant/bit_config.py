"""Bit widths of a network: the one currency that search, configurations, training and cost share.

The JSON form, version 1::

    {"schema": "po2quant.bit_config", "version": 1, "name": "keyword_spotting-ds_cnn",
     "provenance": {...},
     "layers": {"activation": {"activation": 16}, "conv2d": {"kernel": 8, "bias": 31}, ...}}

``layers`` names every layer with weights (``kernel`` and ``bias`` bits) and every activation
quantizer (``activation`` bits), in network order; ``"alpha": "auto"`` beside the bits gives a layer scales of
another kind than the rest, ``"calibration": "percentile"`` an activation another rule for its range. ``provenance`` is
free.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from po2quant.files import one_line, open_replacement, read_text, unique_keys
from po2quant.fixed_point import check_bits
from po2quant.ranges import calibration_rules, check_calibration

SCHEMA, VERSION = "po2quant.bit_config", 1
FLAT_BIAS_BITS = 31
LONGEST_SHOWN = 80
LARGEST_BYTES = 4 * 2**20
"""Most that a configuration file may hold: some 80 000 layers."""
KEYS = ("schema", "version", "name", "provenance", "layers")

AUTO, AUTO_PO2, LEARNED_PO2 = "auto", "auto_po2", "learned_po2"
ALPHAS = (AUTO, AUTO_PO2, LEARNED_PO2)
"""Kinds of scales: real numbers, powers of two, and powers of two that are trained."""
SCALE_RULE_NAMES = MSE, MAX, NEAREST, STOCK = "mse", "max", "nearest", "stock"
"""How the power-of-two scale of a weight follows from its values; :data:`po2quant.quantizers.SCALE_RULES` has them."""
POWERS_OF_TWO = (AUTO_PO2, LEARNED_PO2)
"""Kinds of scales that are powers of two."""
FLOAT, MPQ = "float", "mpq"
"""Names of configurations: float, and a network's own mixed precision."""
TRIALS_FOLDER, TRIAL_CONFIG = "trials", "config.json"
"""Where the run folder of a search has the configuration of each trial."""
MIXED = "mixed"
"""What the scales of a network of several kinds are called."""


def check_alpha(alpha: str) -> None:
    """Raise ValueError unless ``alpha`` names a kind of scales."""
    if alpha not in ALPHAS:
        raise ValueError(f"alpha must be one of {', '.join(ALPHAS)}. Received: alpha={_short(alpha)}")


def check_scale_rule(rule: str) -> None:
    """Raise ValueError unless ``rule`` names a way to choose the scale of a weight."""
    if not isinstance(rule, str) or rule not in SCALE_RULE_NAMES:
        valid = ", ".join(SCALE_RULE_NAMES)
        raise ValueError(f"scale_rule must be one of {valid}. Received: scale_rule={_short(rule)}")


def check_widths(part: str, widths: Sequence[int]) -> None:
    """Raise ValueError for widths of a part to choose from that are empty, do not ascend or lie outside [2, 32]."""
    for bits in widths:
        check_bits(bits)
    if not widths or sorted(set(widths)) != list(widths):
        raise ValueError(f"widths of {part} must be ascending and not empty. Received: {_short(widths)}")


@dataclasses.dataclass(frozen=True)
class LayerBits:
    """Widths in bits of one layer: kernel and bias, or of one activation quantizer, and their kind of scales.

    Args:
        kernel: width of the kernel.
        bias: width of the bias.
        activation: width of the activation.
        alpha: one of :data:`ALPHAS`; None: the kind that the network is quantized with.
        calibration: how the range of the activation follows from data, see
            :func:`~po2quant.ranges.check_calibration`; None: as the network is calibrated.

    Raises:
        ValueError: for a width outside [2, 32], both kinds in one layer, an unknown alpha or calibration.
    """

    kernel: int | None = None
    bias: int | None = None
    activation: int | None = None
    alpha: str | None = None
    calibration: str | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None:
            check_alpha(self.alpha)
        if self.calibration is not None:
            check_calibration(self.calibration)
            if self.activation is None:
                raise ValueError(f"calibration needs activation bits. Received: calibration={self.calibration!r}")
        given = [bits for bits in (self.kernel, self.bias, self.activation) if bits is not None]
        for bits in given:
            check_bits(bits)
        if (
            not given
            or (self.activation is not None and len(given) > 1)
            or (self.kernel is None) != (self.bias is None)
        ):
            raise ValueError(
                "a layer has bits for its kernel and bias, or for its activation. "
                f"Received: kernel={self.kernel}, bias={self.bias}, activation={self.activation}"
            )

    def to_dict(self) -> dict[str, int | str]:
        """Return what is set."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return {name: value if isinstance(value, str) else int(value) for name, value in given.items()}


@dataclasses.dataclass(frozen=True)
class BitConfig:
    """The bit widths and kinds of scales of a whole network.

    A file may leave kinds of scales open; :meth:`with_alpha` makes such a configuration complete.

    Args:
        layers: widths by layer name, in network order.
        name: e.g. ``"keyword_spotting-ds_cnn"``.
        provenance: where the configuration comes from.

    Example:
        >>> config = BitConfig({"activation": LayerBits(activation=8), "dense": LayerBits(4, 16)})
        >>> config.kernel_bits("dense"), config.activation_bits("activation")
        (4, 8)
    """

    layers: Mapping[str, LayerBits]
    name: str = ""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def _bits(self, layer: str, part: str) -> int:
        bits = getattr(self.layers.get(layer), part, None)
        if bits is None:
            raise ValueError(
                f"configuration {_short(self.name)} has no {part} bits for layer {layer!r}. "
                f"It names: {one_line(', '.join(self.layers))}"
            )
        return bits

    def kernel_bits(self, layer: str) -> int:
        """Return the kernel width of a layer."""
        return self._bits(layer, "kernel")

    def bias_bits(self, layer: str) -> int:
        """Return the bias width of a layer."""
        return self._bits(layer, "bias")

    def activation_bits(self, layer: str) -> int:
        """Return the width of an activation quantizer."""
        return self._bits(layer, "activation")

    def alphas(self) -> dict[str, str]:
        """Return the kind of scales of every layer and activation quantizer.

        Raises:
            ValueError: where one is open.
        """
        alphas = {name: bits.alpha for name, bits in self.layers.items() if bits.alpha is not None}
        missing = [name for name in self.layers if name not in alphas]
        if missing:
            raise ValueError(
                f"configuration {self.name!r} must have an alpha for every layer: use with_alpha. "
                f"Received: none for {_short(', '.join(missing))}"
            )
        return alphas

    @property
    def scales(self) -> str:
        """The kind of scales that the whole network has, or ``'mixed'``."""
        kinds = set(self.alphas().values())
        return MIXED if len(kinds) > 1 else kinds.pop()

    def with_alpha(self, alpha: str) -> BitConfig:
        """Return the complete configuration: layers whose kind of scales is open get ``alpha``."""
        check_alpha(alpha)
        return self.with_alphas({name: alpha for name, bits in self.layers.items() if bits.alpha is None})

    def without_alpha(self, alpha: str) -> BitConfig:
        """Return the configuration without kinds of scales where every layer has ``alpha``, else as it is.

        So a file of a run says them only where ``alpha``, which the run knows, does not.
        """
        is_uniform = all(bits.alpha == alpha for bits in self.layers.values())
        return self.with_alphas(dict.fromkeys(self.layers)) if is_uniform else self

    def with_alphas(self, alphas: Mapping[str, str | None]) -> BitConfig:
        """Return the configuration with the given kinds of scales, those of other layers as they are."""
        layers = {
            name: dataclasses.replace(bits, alpha=alphas[name]) if name in alphas else bits
            for name, bits in self.layers.items()
        }
        return dataclasses.replace(self, layers=layers)

    def with_widths(self, widths: Mapping[str, int]) -> BitConfig:
        """Return the configuration with other widths of some slots.

        Args:
            widths: by slot: ``<layer>.kernel``, ``<layer>.bias`` or ``<layer>.activation``.
        """
        layers = dict(self.layers)
        for slot, bits in widths.items():
            name, _, part = slot.rpartition(".")
            changed: dict[str, Any] = {part: bits}
            layers[name] = dataclasses.replace(layers[name], **changed)
        return dataclasses.replace(self, layers=layers)

    def with_activation_alpha(self, alpha: str) -> BitConfig:
        """Return the configuration with one kind of scales at all activations, those of weights as they are."""
        return self.with_alphas({name: alpha for name, bits in self.layers.items() if bits.activation is not None})

    def with_calibration(self, rules: str) -> BitConfig:
        """Return the configuration with a rule for every activation that has none of its own.

        Args:
            rules: see :func:`~po2quant.ranges.calibration_rules`.

        Raises:
            ValueError: for an unknown rule or activation.
        """
        rule, single = calibration_rules(rules)
        slots = [name for name, bits in self.layers.items() if bits.activation is not None]
        if unknown := [name for name in single if name not in slots]:
            raise ValueError(f"calibration must name activations among {', '.join(slots)}. Received: {unknown[0]!r}")
        layers = {
            name: dataclasses.replace(bits, calibration=single.get(name) or bits.calibration or rule)
            if bits.activation is not None
            else bits
            for name, bits in self.layers.items()
        }
        return dataclasses.replace(self, layers=layers)

    def without_calibration(self, rules: str) -> BitConfig:
        """Return the configuration without the rules that :meth:`with_calibration` gives it."""
        layers = {name: dataclasses.replace(bits, calibration=None) for name, bits in self.layers.items()}
        plain = dataclasses.replace(self, layers=layers)
        return plain if plain.with_calibration(rules) == self else self

    def check_covers(self, weight_layers: Iterable[str], activations: Iterable[str]) -> None:
        """Raise ValueError unless the configuration names exactly these layers and quantizers."""
        expected = {name: "kernel" for name in weight_layers} | {name: "activation" for name in activations}
        missing = [name for name, part in expected.items() if getattr(self.layers.get(name), part, None) is None]
        unknown = [name for name in self.layers if name not in expected]
        if missing or unknown:
            problems = [f"lacks {', '.join(missing)}"] * bool(missing) + [
                f"has unknown layers {one_line(', '.join(unknown))}"
            ] * bool(unknown)
            raise ValueError(
                f"configuration {_short(self.name)} does not fit the network: it {' and '.join(problems)}. "
                f"The network has: {', '.join(expected)}"
            )

    @classmethod
    def flat(
        cls,
        weight_layers: Iterable[str],
        activations: Iterable[str],
        bits: int,
        bias_bits: int = FLAT_BIAS_BITS,
    ) -> BitConfig:
        """Return the configuration with one width everywhere; biases keep the reference's 31 bits."""
        layers = {name: LayerBits(bits, bias_bits) for name in weight_layers}
        layers |= {name: LayerBits(activation=bits) for name in activations}
        return cls(layers, name=f"flat{bits}")

    def to_json(self) -> str:
        """Return the JSON text, one layer a line."""
        head = {"schema": SCHEMA, "version": VERSION, "name": self.name, "provenance": dict(self.provenance)}
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(bits.to_dict())}" for name, bits in self.layers.items())
        return json.dumps(head, indent=1)[:-2] + ',\n "layers": {\n' + rows + "\n }\n}\n"

    @classmethod
    def from_json(cls, text: str, source: str = "text") -> BitConfig:
        """Parse the JSON form.

        Args:
            text: JSON text.
            source: what errors call it.

        Raises:
            ValueError: where the text is not a valid configuration, naming what is wrong.
        """
        try:
            data = json.loads(text, object_pairs_hook=unique_keys)
        except RecursionError:
            raise ValueError(f"{source} is not a bit configuration: it is nested too deep") from None
        except ValueError as error:
            raise ValueError(f"{source} is not a bit configuration: {one_line(error)}") from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise ValueError(
                f"{source} is not a bit configuration: schema must be {SCHEMA!r}. Received: {_short(found)}"
            )
        unknown = [key for key in data if key not in KEYS]
        if unknown:
            raise ValueError(f"{source}: keys must be among {', '.join(KEYS)}. Received: {_short(unknown[0])}")
        version = data.get("version")
        if type(version) is not int or version != VERSION:
            raise ValueError(f"{source}: version must be {VERSION}. Received: {_short(version)}")
        layers = data.get("layers")
        if not isinstance(layers, dict) or not layers:
            raise ValueError(
                f"{source}: layers must be a dictionary of layer names to bits. Received: {_short(layers)}"
            )
        if not isinstance(data.get("name", ""), str) or not isinstance(data.get("provenance", {}), dict):
            raise ValueError(f"{source}: name must be a string and provenance a dictionary")
        config = cls(
            {name: _layer_bits(name, bits, source) for name, bits in layers.items()},
            data.get("name", ""),
            data.get("provenance", {}),
        )
        try:  # what could not be written again
            json.dumps([config.name, config.provenance, *layers], allow_nan=False, ensure_ascii=False).encode()
        except ValueError as error:
            raise ValueError(f"{source}: names and provenance must be UTF-8 text and numbers: {error}") from None
        return config

    @classmethod
    def load(cls, path: str | os.PathLike) -> BitConfig:
        """Read a configuration file."""
        try:
            text = read_text(Path(path), LARGEST_BYTES)
        except OSError as error:
            raise ValueError(f"cannot read the configuration {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a bit configuration: it is not UTF-8 text") from None
        except ValueError as error:
            raise ValueError(f"{path} is not a bit configuration: {error}") from None
        return cls.from_json(text, source=str(path))

    def save(self, path: str | os.PathLike) -> None:
        """Write the JSON form; the file is either the old or the new one, never half of it."""
        text = self.to_json()
        with open_replacement(Path(path)) as file:
            file.write(text)


def _short(value: Any) -> str:
    """Return a value as an error shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _layer_bits(name: str, bits: Any, source: str) -> LayerBits:
    keys = [field.name for field in dataclasses.fields(LayerBits)]
    if not isinstance(bits, dict) or not set(bits) <= set(keys):
        raise ValueError(f"{source}: layer {_short(name)} takes the keys {', '.join(keys)}. Received: {_short(bits)}")
    try:
        return LayerBits(**bits)
    except ValueError as error:
        raise ValueError(f"{source}: layer {_short(name)}: {error}") from None
