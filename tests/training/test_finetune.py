"""Fine-tuning a configuration: what a run folder may be resumed with."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import search_process
from typer.testing import CliRunner

from po2quant.benchmark import Dataset, NetworkSpec
from po2quant.cli import app
from po2quant.network import folding, graph, weight_quantizers
from po2quant.runs.names import BEST_CONFIG
from po2quant.training.finetune import Experiment, compare, train_float
from po2quant.training.prepare import resolve_config


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    of_tiny = search_process.experiment(None).with_float_weights(tmp_path_factory.mktemp("tiny"))
    return dataclasses.replace(of_tiny, resume=True)


def run(experiment, folder, config, epochs=1):
    return compare(experiment, [("mpq", resolve_config(config, experiment.spec))], folder, epochs)[0]


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(experiment, tmp_path):
    first = run(experiment, tmp_path, "flat8")
    weights = (tmp_path / "mpq" / "checkpoint.npz").read_bytes()
    again = run(experiment, tmp_path, "flat8")
    assert again == first
    assert (tmp_path / "mpq" / "checkpoint.npz").read_bytes() == weights


@pytest.mark.slow
def test_another_configuration_under_the_same_name_starts_anew(experiment, tmp_path):
    run(experiment, tmp_path, "flat16")
    fresh = run(experiment, tmp_path / "elsewhere", "flat4")
    replaced = run(experiment, tmp_path, "flat4")
    assert dataclasses.replace(replaced, seconds=0) == dataclasses.replace(fresh, seconds=0)
    assert '"kernel": 4' in (tmp_path / "mpq" / BEST_CONFIG).read_text()


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_started_anew_forgets_the_old_configuration(experiment, tmp_path, monkeypatch):
    run(experiment, tmp_path, "flat16")
    with monkeypatch.context() as patch:
        patch.setattr("po2quant.training.finetune.fit", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(experiment, tmp_path, "flat4")
    resumed, fresh = (run(experiment, folder, "flat4") for folder in (tmp_path, tmp_path / "elsewhere"))
    assert dataclasses.replace(resumed, seconds=0) == dataclasses.replace(fresh, seconds=0)


@pytest.mark.slow
def test_the_saved_network_is_frozen(experiment, tmp_path):
    import keras

    run(experiment, tmp_path, "flat4")
    model = keras.models.load_model(tmp_path / "mpq" / "model.keras")
    assert all(weight.quantizer.frozen for weight in weight_quantizers(model))
    scales = np.concatenate([np.ravel(weight.quantizer._frozen_scale) for weight in weight_quantizers(model)])
    np.testing.assert_array_equal(np.frexp(scales)[0], 0.5)


def test_a_float_network_has_32_bits_everywhere(experiment):
    layers = experiment.network.layers
    assert experiment.network.size(None).total_bits == 32 * sum(
        layer.kernel_parameters + layer.bias_parameters + (layer.elements if layer.kind != "weights" else 0)
        for layer in layers
    )


def test_test_only_data_cannot_train(digits, digits_data, tmp_path):
    with pytest.raises(ValueError, match="has no training split, and there must be data to train on"):
        train_float(Experiment(digits, "ds_cnn", Dataset("digits", "subset", digits_data.test)), tmp_path)


def test_an_unknown_alpha_or_model_is_named(digits, digits_data):
    with pytest.raises(ValueError, match="alpha must be one of auto, auto_po2"):
        Experiment(digits, "ds_cnn", digits_data, alpha="po2")
    with pytest.raises(ValueError, match="must be one of ds_cnn"):
        Experiment(digits, "vgg", digits_data)


@pytest.fixture
def counted(monkeypatch):
    """Count what making a network costs: builds of the float model, foldings and readings of a graph."""
    calls = Counter()

    def count(owner, name):
        function = getattr(owner, name)

        def counting(*arguments):
            calls[name] += 1
            return function(*arguments)

        monkeypatch.setattr(owner, name, counting)

    for owner, name in ((NetworkSpec, "new_network"), (folding, "lower"), (graph, "_read")):
        count(owner, name)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("epochs", ["0", "1"])
def test_the_command_builds_folds_and_reads_a_network_once(counted, digits_weights, tmp_path, epochs):
    options = ["--weights", str(digits_weights), "--epochs", epochs, "--output-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["finetune", "--benchmark", "digits", *options])
    assert result.exit_code == 0, result.output
    assert counted == {"new_network": 1, "lower": 1, "_read": 3}  # the float, the folded and the quantized network


@pytest.mark.slow
def test_a_float_network_that_is_trained_first_is_built_once_more(counted, tmp_path):
    options = ["--config", "flat8", "--epochs", "1", "--output-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["finetune", "--benchmark", "search_process:TASK", *options])
    assert result.exit_code == 0, result.output
    assert counted == {"new_network": 2, "lower": 1, "_read": 3}
