"""Which networks the studies measure unless told otherwise."""

from __future__ import annotations

from po2quant.benchmark import benchmark_folders, load_benchmark


def models_with_data() -> tuple[str, ...]:
    """Return ``<benchmark>/<model>`` of every bundled network whose data are too large to come with this project."""
    benchmarks = [load_benchmark(f"benchmarks.{folder}:BENCHMARK") for folder in benchmark_folders("benchmarks")]
    return tuple(f"{task.name}/{model}" for task in benchmarks if task.needs_data_dir for model in task.networks)
