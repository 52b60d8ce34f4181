"""The network that is quantized for a target is the integer program that it computes, or a sentence says why not."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from refusals import complaint

from po2quant.deploy.check import check
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.reference import compare
from po2quant.export.espdl.to_espdl import OPERATORS as ESPDL
from po2quant.fixed_point import FLOOR, HALF_EVEN, HALF_UP
from po2quant.integer.operations import Reshape, Weighted
from po2quant.network import calibrate, fold, freeze_scales
from po2quant.placement import Placement
from po2quant.targets import TARGETS, misfits, target_of
from po2quant.uniform import UniformWidths

X = np.random.default_rng(0).normal(size=(24, 8, 8, 4)).astype("float32")


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Return a network with a residual, both poolings and biases."""
    keras.utils.set_random_seed(0)
    x = layers.Input((8, 8, 4), name="x")
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv", bias_initializer="normal")(x)
    z = layers.DepthwiseConv2D(3, padding="same", name="depthwise", bias_initializer="normal")(y)
    z = layers.ReLU(name="relu")(layers.Add(name="add")([y, z]))
    z = layers.AveragePooling2D(3, name="average")(layers.MaxPooling2D(name="largest", pool_size=1)(z))
    return keras.Model(x, layers.Dense(5, name="dense", bias_initializer="normal")(layers.Flatten(name="flat")(z)))


def quantized(network: keras.Model, name: str) -> keras.Model:
    placement = Placement(target=target_of(name))
    folded = fold(network, placement)
    kernel, activation = (placement.target.nearest(part, 8) for part in ("kernel", "activation"))
    model = folded.quantize(folded.uniform(UniformWidths(kernel, activation, activation), "flat"))
    calibrate(model, X)
    freeze_scales(model, placement)
    return model


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_target_computes_is_what_keras_computes(network, name):
    """Every rounding mode, ranges and biases of the target, in each integer."""
    model, target = quantized(network, name), target_of(name)
    program = integer_program(model)
    assert compare(program, model, X).mismatches == 0
    assert misfits(program, target) == []
    rounded = [step for step in program.operations if not isinstance(step, Reshape)]
    made = {type(step).__name__: program.output_of(step).format.rounding for step in rounded}
    assert made == {kind: target.rounding_of(kind) for kind in made}
    assert name == "litert" or set(made.values()) == {target.rounding}


IMAGES = {"Conv2D", "Dense", "AveragePooling", "MaxPooling", "Add", "Reshape"}
OF_ESP = IMAGES | {"Multiply", "Concatenate", "LookUpTable", "ZeroPadding", "Rearrange"}


def test_an_operation_that_joins_a_group_is_no_target_s_before_someone_says_so():
    """Targets name groups of operations; what each of them has stands here one by one."""
    expected = {
        "esp32-p4": OF_ESP,
        "esp32-s3": OF_ESP,
        "tinpu": IMAGES | {"Requantize"},
        "max78000": IMAGES,
        "hls4ml": IMAGES | {"Multiply", "Concatenate", "Requantize", "ZeroPadding"},
    }
    assert {name: target.operations for name, target in TARGETS.items() if target.operations} == expected
    shifted = {"Add", "Concatenate", "MaxPooling", "Maximum", "Minimum", "Requantize"}
    assert {name: target.roundings for name, target in TARGETS.items() if target.roundings} == {
        "litert": dict.fromkeys(shifted, HALF_UP)
    }
    assert {kind.__name__ for kind in ESPDL.functions} == OF_ESP


def test_the_modes_of_the_targets_are_not_all_the_same():
    assert {target.rounding for target in TARGETS.values()} == {HALF_EVEN, HALF_UP, FLOOR}


def test_biases_in_units_of_products_take_the_bits_of_the_target(network):
    """Of 20 bits on an ESP32-S3; where they would need more, weights get coarser scales."""
    loud = keras.models.clone_model(network)
    loud.set_weights([1e4 * array if array.ndim == 1 else array for array in network.get_weights()])
    for source in (network, loud):
        program = integer_program(quantized(source, "esp32-s3"))
        for operation in (step for step in program.operations if isinstance(step, Weighted)):
            products = operation.kernel.exponents + program.inputs_of(operation)[0].format.exponent
            np.testing.assert_array_equal(operation.bias.exponents, products)
            assert np.abs(operation.bias.integers).max() < 2**19
            assert np.unique(operation.kernel.exponents).size == 1


