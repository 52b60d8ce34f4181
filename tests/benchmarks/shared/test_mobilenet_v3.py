"""The blocks of MobileNetV3 against those that Keras ships."""

import keras
import pytest

from benchmarks.shared.mobilenet_v3 import LARGE, SMALL, backbone, scaled


@pytest.mark.parametrize(
    ("form", "name"),
    [(SMALL, "MobileNetV3Small"), pytest.param(LARGE, "MobileNetV3Large", marks=pytest.mark.slow)],
    ids=["small", "large"],
)
def test_a_backbone_has_the_weights_of_the_one_that_keras_ships(form, name):
    inputs = keras.Input((64, 64, 3))
    ours = keras.Model(inputs, backbone(inputs, form))
    theirs = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(64, 64, 3))
    assert sorted(map(str, (weight.shape for weight in ours.weights))) == sorted(
        map(str, (weight.shape for weight in theirs.weights))
    )
    assert ours.output.shape == theirs.output.shape


@pytest.mark.parametrize(("channels", "width", "expected"), [(16, 0.5, 8), (16, 0.1, 8), (72, 0.5, 40), (24, 0.5, 16)])
def test_scaled_channels_are_multiples_of_eight_and_at_most_a_tenth_smaller(channels, width, expected):
    assert scaled(channels, width) == expected
