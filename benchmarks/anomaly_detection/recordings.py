"""Sound files in the form of DCASE 2020 task 2: ``<machine type>/train`` and ``<machine type>/test``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from po2quant.data.archives import Archive
from po2quant.data.audio import read_sound, resampled_mono
from po2quant.files import one_line
from po2quant.progress import progress_line

from . import features

DEFAULT_MACHINE_TYPE = "ToyCar"
PARTS = ("train", "test")
DEVELOPMENT, ADDITIONAL = "dev_data", "eval_data"
_SOUND_FILE = re.compile(r"(?:.*/)?(?P<machine_type>[^/]+)/(?P<part>train|test)/(?P<name>[^/]+)\.wav")


class Recording(NamedTuple):
    """A sound file in an archive."""

    archive: Archive
    member: str

    @property
    def name(self) -> str:
        """The name without folders and suffix, e.g. ``normal_id_01_00000000``."""
        return PurePosixPath(self.member).stem


Parts = Mapping[str, Sequence[Recording]]


def find_recordings(path: Path, stack: ExitStack) -> dict[str, Parts]:
    """Return the sound files under a path: by machine type, then by part, sorted by name.

    The development and the additional training set may stand together or apart, zipped or extracted. The
    test clips of ``eval_data`` are left out, since nobody labelled them.

    Args:
        path: a zip file, the folder of a machine type, or a folder that holds such folders or zip files
            of the official names.
        stack: closes the archives.
    """
    places = [*_places(path)]
    if path.name.startswith(DEVELOPMENT):
        beside = path.with_name(path.name.replace(DEVELOPMENT, f"{ADDITIONAL}_train"))
        places += _places(beside) if beside.exists() else []
    found: dict[str, dict[str, dict[str, Recording]]] = {}
    for place, folder, parts in places:
        archive = stack.enter_context(Archive(place))
        for member in archive.names:
            match = _SOUND_FILE.fullmatch(folder + member)
            if match and match["part"] in parts:
                recordings = found.setdefault(match["machine_type"], {part: {} for part in PARTS})
                recording = recordings[match["part"]].setdefault(match["name"], Recording(archive, member))
                if recording.archive is archive and recording.member != member:
                    raise ValueError(
                        f"a clip must be there once. Received: {one_line(recording.member)} and {one_line(member)} "
                        f"in {place}"
                    )
    return {
        machine_type: {part: [named[name] for name in sorted(named)] for part, named in recordings.items()}
        for machine_type, recordings in found.items()
    }


def _places(path: Path, parts: Sequence[str] = PARTS) -> Iterator[tuple[Path, str, Sequence[str]]]:
    """Give the archives under a path, the folder that they stand in, and the parts to read."""
    parts = ("train",) if path.name.startswith(ADDITIONAL) else parts
    if not path.is_dir():
        yield path, "", parts
    elif _is_machine(path):
        yield path, f"{path.resolve().name}/", parts
    else:
        for inner in sorted(path.iterdir()):
            official = inner.name.startswith((DEVELOPMENT, ADDITIONAL)) and (inner.is_dir() or inner.suffix == ".zip")
            if official or (inner.is_dir() and _is_machine(inner)):
                yield from _places(inner, parts)


def _is_machine(folder: Path) -> bool:
    return any(any(folder.glob(f"{part}/*.wav")) for part in PARTS)


def choose_machine_type(found: Mapping[str, Parts], path: Path) -> str:
    """Return the machine type that has both parts: ToyCar, or the only one; else one with test recordings alone."""
    complete = sorted(machine_type for machine_type, parts in found.items() if all(parts.values()))
    complete = complete or sorted(machine_type for machine_type, parts in found.items() if parts["test"])
    if DEFAULT_MACHINE_TYPE in complete or len(complete) == 1:
        return DEFAULT_MACHINE_TYPE if DEFAULT_MACHINE_TYPE in complete else complete[0]
    if complete:
        received = one_line(", ".join(complete))
        raise ValueError(f"data_dir must name one machine type. Received: {path} with {received}")
    machine_type = DEFAULT_MACHINE_TYPE if DEFAULT_MACHINE_TYPE in found else min(found)
    raise ValueError(
        f"a machine type must have .wav files in train and test, or in test. Received: {path} without "
        f"{one_line(machine_type)}/test"
    )


def read_features(recordings: Sequence[Recording]) -> np.ndarray:
    """Return log-mel frames of sound files in dB, float16 ``(files, 200, 128)``, in their order."""
    log_mel_db = np.empty((len(recordings), features.FRAMES, features.MEL_BANDS), np.float16)

    def read(index: int) -> None:
        archive, member = recordings[index]
        log_mel_db[index] = clip_features(archive.read(member), member)

    with ThreadPoolExecutor() as pool, progress_line("Log-mel features", len(recordings)) as line:
        for _ in pool.map(read, range(len(recordings))):
            line.advance()
    return log_mel_db


def clip_features(data: bytes, name: str) -> np.ndarray:
    """Return the log-mel frames of a sound file in dB, float16 ``(200, 128)``.

    Several channels become their mean, and another sample rate becomes 16 kHz.
    """
    sound = resampled_mono(*read_sound(data, name), features.SAMPLE_RATE_HZ)
    if len(sound) < features.LEAST_SAMPLES:
        length = f"{len(sound)} ({len(sound) / features.SAMPLE_RATE_HZ:.2f} s)"
        raise ValueError(f"{name} must have {features.LEAST_SAMPLES} samples or more at 16 kHz. Received: {length}")
    with np.errstate(over="ignore", invalid="ignore"):
        log_mel_db = features.log_mel_db(sound).astype(np.float16)
    if not np.isfinite(log_mel_db).all():
        raise ValueError(f"{name} must be sound in -1..1. Received: a peak of {np.abs(sound).max():g}")
    return log_mel_db


def cache_key(machine_type: str, recordings: Sequence[Recording]) -> str:
    """Return a name that changes with the names, sizes and times of the files, and with the features."""
    parameters = {name: value for name, value in vars(features).items() if name.isupper()}
    digest = hashlib.sha256(repr(parameters).encode())
    for archive, member in recordings:
        status = (archive.path / member if archive.path.is_dir() else archive.path).stat()
        digest.update(f"{member} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{machine_type}-log-mel-{digest.hexdigest()[:16]}"
