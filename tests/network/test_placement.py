"""Where activation quantizers go: each rule of the study on networks small enough to see it."""

from __future__ import annotations

import keras
import pytest
from keras import layers
from networks import numbered

from po2quant.network import (
    Placement,
    Slot,
    flat_config,
    fold_batch_norm,
    network_layers,
    place_quantizers,
    quantize_model,
)

SIGNED, UNSIGNED = True, False


def image(channels: int = 3) -> keras.KerasTensor:
    return keras.Input((4, 4, channels), name="input")


def conv(name: str, filters: int = 3) -> keras.Layer:
    return layers.Conv2D(filters, 1, name=name)


def places(model: keras.Model, **placement: bool) -> list[tuple[str, bool]]:
    """Return layer and signedness of every slot, checked to be numbered in order and for every reader."""
    slots = place_quantizers(model, Placement(**placement))
    assert [slot.name for slot in slots] == numbered("activation", len(slots))
    assert [slot.consumer for slot in slots] == [None] * len(slots)
    return [(slot.layer, slot.signed) for slot in slots]


def chain(*stack: keras.Layer, channels: int = 3) -> keras.Model:
    return keras.Sequential([image(channels), *stack])


# Rule 1: on the model input.


def test_input_is_quantized():
    assert places(chain(conv("conv")))[0] == ("input", SIGNED)


def test_signed_input_is_the_callers_to_say():
    assert places(chain(conv("conv")), signed_input=False)[0] == ("input", UNSIGNED)


def test_every_input_is_quantized():
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    model = keras.Model([first, second], layers.Add(name="add")([first, second]))
    assert places(model) == [("first", SIGNED), ("second", SIGNED), ("add", SIGNED)]


# Rule 2: on the output of every Conv2D, DepthwiseConv2D and Dense, after its ReLU where one follows.


@pytest.mark.parametrize("layer", [layers.Conv2D(3, 1), layers.DepthwiseConv2D(1), layers.Dense(3)])
def test_linear_output_is_quantized_directly(layer):
    assert places(chain(layer)) == [("input", SIGNED), (layer.name, SIGNED)]


@pytest.mark.parametrize("layer", [layers.Conv2D(3, 1), layers.DepthwiseConv2D(1), layers.Dense(3)])
@pytest.mark.parametrize(
    "relu", [layers.ReLU, lambda name: layers.ReLU(6.0, name=name), lambda name: layers.Activation("relu", name=name)]
)
def test_relu_takes_the_quantizer_of_its_layer(layer, relu):
    model = keras.Sequential([image(), layer.from_config(layer.get_config()), relu(name="relu")])
    assert places(model) == [("input", SIGNED), ("relu", UNSIGNED)]


def test_batch_norm_and_relu_inside_the_layer_make_no_difference():
    model = chain(
        conv("conv"),
        layers.BatchNormalization(),
        layers.ReLU(name="relu"),
        layers.Dense(2, activation="relu", name="d"),
    )
    assert places(fold_batch_norm(model)) == [("input", SIGNED), ("relu", UNSIGNED), ("d_relu", UNSIGNED)]


def test_output_with_a_second_reader_is_quantized_before_its_relu():
    inputs = image()
    x = conv("conv")(inputs)
    model = keras.Model(inputs, layers.Add(name="add")([layers.ReLU(name="relu")(x), x]))
    assert places(model) == [("input", SIGNED), ("conv", SIGNED), ("relu", UNSIGNED), ("add", SIGNED)]


def test_output_of_the_model_is_quantized_before_its_relu():
    """A model output is a reader, too: rule 2 leaves no convolution in float."""
    inputs = image()
    x = conv("conv")(inputs)
    model = keras.Model(inputs, [x, layers.ReLU(name="relu")(x)])
    assert places(model) == [("input", SIGNED), ("conv", SIGNED), ("relu", UNSIGNED)]


# Rule 3: before and after swish and sigmoid.


@pytest.mark.parametrize(("activation", "signed"), [("swish", SIGNED), ("silu", SIGNED), ("sigmoid", UNSIGNED)])
def test_smooth_activation_is_quantized_before_and_after(activation, signed):
    model = chain(conv("conv"), layers.Activation(activation, name="smooth"))
    assert places(model) == [("input", SIGNED), ("conv", SIGNED), ("smooth", signed)]


