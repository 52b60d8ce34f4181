"""Keyword spotting data: ten spoken words, silence and unknown words as 49 x 10 MFCC features."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf

from benchmarks.base import Archive, find_archive, members_by_class, mixed_order, read_labels
from po2quant.benchmark import Dataset, Split

LABELS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown")
CLASS_FOLDERS = (*LABELS[:10], "_silence_", "_unknown_")
ARCHIVES = ("speech_commands_v2_subset.zip", "mlperf_tiny_kws01.zip")
CLIP_SUFFIXES = (".ogg", ".wav", ".flac")

SAMPLE_RATE_HZ = 16000
CLIP_SAMPLES = 16000
WINDOW_SAMPLES = 480  # 30 ms
STEP_SAMPLES = 320  # 20 ms
FFT_SAMPLES = 512
MEL_BANDS = 40
MEL_LOW_HZ = 20.0
MEL_HIGH_HZ = 4000.0
LOG_OFFSET = 1e-6
FRAMES = 49
COEFFICIENTS = 10
CLIPS_PER_BATCH = 256

FEATURE_SCALE = 0.5847029  # MLPerf Tiny's int8 features: value = (q - zero point) * scale
FEATURE_ZERO_POINT = 83


def load(data_dir: Path | None, seed: int = 0) -> Dataset:
    """Return MFCC features, float32 ``(clips, 49, 10, 1)``, and indices into ``LABELS``, int32 ``(clips,)``.

    Args:
        data_dir: ``speech_commands_v2_subset.zip`` (train, validation and test by its two lists) or
            ``mlperf_tiny_kws01.zip`` (test only), its extracted folder, or a folder that holds them; the
            first wins where both are.
        seed: of the order of the train and validation samples; the lists alone decide the splits.
    """
    with find_archive(data_dir, "keyword_spotting", ARCHIVES, ("testing_list.txt", "y_labels.csv")) as archive:
        if "testing_list.txt" in archive.names:
            return _load_clips(archive, seed)
        return _load_features(archive)


def mfcc(audio: np.ndarray) -> np.ndarray:
    """Return the MFCC features of sound at 16 kHz as the MLPerf Tiny benchmark computes them.

    The sound is padded with zeros or cut to one second and divided by its maximum: the signed one, as there
    (sound without a positive sample stays as it is). Frames of 30 ms every 20 ms, magnitude spectrum of 512
    points, 40 mel bands from 20 to 4000 Hz, ``log(x + 1e-6)``, and the first 10 cepstral coefficients.

    Args:
        audio: ``(samples,)`` or ``(clips, samples)``, at 16 kHz.

    Returns:
        float32 ``(49, 10)`` or ``(clips, 49, 10)``.
    """
    audio = np.asarray(audio, np.float32)[..., :CLIP_SAMPLES]
    padding = [(0, 0)] * (audio.ndim - 1) + [(0, CLIP_SAMPLES - audio.shape[-1])]
    audio = np.pad(audio, padding)
    peak = np.max(audio, axis=-1, keepdims=True)
    audio = audio / np.where(peak > 0, peak, np.float32(1))
    spectrum = tf.abs(tf.signal.stft(audio, WINDOW_SAMPLES, STEP_SAMPLES, FFT_SAMPLES))
    bands = tf.signal.linear_to_mel_weight_matrix(
        MEL_BANDS, FFT_SAMPLES // 2 + 1, SAMPLE_RATE_HZ, MEL_LOW_HZ, MEL_HIGH_HZ
    )
    log_mel = tf.math.log(tf.tensordot(spectrum, bands, 1) + LOG_OFFSET)
    return tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[..., :COEFFICIENTS].numpy()


def to_mono(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return sound ``(samples, channels)`` as the mean of its channels at 16 kHz, float32 ``(samples,)``."""
    mono = np.mean(samples, axis=1, dtype=np.float32)
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return mono
    import librosa  # slow to import, and needed only here

    return librosa.resample(mono, orig_sr=sample_rate_hz, target_sr=SAMPLE_RATE_HZ)


def read_clip(data: bytes, name: str) -> np.ndarray:
    """Return a sound file as one second of mono sound at 16 kHz, float32 ``(16000,)``."""
    try:
        samples, sample_rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{name} must be a complete sound file. Received: {error}") from error
    if len(samples) == 0 or not np.all(np.isfinite(samples)):
        content = "no samples" if len(samples) == 0 else "NaN or infinity"
        raise ValueError(f"{name} must hold finite sound samples. Received: {content}")
    clip = to_mono(samples, sample_rate_hz)[:CLIP_SAMPLES]
    return np.pad(clip, (0, CLIP_SAMPLES - len(clip)))


def clip_features(archive: Archive, names: Sequence[str]) -> np.ndarray:
    """Return the features of sound files of an archive, float32 ``(clips, 49, 10, 1)``."""
    features = np.empty((len(names), FRAMES, COEFFICIENTS, 1), np.float32)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(names), CLIPS_PER_BATCH):
            batch = names[start : start + CLIPS_PER_BATCH]
            clips = list(pool.map(lambda name: read_clip(archive.read(name), name), batch))
            features[start : start + len(batch), ..., 0] = mfcc(np.stack(clips))
    return features


def _load_clips(archive: Archive, seed: int) -> Dataset:
    names, y = members_by_class(archive, CLASS_FOLDERS, CLIP_SUFFIXES)
    testing = archive.read_member_list("testing_list.txt")
    validating = archive.read_member_list("validation_list.txt")
    if both := sorted(testing & validating):
        raise ValueError(f"a clip must be in one list at most. Received: {both[0]} in both of {archive.path}")
    x = clip_features(archive, names)
    part = np.array([2 if name in testing else 1 if name in validating else 0 for name in names])
    splits = []
    for number, order_seed in enumerate((seed, seed, 0)):
        members = np.flatnonzero(part == number)
        members = members[mixed_order(y[members], order_seed)]
        splits.append(Split(x[members], y[members]))
    train, validation, test = splits
    return Dataset("Speech Commands V2", "subset", test, train, validation)


def _load_features(archive: Archive) -> Dataset:
    names, y = read_labels(archive, len(LABELS))
    x = np.empty((len(names), FRAMES, COEFFICIENTS, 1), np.float32)
    for index, name in enumerate(names):
        data = archive.read(name)
        if len(data) != FRAMES * COEFFICIENTS:
            raise ValueError(f"{name} must have {FRAMES * COEFFICIENTS} bytes. Received: {len(data)} bytes")
        x[index] = np.frombuffer(data, np.int8).reshape(x.shape[1:])
    x = (x - FEATURE_ZERO_POINT) * np.float32(FEATURE_SCALE)
    return Dataset("MLPerf Tiny keyword spotting features", "subset", Split(x, y))
