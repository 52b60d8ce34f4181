"""How long a published network takes from ``quantize_model`` to C.

``python -m benchmarks.studies.to_c`` takes ResNet50 with random weights at 64x64 through all stages and writes
``benchmarks/results/to_c.csv``: a minute on 2 cores. Seconds of the processor stand beside those of the clock, which a
busy machine makes longer.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.studies.provenance import command_line, versions
from po2quant.deploy.from_keras import integer_program
from po2quant.export.c.source import write_c
from po2quant.files import write_csv
from po2quant.network import calibrate, flat_config, freeze_scales, quantize_model
from po2quant.runs.folder import project_commit

MODEL, SIZE, BITS, SAMPLES = "ResNet50", 64, 8, 64
OUTPUT = Path("benchmarks/results/to_c.csv")
PACKAGES = ("tensorflow", "keras", "qkeras-v3", "numpy")


def stages(model: keras.Model, x: np.ndarray, folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what is done to a network, by name and in order; each is to be called before the next is asked for."""
    results: list[Any] = []

    def keep(make: Callable[[], Any]) -> Callable[[], None]:
        return lambda: results.append(make())

    yield "quantize_model", keep(lambda: quantize_model(model, flat_config(model, BITS)))
    yield "calibrate", lambda: calibrate(results[0], x)
    yield "freeze_scales", lambda: freeze_scales(results[0])
    yield "integer_program", keep(lambda: integer_program(results[0]))
    yield "write_c", lambda: write_c(results[1], folder, "network")


def measure(model: keras.Model, samples: int) -> list[dict[str, Any]]:
    """Return the seconds of each stage, and of all.

    Args:
        model: float network of one input.
        samples: random inputs that calibrate it.
    """
    x = np.random.default_rng(0).normal(size=(samples, *model.input_shape[1:])).astype(np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stage, act in stages(model, x, Path(folder)):
            clock, processor = time.perf_counter(), time.process_time()
            act()
            rows.append(_row(stage, time.perf_counter() - clock, time.process_time() - processor))
    return [*rows, _row("all", *(sum(row[column] for row in rows) for column in ("seconds", "processor_seconds")))]


def _row(stage: str, seconds: float, processor_seconds: float) -> dict[str, Any]:
    return {"stage": stage, "seconds": round(seconds, 2), "processor_seconds": round(processor_seconds, 2)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description="How long a published network takes from quantize_model to C.")
    names = [name for name in dir(keras.applications) if name[0].isupper()]
    parser.add_argument(
        "--model", default=MODEL, choices=names, metavar="NAME", help="in keras.applications (%(default)s)"
    )
    parser.add_argument("--size", type=int, default=SIZE, help="rows and columns of its input (%(default)s)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="inputs that calibrate it (%(default)s)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="CSV file (%(default)s)")
    chosen = parser.parse_args(arguments)
    origin = {
        "model": chosen.model,
        "size": chosen.size,
        "samples": chosen.samples,
        "bits": BITS,
        "data": "random",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.platform(),
        "versions": versions(PACKAGES),
        "commit": project_commit(),
        "command": command_line("benchmarks.studies.to_c", arguments),
    }
    shape = (chosen.size, chosen.size, 3)
    model = getattr(keras.applications, chosen.model)(weights=None, input_shape=shape)
    write_csv(chosen.output, [row | origin for row in measure(model, chosen.samples)])


if __name__ == "__main__":
    main()
