"""One picture to learn from or to judge by, with what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..folders import ImageError, as_seen, open_image

GENDERS = ("female", "male")
FIGURES = ("bust", "half_body", "full_body")  # kinds of pictures that show one figure


@dataclass
class Picture:
    """One labelled picture.

    Attributes:
        file: path relative to the data directory.
        character, gender, kind, split: as in the manifest; empty for illustrations. Of somebody's own pictures, the
            character is the file where none is known, and the kind ``picture``.
        width, height: pixels.
        heads: ``[n, 4]`` head squares (xyxy, may reach beyond the picture).
        unsure: ``[n, 4]`` boxes of what may or may not be a head.
        complete: no other head is in the picture.
        source: where ``heads`` came from: ``known``, ``teacher``, ``icon``, ``detector`` or ``none``.
    """

    file: str
    width: int = 0
    height: int = 0
    character: str = ""
    gender: str = ""
    kind: str = ""
    split: str = "train"
    alpha: bool = False
    heads: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    unsure: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    complete: bool = False
    source: str = "none"

    @property
    def folder(self) -> str:
        """The game, show or set that the picture comes from; empty for pictures of somebody's own."""
        return parts[1] if len(parts := self.file.split("/")) > 2 and parts[0] == "gender" else ""


def read_rgba(path: Path) -> np.ndarray:
    """A picture as ``[h, w, 4]`` uint8, as it is seen at inference (:func:`anigender.folders.as_seen`).

    Raises:
        ImageError: it cannot be read; the message names it and says why.
    """
    return np.asarray(_rgba(path))


def open_picture(path: Path) -> torch.Tensor:
    """RGB over white, as at inference, as bytes ``[h, w, 3]``; errors as of :func:`read_rgba`."""
    image = _rgba(path)
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    return torch.from_numpy(np.asarray(canvas.convert("RGB")).copy())


def _rgba(path: Path) -> Image.Image:
    try:
        with open_image(path) as image:
            return as_seen(image).convert("RGBA")
    except Exception as error:  # decoders raise anything on hostile bytes
        raise ImageError(f"{path}: {str(error) or type(error).__name__}") from error
