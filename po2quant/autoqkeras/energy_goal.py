"""AutoQKeras' goal of little energy, by the figures of QKeras' QTools."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from po2quant.autoqkeras.objective import BitsGoal
from po2quant.bit_config import BitConfig
from po2quant.cost import ACTIVATION, WEIGHTS, ForgivingFactor, LayerShape
from po2quant.integer.widths import WidthTemplate
from po2quant.search.costs import OperationCost
from po2quant.search.energy import EnergyModel
from po2quant.search.problem import Goal
from po2quant.search.space import widths_of_config

ENERGY = "energy"
REFERENCES = {"int8": (8, 0), "int16": (16, 0), "int32": (32, 0), "fp16": (16, 16), "fp32": (32, 32)}
"""Widths of the reference's numbers, and of its floating-point numbers."""

DEFAULTS: dict[str, Any] = {
    "delta_p": 8.0,
    "delta_n": 8.0,
    "rate": 2.0,
    "stress": 1.0,
    "process": "horowitz",
    "parameters_on_memory": ["sram", "sram"],
    "activations_on_memory": ["sram", "sram"],
    "rd_wr_on_io": [False, False],
    "min_sram_size": [0, 0],
    "source_quantizers": None,
    "reference_internal": "fp32",
    "reference_accumulator": "fp32",
    "trained_model": None,
    "reference_size": None,
}
"""Parameters of QKeras' goal; pairs are of the reference and of a trial."""


@dataclasses.dataclass(frozen=True)
class EnergyGoal:
    """AutoQKeras' goal of little energy: score = metric * forgiving factor of picojoules.

    Args:
        factor: trade of metric for energy.
        reference: energy of the reference.
        trial: energy of a trial.
        reference_bits: width of the reference's numbers.
    """

    factor: ForgivingFactor
    reference: EnergyModel
    trial: EnergyModel
    reference_bits: int

    @classmethod
    def from_dict(cls, goal: Mapping[str, Any]) -> EnergyGoal:
        """Read ``{"type": "energy", "params": {...}}``, see :data:`DEFAULTS`.

        Raises:
            ValueError: for an unknown or bad parameter, or one that is not offered.
        """
        given = goal.get("params") or {}
        if unknown := [name for name in given if name not in DEFAULTS]:
            raise ValueError(f"params of a goal must be among {', '.join(DEFAULTS)}. Received: {unknown[0]!r}")
        params = DEFAULTS | given
        if params["process"] != "horowitz" or any(_pair(params, "rd_wr_on_io")):
            raise ValueError(
                "process must be 'horowitz', and rd_wr_on_io False: inputs and outputs are in SRAM. "
                f"Received: {params['process']!r}, {params['rd_wr_on_io']!r}"
            )
        if params["reference_internal"] not in REFERENCES:
            received = params["reference_internal"]
            raise ValueError(f"reference_internal must be one of {', '.join(REFERENCES)}. Received: {received!r}")
        bits, floating = REFERENCES[params["reference_internal"]]
        memories = zip(
            *(_pair(params, name) for name in ("parameters_on_memory", "activations_on_memory", "min_sram_size")),
            (floating, 0),
            strict=True,
        )
        reference, trial = (EnergyModel(*memory) for memory in memories)
        factor = ForgivingFactor(params["delta_p"] / 100, params["delta_n"] / 100, params["rate"], params["stress"])
        return cls(factor, reference, trial, bits)

    @property
    def reference_widths(self) -> dict[str, int]:
        """The reference's widths by part, as far as a program has them; what is left alone keeps them."""
        bits = min(self.reference_bits, 16)
        return {"kernel": bits, "bias": min(2 * bits, 31), "activation": bits}

    def counted_layers(self, layers: Sequence[LayerShape]) -> list[LayerShape]:
        """Return the layers: all count."""
        return list(layers)

    def extra_bits(self, layers: Sequence[LayerShape]) -> int:
        """Return 0: sizes are those of the bit accounting."""
        return 0

    def of_network(self, layers: Sequence[LayerShape], make_template: Callable[[], WidthTemplate]) -> Goal:
        """Return the goal of a search.

        Args:
            layers: the network as the bit accounting sees it.
            make_template: returns its integer program.
        """
        template, widths = make_template(), self.reference_widths
        weighted, quantized = ([layer.name for layer in layers if layer.kind == kind] for kind in (WEIGHTS, ACTIVATION))
        reference = BitConfig.flat(weighted, quantized, widths["kernel"], widths["bias"])
        energy = OperationCost(template, self.reference)(widths_of_config(reference))
        return Goal(OperationCost(template, self.trial), energy, self.factor, name=ENERGY)


def _pair(params: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """Return the values of the reference and of a trial; one alone is both."""
    value = params[name]
    if not isinstance(value, (list, tuple)):
        return value, value
    if len(value) not in (1, 2):
        raise ValueError(f"{name} must be one value, or one of the reference and one of trials. Received: {value!r}")
    return value[0], value[-1]


def goal_from(goal: Any) -> BitsGoal | EnergyGoal:
    """Return the goal that AutoQKeras' dictionary, a goal that was read already or a forgiving factor says."""
    if isinstance(goal, (BitsGoal, EnergyGoal)):
        return goal
    is_energy = isinstance(goal, Mapping) and goal.get("type") == ENERGY
    return EnergyGoal.from_dict(goal) if is_energy else BitsGoal.from_dict(goal)
