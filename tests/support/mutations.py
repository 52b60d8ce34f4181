"""Random damage of a file: what transfer, disks and people with bad intentions do to bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_WORDS = tuple(
    number.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for number in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("little", "big")
)
_TOKENS = (
    b"{",
    b"[" * 2000,
    b'"',
    b"\x00" * 300,
    b"\xff\xfe",
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"../",
    b"\r\n",
    b"\x1b[31m",
)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a content with one to three random changes."""
    for _ in range(rng.integers(1, 4)):
        change: Callable[[bytes, int, np.random.Generator], bytes] = _CHANGES[rng.integers(len(_CHANGES))]
        near_start = rng.random() < 0.3  # headers are more fragile than what follows
        content = change(content, int(rng.integers(min(len(content), 64) if near_start else len(content)) or 0), rng)
        if not content:
            return content
    return content


def _flip(content: bytes, place: int, rng: np.random.Generator) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << rng.integers(8)]) + content[place + 1 :]


def _word(content: bytes, place: int, rng: np.random.Generator) -> bytes:
    word = _WORDS[rng.integers(len(_WORDS))]
    return content[:place] + word + content[place + len(word) :]


def _token(content: bytes, place: int, rng: np.random.Generator) -> bytes:
    return content[:place] + _TOKENS[rng.integers(len(_TOKENS))] + content[place:]


def _digits(content: bytes, place: int, rng: np.random.Generator) -> bytes:
    return content[:place] + b"9" * int(rng.integers(1, 40)) + content[place + 1 :]


def _truncate(content: bytes, place: int, rng: np.random.Generator) -> bytes:
    return content[:place]


def _cut(content: bytes, place: int, rng: np.random.Generator) -> bytes:
    return content[:place] + content[place + int(rng.integers(1, 200)) :]


def _repeat(content: bytes, place: int, rng: np.random.Generator) -> bytes:
    end = place + int(rng.integers(1, 600))
    return content[:end] + content[place:end] + content[end:]


def _noise(content: bytes, place: int, rng: np.random.Generator) -> bytes:
    noise = rng.bytes(int(rng.integers(1, 40)))
    return content[:place] + noise + content[place + len(noise) :]


_CHANGES = (_flip, _flip, _word, _word, _token, _digits, _truncate, _cut, _repeat, _noise)
