"""The rows of the deployment benchmark; times themselves are not tested."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from deploy_runs import fine_tuned_run

from benchmarks.studies import deployment
from benchmarks.studies.deployment import RESOLVERS, cells, in_turn, litert_inference, main
from benchmarks.studies.document import END, begin_mark
from po2quant.export.c.run import COMPILER
from po2quant.files import read_csv

needs_gcc = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")


@pytest.mark.slow
@needs_gcc
def test_a_row_has_the_proof_the_scores_and_the_sizes(digits, digits_data, digits_weights, tmp_path, monkeypatch):
    """A cell of a matrix of digits; the second call finds the row and measures nothing."""
    fine_tuned_run(digits, digits_data, digits_weights, tmp_path / "digits-ds_cnn-seed0", "flat8-auto_po2")
    output = tmp_path / "results" / "deployment.csv"
    arguments = ["--models", "digits/ds_cnn", "--configs", "flat8", "--samples", "9", "--rounds", "1"]
    arguments += ["--runs", str(tmp_path), "--output", str(output)]
    main(arguments)
    (row,) = read_csv(output)
    assert (row["benchmark"], row["model"], row["config"], row["seed"]) == ("digits", "ds_cnn", "flat8", "0")
    assert (row["mismatches_keras_interpreter"], row["mismatches_interpreter_c"]) == ("0", "0")
    assert row["samples"] == "9" and int(row["integers"]) % 9 == 0
    assert row["score_c"] == row["score_keras"] == row["score_table"] and row["test_samples"] == "360"
    assert int(row["weight_bytes"]) == int(row["packed_weight_bytes"]) > int(row["arena_bytes"]) > 0
    assert float(row["c_microseconds"]) > 0 and row["litert_bytes"] == ""
    assert "benchmarks.studies.deployment" in row["command"] and row["data"].startswith("scikit-learn digits")
    monkeypatch.setattr(deployment, "measure", lambda *arguments: pytest.fail("measured again"))
    main(arguments)
    assert read_csv(output) == [row]
    report = tmp_path / "deploy.md"
    report.write_text(f"{begin_mark(deployment.REPORT_COMMAND)}\n{END}\n", encoding="utf-8")
    monkeypatch.setattr(deployment, "REPORT", report)
    main([*arguments, "--report"])
    lines = [line for line in report.read_text(encoding="utf-8").splitlines() if line.startswith("| ds_cnn | flat8 |")]
    assert f"| 0 | {float(row['score_c']):.4f} | {float(row['score_keras']):.4f} |" in lines[0] and len(lines) == 2


def test_tasks_run_in_turn(monkeypatch):
    """One call untimed, one to see how long it takes, then round after round."""
    calls = []
    monkeypatch.setattr(deployment, "ROUND_SECONDS", 0.0)
    times = in_turn({name: lambda name=name: calls.append(name) for name in "AB"}, rounds=3)
    assert "".join(calls) == "AABB" + "AB" * 3
    assert set(times) == {"A", "B"} and min(times.values()) >= 0


def test_rows_and_folders_are_named_alike():
    ((key, path),) = cells(Path("runs"), ["a/b"], ["mpq"], 2)
    assert key == {"benchmark": "a", "model": "b", "config": "mpq", "seed": 2}
    assert path == Path("runs/a-b-seed2/mpq-auto_po2")


@pytest.mark.parametrize("resolver", RESOLVERS.values())
def test_litert_runs_a_sample_with_each_of_its_kernels(resolver, shared):
    litert_inference(shared("pretrained/kws_ds_cnn_int8.tflite"), resolver, np.zeros((1, 49, 10, 1)))()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--samples", "0"), "must be 1 or more"),
        (("--models", "resnet8"), "<benchmark>/<model>"),
        (("--runs", "nowhere"), "must be a run folder"),
    ],
)
def test_wrong_options_end_in_one_sentence(arguments, expected, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--output", str(tmp_path / "rows.csv")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and expected in error and len(error.strip().splitlines()) == 1
