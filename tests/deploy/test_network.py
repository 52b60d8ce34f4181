"""A network to deploy, and inputs spread over a split."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from refusals import complaint

from po2quant.benchmark import Split
from po2quant.deploy.network import frozen_network, spread_inputs


def test_a_float_network_has_no_integers(digits, digits_data, digits_weights):
    complaint(frozen_network, digits.network()[1], None, digits_weights, digits_data)


@pytest.mark.parametrize(("samples", "expected"), [(1, [0]), (3, [0, 4, 8]), (12, range(12)), (50, range(12))])
def test_inputs_are_spread_over_clips(samples, expected):
    """Three clips of four windows of two numbers."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    x = np.arange(24).reshape(3, 8)
    inputs = spread_inputs(Split(x, None, scale=0.5), model, samples)
    np.testing.assert_array_equal(inputs, x.reshape(12, 2)[list(expected)] * np.float32(0.5))
