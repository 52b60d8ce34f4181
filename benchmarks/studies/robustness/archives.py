"""Wrong archives made of right ones: npz, zip and tar files, and pickles."""

from __future__ import annotations

import functools
import gzip
import io
import pickle
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from benchmarks.studies.robustness.text import mutated_bytes, mutated_json
from benchmarks.studies.robustness.values import CANARY, TEXTS

BOMB_BYTES = 3 * 2**30
"""What a small file unpacks to."""

BOMBS = 0.03
"""Share of the bombs that are made, which takes a second each, among those that could be."""

MOST_UNPACKED_BYTES = 2**26
"""What is unpacked to be changed, at most."""

_NAMES = (*TEXTS[4:7], f"../{CANARY}", f"/tmp/{CANARY}", f"a/../../{CANARY}", f"C:\\{CANARY}", "x" * 70_000)
_HEADERS = (
    "{'descr': '<f4', (",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000000000000000000000,), }",
    "{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': [('a', '<i4'), ('b', '|O')], 'fortran_order': False, 'shape': (2,), }",
    f"__import__('os').system('touch {CANARY}')",
    "(" * 400 + ")" * 400,
)
Files = dict[str, bytes]


def read_zip(content: bytes) -> Files:
    """Return the members of a zip file, unless they are too large."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(info.file_size for info in archive.infolist()) > MOST_UNPACKED_BYTES:
            raise ValueError("a bomb")
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(files: Files, method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of members, always of the same bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return content.getvalue()


@functools.cache
def _zero_stream(beginning: bytes = b"") -> tuple[bytes, int]:
    """Return a few megabytes that inflate to a beginning and gigabytes of zeros, and the CRC-32 of those."""
    block, count = bytes(2**24), BOMB_BYTES // 2**24
    pack, check = zlib.compressobj(1, wbits=-zlib.MAX_WBITS), zlib.crc32(beginning)
    start = pack.compress(beginning) + pack.flush(zlib.Z_FULL_FLUSH)
    again = pack.compress(block) + pack.flush(zlib.Z_FULL_FLUSH)
    for _ in range(count):
        check = zlib.crc32(block, check)
    return start + again * count + pack.flush(), check


def zip_bomb(name: str, beginning: bytes = b"") -> bytes:
    """Return a zip file of few megabytes whose one member has gigabytes."""
    packed, check = _zero_stream(beginning)
    size, encoded = len(beginning) + BOMB_BYTES, name.encode()
    sizes = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, check, len(packed), size, len(encoded), 0)
    local = b"PK\x03\x04" + sizes + encoded + packed
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + sizes + struct.pack("<HHHII", 0, 0, 0, 0, 0) + encoded
    return local + entry + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)


def gzip_bomb(beginning: bytes) -> bytes:
    """Return a gzip file of few megabytes that begins so and goes on with gigabytes of zeros."""
    packed, check = _zero_stream(beginning)
    end = struct.pack("<II", check, (len(beginning) + BOMB_BYTES) % 2**32)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + packed + end


def mutated_zip(rng: random.Random, content: bytes, inner: Callable[[random.Random, str, bytes], bytes]) -> bytes:
    """Change a member of a zip file: its content, name, kind, declared size, or that there is one."""
    files = read_zip(content)
    name = rng.choice(list(files))
    what = rng.choice(
        ("content",) * 12 + ("name", "drop", "add", "twice", "link", "size", "flag", "method", "lzma", "bomb")
    )
    match what:
        case "content":
            files[name] = inner(rng, name, files[name])
        case "name":
            files = {rng.choice(_NAMES)[:60_000] if key == name else key: data for key, data in files.items()}
        case "drop":
            del files[name]
        case "add":
            files[rng.choice(_NAMES)[:60_000]] = b"x"
        case "lzma":
            return mutated_bytes(rng, write_zip(files, zipfile.ZIP_LZMA))
        case "bomb":
            return zip_bomb(name, files[name][:128]) if rng.random() < BOMBS else write_zip(files)
    packed = write_zip(files) if files else write_zip({"empty": b""})
    match what:
        case "twice":
            return _with_member(packed, name, b"other", 0)
        case "link":
            return _with_member(packed, "link.wav", b"/etc/passwd", stat.S_IFLNK | 0o777)
        case "size":
            return _with_central(packed, rng, 20, 8)
        case "flag":
            return _with_central(packed, rng, 8, 2)
        case "method":
            return _with_central(packed, rng, 10, 2)
    return packed


def _with_member(packed: bytes, name: str, data: bytes, mode: int) -> bytes:
    content = io.BytesIO(packed)
    with zipfile.ZipFile(content, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        if name in archive.NameToInfo:
            del archive.NameToInfo[name]  # or Python warns
        archive.writestr(info, data)
    return content.getvalue()


def _with_central(packed: bytes, rng: random.Random, offset: int, size: int) -> bytes:
    """Change a field of a member's entry in the directory at the end, and of the header before its data."""
    changed = bytearray(packed)
    entries = [at for at in range(len(packed) - 4) if packed[at : at + 4] == b"PK\x01\x02"]
    at = rng.choice(entries)
    field = rng.choice((b"\x01", b"\xff", b"\x63", b"\x7f")) + rng.choice((b"\x00", b"\xff")) * (size - 1)
    changed[at + offset : at + offset + size] = field
    local = struct.unpack_from("<I", packed, at + 42)[0]
    changed[local + offset - 2 : local + offset - 2 + size] = field
    return bytes(changed)


