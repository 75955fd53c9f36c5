"""From what a detector found to ``Faces``: the same limits and order for every detector, and heads for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..bounding_boxes import head_boxes
from ..boxes import clip
from ..faces import Faces


def as_faces(
    boxes: Sequence[Tensor | np.ndarray],
    scores: Sequence[Tensor | np.ndarray],
    sizes: Sequence[tuple[int, int]],
    device: torch.device,
    region: str,
    threshold: float = 0.0,
    minimum_size: float = 0.0,
) -> Faces:
    """Faces by falling score inside each picture, cut off at its borders.

    Args:
        boxes: for each picture ``[n, 4]`` xyxy in its pixels.
        scores: for each picture ``[n]``, 0-1.
        sizes: for each picture (height, width).
        device: where the faces will be.
        region: what the boxes frame; see :data:`anigender.bounding_boxes.KINDS`.
        threshold: lowest score.
        minimum_size: shortest side in pixels of the head that a box stands for.
    """
    rows, marks = [], []
    for own, score, (height, width) in zip(boxes, scores, sizes, strict=True):
        box = clip(torch.as_tensor(own, dtype=torch.float32).reshape(-1, 4), width, height)
        score = torch.as_tensor(score, dtype=torch.float32).reshape(-1)
        head = head_boxes(box, region)
        keep = (score >= threshold) & ((head[:, 2:] - head[:, :2]).amin(-1) >= minimum_size)
        keep &= (box[:, 2:] - box[:, :2]).amin(-1) > 0
        box, score = box[keep], score[keep]
        order = score.argsort(descending=True, stable=True)
        rows.append(box[order])
        marks.append(score[order])
    return Faces.from_boxes(rows, sizes, marks, device) if len(sizes) else Faces.empty([]).to(device)


def as_heads(faces: Faces, region: str) -> Faces:
    """What a detector found, with its boxes turned into those of heads and cut off at the pictures' borders.

    This is the one place where a detector's own convention ends: behind it every box frames a head.

    Args:
        faces: as the detector gave them.
        region: what its boxes frame; see :data:`anigender.bounding_boxes.KINDS`.
    """
    return faces if region == "head" else replace(faces, boxes=head_boxes(faces.boxes, region)).clipped()
