"""The arguments of :class:`~po2quant.autoqkeras.AutoQKeras`: what old code may pass, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from po2quant.benchmark import Dataset, Split
from po2quant.network.graph import read_graph
from po2quant.search.strategies import BAYESIAN, HYPERBAND, RANDOM

MODES = (BAYESIAN, RANDOM, HYPERBAND)
HYPERBAND_DEFAULTS = {"max_epochs": None, "factor": 3, "hyperband_iterations": 1}
FIT_DEFAULTS: dict[str, Any] = {
    "validation_data": None,
    "validation_split": 0.0,
    "batch_size": 32,
    "epochs": 10,
    "verbose": 1,
    "callbacks": None,
    "class_weight": None,
    "sample_weight": None,
    "steps_per_epoch": None,
    "validation_batch_size": None,
    "shuffle": True,
}
FILTERS_OF = ("none", "block", "layer")

NEUTRAL_OPTIONS = {
    "custom_tuner": (None, "trials share one compiled graph, which other tuners do not"),
    "hyperparameters": (None, "the choices are those of quantization_config and limit"),
    "max_model_size": (None, "sizes follow from quantization_config; use limit, or a goal with stress"),
    "tune_new_entries": (True, "all choices are known before the first trial"),
    "allow_new_entries": (True, "all choices are known before the first trial"),
}
"""Options of QKeras 0.9.0 and Keras Tuner that may be given, but not changed, and why."""

UNREAD_OPTIONS = (
    *("about", "activation_bits", "enable_bn_folding", "tuner_id", "project_name", "logger", "overwrite"),
    *("max_consecutive_failed_trials", "num_initial_points", "alpha", "beta", "seed"),
)
"""Options without effect here: every activation has a width of its own, BatchNormalization is always folded, a search
names its own parts, and first trials are the flat configurations."""

TUNER_OPTIONS = ("executions_per_trial", "max_retries_per_trial", "directory")


class Options(NamedTuple):
    """What the options beside the named arguments say.

    Args:
        fit: default arguments of ``fit``.
        hyperband: arguments of hyperband.
        executions: trainings of a trial.
        retries: how often a trial that fails runs again.
        directory: where ``output_dir`` lies.
    """

    fit: dict[str, Any]
    hyperband: dict[str, Any]
    executions: int
    retries: int
    directory: Path


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Return what calls return, or raise one ValueError that says all that they refuse.

    Example:
        >>> together(lambda: 1, lambda: "a")
        [1, 'a']
    """
    results, refused = [], []
    for call in calls:
        try:
            results.append(call())
        except ValueError as error:
            refused.append(str(error))
    if len(refused) == 1:
        raise ValueError(refused[0])
    if refused:
        raise ValueError(f"{len(refused)} things must be changed: {'; '.join(refused)}")
    return results


