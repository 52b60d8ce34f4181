"""What both quantizers share: QKeras' fixed point, widths that change in a graph, errors, configurations."""

from __future__ import annotations

import inspect
import itertools
import json

import keras
import numpy as np
import pytest
import qkeras
import tensorflow as tf
from gradients import gradient
from refusals import complaint

from po2quant.quantizers import quantized_bits, quantized_bits_featuremap

QUANTIZERS = (quantized_bits, quantized_bits_featuremap)


# ---------------------------------------------------------------- values

FORMATS = list(itertools.product((2, 4, 8), (0, 2, -1), (0, 1), (True, False), (None, 0.5, 3.0)))


@pytest.mark.parametrize("quantizer_class", QUANTIZERS)
@pytest.mark.parametrize(("bits", "integer", "symmetric", "keep_negative", "alpha"), FORMATS)
def test_fixed_point_equals_qkeras_bit_for_bit(quantizer_class, bits, integer, symmetric, keep_negative, alpha):
    step = 2.0 ** (integer - bits + keep_negative)
    limit = 2**bits + 3
    x = (np.linspace(-limit, limit, 8 * limit + 1) * step).astype(np.float32)  # quarters of a step: ties included
    arguments = (bits, integer, symmetric, keep_negative, alpha)
    stock = qkeras.quantizers.quantized_bits(*arguments)(x)
    quantizer = quantizer_class(*arguments)
    for training in (False, True):
        np.testing.assert_array_equal(quantizer(x, training=training), stock)


SCALES = [
    (quantized_bits, {"alpha": "auto_po2"}),
    (quantized_bits, {"alpha": "auto_po2", "scale_rule": "max"}),
    (quantized_bits, {"alpha": "auto"}),
    (quantized_bits, {"alpha": None}),
    (quantized_bits, {"alpha": 0.5, "symmetric": 0}),
    (quantized_bits, {"alpha": "auto_po2", "keep_negative": 0}),
    (quantized_bits_featuremap, {"alpha": "auto_po2"}),
    (quantized_bits_featuremap, {"alpha": "auto_po2", "keep_negative": 0}),
    (quantized_bits_featuremap, {"alpha": "auto"}),
    (quantized_bits_featuremap, {"alpha": "auto", "symmetric": 0}),
    (quantized_bits_featuremap, {"alpha": None}),
    (quantized_bits_featuremap, {"alpha": "auto_po2", "scale_axis": 0}),
    (quantized_bits_featuremap, {"alpha": "auto", "scale_axis": 0}),
    (quantized_bits, {"alpha": "learned_po2"}),
    (quantized_bits_featuremap, {"alpha": "learned_po2"}),
    (quantized_bits_featuremap, {"alpha": "learned_po2", "keep_negative": 0}),
]


@pytest.mark.parametrize(("quantizer_class", "arguments"), SCALES)
@pytest.mark.parametrize("bits", [4, 8, 16, 24])
def test_graphs_give_the_same_bits_as_eager_calls(quantizer_class, arguments, bits):
    x = np.random.default_rng(0).normal(0, 0.3, (8192, 16)).astype(np.float32)
    x[1:5000] = np.rint(x[1:5000] * 2**bits) / 2**bits  # among them many ties
    quantizer = quantizer_class(bits, **({"integer": 0, "symmetric": 1} | arguments))
    np.testing.assert_array_equal(tf.function(quantizer)(x), quantizer(x))


@pytest.mark.parametrize(("quantizer_class", "arguments"), SCALES)
def test_new_bits_reach_a_traced_graph(quantizer_class, arguments):
    arguments = {"integer": 0, "symmetric": 1} | arguments
    x = np.random.default_rng(0).normal(0, 0.3, (64, 8)).astype(np.float32)
    quantizer = quantizer_class(8, **arguments)
    quantizer(x)  # creates the variables, which would take a trace of its own
    traces = []

    @tf.function
    def traced(values):
        traces.append(True)
        return quantizer(values)

    for bits in (8, 2, 4, 16, 24, 31, 8):
        quantizer.bits = bits
        assert quantizer.bits == bits
        np.testing.assert_array_equal(traced(x), quantizer_class(bits, **arguments)(x))
    assert len(traces) == 1


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("quantizer_class", QUANTIZERS)
@pytest.mark.parametrize("bits", [0, 1, 33, 2.5, 4.0, True, None])
def test_bad_bits_are_named_and_cannot_be_assigned(quantizer_class, bits):
    quantizer = quantizer_class(8)
    for call in (lambda: quantizer_class(bits), lambda: setattr(quantizer, "bits", bits)):
        message = complaint(call)
        assert "[2, 32]" in message and f"bits={bits!r}" in message
    assert quantizer.bits == 8


