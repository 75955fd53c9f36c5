"""All pictures of a batch as one texture, from which crops are sampled without asking the device where they are.

Which picture a face is in and how large it is, only the device knows while it works. Here every picture lies in a strip
of one tall image, its halves, quarters and so on (mip maps; Williams, "Pyramidal parametrics", 1983) to its right, as
the pages of a texture atlas do. Where each lies follows from the pictures' sizes, which the host knows, and a crop
of any picture at any level is a matter of coordinates: one kernel samples them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .transfer import on_device

SMALLEST = 8  # pixels of the longer side below which a picture is not halved again
AT_ONCE = 1 << 24  # points sampled at a time: bounds the memory of large crops


@dataclass(frozen=True)
class Texture:
    """The pictures of a batch with their mip maps.

    Attributes:
        pixels: ``[1, 3, H, W]`` float32 in 0-1.
        levels: ``[B, L, 4]`` float32: left, top, width and height of each picture's levels, in pixels; the last level
            is repeated for pictures with fewer.
    """

    pixels: Tensor
    levels: Tensor

    def crops(
        self, image_index: Tensor, corners: Tensor, sides: Tensor, size: int, flat_outside: bool = False
    ) -> Tensor:
        """Square crops, sampled at four points per pixel from the level that has at least one pixel per point.

        Args:
            image_index: ``[N]`` int64.
            corners: ``[N, 2]`` x and y of their upper left corners in whole pixels of the original picture.
            sides: ``[N]`` likewise, from 1.
            size: side of a crop in pixels.
            flat_outside: show the mean colour of what is seen beyond a picture, rather than its edge again.

        Returns:
            ``[N, 3, size, size]`` float32 in 0-1.
        """
        fine = 2 * size
        step = max(1, AT_ONCE // fine**2)
        parts = [
            self._sample(*rows, size, flat_outside)
            for rows in zip(image_index.split(step), corners.split(step), sides.split(step), strict=True)
        ]
        return torch.cat(parts).clamp_(0, 1) if parts else self.pixels.new_zeros(0, 3, size, size)

    def _sample(self, image_index: Tensor, corners: Tensor, sides: Tensor, size: int, flat_outside: bool) -> Tensor:
        fine = 2 * size
        deepest = self.levels.shape[1] - 1
        # A crop of no place, as of a picture with NaN, is sampled somewhere: as an index NaN would be out of bounds.
        level = (sides / fine).log2().ceil().nan_to_num(0.0).clamp(0, deepest).long()
        place = self.levels[image_index, level]
        # A picture with fewer levels is sampled from its last one, whose number its own width tells.
        whole = self.levels[image_index, 0]
        shrunk = (whole[:, 2:] / place[:, 2:]).amax(1).log2().round().exp2()
        # What the picture has of the crop takes up whole pixels of it, as where regions are cut and shrunk.
        ends, others = whole[:, 2:], corners + sides[:, None]
        first = torch.minimum(corners.clamp(min=0), ends - 1)
        last = torch.maximum(torch.minimum(others, ends), first + 1)
        # Multiplied first, since a half pixel must be one exactly to be rounded as where regions are cut.
        before = ((first - corners) * size / sides[:, None]).round().clamp(0, size - 1)
        after = torch.minimum(((others - last) * size / sides[:, None]).round().clamp(min=0), size - 1 - before)
        points = (torch.arange(fine, device=sides.device, dtype=torch.float32) + 0.5) / 2
        begin, end = before[..., None], (size - after)[..., None]
        inside = (points >= begin) & (points <= end)
        # Beyond the picture the crop's own pixels at its edge are repeated, not the picture's.
        points = torch.where(inside, points, torch.minimum(torch.maximum(points, begin + 0.5), end - 0.5))
        wanted = first[..., None] + (points - begin) * ((last - first)[..., None] / (end - begin))
        at = wanted / shrunk[:, None, None] - 0.5
        at = torch.minimum(at.clamp(min=0), place[:, 2:, None] - 1) + place[:, :2, None]
        extent = on_device([[self.pixels.shape[3]], [self.pixels.shape[2]]], at.device, torch.float32)
        at = (2 * at + 1) / extent - 1  # grid_sample's own units, with align_corners=False
        grid = torch.stack((at[:, 0, None, :].expand(-1, fine, -1), at[:, 1, :, None].expand(-1, -1, fine)), -1)
        out = F.grid_sample(self.pixels, grid.reshape(1, -1, fine, 2), mode="bilinear", align_corners=False)
        out = out.view(3, -1, fine, fine).transpose(0, 1)
        if flat_outside:
            seen = inside[:, None, 0, None, :] & inside[:, None, 1, :, None]
            mean = (out * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)
            out = torch.where(seen, out, mean)
        return F.avg_pool2d(out, 2)


def mip_levels(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of a picture and its halves; an odd side keeps its last row or column.

    >>> mip_levels(20, 9)
    [(0, 0, 9, 20), (9, 0, 5, 10), (9, 10, 3, 5)]
    """
    levels = [(0, 0, width, height)]
    left, top = width, 0
    while max(height, width) > SMALLEST:
        height, width = (height + 1) // 2, (width + 1) // 2
        levels.append((left, top, width, height))
        top += height
    return levels


def build(groups: Iterable[tuple[Tensor, list[int]]], count: int, device: torch.device) -> Texture:
    """The texture of a batch.

    Args:
        groups: pictures of one size each, ``[b, H, W, 3]`` uint8 or float, and their places in the batch.
        count: pictures in the batch.
        device: where they are.
    """
    groups = list(groups)
    layouts = [mip_levels(*pixels.shape[1:3]) for pixels, _ in groups]
    strips = [max(top + height for _, top, _, height in layout) for layout in layouts]
    width = max((left + w for layout in layouts for left, _, w, _ in layout), default=1)
    most = max((len(layout) for layout in layouts), default=1)
    height = sum(strip * len(index) for strip, (_, index) in zip(strips, groups, strict=True))
    canvas = torch.zeros(3, max(1, height), width, device=device)
    table: list[list[tuple[int, int, int, int]]] = [[] for _ in range(count)]
    first = 0
    for layout, strip, (pixels, index) in zip(layouts, strips, groups, strict=True):
        own = canvas[:, first : first + strip * len(index)].view(3, len(index), strip, width)
        level = pixels.permute(3, 0, 1, 2)
        level = level.float() / 255 if level.dtype == torch.uint8 else level.float()
        for depth, (x, y, w, h) in enumerate(layout):
            if depth:
                level = F.avg_pool2d(level, 2, ceil_mode=True, count_include_pad=False)
            own[:, :, y : y + h, x : x + w] = level
        for number, image in enumerate(index):
            top = first + strip * number
            rows = [(x, y + top, w, h) for x, y, w, h in layout]
            table[image] = rows + rows[-1:] * (most - len(rows))
        first += strip * len(index)
    return Texture(canvas[None], on_device(table, device, torch.float32).reshape(count, -1, 4))