def check_mode(mode: str, max_trials: int) -> None:
    """Raise ValueError for an unknown mode or a number of trials that is none."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}. Received: mode={mode!r}")
    if isinstance(max_trials, bool) or not isinstance(max_trials, int) or max_trials < 1:
        raise ValueError(f"max_trials must be an integer above 0. Received: max_trials={max_trials!r}")


def read_options(options: Mapping[str, Any], mode: str) -> Options:
    """Return what the options say; ValueError says all that is not offered."""
    own = HYPERBAND_DEFAULTS if mode == HYPERBAND else {}
    together(*(functools.partial(_check_option, name, value, own, mode) for name, value in options.items()))
    return Options(
        dict(options.get("fit") or {}),
        {name: options.get(name, default) for name, default in own.items()},
        _count(options, "executions_per_trial", 1, 1),
        _count(options, "max_retries_per_trial", 0, 0),
        Path(options.get("directory") or ""),
    )


def _count(options: Mapping[str, Any], name: str, default: int, least: int) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}. Received: {name}={value!r}")
    return value


def _check_option(name: str, value: Any, own: Mapping[str, Any], mode: str) -> None:
    if name in NEUTRAL_OPTIONS:
        neutral, reason = NEUTRAL_OPTIONS[name]
        if value != neutral and not (neutral is None and not value):
            raise ValueError(f"{name} must be {neutral!r}: {reason}. Received: {name}={value!r}")
    elif name == "distribution_strategy":
        if value not in (None, tf.distribute.get_strategy()):
            raise ValueError(f"distribution_strategy must be None or TensorFlow's default one. Received: {value!r}")
    elif name not in (*own, *UNREAD_OPTIONS, *TUNER_OPTIONS, "fit"):
        valid = (*own, *NEUTRAL_OPTIONS, *UNREAD_OPTIONS, *TUNER_OPTIONS, "distribution_strategy", "fit")
        raise ValueError(f"options with mode={mode!r} must be among {', '.join(valid)}. Received: {name!r}")


def check_filters(tune_filters: str, exceptions: str | None) -> re.Pattern[str] | None:
    """Return which layers keep their filters, None for none.

    Raises:
        ValueError: for an unknown way, or an expression that is none.
    """
    if tune_filters not in FILTERS_OF:
        raise ValueError(f"tune_filters must be one of {', '.join(FILTERS_OF)}. Received: {tune_filters!r}")
    try:
        return re.compile(exceptions) if exceptions else None
    except re.error as error:
        raise ValueError(f"tune_filters_exceptions must be a regular expression: {error}") from None


def check_names(option: str, names: Iterable[str] | None, model: keras.Model) -> frozenset[str]:
    """Return the names of layers of a model, none for None; what is no model, :func:`check_model` refuses."""
    given = list(names or ())
    known = [layer.name for layer in model.layers] if isinstance(model, keras.Model) else given
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{option} must be names of layers: {', '.join(known)}. Received: {unknown[0]!r}")
    return frozenset(given)


def check_model(model: keras.Model) -> Callable[[int], float]:
    """Return the learning rate by step of a model that can be searched, or raise ValueError."""
    graph = read_graph(model)
    if len(graph.inputs) != 1:
        raise ValueError(f"a searched model must have one input. Received: {len(graph.inputs)}")
    if not model.compiled:
        raise ValueError("the model must be compiled: its loss and learning rate are the trials'. Received: no loss")
    rate = model.optimizer.get_config()["learning_rate"]
    return keras.optimizers.schedules.deserialize(rate) if isinstance(rate, dict) else lambda step: rate


def fresh_optimizer(model: keras.Model) -> Callable[[float], keras.optimizers.Optimizer]:
    """Return what makes optimizers as the model's, of other learning rates."""
    kind, config = type(model.optimizer), model.optimizer.get_config()
    return lambda rate: kind.from_config(config | {"learning_rate": rate})


def free_folder(path: Path) -> Path:
    """Return the path, or the first of ``<path>_1``, ``<path>_2``, ... that holds nothing."""
    candidates = itertools.chain((path,), (path.with_name(f"{path.name}_{index}") for index in itertools.count(1)))
    return next(folder for folder in candidates if not folder.exists() or not any(folder.iterdir()))


