"""Backgrounds. Coordinates are pixels of the finished picture; each function covers all of it."""

from __future__ import annotations

import numpy as np

from .pen import Canvas, Colour, Gradient, Path, Pen, arcs, ellipse, mix, shaded, smooth


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> Path:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float)


def plain(canvas: Canvas, colour: Colour) -> None:
    Pen(canvas).fill(_rectangle(0, 0, *canvas.size), colour)


def bubbles(canvas: Canvas, top: Colour, bottom: Colour, seed: int) -> None:
    """A gradient with pale discs of light."""
    pen, (width, height) = Pen(canvas), canvas.size
    pen.fill(_rectangle(0, 0, width, height), Gradient(top, bottom))
    rng = np.random.default_rng(seed)
    for _ in range(22):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.015, 0.09) * width
        pen.fill(ellipse(x, y, r, r), (255, 255, 255), float(rng.uniform(0.12, 0.3)))


def stripes(canvas: Canvas, colour: Colour, other: Colour, pitch: float = 96) -> None:
    pen, (width, height) = Pen(canvas), canvas.size
    plain(canvas, colour)
    for x in np.arange(-height, width + pitch, pitch):
        pen.fill([(x, 0), (x + pitch / 2, 0), (x + pitch / 2 + height, height), (x + height, height)], other)


def sky(canvas: Canvas, seed: int, meadow: bool = True) -> None:
    """A summer sky with heaped clouds, over hills where wanted."""
    pen, (width, height) = Pen(canvas), canvas.size
    pen.fill(_rectangle(0, 0, width, height), Gradient((64, 142, 222), (206, 236, 250)))
    rng = np.random.default_rng(seed)
    for _ in range(6):
        x, y, s = rng.uniform(0, width), rng.uniform(0.06, 0.55) * height, rng.uniform(0.05, 0.11) * width
        _cloud(pen.at(x, y, s), rng)
    if meadow:
        for level, colour in ((0.74, (120, 178, 150)), (0.8, (98, 166, 104)), (0.87, (126, 194, 96))):
            x = np.linspace(-0.1, 1.1, 7)
            ridge = np.stack([x * width, (level + rng.uniform(-0.035, 0.035, 7)) * height], axis=1)
            pen.fill(np.vstack([smooth(ridge), [(1.1 * width, height), (-0.1 * width, height)]]), colour)


def _cloud(pen: Pen, rng: np.random.Generator, tint: Colour = (255, 255, 255)) -> None:
    puffs = [
        (x, -0.2 * (1.6 - abs(x)) * rng.uniform(0.6, 1.8), rng.uniform(0.42, 0.66)) for x in np.linspace(-1.5, 1.5, 7)
    ]
    base = _rectangle(-3, -3, 3, 0.34)
    clip = pen.mask(base)
    for dy, colour in ((0.0, mix(tint, (170, 196, 228), 0.4)), (-0.12, tint)):
        for x, y, r in puffs:
            pen.fill(ellipse(x, y + dy, r, r * (1 if dy == 0 else 0.86)), colour, clip=clip)


def room(canvas: Canvas, wall: Colour, seed: int) -> None:
    """A room with a window, its curtains, and a shelf of books."""
    pen, (width, height) = Pen(canvas), canvas.size
    pen.fill(_rectangle(0, 0, width, height), Gradient(mix(wall, (255, 255, 255), 0.25), wall))
    floor = 0.84 * height
    pen.fill(_rectangle(0, floor, width, height), (176, 128, 92))
    for y in np.linspace(floor, height, 5):
        pen.line([(0, y), (width, y)], (138, 96, 70), 2, (1, 1))
    pen.fill(_rectangle(0, floor - 12, width, floor), mix(wall, (255, 255, 255), 0.7))
    left, right, top, low = 0.06 * width, 0.4 * width, 0.1 * height, 0.56 * height
    pen.fill(_rectangle(left - 10, top - 10, right + 10, low + 10), (246, 242, 234))
    pen.fill(_rectangle(left, top, right, low), Gradient((132, 194, 240), (226, 242, 250)))
    pen.fill(
        smooth([(left, low - 40), (left + 60, low - 70), (right - 70, low - 36), (right, low - 60)]), (140, 190, 140)
    )
    for x in (left, (left + right) / 2, right):
        pen.line([(x, top), (x, low)], (236, 230, 220), 9, (1, 1))
    pen.line([(left, (top + low) / 2), (right, (top + low) / 2)], (236, 230, 220), 7, (1, 1))
    for x, sign in ((left - 22, 1), (right + 22, -1)):
        cloth = arcs(
            [(x, top - 24), (x + sign * 70, top - 24), (x + sign * 34, low + 50, 0.06 * sign), (x - sign * 6, low + 50)]
        )
        pen.fill(cloth, (236, 202, 168))
        for k in (0.25, 0.55):
            pen.line([(x + sign * 60 * k, top - 20), (x + sign * 30 * k, low + 46)], (206, 164, 132), 3, (0.6, 0.6))
    _shelf(pen, 0.66 * width, 0.97 * width, 0.14 * height, 0.46 * height, seed)


