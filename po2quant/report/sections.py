"""What a report says of one run: a function for each section."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from po2quant.bit_config import FLOAT, BitConfig
from po2quant.cost import BITS_PER_KIB, LayerShape, check_covers, layer_size, network_size
from po2quant.diagnostics.measurement import ACTIVATION, BIAS, KERNEL
from po2quant.figures import data_address
from po2quant.report import plots
from po2quant.report.histograms import histogram_picture
from po2quant.report.html import Html, element, facts, items, joined, picture, section, table
from po2quant.report.results import STAGES
from po2quant.report.run import Point, Rows, Run, points_of
from po2quant.runs.request import MatrixRequest, SearchRequest

MOST_HISTOGRAMS = 48
MOST_SENTENCES = 12
SMALL = (5.2, 3.7)
"""Inches of a picture: its text can still be read where it is 350 pixels wide."""
NOT_SHOWN = frozenset({"schema", "version", "command"})


def asked(run: Run) -> Html:
    """What the run was asked for."""
    given = {name: value for name, value in run.request.to_dict().items() if name not in NOT_SHOWN}
    rows = [
        (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else value)
        for name, value in given.items()
        if value is not None
    ]
    note = element("p", f"{run.request.kind} of {run.network}")
    return section("What was asked", f"{run.label}-asked", note, facts(rows))


def conditions(run: Run) -> Html:
    """Data, machine and versions."""
    known = run.environment
    versions = known.get("versions")
    rows = [
        ("data", run.data),
        ("kind of data", known.get("data_kind")),
        ("fingerprint of the data", known.get("data_fingerprint")),
        ("started", known.get("started")),
        ("commit", known.get("commit")),
        ("machine", known.get("platform")),
        ("cores", known.get("cores")),
        ("Python", known.get("python")),
    ]
    if isinstance(versions, Mapping):
        rows += sorted(versions.items())
    return section(
        "Data and environment", f"{run.label}-data", facts((name, value) for name, value in rows if value is not None)
    )


def results(run: Run) -> Html:
    """Scores and sizes of each configuration, as a table and as a picture."""
    if not run.results:
        return Html()
    content = [results_table([run])]
    staged = stages_of(run)
    if any(name != FLOAT for name, _, _ in staged):
        figure, axes = plots.figure_of("score against size", run.network, "", 6.2, 4.2)
        plots.draw_comparison(axes, staged, f"{run.metric} (test)")
        content.append(picture(data_address(figure), f"{run.metric} against size of each configuration"))
    note = "± is the standard error of a share of so many samples; sizes count every weight and every activation."
    return section("Results", f"{run.label}-results", *content, element("p", note, class_="soft"))


def results_table(runs: Sequence[Run]) -> Html:
    """Return scores and sizes of the configurations of one run, or of several with the run's name in front."""
    stages = [name for name in STAGES if any(row["stage"] == name for run in runs for row in run.results)]
    columns = ["configuration", "scales", "KiB", *map(STAGES.get, stages), "bits per weight", "bits per activation"]
    lines = []
    for run in runs:
        for (config, scales), rows in _grouped(run).items():
            first = rows[0]
            widths = [_short(first.get(name)) for name in ("bits_per_parameter", "bits_per_activation")]
            scores = {row["stage"]: _score(row) for row in rows}
            size = f"{int(first['size_bits']) / BITS_PER_KIB:.1f}"
            line = [config, scales, size, *(scores.get(stage, "") for stage in stages), *widths]
            lines.append([run.label, *line] if len(runs) > 1 else line)
    columns = ["run", *columns] if len(runs) > 1 else columns
    return table(columns, lines, text_columns=len(columns) - 3 - len(stages))


def _grouped(run: Run) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in run.results:
        groups.setdefault((row["config"], row["alpha"]), []).append(row)
    return groups


def stages_of(run: Run) -> list[tuple[str, float, list[float]]]:
    """Return name, size in KiB and scores of each configuration of a run, in the order of the stages."""
    staged = []
    for (config, scales), rows in _grouped(run).items():
        ordered = sorted(rows, key=lambda row: list(STAGES).index(row["stage"]) if row["stage"] in STAGES else 0)
        name = config if len({alpha for _, alpha in _grouped(run)} - {FLOAT}) < 2 else f"{config} {scales}"
        size = int(rows[0]["size_bits"]) / BITS_PER_KIB
        staged.append((FLOAT if config == FLOAT else name, size, [float(row["score"]) for row in ordered]))
    return staged


def _score(row: Mapping[str, str]) -> str:
    score, samples = float(row["score"]), row.get("test_samples", "")
    error = standard_error(row.get("metric", ""), score, int(samples) if samples.isdecimal() else 0)
    return f"{score:.4f}" + (f" ± {error:.4f}" if error else "")


def standard_error(metric: str, score: float, samples: int) -> float:
    """Return the standard error of an accuracy over samples, 0 for metrics that are no share of samples.

    Equation:
        sqrt(score * (1 - score) / samples)
    """
    if metric != "accuracy" or samples < 1 or not 0.0 <= score <= 1.0:
        return 0.0
    return math.sqrt(score * (1.0 - score) / samples)


