"""The row of one tensor, and the table of rows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from refusals import complaint

from po2quant.diagnostics.measurement import (
    COLUMNS,
    NEW_COLUMNS,
    Measurement,
    QuantizedTensor,
    load_measurements,
    measure,
    save_measurements,
)

HIGH = 7


def kernel(values, scale=0.25, is_power_of_two=True, **changes):
    values = np.asarray(values, np.float32)
    quantized = np.clip(np.rint(values / np.float32(scale)), -HIGH, HIGH) * np.float32(scale)
    tensor = QuantizedTensor(
        "conv", "kernel", "", 4, values, quantized, np.asarray(scale, np.float32), -HIGH, HIGH, is_power_of_two
    )
    return dataclasses.replace(tensor, **changes)


def test_one_snapshot_gives_ratios_levels_exponents_and_noise():
    row = measure(3, kernel([0.25, 0.1, -0.5, 9.0]))
    assert (row.epoch, row.tensor, row.bits, row.values) == (3, ("conv", "kernel"), 4, 4)
    assert (row.zero_ratio, row.clip_ratio, row.effective_bits) == (0.25, 0.25, 2.0)
    assert (row.exponent_min, row.exponent_mean, row.exponent_max) == (-2.0, -2.0, -2.0)
    assert row.sqnr_db == pytest.approx(10 * math.log10(81.3225 / (0.01 + 7.25**2)), abs=1e-3)
    assert row.update_mean is None and row.flip_ratio is None and row.network_sqnr_db is None


def test_changes_need_an_epoch_before_and_oscillation_two():
    states = [kernel(values) for values in ([0.25, 0.5], [0.5, 0.5], [0.25, 0.6])]
    second = measure(1, states[1], states[0])
    assert (second.flip_ratio, second.update_mean, second.update_lsb_max) == (0.5, 0.125, 1.0)
    assert second.oscillation_ratio is None
    third = measure(2, states[2], states[1], states[0].levels)
    assert (third.flip_ratio, third.oscillation_ratio) == (0.5, 0.5)


def test_under_powers_of_two_a_new_exponent_flips_only_the_values_that_it_moves():
    before, now = kernel([0.25, 0.5, 1.0]), kernel([0.25, 0.5, 1.0], scale=0.5)
    row = measure(1, now, before)
    assert row.flip_ratio == pytest.approx(1 / 3, rel=1e-5)
    assert row.exponent_change_ratio == 1.0


def test_under_real_scales_the_integers_count_since_every_value_moves_with_the_scale():
    before = kernel([0.3, 0.6, -0.9], scale=0.3, is_power_of_two=False)
    now = kernel([0.31, 0.62, -0.93], scale=0.31, is_power_of_two=False)
    row = measure(1, now, before)
    assert row.flip_ratio == 0.0
    assert row.exponent_change_ratio is None


def test_a_tensor_with_a_scale_per_sample_is_measured_without_one():
    now, before = (dataclasses.replace(kernel(values), scale=None) for values in ([0.25, 0.0], [0.5, 0.0]))
    row = measure(1, now, before)
    assert row.clip_ratio is row.exponent_mean is row.effective_bits is row.update_lsb_mean is None
    assert (row.zero_ratio, row.flip_ratio) == (0.5, 0.5)


def test_the_network_error_is_that_against_the_exact_tensor():
    row = measure(0, kernel([0.25, 0.5], part="activation", exact=np.array([0.5, 0.5], np.float32)))
    assert row.sqnr_db == math.inf
    assert row.network_sqnr_db == pytest.approx(10 * math.log10(0.5 / 0.0625), abs=1e-4)


def test_an_activation_says_what_few_values_need_and_what_has_no_sign():
    values = np.append(np.full(2000, 0.5), [16.0, -1.0]).astype(np.float32)
    signed = measure(0, kernel(values, part="activation", exact=values, high=64))
    assert (signed.tail_bits, signed.negative_ratio) == (5.0, None)
    unsigned = measure(0, kernel(values, part="activation", exact=values, low=0, high=64))
    assert unsigned.negative_ratio == pytest.approx(1 / 2002, rel=1e-5)


def test_a_table_from_before_there_were_some_columns_is_read(tmp_path):
    rows = [measure(0, kernel([0.25, 0.5]))]
    save_measurements(tmp_path / "new.csv", rows)
    lines = (tmp_path / "new.csv").read_text().splitlines()
    old = [",".join(line.split(",")[: -len(NEW_COLUMNS)]) for line in lines]
    (tmp_path / "old.csv").write_text("\n".join(old))
    assert load_measurements(tmp_path / "old.csv") == rows


def test_rows_survive_the_file_exactly(tmp_path):
    rows = [
        measure(0, kernel([0.25, 0.1])),
        measure(1, kernel([1 / 3, 1e-9]), kernel([0.25, 0.1])),
        Measurement(2, 'a "quoted", layer', "activation", "conv", 8, 5, sqnr_db=math.inf),
    ]
    save_measurements(tmp_path / "rows.csv", rows)
    assert load_measurements(tmp_path / "rows.csv") == rows


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch,layer\n1,conv\n",
        "\0",
        f"{','.join(COLUMNS)}\n1,a,stone,,8,3{',' * 18}\n",
        f"{','.join(COLUMNS)}\n1,a\n",
    ],
)
def test_another_table_is_refused(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    assert str(path) in complaint(load_measurements, path)
