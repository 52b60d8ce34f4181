"""Write tables of README and documentation from result files: ``python -m benchmarks.studies.tables``."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.mnist import MODELS
from benchmarks.studies.document import table, thousands, write_results
from po2quant.cost import BITS_PER_KIB
from po2quant.report.results import STAGES, markdown_tables, read_records
from po2quant.runs.costs import BYTES_PER_KIB

ROOT = Path(__file__).parents[2]
RESULTS, NETWORKS = ROOT / "benchmarks" / "results", ROOT / "best_configs" / "RESULTS.csv"
COMMAND = "python -m benchmarks.studies.tables"
NARROW = ("w4a8", "w4a4")
Row = dict[str, str]
Value = TypeVar("Value")

CONFIGS = {"float": "float", "8 bits": "flat8", "4 bits": "flat4", "mixed": "mpq"}
FEW_BITS = ("w4a8", "w4a4")
RETRAINED = {
    "mpq": "published",
    "widths-found-571440": "best of 15 trials within 70.07 KiB, 3 to 16 bits",
    "widths-allocated-574000": "integer program at that limit, 3 to 16 bits",
    "allocated-573796": "integer program, the study's widths",
    "widths-found-394064": "best of 30 trials, 3 to 16 bits",
    "widths-found-452196": "best of 40 trials, 3 to 16 bits, as the search was before",
    "widths-found-503344": "best of 30 trials within 64 KiB, likewise",
}
STRATEGIES = {"informed": "informed (ours)", "bayesian": "Bayesian (Keras Tuner's, as AutoQKeras)", "random": "random"}
RULES = {
    ("auto", ""): "`auto`, real scales",
    ("auto_po2", "mse"): "`auto_po2`, exact exponents",
    ("auto_po2", "stock"): "`auto_po2`, QKeras' rule (`--scale-rule stock`)",
}
MNIST_CONFIGS = ("w8a8", "w4a8", "w4a4")
UNTRAINED_CONFIGS = {"flat16": "flat16", "flat8": "flat8", "flat6": "flat6", "flat4": "flat4", "mpq": "published mixed"}


def read(name: str) -> list[Row]:
    """Return the rows of a result file."""
    with open(RESULTS / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary() -> str:
    """Return scores under powers of two, means over the seeds, and sizes, a network a line."""
    records = read_records(NETWORKS)
    networks = dict.fromkeys((row["benchmark"], row["model"], row["metric"]) for row in records)
    columns = ["network", *CONFIGS, *FEW_BITS, *(f"KiB: {name}" for name in CONFIGS)]
    return table(columns, [_network(records, *network) for network in networks])


def _network(records: Sequence[Row], benchmark: str, model: str, metric: str) -> list[str]:
    own = [row for row in records if (row["benchmark"], row["model"]) == (benchmark, model)]
    scores, sizes = [], []
    for config in CONFIGS.values():
        rows = _rows(own, config, "calibrated") if config == "float" else _rows(own, config, "finetuned", "small")
        scores.append(_score(rows))
        sizes.append(f"{int(rows[0]['size_bits']) / BITS_PER_KIB:.0f}")
    for config in FEW_BITS:
        trained, reconstructed = _rows(own, config, "finetuned", "strong"), _rows(own, config, "reconstructed")
        scores.append(_score(trained) if trained else f"*{_score(reconstructed)}*" if reconstructed else "")
    return [f"{model} ({benchmark.replace('_', ' ')}, {metric})", *scores, *sizes]


def _rows(rows: Sequence[Row], config: str, stage: str, recipe: str | None = None) -> list[Row]:
    """Return the rows of a configuration under powers of two, or of the float network."""
    rows = [row for row in rows if (row["config"], row["stage"]) == (config, stage) and row["alpha"] != "auto"]
    return [row for row in rows if recipe is None or row["recipe"] == recipe]


def _score(rows: Sequence[Row]) -> str:
    return f"{statistics.fmean(float(row['score']) for row in rows):.3f}"


def networks() -> str:
    """Return the table of every network, with all configurations and kinds of scales."""
    return markdown_tables(read_records(NETWORKS)).rstrip()


def speed() -> str:
    """Return how long a quantized training step takes beside a float one."""
    known = {(row["model"], row["measure"], row["variant"]): row for row in read("performance.csv")}
    columns = ["", "to float with BatchNorm", "to float, BatchNorm folded", "exponents of every 8th step, to folded"]
    columns += ["learned scales, to folded", "qkeras-v3's `auto_po2`, to folded", "set-up of a trial"]
    rows = []
    for model in dict.fromkeys(model for model, *_ in known):
        step = {variant: known[model, "training_step", variant] for variant in ("auto_po2", "learned_po2")}
        kept, stock = (known[model, "training_step", name] for name in ("auto_po2_kept", "stock_auto_po2"))
        ratios = [step["auto_po2"]["ratio_to_float"]]
        ratios += [row["ratio_to_folded_float"] for row in (step["auto_po2"], kept, step["learned_po2"], stock)]
        seconds = float(known[model, "later_setup", "auto_po2"]["milliseconds"]) / 1000
        rows.append([model, *(f"{float(ratio):.2f}" for ratio in ratios), f"{seconds:.2f} s"])
    return table(columns, rows)


def steps() -> str:
    """Return the processor time of a quantized training step over that of the folded float network."""
    columns = {"auto": "`auto`", "auto_po2": "searched", "auto_po2_kept": "every eighth", "learned_po2": "learned"}
    found: dict[tuple[str, str], Row] = {}
    for row in read("training-step.csv"):
        found.setdefault((row["model"], row["batch_size"]), {})[row["variant"]] = row["ratio_to_folded_float"]
    lines = ([*network, *(f"{float(ratios[name]):.2f}" for name in columns)] for network, ratios in found.items())
    return table(["network", "batch", *columns.values()], lines)


def first_steps() -> str:
    """Return processor seconds to the end of the first training step, and beside them what part of Keras' they are."""
    found: dict[str, dict[str, Row]] = {}
    for row in read("first-step.csv"):
        found.setdefault(row["model"] + " (digits)" * (row["benchmark"] == "digits"), {})[row["variant"]] = row
    lines = []
    for model, by_variant in found.items():
        alone, *rows = by_variant.values()
        lines.append(
            [model, alone["cpu_seconds"], *(f"{r['cpu_seconds']} ({float(r['ratio_to_keras']):.2f})" for r in rows)]
        )
    return table(["network", "float, Keras alone", *list(by_variant)[1:]], lines)


