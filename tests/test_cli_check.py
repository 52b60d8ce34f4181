"""``po2quant check``: a table, one sentence an obstacle, an exit code."""

import json

import keras
import pytest
from keras import layers


@pytest.fixture
def check(tmp_path, call):
    """Return a function that checks a network of some layers, and returns exit code, output and errors."""

    def checked(*parts, words=()):
        keras.Sequential([keras.Input((4, 4, 2), name="x"), *parts], name="net").save(tmp_path / "net.keras")
        return call("check", tmp_path / "net.keras", *words)

    return checked


def test_a_supported_network_ends_in_0_with_its_formats(check):
    code, output, said = check(layers.Conv2D(2, 3, name="conv"), words=["--json"])
    assert code == 0 and "net: supported" in said and "c-packed: yes" in said
    facts = json.loads(output)
    assert facts["is_supported"] and facts["layers"][-1] == {
        "name": "conv",
        "class_name": "Conv2D",
        "becomes": "Conv2D",
    }


def test_obstacles_end_in_1_a_line_each(check):
    code, output, _ = check(layers.LayerNormalization(name="one"), layers.LayerNormalization(name="two"))
    assert code == 1 and "net: obstacles: 2" in output
    assert [line for line in output.splitlines() if line.startswith("layer 'two'")]


def test_a_layer_that_holds_code_ends_in_2_and_one_sentence(check):
    code, output, errors = check(layers.Dense(2), layers.Lambda(lambda x: x, name="mine"))
    assert code == 2 and output == "" and "layer 'mine' (Lambda)" in errors and errors.count("\n") == 1
