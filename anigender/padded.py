"""Faces whose number only the device knows yet, so that nothing has to wait until everything is done.

What a detector keeps is a matter of scores, and reading them halfway would stop the device each time. So there is room
for a fixed number of faces instead, the rest is filling, and one copy at the end tells which is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .faces import Faces
from .images import finite_error
from .transfer import on_device


class Room(NamedTuple):
    """For how many proposals and faces of a batch there is room; None: as many as there are, which has to be asked."""

    proposals: int | None = None
    faces: int | None = None

    @classmethod
    def usual(cls, images: int) -> Room:
        """Twice and three times what illustrations have on average: enough for nearly all batches.

        Measured on 150 fan-art illustrations: 14 proposals (99 % have at most 44) and 3 faces (99 %: 18) each.
        """
        return cls(max(96, 32 * images), max(32, 8 * images))


def first_rows(mask: Tensor, room: int | None) -> Tensor:
    """The rows where ``mask [N]`` holds, in order, followed by others up to ``room`` of them.

    Without a room they are exactly those, and the host waits to learn how many.

    >>> first_rows(torch.tensor([False, True, False, True, True]), 4).tolist()
    [1, 3, 4, 0]
    >>> first_rows(torch.tensor([False, True, False, True, True]), 2).tolist()
    [1, 3]
    """
    if room is None:
        return mask.nonzero()[:, 0]
    return (~mask).to(torch.uint8).argsort(stable=True)[:room]


@dataclass(frozen=True)
class PaddedFaces:
    """Up to M faces of a batch.

    Attributes:
        boxes: ``[M, 4]``, scores: ``[M]``, image_index: ``[M]``, as in :class:`~anigender.faces.Faces`, filling at the
            end.
        counts: ``[2]`` int64: how many proposals and how many faces there are, whether there was room or not.
        finite: ``[B]`` bool: which pictures hold neither NaN nor infinity.
        sizes: (height, width) of each picture.
        room: what there was room for.
        first: the place of the first picture in the caller's batch.
        probabilities: ``[M, 2]``, or None before classification.
    """

    boxes: Tensor
    scores: Tensor
    image_index: Tensor
    counts: Tensor
    finite: Tensor
    sizes: list[tuple[int, int]]
    room: Room
    first: int = 0
    probabilities: Tensor | None = None

    def faces(self) -> Faces:
        """All M rows as faces, filling included: for what works on every row alike."""
        sizes = on_device(self.sizes, self.boxes.device, torch.int64)
        return Faces(self.boxes, self.scores, self.image_index, sizes, self.probabilities)

    def packed(self) -> Tensor:
        """Everything as one row of float32, exact for whole numbers up to 2**24."""
        parts = [self.counts, self.finite, self.boxes, self.scores, self.image_index]
        if self.probabilities is not None:
            parts.append(self.probabilities)
        return torch.cat([part.reshape(-1).float() for part in parts])


def read(parts: Sequence[PaddedFaces]) -> list[Faces | Room]:
    """What the device found, with one copy to the host for all parts.

    Returns:
        For each part its faces on the device, which have a copy on the host to answer from; or, where there was not
        enough room, how much will be enough.

    Raises:
        ValueError: a picture holds NaN or infinity.
    """
    rows = [part.packed() for part in parts]
    host = torch.cat(rows).cpu().split([len(row) for row in rows])
    return [_unpacked(part, row) for part, row in zip(parts, host, strict=True)]


def _unpacked(part: PaddedFaces, row: Tensor) -> Faces | Room:
    count, room = len(part.sizes), len(part.scores)
    lengths = [2, count, 4 * room, room, room, 2 * room if part.probabilities is not None else 0]
    counts, finite, boxes, scores, image_index, probabilities = row.split(lengths)
    if not bool(finite.all()):
        raise finite_error(int((finite == 0).nonzero()[0]) + part.first)
    proposals, faces = (int(value) for value in counts)
    if part.room.proposals is not None and proposals > part.room.proposals:
        return Room(proposals, proposals)
    if part.room.faces is not None and faces > part.room.faces:
        return Room(part.room.proposals, faces)
    on_host = Faces(
        boxes.view(-1, 4)[:faces],
        scores[:faces],
        image_index[:faces].long(),
        torch.tensor(part.sizes, dtype=torch.int64).reshape(-1, 2),
        probabilities.view(-1, 2)[:faces] if part.probabilities is not None else None,
    )
    whole = part.faces()
    found = Faces(
        whole.boxes[:faces],
        whole.scores[:faces],
        whole.image_index[:faces],
        whole.image_sizes,
        None if whole.probabilities is None else whole.probabilities[:faces],
    )
    return found.copied(on_host)
