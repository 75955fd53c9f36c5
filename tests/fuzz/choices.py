"""Values out of bytes: the same bytes give the same values, so that a mutated input is a mutated value."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

WHOLES = (0, 1, 2, -1, 3, 4, 7, 8, 16, 31, 64, 100, 127, 128, 255, 256, 1000, 65535, 65536, 2**31 - 1, -(2**31), 2**32)
HUGE = (2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400, -(10**400))
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 0.1, 1e-9, 1e9, 1e38, 1e39, 1e308, 5e-324, -1e308)
ODD_FLOATS = (float("nan"), float("inf"), float("-inf"))
LETTERS = (
    *"aZ09 _-.,;:/\\|\"'<>&%()[]{}=+*!#@\t\n\r\0\x07\x1b\x7f",
    *("é", "初", "ẞ", "İ", "ﬁ", "\u00a0", "\u0085", "\u2028", "\u200d", "\u202e", "\ufeff", "🎀", "\ud800", "\udcff"),
    *("..", "../", "1girl", "solo", "female", "male", "head", "face", "nan", "inf", "1e999", "x", "width", "%s", "{}"),
)


class Choices:
    """Reads values off a byte string; where that has ended, the plainest ones.

    >>> Choices(bytes([1, 2, 3])).pick("abc")
    'b'
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        """0-255."""
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        span, value = high - low + 1, 0
        for _ in range(max(1, (span.bit_length() + 7) // 8)):
            value = value << 8 | self.byte()
        return low + value % span

    def pick(self, options: Sequence[T]) -> T:
        return options[self.whole(0, len(options) - 1)]

    def some(self, make: Callable[[], T], most: int = 8) -> list[T]:
        return [make() for _ in range(self.whole(0, most))]

    def bytes(self, most: int = 64) -> bytes:
        return bytes(self.byte() for _ in range(self.whole(0, most)))

    def text(self, most: int = 12) -> str:
        return "".join(self.pick(LETTERS) for _ in range(self.whole(0, most)))

    def number(self) -> Any:
        """A whole number or a float, often an odd one."""
        kind = self.byte() % 8
        if kind == 0:
            return self.pick(WHOLES)
        if kind == 1:
            return self.pick(FLOATS)
        if kind == 2:
            return self.pick(HUGE)
        if kind == 3:
            return self.pick(ODD_FLOATS)
        if kind == 4:
            return struct.unpack("<d", bytes(self.byte() for _ in range(8)))[0]
        if kind == 5:
            return self.whole(-1000, 1000) / 8
        return self.whole(-20, 120)

    def value(self, depth: int = 3) -> Any:
        """Anything that JSON or another program's Python could hand over."""
        kind = self.byte() % (14 if depth else 8)
        if kind < 3:
            return self.number()
        if kind < 8:
            return self.pick((None, True, False, "", "x", b"x", object(), self.text(4)))
        items = [self.value(depth - 1) for _ in range(self.whole(0, 5))]
        if kind < 11:
            return items if kind < 10 else tuple(items)
        keys = ("x", "y", "width", "height", "score", "label", "boxes", "kind")
        return {self.pick(keys): item for item in items}
