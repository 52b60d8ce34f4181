"""Frozen networks against their integer programs, to the bit: the builder, the float64 reference and the listing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import qkeras
import tensorflow as tf
from frozen_networks import OVERFLOW, frozen, noise, random_frozen, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from refusals import refusal

from po2quant.benchmark import load_benchmark
from po2quant.bit_config import BitConfig
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.reference import Float64Network, compare
from po2quant.integer.interpreter import quantize_inputs, results, run
from po2quant.integer.listing import listing
from po2quant.integer.operations import Conv2D, LookUpTable, Requantize, Weights
from po2quant.integer.program import SOFTMAX, Program
from po2quant.network import (
    Placement,
    activation_quantizers,
    calibrate,
    flat_config,
    freeze_scales,
    quantize_model,
    set_bits,
    weight_quantizers,
)
from po2quant.quantizers import quantized_bits, quantized_bits_featuremap
from po2quant.weight_files import load_weights

BEST_CONFIGS = Path(__file__).resolve().parents[2] / "best_configs"
REQUANTIZED = Placement(requantize_shortcuts=True)


def assert_same_integers(quantized: keras.Model, x: np.ndarray | list[np.ndarray]) -> Program:
    """Assert that the program computes every integer as Keras does, saturation included."""
    program = integer_program(quantized)
    found = compare(program, quantized, x)
    assert found.first is None and found.mismatches == 0, str(found)
    assert found.tensors == len(list(activation_quantizers(quantized)))
    return program


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1), st.sampled_from([Placement(), REQUANTIZED]))
def test_random_networks_compute_the_same_integers(data, seed, placement):
    """2 to 16 bits each, biases to 31, doubled inputs, ranges moved by up to 3 powers of two."""
    quantized = random_frozen(data.draw, seed, placement)
    assert_same_integers(quantized, OVERFLOW * noise(quantized, 2, seed))


MACS = {
    ("anomaly_detection", "autoencoder"): 264192,
    ("keyword_spotting", "ds_cnn"): 2656768,
    ("image_classification", "resnet8"): 12501632,
    ("visual_wake_words", "mobilenet_v1"): 7489664,
    ("visual_wake_words", "mobilenet_v2"): None,
    ("visual_wake_words", "efficientnet_b0"): None,
}
"""Multiply-accumulates of the six networks, where MLPerf Tiny's documents have them."""


@pytest.mark.slow
@pytest.mark.parametrize("network", MACS, ids="-".join)
def test_benchmark_networks_compute_the_same_integers(network):
    """The published widths and, of the four small networks, flat 8, with random weights."""
    spec = load_benchmark(network[0]).networks[network[1]]
    model = randomize(spec.build())
    config = BitConfig.load(BEST_CONFIGS / f"{'-'.join(network)}.json")
    quantized, x = quantize_model(model, config, placement=spec.placement), noise(model, 1)
    is_small = MACS[network] is not None
    for widths in [config, flat_config(model, 8, spec.placement)] if is_small else [config]:
        set_bits(quantized, widths)
        calibrate(quantized, x)
        freeze_scales(quantized)
        program = assert_same_integers(quantized, OVERFLOW * x)
        total = sum(program.counts(operation).macs for operation in program.operations)
        assert not is_small or total == MACS[network]


@pytest.mark.slow
def test_a_trained_network_with_channels_that_died_computes_the_same_integers(shared):
    """MLPerf Tiny's MobileNetV1 has weights of 1e-24 beside biases: float64 loses their products."""
    spec = load_benchmark("visual_wake_words").networks["mobilenet_v1"]
    model = spec.build()
    load_weights(model, shared("pretrained/vww_mobilenet_v1.h5"))
    config = BitConfig.load(BEST_CONFIGS / "visual_wake_words-mobilenet_v1.json")
    quantized = quantize_model(model, config, placement=spec.placement)
    x = np.random.default_rng(0).uniform(0.0, 1.5, (4, 96, 96, 3)).astype(np.float32)
    calibrate(quantized, x)
    freeze_scales(quantized)
    program = assert_same_integers(quantized, x)
    (pointwise,) = (operation for operation in program.operations if operation.name == "conv2d_7")
    dead = np.sum(~np.any(pointwise.kernel.integers, axis=(0, 1, 2)))
    assert 60 < dead < 128
    (row,) = (line for line in listing(program).splitlines() if line.startswith("conv2d_7 "))
    assert row.endswith(f" {dead}/128")


def residual_net() -> keras.Model:
    x = inputs = keras.Input((8, 8, 3), name="input")
    x = shortcut = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="stem")(x)))
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x))
    x = layers.Add()([layers.Conv2D(4, 1, name="project")(x), shortcut])
    x = layers.Activation("silu", name="swish")(layers.AveragePooling2D(3, padding="same")(x))
    return randomize(keras.Model(inputs, layers.Dense(3, activation="softmax", name="dense")(layers.Flatten()(x))))