def test_smooth_activation_after_an_add():
    inputs = image()
    x = layers.Add(name="add")([conv("conv")(inputs), inputs])
    model = keras.Model(inputs, layers.Activation("swish", name="swish")(x))
    assert places(model) == [("input", SIGNED), ("conv", SIGNED), ("add", SIGNED), ("swish", SIGNED)]


# Rule 4: after every pooling, Multiply and Concatenate, and after every Add.


@pytest.mark.parametrize(
    "pooling",
    [
        layers.AveragePooling2D(2, name="pool"),
        layers.MaxPooling2D(2, name="pool"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.GlobalMaxPooling2D(keepdims=True, name="pool"),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("signed", [SIGNED, UNSIGNED])
def test_pooling_is_quantized_and_keeps_the_sign(pooling, signed):
    x = inputs = image()
    x = conv("conv")(x)
    if not signed:
        x = layers.ReLU(name="relu")(x)
    x = pooling.from_config(pooling.get_config())(x)
    assert places(keras.Model(inputs, x)) == [
        ("input", SIGNED),
        ("conv" if signed else "relu", signed),
        ("pool", signed),
    ]


def test_pooling_of_an_unsigned_input():
    assert places(chain(layers.MaxPooling2D(name="pool")), signed_input=False) == [
        ("input", UNSIGNED),
        ("pool", UNSIGNED),
    ]


JOINS = {"Add": layers.Add, "Multiply": layers.Multiply, "Concatenate": layers.Concatenate}


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("first", [SIGNED, UNSIGNED])
@pytest.mark.parametrize("second", [SIGNED, UNSIGNED])
def test_join_is_unsigned_only_where_all_operands_are(join, first, second):
    inputs = image()

    def operand(name: str, signed: bool) -> keras.KerasTensor:
        x = conv(name)(inputs)
        return x if signed else layers.ReLU(name=f"{name}_relu")(x)

    x = JOINS[join](name="join")([operand("a", first), operand("b", second)])
    assert places(keras.Model(inputs, x)) == [
        ("input", SIGNED),
        ("a" if first else "a_relu", first),
        ("b" if second else "b_relu", second),
        ("join", first or second),
    ]


def test_add_gives_its_quantizer_to_the_relu_after_it():
    inputs = image()
    x = layers.Add(name="add")([conv("conv")(inputs), inputs])
    model = keras.Model(inputs, layers.ReLU(name="relu")(x))
    assert places(model) == [("input", SIGNED), ("conv", SIGNED), ("relu", UNSIGNED)]


def test_add_with_a_second_reader_is_quantized_before_its_relu():
    inputs = image()
    x = layers.Add(name="add")([conv("conv")(inputs), inputs])
    model = keras.Model(inputs, [layers.ReLU(name="relu")(x), conv("head")(x)])
    assert places(model) == [
        ("input", SIGNED),
        ("conv", SIGNED),
        ("add", SIGNED),
        ("relu", UNSIGNED),
        ("head", SIGNED),
    ]


def test_relu_after_pooling_has_a_quantizer_of_its_own():
    model = chain(conv("conv"), layers.AveragePooling2D(2, name="pool"), layers.ReLU(name="relu"))
    assert places(model) == [("input", SIGNED), ("conv", SIGNED), ("pool", SIGNED), ("relu", UNSIGNED)]


def test_squeeze_and_excitation():
    inputs = image(8)
    x = layers.Activation("swish", name="swish")(layers.DepthwiseConv2D(3, name="depthwise")(inputs))
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Activation("swish", name="reduce_swish")(conv("reduce", 2)(gate))
    gate = layers.Activation("sigmoid", name="expand_sigmoid")(conv("expand", 8)(gate))
    x = conv("project", 4)(layers.Multiply(name="excite")([x, gate]))
    assert places(keras.Model(inputs, x), signed_input=False) == [
        ("input", UNSIGNED),
        ("depthwise", SIGNED),
        ("swish", SIGNED),
        ("squeeze", SIGNED),
        ("reduce", SIGNED),
        ("reduce_swish", SIGNED),
        ("expand", SIGNED),
        ("expand_sigmoid", UNSIGNED),
        ("excite", SIGNED),
        ("project", SIGNED),
    ]


# Rule 5: both operands of an Add are quantized; requantize_shortcuts quantizes the shortcut once more.


def residual(with_relu: bool = False) -> keras.Model:
    inputs = image()
    shortcut = conv("stem")(inputs)
    if with_relu:
        shortcut = layers.ReLU(name="stem_relu")(shortcut)
    x = layers.Add(name="add")([conv("main")(shortcut), shortcut])
    return keras.Model(inputs, x)


def test_shortcut_reuses_the_quantizer_of_its_source():
    assert places(residual()) == [("input", SIGNED), ("stem", SIGNED), ("main", SIGNED), ("add", SIGNED)]


@pytest.mark.parametrize("with_relu", [False, True])
def test_requantized_shortcut_has_a_quantizer_that_only_the_add_reads(with_relu):
    source, signed = ("stem_relu", UNSIGNED) if with_relu else ("stem", SIGNED)
    assert place_quantizers(residual(with_relu), Placement(requantize_shortcuts=True)) == [
        Slot("activation", "input", None, SIGNED, (4, 4, 3)),
        Slot("activation_1", source, None, signed, (4, 4, 3)),
        Slot("activation_2", "main", None, SIGNED, (4, 4, 3)),
        Slot("activation_3", source, "add", signed, (4, 4, 3)),
        Slot("activation_4", "add", None, SIGNED, (4, 4, 3)),
    ]


def test_requantized_shortcuts_of_two_blocks_in_a_row():
    inputs = image()
    x = conv("stem")(inputs)
    for block in ("one", "two"):
        x = layers.Add(name=f"add_{block}")([conv(f"main_{block}")(x), x])
    slots = place_quantizers(keras.Model(inputs, x), Placement(requantize_shortcuts=True))
    assert [(slot.layer, slot.consumer) for slot in slots] == [
        ("input", None),
        ("stem", None),
        ("main_one", None),
        ("stem", "add_one"),
        ("add_one", None),
        ("main_two", None),
        ("add_one", "add_two"),
        ("add_two", None),
    ]


def test_projected_shortcut_is_not_requantized():
    """A convolution on the shortcut has a quantizer that nobody shares."""
    inputs = image()
    x = layers.Add(name="add")([conv("main")(inputs), conv("shortcut")(inputs)])
    expected = [("input", SIGNED), ("main", SIGNED), ("shortcut", SIGNED), ("add", SIGNED)]
    assert places(keras.Model(inputs, x), requantize_shortcuts=True) == expected


def test_order_follows_the_operands_of_the_add():
    def order(flip: bool) -> list[str]:
        inputs = image()
        main = layers.ReLU(name="main_relu")(conv("main")(inputs))
        operands = [conv("main_2")(main), conv("shortcut")(inputs)]
        model = keras.Model(inputs, layers.Add(name="add")(operands[::-1] if flip else operands))
        return [layer for layer, _ in places(model)]

    assert order(flip=False) == ["input", "main_relu", "main_2", "shortcut", "add"]
    assert order(flip=True) == ["input", "shortcut", "main_relu", "main_2", "add"]


def test_add_of_a_tensor_to_itself_is_quantized_once():
    inputs = image()
    x = conv("conv")(inputs)
    slots = place_quantizers(keras.Model(inputs, layers.Add(name="add")([x, x])), Placement(requantize_shortcuts=True))
    tensors = [(slot.layer, slot.consumer) for slot in slots]
    assert len(set(tensors)) == len(tensors)


# Rule 6: the last Dense or Conv2D is quantized, softmax never.


@pytest.mark.parametrize("softmax", [layers.Softmax(name="softmax"), layers.Activation("softmax", name="softmax")])
def test_softmax_is_not_quantized(softmax):
    model = chain(layers.Flatten(), layers.Dense(2, name="dense"), softmax)
    assert places(model) == [("input", SIGNED), ("dense", SIGNED)]


def test_softmax_inside_the_last_layer_is_not_quantized():
    model = fold_batch_norm(chain(layers.Flatten(), layers.Dense(2, activation="softmax", name="dense")))
    assert places(model) == [("input", SIGNED), ("dense", SIGNED)]


def test_what_softmax_feeds_is_unsigned():
    inputs = keras.Input((4,), name="input")
    attention = layers.Softmax(name="softmax")(layers.Dense(3, name="query")(inputs))
    value = layers.ReLU(name="value_relu")(layers.Dense(3, name="value")(inputs))
    model = keras.Model(inputs, layers.Multiply(name="multiply")([attention, value]))
    assert places(model) == [("input", SIGNED), ("query", SIGNED), ("value_relu", UNSIGNED), ("multiply", UNSIGNED)]


# Layers that move values need no quantizer.


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5),
        layers.Flatten(),
        layers.Reshape((48,)),
        layers.ZeroPadding2D(1),
        layers.Identity(),
        layers.Activation("linear"),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("signed_input", [SIGNED, UNSIGNED])
def test_layers_that_move_values_have_no_quantizer_and_keep_the_sign(layer, signed_input):
    inputs = image()
    x = layer.from_config(layer.get_config())(inputs)
    x = layers.Concatenate(name="join")([x, x])
    expected = [("input", signed_input), ("join", signed_input)]
    assert places(keras.Model(inputs, x), signed_input=signed_input) == expected


def test_dropout_between_pooling_and_dense():
    model = chain(
        conv("conv"),
        layers.ReLU(name="relu"),
        layers.AveragePooling2D(4, name="pool"),
        layers.Dropout(0.4),
        layers.Flatten(),
        layers.Dense(2, name="dense"),
        layers.Softmax(),
    )
    assert places(model) == [("input", SIGNED), ("relu", UNSIGNED), ("pool", UNSIGNED), ("dense", SIGNED)]


def test_dropout_between_a_layer_and_its_smooth_activation():
    model = chain(conv("conv"), layers.Dropout(0.4), layers.Activation("sigmoid", name="sigmoid"))
    assert places(model) == [("input", SIGNED), ("conv", SIGNED), ("sigmoid", UNSIGNED)]


def test_shapes_have_no_batch():
    model = chain(layers.Conv2D(5, 3, name="conv"), layers.Flatten(), layers.Dense(2, name="dense"))
    assert [slot.shape for slot in place_quantizers(model)] == [(4, 4, 3), (2, 2, 5), (2,)]


def test_batch_norm_must_be_folded_first():
    with pytest.raises(ValueError, match="'norm' must be folded first: use fold_batch_norm"):
        place_quantizers(chain(conv("conv"), layers.BatchNormalization(name="norm")))


def test_unsupported_layer_is_named():
    with pytest.raises(ValueError, match=r"'odd'.*cannot be quantized\. Replace it"):
        place_quantizers(chain(layers.UpSampling2D(name="odd")))


# What the accounting sees.


def test_network_layers_by_hand():
    model = chain(
        layers.Conv2D(4, 3, name="conv"),
        layers.ReLU(name="relu"),
        layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise"),
        layers.Flatten(),
        layers.Dense(5, name="dense"),
        layers.Activation("softmax", name="softmax"),
    )
    rows = [
        (layer.name, layer.class_name, layer.kind, layer.shape, layer.kernel_parameters, layer.bias_parameters)
        for layer in network_layers(model)
    ]
    assert rows == [
        ("input", "InputLayer", "input", (4, 4, 3), 0, 0),
        ("activation", "Activation", "activation", (4, 4, 3), 0, 0),
        ("conv", "Conv2D", "weights", (2, 2, 4), 3 * 3 * 3 * 4, 4),
        ("activation_1", "Activation", "activation", (2, 2, 4), 0, 0),
        ("depthwise", "DepthwiseConv2D", "weights", (1, 1, 8), 2 * 2 * 4 * 2, 8),
        ("activation_2", "Activation", "activation", (1, 1, 8), 0, 0),
        ("dense", "Dense", "weights", (5,), 8 * 5, 5),
        ("activation_3", "Activation", "activation", (5,), 0, 0),
        ("softmax", "Activation", "softmax", (5,), 0, 0),
    ]


def test_network_layers_count_multiplications_per_output():
    inputs = keras.Input((9, 8, 4))
    x = layers.Conv2D(6, 3, strides=2, padding="same", groups=2, name="grouped")(inputs)  # 5x4 outputs
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)  # 3x2
    x = layers.Dense(7, name="dense")(x)
    macs = {layer.name: layer.macs for layer in network_layers(keras.Model(inputs, x)) if layer.kind == "weights"}
    assert macs == {
        "grouped": (5 * 4 * 6) * (3 * 3 * 2),  # each output reads 2 of the 4 channels
        "depthwise": (3 * 2 * 12) * (3 * 3),
        "dense": (3 * 2 * 7) * 12,
    }


def test_network_layers_say_what_qkeras_prints():
    model = chain(
        layers.Conv2D(4, 1, name="conv"), layers.DepthwiseConv2D(1, name="depthwise"), layers.Dense(5, name="dense")
    )
    units = {layer.name: layer.units for layer in network_layers(model) if layer.kind == "weights"}
    assert units == {"conv": 4, "depthwise": None, "dense": 5}


def test_softmax_of_class_softmax_costs_nothing():
    model = chain(layers.Flatten(), layers.Dense(2, name="dense"), layers.Softmax(name="softmax"))
    assert [layer.name for layer in network_layers(model)] == ["input", "activation", "dense", "activation_1"]


def test_shared_weights_are_counted_once():
    inputs = keras.Input((4,))
    dense, relu = layers.Dense(4, name="shared"), layers.ReLU()
    rows = network_layers(keras.Model(inputs, dense(relu(dense(inputs)))))
    assert sum(layer.kernel_parameters + layer.bias_parameters for layer in rows) == 4 * 4 + 4
    assert sum(layer.macs for layer in rows) == 2 * 4 * 4


def test_a_relu_with_another_limit_than_6_is_a_table_between_two_quantizers():
    model = chain(conv("conv"), keras.layers.ReLU(max_value=2.0, name="low"))
    assert places(model) == [("input", SIGNED), ("conv", SIGNED), ("low", UNSIGNED)]


@pytest.mark.parametrize("layer", [layers.ReLU, layers.LeakyReLU], ids=lambda layer: layer.__name__)
def test_what_keeps_the_sign_is_unsigned_after_what_is_not_negative(layer):
    model = chain(conv("conv"), layers.ReLU(name="relu"), layer(negative_slope=0.1, name="function"))
    assert places(model)[-1] == ("function", UNSIGNED)


@pytest.mark.parametrize("layer", [conv("activation_1"), keras.layers.Dense(2, name="activation")])
def test_quantizers_leave_the_names_of_layers_to_them(layer):
    names = [slot.name for slot in place_quantizers(chain(layer))]
    assert names == [name for name in ("activation", "activation_1", "activation_2") if name != layer.name]


def test_a_network_whose_layers_are_called_like_quantizers_is_quantized():
    model = chain(
        keras.layers.Dense(3, name="activation"),
        keras.layers.Dense(3, activation="relu", name="activation_function"),
        keras.layers.Activation("relu", name="activation_1"),
        keras.layers.Dense(2, name="activation_2"),
    )
    quantized = quantize_model(model, flat_config(model, 8))
    names = [layer.name for layer in quantized.layers]
    assert len(set(names)) == len(names)
    assert {"activation", "activation_function", "activation_2"} <= set(names)


def test_a_layer_in_half_precision_is_refused():
    half = keras.layers.MaxPooling2D(dtype="mixed_float16", name="half")
    with pytest.raises(ValueError, match=r"'half' must compute in float32 or float64. Received: float16"):
        place_quantizers(chain(half))


def test_the_accounting_needs_a_fixed_image_size():
    x = keras.Input((None, None, 3), name="image")
    with pytest.raises(ValueError, match=r"'image' must have an output of fixed shape. Received: \(None, None, 3\)"):
        network_layers(keras.Model(x, conv("conv")(x)))


def test_a_nest_in_a_dictionary_of_inputs_or_outputs_is_refused():
    x = keras.Input((4,), name="x")
    y = keras.layers.Dense(2)(x)
    assert place_quantizers(keras.Model({"x": x}, {"y": y}))
    with pytest.raises(ValueError, match=r"outputs of model 'named' must be .* one dictionary, not a nest"):
        place_quantizers(keras.Model({"x": x}, {"y": [y, x]}, name="named"))
