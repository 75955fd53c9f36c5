"""Contact sheets: boxes where the heads are, in their gender's colour, whatever the picture's shape."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from anigender.contact_sheet import COLOURS, contact_sheet, labelled_tile
from anigender.faces import Faces


def faces(boxes: list[list[float]], size: tuple[int, int], female: float | None) -> Faces:
    found = Faces.from_boxes([boxes], [size])
    if female is None:
        return found
    return found.with_probabilities(torch.tensor([[female, 1 - female]] * len(boxes)).reshape(-1, 2))


def coloured(tile: Image.Image, colour: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Where exactly this colour is."""
    return [
        (x, y) for y in range(tile.height) for x in range(tile.width) if tile.getpixel((x, y)) == colour
    ]  # fmt: skip


@pytest.mark.parametrize(("female", "gender"), [(0.9, "female"), (0.1, "male"), (None, None)])
def test_a_head_has_a_box_in_its_colour(female: float | None, gender: str | None) -> None:
    pixels = torch.full((100, 200, 3), 200, dtype=torch.uint8)
    tile = labelled_tile(pixels, faces([[100, 20, 160, 80]], (100, 200), female), 200)
    assert tile.size == (200, 200) and tile.mode == "RGB"
    # The picture is twice as wide as high, so it stands 50 pixels below the tile's top.
    places = coloured(tile, COLOURS[gender])
    for corner in ((100, 70), (160, 70), (100, 130), (160, 130)):
        assert corner in places
    assert (130, 100) not in places
    others = [c for name, c in COLOURS.items() if name != gender]
    assert not any(coloured(tile, colour) for colour in others)


def test_a_picture_without_faces_is_only_shrunk() -> None:
    pixels = torch.full((400, 200, 3), 7, dtype=torch.uint8)
    tile = labelled_tile(pixels, faces([], (400, 200), 0.5), 100)
    assert tile.getpixel((50, 50)) == (7, 7, 7)
    assert tile.getpixel((5, 50)) == (245, 245, 245)  # beside it is paper
    assert not any(coloured(tile, colour) for colour in COLOURS.values())


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (10, 2000), (5, 5)])
@pytest.mark.parametrize("side", [16, 64, 320])
def test_odd_shapes(shape: tuple[int, int], side: int) -> None:
    pixels = torch.zeros(*shape, 3, dtype=torch.uint8)
    boxes = [[0, 0, shape[1], shape[0]], [0, 0, 0.1, 0.1], [-50, -50, 9000, 9000]]
    assert labelled_tile(pixels, faces(boxes, shape, 0.7), side).size == (side, side)


@pytest.mark.parametrize(
    ("count", "columns", "size"),
    [
        (1, None, (62, 62)),
        (2, None, (118, 62)),
        (10, None, (230, 174)),
        (5, 2, (118, 174)),
        (3, 3, (174, 62)),
        (2, 5, (286, 62)),
    ],
)
def test_tiles_stand_in_rows(count: int, columns: int | None, size: tuple[int, int]) -> None:
    tiles = [Image.new("RGB", (50, 50), (i + 1, 0, 0)) for i in range(count)]
    sheet = contact_sheet(tiles, columns)
    assert sheet.size == size
    across = (size[0] - 6) // 56
    for i in range(count):
        assert sheet.getpixel((6 + 25 + i % across * 56, 6 + 25 + i // across * 56)) == (i + 1, 0, 0)
    assert sheet.getpixel((2, 2)) == (255, 255, 255)


def test_no_tiles() -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        contact_sheet([])
