"""Image quality: heads on CLIP embeddings that tell aberration, compression, looks, or whatever they were taught."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from .encoder import ClipEncoder, Encoder, load_encoder
from .head import Head, read_head, save_head
from .scorer import COMBINATIONS, Scorer
from .scores import Scores

__all__ = [
    "COMBINATIONS",
    "ClipEncoder",
    "Encoder",
    "Head",
    "Scorer",
    "Scores",
    "load_encoder",
    "load_head",
    "read_head",
    "save_head",
]


def load_head(name: str | Path, device: torch.device | str = "cpu", folders: Iterable[str | Path] = ()) -> Head:
    """A quality head by name (``anigender models list --kind quality``) or by its weights file.

    Args:
        name: a known head, a path, or a path inside one of ``folders``.
        device: where it computes; it is small enough for any.
        folders: where to look before the network is asked.

    Raises:
        FileNotFoundError: no such head.
        ValueError: the file is something else.
    """
    from ..locate import locate

    return read_head(locate(name, folders), device)
