"""The table of ``docs/peers.md`` and its picture: the peers' rows beside po2quant's at the same widths."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.studies.document import table, write_results
from benchmarks.studies.peers.outcomes import PEERS, POWERS_OF_TWO
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import AUTO_PO2
from po2quant.cost import BITS_PER_KIB
from po2quant.figures import MARKERS, PALETTE, new_figure, save_figure
from po2quant.report.results import FINETUNED, STAGES
from po2quant.training.prepare import resolve_config

REPORT_COMMAND = "python -m benchmarks.studies.peers --report"
PICTURE = Path("images") / "peers.png"
"""Beside the document."""
OURS = "po2quant"
WIDTHS = tuple(dict.fromkeys(peer.widths for peer in PEERS.values()))
Row = Mapping[str, str]


def our_rows(records: Iterable[Row], networks: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return po2quant's results with scales of powers of two, at the peers' widths, as rows of the peers' table."""
    rows = []
    for benchmark, model in networks:
        own = [row for row in records if (row["benchmark"], row["model"]) == (benchmark, model)]
        own = [row for row in own if row["alpha"] == AUTO_PO2 and row["config"] in WIDTHS]
        spec = load_benchmark(benchmark).network(model)[1]
        network = spec.fold() if own else None
        for row in own:
            config = resolve_config(row["config"], spec, network)
            bits = network.size(config).parameter_bits
            rows.append(
                {**row, "peer": OURS, "widths": row["config"], "scales": POWERS_OF_TWO, "bytes": str(bits // 8)}
            )
    return rows


def peers_table(rows: Sequence[Row]) -> str:
    """Return a line for each network, widths, tool and stage: the mean over seeds, and how far from float it is."""
    lines = []
    for model, widths in itertools.product(_distinct(rows, "model"), WIDTHS):
        here = [row for row in rows if (row["model"], row["widths"]) == (model, widths)]
        for peer, stage in itertools.product(_distinct(here, "peer"), STAGES):
            found = [row for row in here if (row["peer"], row["stage"]) == (peer, stage)]
            if found:
                scores = [float(row["score"]) for row in found]
                spread = f" ± {statistics.stdev(scores):.4f}, {len(scores)} seeds" if len(scores) > 1 else ""
                loss = statistics.fmean(scores) - float(found[0]["float_score"])
                size = f"{statistics.fmean(_bytes(row) for row in found) * 8 / BITS_PER_KIB:.1f}"
                score = f"{statistics.fmean(scores):.4f}{spread}"
                lines.append([model, widths, size, peer, found[0]["scales"], _made(found[0]), score, f"{loss:+.4f}"])
    return table(["network", "widths", "weights, KiB", "tool", "scales", "", "score", "to float"], lines)


def draw_peers(rows: Sequence[Row]) -> Figure:
    """Return the scores over the bytes of the weights, a panel for each network."""
    models = _distinct(rows, "model")
    figure = new_figure("; ".join(_distinct(rows, "data")), 3.4 * len(models), 3.8)
    tools = list(dict.fromkeys((row["peer"], row["stage"]) for row in rows))
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        here = [row for row in rows if row["model"] == model]
        axes.axhline(float(here[0]["float_score"]), color="black", linestyle="--", linewidth=1)
        for number, (peer, stage) in enumerate(tools):
            found = [row for row in here if (row["peer"], row["stage"]) == (peer, stage)]
            if found:
                style = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
                places = [(_bytes(row) / 1024, float(row["score"])) for row in found]
                axes.plot(*zip(*places, strict=True), linestyle="", label=f"{peer}, {STAGES[stage]}", **style)
        axes.set(title=model, xlabel="weights, KiB", ylabel=here[0]["metric"])
        axes.grid(alpha=0.3)
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def write_report(path: Path, rows: Sequence[Row], records: Sequence[Row]) -> None:
    """Write the table and the picture of a document.

    Args:
        path: the document.
        rows: the peers'.
        records: po2quant's, of the table of results.
    """
    rows = [{**row, "bytes": str(int(row["kernel_bytes"]) + int(row["bias_bytes"]))} for row in rows]
    networks = list(dict.fromkeys((row["benchmark"], row["model"]) for row in rows))
    rows = [*our_rows(records, networks), *rows]
    save_figure(draw_peers(rows), path.parent / PICTURE)
    write_results(
        path, REPORT_COMMAND, [peers_table(rows), f"![Scores over the bytes of the weights]({PICTURE.as_posix()})"]
    )


def _distinct(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))


def _bytes(row: Row) -> float:
    return float(row["bytes"])


def _made(row: Row) -> str:
    epochs = row.get("epochs", "")
    return f"{STAGES[row['stage']]}, {epochs} epochs" if row["stage"] == FINETUNED else STAGES[row["stage"]]
