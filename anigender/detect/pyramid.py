"""The image pyramid of OpenCV 4's cascades, bit for bit: grey, equalised, resized in fixed point, summed up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..images import unit_range

GREY_WEIGHTS = (9798, 19235, 3735)  # of red, green and blue in 1/32768: ITU-R BT.601 as OpenCV rounds it
STRIPE = 32  # columns of windows at the first scale for which OpenCV makes one stripe
STEP_CHANGES_AT = 2.0  # the scale from which every pixel is looked at, below it every other one


@dataclass(frozen=True)
class Level:
    """One scale.

    Attributes:
        scale: pixels of the picture for one of this level.
        width, height: of the picture at this scale.
        step: windows start at every ``step``-th pixel.
        rows, columns: windows start in the first so many pixel rows and columns.
    """

    scale: float
    width: int
    height: int
    step: int
    rows: int
    columns: int


def levels(width: int, height: int, window: tuple[int, int], factor: float, smallest: int) -> list[Level]:
    """The scales at which a picture is searched.

    OpenCV shares the rows out among stripes of even height; where they come out even but the rows do not, the last
    row is nobody's. It is left out here too.

    Args:
        width, height: of the picture in pixels.
        window: width and height of the cascade's window.
        factor: each scale over the one before it.
        smallest: side in pixels of the picture below which windows are left out.

    >>> [(level.width, level.step, level.rows) for level in levels(60, 60, (24, 24), 1.5, 24)]
    [(60, 2, 36), (40, 2, 16), (27, 1, 4)]
    """
    found: list[Level] = []
    scale, stripes = 1.0, 0
    # Python's round is OpenCV's cvRound: half to even.
    while round(window[0] * scale) <= width and round(window[1] * scale) <= height:
        single = np.float32(scale)
        if min(round(float(side * single)) for side in window) >= smallest:
            across, down = (round(float(np.float32(side) / single)) for side in (width, height))
            step = 1 if single >= STEP_CHANGES_AT else 2
            columns, rows = max(0, across + 1 - window[0]), max(0, down + 1 - window[1])
            stripes = stripes or math.ceil(columns / STRIPE)
            covered = stripes * max(1, math.ceil(rows // step / max(1, stripes))) * step
            found.append(Level(float(single), across, down, step, min(rows, covered), columns))
        scale *= factor
    return found


def grey(pixels: Tensor) -> Tensor:
    """``[b, H, W, 3]`` RGB, bytes or 0-1, to ``[b, H, W]`` int32 0-255 by OpenCV's fixed-point weights."""
    if pixels.dtype != torch.uint8:
        pixels = (unit_range(pixels) * 255 + 0.5).to(torch.uint8)
    red, green, blue = (pixels[..., i].int() * weight for i, weight in enumerate(GREY_WEIGHTS))
    return (red + green + blue + (1 << 14)) >> 15


def equalise(images: Tensor) -> Tensor:
    """Histogram equalisation of each of ``[b, H, W]`` int32 0-255, as OpenCV's ``equalizeHist``; same shape."""
    count, total = images.shape[0], images.shape[1] * images.shape[2]
    flat = images.reshape(count, -1)
    places = flat.long() + 256 * torch.arange(count, device=images.device)[:, None]
    histogram = torch.bincount(places.reshape(-1), minlength=256 * count).reshape(count, 256)
    sums = histogram.cumsum(1)
    lowest = (histogram > 0).int().argmax(1, keepdim=True)
    at_lowest = histogram.gather(1, lowest)
    scale = torch.tensor(255.0, device=images.device) / (total - at_lowest).clamp(min=1).float()
    table = ((sums - at_lowest).clamp(min=0).float() * scale).round().int()
    # A picture of one grey stays as it is.
    table = torch.where(at_lowest == total, lowest.int(), table)
    return table.reshape(-1).index_select(0, places.reshape(-1)).reshape(images.shape)


def _taps(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each target pixel its two source pixels and the second one's weight in 1/256 (the first has the rest)."""
    at = 1 / (target / source) * (np.arange(target) + 0.5) - 0.5  # divided twice, as OpenCV does it
    low = np.floor(at)
    weight = np.rint((at - low) * 256)
    weight[(low < 0) | (low >= source - 1)] = 0
    low = np.clip(low, 0, source - 1).astype(np.int64)
    high = np.minimum(low + 1, source - 1)
    first, second = (torch.from_numpy(pixels).to(device) for pixels in (low, high))
    return first, second, torch.from_numpy(weight.astype(np.int32)).to(device)


def resize_exact_transposed(images: Tensor, width: int, height: int) -> Tensor:
    """``[b, H, W]`` int32 to ``[b, width, height]``: OpenCV's ``INTER_LINEAR_EXACT``, its axes exchanged.

    Both passes pick whole rows, which is many times as fast as picking columns; hence the exchange.
    """

    def rows(x: Tensor, size: int) -> Tensor:
        low, high, weight = _taps(x.shape[1], size, x.device)
        weight = weight[:, None]
        return x.index_select(1, low).mul_(256 - weight).add_(x.index_select(1, high).mul_(weight))

    if images.shape[1:] == (height, width):
        return images.transpose(1, 2).contiguous()
    down = rows(images, height).transpose(1, 2).contiguous()
    return (rows(down, width).add_(1 << 15)) >> 16


def integral(transposed: Tensor, dtype: torch.dtype) -> Tensor:
    """``[b, w, h]`` int32 to ``[b, h, w]``: sums over all pixels above and to the left, the pixel itself included.

    With ``int16`` the sums wrap; differences of them are right as long as the sum asked for is below 32768.
    """
    down = transposed.cumsum(2, dtype=torch.int32).transpose(1, 2).contiguous()
    return down.cumsum(2, dtype=torch.int32).to(dtype)


def rows_needed(side: int) -> int:
    """Rows (or columns) of a summed-area table: one of zeros first, and an even number to split into two halves.

    >>> rows_needed(4), rows_needed(5)
    (6, 6)
    """
    return math.ceil((side + 1) / 2) * 2
