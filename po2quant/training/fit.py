"""The training loop: seeded epochs, best weights, CSV and TensorBoard, resumable after kill -9."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant.archives import read_npz
from po2quant.benchmark import Recipe, Split
from po2quant.compat import build_loss_and_metrics
from po2quant.files import one_line, replaced_whole, require_room, write_csv
from po2quant.fixed_point import check_scales
from po2quant.log import LOG
from po2quant.network import slot_quantizers, weight_quantizers
from po2quant.progress import SILENT, ProgressLine
from po2quant.quantizers import LOG2_THRESHOLD, ThresholdAdam, threshold_rate
from po2quant.runs.names import BEST_WEIGHTS, CHECKPOINT, EPOCHS_CSV, TENSORBOARD_FOLDER
from po2quant.training.averaging import WeightAverage
from po2quant.training.centring import plain_biases
from po2quant.training.exponents import ExponentSearch, keep_exponents, keeps_exponents
from po2quant.training.pipeline import Pipeline
from po2quant.training.schedules import rising_cosine
from po2quant.weight_files import BIT_WIDTH, FROZEN_SCALE, load_weights

STATE, LARGEST_STATE = "state", 64 * 2**20
"""What a checkpoint calls a run's state, and how many bytes it takes beside the variables, at most."""
DAMPED_BITS = 4
"""Widest weights whose oscillations are damped."""


class DivergedError(RuntimeError):
    """The loss is no longer a number."""


@dataclasses.dataclass
class FitState:
    """What a run must remember between epochs."""

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best_value: float = -math.inf
    best_epoch: int = -1

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.rows)

    def should_stop(self, patience: int | None) -> bool:
        """Return whether the best epoch lies more than ``patience`` epochs back."""
        return patience is not None and self.epoch - 1 - self.best_epoch >= patience


