"""Files of arrays from strangers: what they declare is checked before memory is taken."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import every_operation, pack, unpacked
from refusals import complaint, refusal

from po2quant.integer import archive
from po2quant.integer.archive import MAX_ARRAYS, MAX_INTEGERS, MAX_JSON_BYTES
from po2quant.integer.program import Program


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "program.npz"


def write_members(path: Path, members: dict[str, bytes], **options: Any) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    """Return an array as a file, which may declare another shape."""
    head = np.lib.format.header_data_from_array_1_0(array)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, head | {"shape": shape or array.shape})
    return stream.getvalue() + array.tobytes()


JSON = npy(np.frombuffer(b"{}", np.uint8))
BOMBS: dict[str, Callable[[], dict[str, bytes]]] = {
    "an array that declares gigabytes": lambda: {"json.npy": JSON, "a.npy": npy(np.zeros(1, np.int8), (10**15,))},
    "an array of too many integers": lambda: {"json.npy": JSON, "a.npy": npy(np.zeros(1, np.int8), (10**30,))},
    "a shape of negative sizes": lambda: {"json.npy": JSON, "a.npy": npy(np.zeros(1, np.int8), (-1, -1))},
    "arrays that unpack to more than they may": lambda: {
        "json.npy": JSON,
        "a.npy": npy(np.zeros(MAX_INTEGERS + 1, np.int8)),
    },
    "text that unpacks to more than it may": lambda: {"json.npy": npy(np.full(MAX_JSON_BYTES + 1, 32, np.uint8))},
    "lists within lists": lambda: {"json.npy": npy(np.frombuffer(b"[" * 100_000 + b"]" * 100_000, np.uint8))},
    "a head that never ends": lambda: {
        "json.npy": JSON,
        "a.npy": b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f" + b" " * 10**6,
    },
    "a broken head": lambda: {"json.npy": JSON, "a.npy": b"\x93NUMPY\x01\x00\x18\x00{'descr': '<f4', (      "},
    "an object array": lambda: {"json.npy": JSON, "a.npy": npy(np.zeros(1, np.int64)).replace(b"<i8", b"|O8")},
    "no array": lambda: {"json.npy": JSON, "a.npy": b"GIF89a"},
    "too many arrays": lambda: (
        {"json.npy": JSON} | {f"{i}.npy": npy(np.zeros(1, np.int8)) for i in range(MAX_ARRAYS + 1)}
    ),
    "no text": lambda: {"a.npy": npy(np.zeros(1, np.int8))},
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_sizes_are_checked_before_memory_is_taken(bomb, path, monkeypatch):
    """No array is read whose declared size is not right and within bounds."""

    def no_array(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("an array was read")

    if bomb != "lists within lists":
        monkeypatch.setattr(np.lib.format, "read_array", no_array)
    write_members(path, BOMBS[bomb]())
    assert refusal(Program.load, path).startswith(f"{path} is not an integer program: ")


def test_other_compressions_and_encrypted_members_are_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("json.npy", JSON)
    assert "deflated" in refusal(Program.load, path)
    write_members(path, {"json.npy": JSON})
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    refusal(Program.load, path)


def test_members_of_one_name_are_refused(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of it
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("json.npy", JSON)
            archive.writestr("json.npy", JSON)
    assert "different names" in refusal(Program.load, path)


def test_an_array_belongs_to_one_field(path):
    """Else a small file would name one large array thousands of times."""
    every_operation().save(path)
    head, arrays = unpacked(path)
    operation = head["program"]["operations"][1]
    operation["kernel"]["exponents"] = operation["bias"]["exponents"]
    pack(path, head, arrays)
    assert "belong to one field" in refusal(Program.load, path)


def test_an_array_that_no_field_reads_is_refused(path):
    every_operation().save(path)
    head, arrays = unpacked(path)
    pack(path, head, arrays | {"extra": np.zeros(3, np.int8)})
    assert "extra" in refusal(Program.load, path)


@pytest.mark.parametrize("version", [True, 1.0, "1", None, 2])
def test_a_version_is_the_integer_one(version, path):
    every_operation().save(path)
    head, arrays = unpacked(path)
    head["version"] = version
    pack(path, head, arrays)
    assert "version" in refusal(Program.load, path)


def test_what_could_not_be_read_is_not_written(path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_INTEGERS", 100)
    assert "integers in all" in complaint(every_operation().save, path)
    assert not path.exists()
