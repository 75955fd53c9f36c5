"""Hair: what hangs behind the head, the cap with its bangs, and what is tied into it. Units as in face.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops

from .character import Character
from .pen import Colour, Path, Pen, arcs, band, both_sides, ellipse, inked, mix, shaded, smooth

Corner = tuple[float, float]

# fmt: off
ROUND = [(-0.99, 0.2), (-1.0, -0.3), (-0.81, -0.82), (-0.45, -1.13), (0, -1.24), (0.45, -1.13), (0.81, -0.82),
         (1.0, -0.3), (0.99, 0.2)]
BRUSHED = [(-0.86, 0.1, 0), (-0.97, -0.4, 0.08), (-0.9, -0.82, 0.08), (-1.0, -1.06, 0.08), (-0.64, -1.1, -0.06),
           (-0.62, -1.4, 0.12), (-0.24, -1.28, -0.06), (-0.06, -1.52, 0.14), (0.22, -1.3, -0.08), (0.52, -1.46, 0.14),
           (0.6, -1.14, -0.08), (0.92, -1.14, 0.14), (0.9, -0.8, -0.08), (0.97, -0.4, 0.06), (0.86, 0.1, 0.08)]
LEANING = [(-0.86, 0.12, 0), (-0.98, 0.06, 0.1), (-0.98, -0.45, 0.1), (-0.74, -0.98, 0.1), (-0.46, -1.2, 0.06),
           (-0.1, -1.32, 0.08), (0.5, -1.26, 0.12), (0.8, -1.12, 0.04), (0.78, -1.0, 0), (1.0, -0.6, 0.12),
           (1.06, -0.36, 0.02), (0.98, -0.4, 0), (1.02, 0.08, 0.08), (0.86, 0.12, 0.08)]
SPIKED = [(-0.86, 0.12, 0), (-1.02, -0.06, 0.1), (-0.92, -0.26, -0.05), (-1.16, -0.44, 0.1), (-0.94, -0.6, -0.05),
          (-1.06, -0.94, 0.1), (-0.76, -0.92, -0.08), (-0.74, -1.3, 0.1), (-0.42, -1.13, -0.08), (-0.22, -1.48, 0.1),
          (0.02, -1.18, -0.08), (0.36, -1.46, 0.12), (0.46, -1.1, -0.1), (0.84, -1.2, 0.12), (0.8, -0.84, -0.1),
          (1.12, -0.78, 0.12), (0.94, -0.5, -0.1), (1.14, -0.28, 0.12), (0.93, -0.16, -0.1), (1.0, 0.06, 0.1),
          (0.86, 0.12, 0)]
TOUSLED = [(-0.86, 0.12, 0), (-1.0, -0.02, 0.1), (-0.94, -0.3, 0.08), (-1.12, -0.5, 0.1), (-0.92, -0.7, -0.06),
           (-1.0, -0.98, 0.12), (-0.68, -1.02, -0.08), (-0.52, -1.3, 0.12), (-0.22, -1.2, -0.06), (0.0, -1.42, 0.14),
           (0.2, -1.2, -0.1), (0.6, -1.36, 0.16), (0.62, -1.04, -0.1), (1.0, -1.02, 0.16), (0.9, -0.7, -0.1),
           (1.16, -0.52, 0.14), (0.95, -0.3, -0.08), (1.02, 0.02, 0.12), (0.86, 0.12, 0)]

# Per style: the silhouette over the top from left to right, the lower edge from right to left (tips and the valleys
# between them in turn, a tip first), and where the strands meet at the crown.
FRONTS: dict[str, tuple[list, list[Corner], tuple[float, float]]] = {
    "full": (ROUND, [
        (0.88, 0.68), (0.71, -0.2), (0.62, 0.05), (0.5, -0.22), (0.4, -0.02), (0.32, -0.14), (0.2, 0.06), (0.1, -0.3),
        (-0.04, 0.04), (-0.14, -0.16), (-0.24, 0.0), (-0.36, -0.28), (-0.52, 0.05), (-0.6, -0.18), (-0.66, -0.06),
        (-0.71, -0.2), (-0.88, 0.68)], (0.05, -1.1)),
    "swept": (ROUND, [
        (0.9, 0.74), (0.72, -0.2), (0.66, 0.06), (0.42, -0.24), (0.4, 0.04), (0.14, -0.3), (0.1, 0.03),
        (-0.24, -0.48), (-0.5, -0.06), (-0.58, -0.3), (-0.7, 0.04), (-0.73, -0.22), (-0.9, 0.74)], (-0.28, -1.12)),
    "parted": (ROUND, [
        (0.92, 0.86), (0.74, -0.02), (0.66, 0.2), (0.52, -0.12), (0.42, 0.08), (0.08, -0.62), (0.0, -0.16),
        (-0.06, -0.62), (-0.42, 0.08), (-0.52, -0.12), (-0.66, 0.2), (-0.74, -0.02), (-0.92, 0.86)], (0.0, -1.12)),
    "spiky": (SPIKED, [
        (0.79, 0.3), (0.69, -0.22), (0.62, 0.06), (0.42, -0.3), (0.3, 0.08), (0.16, -0.3), (-0.06, 0.12),
        (-0.2, -0.32), (-0.4, 0.02), (-0.5, -0.26), (-0.64, 0.02), (-0.69, -0.22), (-0.79, 0.3)], (0.05, -0.95)),
    "tousled": (TOUSLED, [
        (0.79, 0.34), (0.68, -0.22), (0.7, -0.02), (0.46, -0.36), (0.36, 0.0), (0.18, -0.34), (0.06, 0.06),
        (-0.1, -0.36), (-0.26, 0.02), (-0.38, -0.32), (-0.6, 0.0), (-0.68, -0.24), (-0.79, 0.34)], (0.3, -1.1)),
    "side": (LEANING, [
        (0.78, 0.34), (0.69, -0.3), (0.6, -0.02), (0.4, -0.36), (0.22, -0.1), (0.06, -0.42), (-0.12, -0.18),
        (-0.4, -0.68), (-0.6, -0.4), (-0.69, -0.3), (-0.78, 0.34)], (-0.4, -1.12)),
    "slick": (BRUSHED, [
        (0.79, 0.4), (0.69, -0.26), (0.62, -0.3), (0.44, -0.54), (0.3, -0.46), (0.12, -0.52), (0.14, -0.12),
        (-0.02, -0.5), (-0.06, -0.26), (-0.2, -0.5), (-0.58, -0.32), (-0.69, -0.26), (-0.79, 0.4)], (0.0, -1.6)),
}
# fmt: on


def _turned(points: Sequence, who: Character) -> list:
    """Shifts what lies in the middle with the face and leaves the sides of the head where they are."""
    return [(p[0] + 0.18 * who.turn * max(0.0, 1 - abs(p[0])), *p[1:]) for p in points]


def front_outline(who: Character) -> Path:
    top, edge, crown = FRONTS[who.front]
    over = arcs(top) if len(top[0]) == 3 else smooth(top)
    return np.vstack([over, arcs([over[-1], *_bent(_turned(edge, who), crown[0]), over[0]])])


def _bent(edge: list[Corner], parting: float) -> list[tuple[float, float, float]]:
    """The lower edge with its bulges: every lock is a sickle that curves away from the parting."""
    bent = []
    for i, (x, y) in enumerate(edge):
        tip = edge[i] if i % 2 == 0 else edge[i - 1]
        away = float(np.clip((tip[0] - parting) / 0.3, -1, 1))
        bent.append((x, y, 0.035 + 0.085 * away if i % 2 == 0 else 0.035 - 0.085 * away))
    return bent


def draw_front_shadow(pen: Pen, who: Character, face: Image.Image) -> None:
    """What the bangs throw on the forehead. It comes before the eyes, which are never drawn in shadow."""
    pen.at(0.03, 0.075).fill(front_outline(who), shaded(who.skin, 0.9), clip=face)


def draw_front(pen: Pen, who: Character) -> None:
    """The cap of hair with its bangs."""
    _, edge, crown = FRONTS[who.front]
    cap = front_outline(who)
    ink = inked(who.hair)
    dark = shaded(who.hair)
    inside = pen.mask(cap)
    pen.fill(cap, who.hair)
    lit = ImageChops.invert(pen.at(-0.03, -0.075).mask(cap))
    pen.fill(cap, dark, clip=ImageChops.multiply(inside, lit))
    corners = _turned(edge, who)
    middle = np.array(_turned([crown], who)[0])
    for left, tip, right in zip(corners[3::2], corners[2::2], corners[1::2], strict=False):
        _shade_lock(pen, np.array(left[:2]), np.array(tip[:2]), np.array(right[:2]), middle, dark, inside)
    _shine(pen, who, inside)
    for valley in corners[1::2]:
        root = np.array(valley[:2])
        end = root + (middle - root) * 0.62
        bend = 0.1 * np.sign(root[0] - middle[0])
        pen.line(arcs([root, (*end, -bend)]), ink, 0.022, (0.9, 0.05), clip=inside)
    for x in (-0.55, -0.2, 0.3, 0.62):
        start = np.array([x, -0.42 - 0.3 * (1 - abs(x))])
        end = start + (middle - start) * 0.6
        pen.line(arcs([start, (*end, -0.08 * np.sign(x - middle[0]))]), dark, 0.018, (0.1, 0.1), clip=inside)
    pen.outline(cap, ink, 0.028)


def _shade_lock(pen: Pen, left: Path, tip: Path, right: Path, crown: Path, dark: Colour, clip: Image.Image) -> None:
    """The side of a lock away from the light: a blade from its tip up along the strand at its right."""
    up = right + (crown - right) * 0.42
    inner = right + (left - right) * 0.3
    pen.fill(arcs([up, (*right, 0.03), (*tip, 0.05), (*inner, 0.05), (*up, -0.04)]), dark, clip=clip)


def gloss(hair: Colour) -> Colour:
    """The light on the hair. It keeps the hair's hue, and dark hair takes less of it, or it looks powdered."""
    bright = max(hair) / 255
    full: Colour = tuple(round(c / bright) for c in hair)  # type: ignore[assignment]
    return mix(hair, mix(full, (255, 252, 248), 0.3 + 0.35 * bright), 0.3 + 0.3 * bright)


