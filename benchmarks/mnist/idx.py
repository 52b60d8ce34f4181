"""IDX, the format in which MNIST is published: a type, a shape, and the numbers.

Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format": two zero bytes, the type (8: unsigned bytes), the
number of axes, the size of each axis as a big-endian integer of 4 bytes, then the numbers, row by row.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from po2quant.data.budgets import MEMBER_BYTES, check_at_most
from po2quant.files import one_line

UNSIGNED_BYTES = 8
SIZE_BYTES = 4


def parse_idx(content: bytes, name: str = "an IDX file") -> np.ndarray:
    """Return the unsigned bytes of an IDX file.

    Args:
        content: of the file.
        name: what an error calls it.

    Raises:
        ValueError: for a file of another format or type, or of another length than its shape says.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 7, 9]))
        array([[7, 9]], dtype=uint8)
    """
    if content[:3] != bytes([0, 0, UNSIGNED_BYTES]) or len(content) < 4:
        raise ValueError(f"{name} must begin as IDX of unsigned bytes, 00 00 08. Received: {content[:4].hex(' ')!r}")
    begin = 4 + SIZE_BYTES * content[3]
    sizes = [int.from_bytes(content[at : at + SIZE_BYTES], "big") for at in range(4, begin, SIZE_BYTES)]
    if len(content) != begin + math.prod(sizes):
        raise ValueError(
            f"{name} must have {begin} bytes and those of its shape {tuple(sizes)}. Received: {len(content)} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=begin).reshape(sizes)


def read_idx(path: Path) -> np.ndarray:
    """Return the unsigned bytes of an IDX file, which may be packed by gzip.

    Raises:
        ValueError: in one sentence, for a file that is missing, damaged, too large or of another format.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read(MEMBER_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"an IDX file must be readable. Received: {path} ({one_line(error)})") from error
    check_at_most(str(path), "bytes", len(content), MEMBER_BYTES)
    return parse_idx(content, str(path))
