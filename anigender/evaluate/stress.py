"""A stress test of the classifier: the same heads in worse pictures and worse boxes.

The heads are found once, in the pictures as they are, so that what is measured is the classifier alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ..images import resize

REGION = 4.0  # head sides kept around a head: enough for every box below and the usual margins
LOWER = 0.06  # head sides that a face lies below the head's middle
HEAD = 128  # pixels that a head has at most in a region, unless a classifier wants more


def region(image: Tensor, box: Tensor, sides: float = REGION, head: int = HEAD) -> tuple[Tensor, Tensor]:
    """What surrounds a head, and its box therein; larger heads are shrunk.

    Args:
        image: ``[H, W, 3]`` uint8.
        box: ``[4]`` xyxy.
        sides: head sides that are kept.
        head: pixels that a head has at most.

    Returns:
        ``[h, w, 3]`` uint8 and ``[4]``.
    """
    side = float((box[2:] - box[:2]).max().clamp(min=1))
    centre = (box[:2] + box[2:]) / 2
    low = (centre - sides / 2 * side).floor().long().clamp(min=0)
    high = torch.minimum(
        (centre + sides / 2 * side).ceil().long(), torch.tensor([image.shape[1], image.shape[0]])
    ).maximum(low + 1)
    low = torch.minimum(low, torch.tensor([image.shape[1] - 1, image.shape[0] - 1]))
    part = image[int(low[1]) : int(high[1]), int(low[0]) : int(high[0])]
    inside = box - low.repeat(2)
    if side > head:
        scale = head / side
        height, width = (max(1, round(extent * scale)) for extent in part.shape[:2])
        part = resize(part[None], height, width)[0].permute(1, 2, 0)
        inside = inside * scale
    return part, inside


def _through_pillow(change: Callable[[Image.Image], Image.Image]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def changed(image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        picture = change(Image.fromarray(image.contiguous().numpy())).convert("RGB")
        return torch.from_numpy(np.asarray(picture).copy()), box

    return changed


def _blurred(part: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Gaussian blur whose deviation is this part of the head's side."""

    def changed(image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        radius = float((box[2:] - box[:2]).max()) / part
        return _through_pillow(lambda picture: picture.filter(ImageFilter.GaussianBlur(radius)))(image, box)

    return changed


def _jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(picture: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        stream.seek(0)
        return Image.open(stream)

    return change


def _small(side: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The head ``side`` pixels wide; smaller ones stay."""

    def changed(image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        scale = min(1.0, side / float((box[2:] - box[:2]).max().clamp(min=1)))
        height, width = (max(1, round(extent * scale)) for extent in image.shape[:2])
        return resize(image[None], height, width)[0].permute(1, 2, 0), box * scale

    return changed


def _turned(degrees: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Turned around the head; what comes in from outside is the picture's mean colour."""

    def changed(image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ((box[:2] + box[2:]) / 2).tolist()
        mean = tuple(int(v) for v in image.float().mean((0, 1)).tolist())
        picture = Image.fromarray(image.contiguous().numpy())
        turned = picture.rotate(degrees, Image.Resampling.BILINEAR, center=(x, y), fillcolor=mean)
        return torch.from_numpy(np.asarray(turned).copy()), box

    return changed


def _framed(scale: float, right: float = 0.0, down: float = 0.0) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The box ``scale`` times as large, and moved by shares of its sides."""

    def changed(image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        side = box[2:] - box[:2]
        centre = (box[:2] + box[2:]) / 2 + side * torch.tensor([right, down])
        return image, torch.cat((centre - side * scale / 2, centre + side * scale / 2))

    return changed


def _cut(scale: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The picture cut to a square ``scale`` times as large as the head's, a little lower, which is the box then."""

    def changed(image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        side = float((box[2:] - box[:2]).max())
        middle = (box[:2] + box[2:]) / 2 + torch.tensor([0.0, LOWER * side])
        ends = torch.tensor([image.shape[1], image.shape[0]])
        low = (middle - scale * side / 2).round().long().clamp(min=0).minimum(ends - 1)
        high = (middle + scale * side / 2).round().long().minimum(ends).maximum(low + 1)
        part = image[int(low[1]) : int(high[1]), int(low[0]) : int(high[0])]
        return part, torch.tensor([0.0, 0.0, part.shape[1], part.shape[0]])

    return changed


STRESSES: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "greyscale": _through_pillow(lambda picture: picture.convert("L")),
    "blur by a 64th of the head": _blurred(64),
    "JPEG, quality 20": _through_pillow(_jpeg(20)),
    "head of 32 pixels": _small(32),
    "head of 20 pixels": _small(20),
    "turned left by 20 degrees": _turned(20),
    "turned right by 20 degrees": _turned(-20),
    "box x 0.75": _framed(0.75),
    "box x 0.9": _framed(0.9),
    "box x 1.1": _framed(1.1),
    "box x 1.35": _framed(1.35),
    "box moved by 0.12 to the right": _framed(1.0, 0.12),
    "box moved by 0.12 upwards": _framed(1.0, 0.0, -0.12),
    "picture cut to 0.8 of the head": _cut(0.8),
    "picture cut to 0.65 of the head": _cut(0.65),
}
# Framings over the one a classifier was trained with.
MARGINS = (0.75, 0.85, 0.93, 1.0, 1.08, 1.17, 1.33, 1.5)
FRAMINGS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    f"{scale:.2f}": _framed(scale) for scale in MARGINS
}
