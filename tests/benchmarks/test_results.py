"""The results table: complete, of the sizes that the configurations have, with commands that exist."""

import itertools
import shlex
from pathlib import Path

import pytest
import typer

from benchmarks.studies.document import END, begin_mark
from benchmarks.studies.tables import COMMAND, TABLES
from po2quant.benchmark import load_benchmark
from po2quant.cli import app
from po2quant.report.results import markdown_tables, read_records
from po2quant.training.prepare import resolve_config

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "best_configs" / "RESULTS.csv"
MODELS = {
    ("anomaly_detection", "autoencoder"): (0, 1, 2),
    ("keyword_spotting", "ds_cnn"): (0, 1, 2),
    ("image_classification", "resnet8"): (0,),
    ("visual_wake_words", "mobilenet_v1"): (0,),
    ("visual_wake_words", "mobilenet_v2"): (0,),
    ("visual_wake_words", "efficientnet_b0"): (0,),
}
CONFIGS, ALPHAS, STAGES = ("mpq", "flat16", "flat8", "flat4"), ("auto", "auto_po2"), ("calibrated", "finetuned")
LOW_BITS = ("w8a8", "w4a8", "w4a4", "w3a4", "w2a8")
LOW_BITS_OF = {
    **dict.fromkeys(("ds_cnn", "resnet8", "autoencoder"), LOW_BITS),
    **dict.fromkeys(("mobilenet_v1", "mobilenet_v2", "efficientnet_b0"), LOW_BITS[:3]),
}
"""Configurations of few bits of each network, of seed 0, which were reconstructed."""
STRONG = {
    *((model, seed, cell) for model in ("autoencoder", "ds_cnn") for seed in "012" for cell in ("w4a8", "w4a4", "mpq")),
    *((model, "0", cell) for model in ("autoencoder", "ds_cnn", "resnet8") for cell in ("w8a8", "w3a4", "w2a8")),
    *(("resnet8", *cell) for cell in itertools.product("01", ("w4a8", "w4a4"))),
    *(("resnet8", *cell) for cell in (("2", "w4a4"), ("0", "mpq"))),
    *(("mobilenet_v1", "0", cell) for cell in ("w8a8", "w4a8", "w4a4")),
    *(("mobilenet_v2", "0", cell) for cell in ("w8a8", "w4a8", "w4a4")),
    ("efficientnet_b0", "0", "w4a8"),
}
"""Model, seed and configuration of cells of few bits that were trained under powers of two."""
STRONG_AUTO = {("ds_cnn", "0", "w4a8"), ("ds_cnn", "0", "w4a4"), ("autoencoder", "0", "w4a8")}
"""Those under real scales."""
TRAINED_TWICE = {"mobilenet_v2", "efficientnet_b0"}
"""Networks whose cells of few bits have a float training of their own, as no weights are published."""
FIRST_COLUMNS = ["benchmark", "model", "config", "alpha", "stage", "metric", "score"]


@pytest.fixture(scope="module")
def rows():
    return read_records(TABLE)


def test_every_cell_is_there_once(rows):
    names = ("model", "seed", "config", "alpha", "stage", "recipe")
    cells = [tuple(row[name] for name in names) for row in rows if row["config"] != "float"]
    recipes = {"calibrated": "", "finetuned": "small"}
    expected = [
        (model, str(seed), *cell, recipes[cell[-1]])
        for (_, model), seeds in MODELS.items()
        for seed in seeds
        for cell in itertools.product(CONFIGS, ALPHAS, STAGES)
    ]
    reconstructed = {(model, "0", config) for model, configs in LOW_BITS_OF.items() for config in configs}
    expected += [(*cell, "auto_po2", "calibrated", "") for cell in reconstructed | STRONG if cell[-1] in LOW_BITS]
    expected += [(*cell, "auto_po2", "reconstructed", "") for cell in reconstructed]
    expected += [(*cell, "auto_po2", "finetuned", "strong") for cell in STRONG]
    stages = (("calibrated", ""), ("finetuned", "strong"))
    expected += [(*cell, "auto", *stage) for cell, stage in itertools.product(STRONG_AUTO, stages)]
    assert sorted(cells) == sorted(expected)
    of_float = [
        (*(row[name] for name in ("benchmark", "model", "seed", "stage")),) for row in rows if row["alpha"] == "float"
    ]
    assert sorted(of_float) == sorted(
        (*network, str(seed), "calibrated") for network in MODELS for seed in MODELS[network]
    )


def test_each_row_says_what_it_was_measured_on(rows):
    assert list(rows[0])[:7] == FIRST_COLUMNS
    for row in rows:
        assert 0 < float(row["score"]) <= 1
        assert int(row["train_samples"]) > 0 and int(row["test_samples"]) > 0
        assert f"{row['test_samples']} test" in row["data"] and "subset" in row["data"]
        assert len(row["commit"]) == 12
        assert (int(row["epochs"]) > 0) == (row["stage"] == "finetuned") or row["config"] == "float"


def test_scores_stand_beside_the_score_of_the_float_network_that_all_seeds_begin_with(rows):
    of_float = {row["model"]: row["score"] for row in rows if row["config"] == "float"}
    own = {row["model"]: row["float_score"] for row in rows if row["config"] in LOW_BITS}
    assert {model for model in own if own[model] != of_float[model]} == TRAINED_TWICE
    for row in rows:
        assert row["float_score"] == (own if row["config"] in LOW_BITS else of_float)[row["model"]]


@pytest.mark.parametrize(("benchmark", "model"), MODELS)
def test_sizes_are_those_of_the_configurations(rows, benchmark, model):
    spec = load_benchmark(benchmark).network(model)[1]
    network = spec.fold()
    for config in ("float", *CONFIGS, *LOW_BITS_OF.get(model, ())):
        sizes = {row["size_bits"] for row in rows if (row["model"], row["config"]) == (model, config)}
        assert sizes == {str(network.size(resolve_config(config, spec, network)).total_bits)}


def test_commands_are_commands_of_today(rows):
    commands = typer.main.get_command(app).commands
    for line in {row["command"] for row in rows}:
        program, name, *arguments = shlex.split(line)
        context = commands[name].make_context(name, arguments)
        row = next(row for row in rows if row["command"] == line)
        assert program == "po2quant"
        preset = context.params.get("preset", "published")  # what needs no labels has none
        load_benchmark(context.params["benchmark"]).recipe_of(context.params["model"], preset)
        assert (context.params["config"], str(context.params["seed"])) == (row["config"], row["seed"])


def test_the_markdown_form_is_that_of_the_csv(rows):
    assert TABLE.with_suffix(".md").read_text(encoding="utf-8") == markdown_tables(rows)


@pytest.mark.parametrize(("document", "name"), TABLES)
def test_the_tables_of_documents_are_made_of_the_results(document, name):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert begin_mark(f"{COMMAND}, {name}") + "\n\n" + TABLES[document, name]() + "\n\n" + END in text
