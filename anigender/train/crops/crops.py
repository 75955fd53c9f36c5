"""Crops to learn from: of labelled characters, in the frames that the detector finds, and of unlabelled faces."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...datasets.duplicates import listed
from ...datasets.labelled import label_heads, read_pictures
from ...datasets.picture import GENDERS, Picture, read_rgba
from ...datasets.unlabelled import face_names, read_faces, shards
from ...digests import sha256
from ...faces import Faces
from ...images import check, head_crops
from ...weights import ASSETS
from ..heads.relabel import find_heads
from .augment import CACHE_MARGIN, CACHE_SIZE
from .store import CropStore, Pixels, SomeRows, stamp_of

log = logging.getLogger("anigender")
AT_ONCE = 256  # pictures that are looked at before their crops are written


@dataclass
class Crops:
    """Crops with what is known of them.

    Attributes:
        pixels: ``[N, 4, K, K]`` uint8 RGBA.
        labels: ``[N]`` int64, 0 female and 1 male.
        pictures: the ``N`` pictures.
        margin: how many head sides the crops show.
        extents: ``[N, 4]`` where the picture lies in each crop (:class:`~.store.Entry`); all of it where None.
    """

    pixels: Pixels
    labels: Tensor
    pictures: list[Picture]
    margin: float = CACHE_MARGIN
    extents: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pictures)


def cut(pixels: np.ndarray, heads: np.ndarray, size: int = CACHE_SIZE, margin: float = CACHE_MARGIN) -> Tensor:
    """Cached crops around heads.

    Args:
        pixels: ``[h, w, 4]`` uint8 RGBA.
        heads: ``[n, 4]`` xyxy.
        size: of the crops.
        margin: how many head sides they show.

    Returns:
        ``[n, 4, size, size]`` uint8 RGBA, made by :func:`anigender.images.head_crops`.
    """
    image = torch.from_numpy(np.array(pixels))[None]  # a copy: Pillow gives pixels that must not be written to
    faces = Faces.from_boxes([torch.from_numpy(heads)], [pixels.shape[:2]])
    alpha = image[..., 3:].expand(-1, -1, -1, 3).contiguous()
    rgb = head_crops(check(image[..., :3].contiguous()), faces, size, margin)
    mask = head_crops(check(alpha), faces, size, margin)[:, :1]
    return (torch.cat((rgb, mask), 1) * 255).round().to(torch.uint8)


def extent_of(head: np.ndarray, margin: float, width: int, height: int) -> list[float]:
    """Where the picture lies in the crop of a head (xyxy): x0, y0, x1 and y1 in shares of the crop."""
    side = float((head[2:] - head[:2]).max()) * margin
    left, top = ((head[:2] + head[2:]) / 2 - side / 2).tolist()
    edges = ((0 - left) / side, (0 - top) / side, (width - left) / side, (height - top) / side)
    return [min(1.0, max(0.0, edge)) for edge in edges]


def source_of(detector: str) -> str:
    """What tells the crops of one detector from another's: the digest of its file."""
    return sha256(ASSETS / "head.safetensors" if detector in ("auto", "head") else Path(detector))


def labelled_crops(
    data: Path,
    detector: str,
    folder: Path,
    hold_out: Sequence[str] = (),
    size: int = CACHE_SIZE,
    margin: float = CACHE_MARGIN,
) -> tuple[Crops, Crops]:
    """Head crops of ``train`` and ``val``, in the frames the detector finds.

    In a picture of one character the head is the detector's surest, or the first label where it finds none; a
    television still without a head, and cut-outs on which nothing is known, are left out of training and of ``val``
    alike: what is measured there is the classifier. (:mod:`anigender.evaluate` measures both together.)

    Args:
        data: the data folder.
        detector: ``auto`` or a weights file.
        folder: where crops are kept from run to run, in a folder of their own.
        hold_out: folders of ``gender/`` that are judged by instead of learned from, whatever their split.
        size, margin: of the crops.

    Raises:
        ValueError: a gender is missing on one of the two sides, or there is no folder of that name; the message says
            what to do.
    """
    pictures = read_pictures(data)
    folders = {picture.folder for picture in pictures} - {""}
    if unknown := [name for name in hold_out if name not in folders]:
        known = ", ".join(sorted(folders)) or "no folders, since these pictures are in no gender/"
        raise ValueError(f"the folder {unknown[0]!r} to hold out is none of gender/; there are {known}")
    for picture in pictures:
        picture.split = "val" if picture.folder in hold_out else picture.split
    require_both(pictures, "")
    store = CropStore(folder / f"crops-{size}-{margin:g}.cache", size, margin, source_of(detector))
    stamps = {picture.file: stamp_of(data / picture.file) for picture in pictures}
    new = [picture for picture in pictures if store.lacks(picture.file, stamps[picture.file])]
    if new:
        label_heads(pictures, data)
    with tqdm(total=len(new), desc="head crops", unit="picture", disable=not new or None) as bar:
        for start in range(0, len(new), AT_ONCE):
            part = new[start : start + AT_ONCE]
            find_heads(part, data, Path(detector), quiet=True)
            cropped = [_crop(data, picture, size, margin) for picture in part]
            found, places = [crop for crop, _ in cropped], [extent for _, extent in cropped]
            store.add([p.file for p in part], [stamps[p.file] for p in part], found, places)
            bar.update(len(part))
    kept = [picture for picture in pictures if store.entries[picture.file]["row"] is not None]
    if len(kept) < len(pictures):
        without = [p.file for p in pictures if store.entries[p.file]["row"] is None]
        log.warning("no head is found in %d of %d pictures: %s", len(without), len(pictures), listed(without))
    require_both(kept, " in which a head is found")
    splits = []
    for split in ("train", "val"):
        mine = [picture for picture in kept if picture.split == split]
        entries = [store.entries[picture.file] for picture in mine]
        labels = torch.tensor([GENDERS.index(picture.gender) for picture in mine])
        rows = SomeRows(store, np.array([entry["row"] for entry in entries], np.int64))
        extents = np.array([entry["extent"] for entry in entries], np.float32)
        splits.append(Crops(rows, labels, mine, margin, extents))
    return splits[0], splits[1]


