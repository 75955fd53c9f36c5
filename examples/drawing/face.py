"""Faces. The skull's top is y = -1, a woman's chin y = 1; x = 0 is the middle of the skull."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from .character import Character
from .pen import Colour, Gradient, Path, Pen, arcs, ellipse, inked, mix, shaded, smooth

LASH = (44, 28, 38)


def contour(who: Character) -> Path:
    """The outline of the face, closed over the top of the skull."""
    if who.female:
        side = [(0.5, -0.86), (0.76, -0.4), (0.79, 0.05), (0.745, 0.38), (0.585, 0.68), (0.3, 0.895), (0.07, 0.99)]
        chin = (0.0, 1.005)
    else:
        side = [(0.5, -0.86), (0.73, -0.4), (0.75, 0.05), (0.72, 0.5), (0.63, 0.84), (0.36, 1.1), (0.15, 1.185)]
        chin = (0.0, 1.195)
    right, left = np.array(side), np.array(side) * (-1, 1)
    far, near = (right, left) if who.turn >= 0 else (left, right)
    t = abs(who.turn)
    # Turning hides the far temple behind the brow bone and leaves the cheek below it standing out.
    far[:, 0] *= 1 - t * np.array([0.02, 0.08, 0.17, 0.13, 0.14, 0.1, 0.0])
    near[:, 0] *= 1 + t * np.array([0, 0, 0, 0.0, -0.05, -0.1, -0.2])
    lower = np.linspace(0, 1, len(side))[:, None] * (0.17 * who.turn, 0)
    right, left = right + lower, left + lower
    middle = np.array([chin]) + (0.17 * who.turn, 0)
    return smooth(np.vstack([[(0, -0.98)], right, middle, left[::-1]]), closed=True)


def middle(who: Character) -> float:
    """Where the face's own axis lies at eye level."""
    return 0.2 * who.turn


def draw_ears(pen: Pen, who: Character) -> None:
    ink = inked(who.skin)
    for side in (1, -1):
        away = who.turn * side
        if away > 0.3:
            continue
        ear = pen.at(side * 0.78 - 0.16 * who.turn, 0.24, mirror=side < 0)
        shell = smooth(
            [(-0.08, -0.2), (0.06, -0.26), (0.14, -0.12), (0.1, 0.1), (0.0, 0.24), (-0.08, 0.2)], closed=True
        )
        ear.shape(shell, who.skin, ink, 0.02)
        ear.fill(smooth([(-0.03, -0.1), (0.06, -0.16), (0.06, 0.02), (-0.02, 0.12)], closed=True), shaded(who.skin))


def draw_face(pen: Pen, who: Character) -> Image.Image:
    """Draws skin, nose, mouth and blush; gives back the face's mask."""
    face = contour(who)
    ink = inked(who.skin)
    shadow = shaded(who.skin, 0.75)
    pen.fill(face, who.skin)
    mask = pen.mask(face)
    # The cheek away from the light, as the difference between the face and the face moved towards the light.
    lit = pen.at(-0.1, -0.05).mask(face)
    pen.fill(face, shadow, clip=Image.composite(Image.new("L", mask.size), mask, lit), alpha=0.55)
    m = middle(who)
    for side in (1, -1) if who.female else ():
        x = m + side * 0.46 * (1 - 0.2 * max(0, side * who.turn))
        pen.fill(ellipse(x, 0.56, 0.17, 0.08), (244, 128, 128), 0.5, mask, blur=0.05)
        for k in (-0.05, 0.0, 0.05):
            pen.line([(x + k + 0.015, 0.535), (x + k - 0.015, 0.575)], (222, 110, 112), 0.011, (0.6, 0.6), 0.8, mask)
    _draw_nose(pen, who, m)
    _draw_mouth(pen, who, m)
    if who.stubble:
        jaw = smooth(
            [(-0.5, 0.72), (-0.3, 0.8), (m, 0.86), (0.3, 0.8), (0.5, 0.72), (0.4, 1.15), (-0.4, 1.15)], closed=True
        )
        pen.fill(jaw, mix(who.hair, who.skin, 0.5), 0.16, mask, blur=0.05)
        bristles = ImageChops.multiply(mask, pen.mask(jaw))
        for x, y in np.random.default_rng(1).uniform((-0.6, 0.78), (0.6, 1.14), (260, 2)):
            # The mouth stays clean.
            if abs(x - m) > 0.2 or y > 0.98:
                pen.line([(x, y), (x + 0.004, y + 0.02)], mix(who.hair, who.skin, 0.3), 0.011, (1, 1), 0.7, bristles)
    pen.outline(face, ink, 0.024)
    return mask


