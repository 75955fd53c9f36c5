"""Local binary patterns of windows: anywhere, one by one, or of all windows of a level at once.

A pattern compares the eight blocks around a block with it (Liao et al., "Learning Multi-scale Block Local Binary
Patterns for Face Recognition", 2007). Blocks are summed with summed-area tables.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cascade_file import CascadeFile
from .pyramid import Level, integral, rows_needed

# The blocks around the middle one (column, row), clockwise from the top left: the bits of a pattern, highest first.
RING = ((0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1))
HALF_LIMIT = 1 << 15  # sums of a block below that are kept in 16 bits


class Patterns(nn.Module):
    """The features of an LBP cascade.

    Windows of all scales of all pictures stand in one buffer of summed-area tables with one row stride, so a window
    is one number, the place of its corner, and a feature is a few fixed distances from it.

    Args:
        file: the cascade.

    Attributes:
        x, y: ``[features, 4, 4]`` int64, the corners of the 3 x 3 blocks of each feature, rows first.
        gathers: numbers read for one pattern of one window.
    """

    x: Tensor
    y: Tensor
    gathers = 16

    def __init__(self, file: CascadeFile) -> None:
        super().__init__()
        self.blocks = file.blocks.tolist()
        blocks, steps = torch.from_numpy(file.blocks), torch.arange(4)
        x = blocks[:, 0, None] + steps * blocks[:, 2, None]
        y = blocks[:, 1, None] + steps * blocks[:, 3, None]
        self.register_buffer("x", x[:, None, :].repeat(1, 4, 1))
        self.register_buffer("y", y[:, :, None].repeat(1, 1, 4))
        # Differences of wrapped sums are right where the sum asked for fits; 16 bits are twice as fast as 32.
        largest = max((w * h for _, _, w, h in self.blocks), default=0)
        self.dtype = torch.int16 if largest * 255 < HALF_LIMIT else torch.int32

    def tables(self, pictures: int, rows: int, stride: int) -> Tensor:
        """``[1, pictures, rows, stride]`` zeros: room for the summed-area tables of all levels."""
        return torch.zeros(1, pictures, rows, stride, dtype=self.dtype, device=self.x.device)

    def fill(self, tables: Tensor, start: int, level: Level, transposed: Tensor) -> None:
        """Write one level, ``[b, width, height]`` grey, into the rows from ``start``."""
        rows = slice(start + 1, start + 1 + level.height)
        tables[0, :, rows, 1 : level.width + 1] = integral(transposed, self.dtype)

    def values(self, tables: Tensor, places: Tensor, features: Tensor) -> Tensor:
        """``[F, n]`` patterns of ``features [F]`` for windows at ``places [n]``."""
        distances = (self.y[features] * tables.shape[3] + self.x[features]).to(places.dtype)
        at = (distances.reshape(-1, 1) + places).reshape(-1)
        corner = tables.reshape(-1).index_select(0, at).reshape(*distances.shape, len(places))
        across = corner[:, :, 1:] - corner[:, :, :-1]
        block = across[:, 1:] - across[:, :-1]
        return _pattern([block[:, y, x] for x, y in RING], block[:, 1, 1])

    def plane(self, tables: Tensor, start: int, level: Level, window: tuple[int, int]) -> Plane:
        """One level for looking at all its windows at once."""
        rows, columns = rows_needed(level.height), rows_needed(level.width)
        return Plane(tables[0, :, start : start + rows, :columns], level.step, window)


def _pattern(ring: list[Tensor], middle: Tensor) -> Tensor:
    """Bit by bit whether a block of the ring is as bright as the middle one; 0-255 in the blocks' own type."""
    code = torch.zeros_like(middle)
    bit = torch.empty_like(middle)
    for brightness in ring:
        torch.ge(brightness, middle, out=bit)
        torch.add(bit, code, alpha=2, out=code)
    return code


class Plane:
    """One level's summed-area tables of a chunk of pictures, for features of windows at every ``step``-th pixel.

    The level is split into ``step x step`` planes, so that neighbouring windows are neighbours in memory and every
    feature of all windows is a handful of additions and comparisons of shifted planes.

    Args:
        table: ``[b, rows, columns]``, both even.
        step: 1 or 2.
        window: width and height.
    """

    def __init__(self, table: Tensor, step: int, window: tuple[int, int]) -> None:
        self.step = step
        self.shape = (table.shape[0], table.shape[1] // step, table.shape[2] // step)
        self.planes = {(y, x): table[:, y::step, x::step].reshape(-1) for y in range(step) for x in range(step)}
        self.stride = self.shape[2]
        last = (window[1] // step) * self.stride + window[0] // step
        self.count = self.planes[0, 0].shape[0] - last

    def windows(self, values: Tensor) -> Tensor:
        """``[count]`` values of the windows as ``[b, rows, columns]``; places that are no windows hold anything."""
        whole = torch.nn.functional.pad(values, (0, self.shape[0] * self.shape[1] * self.shape[2] - self.count))
        return whole.reshape(self.shape)

    def pattern(self, block: tuple[int, int, int, int]) -> Tensor:
        """``[count]``: the local binary pattern of one feature, its first block given, for every window."""
        x0, y0, width, height = block
        step, stride = self.step, self.stride

        def place(x: int, y: int) -> tuple[tuple[int, int], int]:
            return (y % step, x % step), (y // step) * stride + x // step

        spots = {(i, j): place(x0 + i * width, y0 + j * height) for i in range(3) for j in range(3)}
        maps = {}
        for phase in {phase for phase, _ in spots.values()}:
            # Sums of one block for every pixel of this phase, as far as the farthest window needs them.
            reach = self.count + max(offset for own, offset in spots.values() if own == phase)
            y, x = phase
            parts = []
            for dx, dy in ((width, height), (0, height), (width, 0), (0, 0)):
                own, offset = place(x + dx, y + dy)
                parts.append(self.planes[own][offset : offset + reach])
            maps[phase] = (parts[0] - parts[1]).sub_(parts[2]).add_(parts[3])

        def brightness(i: int, j: int) -> Tensor:
            phase, offset = spots[i, j]
            return maps[phase][offset : offset + self.count]

        return _pattern([brightness(i, j) for i, j in RING], brightness(1, 1))
