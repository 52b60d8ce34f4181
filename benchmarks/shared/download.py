"""Official data sets: downloaded over https with resume, each file against its published size and digest."""

from __future__ import annotations

import contextlib
import hashlib
import http
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from po2quant.files import one_line, replaced_whole
from po2quant.progress import progress_line

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A file that a publisher offers.

    Args:
        url: where it is: https, or a place on this machine.
        name: of the file in the data folder.
        size_bytes: as the publisher states it; not one byte more is taken.
        digest: ``"sha256:<hex>"`` as the publisher or other projects state it. Where nobody states one,
            ``"md5:<hex>"``: it tells damage, not a forgery, so that the SHA-256 of the first download is kept in
            ``<name>.sha256`` beside the file, and every later one must have the same.

    Raises:
        ValueError: where the URL is not safe, or size and digest are none.
    """

    url: str
    name: str
    size_bytes: int
    digest: str

    def __post_init__(self) -> None:
        _check_safe(self.url)
        if type(self.size_bytes) is not int or self.size_bytes <= 0:
            raise ValueError(f"size_bytes of {self.name} must be a positive integer. Received: {self.size_bytes!r}")
        if not isinstance(self.digest, str) or not _DIGEST.fullmatch(self.digest):
            raise ValueError(f"digest of {self.name} must be sha256:<hex> or md5:<hex>. Received: {self.digest!r}")


def _check_safe(url: str) -> None:
    """Refuse a URL whose content others could change on the way: all but https and places on this machine."""
    parts = urllib.parse.urlsplit(url)
    is_here = parts.scheme == "file" or (parts.scheme == "http" and parts.hostname in _THIS_MACHINE)
    if parts.scheme != "https" and not is_here:
        raise ValueError(f"a download must be https. Received: {one_line(url)}")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where it is as safe as the URL itself."""

    def redirect_request(self, req: urllib.request.Request, *response: Any) -> urllib.request.Request | None:
        new_url = response[-1]
        _check_safe(new_url)
        if req.type == "https" and urllib.parse.urlsplit(new_url).scheme != "https":
            raise ValueError(f"a download must be https. Received: a redirect to {one_line(new_url)}")
        return super().redirect_request(req, *response)


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
        raise ValueError(
            f"{folder} must be writable and have room for {source.name}. Received: {one_line(error)}"
        ) from error
    return target


def _fault(path: Path, source: Source) -> str | None:
    """Say what is wrong with a file, or None; the SHA-256 of a first download that has an MD5 alone is kept."""
    if path.stat().st_size != source.size_bytes:
        return f"must have {source.size_bytes} bytes. Received: {path.stat().st_size}"
    algorithm, _, expected = source.digest.lower().partition(":")
    if (digest := _digest(path, algorithm)) != expected:
        return f"must have the {algorithm} {expected}. Received: {digest}"
    return None if algorithm == "sha256" else _fault_since_first_download(path, source)


def _fault_since_first_download(path: Path, source: Source) -> str | None:
    digest, record = _digest(path, "sha256"), path.with_name(f"{source.name}.sha256")
    if not record.exists():
        with replaced_whole(record) as temporary:
            temporary.write_text(f"{digest}  {source.name}\n", encoding="ascii")
    with open(record, "rb") as file:
        first = file.read(64).decode("ascii", errors="replace")
    return None if digest == first else f"must have the sha256 in {record}, {one_line(first)}. Received: {digest}"


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


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
        length = response.headers.get("Content-Length", "")
        if re.fullmatch(r"\d{1,18}", length) and start + int(length) != source.size_bytes:
            raise ValueError(f"{source.url} must have {source.size_bytes} bytes. Received: {start + int(length)}")
        received = _write(response, part, start, source)
    if received < source.size_bytes:
        raise _InterruptedError(f"{received} of {source.size_bytes} bytes")


@contextlib.contextmanager
def _opened(source: Source, start: int) -> Iterator[http.client.HTTPResponse | None]:
    """Open the URL from a byte on; None where the server has nothing from there."""
    headers = {"User-Agent": "po2quant", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start else {}
    try:
        request = urllib.request.Request(source.url, headers=headers)
        response = urllib.request.build_opener(_SafeRedirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if start == 0 or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _InterruptedError(one_line(error)) from error
        yield None
        return
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(one_line(error)) from error
    with response:
        yield response


def _write(response: http.client.HTTPResponse, part: Path, start: int, source: Source) -> int:
    """Write the response from byte ``start`` on, up to the size of the source; return the size of the file.

    Raises:
        ValueError: where the response goes on after that.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file, progress_line(f"{part.stem}, MiB", source.size_bytes >> 20) as line:
        file.truncate(start)
        while True:
            line.update(completed=file.tell() >> 20)
            try:
                chunk = response.read(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _InterruptedError(one_line(error)) from error
            if not chunk:
                return file.tell()
            if file.tell() + len(chunk) > source.size_bytes:
                raise ValueError(f"{source.url} must have {source.size_bytes} bytes. Received: more")
            file.write(chunk)
