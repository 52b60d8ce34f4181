"""Reading helpers that the benchmarks share: archives, feature files, images and splits."""

from __future__ import annotations

import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import tensorflow as tf

from po2quant.benchmark import Split
from po2quant.training.progress import progress_line

READ_ERRORS = (OSError, EOFError, RuntimeError, struct.error, tarfile.TarError, zipfile.BadZipFile, zlib.error)
_FILES_PER_TASK = 256
_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)")


class Archive:
    """A folder or a zip file, read in place: nothing is extracted, and links are refused.

    ``names`` has a key for each file inside, sorted, with ``/`` between folders; hidden files are left out.
    """

    def __init__(self, path: Path) -> None:
        """List the files of an existing folder or ``.zip`` file."""
        self.path = path
        try:
            self._zip = None if path.is_dir() else zipfile.ZipFile(path)
        except (ValueError, *READ_ERRORS) as error:
            raise ValueError(f"an archive must be a complete zip file. Received: {path} ({error})") from error
        names = _zip_members(path, self._zip) if self._zip else _folder_members(path)
        self.names = dict.fromkeys(sorted(name for name in names if not _HIDDEN.search(name)))
        if not self.names:
            raise ValueError(f"an archive must hold files. Received: {path}, which is empty")

    def __enter__(self) -> Archive:
        """Return the archive itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the zip file."""
        if self._zip:
            self._zip.close()

    def read(self, name: str) -> bytes:
        """Return the bytes of one of the ``names``."""
        if name not in self.names:
            raise ValueError(f"the archive must hold {name}. Received: {self.path} without it")
        try:
            return self._zip.read(name) if self._zip else (self.path / name).read_bytes()
        except READ_ERRORS as error:
            raise ValueError(f"{name} must be readable. Received: {self.path}, damaged ({error})") from error

    def read_lines(self, name: str) -> list[str]:
        """Return the lines of a text file that are not blank."""
        text = self.read(name).decode("utf-8-sig", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def read_member_list(self, name: str) -> frozenset[str]:
        """Return the files that a text file lists, one a line; each must be in the archive."""
        members = frozenset(self.read_lines(name))
        if missing := sorted(members - self.names.keys()):
            raise ValueError(f"{name} must list files of {self.path}. Received: {missing[0]}, not there")
        return members


def _folder_members(path: Path) -> list[str]:
    members = list(path.rglob("*"))
    for link in filter(Path.is_symlink, members):
        raise ValueError(f"a data folder must hold no links. Received: {link}")
    return [member.relative_to(path).as_posix() for member in members if member.is_file()]


def _zip_members(path: Path, file: zipfile.ZipFile) -> list[str]:
    for info in file.infolist():
        check_member(info.filename, path, is_link=stat.S_ISLNK(info.external_attr >> 16))
    return [info.filename for info in file.infolist() if not info.is_dir()]


def check_member(name: str, archive: Path, is_link: bool = False) -> None:
    """Refuse a link in an archive, and a name that leads out of it."""
    inner = PurePosixPath(name)
    leaves = inner.is_absolute() or ".." in inner.parts or PureWindowsPath(name).drive or "\\" in name
    if leaves or is_link:
        raise ValueError(f"an archive must hold only inner files. Received: {name} in {archive}")


def existing_path(data_dir: Path | None, task: str, forms: str) -> Path:
    """Return ``data_dir`` if it exists; otherwise raise a ValueError that names the accepted ``forms``."""
    if data_dir is None or not Path(data_dir).exists():
        received = "None" if data_dir is None else f"{data_dir}, which does not exist"
        raise ValueError(f"{task} needs --data-dir with {forms}. Received: {received}")
    return Path(data_dir)


def find_archive(data_dir: Path | None, task: str, names: Sequence[str], markers: Sequence[str]) -> Archive:
    """Open the archive that ``data_dir`` is or holds, to be used in a ``with`` statement.

    ``data_dir`` is an archive, its extracted folder, or a folder that holds either under one of ``names``,
    the preferred one first. An archive has one of the ``markers`` (files or folders) at its top.
    """
    forms = f"{' or '.join(names)} (or its extracted folder)"
    path = existing_path(data_dir, task, forms)
    inside = [path / form for name in names for form in (name, Path(name).stem) if (path / form).exists()]
    if inside or not path.is_dir() or any((path / marker).exists() for marker in markers):
        archive = Archive(inside[0] if inside else path)
        if any(name.split("/")[0] in markers for name in archive.names):
            return archive
    raise ValueError(f"{task} needs --data-dir with {forms}. Received: {path}, which is none of them")


def members_by_class(
    archive: Archive, classes: Sequence[str], suffixes: tuple[str, ...], top: str = ""
) -> tuple[list[str], np.ndarray]:
    """Return the sorted files ``<top><class>/<file>`` and their class indices, int32 ``(files,)``."""
    names = [name for name in archive.names if name.startswith(top) and name.lower().endswith(suffixes)]
    folders = [name[len(top) :].rpartition("/")[0] for name in names]
    if stray := [name for name, folder in zip(names, folders, strict=True) if folder not in classes]:
        raise ValueError(f"the folders must be {top}{', '.join(classes)}. Received: {stray[0]}")
    if missing := sorted(set(classes) - set(folders)):
        raise ValueError(f"{top}{missing[0]} must hold {suffixes[0]} files. Received: {archive.path} without")
    return names, np.array([classes.index(folder) for folder in folders], np.int32)


def read_labels(archive: Archive, classes: int) -> tuple[list[str], np.ndarray]:
    """Return the files of ``y_labels.csv`` (``file,classes,label``) and their labels, int32 ``(files,)``."""
    rows = [[cell.strip() for cell in line.split(",")] for line in archive.read_lines("y_labels.csv")]
    labels = [str(label) for label in range(classes)]
    if wrong := [row for row in rows if len(row) != 3 or row[1] != str(classes) or row[2] not in labels]:
        form = f"file,{classes},label with a label below {classes}"
        raise ValueError(f"y_labels.csv must have rows {form}. Received: {wrong[0]} in {archive.path}")
    return [row[0] for row in rows], np.array([int(row[2]) for row in rows], np.int32)


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the named arrays of a ``.npz`` file; pickled objects are refused."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except (KeyError, ValueError, *READ_ERRORS) as error:
        raise ValueError(f"a .npz must hold {' and '.join(keys)}. Received: {path} ({error})") from error


def decode_images(archive: Archive, names: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """Return JPEG files of one ``(height, width)`` as uint8 ``(files, height, width, 3)``, in their order."""
    images = np.empty((len(names), *shape, 3), np.uint8)

    def decode(start: int) -> int:
        task = names[start : start + _FILES_PER_TASK]
        for index, name in enumerate(task, start):
            images[index] = _decode_image(archive.read(name), name, images.shape[1:])
        return len(task)

    with ThreadPoolExecutor() as pool, progress_line("Decoding pictures", len(names)) as line:
        for files in pool.map(decode, range(0, len(names), _FILES_PER_TASK)):
            line.advance(files)
    return images


def _decode_image(data: bytes, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    try:
        image = tf.io.decode_jpeg(data, channels=shape[-1], dct_method="INTEGER_ACCURATE").numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"{name} must be a complete JPEG. Received: {len(data)} bytes that are none") from error
    if image.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}. Received: {image.shape}")
    return image


def mixed_order(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a random order of samples in which every stretch has the classes in proportion.

    Sample r of the n of its class, in random order, goes to place (r + u) / n with u random in [0, 1):
    the first samples of a split are a fair small split.
    """
    rng, place = np.random.default_rng(seed), np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.argsort(place, kind="stable")


def validation_indices(
    labels: np.ndarray, groups: np.ndarray | None = None, fraction: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return train and validation indices, each in mixed order; the same seed gives the same ones.

    Both parts get the classes, ``labels`` of ``(samples,)``, in the same proportions. Samples of one group
    (crops of one photo) stay on one side; validation gets at most ``fraction`` of the samples.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = mixed_order(labels[first], seed)
    samples_up_to = np.cumsum(np.bincount(group)[order])
    count = np.searchsorted(samples_up_to, round(fraction * len(labels)), side="right")
    held_out = np.isin(group, order[: max(count, 1)])
    train, validation = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return train[mixed_order(labels[train], seed)], validation[mixed_order(labels[validation], seed)]


def split_validation(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None, fraction: float = 0.1, seed: int = 0
) -> tuple[Split, Split]:
    """Return the train and validation splits of ``validation_indices(y, groups, fraction, seed)``."""
    train, validation = validation_indices(y, groups, fraction, seed)
    return Split(x[train], y[train]), Split(x[validation], y[validation])