def _crop(data: Path, picture: Picture, size: int, margin: float) -> tuple[Tensor | None, list[float]]:
    """The crop of a picture's largest head, and where the picture lies in it."""
    if not len(picture.heads):
        return None, [0.0, 0.0, 1.0, 1.0]
    head = picture.heads[(picture.heads[:, 2] - picture.heads[:, 0]).argmax()]
    pixels = read_rgba(data / picture.file)
    return cut(pixels, head[None], size, margin)[0], extent_of(head, margin, pixels.shape[1], pixels.shape[0])


def require_both(pictures: Sequence[Picture], which: str) -> None:
    """Refuse to learn where a gender is missing among what is learned from or what is judged by.

    Raises:
        ValueError: the message says what to do.
    """
    for gender in GENDERS:
        mine = [picture for picture in pictures if picture.gender == gender]
        sides = {picture.split for picture in mine}
        if {"train", "val"} <= sides:
            continue
        if len(mine) < 2:
            seen = f"only one picture ({mine[0].file})" if mine else "no picture"
            raise ValueError(f"of the gender {gender} there is {seen}{which}: add more, at least two of two characters")
        lacking, purpose = ("val", "judge by") if "train" in sides else ("train", "learn from")
        raise ValueError(
            f"all {len(mine)} pictures of the gender {gender}{which} are in the split {sides.pop()}, none is left to "
            f"{purpose}: add pictures of other characters, or name the split {lacking} for some"
        )


class Unlabelled(NamedTuple):
    """Faces of whom only the picture is given.

    Attributes:
        pixels: cached crops ``[N, 4, K, K]``.
        extents: ``[N, 4]`` where their pictures lie in these.
        files: ``N`` times ``shard/name``.
    """

    pixels: Pixels
    extents: np.ndarray
    files: list[str]


def unlabelled_crops(data: Path, folder: Path) -> Unlabelled:
    """The unlabelled faces that are there now; each picture is taken for one head square.

    Args:
        data: the data folder.
        folder: where the crops are kept from run to run.
    """
    found = shards(data)
    if not found:
        none = torch.zeros(0, 4, CACHE_SIZE, CACHE_SIZE, dtype=torch.uint8)
        return Unlabelled(none, np.zeros((0, 4), np.float32), [])
    store = CropStore(folder / "unlabelled.cache", source="whole pictures, and where they end")
    for shard in found:
        stamp = stamp_of(shard)
        for name, pixels in read_faces(shard, lambda name, stamp=stamp: store.lacks(name, stamp)):  # type: ignore[misc]
            height, width = pixels.shape[:2]
            head = np.array([0, 0, max(height, width), max(height, width)], np.float32)
            store.add([name], [stamp], [cut(pixels, head[None])[0]], [extent_of(head, CACHE_MARGIN, width, height)])
    # Of faces that were removed the crops are still there, and of those that cannot be read there are none.
    files = sorted({name for shard in found for name in face_names(shard)} & store.entries.keys())
    entries = [store.entries[file] for file in files]
    extents = np.array([entry["extent"] for entry in entries], np.float32)
    return Unlabelled(SomeRows(store, np.array([entry["row"] for entry in entries], np.int64)), extents, files)
