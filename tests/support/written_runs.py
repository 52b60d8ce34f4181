"""Run folders as commands leave them, written by hand so that no TensorFlow is needed."""

from __future__ import annotations

import dataclasses
import json

from po2quant.bit_config import BitConfig, LayerBits
from po2quant.cost import LayerShape
from po2quant.files import write_csv
from po2quant.report.record import Histogram, bin_edges, save_exports, save_histograms, save_layers
from po2quant.runs.request import NetworkRequest, SearchRequest

LAYERS = (
    LayerShape("input", "InputLayer", "input", (8, 8, 1)),
    LayerShape("conv2d", "Conv2D", "weights", (6, 6, 4), 36, 4, 1296, 4),
    LayerShape("activation", "Activation", "activation", (6, 6, 4)),
)
ROW = {
    "benchmark": "digits",
    "model": "net",
    "alpha": "auto_po2",
    "metric": "accuracy",
    "float_score": 0.98,
    "bits_per_parameter": 8.5,
    "bits_per_activation": 4.0,
    "test_samples": 400,
    "seed": 0,
}


def _results():
    return [
        {"config": "float", "stage": "calibrated", "score": 0.98, "size_bits": 80000, **ROW, "alpha": "float"},
        {"config": "w4a8", "stage": "calibrated", "score": 0.5, "size_bits": 8192, **ROW},
        {"config": "w4a8", "stage": "finetuned", "score": 0.9, "size_bits": 8192, **ROW},
    ]


def _histogram(layer):
    counts = tuple(range(len(bin_edges(-7, 7)) - 1))
    return Histogram(layer, "kernel", 4, -7, 7, (-4.0, -2.0), counts, counts)


def write_run(folder, layer="conv2d", data="digits (embedded: 10 train, 5 validation, 400 test)"):
    """Write the folder of a fine-tuned run whose network has a layer of this name."""
    NetworkRequest(config="w4a8", epochs=2).save(folder)
    layers = (LAYERS[0], dataclasses.replace(LAYERS[1], name=layer), LAYERS[2])
    (folder / "env.json").write_text(json.dumps({"data": data, "versions": {"numpy": "2"}}))
    write_csv(folder / "results.csv", _results())
    epochs = [{"epoch": n, "loss": 1 / n, "val_loss": 2 / n, "accuracy": 0.9, "val_accuracy": 0.8} for n in (1, 2)]
    write_csv(folder / "epochs.csv", epochs)
    config = BitConfig({layer: LayerBits(kernel=4, bias=31), "activation": LayerBits(activation=8)}, "w4a8")
    config.save(folder / "best_config.json")
    score = {"metric": "accuracy", "value": 0.9, "confusion": [[3, 1], [0, 4]]}
    (folder / "scores.json").write_text(json.dumps({"calibrated": score, "finetuned": score}))
    save_layers(folder, layers)
    save_histograms(folder, [_histogram(layer)])
    save_exports(folder, {"C, constants": 1234})
    return folder


def write_search(folder):
    """Write the folder of a search."""
    SearchRequest(max_trials=3).save(folder)
    rows = [
        {"trial_id": f"{n}", "status": "completed", "score": 1.0 + n / 10, "metric": 0.7 + n / 10, "size_bits": size}
        for n, size in enumerate((9000, 12000, 200000))
    ]
    write_csv(folder / "trials.csv", [*rows, {**rows[0], "trial_id": "3", "status": "failed", "metric": ""}])
    write_csv(folder / "results.csv", _results())
    return folder
