"""Sound files of any usual kind as numpy arrays."""

from __future__ import annotations

import io
import shutil
from pathlib import PurePosixPath

import numpy as np
import soundfile

FFMPEG_FORMATS = {".m4a": "mp4", ".mp4": "mp4", ".mp3": "mp3", ".aac": "aac", ".wma": "asf", ".webm": "webm"}
"""The names that ffmpeg gives to the containers that soundfile may fail to read."""


def read_sound(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """Return the samples of a sound file and their rate.

    Soundfile reads WAV, FLAC, Ogg, AIFF, MP3 and more. What it cannot read of the kinds in ``FFMPEG_FORMATS``
    is read by pydub, which needs ffmpeg.

    Args:
        data: content of the file.
        name: its name, for its kind and for complaints.

    Returns:
        Samples, float32 ``(samples, channels)``, full scale is -1..1; and the sample rate in Hz.

    Raises:
        ValueError: where the file is damaged, is no sound, or holds no samples or samples that are not finite.
    """
    try:
        samples, sample_rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        kind = PurePosixPath(name).suffix.lower()
        if kind not in FFMPEG_FORMATS:
            reason = getattr(error, "error_string", error)
            raise ValueError(f"{name} must be a complete sound file. Received: {reason}") from error
        samples, sample_rate_hz = _read_with_ffmpeg(data, name, FFMPEG_FORMATS[kind])
    if len(samples) == 0 or not np.all(np.isfinite(samples)):
        content = "no samples" if len(samples) == 0 else "NaN or infinity"
        raise ValueError(f"{name} must hold finite sound samples. Received: {content}")
    return samples, sample_rate_hz


def resampled_mono(samples: np.ndarray, sample_rate_hz: int, target_hz: int) -> np.ndarray:
    """Return sound ``(samples, channels)`` as the mean of its channels at another rate, float32 ``(samples,)``."""
    mono = np.mean(samples, axis=1, dtype=np.float32)
    if sample_rate_hz == target_hz:
        return mono
    import librosa  # slow to import, and needed only here

    return librosa.resample(mono, orig_sr=sample_rate_hz, target_sr=target_hz)


def _read_with_ffmpeg(data: bytes, name: str, kind: str) -> tuple[np.ndarray, int]:
    if missing := [program for program in ("ffmpeg", "ffprobe") if not shutil.which(program)]:
        raise ValueError(f"reading {name} needs ffmpeg, or convert it to WAV. Received: no {missing[0]} in PATH")
    from pydub import AudioSegment  # warns on import where ffmpeg is missing
    from pydub.exceptions import CouldntDecodeError

    try:
        sound = AudioSegment.from_file(io.BytesIO(data), kind)
    except (CouldntDecodeError, LookupError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ValueError(f"{name} must be a complete sound file. Received: {reason[0]}") from error
    full_scale = 1 << (8 * sound.sample_width - 1)
    samples = np.array(sound.get_array_of_samples()).reshape(-1, sound.channels)
    return (samples / full_scale).astype(np.float32), sound.frame_rate
