"""Wrong sounds and pictures made of right ones."""

from __future__ import annotations

import random
import struct

from benchmarks.studies.robustness.text import mutated_bytes

_RATES = (0, 1, 7, 44_100, 2**31 - 1, 2**32 - 1)
_CHANNELS = (0, 2, 255, 65_535)
_LENGTHS = (0, 1, 2**31 - 1, 2**32 - 1)


def mutated_wav(rng: random.Random, content: bytes) -> bytes:
    """Change what the header of a WAV file declares: rate, channels, bits or length."""
    changed = bytearray(content)
    match rng.randrange(6):
        case 0:
            struct.pack_into("<I", changed, 24, rng.choice(_RATES))
        case 1:
            struct.pack_into("<H", changed, 22, rng.choice(_CHANNELS))
        case 2:
            struct.pack_into("<I", changed, 40, rng.choice(_LENGTHS))
        case 3:
            struct.pack_into("<H", changed, rng.choice((20, 32, 34)), rng.choice((0, 1, 3, 8, 24, 0xFFFE)))
        case _:
            return mutated_bytes(rng, content)
    return bytes(changed)


def mutated_flac(rng: random.Random, content: bytes) -> bytes:
    """Change what a FLAC file declares: rate, channels, bits and the number of samples in 36 bits."""
    changed = bytearray(content)
    if rng.random() < 0.5:
        return mutated_bytes(rng, content)
    fields = int.from_bytes(changed[18:26], "big")
    bits, at = rng.choice(((20, 44), (3, 41), (5, 36), (36, 0)))
    value = rng.choice((0, 1, 2**bits - 1, 2 ** (bits - 1)))
    fields = fields & ~((2**bits - 1) << at) | value << at
    changed[18:26] = fields.to_bytes(8, "big")
    return bytes(changed)


def mutated_jpeg(rng: random.Random, content: bytes) -> bytes:
    """Change the size that a JPEG declares, or its bytes."""
    frame = content.find(b"\xff\xc0")
    if frame < 0 or rng.random() < 0.5:
        return mutated_bytes(rng, content)
    changed = bytearray(content)
    struct.pack_into(">HH", changed, frame + 5, rng.choice((0, 1, 32, 96, 65_535)), rng.choice((0, 1, 32, 96, 65_535)))
    return bytes(changed)
