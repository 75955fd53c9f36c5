"""Cutting heads out the way a classifier was trained: our own square crops, or other people's resizing.

Pillow's and OpenCV's Lanczos filters have no equal in torch. Both are separable, so resizing is a multiplication by one
matrix per axis, for all crops of one size at once and on any device.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from ..faces import Faces
from ..images import Batch, Images, check, head_crops, unit_range
from ..transfer import on_device

LOBES = 3  # of Pillow's filter
TAPS = 8  # of OpenCV's
AT_ONCE = 1 << 25  # values of regions that are resized together


class Framed(Protocol):
    """What is asked of a classifier; its ``below``, ``framing`` and ``resample`` may be absent."""

    size: int
    margin: float


def _framing(classifier: Framed) -> tuple[str, str]:
    return getattr(classifier, "framing", "head"), getattr(classifier, "resample", "bilinear")


def samples(classifier: Framed) -> bool:
    """Whether its crops are plain squares that can be sampled where the boxes are, without the host's knowing them."""
    return _framing(classifier) == ("head", "bilinear")


def classifier_crops(images: Images | Batch, faces: Faces, classifier: Framed) -> Tensor:
    """The crops that a classifier wants of these faces.

    Args:
        images: the batch in which the faces were found.
        faces: their boxes, on the images' device.
        classifier: says ``size``, ``margin``, and perhaps ``below``, ``framing`` and ``resample``
            (:data:`~.preprocessing.SETTINGS`).

    Returns:
        ``[N, 3, size, size]`` float32 in 0-1 on the images' device, in the faces' order.
    """
    framing, resample = _framing(classifier)
    size, margin, below = classifier.size, classifier.margin, getattr(classifier, "below", 0.0)
    if samples(classifier):
        return head_crops(images, faces, size, margin, below)
    batch = images if isinstance(images, Batch) else check(images)
    if faces.images != len(batch):
        raise ValueError(f"the faces belong to {faces.images} images, {len(batch)} were given")
    crops = torch.empty(len(faces), 3, size, size, device=batch.device)
    boxes, owners = faces.boxes.tolist(), faces.image_index.tolist()
    for group in batch.groups:
        places = {image: place for place, image in enumerate(group.index)}
        height, width = group.pixels.shape[1:3]
        by_shape: dict[tuple[int, int], list[tuple[int, int, range, range]]] = {}
        for row, (box, image) in enumerate(zip(boxes, owners, strict=True)):
            if image in places:
                ys, xs = _region(box, margin, below, height, width, square=framing == "head")
                by_shape.setdefault((len(ys), len(xs)), []).append((row, places[image], ys, xs))
        for (h, w), members in by_shape.items():
            step = max(1, AT_ONCE // (3 * h * w))
            for first in range(0, len(members), step):
                part = members[first : first + step]
                regions = torch.stack([_cut(group.pixels[place], ys, xs) for _, place, ys, xs in part])
                crops[[row for row, *_ in part]] = resized(regions, size, resample)
    return crops


def _region(
    box: list[float], margin: float, below: float, height: int, width: int, square: bool
) -> tuple[range, range]:
    """Rows and columns of what is shown of a box: a square that may leave the picture, or its part of the picture."""
    x0, y0, x1, y1 = box
    w, h = max(1.0, x1 - x0), max(1.0, y1 - y0)
    y0, y1 = y0 + below * max(w, h), y1 + below * max(w, h)
    w, h = w * margin, h * margin
    if square:
        w = h = max(w, h)
    left, top = round((x0 + x1 - w) / 2), round((y0 + y1 - h) / 2)
    right, bottom = left + max(1, round(w)), top + max(1, round(h))
    if not square:
        left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
        right, bottom = max(min(right, width), left + 1), max(min(bottom, height), top + 1)
    return range(top, bottom), range(left, right)


def _cut(pixels: Tensor, ys: range, xs: range) -> Tensor:
    """``[3, len(ys), len(xs)]`` float32 in 0-1 from ``[H, W, 3]``; outside, the edge is repeated."""
    height, width = pixels.shape[:2]
    inner = pixels[max(ys[0], 0) : ys[-1] + 1, max(xs[0], 0) : xs[-1] + 1]
    if inner.shape[0] != len(ys):
        inner = pixels.index_select(0, on_device(ys, pixels.device).clamp(0, height - 1))
        inner = inner[:, max(xs[0], 0) : xs[-1] + 1]
    if inner.shape[1] != len(xs):
        columns = on_device(xs, pixels.device).clamp(0, width - 1)
        rows = on_device(ys, pixels.device).clamp(0, height - 1)
        inner = pixels.index_select(0, rows).index_select(1, columns)
    return unit_range(inner.permute(2, 0, 1))


def resized(regions: Tensor, size: int, resample: str) -> Tensor:
    """The shorter side to ``size``, then the top left square.

    Args:
        regions: ``[B, 3, H, W]`` float in 0-1.
        size: in pixels.
        resample: ``bilinear`` (antialiased), ``lanczos`` or ``lanczos4``.

    Returns:
        ``[B, 3, size, size]`` float32 in 0-1.
    """
    height, width = regions.shape[-2:]
    scale = size / min(height, width)
    down = matrix(height, max(size, round(height * scale)), size, resample).to(regions.device)
    across = matrix(width, max(size, round(width * scale)), size, resample).to(regions.device)
    x = regions.float() @ across.T
    if resample == "lanczos":  # Pillow keeps 8 bits between the two directions
        x = x.clamp(0, 1)
    return (down @ x).clamp(0, 1)


@lru_cache(maxsize=64)
def matrix(before: int, after: int, rows: int, resample: str) -> Tensor:
    """The first ``rows`` rows of the matrix that resizes an axis from ``before`` to ``after`` pixels.

    ``lanczos``: the filter of Pillow's ``Image.resize``, three lobes wide, widened when shrinking. ``bilinear``: the
    same with a triangle. ``lanczos4``: that of OpenCV's ``resize``, four lobes of source pixels whatever the scale, the
    edge repeated.

    Returns:
        ``[rows, before]`` float32; every row sums to 1.
    """
    scale = before / after
    centres = (torch.arange(rows, dtype=torch.float64) + 0.5) * scale
    if resample == "lanczos4":
        taps = (centres - 0.5).floor()[:, None] + torch.arange(1 - TAPS // 2, TAPS // 2 + 1)
        x = taps + 0.5 - centres[:, None]
        weights = torch.sinc(x) * torch.sinc(x / (TAPS // 2))
        found = torch.zeros(rows, before, dtype=torch.float64)
        found.scatter_add_(1, taps.long().clamp(0, before - 1), weights)
    else:
        stretch = max(scale, 1.0)
        places = torch.arange(before, dtype=torch.float64) + 0.5
        x = (places - centres[:, None]) / stretch
        lanczos = torch.where(x.abs() < LOBES, torch.sinc(x) * torch.sinc(x / LOBES), 0)
        found = lanczos if resample == "lanczos" else (1 - x.abs()).clamp(min=0)
    return (found / found.sum(1, keepdim=True)).float()
