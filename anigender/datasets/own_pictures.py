"""Labelled pictures of anybody's own: folders named by gender, or a table, divided for learning and judging.

Layouts, the first that fits:

- ``manifest.csv`` or ``metadata.csv`` in the folder: ``file`` (or ``file_name``) and ``gender`` (or ``label``), and
  where known ``character``, ``kind`` and ``split`` (``train``, or ``val``, ``validation`` or ``test``).
- ``train/female/…``, ``train/male/…`` and the same under ``validation``, ``val`` or ``test``, as the Hugging Face
  package ``datasets`` reads them. Instead of ``train/``, what is learned from may lie beside ``val/``.
- ``female/…`` and ``male/…``; a folder inside them is a character.

Where nothing is said to be judged by, a share of the characters is kept for that (:func:`divide`). Genders may go by
any usual word (``1girl``, ``men`` …).
"""

from __future__ import annotations

import logging
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from ..classify.preprocessing import LABELS
from ..folders import as_seen, is_picture, open_image
from .duplicates import difference_hash, listed, near_duplicates, refuse_contradictions, say_what_straddles
from .picture import Picture
from .tables import read_rows

log = logging.getLogger("anigender")

TABLES = ("manifest.csv", "metadata.csv")
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}
SHARE = 0.15  # of the characters (or of pictures that are unlike all others) that are kept for judging
MUCH = 0.4  # of a gender's pictures, which are missed where they are kept for judging


def read_own(data: Path) -> list[Picture]:
    """All pictures of a folder in one of the layouts above, each with its split.

    Unreadable ones are left out, and what looks like one picture under both genders stays in; both are said in the log.

    Raises:
        ValueError: no such layout, an unknown gender, a gender without pictures, or one picture under two genders,
            whatever its files are called; the message says what to do.
    """
    table = next((data / name for name in TABLES if (data / name).is_file()), None)
    pictures = _from_table(data, table) if table is not None else _from_folders(data)
    genders: dict[str, str] = {}
    for picture in pictures:
        if genders.setdefault(picture.file, picture.gender) != picture.gender:
            raise ValueError(f"{picture.file} is said to be female and male: keep the right one of both")
    pictures = list({picture.file: picture for picture in pictures}.values())
    prints = _look(data, pictures)
    if broken := [picture.file for picture in pictures if picture.file not in prints]:
        log.warning(
            "%d of %d pictures cannot be read and are left out; replace or delete them: %s",
            len(broken),
            len(pictures),
            listed(broken),
        )
    pictures = [picture for picture in pictures if picture.file in prints]
    for gender in ("female", "male"):
        if not any(picture.gender == gender for picture in pictures):
            raise ValueError(f"{data} holds no readable picture of the gender {gender}: both are needed")
    groups = near_duplicates([prints[picture.file] for picture in pictures])
    refuse_contradictions(data, pictures, groups)
    if any(picture.split == "val" for picture in pictures):
        say_what_straddles(pictures, groups)
    else:
        divide(pictures, groups)
    for picture in pictures:
        picture.split = picture.split or "train"
        picture.character = picture.character or picture.file
    return pictures


def gender_of(word: str) -> str | None:
    """``female`` or ``male`` for any usual word.

    >>> gender_of("1Girl"), gender_of("men"), gender_of("cat")
    ('female', 'male', None)
    """
    return next((gender for gender, words in LABELS.items() if word.strip().lower() in words), None)


def _from_table(data: Path, table: Path) -> list[Picture]:
    pictures = []
    for row in read_rows(table):
        word = row.get("gender") or row.get("label")
        if not (row.get("file") or row.get("file_name")) or not word:
            raise ValueError(f"{row.at}: expected the columns file and gender, it has {', '.join(row)[:500]}")
        gender = gender_of(word)
        if gender is None:
            raise ValueError(f"{row.at}: gender is {word[:80]!r}, expected female or male")
        split = row.get("split", "").strip().lower()
        if split and split not in SPLITS:
            raise ValueError(f"{row.at}: split is {split[:80]!r}, expected one of {', '.join(SPLITS)}")
        pictures.append(
            Picture(
                row.file("file" if row.get("file") else "file_name"),
                character=row.get("character") or "",
                gender=gender,
                kind=row.get("kind") or "picture",
                split=SPLITS.get(split, ""),
            )
        )
    return pictures


