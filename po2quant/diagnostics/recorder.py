"""Write down after every epoch what training did to each tensor of a quantized network."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from po2quant.archives import read_npz
from po2quant.diagnostics.measurement import (
    ACTIVATION,
    MEASURES,
    Measurement,
    QuantizedTensor,
    load_measurements,
    measure,
    save_measurements,
)
from po2quant.diagnostics.probe import Probe
from po2quant.files import replaced_whole
from po2quant.runs.names import DIAGNOSTICS_CSV, TENSORBOARD_FOLDER

STATE_FILE = "diagnostics.npz"
REMEMBERED_EPOCHS = 2
"""Enough to see a return to two epochs ago, also where a run lost its last checkpoint and repeats an epoch."""

Levels = list[np.ndarray]
"""Levels of every kernel and bias, in network order."""


class Recorder:
    """Measures a quantized network between epochs.

    Writes ``diagnostics.csv``, TensorBoard scalars under ``tensorboard/diagnostics`` and ``diagnostics.npz``. The last
    is what a resumed run must know of earlier epochs, so that its rows are those of a run that never stopped.

    Args:
        probe: looks into the network that is trained; runs on one network may share it. Resumed runs need the same
            inputs.
        folder: run folder.
    """

    def __init__(self, probe: Probe, folder: Path) -> None:
        self._probe = probe
        self._folder = folder
        self._rows: list[Measurement] = []
        self._before: list[QuantizedTensor] | None = None
        self._levels: dict[int, Levels] = {}
        self._writer = tf.summary.create_noop_writer()

    def observe(self, epoch: int) -> None:
        """Measure the network after ``epoch`` epochs.

        To be called before the first epoch of a run, new or resumed, and after every epoch, before the checkpoint of
        that epoch is saved.

        Args:
            epoch: finished epochs; 0 before training.

        Raises:
            ValueError: where a resumed run's earlier rows or state cannot be read.
        """
        tensors = self._probe()
        if not self._before:
            self._start(epoch, tensors)
        if not self._rows or self._rows[-1].epoch != epoch:
            self._append(epoch, tensors)
        self._before = tensors
        weights = [tensor.levels for tensor in tensors if tensor.part != ACTIVATION]
        self._levels = dict(sorted((self._levels | {epoch: weights}).items())[-REMEMBERED_EPOCHS:])

    def _start(self, epoch: int, tensors: list[QuantizedTensor]) -> None:
        """Take over what an earlier part of the run wrote, up to ``epoch``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer = tf.summary.create_file_writer(str(self._folder / TENSORBOARD_FOLDER / "diagnostics"))
        table, state = self._folder / DIAGNOSTICS_CSV, self._folder / STATE_FILE
        if epoch and table.exists():
            self._rows = [row for row in load_measurements(table) if row.epoch <= epoch]
        if epoch and state.exists():
            shapes = [tensor.levels.shape for tensor in tensors if tensor.part != ACTIVATION]
            self._levels = {known: levels for known, levels in _load_levels(state, shapes).items() if known < epoch}

    def _append(self, epoch: int, tensors: list[QuantizedTensor]) -> None:
        before = self._before or itertools.repeat(None)
        before_that = itertools.chain(self._levels.get(epoch - 2, []), itertools.repeat(None))
        rows = [measure(epoch, *states) for states in zip(tensors, before, before_that, strict=False)]
        self._rows += rows
        _save_levels(self._folder / STATE_FILE, self._levels)
        save_measurements(self._folder / DIAGNOSTICS_CSV, self._rows)
        with self._writer.as_default(step=epoch):
            tf.summary.experimental.write_raw_pb(_scalars(rows).SerializeToString())
        self._writer.flush()


def _save_levels(path: Path, levels: dict[int, Levels]) -> None:
    arrays: dict[str, Any] = {
        f"{epoch}.{index}": array for epoch, known in levels.items() for index, array in enumerate(known)
    }
    with replaced_whole(path) as temporary:
        np.savez(temporary, **arrays)


def _load_levels(path: Path, shapes: Sequence[tuple[int, ...]]) -> dict[int, Levels]:
    """Return the levels of weights of these shapes, by epoch."""
    what = f"{path} is damaged, delete it to go on without oscillations"

    def check(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        known = re.fullmatch(r"[0-9]{1,9}\.([0-9]{1,9})", name)
        index = int(known[1]) if known else len(shapes)
        if index >= len(shapes) or shape != shapes[index] or dtype.kind not in "fi":
            raise ValueError(f"{name!r} must be levels of a weight. Received: {(shape, dtype)}")

    arrays = read_npz(path, check, what=what)
    levels: dict[int, Levels] = {}
    for epoch in {int(name.split(".")[0]) for name in arrays}:
        known = [arrays.get(f"{epoch}.{index}") for index in range(len(shapes))]
        if any(array is None for array in known):
            raise ValueError(f"{what}: it lacks levels of epoch {epoch}")
        levels[epoch] = [array for array in known if array is not None]
    return levels


def _scalars(rows: Sequence[Measurement]) -> tf.compat.v1.Summary:
    """Return the rows as one TensorBoard record, which is written much faster than a scalar at a time."""
    return tf.compat.v1.Summary(
        value=[
            tf.compat.v1.Summary.Value(tag=f"{name}/{row.layer}.{row.part}", simple_value=value)
            for row in rows
            for name in MEASURES
            if (value := getattr(row, name)) is not None and math.isfinite(value)
        ]
    )
