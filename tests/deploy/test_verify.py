"""Keras, interpreter and C side by side: equal where they must be, and a difference is found wherever it is."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile

import keras
import numpy as np
import pytest
from frozen_networks import OVERFLOW, frozen, noise, random_frozen, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from refusals import complaint, refusal

from po2quant.benchmark import Split, load_benchmark
from po2quant.deploy import verify as verification
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.verify import SCORE_BATCH_SIZE, predictor, score, verify
from po2quant.export.c.run import COMPILER, compile_c
from po2quant.export.c.source import write_c
from po2quant.integer.interpreter import quantize_inputs, results, run
from po2quant.integer.program import Program
from po2quant.network import Placement, activation_quantizers

needs_gcc = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
FAST = ("-O0", "-Werror")


@needs_gcc
@settings(max_examples=8, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1), st.booleans())
def test_random_networks_are_equal_three_times(data, seed, pack):
    """Convolutions, poolings, shortcuts and gates of 2 to 16 bits, saturated; weights packed or not."""
    network = random_frozen(data.draw, seed, Placement())
    program = integer_program(network)
    with tempfile.TemporaryDirectory() as folder:
        executable = compile_c(write_c(program, folder, "network", pack), folder, trace=True, flags=FAST)
        found = verify(program, network, executable, OVERFLOW * noise(network, 2, seed))
    assert found.mismatches == 0, f"{found.keras} {found.c}"
    assert found.keras.tensors == len(list(activation_quantizers(network)))
    assert found.c.tensors == len(program.tensors)


@pytest.fixture(scope="module")
def small() -> tuple[keras.Model, Program]:
    inputs = keras.Input((6, 6, 2), name="input")
    x = layers.ReLU()(layers.Conv2D(3, 3, padding="same", name="stem")(inputs))
    outputs = layers.Dense(4, activation="softmax", name="head")(layers.Flatten()(x))
    network = frozen(randomize(keras.Model(inputs, outputs)))
    return network, integer_program(network)


def executable_of(program: Program, folder, trace: bool = True):
    return compile_c(write_c(program, folder, "network"), folder, trace, FAST)


def with_one_more(program: Program, layer: str, channel: int) -> Program:
    """Return a program whose layer computes one step more in one channel."""

    def changed(operation):
        if operation.name != layer:
            return operation
        step = program.output_of(operation).format.exponent - operation.bias.exponents[channel]
        integers = operation.bias.integers.copy()
        integers[channel] += 2 ** int(step)
        return dataclasses.replace(operation, bias=dataclasses.replace(operation.bias, integers=integers))

    return dataclasses.replace(program, operations=tuple(map(changed, program.operations)))


@needs_gcc
def test_a_wrong_integer_of_the_c_is_found(small, tmp_path):
    """By layer, tensor, place and both integers; Keras and the interpreter stay equal."""
    network, program = small
    found = verify(program, network, executable_of(with_one_more(program, "head", 2), tmp_path), noise(network, 3))
    assert found.keras.first is None and found.mismatches == found.c.mismatches > 0
    first = found.c.first
    assert (first.layer, first.tensor, first.index[1]) == ("head", "activation_2", 2)
    assert first.computed == first.expected + 1
    facts = found.to_dict()
    assert facts["first"] == {
        "layer": "head",
        "tensor": "activation_2",
        "index": list(first.index),
        "C": first.computed,
        "interpreter": first.expected,
    }
    assert f"layer 'head', tensor 'activation_2', at {first.index}: C {first.computed}" in str(found.c)


@needs_gcc
def test_a_wrong_program_is_found_by_keras(small, tmp_path):
    """The C of a wrong program agrees with its interpreter; Keras does not."""
    network, program = small
    wrong = with_one_more(program, "stem", 1)
    found = verify(wrong, network, executable_of(wrong, tmp_path), noise(network, 20))
    assert found.c.first is None and found.keras.mismatches > 0
    first = found.to_dict()["first"]
    assert first["layer"] == "stem" and first["index"][3] == 1
    assert first["interpreter"] == first["Keras float64"] + 1


@needs_gcc
def test_counts_are_those_of_every_sample_and_tensor(small, tmp_path):
    """Across batches, the last of them short."""
    network, program = small
    facts = verify(program, network, executable_of(program, tmp_path), noise(network, 11)).to_dict()
    quantized = 6 * 6 * 2 + 6 * 6 * 3 + 4
    assert (facts["samples"], facts["tensors"], facts["mismatches"], facts["first"]) == (11, 3, 0, None)
    assert [comparison["integers"] for comparison in facts["comparisons"]] == [11 * quantized, 11 * (quantized + 108)]


@needs_gcc
def test_nothing_to_compare_is_refused(small, tmp_path):
    network, program = small
    assert "samples" in refusal(verify, program, network, executable_of(program, tmp_path), noise(network, 0))
    without_trace = executable_of(program, tmp_path / "plain", trace=False)
    assert "trace=True" in complaint(verify, program, network, without_trace, noise(network, 1))


@needs_gcc
def test_the_c_predicts_what_the_interpreter_does(small, tmp_path):
    """Softmax included, over batches, and for clips that hold several inputs each."""
    network, program = small
    x = np.tile(noise(network, 8), (SCORE_BATCH_SIZE // 8 + 1, 1, 1, 1)).reshape(-1, 4, 6, 6, 2)
    outputs = predictor(executable_of(program, tmp_path, trace=False))(x)
    (expected,) = results(program, run(program, quantize_inputs(program, x.reshape(-1, 6, 6, 2))))
    np.testing.assert_array_equal(outputs, expected.astype(np.float32))
    np.testing.assert_allclose(outputs.sum(axis=-1), 1.0, rtol=1e-6)


@needs_gcc
@pytest.mark.slow
def test_inputs_that_float32_decides_otherwise_are_named(small, tmp_path, monkeypatch):
    """Here because Keras is made to say something else of two of them."""
    network, program = small
    x, executable = noise(network, 30), executable_of(program, tmp_path, trace=False)
    classes = predictor(executable)(x).argmax(axis=-1)
    split = Split(x, np.where(np.arange(30) < 20, classes, (classes + 1) % 4))
    scores = score(load_benchmark("digits"), network, executable, split)
    assert scores.c == scores.keras and scores.c.value == 20 / 30
    assert scores.to_dict()["decided_otherwise"] == 0
    right = np.eye(4, dtype=np.float32)[classes]
    wrong = np.where(np.isin(np.arange(30), [3, 5])[:, None], np.roll(right, 2, axis=-1), right)
    monkeypatch.setattr(verification, "_predict", lambda *arguments: wrong)
    scores = score(load_benchmark("digits"), network, executable, split)
    assert str(scores) == "accuracy on 30 samples: C 0.666667, Keras 0.600000"
    np.testing.assert_array_equal(scores.decided_otherwise, x[[3, 5]])
