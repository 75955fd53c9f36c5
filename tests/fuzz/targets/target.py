"""What a target is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """One function and what it may do.

    Attributes:
        name: on the command line.
        about: what is fuzzed.
        run: takes an input and a folder for files of its own.
        errors: the documented ones; any other exception is a finding.
        seeds: makes the inputs from which mutation starts.
        words: what mutation puts in.
        longest: bytes of an input.
        megabytes: by which one input may raise the memory held by the process.
    """

    name: str
    about: str
    run: Callable[[bytes, Path], None]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]
    words: Sequence[bytes] = ()
    longest: int = 4096
    megabytes: int = 256


def random_seeds() -> list[bytes]:
    """For targets that make values out of bytes: bytes of several lengths."""
    import random

    rng = random.Random(0)
    return [rng.randbytes(length) for length in (4, 16, 40, 100, 250) for _ in range(8)]
