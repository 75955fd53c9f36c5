"""The processes that make views while a net learns."""

from __future__ import annotations

import cv2
import torch


def single_threaded(_: int = 0) -> None:
    """A process among several computes with one thread; ``worker_init_fn`` of a ``DataLoader``."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
