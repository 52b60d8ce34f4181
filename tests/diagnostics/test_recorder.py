"""The recorder: rows recomputed independently, and the same rows after an interruption."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from networks import noise
from refusals import refusal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from po2quant.diagnostics.measurement import load_measurements
from po2quant.diagnostics.recorder import STATE_FILE, Recorder
from po2quant.network import weight_quantizers
from po2quant.runs.names import DIAGNOSTICS_CSV

RELATIVE_TOLERANCE = 1e-4
"""Rows keep six digits; sums are taken in another order here."""


def train(model, epoch):
    """Move every weight as that epoch does, whatever came before: enough training for a recorder."""
    rng = np.random.default_rng(epoch)
    for variable in model.trainable_variables:
        variable.assign(variable * (1 + 0.05 * rng.normal(size=variable.shape)))


def run(network, folder, last, first=0):
    """Observe a network, which has trained ``first`` epochs, as it is, and after each epoch up to ``last``."""
    model, probe = network
    for epoch in range(1, first + 1):
        train(model, epoch)
    recorder = Recorder(probe, folder)
    recorder.observe(first)
    for epoch in range(first + 1, last + 1):
        train(model, epoch)
        recorder.observe(epoch)
    return recorder


def rows_of(folder):
    return load_measurements(folder / DIAGNOSTICS_CSV)


def snapshot(model):
    """Return float values, quantized values and exponents of every weight, as the quantizers give them."""
    return {
        (weight.layer.name, weight.part): (
            np.array(weight.variable, np.float64),
            np.array(weight.quantizer(weight.variable), np.float64),
            np.log2(np.array(weight.quantizer.compute_scale(weight.variable), np.float64)),
        )
        for weight in weight_quantizers(model)
    }


def test_three_trained_epochs_are_measured_as_their_definitions_say(compiled, tmp_path):
    model, probe = compiled()
    x, y = noise(model, samples=64), np.random.default_rng(0).integers(0, 3, 64)
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy")
    recorder, seen = Recorder(probe, tmp_path), []
    for epoch in range(4):
        if epoch:
            model.fit(x, y, batch_size=16, verbose=0)
        recorder.observe(epoch)
        seen.append(snapshot(model))
    rows = {(row.epoch, *row.tensor): row for row in rows_of(tmp_path)}
    assert {epoch for epoch, _, _ in rows} == {0, 1, 2, 3}
    flips = 0
    for epoch in (1, 2, 3):
        for tensor, (values, levels, exponents) in seen[epoch].items():
            row, (old_values, old_levels, old_exponents) = rows[epoch, *tensor], seen[epoch - 1][tensor]
            change = np.abs(values - old_values)
            assert row.zero_ratio == pytest.approx(np.mean(levels == 0), rel=RELATIVE_TOLERANCE)
            assert row.flip_ratio == pytest.approx(np.mean(levels != old_levels), rel=RELATIVE_TOLERANCE)
            assert row.update_mean == pytest.approx(np.mean(change), rel=RELATIVE_TOLERANCE)
            assert row.update_relative_mean == pytest.approx(
                np.mean(change) / np.mean(np.abs(old_values)), rel=RELATIVE_TOLERANCE
            )
            assert row.update_lsb_max == pytest.approx(np.max(change / 2.0**exponents), rel=RELATIVE_TOLERANCE)
            assert row.exponent_change_ratio == pytest.approx(
                np.mean(exponents != old_exponents), rel=RELATIVE_TOLERANCE
            )
            if epoch > 1:
                returned = (levels == seen[epoch - 2][tensor][1]) & (levels != old_levels)
                assert row.oscillation_ratio == pytest.approx(np.mean(returned), rel=RELATIVE_TOLERANCE)
            flips += row.flip_ratio > 0
    assert flips


def test_before_training_nothing_has_changed_yet(compiled, tmp_path):
    run(compiled(), tmp_path, last=0)
    for row in rows_of(tmp_path):
        assert row.update_mean is row.flip_ratio is row.oscillation_ratio is None
        assert row.zero_ratio is not None and row.sqnr_db is not None
        assert (row.network_sqnr_db is not None) == (row.part == "activation")


@pytest.mark.parametrize("alpha", ["auto_po2", "auto"])
@pytest.mark.parametrize("checkpoint", [3, 2])
def test_a_resumed_run_has_the_rows_of_an_uninterrupted_one(compiled, tmp_path, alpha, checkpoint):
    """An epoch whose rows were written, but not its checkpoint, is trained and observed again."""
    run(compiled(alpha), tmp_path / "whole", last=5)
    run(compiled(alpha), tmp_path / "parts", last=3)
    run(compiled(alpha), tmp_path / "parts", first=checkpoint, last=5)
    assert rows_of(tmp_path / "parts") == rows_of(tmp_path / "whole")
    assert any(row.oscillation_ratio for row in rows_of(tmp_path / "whole"))


def test_a_run_killed_between_its_state_and_its_rows_is_resumed_alike(compiled, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    run(compiled(), tmp_path / "whole", last=4)
    model, _ = network = compiled()
    recorder = run(network, tmp_path / "parts", last=2)
    train(model, 3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("po2quant.diagnostics.recorder.save_measurements", killed)
        recorder.observe(3)
    run(compiled(), tmp_path / "parts", first=2, last=4)
    assert rows_of(tmp_path / "parts") == rows_of(tmp_path / "whole")


def test_a_run_that_was_not_recorded_from_the_start_is_measured_from_then_on(compiled, tmp_path):
    run(compiled(), tmp_path, first=2, last=3)
    rows = rows_of(tmp_path)
    assert {row.epoch for row in rows} == {2, 3}
    assert all((row.flip_ratio is None) == (row.epoch == 2) for row in rows)


def test_a_new_run_in_the_same_folder_replaces_the_old_rows(compiled, tmp_path):
    run(compiled(), tmp_path, last=3)
    run(compiled(), tmp_path, last=2)
    rows = rows_of(tmp_path)
    assert max(row.epoch for row in rows) == 2
    assert all(row.oscillation_ratio is not None for row in rows if row.epoch == 2 and row.part != "activation")
    assert all(row.oscillation_ratio is None for row in rows if row.epoch < 2)


def test_a_damaged_state_file_is_named(compiled, tmp_path):
    _, probe = network = compiled()
    run(network, tmp_path, last=2)
    data = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(data[: len(data) // 2])
    message = refusal(Recorder(probe, tmp_path).observe, 2)
    assert str(tmp_path / STATE_FILE) in message and "delete it" in message


def test_tensorboard_gets_the_numbers_of_the_table(compiled, tmp_path):
    run(compiled(), tmp_path, last=2)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "diagnostics"), {"scalars": 0}).Reload()
    rows = [row for row in rows_of(tmp_path) if row.tensor == ("conv", "kernel")]
    for name in ("zero_ratio", "flip_ratio"):
        expected = [(row.epoch, np.float32(getattr(row, name))) for row in rows if getattr(row, name) is not None]
        assert [(event.step, event.value) for event in events.Scalars(f"{name}/conv.kernel")] == expected