def untrained() -> str:
    """Return scores of the keyword spotter before any training."""
    rows = read("keyword_spotting-untrained.csv")
    scores = {(row["alpha"], row["scale_rule"], row["config"]): row["score"] for row in rows}
    lines = []
    for (alpha, rule), name in RULES.items():
        found = [scores.get((alpha, rule, config)) for config in UNTRAINED_CONFIGS]
        lines.append([name, *("" if score is None else f"{100 * float(score):.1f} %" for score in found)])
    return table(["rule", *UNTRAINED_CONFIGS.values()], lines)


def efficiency() -> str:
    """Return how many trials the strategies need."""
    lines = []
    for task in ("digits", "keyword_spotting"):
        curves: dict[str, dict[str, list[float]]] = {}
        for row in read(f"search_efficiency-{task}.csv"):
            curves.setdefault(row["strategy"], {}).setdefault(row["seed"], []).append(float(row["best_score"]))
        targets = {seed: curve[-1] for seed, curve in curves["bayesian"].items()}
        for strategy, name in STRATEGIES.items():
            by_seed = curves[strategy]
            best = statistics.fmean(curve[-1] for curve in by_seed.values())
            needed = [_first(curve, targets[seed]) for seed, curve in sorted(by_seed.items()) if seed in targets]
            trials = max(map(len, by_seed.values()))
            lines.append([task, name, str(len(by_seed)), str(trials), f"{best:.4f}", ", ".join(needed)])
    last = "trials to the plain Bayesian search's last score, by seed"
    return table(["", "strategy", "seeds", "trials", "best score, mean", last], lines)


def _first(curve: Sequence[float], score: float) -> str:
    return next((str(number) for number, value in enumerate(curve, 1) if value >= score), "—")


def retrained() -> str:
    """Return what the configurations that searches found come to with several seeds."""
    rows = read("keyword_spotting-search/retrained.csv")
    lines = []
    for config, name in RETRAINED.items():
        found = [row for row in rows if Path(row["config"]).stem == config and row["stage"] == "finetuned"]
        scores, checks = ([float(row[column]) for row in found] for column in ("score", "validation"))
        error = statistics.stdev(scores) / math.sqrt(len(scores))
        validation, size = f"{statistics.fmean(checks):.3f}", f"{int(found[0]['size_bits']):,}"
        lines.append([name, size, str(len(found)), validation, f"{statistics.fmean(scores):.3f} ± {error:.3f}"])
    return table(["configuration", "bits", "seeds", "validation", "test"], lines)


def families() -> str:
    """Return what each family of networks learns of MNIST in float, a network a line."""
    columns = ["network", "parameters", "MACs", "train", "validation", "test", "test loss", "epochs", "to 99 %"]
    columns += ["training, s", "testing, s", "ARI: k-means", "DBSCAN"]
    rows = {row["model"]: row for row in read("mnist.csv") if row["config"] == "float"}
    lines = []
    for model, row in in_order(rows):
        line = [model, *(thousands(row[name]) for name in ("parameters", "macs"))]
        line += [f"{float(row[f'{part}_accuracy']):.4f}" for part in ("train", "validation", "test")]
        line += [f"{float(row['test_loss']):.4f}", row["epochs"], row["epochs_to_99"] or "—"]
        line += [row["train_cpu_seconds"], row["test_cpu_seconds"]]
        lines.append([*line, *(f"{float(row[f'ari_{method}']):.3f}" for method in ("kmeans", "dbscan"))])
    return table(columns, lines)


