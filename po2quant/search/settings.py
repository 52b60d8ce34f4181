"""What a search is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from po2quant.cost import BITS_PER_KIB, LayerShape
from po2quant.search.problem import Goal, SearchProblem
from po2quant.search.space import SearchSpace, size_of_values
from po2quant.search.strategies import INFORMED, check_strategy


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

    Raises:
        ValueError: for fewer than one trial or epoch, for an unknown strategy, and for one that does
            not heed a limit.
    """

    max_trials: int
    epochs: int
    strategy: str = INFORMED
    space: SearchSpace = dataclasses.field(default_factory=SearchSpace)
    max_bits: int | None = None

    def __post_init__(self) -> None:
        check_strategy(self.strategy, self.max_bits)
        for name in ("max_trials", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more. Received: {name}={getattr(self, name)}")

    def problem(self, layers: Sequence[LayerShape], seed: int) -> SearchProblem:
        """Return the problem of a network, without sensitivities."""
        return SearchProblem(
            self.space, layers, Goal.of_size(layers, self.max_bits), self.max_trials, self.epochs, seed
        )

    def check_size(self, layers: Sequence[LayerShape]) -> None:
        """Raise ValueError where no configuration of the space is small enough."""
        narrowest = {name: widths[0] for name, widths in self.space.choices(layers).items()}
        smallest = size_of_values(narrowest, layers)
        if self.max_bits is not None and self.max_bits < smallest:
            raise ValueError(
                f"the size limit must be at least {smallest} bits ({smallest / BITS_PER_KIB:.1f} KiB), the size of the "
                f"network at its narrowest widths. Received: {self.max_bits} bits"
            )
