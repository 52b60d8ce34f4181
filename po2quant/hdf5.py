"""HDF5 files as Keras writes them, read by Python alone.

HDF5's own library follows references to other files, unpacks small files to any size, and loops for ever on some
damaged ones. Weights need nothing of what makes that possible, but groups of the first kind, arrays of numbers that lie
in the file in one piece, and names. Everything else is refused.

Reference:
    The HDF5 Group, "HDF5 File Format Specification Version 3.0", sections II.A (superblock 0 and 1), III.A, B, D and E
    (trees, symbol tables and heaps) and IV.A (object headers of version 1).
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

LARGEST_OBJECTS = 50_000
"""Groups, arrays and names in a file, at most."""
LARGEST_HEADER = 2**20
"""Bytes of what describes one group or array, at most."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = 2**64 - 1
_SPACE, _TYPE, _LINK, _EXTERNAL, _LAYOUT, _ATTRIBUTE, _CONTINUATION, _SYMBOLS = 0x1, 0x3, 0x6, 0x7, 0x8, 0xC, 0x10, 0x11
_COMPACT, _CONTIGUOUS = 0, 1
_SOFT_LINK_ENTRY = 2
_OTHER_KINDS = (
    *("other integers", "other floats", "times", "text", "bits", "opaque data", "compounds or complex numbers"),
    *("references", "an enumeration", "lists or text of any length", "arrays"),
)
_INTEGER, _FLOAT, _TEXT, _ENUMERATION, _VARIABLE_LENGTH = 0, 1, 3, 8, 9
_FLOAT_LAYOUTS = {  # offset, precision, where exponent and mantissa are and their sizes, bias
    (0, 16, 10, 5, 0, 10, 15): 2,
    (0, 32, 23, 8, 0, 23, 127): 4,
    (0, 64, 52, 11, 0, 52, 1023): 8,
}
_NEWER = "it is HDF5 of another kind than Keras writes"


