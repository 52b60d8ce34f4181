"""Fine-tuning and checkpoints of networks whose layers have scales of different kinds."""

import keras
import numpy as np
import pytest
from networks import outputs
from refusals import refusal

from po2quant.network import activation_quantizers, freeze_scales, weight_quantizers
from po2quant.report.results import markdown_tables, result_records
from po2quant.report.tables import summary_table
from po2quant.training.finetune import Experiment, Workbench
from po2quant.training.prepare import prepare_network, prepare_with_own_scales, resolve_config

AUTO, PO2 = "auto", "auto_po2"


@pytest.fixture
def spec(digits):
    return digits.network()[1]


@pytest.fixture
def flat4(spec):
    return resolve_config("flat4", spec)


@pytest.fixture
def experiment(digits, digits_data, digits_weights):
    return Experiment(digits, "ds_cnn", digits_data, weights=digits_weights)


def mixed(config, real):
    return config.with_alphas({name: AUTO if name in real else PO2 for name in config.layers})


@pytest.mark.slow
def test_a_bench_gives_each_mix_a_network_of_its_own(experiment, flat4, spec):
    mixes = [flat4, mixed(flat4, ("conv2d", "activation_1")), flat4, mixed(flat4, ("dense",))]
    bench, x = Workbench(experiment), experiment.dataset.test.inputs(slice(32))
    results = [outputs(bench.prepare(config).model, x) for config in mixes]
    for config, result in zip(mixes, results, strict=True):
        fresh = prepare_network(
            spec.fold(), config.with_alpha(PO2), experiment.weights, experiment.dataset, experiment.seed
        ).model
        np.testing.assert_array_equal(result, outputs(fresh, x))
    assert np.any(results[0] != results[1]) and np.any(results[1] != results[3])


def test_configurations_of_the_same_alphas_share_a_network(experiment, flat4, spec):
    bench = Workbench(experiment)
    first = bench.prepare(flat4).model
    named = flat4.with_alphas(dict.fromkeys(flat4.layers, PO2))
    assert bench.prepare(named).model is first
    assert bench.prepare(resolve_config("flat8", spec)).model is first
    assert bench.prepare(mixed(flat4, ("dense",))).model is not first


@pytest.mark.slow
def test_a_mixed_run_is_mixed_in_every_table(experiment, flat4, tmp_path):
    mix = mixed(flat4, ("dense",))
    bench = Workbench(experiment)
    result = bench.finetune_and_score("mix.json", mix, tmp_path, 0)
    records = result_records([result], experiment, "command", 0.5)
    assert [record["alpha"] for record in records] == ["mixed"]
    rows = [{name: "" if value is None else str(value) for name, value in record.items()} for record in records]
    lines = markdown_tables(rows).splitlines()
    assert "`mixed` untrained" in lines[2] and f"{result.calibrated.value:.4f}" in lines[-1]
    layers = experiment.network.layers
    names, scales = (summary_table(layers, mix).columns[index] for index in (0, -1))
    scales = dict(zip(names.cells, scales.cells, strict=True))
    assert (scales["dense"], scales["conv2d"], scales["total"]) == (AUTO, PO2, "")
    assert "scales" not in [
        column.header for column in summary_table(experiment.network.layers, flat4.with_alpha(PO2)).columns
    ]


@pytest.fixture
def checkpoint(spec, digits_data, digits_weights, tmp_path):
    """Return a function from a configuration to the weight file of its frozen network."""

    def save(config):
        model = prepare_network(spec.fold(), config, digits_weights, digits_data).model
        freeze_scales(model)
        model.save_weights(tmp_path / "q.weights.h5")
        return tmp_path / "q.weights.h5"

    return save


@pytest.mark.parametrize(
    ("saved", "asked", "words"),
    [
        (("conv2d",), (), "kernel of conv2d are real numbers, not 'auto_po2'"),
        ((), ("conv2d",), "kernel of conv2d are powers of two, not 'auto'"),
        (("activation_1",), (), "activation_1 are real numbers, not 'auto_po2'"),
        (("conv2d", "activation_1"), ("dense", "activation_1"), "kernel of conv2d are real numbers, not 'auto_po2'"),
    ],
)
def test_a_checkpoint_of_other_scales_is_refused(spec, digits_data, flat4, checkpoint, saved, asked, words):
    path = checkpoint(mixed(flat4, saved))
    message = refusal(prepare_network, spec.fold(), mixed(flat4, asked), path, digits_data)
    assert words in message and str(path) in message


@pytest.mark.parametrize("real", [(), ("conv2d", "activation_1"), None])
def test_a_checkpoint_of_the_same_scales_is_loaded(spec, digits_data, flat4, checkpoint, real):
    mix = mixed(flat4, flat4.layers if real is None else real)
    path = checkpoint(mix)
    model = prepare_network(spec.fold(), mix, path, digits_data).model
    model.save_weights(path.with_name("again.weights.h5"))
    again = prepare_network(spec.fold(), mix, path.with_name("again.weights.h5"), digits_data).model
    stored = [[variable.numpy().tolist() for variable in each.variables] for each in (model, again)]
    assert stored[0] == stored[1]


def test_zero_biases_fit_every_kind_of_scales(spec, digits_data, digits_weights, flat4, tmp_path):
    every_layer_real = mixed(flat4, flat4.layers)
    model = prepare_network(spec.fold(), every_layer_real, digits_weights, digits_data).model
    for weight in weight_quantizers(model):
        if weight.part == "bias":
            weight.variable.assign(keras.ops.zeros_like(weight.variable))
    freeze_scales(model)
    model.save_weights(tmp_path / "q.weights.h5")
    assert prepare_network(spec.fold(), every_layer_real, tmp_path / "q.weights.h5", digits_data).config is not None


@pytest.mark.parametrize("others", [PO2, "learned_po2"])
def test_scales_of_its_own_are_those_of_the_weights_not_of_the_checkpoint(
    spec, digits_data, digits_weights, flat4, checkpoint, others
):
    real = mixed(flat4, flat4.layers)
    fresh = prepare_with_own_scales(spec.fold(), real, digits_weights, digits_data).model
    mix = flat4.with_alphas({name: AUTO if name in ("conv2d", "activation_1") else others for name in flat4.layers})
    again = prepare_with_own_scales(spec.fold(), real, checkpoint(mix), digits_data).model
    ranges = [[quantizer.range for _, quantizer in activation_quantizers(model)] for model in (fresh, again)]
    assert ranges[0] == ranges[1]
    assert not any(weight.quantizer.frozen for weight in weight_quantizers(again))
    assert {weight.quantizer.alpha for weight in weight_quantizers(again)} == {AUTO}
