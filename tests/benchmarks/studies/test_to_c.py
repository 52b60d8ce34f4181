"""The stages of the study of large networks; how long they take is not tested."""

import keras
import pytest
from keras import layers

from benchmarks.studies.to_c import measure


def test_every_stage_to_c_has_a_row_and_all_of_them_a_sum():
    model = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)])
    *stages, total = measure(model, samples=4)
    names = ["quantize_model", "calibrate", "freeze_scales", "integer_program", "write_c"]
    assert [row["stage"] for row in stages] == names and total["stage"] == "all"
    assert total["seconds"] == pytest.approx(sum(row["seconds"] for row in stages), abs=0.02)
