"""The arguments of :class:`~po2quant.autoqkeras.AutoQKeras`: what old code may pass, and what is refused."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from po2quant.benchmark import Dataset, Split
from po2quant.network.graph import read_graph
from po2quant.search.strategies import BAYESIAN, HYPERBAND, RANDOM

MODES = (BAYESIAN, RANDOM, HYPERBAND)
HYPERBAND_DEFAULTS = {"max_epochs": None, "factor": 3, "hyperband_iterations": 1}
FIT_DEFAULTS = {"validation_data": None, "validation_split": 0.0, "batch_size": 32, "epochs": 10, "verbose": 1}
UNSET_ARGUMENTS = ("callbacks", "class_weight", "sample_weight", "steps_per_epoch", "validation_batch_size")
"""Arguments of Keras' ``fit`` that may be given, as None or empty."""

NEUTRAL_OPTIONS = {
    "tune_filters": ("none", "the architecture is not searched, only widths are"),
    "learning_rate_optimizer": (False, "every trial has the learning rate that the model is compiled with"),
    "frozen_layers": (None, "blocks are not searched one after the other; use limit and layer_indexes"),
    "activation_bits": (4, "every activation has a width of its own, from quantization_config"),
    "custom_tuner": (None, "trials share one compiled graph, which other tuners do not"),
    "head_name": (None, "the network has one output"),
    "score_metric": (None, "the first of metrics is the objective"),
    "executions_per_trial": (1, "a trial repeated with the same seed gives the same numbers"),
    "enable_bn_folding": (True, "BatchNormalization is always folded"),
}
"""Options of QKeras 0.9.0 that may be given, but not changed, and why."""

UNREAD_OPTIONS = ("tune_filters_exceptions", "about")


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


def read_options(options: Mapping[str, Any], mode: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return default arguments of ``fit`` and arguments of hyperband; ValueError says all that is not offered."""
    own = HYPERBAND_DEFAULTS if mode == HYPERBAND else {}
    together(*(functools.partial(_check_option, name, value, own, mode) for name, value in options.items()))
    return dict(options.get("fit") or {}), {name: options.get(name, default) for name, default in own.items()}


def _check_option(name: str, value: Any, own: Mapping[str, Any], mode: str) -> None:
    if name in NEUTRAL_OPTIONS:
        neutral, reason = NEUTRAL_OPTIONS[name]
        if value != neutral and not (neutral is None and not value):
            raise ValueError(f"{name} must be {neutral!r}: {reason}. Received: {name}={value!r}")
    elif name == "distribution_strategy":
        if value not in (None, tf.distribute.get_strategy()):
            raise ValueError(f"distribution_strategy must be None or TensorFlow's default one. Received: {value!r}")
    elif name not in (*own, *UNREAD_OPTIONS, "fit"):
        valid = (*own, *NEUTRAL_OPTIONS, *UNREAD_OPTIONS, "distribution_strategy", "fit")
        raise ValueError(f"options with mode={mode!r} must be among {', '.join(valid)}. Received: {name!r}")


def check_model(model: keras.Model) -> Callable[[int], float]:
    """Return the learning rate by step of a model that can be searched, or raise ValueError."""
    graph = read_graph(model)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        received = f"{len(graph.inputs)} inputs, {len(graph.outputs)} outputs"
        raise ValueError(f"a searched model must have one input and one output. Received: {received}")
    if not model.compiled:
        raise ValueError("the model must be compiled: its loss and learning rate are the trials'. Received: no loss")
    adam, given = keras.optimizers.Adam().get_config(), model.optimizer.get_config()
    changed = [name for name in adam if name not in ("name", "learning_rate") and given.get(name) != adam[name]]
    if type(model.optimizer) is not keras.optimizers.Adam or changed:
        raise ValueError(
            "the model must be compiled with keras.optimizers.Adam(learning_rate), as the trials are. "
            f"Received: {type(model.optimizer).__name__} {' '.join(f'{name}={given.get(name)}' for name in changed)}"
        )
    rate = given["learning_rate"]
    return keras.optimizers.schedules.deserialize(rate) if isinstance(rate, dict) else lambda step: rate


def free_folder(path: Path) -> Path:
    """Return the path, or the first of ``<path>_1``, ``<path>_2``, ... that holds nothing."""
    candidates = itertools.chain((path,), (path.with_name(f"{path.name}_{index}") for index in itertools.count(1)))
    return next(folder for folder in candidates if not folder.exists() or not any(folder.iterdir()))


def check_fit_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for arguments that ``fit`` has not, or numbers that are none."""
    unset = [name for name in UNSET_ARGUMENTS if name in arguments and _is_nothing(arguments[name])]
    unknown = [name for name in arguments if name not in (*FIT_DEFAULTS, *unset)]
    if unknown:
        received = ", ".join(map(repr, unknown))
        raise ValueError(f"fit must have no arguments but x, y, {', '.join(FIT_DEFAULTS)}. Received: {received}")
    for name in ("epochs", "batch_size"):
        value = arguments[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer above 0. Received: {name}={value!r}")


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple, dict)) and not value)


def own_dataset(x: Any, y: Any, validation_data: Any, validation_split: float) -> Dataset:
    """Return the splits; the place of the test split, which no search reads, is filled with the validation split."""
    train = _split(x, y)
    if validation_data is not None:
        if not isinstance(validation_data, (list, tuple)) or len(validation_data) != 2:
            raise ValueError(f"validation_data must be (x, y). Received: {type(validation_data).__name__}")
        validation = _split(*validation_data)
    else:
        first = int(len(train) * (1.0 - validation_split))
        if not 0 < first < len(train):
            raise ValueError(
                "fit must have validation_data=(x, y), or a validation_split that leaves samples on both sides: the "
                f"search chooses by samples that it does not train on. Received: validation_split={validation_split}"
            )
        validation, train = _split(np.asarray(x)[first:], np.asarray(y)[first:]), train.head(first)
    return Dataset("data passed to fit", "own", validation, train, validation)


def _split(x: Any, y: Any) -> Split:
    inputs, targets = arrays = [np.asarray(part) for part in (x, y)]
    if any(array.dtype.kind not in "biuf" or array.ndim == 0 for array in arrays):
        raise ValueError(
            "x and y must be arrays of numbers, samples first. "
            f"Received: {type(x).__name__} and {type(y).__name__} of {', '.join(str(array.dtype) for array in arrays)}"
        )
    return Split(inputs, targets)