def _from_folders(data: Path) -> list[Picture]:
    below = sorted(path for path in data.iterdir() if path.is_dir())
    splits = [path for path in below if path.name.lower() in SPLITS and any(map(_is_gender, path.iterdir()))]
    roots = [(path, SPLITS[path.name.lower()]) for path in splits]
    plain = [path.name for path in below if _is_gender(path)]
    if plain and (train := [path.name for path, split in roots if split == "train"]):
        raise ValueError(
            f"{data} holds pictures to learn from in {', '.join(train)} and in {', '.join(plain)}: move them into one "
            "of both, else some would be overlooked or count twice"
        )
    if plain or not roots:
        roots.append((data, "train" if roots else ""))
    pictures = []
    for root, split in roots:
        for folder in sorted(filter(_is_gender, root.iterdir())):
            for path in sorted(folder.rglob("*")):
                if is_picture(path.name) and path.is_file():
                    inside = path.relative_to(folder).parts
                    pictures.append(
                        Picture(
                            path.relative_to(data).as_posix(),
                            character=f"{folder.name}/{inside[0]}" if len(inside) > 1 else "",
                            gender=str(gender_of(folder.name)),
                            kind="picture",
                            split=split,
                        )
                    )
    if not pictures:
        seen = ", ".join(path.name for path in below[:8]) or "none"
        raise ValueError(
            f"{data} holds no labelled pictures: expected gender/manifest.csv, {' or '.join(TABLES)}, or pictures in "
            f"the folders female and male; folders seen: {seen}"
        )
    return pictures


def _is_gender(path: Path) -> bool:
    return path.is_dir() and gender_of(path.name) is not None


def _look(data: Path, pictures: Sequence[Picture]) -> dict[str, int]:
    """The hash of every picture that can be read, whose size is written down on the way."""

    def one(picture: Picture) -> int | None:
        try:
            with open_image(data / picture.file) as image:
                seen = as_seen(image)
                picture.width, picture.height = seen.size
                picture.alpha = "A" in seen.getbands()
                return difference_hash(seen)
        except Exception:  # decoders raise anything on hostile bytes; one bad file is one failure
            return None

    with ThreadPoolExecutor() as pool:
        looked = pool.map(one, pictures)
        found = list(tqdm(looked, total=len(pictures), desc="reading", unit="picture", disable=None, leave=False))
    return {picture.file: print_ for picture, print_ in zip(pictures, found, strict=True) if print_ is not None}


def divide(pictures: Iterable[Picture], groups: Sequence[int]) -> None:
    """Set every picture's split: about :data:`SHARE` are ``val``, the same ones whenever the pictures are the same.

    Pictures of one character, and near duplicates, stay together, over several steps if need be.

    Args:
        pictures: all of them.
        groups: for each the place of the first that it is a near duplicate of (:func:`near_duplicates`).
    """
    pictures = list(pictures)
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for picture, twin in zip(pictures, groups, strict=True):
        own, other = picture.character or picture.file, pictures[twin].character or pictures[twin].file
        first, second = sorted((root(own), root(other)))
        parent[second] = first
    for picture in pictures:
        name = root(picture.character or picture.file)
        picture.split = "val" if zlib.crc32(os.fsencode(name)) % 1000 < SHARE * 1000 else "train"
    for gender in ("female", "male"):
        mine = [picture for picture in pictures if picture.gender == gender]
        sizes = Counter(root(picture.character or picture.file) for picture in mine)
        if len(sizes) > 1 and len({picture.split for picture in mine}) == 1:  # few characters, all on one side
            # The smallest alone is kept for judging: there must be something to learn from.
            smallest = min(sizes, key=lambda name: (sizes[name], name))
            for picture in mine:
                picture.split = "val" if root(picture.character or picture.file) == smallest else "train"
    _say_division(pictures)


def _say_division(pictures: Sequence[Picture]) -> None:
    counts = Counter((picture.gender, picture.split) for picture in pictures)
    shares = {}
    for gender in ("female", "male"):
        learned, judged = counts[gender, "train"], counts[gender, "val"]
        log.info("%s: %d pictures to learn from, %d to judge by", gender, learned, judged)
        if judged > MUCH * (learned + judged):
            shares[gender] = f"{judged} of {learned + judged} {gender} pictures"
    if shares:
        log.warning(
            "%s are kept for judging, because few characters have most of them: nothing is learned from these. Add "
            "pictures of other characters, or say the split in a table or by folders train and val",
            " and ".join(shares.values()),
        )