@pytest.fixture(scope="module")
def residual() -> tuple[keras.Model, Program]:
    quantized = frozen(residual_net(), 8, REQUANTIZED)
    return quantized, integer_program(quantized)


def test_float64_layers_agree_with_a_network_built_in_float64(residual):
    """The reference itself against a second way to compute in float64: Keras' global policy."""
    quantized, _ = residual
    x = noise(quantized)
    integers = Float64Network(quantized)(x)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        network = quantize_model(residual_net(), flat_config(residual_net(), 8, REQUANTIZED), placement=REQUANTIZED)
    finally:
        keras.config.set_dtype_policy(policy)
    for ours, theirs in zip(activation_quantizers(network), activation_quantizers(quantized), strict=True):
        ours[1].set_range(*theirs[1].range)
        ours[1].frozen = True
    for ours, theirs in zip(weight_quantizers(network), weight_quantizers(quantized), strict=True):
        ours.variable.assign(theirs.variable)
    freeze_scales(network)
    taps = {name: network.get_layer(name).output for name in integers}
    values = keras.Model(network.inputs, taps)(tf.constant(x, tf.float64))
    assert values["activation_1"].dtype == tf.float64
    for name, quantizer in activation_quantizers(quantized):
        np.testing.assert_array_equal(integers[name] * np.float64(quantizer.scale), values[name].numpy())


def test_a_changed_integer_is_found(residual):
    """The comparison can fail: one weight, one step, and it names tensor, place and both integers."""
    quantized, program = residual
    stem = program.operations[0]
    integers = stem.bias.integers.copy()
    integers[2] += int(2.0 ** (program.tensor["activation_1"].format.exponent - stem.bias.exponents[2]))
    changed = dataclasses.replace(stem, bias=dataclasses.replace(stem.bias, integers=integers))
    broken = dataclasses.replace(program, operations=(changed, *program.operations[1:]))
    found = compare(broken, quantized, noise(quantized, 5), batch_size=2)
    assert found.samples == 5 and found.mismatches > 0
    first = found.first
    assert (first.layer, first.tensor, first.index[3]) == ("stem", "activation_1", 2)
    assert first.computed == first.expected + 1
    assert "activation_1" in str(found) and str(found.mismatches) in str(found)
    assert "all equal" in str(compare(program, quantized, noise(quantized, 5), batch_size=2))


def test_the_first_mismatch_may_be_in_a_later_batch(residual):
    """Its index counts from the first sample of all."""
    quantized, program = residual
    x = np.zeros_like(noise(quantized, 5))
    x[4] = noise(quantized, 1)[0]
    stem = program.operations[0]
    kernel = dataclasses.replace(stem.kernel, integers=-stem.kernel.integers)
    broken = dataclasses.replace(
        program, operations=(dataclasses.replace(stem, kernel=kernel), *program.operations[1:])
    )
    assert compare(broken, quantized, x, batch_size=2).first.index[0] == 4


def test_a_comparison_of_nothing_is_refused(residual):
    """It would find everything equal; so would the program of another network, compared in part."""
    quantized, program = residual
    assert "samples" in refusal(compare, program, quantized, noise(quantized, 0))
    other = integer_program(frozen(keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 1)])))
    assert "'activation_1'" in refusal(compare, other, residual[0], noise(residual[0]))


def test_the_listing_names_every_tensor_and_proves_every_sum(residual):
    """One line each, with what the plan says."""
    _, program = residual
    lines = [line.split() for line in listing(program).splitlines()]
    first_words = [line[0] for line in lines if line]
    for tensor in program.tensors:
        assert first_words.count(tensor.name) >= 1
    for operation in program.operations:
        plan = program.plan(operation)
        (line,) = (line for line in lines if line and line[0] == operation.name and line[3] == operation.output)
        if plan is not None:
            assert f"{plan.accumulator_limits[0]}..{plan.accumulator_limits[1]}" in line
            assert line[-2] == f"{plan.accumulator_register}/{plan.sum_register}"


def test_integers_are_the_quantizers_own(residual):
    """Kernels and biases: integer times power of two is what the quantizer makes of the float weight."""
    quantized, program = residual
    operations = {operation.name: operation for operation in program.operations}
    checked = 0
    for weight in weight_quantizers(quantized):
        stored: Weights = getattr(operations[weight.layer.name], weight.part)
        assert stored.bit_width == weight.quantizer.bits
        values = np.ldexp(stored.integers.astype(np.float64), stored.exponents)
        expected = weight.quantizer(tf.convert_to_tensor(weight.variable)).numpy()
        tolerance = 2.0**-24 * np.abs(expected).max() if weight.part == "bias" else 0.0  # float32 under 31 bits
        np.testing.assert_allclose(values.reshape(expected.shape), expected, rtol=0, atol=tolerance)
        checked += 1
    assert checked == 8


