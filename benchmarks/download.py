"""Official data sets: downloaded with resume, checked, and extracted whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import http
import http.client
import os
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from benchmarks.base import READ_ERRORS, check_member
from po2quant.training.progress import progress_line

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30
_ZIP_STARTS = (b"PK\3\4", b"PK\5\6")  # of a zip file and of an empty one


@dataclass(frozen=True)
class Source:
    """A file that a publisher offers.

    Args:
        url: where it is.
        name: of the file in the data folder.
        size_bytes: as the publisher states it, or None.
        digest: ``"sha256:<hex>"`` or ``"md5:<hex>"`` as the publisher states it, or None.
    """

    url: str
    name: str
    size_bytes: int | None = None
    digest: str | None = None


class _InterruptedError(Exception):
    """The connection failed or ended early."""


def fetch(source: Source, folder: Path) -> Path:
    """Return ``folder/name``: kept where it is complete and right, otherwise downloaded.

    An interrupted download stays as ``name.part``, and the next one goes on from there. The file takes its
    name only once its size and digest are right.

    Raises:
        ValueError: where the URL cannot be reached, the file is not the expected one, or has no room.
    """
    target, part = folder / source.name, folder / f"{source.name}.part"
    try:
        if target.is_file() and not _fault(target, source):
            return target
        _download(source, part)
        if fault := _fault(part, source):
            part.unlink()
            raise ValueError(f"{source.name} from {source.url} {fault}, so it was removed; try again")
        os.replace(part, target)
    except OSError as error:
        raise ValueError(f"{folder} must be writable and have room for {source.name}. Received: {error}") from error
    return target


def _fault(path: Path, source: Source) -> str | None:
    """Say what is wrong with a file, or None."""
    if source.size_bytes not in (None, path.stat().st_size):
        return f"must have {source.size_bytes} bytes. Received: {path.stat().st_size}"
    if source.digest is None:
        return None
    algorithm, _, expected = source.digest.partition(":")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    return None if digest == expected.lower() else f"must have the {algorithm} {expected}. Received: {digest}"


def _download(source: Source, part: Path) -> None:
    """Complete the part file; after an interruption, go on as long as that brings more of the file."""
    size_bytes = _size_bytes(part)
    while True:
        try:
            return _receive(source, part)
        except _InterruptedError as error:
            earlier_bytes, size_bytes = size_bytes, _size_bytes(part)
            if size_bytes <= earlier_bytes:
                raise ValueError(
                    f"{source.name} must be reachable at {source.url}, or be given with --data-dir. Received: {error}"
                ) from error


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(source: Source, part: Path) -> None:
    """Append the missing bytes to the part file, or all bytes to an empty one where the server has no ranges."""
    start = _size_bytes(part)
    if start and start == source.size_bytes:
        return
    with _opened(source, start) as response:
        if response is None:  # nothing follows the part file, or it does not belong to this file
            part.unlink()
            return _receive(source, part)
        start = start if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length")
        total_bytes = source.size_bytes if length is None else start + int(length)
        if source.size_bytes not in (None, total_bytes):
            raise ValueError(f"{source.url} must have {source.size_bytes} bytes. Received: {total_bytes}")
        received = _write(response, part, start, total_bytes)
    if total_bytes not in (None, received):
        raise _InterruptedError(f"{received} of {total_bytes} bytes")


@contextlib.contextmanager
def _opened(source: Source, start: int) -> Iterator[http.client.HTTPResponse | None]:
    """Open the URL from a byte on; None where the server has nothing from there."""
    headers = {"User-Agent": "po2quant", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(source.url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if start == 0 or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _InterruptedError(str(error)) from error
        yield None
        return
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(str(error)) from error
    with response:
        yield response


def _write(response: http.client.HTTPResponse, part: Path, start: int, total_bytes: int | None) -> int:
    """Write the response from byte ``start`` on; return the size of the file."""
    total_mib = None if total_bytes is None else total_bytes >> 20
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file, progress_line(f"{part.stem}, MiB", total_mib) as line:
        file.truncate(start)
        while True:
            line.update(completed=file.tell() >> 20)
            try:
                chunk = response.read(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _InterruptedError(str(error)) from error
            if not chunk:
                return file.tell()
            file.write(chunk)


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
        raise ValueError(f"{folder} must be writable and have room for {archive.name}. Received: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def members(archive: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Give name and content, in chunks to be read at once, of each file of a zip or tar file, in order.

    Raises:
        ValueError: where the archive is damaged, truncated or empty, or holds anything but inner plain files.
    """
    count = 0
    try:
        with open(archive, "rb") as raw, progress_line(archive.name, os.path.getsize(archive) >> 20) as line:
            for name, file in (_zip_files if raw.read(4) in _ZIP_STARTS else _tar_files)(raw, archive):
                line.update(completed=raw.tell() >> 20)
                yield name, _chunks(file, archive)
                count += 1
    except READ_ERRORS as error:
        raise _damaged(archive, error) from error
    if count == 0:
        raise ValueError(f"an archive must hold files. Received: {archive}, which is empty")


def _chunks(file: BinaryIO, archive: Path) -> Iterator[bytes]:
    try:
        with file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except READ_ERRORS as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0].rstrip(":")
    return ValueError(f"an archive must be a complete zip or tar file. Received: {archive} ({reason})")


def _zip_files(raw: BinaryIO, archive: Path) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(raw) as file:
        for info in file.infolist():
            check_member(info.filename, archive, is_link=stat.S_ISLNK(info.external_attr >> 16))
            if not info.is_dir():
                yield info.filename, file.open(info)


def _tar_files(raw: BinaryIO, archive: Path) -> Iterator[tuple[str, BinaryIO]]:
    raw.seek(0)
    with tarfile.open(fileobj=raw, mode="r:*") as file:
        for info in file:
            check_member(info.name, archive, is_link=not (info.isreg() or info.isdir()))
            if info.isreg():
                yield info.name, file.extractfile(info)
            file.members = []  # the list would grow by every file
        file.fileobj.seek(file.offset)
        if file.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end mark")
        while file.fileobj.read(CHUNK_BYTES):
            pass  # at its end a compressed file is checked