def _short(text: str | None) -> str:
    return f"{float(text):.2f}" if text else ""


def search(run: Run) -> Html:
    """Trials of a search, and those that no other beats."""
    points = points_of(run)
    if not run.trials and not points:
        return Html()
    metric = f"{run.metric} (validation)"
    places = [(int(row["size_bits"]) / BITS_PER_KIB, float(row["metric"] or 0.0)) for row in run.trials]
    front = [places[index] for index in plots.unbeaten(places)]
    errors: list[float] = []
    if points:
        front, errors = [(point.kib, point.metric) for point in points], [point.error for point in points]
    scores = [float(row["score"] or -math.inf) for row in run.trials]
    chosen = places[scores.index(max(scores))] if scores else None
    figure, axes = plots.figure_of("metric against size", run.network, "", *SMALL)
    plots.draw_front(axes, places, front, chosen, metric, errors)
    pictures = [picture(data_address(figure), f"{metric} against size; {len(places)} trials, {len(front)} unbeaten")]
    if scores:
        figure, axes = plots.figure_of("score over trials", run.network, "", *SMALL)
        plots.draw_progress(axes, range(1, len(scores) + 1), scores, f"score: {run.metric} x factor of size")
        pictures.append(picture(data_address(figure), f"scores of {len(scores)} trials, and the best so far"))
    content = [element("div", *pictures, class_="pictures"), _front_table(points, run)]
    return section("Search", f"{run.label}-search", *content)


def _front_table(points: Sequence[Point], run: Run) -> Html:
    """Return what no other configuration beats, in the metric and in all costs."""
    if points:
        names = list(dict.fromkeys(name for point in points for name in point.costs))
        rows = [
            [
                point.trial,
                f"{point.kib:.2f}",
                f"{point.metric:.4f} ± {point.error:.4f}",
                *(f"{point.costs.get(name, 0):g}" for name in names),
            ]
            for point in points
        ]
        return element(
            "details", element("summary", "Pareto front as a table"), table(["trial", "KiB", run.metric, *names], rows)
        )
    places = [(int(row["size_bits"]) / BITS_PER_KIB, float(row["metric"] or 0.0)) for row in run.trials]
    rows = [
        [run.trials[index]["trial_id"], f"{places[index][0]:.2f}", f"{places[index][1]:.4f}"]
        for index in plots.unbeaten(places)
    ]
    return element("details", element("summary", "Pareto front as a table"), table(["trial", "KiB", run.metric], rows))


def curves(run: Run) -> Html:
    """Loss and metrics over epochs: of the run's network, of the float one, and of all cells of a comparison in one."""
    cells = {name: rows for name, rows in run.curves.items() if name not in ("", FLOAT)}
    pictures = [
        _curve(run, label, name, rows)
        for label, rows in run.curves.items()
        if label not in cells
        for name in plots.logged(rows[0])
    ]
    if cells:
        names = dict.fromkeys(name for rows in cells.values() for name in plots.logged(rows[0]))
        pictures = [_compared(run, name, cells) for name in names] + pictures
    shown = element("div", *pictures, class_="pictures") if pictures else ""
    return section("Learning curves", f"{run.label}-curves", shown)


def _curve(run: Run, label: str, name: str, rows: Rows) -> Html:
    """Return a value over the epochs of one network."""
    subject = f"{run.network} {label}" if label else run.subject
    figure, axes = plots.figure_of(f"{name} over epochs", subject, "", *SMALL)
    plots.draw_epochs(axes, rows, name)
    plots.legend_below(axes)
    axes.set(xlabel="epoch", ylabel=name)
    return picture(data_address(figure), f"{name} over epochs, {label}")


def _compared(run: Run, name: str, cells: Mapping[str, Rows]) -> Html:
    """Return a value over the epochs of several networks, on validation data, else on test data."""
    part = "val_" if any(f"val_{name}" in rows[0] for rows in cells.values()) else "test_"
    figure, axes = plots.figure_of(f"{name} over epochs", f"{run.network} {plots.PARTS[part]}", "", *SMALL)
    plots.draw_networks(axes, cells, part + name)
    axes.set(xlabel="epoch", ylabel=name)
    return picture(data_address(figure), f"{name} over epochs, {plots.PARTS[part]}")


def layers(run: Run) -> Html:
    """Widths and sizes of each layer."""
    if run.config is None:
        return Html()
    known = {layer.name: layer for layer in run.layers}
    try:
        check_covers(run.config, run.layers)
        sized = bool(known)
    except ValueError:  # layers of another network: widths alone are shown
        sized = False
    largest = max((layer_size(layer, run.config).total_bits for layer in run.layers), default=1) if sized else 1
    rows = [_layer_row(name, run.config, known[name] if sized else None, largest) for name in run.config.layers]
    columns = ["layer", "kernel", "bias", "activation", *(["output", "parameters", "MACs", "KiB", ""] if sized else [])]
    figure, axes = plots.figure_of("bits per layer", run.subject, "", 6.2, plots.height_of_bits(run.config), grid=False)
    plots.draw_bits(axes, run.config)
    content = [picture(data_address(figure), "widths of kernels, biases and activations by layer")]
    if sized:
        size = network_size(run.layers, run.config)
        parts = (
            f"{size.parameter_bits / BITS_PER_KIB:.1f} weights, {size.activation_bits / BITS_PER_KIB:.1f} activations"
        )
        content.insert(0, element("p", f"{size.total_bits / BITS_PER_KIB:.1f} KiB in all: {parts}."))
    details = element("details", element("summary", "Every layer as a table"), table(columns, rows))
    return section("Bits and size by layer", f"{run.label}-layers", *content, details)


