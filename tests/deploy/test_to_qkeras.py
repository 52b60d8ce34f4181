"""Files of plain qkeras layers: loaded where po2quant cannot be, they compute every integer of the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from exchange_networks import computed, frozen_every_operation, narrow
from frozen_networks import frozen, network, randomize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers
from refusals import complaint

from po2quant.deploy.to_qkeras import to_qkeras
from po2quant.integer.program import Program

SCRIPT = """
import sys
sys.modules["po2quant"] = None
import keras, numpy as np, qkeras
path, inputs, outputs = sys.argv[1:]
model = keras.models.load_model(path)
quantizers = [layer for layer in model.layers if isinstance(layer, qkeras.QActivation)]
values = keras.Model(model.input, {layer.name: layer.output for layer in quantizers})(np.load(inputs))
np.savez(outputs, **{name: np.asarray(value) for name, value in values.items()})
"""


def assert_same(program: Program, values: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for name in values:
        integers = np.ldexp(np.asarray(values[name], np.float64), -program.tensor[name].format.exponent)
        np.testing.assert_array_equal(integers, expected[name], err_msg=name)


def quantized_values(model: keras.Model, expected: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    outputs = {layer.name: layer.output for layer in model.layers if type(layer).__name__ == "QActivation"}
    assert outputs.keys() <= expected.keys()
    return keras.Model(model.input, outputs)(x)


@pytest.mark.slow
def test_a_file_loads_and_computes_the_same_without_po2quant(tmp_path):
    quantized = frozen_every_operation(8, rearranges=False)
    program, x, expected = computed(quantized, 4)
    assert to_qkeras(quantized, tmp_path / "network.keras") == ()
    np.save(tmp_path / "x.npy", x)
    names = ("network.keras", "x.npy", "values.npz")
    call = [sys.executable, "-c", SCRIPT, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = np.load(tmp_path / "values.npz")
    assert len(values.files) > 10
    assert_same(program, values, expected)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(0, 2**32 - 1))
def test_random_networks_compute_the_same_integers(tmp_path, data, seed):
    """2 to 8 bits each, biases to 31, saturation, ties."""
    quantized = narrow(network(data.draw), seed)
    program, x, expected = computed(quantized, 2, seed)
    to_qkeras(quantized, tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert_same(program, quantized_values(loaded, expected, x), expected)


def test_quantizers_keep_the_weights_and_are_no_wider_than_their_channels_need(tmp_path):
    """Two channels four powers of two apart take 8 + 4 bits; one channel takes 8."""
    x = keras.Input((2,), name="input")
    model = keras.Model(x, layers.Dense(1, name="last")(layers.Dense(2, name="first")(x)))
    first, last = np.array([[127.0, 16.0], [1.0, 127 * 16.0]]), np.array([[1.0], [127.0]])
    model.set_weights([first, np.zeros(2), last, np.zeros(1)])
    to_qkeras(frozen(model), tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    for name, bits, integer in (("first", 12, 11), ("last", 8, 7)):
        layer = loaded.get_layer(name)
        quantizer = layer.kernel_quantizer_internal
        assert (quantizer.bits, quantizer.integer, quantizer.alpha) == (bits, integer, 1)
        np.testing.assert_array_equal(quantizer(layer.kernel), layer.kernel)


def test_a_shared_layer_is_refused(tmp_path):
    x = keras.Input((4,), name="input")
    dense = layers.Dense(4, name="shared")
    quantized = frozen(keras.Model(x, dense(layers.ReLU()(dense(x)))))
    assert "'shared'" in complaint(to_qkeras, quantized, tmp_path / "network.keras")
    assert not list(Path(tmp_path).iterdir())


def test_wide_networks_name_their_layers(tmp_path):
    assert {"first", "last"} <= set(to_qkeras(frozen_every_operation(16), tmp_path / "network.keras"))


@pytest.mark.parametrize("initializer", [keras.initializers.VarianceScaling(1e-6), "he_normal"])
def test_a_file_of_layers_with_any_initializer_loads(initializer, tmp_path):
    """qkeras scales an initializer up where a quantizer's steps are coarse, and could not read its own file then."""
    x = keras.Input((4,), name="input")
    model = keras.Model(x, layers.Dense(3, kernel_initializer=initializer, name="dense")(x))
    quantized = frozen(randomize(model), 2)
    program, x, expected = computed(quantized, 4)
    to_qkeras(quantized, tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert_same(program, quantized_values(loaded, expected, x), expected)
