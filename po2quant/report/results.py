"""Results as CSV: one row per configuration and stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from po2quant.training.finetune import Experiment, Result
from po2quant.training.run_folder import project_commit

CALIBRATED, FINETUNED = "calibrated", "finetuned"


def result_records(results: Sequence[Result], experiment: Experiment, command: str) -> list[dict[str, Any]]:
    """Return the rows of ``results.csv``.

    Args:
        results: compared configurations; the float one, if any, gives ``float_score``.
        experiment: what they were measured on.
        command: command line that made the results.

    Returns:
        One row per result and stage (``calibrated``: before training; ``finetuned``).
    """
    dataset = experiment.dataset
    float_score = next((result.calibrated.value for result in results if result.alpha == "float"), None)
    commit = project_commit()
    records = []
    for result in results:
        for stage, score in ((CALIBRATED, result.calibrated), (FINETUNED, result.finetuned)):
            if score is None:
                continue
            trained = stage == FINETUNED
            records.append(
                {
                    "benchmark": experiment.benchmark.name,
                    "model": experiment.model,
                    "config": result.config,
                    "alpha": result.alpha,
                    "stage": stage,
                    "metric": score.metric,
                    "score": round(score.value, 6),
                    "float_score": None if float_score is None else round(float_score, 6),
                    "size_bits": result.size_bits,
                    "bits_per_layer": _rounded(result, "per_layer"),
                    "bits_per_parameter": _rounded(result, "per_parameter"),
                    "bits_per_activation": _rounded(result, "per_activation"),
                    "data": dataset.describe(),
                    "train_samples": len(dataset.train) if dataset.train else 0,
                    "test_samples": score.samples,
                    "epochs": result.epochs if trained else 0,
                    "seed": experiment.seed,
                    "seconds": result.seconds if trained else 0,
                    "commit": commit,
                    "command": command,
                }
            )
    return records


def _rounded(result: Result, part: str) -> float:
    return 32.0 if result.average is None else round(getattr(result.average, part), 3)
