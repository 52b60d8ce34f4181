"""The published configurations on the networks that the project builds: every printed total, to the bit."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import pytest
from networks import numbered

from po2quant.benchmark import load_benchmark
from po2quant.bit_config import BitConfig
from po2quant.cost import (
    LayerShape,
    Size,
    check_covers,
    network_size,
    reference_config,
    stats_block,
)
from po2quant.network import Slot, fold_batch_norm, network_layers, place_quantizers

BEST_CONFIGS = Path(__file__).resolve().parents[2] / "best_configs"
LOST_WIDTHS_OF_EFFICIENTNET = 25


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the study printed or, without a printed total, what its bits add up to."""

    published: str
    reference: Size
    trial: Size
    slots: int
    macs: int | None = None
    delta: str = ""


NETWORKS = {
    ("anomaly_detection", "autoencoder"): Expected(
        "ad_autoencoder", Size(42112, 4278904), Size(26752, 1232760), 11, 264192, "8.89%"
    ),
    ("keyword_spotting", "ds_cnn"): Expected(
        "kws_ds_cnn", Size(1164976, 370484), Size(428976, 145844), 12, 2656768, "7.09%"
    ),
    ("image_classification", "resnet8"): Expected(
        "ic_resnet8", Size(1909920, 1248486), Size(1008800, 501638), 15, 12501632
    ),
    ("visual_wake_words", "mobilenet_v1"): Expected(
        "vww_mobilenet_v1", Size(4372512, 3414670), Size(2507784, 1210896), 30, 7489664
    ),
    ("visual_wake_words", "mobilenet_v2"): Expected(
        "vww_mobilenet_v2", Size(22761008, 35623294), Size(12023328, 12228968), 76, delta="6.34%"
    ),
    ("visual_wake_words", "efficientnet_b0"): Expected(
        "vww_efficientnet_b0", Size(46418336, 64280882), Size(25625816, 35549652), 190, delta="4.28%"
    ),
}
PRINTED_TOTALS = {  # reference and trial
    ("anomaly_detection", "autoencoder"): (4321016, 1259512),
    ("keyword_spotting", "ds_cnn"): (1535460, 574820),
    ("visual_wake_words", "mobilenet_v2"): (58384302, 24252296),
    ("visual_wake_words", "efficientnet_b0"): (110699218, 61175468),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A benchmark's network as the accounting sees it, and its configuration."""

    layers: list[LayerShape]
    slots: list[Slot]
    config: BitConfig
    expected: Expected


@functools.cache
def network_of(benchmark: str, model: str) -> Network:
    spec = load_benchmark(benchmark).networks[model]
    folded = fold_batch_norm(spec.build())
    return Network(
        network_layers(folded, spec.placement),
        place_quantizers(folded, spec.placement),
        BitConfig.load(BEST_CONFIGS / f"{benchmark}-{model}.json"),
        NETWORKS[benchmark, model],
    )


@pytest.fixture(params=NETWORKS, ids="-".join)
def network(request) -> Network:
    return network_of(*request.param)


@pytest.mark.parametrize("key", NETWORKS, ids="-".join)
def test_benchmark_points_to_its_configuration(key):
    benchmark, model = key
    path = load_benchmark(benchmark).networks[model].mpq_config
    assert path == BEST_CONFIGS / f"{benchmark}-{model}.json"


def test_configuration_covers_the_network(network):
    check_covers(network.config, network.layers)


def test_reference_is_as_printed(network):
    assert network_size(network.layers, reference_config(network.layers)) == network.expected.reference


def test_trial_is_as_printed(network):
    assert network_size(network.layers, network.config) == network.expected.trial


@pytest.mark.parametrize(("network", "totals"), PRINTED_TOTALS.items(), indirect=["network"])
def test_totals_are_as_printed(network, totals):
    configs = reference_config(network.layers), network.config
    assert tuple(network_size(network.layers, config).total_bits for config in configs) == totals


def test_statistics_are_as_printed(network):
    trial, reference = network.expected.trial, network.expected.reference
    block = " ".join(stats_block(network.layers, network.config.with_alpha("auto")).split())
    assert f"trial_size={trial.total_bits} reference_size={reference.total_bits}" in block
    assert f"a_bits={trial.activation_bits}/{reference.activation_bits} (-" in block
    assert f"p_bits={trial.parameter_bits}/{reference.parameter_bits} (-" in block
    if network.expected.delta:
        assert f"delta={network.expected.delta} a_bits" in block


@pytest.mark.parametrize(
    "network", [key for key, expected in NETWORKS.items() if expected.macs], indirect=True, ids="-".join
)
def test_multiplications_are_those_of_the_reference_networks(network):
    assert sum(layer.macs for layer in network.layers) == network.expected.macs


def test_slots_are_numbered_in_network_order(network):
    assert [slot.name for slot in network.slots] == numbered("activation", network.expected.slots)
    assert [layer.name for layer in network.layers if layer.kind == "activation"] == [
        slot.name for slot in network.slots
    ]


def test_configuration_is_in_network_order(network):
    counted = [layer.name for layer in network.layers if layer.kind in ("weights", "activation")]
    assert list(network.config.layers) == counted


def test_widths_are_those_of_the_search_space(network):
    bits = network.config.layers.values()
    assert {width.kernel for width in bits} <= {4, 8, 16, None}
    assert {width.bias for width in bits} <= {16, 31, None}
    assert {width.activation for width in bits} <= {4, 8, 16, None}


def test_provenance_repeats_the_totals(network):
    provenance, expected = network.config.provenance, network.expected
    assert provenance["reference_size_bits"] == expected.reference.total_bits
    assert provenance["trial_size_bits"] == expected.trial.total_bits
    activations = {"trial": expected.trial.activation_bits, "reference": expected.reference.activation_bits}
    parameters = {"trial": expected.trial.parameter_bits, "reference": expected.reference.parameter_bits}
    assert provenance["activation_bits"] == activations
    assert provenance["parameter_bits"] == parameters
    assert "Politecnico di Torino" in provenance["source"]


def test_only_efficientnet_is_partly_reconstructed(network):
    is_efficientnet = network.expected.published == "vww_efficientnet_b0"
    assert bool(network.config.provenance.get("partly_reconstructed")) == is_efficientnet


def published(network: Network, shared) -> dict:
    return json.loads(shared(f"published_configs/{network.expected.published}.json").read_text())


def test_every_row_equals_the_published_one(network, shared):
    rows = {row["name"]: row for row in published(network, shared)["layers"]}
    found = {
        layer.name: {
            "class": "Activation(softmax)" if layer.kind == "softmax" else layer.class_name,
            "shape": list(layer.shape),
            "elements": layer.elements,
            "params": {"kernel": layer.kernel_parameters, "bias": layer.bias_parameters},
        }
        for layer in network.layers
    }
    assert found == {name: {part: row[part] for part in next(iter(found.values()))} for name, row in rows.items()}


def test_every_width_equals_the_published_one(network, shared):
    published_bits = {
        row["name"]: (row["kernel_bits"], row["bias_bits"], row["activation_bits"])
        for row in published(network, shared)["layers"]
        if row["class"] not in ("InputLayer", "Activation(softmax)")
    }
    found = {name: (bits.kernel, bits.bias, bits.activation) for name, bits in network.config.layers.items()}
    assert found == published_bits


def test_reconstructed_layers_are_the_ambiguous_ones(network, shared):
    assert network.config.provenance.get("reconstructed_layers", []) == published(network, shared)["ambiguous_layers"]


def test_efficientnet_says_which_widths_are_a_completion():
    config = BitConfig.load(BEST_CONFIGS / "visual_wake_words-efficientnet_b0.json")
    layers = config.provenance["reconstructed_layers"]
    assert config.provenance["partly_reconstructed"] is True
    assert len(layers) == len(set(layers)) == LOST_WIDTHS_OF_EFFICIENTNET
    assert all(config.layers[name].activation is not None for name in layers)
    assert "25 of the 190 activation widths were lost" in config.provenance["note"]


# Which tensors the slots are on, typed off from the networks' definitions.


SLOT_LAYERS = {
    "autoencoder": ["input", *numbered("relu", 9), "dense_9"],
    "ds_cnn": ["input", *numbered("relu", 9), "pool", "dense"],
    "resnet8": [
        "input",
        "relu",
        *("relu_1", "conv2d_2", "relu_2"),
        *("relu_3", "conv2d_4", "conv2d_5", "relu_4"),
        *("relu_5", "conv2d_7", "conv2d_8", "relu_6"),
        *("pool", "dense"),
    ],
    "mobilenet_v1": ["input", *numbered("relu", 27), "pool", "dense"],
}


@pytest.mark.parametrize("model", SLOT_LAYERS)
def test_slots_are_on_the_right_layers(model):
    (benchmark,) = [benchmark for benchmark, name in NETWORKS if name == model]
    slots = network_of(benchmark, model).slots
    assert [slot.layer for slot in slots] == SLOT_LAYERS[model]
    assert [slot.consumer for slot in slots] == [None] * len(slots)


def test_mobilenet_v2_requantizes_its_ten_shortcuts():
    slots = network_of("visual_wake_words", "mobilenet_v2").slots
    joined = [slot for slot in slots if slot.consumer is not None]
    assert len(joined) == 10
    for slot in joined:
        index = slots.index(slot)
        assert slots[index + 1].layer == slot.consumer  # the Add itself comes next
        assert slot.layer != slots[index - 1].layer  # after the projection, the other operand


def test_signs_of_resnet8():
    """Only linear convolutions and the logits have negative values; pictures are 0..255."""
    slots = network_of("image_classification", "resnet8").slots
    assert [slot.layer for slot in slots if slot.signed] == [
        "conv2d_2",
        "conv2d_4",
        "conv2d_5",
        "conv2d_7",
        "conv2d_8",
        "dense",
    ]


# Whatever else is kept there.


@pytest.mark.parametrize("path", sorted(BEST_CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_file_is_canonical_and_named_like_its_configuration(path):
    config = BitConfig.load(path)
    assert config.name == path.stem
    assert config.to_json() == path.read_text(encoding="utf-8")


def test_there_is_a_configuration_for_every_published_network():
    assert {f"{benchmark}-{model}" for benchmark, model in NETWORKS} <= {
        path.stem for path in BEST_CONFIGS.glob("*.json")
    }


def test_digits_configuration_covers_its_network():
    path = BEST_CONFIGS / "digits-ds_cnn.json"
    if not path.exists():
        pytest.skip("no search has found it yet")
    spec = load_benchmark("digits").networks["ds_cnn"]
    layers = network_layers(fold_batch_norm(spec.build()), spec.placement)
    config = BitConfig.load(path)
    check_covers(config, layers)
    assert network_size(layers, config).total_bits < network_size(layers, reference_config(layers)).total_bits
