"""Tables and pictures of the results file, written into the document between two marks."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.studies.document import table, write_results
from benchmarks.studies.po2_collapse.cells import STARTS
from benchmarks.studies.po2_collapse.pictures import plot_causes, plot_rules, plot_runs
from benchmarks.studies.po2_collapse.rules import CAUSES, EXACT, FLOAT, LEARNED, LEARNED_ACTIVATIONS, STOCK

Row = dict[str, str]
COMMAND = "python -m benchmarks.studies.po2_collapse --report"
MAIN_RULES = (STOCK, EXACT, LEARNED, LEARNED_ACTIVATIONS)
CONFIGS = ("flat16", "flat8", "flat4", "mpq")


def write_report(rows: Sequence[Row], runs: Path, path: Path) -> None:
    """Write tables and pictures of the results into a document that has the two marks.

    Args:
        rows: rows of the results file.
        runs: folder of the run folders; pictures over epochs are drawn of the runs that are still there.
        path: the document; pictures go into ``images/`` beside it.

    Raises:
        ValueError: where there are no results, or no marks.
    """
    if not rows:
        raise ValueError("a report needs results: run a benchmark first")
    images = path.parent / "images"
    sections = []
    for (benchmark, model), of_network in _grouped(rows, ("benchmark", "model")):
        sections.append(f"### {benchmark}, {model}")
        of_network = sorted(of_network, key=lambda row: (STARTS.index(row["start"]), int(row["epochs"])))
        for (start, epochs), group in _grouped(of_network, ("start", "epochs")):
            widest = min((row["config"] for row in group if row["config"] in CONFIGS), key=CONFIGS.index, default=FLOAT)
            name = f"po2-collapse-{benchmark}-{model}-{start}-{epochs}"
            pictures = [
                plot_rules(group, CONFIGS, MAIN_RULES, images / f"{name}-rules.png"),
                plot_causes(group, widest, images / f"{name}-causes.png"),
                plot_runs(group, widest, runs, images / f"{name}-epochs.png"),
            ]
            sections += tables_section(f"From {start} weights, epochs: {epochs}", group)
            sections += [
                f"![{picture.stem}]({os.path.relpath(picture, path.parent)})" for picture in pictures if picture
            ]
    write_results(path, COMMAND, sections)


def tables_section(title: str, rows: Sequence[Row]) -> list[str]:
    """Return heading, data and tables of runs that start from the same weights and last as long."""
    plain = [row for row in rows if float(row["l2"]) == 0.0]
    return [
        f"#### {title}",
        _about(rows),
        *(table for table in (rules_table(plain), causes_table(plain), weights_table(rows)) if table),
    ]


def _about(rows: Sequence[Row]) -> str:
    def values(name: str) -> str:
        return ", ".join(sorted({row[name] for row in rows}))

    return (
        f"{rows[0]['metric']} on {values('data')}; seeds: {values('seed')}; commits: {values('commit')}. "
        "A score is that before training and that after it, the mean over the seeds."
    )


def rules_table(rows: Sequence[Row]) -> str:
    """Return the table of widths and rules, and the float network trained alike."""
    floats = [row for row in rows if row["rule"] == FLOAT]
    lines = [[f"float: {scores(floats)}", *[""] * len(MAIN_RULES)]] if floats else []
    for config in CONFIGS:
        cells = [scores(_of(rows, config, rule)) for rule in MAIN_RULES]
        if any(cells):
            lines.append([config, *cells])
    return table(["config", *MAIN_RULES], lines) if lines else ""


def causes_table(rows: Sequence[Row]) -> str:
    """Return the table of each cause alone, and of all causes but it."""
    tables = []
    for config in CONFIGS:
        cells = [
            (cause, scores(_of(rows, config, f"{EXACT}+{cause}")), scores(_of(rows, config, f"{STOCK}-{cause}")))
            for cause in CAUSES
        ]
        if not any(alone or without for _, alone, without in cells):
            continue
        header = [f"cause, {config}", "on alone, over exact", "off alone, under stock"]
        none = ("(none)", scores(_of(rows, config, EXACT)), scores(_of(rows, config, STOCK)))
        tables.append(table(header, [none, *cells]))
    return "\n\n".join(tables)


def weights_table(rows: Sequence[Row]) -> str:
    """Return the table of what became of the weights, with and without a penalty."""
    columns = ("config", "rule", "L2", "score", "zero kernels", "zero biases", "kernels as before training")
    lines = []
    configs, rules = (FLOAT, *CONFIGS), (FLOAT, *MAIN_RULES)
    shown = [row for row in rows if row["rule"] in rules and row["config"] in configs]
    shown.sort(key=lambda row: (configs.index(row["config"]), rules.index(row["rule"]), row["l2"]))
    for (config, rule, l2), group in _grouped(shown, ("config", "rule", "l2")):
        zeros = [
            " to ".join(filter(None, (_percent(group, f"{part}_zero_ratio_{stage}") for stage in ("before", "after"))))
            for part in ("kernel", "bias")
        ]
        still = _percent(group, "kernel_unchanged_ratio")
        lines.append([config, rule, f"{float(l2):g}", scores(group), *zeros, still])
    return table(columns, lines) if lines else ""


def scores(rows: Sequence[Row]) -> str:
    """Return scores before and after training, the latter with its standard deviation over the seeds."""
    if not rows:
        return ""
    after = [float(row["score_trained"]) for row in rows if row["score_trained"]]
    parts = [f"{statistics.fmean(float(row['score_calibrated']) for row in rows):.4f}"]
    if after:
        deviation = f" ± {statistics.stdev(after):.4f}" if len(after) > 1 else ""
        parts.append(f"**{statistics.fmean(after):.4f}**{deviation}")
    diverged = sum(row["outcome"] == "diverged" for row in rows)
    return " to ".join(parts) + (f" ({diverged} diverged)" if diverged else "")


def _percent(rows: Sequence[Row], column: str) -> str:
    values = [float(row[column]) for row in rows if row[column]]
    return f"{100.0 * statistics.fmean(values):.1f} %" if values else ""


def _of(rows: Iterable[Row], config: str, rule: str) -> list[Row]:
    return [row for row in rows if row["config"] == config and row["rule"] == rule]


def _grouped(rows: Iterable[Row], columns: Sequence[str]) -> list[tuple[tuple[str, ...], list[Row]]]:
    """Return rows of equal values in some columns together, in the order in which these first appear."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), []).append(row)
    return list(groups.items())