@dataclasses.dataclass(frozen=True)
class Group:
    """A group: addresses of its members by name, and its attributes as they are stored."""

    name: str
    members: dict[str, int]
    attributes: dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Array:
    """An array and where its bytes are."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    content: bytes | None
    address: int


class Hdf5File:
    """An open file.

    Args:
        file: open for reading.
        budget: bytes that may be read from it in all, those that are read again included.

    Raises:
        ValueError: where it is no such file. So does every method; bytes that contradict themselves may raise
            IndexError, KeyError or struct.error as well.
    """

    def __init__(self, file: BinaryIO, budget: int) -> None:
        self._file, self._budget, self._objects = file, budget, LARGEST_OBJECTS
        self._size = file.seek(0, 2)
        self._heaps: dict[int, dict[int, bytes]] = {}
        head = self._take(0, 56)
        version = head[8]
        if head[:8] != _SIGNATURE:
            raise ValueError("it is no HDF5 file")
        if version > 1 or head[13:15] != b"\x08\x08":
            raise ValueError(_NEWER)
        start = 24 + 4 * version
        base, _, end, _, _, root = struct.unpack("<6Q", self._take(start, 48))
        if base:
            raise ValueError(_NEWER)
        if end > self._size:
            raise ValueError(f"it is cut short: it has {self._size} of {end} bytes")
        opened = self._open("/", root)
        if not isinstance(opened, Group):
            raise ValueError("its root is no group")
        self.root = opened

    def open(self, group: Group, name: str) -> Group | Array:
        """Return a member of a group."""
        if name not in group.members:
            raise ValueError(f"{name!r} is not in {group.name!r}")
        return self._open(f"{group.name.rstrip('/')}/{name}", group.members[name])

    def read(self, array: Array) -> np.ndarray:
        """Return the numbers of an array in a new one."""
        size = array.dtype.itemsize * math.prod(array.shape)
        content = self._take(array.address, size, array.name) if array.content is None else array.content
        if len(content) < size:
            raise ValueError(f"{array.name!r} is cut short")
        values = np.frombuffer(content, array.dtype, math.prod(array.shape)).reshape(array.shape)
        return values.astype(array.dtype.newbyteorder("="))

    def texts(self, group: Group, attribute: str) -> list[str]:
        """Return an attribute that is a text or a list of such."""
        if attribute not in group.attributes:
            raise ValueError(f"{group.name!r} has no {attribute!r}")
        kind, space, data = _attribute_parts(group.attributes[attribute])
        shape, size = _shape(space), int.from_bytes(kind[4:8], "little")
        count = 1 if shape is None else math.prod(shape)
        if not count:
            return []  # of numbers, where Keras had no names to write
        self.take_objects(count)
        is_text, is_variable = kind[0] & 15 == _TEXT, kind[0] & 15 == _VARIABLE_LENGTH and kind[1] & 15 == 1
        if shape is None or not (is_text or (is_variable and size == 16)) or len(data) < count * size:
            raise ValueError(f"{attribute!r} of {group.name!r} must be names")
        items = [data[index * size : (index + 1) * size] for index in range(count)]
        return [(self._heap_object(item) if is_variable else item).split(b"\0")[0].decode() for item in items]

    def take_objects(self, count: int) -> None:
        """Count objects, and refuse more than :data:`LARGEST_OBJECTS`."""
        self._objects -= count
        if self._objects < 0:
            raise ValueError(f"it has more than {LARGEST_OBJECTS} groups and arrays")

    def _take(self, address: int, size: int, name: str = "a part") -> bytes:
        if size > self._budget:
            raise ValueError(f"{name!r} claims {size} bytes, more than the {self._budget} that are left to the file")
        if address + size > self._size:
            raise ValueError(f"{name!r} lies beyond its end")
        self._budget -= size
        self._file.seek(address)
        return self._file.read(size)

    def _open(self, name: str, address: int) -> Group | Array:
        messages = list(self._messages(address))
        kinds = {kind: content for kind, content in messages}
        if _LAYOUT in kinds:
            return self._array(name, kinds)
        members: list[tuple[str, int]] = []
        for kind, content in messages:
            if kind == _SYMBOLS:
                members += self._symbols(name, content)
            elif kind == _LINK:
                members.append(_hard_link(name, content))
        if len(dict(members)) != len(members):
            raise ValueError(f"a name is in {name!r} twice")
        if _TYPE in kinds or not (_SYMBOLS in kinds or _LINK in kinds):
            raise ValueError(f"{name!r} is neither a group nor an array")
        attributes = [content for kind, content in messages if kind == _ATTRIBUTE]
        return Group(name, dict(members), {_attribute_name(content): content for content in attributes})

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Yield kind and content of the messages that describe an object."""
        self.take_objects(1)
        version, count, size = struct.unpack("<BxH4xI", self._take(address, 12))
        if version != 1:
            raise ValueError(_NEWER)
        blocks, left = [(address + 16, size)], LARGEST_HEADER
        for start, length in blocks:
            if (left := left - length) < 0:
                raise ValueError(f"an object is described in more than {LARGEST_HEADER} bytes")
            block, position = self._take(start, length), 0
            while count and position + 8 <= length:
                kind, size, flags = struct.unpack_from("<HHB", block, position)
                content = block[position + 8 : position + 8 + size]
                position, count = position + 8 + size, count - 1
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack("<QQ", content))
                elif flags & 2 and kind in (_SPACE, _TYPE, _LAYOUT, _ATTRIBUTE):
                    raise ValueError(_NEWER)
                else:
                    yield kind, content

    def _symbols(self, name: str, content: bytes) -> Iterator[tuple[str, int]]:
        """Yield names and addresses of a group's members, which lie in the leaves of a tree."""
        tree, heap = struct.unpack_from("<QQ", content)
        signature, size, address = struct.unpack("<4s4xQ8xQ", self._take(heap, 32))
        names, nodes = self._take(address, size), [(tree, 256)]
        if signature != b"HEAP":
            raise ValueError(f"the names of {name!r} are damaged")
        while nodes:
            node, level_above = nodes.pop()
            self.take_objects(1)
            signature, kind, level, used = struct.unpack("<4sBBH", self._take(node, 8))
            if signature != b"TREE" or kind or level >= level_above:
                raise ValueError(f"the tree of {name!r} is damaged")
            children = [child for _, child in struct.iter_unpack("<QQ", self._take(node + 24, 16 * used))]
            nodes += [(child, level) for child in children if level]
            for leaf in () if level else children:
                yield from self._leaf(name, leaf, names)

    def _leaf(self, name: str, leaf: int, names: bytes) -> Iterator[tuple[str, int]]:
        signature, version, count = struct.unpack("<4sBxH", self._take(leaf, 8))
        if signature != b"SNOD" or version != 1:
            raise ValueError(f"the tree of {name!r} is damaged")
        for start, address, kind in struct.iter_unpack("<QQI20x", self._take(leaf + 8, 40 * count)):
            member = names[start : names.index(b"\0", start)].decode()
            if kind == _SOFT_LINK_ENTRY:
                raise _refers_elsewhere(name, member)
            yield member, address

    def _heap_object(self, reference: bytes) -> bytes:
        """Return a text of any length."""
        address, index = struct.unpack("<4xQI", reference)
        if address not in self._heaps:
            signature, size = struct.unpack("<4s4xQ", self._take(address, 16))
            if signature != b"GCOL":
                raise ValueError("a heap of names is damaged")
            heap, position, objects = self._take(address, size), 16, {}
            while position + 16 <= size:
                self.take_objects(1)
                number, length = struct.unpack_from("<H6xQ", heap, position)
                if not number:
                    break
                objects[number] = heap[position + 16 : position + 16 + length]
                position += 16 + (length + 7) // 8 * 8
            self._heaps[address] = objects
        return self._heaps[address][index]

    def _array(self, name: str, kinds: dict[int, bytes]) -> Array:
        shape, dtype, layout = _shape(kinds[_SPACE]), _dtype(kinds[_TYPE]), kinds[_LAYOUT]
        if dtype is None:
            kind = kinds[_TYPE][0] & 15
            held = _OTHER_KINDS[kind] if kind < len(_OTHER_KINDS) else f"type {kind}"
            raise ValueError(f"{name!r} must hold real numbers of at most 64 bits. Received: {held}")
        if shape is None:
            raise ValueError(f"{name!r} must be an array. Received: an empty one without a shape")
        if _EXTERNAL in kinds or layout[0] == 4:
            raise ValueError(f"{name!r} keeps its data in another place")
        if layout[0] != 3 or layout[1] not in (_COMPACT, _CONTIGUOUS):
            raise ValueError(f"{name!r} must lie in the file in one piece, not packed, as Keras writes it")
        if layout[1] == _COMPACT:
            return Array(name, shape, dtype, layout[4:], 0)
        address = int.from_bytes(layout[2:10], "little")
        if address == _UNDEFINED and 0 not in shape:
            raise ValueError(f"{name!r} has no data")
        return Array(name, shape, dtype, None, min(address, self._size))