def check_fit_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for arguments that ``fit`` has not, or numbers that are none."""
    if unknown := [name for name in arguments if name not in FIT_DEFAULTS]:
        received = ", ".join(map(repr, unknown))
        raise ValueError(f"fit must have no arguments but x, y, {', '.join(FIT_DEFAULTS)}. Received: {received}")
    for name in ("epochs", "batch_size", "steps_per_epoch", "validation_batch_size"):
        value = arguments[name]
        if value is None and FIT_DEFAULTS[name] is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer above 0. Received: {name}={value!r}")
    if not arguments["shuffle"]:
        raise ValueError("shuffle must be True: the seed gives the order of samples. Received: shuffle=False")
    given = arguments["callbacks"] or []
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, keras.callbacks.Callback) for one in given):
        raise ValueError(f"callbacks must be a list of Keras callbacks. Received: {given!r}")


def fresh_callbacks(callbacks: Sequence[keras.callbacks.Callback] | None) -> list[keras.callbacks.Callback]:
    """Return copies of callbacks, so that a trial sees nothing of those before it.

    Raises:
        ValueError: for a callback that cannot be copied.
    """
    copies = []
    for callback in callbacks or ():
        try:
            copies.append(copy.deepcopy(callback))
        except Exception as error:
            kind = type(callback).__name__
            raise ValueError(f"callbacks must be such as copy.deepcopy copies. Received: a {kind} ({error})") from None
    return copies


def own_dataset(
    x: Any,
    y: Any = None,
    validation_data: Any = None,
    validation_split: float = 0.0,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    most: int | None = None,
    outputs: Sequence[str] = (),
) -> Dataset:
    """Return the splits; the place of the test split, which no search reads, is filled with the validation split.

    Args:
        x: inputs, or a ``tf.data.Dataset`` of batches, which is read into memory.
        y: targets, of several outputs a list or tuple in their order, or a dictionary; None with a data set.
        validation_data: ``(x, y)``, ``(x, y, sample_weight)`` or a data set.
        validation_split: share at the end of the training samples that validates where there are no other data.
        sample_weight: of each training sample in the loss.
        class_weight: the same by class.
        most: training samples at most.
        outputs: names of the outputs of the model.
    """
    train = _split(*_arrays(x, y, sample_weight), outputs)
    if class_weight is not None:
        train = _with_class_weights(train, class_weight)
    if validation_data is not None:
        is_set = isinstance(validation_data, tf.data.Dataset)
        if not is_set and (not isinstance(validation_data, (list, tuple)) or len(validation_data) not in (2, 3)):
            raise ValueError(
                f"validation_data must be (x, y) or (x, y, weights). Received: {type(validation_data).__name__}"
            )
        validation = _split(*(_arrays(validation_data) if is_set else _arrays(*validation_data)), outputs)
    else:
        first = int(len(train) * (1.0 - validation_split))
        if not 0 < first < len(train):
            raise ValueError(
                "fit must have validation_data=(x, y), or a validation_split that leaves samples on both sides: the "
                f"search chooses by samples that it does not train on. Received: validation_split={validation_split}"
            )
        validation, train = train.taken(np.arange(first, len(train))), train.head(first)
    train = train if most is None else train.head(most)
    return Dataset("data passed to fit", "own", validation, train, validation)


def _arrays(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
    """Return inputs, targets and weights, of a data set all its batches."""
    if not isinstance(x, tf.data.Dataset):
        return x, y, sample_weight
    if y is not None or int(x.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise ValueError("a tf.data.Dataset must end, and have its targets inside, y=None. Received: another")
    if isinstance(x.element_spec, tf.TensorSpec) or len(x.element_spec) < 2:
        raise ValueError(f"a tf.data.Dataset must have batches of inputs and targets. Received: {x.element_spec}")
    parts = tf.nest.map_structure(lambda *batches: np.concatenate(batches), *x.as_numpy_iterator())
    return parts[0], parts[1], parts[2] if len(parts) > 2 else sample_weight


def _with_class_weights(split: Split, class_weight: Mapping[int, float]) -> Split:
    if not isinstance(split.y, np.ndarray):
        raise ValueError(f"class_weight must come with targets of one output. Received: {len(split.targets)}")
    classes = split.y.argmax(axis=-1) if split.y.ndim > 1 and split.y.shape[-1] > 1 else split.y.reshape(-1)
    weights = np.array([class_weight.get(int(label), 1.0) for label in classes], np.float32)
    return dataclasses.replace(split, weights=weights if split.weights is None else weights * split.weights)


def _split(x: Any, y: Any, sample_weight: Any, outputs: Sequence[str]) -> Split:
    weights = None if sample_weight is None else np.asarray(sample_weight, np.float32)
    if len(outputs) < 2:
        return Split(*_numbers(x, y), weights=weights)
    given = y if isinstance(y, Mapping) else dict(zip(outputs, y, strict=False)) if isinstance(y, (list, tuple)) else {}
    if set(given) != set(outputs) or len(y) != len(outputs):
        raise ValueError(
            f"y must have targets of each output, in a list or by name: {', '.join(outputs)}. Received: "
            f"{', '.join(map(str, y)) if isinstance(y, Mapping) else f'{type(y).__name__} of {len(y)}'}"
        )
    targets = {name: _numbers(x, given[name])[1] for name in outputs}
    return Split(np.asarray(x), targets, weights=weights)


def _numbers(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets as arrays."""
    inputs, targets = arrays = [np.asarray(part) for part in (x, y)]
    if any(array.dtype.kind not in "biuf" or array.ndim == 0 for array in arrays):
        raise ValueError(
            "x and y must be arrays of numbers, samples first. "
            f"Received: {type(x).__name__} and {type(y).__name__} of {', '.join(str(array.dtype) for array in arrays)}"
        )
    if targets.dtype == np.float64:  # which Keras' own fit makes numbers of its precision, too
        targets = targets.astype(keras.config.floatx())
    return inputs, targets