def _shine(pen: Pen, who: Character, clip: Image.Image) -> None:
    """The band of light around the crown, its lower rim jagged by the strands."""
    light = gloss(who.hair)
    low = 0.0 if who.female else -0.06
    rng = np.random.default_rng(7)
    for start, end in ((203, 236), (241, 282), (288, 318), (324, 336)):
        a = np.linspace(start, end, max(3, round((end - start) / 4.5)) * 2 + 1)
        rim = np.radians(a)
        depth = np.where(np.arange(len(a)) % 2, 0.15, 0.03) + rng.uniform(0, 0.05, len(a))
        depth[[0, -1]] = 0
        lower = np.stack([np.cos(rim) * (0.86 - 0.4 * depth), np.sin(rim) * (0.66 - depth) - 0.02 + low], axis=1)
        upper = np.stack([np.cos(rim) * 0.87, np.sin(rim) * 0.68 - 0.04 + low], axis=1)
        pen.fill(np.vstack([upper, lower[::-1]]) + (0.08 * who.turn, 0), light, 0.85, clip)


def draw_back(pen: Pen, who: Character) -> None:
    """What hangs behind the body."""
    ink, dark = inked(who.hair), shaded(who.hair)
    style = who.back
    if style in ("long", "wavy"):
        wave = 0.1 if style == "wavy" else 0.0
        half = [(0.0, -1.1), (0.7, -0.95), (1.0, -0.3), (1.03, 0.4), (1.1 + wave, 1.1), (1.08, 1.8), (1.22 + wave, 2.4)]
        side = smooth(half)
        hem = arcs(
            [
                (1.22 + wave, 2.4),
                (1.0, 2.85, -0.1),
                (0.9, 2.5),
                (0.66, 3.0, -0.1),
                (0.5, 2.6),
                (0.24, 3.0, -0.1),
                (0.0, 2.7),
            ]
        )
        shape = both_sides(np.vstack([side, hem]))
        pen.shape(shape, who.hair, ink, 0.03)
        inside = pen.mask(shape)
        pen.fill(
            both_sides(smooth([(0.0, -0.6), (0.8, 0.0), (0.82, 0.9), (0.66, 1.8), (0.5, 2.4), (0.1, 2.5)])),
            dark,
            clip=inside,
        )
        pen.at(0.1, 0.0).fill(
            smooth([(0.95, 0.2), (1.0, 1.2), (1.3, 2.9), (0.92, 2.8), (0.84, 1.4)], closed=True), dark, clip=inside
        )
        for x in (0.92, 0.74, 0.5, 0.24):
            for s in (1, -1):
                pen.line(
                    smooth([(s * x * 0.95, 0.7), (s * (x + 0.04 + wave), 1.6), (s * x, 2.6)]),
                    ink,
                    0.022,
                    (0.1, 0.1),
                    0.7,
                    inside,
                )
    elif style == "bob":
        half = [(0.0, -1.1), (0.7, -0.95), (1.0, -0.3), (1.05, 0.4), (1.02, 0.86)]
        hem = arcs([(1.02, 0.86), (0.74, 1.16, -0.22), (0.62, 1.02), (0.4, 1.2, -0.1), (0.2, 1.0), (0.0, 1.08)])
        shape = both_sides(np.vstack([smooth(half), hem]))
        pen.shape(shape, who.hair, ink, 0.03)
        pen.fill(
            both_sides(smooth([(0.0, -0.6), (0.84, 0.0), (0.84, 0.6), (0.7, 1.3), (0.1, 1.3)])),
            dark,
            clip=pen.mask(shape),
        )
    elif style == "twintails":
        pen.fill(ellipse(0, -0.1, 0.95, 0.95), dark)
        for side in (1, -1):
            _tail(
                pen.at(mirror=side < 0),
                who,
                [(0.84, -0.62), (1.32, -0.66), (1.62, 0.2), (1.58, 1.3), (1.28, 2.5)],
                0.36,
            )
    elif style == "ponytail":
        pen.fill(ellipse(0, -0.05, 0.93, 0.9), dark)
        side = -1 if who.turn > 0 else 1
        _tail(pen.at(mirror=side < 0), who, [(0.42, -1.0), (1.0, -1.28), (1.46, -0.5), (1.46, 0.7), (1.16, 2.0)], 0.36)
    elif style == "short":
        nape = smooth([(0.0, -1.0), (0.7, -0.85), (0.9, -0.3), (0.86, 0.3), (0.7, 0.72)])
        hem = arcs([(0.7, 0.72), (0.5, 0.66), (0.42, 0.9), (0.2, 0.74), (0.0, 0.86)])
        pen.shape(both_sides(np.vstack([nape, hem])), dark, ink, 0.026)


