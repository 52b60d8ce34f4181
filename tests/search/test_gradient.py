"""Widths by gradient: slopes of widths, the pull of cost and limits, and a network that is left as it was."""

import dataclasses

import numpy as np
import pytest
import search_process
import tensorflow as tf

from po2quant.network import slot_quantizers
from po2quant.search.gradient import SNAPSHOTS, WidthTraining, _gated, trained_widths
from po2quant.search.problem import Goal, SearchProblem
from po2quant.search.space import SearchSpace, config_from_values
from po2quant.search.trial import TrialTraining


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    experiment = search_process.experiment(None).with_float_weights(tmp_path_factory.mktemp("float"))
    layers = experiment.network.layers
    space = SearchSpace((2, 4, 8), (8, 16), (2, 4, 8))
    training = TrialTraining.of(experiment)
    return training, SearchProblem(space, layers, Goal.of_size(layers), 5, epochs=2)


def test_the_slope_of_a_width_is_that_of_a_step_that_halves_with_each_bit(task):
    training, problem = task
    training.network.reset(config_from_values(flat(problem, 4), problem.layers), training.calibration_inputs)
    quantizer = slot_quantizers(training.network.model)["hidden.kernel"]
    x, widths = tf.constant(np.random.default_rng(0).normal(size=(4, 8)), tf.float32), tf.Variable([9.0, 4.0])
    with tf.GradientTape() as tape:
        y = _gated(quantizer, widths, 1)(x)
        total = tf.reduce_sum(tf.square(y))
    np.testing.assert_array_equal(y, quantizer(x))
    largest = 2.0 ** (1 - 4) * np.max(np.abs(x))
    slope = -np.log(2) * np.clip(np.asarray(y - x), -largest, largest)
    assert tape.gradient(total, widths)[1].numpy() == pytest.approx(np.sum(2 * np.asarray(y) * slope), rel=1e-4)


def flat(problem, bits):
    choices = problem.space.choices(problem.layers)
    return {slot: max(b for b in widths if b <= max(bits, widths[0])) for slot, widths in choices.items()}


@pytest.mark.slow
def test_more_strength_gives_a_smaller_network_and_a_limit_is_pulled_to(task):
    training, problem = task
    weak, strong = (WidthTraining(problem, training).run(6, (s, s))[-1] for s in (1e-9, 20.0))
    assert problem.goal.cost(strong) < problem.goal.cost(weak)
    assert strong.keys() == weak.keys() == set(problem.space.choices(problem.layers))
    most = 0.6 * problem.goal.cost(flat(problem, 8))
    limited = dataclasses.replace(problem, goal=Goal.of_size(problem.layers, int(most)))
    assert limited.goal.cost(WidthTraining(limited, training).run(10, (1.0, 1.0))[-1]) < problem.goal.cost(
        flat(problem, 8)
    )


def test_a_training_that_presses_ever_harder_passes_through_ever_smaller_networks(task):
    training, problem = task
    costs = [problem.goal.cost(values) for values in WidthTraining(problem, training).run(8, (1e-3, 20.0))]
    assert len(costs) == SNAPSHOTS and costs[-1] < costs[0] <= problem.goal.cost(flat(problem, 8))


@pytest.mark.slow
def test_a_training_repeats_exactly_and_leaves_no_gate_behind(task, tmp_path):
    training, problem = task
    first = trained_widths(problem, training, tmp_path / "first")
    assert len(first) == SNAPSHOTS and first == trained_widths(problem, training, tmp_path / "second")
    assert all("call" not in vars(quantizer) for quantizer in slot_quantizers(training.network.model).values())
    assert trained_widths(problem, None, tmp_path / "first") == first
    config = config_from_values(flat(problem, 8), problem.layers)
    before, after = (list(training.run(config, 1, 0)) for _ in range(2))
    assert before == after
    other = dataclasses.replace(problem, layers=problem.layers[:-1])
    with pytest.raises(ValueError, match="must have the widths of this network"):
        trained_widths(other, training, tmp_path / "first")