def npy(array: np.ndarray) -> bytes:
    """Return an array as a ``.npy`` file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def mutated_npy(rng: random.Random, content: bytes) -> bytes:
    """Change the type, shape, values or header of an array, or JSON that its bytes are."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype == np.uint8 and bytes(array[:1]) == b"{" and rng.random() < 0.9:
        return npy(np.frombuffer(mutated_json(rng, array.tobytes()), np.uint8))
    match rng.choice(("type", "shape", "values", "header", "bytes", "pickle")):
        case "type":
            kind = rng.choice(("f4", "f8", "c16", "i1", "u8", "?", "U5", "S3", "M8[s]", "f2", ">i4"))
            return npy(np.zeros(array.shape, kind))
        case "shape":
            shape = rng.choice(
                ((), (0,), (1,), (2, 2), (*array.shape, 1), (1, *array.shape), array.shape[::-1], (0, 3))
            )
            return npy(np.zeros(shape, array.dtype))
        case "values" if array.dtype.kind in "iuf" and array.size:
            info = np.finfo(array.dtype) if array.dtype.kind == "f" else np.iinfo(array.dtype)
            extremes = [info.min, info.max, 0, 1] + [np.nan, np.inf] * (array.dtype.kind == "f")
            changed = array.copy()
            changed.flat[rng.randrange(array.size)] = rng.choice(extremes)
            if rng.random() < 0.3:
                changed = changed.astype(np.int64) if array.dtype.kind in "iu" else changed
                changed.fill(rng.choice((2**62, -(2**63), 2**31)) if array.dtype.kind in "iu" else rng.choice(extremes))
            return npy(changed)
        case "header":
            header = rng.choice(_HEADERS).encode()
            return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)
        case "pickle":
            return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(_HEADERS[4])) + _HEADERS[4].encode() + evil_pickle()
    return mutated_bytes(rng, content)


def mutated_npz(rng: random.Random, content: bytes) -> bytes:
    """Change an array of a ``.npz`` file, or the zip file that it is."""
    return mutated_zip(rng, content, lambda rng, name, data: mutated_npy(rng, data))


class _Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        import os

        return os.system, (f"touch {CANARY}",)


def evil_pickle() -> bytes:
    """Return a pickle that runs a command where it is read as pickles are."""
    return pickle.dumps({"data": _Evil(), "labels": [0]}, protocol=2)


def mutated_pickle(rng: random.Random, content: bytes) -> bytes:
    """Change a pickle: its bytes, what it names, or how deep it is."""
    match rng.randrange(6):
        case 0:
            return evil_pickle()
        case 1:
            return b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
        case 2:
            return b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"."
        case 3:
            return b"(lp0\n" + b"(lp1\nI1\na" * 1000 + b"."
        case 4:
            return b"\x80\x02]q\x00" + b"(h\x00h\x00h\x00h\x00e" * 40 + b"."
    return mutated_bytes(rng, content)


def write_tar(files: Files, mode: str = "w:gz") -> bytes:
    """Return a tar file of members."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def mutated_tar(rng: random.Random, content: bytes, inner: Callable[[random.Random, str, bytes], bytes]) -> bytes:
    """Change a member of a tar file: its content, name, kind or size, or what follows it."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {info.name: archive.extractfile(info).read() for info in archive if info.isfile()}
    name = rng.choice(list(files))
    what = rng.choice(("content",) * 4 + ("name", "drop", "kind", "size", "bytes", "twice", "xz", "bomb"))
    match what:
        case "content":
            files[name] = inner(rng, name, files[name])
        case "name":
            files = {rng.choice(_NAMES)[:300] if key == name else key: data for key, data in files.items()}
        case "drop":
            del files[name]
        case "xz":
            return mutated_bytes(rng, write_tar(files, "w:xz"))
        case "bytes":
            return mutated_bytes(rng, gzip.compress(mutated_bytes(rng, gzip.decompress(content)), 1, mtime=0))
        case "bomb" if rng.random() < BOMBS:
            return gzip_bomb(_tar_header(name, BOMB_BYTES))
        case "kind":
            kind = rng.choice(
                (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, b"S")
            )
            return gzip.compress(_tar_header(name, 0, kind, "/etc/passwd") + bytes(1024), 1, mtime=0)
        case "size":
            size = rng.choice((1, 2**33, 2**62, 10**9))
            return gzip.compress(_tar_header(name, size) + files[name] + bytes(1024), 1, mtime=0)
    packed = write_tar(files) if files else write_tar({"empty": b""})
    return (
        gzip.compress(gzip.decompress(packed)[:-1024] + gzip.decompress(packed), 1, mtime=0)
        if what == "twice"
        else packed
    )


def _tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)
