"""Blocks of convolutional networks: equal budgets, shapes and shortcuts by hand, and that all become integers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks.image_classification import design_blocks
from benchmarks.image_classification.design_blocks import BUDGET, DESIGNS, TOLERANCE, macs_of, with_budget
from po2quant.deploy.check import check

SIMPLEST = "plain"


def of_block(block, shape, filters, strides=1):
    x = keras.Input(shape)
    return keras.Model(x, block(x, filters, strides))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == SIMPLEST else pytest.mark.slow) for name in DESIGNS]
)
def test_a_design_meets_its_share_of_the_budget(name):
    macs = macs_of(DESIGNS[name].build(name))
    assert abs(macs / (BUDGET * DESIGNS[name].share) - 1) <= TOLERANCE


def test_macs_are_counted_for_every_group_and_pixel():
    x = keras.Input((8, 8, 4))
    y = layers.DepthwiseConv2D(3, 2, "same")(layers.Conv2D(6, (1, 5), padding="same", groups=2)(x))
    y = layers.Dense(10)(layers.Flatten()(y))
    assert macs_of(keras.Model(x, y)) == 64 * 5 * 2 * 6 + 16 * 9 * 6 + 96 * 10


@pytest.mark.slow
def test_a_width_is_found_for_a_budget():
    half = with_budget(DESIGNS[SIMPLEST], BUDGET / 2)
    assert abs(macs_of(half.build()) / (BUDGET / 2) - 1) <= TOLERANCE
    assert with_budget(DESIGNS[SIMPLEST]).filters == DESIGNS[SIMPLEST].filters


def test_a_shortcut_of_zeros_is_every_second_pixel_and_channels_of_zeros():
    x = np.arange(2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3)
    y = of_block(design_blocks.zeros, x.shape[1:], 7, 2)(x).numpy()
    assert y.shape == (2, 3, 2, 7)
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., 3:], 0)


def test_a_shortcut_of_the_same_shape_is_the_input_and_has_no_weights():
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 6)).astype(np.float32)
    for shortcut in (design_blocks.zeros, design_blocks.identity):
        model = of_block(shortcut, x.shape[1:], 6)
        np.testing.assert_array_equal(model(x), x)
        assert not model.weights


@pytest.mark.parametrize(
    ("block", "parameters"),
    [
        (design_blocks.separable, 9 * 4 + 4 * 4 + 4 * 8 + 4 * 8),
        (design_blocks.channel_wise, 4 * 8 + 4 * 8 + 9 * 8 + 4 * 8),
        (design_blocks.grouped, 4 * 8 + 4 * 8 + 9 * 8 * 8 // 4 + 4 * 8),
        (design_blocks.inverted_residual, 4 * 24 + 4 * 24 + 9 * 24 + 4 * 24 + 24 * 8 + 4 * 8),
        (design_blocks.bottleneck, 4 * 2 + 4 * 2 + 9 * 4 + 4 * 2 + 2 * 8 + 4 * 8 + (4 * 8 + 4 * 8)),
    ],
)
def test_a_block_has_the_weights_of_its_formula_and_four_numbers_a_normalized_channel(block, parameters):
    assert of_block(block, (8, 8, 4), 8, 2).count_params() == parameters


@pytest.mark.parametrize("filters", [8, 28, 116])
def test_the_branches_of_an_inception_have_all_its_channels(filters):
    assert design_blocks.inception(keras.Input((8, 8, 5)), filters, 2).shape == (None, 4, 4, filters)


def test_a_linear_bottleneck_gives_what_a_relu6_cuts_off():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype(np.float32)
    values = of_block(design_blocks.inverted_residual, x.shape[1:], 8)(x).numpy()
    cut = of_block(lambda *a: design_blocks.inverted_residual(*a, after="relu6"), x.shape[1:], 8)(x).numpy()
    assert values.min() < 0 <= cut.min() <= cut.max() <= 6


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_becomes_integers_and_is_exported(name):
    spec = design_blocks.BENCHMARK.network(name)[1]
    found = check(spec.new_network(), spec.placement)
    assert found.is_supported, found.obstacles
    assert not found.formats["c"]