def _layer_row(name: str, config: BitConfig, layer: LayerShape | None, largest: int) -> list[object]:
    bits = config.layers[name]
    widths: list[object] = [name, *(getattr(bits, part) or "" for part in plots.BIT_COLORS)]
    if layer is None:
        return widths
    size = layer_size(layer, config).total_bits
    parameters = layer.kernel_parameters + layer.bias_parameters
    shape = "x".join(map(str, layer.shape))
    bar = Html(f'<span class="bar" style="width:{6 * size / largest:.2f}em"></span>')
    return [*widths, shape, parameters or "", layer.macs or "", f"{size / BITS_PER_KIB:.2f}", bar]


def confusion(run: Run) -> Html:
    """Which class was taken for which."""
    score = run.scores.get("finetuned") or run.scores.get("reconstructed") or run.scores.get("calibrated") or {}
    matrix = score.get("confusion")
    if not matrix:
        return Html()
    title = f"{score.get('metric', 'score')} {float(score.get('value', 0.0)):.4f}"
    figure, axes = plots.figure_of(title, run.subject, "", 5.4, 5.0, grid=False)
    plots.draw_confusion(figure, axes, matrix)
    return section("Confusion matrix", f"{run.label}-confusion", picture(data_address(figure), "confusion matrix"))


def findings(run: Run) -> Html:
    """What stands out in what training did to each tensor."""
    if not run.measurements:
        return Html()
    lines = [
        joined((element("span", finding.severity, class_=finding.severity), f": {finding.text}"))
        for finding in run.findings
    ]
    if not lines:
        return section("Diagnostics", f"{run.label}-diagnostics", element("p", "Nothing stands out."))
    shown, rest = items(lines[:MOST_SENTENCES]), lines[MOST_SENTENCES:]
    more = element("details", element("summary", f"{len(rest)} more"), items(rest)) if rest else ""
    return section("Diagnostics", f"{run.label}-diagnostics", shown, more)


def histograms(run: Run) -> Html:
    """Values before and after quantization, with the grid."""
    if not run.histograms:
        return Html()
    note = (
        "Grey: values before quantization. Blue: after it. Red: what lies beyond the grid and is clipped. Below them "
        "the grid: a tick for each level, or a band where there are many, with a tick at zero. The horizontal axis "
        "counts steps of the grid; the height is the square root of the count, over the largest one."
    )
    content = [element("p", note, class_="soft")]
    for title, part in (("Kernels", KERNEL), ("Activations", ACTIVATION), ("Biases", BIAS)):
        tensors = [one for one in run.histograms if one.part == part]
        shown, rest = tensors[:MOST_HISTOGRAMS], len(tensors) - MOST_HISTOGRAMS
        if shown:
            content += [element("h4", title), element("div", *map(histogram_picture, shown), class_="tensors")]
        if rest > 0:
            content.append(element("p", f"{rest} more are in histograms.json.", class_="soft"))
    return section("Weights and activations on their grids", f"{run.label}-histograms", *content)


def exports(run: Run) -> Html:
    """Sizes of what was, or would be, exported."""
    rows = [(form, f"{size:,}", f"{size / 1024:.1f}") for form, size in run.exports.items()]
    return section("Export sizes", f"{run.label}-exports", table(["form", "bytes", "KiB"], rows) if rows else "")


def commands(run: Run) -> Html:
    """How to repeat the run, and what can be done with it."""
    repeat = run.request.command()
    lines = [element("p", "The same run again:"), element("pre", repeat)]
    if run.config is not None and not isinstance(run.request, MatrixRequest):
        folder = run.folder
        if isinstance(run.request, SearchRequest):
            config = folder / "best_config.json"
            training = run.request.cell(config=str(config)).command()
            lines += [element("p", "Train what was found for longer:"), element("pre", training)]
        more = [f"po2quant verify {folder}", f"po2quant export {folder} --format c", f"po2quant diagnose {folder}"]
        lines += [element("p", "Prove that Keras and C agree, write the C, look into each tensor:")]
        lines.append(element("pre", "\n".join(more)))
    return section("Commands", f"{run.label}-commands", *lines)


SECTIONS: tuple[Callable[[Run], Html], ...] = (
    results,
    search,
    curves,
    layers,
    confusion,
    findings,
    histograms,
    exports,
    asked,
    conditions,
    commands,
)
"""The sections of a run, in order; one that has nothing to say returns nothing."""
