"""The table of core kinds: what a row says is what Keras does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from networks import noise, randomize

from po2quant.deploy.from_keras import OPERATIONS
from po2quant.layers import Elementwise, Rearrange, Recurrent
from po2quant.network import fold_batch_norm
from po2quant.network.kinds import (
    ALIASES,
    FUNCTIONS,
    KINDS,
    LAYER_FUNCTIONS,
    Form,
    Kind,
    Role,
    activation_of,
    function_of,
    is_weighted,
    kernel_of,
)

STEP = [keras.Input((6, 3)), keras.Input((6, 3))]
ARGUMENTS = {
    Recurrent: (keras.Model(STEP, layers.Add()(STEP)), True),
    layers.Conv2D: (2, 3),
    layers.DepthwiseConv2D: (3, 1, "valid", 2),
    layers.Dense: (2,),
    layers.Activation: ("relu",),
    layers.AveragePooling2D: (2,),
    layers.Reshape: ((-1, 3),),
    layers.Dropout: (0.5,),
    layers.SpatialDropout2D: (0.5,),
    layers.Rescaling: (0.5,),
    Elementwise: ("square",),
    Rearrange: ((6, 6, 3), (3, 18, 1), 0, (6, 6, 3)),
}
WEIGHTED = [kind for kind in KINDS if kind.kernel is not None]
CORE = [kind for kind in KINDS if kind.role not in (Role.INPUT, Role.NORMALIZATION)]


def name_of(kind: Kind) -> str:
    return kind.layer.__name__


def one_layer(kind: Kind) -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    layer = kind.layer(*ARGUMENTS.get(kind.layer, ()), name="layer")
    return randomize(keras.Model(inputs, layer([inputs, inputs] if kind.role in (Role.SUM, Role.JOIN) else inputs)))


def test_every_integer_operation_is_in_the_table_unless_an_activation_or_a_second_quantizer_makes_it():
    made_otherwise = {"LookUpTable", "Requantize"}
    assert {kind.operation for kind in KINDS} - {""} == set(OPERATIONS) - made_otherwise


def test_kinds_without_an_operation_are_inputs_functions_or_gone():
    without = {kind.role for kind in KINDS if not kind.operation}
    assert without == {Role.INPUT, Role.FUNCTION, Role.NORMALIZATION, Role.TRANSPARENT}


def test_weighted_kinds_and_no_others_have_a_kernel():
    assert [kind for kind in KINDS if kind.role is Role.WEIGHTED] == WEIGHTED


@pytest.mark.parametrize("kind", [kind for kind in CORE if kind.keeps_sign], ids=name_of)
def test_what_keeps_the_sign_makes_nothing_negative_of_inputs_that_are_not(kind):
    model = one_layer(kind)
    assert np.min(model(np.abs(noise(model)))) >= 0.0


@pytest.mark.parametrize("kind", WEIGHTED, ids=name_of)
def test_weights_make_negative_values_of_inputs_that_are_not(kind):
    model = one_layer(kind)
    assert not kind.keeps_sign
    assert np.min(model(np.abs(noise(model)))) < 0.0


FUNCTION_LAYERS = {name: layers.Activation(name) for name in FUNCTIONS} | {
    "clipped_relu": layers.ReLU(1.0, threshold=0.5),
    "sloped_relu": layers.ReLU(negative_slope=0.1),
    "scaling": layers.Rescaling(0.5, 0.1),
    "rescaling": layers.Rescaling(-0.5, 0.1),
    "clip": Elementwise("clip", {"low": -1.0, "high": 2.0}),
    "clip_beside_zero": Elementwise("clip", {"low": -2.0, "high": -1.0}),
    "absolute": Elementwise("absolute"),
    "square": Elementwise("square"),
    "approximate_gelu": Elementwise("approximate_gelu"),
}


def test_every_function_has_a_layer_that_computes_it():
    assert {name: activation_of(layer) for name, layer in FUNCTION_LAYERS.items()} == {
        name: name for name in FUNCTIONS | LAYER_FUNCTIONS
    }


@pytest.mark.parametrize("name", FUNCTION_LAYERS)
def test_a_function_is_negative_somewhere_unless_its_row_says_otherwise(name):
    values = FUNCTION_LAYERS[name](np.linspace(-9.0, 9.0, 1001, dtype=np.float32)[None])
    assert (np.min(values) >= 0.0) == function_of(FUNCTION_LAYERS[name]).is_nonnegative


KEEPING = [name for name, layer in FUNCTION_LAYERS.items() if function_of(layer).keeps_sign]


@pytest.mark.parametrize("name", KEEPING)
def test_a_function_that_keeps_the_sign_makes_nothing_negative_of_inputs_that_are_not(name):
    assert np.min(FUNCTION_LAYERS[name](np.linspace(0.0, 9.0, 1001, dtype=np.float32)[None])) >= 0.0


def test_functions_that_do_nothing_do_nothing():
    x = np.linspace(-9.0, 9.0, 1001, dtype=np.float32)
    names = [name for name, function in FUNCTIONS.items() if function.form is Form.NOTHING]
    assert names == ["linear"]
    np.testing.assert_array_equal(layers.Activation("linear")(x), x)


@pytest.mark.parametrize("alias", ALIASES)
def test_other_names_of_functions_mean_the_same(alias):
    assert activation_of(layers.Activation(alias)) == activation_of(layers.Activation(ALIASES[alias]))


@pytest.mark.parametrize("kind", WEIGHTED, ids=name_of)
def test_channel_axes_count_one_bias_each(kind):
    layer = one_layer(kind).get_layer("layer")
    shape = tuple(kernel_of(layer).shape)
    assert kind.kernel.channel_axes == tuple(range(len(shape)))[kind.kernel.channel_axes[0] :]
    assert np.prod([shape[axis] for axis in kind.kernel.channel_axes]) == layer.bias.shape[0]


@pytest.mark.parametrize("kind", WEIGHTED, ids=name_of)
def test_product_and_bias_are_what_the_layer_computes(kind):
    model = one_layer(kind)
    layer, x = model.get_layer("layer"), noise(model)
    product = kind.kernel.product(layer, keras.ops.convert_to_tensor(x), kernel_of(layer).value)
    np.testing.assert_array_equal(product + layer.bias, layer(x))


@pytest.mark.parametrize("kind", WEIGHTED, ids=name_of)
def test_the_quantized_class_is_the_same_kind(kind):
    arguments = one_layer(kind).get_layer("layer").get_config()
    quantized = kind.quantized(**{name: arguments[name] for name in kind.kernel.arguments})
    assert is_weighted(quantized) and not is_weighted(layers.ReLU())


@pytest.mark.parametrize("kind", CORE, ids=name_of)
def test_lowering_leaves_core_kinds_alone(kind):
    assert type(fold_batch_norm(one_layer(kind)).get_layer("layer")) is kind.layer
