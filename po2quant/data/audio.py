"""Sound files of any usual kind as numpy arrays; what a file declares is checked before its samples are read."""

from __future__ import annotations

import io
import shutil
from pathlib import PurePosixPath

import numpy as np

from po2quant.data.budgets import (
    CHANNELS,
    CLIP_SECONDS,
    HIGHEST_RATE_HZ,
    LOWEST_RATE_HZ,
    VALUES_PER_SECOND,
    check_at_most,
)
from po2quant.extras import optional_module
from po2quant.files import one_line

EXTRA = "audio"

FFMPEG_FORMATS = {".m4a": "mp4", ".mp4": "mp4", ".mp3": "mp3", ".aac": "aac", ".wma": "asf", ".webm": "webm"}
"""The names that ffmpeg gives to the containers that soundfile may fail to read."""


def read_sound(data: bytes, name: str, limit_seconds: float = CLIP_SECONDS) -> tuple[np.ndarray, int]:
    """Return the samples of a sound file and their rate.

    Soundfile reads WAV, FLAC, Ogg, AIFF, MP3 and more. What it cannot read of the kinds in ``FFMPEG_FORMATS``
    is read by pydub, which needs ffmpeg.

    Args:
        data: content of the file.
        name: its name, for its kind and for complaints.
        limit_seconds: most that it may last.

    Returns:
        Samples, float32 ``(samples, channels)``, full scale is -1..1; and the sample rate in Hz.

    Raises:
        ValueError: where the file is damaged, is no sound, declares more than the limits of
            :mod:`po2quant.data.budgets`, or holds no samples or samples that are not finite.
    """
    name = one_line(name)
    soundfile = optional_module("soundfile", EXTRA, "reading a sound file")
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except Exception as error:  # a damaged file may raise any
        kind = PurePosixPath(name).suffix.lower()
        if kind not in FFMPEG_FORMATS:
            raise _no_sound(name, error) from error
        samples, sample_rate_hz = _read_with_ffmpeg(data, name, FFMPEG_FORMATS[kind], limit_seconds)
    else:
        with file:
            sample_rate_hz = file.samplerate
            _check_declared(name, file.frames, file.channels, sample_rate_hz, limit_seconds)
            try:
                samples = file.read(dtype="float32", always_2d=True)
            except Exception as error:  # a damaged file may raise any
                raise _no_sound(name, error) from error
    if len(samples) == 0 or not np.all(np.isfinite(samples)):
        content = "no samples" if len(samples) == 0 else "NaN or infinity"
        raise ValueError(f"{name} must hold finite sound samples. Received: {content}")
    return samples, sample_rate_hz


def _check_declared(name: str, samples: int, channels: int, sample_rate_hz: int, limit_seconds: float) -> None:
    """Refuse a sound file that declares a rate, a length or a number of channels that no data set has."""
    if not LOWEST_RATE_HZ <= sample_rate_hz <= HIGHEST_RATE_HZ:
        raise ValueError(
            f"{name} must have a sample rate from {LOWEST_RATE_HZ:,} to {HIGHEST_RATE_HZ:,} Hz. "
            f"Received: {sample_rate_hz:,}"
        )
    check_at_most(name, "channels", channels, CHANNELS)
    check_at_most(name, "seconds", samples / sample_rate_hz, limit_seconds)
    check_at_most(name, "samples in all its channels", samples * channels, VALUES_PER_SECOND * limit_seconds)


def _no_sound(name: str, error: Exception) -> ValueError:
    reason = one_line(getattr(error, "error_string", error)) or type(error).__name__
    return ValueError(f"{name} must be a complete sound file. Received: {reason}")


def resampled_mono(samples: np.ndarray, sample_rate_hz: int, target_hz: int) -> np.ndarray:
    """Return sound ``(samples, channels)`` as the mean of its channels at another rate, float32 ``(samples,)``."""
    mono = np.asarray(np.mean(samples, axis=1, dtype=np.float32))
    if sample_rate_hz == target_hz:
        return mono
    librosa = optional_module("librosa", EXTRA, f"resampling {sample_rate_hz} Hz to {target_hz} Hz")
    return librosa.resample(mono, orig_sr=sample_rate_hz, target_sr=target_hz)


def _read_with_ffmpeg(data: bytes, name: str, kind: str, limit_seconds: float) -> tuple[np.ndarray, int]:
    if missing := [program for program in ("ffmpeg", "ffprobe") if not shutil.which(program)]:
        raise ValueError(f"reading {name} needs ffmpeg, or convert it to WAV. Received: no {missing[0]} in PATH")
    pydub = optional_module("pydub", EXTRA, f"reading {name}")  # warns on import where ffmpeg is missing
    utils = optional_module("pydub.utils", EXTRA, f"reading {name}")

    try:
        streams = utils.mediainfo_json(io.BytesIO(data)).get("streams", ())
        declared = next(stream for stream in streams if stream.get("codec_type") == "audio")
        channels, sample_rate_hz = int(declared["channels"]), int(declared["sample_rate"])
    except Exception as error:  # a damaged file may raise any
        raise _no_sound(name, error) from error
    _check_declared(name, 0, channels, sample_rate_hz, limit_seconds)
    enough_seconds = 1 + limit_seconds * min(1, VALUES_PER_SECOND / (channels * sample_rate_hz))
    try:
        sound = pydub.AudioSegment.from_file(io.BytesIO(data), kind, duration=enough_seconds)
    except Exception as error:  # a damaged file may raise any
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ValueError(f"{name} must be a complete sound file. Received: {one_line(reason[0])}") from error
    _check_declared(name, int(sound.frame_count()), sound.channels, sound.frame_rate, limit_seconds)
    full_scale = 1 << (8 * sound.sample_width - 1)
    samples = np.array(sound.get_array_of_samples()).reshape(-1, sound.channels)
    return (samples / full_scale).astype(np.float32), sound.frame_rate
