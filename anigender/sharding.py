"""Splitting work over machines that know nothing of each other: each takes the files whose names fall to it."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the files.

    A file's part is told by the SHA-256 of its path below the given folder, so it stays the same on every machine,
    wherever the folder is mounted, whatever files come and go, and in every run. The parts are disjoint and complete.

    Attributes:
        index: which part, 1 to ``count``.
        count: how many parts there are.

    >>> [Shard(i, 3).holds(Path("a/b.png")) for i in (1, 2, 3)].count(True)
    1
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The part that ``i/n`` names.

        Raises:
            ValueError: it does not.

        >>> Shard.parse("2/8")
        Shard(index=2, count=8)
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        index, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= index <= count:
            raise ValueError(f"{text!r} is not PART/PARTS: expected 1/8, 2/8 … or 8/8 for the machines of eight")
        return cls(index, count)

    def holds(self, relative: Path) -> bool:
        """Whether a file belongs to this part, by its path below the given folder."""
        digest = hashlib.sha256(os.fsencode(relative.as_posix())).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1
