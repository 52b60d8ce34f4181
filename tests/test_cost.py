"""The bit accounting against sums by hand, and the statistics against those that the study printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import numbered

from po2quant.bit_config import BitConfig, LayerBits
from po2quant.cost import (
    SUMMARY_COLUMNS,
    AverageBits,
    ForgivingFactor,
    LayerShape,
    Size,
    average_bits,
    check_covers,
    layer_size,
    network_size,
    reference_config,
    stats_block,
    summary_rows,
)

FORMULA_TOLERANCE = 1e-12
"""Relative; two orders of operations in float64."""

# The network of the study's figure 3.2, typed off: Dense layers (units, kernel bits, bias bits) and the
# widths of its activation quantizers, the first of them on the input.
AUTOENCODER_DENSE = (
    (128, 4, 16),
    (128, 4, 16),
    (128, 4, 16),
    (128, 4, 31),
    (8, 4, 31),
    (128, 16, 16),
    (128, 4, 31),
    (128, 8, 31),
    (128, 8, 16),
    (640, 4, 16),
)
AUTOENCODER_ACTIVATIONS = (4, 16, 8, 4, 4, 16, 8, 4, 8, 16, 16)


AUTOENCODER_LAYERS = numbered("dense", len(AUTOENCODER_DENSE))
AUTOENCODER_SLOTS = numbered("activation", len(AUTOENCODER_ACTIVATIONS))


def autoencoder(alpha: str = "auto") -> tuple[list[LayerShape], BitConfig]:
    shapes = [LayerShape("input", "InputLayer", "input", (640,))]
    shapes.append(LayerShape("activation", "Activation", "activation", (640,)))
    bits = {"activation": LayerBits(activation=AUTOENCODER_ACTIVATIONS[0])}
    inputs = 640
    for index, (units, kernel, bias) in enumerate(AUTOENCODER_DENSE):
        dense, activation = AUTOENCODER_LAYERS[index], AUTOENCODER_SLOTS[index + 1]
        weights = inputs * units
        shapes.append(LayerShape(dense, "Dense", "weights", (units,), weights, units, weights, units, "u"))
        shapes.append(LayerShape(activation, "Activation", "activation", (units,)))
        bits[dense] = LayerBits(kernel, bias)
        bits[activation] = LayerBits(activation=AUTOENCODER_ACTIVATIONS[index + 1])
        inputs = units
    return shapes, BitConfig(bits, "autoencoder").with_alpha(alpha)


# A network small enough to add up on paper.
LAYERS = [
    LayerShape("input", "InputLayer", "input", (6, 6, 1)),
    LayerShape("activation", "Activation", "activation", (6, 6, 1)),
    LayerShape("conv", "Conv2D", "weights", (4, 4, 2), 18, 2, 288, 2),
    LayerShape("activation_1", "Activation", "activation", (4, 4, 2)),
    LayerShape("depthwise", "DepthwiseConv2D", "weights", (2, 2, 2), 18, 2, 72, None),
    LayerShape("activation_2", "Activation", "activation", (2, 2, 2)),
    LayerShape("dense", "Dense", "weights", (3,), 24, 3, 24, 3, "u"),
    LayerShape("activation_3", "Activation", "activation", (3,)),
    LayerShape("softmax", "Activation", "softmax", (3,)),
]
CONFIG = BitConfig(
    {
        "activation": LayerBits(activation=16),
        "conv": LayerBits(8, 31),
        "activation_1": LayerBits(activation=4),
        "depthwise": LayerBits(16, 16),
        "activation_2": LayerBits(activation=8),
        "dense": LayerBits(4, 16),
        "activation_3": LayerBits(activation=8),
    }
)


def test_elements_is_the_product_of_the_shape():
    assert LayerShape("x", "Conv2D", "weights", (4, 5, 6)).elements == 120
    assert LayerShape("x", "Dense", "weights", ()).elements == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("input", Size(8 * 36, 0)),
        ("activation", Size(16 * 36, 0)),
        ("conv", Size(0, 8 * 18 + 31 * 2)),
        ("activation_1", Size(4 * 32, 0)),
        ("depthwise", Size(0, 16 * 18 + 16 * 2)),
        ("activation_2", Size(8 * 8, 0)),
        ("dense", Size(0, 4 * 24 + 16 * 3)),
        ("activation_3", Size(8 * 3, 0)),
        ("softmax", Size(8 * 3, 0)),
    ],
)
def test_layer_size_by_hand(name, expected):
    assert layer_size(next(layer for layer in LAYERS if layer.name == name), CONFIG) == expected


def test_network_size_by_hand():
    size = network_size(LAYERS, CONFIG)
    assert size.activation_bits == 288 + 576 + 128 + 64 + 24 + 24
    assert size.parameter_bits == 206 + 320 + 144
    assert size.total_bits == 1104 + 670


def test_reference_is_16_bit_kernels_and_activations_and_31_bit_biases():
    assert reference_config(LAYERS).layers == {
        "conv": LayerBits(16, 31),
        "depthwise": LayerBits(16, 31),
        "dense": LayerBits(16, 31),
        **{name: LayerBits(activation=16) for name in ("activation", "activation_1", "activation_2", "activation_3")},
    }
    size = network_size(LAYERS, reference_config(LAYERS))
    assert size == Size(8 * 36 + 16 * (36 + 32 + 8 + 3) + 8 * 3, 16 * (18 + 18 + 24) + 31 * (2 + 2 + 3))


def test_size_without_a_width_names_the_layer():
    with pytest.raises(ValueError, match="'dense'"):
        network_size(LAYERS, BitConfig({name: bits for name, bits in CONFIG.layers.items() if name != "dense"}))


def test_check_covers_wants_weights_and_activations_only():
    check_covers(CONFIG, LAYERS)
    with pytest.raises(ValueError, match="unknown layers input"):
        check_covers(BitConfig({**CONFIG.layers, "input": LayerBits(activation=8)}), LAYERS)
    with pytest.raises(ValueError, match="lacks conv"):
        check_covers(BitConfig({name: bits for name, bits in CONFIG.layers.items() if name != "conv"}), LAYERS)


def test_average_bits_by_hand():
    expected = AverageBits(
        per_layer=(8 + 16 + 4) / 3,
        per_parameter=(206 + 320 + 144) / (20 + 20 + 27),
        per_activation=(576 + 128 + 64 + 24) / (36 + 32 + 8 + 3),
    )
    assert average_bits(LAYERS, CONFIG) == expected


@given(st.integers(2, 32))
def test_average_of_one_width_is_that_width(bits):
    config = BitConfig.flat(["conv", "depthwise", "dense"], list(CONFIG.layers)[::2], bits, bias_bits=bits)
    assert average_bits(LAYERS, config) == AverageBits(bits, bits, bits)


def test_summary_rows_by_hand():
    assert SUMMARY_COLUMNS == ("layer", "class", "output", "bits", "parameters", "KiB", "MACs")
    assert summary_rows(LAYERS, CONFIG) == [
        ("input", "InputLayer", "6x6x1", "8", "", "0.04", ""),  # 288 bits of 8192
        ("activation", "Activation", "6x6x1", "16", "", "0.07", ""),  # 576
        ("conv", "Conv2D", "4x4x2", "8/31", "20", "0.03", "288"),  # 206
        ("activation_1", "Activation", "4x4x2", "4", "", "0.02", ""),  # 128
        ("depthwise", "DepthwiseConv2D", "2x2x2", "16/16", "20", "0.04", "72"),  # 320
        ("activation_2", "Activation", "2x2x2", "8", "", "0.01", ""),  # 64
        ("dense", "Dense", "3", "4/16", "27", "0.02", "24"),  # 144
        ("activation_3", "Activation", "3", "8", "", "0.00", ""),  # 24
        ("softmax", "Activation", "3", "8", "", "0.00", ""),  # 24
        ("total", "", "", "", "67", "0.22", "384"),  # 1774
    ]


def test_summary_total_of_the_autoencoder():
    total = summary_rows(*autoencoder())[-1]
    assert total == ("total", "", "", "", str(264192 + 1672), "153.75", "264192")  # 1259512 bits of 8192


@pytest.mark.parametrize(
    ("reference", "trial", "printed"),
    [
        (4321016, 1259512, "8.89%"),
        (1535460, 574820, "7.09%"),
        (58384302, 24252296, "6.34%"),
        (110699218, 61175468, "4.28%"),
    ],
    ids=["autoencoder", "ds_cnn", "mobilenet_v2", "efficientnet_b0"],
)
def test_forgiving_factor_is_the_printed_one(reference, trial, printed):
    assert f"{100 * ForgivingFactor().delta(trial, reference):.2f}%" == printed
    assert f"{100 * (ForgivingFactor()(trial, reference) - 1):.2f}%" == printed


sizes = st.integers(1, 10**12)
shares = st.floats(0.0, 1.0)


@given(sizes, sizes, shares, shares, st.floats(1.01, 100.0), st.floats(0.01, 100.0))
def test_forgiving_factor_follows_the_formula(trial, reference, delta_p, delta_n, rate, stress):
    """FF = 1 + delta * log_rate(stress * reference / trial), delta_p where smaller, delta_n where larger."""
    gain = (math.log(stress) + math.log(reference) - math.log(trial)) / math.log(rate)
    expected = 1 + (delta_p if trial < stress * reference else delta_n) * gain
    factor = ForgivingFactor(delta_p, delta_n, rate, stress)
    assert factor(trial, reference) == pytest.approx(expected, rel=FORMULA_TOLERANCE, abs=FORMULA_TOLERANCE)
    assert factor.delta(trial, reference) == pytest.approx(expected - 1, rel=FORMULA_TOLERANCE, abs=FORMULA_TOLERANCE)


@pytest.mark.parametrize(
    ("factor", "trial", "reference", "expected"),
    [
        (ForgivingFactor(), 100, 100, 1.0),
        (ForgivingFactor(), 50, 100, 1.05),  # half the size forgives 5 %
        (ForgivingFactor(), 200, 100, 0.95),
        (ForgivingFactor(delta_p=0.1, delta_n=0.2), 25, 100, 1.2),
        (ForgivingFactor(delta_p=0.1, delta_n=0.2), 400, 100, 0.6),
        (ForgivingFactor(rate=4.0), 25, 100, 1.05),
        (ForgivingFactor(stress=0.5), 50, 100, 1.0),
        (ForgivingFactor(stress=2.0), 100, 100, 1.05),
    ],
)
def test_forgiving_factor_on_round_numbers(factor, trial, reference, expected):
    assert factor(trial, reference) == pytest.approx(expected, rel=FORMULA_TOLERANCE)


def test_forgiving_factor_defaults_are_those_of_the_search():
    assert ForgivingFactor() == ForgivingFactor(delta_p=0.05, delta_n=0.05, rate=2.0, stress=1.0)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.0, -2.0, float("nan")])
def test_rate_must_exceed_one(rate):
    with pytest.raises(ValueError, match=r"rate must be above 1.*Received: rate="):
        ForgivingFactor(rate=rate)


@pytest.mark.parametrize("stress", [0.0, -1.0, float("nan")])
def test_stress_must_be_positive(stress):
    with pytest.raises(ValueError, match=r"stress above 0.*stress="):
        ForgivingFactor(stress=stress)


@pytest.mark.parametrize(("trial", "reference"), [(0, 1), (1, 0), (-1, 1), (1, -1), (float("nan"), 1)])
def test_sizes_must_be_positive(trial, reference):
    with pytest.raises(ValueError, match=f"sizes must be above 0. Received: trial={trial}, reference={reference}"):
        ForgivingFactor().delta(trial, reference)


def stripped(block: str) -> list[str]:
    return [" ".join(line.split()) for line in block.splitlines()]


def test_stats_block_starts_as_printed():
    assert stripped(stats_block(*autoencoder()))[:4] == [
        "stats: delta_p=0.05 delta_n=0.05 rate=2.0 trial_size=1259512 reference_size=4321016",
        "delta=8.89%",
        "a_bits=26752/42112 (-36.47%) p_bits=1232760/4278904 (-71.19%)",
        "total=1259512/4321016 (-70.85%)",
    ]


def test_stats_block_has_the_printed_rows():
    rows = stripped(stats_block(*autoencoder()))[4:]
    assert [row for row in rows if row.startswith("dense")] == [
        f"{name} u={units} "
        f"quantized_bits({kernel},{kernel},1,alpha='auto') quantized_bits({bias},{bias},1,alpha='auto')"
        for name, (units, kernel, bias) in zip(AUTOENCODER_LAYERS, AUTOENCODER_DENSE, strict=True)
    ]
    assert "dense_4 u=8 quantized_bits(4,4,1,alpha='auto') quantized_bits(31,31,1,alpha='auto')" in rows
    assert [row.split()[0] for row in rows[::2]] == AUTOENCODER_SLOTS
    assert [row.split()[0] for row in rows[1::2]] == AUTOENCODER_LAYERS
    for row, name, bits in zip(rows[::2], AUTOENCODER_SLOTS, AUTOENCODER_ACTIVATIONS, strict=True):
        assert row.startswith(f"{name} quantized_bits_featuremap({bits},{bits},1,1,alpha='auto'")


def test_stats_block_prints_filters_units_and_none_for_depthwise():
    rows = {row.split()[0]: row for row in stripped(stats_block(LAYERS, CONFIG.with_alpha("auto")))[4:]}
    assert rows["conv"] == "conv f=2 quantized_bits(8,8,1,alpha='auto') quantized_bits(31,31,1,alpha='auto')"
    assert rows["depthwise"].startswith("depthwise f=None quantized_bits(16,16,1,alpha='auto')")
    assert rows["dense"].startswith("dense u=3 ")
    assert set(rows) == set(CONFIG.layers)


def test_stats_block_names_the_alpha_it_is_given():
    block = stats_block(*autoencoder("auto_po2"))
    assert block.count("alpha='auto_po2'") == 11 + 2 * 10
    assert "alpha='auto'" not in block


def test_stats_block_uses_the_forgiving_factor_it_is_given():
    factor = ForgivingFactor(delta_p=0.1, delta_n=0.2, rate=4.0)
    block = stripped(stats_block(*autoencoder(), forgiving_factor=factor))
    assert block[0].startswith("stats: delta_p=0.1 delta_n=0.2 rate=4.0 trial_size=1259512")
    assert block[1] == "delta=8.89%"  # twice the delta, half the logarithm


def test_stats_block_of_a_larger_network_than_the_reference():
    layers, _ = autoencoder()
    dense = [layer.name for layer in layers if layer.kind == "weights"]
    slots = [layer.name for layer in layers if layer.kind == "activation"]
    block = stripped(stats_block(layers, BitConfig.flat(dense, slots, 32).with_alpha("auto")))
    # 8 x 640 + 32 x 2312 activation bits; 32 x 264192 + 31 x 1672 parameter bits
    assert block[0].endswith("trial_size=8585080 reference_size=4321016")
    assert block[1] == f"delta={-5 * math.log2(8585080 / 4321016):.2f}%"
    assert block[2] == "a_bits=79104/42112 (87.84%) p_bits=8505976/4278904 (98.79%)"
