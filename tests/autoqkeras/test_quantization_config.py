"""AutoQKeras' dictionaries: quantizers as text, limits by class and by name."""

import json

import keras
import pytest

from po2quant.autoqkeras.quantization_config import (
    DEFAULT_QUANTIZATION_CONFIG,
    QuantizationConfig,
    find_sites,
    search_space,
)
from po2quant.network import Placement, fold, fold_batch_norm, network_layers

CONFIG = QuantizationConfig.from_dict(None)
LEFT_ALONE = {"kernel": 9, "bias": 19, "activation": 10}


@pytest.fixture(scope="module")
def model():
    layers = [
        keras.layers.Conv2D(2, 1, name="conv_0"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Activation("relu", name="act_0"),
        keras.layers.Conv2D(2, 1, activation="relu", name="conv_1"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(3, name="head"),
        keras.layers.Softmax(name="softmax"),
    ]
    return keras.Sequential([keras.Input((4, 4, 1), name="x"), *layers])


@pytest.fixture(scope="module")
def choices(model):
    layers = network_layers(fold_batch_norm(model))

    def by_slot(limit=None, config=CONFIG, **arguments):
        return search_space(model, config, limit, left_alone=LEFT_ALONE, **arguments).choices(layers)

    return by_slot


def changed(**sections):
    return {**DEFAULT_QUANTIZATION_CONFIG, **sections}


def test_the_published_file_is_read_unchanged(shared):
    published = json.loads(shared("published_configs/autoqkeras_run_config.json").read_text())
    config = QuantizationConfig.from_dict(published["quantization_config"])
    assert config.alpha == "auto"
    assert [config.widths(part) for part in ("kernel", "bias", "activation")] == [(4, 8, 16), (16, 31), (4, 8, 16)]


def test_the_default_is_the_published_space_with_power_of_two_scales():
    assert CONFIG.alpha == "auto_po2"
    assert [CONFIG.widths(part) for part in ("kernel", "bias", "activation")] == [(4, 8, 16), (16, 31), (4, 8, 16)]


@pytest.mark.parametrize(
    "text",
    ["binary", "stochastic_binary", "quantized_po2(4,1)", "quantized_relu_po2(4,4)", "bernoulli", "quantized_bits(1)"],
)
def test_quantizers_that_no_program_holds_are_left_out_or_refused_where_nothing_is_left(text):
    with pytest.raises(ValueError, match=r"section 'kernel' must have a quantizer that a program holds\. Received: "):
        QuantizationConfig.from_dict(changed(kernel={text: 4}))
    config = QuantizationConfig.from_dict(changed(kernel={text: 1, "quantized_bits(4,0,1)": 4}))
    assert config.widths("kernel") == (4,) and list(config.left_out) == [text]
    assert config.widths("kernel", [text, "quantized_bits(4, 0, 1)"]) == (4,)


@pytest.mark.parametrize("text", ["tanh(4)", "__import__('os').system('true')"])
def test_other_quantizers_are_refused(text):
    with pytest.raises(ValueError, match=r"quantized_bits.*Received:"):
        QuantizationConfig.from_dict(changed(kernel={text: 4}))


@pytest.mark.parametrize("text", ["ternary", "ternary(alpha='auto')", "stochastic_ternary()"])
def test_ternary_is_two_bits(text):
    assert QuantizationConfig.from_dict(changed(kernel={text: 2})).widths("kernel") == (2,)


@pytest.mark.parametrize("alpha", ["", ",alpha=1.0", ",alpha=None"])
def test_an_alpha_that_is_no_text_goes_with_any_and_means_powers_of_two(alpha):
    plain = {"quantized_bits(4,0,1" + alpha + ")": 4}
    assert QuantizationConfig.from_dict(dict.fromkeys(("kernel", "bias", "activation"), plain)).alpha == "auto_po2"
    of_others = QuantizationConfig.from_dict(changed(kernel=plain))
    assert of_others.alpha == CONFIG.alpha and of_others.widths("kernel") == (4,)


@pytest.mark.parametrize(
    ("text", "bits", "message"),
    [
        ("quantized_bits(4,0,1,alpha='auto')", 4, "the same in every quantizer"),
        ("quantized_bits(4,0,1,alpha='auto_po2')", 8, "must be listed with its 4 bits. Received: 8"),
        ("quantized_bits(99,0,1,alpha='auto_po2')", 99, "bits=99"),
        ("quantized_bits(4,0,1,alpha='auto_po2',use_stochastic_rounding=True)", 4, "no arguments but bits"),
        ("quantized_bits(4,0,1,alpha='auto_po2',colour=1)", 4, "must be among .* Received: 'colour'"),
        ("ternary", 4, "must be listed with its 2 bits. Received: 4"),
    ],
)
def test_quantizers_that_the_search_would_misread_are_refused(text, bits, message):
    with pytest.raises(ValueError, match=message):
        QuantizationConfig.from_dict(changed(kernel={text: bits}))


def test_a_zero_point_is_refused():
    sections = {
        "kernel": {"quantized_bits(4,4,1,1,alpha='auto')": 4},
        "bias": {"quantized_bits(16,16,1,1,alpha='auto')": 16},
        "activation": {"quantized_bits_featuremap(4,4,0,1,alpha='auto',affine=True)": 4},
    }
    with pytest.raises(ValueError, match=r"must have no arguments but .*affine=True"):
        QuantizationConfig.from_dict(sections)


@pytest.mark.parametrize("config", [{}, {"kernel": {}}, changed(bias={}), changed(colour={}), ["kernel"]])
def test_sections_must_be_complete_and_known(config):
    with pytest.raises(ValueError, match=r"quantization_config must .*Received"):
        QuantizationConfig.from_dict(config)


def test_without_limits_every_slot_has_every_width(choices):
    found = choices()
    assert len(found) == 3 * 2 + 5
    assert set(found.values()) == {(4, 8, 16), (16, 31)}


def test_limits_per_class_are_kernel_bias_activation(choices):
    limit = {"Conv2D": [4, 16, 8], "Dense": [8, 31, 4], "Activation": [16], "BatchNormalization": []}
    assert choices(limit) == {
        "activation.activation": (4, 8, 16),
        "conv_0.kernel": (4,),
        "conv_0.bias": (16,),
        "activation_1.activation": (4, 8, 16),
        "conv_1.kernel": (4,),
        "conv_1.bias": (16,),
        "activation_2.activation": (4, 8),
        "activation_3.activation": (4, 8, 16),
        "head.kernel": (4, 8),
        "head.bias": (16, 31),
        "activation_4.activation": (4,),
    }


def test_missing_limits_take_the_default(choices):
    found = choices({"default": [4, 16, 8], "Dense": [], "Conv2D": [16]})
    assert (found["head.kernel"], found["head.bias"], found["activation_4.activation"]) == ((4,), (16,), (4, 8))
    assert (found["conv_1.kernel"], found["conv_1.bias"], found["activation_2.activation"]) == (
        (4, 8, 16),
        (16,),
        (4, 8),
    )


def test_what_no_limit_names_keeps_the_widths_of_the_reference(choices):
    found = choices({"Dense": [16, 31, 16]})
    assert (found["head.kernel"], found["conv_0.kernel"], found["conv_0.bias"]) == ((4, 8, 16), (9,), (19,))
    assert found["activation_1.activation"] == (10,)


def test_layer_indexes_leave_the_other_layers_alone(choices):
    found = choices(layer_indexes=range(1, 4))
    assert {slot for slot, widths in found.items() if len(widths) > 1} == {
        "activation_1.activation",
        "conv_1.kernel",
        "conv_1.bias",
        "activation_2.activation",
    }


def test_the_layers_of_a_pattern_share_their_choices(model):
    limit = {"^conv_[01]$": [8, 31, 16], "act_": [8], "Dense": [16, 31, 16], "Activation": [16]}
    space = search_space(model, CONFIG, limit)
    names = [hp.name for hp in space.hyperparameters(network_layers(fold_batch_norm(model))).space]
    assert "conv_0.kernel/conv_1.kernel" in names
    assert "conv_0.bias/conv_1.bias" in names
    assert "head.kernel" in names
    assert space.slots["conv_0.kernel"] == (4, 8)
    assert space.slots["activation_1.activation"] == (4, 8)
    assert space.slots["activation_3.activation"] == (4, 8, 16)


def test_the_first_pattern_that_matches_counts_before_the_class(choices):
    found = choices({"Conv2D": [16, 31, 16], "conv_0": [4, 16, 4], "conv": [8, 16, 8]})
    assert (found["conv_0.kernel"], found["conv_1.kernel"]) == ((4,), (4, 8))


def test_a_limit_may_list_quantizers_however_they_are_written(choices):
    listed = ["quantized_bits(16, 16, 1, 1, alpha = 'auto_po2')", 'quantized_bits(4,4,1,1,alpha="auto_po2")']
    assert choices({"Dense": [listed, 16, 8]})["head.kernel"] == (4, 16)


def test_tensors_without_an_activation_function_have_the_linear_section(choices):
    linear = {"quantized_bits(6,6,1,1,alpha='auto_po2')": 6}
    relu = {"quantized_relu(3,1)": 3, "quantized_relu(5,2)": 5}
    found = choices(config=QuantizationConfig.from_dict(changed(linear=linear, activation=relu)))
    assert {slot: widths for slot, widths in found.items() if slot.startswith("activation")} == {
        "activation.activation": (6,),
        "activation_1.activation": (3, 5),
        "activation_2.activation": (3, 5),
        "activation_3.activation": (6,),
        "activation_4.activation": (6,),
    }


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"Dense": [2, 16, 8]}, r"must leave a width of section 'kernel': \[4, 8, 16\]\. Received: 2"),
        ({"Dense": 8}, r"limit of 'Dense' must be a list"),
        ({"Dense": ["8", 8, 8]}, r"limit of 'Dense' must be a list"),
        ({"Dense": [[], 16, 8]}, "at least one quantizer"),
        ({"Dense": [["quantized_bits(5,5,1,1,alpha='auto_po2')"], 16, 8]}, r"Received: .quantized_bits\(5"),
        ({"dense": [8, 16, 8]}, "match a layer of x, conv_0, norm, .*Received: 'dense'"),
        ({"conv[": [8, 16, 8]}, "must be a regular expression"),
        ({"head": []}, "must have a bound for layer 'head'"),
        ({"default": [8, 8], "Dense": [8]}, r"limit of 'default' must be"),
        ({"BatchNormalization": []}, "must leave a layer to search"),
        ([8, 16, 8], "limit must be a dictionary"),
    ],
)
def test_a_bad_limit_is_refused(choices, limit, message):
    with pytest.raises(ValueError, match=message):
        choices(limit)