@pytest.mark.parametrize(
    ("quantizer_class", "arguments", "received", "valid"),
    [
        *[(each, {"bits": 0, "keep_negative": 0}, "bits=0", "[1, 32]") for each in QUANTIZERS],
        *[(each, {"alpha": "auto_po3"}, "alpha='auto_po3'", "auto, auto_po2") for each in QUANTIZERS],
        *[(each, {"alpha": ""}, "alpha=''", "auto, auto_po2") for each in QUANTIZERS],
        (quantized_bits, {"alpha": "auto_po2", "scale_rule": "best"}, "'best'", "mse, max, nearest, stock"),
        (quantized_bits, {"scale_rule": None}, "None", "mse, max, nearest, stock"),
        (quantized_bits, {"alpha": "auto_po2", "elements_per_scale": 4}, "elements_per_scale=4", "scale_axis"),
        (quantized_bits, {"frozen_scale": 0.5}, "alpha=None", "'auto', 'auto_po2' or"),
        (quantized_bits, {"alpha": 0.5, "frozen_scale": 0.5}, "alpha=0.5", "'auto', 'auto_po2' or"),
        (quantized_bits, {"alpha": "auto_po2", "frozen_scale": 0.3}, "0.3", "powers of two"),
        (quantized_bits, {"alpha": "learned_po2", "frozen_scale": 0.3}, "0.3", "powers of two"),
        (quantized_bits, {"alpha": "auto_po2", "log2_threshold": 0.5}, "alpha='auto_po2'", "alpha='learned_po2'"),
        (quantized_bits_featuremap, {"alpha": "learned_po2", "scale_axis": 0}, "scale_axis=0", "must be None"),
        (quantized_bits_featuremap, {"scale_axis": 1}, "scale_axis=1", "None (one static scale) or 0 (one per sample)"),
        (
            quantized_bits_featuremap,
            {"scale_axis": -1},
            "scale_axis=-1",
            "None (one static scale) or 0 (one per sample)",
        ),
        (quantized_bits_featuremap, {"momentum": 1.0}, "momentum=1.0", "[0, 1)"),
        (quantized_bits_featuremap, {"momentum": -0.1}, "momentum=-0.1", "[0, 1)"),
        (quantized_bits_featuremap, {"momentum": float("nan")}, "momentum=nan", "[0, 1)"),
    ],
    ids=str,
)
def test_bad_arguments_are_named_with_the_valid_ones(quantizer_class, arguments, received, valid):
    message = complaint(quantizer_class, **arguments)
    assert received in message and valid in message


# ---------------------------------------------------------------- configurations

