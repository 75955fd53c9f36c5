"""Boxes, genders and confidences drawn into pictures, on the device where the pictures are.

Letters are rasterised once per size into one strip of glyphs; a label is then a few slices of it, so that drawing a
batch neither copies a picture to the host nor waits for the device.
"""

from __future__ import annotations

import string
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .contact_sheet import COLOURS
from .faces import Face, Faces
from .images import to_rgb, unit_range
from .transfer import on_device

LETTERS = string.ascii_lowercase + string.digits + " %._-()'"


@lru_cache(maxsize=32)
def _strip(height: int, device: torch.device) -> tuple[Tensor, dict[str, tuple[int, int]]]:
    """All glyphs side by side, ``[height, W]`` coverage in 0-1, and where each begins and ends."""
    font = ImageFont.load_default(max(8, round(height * 0.72)))
    ends = [0]
    for letter in LETTERS:
        ends.append(ends[-1] + max(1, round(font.getlength(letter))))
    image = Image.new("L", (ends[-1], height))
    draw = ImageDraw.Draw(image)
    _, top, _, bottom = font.getbbox("fgl0%")
    for letter, left in zip(LETTERS, ends, strict=False):
        draw.text((left, (height - bottom - top) / 2), letter, fill=255, font=font)
    places = {letter: (ends[i], ends[i + 1]) for i, letter in enumerate(LETTERS)}
    return on_device(torch.from_numpy(np.asarray(image).copy()).float() / 255, device), places


def rasterise(text: str, height: int, device: torch.device | str = "cpu") -> Tensor:
    """A line of text as coverage ``[height, w]`` in 0-1; letters outside :data:`LETTERS` are left out.

    >>> rasterise("male 98%", 16).shape[0]
    16
    """
    strip, places = _strip(height, torch.device(device))
    pieces = [strip[:, slice(*places[letter])] for letter in text.lower() if letter in places]
    return torch.cat(pieces, 1) if pieces else strip[:, :0]


def label_of(face: Face, labels: bool = True, confidences: bool = True) -> str:
    """What is written at a face: ``asuka female 98%``, without a name where it has none.

    The percentage is the gender's; the detection score where a face is not classified.
    """
    parts = [face.name] if labels and face.name else []
    if labels and face.gender is not None:
        parts.append(face.gender)
    if confidences:
        parts.append(f"{face.detection if face.confidence is None else face.confidence:.0%}")
    return " ".join(parts)


def draw_faces(
    images: Tensor, faces: Faces, labels: bool = True, confidences: bool = True, line_width: int = 0
) -> Tensor:
    """The pictures with a coloured box and a label at every face; the given ones are left as they are.

    Args:
        images: ``[B, H, W, C]`` float, 1, 3 or 4 channels.
        faces: of those pictures; best in host memory already.
        labels: write the name of a character, where one is known, and the gender.
        confidences: write its probability.
        line_width: of the boxes in pixels; chosen by the size of the pictures where 0.

    Returns:
        ``[B, H, W, 3]`` float32 in 0-1 on the pictures' device.

    Raises:
        ValueError: the faces belong to a batch of another length.
    """
    if faces.images != len(images):
        raise ValueError(f"the faces belong to {faces.images} pictures, {len(images)} were given")
    drawn = unit_range(to_rgb(images))  # new memory: the given pictures stay
    height, width = drawn.shape[1:3]
    line = line_width or max(2, round(min(height, width) / 300))
    colours = {gender: on_device(colour, drawn.device, torch.float32) / 255 for gender, colour in COLOURS.items()}
    for face in faces.cpu():
        _draw_one(drawn[face.image], face, colours[face.gender], label_of(face, labels, confidences), line)
    return drawn


def _draw_one(picture: Tensor, face: Face, colour: Tensor, text: str, line: int) -> None:
    height, width = picture.shape[:2]
    x1, y1 = max(0, min(width - 1, round(face.box[0]))), max(0, min(height - 1, round(face.box[1])))
    x2, y2 = max(x1 + 1, min(width, round(face.box[2]))), max(y1 + 1, min(height, round(face.box[3])))
    picture[y1 : y1 + line, x1:x2] = colour
    picture[max(y1, y2 - line) : y2, x1:x2] = colour
    picture[y1:y2, x1 : x1 + line] = colour
    picture[y1:y2, max(x1, x2 - line) : x2] = colour
    if not text:
        return
    letters = rasterise(text, min(height, max(12, round(min(height, width) / 36))), picture.device)
    margin = max(1, letters.shape[0] // 5)
    plate = torch.nn.functional.pad(letters, (margin, margin))[:, :width]
    tall, wide = plate.shape
    left = max(0, min(x1, width - wide))
    top = y1 - tall if y1 >= tall else min(y2, height - tall)  # above the box, or below where there is no room
    picture[top : top + tall, left : left + wide] = colour + (1 - colour) * plate[..., None]
