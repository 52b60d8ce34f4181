"""A mix of real and power-of-two scales, proposed by a mode sweep: its configuration, its table, and plain words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import qkeras

from po2quant.bit_config import AUTO, AUTO_PO2, BitConfig
from po2quant.diagnostics.measurement import rounded
from po2quant.diagnostics.mode_sweep import ModeSweep
from po2quant.layers import Recurrent
from po2quant.network.graph import Graph, Node, evaluate, read_graph
from po2quant.network.kinds import is_weighted

SHARE = 0.25
MOST_NAMED = 3
"""Layers that the words name."""


@dataclasses.dataclass(frozen=True)
class Rescaling:
    """How an integer engine brings results to the scale of the next activation quantizer.

    Args:
        rescaled_values: values that it rescales per inference; those that the host quantizes or reads are not among
            them.
        multiplied_values: those of them that take a multiplication, since a real scale is involved, not a shift.
    """

    rescaled_values: int
    multiplied_values: int


@dataclasses.dataclass(frozen=True)
class Mix:
    """Real scales where powers of two cost most, powers of two elsewhere.

    Args:
        sweep: what it was chosen by.
        real_layers: layers and activation quantizers with real scales, those first where powers of two cost most.
        config: widths, and the kind of scales of every layer.
        rescaling: what the real scales cost an integer engine.
    """

    sweep: ModeSweep
    real_layers: tuple[str, ...]
    config: BitConfig
    rescaling: Rescaling

    @property
    def loss(self) -> float:
        """Mean loss of the mix."""
        return self.sweep.mix_losses[len(self.real_layers)]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per layer, in network order, as ``mode_sweep.csv`` has them."""
        ranking = self.sweep.ranking
        rows = []
        for cost in self.sweep.costs:
            rank = ranking.index(cost.layer) + 1
            measured = dataclasses.asdict(cost) | {"rank": rank, "mix_loss": self.sweep.mix_losses[rank]}
            row = {name: rounded(x) if isinstance(x, float) else x for name, x in measured.items()}
            rows.append(row | {"alpha": self.config.layers[cost.layer].alpha})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return losses, price, findings and rows as JSON has them."""
        return {
            "samples": self.sweep.samples,
            "po2_loss": self.sweep.po2_loss,
            "auto_loss": self.sweep.auto_loss,
            "best_loss": self.sweep.best_loss,
            "mix_loss": self.loss,
            "real_layers": list(self.real_layers),
            **dataclasses.asdict(self.rescaling),
            "findings": self.lines(),
            "rows": self.rows(),
        }

    def lines(self) -> list[str]:
        """Return what was found, in plain words."""
        sweep, layers = self.sweep, len(self.sweep.costs)
        best = sweep.mix_losses.index(sweep.best_loss)
        lines = [
            f"mean loss on {sweep.samples} samples: {sweep.po2_loss:.4f} with powers of two everywhere, "
            f"{sweep.auto_loss:.4f} with real scales everywhere, "
            f"{sweep.best_loss:.4f} with the best mix (real scales at {best} of {layers} layers and activations)"
        ]
        by_effect = sorted(sweep.costs, key=lambda cost: -cost.effect)
        harmed = [cost for cost in by_effect if cost.effect > 0.0]
        if harmed:
            worst = (f"{cost.layer} ({cost.bits} bits): {cost.effect:.4f}" for cost in harmed[:MOST_NAMED])
            lines.append(f"powers of two cost most at {', '.join(worst)}")
        if len(harmed) < layers:
            lines.append(f"at {layers - len(harmed)} of {layers} they cost nothing or are the better choice")
        return [*lines, self._proposal(), *self._price()]

    def _proposal(self) -> str:
        if not self.real_layers:
            wins_nothing = self.sweep.best_loss == self.sweep.po2_loss
            reason = "real scales win nothing" if wins_nothing else "the share and number of layers allow them"
            return f"proposed: powers of two everywhere, since {reason}"
        won = (self.sweep.po2_loss - self.loss) / (self.sweep.po2_loss - self.sweep.best_loss)
        return (
            f"proposed: real scales at {', '.join(self.real_layers)}, powers of two elsewhere; "
            f"loss {self.loss:.4f}, {won:.0%} of what a mix can win"
        )

    def _price(self) -> list[str]:
        if not self.real_layers:
            return []
        price = self.rescaling
        return [
            f"price: per inference an integer engine rescales {price.multiplied_values} of {price.rescaled_values} "
            "values by a multiplication instead of a shift; po2quant.deploy takes powers of two only"
        ]


def propose_mix(
    sweep: ModeSweep, model: keras.Model, config: BitConfig, share: float = SHARE, most: int | None = None
) -> Mix:
    """Return the mix of fewest real scales that keeps at most ``share`` of what powers of two cost.

    Args:
        sweep: of the network under these widths.
        model: that network.
        config: its widths.
        share: see :meth:`~po2quant.diagnostics.mode_sweep.ModeSweep.real_layers`.
        most: largest number of layers and activation quantizers with real scales.

    Raises:
        ValueError: for a share outside [0, 1] or a negative number of layers.
    """
    real = sweep.real_layers(share, most)
    mixed = config.with_alphas({name: AUTO if name in real else AUTO_PO2 for name in config.layers})
    losses = {"auto": sweep.auto_loss, "auto_po2": sweep.po2_loss, "mixed": sweep.mix_losses[len(real)]}
    rule = {"share": share, "max_layers": most, "samples": sweep.samples, "loss": losses}
    provenance = {**config.provenance, "mode_sweep": rule}
    mixed = dataclasses.replace(mixed, name=f"{config.name}-mixed", provenance=provenance)
    return Mix(sweep, tuple(real), mixed, rescaling(model, real))


def rescaling(model: keras.Model, real_layers: Iterable[str]) -> Rescaling:
    """Return how an integer engine would rescale the values of a quantized network.

    A value takes a multiplication where its own scale, that of the kernel and bias that made it, or one of the scales
    of what they read is real.

    Args:
        model: quantized network.
        real_layers: layers and activation quantizers with real scales.
    """
    return Rescaling(*_rescaled(read_graph(model), [set() for _ in model.inputs], set(real_layers)))


def _rescaled(graph: Graph, inputs: list[set[str]], real: set[str]) -> tuple[int, int]:
    """Return how many values are rescaled, given the scales of the inputs, and how many of them by a product."""
    values = multiplied = 0

    def call(node: Node, read: list[set[str]]) -> set[str]:
        nonlocal values, multiplied
        name, scales = node.layer.name, set[str]().union(*read)
        if isinstance(node.layer, Recurrent):
            cell = read_graph(node.layer.cell)
            states = [{output.layer.name} for output in cell.outputs]
            steps, each = node.inputs[0].fixed_shape[0], _rescaled(cell, [scales, *states], real)
            values, multiplied = values + steps * each[0], multiplied + steps * each[1]
            return states[0]
        if not isinstance(node.layer, qkeras.QActivation):
            return scales | ({name} if is_weighted(node.layer) else set())
        if scales:
            values += math.prod(node.fixed_shape)
            multiplied += math.prod(node.fixed_shape) if real & (scales | {name}) else 0
        return {name}

    evaluate(graph, inputs, call)
    return values, multiplied
