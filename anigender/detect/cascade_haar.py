"""Haar-like features of windows, upright and tilted, as OpenCV 4 computes them.

A feature is a weighted sum over up to three rectangles, divided by the standard deviation of the window's brightness
(Viola and Jones, 2001); rectangles turned by 45 degrees are after Lienhart and Maydt, "An Extended Set of Haar-like
Features for Rapid Object Detection", 2002.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .cascade_file import CascadeFile
from .pyramid import Level, integral

LEAST_CONTRAST = 0.1  # OpenCV's own: windows whose area over their summed deviation reaches it are left out


class HaarFeatures(nn.Module):
    """The features of a Haar cascade, with the interface of :class:`anigender.detect.cascade_lbp.Patterns`.

    Args:
        file: the cascade.

    Attributes:
        x, y: ``[features, 3, 4]`` int64, the corners of each feature's rectangles in the order of their signs.
        weights: ``[features, 3]`` float32, 0 where there is no rectangle.
        tilted: ``[features]`` int64: 1 for tilted features.
        gathers: numbers read for one feature of one window.
    """

    x: Tensor
    y: Tensor
    weights: Tensor
    tilted: Tensor
    gathers = 12

    def __init__(self, file: CascadeFile) -> None:
        super().__init__()
        rectangles = np.zeros((len(file.haar), 3, 4), np.int64)
        weights = np.zeros((len(file.haar), 3), np.float32)
        tilted = np.array([feature.tilted for feature in file.haar], np.int64)
        for row, feature in enumerate(file.haar):
            rectangles[row, : len(feature.weights)] = feature.rectangles
            weights[row, : len(feature.weights)] = feature.weights
        x, y, w, h = rectangles.transpose(2, 0, 1)
        turned = tilted[:, None, None] > 0
        zero = np.zeros_like(x)
        dx = np.where(turned, np.stack((zero, -h, w, w - h), -1), np.stack((zero, w, zero, w), -1))
        dy = np.where(turned, np.stack((zero, h, w, w + h), -1), np.stack((zero, zero, h, h), -1))
        self.register_buffer("x", torch.from_numpy(x[..., None] + dx))
        self.register_buffer("y", torch.from_numpy(y[..., None] + dy))
        self.register_buffer("weights", torch.from_numpy(weights))
        self.register_buffer("tilted", torch.from_numpy(tilted))
        self.inner = (file.width - 2, file.height - 2)
        self.any_tilted = bool(tilted.any())

    def tables(self, pictures: int, rows: int, stride: int) -> Tensor:
        """``[3, pictures, rows, stride]`` zeros, for sums, sums of turned squares (if any are asked for), and squares.

        All are kept modulo 2 ** 32: differences are right as long as the sum asked for is below.
        """
        kinds = 3 if self.any_tilted else 2
        return torch.zeros(kinds, pictures, rows, stride, dtype=torch.int32, device=self.x.device)

    def fill(self, tables: Tensor, start: int, level: Level, transposed: Tensor) -> None:
        """Write one level, ``[b, width, height]`` grey, into the rows from ``start``."""
        rows, columns = slice(start + 1, start + 1 + level.height), slice(1, level.width + 1)
        tables[0, :, rows, columns] = integral(transposed, torch.int32)
        tables[-1, :, rows, columns] = integral(transposed * transposed, torch.int32)
        if self.any_tilted:
            tables[1, :, rows, : level.width + 1] = tilted_integral(transposed.transpose(1, 2))

    def values(self, tables: Tensor, places: Tensor, features: Tensor) -> Tensor:
        """``[F, n]`` float32 values of ``features [F]`` for windows at ``places [n]``."""
        kind = tables[0].numel()
        distances = self.y[features] * tables.shape[3] + self.x[features] + kind * self.tilted[features, None, None]
        at = distances.reshape(-1, 1) + places
        corner = tables.reshape(-1).index_select(0, at.reshape(-1)).reshape(len(features), 3, 4, len(places))
        sums = (corner[:, :, 0] - corner[:, :, 1] - corner[:, :, 2] + corner[:, :, 3]).float()
        weights = self.weights[features, :, None]
        value = sums[:, 0] * weights[:, 0] + sums[:, 1] * weights[:, 1] + sums[:, 2] * weights[:, 2]
        return value * self._norm(tables, places)[0]

    def fit(self, tables: Tensor, places: Tensor) -> Tensor:
        """``[n]`` bool: which windows have contrast enough to be judged at all."""
        return self._norm(tables, places)[1]

    def _norm(self, tables: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """One over the deviation times the area, and whether there is enough of it."""
        width, height = self.inner
        stride = tables.shape[3]
        corner = places.long() + stride + 1

        def inside(table: Tensor) -> Tensor:
            flat = table.reshape(-1)
            a, b, c, d = (
                flat.index_select(0, corner + offset).long()
                for offset in (0, width, height * stride, height * stride + width)
            )
            return (a - b - c + d) % (1 << 32)

        area = width * height
        total = inside(tables[0])
        spread = area * inside(tables[-1]) - total * total
        wide = spread.clamp(min=1)
        wide = wide.cpu() if wide.device.type == "mps" else wide  # which has no float64
        norm = (1 / wide.double().sqrt()).float().to(spread.device)
        fit = (spread > 0) & (area * norm < LEAST_CONTRAST)
        return norm, fit


def tilted_integral(images: Tensor) -> Tensor:
    """``[b, h, w]`` int32 to ``[b, h, w + 1]``: OpenCV's tilted summed-area table less its first row, modulo 2 ** 32.

    The entry of row Y and column X (from 1 and 0) is the sum over all pixels (x, y) with y < Y and
    |x - X + 1| <= Y - y - 1: a triangle that stands on its tip. A row's share of it is the difference of two of its
    running sums, and from one Y to the next these move along a diagonal each.
    """
    count, height, width = images.shape
    running = torch.nn.functional.pad(images.cumsum(2, dtype=torch.int64), (1, 0))
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width + 1, device=images.device)[None]
    diagonals = torch.arange(-height, width + height + 1, device=images.device)[None]

    def along(direction: int) -> Tensor:
        moved = running.gather(2, (diagonals + direction * y).clamp(0, width).expand(count, -1, -1)).cumsum(1)
        # The diagonal that reaches column X (to the right of the tip) or X - 1 (to its left) in row Y - 1.
        end = x - direction * y if direction < 0 else x - 1 - y
        return moved.gather(2, (end + height).expand(count, -1, -1))

    return (along(-1) - along(1)).to(torch.int32)
