"""The illustrations with all of their heads, judged by eye.

``boxes.csv`` knows one head of each, and about one in forty of those is none (a skirt, an emblem, a tail). What is
found elsewhere in a picture can be told to be right or wrong only where all heads are known: ``illustration_heads.csv``
lists them, and what may or may not be one (a scribble, a mask, a figure out of focus). ``gender`` is how a head
reads, where two looks at it were sure and agreed. None was a man's.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..boxes import pairwise_iou
from .labelled import SQUARE, held_out, read_illustrations, square
from .picture import GENDERS, Picture
from .tables import Row, read_rows

TABLE = Path(__file__).with_name("illustration_heads.csv")
FOLDER = "detection/illustrations/"
APART = 0.2  # IoU: what overlaps a head less is not a badly placed box of it but something else
COVERED = 0.3  # share of a box inside something unsure, above which nothing is said of it


def read_judged(data: Path) -> list[Picture]:
    """The illustrations of ``boxes.csv`` with the heads that were judged.

    A picture that was not judged has its known head and is not ``complete``; one with something unsure in it is not
    either. ``split`` is ``val`` for those that are kept for measuring, ``copy`` for other copies of these, and
    ``train`` for the rest.
    """
    judged: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(TABLE, ("file", "picture", "head", *SQUARE)):
        judged[FOLDER + row.file("file")].append(row)
    kept = {rows[0]["picture"] for file, rows in judged.items() if held_out(file)}
    pictures = read_illustrations(data)
    for picture in pictures:
        rows = judged.get(picture.file)
        if not rows:
            continue
        picture.heads = _boxes(rows, "yes")
        picture.unsure = _boxes(rows, "unsure")
        picture.complete = not len(picture.unsure)
        if picture.split == "train" and rows[0]["picture"] in kept:
            picture.split = "copy"
    return pictures


def _boxes(rows: list[Row], head: str) -> np.ndarray:
    return np.array([square(row) for row in rows if row["head"] == head], np.float32).reshape(-1, 4)


def surely_judged_heads(data: Path) -> dict[str, tuple[list[list[float]], list[int]]]:
    """Heads (xyxy) whose gender is sure, and that, 0 or 1, by file; of copies of a picture the first."""
    found: dict[str, tuple[list[list[float]], list[int]]] = {}
    first: dict[str, str] = {}
    for row in read_rows(TABLE, ("file", "picture", "gender", *SQUARE)):
        file = FOLDER + row.file("file")
        if row["gender"] in GENDERS and first.setdefault(row["picture"], file) == file and (data / file).is_file():
            boxes, genders = found.setdefault(file, ([], []))
            boxes.append(square(row))
            genders.append(GENDERS.index(row["gender"]))
    return found


def mistaken(boxes: Tensor, picture: Picture) -> Tensor:
    """Which boxes ``[n, 4]`` in a judged picture are no head: ``[n]`` bool, False where nothing can be said."""
    heads, unsure = torch.from_numpy(picture.heads), torch.from_numpy(picture.unsure)
    low = torch.maximum(boxes[:, None, :2], unsure[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], unsure[None, :, 2:])
    inside = (high - low).clamp(min=0).prod(2) / (boxes[:, None, 2:] - boxes[:, None, :2]).prod(2).clamp(min=1e-6)
    doubtful = (inside > COVERED).any(1) | (pairwise_iou(boxes, unsure) > APART).any(1)
    return (pairwise_iou(boxes, heads) < APART).all(1) & ~doubtful
