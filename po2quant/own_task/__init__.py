"""A task made of files: a float network, data, and a loss and a metric that suit both."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from po2quant.benchmark import Benchmark, Dataset, NetworkSpec, Recipe, Score, Split
from po2quant.data.own import FORMS, read_dataset
from po2quant.files import one_line
from po2quant.own_task.metrics import LOSSES, METRICS, Metric, keras_loss, targets
from po2quant.placement import Placement
from po2quant.runs.task import TaskRequest
from po2quant.weight_files import read_weight_file

if TYPE_CHECKING:
    import keras

NAME, SMALL = "own", "small"
JSON_SUFFIX = ".json"
EPOCHS, BATCH_SIZE, LEARNING_RATE, DECAY = 5, 32, 0.0003, 0.8
"""How a network is fine-tuned where nothing is said: few epochs at a low rate, from trained float weights."""


def task_of_files(path: Path, request: TaskRequest, weights: Path | None = None) -> Benchmark:
    """Return the task of a network in a file, as far as it is known without TensorFlow; :func:`settled` completes it.

    Args:
        path: file of the network.
        request: names its data and perhaps how it is trained.
        weights: of a network whose file has none.

    Raises:
        ValueError: for a file that is missing, damaged, or no float network, and a loss or metric that is unknown.
    """
    _check_choices({"loss": request.loss, "metric": request.metric})
    _check_network(path, weights)
    model = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    recipe = _recipe(request)
    build = functools.partial(_load, path, weights if path.suffix.lower() == JSON_SUFFIX else None)
    spec = NetworkSpec(build, _placement(request), recipes={SMALL: recipe})

    @functools.cache
    def load_data(data_dir: Path | None, seed: int) -> Dataset:
        if data_dir is None:
            raise ValueError(f"a network in a file needs data: {FORMS}. Received: None")
        return read_dataset(data_dir, _input_shape(spec.new_network()), seed, request.input_scale or 1.0)

    return Benchmark(NAME, {model: spec}, load_data, recipe, _unknown, _unknown, needs_data_dir=True)


def task_of_model(
    model: keras.Model,
    dataset: Dataset,
    loss: str | None = None,
    metric: str | None = None,
    epochs: int = EPOCHS,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> Benchmark:
    """Return the task of a model in memory, with the loss and the metric that it and its data ask for.

    Args:
        model: the network, of one input and one output, with weights; those that are built are copies.
        dataset: its data.
        loss: a row of :data:`~po2quant.own_task.metrics.LOSSES`; None: it follows.
        metric: a row of :data:`~po2quant.own_task.metrics.METRICS`; None: it follows.
        epochs: of fine-tuning.
        batch_size: samples of a step; None: :data:`BATCH_SIZE`.
        learning_rate: of the first epoch; None: :data:`LEARNING_RATE`.

    Raises:
        ValueError: for an unknown loss or metric, more inputs, and targets that do not fit the outputs.
    """
    import keras

    from po2quant.own_task.choices import choices
    from po2quant.training.schedules import exponential_decay

    _check_choices({"loss": loss, "metric": metric})
    _input_shape(model)
    found = choices(model, dataset, loss, metric)
    chosen, logged = METRICS[found.metric], METRICS[found.metric].logged(found.loss)
    rate = exponential_decay(learning_rate or LEARNING_RATE, DECAY)
    recipe = Recipe(keras_loss(found.loss), epochs, 0, batch_size or BATCH_SIZE, rate, logged)

    def build() -> keras.Model:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy

    def selection(logs: Mapping[str, float]) -> float:
        return chosen.selection(logs, targets(dataset.validation or dataset.test))

    name = re.sub(r"\W", "_", model.name, flags=re.ASCII)
    spec = NetworkSpec(build, Placement(signed_input=found.signed_input), recipes={SMALL: recipe})
    score = functools.partial(_scored, chosen, found.loss)
    return Benchmark(NAME, {name: spec}, lambda folder, seed: dataset, recipe, score, selection)


def _check_choices(given: Mapping[str, str | None]) -> None:
    for name, valid in (("loss", LOSSES), ("metric", METRICS)):
        value = given[name]
        if value is not None and value not in valid:
            raise ValueError(f"{name} must be one of {', '.join(valid)}. Received: {name}={one_line(value)!r}")


def _check_network(path: Path, weights: Path | None) -> None:
    if not path.is_file():
        raise ValueError(f"network must be a .keras, .h5 or .json file of a float network. There is no file {path}")
    if path.suffix.lower() == JSON_SUFFIX:
        if weights is None:
            raise ValueError(f"network {path} is an architecture alone: weights must name its weights. Received: None")
        return
    try:
        file = read_weight_file(path)
    except ValueError as error:
        raise ValueError(f"network {path} cannot be read: {error}") from None
    if file.description is None:
        raise ValueError(f"network {path} holds weights alone: it must have the architecture too, as model.save writes")
    if file.is_quantized:
        raise ValueError(f"network must be a float network. Received: {path}, a quantized one")


def _recipe(request: TaskRequest) -> Recipe:
    from po2quant.training.schedules import exponential_decay

    rate = exponential_decay(request.learning_rate or LEARNING_RATE, DECAY)
    return Recipe(request.loss or "", EPOCHS, request.float_epochs or 0, request.batch_size or BATCH_SIZE, rate)


def _load(path: Path, weights: Path | None) -> keras.Model:
    from po2quant.network.load import load_model

    return load_model(path, weights)


def _unknown(*arguments: Any) -> Any:
    raise ValueError("a network in a file needs data, from which its loss and metric follow. Received: None")


def _input_shape(model: keras.Model) -> tuple[int, ...]:
    """Return the shape of an input, or raise ValueError where there is not one input and one output of fixed shape."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"network {model.name!r} must have one input and one output to be scored or trained from files. Received: "
            f"{len(model.inputs)} and {len(model.outputs)}"
        )
    shape = tuple(model.inputs[0].shape[1:])
    if None in shape:
        raise ValueError(f"network {model.name!r} must have an input of fixed shape. Received: {shape}")
    return shape