class BatchProgress(keras.callbacks.Callback):
    """Moves a progress line by one epoch over the steps of an epoch."""

    def __init__(self, line: ProgressLine) -> None:
        super().__init__()
        self._line = line

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the line by one step."""
        self._line.advance(1.0 / max(self.params.get("steps") or 1, 1))


def compile_model(model: keras.Model, recipe: Recipe) -> None:
    """Compile a network for a recipe with an optimizer of its own."""
    keep_exponents(model, recipe.exponent_interval)
    if any(variable.name == LOG2_THRESHOLD for variable in model.trainable_variables):
        optimizer = ThresholdAdam(recipe.learning_rate(0), recipe.threshold_rate)
    else:
        optimizer = (recipe.optimizer or keras.optimizers.Adam)(recipe.learning_rate(0))
    metrics = recipe.metrics if isinstance(recipe.metrics, Mapping) else list(recipe.metrics)
    model.compile(optimizer, recipe.loss, loss_weights=recipe.loss_weights, metrics=metrics, jit_compile=False)
    optimizer.build(model.trainable_variables)


def train_epoch(
    model: keras.Model,
    train: Pipeline,
    recipe: Recipe,
    epoch: int,
    seed: int,
    line: ProgressLine = SILENT,
    epochs: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, float]:
    """Train one epoch in the order that ``(seed, epoch)`` gives, and return its logs.

    Args:
        model: compiled by :func:`compile_model`.
        train: training samples.
        recipe: rates, batch size and the schedules of learned scales.
        epoch: which one, counted from 0.
        seed: of the order of samples.
        line: shows progress, in epochs.
        epochs: epochs in all, which the schedules span; the recipe's by default.
        callbacks: called at the steps of the epoch.

    Raises:
        DivergedError: where the loss is not finite.
    """
    epochs = epochs or recipe.epochs
    model.optimizer.learning_rate = recipe.rate(epoch, epochs)
    if isinstance(model.optimizer, ThresholdAdam):
        _schedule_learned_scales(model, recipe, len(train), epoch, epochs)
    batches = train.epoch(recipe.batch_size, seed, epoch)
    searches = [ExponentSearch(recipe.exponent_interval)] if keeps_exponents(model) else []
    _build_before_tracing(model, batches)
    history = model.fit(batches, shuffle=False, verbose=0, callbacks=[BatchProgress(line), *searches, *callbacks])
    logs = {name: float(values[-1]) for name, values in history.history.items()}
    if not math.isfinite(logs["loss"]):
        raise DivergedError(
            f"training diverged: the loss of epoch {epoch + 1} is {logs['loss']}. Try a lower learning rate"
        )
    return logs


def _schedule_learned_scales(model: keras.Model, recipe: Recipe, samples: int, epoch: int, epochs: int) -> None:
    steps = math.ceil(recipe.thresholds_frozen_after * epochs * math.ceil(samples / recipe.batch_size))
    bits = {id(quantizer.threshold): quantizer.bits for quantizer in slot_quantizers(model).values()}
    thresholds = [variable for variable in model.trainable_variables if variable.name == LOG2_THRESHOLD]
    model.optimizer.threshold_steps = steps
    model.optimizer.threshold_rates = [
        threshold_rate(bits[id(threshold)], steps, recipe.threshold_travel, recipe.threshold_rate)
        for threshold in thresholds
    ]
    damping = recipe.damping * rising_cosine((epoch + 0.5) / epochs)
    for weight in weight_quantizers(model):
        weight.quantizer.damping = damping if weight.quantizer.bits <= DAMPED_BITS else 0.0


class Steps(keras.callbacks.Callback):
    """Tells callbacks of the steps of one epoch.

    Args:
        callbacks: the callbacks; without any, Keras need not look at the logs of a step.
    """

    def __init__(self, callbacks: keras.callbacks.CallbackList) -> None:
        super().__init__()
        self._callbacks = callbacks

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Tell that a step begins."""
        self._callbacks.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Tell that a step has ended."""
        self._callbacks.on_train_batch_end(batch, logs)


def begun(
    callbacks: Sequence[keras.callbacks.Callback], model: keras.Model, epochs: int, steps: int
) -> keras.callbacks.CallbackList:
    """Return callbacks that were told that a training begins.

    Args:
        callbacks: of the whole training.
        model: that is trained.
        epochs: in all.
        steps: of an epoch.
    """
    told = keras.callbacks.CallbackList(list(callbacks))
    told.set_model(model)
    told.set_params({"epochs": epochs, "steps": steps, "verbose": 0})
    model.stop_training = False
    told.on_train_begin()
    return told


def validation_logs(model: keras.Model, validation: Pipeline, recipe: Recipe) -> dict[str, float]:
    """Return loss and metrics on the validation split."""
    batches = validation.in_order(recipe.batch_size)
    _build_before_tracing(model, batches)
    return model.evaluate(batches, verbose=0, return_dict=True)


def _build_before_tracing(model: keras.Model, batches: tf.data.Dataset) -> None:
    _, targets, *_ = batches.element_spec
    build_loss_and_metrics(model, targets)


@dataclasses.dataclass(frozen=True)
class Monitor:
    """What looks at a network between its epochs.

    Args:
        selection: value of the validation logs that chooses the best epoch, to maximise.
        watch: further values to log after each epoch, e.g. the test score; nothing is chosen by them.
        observe: is given the number of finished epochs: once before the first one that is trained here, and after each,
            before its checkpoint is saved; its time is not the epoch's.
        line: shows progress, in epochs.
        callbacks: called as Keras' ``fit`` would.
    """

    selection: Callable[[Mapping[str, float]], float]
    watch: Callable[[], Mapping[str, float]] = dict
    observe: Callable[[int], None] = lambda epoch: None
    line: ProgressLine = SILENT
    callbacks: Sequence[keras.callbacks.Callback] = ()


def fit(
    model: keras.Model,
    splits: tuple[Split, Split],
    recipe: Recipe,
    monitor: Monitor,
    folder: Path,
    epochs: int,
    seed: int = 0,
    resume: bool = False,
) -> FitState:
    """Train a network and leave it with the weights of its best validation epoch.

    Writes ``epochs.csv``, ``tensorboard/``, ``best.weights.h5`` and a checkpoint into ``folder`` after
    every epoch. Resumed, the run goes on after the last finished epoch with the same samples in the
    same order, as if it had never stopped.

    Args:
        model: network, uncompiled or compiled by :func:`compile_model` for the same loss and metrics.
        splits: training samples, and those that choose the best epoch.
        recipe: loss, rates, batch size, patience.
        monitor: chooses the best epoch, and observes.
        folder: where the files go.
        epochs: epochs in all.
        seed: of the order of samples.
        resume: go on from the checkpoint in ``folder``, if there is one.

    Returns:
        The rows of ``epochs.csv`` and the best epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not model.compiled:
        compile_model(model, recipe)
    checkpoint, average = folder / CHECKPOINT, WeightAverage(model, recipe.averaging)
    is_begun = resume and checkpoint.exists()
    state = _load_checkpoint(model, checkpoint, average.variables) if is_begun else FitState()
    train, validation = map(Pipeline, splits)
    writer = tf.summary.create_file_writer(str(folder / TENSORBOARD_FOLDER))
    first_epoch = state.epoch
    callbacks = begun(monitor.callbacks, model, epochs, -(-len(train) // recipe.batch_size))
    for epoch in range(first_epoch, epochs):
        if state.should_stop(recipe.patience):
            break
        if epoch == first_epoch:
            monitor.observe(epoch)
        start = time.perf_counter()
        callbacks.on_epoch_begin(epoch)
        logs = train_epoch(model, train, recipe, epoch, seed, monitor.line, epochs, [Steps(callbacks)])
        average.update(epoch)
        with average.in_place():
            validation_values = validation_logs(model, validation, recipe)
            value = monitor.selection(validation_values)
            row = {"epoch": epoch + 1, "learning_rate": recipe.rate(epoch, epochs), **logs}
            row |= {f"val_{name}": result for name, result in validation_values.items()} | dict(monitor.watch())
            state.rows.append(row | {"seconds": round(time.perf_counter() - start, 3)})
            monitor.observe(epoch + 1)
            if value > state.best_value:
                state.best_value, state.best_epoch = value, epoch
                with plain_biases(model):
                    save_weights(model, folder / BEST_WEIGHTS)
        write_csv(folder / EPOCHS_CSV, state.rows)
        _save_checkpoint(model, state, checkpoint, average.variables)
        monitor.line.update(epoch + 1, _told(logs, validation_values, state))
        LOG.debug("epoch %d: %s", epoch + 1, row)
        with writer.as_default(step=epoch + 1):
            for name, scalar in row.items():
                tf.summary.scalar(name, scalar)
        writer.flush()
        callbacks.on_epoch_end(epoch, row)
        if model.stop_training:
            break
    callbacks.on_train_end()
    if (folder / BEST_WEIGHTS).exists():
        with plain_biases(model):
            load_weights(model, folder / BEST_WEIGHTS)
    return state


def _told(logs: Mapping[str, float], validation: Mapping[str, float], state: FitState) -> str:
    """Return an epoch in words."""
    values = ", ".join(f"{name} {value:.4f}" for name, value in validation.items())
    return f"loss {logs['loss']:.4f}; validation: {values}; best epoch {state.best_epoch + 1}"


HEADER_BYTES = 2**13
"""What HDF5 writes beside the values of a variable, at most."""


def save_weights(model: keras.Model, path: Path) -> None:
    """Save weights and quantizer state, all or nothing.

    Raises:
        OSError: where the disk is full.
    """
    require_room(path, sum(variable.numpy().nbytes + HEADER_BYTES for variable in model.variables))
    with replaced_whole(path) as temporary:
        model.save_weights(temporary)


def _save_checkpoint(model: keras.Model, state: FitState, path: Path, averages: Sequence[keras.Variable] = ()) -> None:
    arrays: dict[str, Any] = {name: variable.numpy() for name, variable in _variables(model, averages).items()}
    arrays[STATE] = np.array(json.dumps(dataclasses.asdict(state)))
    with replaced_whole(path) as temporary:
        np.savez(temporary, **arrays)


def _load_checkpoint(model: keras.Model, path: Path, averages: Sequence[keras.Variable] = ()) -> FitState:
    """Return the state in a checkpoint, and give the variables its values once all of them are known to fit."""
    what = f"checkpoint {path} is damaged or of another network"
    variables = _variables(model, averages)
    declared = {name: (tuple(variable.shape), np.dtype(variable.dtype)) for name, variable in variables.items()}

    def check(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        if name != STATE and declared.get(name) != (shape, dtype):
            raise ValueError(f"{name!r} must be {declared.get(name, 'absent')}. Received: {(shape, dtype)}")

    expected = sum(dtype.itemsize * math.prod(shape) for shape, dtype in declared.values())
    arrays = read_npz(path, check, expected + LARGEST_STATE, what)
    if missing := [name for name in (STATE, *variables) if name not in arrays]:
        raise ValueError(f"{what}: it lacks {missing[0]!r}")
    try:
        state = _parse_state(str(arrays[STATE]))
        for name, variable in variables.items():
            _check_value(variable, arrays[name])
    except ValueError as error:
        raise ValueError(f"{what}: {one_line(error)}") from None
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return state


def _parse_state(text: str) -> FitState:
    try:
        state = FitState(**json.loads(text))
        is_valid = all(isinstance(row, dict) and all(map(_is_number, row.values())) for row in state.rows)
        is_valid &= isinstance(state.rows, list) and _is_number(state.best_value) and type(state.best_epoch) is int
    except (TypeError, RecursionError):
        is_valid = False
    if not is_valid or not -1 <= state.best_epoch < max(len(state.rows), 1):
        raise ValueError(f"{STATE!r} must be rows of numbers and the best of them. Received: {text}")
    return state


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_value(variable: keras.Variable, value: np.ndarray) -> None:
    """Raise ValueError for a value that no run leaves in a variable."""
    try:
        if not np.all(np.isfinite(value)):
            raise ValueError("values must be finite. Received: NaN or infinity")
        if variable.name == BIT_WIDTH and value != variable.numpy():
            raise ValueError(f"the width must be {variable.numpy()}. Received: {value}")
        if variable.name == FROZEN_SCALE:
            check_scales(value)
    except ValueError as error:
        raise ValueError(f"{variable.path}: {error}") from None


def _variables(model: keras.Model, averages: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    variables = [*model.variables, *model.optimizer.variables, *averages]
    return {f"variable_{index}": variable for index, variable in enumerate(variables)}
