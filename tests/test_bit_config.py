"""The JSON currency of the project: what round-trips, and one clear sentence for everything else."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated

from po2quant.bit_config import ALPHAS, FLAT_BIAS_BITS, MIXED, BitConfig, LayerBits

LONGEST_SENTENCE = 1000
"""Characters. A message that quotes a whole file is not a sentence."""

widths = st.integers(2, 32)
alphas = st.one_of(st.none(), st.sampled_from(ALPHAS))
layer_bits = st.one_of(
    st.builds(LayerBits, widths, widths, alpha=alphas), st.builds(LayerBits, activation=widths, alpha=alphas)
)
names = st.text(min_size=1)
configs = st.builds(
    BitConfig,
    st.dictionaries(names, layer_bits, min_size=1, max_size=8),
    st.text(),
    st.dictionaries(st.text(), st.one_of(st.none(), st.booleans(), st.integers(), st.text()), max_size=3),
)

HEAD = {"schema": "po2quant.bit_config", "version": 1}
DENSE = {"dense": {"kernel": 8, "bias": 16}}


def document(**changes: object) -> str:
    return json.dumps(HEAD | {"layers": DENSE} | changes)


def refusal(text: str) -> str:
    """Return the message that refuses a text, checked to be one sentence of readable length."""
    message = refusals.refusal(BitConfig.from_json, text, source="a.json")
    assert len(message) <= LONGEST_SENTENCE
    assert message.startswith("a.json")
    return message


@given(configs)
def test_json_round_trip_keeps_everything(config):
    back = BitConfig.from_json(config.to_json())
    assert back == config
    assert list(back.layers) == list(config.layers)


@given(configs)
def test_json_is_what_the_docstring_says(config):
    data = json.loads(config.to_json())
    assert list(data) == ["schema", "version", "name", "provenance", "layers"]
    assert (data["schema"], data["version"]) == ("po2quant.bit_config", 1)
    for name, bits in config.layers.items():
        expected = {"kernel": bits.kernel, "bias": bits.bias, "activation": bits.activation, "alpha": bits.alpha}
        assert data["layers"][name] == {key: value for key, value in expected.items() if value is not None}


def test_json_has_one_layer_a_line():
    config = BitConfig({"b": LayerBits(4, 16), "a": LayerBits(activation=8)})
    lines = [line.strip().rstrip(",") for line in config.to_json().splitlines()]
    assert '"b": {"kernel": 4, "bias": 16}' in lines
    assert '"a": {"activation": 8}' in lines


def test_a_configuration_without_alphas_is_written_as_before_there_were_any():
    layers = {"a": LayerBits(activation=8), "b": LayerBits(4, 16)}
    assert BitConfig(layers, "tiny", {"source": "hand"}).to_json() == (
        '{\n "schema": "po2quant.bit_config",\n "version": 1,\n "name": "tiny",\n'
        ' "provenance": {\n  "source": "hand"\n },\n "layers": {\n'
        '  "a": {"activation": 8},\n  "b": {"kernel": 4, "bias": 16}\n }\n}\n'
    )


@pytest.mark.parametrize("alpha", ["real", "", "AUTO", 1, True, 0.5, ["auto"], {"auto": 1}], ids=repr)
@pytest.mark.parametrize("bits", [{"kernel": 8, "bias": 8}, {"activation": 8}], ids=["weights", "activation"])
def test_unknown_alpha_is_named_with_its_layer_and_the_valid_ones(bits, alpha):
    message = refusal(document(layers=DENSE | {"bad_layer": bits | {"alpha": alpha}}))
    assert "'bad_layer'" in message and ", ".join(ALPHAS) in message
    assert message.endswith(f"alpha={alpha!r}")


def test_an_alpha_needs_widths():
    assert "kernel and bias" in refusal(document(layers={"dense": {"alpha": "auto"}}))


MIX = BitConfig({"dense": LayerBits(4, 16, alpha="auto"), "activation": LayerBits(activation=6)}, "mix")


def test_a_layer_without_an_alpha_has_the_networks():
    assert MIX.with_alpha("auto_po2").alphas() == {"dense": "auto", "activation": "auto_po2"}
    assert (MIX.with_alpha("auto_po2").scales, MIX.with_alpha("auto").scales) == (MIXED, "auto")


def test_an_incomplete_configuration_does_not_say_which_scales_it_has():
    with pytest.raises(ValueError, match=r"'mix' must have an alpha for every layer.*Received: none for 'activation'"):
        MIX.alphas()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_file_says_the_scales_only_where_the_run_does_not(alpha):
    open_everywhere = MIX.with_alphas(dict.fromkeys(MIX.layers))
    assert open_everywhere.with_alpha(alpha).without_alpha(alpha) == open_everywhere
    mixed = MIX.with_alpha("auto_po2")
    assert mixed.without_alpha(alpha) == mixed


def test_alphas_of_its_own_do_not_depend_on_the_networks():
    everywhere = MIX.with_alphas({"activation": "auto"})
    assert everywhere.scales == "auto"
    assert everywhere.layers == {"dense": MIX.layers["dense"], "activation": LayerBits(activation=6, alpha="auto")}
    assert (everywhere.name, everywhere.provenance) == (MIX.name, MIX.provenance)


def test_activations_alone_can_have_other_scales():
    mixed = MIX.with_activation_alpha("learned_po2")
    assert mixed.with_alpha("auto_po2").alphas() == {"dense": "auto", "activation": "learned_po2"}


@given(configs, st.sampled_from(ALPHAS))
def test_naming_the_default_everywhere_changes_no_scales(config, default):
    complete = config.with_alpha(default)
    assert complete.with_alphas(complete.alphas()) == complete.with_alpha("auto") == complete


def test_order_of_the_file_is_kept_not_sorted():
    layers = {name: {"activation": 8} for name in ("z", "activation_10", "activation_2", "a")}
    assert list(BitConfig.from_json(document(layers=layers)).layers) == ["z", "activation_10", "activation_2", "a"]


def test_name_and_provenance_are_optional():
    config = BitConfig.from_json(document())
    assert (config.name, dict(config.provenance)) == ("", {})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"schema": "po2quant.bit_config", "schema": "po2quant.bit_config"}', "schema"),
        (document().replace('"dense": {', '"dense": {"activation": 4}, "dense": {'), "dense"),
        (document().replace('"kernel": 8', '"kernel": 4, "kernel": 8'), "kernel"),
        (document(provenance={"x": 0}).replace('"x": 0', '"x": 0, "x": 0'), "x"),
    ],
    ids=["head", "layer", "width", "provenance"],
)
def test_duplicate_key_is_named(text, key):
    assert f"key '{key}' appears twice" in refusal(text)


def test_unknown_width_of_a_layer_is_named():
    message = refusal(document(layers={"dense": {"kernel": 8, "bais": 16}}))
    assert "'dense'" in message and "bais" in message and "kernel, bias, activation, alpha" in message


def test_unknown_key_of_the_head_is_named():
    assert "provenence" in refusal(document(provenence={}))


@pytest.mark.parametrize("schema", ["po2quant.bitconfig", None, 3, ["po2quant.bit_config"]])
def test_wrong_schema_is_named(schema):
    message = refusal(document(schema=schema))
    assert "'po2quant.bit_config'" in message and f"Received: {schema!r}" in message


@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1], 1.0, 1e308])
def test_wrong_version_is_named(version):
    message = refusal(document(version=version))
    assert "version must be 1" in message and f"Received: {version!r}" in message


@pytest.mark.parametrize("part", ["kernel", "bias", "activation"])
@pytest.mark.parametrize("bits", [0, 1, 33, -8, "8", True, False, 2.5, 8.0, [8], {"bits": 8}, float("nan"), 1e999])
def test_bad_width_is_named_with_its_layer(part, bits):
    layer = {"activation": bits} if part == "activation" else {"kernel": 8, "bias": 8} | {part: bits}
    message = refusal(document(layers=DENSE | {"bad_layer": layer}))
    assert "'bad_layer'" in message
    assert message.endswith(f"bits={bits!r}")


@pytest.mark.parametrize("bits", [2, 32])
def test_extreme_widths_are_valid(bits):
    config = BitConfig.from_json(document(layers={"d": {"kernel": bits, "bias": bits}, "a": {"activation": bits}}))
    assert config.layers == {"d": LayerBits(bits, bits), "a": LayerBits(activation=bits)}


@pytest.mark.parametrize(
    "bits",
    [
        {},
        {"kernel": 8},
        {"bias": 8},
        {"kernel": 8, "bias": None},
        {"kernel": 8, "activation": 8},
        {"kernel": 8, "bias": 8, "activation": 8},
    ],
    ids=str,
)
def test_layer_needs_kernel_and_bias_or_activation(bits):
    message = refusal(document(layers={"dense": bits}))
    assert "'dense'" in message and "kernel and bias" in message


@pytest.mark.parametrize("bits", [8, "8", [8, 8], None], ids=str)
def test_layer_must_be_a_dictionary(bits):
    message = refusal(document(layers={"dense": bits}))
    assert "'dense'" in message and f"Received: {bits!r}" in message


@pytest.mark.parametrize("layers", [{}, [], None, "dense", 3], ids=str)
def test_layers_must_be_a_dictionary_with_layers(layers):
    assert f"Received: {layers!r}" in refusal(document(layers=layers))


@pytest.mark.parametrize("key", ["schema", "version", "layers"])
def test_missing_key_is_an_error(key):
    fields = json.loads(document())
    del fields[key]
    assert key in refusal(json.dumps(fields))


@pytest.mark.parametrize(
    "changes", [{"name": 3}, {"name": None}, {"provenance": []}, {"provenance": "thesis"}], ids=str
)
def test_name_and_provenance_have_their_types(changes):
    assert next(iter(changes)) in refusal(document(**changes))


@pytest.mark.parametrize("text", ["", " ", "kernel: 8", "{", document()[:-1], document() + "}", "\0" * 100])
def test_text_that_is_not_json(text):
    assert "is not a bit configuration" in refusal(text)


@pytest.mark.parametrize("text", ["null", "[]", "3", '"po2quant.bit_config"', "true"])
def test_json_that_is_not_a_dictionary(text):
    assert type(json.loads(text)).__name__ in refusal(text)


@pytest.mark.parametrize("text", ["[" * 2_000_000, '{"a":' * 500_000], ids=["lists", "dictionaries"])
def test_huge_file_of_brackets(text):
    assert "is not a bit configuration" in refusal(text)


@pytest.mark.parametrize("depth", [20, 900, 960, 970, 980, 990, 1000, 5000])
def test_deep_nesting_never_overflows_the_stack(depth):
    nested = "[" * depth + "]" * depth
    for part in (DENSE, DENSE["dense"]):
        refusal(document().replace(json.dumps(part), nested))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": list(range(100_000))},
        {"layers": {"dense": list(range(100_000))}},
        {"layers": {"dense": {"kernel": "8" * 100_000, "bias": 8}}},
        {"layers": {"dense": {"kernel": 8, "bias": 8, "alpha": "a" * 100_000}}},
        {"schema": "s" * 100_000},
        {"version": "1" * 100_000},
    ],
    ids=["layers", "layer", "width", "alpha", "schema", "version"],
)
def test_message_about_a_huge_value_stays_readable(changes):
    refusal(document(**changes))


def test_layer_name_with_a_line_break_does_not_break_the_message():
    assert "bad" in refusal(document(layers={"bad\nname": {"kernel": 0, "bias": 8}}))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", '"\\ud800"'])
@pytest.mark.parametrize("place", ['"provenance": {"a": [%s]}', '"provenance": {"a": {"b": %s}}'])
def test_what_could_not_be_written_again_is_refused(place, value):
    assert "provenance" in refusal(document()[:-1] + ", " + place % value + "}")


@pytest.mark.parametrize("text", [document(name="\ud800"), document(layers={"\ud800": {"activation": 8}})])
def test_names_that_no_file_can_hold_are_refused(text):
    assert "UTF-8" in refusal(text)


def test_a_long_name_of_a_layer_is_cut():
    refusal(document(layers={"n" * 100_000: {"kernel": 1, "bias": 8}}))
    config = BitConfig.from_json(document(name="n" * 100_000, layers={"n" * 100_000: {"activation": 8}}))
    assert len(refusals.refusal(config.check_covers, ["dense"], [])) <= LONGEST_SENTENCE
    assert len(refusals.refusal(config.kernel_bits, "dense")) <= LONGEST_SENTENCE


def test_many_keys_of_which_the_last_appears_twice_take_no_longer():
    keys = ", ".join(f'"{index}": 0' for index in (*range(200_000), 199_999))
    assert "key '199999' appears twice" in refusal("{" + keys + "}")


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_file_with_changed_bytes_is_read_or_refused_in_one_line(tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_bytes(mutated(CONFIG.to_json().encode(), np.random.default_rng(seed)))
    try:
        config = BitConfig.load(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) <= LONGEST_SENTENCE
    else:
        assert BitConfig.from_json(config.to_json()) == config


def load_refusal(path: Path) -> str:
    message = refusals.refusal(BitConfig.load, path)
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(range(256)) * 40, "UTF-8"),
        (bytes(4096), "is not a bit configuration"),
        (b"", "is not a bit configuration"),
        (document(version=7).encode(), "Received: 7"),
        (b" " * (2**22 + 1), "more than 4194304 bytes"),
    ],
    ids=["binary", "zeros", "empty", "wrong value", "large"],
)
def test_load_names_the_file_that_it_refuses(tmp_path, content, words):
    (tmp_path / "a.json").write_bytes(content)
    assert words in load_refusal(tmp_path / "a.json")


def test_load_names_a_missing_file_and_a_folder(tmp_path):
    assert "No such file" in load_refusal(tmp_path / "missing.json")
    assert "directory" in load_refusal(tmp_path)


@given(config=configs)
def test_save_and_load_round_trip(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    config.save(path)
    assert BitConfig.load(path) == config


CONFIG = BitConfig({"dense": LayerBits(8, 16)}, "small", {"source": "hand"})
OTHER = BitConfig({"dense": LayerBits(4, 31)}, "smaller")


def test_save_leaves_only_the_file(tmp_path):
    CONFIG.save(tmp_path / "config.json")
    OTHER.save(str(tmp_path / "config.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert BitConfig.load(tmp_path / "config.json") == OTHER


def test_save_replaces_the_file_in_one_step(tmp_path, monkeypatch):
    """Until the new file is complete, the old one is what readers find."""
    path = tmp_path / "config.json"
    CONFIG.save(path)
    seen = []
    replace = os.replace

    def watched_replace(source, target):
        seen.append((BitConfig.load(source), BitConfig.load(target)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched_replace)
    OTHER.save(path)
    assert seen == [(OTHER, CONFIG)]


def test_failed_save_keeps_the_old_file_and_leaves_no_partial_one(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    CONFIG.save(path)

    def failing_replace(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", failing_replace)
    with pytest.raises(OSError):
        OTHER.save(path)
    assert BitConfig.load(path) == CONFIG
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


def test_save_of_something_json_cannot_hold_leaves_the_old_file(tmp_path):
    path = tmp_path / "config.json"
    CONFIG.save(path)
    with pytest.raises(TypeError):
        BitConfig(CONFIG.layers, provenance={"when": object()}).save(path)
    assert BitConfig.load(path) == CONFIG
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


def test_widths_by_layer():
    config = BitConfig({"dense": LayerBits(4, 16), "activation": LayerBits(activation=6)})
    assert (config.kernel_bits("dense"), config.bias_bits("dense"), config.activation_bits("activation")) == (4, 16, 6)


@pytest.mark.parametrize(
    ("method", "layer", "part"),
    [
        ("kernel_bits", "activation", "kernel"),
        ("bias_bits", "activation", "bias"),
        ("activation_bits", "dense", "activation"),
        ("kernel_bits", "conv", "kernel"),
    ],
)
def test_width_that_is_not_there_is_named(method, layer, part):
    config = BitConfig({"dense": LayerBits(4, 16), "activation": LayerBits(activation=6)}, "tiny")
    with pytest.raises(ValueError, match=f"'tiny' has no {part} bits for layer '{layer}'.*dense, activation"):
        getattr(config, method)(layer)


NETWORK = ["conv", "dense"], ["activation", "activation_1"]


def cover_refusal(config: BitConfig) -> str:
    return refusals.refusal(config.check_covers, *NETWORK)


def test_check_covers_accepts_any_order():
    config = BitConfig.flat(*NETWORK, bits=8)
    BitConfig(dict(reversed(config.layers.items()))).check_covers(*NETWORK)


@pytest.mark.parametrize("missing", [["dense"], ["activation"], ["conv", "activation_1"]], ids=str)
def test_check_covers_names_missing_layers(missing):
    layers = {name: bits for name, bits in BitConfig.flat(*NETWORK, bits=8).layers.items() if name not in missing}
    message = cover_refusal(BitConfig(layers, "short"))
    assert "'short'" in message
    assert re.search(rf"lacks {', '.join(missing)}\b", message)
    assert "unknown" not in message


def test_check_covers_names_unknown_layers():
    layers = BitConfig.flat(*NETWORK, bits=8).layers | {"dense_9": LayerBits(8, 8), "act": LayerBits(activation=8)}
    message = cover_refusal(BitConfig(layers))
    assert "unknown layers dense_9, act" in message
    assert "lacks" not in message


def test_check_covers_names_both_at_once():
    layers = {**BitConfig.flat(*NETWORK, bits=8).layers, "dense_9": LayerBits(8, 8)}
    del layers["conv"]
    message = cover_refusal(BitConfig(layers))
    assert "lacks conv" in message and "unknown layers dense_9" in message


@pytest.mark.parametrize(
    ("layer", "bits"), [("dense", LayerBits(activation=8)), ("activation", LayerBits(8, 8))], ids=["weights", "slot"]
)
def test_check_covers_refuses_the_wrong_kind_of_width(layer, bits):
    layers = {**BitConfig.flat(*NETWORK, bits=8).layers, layer: bits}
    assert f"lacks {layer}" in cover_refusal(BitConfig(layers))


def test_flat_has_one_width_and_the_bias_of_the_reference():
    config = BitConfig.flat(["conv", "dense"], ["activation"], 6)
    assert config.layers == {
        "conv": LayerBits(kernel=6, bias=31),
        "dense": LayerBits(kernel=6, bias=31),
        "activation": LayerBits(activation=6),
    }
    assert config.name == "flat6"
    assert FLAT_BIAS_BITS == 31


def test_flat_takes_another_bias_width():
    assert BitConfig.flat(["dense"], [], 8, bias_bits=16).layers == {"dense": LayerBits(8, 16)}


@pytest.mark.parametrize("bits", [1, 33, "8", True])
def test_flat_refuses_bad_widths(bits):
    with pytest.raises(ValueError, match="bits"):
        BitConfig.flat(["dense"], ["activation"], bits)
