"""Log-mel features of machine sound, as the DCASE 2020 task 2 baseline and MLPerf Tiny compute them."""

from __future__ import annotations

import sys

import numpy as np

from po2quant.extras import optional_module

SAMPLE_RATE_HZ = 16000
FFT_SAMPLES = 1024
STEP_SAMPLES = 512
MEL_BANDS = 128
FIRST_FRAME = 50
FRAMES = 200  # frames 50 to 250
LEAST_SAMPLES = (FIRST_FRAME + FRAMES - 1) * STEP_SAMPLES  # the last frame is centred on the last sample
JOINED_FRAMES = 5
WINDOWS = FRAMES - JOINED_FRAMES + 1
INPUTS = JOINED_FRAMES * MEL_BANDS


def log_mel_db(sound: np.ndarray) -> np.ndarray:
    """Return the power of 128 mel bands in dB, ``10 * log10(power + epsilon)``, in frames 50 to 250.

    Frame t is centred on sample 512 t and has 1024 samples under a Hann window.

    Args:
        sound: ``(samples,)`` at 16 kHz, full scale -1..1, at least 127488 samples (7.97 s).

    Returns:
        float32 ``(200, 128)``.
    """
    librosa = optional_module("librosa", "audio", "log-mel features")  # slow to import

    power = librosa.feature.melspectrogram(
        y=np.asarray(sound, np.float32),
        sr=SAMPLE_RATE_HZ,
        n_fft=FFT_SAMPLES,
        hop_length=STEP_SAMPLES,
        n_mels=MEL_BANDS,
        power=2.0,
    )
    frames = power.T[FIRST_FRAME : FIRST_FRAME + FRAMES]
    return 10 * np.log10(frames + np.float32(sys.float_info.epsilon))


def join_frames(log_mel_db: np.ndarray) -> np.ndarray:
    """Return all windows of five consecutive frames, joined in time order, without copying.

    Args:
        log_mel_db: ``(clips, frames, mels)``, in dB.

    Returns:
        ``(clips, frames - 4, 5 * mels)``, a read-only view: window t is ``[mel(t), mel(t + 1), ..., mel(t + 4)]``.
    """
    clips, frames, mels = log_mel_db.shape
    flat = np.ascontiguousarray(log_mel_db).reshape(clips, frames * mels)
    return np.lib.stride_tricks.sliding_window_view(flat, JOINED_FRAMES * mels, axis=1)[:, ::mels]
