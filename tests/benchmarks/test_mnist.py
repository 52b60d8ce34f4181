"""The twelve families on MNIST: totals and shapes of their papers, and every one of them becomes integers."""

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks.mnist import MODELS, models
from benchmarks.mnist.recipe import SMALL, warm_up_then_cosine
from benchmarks.studies import mnist as study
from benchmarks.studies.layers import SHOWN_FORMATS
from po2quant.benchmark import load_benchmark
from po2quant.deploy.check import check
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network
from po2quant.deploy.verify import verify
from po2quant.export.c.run import compile_c
from po2quant.export.c.source import write_c
from po2quant.files import read_csv
from po2quant.training.prepare import resolve_config

TASK = load_benchmark("mnist")
LENET = (6 * (25 + 1), 16 * (6 * 25 + 1), 120 * (256 + 1), 84 * (120 + 1), 10 * (84 + 1))
"""Parameters by layer, by hand."""
LENET_MACS = 24 * 24 * 6 * 25 + 8 * 8 * 16 * 6 * 25 + 256 * 120 + 120 * 84 + 84 * 10


@pytest.fixture(scope="module")
def networks():
    """Return a new network of each family, by name."""
    return {name: TASK.networks[name].new_network() for name in MODELS}


def counted(model, kind):
    """Return how many layers of a class a model has."""
    return sum(type(layer) is kind for layer in model.layers)


def sizes(model, kind):
    """Return height, width and channels of what the layers of a class give, in order."""
    return [layer.output.shape[1:] for layer in model.layers if type(layer) is kind]


def test_lenet_has_the_published_parameters(networks):
    found = [layer.count_params() for layer in networks["lenet"].layers if layer.count_params()]
    assert tuple(found) == LENET == (156, 2416, 30840, 10164, 850) and sum(found) == 44426
    assert sum(layer.macs for layer in TASK.networks["lenet"].fold().layers) == LENET_MACS == 281640


def test_lenet_has_the_published_shapes(networks):
    assert sizes(networks["lenet"], layers.Conv2D) == [(24, 24, 6), (8, 8, 16)]
    assert sizes(networks["lenet"], layers.MaxPooling2D) == [(12, 12, 6), (4, 4, 16)]


def test_blocks_have_the_numbers_of_layers_of_their_papers(networks):
    numbers = {name: (counted(model, layers.Conv2D), counted(model, layers.Dense)) for name, model in networks.items()}
    assert numbers["alexnet"] == (5, 3) and numbers["vgg11"] == (8, 3)
    assert numbers["resnet18"] == (17 + 3, 1), "three shortcuts are projected"
    assert numbers["squeezenet"] == (1 + 8 * 3 + 1, 0)
    assert numbers["googlenet"] == (1 + 5 * 6, 1)
    assert counted(networks["mobilenet_v1"], layers.DepthwiseConv2D) == 7 == numbers["mobilenet_v1"][0] - 1
    assert counted(networks["efficientnet_b0"], layers.Multiply) == 8, "squeeze-and-excitation in every block"
    assert counted(networks["resnet18"], layers.Add) == 8


@pytest.mark.parametrize("name", MODELS)
def test_every_family_gives_probabilities_and_costs_little(name, networks):
    model = networks[name]
    assert model.name == name and model.input_shape == (None, 28, 28, 1) and model.output_shape == (None, 10)
    assert isinstance(model.layers[-1], layers.Softmax)
    assert model.count_params() < 200_000
    has_norm = counted(model, layers.BatchNormalization) > 0
    assert has_norm == (name not in ("lenet", "alexnet"))


def test_a_channel_shuffle_deals_the_groups_out_in_turn():
    x = keras.Input((1, 1, 6))
    shuffled = keras.Model(x, models.channel_shuffle(x, 2))
    numbers = np.arange(6, dtype=np.float32).reshape(1, 1, 1, 6)
    assert shuffled.predict(numbers, verbose=0).ravel().tolist() == [0, 3, 1, 4, 2, 5]


def test_the_rate_rises_linearly_and_falls_to_nothing():
    rate = warm_up_then_cosine(0.1, epochs=8, warm_up_epochs=2)
    rates = [rate(epoch) for epoch in range(8)]
    assert rates[:2] == pytest.approx([0.025, 0.075])
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[2] > 0.09 and 0 < rates[-1] < 0.005
    assert rate(20) == rates[-1] and max(map(SMALL.float_learning_rate, range(15))) <= 0.003


def test_the_penultimate_features_are_what_the_last_weights_see(networks):
    assert study.penultimate(networks["lenet"]).output_shape == (None, 84)
    assert study.penultimate(networks["squeezenet"]).output_shape == (None, 64), "averaged over places"


def test_the_first_epoch_that_reaches_a_goal_is_told():
    epochs = [{"epoch": str(n), "val_accuracy": str(value)} for n, value in enumerate((0.9, 0.99, 0.98), 1)]
    assert (study.epochs_to(0.99, epochs), study.epochs_to(0.995, epochs)) == (2, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_family_becomes_integers_and_every_file(name, networks):
    found = check(networks[name], TASK.networks[name].placement)
    assert found.is_supported, found.obstacles
    assert {name: found.formats[name] for name in SHOWN_FORMATS} == dict.fromkeys(SHOWN_FORMATS, ())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_keras_the_interpreter_and_c_compute_the_same_integers_of_every_family(name, tmp_path):
    """Untrained, in 4 bits, on the embedded digits."""
    spec, dataset = TASK.networks[name], TASK.load_data(None, 0)
    network = frozen_network(spec, resolve_config("w4a4", spec), None, dataset)
    program = integer_program(network)
    executable = compile_c(write_c(program, tmp_path, "network", True), tmp_path, True, ("-O1",))
    found = verify(program, network, executable, dataset.test.head(16).inputs())
    assert found.c.integers > 0 and found.mismatches == 0


@pytest.mark.slow
def test_the_study_goes_from_training_to_equal_integers_and_repeats_nothing(tmp_path, monkeypatch):
    """On the embedded digits."""
    arguments = ["--models", "lenet", "--configs", "float", "w4a4", "--output-dir", str(tmp_path / "runs")]
    arguments += ["--results", str(tmp_path / "mnist.csv")]
    study.main(arguments)
    rows = {row["config"]: row for row in read_csv(tmp_path / "mnist.csv")}
    assert set(rows) == {"float", "w4a4"} and rows["float"]["parameters"] == "44426"
    assert float(rows["float"]["test_accuracy"]) > 0.9 and 0.5 < float(rows["float"]["ari_kmeans"]) <= 1
    assert (rows["w4a4"]["differing"], rows["w4a4"]["compared_digits"]) == ("0", "64")
    assert float(rows["w4a4"]["test_accuracy"]) > 0.85
    monkeypatch.setattr(study, "measured", None)
    study.main(arguments)
    assert read_csv(tmp_path / "mnist.csv") == list(rows.values())
