"""Small tables on their way to a device, and why that does not make the host wait."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

QUEUED = ("cuda", "meta")  # meta has no values that could be lost


def on_device(values: Sequence | Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """Values that the host knows as a tensor on ``device``.

    ``torch.tensor(values, device=...)`` waits until the device has them, and with that for all the work queued before.
    A copy that does not block is queued like any other work (:func:`moved`).

    >>> on_device([[1, 2]], "cpu").tolist()
    [[1, 2]]
    """
    return moved(torch.as_tensor(values, dtype=dtype), device)


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on ``device``; the copy is queued where what is copied from may be let go of before it is made.

    CUDA's driver takes the values from ordinary memory before the call returns. Others (Metal's among them) read them
    later, when that memory may be somebody else's, so there the copy is waited for; and to the host, since what comes
    next reads it there.
    """
    return tensor.to(device, non_blocking=torch.device(device).type in QUEUED)
