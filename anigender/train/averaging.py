"""The average of several trained files of one kind, often better than each (Wortsman et al., "Model soups", 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..quantised import RANGES
from ..weights import read_weights, save_weights


def average_files(files: Sequence[Path], output: Path) -> None:
    """Write the mean of the weights in ``files``, with the first one's metadata, to ``output``.

    They should come from one line of training: nets trained apart do not average to anything useful.

    Raises:
        ValueError: fewer than two files, or their keys or shapes differ.
    """
    if len(files) < 2:
        raise ValueError(f"averaging needs at least two files, {len(files)} given")
    read = [read_weights(path) for path in files]
    first, metadata = read[0]
    for path, (tensors, _) in zip(files[1:], read[1:], strict=True):
        if {name: value.shape for name, value in tensors.items()} != {n: v.shape for n, v in first.items()}:
            raise ValueError(f"{path} and {files[0]} are not of one architecture: their keys or shapes differ")
    mean = {name: torch.stack([tensors[name].float() for tensors, _ in read]).mean(0) for name in first}
    metadata = {name: text for name, text in metadata.items() if name != RANGES}  # those of other weights
    save_weights(output, {name: value.to(first[name].dtype) for name, value in mean.items()}, metadata)