def _tail(pen: Pen, who: Character, line: list[tuple[float, float]], width: float) -> None:
    """A tied tail: three overlapping locks, the outermost last."""
    ink, dark = inked(who.hair), shaded(who.hair)
    p = np.array(line)
    along = np.linspace(0, 1, len(p))[:, None]
    for shift, length, size in ((-0.2, -0.25, 0.7), (0.16, -0.5, 0.6), (0.0, 0.0, 1.0)):
        points = p + along * (shift, 0) + along**3 * (0, length)
        lock = band(points, [0.1, width * size, width * size * 1.08, width * size * 0.8, 0.01])
        pen.shape(lock, who.hair, ink, 0.028)
        inside = pen.mask(lock)
        under = band(
            points - (0.2 * size, -0.04), [0.1, width * size * 0.75, width * size * 0.7, width * size * 0.5, 0.01]
        )
        pen.fill(under, dark, clip=inside)
        light = gloss(who.hair)
        middle = points[2] + (0.12 * size, -0.2)
        pen.fill(
            arcs(
                [
                    middle,
                    (middle[0] + 0.09, middle[1] + 0.1),
                    (middle[0] + 0.07, middle[1] + 0.5, 0.05),
                    (middle[0], middle[1] + 0.1),
                ]
            ),
            light,
            0.8,
            inside,
        )
        for offset in (-0.1, 0.08):
            pen.line(smooth(points[:-1] + (offset * size, 0.02)), ink, 0.018, (0.1, 0.05), 0.7, inside)


