"""Names of files as they can be shown: on one line, whatever characters are in them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

JOINERS = "\u200c\u200d"  # invisible, but parts of words in Persian and of emoji


def printable(path: Path | str) -> str:
    """A path, or what is said of one, on one line: control characters and undecodable bytes escaped.

    Spaces of other widths and joiners stay, since names in Japanese, Persian or emoji have them and must open as shown.

    >>> printable("a\\nb\u3000c.png")
    'a\\\\nb\u3000c.png'
    """
    text = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if is_shown(c) else c.encode("unicode_escape").decode() for c in text)


def is_shown(character: str) -> bool:
    """Whether :func:`printable` leaves a character as it is."""
    return character.isprintable() or unicodedata.category(character) == "Zs" or character in JOINERS