@pytest.mark.parametrize("indexes", [[7], [-1], ["head"]])
def test_layer_indexes_must_exist(choices, indexes):
    with pytest.raises(ValueError, match=r"layer_indexes must be in \[0, 6\]"):
        choices(layer_indexes=indexes)


def test_the_parts_of_a_recurrent_layer_obey_its_limit():
    """QKeras' four bounds: of its two kernels, the first counts."""
    x = keras.Input((5, 3))
    y = keras.layers.GRU(4, return_sequences=True, name="gru")(x)
    y = keras.layers.Bidirectional(keras.layers.LSTM(2), name="both")(y)
    model = keras.Model(x, keras.layers.Dense(2, name="dense")(y))
    limit = {"GRU": [4, 8, 16, 8], "Bidirectional": [8, 16, 4], "Dense": [16, 16, 16]}
    choices = search_space(model, CONFIG, limit).choices(fold(model).layers)
    of_sections = {site.slot: (site.layer, site.section) for site in find_sites(model, Placement())}
    widest = {of_sections[slot]: max(widths) for slot, widths in choices.items()}
    assert (widest["gru", "kernel"], widest["gru", "bias"], widest["gru", "activation"]) == (4, 16, 8)
    assert (widest["both", "kernel"], widest["both", "bias"]) == (8, 16)
    within = {max(choices[slot]) for slot, (layer, section) in of_sections.items() if section == "activation"}
    assert within >= {4, 8, 16}
