"""The search space: one choice per kernel, bias and activation."""

import pytest
from networks import DENSE_NETWORK

from po2quant.bit_config import BitConfig, LayerBits
from po2quant.cost import LayerShape
from po2quant.search import SearchSpace, config_from_values
from po2quant.search.run import known_values


def test_the_default_space_is_the_published_one():
    choices = SearchSpace().hyperparameters(DENSE_NETWORK)
    assert {hp.name: list(hp.values) for hp in choices.space} == {
        "activation.activation": [4, 8, 16],
        "dense.kernel": [4, 8, 16],
        "dense.bias": [16, 31],
    }


def test_values_become_a_configuration_in_network_order():
    values = {"dense.bias": 31, "dense.kernel": 4, "activation.activation": 8}
    config = config_from_values(values, DENSE_NETWORK)
    assert list(config.layers) == ["activation", "dense"]
    assert (config.kernel_bits("dense"), config.bias_bits("dense"), config.activation_bits("activation")) == (4, 31, 8)


def test_flat_values_run_through_the_widths():
    assert SearchSpace().flat_values(DENSE_NETWORK) == [
        {"activation.activation": bits, "dense.kernel": bits, "dense.bias": 16} for bits in (4, 8, 16)
    ]


def test_a_configuration_becomes_values_if_the_space_contains_it():
    values = {"dense.bias": 31, "dense.kernel": 4, "activation.activation": 8}
    config = config_from_values(values, DENSE_NETWORK)
    assert SearchSpace().values_of_config(config, DENSE_NETWORK) == values
    assert SearchSpace(kernel=(8, 16)).values_of_config(config, DENSE_NETWORK) is None
    groups = {"dense.kernel": "all", "activation.activation": "all"}
    assert SearchSpace(groups=groups, bias=(4, 31)).values_of_config(config, DENSE_NETWORK) is None


@pytest.mark.parametrize("widths", [(), (8, 4), (8, 8)])
def test_widths_must_ascend(widths):
    with pytest.raises(ValueError, match="widths of kernel must be ascending"):
        SearchSpace(kernel=widths)


@pytest.mark.parametrize("bits", [1, 33])
def test_widths_must_be_those_of_a_format(bits):
    with pytest.raises(ValueError, match=rf"integer in \[2, 32\]. Received: bits={bits}"):
        SearchSpace(activation=(bits,))


def test_a_slot_may_have_its_own_widths_and_one_width_is_no_choice():
    space = SearchSpace(slots={"dense.kernel": (2, 3), "activation.activation": (8,)})
    values = space.hyperparameters(DENSE_NETWORK)
    assert {hp.name: list(hp.values) for hp in values.space if hp.name != "activation.activation"} == {
        "dense.kernel": [2, 3],
        "dense.bias": [16, 31],
    }
    assert (
        config_from_values(values.values, DENSE_NETWORK).layers
        == BitConfig({"activation": LayerBits(activation=8), "dense": LayerBits(3, 31)}).layers
    )


def test_the_slots_of_a_group_share_one_choice():
    layers = [*DENSE_NETWORK, LayerShape("head", "Dense", "weights", (2,), 4, 2, 4, 2)]
    space = SearchSpace(groups={"dense.kernel": "dense", "head.kernel": "dense"})
    values = {hp.name: hp.values[0] for hp in space.hyperparameters(layers).space}
    assert len(values) == 4
    for kernel in space.kernel:
        chosen = space.values_of({slot: kernel for slot in space.choices(layers)}, layers)
        assert set(chosen) == set(values)
        config = config_from_values(chosen, layers)
        assert config.kernel_bits("dense") == config.kernel_bits("head") == kernel


def test_a_flat_configuration_takes_the_next_narrower_width_of_a_slot():
    space = SearchSpace(slots={"dense.kernel": (3, 8), "activation.activation": (8, 16)})
    widths = [(values["dense.kernel"], values["activation.activation"]) for values in space.flat_values(DENSE_NETWORK)]
    assert widths == [(3, 8), (8, 8), (8, 16)]


def test_flat_configurations_that_coincide_are_tried_once():
    space = SearchSpace(slots={"dense.kernel": (8,), "activation.activation": (16,)})
    assert space.flat_values(DENSE_NETWORK) == [{"activation.activation": 16, "dense.kernel": 8, "dense.bias": 16}]


def test_a_group_needs_equal_widths_and_slots_must_exist():
    space = SearchSpace(slots={"dense.kernel": (4,)}, groups={"dense.kernel": "g", "activation.activation": "g"})
    with pytest.raises(ValueError, match=r"same widths\. Received: activation\.activation \(4, 8, 16\), dense\.kernel"):
        space.hyperparameters(DENSE_NETWORK)
    with pytest.raises(ValueError, match=r"slots must be among activation\.activation.*Received: conv\.kernel"):
        SearchSpace(slots={"conv.kernel": (4,)}).choices(DENSE_NETWORK)
    with pytest.raises(ValueError, match=r"widths of dense\.kernel must be ascending"):
        SearchSpace(slots={"dense.kernel": (8, 4)})


def test_the_width_of_a_slot_without_choice_stands_in_the_known_configuration(digits):
    spec = digits.network()[1]
    network = spec.fold()
    (name,) = network.input_slots
    space = SearchSpace(slots={f"{name}.activation": (10,)})
    (known,) = known_values(spec, space, network.layers)
    config = BitConfig.load(spec.mpq_config)
    assert config_from_values(known, network.layers).layers == config.with_widths({f"{name}.activation": 10}).layers
    assert (
        config.activation_bits(name) != 10 and space.hyperparameters(network.layers).values[f"{name}.activation"] == 10
    )
