"""The mode sweep measures the networks that mixed configurations describe, and puts the one that it uses back."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import noise, outputs
from refusals import complaint

from po2quant.benchmark import Split
from po2quant.diagnostics.mode_sweep import LayerCost, ModeSweep, mode_sweep
from po2quant.network import activation_quantizers, flat_config, quantize_model, walk
from po2quant.quantizers import quantized_bits_featuremap

AUTO, PO2 = "auto", "auto_po2"
LOSS = "mean_squared_error"
TOLERANCE = 1e-5
"""Relative: a loss is a mean of float32 numbers, summed in another order."""


@pytest.fixture(scope="module")
def network(quantized):
    return quantized(AUTO)


@pytest.fixture(scope="module")
def samples(network):
    rng = np.random.default_rng(5)
    return Split(noise(network, samples=20, seed=3), rng.random((20, 3)).astype("float32"))


@pytest.fixture(scope="module")
def sweep(network, samples):
    return mode_sweep(network, noise(network), samples, LOSS, batch_size=8)


@pytest.fixture(scope="module")
def mixed_loss(float_network, network, samples):
    """Return a function from the layers with real scales to loss and outputs of such a network, built as such."""
    config = flat_config(float_network, 4)
    ranges = {}
    for node, inputs in walk(network, noise(network)):
        quantizer = getattr(node.layer, "activation", None)
        if isinstance(quantizer, quantized_bits_featuremap):
            po2 = quantized_bits_featuremap.from_config(quantizer.get_config() | {"alpha": PO2})
            po2.calibrate(inputs[0])
            ranges[node.layer.name] = {AUTO: quantizer.range, PO2: po2.range}

    def build(real):
        alphas = {name: AUTO if name in real else PO2 for name in config.layers}
        model = quantize_model(float_network, config.with_alphas(alphas), PO2)
        for name, quantizer in activation_quantizers(model):
            quantizer.set_range(*ranges[name][quantizer.alpha])
            quantizer.frozen = True
        result = outputs(model, samples.x)
        return float(np.mean(np.square(result.astype(np.float64) - samples.y))), result

    return build


def test_every_layer_has_a_row_in_network_order(network, sweep):
    names = {name for name, _ in activation_quantizers(network)} | {"conv", "depthwise", "dense"}
    order = [layer.name for layer in network.layers if layer.name in names]
    assert sorted(cost.layer for cost in sweep.costs) == sorted(order)
    assert [cost.layer for cost in sweep.costs if "activation" not in cost.layer] == ["conv", "depthwise", "dense"]
    assert {cost.bits for cost in sweep.costs} == {"4", "4/31"}
    assert sweep.samples == 20


def test_losses_of_mixes_are_those_of_networks_built_so(sweep, mixed_loss):
    ranking = sweep.ranking
    assert len(sweep.mix_losses) == len(ranking) + 1
    for count in (0, 1, 3, len(ranking)):
        expected, _ = mixed_loss(ranking[:count])
        assert sweep.mix_losses[count] == pytest.approx(expected, rel=TOLERANCE)
    assert len(set(sweep.mix_losses)) == len(sweep.mix_losses)


@pytest.mark.parametrize("layer", ["depthwise", "dense", "activation_2"])
def test_costs_of_a_layer_are_those_of_networks_that_differ_there_alone(sweep, mixed_loss, layer):
    (cost,) = [cost for cost in sweep.costs if cost.layer == layer]
    others = set(sweep.ranking) - {layer}
    (real, real_outputs), (po2, _) = mixed_loss(sweep.ranking), mixed_loss(())
    (with_po2, po2_outputs), (with_auto, _) = mixed_loss(others), mixed_loss((layer,))
    assert cost.po2_cost == pytest.approx(with_po2 - real, abs=TOLERANCE * real)
    assert cost.auto_gain == pytest.approx(po2 - with_auto, abs=TOLERANCE * po2)
    assert cost.output_error == pytest.approx(np.mean(np.square(po2_outputs - real_outputs)), rel=1e-3)
    assert min(abs(cost.po2_cost), abs(cost.auto_gain)) > 10 * TOLERANCE * max(real, po2)


def test_the_ranking_goes_by_the_mean_of_cost_and_gain(sweep):
    effects = {cost.layer: cost.po2_cost + cost.auto_gain for cost in sweep.costs}
    ranked = [effects[layer] for layer in sweep.ranking]
    assert ranked == sorted(effects.values(), reverse=True)


def test_the_network_is_left_as_it_was(network, samples):
    before = outputs(network, samples.x)
    mode_sweep(network, noise(network), samples, LOSS)
    np.testing.assert_array_equal(outputs(network, samples.x), before)


def test_progress_moves_twice_a_layer(network, samples, sweep):
    steps = []
    mode_sweep(network, noise(network), samples, LOSS, advance=lambda: steps.append(1))
    assert len(steps) == 2 * len(sweep.costs)


def test_a_scale_that_is_a_power_of_two_already_costs_nothing(quantized, samples):
    model = quantized(AUTO)
    dense = model.get_layer("dense")
    dense.kernel.assign(np.resize([7, -7, 7, 1, 2, 3], dense.kernel.shape) / 16)
    dense.bias.assign(np.zeros(dense.bias.shape))
    (row,) = [row for row in mode_sweep(model, noise(model), samples, LOSS).costs if row.layer == "dense"]
    assert (row.po2_cost, row.auto_gain, row.output_error) == (0.0, 0.0, 0.0)


def test_a_network_of_powers_of_two_is_refused(compiled, samples):
    model, _ = compiled(PO2)
    assert "alpha='auto'" in complaint(mode_sweep, model, noise(model), samples, LOSS)


def test_keras_losses_are_taken_as_they_are(network, samples, sweep):
    by_function = mode_sweep(network, noise(network), samples, keras.losses.get(LOSS), batch_size=8)
    assert by_function == sweep


def sweep_of(*losses):
    count = len(losses) - 1
    costs = tuple(LayerCost(f"l{i}", "4", float(count - i), 0.0, 0.0) for i in range(count))
    return ModeSweep(costs, losses, 1)


@pytest.mark.parametrize(
    ("share", "most", "count"),
    [(1.0, None, 0), (0.5, None, 1), (0.25, None, 3), (0.0, None, 3), (0.25, 2, 1), (0.25, 0, 0), (0.5, 9, 1)],
)
def test_the_rule_takes_the_fewest_layers_that_win_enough(share, most, count):
    sweep = sweep_of(5.0, 2.5, 4.0, 1.0, 3.0)
    assert sweep.real_layers(share, most) == [f"l{i}" for i in range(count)]


def test_no_layer_is_real_where_powers_of_two_are_best():
    assert sweep_of(1.0, 2.0, 1.5).real_layers(0.0) == []


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.floats(0, 1), st.none() | st.integers(0, 9))
def test_no_smaller_mix_wins_enough(losses, share, most):
    sweep = sweep_of(*losses)
    count = len(sweep.real_layers(share, most))
    limit = min(losses) + share * (losses[0] - min(losses))
    allowed = losses if most is None else losses[: most + 1]
    assert all(loss > limit for loss in losses[:count]) or losses[count] == min(allowed)
    assert losses[count] <= limit or (most is not None and losses[count] == min(allowed) > limit)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_and_1_is_refused(share):
    assert "share must be in [0, 1]" in complaint(sweep_of(1.0, 0.0).real_layers, share)
    assert "must be 0 or above" in complaint(sweep_of(1.0, 0.0).real_layers, 0.5, -1)
