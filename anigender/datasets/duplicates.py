"""Pictures that are one picture saved twice: found by their hashes, and said where they contradict one another."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..folders import ImageError
from ..printable import printable
from .picture import GENDERS, Picture, read_rgba

log = logging.getLogger("anigender")

NEAR = 3  # bits of 64 by which two pictures' hashes may differ and still be one picture saved twice
# Of 16 bits each: two hashes that differ in fewer than 4 bits agree in at least one. Every fourth bit, so that each has
# some from all rows and from the middle columns: around a figure on a plain ground all pictures agree.
BANDS = tuple(0x1111_1111_1111_1111 << i for i in range(4))
ALIKE = 6.0  # levels of 256 by which thumbnails of one picture saved twice may differ on average
MOST_COMPARED = 200  # of pictures with one hash: blank ones may be thousands
SHOWN = 5  # names in a message


def difference_hash(image: Image.Image) -> int:
    """64 bits, whether each of 8 x 8 places is brighter than the one to its right.

    A picture that was resized, recompressed or recoloured keeps nearly all of them (Krawetz, "Kind of Like That",
    2013).
    """
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (small[:, 1:] > small[:, :-1]).reshape(-1)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def refuse_contradictions(data: Path, pictures: Sequence[Picture], groups: Sequence[int]) -> None:
    """Say which pictures, or copies of them, are under both genders.

    Raises:
        ValueError: one has the same pixels under both.
    """
    members: dict[int, list[Picture]] = defaultdict(list)
    for picture, group in zip(pictures, groups, strict=True):
        members[group].append(picture)
    same, alike = [], []
    for own in members.values():
        women, men = ([picture for picture in own if picture.gender == gender] for gender in GENDERS)
        if not women or not men:
            continue
        looked = {picture.file: _thumbnail(data / picture.file) for picture in own[:MOST_COMPARED]}
        seen = {file: found for file, found in looked.items() if found is not None}
        for woman, man in itertools.product(women, men):
            if woman.file in seen and man.file in seen:
                (first, a), (second, b) = seen[woman.file], seen[man.file]
                if first == second:
                    same.append(f"{woman.file} and {man.file}")
                elif np.abs(a - b).mean() < ALIKE:
                    alike.append(f"{woman.file} and {man.file}")
    if same:
        raise ValueError(
            f"{len(same)} pictures are under both genders, as copies of two names: delete the wrong one of each pair: "
            + listed(same)
        )
    if alike:
        log.warning(
            "%d pairs look like one picture under both genders; delete the wrong ones, or leave them where they are "
            "two people: %s",
            len(alike),
            listed(alike),
        )


def say_what_straddles(pictures: Sequence[Picture], groups: Sequence[int]) -> None:
    """Log which near duplicates lie on both sides of a split that was given."""
    first = {group: pictures[group] for group in set(groups)}
    apart = [
        f"{first[group].file} and {picture.file}"
        for picture, group in zip(pictures, groups, strict=True)
        if (picture.split or "train") != (first[group].split or "train")
    ]
    if apart:
        log.warning(
            "%d pictures lie on the other side of the split than one that they look the same as, which flatters the "
            "figures; move them to one side: %s",
            len(apart),
            listed(apart),
        )


def _thumbnail(path: Path) -> tuple[str, np.ndarray] | None:
    """The digest of a picture's pixels, and the picture as ``[16, 16, 4]``; None where it cannot be read (any more)."""
    try:
        pixels = Image.fromarray(read_rgba(path))
    except ImageError:
        return None
    digest = hashlib.sha256(repr(pixels.size).encode() + pixels.tobytes()).hexdigest()
    return digest, np.asarray(pixels.resize((16, 16), Image.Resampling.BOX), np.float32)


def listed(names: Sequence[str]) -> str:
    """The first of some names, on one line, and how many more there are.

    >>> listed(["a", "b"]), listed([*"abcdefgh"])
    ('a, b', 'a, b, c, d, e and 3 more')
    >>> print(listed(["a\\nb"]))
    a\\nb
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(printable, names[:SHOWN])) + more


def near_duplicates(prints: Sequence[int]) -> list[int]:
    """For each hash the lowest index of those it is, directly or over others, within :data:`NEAR` bits of."""
    first_with: dict[int, int] = {}
    parent = [first_with.setdefault(value, i) for i, value in enumerate(prints)]
    different = list(first_with.values())

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for members in _compared(prints, different):
        values = np.array([prints[i] for i in members], np.uint64)
        for k in range(1, len(members)):
            differing = np.ascontiguousarray(values[:k] ^ values[k]).view(np.uint8).reshape(k, 8)
            apart = np.unpackbits(differing, axis=1).sum(1)
            for other in np.flatnonzero(apart <= NEAR).tolist():
                a, b = sorted((root(members[k]), root(members[other])))
                parent[b] = a
    return [root(i) for i in range(len(prints))]


def _compared(prints: Sequence[int], different: Sequence[int]) -> Iterator[list[int]]:
    """Groups of places whose hashes agree in one of :data:`BANDS`, among which all near ones are."""
    for band in BANDS:
        alike: dict[int, list[int]] = defaultdict(list)
        for i in different:
            alike[prints[i] & band].append(i)
        yield from alike.values()
