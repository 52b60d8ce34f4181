"""What a search maximises: a metric of the validation data times AutoQKeras' factor for the size."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from po2quant.bit_config import BitConfig
from po2quant.cost import (
    ACTIVATION,
    INPUT,
    INPUT_BITS,
    OUTPUT_BITS,
    REFERENCE_ACTIVATION_BITS,
    REFERENCE_BIAS_BITS,
    SOFTMAX,
    WEIGHTS,
    ForgivingFactor,
    LayerShape,
    network_size,
)
from po2quant.fixed_point import check_bits
from po2quant.integer.widths import WidthTemplate
from po2quant.search.problem import Goal, SizeCost

ACCURACY = ("accuracy", "acc")
LOSSES = ("loss", "crossentropy", "ce")
SCORE = "val_score"
LOGS, UP, DOWN = "logs", "up", "down"

PARAMETERS, ACTIVATIONS = "parameters", "activations"
DEFAULT_GOAL: dict[str, Any] = {
    "type": "bits",
    "params": {
        "delta_p": 8.0,
        "delta_n": 8.0,
        "rate": 2.0,
        "stress": 1.0,
        "input_bits": INPUT_BITS,
        "output_bits": OUTPUT_BITS,
        "ref_bits": 8,
        "ref_bias_bits": REFERENCE_BIAS_BITS,
        "config": {"default": [PARAMETERS, ACTIVATIONS]},
    },
}
"""AutoQKeras' goal where none is given; biases of the reference have the published study's 31 bits."""


@dataclasses.dataclass(frozen=True)
class MetricObjective:
    """A value of the validation logs that grows when the network gets better.

    Args:
        name: what it is called.
        metrics: Keras metrics that the network must be compiled with; of several outputs, those of each by its name.
        value: given the validation logs, returns the value.

    Example:
        >>> objective = MetricObjective.of([lambda logs: 1 / (1 + logs["loss"] ** 10), "mae"])
        >>> objective.metrics, objective({"loss": 1.0, "mae": 0.8})
        (('mae',), 0.5)
    """

    name: str
    metrics: tuple[Any, ...] | dict[str, tuple[Any, ...]]
    value: Callable[[Mapping[str, float]], float]

    @classmethod
    def of(
        cls,
        metrics: Any = None,
        head_name: str | None = None,
        score_metric: str | None = None,
        outputs: Sequence[str] = (),
    ) -> MetricObjective:
        """Return the objective of a list of metrics: the first one. The others are logged.

        Args:
            metrics: one metric or several: names of Keras metrics, ``keras.metrics.Metric`` objects or functions of
                targets and outputs. The first may instead be a function of the validation logs, which have ``loss``
                and the other metrics. A function or metric whose direction Keras does not know is maximised, as QKeras
                does. None means accuracy. A dictionary has the metrics of its one output, or of several by their names.
            head_name: key of the dictionary; of several outputs, the one whose first metric is meant, else the first.
            score_metric: ``'val_score'``, or the name of a validation value that is maximised in place of the first.
            outputs: names of the model's outputs.

        Raises:
            ValueError: for a first metric that is minimised, or that does not exist.
        """
        if len(outputs) > 1:
            return cls._of_outputs(metrics, head_name, score_metric, outputs)
        if isinstance(metrics, Mapping):
            metrics = _of_head(metrics, head_name)
        listed = list(metrics) if isinstance(metrics, (list, tuple)) else [metrics] * (metrics is not None)
        first, others = listed[0] if listed else ACCURACY[0], tuple(map(_fresh, listed[1:]))
        names = ["loss", *map(_log_name, others)]
        if any(_direction(metric, names) == LOGS for metric in others):
            raise ValueError(f"metrics must have a function of the logs in first place only. Received: {metrics!r}")
        first, name, direction = _fresh(first), _log_name(first), _direction(first, names)
        if score_metric not in (None, SCORE):
            if not isinstance(score_metric, str) or not score_metric.startswith("val_"):
                raise ValueError(f"score_metric must be {SCORE} or a validation value. Received: {score_metric!r}")
            value = score_metric.removeprefix("val_")
            return cls(value, others if direction == LOGS else (first, *others), lambda logs: logs[value])
        if direction == LOGS:
            return cls(name, others, first)
        if direction != DOWN:
            return cls(name, (first, *others), lambda logs: logs[name])
        logged = "" if name in LOSSES else f", {_as_written(first, name)}"
        hint = f"which is minimised; use metrics=[lambda logs: 1 / (1 + logs[{name!r}]){logged}]"
        raise ValueError(f"the first metric must grow when the network gets better. Received: {name!r}, {hint}")

    @classmethod
    def _of_outputs(
        cls, metrics: Any, head_name: str | None, score_metric: str | None, outputs: Sequence[str]
    ) -> MetricObjective:
        """Return the objective of a model with several outputs, whose logs begin with the name of an output."""
        by_output = dict(metrics) if isinstance(metrics, Mapping) else {head_name or outputs[0]: metrics}
        head = head_name or next(iter(by_output), outputs[0])
        if unknown := [name for name in (head, *by_output) if name not in outputs]:
            raise ValueError(
                f"head_name and the keys of metrics must be outputs: {', '.join(outputs)}. Received: {unknown[0]!r}"
            )
        of_each = {name: cls.of(listed) for name, listed in by_output.items() if name != head}
        own = cls.of(by_output.get(head), score_metric=score_metric)
        compiled = {name: tuple(one.metrics) for name, one in {**of_each, head: own}.items()}
        if own.name not in [_log_name(metric) for metric in compiled[head]]:  # it reads the logs as they are
            return cls(own.name, compiled, own.value)
        name = f"{head}_{own.name}"
        return cls(name, compiled, lambda logs: logs[name])

    def __call__(self, logs: Mapping[str, float]) -> float:
        """Return the value of validation logs.

        Raises:
            ValueError: where the logs lack a name, or the value is negative or not one number.
        """
        value = self.read(logs)
        if value < 0.0:
            raise ValueError(
                f"metric {self.name!r} must be 0 or above, since it is multiplied by a factor for the size. "
                f"Received: {value}"
            )
        return value

    def read(self, logs: Mapping[str, float]) -> float:
        """Return the value of logs, whatever its sign.

        Raises:
            ValueError: where the logs lack a name, or the value is not one number.
        """
        try:
            value = np.asarray(self.value(logs), float)
        except KeyError as error:
            raise ValueError(f"metric {self.name!r} must use the logs {', '.join(logs)}. Received: {error}") from None
        if value.size != 1:
            raise ValueError(f"metric {self.name!r} must be one number. Received: {value.tolist()}")
        return value.item()


def _of_head(metrics: Mapping[str, Any], head_name: str | None) -> Any:
    if head_name is not None and head_name not in metrics:
        raise ValueError(f"head_name must be a key of metrics: {', '.join(metrics)}. Received: {head_name!r}")
    if not metrics or (head_name is None and len(metrics) > 1):
        raise ValueError(f"metrics must have one output's, or head_name say whose. Received: {', '.join(metrics)}")
    return metrics[head_name or next(iter(metrics))]


def _fresh(metric: Any) -> Any:
    """Return a metric that shares no state with the given one."""
    return metric.from_config(metric.get_config()) if isinstance(metric, keras.metrics.Metric) else metric


def _as_written(metric: Any, name: str) -> str:
    """Return how code names a metric: only those of Keras have names as texts."""
    if isinstance(metric, keras.metrics.Metric):
        return f"keras.metrics.{type(metric).__name__}(name={name!r})"
    return repr(name) if isinstance(metric, str) else name


def _log_name(metric: Any) -> str:
    named = getattr(metric, "name", None) or getattr(metric, "__name__", "metric")
    return metric if isinstance(metric, str) else str(named)


def _direction(metric: Any, names: Sequence[str]) -> str | None:
    """Return in which direction a metric improves, ``LOGS`` for a function of the logs, None where Keras cannot say."""
    if metric in ACCURACY:
        return UP
    if metric in LOSSES:
        return DOWN
    if isinstance(metric, str):
        try:
            metric = keras.metrics.get(metric)
        except ValueError:
            raise ValueError(
                "a metric must be one of Keras', such as accuracy or AUC, or a function of the validation logs, "
                f"which have {', '.join(names)}. Received: {metric!r}"
            ) from None
    if not callable(metric):
        raise ValueError(f"a metric must be a name, a Keras metric or a function. Received: {metric!r}")
    name = getattr(metric, "__name__", "")
    if inspect.isfunction(metric) and getattr(keras.metrics, name, None) is metric:
        metric = keras.metrics.get(name)
    if isinstance(metric, keras.metrics.Metric):
        return getattr(metric, "_direction", None)
    required = [
        parameter
        for parameter in inspect.signature(metric).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return LOGS if len(required) == 1 else None


@dataclasses.dataclass(frozen=True)
class BitsGoal:
    """AutoQKeras' goal of few bits: score = metric * forgiving factor, from its dictionary.

    Args:
        factor: trade of metric for size.
        reference_bits: width of kernels and activations of the network that sizes are compared with.
        reference_bias_bits: width of its biases.
        input_bits: width of the network's input.
        output_bits: width of the output of a final softmax activation.
        counted: by Keras class, what counts: ``parameters``, ``activations``, both or nothing; ``default`` speaks for
            other classes. Activation quantizers are of class ``Activation``.
    """

    factor: ForgivingFactor
    reference_bits: int
    reference_bias_bits: int
    input_bits: int
    output_bits: int
    counted: Mapping[str, Sequence[str]]

    @classmethod
    def from_dict(cls, goal: Mapping[str, Any] | ForgivingFactor | None) -> BitsGoal:
        """Read ``{"type": "bits", "params": {...}}``.

        ``params`` may have ``delta_p`` and ``delta_n`` in percent, ``rate``, ``stress``, ``input_bits``,
        ``output_bits``, ``ref_bits``, ``ref_bias_bits`` (31 unless given) and ``config``.

        Args:
            goal: the dictionary; a forgiving factor alone compares with the reference of the bit accounting; None
                means :data:`DEFAULT_GOAL`.

        Raises:
            ValueError: for another type of goal, or an unknown or bad parameter.
        """
        if isinstance(goal, ForgivingFactor):
            counted = DEFAULT_GOAL["params"]["config"]
            return cls(goal, REFERENCE_ACTIVATION_BITS, REFERENCE_BIAS_BITS, INPUT_BITS, OUTPUT_BITS, counted)
        params = DEFAULT_GOAL["params"] | _goal_params(DEFAULT_GOAL if goal is None else goal)
        trade = {name: params[name] for name in ("delta_p", "delta_n", "rate", "stress")}
        if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in trade.values()):
            raise ValueError(f"delta_p, delta_n, rate and stress must be numbers. Received: {trade}")
        factor = ForgivingFactor(params["delta_p"] / 100.0, params["delta_n"] / 100.0, params["rate"], params["stress"])
        names = ("ref_bits", "ref_bias_bits", "input_bits", "output_bits")
        reference, bias, inputs, outputs = (check_bits(params[name]) for name in names)
        counted = _check_counted(params["config"] or DEFAULT_GOAL["params"]["config"])
        return cls(factor, reference, bias, inputs, outputs, counted)

    @property
    def reference_widths(self) -> dict[str, int]:
        """The reference's widths by part."""
        return {"kernel": self.reference_bits, "bias": self.reference_bias_bits, "activation": self.reference_bits}

    def counted_layers(self, layers: Sequence[LayerShape]) -> list[LayerShape]:
        """Return the layers with neither parameters nor elements where those do not count."""
        counted = []
        for layer in layers:
            parts = self.counted.get(layer.class_name, self.counted.get("default", ()))
            if layer.kind == WEIGHTS and PARAMETERS not in parts:
                layer = dataclasses.replace(layer, kernel_parameters=0, bias_parameters=0)
            elif layer.kind != WEIGHTS and ACTIVATIONS not in parts:
                layer = dataclasses.replace(layer, shape=(0,))
            counted.append(layer)
        return counted

    def extra_bits(self, layers: Sequence[LayerShape]) -> int:
        """Return what is added to the size of the bit accounting for inputs and outputs that have not 8 bits."""
        extra = {INPUT: self.input_bits - INPUT_BITS, SOFTMAX: self.output_bits - OUTPUT_BITS}
        return sum(extra.get(layer.kind, 0) * layer.elements for layer in layers)

    def of_network(
        self, layers: Sequence[LayerShape], make_template: Callable[[], WidthTemplate] | None = None
    ) -> Goal:
        """Return the goal of a search.

        Args:
            layers: what counts, see :meth:`counted_layers`.
            make_template: is not called.

        Raises:
            ValueError: where nothing counts.
        """
        extra = self.extra_bits(layers)
        weighted, quantized = ([layer.name for layer in layers if layer.kind == kind] for kind in (WEIGHTS, ACTIVATION))
        reference = BitConfig.flat(weighted, quantized, self.reference_bits, self.reference_bias_bits)
        reference_bits = network_size(layers, reference).total_bits + extra
        if reference_bits <= 0:
            raise ValueError(f"config of the goal must count something in this network. Received: {dict(self.counted)}")
        return Goal(SizeCost(layers, extra), reference_bits, self.factor)


