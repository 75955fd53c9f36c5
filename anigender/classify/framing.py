"""Cutting heads out the way a classifier was trained: our own square crops, or other people's resizing.

Pillow's and OpenCV's Lanczos filters have no equal in torch. Both are separable, so resizing is a multiplication by one
matrix per axis, for all crops of one size at once and on any device.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..faces import Faces
from ..images import Batch, Images, check, head_crops, unit_range

LOBES = 3  # of Pillow's filter
TAPS = 8  # of OpenCV's
FARTHEST = 8  # longer sides of the picture, beyond which no region reaches
LONGEST_KEPT = 8192  # pixels of an axis whose matrix is kept for the next head
AT_ONCE = 1 << 25  # values of regions that are resized together


class Framed(Protocol):
    """What is asked of a classifier.

    Its ``below``, ``framing``, ``resample``, ``outside`` and ``cut_scale`` may be absent.
    """

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
            (:data:`~.preprocessing.SETTINGS`); with plain squares ``outside`` and ``cut_scale`` too.

    Returns:
        ``[N, 3, size, size]`` float32 in 0-1 on the images' device, in the faces' order.
    """
    framing, resample = _framing(classifier)
    size, margin, below = classifier.size, classifier.margin, getattr(classifier, "below", 0.0)
    if samples(classifier):
        outside, cut_scale = getattr(classifier, "outside", "edge"), getattr(classifier, "cut_scale", 1.0)
        return head_crops(images, faces, size, margin, below, outside, cut_scale)
    batch = images if isinstance(images, Batch) else check(images)
    if faces.images != len(batch):
        raise ValueError(f"the faces belong to {faces.images} images, {len(batch)} were given")
    crops = torch.empty(len(faces), 3, size, size, device=batch.device)
    host = faces.cpu()
    boxes, owners = host.boxes.tolist(), host.image_index.tolist()
    for group in batch.groups:
        places = {image: place for place, image in enumerate(group.index)}
        height, width = group.pixels.shape[1:3]
        alike: dict[tuple[Axis, Axis], list[tuple[int, Tensor]]] = {}
        for row, (box, image) in enumerate(zip(boxes, owners, strict=True)):
            if image in places:
                ys, xs = _region(box, margin, below, height, width, square=framing == "head")
                (y0, y1, down), (x0, x1, across) = _inside(ys, height), _inside(xs, width)
                inner = group.pixels[places[image], y0:y1, x0:x1].permute(2, 0, 1)
                alike.setdefault((down, across), []).append((row, inner))
        for (down, across), members in alike.items():
            step = max(1, AT_ONCE // (3 * down.inside * across.inside))
            for first in range(0, len(members), step):
                part = members[first : first + step]
                regions = unit_range(torch.stack([inner for _, inner in part]))
                crops[[row for row, _ in part]] = _resized(regions, down, across, size, resample)
    return crops


class Axis(NamedTuple):
    """How what is shown lies over one side of a picture: how long it is, how much of it the picture has, and how
    far before that it begins."""

    length: int
    inside: int
    before: int


def _inside(shown: range, length: int) -> tuple[int, int, Axis]:
    """Of ``shown`` the part that a side of ``length`` pixels has, one pixel at least: its ends, and where it lies."""
    first = min(max(shown[0], 0), length - 1)
    last = max(min(shown[-1] + 1, length), first + 1)
    return first, last, Axis(len(shown), last - first, first - shown[0])


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
    # Nonsense stays as large as can be computed; no head is anywhere near.
    reach = FARTHEST * max(height, width)
    w, h = min(w, reach), min(h, reach)
    middle_x, middle_y = (min(max((low + high) / 2, -reach), reach) for low, high in ((x0, x1), (y0, y1)))
    left, top = round(middle_x - w / 2), round(middle_y - h / 2)
    right, bottom = left + max(1, round(w)), top + max(1, round(h))
    if not square:
        left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
        right, bottom = max(min(right, width), left + 1), max(min(bottom, height), top + 1)
    return range(top, bottom), range(left, right)


def resized(regions: Tensor, size: int, resample: str) -> Tensor:
    """The shorter side to ``size``, then the top left square.

    Args:
        regions: ``[B, 3, H, W]`` float in 0-1.
        size: in pixels.
        resample: ``bilinear`` (antialiased), ``lanczos`` or ``lanczos4``.

    Returns:
        ``[B, 3, size, size]`` float32 in 0-1.
    """
    down, across = (Axis(side, side, 0) for side in regions.shape[-2:])
    return _resized(regions, down, across, size, resample)


def _resized(regions: Tensor, down: Axis, across: Axis, size: int, resample: str) -> Tensor:
    """The same of regions of which only the part inside the picture is given; outside, the edge is repeated.

    What is outside is never made: the weights of its pixels are added to those of the edge that they repeat.
    """
    scale = size / min(down.length, across.length)
    by_rows, by_columns = (_folded(axis, scale, size, resample).to(regions.device) for axis in (down, across))
    x = regions.float() @ by_columns.T
    if resample == "lanczos":  # Pillow keeps 8 bits between the two directions
        x = x.clamp(0, 1)
    return (by_rows @ x).clamp(0, 1)


def _folded(axis: Axis, scale: float, size: int, resample: str) -> Tensor:
    """``[size, inside]``: the matrix that resizes an axis, of its part inside the picture."""
    make = matrix if axis.length <= LONGEST_KEPT else matrix.__wrapped__
    weights = make(axis.length, max(size, round(axis.length * scale)), size, resample)
    if axis.length == axis.inside:
        return weights
    places = (torch.arange(axis.length) - axis.before).clamp(0, axis.inside - 1)
    return torch.zeros(len(weights), axis.inside).index_add_(1, places, weights)


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
