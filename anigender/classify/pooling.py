"""Adaptive pooling on every device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pooled(x: Tensor, side: int) -> Tensor:
    """``[B, C, H, W]`` to ``[B, C, side, side]``, the means of parts that overlap where a side does not divide evenly.

    On MPS, which has that for even divisions only, the others are done by the host.
    """
    if x.device.type == "mps" and (x.shape[-2] % side or x.shape[-1] % side):
        return F.adaptive_avg_pool2d(x.cpu(), side).to(x.device)
    return F.adaptive_avg_pool2d(x, side)
