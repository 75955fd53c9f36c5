"""Mutations of bytes, as fuzzers make them: bits, numbers, blocks, known words, and pieces of other inputs."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

NUMBERS = (0, 1, 16, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def mutated(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes], longest: int) -> bytes:
    """A few random changes of ``data``, at most ``longest`` bytes of them."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4, 8, 16))):
        _change(found, rng, words, others)
    return bytes(found[:longest])


def _change(found: bytearray, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes]) -> None:
    kind, at = rng.randrange(9), rng.randrange(len(found) + 1)
    if kind == 0 and at < len(found):
        found[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(found):
        found[at] = rng.randrange(256)
    elif kind == 2:
        del found[at : at + 1 + int(rng.expovariate(0.2))]
    elif kind == 3:
        found[at:at] = rng.randbytes(1 + int(rng.expovariate(0.3)))
    elif kind == 4:
        piece = struct.pack(rng.choice(("<I", ">I", "<H", ">H")[: 2 if rng.random() < 0.5 else 4]), 0)
        number = rng.choice(NUMBERS) & ((1 << 8 * len(piece)) - 1)
        found[at : at + len(piece)] = number.to_bytes(len(piece), rng.choice(("little", "big")))
    elif kind == 5:
        start = rng.randrange(len(found) + 1)
        found[at:at] = found[start : start + rng.randrange(64)] * rng.choice((1, 1, 2, 20))
    elif kind == 6 and others:
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        found[at : at + rng.randrange(32)] = other[start : start + rng.randrange(200)]
    elif words:
        word = rng.choice(words)
        found[at : at + (len(word) if rng.random() < 0.5 else 0)] = word
