"""A whole character in its place, in the order in which the layers cover each other."""

from __future__ import annotations

import numpy as np

from .body import draw_body
from .character import Character
from .face import contour, draw_brows, draw_ears, draw_eyes, draw_face, draw_glasses
from .hair import draw_back, draw_front, draw_front_shadow, draw_locks, front_outline
from .pen import SUPERSAMPLING, Canvas, Pen
from .ribbons import draw_ties

Box = list[int]


def draw_figure(canvas: Canvas, who: Character, x: float, y: float, size: float) -> Box:
    """Draws the character with the middle of the head at (x, y) and `size` pixels per half a head; gives back the
    square around head and hair."""
    body = Pen(canvas).at(x, y, size)
    head = body.about(0, 1.05, who.tilt)
    draw_back(head, who)
    draw_body(body, who)
    draw_ears(head, who)
    face = draw_face(head, who)
    draw_front_shadow(head, who, face)
    draw_brows(head, who)
    draw_eyes(head, who)
    if who.glasses:
        draw_glasses(head, who)
    draw_locks(head, who)
    draw_front(head, who)
    draw_brows(head, who, 0.4)
    draw_ties(head, who)
    return _head_box(canvas, head, who)


def _head_box(canvas: Canvas, head: Pen, who: Character) -> Box:
    points = np.vstack([head.placed(contour(who)), head.placed(front_outline(who))]) / SUPERSAMPLING
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, (high - low).max() / 2
    low, high = np.maximum(middle - half, 0), np.minimum(middle + half, canvas.size)
    return [round(float(v)) for v in (*low, *high)]
