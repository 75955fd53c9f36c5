"""Pictures with the found heads drawn in, side by side, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .faces import Faces

COLOURS = {"female": (214, 40, 110), "male": (30, 100, 220), None: (90, 90, 90)}


def labelled_tile(pixels: Tensor, faces: Faces, side: int) -> Image.Image:
    """One picture shrunk into a square tile, with a box and a label for each face.

    Args:
        pixels: ``[H, W, 3]`` uint8 on the CPU.
        faces: its faces, as a batch of one picture.
        side: of the tile, in pixels.
    """
    image = Image.fromarray(pixels.numpy())
    scale = min(side / image.width, side / image.height)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )
    tile = Image.new("RGB", (side, side), (245, 245, 245))
    left, top = (side - image.width) // 2, (side - image.height) // 2
    tile.paste(image, (left, top))
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(max(10, side // 24))
    for face in faces:
        colour = COLOURS[face.gender]
        x1, y1, x2, y2 = (v * scale for v in face.box)
        box = (x1 + left, y1 + top, max(x2, x1 + 1) + left, max(y2, y1 + 1) + top)
        draw.rectangle(box, outline=colour, width=max(2, side // 120))
        text = f"{face.detection:.2f}" if face.gender is None else f"{face.gender} {face.confidence:.0%}"
        extent = draw.textbbox((0, 0), text, font=font)
        width, height = extent[2] + 6, extent[3] + 4
        x = min(max(box[0], 0), side - width)
        y = box[1] - height if box[1] >= height else min(box[3], side - height)
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        draw.text((x + 3, y + 1), text, fill=(255, 255, 255), font=font)
    return tile


def contact_sheet(tiles: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Tiles of one size in rows; about twice as wide as high unless ``columns`` is given.

    Raises:
        ValueError: no tiles.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    columns = columns or max(1, min(len(tiles), round(math.sqrt(len(tiles) * 1.6))))
    side, gap = tiles[0].width, 6
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), (255, 255, 255))
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (gap + i % columns * (side + gap), gap + i // columns * (side + gap)))
    return sheet
