"""The sensitivity sweep: what a fresh network would lose, from one graph."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.network import activation_quantizers, calibrate, flat_config, quantize_model, slot_quantizers
from po2quant.search.sensitivity import load_sensitivities, save_sensitivities, sensitivity_sweep
from po2quant.search.space import SearchSpace, config_from_values, parts_of
from po2quant.training.prepare import calibration_inputs, load_float_network

LOSS = "sparse_categorical_crossentropy"
SPACE = SearchSpace(kernel=(3, 8), bias=(4, 16), activation=(3, 4, 8))
SAMPLES = 80
BATCH_SIZE = 32


class Setting:
    """A quantized digits network and everything to measure it with."""

    def __init__(self, digits, data, weights):
        self.spec = digits.network("ds_cnn")[1]
        self.float_network = load_float_network(self.spec.fold(), weights).model
        self.layers = self.spec.fold().layers
        self.choices = {
            f"{layer.name}.{part}": getattr(SPACE, part) for layer in self.layers for part in parts_of(layer)
        }
        self.samples = data.train.head(SAMPLES)
        self.calibration_inputs = calibration_inputs(data, self.float_network, 0)[0]
        self.widest = {slot: widths[-1] for slot, widths in self.choices.items()}

    def network(self, **changes):
        config = config_from_values(self.widest | changes, self.layers)
        return quantize_model(self.float_network, config, placement=self.spec.placement)

    @functools.cached_property
    def calibrated(self):
        """A network of the widest, the ranges of its activations, and its loss and outputs."""
        network = self.network()
        calibrate(network, self.calibration_inputs)
        ranges = {name: quantizer.range for name, quantizer in activation_quantizers(network)}
        return network, ranges, self.loss_and_outputs(network)

    def sweep(self, model=None, choices=None, loss=LOSS):
        return sensitivity_sweep(
            model or self.network(), choices or self.choices, self.calibration_inputs, self.samples, loss, BATCH_SIZE
        )

    def loss_and_outputs(self, model):
        x, y = self.samples.inputs(), self.samples.y
        outputs = np.asarray(model(x, training=False), np.float64)
        return float(np.mean(-np.log(outputs[np.arange(len(y)), y]))), outputs


@pytest.fixture(scope="module")
def setting(digits, digits_data, digits_weights):
    return Setting(digits, digits_data, digits_weights)


@pytest.fixture(scope="module")
def rows(setting):
    return setting.sweep()


@pytest.mark.slow
def test_every_slot_has_a_row_for_every_width(setting, rows):
    assert [(row.slot, row.bits) for row in rows] == [(s, b) for s, widths in setting.choices.items() for b in widths]
    assert all(row.loss_increase == row.output_error == 0.0 for row in rows if row.bits == setting.widest[row.slot])
    narrow = [row for row in rows if row.bits == setting.choices[row.slot][0]]
    assert all(row.output_error > 0.0 for row in narrow)


def fresh_measurement(setting, slot, bits):
    """Return loss and outputs of new networks: calibrated at the widest, but for the slot's own range."""
    widest, of_widest, measured = setting.calibrated
    network, ranges = setting.network(**{slot: bits}), dict(of_widest)
    name, _, part = slot.rpartition(".")
    if part == "activation":
        own = slot_quantizers(network)[slot]
        before = keras.Model(widest.input, widest.get_layer(name).input)
        own.calibrate(before(setting.calibration_inputs, training=False))
        ranges[name] = own.range
    for name, quantizer in activation_quantizers(network):
        quantizer.set_range(*ranges[name])
        quantizer.frozen = True
    return measured, setting.loss_and_outputs(network)


@pytest.mark.parametrize(
    "slot",
    ["conv2d.kernel", "depthwise_conv2d_1.kernel", "dense.bias", "activation.activation", "activation_3.activation"],
)
def test_a_row_is_what_freshly_built_networks_differ_by(setting, rows, slot):
    row = next(row for row in rows if row.slot == slot)
    (widest_loss, widest), (loss, outputs) = fresh_measurement(setting, slot, row.bits)
    assert row.output_error == pytest.approx(np.mean(np.square(outputs - widest)), rel=1e-4)
    assert row.loss_increase == pytest.approx(loss - widest_loss, abs=1e-5)


