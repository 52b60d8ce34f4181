"""Which task a run is about: a benchmark, or a network and data in files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from po2quant.runs import fields
from po2quant.runs.fields import asked, optional

OFFICIAL, SYNTHETIC = "official", "synthetic"
"""Data that a benchmark brings along."""
DEFAULT_BENCHMARK = "digits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """What is trained, scored or exported, and on which data.

    What is left open for a network in a file, ``loss``, ``metric`` and ``signed_input``, follows from the network and
    the data, see :mod:`po2quant.own_task`, and is written into the record of the run.

    Args:
        benchmark: name of a task, or ``package.module:attribute``; None: ``network``, or digits where that is None too.
        model: name of a network of the benchmark; None: its first.
        network: file of a float network, in place of a benchmark.
        data: ``'official'``, ``'synthetic'`` or None: what ``data_dir`` holds. A path is taken as ``data_dir``.
        data_dir: folder or file of the data.
        loss: what training of ``network`` minimises, a row of :data:`po2quant.own_task.LOSSES`.
        metric: what scores ``network``, a row of :data:`po2quant.own_task.METRICS`.
        input_scale: what the inputs of ``network`` are multiplied by, e.g. 1 / 255 for pixels; None: 1.
        signed_input: whether inputs of ``network`` have negative values.
        float_epochs: epochs of the float network; None: the recipe's, and 0 for ``network``, which is trained already.
        batch_size: samples of a step of its training; None: the recipe's.
        learning_rate: of the first epoch of its training; None: the recipe's.

    Raises:
        ValueError: for a value of another type or out of range, and for values that exclude each other.
    """

    benchmark: str | None = asked(None, optional(fields.benchmark), shown=True)
    model: str | None = asked(None, optional(fields.text))
    network: Path | None = asked(None, optional(fields.path))
    data: str | None = asked(None, optional(fields.text))
    data_dir: Path | None = asked(None, optional(fields.path))
    loss: str | None = asked(None, optional(fields.text))
    metric: str | None = asked(None, optional(fields.text))
    input_scale: float | None = asked(None, optional(fields.positive))
    signed_input: bool | None = asked(None, optional(fields.yes_or_no), option=None)
    float_epochs: int | None = asked(None, optional(fields.count(0)))
    batch_size: int | None = asked(None, optional(fields.count(1)))
    learning_rate: float | None = asked(None, optional(fields.positive))

    def __post_init__(self) -> None:
        self._keep_paths()
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, field.metadata["check"](field.name, getattr(self, field.name)))
        if self.network is None:
            self._refuse(OF_NETWORKS, "a network in a file")
            object.__setattr__(self, "benchmark", self.benchmark or DEFAULT_BENCHMARK)
        else:
            self._refuse(("benchmark",), "no network in a file")
            if self.data is not None:
                raise ValueError(f"data of a network in a file must be a file or folder. Received: data={self.data!r}")

    def _keep_paths(self) -> None:
        """Take data that are neither official nor synthetic as the path that they are."""
        if isinstance(self.data, str) and self.data not in (OFFICIAL, SYNTHETIC):
            if self.data_dir is not None:
                raise ValueError(
                    f"data must be {OFFICIAL} or {SYNTHETIC} beside data_dir. Received: {fields.one_line(self.data)!r}"
                )
            object.__setattr__(self, "data_dir", fields.path("data", self.data))
            object.__setattr__(self, "data", None)

    def _refuse(self, names: Iterable[str], needed: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} needs {needed}. Received: {name}={fields.one_line(getattr(self, name))}")

    def changed(self, **given: Any) -> Self:
        """Return the request with other values; data that are given take the place of all that were asked for."""
        if "data" in given or "data_dir" in given:
            given = {"data": None, "data_dir": None} | given
        return dataclasses.replace(self, **given)

    def left_open(self) -> frozenset[str]:
        """Return the names of what the network and the data are to decide."""
        return frozenset(name for name in FOLLOWING if self.network is not None and getattr(self, name) is None)


FOLLOWING = ("loss", "metric", "signed_input")
"""What follows from a network and its data where nothing is said."""
OF_NETWORKS = (*FOLLOWING, "input_scale", "batch_size", "learning_rate")
"""What a benchmark says itself."""
