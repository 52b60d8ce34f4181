"""Clips of one second in archives of sound files, read in threads."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from po2quant.data import audio
from po2quant.data.archives import Archive
from po2quant.data.audio import read_sound, resampled_mono
from po2quant.data.budgets import ALL_NOISE_SECONDS, CLIP_SECONDS, NOISE_SECONDS, check_at_most
from po2quant.progress import progress_line

from . import features
from .features import CLIP_SAMPLES, COEFFICIENTS, FRAMES, SAMPLE_RATE_HZ, int16_levels, mfcc

CLIP_SUFFIXES = (".ogg", ".wav", ".flac", ".mp3", ".m4a")
NOISE_FOLDER = "_background_noise_"
CLIPS_PER_BATCH = 256


@dataclass(frozen=True)
class Clip:
    """One second of a sound file, from the sample ``begin`` at 16 kHz on; zeros follow where the file ends."""

    name: str
    begin: int = 0


@dataclass(frozen=True)
class LabelledClips:
    """Clips of one archive and their class indices, int32 ``(clips,)``."""

    archive: Path
    clips: Sequence[Clip]
    labels: np.ndarray

    def __getitem__(self, order: np.ndarray) -> LabelledClips:
        """Return the clips of the given numbers."""
        return LabelledClips(self.archive, [self.clips[number] for number in order], self.labels[order])

    def batches(self) -> Iterator[np.ndarray]:
        """Give the sound of the clips in their order, int16 ``(batch, 16000)``, with a progress line."""
        with Archive(self.archive) as archive, ThreadPoolExecutor() as pool:
            recording = functools.cache(lambda name: read_recording(archive.read(name), name, NOISE_SECONDS))

            def second(clip: Clip) -> np.ndarray:
                is_noise = clip.name.startswith(f"{NOISE_FOLDER}/")  # long, and read for many clips
                sound = recording(clip.name) if is_noise else read_recording(archive.read(clip.name), clip.name)
                sound = sound[clip.begin : clip.begin + CLIP_SAMPLES]
                return np.pad(sound, (0, CLIP_SAMPLES - len(sound)))

            with progress_line(f"Reading sound of {self.archive.name}", len(self.clips)) as line:
                for start in range(0, len(self.clips), CLIPS_PER_BATCH):
                    batch = np.stack(list(pool.map(second, self.clips[start : start + CLIPS_PER_BATCH])))
                    yield batch
                    line.advance(len(batch))

    def sound(self) -> np.ndarray:
        """Return the sound of the clips, int16 ``(clips, 16000)``."""
        return self._filled((CLIP_SAMPLES,), np.int16, lambda batch: batch)

    def features(self) -> np.ndarray:
        """Return the MFCC features of the clips, float32 ``(clips, 49, 10, 1)``."""
        return self._filled((FRAMES, COEFFICIENTS, 1), np.float32, lambda batch: mfcc(batch)[..., None])

    def _filled(self, shape: tuple[int, ...], kind: type, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        rows, done = np.empty((len(self.clips), *shape), kind), 0
        for batch in self.batches():
            rows[done : done + len(batch)] = of(batch)
            done += len(batch)
        return rows

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with anything the features depend on: clips, files, the code."""
        files = sorted({self.archive / clip.name for clip in self.clips}) if self.archive.is_dir() else [self.archive]
        stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        code = [inspect.getsource(module) for module in (audio, features)]
        return hashlib.sha256(repr((list(self.clips), stamps, code)).encode()).hexdigest()[:16]


def read_recording(data: bytes, name: str, limit_seconds: float = CLIP_SECONDS) -> np.ndarray:
    """Return a sound file as mono sound at 16 kHz, int16 ``(samples,)``."""
    return int16_levels(resampled_mono(*read_sound(data, name, limit_seconds), SAMPLE_RATE_HZ))


def noise_names(archive: Archive) -> list[str]:
    """Return the background-noise recordings of an archive."""
    return [n for n in archive.names if n.startswith(f"{NOISE_FOLDER}/") and n.lower().endswith(CLIP_SUFFIXES)]


def read_noise(archive: Archive) -> dict[str, np.ndarray]:
    """Return the background-noise recordings of an archive by name, int16 ``(samples,)`` each."""
    recordings: dict[str, np.ndarray] = {}
    seconds = 0.0
    for name in noise_names(archive):
        recordings[name] = read_recording(archive.read(name), name, NOISE_SECONDS)
        seconds += len(recordings[name]) / SAMPLE_RATE_HZ
        check_at_most(f"{NOISE_FOLDER} of {archive.path}", "seconds", seconds, ALL_NOISE_SECONDS)
    return recordings
