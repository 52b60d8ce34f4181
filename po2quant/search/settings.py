"""What a search is asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from po2quant.cost import BITS_PER_KIB, ForgivingFactor, LayerShape, reference_config
from po2quant.runs.costs import BITS, UNITS, CostName, MaxCost, cost_name
from po2quant.runs.request import SearchRequest
from po2quant.search.costs import CostedNetwork
from po2quant.search.problem import Goal, Limit, SearchProblem
from po2quant.search.space import SearchSpace, widths_of_config
from po2quant.search.strategies import INFORMED, check_strategy
from po2quant.targets import target_of

if TYPE_CHECKING:
    import keras
    import numpy as np

    from po2quant.integer.widths import WidthTemplate
    from po2quant.network import FoldedNetwork

MakeTemplate = Callable[["FoldedNetwork", "np.ndarray | None"], "WidthTemplate"]


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """What a search tries, and what it maximises.

    Args:
        max_trials: trials in all.
        epochs: epochs of a trial.
        strategy: how trials are chosen, one of :data:`~po2quant.search.strategies.STRATEGIES`.
        space: widths to choose from; by default the published study's.
        max_bits: size that the network must not exceed, as :func:`po2quant.cost.network_size` counts it. Then the score
            is the metric alone. None: any size, and the score is metric times forgiving factor.
        goal: the cost that the forgiving factor trades the metric for. None: the size in bits where there is no limit,
            and nothing where there is one, so that the metric alone decides.
        limits: the most of further costs.
        packed: whether costs of the C are of packed weights.
        repeats: trainings that choose among the best trials afterwards, see :mod:`po2quant.search.repeats`.
        callbacks: makes Keras callbacks for the training of a trial.
        make_template: given a network and inputs that calibrate it, returns its integer program; needed for costs
            other than bits.

    Raises:
        ValueError: for fewer than one trial or epoch, for an unknown strategy, for one that does
            not heed a limit, and for costs that need an integer program where none can be made.
    """

    max_trials: int
    epochs: int
    strategy: str = INFORMED
    space: SearchSpace = dataclasses.field(default_factory=SearchSpace)
    max_bits: int | None = None
    goal: CostName | None = None
    limits: Sequence[MaxCost] = ()
    packed: bool = False
    repeats: int = 0
    make_template: MakeTemplate | None = None
    callbacks: Callable[[], list[keras.callbacks.Callback]] = list

    def __post_init__(self) -> None:
        maxima = [self.max_bits, *(limit.maximum for limit in self.limits)]
        check_strategy(self.strategy, next((maximum for maximum in maxima if maximum is not None), None))
        for name in ("max_trials", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more. Received: {name}={getattr(self, name)}")
        if self.needs_template and self.make_template is None:
            raise ValueError("costs other than bits must have make_template. Received: make_template=None")

    @classmethod
    def of_request(
        cls,
        request: SearchRequest,
        network: FoldedNetwork,
        make_template: MakeTemplate,
        callbacks: Callable[[], list[keras.callbacks.Callback]] = list,
    ) -> SearchSettings:
        """Return what a request asks of a network: the widths that its target has, inputs as the sensor gives them.

        Raises:
            ValueError: for a target that has none of the widths.
        """
        target = target_of(request.target)
        given = target.widths("activation", (request.input_bits,))
        space = SearchSpace(
            target.widths("kernel", request.kernel_bits),
            target.widths("bias", request.bias_bits),
            target.widths("activation", request.activation_bits),
            {f"{slot}.activation": given for slot in network.input_slots},
        )
        return cls(
            request.max_trials,
            request.epochs,
            request.strategy,
            space,
            request.max_bits,
            cost_name(request.goal) if request.goal else None,
            request.limits,
            request.packed,
            request.repeats,
            make_template,
            callbacks,
        )

    @property
    def costs(self) -> list[CostName]:
        """What is asked about each trial: its size, the goal's cost and those with a limit."""
        asked = [CostName(BITS), *([self.goal] if self.goal else []), *(limit.cost for limit in self.limits)]
        return list(dict.fromkeys(asked))

    @property
    def needs_template(self) -> bool:
        """Whether a cost needs the integer program."""
        return any(cost.kind != BITS for cost in self.costs)

    def costed(
        self, layers: Sequence[LayerShape], network: FoldedNetwork | None = None, inputs: np.ndarray | None = None
    ) -> CostedNetwork:
        """Return the network whose costs are asked for.

        Args:
            layers: the network as the bit accounting sees it.
            network: the network, where a cost needs more than that.
            inputs: calibrate its activations; None: random ones do.
        """
        if not self.needs_template or network is None or self.make_template is None:
            return CostedNetwork(layers)
        return CostedNetwork(layers, self.make_template(network, inputs), self.packed)

    def problem(self, layers: Sequence[LayerShape], seed: int, costed: CostedNetwork | None = None) -> SearchProblem:
        """Return the problem of a network, without sensitivities.

        Raises:
            ValueError: where no configuration of the space keeps the limits.
        """
        goal = self._goal(costed or CostedNetwork(layers))
        self._check_limits(goal, layers)
        costs = {str(name): (costed or CostedNetwork(layers)).cost(name) for name in self.costs}
        return SearchProblem(self.space, layers, goal, self.max_trials, self.epochs, seed, costs=costs)

    def _goal(self, costed: CostedNetwork) -> Goal:
        named = self.goal or CostName(BITS)
        cost, reference = costed.cost(named), widths_of_config(reference_config(costed.layers))
        limits = [Limit(str(limit.cost), costed.cost(limit.cost), limit.maximum) for limit in self.limits]
        trade = ForgivingFactor() if self.goal or not limits else None
        if self.max_bits is not None and self.goal is not None:
            limits.append(Limit(BITS, costed.cost(CostName(BITS)), self.max_bits))
        own_limit = self.max_bits if self.goal is None else None
        return Goal(cost, cost(reference), trade, own_limit, limits, str(named))

    def _check_limits(self, goal: Goal, layers: Sequence[LayerShape]) -> None:
        choices = self.space.choices(layers)
        ends = [{slot: widths[index] for slot, widths in choices.items()} for index in (0, -1)]
        ends += self.space.flat_values(layers)
        for limit in goal.all_limits:
            least = min(limit.cost(values) for values in ends)
            if limit.maximum < least:
                raise ValueError(_too_small(limit, least))

    def check_size(self, layers: Sequence[LayerShape], network: FoldedNetwork | None = None) -> None:
        """Raise ValueError where no configuration of the space keeps the limits."""
        self.problem(layers, 0, self.costed(layers, network))


def _too_small(limit: Limit, least: float) -> str:
    if limit.name == BITS:
        kib = f"{least / BITS_PER_KIB:.1f} KiB"
        return (
            f"the size limit must be at least {least:.0f} bits ({kib}), the size of the network at its narrowest "
            f"widths. Received: {limit.maximum:.0f} bits"
        )
    unit = UNITS[limit.name.partition(":")[0]]
    return (
        f"the limit of {limit.name} must be at least {math.ceil(least)} {unit}, what the network has at its narrowest "
        f"widths. Received: {limit.maximum:.0f} {unit}"
    )
