"""Files for the data loaders: sounds, pictures, and folders and archives of them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf

Contents = Mapping[str, bytes | str | None]
"""What to write by name; None leaves a file out, and a name that ends in ``/`` is a folder of a tar or zip file."""


def sound_file(samples: np.ndarray, sample_rate_hz: int = 16000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """Return a sound file of int16 samples or of floats in -1..1, ``(samples,)`` or ``(samples, channels)``."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def jpeg(height: int, width: int, value: int = 128) -> bytes:
    """Return a JPEG of one grey."""
    return tf.io.encode_jpeg(np.full((height, width, 3), value, np.uint8)).numpy()


def write_folder(path: Path, files: Contents) -> Path:
    """Write files into a folder, which may exist."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in _existing(files):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_zip(path: Path, files: Contents, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a zip file of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in _existing(files):
            archive.writestr(name, content)
    return path


def write_tar(
    path: Path, files: Contents, top: str = "", mode: str = "w:gz", kind: bytes = tarfile.REGTYPE, linkname: str = ""
) -> Path:
    """Write a tar file of files of one kind, with ``top`` before every name."""
    with tarfile.open(path, mode) as archive:
        for name, content in _existing(files):
            member = tarfile.TarInfo(top + name)
            member.type, member.size, member.linkname = kind, len(content), linkname
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            archive.addfile(member, io.BytesIO(content))
    return path


def _existing(files: Contents) -> Iterator[tuple[str, bytes]]:
    for name, content in files.items():
        if content is not None:
            yield name, content.encode() if isinstance(content, str) else content