def _goal_params(goal: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = goal.get("type") if isinstance(goal, Mapping) else None
    if kind != "bits":
        raise ValueError(f"goal must read like {DEFAULT_GOAL}. Received: {goal!r}")
    params = goal.get("params") or {}
    unknown = [name for name in params if name not in DEFAULT_GOAL["params"]]
    if unknown:
        raise ValueError(
            f"params of a goal must be among {', '.join(DEFAULT_GOAL['params'])}. Received: {unknown[0]!r}"
        )
    return params


def _check_counted(config: Any) -> Mapping[str, Sequence[str]]:
    known = {PARAMETERS, ACTIVATIONS}
    if not isinstance(config, Mapping) or not all(
        isinstance(parts, (list, tuple)) and set(parts) <= known for parts in config.values()
    ):
        raise ValueError(
            f"config of a goal must list {PARAMETERS} and {ACTIVATIONS} by layer class. Received: {config!r}"
        )
    return config


def qkeras_reference_bits(model: keras.Model, goal: Any) -> int:
    """Return the size of a goal's reference as QKeras' ForgivingFactorBits counts it, of the float model as it is.

    Inputs count ``input_bits`` an element, a softmax ``output_bits``, layers with weights and BatchNormalization
    ``ref_bits`` a parameter, and the outputs of activation functions ``ref_bits`` an element.
    """
    bits = getattr(goal, "reference_bits", 8)
    inputs, outputs = getattr(goal, "input_bits", INPUT_BITS), getattr(goal, "output_bits", OUTPUT_BITS)
    total = 0
    for layer in model.layers:
        shape = layer.output.shape[1:]
        elements = math.prod(shape)
        if isinstance(layer, keras.layers.InputLayer):
            total += inputs * elements
        function = getattr(layer, "activation", None)
        name = getattr(function, "__name__", None)
        if name == "softmax":
            total += outputs * elements
        elif name not in (None, "linear"):
            total += bits * elements
        total += bits * sum(math.prod(weight.shape) for weight in layer.weights)
    return total
