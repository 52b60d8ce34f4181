"""Arrays that take long to make, kept beside the data they come from."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from po2quant.data.arrays import Expected, read_npz
from po2quant.files import replaced_whole

CACHE_FOLDER = ".po2quant-cache"


def cached(
    folder: Path, key: str, expected: Mapping[str, Expected], make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the arrays of ``make()``, kept as ``folder/.po2quant-cache/<key>.npz``.

    A file that is damaged or holds other arrays is made anew, and where nothing can or may be written nothing is kept.

    Args:
        folder: the data folder.
        key: file name with a hash of all that the arrays depend on.
        expected: what the arrays are, by name.
        make: makes the arrays, by name.
    """
    path = folder / CACHE_FOLDER / f"{key}.npz"
    with contextlib.suppress(ValueError):
        return read_npz(path, expected)
    arrays = dict(make())
    if not folder.stat().st_mode & stat.S_IWUSR:
        return arrays
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_whole(path) as temporary:
            np.savez(temporary, **arrays)
    return arrays
