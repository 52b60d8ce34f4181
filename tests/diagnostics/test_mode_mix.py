"""A proposed mix: a configuration that says so at every layer, and what its real scales cost an integer engine."""

from __future__ import annotations

import dataclasses

import pytest

from po2quant.bit_config import MIXED, BitConfig
from po2quant.diagnostics.mode_mix import Rescaling, propose_mix, rescaling
from po2quant.diagnostics.mode_sweep import LayerCost, ModeSweep
from po2quant.diagnostics.plots import plot_mode_sweep
from po2quant.network import flat_config

AUTO, PO2 = "auto", "auto_po2"


@pytest.fixture(scope="module")
def network(quantized):
    return quantized(AUTO)


@pytest.fixture(scope="module")
def config(float_network):
    return dataclasses.replace(flat_config(float_network, 4), provenance={"note": "kept"})


def sweep(config, costs, losses):
    rows = tuple(LayerCost(name, "4", costs.get(name, -0.1), costs.get(name, -0.1), 0.0) for name in config.layers)
    return ModeSweep(rows, (*losses, *[0.5] * (len(rows) + 1 - len(losses))), 64)


@pytest.fixture(scope="module")
def mix(network, config):
    costs = {"conv": 0.3, "activation_1": 0.2, "dense": 0.1}
    return propose_mix(sweep(config, costs, (1.0, 0.4, 0.2, 0.1)), network, config)


def test_the_configuration_names_the_scales_of_every_layer(mix, config):
    real = ["conv", "activation_1"]
    assert mix.real_layers == tuple(real)
    assert mix.config.alphas() == {name: AUTO if name in real else PO2 for name in config.layers}
    assert mix.config.with_alphas(dict.fromkeys(config.layers)).layers == config.layers
    assert mix.config.scales == MIXED
    assert (mix.config.name, mix.config.provenance["note"]) == ("flat4-mixed", "kept")
    assert BitConfig.from_json(mix.config.to_json()) == mix.config


def test_lines_say_what_was_found(mix):
    losses, worst, harmless, proposal, price = mix.lines()
    assert "1.0000 with powers of two everywhere, 0.5000 with real scales everywhere, 0.1000 with the best" in losses
    assert "real scales at 3 of" in losses
    assert worst.endswith("conv (4 bits): 0.3000, activation_1 (4 bits): 0.2000, dense (4 bits): 0.1000")
    assert f"at {len(mix.config.layers) - 3} of {len(mix.config.layers)} " in harmless
    assert "real scales at conv, activation_1, powers of two elsewhere; loss 0.2000, 89%" in proposal
    assert f"{mix.rescaling.multiplied_values} of {mix.rescaling.rescaled_values} values" in price


def test_powers_of_two_everywhere_where_nothing_else_is_better(network, config):
    mix = propose_mix(sweep(config, {}, (0.1,)), network, config)
    assert mix.real_layers == () and mix.config.scales == PO2
    assert mix.rescaling.multiplied_values == 0
    assert mix.lines()[-1] == "proposed: powers of two everywhere, since real scales win nothing"


def test_at_most_so_many_layers(network, config):
    losses = sweep(config, {"conv": 0.3, "dense": 0.1}, (1.0, 0.9, 0.2))
    assert propose_mix(losses, network, config, most=1).real_layers == ("conv",)
    assert "since the share and number of layers allow them" in propose_mix(losses, network, config, most=0).lines()[-1]


def test_rows_have_each_layer_once_with_its_rank_and_kind(mix, config):
    rows = {row["layer"]: row for row in mix.rows()}
    assert list(rows) == list(config.layers)
    assert sorted(row["rank"] for row in rows.values()) == list(range(1, len(rows) + 1))
    assert (rows["conv"]["rank"], rows["conv"]["mix_loss"], rows["conv"]["alpha"]) == (1, 0.4, AUTO)
    assert rows["dense"]["alpha"] == PO2


CONV, CLASSES = 6 * 6 * 4, 3
"""Values after the convolution, after the depthwise one and after their sum; values after the dense layer."""


@pytest.mark.parametrize(
    ("real", "multiplied"),
    [
        ((), 0),
        (("activation",), CONV),
        (("conv",), CONV),
        (("depthwise",), CONV),
        (("activation_1",), 3 * CONV),
        (("dense",), CLASSES),
    ],
)
def test_a_value_is_multiplied_where_a_real_scale_is_involved(network, real, multiplied):
    assert rescaling(network, real).multiplied_values == multiplied


def test_with_real_scales_everywhere_every_rescaled_value_is_multiplied(network, config):
    found = rescaling(network, config.layers)
    assert found == Rescaling(found.rescaled_values, found.rescaled_values)


def test_picture(mix, tmp_path):
    path = plot_mode_sweep(mix, tmp_path / "plots" / "sweep.png", "data")
    assert path.read_bytes()[:4] == b"\x89PNG"
