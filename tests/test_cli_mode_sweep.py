"""``po2quant diagnose --mode-sweep``: of a run and of weights, and what its configuration is good for."""

from __future__ import annotations

import json
import shlex

import pytest
from typer.testing import CliRunner

from po2quant.bit_config import MIXED, BitConfig
from po2quant.cli import app
from po2quant.files import read_csv

FILES = {"mode_sweep.csv", "mixed_config.json", *(f"mode_sweep.{kind}" for kind in ("png", "svg", "pdf"))}


def invoke(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return [*result.stderr.splitlines(), *result.stdout.splitlines()]


def last_json(lines):
    return json.loads(lines[-1])


def refusal(*arguments):
    with pytest.raises(ValueError) as caught:
        invoke(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def run(digits_weights, tmp_path_factory):
    """Return the folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("mode_sweep") / "run"
    invoke("finetune", "--weights", digits_weights, "--config", "flat4", "--epochs", 1, "--output-dir", folder)
    return folder


@pytest.fixture(scope="module")
def swept(run):
    return invoke("diagnose", run, "--mode-sweep", "--samples", 256, "--share", 0.1, "--json")


@pytest.mark.slow
def test_a_run_gets_table_picture_and_configuration(run, swept):
    facts = last_json(swept)
    widths, mixed = BitConfig.load(run / "best_config.json"), BitConfig.load(run / "mixed_config.json")
    assert (run / "plots" / "mode_sweep.png").stat().st_size > 1000
    rows = read_csv(run / "mode_sweep.csv")
    assert sorted(row["layer"] for row in rows) == sorted(widths.layers)
    assert {row["layer"] for row in rows if row["alpha"] == "auto"} == set(facts["real_layers"])
    assert mixed.with_alphas(dict.fromkeys(mixed.layers)).layers == widths.layers
    assert mixed.scales == (MIXED if facts["real_layers"] else "auto_po2")
    assert facts["samples"] == 256 and "256 samples" in facts["findings"][0]
    assert facts["mix_loss"] <= facts["best_loss"] + 0.1 * (facts["po2_loss"] - facts["best_loss"])
    first = swept.index(facts["findings"][0])  # a slow machine writes lines of progress before it
    note = first + len(facts["findings"])
    assert swept[first:note] == facts["findings"]
    assert swept[note].startswith("note: trained weights suit")


@pytest.mark.slow
def test_the_command_that_comes_next_trains_the_mix_from_float_weights(run, swept, digits_weights, tmp_path):
    (line,) = [line for line in swept if line.startswith("next: ")]
    words = shlex.split(line.removeprefix("next: "))
    assert words[0] == "po2quant" and str(digits_weights) in words
    mixed = BitConfig.load(run / "mixed_config.json")
    kinds = {name: "auto" if name in ("conv2d", "activation") else "auto_po2" for name in mixed.layers}
    mixed.with_alphas(kinds).save(tmp_path / "mixed.json")
    words[words.index("--config") + 1] = tmp_path / "mixed.json"
    row = last_json(invoke(*words[1:], "--epochs", 3, "--output-dir", tmp_path / "run", "--json"))
    assert row["alpha"] == MIXED and row["finetuned"]["value"] > 0.5
    assert {record["alpha"] for record in read_csv(tmp_path / "run" / "results.csv")} == {"float", MIXED}
    again = ("evaluate", "--weights", tmp_path / "run", "--config", tmp_path / "run" / "best_config.json", "--json")
    facts = last_json(invoke(*again))
    assert (facts["alpha"], facts["score"]) == (MIXED, row["finetuned"]["value"])
    assert "holds other scales than" in refusal("evaluate", "--weights", tmp_path / "run", "--config", "flat4")


def test_weights_alone_are_measured_without_a_run(digits_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("--weights", digits_weights, "--config", "flat4", "--samples", 64, "--max-layers", 1)
    lines = invoke("diagnose", "--mode-sweep", *arguments, "--output-dir", tmp_path / "out", "--json")
    facts = last_json(lines)
    assert not any(line.startswith("note:") for line in lines)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert len(facts["real_layers"]) <= 1 and facts["samples"] == 64
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_the_weights_of_a_run_are_measured_under_other_widths(run, tmp_path):
    arguments = ("--weights", run, "--config", "flat6", "--samples", 32, "--output-dir", tmp_path)
    (line,) = [line for line in invoke("diagnose", "--mode-sweep", *arguments) if line.startswith("next: ")]
    assert "--weights FLOAT_WEIGHTS" in line
    assert {row["bits"] for row in read_csv(tmp_path / "mode_sweep.csv")} == {"6", "6/31"}


def test_summary_shows_the_scales_of_each_layer_of_a_mix(run, swept, tmp_path):
    config = BitConfig.load(run / "best_config.json")
    config.with_alphas({"conv2d": "auto"}).save(tmp_path / "mixed.json")
    lines = invoke("summary", "--config", tmp_path / "mixed.json")
    assert any("scales" in line for line in lines)
    (row,) = [line for line in lines if line.strip().startswith("conv2d ") and "quantized_bits" in line]
    assert row.count("alpha='auto'") == 2
    assert any(line.strip().startswith("dense ") and "alpha='auto_po2'" in line for line in lines)
    assert not any("scales" in line for line in invoke("summary", "--config", "flat4"))


def test_without_run_or_weights_one_sentence_says_what_is_needed(tmp_path, digits_weights):
    assert refusal("diagnose", "--mode-sweep") == (
        "--mode-sweep needs the folder of a fine-tuned run, or --benchmark and --weights, or --network"
    )
    assert "--benchmark needs --mode-sweep" in refusal("diagnose", "--benchmark", "digits")
    assert "needs a run folder or a weight file" in refusal("diagnose")
    message = refusal("diagnose", tmp_path / "nowhere", "--mode-sweep")
    assert "folder of a fine-tuned quantized run" in message and "config.json" in message
    float_run = ("diagnose", "--mode-sweep", "--weights", digits_weights, "--config", "float")
    assert "Received: 'float'" in refusal(*float_run)
