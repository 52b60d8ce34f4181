"""Fixed-point features as C99, without floating point, heap or library."""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import re
from pathlib import Path
from string import Template

import numpy as np

from po2quant import __version__
from po2quant.export.c.operations import array_text
from po2quant.export.c.types import c_integer, smallest_dtype
from po2quant.export.features.fixed import (
    LOG_BITS,
    LOG_STEPS_BITS,
    OFFSET_BITS,
    TWIDDLE_BITS,
    FixedFeatures,
    log_table,
    twiddles,
)
from po2quant.files import replaced_whole
from po2quant.integer.checks import shown

ROOTS = """\
/* The magnitude of twice the spectrum, rounded down. */
static uint64_t spectrum(int32_t bin)
{
    uint64_t rest = square(bin), root = 0;
    for (uint64_t bit = UINT64_C(1) << 62; bit != 0; bit >>= 2) {
        const int32_t fits = rest >= root + bit;
        rest -= fits ? root + bit : 0;
        root = (root >> 1) + (fits ? bit : 0);
    }
    return root;
}"""

SQUARES = Template("""\
static uint64_t spectrum(int32_t bin)
{
    return (square(bin) + $half) >> $shift;
}""")

OF_PEAK = Template("""\
    int32_t peak = 1;
    for (int32_t i = 0; i < samples; ++i)
        peak = sound[i] > peak ? sound[i] : peak;
    const uint64_t offset = $offset * (uint64_t)peak;
    const int32_t base = LOG_BASE + log2_of((uint64_t)peak);""")

GIVEN = Template("""\
    const uint64_t offset = $offset;
    const int32_t base = LOG_BASE;""")

ROW_SUM = """\
static int64_t row_sum(const int32_t *band_logs, const int16_t *row)
{
    int64_t sum = 0;
    for (int32_t b = 0; b < BANDS; ++b)
        sum += (int64_t)band_logs[b] * row[b];
    return sum;
}"""


def write_features(features: FixedFeatures, folder: str | os.PathLike, name: str) -> list[Path]:
    """Write features in C: a header and a source.

    Args:
        features: which.
        folder: where the files go; it is made if there is none.
        name: prefix of the function, a C identifier.

    Returns:
        The files. Their function computes what :func:`po2quant.export.features.fixed.run_features` returns.

    Raises:
        ValueError: for a name that is no C identifier.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ValueError(f"name must be a C identifier that begins with a letter. Received: {shown(name)}")
    low, high = features.format.min_int, features.format.max_int
    fields = {
        "name": name,
        "prefix": name.upper(),
        "frames": features.frames,
        "size": features.features,
        "exponent": features.format.exponent,
        "work_bytes": 4 * (features.fft_samples + len(features.bands)),
        "output": smallest_dtype(low, high).name,
    }
    source = _filled("features.c", **fields, **_constants(features), low=c_integer(low), high=c_integer(high))
    digest = hashlib.sha256(source.encode("ascii")).hexdigest()[:16]
    banner = (
        f"{name}: features of sound in integers, written by po2quant {__version__}. SHA-256 of its source begins with\n"
        f" * {digest}. This file is yours, without conditions or warranty."
    )
    files = {f"{name}.h": _filled("features.h", **fields, banner=banner), f"{name}.c": source}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        with replaced_whole(folder / file) as temporary:
            temporary.write_text(text, encoding="ascii")
    return [folder / file for file in files]


def _filled(template: str, **fields: object) -> str:
    file = importlib.resources.files(__package__).joinpath("templates", template)
    return Template(file.read_text(encoding="ascii")).substitute(fields)


def _constants(features: FixedFeatures) -> dict[str, object]:
    """Return the numbers, arrays and statements that depend on what the features are."""
    offset, shift, matrix = features.offset_integer, features.power_shift, features.matrix_integers
    is_scale = matrix.ndim == 0
    squares = SQUARES.substitute(half=1 << shift >> 1, shift=shift)
    return {
        "fft_samples": features.fft_samples,
        "window_samples": len(features.window),
        "step": features.step,
        "start": features.start,
        "band_count": len(features.bands),
        "frame_shift": features.frame_shift,
        "twiddle_bits": TWIDDLE_BITS,
        "log_bits": LOG_BITS,
        "log_steps_bits": LOG_STEPS_BITS,
        "log_base": (features.sum_bits + features.scale_bits) << LOG_BITS,
        "arrays": _arrays(features),
        "spectrum": ROOTS if features.power == 1 else squares,
        "offset": (OF_PEAK if features.of_peak else GIVEN).substitute(offset=c_integer(offset)),
        "offset_bits": OFFSET_BITS,
        "power": features.power,
        "output_shift": features.output_shift,
        "total": f"(int64_t)band_logs[i] * {matrix}" if is_scale else "row_sum(band_logs, matrix + i * BANDS)",
    }


def _arrays(features: FixedFeatures) -> str:
    """Return the tables of a transform, of the bands, of logarithms, and of the last matrix."""
    cosine, sine = twiddles(features.fft_samples, features.fft_samples // 2 + 1)
    ranges = np.array(features.ranges)
    places = np.cumsum([0, *(ranges[:, 1] - ranges[:, 0])])[:-1]
    weights = [band[first:end] for band, (first, end) in zip(features.band_integers, features.ranges, strict=True)]
    tables = {
        "window": ("uint16_t", features.window_integers),
        "cosines": ("int32_t", cosine),
        "sines": ("int32_t", sine),
        "weights": ("uint16_t", np.concatenate(weights)),
        "logs": ("int32_t", log_table()),
    }
    if features.matrix_integers.ndim:
        tables["matrix"] = ("int16_t", features.matrix_integers.ravel())
    texts = [
        f"static const {kind} {name}[{values.size}] = {{\n{array_text(values)}}};"
        for name, (kind, values) in tables.items()
    ]
    rows = [
        f"{{{first}, {end}, {place}}}" for (first, end), place in zip(ranges.tolist(), places.tolist(), strict=True)
    ]
    texts.append(f"static const band bands[BANDS] = {{\n    {f',{chr(10)}    '.join(rows)},\n}};")
    return "\n".join([*texts, *[ROW_SUM] * (features.matrix_integers.ndim > 0)])