def _draw_nose(pen: Pen, who: Character, m: float) -> None:
    x = m + 0.07 * who.turn
    ink = mix(inked(who.skin), who.skin, 0.25)
    if who.female:
        pen.fill(arcs([(x + 0.005, 0.57), (x + 0.04, 0.645, 0.1), (x - 0.02, 0.635, 0.2)]), shaded(who.skin))
        pen.line(arcs([(x - 0.02, 0.625), (x + 0.02, 0.63, -0.2)]), ink, 0.016, (0.3, 0.3))
    else:
        lean = 1 if who.turn >= 0 else -1
        pen.fill(arcs([(x, 0.3), (x + 0.06 * lean, 0.66), (x - 0.04 * lean, 0.68), (x + 0.005, 0.5)]), shaded(who.skin))
        pen.line(
            arcs([(x + 0.045 * lean, 0.58), (x + 0.06 * lean, 0.66), (x - 0.03 * lean, 0.685)]), ink, 0.017, (0.2, 0.3)
        )


def _draw_mouth(pen: Pen, who: Character, m: float) -> None:
    ink = (112, 48, 52)
    mouth = pen.at(m + 0.08 * who.turn, 0.79 if who.female else 0.91)
    wide = 1.0 if who.female else 1.15
    if who.mouth == "open":
        lips = arcs([(-0.13 * wide, -0.02), (0.13 * wide, -0.02, -0.06), (0, 0.14, 0.26), (-0.13 * wide, -0.02, 0.26)])
        mouth.fill(lips, (150, 52, 60))
        inside = mouth.mask(lips)
        mouth.fill(ellipse(0, 0.15, 0.09, 0.075), (236, 128, 128), clip=inside)
        mouth.fill(
            arcs([(-0.2, -0.06), (0.2, -0.06), (0.2, 0.015), (-0.2, 0.015, -0.05)]), (255, 252, 250), clip=inside
        )
        mouth.outline(lips, ink, 0.018)
    elif who.mouth == "smile":
        mouth.line(arcs([(-0.13 * wide, -0.015), (0.13 * wide, -0.015, -0.2)]), ink, 0.024, (0.4, 0.4))
        mouth.line(arcs([(-0.04, 0.085), (0.04, 0.085, -0.15)]), shaded(who.skin), 0.02)
    elif who.mouth == "smirk":
        mouth.line(smooth([(-0.12 * wide, 0.015), (0.02, 0.02), (0.13 * wide, -0.035)]), ink, 0.024, (0.4, 0.3))
        mouth.line(arcs([(-0.05, 0.09), (0.05, 0.09, -0.1)]), shaded(who.skin), 0.02)
    else:
        mouth.line(arcs([(-0.1 * wide, 0.01), (0.1 * wide, 0.01, 0.06)]), ink, 0.024, (0.4, 0.4))
        mouth.line(arcs([(-0.045, 0.085), (0.045, 0.085, -0.1)]), shaded(who.skin), 0.02)


