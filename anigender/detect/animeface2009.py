"""nagadomi's animeface-2009 through the package ``animeface``: an optional detector, on the CPU, picture by picture.

The package reads Pillow's pictures straight from memory, in a layout that newer Pillows no longer have; with those it
finds nothing in any picture and says nothing of it. So it is tried on a drawing before it is trusted.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image, ImageDraw
from PIL import __version__ as pillow_version

from ..faces import Faces
from ..images import Batch, finite_error, unit_range
from .found import as_faces


class AnimeFace2009:
    """The detector of the package ``animeface``.

    Args:
        device: where the faces will be; the work is done on the CPU.
        threshold: lowest likelihood reported.
        minimum_size: shortest side of a reported face's head in pixels.

    Raises:
        ImportError: the package is not there; the message says how to install it.
        RuntimeError: it is there and finds nothing, not even in a drawing made for it.
    """

    region = "tight face"

    def __init__(self, device: torch.device | str = "cpu", threshold: float = 0.0, minimum_size: float = 0.0) -> None:
        self.device = torch.device(device)
        self.threshold = threshold
        self.minimum_size = minimum_size
        self._find = _import().detect
        self_check(self._find)

    def detect(self, batch: Batch) -> Faces:
        """The faces of every picture, by falling likelihood inside each.

        Raises:
            ValueError: a picture holds NaN or infinity.
        """
        boxes: list[torch.Tensor] = [torch.zeros(0, 4)] * len(batch)
        scores: list[torch.Tensor] = [torch.zeros(0)] * len(batch)
        for group in batch.groups:
            pixels = group.pixels.cpu()
            for place, index in enumerate(group.index):
                own = pixels[place]
                if own.dtype != torch.uint8:
                    if not bool(own.isfinite().all()):
                        raise finite_error(index + batch.first)
                    own = (unit_range(own) * 255 + 0.5).to(torch.uint8)
                found = self._find(Image.fromarray(own.numpy()))
                sides = [(f.face.pos.x, f.face.pos.y, f.face.pos.width, f.face.pos.height) for f in found]
                corners = torch.tensor(sides, dtype=torch.float32).reshape(-1, 4)
                boxes[index] = torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:]), 1)
                scores[index] = torch.tensor([f.likelihood for f in found]).reshape(-1)
        return as_faces(boxes, scores, batch.sizes, self.device, self.region, self.threshold, self.minimum_size)


def _import() -> Any:
    try:
        import animeface
    except ImportError as error:
        raise ImportError(
            f"the detector animeface-2009 needs the package animeface ({error}): "
            "python -m pip install animeface 'pillow<12'"
        ) from error
    return animeface


def drawing(side: int = 128) -> Image.Image:
    """A plain face that animeface-2009 finds: hair, skin, two large eyes, a mouth."""
    image = Image.new("RGB", (side, side), (235, 235, 240))
    draw = ImageDraw.Draw(image)

    def at(*points: float) -> list[float]:
        return [point * side for point in points]

    hair, skin, line = (120, 70, 50), (253, 230, 214), (70, 40, 35)
    draw.ellipse(at(0.14, 0.08, 0.86, 0.86), fill=hair)
    draw.polygon(at(0.27, 0.4, 0.73, 0.4, 0.71, 0.68, 0.5, 0.84, 0.29, 0.68), fill=skin)
    draw.ellipse(at(0.27, 0.26, 0.73, 0.74), fill=skin)
    draw.polygon(
        at(0.2, 0.46, 0.26, 0.24, 0.5, 0.2, 0.74, 0.24, 0.8, 0.46, 0.66, 0.36, 0.5, 0.38, 0.34, 0.36), fill=hair
    )
    for x in (0.385, 0.615):
        draw.ellipse(at(x - 0.075, 0.45, x + 0.075, 0.62), fill=(255, 255, 255), outline=line, width=max(1, side // 85))
        draw.ellipse(at(x - 0.05, 0.46, x + 0.05, 0.62), fill=(60, 80, 140))
        draw.ellipse(at(x - 0.028, 0.5, x + 0.028, 0.59), fill=(20, 20, 40))
        draw.ellipse(at(x - 0.035, 0.475, x - 0.005, 0.51), fill=(255, 255, 255))
        draw.arc(at(x - 0.085, 0.44, x + 0.085, 0.62), 200, 340, fill=line, width=max(2, side // 50))
        draw.arc(at(x - 0.08, 0.36, x + 0.08, 0.46), 210, 330, fill=line, width=max(1, side // 85))
    draw.line(at(0.495, 0.66, 0.505, 0.675), fill=line, width=max(1, side // 85))
    draw.arc(at(0.45, 0.7, 0.55, 0.75), 20, 160, fill=(180, 60, 60), width=max(2, side // 64))
    return image


def self_check(find: Any) -> None:
    """Try the package on a drawing.

    Raises:
        RuntimeError: it finds nothing there.
    """
    if not find(drawing()):
        raise RuntimeError(
            f"animeface finds no face in a drawing made for it. It does so with a Pillow too new for it; this one is "
            f"{pillow_version}. Install an older one in an environment of its own: python -m pip install 'pillow<12', "
            "or use another detector"
        )
