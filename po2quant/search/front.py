"""The Pareto front of a search: the trials that no other one beats in the metric and in every cost at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from po2quant.bit_config import BitConfig
from po2quant.files import write_csv
from po2quant.runs.names import BEST_WEIGHTS, TRIAL_CONFIG, TRIALS_FOLDER
from po2quant.search.problem import Cost
from po2quant.search.space import widths_of_config
from po2quant.search.trial_log import COMPLETED, TrialRow


@dataclasses.dataclass(frozen=True)
class Point:
    """A trial with all that it costs.

    Args:
        row: what came out of it.
        costs: by name.
    """

    row: TrialRow
    costs: Mapping[str, float]

    def beats(self, other: Point) -> bool:
        """Return whether it is as good in everything and better in something; of equals, the earlier trial is."""
        own, others = self._losses, other._losses
        return own != others and all(a <= b for a, b in zip(own, others, strict=True))

    @property
    def _losses(self) -> tuple[float, ...]:
        return (-(self.row.metric or 0.0), *self.costs.values())


class Front:
    """The points of a search's run folder.

    Args:
        folder: the run folder, which has the configuration of each trial.
        costs: what is asked about each trial, by name.
    """

    def __init__(self, folder: Path, costs: Mapping[str, Cost]) -> None:
        self._folder, self._costs = folder, costs
        self._known: dict[str, dict[str, float]] = {}

    def points(self, rows: Sequence[TrialRow]) -> list[Point]:
        """Return the points that no other one beats, highest metric first."""
        points: dict[tuple[float, ...], Point] = {}
        for row in rows:
            if row.status == COMPLETED:
                point = Point(row, self._costs_of(row.trial_id))
                points.setdefault(point._losses, point)
        front = [point for point in points.values() if not any(other.beats(point) for other in points.values())]
        return sorted(front, key=lambda point: point.row.metric or 0.0, reverse=True)

    def _costs_of(self, trial_id: str) -> dict[str, float]:
        if trial_id not in self._known:
            config = BitConfig.load(self._folder / TRIALS_FOLDER / trial_id / TRIAL_CONFIG)
            widths = widths_of_config(config)
            self._known[trial_id] = {name: cost(widths) for name, cost in self._costs.items()}
        return self._known[trial_id]

    def write(self, path: Path, points: Sequence[Point]) -> None:
        """Write the points as CSV: names, metric with its standard error, score, each cost, configuration, weights."""
        rows: list[dict[str, Any]] = []
        for point in points:
            row, place = point.row, Path(TRIALS_FOLDER) / point.row.trial_id
            weights = place / BEST_WEIGHTS
            rows.append(
                {
                    "point": row.trial_id,
                    "metric": row.metric,
                    "standard_error": row.standard_error,
                    "score": row.score,
                    **{name: round(cost, 1) for name, cost in point.costs.items()},
                    "config": str(place / TRIAL_CONFIG),
                    "weights": str(weights) if (self._folder / weights).exists() else "",
                }
            )
        write_csv(path, rows)
