"""The matrix: every cell once, as the single command makes it, into one results file."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import search_process
from typer.testing import CliRunner

from po2quant import matrix as matrix_module
from po2quant.cli import app
from po2quant.files import read_csv
from po2quant.matrix import run_matrix
from po2quant.report.results import markdown_tables, merge_records, read_records
from po2quant.runs.names import RESULTS_CSV
from po2quant.runs.request import MatrixRequest, NetworkRequest, network_of_run, read_request
from po2quant.training.finetune import Experiment, Workbench
from po2quant.training.prepare import resolve_config

CONFIGS = ("flat8", "flat4")


def run(experiment, folder, **changes):
    asked = {"weights": experiment.weights, "configs": CONFIGS, "alphas": ("auto", "auto_po2"), "epochs": 1}
    said = []
    results = folder / "best" / "RESULTS.csv"
    results.parent.mkdir(exist_ok=True, parents=True)
    run_matrix(experiment, MatrixRequest(**asked | changes), folder, results, said.append)
    return read_records(results), said


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return search_process.experiment(None).with_float_weights(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def matrix(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    return folder, *run(experiment, folder)


def cells(rows):
    return [(row["config"], row["alpha"], row["stage"]) for row in rows]


def test_every_cell_has_its_stages(matrix):
    _, rows, said = matrix
    quantized = [(c, a, s) for c in CONFIGS for a in ("auto", "auto_po2") for s in ("calibrated", "finetuned")]
    assert cells(rows) == [("float", "float", "calibrated"), *quantized]
    assert list(rows[0])[:7] == ["benchmark", "model", "config", "alpha", "stage", "metric", "score"]
    assert {row["float_score"] for row in rows} == {rows[0]["score"]}
    assert {row["train_samples"] for row in rows} == {"64"} and {row["test_samples"] for row in rows} == {"64"}
    cell = matrix[0] / "flat4-auto_po2"
    assert rows[-1]["command"] == read_request(cell).command() and rows[-1]["epochs"] == "1"
    assert len(said) == 5


def test_every_cell_says_what_it_was_asked_for(matrix, experiment):
    folder, _, _ = matrix
    shared = {"weights": experiment.weights, "epochs": 1}
    assert read_request(folder / "float") == NetworkRequest(weights=experiment.weights, config="float", epochs=0)
    for config in CONFIGS:
        for alpha in ("auto", "auto_po2"):
            cell = folder / f"{config}-{alpha}"
            assert read_request(cell) == NetworkRequest(**shared, config=config, alpha=alpha)
            network = network_of_run(cell)
            assert (network.weights, network.config_name, network.alpha) == (cell, config, alpha)


@pytest.mark.slow
def test_published_widths_are_a_cell(digits, digits_data, digits_weights, tmp_path):
    experiment = Experiment(digits, "ds_cnn", digits_data, weights=digits_weights)
    rows, _ = run(experiment, tmp_path, configs=("mpq",), alphas=("auto_po2",), epochs=0)
    assert cells(rows) == [("float", "float", "calibrated"), ("mpq", "auto_po2", "calibrated")]
    size = experiment.network.size(resolve_config("mpq", experiment.spec)).total_bits
    assert rows[-1]["size_bits"] == str(size)


def test_files_that_would_share_a_cell_are_refused_before_anything_runs(experiment, tmp_path):
    with pytest.raises(ValueError, match=r"different names.*Received: a/found.json and b/found.json"):
        run(experiment, tmp_path, configs=("a/found.json", "b/found.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_results_that_are_no_csv_are_refused_before_anything_runs(experiment, tmp_path):
    request = MatrixRequest(configs=("flat8",), alphas=("auto",), epochs=1)
    with pytest.raises(ValueError, match=r"must be a \.csv file\. Received: .*results\.md"):
        run_matrix(experiment, request, tmp_path / "run", tmp_path / "results.md", print)
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"results\.csv must be a CSV file"):
        run_matrix(experiment, request, tmp_path / "run", tmp_path / "results.csv", print)
    assert not (tmp_path / "run").exists()


def test_a_configuration_with_scales_of_its_own_has_one_row(experiment, tmp_path):
    mixed = resolve_config("flat8", experiment.spec).with_activation_alpha("auto")
    mixed.save(tmp_path / "mixed.json")
    with pytest.raises(ValueError, match=r"kinds of scales of its own: give it one alpha\. Received: auto, auto_po2"):
        run(experiment, tmp_path / "run", configs=(str(tmp_path / "mixed.json"),))


@pytest.mark.slow
def test_a_cell_equals_the_run_of_its_own_command(matrix, experiment, tmp_path):
    _, rows, _ = matrix
    config = resolve_config("flat4", experiment.spec)
    alone = Workbench(experiment).finetune_and_score("flat4", config, tmp_path, 1)
    in_matrix = {row["stage"]: float(row["score"]) for row in rows[-2:]}
    assert in_matrix["calibrated"] == pytest.approx(alone.calibrated.value, abs=1e-6)
    assert in_matrix["finetuned"] == pytest.approx(alone.finetuned.value, abs=1e-6)
    (epoch,) = read_csv(matrix[0] / "flat4-auto_po2" / "epochs.csv")
    assert float(epoch["test_accuracy"]) == pytest.approx(alone.finetuned.value)


def test_what_is_done_is_not_done_again(matrix, experiment, monkeypatch):
    folder, rows, _ = matrix
    (folder / "best" / "RESULTS.csv").unlink()
    (folder / "flat4-auto" / "config.json").unlink()  # a cell from before version 0.2 gets what it was asked for
    monkeypatch.setattr(Workbench, "finetune_and_score", None)
    again, _ = run(experiment, folder)
    assert again == rows
    assert read_request(folder / "flat4-auto").alpha == "auto"


@pytest.mark.slow
def test_a_cell_of_another_file_of_that_name_is_not_taken_for_this_one(matrix, experiment, tmp_path):
    folder, _, _ = matrix
    resolve_config("flat4", experiment.spec).save(tmp_path / "flat8.json")
    with pytest.raises(ValueError, match=r"flat8-auto holds another run: config was 'flat8' and is '.*flat8\.json'"):
        run(experiment, folder, configs=(str(tmp_path / "flat8.json"),), alphas=("auto",))


@pytest.mark.slow
def test_a_missing_cell_alone_is_made(matrix, experiment):
    folder, rows, _ = matrix
    path = folder / "flat8-auto" / RESULTS_CSV
    path.unlink()
    trained = (folder / "flat4-auto" / "checkpoint.npz").stat().st_mtime_ns
    again, _ = run(experiment, folder)
    assert path.exists() and trained == (folder / "flat4-auto" / "checkpoint.npz").stat().st_mtime_ns
    assert [row["score"] for row in again] == [row["score"] for row in rows]


def test_results_go_beside_the_run_folders_unless_another_file_is_named(digits_weights, tmp_path, monkeypatch):
    seen = []

    def run_matrix(experiment, request, folder, results, report):
        seen.append(results)
        merge_records(results, [record(seed=str(request.seed))])

    monkeypatch.setattr(matrix_module, "run_matrix", run_matrix)
    monkeypatch.chdir(tmp_path)
    arguments = ["matrix", "--weights", str(digits_weights), "--seeds", "0,1"]
    for options in ([], ["--output-dir", "out"], ["--results", "published.csv"]):
        assert CliRunner().invoke(app, [*arguments, *options]).exit_code == 0
    expected = ("runs/matrix/results.csv", "out/results.csv", "published.csv")
    assert seen == [Path(path) for path in expected for _ in range(2)]
    assert not Path("best_configs").exists()


def record(**changes):
    row = {"benchmark": "b", "model": "m", "config": "flat8", "alpha": "auto", "stage": "calibrated", "seed": "0"}
    row |= {"metric": "accuracy", "score": "0.5", "size_bits": "8192", "bits_per_parameter": "8.0", "epochs": "0"}
    return row | {"bits_per_activation": "8.0", "data": "d (subset: 2 test)"} | changes


def test_rows_replace_those_of_the_same_cell_and_leave_the_others(tmp_path):
    path = tmp_path / "RESULTS.csv"
    merge_records(path, [record(seed="1"), record(score="0.6"), record(model="a"), record(config="mpq")])
    rows = merge_records(path, [record(score="0.7")])
    assert [(row["model"], row["config"], row["seed"], row["score"]) for row in rows] == [
        ("a", "flat8", "0", "0.5"),
        ("m", "mpq", "0", "0.5"),
        ("m", "flat8", "0", "0.7"),
        ("m", "flat8", "1", "0.5"),
    ]
    assert read_records(path) == rows
    assert path.with_suffix(".md").read_text() == markdown_tables(rows)


def test_the_table_shows_means_and_deviations_over_seeds():
    rows = [record(seed=str(seed), score=str(score)) for seed, score in ((0, 0.5), (1, 0.6), (2, 0.7))]
    rows += [record(alpha="auto_po2", stage="finetuned", score="0.9", epochs="5")]
    lines = markdown_tables(rows).splitlines()
    assert lines[0] == "**b, m** (accuracy, d (subset: 2 test), seeds 0, 1, 2, fine-tuning epochs: 5)"
    assert lines[-1] == "| flat8 | 1.0 | 8.00 | 8.00 | 0.6000 ± 0.1000 |  |  | 0.9000 |"


def test_processes_that_write_at_the_same_time_lose_no_row(tmp_path):
    path, count = tmp_path / "RESULTS.csv", 12
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: merge_records(path, [record(seed=str(seed))]), range(count)))
    assert sorted(int(row["seed"]) for row in read_records(path)) == list(range(count))


def test_a_foreign_results_file_is_named(tmp_path):
    path = tmp_path / "RESULTS.csv"
    path.write_text("name,score\nx,1\n")
    with pytest.raises(ValueError, match=r"a row of results needs benchmark, .* without benchmark"):
        merge_records(path, [record()])
    assert path.read_text() == "name,score\nx,1\n"


@pytest.mark.slow
def test_a_float_network_trained_here_counts_its_epochs(tmp_path):
    experiment = search_process.experiment(None)
    recipe = dataclasses.replace(experiment.recipe, float_epochs=2)
    longer = dataclasses.replace(experiment, benchmark=dataclasses.replace(experiment.benchmark, recipe=recipe))
    rows, _ = run(longer, tmp_path, configs=(), alphas=())
    assert cells(rows) == [("float", "float", "calibrated")]
    assert rows[0]["epochs"] == "2" and float(rows[0]["seconds"]) > 0
