"""What is measured of the quantizers within a recurrent layer."""

import math

import numpy as np
import pytest
from networks import noise, outputs
from recurrent_networks import RECURRENT, STEPS

from po2quant.benchmark import Split
from po2quant.diagnostics.mode_mix import propose_mix, rescaling
from po2quant.diagnostics.mode_sweep import mode_sweep
from po2quant.diagnostics.probe import Probe
from po2quant.network import calibrate, fold, slot_quantizers
from po2quant.search.sensitivity import sensitivity_sweep
from po2quant.search.space import SearchSpace
from po2quant.search.trial import CALIBRATION_SAMPLES, CALIBRATION_VALUES, trial_input_count


@pytest.fixture(scope="module")
def gru():
    """Return a network, inputs, its quantized form at 8 bits and its description."""
    model = RECURRENT["GRU"]()
    network, x = fold(model), noise(model, 16)
    quantized = network.quantize(network.flat(8))
    calibrate(quantized, x)
    return model, x, quantized, network


@pytest.mark.slow
def test_a_probe_sees_every_tensor_in_all_steps(gru):
    model, x, quantized, network = gru
    found = {(tensor.layer, tensor.part): tensor for tensor in Probe(quantized, x)()}
    assert {f"{layer}.{part}" for layer, part in found} == set(slot_quantizers(quantized))
    state = found[network.slots[-1].slot.name, "activation"]
    assert state.values.shape == (16, STEPS, 4) and state.after == "gru_state"
    np.testing.assert_allclose(state.exact[:, -1], outputs(model, x), atol=1e-6)
    np.testing.assert_array_equal(state.quantized[:, -1], outputs(quantized, x))


def test_every_rounding_of_every_step_is_counted(gru):
    _, _, quantized, network = gru
    count = rescaling(quantized, [network.slots[-1].slot.name])
    within = sum(math.prod(slot.node.fixed_shape) for slot in network.slots[1:])
    assert count.rescaled_values == STEPS * within
    assert 0 < count.multiplied_values < count.rescaled_values
    assert rescaling(quantized, []).multiplied_values == 0


def test_trials_are_calibrated_on_as_many_inputs_as_all_steps_allow(gru, monkeypatch):
    _, _, quantized, network = gru
    values = STEPS * (3 + sum(math.prod(slot.node.fixed_shape) for slot in network.slots[1:]))
    assert trial_input_count(quantized) == min(CALIBRATION_SAMPLES, CALIBRATION_VALUES // values)
    monkeypatch.setattr("po2quant.search.trial.CALIBRATION_VALUES", 2 * values)
    assert trial_input_count(quantized) == 2


@pytest.mark.slow
def test_sweeps_measure_the_slots_of_a_step(gru):
    model, x, _, network = gru
    samples = Split(x, outputs(model, x))
    quantized = network.quantize(network.flat(8))
    choices = SearchSpace(kernel=(2, 8), bias=(16, 31), activation=(2, 8)).choices(network.layers)
    rows = sensitivity_sweep(quantized, choices, x, samples, "mean_squared_error")
    worst = max(rows, key=lambda row: row.output_error)
    assert len(rows) == 2 * len(choices) and worst.bits == 2 and worst.output_error > 0
    real = network.quantize(network.flat(6).with_alpha("auto"))
    calibrate(real, x)
    sweep = mode_sweep(real, x, samples, "mean_squared_error")
    assert {cost.layer for cost in sweep.costs} == set(network.flat(6).layers)
    assert propose_mix(sweep, real, network.flat(6)).rescaling.multiplied_values >= 0
