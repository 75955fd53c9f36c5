"""What there is to learn from: the labelled pictures, and where their heads are known to be.

Reads other people's labelled folders (:mod:`.own_pictures`) or the layout ``gender/manifest.csv``,
``detection/boxes.csv``, ``detection/animeface2009.csv``, ``detection/illustrations`` and ``detection/negatives`` under
one data directory. All boxes are turned into head squares here, so that nothing downstream knows which convention a
label came in.
"""

from __future__ import annotations

import statistics
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from ..boxes import HEAD_PER_TIGHT_FACE, HEAD_RISE_PER_TIGHT_FACE, head_from_face
from .own_pictures import TABLES, read_own
from .picture import GENDERS, Picture
from .tables import Row, read_rows

MANIFEST = Path("gender", "manifest.csv")
COLUMNS = ("file", "character", "gender", "kind", "split", "width", "height", "alpha")
SQUARE = ("x", "y", "width", "height")


def held_out(file: str, share: float = 0.25) -> bool:
    """Whether an illustration or negative is kept for measuring: a fixed pseudo-random share, by its name."""
    return zlib.crc32(file.encode()) % 1000 < share * 1000


def square(row: Row) -> list[float]:
    """The box of a table's row, xyxy."""
    x, y, w, h = (row.number(name) for name in SQUARE)
    return [x, y, x + w, y + h]


def read_pictures(data: Path) -> list[Picture]:
    """All pictures of ``gender/manifest.csv`` in its order, or of a folder of somebody's own, without heads."""
    if not (data / MANIFEST).is_file():
        return read_own(data)
    pictures = []
    for row in read_rows(data / MANIFEST, COLUMNS):
        if row["gender"] not in GENDERS:
            raise ValueError(f"{row.at}: {row['file']} has gender {row['gender'][:80]!r}, expected one of {GENDERS}")
        pictures.append(
            Picture(
                row.file("file"),
                int(row.number("width")),
                int(row.number("height")),
                row["character"],
                row["gender"],
                row["kind"],
                row["split"],
                row["alpha"] == "1",
            )
        )
    return pictures


def read_column(data: Path, name: str) -> dict[str, str]:
    """A column of the table that lists the pictures, by file.

    Raises:
        ValueError: there is no table or none of that name; the message lists them.
    """
    table = next((data / own for own in (MANIFEST, *TABLES) if (data / own).is_file()), None)
    if table is None:
        raise ValueError(f"{data} has no manifest.csv, so there is no column {name!r}")
    rows = read_rows(table, [name])
    return {row.get("file") or row.get("file_name") or "": row[name] for row in rows}


def read_known_boxes(data: Path) -> dict[str, np.ndarray]:
    """``boxes.csv`` as head squares ``[n, 4]`` by file."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for row in read_rows(data / "detection" / "boxes.csv", ("file", "region", *SQUARE)):
        box = square(row)
        if row["region"] == "face":
            box = head_from_face(torch.tensor(box)).tolist()
        found[row.file("file")].append(box)
    return {file: np.asarray(boxes, np.float32) for file, boxes in found.items()}


def read_teacher(data: Path, minimum: float = 0.9) -> dict[str, np.ndarray]:
    """The surest box of animeface-2009 in each picture as a head square ``[1, 4]``, where it is sure enough."""
    best: dict[str, tuple[float, list[float]]] = {}
    for row in read_rows(data / "detection" / "animeface2009.csv", ("file", "likelihood", *SQUARE)):
        likelihood = row.number("likelihood")
        if likelihood >= max(minimum, best.get(row["file"], (0.0, []))[0]):
            best[row["file"]] = (likelihood, square(row))
    return {
        file: head_from_face(torch.tensor([box]), HEAD_PER_TIGHT_FACE, HEAD_RISE_PER_TIGHT_FACE).numpy()
        for file, (_, box) in best.items()
    }


def plausible(picture: Picture, head: np.ndarray) -> bool:
    """Whether a box can be the head of a picture of this kind.

    A detector's usual mistakes on standing figures are chests and knees: a head is in the upper part.
    """
    x1, y1, x2, y2 = head
    share = (y2 - y1) / picture.height
    if picture.kind in ("full_body", "half_body"):
        return (y1 + y2) / 2 < 0.42 * picture.height and 0.06 < share < 0.95
    if picture.kind == "bust":
        return (y1 + y2) / 2 < 0.75 * picture.height and share > 0.2
    if picture.kind == "face":
        return share > 0.35
    if picture.kind == "picture":  # of somebody's own: anything
        return True
    return share > 0.12


def label_heads(pictures: list[Picture], data: Path) -> None:
    """Give each picture its head square from the first source that knows it (first round, no detector yet).

    Order: boxes drawn by hand, the teacher's boxes where plausible, and for face icons the place where the head
    of that folder's icons usually is (the median over those in which the teacher found it). The icons matter most
    for men, of whom the teacher misses about half.
    """
    own = not (data / MANIFEST).is_file()
    known, teacher = ({}, {}) if own else (read_known_boxes(data), read_teacher(data))
    layouts: dict[str, list[np.ndarray]] = defaultdict(list)
    for picture in pictures:
        size = np.array([picture.width, picture.height] * 2, np.float32)
        if picture.file in known:
            picture.heads, picture.source, picture.complete = known[picture.file], "known", picture.alpha
        elif picture.file in teacher and plausible(picture, teacher[picture.file][0]):
            picture.heads, picture.source = teacher[picture.file], "teacher"
            picture.complete = picture.alpha or picture.kind == "face"
            if picture.kind == "face":
                layouts[picture.folder].append(picture.heads[0] / size)
    for picture in pictures:
        if picture.kind != "face" or picture.source != "none":
            continue
        seen = layouts.get(picture.folder, [])
        if len(seen) >= 10:
            layout = [statistics.median(column) for column in zip(*seen, strict=True)]
        else:
            layout = [0.0, 0.0, 1.0, 1.0]
        box = np.array(layout, np.float32) * np.array([picture.width, picture.height] * 2, np.float32)
        centre, side = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).mean()
        picture.heads = np.concatenate((centre - side / 2, centre + side / 2))[None].astype(np.float32)
        picture.source, picture.complete = "icon", True


def read_illustrations(data: Path) -> list[Picture]:
    """The illustrations with their one known head each; ``split`` is ``val`` for those that are held out."""
    return [
        Picture(file, heads=heads, source="known", split="val" if held_out(file) else "train")
        for file, heads in sorted(read_known_boxes(data).items())
        if file.startswith("detection/illustrations/")
    ]


def list_negatives(data: Path, split: str) -> list[str]:
    """Patches without a whole face, relative paths; ``split`` is ``train`` or ``val``. Own folders have none."""
    if not (data / MANIFEST).is_file():
        return []
    files = sorted(f"detection/negatives/{path.name}" for path in (data / "detection" / "negatives").iterdir())
    return [file for file in files if held_out(file) == (split == "val")]
