"""The search space: one choice per kernel, bias and activation."""

import pytest

from po2quant.cost import LayerShape
from po2quant.search import SearchSpace, config_from_values

LAYERS = [
    LayerShape("input", "InputLayer", "input", (4,)),
    LayerShape("activation", "Activation", "activation", (4,)),
    LayerShape("dense", "Dense", "weights", (2,), 8, 2, 8, 2),
    LayerShape("softmax", "Activation", "softmax", (2,)),
]


def test_the_default_space_is_the_published_one():
    choices = SearchSpace().hyperparameters(LAYERS)
    assert {hp.name: list(hp.values) for hp in choices.space} == {
        "activation.activation": [4, 8, 16],
        "dense.kernel": [4, 8, 16],
        "dense.bias": [16, 31],
    }


def test_values_become_a_configuration_in_network_order():
    values = {"dense.bias": 31, "dense.kernel": 4, "activation.activation": 8}
    config = config_from_values(values, LAYERS)
    assert list(config.layers) == ["activation", "dense"]
    assert (config.kernel_bits("dense"), config.bias_bits("dense"), config.activation_bits("activation")) == (4, 31, 8)


def test_flat_values_run_through_the_widths():
    assert SearchSpace().flat_values(LAYERS) == [
        {"activation.activation": bits, "dense.kernel": bits, "dense.bias": 16} for bits in (4, 8, 16)
    ]


@pytest.mark.parametrize("widths", [(), (8, 4), (8, 8)])
def test_widths_must_ascend(widths):
    with pytest.raises(ValueError, match="widths of kernel must be ascending"):
        SearchSpace(kernel=widths)
