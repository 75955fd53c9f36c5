"""Boxes that somebody else found, as a detector: for layouts that never change, or results of another program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..bounding_boxes import KINDS, from_bounding_boxes
from ..faces import Faces
from ..images import Batch
from .found import as_faces

LARGEST_FILE = 1 << 20  # bytes


class GivenBoxes:
    """Finds what it was given.

    Args:
        boxes: for each picture of the batch that the pipeline is called with a list of boxes, each
            ``(x, y, width, height)`` or ComfyUI's dict of those with a ``score``. With ``everywhere``: one such list.
        kind: what the boxes are drawn around, one of :data:`anigender.bounding_boxes.KINDS`.
        everywhere: the boxes are the same in every picture; one that lies outside a smaller picture is not in it.
        device: where the faces will be.
        threshold: lowest score reported; boxes without one have 1.
        minimum_size: shortest side of a reported head in pixels.

    Raises:
        ValueError: another kind.

    >>> from anigender.images import check
    >>> pictures = check(torch.zeros(2, 50, 50, 3))
    >>> GivenBoxes([[], [(10, 10, 20, 20)]]).detect(pictures).boxes.tolist()
    [[10.0, 10.0, 30.0, 30.0]]
    >>> len(GivenBoxes([(10, 10, 20, 20)], everywhere=True).detect(pictures))
    2
    """

    region = "head"  # the boxes are turned into heads as they are read

    def __init__(
        self,
        boxes: Sequence[Any],
        kind: str = "head",
        everywhere: bool = False,
        device: torch.device | str = "cpu",
        threshold: float = 0.0,
        minimum_size: float = 0.0,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"box kind {kind!r} is not known; choose one of {', '.join(KINDS)}")
        self.boxes, self.kind, self.everywhere = boxes, kind, everywhere
        self.device = torch.device(device)
        self.threshold = threshold
        self.minimum_size = minimum_size

    def detect(self, batch: Batch) -> Faces:
        """The given boxes of these pictures.

        Raises:
            ValueError: not boxes, for fewer pictures than there are, or outside their picture.
        """
        # Of a piece of a longer batch, the boxes of that piece.
        last = batch.first + len(batch)
        own = [self.boxes] * len(batch) if self.everywhere else self.boxes[batch.first : last]
        if len(own) != len(batch):
            raise ValueError(f"boxes are given for {len(self.boxes)} pictures, the batch has {last} or more")
        # One by one: a single list would be taken for that of every picture.
        found = [
            from_bounding_boxes([list(boxes)], [size], self.kind, everywhere=self.everywhere)
            for boxes, size in zip(own, batch.sizes, strict=True)
        ]
        boxes, scores = [faces.boxes for faces in found], [faces.scores for faces in found]
        return as_faces(boxes, scores, batch.sizes, self.device, self.region, self.threshold, self.minimum_size)


def read_given_boxes(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> GivenBoxes:
    """Boxes for every picture from a JSON file: ``{"kind": "face", "boxes": [[x, y, width, height], …]}``.

    ``kind`` may be left out (head), or the file be the list alone. ``dtype`` is for the registry's sake.

    Raises:
        ValueError: the file holds something else.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, a list of boxes has {LARGEST_FILE} at most")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        value = value if isinstance(value, dict) else {"boxes": value}
        boxes, kind = value["boxes"], value.get("kind", "head")
        from_bounding_boxes([list(boxes)], [(1 << 30, 1 << 30)], kind)
        return GivenBoxes(boxes, kind, True, device)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f'{path} is no list of boxes ({error}); expected {{"kind": "head", "boxes": [[x, y, width, height], …]}}'
        ) from error
