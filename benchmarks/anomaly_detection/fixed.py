"""The log-mel features of machine sound in integers."""

from __future__ import annotations

import math
import sys

from po2quant.export.features.fixed import FixedFeatures
from po2quant.fixed_point import FixedPointFormat

from . import features


def fixed_log_mel(format: FixedPointFormat) -> FixedFeatures:
    """Return what computes :func:`benchmarks.anomaly_detection.features.log_mel_db` as integers of a format."""
    import librosa  # slow to import
    import scipy.signal

    return FixedFeatures(
        window=scipy.signal.get_window("hann", features.FFT_SAMPLES),
        fft_samples=features.FFT_SAMPLES,
        step=features.STEP_SAMPLES,
        start=features.FIRST_FRAME * features.STEP_SAMPLES - features.FFT_SAMPLES // 2,
        frames=features.FRAMES,
        bands=librosa.filters.mel(sr=features.SAMPLE_RATE_HZ, n_fft=features.FFT_SAMPLES, n_mels=features.MEL_BANDS),
        power=2,
        of_peak=False,
        offset=sys.float_info.epsilon,
        matrix=10.0 / math.log(10.0),
        format=format,
    )
