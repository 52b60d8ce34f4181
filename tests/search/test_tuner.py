"""The search: trials equal freshly built networks, failures are recorded, nothing is lost."""

import dataclasses

import numpy as np
import pytest
import search_process

from po2quant.benchmark import validation_accuracy
from po2quant.bit_config import BitConfig
from po2quant.cost import ACTIVATION, ForgivingFactor, network_size, reference_config
from po2quant.search import SearchSettings, SearchSpace, run_search, trial
from po2quant.search.oracle import SeededOracle
from po2quant.search.strategies import BAYESIAN, INFORMED, RANDOM
from po2quant.training.finetune import Experiment, reusable_network
from po2quant.training.fit import compile_model, train_epoch, validation_logs
from po2quant.training.pipeline import Pipeline
from po2quant.training.prepare import calibration_inputs, prepare_network
from po2quant.weight_files import load_weights


def search(digits, data, weights, folder, trials=3):
    experiment = Experiment(digits, "ds_cnn", data, weights=weights)
    return run_search(experiment, folder, SearchSettings(trials, 1, BAYESIAN))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Return an experiment that takes no time, for what does not depend on the network."""
    return search_process.experiment(None).with_float_weights(tmp_path_factory.mktemp("tiny"))


def tiny_search(tiny, folder, selection, trials=3):
    changed = dataclasses.replace(tiny, benchmark=dataclasses.replace(tiny.benchmark, selection=selection))
    return run_search(changed, folder, SearchSettings(trials, 1, BAYESIAN))


def scripted(*outcomes):
    """Return a selection that yields one outcome after the other, raising those that are exceptions."""
    remaining = iter(outcomes)

    def selection(logs):
        outcome = next(remaining)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return selection


@pytest.fixture(scope="module")
def finished(digits, digits_data, digits_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return folder, search(digits, digits_data, digits_weights, folder)


def test_the_score_is_the_metric_times_the_forgiving_factor(digits, finished):
    layers = digits.network()[1].fold().layers
    reference = network_size(layers, reference_config(layers)).total_bits
    folder, result = finished
    assert [row.status for row in result.log.rows] == ["completed"] * 3
    for row in result.log.rows:
        config = BitConfig.load(folder / "trials" / row.trial_id / "config.json")
        assert network_size(layers, config).total_bits == row.size_bits
        assert row.score == row.metric * ForgivingFactor()(row.size_bits, reference)


def test_the_flat_configurations_come_first(finished):
    folder, _ = finished
    for trial_id, bits in enumerate((4, 8, 16)):
        layers = BitConfig.load(folder / "trials" / str(trial_id) / "config.json").layers.values()
        assert {layer.kernel or layer.activation for layer in layers} == {bits}


@pytest.mark.slow
def test_a_trial_in_the_shared_graph_equals_a_freshly_built_network(digits, digits_data, digits_weights, finished):
    folder, result = finished
    spec = digits.network()[1]
    last = result.log.rows[-1]
    config = BitConfig.load(folder / "trials" / last.trial_id / "config.json")
    fresh = prepare_network(spec.fold(), config.with_alpha("auto_po2"), digits_weights, digits_data).model
    compile_model(fresh, digits.recipe)
    train_epoch(fresh, Pipeline(digits_data.train), digits.recipe, 0, seed=0)
    assert validation_logs(fresh, Pipeline(digits_data.validation), digits.recipe)["accuracy"] == last.metric
    for got, want in zip(_network_weights(result.tuner.training.network.model), _network_weights(fresh), strict=True):
        np.testing.assert_array_equal(got, want)


def _prepare(digits, config, weights, data):
    return prepare_network(digits.network()[1].fold(), config.with_alpha("auto_po2"), weights, data).model


def _network_weights(model):
    return [weight.numpy() for weight in model.trainable_weights]


def test_the_best_configuration_and_its_weights_are_kept(digits, digits_data, finished):
    folder, result = finished
    best = result.best_config("digits-ds_cnn")
    assert best.provenance["trial"] == result.log.best().trial_id
    model = _prepare(digits, best, folder / "best.weights.h5", digits_data)
    compile_model(model, digits.recipe)
    logs = validation_logs(model, Pipeline(digits_data.validation), digits.recipe)
    assert logs["accuracy"] == pytest.approx(result.log.best().metric, abs=1e-6)


def test_a_finished_search_goes_on_with_more_trials(digits, digits_data, digits_weights, finished):
    folder, result = finished
    longer = search(digits, digits_data, digits_weights, folder, trials=4)
    assert longer.log.rows[:3] == result.log.rows
    assert len(longer.log.rows) == 4


@pytest.mark.slow
def test_a_trial_that_raises_is_recorded_and_the_search_goes_on(tiny, tmp_path):
    result = tiny_search(tiny, tmp_path, scripted(RuntimeError("out of\nmemory"), np.nan, 0.5))
    assert [row.status for row in result.log.rows] == ["failed", "failed", "completed"]
    assert result.log.rows[0].error == "RuntimeError: out of memory"
    assert "validation value of epoch 1 is nan" in result.log.rows[1].error
    assert result.best_config("x").provenance["trial"] == result.log.rows[2].trial_id


@pytest.mark.parametrize(("shrinkage", "count"), [(1.0, 256), (2.0, 128), (2.01, 127), (1000.0, 1)])
def test_a_trial_is_calibrated_with_fewer_inputs_where_activations_are_large(
    digits, digits_data, digits_weights, monkeypatch, shrinkage, count
):
    network = reusable_network(Experiment(digits, "ds_cnn", digits_data, weights=digits_weights)).model
    layers = digits.network()[1].fold().layers
    elements = sum(layer.elements for layer in layers if layer.kind == ACTIVATION)
    monkeypatch.setattr(trial, "CALIBRATION_VALUES", int(256 * elements / shrinkage))
    inputs = trial.trial_inputs(digits_data, network, seed=0)
    assert len(inputs) == count
    if count == 256:
        np.testing.assert_array_equal(inputs, calibration_inputs(digits_data, network, seed=0)[0])


@pytest.mark.slow
def test_a_search_without_a_completed_trial_is_an_error(tiny, tmp_path):
    result = tiny_search(tiny, tmp_path, lambda logs: np.nan, trials=2)
    with pytest.raises(RuntimeError, match=r"no trial completed\. The last error: DivergedError"):
        result.best_config("x")


@pytest.mark.slow
def test_ctrl_c_ends_with_the_trials_so_far(tiny, tmp_path):
    result = tiny_search(tiny, tmp_path, scripted(0.5, KeyboardInterrupt()))
    assert result.interrupted
    assert len(result.log.rows) == 1
    load_weights(result.tuner.training.network.model, tmp_path / "best.weights.h5")
    resumed = tiny_search(tiny, tmp_path, validation_accuracy)
    assert resumed.log.rows[0] == result.log.rows[0]
    assert len(resumed.log.rows) == 3


@pytest.mark.slow
def test_a_logged_trial_is_not_run_again_though_the_oracle_had_not_heard_of_it(tiny, tmp_path, monkeypatch):
    def interrupt(oracle, trial):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SeededOracle, "end_trial", interrupt)
        killed = run_search(tiny, tmp_path / "search", SearchSettings(2, 1, BAYESIAN))
    resumed = run_search(tiny, tmp_path / "search", SearchSettings(2, 1, BAYESIAN))
    assert [row.trial_id for row in resumed.log.rows] == ["0", "1"]
    assert resumed.log.rows[:1] == killed.log.rows


@pytest.mark.slow
def test_a_trial_that_breaks_off_leaves_the_weights_of_the_best(tiny, tmp_path):
    tiny_search(tiny, tmp_path, scripted(0.5, np.nan, 0.01))
    config = BitConfig.load(tmp_path / "trials" / "0" / "config.json")
    model = _prepare(tiny.benchmark, config, tmp_path / "best.weights.h5", tiny.dataset)
    first = _prepare(tiny.benchmark, config, tmp_path / "trials" / "0" / "best.weights.h5", tiny.dataset)
    for got, want in zip(_network_weights(model), _network_weights(first), strict=True):
        np.testing.assert_array_equal(got, want)
    assert not (tmp_path / "trials" / "1" / "best.weights.h5").exists()


@pytest.mark.slow
def test_the_best_trials_keep_their_weights(tiny, tmp_path):
    tiny_search(tiny, tmp_path, scripted(0.5, 0.1, 0.9, 0.7, 0.2), trials=5)
    kept = {path.parent.name for path in (tmp_path / "trials").glob("*/best.weights.h5")}
    assert kept == {"0", "2", "3"}
    assert len(list((tmp_path / "tensorboard").glob("*/events.*"))) == 5


@pytest.mark.slow
def test_an_informed_search_tries_allocations_after_the_flat_configurations(
    digits, digits_data, digits_weights, tmp_path
):
    experiment = Experiment(digits, "ds_cnn", digits_data, weights=digits_weights)
    result = run_search(experiment, tmp_path, SearchSettings(5, 1))
    sizes = [row.size_bits for row in result.log.rows]
    assert sizes[0] < sizes[1] < sizes[2] and sizes[0] <= sizes[3] < sizes[4] < sizes[2]
    measured = (tmp_path / "sensitivity.csv").read_bytes()
    run_search(experiment, tmp_path, SearchSettings(6, 1))
    assert (tmp_path / "sensitivity.csv").read_bytes() == measured


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [INFORMED, BAYESIAN, RANDOM])
def test_a_search_under_a_size_limit_tries_nothing_larger_and_scores_by_the_metric(
    digits, digits_data, digits_weights, tmp_path, strategy
):
    experiment = Experiment(digits, "ds_cnn", digits_data, weights=digits_weights)
    max_bits = 30_000
    space = SearchSpace(kernel=(3, 4, 8), bias=(8, 16), activation=(3, 4, 8))
    result = run_search(experiment, tmp_path, SearchSettings(6, 1, strategy, space, max_bits))
    assert len(result.log.rows) == 6
    for row in result.log.rows:
        assert row.size_bits <= max_bits and row.score == row.metric
        config = BitConfig.load(tmp_path / "trials" / row.trial_id / "config.json")
        assert {bits.kernel for bits in config.layers.values()} <= {None, 3, 4, 8}
    assert max(row.size_bits for row in result.log.rows) > 0.9 * max_bits


def test_a_size_limit_that_no_width_meets_is_refused(digits, digits_data, digits_weights, tmp_path):
    experiment = Experiment(digits, "ds_cnn", digits_data, weights=digits_weights)
    with pytest.raises(ValueError, match=r"at least \d+ bits .* KiB.*narrowest widths. Received: 1000 bits"):
        run_search(experiment, tmp_path, SearchSettings(2, 1, max_bits=1000))


@pytest.mark.parametrize("name", ["max_trials", "epochs"])
def test_settings_need_a_trial_and_an_epoch(name):
    with pytest.raises(ValueError, match=f"{name} must be 1 or more. Received: {name}=0"):
        SearchSettings(**{"max_trials": 1, "epochs": 1, name: 0})
