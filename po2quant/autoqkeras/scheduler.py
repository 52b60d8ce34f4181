"""``AutoQKerasScheduler`` for Keras 3: the search of one block of layers after the other."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from po2quant.autoqkeras.arguments import free_folder
from po2quant.autoqkeras.autoqkeras import AutoQKeras
from po2quant.autoqkeras.energy_goal import goal_from
from po2quant.autoqkeras.quantization_config import find_sites
from po2quant.cost import ForgivingFactor
from po2quant.network import Placement, fold_batch_norm, network_layers
from po2quant.search.space import elements_by_slot, widths_of_config
from po2quant.search.strategies import BAYESIAN

SCHEDULES = SEQUENTIAL, BY_COST = "sequential", "cost"
LEAST_TRIALS = 10


class AutoQKerasScheduler:
    """Searches the widths of one block of layers after the other.

    A block is searched while the blocks before it have the widths that were found for them, and those after it the
    reference's. It gets ``max_trials`` in proportion to its share of the reference's size, and 10 at least, where the
    whole search has as many. Every trial starts from the float weights of the model.

    Arguments stand in the order of QKeras 0.9.0; those that are not named here are those of
    :class:`~po2quant.autoqkeras.AutoQKeras`.

    Args:
        model: float model.
        blocks: regular expressions that match the starts of layer names, one a block; a layer belongs to the first that
            matches. None: all layers are one block.
        schedule_block: ``'sequential'``: blocks in the order given; ``'cost'``: the largest first.
        debug: whether :meth:`fit` only writes what it would search.
        overwrite: as there; False goes on with the first block that is not finished.

    Example:
        >>> scheduler = AutoQKerasScheduler(model, ["acc"], blocks=["conv.*", "dense.*"])  # doctest: +SKIP
        >>> scheduler.fit(x, y, validation_split=0.1, epochs=5)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: keras.Model,
        metrics: Any = None,
        custom_objects: Mapping[str, Any] | None = None,
        goal: Mapping[str, Any] | ForgivingFactor | None = None,
        output_dir: str | Path = "result",
        mode: str = BAYESIAN,
        transfer_weights: bool = True,
        activation_bits: int = 4,
        limit: Mapping[str, Sequence] | None = None,
        tune_filters: str = "none",
        tune_filters_exceptions: str | None = None,
        layer_indexes: Iterable[int] | None = None,
        learning_rate_optimizer: bool = False,
        blocks: Sequence[str] | None = None,
        schedule_block: str = SEQUENTIAL,
        quantization_config: Mapping[str, Mapping[str, int]] | None = None,
        overwrite: bool = True,
        debug: bool = False,
        head_name: str | None = None,
        *,
        max_trials: int = 10,
        placement: Placement = Placement(),
        **options: Any,
    ) -> None:
        if schedule_block not in SCHEDULES:
            raise ValueError(f"schedule_block must be one of {', '.join(SCHEDULES)}. Received: {schedule_block!r}")
        self.model, self.debug, self.max_trials, self.schedule_block = model, debug, max_trials, schedule_block
        path = Path(output_dir)
        self.output_dir = free_folder(path) if overwrite else path
        self.history: list[dict[str, list]] = []
        self.autoqk: AutoQKeras | None = None
        self._placement, self._limit, self._goal = placement, limit, goal
        self._names = [layer.name for layer in model.layers]
        self._indexes = None if layer_indexes is None else list(layer_indexes)
        self.blocks = _groups(list(blocks or [""]), self._names, self._indexes)
        self._arguments: dict[str, Any] = {
            "metrics": metrics,
            "custom_objects": custom_objects,
            "goal": goal,
            "mode": mode,
            "transfer_weights": transfer_weights,
            "activation_bits": activation_bits,
            "limit": limit,
            "tune_filters": tune_filters,
            "tune_filters_exceptions": tune_filters_exceptions,
            "learning_rate_optimizer": learning_rate_optimizer,
            "layer_indexes": self._indexes,
            "quantization_config": quantization_config,
            "head_name": head_name,
            "placement": placement,
            **options,
        }

    def schedule(self) -> list[tuple[str, int]]:
        """Return the blocks in the order in which they are searched, with their bits in the reference."""
        costs = self._costs()
        blocks = [(pattern, sum(costs.get(name, 0) for name in names)) for pattern, names in self.blocks.items()]
        return sorted(blocks, key=lambda block: -block[1]) if self.schedule_block == BY_COST else blocks

    def _costs(self) -> dict[str, int]:
        """Return the bits of the reference by layer of the model."""
        widths = goal_from(self._goal).reference_widths
        elements = elements_by_slot(network_layers(fold_batch_norm(self.model), self._placement))
        costs: dict[str, int] = {}
        for site in find_sites(self.model, self._placement):
            bits = widths[site.slot.rpartition(".")[2]]
            costs[site.layer] = costs.get(site.layer, 0) + bits * elements[site.slot]
        return costs

    def fit(self, *arguments: Any, **named: Any) -> None:
        """Search block after block; arguments as of :meth:`AutoQKeras.fit`."""
        self.history, found, model = [], dict[str, int](), self.model
        schedule = self.schedule()
        whole = sum(self._costs().values())
        for number, (pattern, cost) in enumerate(schedule):
            trials = int(max(min(LEAST_TRIALS, self.max_trials), self.max_trials * cost / whole))
            if self.debug:
                names = ", ".join(self.blocks[pattern])
                sys.stdout.write(f"block {number}: {pattern}, {cost} of {whole} bits, {trials} trials: {names}\n")
                continue
            own = self._arguments | {
                "output_dir": self.output_dir / str(number),
                "overwrite": False,
                "max_trials": trials,
                "frozen_layers": [name for name in self._names if name not in self.blocks[pattern]],
                "left_alone": found,
            }
            self.autoqk = AutoQKeras(model, **own)
            self.autoqk.fit(*arguments, **named)
            self.history.append(self.autoqk.history())
            found = widths_of_config(self.autoqk.get_best_config())
            model = self.autoqk.best_float_model()

    def get_history(self) -> list[dict[str, list]]:
        """Return the history of each block, in the order in which they were searched."""
        return self.history

    def get_best_model(self) -> keras.Model | None:
        """Return the network of the best trial of the last block, None before :meth:`fit`."""
        return None if self.autoqk is None else self.autoqk.get_best_model()

    def get_learning_rate(self) -> float:
        """Return the learning rate of the best trial of the last block, or the model's."""
        return float(self.model.optimizer.learning_rate) if self.autoqk is None else self.autoqk.get_learning_rate()


def _groups(patterns: Sequence[str], names: Sequence[str], indexes: Sequence[int] | None) -> dict[str, list[str]]:
    """Return the layers of each block.

    Raises:
        ValueError: for an expression that is none, or matches no layer that is searched.
    """
    groups: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    for index, name in enumerate(names):
        try:
            block = next((pattern for pattern in patterns if re.match(pattern, name)), None)
        except re.error as error:
            raise ValueError(f"blocks must be regular expressions: {error}") from None
        if block is not None and (indexes is None or index in indexes):
            groups[block].append(name)
    if empty := [pattern for pattern, members in groups.items() if not members]:
        raise ValueError(f"blocks must each match a layer of {', '.join(names)}. Received: {empty[0]!r}")
    return groups
