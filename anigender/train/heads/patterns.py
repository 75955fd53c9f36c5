"""Drawn patterns that are no heads: what buildings, clothes, emblems and lettering have in common with faces."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from ..crops.augment import CACHE_SIZE

MIDDLE = CACHE_SIZE // 2


def patterns(count: int, rng: np.random.Generator) -> Tensor:
    """Random patterns as cached crops, ``[count, 4, K, K]`` uint8 RGBA, opaque."""
    made = []
    for _ in range(count):
        canvas = np.full((CACHE_SIZE, CACHE_SIZE, 3), _colour(rng), np.uint8)
        for _ in range(int(rng.integers(1, 4))):
            SHAPES[rng.integers(len(SHAPES))](canvas, rng)
        if rng.random() < 0.4:  # the same on both sides
            canvas[:, MIDDLE:] = canvas[:, :MIDDLE][:, ::-1]
        opaque = np.full((CACHE_SIZE, CACHE_SIZE, 1), 255, np.uint8)
        made.append(np.concatenate((canvas, opaque), 2).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(made))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
    return red, green, blue


def _thickness(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 6))


def _places(rng: np.random.Generator) -> tuple[range, int]:
    """Where something repeats, and the distance."""
    step = int(rng.integers(8, 60))
    return range(int(rng.integers(0, step)), CACHE_SIZE, step), step


def _windows(canvas: np.ndarray, rng: np.random.Generator) -> None:
    places, step = _places(rng)
    side = step - max(2, step // int(rng.integers(2, 5)))
    fill, line, thickness = _colour(rng), _colour(rng), _thickness(rng)
    for y in places:
        for x in places:
            cv2.rectangle(canvas, (x, y), (x + side, y + side), fill, -1)
            cv2.rectangle(canvas, (x, y), (x + side, y + side), line, thickness)


def _stripes(canvas: np.ndarray, rng: np.random.Generator) -> None:
    places, _ = _places(rng)
    colour, thickness, upright = _colour(rng), _thickness(rng), rng.random() < 0.5
    for at in places:
        start, end = ((at, 0), (at, CACHE_SIZE)) if upright else ((0, at), (CACHE_SIZE, at))
        cv2.line(canvas, start, end, colour, thickness)


def _emblem(canvas: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 5))):
        axes = (int(rng.integers(6, 70)), int(rng.integers(6, 70)))
        cv2.ellipse(canvas, (MIDDLE, MIDDLE), axes, int(rng.integers(180)), 0, 360, _colour(rng), _thickness(rng))


def _lettering(canvas: np.ndarray, rng: np.random.Generator) -> None:
    letters = "".join(chr(rng.integers(48, 91)) for _ in range(int(rng.integers(1, 8))))
    start = (int(rng.integers(-20, 60)), int(rng.integers(30, 140)))
    size = float(rng.uniform(0.5, 4))
    cv2.putText(canvas, letters, start, cv2.FONT_HERSHEY_SIMPLEX, size, _colour(rng), _thickness(rng))


def _beads(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Buttons, wheels, lamps."""
    places, _ = _places(rng)
    radius, fill, line, thickness = int(rng.integers(3, 30)), _colour(rng), _colour(rng), _thickness(rng)
    for x in places:
        y = MIDDLE + int(rng.integers(-20, 20))
        cv2.circle(canvas, (x, y), radius, fill, -1)
        cv2.circle(canvas, (x, y), radius, line, thickness)


def _polygon(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Leaves, shields, hats."""
    corners = rng.integers(0, CACHE_SIZE, (int(rng.integers(3, 8)), 2)).astype(np.int32)
    cv2.fillPoly(canvas, [corners], _colour(rng))
    cv2.polylines(canvas, [corners], True, _colour(rng), _thickness(rng))


def _ball(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """The outline of a head without a face."""
    axes = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    cv2.ellipse(canvas, (MIDDLE, MIDDLE), axes, 0, 0, 360, _colour(rng), -1)


SHAPES = (_windows, _stripes, _emblem, _lettering, _beads, _polygon, _ball)
