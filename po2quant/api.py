"""The way from a Keras model to C in a few lines: what ``import po2quant as pq`` gives.

Every function is one that a command calls too. A quantized model is a Keras model: it is compiled, trained, saved and
loaded as any other.

Example:
    >>> import po2quant as pq  # doctest: +SKIP
    >>> model = pq.quantize(pq.load_model("my.keras"), x_train[:256], config="w4a8")  # doctest: +SKIP
    >>> pq.finetune(model, (x_train, y_train), epochs=3)  # doctest: +SKIP
    >>> pq.export(pq.freeze(model), "c")  # doctest: +SKIP
    >>> print(pq.verify(model, x_test[:100]).mismatches)  # doctest: +SKIP
    0
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from po2quant.benchmark import Dataset, Split
from po2quant.bit_config import AUTO_PO2, BitConfig
from po2quant.data.splits import validation_indices
from po2quant.deploy.formats import check_format
from po2quant.deploy.formats import write as write_format
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.template import width_template
from po2quant.deploy.verify import Verification
from po2quant.deploy.verify import verify as verify_program
from po2quant.export.c.run import compile_c
from po2quant.export.c.source import write_c
from po2quant.network import Placement, calibrate, fold, freeze_scales
from po2quant.own_task import EPOCHS, task_of_model
from po2quant.progress import progress_line
from po2quant.ranges import MSE
from po2quant.report.document import write_report
from po2quant.report.model import ModelSummary
from po2quant.runs.folder import RunFolder
from po2quant.runs.names import BEST_CONFIG, FLOAT_FOLDER, REPORT_FILE
from po2quant.runs.request import SearchRequest
from po2quant.search import SearchSettings, run_search
from po2quant.targets import GENERIC, target_of
from po2quant.training.finetune import Experiment, require_training_data
from po2quant.training.fit import Monitor, compile_model, fit
from po2quant.training.reconstruct import Reconstruction
from po2quant.training.reconstruct import reconstruct as reconstruct_network
from po2quant.uniform import CONFIG_HELP, uniform_widths

Labelled = tuple[np.ndarray, np.ndarray]
"""Inputs ``(samples, ...)`` and targets ``(samples, ...)``."""


def quantize(
    model: keras.Model,
    x: np.ndarray | Sequence[np.ndarray],
    config: str | Path | BitConfig = "w4a8",
    *,
    target: str = GENERIC.name,
    alpha: str = AUTO_PO2,
    calibration: str = MSE,
    reconstruct: bool | Reconstruction = False,
    seed: int = 0,
) -> keras.Model:
    """Return a float network folded, with quantizers in it that are calibrated; the network itself is left alone.

    Args:
        model: float Sequential or functional model, with trained weights.
        x: inputs without labels, ``(samples, ...)``, one array for each input of the network; a few hundred calibrate
            the ranges of activations, about a thousand reconstruct.
        config: bit widths, a name such as ``'w4a8'`` or ``'flat8'``, the file of a configuration, or one.
        target: what shall compute the network, a row of :data:`po2quant.targets.TARGETS`.
        alpha: kind of scales: ``'auto_po2'`` and ``'learned_po2'`` are powers of two, ``'auto'`` are real numbers.
        calibration: how ranges follow from ``x``, see :func:`po2quant.calibrate`.
        reconstruct: whether the rounding of the weights is learned from ``x``, or how. Its scales are frozen then.
        seed: of the reconstruction.

    Returns:
        Keras model, with probabilities or numbers as ``model`` has them.

    Raises:
        ValueError: for a layer that cannot be quantized, a width that network or target have not, and inputs that do
            not fit.

    Example:
        >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> quantize(network, np.eye(4, dtype="float32"), config="w4a8").layers[1].name
        'activation'
    """
    arrays = x if isinstance(x, np.ndarray) else np.concatenate([np.ravel(array) for array in x])
    network = fold(model, Placement(signed_input=bool(np.min(arrays) < 0), target=target_of(target)))
    widths = _widths(config, network).with_alpha(alpha).with_calibration(calibration)
    if reconstruct:
        settings = reconstruct if isinstance(reconstruct, Reconstruction) else Reconstruction()
        with progress_line("reconstruct", len(network.graph.weighted)) as line:
            return reconstruct_network(network, widths, x, settings, seed, line=line)
    quantized = network.quantize(widths)
    calibrate(quantized, x)
    return quantized


def _widths(config: str | Path | BitConfig, network: Any) -> BitConfig:
    if isinstance(config, BitConfig):
        return config
    widths = uniform_widths(str(config))
    if widths is not None:
        return network.uniform(widths, str(config))
    if not Path(config).is_file():
        raise ValueError(f"config must be {CONFIG_HELP}. Received: {str(config)!r}, which is no file")
    return BitConfig.load(Path(config))


def freeze(model: keras.Model, target: str = GENERIC.name) -> keras.Model:
    """Store every scale of a quantized model, which makes it a fixed-point network, and return it.

    Args:
        model: quantized model, calibrated or trained; it is changed.
        target: what it was quantized for.

    Raises:
        ValueError: for a tensor that was neither calibrated nor trained.
    """
    freeze_scales(model, Placement(target=target_of(target)))
    return model


def finetune(
    model: keras.Model,
    data: Labelled | Dataset,
    validation: Labelled | None = None,
    *,
    epochs: int = EPOCHS,
    loss: str | None = None,
    metric: str | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Train a quantized model, and leave it with the weights of its best epoch; ``model.fit`` works as well.

    Args:
        model: quantized model with one input, calibrated. It is changed.
        data: training samples and targets, or a data set.
        validation: what chooses the best epoch; None: a tenth of ``data``.
        epochs: passes over the data.
        loss: a row of :data:`po2quant.own_task.metrics.LOSSES`; None: what targets and outputs ask for.
        metric: a row of :data:`po2quant.own_task.metrics.METRICS`; None: likewise.
        batch_size: samples of a step; None: 32.
        learning_rate: of the first epoch, a fifth less in every later one; None: 0.0003.
        folder: gets ``epochs.csv``, the best weights, a checkpoint and TensorBoard's logs; None: they are not kept.
        seed: of the split and of the order of samples.

    Returns:
        A row for each epoch: loss, metric, those of the validation, learning rate and seconds.

    Raises:
        ValueError: for targets that do not fit the outputs, and a data set without a training split.
    """
    dataset = _dataset(data, validation, seed)
    splits = require_training_data(dataset)
    task = task_of_model(model, dataset, loss, metric, epochs, batch_size, learning_rate)
    keras.utils.set_random_seed(seed)
    compile_model(model, task.recipe)
    with contextlib.ExitStack() as stack:
        place = Path(folder or stack.enter_context(tempfile.TemporaryDirectory()))
        line = stack.enter_context(progress_line("finetune", epochs))
        state = fit(model, splits, task.recipe, Monitor(task.selection, line=line), place, epochs, seed)
    return pd.DataFrame(state.rows)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        config: the configuration of highest score.
        trials: a row for each trial: status, score, metric, size and seconds.
        folder: the run folder, of which :func:`report` makes a page.
    """

    config: BitConfig
    trials: pd.DataFrame
    folder: Path


def search(
    model: keras.Model,
    data: Labelled | Dataset,
    validation: Labelled | None = None,
    *,
    max_trials: int = 20,
    epochs: int = 3,
    max_kib: float | None = None,
    target: str = GENERIC.name,
    folder: str | Path | None = None,
    seed: int = 0,
    **options: Any,
) -> Found:
    """Search a bit width for every kernel, bias and activation of a float network.

    Args:
        model: float network with one input and trained weights, from which every trial starts.
        data: training samples and targets, or a data set; its test split is not touched.
        validation: what scores a trial; None: a tenth of ``data``.
        max_trials: trials in all.
        epochs: epochs of a trial.
        max_kib: the most that weights and activations may take together; None: any size, and smaller is better.
        target: what shall compute the network, a row of :data:`po2quant.targets.TARGETS`.
        folder: run folder, in which an unfinished search goes on; None: a new one under ``runs/``.
        seed: of everything that is random.
        options: further fields of :class:`~po2quant.runs.request.SearchRequest`, such as ``strategy``, ``goal``,
            ``max_flash_kib``, ``max_ms`` or ``kernel_bits``, as the options of ``po2quant search``.

    Returns:
        The best configuration, which :func:`quantize` takes, and the trials.

    Raises:
        ValueError: for data that do not fit, or a size that no configuration keeps.
        RuntimeError: where no trial ended well.
    """
    dataset = _dataset(data, validation, seed)
    task = task_of_model(model, dataset).for_target(target_of(target))
    ((name, _),) = task.networks.items()
    place = Path(folder or f"runs/search-{name}-{datetime.now():%Y%m%d-%H%M%S}")
    file = place / f"{name}.keras"
    options |= {"max_trials": max_trials, "epochs": epochs, "max_kib": max_kib, "target": target, "seed": seed}
    request = SearchRequest(network=file, **options)
    with RunFolder(place, request, resume=True) as run:
        if not file.exists():
            model.save(file)
        run.write_environment(seed=seed, data=dataset.describe(), data_kind=dataset.kind)
        experiment = Experiment(task, name, dataset, request.alpha, seed=seed).with_float_weights(place / FLOAT_FOLDER)
        settings = SearchSettings.of_request(request, experiment.network, width_template)
        found = run_search(experiment, place, settings)
        best = found.best_config(name)
        best.save(place / BEST_CONFIG)
    return Found(best, pd.DataFrame([dataclasses.asdict(row) for row in found.log.rows]), place)


def export(model: keras.Model, folder: str | Path, format: str = "c", name: str | None = None) -> list[Path]:
    """Write a frozen network in a format, and return the files.

    Args:
        model: quantized model with powers of two, after :func:`freeze`.
        folder: where the files go.
        format: a row of :data:`po2quant.deploy.formats.FORMATS`, such as ``'c'``, ``'onnx'`` or ``'litert'``.
        name: of the files and of the functions in C; None: that of the model.

    Raises:
        ValueError: for an unknown format, one whose package is not installed, and a network that is not frozen.
    """
    check_format(format)
    return write_format(format, model, integer_program(model), _identifier(name or model.name), Path(folder))


def verify(model: keras.Model, x: np.ndarray | Sequence[np.ndarray]) -> Verification:
    """Prove that Keras in float64, the interpreter and the compiled C compute the same integers.

    Args:
        model: frozen network.
        x: inputs, ``(samples, ...)``, one array for each input of the network.

    Returns:
        Both comparisons; ``mismatches`` is 0 where all integers are equal.

    Raises:
        ValueError: for a network that is not frozen, or no samples.
        RuntimeError: where there is no C compiler.
    """
    program = integer_program(model)
    with tempfile.TemporaryDirectory() as folder:
        executable = compile_c(write_c(program, folder, "network"), folder, trace=True)
        samples = len(x) if isinstance(x, np.ndarray) else len(x[0])
        with progress_line("verify", samples) as line:
            return verify_program(program, model, executable, x, line)


def summary(model: keras.Model) -> ModelSummary:
    """Return the layers of a float or quantized network with bits, KiB, MACs and kinds of scales.

    Printed it is a table for 80 columns, in a notebook a table of HTML; ``rows`` are its numbers.
    """
    return ModelSummary.of(model)


def report(run_folders: str | Path | Sequence[str | Path], path: str | Path | None = None) -> Path:
    """Write what one run or several came to into one HTML file, and return its path.

    Args:
        run_folders: of ``po2quant`` commands, or of :func:`search`.
        path: the file; None: ``report.html`` in the first folder.

    Raises:
        ValueError: for a folder without a run.
    """
    folders = [run_folders] if isinstance(run_folders, str | Path) else list(run_folders)
    return write_report([Path(folder) for folder in folders], Path(path or Path(folders[0]) / REPORT_FILE))


def _dataset(data: Labelled | Dataset, validation: Labelled | None, seed: int) -> Dataset:
    """Return a data set whose validation split is the test split too: none of these functions scores a test."""
    if isinstance(data, Dataset):
        return data
    x, y = map(np.asarray, data)
    if validation is not None:
        train, held_out = Split(x, y), Split(np.asarray(validation[0]), np.asarray(validation[1]))
    else:
        labels = y if y.ndim == 1 and y.dtype.kind in "iu" else np.zeros(len(y), np.int32)
        rows = validation_indices(labels, seed=seed)
        train, held_out = (Split(x[part], y[part]) for part in rows)
    return Dataset("arrays", "own", held_out, train, held_out)


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)
