"""Where the best known configuration of each network is kept."""

from pathlib import Path

BEST_CONFIGS = Path(__file__).resolve().parents[2] / "best_configs"


def mpq_config(name: str) -> Path:
    """Return the file of a mixed-precision configuration, e.g. ``"keyword_spotting-ds_cnn"``."""
    return BEST_CONFIGS / f"{name}.json"