def _shelf(pen: Pen, left: float, right: float, top: float, low: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wood = (150, 106, 78)
    pen.fill(_rectangle(left, top, right, low), shaded(wood))
    colours = [(186, 84, 80), (84, 120, 168), (212, 176, 96), (110, 150, 112), (150, 110, 160), (222, 214, 200)]
    middle = (top + low) / 2
    for base in (middle, low):
        x = left + 10
        while x < right - 26:
            thick, tall = rng.uniform(9, 18), rng.uniform(0.62, 0.86) * (middle - top)
            colour = colours[rng.integers(len(colours))]
            pen.fill(_rectangle(x, base - tall, x + thick, base), colour)
            pen.fill(
                _rectangle(x + 2, base - tall * 0.8, x + thick - 2, base - tall * 0.72),
                mix(colour, (255, 255, 255), 0.5),
            )
            x += thick + 1.5
    for y in (top, middle, low):
        pen.line([(left - 4, y), (right + 4, y)], wood, 9, (1, 1))
    for x in (left, right):
        pen.line([(x, top), (x, low)], wood, 9, (1, 1))


def street(canvas: Canvas, seed: int, evening: bool = True) -> None:
    """A street between two rows of houses that ends in a skyline."""
    pen, (width, height) = Pen(canvas), canvas.size
    high, deep = ((92, 84, 148), (250, 190, 150)) if evening else ((110, 176, 232), (226, 240, 248))
    pen.fill(_rectangle(0, 0, width, height), Gradient(high, deep))
    rng = np.random.default_rng(seed)
    ground = 0.72 * height
    if evening:
        pen.fill(ellipse(0.52 * width, 0.6 * height, 0.07 * width, 0.07 * width), (255, 232, 190))
    far = mix(mix(high, deep, 0.35), (60, 44, 90), 0.25) if evening else (166, 188, 214)
    x = 0.0
    while x < width:
        w = rng.uniform(0.05, 0.1) * width
        pen.fill(_rectangle(x, ground - rng.uniform(0.12, 0.34) * height, x + w, ground + 0.02 * height), far)
        x += w
    for y, s in ((0.12, 0.05), (0.2, 0.04)):
        _cloud(
            pen.at(rng.uniform(0.3, 0.7) * width, y * height, s * width),
            rng,
            (236, 190, 190) if evening else (255, 255, 255),
        )
    near = (70, 58, 92) if evening else (188, 176, 170)
    for side in (0, 1):
        for k in range(3):
            inner, outer = (0.36 - 0.11 * k, 0.36 - 0.11 * (k + 1) - 0.03 * (k == 2))
            _house(
                pen, [v if side == 0 else 1 - v for v in (outer, inner)], width, height, ground, k, near, evening, rng
            )
    pen.fill(
        [
            (0, height),
            (0.0, ground + 0.1 * height),
            (0.4 * width, ground),
            (0.6 * width, ground),
            (width, ground + 0.1 * height),
            (width, height),
        ],
        mix(near, (120, 116, 130), 0.55),
    )
    pen.fill(
        [(0.06 * width, height), (0.455 * width, ground), (0.545 * width, ground), (0.94 * width, height)],
        mix(near, (96, 94, 112), 0.7),
    )
    for t in (0.06, 0.2, 0.42, 0.74):
        y0, y1 = ground + t * (height - ground), ground + t * 1.35 * (height - ground)
        pen.fill(
            [
                (width * (0.5 - 0.012 * t), y0),
                (width * (0.5 + 0.012 * t), y0),
                (width * (0.5 + 0.018 * t), y1),
                (width * (0.5 - 0.018 * t), y1),
            ],
            (240, 236, 220),
        )
    for x in (0.25, 0.75):
        _lamp(pen.at(x * width, ground + 0.05 * height, height / 768), evening, -1 if x > 0.5 else 1)


def _house(
    pen: Pen,
    span: list[float],
    width: float,
    height: float,
    ground: float,
    k: int,
    colour: Colour,
    lit: bool,
    rng: np.random.Generator,
) -> None:
    outer, inner = span[0] * width, span[1] * width
    roof = height * (0.42 - 0.12 * k - rng.uniform(0, 0.05))
    base = ground + height * (0.02 + 0.045 * k)
    tone = mix(colour, (140, 110, 130) if lit else (226, 200, 176), 0.16 * (2 - k) + rng.uniform(0, 0.12))
    pen.fill([(outer, roof - 0.03 * height), (inner, roof), (inner, base), (outer, base + 0.04 * height)], tone)
    pen.line([(outer, roof - 0.03 * height), (inner, roof)], shaded(tone), 8, (1, 1))
    for row in range(3 + k):
        for column in range(2):
            x = outer + (inner - outer) * (0.16 + 0.42 * column)
            w = (inner - outer) * 0.26
            y = roof + height * (0.05 + 0.095 * row)
            bright = (255, 222, 140) if lit and rng.random() < 0.55 else mix(tone, (40, 60, 100), 0.5)
            pen.fill([(x, y), (x + w, y + 3), (x + w, y + 0.055 * height), (x, y + 0.055 * height)], bright)


def _lamp(pen: Pen, lit: bool, sign: int) -> None:
    ink = (46, 44, 62)
    pen.line([(0, 0), (0, -230)], ink, 8, (1, 0.8))
    pen.line(arcs([(0, -226), (sign * 48, -238, 0.2 * sign)]), ink, 6, (1, 0.8))
    pen.fill(ellipse(sign * 50, -228, 17, 10), (255, 240, 190) if lit else (220, 222, 226))
    if lit:
        pen.fill(ellipse(sign * 50, -218, 40, 40), (255, 236, 180), 0.35, blur=14)
