"""Detectors, and the registry that finds the right one for a name or a file.

A new detector is a new file with a class that has ``device`` and ``detect(batch) -> Faces``, and one entry below.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from ..faces import Faces
from ..images import Batch
from ..inference import ready
from ..weights import ASSETS, read_weights
from .head_detector import HeadDetector
from .headnet import HeadNet
from .whole_image import WholeImage


class Detector(Protocol):
    """What the pipeline asks of a detector."""

    @property
    def device(self) -> torch.device:
        """Where the faces will be."""
        ...

    def detect(self, batch: Batch) -> Faces:
        """The faces of every picture, by falling score inside each; an empty ``Faces`` where there are none."""
        ...


def read_head_detector(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> HeadDetector:
    """A head detector from its safetensors file.

    Raises:
        ValueError: the file holds something else.
    """
    tensors, metadata = read_weights(path)
    if metadata.get("anigender.architecture") != "headnet":
        seen = ", ".join(sorted(tensors)[:5])
        raise ValueError(
            f"{path} is not a head detector of anigender (keys seen: {seen} …); train one with "
            "`anigender train detector`"
        )
    net = HeadNet()
    missing = [name for name in net.state_dict() if name not in tensors and not name.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} weights of the head detector, {missing[0]} first")
    net.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=False)
    return HeadDetector(ready(net, device, dtype), metadata)


DETECTORS: dict[str, tuple[str, Callable[..., Detector]]] = {
    "head": (
        "the embedded head detector",
        lambda device, dtype: read_head_detector(ASSETS / "head.safetensors", device, dtype),
    ),
    "whole-image": ("every picture is one head", lambda device, dtype: WholeImage(device)),
}


def load_detector(
    name: str | Path = "auto", device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Detector:
    """A detector by name or by its weights file.

    Args:
        name: ``auto`` (the embedded one), a name of :data:`DETECTORS`, or a path.
        device: where it computes.
        dtype: its precision; chosen by :func:`anigender.inference.native_dtype` where None.

    Raises:
        ValueError: neither a known name nor a file, or a file of something else.
    """
    known = "head" if str(name) == "auto" else str(name)
    if known in DETECTORS:
        return DETECTORS[known][1](device, dtype)
    if Path(name).is_file():
        return read_head_detector(Path(name), device, dtype)
    names = ", ".join(["auto", *DETECTORS])
    raise ValueError(f"detector {str(name)!r} is neither a known name ({names}) nor a file")