def test_tensors_are_the_quantizers(residual):
    """Names, widths, signs and steps; a requantized shortcut, a table and the host's softmax."""
    quantized, program = residual
    for name, quantizer in activation_quantizers(quantized):
        format = program.tensor[name].format
        assert (format.bit_width, format.signed, format.scale) == (quantizer.bits, quantizer.signed, quantizer.scale)
        assert format.narrow_range == quantizer.signed
    kinds = [type(operation) for operation in program.operations]
    assert kinds.count(Requantize) == 1 and kinds.count(LookUpTable) == 1
    assert program.outputs[0].host_function == SOFTMAX
    (depthwise,) = (operation for operation in program.operations if operation.name == "depthwise")
    assert isinstance(depthwise, Conv2D) and depthwise.groups == 4 and depthwise.kernel.integers.shape == (3, 3, 1, 8)


def test_results_are_the_models_outputs(residual):
    """Softmax included, as close as float32 is."""
    quantized, program = residual
    x = noise(quantized)
    (probabilities,) = results(program, run(program, quantize_inputs(program, x)))
    np.testing.assert_allclose(probabilities, quantized(x), atol=1e-6)


def test_a_saved_program_runs_as_the_built_one(residual, tmp_path):
    """On a real network."""
    quantized, program = residual
    program.save(tmp_path / "network.npz")
    found = compare(Program.load(tmp_path / "network.npz"), quantized, noise(quantized))
    assert found.mismatches == 0 and found.integers > 1000


def test_a_reloaded_model_gives_the_same_program(residual, tmp_path):
    """Frozen scales and ranges survive ``.keras``."""
    quantized, program = residual
    quantized.save(tmp_path / "model.keras")
    integer_program(keras.saving.load_model(tmp_path / "model.keras")).save(tmp_path / "reloaded.npz")
    program.save(tmp_path / "program.npz")
    assert (tmp_path / "reloaded.npz").read_bytes() == (tmp_path / "program.npz").read_bytes()


