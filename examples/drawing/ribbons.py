"""What is tied into hair and under collars."""

from __future__ import annotations

import numpy as np

from .character import Character
from .pen import Colour, Pen, arcs, band, ellipse, inked, shaded, smooth


def draw_ties(pen: Pen, who: Character) -> None:
    """Ribbons and hair clips."""
    if who.ribbon is None:
        return
    if who.back == "twintails":
        for side in (1, -1):
            draw_bow(pen.at(side * 0.9, -0.62, 0.85, 25 * side), who.ribbon)
    elif who.back == "ponytail":
        side = -1 if who.turn > 0 else 1
        draw_bow(pen.at(side * 0.55, -1.06, 0.9, 30 * side), who.ribbon)
    elif who.back == "bob":
        for k in (0, 1):
            clip = pen.at(0.62 + 0.06 * who.turn, -0.3 + 0.1 * k, degrees=-22)
            clip.shape(band([(-0.13, 0), (0.13, 0)], [0.032, 0.032]), who.ribbon, inked(who.ribbon), 0.016)
    else:
        ring = ellipse(0, 0.0, 0.99, 1.13, 205, 335)
        inner = ellipse(0, 0.0, 0.95, 1.02, 205, 335)
        pen.shape(np.vstack([ring, inner[::-1]]), who.ribbon, inked(who.ribbon), 0.02)
        draw_bow(pen.at(0.62, -0.86, 0.7, 32), who.ribbon)


def draw_bow(pen: Pen, colour: Colour) -> None:
    """A bow about one unit wide."""
    ink, dark = inked(colour), shaded(colour)
    for side in (1, -1):
        half = pen.at(mirror=side < 0)
        half.shape(
            arcs([(0.02, 0.05), (0.34, 0.52, 0.08), (0.24, 0.4), (0.14, 0.52), (-0.04, 0.08, 0.05)]), colour, ink, 0.024
        )
        wing = smooth([(0.0, 0.0), (0.24, -0.24), (0.5, -0.24), (0.46, 0.02), (0.48, 0.24), (0.22, 0.16)], closed=True)
        half.shape(wing, colour, ink, 0.024)
        half.fill(arcs([(0.02, 0.02), (0.36, 0.0, 0.05), (0.46, 0.2), (0.22, 0.15, -0.1)]), dark)
        half.line(arcs([(0.08, 0.0), (0.32, -0.06, 0.1)]), ink, 0.018, (0.8, 0.1))
    pen.shape(smooth([(-0.09, -0.09), (0.09, -0.09), (0.09, 0.1), (-0.09, 0.1)], closed=True), colour, ink, 0.024)
