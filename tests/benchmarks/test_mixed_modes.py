"""The committed mixes: what their sweeps propose by the rule, and results of every seed beside both kinds of scales."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from po2quant.benchmark import load_benchmark
from po2quant.bit_config import MIXED, BitConfig
from po2quant.files import read_csv
from po2quant.report.results import markdown_tables, read_records
from po2quant.training.prepare import resolve_config

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "mixed-modes.csv"
MIXES = (("keyword_spotting", "mpq"), ("keyword_spotting", "flat4"), ("anomaly_detection", "mpq"))
SEEDS, STAGES = ("0", "1", "2"), ("calibrated", "finetuned")


def mix_file(benchmark, config):
    return RESULTS.with_suffix("") / f"{benchmark}-{config}" / "mixed_config.json"


@pytest.mark.parametrize(("benchmark", "config"), MIXES)
def test_the_mix_is_the_one_that_its_sweep_proposes(benchmark, config):
    path = mix_file(benchmark, config)
    mix, rows = BitConfig.load(path), read_csv(path.with_name("mode_sweep.csv"))
    base = resolve_config(config, load_benchmark(benchmark).network()[1])
    assert mix.with_alphas(dict.fromkeys(mix.layers)).layers == base.layers
    assert mix.alphas() == {row["layer"]: row["alpha"] for row in rows}
    rule = mix.provenance["mode_sweep"]
    po2_loss = rule["loss"]["auto_po2"]
    losses = [po2_loss, *(float(row["mix_loss"]) for row in sorted(rows, key=lambda row: int(row["rank"])))]
    limit = min(losses) + rule["share"] * (po2_loss - min(losses))
    count = next(count for count, loss in enumerate(losses) if loss <= limit)
    assert {row["layer"] for row in rows if int(row["rank"]) <= count} == {
        name for name, alpha in mix.alphas().items() if alpha == "auto"
    }


def test_every_mix_has_results_beside_real_scales_and_powers_of_two():
    cells = {
        (row["benchmark"], row["config"], row["alpha"], row["seed"], row["stage"]) for row in read_records(RESULTS)
    }
    for benchmark, config in MIXES:
        name = str(mix_file(benchmark, config).relative_to(ROOT))
        kinds = ((name, MIXED), (config, "auto"), (config, "auto_po2"))
        missing = {(benchmark, *kind, *rest) for kind in kinds for rest in itertools.product(SEEDS, STAGES)} - cells
        assert not missing


def test_the_markdown_form_is_that_of_the_csv():
    assert RESULTS.with_suffix(".md").read_text(encoding="utf-8") == markdown_tables(read_records(RESULTS))
