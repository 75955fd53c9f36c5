"""Axis-aligned boxes as tensors: overlap, clipping, suppression, and how a face square relates to a head square.

Boxes are ``[..., 4]`` float tensors ``(x1, y1, x2, y2)`` in pixels, x to the right and y down, unless a
docstring says otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A head square (face with hair) is this many times as wide as the face square that nagadomi's LBP cascade draws,
# and its centre lies this share of the face's side higher: medians over the pictures for which both are known.
HEAD_PER_FACE = 1.4
HEAD_RISE_PER_FACE = 0.085
# animeface-2009 draws tighter squares (from the brows to the chin); the same relation for those.
HEAD_PER_TIGHT_FACE = 2.05
HEAD_RISE_PER_TIGHT_FACE = 0.13


def head_from_face(boxes: Tensor, scale: float = HEAD_PER_FACE, rise: float = HEAD_RISE_PER_FACE) -> Tensor:
    """Turn face squares into the head squares that this project's detector predicts.

    Args:
        boxes: ``[..., 4]`` face boxes.
        scale: head side over face side.
        rise: how far the head's centre lies above the face's, as a share of the face's side.

    Returns:
        ``[..., 4]`` head squares; they may reach beyond the picture (see :func:`clip`).

    >>> head_from_face(torch.tensor([100.0, 100.0, 200.0, 200.0])).tolist()
    [80.0, 71.5, 220.0, 211.5]
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    side = (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True)
    centre = torch.stack((centre[..., 0], centre[..., 1] - rise * side[..., 0]), -1)
    half = side * scale / 2
    return torch.cat((centre - half, centre + half), -1)


def face_from_head(boxes: Tensor, scale: float = HEAD_PER_FACE, rise: float = HEAD_RISE_PER_FACE) -> Tensor:
    """The inverse of :func:`head_from_face` for unclipped head squares ``[..., 4]``."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    side = (boxes[..., 2:] - boxes[..., :2]).amax(-1, keepdim=True) / scale
    centre = torch.stack((centre[..., 0], centre[..., 1] + rise * side[..., 0]), -1)
    return torch.cat((centre - side / 2, centre + side / 2), -1)


def clip(boxes: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Cut boxes ``[..., 4]`` off at the picture's borders; sizes are numbers or broadcast against ``[...]``."""
    width = torch.as_tensor(width, dtype=boxes.dtype, device=boxes.device)
    height = torch.as_tensor(height, dtype=boxes.dtype, device=boxes.device)
    limit = torch.stack(torch.broadcast_tensors(width, height, width, height), -1)
    return torch.minimum(boxes.clamp(min=0), limit)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every box of ``first [..., N, 4]`` with every one of ``second [..., M, 4]``.

    Returns:
        ``[..., N, M]`` in 0..1; pairs of empty boxes give 0.
    """
    overlap = (
        torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
        - torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    ).clamp(min=0)
    shared = overlap[..., 0] * overlap[..., 1]
    area_first = (first[..., 2:] - first[..., :2]).clamp(min=0).prod(-1)
    area_second = (second[..., 2:] - second[..., :2]).clamp(min=0).prod(-1)
    union = area_first[..., :, None] + area_second[..., None, :] - shared
    return shared / union.clamp(min=1e-9)


def suppress(
    boxes: Tensor,
    valid: Tensor,
    iou_threshold: float,
    rounds: int = 16,
    concentric: float = 0.0,
    owners: Tensor | None = None,
) -> Tensor:
    """Greedy non-maximum suppression for a whole batch at once, without asking the device anything.

    A box is kept when no kept box before it overlaps it by more than ``iou_threshold``. That rule is a fixed
    point: starting from "all kept", each round settles the boxes one link further down every chain of overlapping
    boxes, so ``rounds`` bounds the length of a chain (16 is far beyond what heads form), not the number of boxes.

    Args:
        boxes: ``[B, K, 4]``, each row sorted by falling score.
        valid: ``[B, K]`` bool; boxes that take part.
        iou_threshold: overlap above which the later box goes.
        rounds: see above.
        concentric: the later box goes too when the centres are nearer than this share of the larger box's longer
            side, whatever the sizes: a face in its own head, a head with its shoulders.
        owners: ``[B, K]``, where a row holds the boxes of several pictures: only those of one meet.

    Returns:
        ``[B, K]`` bool: the boxes that stay.
    """
    overlaps = pairwise_iou(boxes, boxes) > iou_threshold
    if concentric:
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        sides = (boxes[..., 2:] - boxes[..., :2]).amax(-1)
        apart = (centres[..., :, None, :] - centres[..., None, :, :]).abs().amax(-1)
        overlaps |= apart < concentric * torch.maximum(sides[..., :, None], sides[..., None, :])
    if owners is not None:
        overlaps &= owners[..., :, None] == owners[..., None, :]
    earlier = torch.ones(overlaps.shape[-2:], dtype=torch.bool, device=boxes.device).tril(-1)
    overlaps = overlaps & earlier & valid[:, None, :]
    keep = valid
    for _ in range(rounds):
        before, keep = keep, valid & ~(overlaps & keep[:, None, :]).any(-1)
        if keep.is_cpu and torch.equal(before, keep):  # where asking costs nothing
            break
    return keep