def draw_locks(pen: Pen, who: Character) -> None:
    """The long locks that fall in front of the ears and shoulders."""
    ink, dark = inked(who.hair), shaded(who.hair)
    reach = {"long": 1.7, "wavy": 1.5, "twintails": 0.95, "ponytail": 0.95, "bob": 0.9}.get(who.back)
    if reach is None:
        return
    for side in (1, -1):
        curl = 0.1 if who.back == "wavy" else 0.02
        far = max(0.0, side * who.turn)
        lock_pen = pen.at(mirror=side < 0)
        x = 0.885 - 0.06 * far
        points = [(x, -0.3), (x + 0.03, 0.3), (x - 0.04, 0.3 + (reach - 0.3) * 0.5), (x + curl, reach)]
        lock = band(points, [0.1, 0.15, 0.13, 0.005])
        lock_pen.shape(lock, who.hair, ink, 0.026)
        inside = lock_pen.mask(lock)
        lock_pen.fill(
            band(np.array(points) + (0.07 if side > 0 else -0.09, 0.0), [0.06, 0.09, 0.08, 0.005]),
            dark,
            clip=inside,
        )
        lock_pen.line(smooth(np.array(points) + (-0.02, 0)), ink, 0.016, (0.1, 0.05), 0.7, inside)