def test_a_network_of_two_inputs_and_two_outputs():
    """Each input has its quantizer, and a tensor may be a result and be read."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = layers.Dense(4, activation="relu", name="first")(layers.Concatenate()([a, b]))
    model = randomize(keras.Model([a, b], [x, layers.Dense(2, name="second")(x)]))
    program = assert_same_integers(frozen(model), [OVERFLOW * array for array in noise(model)])
    assert len(program.inputs) == len(program.outputs) == 2


def test_a_layer_that_is_called_twice():
    """Two operations with the same weights and exponents of their own."""
    shared_layer, flatten = layers.Conv2D(3, 3, padding="same", name="shared"), layers.Flatten(name="flatten")
    inputs = keras.Input((4, 4, 3))
    once = layers.ReLU()(shared_layer(inputs))
    twice = layers.ReLU()(shared_layer(once))
    outputs = layers.Dense(2)(layers.Concatenate()([flatten(once), flatten(twice)]))
    program = assert_same_integers(frozen(randomize(keras.Model(inputs, outputs))), noise(keras.Model(inputs, outputs)))
    assert [operation.name for operation in program.operations].count("shared") == 2


def test_qkeras_fixed_point_quantizers():
    """``alpha=None`` is a power of two as well: no scale to freeze; unsigned weights; no bias; no symmetric range."""
    inputs = keras.Input((6, 6, 2))
    x = qkeras.QActivation(quantized_bits_featuremap(6, 2, 0, 1, alpha=None), name="q0")(inputs)
    x = qkeras.QConv2D(3, 2, use_bias=False, kernel_quantizer=quantized_bits(5, -1, 0, 0, alpha=None), name="conv")(x)
    x = qkeras.QActivation(quantized_bits(7, 3, 0, 1, alpha=None), name="q1")(x)
    model = randomize(keras.Model(inputs, x))
    program = assert_same_integers(model, OVERFLOW * noise(model))
    (conv,) = program.operations
    assert conv.kernel.integers.max() > 15 and conv.kernel.integers.min() == 0
    assert program.tensor["q1"].format.min_int == -64


def test_qkeras_own_scale_rule():
    """Its exponents are poor, its scales no less powers of two: one for every single bias."""
    model = residual_net()
    assert_same_integers(frozen(model, scale_rule="stock"), noise(model))


def chain(
    *more: layers.Layer, shape: tuple[int | None, ...] = (6, 6, 2), quantizer: Callable | None = None
) -> keras.Model:
    """Return a hand-made network that begins with a quantizer."""
    quantizer = quantizer or quantized_bits_featuremap(8, 2, 1, 1, alpha=None)
    return keras.Sequential([keras.Input(shape, name="input"), qkeras.QActivation(quantizer, name="q"), *more])


def with_range(**options) -> quantized_bits_featuremap:
    quantizer = quantized_bits_featuremap(8, 8, 1, 1, **({"alpha": "auto_po2"} | options))
    quantizer.set_range(-1.0, 1.0)
    return quantizer


def q(name: str = "last", bits: int = 8) -> layers.Layer:
    return qkeras.QActivation(quantized_bits_featuremap(bits, 2, 1, 1, alpha=None), name=name)


def dense(**options) -> layers.Layer:
    quantizers = {f"{part}_quantizer": quantized_bits(8, 0, 1, alpha=None) for part in ("kernel", "bias")}
    return qkeras.QDense(2, **(quantizers | options), name="dense")


def frozen_small(**options) -> keras.Model:
    return frozen(keras.Sequential([keras.Input((3,), name="x"), layers.Dense(2, name="dense")]), **options)


def thawed() -> keras.Model:
    model = frozen_small()
    next(weight_quantizers(model)).quantizer.unfreeze()
    return model


def two_quantizers_on_one_input() -> keras.Model:
    inputs = keras.Input((3,), name="x")
    return keras.Model(inputs, layers.Add()([q("a")(inputs), q("b")(inputs)]))


def two_ranks() -> keras.Model:
    inputs = keras.Input((4, 4, 2))
    x = q("a")(inputs)
    return keras.Model(inputs, q("c")(layers.Add(name="add")([x, q("b")(layers.GlobalMaxPooling2D()(x))])))


REFUSED = {
    "real scales": (lambda: frozen_small(alpha="auto"), "alpha='auto'"),
    "scales of each sample": (lambda: frozen_small(activation_scale="per_sample"), "scale_axis=0"),
    "range not frozen": (lambda: chain(quantizer=with_range()), "freeze_scales"),
    "weights not frozen": (thawed, "freeze_scales"),
    "qkeras' quantizer": (lambda: chain(quantizer=qkeras.quantized_relu(4)), "'q'"),
    "unknown layer": (lambda: chain(layers.LayerNormalization(name="norm"), q()), "'norm'"),
    "subclass": (lambda: chain(qkeras.QAveragePooling2D(2, name="mean"), q()), "QAveragePooling2D"),
    "float layer": (lambda: chain(layers.Conv2D(2, 1, name="conv"), q()), "'conv'"),
    "activation inside": (lambda: chain(layers.Flatten(), dense(activation="relu"), q()), "'dense'"),
    "noise": (
        lambda: chain(layers.Flatten(), dense(kernel_quantizer=quantized_bits(8, alpha=None, qnoise_factor=0.5)), q()),
        "noise",
    ),
    "noise on activations": (
        lambda: chain(quantizer=quantized_bits(8, 2, alpha=None, qnoise_factor=0.5)),
        "'q'",
    ),
    "no quantizer between": (
        lambda: chain(layers.Flatten(), dense(), layers.Activation("silu", name="swish"), q()),
        "'swish'",
    ),
    "no quantizer at the end": (lambda: chain(layers.Flatten(), dense()), "'dense'"),
    "no quantizer at the beginning": (lambda: keras.Sequential([keras.Input((3,)), dense(), q()]), "'dense'"),
    "two input quantizers": (two_quantizers_on_one_input, "'x'"),
    "softmax inside": (lambda: chain(layers.Softmax(name="soft"), q()), "'soft'"),
    "softmax over pixels": (lambda: chain(layers.Softmax(axis=1, name="soft")), "'soft'"),
    "channels first": (
        lambda: chain(layers.GlobalMaxPooling2D(data_format="channels_first", name="pool"), q()),
        "'pool'",
    ),
    "open shape": (lambda: chain(shape=(None, 6, 2)), "'q'"),
    "table of 17 bits": (lambda: chain(q("wide", 17), layers.Activation("silu", name="swish"), q()), "17 bits"),
    "wide sums": (
        lambda: chain(q("wide", 32), layers.Flatten(), dense(kernel_quantizer=quantized_bits(32, alpha=None)), q()),
        "'dense'",
    ),
    "two ranks": (two_ranks, "'add'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_integer_network_is_refused(case):
    """In one sentence that names the layer or what to do."""
    build, named = REFUSED[case]
    assert named in refusal(integer_program, build())