@dataclasses.dataclass(frozen=True)
class Settled:
    """A task of which everything is known.

    Args:
        task: the task.
        request: what was asked for, and what follows from network and data.
        reason: the choices and why, in a line; empty where nothing was left open.
    """

    task: Benchmark
    request: Any
    reason: str


def settled(task: Benchmark, request: Any) -> Settled:
    """Return a task of :func:`task_of_files` with the loss and the metric that its network and data ask for.

    Args:
        task: the task.
        request: the run that it was made for. Without data, what it leaves open stays so.

    Raises:
        ValueError: for targets that do not fit the outputs.
    """
    ((model, spec),) = task.networks.items()
    reason = ""
    if request.left_open() and request.data_dir is not None:
        from po2quant.own_task.choices import choices

        dataset = task.load_data(request.data_dir, request.seed)
        found = choices(spec.new_network(), dataset, request.loss, request.metric)
        request = dataclasses.replace(request, **{name: getattr(found, name) for name in request.left_open()})
        reason = found.reason
    recipe = task.recipe
    if request.loss is not None and request.metric is not None:
        metric, loss = METRICS[request.metric], request.loss
        recipe = dataclasses.replace(recipe, loss=keras_loss(loss), metrics=metric.logged(loss))
        score = functools.partial(_scored, metric, loss)
        selection = functools.partial(_selected, metric, task, request)
        task = dataclasses.replace(task, recipe=recipe, score=score, selection=selection)
    spec = dataclasses.replace(spec, placement=_placement(request), recipes={SMALL: recipe})
    return Settled(dataclasses.replace(task, networks={model: spec}), request, reason)


def _placement(request: TaskRequest) -> Placement:
    return Placement(signed_input=request.signed_input is not False)


def _scored(metric: Metric, loss: str, predict: Callable[[np.ndarray], np.ndarray], split: Split) -> Score:
    return metric.score(predict, split, loss)


def _selected(metric: Metric, task: Benchmark, request: Any, logs: Mapping[str, float]) -> float:
    dataset = task.load_data(request.data_dir, request.seed)
    return metric.selection(logs, targets(dataset.validation or dataset.test))