def families_quantized() -> str:
    """Return what powers of two cost each family on MNIST: accuracy at each stage, size and instructions of the C."""
    columns = ["network", "widths", "calibrated", "reconstructed", "fine-tuned", "points to float", "weights, KiB"]
    columns += ["code", "arena", "10^6 instructions", "estimated", "integers compared", "differing"]
    by_model: dict[str, dict[str, Row]] = {}
    for row in read("mnist.csv"):
        by_model.setdefault(row["model"], {})[row["config"]] = row
    lines = []
    for model, found in in_order(by_model):
        known = float(found["float"]["test_accuracy"])
        for config, row in ((config, found[config]) for config in MNIST_CONFIGS if config in found):
            accuracies = [row[name] for name in ("accuracy_calibrated", "accuracy_reconstructed", "test_accuracy")]
            line = [model, config, *(f"{float(value):.4f}" for value in accuracies)]
            line += [f"{100 * (float(row['test_accuracy']) - known):+.2f}"]
            line += [f"{int(row[name]) / BYTES_PER_KIB:.1f}" for name in ("weight_bytes", "code_bytes", "arena_bytes")]
            line += [f"{int(row[name]) / 1e6:.2f}" for name in ("instructions", "instructions_estimated")]
            lines.append([*line, thousands(row["compared_integers"]), row["differing"]])
    return table(columns, lines)


def in_order(by_model: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """Return what is known of the families on MNIST in their order there."""
    return [(model, by_model[model]) for model in MODELS if model in by_model]


def designs() -> str:
    """Return what each block of a convolutional network costs and scores, float and at three widths."""
    columns = ["network", "MACs", "parameters", "KiB w4a4", "peak KiB", "float", "w8a8"]
    for config in NARROW:
        columns += [f"{config}: calibrated", "reconstructed", "fine-tuned"]
    lines = []
    for (name, seed), rows in _designs().items():
        one = rows[NARROW[-1]]
        line = [
            name if seed == "0" else f"{name}, seed {seed}",
            thousands(one["macs"]),
            thousands(one["parameters"]),
            one["weight_kib"],
        ]
        line += [one["activation_peak_kib"], _percent(one["float_score"]), _percent(rows["w8a8"]["calibrated"])]
        for config in NARROW:
            line += [_percent(rows[config][stage]) for stage in STAGES]
        lines.append(line)
    return table(columns, lines)


def design_errors() -> str:
    """Return what each block loses, in points, where its error comes from before it learns, and if C agrees."""
    columns = ["network", *(f"lost at {config}" for config in NARROW), "reconstructed", "with real scales", "output dB"]
    columns += ["kernels dB", "worst", "activations dB", "worst", "integers in C"]
    lines = []
    for (name, _), rows in _designs().items():
        one = rows[NARROW[-1]]
        scores = [*(rows[config]["calibrated"] for config in NARROW), one["reconstructed"], one["real_scales"]]
        lost = [f"{100 * (float(one['float_score']) - float(score)):.1f}" for score in scores]
        decibels = [_decibels(one["output_sqnr_db"])]
        for part in ("kernel", "activation"):
            worst = f"{_short(one[f'worst_{part}'])}, {_decibels(one[f'worst_{part}_sqnr_db'])}"
            decibels += [_decibels(one[f"{part}_sqnr_db"]), worst]
        lines.append([name, *lost, *decibels, f"{thousands(one['integers'])}, {one['mismatches']} differ"])
    return table(columns, lines)


def _designs() -> dict[tuple[str, str], dict[str, Row]]:
    """Return a row for each width of every network and seed that has all; the longest training of each counts."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in sorted(read("design-blocks.csv"), key=lambda row: int(row["epochs"])):
        found.setdefault((row["network"], row["seed"]), {})[row["config"]] = row
    return {key: rows for key, rows in found.items() if len(rows) == 1 + len(NARROW)}


def _percent(score: str) -> str:
    return score and f"{100 * float(score):.1f}"


def _decibels(ratio: str) -> str:
    return f"{float(ratio):.1f}"


def _short(layer: str) -> str:
    return layer.removesuffix("_function").replace("depthwise_conv2d", "depthwise").replace("conv2d", "conv")


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "summary"): summary,
    ("docs/results.md", "networks"): networks,
    ("docs/speed.md", "speed"): speed,
    ("docs/low-bits.md", "steps"): steps,
    ("docs/design.md", "first_steps"): first_steps,
    ("docs/four-bits.md", "untrained"): untrained,
    ("docs/search-results.md", "efficiency"): efficiency,
    ("docs/search-results.md", "retrained"): retrained,
    ("docs/mnist.md", "families"): families,
    ("docs/mnist.md", "families_quantized"): families_quantized,
    ("docs/design-blocks.md", "designs"): designs,
    ("docs/design-blocks.md", "design_errors"): design_errors,
}
"""What stands where, by document and name."""


def main() -> None:
    """Write all tables."""
    for (document, name), made in TABLES.items():
        write_results(ROOT / document, f"{COMMAND}, {name}", [made()])


if __name__ == "__main__":
    main()