def draw_eyes(pen: Pen, who: Character) -> None:
    for side in (1, -1):
        far = max(0.0, side * who.turn)
        x = middle(who) + side * (0.38 if who.female else 0.36) * (1 - 0.16 * far)
        eye = pen.at(x, 0.25 if who.female else 0.24, mirror=side < 0)
        width = (0.258 if who.female else 0.215) * (1 - 0.22 * far)
        height = (0.29 if who.female else 0.115) * who.eye_height
        _draw_eye(eye, who, side, width, height)


def _draw_eye(pen: Pen, who: Character, side: int, width: float, height: float) -> None:
    """One eye, its outer corner at the right (the pen is mirrored for the other)."""
    size = (width, height)
    top = smooth(np.array([(-0.95, 0.2), (-0.66, -0.56), (-0.05, -0.95), (0.6, -0.74), (0.98, -0.08)]) * size)
    low = smooth(np.array([(0.98, -0.08), (0.86, 0.48), (0.45, 0.9), (-0.05, 0.96), (-0.55, 0.8), (-0.95, 0.2)]) * size)
    if not who.female:
        # A straighter lid that falls towards the nose, the usual difference between men's eyes and women's.
        top[:, 1] -= 0.14 * top[:, 0] * height / width
        low[:, 1] -= 0.14 * low[:, 0] * height / width
    white = np.vstack([top, low])
    pen.fill(white, (252, 251, 253))
    inside = pen.mask(white)

    dark, light = mix(who.eyes, (16, 10, 34), 0.68), mix(who.eyes, (255, 255, 255), 0.42)
    # The gaze follows the head a little; under a mirrored pen left and right change places.
    gaze = side * 0.12 * who.turn * width - 0.03 * width
    rx, ry = (0.64 * width, 0.93 * height) if who.female else (0.53 * width, 1.16 * height)
    y = 0.04 * height
    pen.fill(ellipse(gaze, y, rx, ry), mix(dark, (0, 0, 0), 0.25), clip=inside)
    pen.fill(ellipse(gaze, y, rx * 0.9, ry * 0.93), Gradient(dark, mix(who.eyes, light, 0.8)), clip=inside)
    glow = ellipse(gaze, y + 0.56 * ry, rx * 0.62, ry * 0.32)
    pen.fill(glow, light, 0.85, inside, blur=0.006)
    pen.fill(ellipse(gaze, y + 0.02 * ry, rx * 0.42, ry * 0.46), mix(dark, (0, 0, 0), 0.55), clip=inside)
    # The lid's shadow lies over white and iris alike.
    pen.fill(np.vstack([top, (top * (1, 0.62) + (0, -0.02 * height))[::-1]]), (60, 44, 92), 0.34, inside)

    # Both eyes catch the same light, so the highlight does not follow the mirror.
    lit = -side
    pen.fill(ellipse(gaze + lit * 0.34 * rx, y - 0.4 * ry, rx * 0.34, ry * 0.24), (255, 255, 255), clip=inside)
    pen.fill(ellipse(gaze - lit * 0.4 * rx, y + 0.5 * ry, rx * 0.16, ry * 0.11), (255, 255, 255), 0.95, inside)

    _draw_lashes(pen, who, width, height)


def draw_brows(pen: Pen, who: Character, alpha: float = 1) -> None:
    """The brows; drawn a second time, faintly, they show through the bangs as is the custom."""
    for side in (1, -1):
        far = max(0.0, side * who.turn)
        x = middle(who) + side * 0.37 * (1 - 0.16 * far)
        width = (0.25 if who.female else 0.215) * (1 - 0.22 * far)
        _draw_brow(pen.at(x, 0.22, mirror=side < 0), who, width, alpha)


