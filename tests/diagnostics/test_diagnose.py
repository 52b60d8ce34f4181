"""One call for a run folder or a weight file: what is there is merged, what is missing is said."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile

import pytest
from networks import noise
from refusals import refusal
from rich.console import Console

from po2quant.diagnostics.diagnose import diagnose
from po2quant.diagnostics.measurement import Measurement, save_measurements
from po2quant.network import flat_config, freeze_scales
from po2quant.runs.names import DIAGNOSTICS_CSV

EPOCHS = 6


@pytest.fixture(scope="module")
def finished_run(float_network, quantized, tmp_path_factory):
    """Return a run folder as fine-tuning leaves it, without diagnostics."""
    folder, model = tmp_path_factory.mktemp("run"), quantized()
    freeze_scales(model)
    model.save_weights(folder / "best.weights.h5")
    model.save(folder / "model.keras")
    flat_config(float_network, 4).save(folder / "best_config.json")
    (folder / "env.json").write_text(json.dumps({"data": "digits (embedded)"}))
    return folder, model


def recorded_run(folder, losses):
    rows = [
        Measurement(epoch, "dense", "kernel", "", 8, 64, flip_ratio=0.0, zero_ratio=0.1, sqnr_db=float("inf"))
        for epoch in range(1, EPOCHS + 1)
    ]
    save_measurements(folder / DIAGNOSTICS_CSV, rows)
    table = "".join(f"{epoch},{loss}\n" for epoch, loss in enumerate(losses, 1))
    (folder / "epochs.csv").write_text(f"epoch,loss\n{table}")
    return rows


def test_a_recorded_run_is_read_judged_and_drawn(tmp_path):
    rows = recorded_run(tmp_path, [1 / epoch for epoch in range(1, EPOCHS + 1)])
    diagnosis = diagnose(tmp_path)
    assert list(diagnosis.rows) == rows and diagnosis.last_rows == rows[-1:]
    assert diagnosis.lines() == ["error: dense kernel: no kernel value has changed for 6 epochs"]
    assert diagnosis.data == tmp_path.name
    assert diagnosis.pictures and {path.parent for path in diagnosis.pictures} == {tmp_path / "plots"}


def test_the_losses_of_the_run_decide_whether_it_was_learning(tmp_path):
    recorded_run(tmp_path, [0.5] * EPOCHS)
    assert diagnose(tmp_path).lines() == ["nothing stands out"]


def test_a_run_that_was_not_recorded_has_its_frozen_weights(finished_run, tmp_path):
    folder, _ = finished_run
    diagnosis = diagnose(folder, tmp_path)
    assert [row.tensor for row in diagnosis.rows] == [
        (layer, part) for layer in ("conv", "depthwise", "dense") for part in ("kernel", "bias")
    ]
    assert {row.bits for row in diagnosis.rows if row.part == "kernel"} == {4}
    assert diagnosis.data == "digits (embedded)"
    assert len(diagnosis.arrays) == 6
    assert {path.parent for path in diagnosis.pictures} == {tmp_path}


def test_inputs_bring_its_activations_too(finished_run, tmp_path):
    folder, model = finished_run
    diagnosis = diagnose(folder, tmp_path, noise(model))
    ratios = [row.network_sqnr_db for row in diagnosis.rows if row.part == "activation"]
    assert len(ratios) > 4 and all(ratio is not None for ratio in ratios)
    weights = [row for row in diagnosis.rows if row.part != "activation"]
    assert weights == list(diagnose(folder, tmp_path).rows)


@pytest.mark.parametrize(
    ("description", "named"),
    [
        ("{}", "holds no network that Keras can load"),
        ('{"module": "os", "class_name": "system", "config": {"command": "touch ran"}}', "holds no network that Keras"),
        ("[" * 100_000, "nested too deep"),
        (" " * (65 * 2**20), "more than the 67108864"),
    ],
    ids=["empty", "another module", "deep", "large"],
)
def test_a_saved_network_of_another_kind_is_refused_in_one_line(
    finished_run, tmp_path, monkeypatch, description, named
):
    folder, model = finished_run
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "model.keras"
    with zipfile.ZipFile(folder / "model.keras") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, description if name == "config.json" else old.read(name))
    monkeypatch.chdir(tmp_path)
    message = refusal(diagnose, tmp_path / "run", tmp_path / "pictures", noise(model))
    assert str(path) in message and named in message and not (tmp_path / "ran").exists()


def test_a_weight_file_alone_has_no_pictures_unless_a_folder_is_given(finished_run, tmp_path):
    folder, _ = finished_run
    alone = diagnose(folder / "best.weights.h5")
    assert alone.pictures == () and len(alone.rows) == 6 and alone.data == "best.weights.h5"
    assert diagnose(folder / "model.keras", tmp_path).pictures


def test_a_float_weight_file_has_arrays_and_findings_of_arrays(float_network, tmp_path):
    path = tmp_path / "net.weights.h5"
    float_network.save_weights(path)
    diagnosis = diagnose(path)
    assert diagnosis.rows == () and len(diagnosis.arrays) == len(float_network.weights)
    assert diagnosis.table().row_count == len(diagnosis.arrays)


def test_the_dictionary_is_json(finished_run, tmp_path):
    folder, _ = finished_run
    recorded_run(tmp_path, [1.0] * EPOCHS)
    for source in (tmp_path, folder, folder / "model.keras"):
        diagnosis = diagnose(source, tmp_path / "plots")
        read = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
        assert len(read["rows"]) == len(diagnosis.last_rows) and len(read["arrays"]) == len(diagnosis.arrays)
    assert json.loads(json.dumps(diagnose(tmp_path).to_dict()))["rows"][0]["sqnr_db"] == "inf"


def test_a_table_has_a_row_for_each_tensor_and_no_empty_columns(finished_run, tmp_path):
    folder, _ = finished_run
    table = diagnose(folder, tmp_path).table()
    titles = [column.header for column in table.columns]
    assert table.row_count == 6
    assert "zeros" in titles and "changed" not in titles


def test_tables_fit_eighty_columns(finished_run):
    folder, _ = finished_run
    for source in (folder, folder / "float" / "best.weights.h5"):
        if source.exists():
            text = io.StringIO()
            Console(file=text, width=200).print(diagnose(source).table())
            assert max(map(len, text.getvalue().splitlines())) <= 80


def test_an_empty_folder_says_what_a_run_has(tmp_path):
    message = refusal(diagnose, tmp_path)
    assert str(tmp_path) in message and DIAGNOSTICS_CSV in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("best.weights.h5", "no weights"),
        ("best_config.json", "{}"),
        ("diagnostics.csv", "epoch\n1\n"),
        ("epochs.csv", "epoch\n1\n"),
        ("env.json", "[]"),
        ("env.json", "{"),
    ],
)
def test_a_damaged_part_of_a_run_is_named(finished_run, tmp_path, name, text):
    recorded_run(tmp_path, [1.0] * EPOCHS)
    shutil.copy(finished_run[0] / "best.weights.h5", tmp_path)
    (tmp_path / name).write_text(text)
    assert name in refusal(diagnose, tmp_path)


@pytest.mark.slow
def test_files_are_diagnosed_without_tensorflow(finished_run):
    folder, _ = finished_run
    code = (
        "import sys; from pathlib import Path; from po2quant.diagnostics.diagnose import diagnose;"
        "diagnose(Path(sys.argv[1])); sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, folder / "best.weights.h5"], timeout=300).returncode == 0
