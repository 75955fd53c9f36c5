"""Draws the example pictures: flat anime characters made of curves, so that the examples are the project's own.

Nothing is loaded and nothing is random: the same script always gives the same pictures. Next to them goes
drawing/expected.json, which says for every picture whose heads are where, known from the drawing itself. Run it with
`python examples/draw.py`; it needs Pillow and NumPy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from drawing import scenery
from drawing.cast import AKANE, AOI, DAICHI, HANA, HARUTO, KENJI, MIO, REINA, REN, SHIORI, SORA, TAKUMI
from drawing.character import Character
from drawing.figure import draw_figure
from drawing.pen import Canvas

# What each format is saved with. Flat colours keep PNG small; WebP and JPEG are here so that the examples cover them.
SAVING = {".png": {"optimize": True}, ".webp": {"quality": 88, "method": 6}, ".jpg": {"quality": 88, "subsampling": 0}}


@dataclass(frozen=True)
class Place:
    """A character, the middle of the head and half its height, in pixels."""

    who: Character
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Picture:
    """A picture: its name, its size, what is behind, and who stands in front of it from the back to the front."""

    name: str
    size: tuple[int, int]
    background: Callable[[Canvas], None]
    places: list[Place] = field(default_factory=list)


PICTURES = [
    Picture(
        "solo_woman_twintails.png",
        (768, 768),
        lambda c: scenery.bubbles(c, (255, 214, 224), (255, 244, 226), 3),
        [Place(replace(HANA, turn=0.2, mouth="open"), 384, 300, 200)],
    ),
    Picture("solo_woman_dress.webp", (832, 1216), lambda c: scenery.sky(c, 5), [Place(SHIORI, 416, 380, 200)]),
    Picture(
        "solo_woman_bob.jpg", (768, 768), lambda c: scenery.room(c, (232, 214, 190), 4), [Place(MIO, 400, 330, 190)]
    ),
    Picture(
        "solo_man_gakuran.png",
        (768, 768),
        lambda c: scenery.stripes(c, (226, 232, 240), (206, 218, 232)),
        [Place(KENJI, 384, 340, 180)],
    ),
    Picture(
        "solo_man_glasses.webp",
        (832, 1216),
        lambda c: scenery.room(c, (196, 212, 214), 9),
        [Place(HARUTO, 416, 380, 165)],
    ),
    Picture(
        "solo_man_stubble.jpg",
        (768, 768),
        lambda c: scenery.street(c, 12, evening=False),
        [Place(DAICHI, 390, 345, 175)],
    ),
    Picture(
        "pair_woman_man.webp",
        (1024, 768),
        lambda c: scenery.sky(c, 21),
        [Place(replace(REN, turn=-0.4), 700, 320, 135), Place(replace(AOI, turn=0.3), 345, 370, 135)],
    ),
    Picture(
        "pair_women.jpg",
        (1024, 768),
        lambda c: scenery.bubbles(c, (206, 226, 250), (246, 236, 250), 8),
        [Place(AKANE, 330, 330, 150), Place(REINA, 705, 350, 145)],
    ),
    Picture(
        "trio_woman_two_men.webp",
        (1024, 768),
        lambda c: scenery.room(c, (214, 204, 224), 2),
        [Place(TAKUMI, 215, 300, 110), Place(SORA, 805, 310, 112), Place(replace(HANA, tilt=-5), 510, 380, 125)],
    ),
    Picture(
        "group_of_six.webp",
        (1024, 768),
        lambda c: scenery.street(c, 30, evening=False),
        [
            Place(replace(SHIORI, turn=-0.2), 480, 215, 56),
            Place(replace(REN, turn=0.3), 190, 245, 72),
            Place(replace(HARUTO, turn=-0.15), 760, 195, 68),
            Place(replace(KENJI, turn=-0.2), 600, 440, 84),
            Place(replace(MIO, turn=0.2), 340, 455, 92),
            Place(replace(AOI, back="bob", tilt=4), 870, 500, 104),
        ],
    ),
    Picture(
        "full_body_woman.webp",
        (832, 1216),
        lambda c: scenery.street(c, 44, evening=False),
        [Place(replace(REINA, turn=0.2, tilt=5), 416, 190, 84)],
    ),
    Picture("no_people_street.jpg", (1024, 768), lambda c: scenery.street(c, 51)),
]


def draw(picture: Picture, folder: Path) -> list[dict[str, object]]:
    """Writes the picture into the folder; gives back its heads from left to right."""
    canvas = Canvas(*picture.size)
    picture.background(canvas)
    heads = [{"gender": p.who.gender, "box": draw_figure(canvas, p.who, p.x, p.y, p.size)} for p in picture.places]
    path = folder / picture.name
    canvas.finished().save(path, **SAVING[path.suffix])
    return sorted(heads, key=lambda head: head["box"])  # type: ignore[arg-type, return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the example pictures.")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)")
    folder = parser.parse_args().to
    folder.mkdir(parents=True, exist_ok=True)
    expected = {picture.name: draw(picture, folder) for picture in PICTURES}
    rows = (f"  {json.dumps(name)}: {json.dumps(heads)}" for name, heads in expected.items())
    # Not beside the pictures: ComfyUI takes every .json of a pack's folder `examples` for a workflow.
    (folder / "drawing").mkdir(exist_ok=True)
    (folder / "drawing" / "expected.json").write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
