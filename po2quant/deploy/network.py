"""The network that is deployed: what a run folder says about it, and how it is frozen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from po2quant.benchmark import Dataset, NetworkSpec, Split
from po2quant.bit_config import BitConfig
from po2quant.files import read_json
from po2quant.network import freeze_scales, weight_quantizers
from po2quant.quantizers import ALPHAS, AUTO_PO2, POWERS_OF_TWO
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS, REQUEST_FILE
from po2quant.training.prepare import network_inputs, prepare_network

RUNS_AROUND = 2
"""Folders between a cell of a comparison and the run that it belongs to, at most."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a network and its data come from.

    Args:
        benchmark: name of the task.
        model: name of its network; None: its first.
        weights: file or run folder.
        config: name or file of the bit widths.
        config_name: what the configuration is called, where ``config`` is a run's own file.
        alpha: kind of scales, powers of two.
        data: ``'official'``, ``'synthetic'`` or None: what ``data_dir`` holds.
        data_dir: folder or file of the data.
        seed: of data splits and calibration.
    """

    benchmark: str = "digits"
    model: str | None = None
    weights: Path | None = None
    config: str = "mpq"
    config_name: str | None = None
    alpha: str = AUTO_PO2
    data: str | None = None
    data_dir: Path | None = None
    seed: int = 0


def origin_of_run(path: Path) -> Origin:
    """Return what a run folder of ``finetune`` or ``search``, or one cell of a ``matrix``, was made from.

    Raises:
        ValueError: for another folder, and for a run whose scales are not powers of two.
    """
    settings, is_own = _settings(path)
    for name in (BEST_CONFIG, BEST_WEIGHTS):
        if not (path / name).is_file():
            raise ValueError(
                f"RUN must hold a quantized network that was trained: {BEST_CONFIG} and {BEST_WEIGHTS}. "
                f"Received: {path}, without {name}"
            )
    cell, _, cell_alpha = path.absolute().name.rpartition("-")
    is_of_matrix = not is_own and cell_alpha in ALPHAS
    alpha = cell_alpha if is_of_matrix else settings["alpha"]
    if alpha not in POWERS_OF_TWO:
        raise ValueError(
            f"RUN must have scales that are powers of two, alpha={' or '.join(POWERS_OF_TWO)}: others are no shifts. "
            f"Received: {path}, made with alpha={alpha!r}"
        )
    config_name = settings.get("config", "mpq") if is_own else cell if is_of_matrix else path.name
    data_dir = settings.get("data_dir")
    return Origin(
        settings["benchmark"],
        settings["model"],
        path,
        str(path / BEST_CONFIG),
        Path(config_name).stem,
        alpha,
        settings.get("data"),
        None if data_dir is None else Path(data_dir),
        settings["seed"],
    )


def _settings(path: Path) -> tuple[dict[str, Any], bool]:
    """Return what the run that a folder is, or lies in, was asked for, and whether it is the run itself."""
    for folder in (path, *path.absolute().parents[:RUNS_AROUND]):
        file = folder / REQUEST_FILE
        if not file.is_file():
            continue
        settings = read_json(file, "what a run was asked for")
        if missing := [name for name in ("benchmark", "model", "alpha", "seed") if name not in settings]:
            raise ValueError(f"{file} must be what a run was asked for. Received: one without {', '.join(missing)}")
        return settings, folder == path
    raise ValueError(f"RUN must be a run folder, with {REQUEST_FILE} in it or in the run around it. Received: {path}")


def frozen_network(
    spec: NetworkSpec,
    config: BitConfig | None,
    weights: Path,
    dataset: Dataset | None,
    seed: int = 0,
    alpha: str = AUTO_PO2,
) -> keras.Model:
    """Return a network whose every scale is a stored power of two.

    Args:
        spec: the network.
        config: its widths.
        weights: float weights, which are calibrated, or the checkpoint of a quantized run.
        dataset: calibrates float weights; a checkpoint needs none.
        seed: of the calibration samples.
        alpha: kind of scales, powers of two.

    Raises:
        ValueError: for no widths, or weights that do not fit.
    """
    if config is None:
        raise ValueError("--config must name bit widths: a float network has no integers. Received: 'float'")
    network = spec.fold()
    dataset = dataset or _no_data(network.source)
    model = prepare_network(network, config.with_alpha(alpha), weights, dataset, seed).model
    if not all(weight.quantizer.frozen for weight in weight_quantizers(model)):
        freeze_scales(model)
    return model


def _no_data(model: keras.Model) -> Dataset:
    """Return one sample of zeros, for a network that is calibrated already."""
    zeros = np.zeros((1, *model.input_shape[1:]), np.float32)
    return Dataset("no data", "synthetic", Split(zeros, None))


def spread_inputs(split: Split, model: keras.Model, samples: int) -> np.ndarray:
    """Return network inputs that are spread evenly over a split, or all of it where it has no more than ``samples``."""
    inputs_per_sample = len(network_inputs(split.inputs(slice(1)), model))
    total = len(split) * inputs_per_sample
    samples = min(samples, total)
    chosen = np.arange(samples) * total // samples
    rows, position = np.unique(chosen // inputs_per_sample, return_inverse=True)
    inputs = network_inputs(split.inputs(rows), model)
    return inputs[position * inputs_per_sample + chosen % inputs_per_sample]
