"""Files with a few bytes changed, as damage and attacks change them."""

from __future__ import annotations

import numpy as np

TELLING_BYTES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00\x01", b"\xff" * 8)


def mutated(data: bytes, rng: np.random.Generator, changes: int = 4) -> bytes:
    """Return bytes after up to ``changes`` changes: noise, telling values, a block deleted, doubled or moved."""
    result = bytearray(data)
    for _ in range(rng.integers(1, changes + 1)):
        start = int(rng.integers(0, len(result) + 1))
        size = int(2 ** rng.uniform(0, 8))
        block = bytes(result[start : start + size])
        match rng.integers(0, 5):
            case 0:
                result[start : start + size] = rng.bytes(len(block))
            case 1:
                value = TELLING_BYTES[rng.integers(0, len(TELLING_BYTES))]
                result[start : start + len(value)] = value
            case 2:
                del result[start : start + size]
            case 3:
                result[start:start] = block
            case 4:
                target = int(rng.integers(0, len(result) + 1))
                result[target : target + len(block)] = block
    return bytes(result)