# For every constructor argument: a value that is not its default, and the arguments that make it count.
ARGUMENTS = {
    quantized_bits: {
        "bits": (5, {}),
        "integer": (2, {}),
        "symmetric": (1, {}),
        "keep_negative": (False, {}),
        "alpha": ("auto_po2", {}),
        "use_stochastic_rounding": (True, {}),
        "scale_axis": (0, {"alpha": "auto_po2"}),
        "qnoise_factor": (0.5, {}),
        "var_name": ("kernel", {}),
        "use_ste": (False, {"qnoise_factor": 0.5}),
        "use_variables": (True, {}),
        "elements_per_scale": (None, {}),
        "min_po2_exponent": (-3, {"alpha": "auto_po2"}),
        "max_po2_exponent": (-9, {"alpha": "auto_po2"}),
        "post_training_scale": ([[0.25, 0.5, 0.125]], {"alpha": "auto_po2"}),
        "scale_rule": ("stock", {"alpha": "auto_po2", "bits": 16, "integer": 16}),
        "clipped_gradient": (False, {}),
        "log2_threshold": ([[0.5, -1.5, 2.0]], {"alpha": "learned_po2"}),
        "frozen_scale": ([[0.25, 0.5, 0.125]], {"alpha": "auto_po2"}),
    },
    quantized_bits_featuremap: {
        "bits": (5, {}),
        "integer": (2, {"alpha": None}),
        "symmetric": (1, {}),
        "keep_negative": (False, {}),
        "alpha": ("auto", {}),
        "use_stochastic_rounding": (True, {"alpha": "auto_po2"}),
        "scale_axis": (0, {"alpha": "auto_po2"}),
        "qnoise_factor": (0.5, {"alpha": "auto_po2"}),
        "var_name": ("activation", {}),
        "use_ste": (False, {"qnoise_factor": 0.5}),
        "use_variables": (True, {}),
        "momentum": (0.5, {"alpha": "auto"}),
        "clipped_gradient": (False, {"alpha": None}),
        "affine": (True, {"alpha": "auto"}),
        "static_range": ([-1.5, 2.0], {"alpha": "auto_po2"}),
        "frozen": (True, {"alpha": "auto", "static_range": [-1.5, 2.0]}),
        "log2_threshold": (-1.5, {"alpha": "learned_po2"}),
        "calibration": ("entropy", {}),
        "rounding": ("floor", {"alpha": "auto_po2"}),
        "full_range": (True, {"alpha": "auto_po2", "static_range": [-0.25, 0.25]}),
    },
}
NO_KEY = ("post_training_scale",)
"""The configuration has it as ``frozen_scale``."""
WITHOUT_EFFECT = {
    (quantized_bits, "var_name"),
    (quantized_bits, "use_variables"),
    (quantized_bits, "elements_per_scale"),
    (quantized_bits_featuremap, "var_name"),
    (quantized_bits_featuremap, "use_variables"),
    (quantized_bits_featuremap, "use_stochastic_rounding"),
    (quantized_bits_featuremap, "calibration"),
}
"""Calls do not show them: how a range is calibrated has tests of its own."""
CASES = [(quantizer_class, name) for quantizer_class, cases in ARGUMENTS.items() for name in cases]


def _parameters(quantizer_class: type) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(quantizer_class.__init__).parameters
    return {name: p for name, p in parameters.items() if name != "self" and p.kind is not p.VAR_KEYWORD}


def _behaviour(quantizer) -> list[np.ndarray]:
    """Return outputs and gradients in inference and training, which moves the range of an activation."""
    tf.random.set_seed(7)
    x = np.linspace(-3, 2, 60).reshape(20, 3).astype(np.float32) * np.float32([0.1, 1.0, 3.0])
    outputs = [quantizer(x, training=training).numpy() for training in (False, True)]
    outputs += [quantizer(x * 1.7, training=True).numpy(), quantizer(x, training=False).numpy()]
    return [*outputs, gradient(quantizer, x, training=False)]


def _same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("quantizer_class", QUANTIZERS)
def test_every_constructor_argument_has_a_case(quantizer_class):
    parameters = _parameters(quantizer_class)
    assert list(parameters) == list(ARGUMENTS[quantizer_class])
    for name, (value, _) in ARGUMENTS[quantizer_class].items():
        assert value != parameters[name].default or name == "elements_per_scale", name


@pytest.mark.parametrize(("quantizer_class", "name"), CASES)
def test_from_config_of_get_config_gives_equal_bits(quantizer_class, name):
    value, others = ARGUMENTS[quantizer_class][name]
    quantizer = quantizer_class(**others, **{name: value})
    config = quantizer.get_config()
    np.testing.assert_array_equal(quantizer.post_training_scale if name in NO_KEY else config[name], value)
    config = json.loads(json.dumps(config))
    copy = quantizer_class.from_config(config)
    assert json.loads(json.dumps(copy.get_config())) == config

    behaviour = _behaviour(quantizer)
    assert _same(behaviour, _behaviour(copy))
    changes = not _same(behaviour, _behaviour(quantizer_class(**others)))
    counts = (quantizer_class, name) not in WITHOUT_EFFECT
    assert changes == counts, "the argument must count, or this test proves nothing"


@pytest.mark.parametrize(("quantizer_class", "name"), CASES)
def test_serialized_quantizers_come_back_as_ours(quantizer_class, name):
    value, others = ARGUMENTS[quantizer_class][name]
    quantizer = quantizer_class(**others, **{name: value})
    serialized = keras.saving.serialize_keras_object(quantizer)
    assert serialized["registered_name"] == f"po2quant>{quantizer_class.__name__}"
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized)))
    assert type(copy) is quantizer_class
    assert copy.get_config() == quantizer.get_config()