def _draw_brow(pen: Pen, who: Character, width: float, alpha: float) -> None:
    brow = mix(who.hair, (40, 24, 30), 0.5)
    if who.female:
        points = arcs([(-0.8 * width, -0.345), (1.0 * width, -0.33, 0.15)])
        pen.about(0, -0.34, -who.brow).line(points, brow, 0.036, (0.6, 0.15), alpha)
    else:
        shape = arcs(
            [
                (-1.08 * width, -0.125),
                (-1.06 * width, -0.235, 0),
                (0.45 * width, -0.315, 0.03),
                (1.4 * width, -0.2, 0.08),
                (0.45 * width, -0.215, -0.05),
                (-1.08 * width, -0.125, -0.03),
            ]
        )
        pen.about(0, -0.22, -who.brow).fill(shape, brow, alpha)


def _draw_lashes(pen: Pen, who: Character, width: float, height: float) -> None:
    ink: Colour = mix(LASH, who.hair, 0.12)
    size = (width, height)
    if who.female:
        over = smooth(np.array([(-1.02, 0.26), (-0.74, -0.62), (-0.06, -1.13), (0.68, -0.98), (1.24, -0.34)]) * size)
        under = smooth(np.array([(1.02, 0.04), (0.62, -0.66), (-0.05, -0.86), (-0.62, -0.48), (-1.02, 0.26)]) * size)
        pen.fill(np.vstack([over, under]), ink)
        for root, tip, back in (
            ((0.72, -0.9), (1.28, -1.04), (0.98, -0.62)),
            ((0.92, -0.66), (1.44, -0.62), (1.1, -0.3)),
        ):
            pen.fill(
                arcs([np.multiply(root, size), (*np.multiply(tip, size), -0.12), (*np.multiply(back, size), 0.1)]), ink
            )
        pen.line(smooth(np.array([(0.96, 0.22), (0.84, 0.56), (0.5, 0.93), (0.1, 1.0)]) * size), ink, 0.022, (0.8, 0.1))
        crease = np.array([(-0.66, -0.98), (-0.05, -1.36), (0.62, -1.24), (1.0, -0.86)])
        pen.line(smooth(crease * size), shaded(inked(who.skin), 0.2), 0.013, (0.1, 0.2), 0.85)
    else:
        over = smooth(np.array([(-1.08, 0.5), (-0.72, -0.6), (-0.1, -1.16), (0.62, -1.16), (1.22, -0.5)]) * size)
        under = smooth(np.array([(1.0, 0.06), (0.6, -0.68), (-0.05, -0.82), (-0.62, -0.38), (-1.08, 0.5)]) * size)
        pen.fill(np.vstack([over, under]), ink)
        pen.line(
            smooth(np.array([(0.98, -0.02), (0.82, 0.52), (0.4, 0.96), (-0.2, 0.98)]) * size), ink, 0.016, (0.7, 0.1)
        )
        crease = np.array([(-0.5, -1.3), (0.1, -1.66), (0.7, -1.56), (1.1, -1.1)])
        pen.line(smooth(crease * size), shaded(inked(who.skin), 0.2), 0.012, (0.1, 0.2), 0.7)


def draw_glasses(pen: Pen, who: Character) -> None:
    m = middle(who)
    ink = (52, 48, 66)
    for side in (1, -1):
        far = max(0.0, side * who.turn)
        x = m + side * 0.38 * (1 - 0.16 * far)
        w, h = 0.285 * (1 - 0.2 * far), 0.2 if not who.female else 0.27
        lens = smooth(
            [
                (x - w, 0.27 - h * 0.8),
                (x + w, 0.27 - h * 0.8),
                (x + w * 0.94, 0.27 + h * 0.75),
                (x, 0.27 + h),
                (x - w * 0.94, 0.27 + h * 0.75),
            ],
            closed=True,
        )
        pen.fill(lens, (255, 255, 255), 0.1)
        pen.outline(lens, ink, 0.026)
        pen.line([(x + side * w, 0.18), (side * 0.79 - 0.1 * who.turn, 0.15)], ink, 0.024, (1, 1))
    pen.line(arcs([(m - 0.11, 0.2), (m + 0.11, 0.2, 0.15)]), ink, 0.024, (1, 1))
