"""The MFCC features of keyword spotting against a computation in numpy."""

import numpy as np
import pytest
import scipy.fft

from benchmarks.keyword_spotting.features import mfcc
from benchmarks.keyword_spotting.fixed import fixed_mfcc
from po2quant.export.features.fixed import run_features
from po2quant.fixed_point import FixedPointFormat


def test_mfcc_formula():
    """The features equal a plain numpy computation and do not depend on the volume."""
    audio = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio / audio.max(), 480)[::320]
    spectrum = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)), 512))
    mel = 1127 * np.log1p(np.arange(257) * 16000 / 512 / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(4000 / 700), 42)
    rise = (mel[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - mel[:, None]) / np.diff(edges)[1:]
    log_mel = np.log(spectrum @ np.maximum(0, np.minimum(rise, fall)) + 1e-6)
    expected = scipy.fft.dct(log_mel, axis=-1)[:, :10] / np.sqrt(80)
    np.testing.assert_allclose(mfcc(audio), expected, atol=2e-3)
    np.testing.assert_allclose(mfcc(np.stack([audio * 7, audio]))[0], expected, atol=2e-3)


@pytest.mark.parametrize("loudness", [32767, 500])
def test_mfcc_in_integers(loudness):
    """They are near those in floating point, whatever the volume."""
    rng = np.random.default_rng(0)
    audio = np.rint(loudness * rng.uniform(-1, 1, 16000) * np.linspace(0.1, 1, 16000)).astype(np.int16)
    found = run_features(fixed_mfcc(FixedPointFormat(16, -8)), audio)
    np.testing.assert_allclose(np.ldexp(found.astype(float), -8), mfcc(audio), atol=0.02)


@pytest.mark.parametrize("audio", [np.zeros(16000), np.full(16000, -0.5), np.ones(10), np.ones(40000)])
def test_mfcc_of_unusual_sound(audio):
    """Silent, all-negative, short and long sound gives finite features."""
    features = mfcc(audio)
    assert features.shape == (49, 10) and np.isfinite(features).all()
