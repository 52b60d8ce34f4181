"""The MFCC features of keyword spotting in integers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from po2quant.export.features.fixed import FixedFeatures
from po2quant.fixed_point import FixedPointFormat

from . import features


def fixed_mfcc(format: FixedPointFormat) -> FixedFeatures:
    """Return what computes :func:`benchmarks.keyword_spotting.features.mfcc` of a clip as integers of a format."""
    bands = tf.signal.linear_to_mel_weight_matrix(
        features.MEL_BANDS,
        features.FFT_SAMPLES // 2 + 1,
        features.SAMPLE_RATE_HZ,
        features.MEL_LOW_HZ,
        features.MEL_HIGH_HZ,
    )
    band = np.arange(features.MEL_BANDS) + 0.5
    cosines = np.cos(np.pi / features.MEL_BANDS * np.arange(features.COEFFICIENTS)[:, None] * band)
    return FixedFeatures(
        window=tf.signal.hann_window(features.WINDOW_SAMPLES).numpy(),
        fft_samples=features.FFT_SAMPLES,
        step=features.STEP_SAMPLES,
        start=0,
        frames=features.FRAMES,
        bands=bands.numpy().T,
        power=1,
        of_peak=True,
        offset=features.LOG_OFFSET,
        matrix=cosines * np.sqrt(2.0 / features.MEL_BANDS),
        format=format,
    )
