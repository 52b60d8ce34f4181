"""Features of sound in integers: the C is the numpy model's to the bit, and the model is near the real numbers."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import complaint

from po2quant.export.c.run import COMPILER, FLAGS, call
from po2quant.export.cores.emulator import CORES, compile_for
from po2quant.export.features.fixed import (
    LOG_BITS,
    FixedFeatures,
    integer_log2,
    integer_roots,
    run_features,
    transform,
)
from po2quant.export.features.to_c import write_features
from po2quant.fixed_point import HALF_UP, FixedPointFormat

needs_gcc = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
FINE = FixedPointFormat(16, -8)
TOLERANCE_LSB, LOUD_DB = 3, 40
"""Of 2**-8: half for the output, the rest for tables of 15 bits. Bands are compared that far below the loudest, since
samples and window have 15 bits."""


def hann(samples: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(samples) / samples)


def triangles(bands: int, bins: int) -> np.ndarray:
    centres = np.linspace(1, bins - 2, bands)[:, None]
    return np.maximum(1.0 - np.abs(np.arange(bins) - centres) / (bins / bands), 0.0)


def cepstra(format: FixedPointFormat = FINE) -> FixedFeatures:
    """Return magnitudes of a sound that is divided by its peak, and a cosine transform; the window is a short one."""
    matrix = np.cos(np.pi / 12 * np.arange(5)[:, None] * (np.arange(12) + 0.5)) * 0.4
    return FixedFeatures(hann(60), 64, 40, 0, 9, triangles(12, 33), 1, True, 1e-6, matrix, format)


def decibels(format: FixedPointFormat = FINE) -> FixedFeatures:
    """Return powers in dB; the first frame begins before the sound, the last ends after it."""
    bands = 0.03 * triangles(20, 65)
    return FixedFeatures(hann(128), 128, 64, -64, 8, bands, 2, False, 1e-12, 10.0 / math.log(10.0), format)


def real_features(features: FixedFeatures, sound: np.ndarray) -> np.ndarray:
    """Return the same features in real numbers."""
    scaled = sound / (max(sound.max(), 1) if features.of_peak else 2.0**15)
    padded = np.concatenate([np.zeros(1000), scaled, np.zeros(1000)])
    starts = 1000 + features.start + features.step * np.arange(features.frames)
    frames = np.stack([padded[start : start + len(features.window)] for start in starts]) * features.window
    spectrum = np.abs(np.fft.rfft(frames, features.fft_samples)) ** features.power
    logs = np.log(spectrum @ features.bands.T + features.offset)
    return logs * features.matrix if np.ndim(features.matrix) == 0 else logs @ np.transpose(features.matrix)


def sounds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    time = np.arange(400)
    waves = {
        "noise": rng.integers(-32768, 32768, 400),
        "quiet": rng.integers(-3, 4, 400),
        "tone": 20000 * np.sin(0.3 * time),
        "square": np.where(time // 7 % 2, 32767, -32768),
        "lowest": np.full(400, -32768),
        "highest": np.full(400, 32767),
        "silence": np.zeros(400),
        "negative": -rng.integers(1, 100, 400),
        "short": rng.integers(-9999, 9999, 7),
        "click": np.where(time == 133, 32767, 0),
    }
    return {name: np.rint(wave).astype(np.int16) for name, wave in waves.items()}


@needs_gcc
@pytest.mark.parametrize("make", [cepstra, decibels])
@pytest.mark.parametrize("format", [FINE, FixedPointFormat(8, -1, signed=True, narrow_range=True)])
def test_c_computes_the_bits_of_the_model(make, format, tmp_path):
    """Extremes, silence, a sound shorter than a frame; no warning, no undefined behaviour."""
    features = make(format)
    header, source = write_features(features, tmp_path, "features")
    flags = [*FLAGS, "-O1", "-Werror", "-pedantic", "-fsanitize=undefined", "-fno-sanitize-recover"]
    command = [COMPILER, *flags, "-shared", "-fPIC", source, "-o", tmp_path / "features.so"]
    subprocess.run(command, check=True, capture_output=True)
    run = ctypes.CDLL(str(tmp_path / "features.so")).features_run
    kind = np.int8 if format.bit_width == 8 else np.int16
    assert f"{np.dtype(kind).name}_t *features" in header.read_text()
    for name, sound in sounds().items():
        found = np.empty((features.frames, features.features), kind)
        run(ctypes.c_void_p(sound.ctypes.data), len(sound), ctypes.c_void_p(found.ctypes.data))
        np.testing.assert_array_equal(found, run_features(features, sound), name)


MAIN = """
#include <stdio.h>
#include "features.h"
static int16_t sound[400];
static int16_t found[FEATURES_FRAMES * FEATURES_SIZE];
int main(int count, char **files)
{
    FILE *const inputs = fopen(files[1], "rb"), *const outputs = fopen(files[2], "wb");
    if (count < 3 || inputs == NULL || outputs == NULL)
        return 1;
    while (fread(sound, sizeof sound, 1, inputs) == 1) {
        features_run(sound, 400, found);
        (void)fwrite(found, sizeof found, 1, outputs);
    }
    return fclose(outputs);
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m0", "m4", "rv32imc"])
def test_cores_compute_the_bits_of_the_model(name, tmp_path):
    if missing := CORES[name].missing_tools():
        pytest.skip(f"{', '.join(missing)} not installed")
    features, main = cepstra(), tmp_path / "main.c"
    main.write_text(MAIN)
    _, source = write_features(features, tmp_path, "features")
    executable = compile_for(CORES[name], SimpleNamespace(name="features", source=source, main=main), tmp_path)
    given = [sound for sound in sounds().values() if len(sound) == 400]
    np.stack(given).tofile(tmp_path / "inputs.bin")
    call(executable.command, tmp_path)
    found = np.fromfile(tmp_path / "outputs.bin", np.int16).reshape(len(given), features.frames, features.features)
    np.testing.assert_array_equal(found, [run_features(features, sound) for sound in given])


@pytest.mark.parametrize("make", [cepstra, decibels])
def test_the_model_is_near_real_numbers(make):
    features = make()
    for name in ("noise", "square", "short"):
        real = np.ldexp(real_features(features, sounds()[name].astype(float)), 8)
        loud = real > (real.max() - 256 * LOUD_DB if features.power == 2 else -np.inf)
        assert np.abs(run_features(features, sounds()[name]) - real)[loud].max() <= TOLERANCE_LSB, name


@given(st.lists(st.integers(0, 2**61), min_size=1, max_size=50))
def test_roots_are_exact(values):
    found = integer_roots(np.array([*values, *(value**2 for value in (2**30, 2**30 - 1))], np.uint64))
    assert found[: len(values)].tolist() == [math.isqrt(value) for value in values]
    assert found[-2:].tolist() == [2**30, 2**30 - 1]


@given(st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=50))
def test_logarithms_are_near_and_exact_at_powers_of_two(values):
    found = integer_log2(np.array([*values, 1, 2, 2**63], np.uint64))
    assert found[-3:].tolist() == [0, 1 << LOG_BITS, 63 << LOG_BITS]
    exact = np.array([math.log2(value) for value in values]) * 2**LOG_BITS
    assert np.abs(found[:-3] - exact).max() <= 2.5


def test_the_transform_is_fouriers():
    rng = np.random.default_rng(0)
    real, imaginary = rng.integers(-(2**20), 2**20, (2, 3, 64))
    found = transform(real, imaginary)
    exact = np.fft.fft(real + 1j * imaginary)
    assert max(np.abs(found[0] - exact.real).max(), np.abs(found[1] - exact.imag).max()) < 16  # one rounding a stage


def test_what_does_not_fit_is_refused(tmp_path):
    def features(points: int = 64, power: int = 1, format: FixedPointFormat = FINE) -> FixedFeatures:
        return FixedFeatures(hann(60), points, 40, 0, 9, triangles(12, 33), power, True, 1e-6, 1.0, format)

    assert "Received: 48" in complaint(features, 48) and "Received: 32" in complaint(features, 32)
    assert "Received: 3" in complaint(features, power=3)
    assert HALF_UP in complaint(features, format=FixedPointFormat(8, -1, rounding=HALF_UP))
    assert "Received: -40" in complaint(features, format=FixedPointFormat(16, -40))
    assert "'2 x'" in complaint(write_features, cepstra(), tmp_path, "2 x")
