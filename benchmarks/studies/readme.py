"""Write the table of the README: ``python -m benchmarks.studies.readme``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.studies.document import table, write_results
from po2quant.cost import BITS_PER_KIB
from po2quant.report.results import read_records

ROOT = Path(__file__).parents[2]
README, RESULTS = ROOT / "README.md", ROOT / "best_configs" / "RESULTS.csv"
COMMAND = "python -m benchmarks.studies.readme"
COLUMNS = ("network", "float", "8 bits", "4 bits", "mixed", "KiB: float", "8 bits", "4 bits", "mixed")
CONFIGS = ("float", "flat8", "flat4", "mpq")


def results_table(records: Sequence[Mapping[str, str]]) -> str:
    """Return scores after fine-tuning under powers of two, means over the seeds, and sizes, a network a line."""
    networks = dict.fromkeys((row["benchmark"], row["model"], row["metric"]) for row in records)
    return table(COLUMNS, [_row(records, *network) for network in networks])


def _row(records: Sequence[Mapping[str, str]], benchmark: str, model: str, metric: str) -> list[str]:
    scores, sizes = [], []
    for config in CONFIGS:
        kind = ("float", "calibrated") if config == "float" else ("auto_po2", "finetuned")
        rows = [row for row in records if (row["benchmark"], row["model"], row["config"]) == (benchmark, model, config)]
        rows = [row for row in rows if (row["alpha"], row["stage"]) == kind]
        scores.append(f"{statistics.fmean(float(row['score']) for row in rows):.3f}")
        sizes.append(f"{int(rows[0]['size_bits']) / BITS_PER_KIB:.0f}")
    return [f"{model} ({benchmark.replace('_', ' ')}, {metric})", *scores, *sizes]


def main() -> None:
    """Write the table between its marks."""
    write_results(README, COMMAND, [results_table(read_records(RESULTS))])


if __name__ == "__main__":
    main()
