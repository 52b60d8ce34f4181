"""The bookkeeping of first steps; times themselves are not tested."""

import keras
import pytest

from benchmarks.studies import first_step
from benchmarks.studies.first_step import FLOAT, KERAS, VARIANTS, main, rows_of
from benchmarks.studies.performance import Workload, builders, network_of
from benchmarks.studies.tables import first_steps

LABEL = "digits/ds_cnn"


def test_rows_say_what_part_of_keras_own_start_a_variant_takes():
    rows = rows_of(LABEL, {KERAS: 4.0, FLOAT: 1.0, "learned_po2": 5.0}, {"rounds": 3})
    assert [(row["variant"], row["cpu_seconds"], row["ratio_to_keras"]) for row in rows] == [
        (KERAS, 4.0, 1.0),
        (FLOAT, 1.0, 0.25),
        ("learned_po2", 5.0, 1.25),
    ]
    assert {(row["benchmark"], row["model"], row["rounds"]) for row in rows} == {("digits", "ds_cnn", 3)}


@pytest.mark.slow
def test_every_variant_takes_a_step_and_only_keras_makes_its_variables_within():
    spec, recipe = network_of(LABEL)
    every, work = builders(spec), Workload.random(spec, recipe)
    for variant in VARIANTS:
        model = every[FLOAT if variant == KERAS else variant]()
        before = [variable.numpy() for variable in model.trainable_variables]
        assert first_step.first_step(model, work, variant) > 0.0
        changed = [(old != new.numpy()).any() for old, new in zip(before, model.trainable_variables, strict=True)]
        assert any(changed) and isinstance(model.optimizer, keras.optimizers.Adam)


def test_the_table_has_a_column_for_each_variant():
    header, _, *lines = first_steps().splitlines()
    assert header.count("|") == 3 + len(VARIANTS[1:]) and LABEL.split("/")[1] in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--models", "digits"], "must read"), (["--rounds", "0"], "--rounds must be 1 or more")]
)
def test_wrong_arguments_end_in_one_sentence(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(tmp_path / "first-step.csv")])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
