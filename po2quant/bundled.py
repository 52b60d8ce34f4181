"""Where the bundled tasks and the published configurations are.

In a checkout they are the folders ``benchmarks`` and ``best_configs`` beside this package. A wheel has them as the
package ``po2quant_benchmarks`` and the folder ``po2quant/best_configs``: other projects have a ``benchmarks`` too.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IS_WHEEL = (_PACKAGE / "best_configs").is_dir()

TASKS = "po2quant_benchmarks" if _IS_WHEEL else "benchmarks"
"""The package whose folders are the bundled tasks."""
BEST_CONFIGS = (_PACKAGE if _IS_WHEEL else _PACKAGE.parent) / "best_configs"
"""The folder of the best known configuration of each network."""


def best_config(network: str) -> Path:
    """Return the file of the best known configuration of a network, e.g. ``"keyword_spotting-ds_cnn"``."""
    return BEST_CONFIGS / f"{network}.json"
