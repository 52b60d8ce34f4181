"""Folders, zip and tar files of data sets, read in place; what they declare is checked before it is read."""

from __future__ import annotations

import bz2
import functools
import gzip
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from po2quant.archives import check_member_count
from po2quant.data.budgets import ARCHIVE_BYTES, MEMBER_BYTES, MEMBERS, NAME_CHARACTERS, TEXT_BYTES, check_at_most
from po2quant.files import one_line
from po2quant.progress import progress_line

CHUNK_BYTES = 1 << 20
LARGEST_READ_BYTES = 2 * CHUNK_BYTES
"""At once, from a tar file: more than a chunk can only be a header that pretends to be long."""
_ZIP_STARTS = (b"PK\3\4", b"PK\5\6")  # of a zip file and of an empty one
_TAR_COMPRESSIONS: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may take any memory for a few bytes
_ENCRYPTED = 0x1
_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)")
_Item = TypeVar("_Item")


class _Member(NamedTuple):
    """A file of an archive, and how to open it."""

    name: str
    size_bytes: int
    fault: str | None
    open: Callable[[], IO[bytes]]


class Archive:
    """A folder or a zip file, read in place: nothing is extracted, and links are refused.

    ``names`` has a key for each file inside, sorted, with ``/`` between folders; hidden files are left out.
    """

    def __init__(self, path: Path, member_bytes: int = MEMBER_BYTES) -> None:
        """List the files of an existing folder or ``.zip`` file, of which none may be larger than ``member_bytes``."""
        self.path, self.member_bytes = path, member_bytes
        try:
            self._zip = None if path.is_dir() else _opened_zip(path, path)
        except Exception as error:  # a damaged file may raise any
            raise ValueError(f"an archive must be a complete zip file. Received: {path} ({_reason(error)})") from error
        names = _folder_files(path) if self._zip is None else _zip_files(path, self._zip, member_bytes)
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

    def read(self, name: str, limit_bytes: int | None = None) -> bytes:
        """Return the bytes of one of the ``names``, of which there may be a limit below that of the archive."""
        if name not in self.names:
            raise ValueError(f"the archive must hold {one_line(name)}. Received: {self.path} without it")
        try:
            size_bytes = self._zip.getinfo(name).file_size if self._zip else (self.path / name).stat().st_size
        except OSError as error:
            raise self._unreadable(name, error) from error
        check_at_most(f"{one_line(name)} of {self.path}", "bytes", size_bytes, limit_bytes or self.member_bytes)
        try:
            with self._zip.open(name) if self._zip else open(self.path / name, "rb") as file:
                return file.read(size_bytes)
        except Exception as error:  # a damaged file may raise any
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> ValueError:
        return ValueError(f"{one_line(name)} must be readable. Received: {self.path}, damaged ({_reason(error)})")

    def read_lines(self, name: str) -> list[str]:
        """Return the lines of a text file that are not blank."""
        text = self.read(name, TEXT_BYTES).decode("utf-8-sig", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def read_member_list(self, name: str) -> frozenset[str]:
        """Return the files that a text file lists, one a line; each must be in the archive."""
        members = frozenset(self.read_lines(name))
        if missing := sorted(members - self.names.keys()):
            raise ValueError(f"{name} must list files of {self.path}. Received: {one_line(missing[0])}, not there")
        return members


class _Inventory:
    """The files of an archive so far; what does not belong there is refused before anything of it is read."""

    def __init__(self, path: Path, limit_bytes: int, member_bytes: int = MEMBER_BYTES) -> None:
        self.path, self.limit_bytes, self.member_bytes = path, limit_bytes, member_bytes
        self.names: set[str] = set()
        self.total_bytes = 0

    def add(self, member: _Member) -> None:
        """Count a file, or refuse it: a name that leads out or appears twice, no plain file, too large a size."""
        check_name(member.name, self.path)
        if member.fault:
            received = f"{member.name} in {self.path}, which is {member.fault}"
            raise ValueError(f"an archive must hold only plain inner files. Received: {received}")
        if (name := str(PurePosixPath(member.name))) in self.names:
            raise ValueError(f"an archive must hold each file once. Received: {name} twice in {self.path}")
        self.names.add(name)
        self.total_bytes += member.size_bytes
        check_at_most(str(self.path), "files", len(self.names), MEMBERS)
        check_at_most(f"{name} of {self.path}", "bytes", member.size_bytes, self.member_bytes)
        check_at_most(f"{self.path}, unpacked,", "bytes", self.total_bytes, self.limit_bytes)


def check_name(name: str, archive: Path) -> None:
    """Refuse the name of a file in an archive that leads out of it, or that no data set has."""
    inner = PurePosixPath(name)
    leaves = inner.is_absolute() or ".." in inner.parts or PureWindowsPath(name).drive or "\\" in name
    if leaves or not inner.name or not name.isprintable() or len(name) > NAME_CHARACTERS:
        raise ValueError(f"an archive must hold only inner files. Received: {one_line(name)} in {archive}")


def _folder_files(path: Path) -> list[str]:
    names = []
    for member in path.rglob("*"):
        if member.is_symlink():
            raise ValueError(f"a data folder must hold no links. Received: {one_line(member)}")
        if member.is_file():
            names.append(member.relative_to(path).as_posix())
            check_at_most(str(path), "files", len(names), MEMBERS)
    return names


def _zip_files(path: Path, file: zipfile.ZipFile, member_bytes: int) -> list[str]:
    inventory = _Inventory(path, ARCHIVE_BYTES, member_bytes)
    names = []
    for member in _guarded(_zip_members(file), path):
        inventory.add(member)
        names.append(member.name)
    return names


def _opened_zip(file: Path | BinaryIO, path: Path) -> zipfile.ZipFile:
    check_member_count(path, MEMBERS)
    return zipfile.ZipFile(file)


def _zip_members(file: zipfile.ZipFile) -> Iterator[_Member]:
    for info in file.infolist():
        if not info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
            yield _Member(info.filename, info.file_size, _zip_fault(info), functools.partial(file.open, info))


def _zip_fault(info: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    if info.compress_type not in _ZIP_METHODS:
        return f"compressed by method {info.compress_type}, neither stored nor deflated"
    return None


def existing_path(data_dir: Path | None, task: str, forms: str) -> Path:
    """Return ``data_dir`` if it is a file or folder; otherwise raise a ValueError that names the accepted ``forms``."""
    if data_dir is not None and (os.path.isfile(data_dir) or os.path.isdir(data_dir)):
        return Path(data_dir)
    received = "None"
    if data_dir is not None:
        fault = "is neither a file nor a folder" if os.path.exists(data_dir) else "does not exist"
        received = f"{one_line(data_dir)}, which {fault}"
    raise ValueError(f"data_dir of {task} must have {forms}. Received: {received}")


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
    raise ValueError(f"data_dir of {task} must have {forms}. Received: {path}, which is none of them")


def members_by_class(
    archive: Archive, classes: Sequence[str], suffixes: tuple[str, ...], top: str = ""
) -> tuple[list[str], np.ndarray]:
    """Return the sorted files ``<top><class>/<file>`` and their class indices, int32 ``(files,)``."""
    names = [name for name in archive.names if name.startswith(top) and name.lower().endswith(suffixes)]
    folders = [name[len(top) :].rpartition("/")[0] for name in names]
    if stray := [name for name, folder in zip(names, folders, strict=True) if folder not in classes]:
        raise ValueError(f"the folders must be {top}{', '.join(classes)}. Received: {one_line(stray[0])}")
    if missing := sorted(set(classes) - set(folders)):
        raise ValueError(f"{top}{missing[0]} must hold {suffixes[0]} files. Received: {archive.path} without")
    return names, np.array([classes.index(folder) for folder in folders], np.int32)


def read_labels(archive: Archive, classes: int) -> tuple[list[str], np.ndarray]:
    """Return the files of ``y_labels.csv`` (``file,classes,label``) and their labels, int32 ``(files,)``."""
    rows = [[cell.strip() for cell in line.split(",")] for line in archive.read_lines("y_labels.csv")]
    labels = [str(label) for label in range(classes)]
    if wrong := [row for row in rows if len(row) != 3 or row[1] != str(classes) or row[2] not in labels]:
        form = f"file,{classes},label with a label below {classes}"
        raise ValueError(f"y_labels.csv must have rows {form}. Received: {one_line(wrong[0])} in {archive.path}")
    names = [row[0] for row in rows]
    check_unique(names, "a file of y_labels.csv", archive.path)
    if missing := [name for name in names if name not in archive.names]:
        raise ValueError(f"the archive must hold {one_line(missing[0])}. Received: {archive.path} without it")
    return names, np.array([int(row[2]) for row in rows], np.int32)


def check_unique(names: Sequence[str], subject: str, source: Path) -> None:
    """Refuse names of which one appears twice."""
    if len(set(names)) < len(names):
        (twice, _), *_ = Counter(names).most_common(1)
        raise ValueError(f"{subject} must appear once. Received: {one_line(twice)} twice in {source}")


def extract(archive: Path, folder: Path) -> None:
    """Extract a zip or tar file into a new folder, whole or not at all.

    Only plain files are written; links, devices, absolute names and ``..`` are refused.

    Args:
        archive: ``.zip``, ``.tar``, ``.tar.gz`` or ``.tar.bz2``.
        folder: must not exist, or be empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"the folder to extract {archive.name} into must be new or empty. Received: {folder}")
    partial = folder.with_name(f"partial-{folder.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, chunks in members(archive):
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                file.writelines(chunks)
        os.replace(partial, folder)
    except OSError as error:
        raise ValueError(
            f"{folder} must be writable and have room for {archive.name}. Received: {_reason(error)}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def members(archive: Path, limit_bytes: int = ARCHIVE_BYTES) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Give name and content, in chunks to be read at once, of each file of a zip or tar file, in order.

    Args:
        archive: ``.zip``, ``.tar``, ``.tar.gz`` or ``.tar.bz2``.
        limit_bytes: of all files together.

    Raises:
        ValueError: where the archive is damaged, truncated or empty, holds anything but inner plain files, holds one
            twice, or declares more than the limits of :mod:`po2quant.data.budgets`.
    """
    inventory = _Inventory(archive, limit_bytes)
    try:
        raw = open(archive, "rb")  # noqa: SIM115 (closed below; what opening raises is not what reading does)
    except OSError as error:
        raise _damaged(archive, error) from error
    with raw, progress_line(archive.name, os.path.getsize(archive) >> 20) as line:
        for member in _guarded(_opened_members(raw, 2 * limit_bytes + CHUNK_BYTES), archive):
            inventory.add(member)
            line.update(completed=raw.tell() >> 20)
            yield member.name, _guarded(_chunks(member), archive)
    if not inventory.names:
        raise ValueError(f"an archive must hold files. Received: {archive}, which is empty")


def _opened_members(raw: BinaryIO, limit_bytes: int) -> Iterator[_Member]:
    start = raw.read(4)
    raw.seek(0)
    if start in _ZIP_STARTS:
        with _opened_zip(raw, Path(raw.name)) as file:
            yield from _zip_members(file)
    else:
        yield from _tar_members(raw, _TAR_COMPRESSIONS.get(start[:2]), limit_bytes)


def _guarded(items: Iterator[_Item], archive: Path) -> Iterator[_Item]:
    """Give what an iterator gives; whatever damage makes it raise becomes one sentence."""
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except Exception as error:  # a damaged file may raise any
            raise _damaged(archive, error) from error
        yield item


def _chunks(member: _Member) -> Iterator[bytes]:
    with member.open() as file:
        yield from iter(functools.partial(file.read, CHUNK_BYTES), b"")


def _damaged(archive: Path, error: Exception) -> ValueError:
    return ValueError(f"an archive must be a complete zip or tar file. Received: {archive} ({_reason(error)})")


def _reason(error: Exception) -> str:
    return one_line(str(error).rstrip(":\n ") or type(error).__name__)


class _BoundedReads:
    """What a tar file reads from: no more at once than a chunk, and no more in all than the files may hold."""

    def __init__(self, file: BinaryIO, limit_bytes: int) -> None:
        self._file, self._limit_bytes = file, limit_bytes
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes."""
        if not 0 <= size <= LARGEST_READ_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        if self._file.tell() > self._limit_bytes:
            raise tarfile.ReadError(f"more than {self._limit_bytes:,} bytes")
        return self._file.read(size)


def _tar_members(raw: BinaryIO, compression: Callable[[BinaryIO], Any] | None, limit_bytes: int) -> Iterator[_Member]:
    source: Any = _BoundedReads(compression(raw) if compression else raw, limit_bytes)
    with tarfile.open(fileobj=source, mode="r:") as opened:
        file: Any = opened
        for info in opened:
            if not info.isdir():
                yield _Member(info.name, info.size, _tar_fault(info), functools.partial(file.extractfile, info))
            file.members = []  # the list would grow by every file
        source.seek(file.offset)
        if source.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end mark")
        while source.read(CHUNK_BYTES):
            pass  # at its end a compressed file is checked


def _tar_fault(info: tarfile.TarInfo) -> str | None:
    if info.isreg() and not info.issparse():
        return None if info.size >= 0 else f"a size of {info.size} bytes"
    return "a link, a device or a file with holes"