def _refers_elsewhere(group: str, member: str) -> ValueError:
    return ValueError(f"{member!r} of {group!r} is a link to another place")


def _hard_link(group: str, content: bytes) -> tuple[str, int]:
    """Return name and address of a member that a group of the second kind names directly."""
    flags, position = content[1], 2
    kind = content[position] if flags & 8 else 0
    position += bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 16)
    width = 1 << (flags & 3)
    length = int.from_bytes(content[position : position + width], "little")
    name = content[position + width : position + width + length].decode()
    if kind:
        raise _refers_elsewhere(group, name)
    return name, *struct.unpack_from("<Q", content, position + width + length)


def _shape(content: bytes) -> tuple[int, ...] | None:
    """Return the shape that a dataspace gives, None for one without elements or shape."""
    version, rank = content[0], content[1]
    if version not in (1, 2):
        raise ValueError(_NEWER)
    if version == 2 and content[3] == 2:
        return None
    return struct.unpack_from(f"<{rank}Q", content, 8 if version == 1 else 4)


def _dtype(content: bytes) -> np.dtype | None:
    """Return the type of numbers that numpy knows as well, None for any other."""
    kind, bits, size = content[0] & 15, content[1], int.from_bytes(content[4:8], "little")
    order = ">" if bits & 1 else "<"
    if kind == _INTEGER and struct.unpack_from("<HH", content, 8) == (0, 8 * size) and size in (1, 2, 4, 8):
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    if kind == _FLOAT and not bits & 64 and _FLOAT_LAYOUTS.get(struct.unpack_from("<HHBBBBI", content, 8)) == size:
        return np.dtype(f"{order}f{size}")
    if kind == _ENUMERATION and size == 1 and b"FALSE\0" in content and b"TRUE\0" in content:
        return np.dtype("?")
    return None


def _attribute_name(content: bytes) -> str:
    start = 9 if content[0] == 3 else 8
    return content[start : start + int.from_bytes(content[2:4], "little")].split(b"\0")[0].decode()


def _attribute_parts(content: bytes) -> list[Any]:
    """Return type, shape and data of an attribute as they are stored."""
    version, shared = content[0], content[1]
    sizes = struct.unpack_from("<HHH", content, 2)
    if version not in (1, 2, 3) or (version > 1 and shared):
        raise ValueError(_NEWER)
    position, parts = 9 if version == 3 else 8, []
    for size in sizes:
        parts.append(content[position : position + size])
        position += (size + 7) // 8 * 8 if version == 1 else size
    return [*parts[1:], content[position:]]
