"""The embedded head detector: a small fully-convolutional, anchor-free net that predicts head squares.

One stage per stride, a top-down feature pyramid (Lin et al., "Feature Pyramid Networks for Object Detection",
2017) and one shared prediction head over strides 8, 16 and 32, after FCOS (Tian et al., 2019). Every cell
answers with one score (the expected overlap of its box, Li et al., "Generalized Focal Loss", 2020) and one square:
two offsets of the centre and the logarithm of the side. Heads of 16 to about 200 pixels are its business; larger ones
are found in a shrunk copy of the picture (:mod:`anigender.detect.head_detector`), which needs no coarser stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import convolved

STRIDES = (8, 16, 32)
BASE_SIDE = 4.0  # a side of exp(0) is this many strides: the middle of each level's range of head sizes


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        norm = nn.BatchNorm2d(width)
        nn.init.zeros_(norm.weight)  # a new block starts as the identity (Goyal et al., 2017)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        return convolved(self.second[0], self.second[1], self.first(x), x)


class RawHeads(NamedTuple):
    """What the net says before suppression, all cells of all levels side by side.

    Attributes:
        logits: ``[B, A]`` score before the sigmoid.
        squares: ``[B, A, 3]`` centre x, centre y and side, in pixels of the net's input.
        centres: ``[A, 2]`` the cells' own centres in the same pixels.
        strides: ``[A]`` each cell's stride.
    """

    logits: Tensor
    squares: Tensor
    centres: Tensor
    strides: Tensor


class HeadNet(nn.Module):
    """Head squares from normalised RGB.

    Args:
        widths: channels at strides 2, 4, 8, 16 and 32.
        depths: residual blocks at strides 8, 16 and 32.
        neck: channels of the pyramid.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int, int] = (16, 32, 48, 96, 128),
        depths: tuple[int, int, int] = (1, 1, 2),
        neck: int = 40,
    ) -> None:
        super().__init__()
        s2, s4, s8, s16, s32 = widths
        self.stem = nn.Sequential(conv(3, s2, 2), conv(s2, s4, 2))
        self.stages = nn.ModuleList(
            nn.Sequential(conv(before, width, 2), *(Residual(width) for _ in range(depth)))
            for (before, width), depth in zip(((s4, s8), (s8, s16), (s16, s32)), depths, strict=True)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, neck, 1) for width in (s8, s16, s32))
        self.smooth = conv(neck, neck)
        self.shared = conv(neck, neck)
        self.predict = nn.Conv2d(neck, 4, 1)
        nn.init.normal_(self.predict.weight, std=0.01)
        # Almost every cell is background: start from that.
        self.predict.bias = nn.Parameter(torch.tensor([-4.0, 0.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> RawHeads:
        """``x [B, 3, H, W]``, normalised, H and W multiples of 32."""
        x = self.stem(x)
        maps = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            maps.append(lateral(x))
        for i in range(len(maps) - 2, -1, -1):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], scale_factor=2.0, mode="nearest")
        logits, squares, centres, strides = [], [], [], []
        for level, stride in zip(maps, STRIDES, strict=True):
            out = self.predict(self.shared(self.smooth(level))).float()
            h, w = out.shape[-2:]
            out = out.flatten(2).transpose(1, 2)
            ys, xs = torch.meshgrid(
                torch.arange(h, device=out.device), torch.arange(w, device=out.device), indexing="ij"
            )
            cells = torch.stack((xs.flatten(), ys.flatten()), -1).float().add(0.5).mul(stride)
            logits.append(out[..., 0])
            squares.append(
                torch.cat(
                    (
                        cells + out[..., 1:3] * stride,
                        out[..., 3:].clamp(-3, 4).exp() * (BASE_SIDE * stride),
                    ),
                    -1,
                )
            )
            centres.append(cells)
            strides.append(torch.full((h * w,), float(stride), device=out.device))
        return RawHeads(torch.cat(logits, 1), torch.cat(squares, 1), torch.cat(centres), torch.cat(strides))


def fill(net: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Give a net its weights; what else is among the tensors is left.

    Raises:
        ValueError: weights are missing or of another shape; the message calls the net by ``name``.
    """
    missing = [key for key in net.state_dict() if key not in tensors and not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"it lacks {len(missing)} weights of {name}, {missing[0]} first")
    try:
        net.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise ValueError(f"the weights of {name} do not fit together: {error}") from error