def test_misfits_name_every_obstacle(network):
    """A network for no target in particular, before one that has less."""
    program = integer_program(quantized(network, "generic"))
    found = misfits(program, target_of("esp32-s3"))
    for words in ("is unsigned", "stops at -127", "rounds half_up", "bias finer than its products", "one a kernel"):
        assert sum(words in sentence for sentence in found) >= 1, (words, found)
    narrow = dataclasses.replace(target_of("tinpu"), operations=frozenset(("Dense",)), channel_multiple=16)
    found = misfits(program, narrow)
    assert any("'conv' is Conv2D, which tinpu has not" in sentence for sentence in found)
    assert any("has 8 channels in" in sentence and "multiples of 16" in sentence for sentence in found)
    short = dataclasses.replace(target_of("litert"), bias_bits={8: 4}, accumulator=16)
    found = misfits(integer_program(quantized(network, "litert")), short)
    assert any("bits in units of its products, and litert has 4" in sentence for sentence in found)


def test_widths_that_a_target_has_not_are_refused(network):
    folded = fold(network, Placement(target=target_of("esp32-p4")))
    assert "kernel bits of 'conv' must be among 8, 16 for target esp32-p4. Received: 4" in complaint(
        folded.quantize, folded.flat(4)
    )
    assert fold(network, Placement(target=target_of("max78000"))).flat(8).bias_bits("dense") == 8
    assert "generic, cortex-m" in complaint(target_of, "esp8266")
    assert "must be among 8 for target tinpu" in complaint(target_of("tinpu").widths, "activation", (4, 16))


@pytest.mark.slow
def test_check_says_what_does_not_fit(network):
    """Functions of tables are none of the MAX78000's."""
    gated = keras.Model(network.input, layers.Activation("sigmoid", name="gate")(network.output))
    found = check(gated, Placement(target=target_of("max78000")))
    assert not found.obstacles and not found.is_supported
    assert found.misfits == ("operation 'gate' is LookUpTable, which max78000 has not",)
    assert check(network, Placement(target=target_of("max78000"))).is_supported


@pytest.mark.slow
@pytest.mark.parametrize("name", ["esp32-s3", "tinpu"])
def test_what_is_trained_for_a_target_is_what_it_computes(network, name):
    placement = Placement(target=target_of(name))
    folded = fold(network, placement)
    model = folded.quantize(folded.flat(8).with_alpha("learned_po2"))
    calibrate(model, X)
    model.compile("adam", "mse")
    losses = model.fit(X, np.ones((len(X), 5)), epochs=3, verbose=0).history["loss"]
    freeze_scales(model, placement)
    program = integer_program(model)
    assert losses[-1] < losses[0]
    assert compare(program, model, X).mismatches == 0
    assert misfits(program, placement.target) == []


@pytest.mark.parametrize("alpha", ["auto_po2", "learned_po2"])
def test_tensors_that_one_layer_reads_get_one_scale_where_biases_are_in_units_of_products(alpha):
    """Both heads read the middle tensor, so that all three get the coarsest scale; other targets leave them apart."""
    x = layers.Input((8, 8, 4), name="x")
    loud, middle, quiet = (
        layers.Conv2D(3, 3, name=name, kernel_initializer=keras.initializers.RandomNormal(stddev=size, seed=0))(x)
        for name, size in (("loud", 8.0), ("middle", 1.0), ("quiet", 0.1))
    )
    first, second = (layers.Conv2D(2, 1, name=name, bias_initializer="normal") for name in ("first", "second"))
    calls = [first(quiet), first(middle), second(middle), second(loud)]
    network = keras.Model(x, layers.Concatenate(name="all")(calls))
    scales = {}
    for name in ("litert", "cortex-m"):
        placement = Placement(target=target_of(name))
        folded = fold(network, placement)
        model = folded.quantize(folded.flat(8).with_alpha(alpha))
        calibrate(model, X)
        freeze_scales(model, placement)
        program = integer_program(model)
        assert compare(program, model, X).mismatches == 0
        assert misfits(program, placement.target) == []
        read = [program.inputs_of(op)[0].format.exponent for op in program.operations if op.name in ("first", "second")]
        scales[name] = set(read)
    assert len(scales["cortex-m"]) == 3 and scales["litert"] == {max(scales["cortex-m"])}
