"""Pictures name their layers, be there three or eighty, and draw what the rows hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from po2quant.diagnostics import plots
from po2quant.diagnostics.measurement import Measurement
from po2quant.diagnostics.plots import MOST_IN_LEGEND, plot_along_network, plot_curves, plot_diagnostics, plot_heat_map

DATA = "digits (embedded)"


def rows(layers, epochs):
    rng = np.random.default_rng(0)
    table = []
    for epoch in range(epochs + 1):
        for part in ("kernel", "bias", "activation"):
            for index in range(layers):
                name = f"activation_{index}" if part == "activation" else f"conv2d_{index}"
                row = Measurement(epoch, name, part, "", 8, 64, zero_ratio=rng.random(), clip_ratio=0.0)
                row = dataclasses.replace(row, exponent_mean=-7.0, sqnr_db=40.0 - index, network_sqnr_db=30.0 - index)
                if epoch:
                    changes = {"update_relative_mean": 10 ** rng.normal(-3), "flip_ratio": rng.random()}
                    row = dataclasses.replace(row, update_signed=rng.normal(0, 1e-3), **changes)
                table.append(row)
    return table


@pytest.fixture
def figures(monkeypatch):
    """Return the figures by file name, which are laid out but not saved."""
    drawn = {}

    def keep(figure, path, beside=()):
        drawn[path.name] = figure
        return path

    monkeypatch.setattr(plots, "save_figure", keep)
    return drawn


@pytest.mark.parametrize("layers", [3, 80])
def test_a_heat_map_labels_every_layer(figures, tmp_path, layers):
    table = rows(layers, 4)
    plot_heat_map(table, "flip_ratio", "kernel", tmp_path / "map.png", DATA)
    axes = figures["map.png"].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"conv2d_{index}" for index in range(layers)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3", "4"]
    drawn = np.asarray(axes.images[0].get_array())
    expected = [
        [row.flip_ratio for row in table if row.part == "kernel" and row.epoch == epoch] for epoch in range(1, 5)
    ]
    np.testing.assert_array_equal(drawn, np.transpose(expected))
    label_inches = 7 / 72
    assert figures["map.png"].get_figheight() / layers > label_inches


@pytest.mark.parametrize("layers", [3, 80])
def test_curves_name_layers_in_a_legend_or_a_colour_bar(figures, tmp_path, layers):
    plot_curves(rows(layers, 4), "update_relative_mean", "kernel", tmp_path / "curves.png", DATA)
    figure = figures["curves.png"]
    curves = [line for line in figure.axes[0].lines if line.get_label().startswith("conv2d")]
    assert len(curves) == layers
    if layers <= MOST_IN_LEGEND:
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert names == [f"conv2d_{index}" for index in range(layers)]
    else:
        names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
        assert len(names) == MOST_IN_LEGEND and {names[0], names[-1]} == {"conv2d_0", f"conv2d_{layers - 1}"}


@pytest.mark.parametrize(
    ("measure", "expected"), [("update_relative_mean", {1e-3, 1e-4}), ("update_signed", {1e-3, 1e-4, -1e-3, -1e-4})]
)
def test_the_lines_of_the_study_are_drawn(figures, tmp_path, measure, expected):
    plot_curves(rows(3, 4), measure, "kernel", tmp_path / "curves.png", DATA)
    dashed = [line for line in figures["curves.png"].axes[0].lines if line.get_linestyle() == "--"]
    assert {float(line.get_ydata()[0]) for line in dashed} == expected


def test_what_the_lines_mean_stands_in_a_legend_and_the_bar_has_a_label(figures, tmp_path):
    plot_curves(rows(80, 4), "update_signed", "kernel", tmp_path / "curves.png", DATA, "digits ds_cnn, flat8")
    plot_heat_map(rows(80, 4), "update_relative_mean", "kernel", tmp_path / "map.png", DATA, "digits ds_cnn, flat8")
    for figure in figures.values():
        axes, bar = figure.axes
        (legend,) = figure.legends
        assert "0.0001" in legend.get_texts()[0].get_text()
        assert bar.get_ylabel()
        assert "digits ds_cnn, flat8" in axes.get_title()


def test_a_share_is_drawn_from_nothing_to_all(figures, tmp_path):
    plot_curves(rows(3, 4), "zero_ratio", "kernel", tmp_path / "curves.png", DATA)
    plot_along_network(rows(3, 4), "zero_ratio", tmp_path / "along.png", DATA)
    assert all(axes.get_ylim() == (0.0, 1.0) for figure in figures.values() for axes in figure.axes)


def test_ratios_along_the_network_show_first_and_last_epoch_and_the_accumulated_error(figures, tmp_path):
    plot_along_network(rows(80, 2), "sqnr_db", tmp_path / "sqnr.png", DATA)
    *_, activations = figures["sqnr.png"].axes
    assert [len(axes.get_xticklabels()) for axes in figures["sqnr.png"].axes] == [80] * 3
    labels = [text.get_text() for text in activations.get_legend().get_texts()]
    assert len(labels) == 4 and sum("epoch 0" in label for label in labels) == 2
    assert activations.lines[2].get_ydata()[3] == 27.0


def test_every_picture_names_its_data(figures, tmp_path):
    paths = plot_diagnostics(rows(3, 3), tmp_path, DATA)
    assert {path.name for path in paths} == set(figures)
    assert all(figure._supxlabel.get_text() == DATA for figure in figures.values())


def test_one_epoch_has_no_curves_and_weights_alone_no_activations(figures, tmp_path):
    snapshot = [row for row in rows(3, 0) if row.part != "activation"]
    names = {path.name for path in plot_diagnostics(snapshot, tmp_path, DATA)}
    assert names == {"zero_ratio_along_network.png", "sqnr_db_along_network.png"}
    assert len(figures["sqnr_db_along_network.png"].axes) == 2


@pytest.mark.slow
def test_extreme_rows_are_drawn(tmp_path):
    """Updates that are exactly zero, ratios without noise, measures that are unknown."""
    table = [
        dataclasses.replace(row, update_relative_mean=0.0, update_signed=0.0, sqnr_db=float("inf"), zero_ratio=None)
        for row in rows(2, 3)
    ]
    assert all(path.stat().st_size > 1000 for path in plot_diagnostics(table, tmp_path, DATA))
