"""Training in stages: what is frozen stays, pictures grow, and the result is exported."""

import dataclasses

import keras
import numpy as np
import pytest

import po2quant
from benchmarks.fly_traits.classifier import TRAITS_HEAD, traits_network
from benchmarks.fly_traits.data import split_of
from benchmarks.fly_traits.generator import crops
from benchmarks.fly_traits.key_points import decode
from benchmarks.fly_traits.score import TRAIT_COUNT
from benchmarks.fly_traits.staged import SCHEDULES, Changed, Strength, train
from benchmarks.shared.mobilenet_v3 import Form
from po2quant.files import read_csv

TINY = Form(((3, 16, 16, True, "relu", 2), (5, 24, 16, True, "hard_silu", 1)), head_filters=24, hidden_units=32)
FLIES = split_of(crops(24, 32, 0))
SMALL = dataclasses.replace(SCHEDULES["small"], first=Strength(16, 2, 30, 0.0), last=Strength(32, 3, 50, 0.5))


def _tiny(size=None):
    return traits_network(TINY, with_key_points=True, width=1.0, size=size)


def _only(*names):
    """The schedule with some stages of one epoch."""
    stages = (dataclasses.replace(stage, phases=1, epochs=1) for stage in SMALL.stages if stage.name in names)
    return dataclasses.replace(SMALL, stages=tuple(stages))


def test_strength_rises_evenly_over_all_phases():
    document = SCHEDULES["document"]
    assert document.phases == 80 and sum(stage.phases * stage.epochs for stage in document.stages) == 400
    sizes = [document.strength(phase).size for phase in range(80)]
    assert sizes[0] == 64 and sizes[-1] == 224 and sizes == sorted(sizes) and set(np.diff(sizes)) == {0, 8}
    assert document.strength(0) == Strength(64, 6, 60, 0.0) and document.strength(79) == Strength(224, 8, 100, 0.5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_key_points_there_is_one_stage_of_as_many_epochs(name):
    both = SCHEDULES[name], SCHEDULES[name].without_key_points()
    epochs = [sum(stage.phases * stage.epochs for stage in schedule.stages) for schedule in both]
    assert epochs[0] == epochs[1] and [stage.name for stage in both[1].stages] == ["all"]


def test_changed_pictures_are_the_same_for_a_seed_and_others_in_the_next_epoch():
    batches = Changed(FLIES, SMALL.first, seed=1)
    (x, y), (again, _) = batches[0], Changed(FLIES, SMALL.first, seed=1)[0]
    assert x.shape == (24, 16, 16, 3) and x.dtype == np.float32 and x.max() <= 1.0 and y.shape == (24, 12)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(
        Changed(FLIES, SMALL.first, 1, epoch=1)[0][0], (batches.on_epoch_end(), batches[0])[1][0]
    )
    assert np.any(batches[0][0] != x)


def test_changes_keep_traits_and_what_is_not_known():
    flies = dataclasses.replace(FLIES, y=FLIES.y.copy())
    flies.y[:, 1] = np.nan
    flies.y[::2, TRAIT_COUNT:] = np.nan
    _, y = Changed(flies, SMALL.last, seed=0)[0]
    order = np.random.default_rng((0, 0)).permutation(24)
    np.testing.assert_array_equal(y[:, :TRAIT_COUNT], flies.y[order, :TRAIT_COUNT])
    np.testing.assert_array_equal(np.isnan(y[:, TRAIT_COUNT:]), np.isnan(flies.y[order, TRAIT_COUNT:]))


@pytest.fixture(scope="module")
def head_trained(tmp_path_factory):
    """A network before and after the stage that trains the traits' own layers."""
    keras.utils.set_random_seed(0)
    network = _tiny()
    before = {weight.path: weight.numpy().copy() for weight in network.weights}
    folder = tmp_path_factory.mktemp("staged")
    train(network, (FLIES, FLIES), _only("head"), folder)
    return network, before, folder


def test_a_frozen_backbone_keeps_every_bit(head_trained):
    network, before, _ = head_trained
    changed = {path for path, value in before.items() if np.any(value != _value(network, path))}
    assert changed == {path for path in before if path.startswith(TRAITS_HEAD)} != set()


def _value(network, path):
    return next(weight.numpy() for weight in network.weights if weight.path == path)


def test_a_stage_leaves_its_epochs_and_weights(head_trained):
    network, _, folder = head_trained
    assert {"epochs.csv", "best.weights.h5", "head.weights.h5"} <= {path.name for path in folder.iterdir()}
    assert all(layer.trainable for layer in network.layers)


@pytest.mark.slow
def test_a_network_trained_in_all_stages_is_exported_and_verified(tmp_path):
    network = _tiny()
    train(network, (FLIES, FLIES), _only("points", "head", "all"), tmp_path)
    assert [row["epoch"] for row in read_csv(tmp_path / "epochs.csv")] == ["0", "1", "2"]
    fixed = _tiny(size=32)
    fixed.set_weights(network.get_weights())
    x = FLIES.inputs()
    model = po2quant.freeze(po2quant.quantize(fixed, x, config="w8a8"))
    assert po2quant.verify(model, x).mismatches == 0
    assert po2quant.export(model, tmp_path / "c")
    outputs = model.predict(x, verbose=0)
    assert outputs.shape == (24, 12) and decode(outputs[:, TRAIT_COUNT:]).shape == (24, 4, 2)
