"""Cutting pictures into what a CLIP encoder looks at.

The rules are those that the published heads are used with (https://huggingface.co/city96/AnimeClassifiers): details
such as compression do not survive shrinking a large picture to 336 pixels, so five parts of it are looked at.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images import resize, unit_range

LARGE = 1536  # pixels: of a picture whose longer side is above, the shorter side is made this long
LONGEST = 16384  # pixels of the longer side, however thin the picture
THINNEST = 8  # longer over shorter side; of a thinner whole picture the middle is taken


def cut(pixels: Tensor, size: int, tiled: bool) -> Tensor:
    """Pictures to encoder inputs.

    Where ``tiled`` and the shorter side is more than ``2 * size``: the four corners and the centre, squares of
    ``2 * size`` each; else the whole picture, of which the centred square is seen.

    Args:
        pixels: ``[B, H, W, 3]``, uint8 or float 0-1.
        size: side of an encoder input.
        tiled: whether large pictures are cut.

    Returns:
        ``[B, T, 3, size, size]``, uint8 or float 0-1 as given; T is 5 or 1.

    >>> cut(torch.zeros(2, 100, 80, 3), 32, True).shape, cut(torch.zeros(2, 64, 80, 3), 32, True).shape
    (torch.Size([2, 5, 3, 32, 32]), torch.Size([2, 1, 3, 32, 32]))
    """
    height, width = pixels.shape[1:3]
    if not tiled or min(height, width) <= 2 * size:
        return _whole(pixels, size)[:, None]
    short, long = sorted((height, width))
    if long > LARGE:
        short, long = LARGE, min(int(LARGE * long / short), LONGEST)
        x = resize(pixels, *((short, long) if height <= width else (long, short)))
    else:
        x = pixels.permute(0, 3, 1, 2)
    side, (height, width) = 2 * size, x.shape[-2:]
    middle = (round((height - side) / 2), round((width - side) / 2))
    corners = [(0, 0), (0, width - side), (height - side, 0), (height - side, width - side), middle]
    return torch.stack([_shrunk(x[..., top : top + side, left : left + side], size, size) for top, left in corners], 1)


def _whole(pixels: Tensor, size: int) -> Tensor:
    """``[B, H, W, 3]`` to ``[B, 3, size, size]``: the shorter side resized, the centred square taken."""
    x = pixels.permute(0, 3, 1, 2)
    height, width = x.shape[-2:]
    most = THINNEST * min(height, width)
    x = x[..., max(0, (height - most) // 2) :, max(0, (width - most) // 2) :][..., :most, :most]
    height, width = x.shape[-2:]
    short = min(height, width)
    x = _shrunk(x, int(size * height / short), int(size * width / short))
    top, left = (x.shape[-2] - size) // 2, (x.shape[-1] - size) // 2
    return x[..., top : top + size, left : left + size]


def _shrunk(x: Tensor, height: int, width: int) -> Tensor:
    """``[B, 3, H, W]`` at another size, bicubic with antialiasing, as CLIP's own preprocessing does."""
    if x.shape[-2:] == (height, width):
        return x.contiguous()
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    x = F.interpolate(x, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return x if x.dtype == torch.uint8 else unit_range(x)
