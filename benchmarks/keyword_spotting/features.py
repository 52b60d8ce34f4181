"""MFCC features of keyword spotting as MLPerf Tiny computes them, and background noise for training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

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
INT16_FULL_SCALE = 32768

NOISE_PROBABILITY = 0.8
LARGEST_NOISE_VOLUME = 0.1


def mfcc(audio: np.ndarray) -> np.ndarray:
    """Return the MFCC features of sound: ``cepstra(unit_peak(audio))``.

    Args:
        audio: ``(samples,)`` or ``(clips, samples)`` at 16 kHz, padded with zeros or cut to one second.

    Returns:
        float32 ``(49, 10)`` or ``(clips, 49, 10)``.
    """
    audio = np.asarray(audio)[..., :CLIP_SAMPLES]
    padding = [(0, 0)] * (audio.ndim - 1) + [(0, CLIP_SAMPLES - audio.shape[-1])]
    return cepstra(unit_peak(tf.constant(np.pad(audio, padding)))).numpy()


def unit_peak(sound: tf.Tensor) -> tf.Tensor:
    """Return sound divided by its maximum: the signed one, as in MLPerf Tiny; float32.

    Sound without a positive sample stays as it is.

    Args:
        sound: shape ``(..., samples)``, any number type.
    """
    sound = tf.cast(sound, tf.float32)
    peak = tf.reduce_max(sound, axis=-1, keepdims=True)
    return sound / tf.where(peak > 0, peak, 1.0)


def cepstra(sound: tf.Tensor) -> tf.Tensor:
    """Return the first 10 mel-frequency cepstral coefficients of the 49 frames of a second.

    Frames of 30 ms every 20 ms, magnitude spectrum of 512 points, 40 mel bands from 20 to 4000 Hz,
    ``log(x + 1e-6)``, discrete cosine transform.

    Args:
        sound: float32 ``(..., 16000)`` at 16 kHz.

    Returns:
        float32 ``(..., 49, 10)``.
    """
    spectrum = tf.abs(tf.signal.stft(sound, WINDOW_SAMPLES, STEP_SAMPLES, FFT_SAMPLES))
    bands = tf.signal.linear_to_mel_weight_matrix(
        MEL_BANDS, FFT_SAMPLES // 2 + 1, SAMPLE_RATE_HZ, MEL_LOW_HZ, MEL_HIGH_HZ
    )
    log_mel = tf.math.log(tf.tensordot(spectrum, bands, 1) + LOG_OFFSET)
    return tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[..., :COEFFICIENTS]


def int16_levels(sound: np.ndarray) -> np.ndarray:
    """Return sound of full scale 1 as int16 of the same shape, the precision of Speech Commands."""
    levels = np.rint(np.asarray(sound) * INT16_FULL_SCALE)
    return np.clip(levels, -INT16_FULL_SCALE, INT16_FULL_SCALE - 1).astype(np.int16)


def noisy_features(
    read_clips: Callable[[], np.ndarray],
    recordings: Sequence[np.ndarray],
    probability: float = NOISE_PROBABILITY,
    largest_volume: float = LARGEST_NOISE_VOLUME,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return ``Split.augmented``: features of clips into which background noise is mixed.

    As in MLPerf Tiny the clip is divided by its maximum, a second from a random place of a random recording,
    of full scale 1, is added at a volume uniform in ``[0, largest_volume)``, and the sum is cut to -1..1. There
    the dice fall once, while the graph is built; here for every sample and epoch anew. A clip that gets no
    noise gives its clean features.

    Args:
        read_clips: returns the clips, int16 ``(clips, 16000)``; called once, when the first batch is made.
        recordings: sound at 16 kHz, int16 ``(samples,)`` each.
        probability: that a clip gets noise.
        largest_volume: of the noise; the clip's largest sample is 1.
    """

    @functools.cache
    def stored() -> tf.Tensor:
        with tf.init_scope(), tf.device("CPU"):
            return tf.identity(read_clips())

    second_of_noise = random_seconds(recordings)

    def augmented(samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        dice = tf.random.stateless_uniform((4, tf.shape(samples)[0]), seed)
        volume = tf.where(dice[0] < probability, dice[1] * largest_volume, 0.0)[:, None]
        clean = unit_peak(tf.gather(stored(), samples))
        noisy = tf.clip_by_value(clean + volume * second_of_noise(dice[2], dice[3]), -1.0, 1.0)
        return cepstra(tf.where(volume > 0, noisy, clean))[..., None]

    return augmented


def random_seconds(recordings: Sequence[np.ndarray]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a function of two tensors in [0, 1), ``(batch,)``: which recording, and which place in it.

    It returns a second of that recording from that place on, float32 ``(batch, 16000)`` of full scale 1.
    Shorter recordings are padded with zeros.
    """
    padded = [np.pad(sound, (0, max(CLIP_SAMPLES - len(sound), 0))) for sound in recordings]
    lengths = np.array([len(sound) for sound in padded])
    row, begins, places = np.concatenate(padded), np.cumsum(lengths) - lengths, lengths - CLIP_SAMPLES + 1

    def seconds(which: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
        recording = tf.cast(which * len(padded), tf.int32)
        count = tf.gather(tf.constant(places, tf.int32), recording)
        place = tf.minimum(tf.cast(where * tf.cast(count, tf.float32), tf.int32), count - 1)
        begin = tf.gather(tf.constant(begins, tf.int32), recording) + place
        sound = tf.gather(tf.constant(row), begin[:, None] + tf.range(CLIP_SAMPLES))
        return tf.cast(sound, tf.float32) / INT16_FULL_SCALE

    return seconds