def test_the_last_activation_equals_an_ordinary_calibration(setting, rows):
    """Nothing comes after it whose range would change."""
    slot = [slot for slot in setting.choices if slot.endswith(".activation")][-1]
    row = next(row for row in rows if row.slot == slot)
    network = setting.network(**{slot: row.bits})
    calibrate(network, setting.calibration_inputs)
    (widest_loss, _), _ = fresh_measurement(setting, slot, row.bits)
    assert row.loss_increase == pytest.approx(setting.loss_and_outputs(network)[0] - widest_loss, abs=1e-5)


def test_one_graph_and_one_pass_per_pair(setting):
    traces, passes = [], tf.Variable(0)

    def counting_loss(y, outputs):
        traces.append(1)
        passes.assign_add(1)
        return keras.losses.sparse_categorical_crossentropy(y, outputs)

    choices = {
        slot: widths[-2:] if slot == "conv2d.kernel" else widths[-1:] for slot, widths in setting.choices.items()
    }
    choices["activation_2.activation"] = SPACE.activation
    setting.sweep(choices=choices, loss=counting_loss)
    batches = -(-SAMPLES // BATCH_SIZE)
    assert len(traces) == 1
    assert int(passes) == (1 + 1 + 2) * batches


@pytest.mark.slow
def test_the_sweep_is_deterministic_and_leaves_the_widest_calibrated_network(setting, rows):
    model = setting.network(**{"conv2d.kernel": 5, "activation_1.activation": 6})
    assert setting.sweep(model) == rows
    expected = setting.network()
    calibrate(expected, setting.calibration_inputs)
    states = [
        [
            (quantizer.bits, None if callable(quantizer.range) else quantizer.range, quantizer.frozen)
            for quantizer in quantizers.values()
        ]
        for quantizers in (slot_quantizers(model), slot_quantizers(expected))
    ]
    assert states[0] == states[1]


def test_samples_without_targets_are_their_own_targets():
    inputs = keras.Input((4,), name="input")
    model = keras.Model(inputs, keras.layers.Dense(4, name="dense")(inputs))
    x = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
    network = quantize_model(model, flat_config(model, 8))
    choices = {slot: (3, 8) if slot == "dense.kernel" else (8,) for slot in slot_quantizers(network)}
    row = sensitivity_sweep(network, choices, x, Split(x, None), "mean_squared_error")[0]
    widest = np.mean(np.square(network(x) - x))
    slot_quantizers(network)["dense.kernel"].bits = 3
    assert (row.slot, row.bits) == ("dense.kernel", 3)
    assert row.loss_increase == pytest.approx(np.mean(np.square(network(x) - x)) - widest, rel=1e-4)


def test_choices_must_cover_the_slots(setting):
    choices = {slot: widths for slot, widths in setting.choices.items() if slot != "dense.bias"} | {
        "other.kernel": (4,)
    }
    with pytest.raises(ValueError, match=r"Received: none for dense\.bias, unknown other\.kernel"):
        setting.sweep(choices=choices)
    with pytest.raises(ValueError, match=r"none for conv2d\.kernel"):
        setting.sweep(choices=setting.choices | {"conv2d.kernel": ()})


def test_rows_survive_a_round_trip(rows, tmp_path):
    save_sensitivities(tmp_path / "sensitivity.csv", rows)
    assert load_sensitivities(tmp_path / "sensitivity.csv") == rows
    assert (tmp_path / "sensitivity.csv").read_text().splitlines()[0] == "slot,bits,loss_increase,output_error"


@pytest.mark.parametrize("text", ["slot,bits\na.kernel,4\n", "slot,bits,loss_increase,output_error\na.kernel,x,0,0\n"])
def test_a_damaged_table_is_refused(tmp_path, text):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=r"sensitivities must be a CSV file of slot, bits, .*bad\.csv"):
        load_sensitivities(tmp_path / "bad.csv")
    with pytest.raises(ValueError, match=r"absent\.csv"):
        load_sensitivities(tmp_path / "absent.csv")
