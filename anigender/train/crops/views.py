"""Cached crops as a classifier sees them: exactly as at inference for judging, and varied for learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...classify import Classifier, classifier_crops
from ...faces import Faces
from ...images import check
from .augment import augment, backgrounds, disturbed, vary_surroundings
from .crops import Crops

WIDEST = 1.4  # of the framings that views vary over, over the one that inference uses
SHARPEST = 512  # pixels of a cached crop at most


def cache_shape(classifier: Classifier, size: int, margin: float) -> tuple[int, float]:
    """Side in pixels and margin of the crops that a classifier learns from.

    Args:
        classifier: whose input size and framing they serve.
        size, margin: what is taken where it suffices, so that one cache serves many.
    """
    wanted = round(classifier.margin * WIDEST + 2 * abs(classifier.below), 2)
    sharp = classifier.size / classifier.margin  # pixels of a head in the net's input
    if wanted <= margin * 1.03 and sharp <= size / margin * 1.05:
        return size, margin
    return min(SHARPEST, max(64, round(sharp * wanted))), wanted


def _inside(crop: Tensor, extent: np.ndarray, margin: float) -> tuple[Tensor, Tensor]:
    """The part of a crop ``[C, K, K]`` that the picture has, as ``[h, w, C]``, and the head's box in it."""
    size = crop.shape[-1]
    x0, y0, x1, y1 = (round(float(v) * size) for v in extent)
    x0, y0 = min(x0, size - 1), min(y0, size - 1)
    part = crop[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].permute(1, 2, 0)
    half = size / margin / 2
    box = torch.tensor([size / 2 - half, size / 2 - half, size / 2 + half, size / 2 + half])
    return part, box - torch.tensor([x0, y0, x0, y0])


def _extent(crops: Crops, row: int) -> np.ndarray:
    return np.array([0.0, 0.0, 1.0, 1.0]) if crops.extents is None else crops.extents[row]


def plain_views(crops: Crops, rows: Sequence[int], classifier: Classifier) -> Tensor:
    """What the classifier sees of some crops at inference, over white: ``[n, 3, S, S]`` in 0-1."""
    rgba = crops.pixels[list(rows)].float() / 255
    over_white = rgba[:, :3] * rgba[:, 3:] + (1 - rgba[:, 3:])
    return _cut(over_white, crops, rows, classifier)


def varied_views(
    crops: Crops,
    rows: Sequence[int],
    classifier: Classifier,
    rng: np.random.Generator,
    generator: torch.Generator,
    strength: float,
) -> Tensor:
    """Views to learn from, ``[n, 3, S, S]`` in 0-1: other framings, colours, backgrounds and qualities.

    Square framings are cut as :func:`~.augment.augment` does, whatever the classifier resamples with, which views of
    worse quality make up for. Others are cut by the code of inference from boxes that vary.

    Args:
        crops: of which.
        rows: ``[n]``.
        classifier: says input size and framing.
        rng, generator: the randomness; equal seeds give equal views.
        strength: of the changes, from 0.
    """
    pixels = crops.pixels[list(rows)]
    if classifier.framing == "head":
        if classifier.outside == "mean" and crops.extents is not None:
            pixels = vary_surroundings(pixels, crops.extents[list(rows)], rng)
        framing = (classifier.margin, classifier.below)
        return augment(pixels, classifier.size, rng, generator, strength, *framing, cached=crops.margin)
    rgba = pixels.float() / 255
    behind = backgrounds(len(rgba), rgba.shape[-1], generator)
    x = _cut(rgba[:, :3] * rgba[:, 3:] + behind * (1 - rgba[:, 3:]), crops, rows, classifier, rng, strength)
    mirrored = torch.from_numpy(rng.random(len(x)) < 0.5)
    x[mirrored] = x[mirrored].flip(-1)
    return disturbed(x, rng, generator, strength)


def _cut(
    pixels: Tensor,
    crops: Crops,
    rows: Sequence[int],
    classifier: Classifier,
    rng: np.random.Generator | None = None,
    strength: float = 0.0,
) -> Tensor:
    """Crops ``[n, 3, K, K]`` in 0-1 through the code of inference, from boxes that vary where there is an ``rng``."""
    images, boxes = [], []
    for crop, row in zip(pixels, rows, strict=True):
        image, box = _inside(crop, _extent(crops, row), crops.margin)
        if rng is not None:
            middle, side = (box[:2] + box[2:]) / 2, float(box[2] - box[0])
            middle = middle + torch.from_numpy(rng.normal(0, 0.05 * strength, 2).astype(np.float32)) * side
            half = side / 2 * (1.08 + 0.3 * strength * float(rng.uniform(-1, 1)))
            box = torch.cat((middle - half, middle + half))
        images.append(image)
        boxes.append(box[None])
    faces = Faces.from_boxes(boxes, [(image.shape[0], image.shape[1]) for image in images])
    return classifier_crops(check(images), faces, classifier)
