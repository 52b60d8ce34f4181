"""What came out of training one configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

from po2quant.benchmark import Score
from po2quant.cost import AverageBits


@dataclasses.dataclass(frozen=True)
class Result:
    """One row of a comparison.

    Args:
        config: ``"float"``, ``"mpq"``, ``"flat8"`` or a file.
        alpha: ``"float"``, the kind of scales, or ``"mixed"``.
        size_bits: activations and parameters, by the bit accounting.
        average: mean widths, None for float.
        calibrated: test score before training.
        finetuned: test score after training, None where none was done.
        epochs: epochs trained.
        seconds: wall time of the training.
        calibration: where the activation ranges come from.
        validation: best value of the validation split over the epochs, which chose the weights; None where no epoch
            was trained.
        reconstructed: test score after :func:`~po2quant.training.reconstruct.reconstruct`, None where it was not done.
    """

    config: str
    alpha: str
    size_bits: int
    average: AverageBits | None
    calibrated: Score
    finetuned: Score | None
    epochs: int
    seconds: float
    calibration: str
    validation: float | None = None
    reconstructed: Score | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON has it."""
        return dataclasses.asdict(self)
