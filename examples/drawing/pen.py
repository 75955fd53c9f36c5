"""Curves, and a pen that fills and strokes them on a supersampled canvas.

Everything is drawn without antialiasing at SUPERSAMPLING times the final size and reduced once at the end: flat
colours then meet without the seams that blending each shape's own soft edge would leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SUPERSAMPLING = 4

Colour = tuple[int, int, int]
WHITE: Colour = (250, 249, 252)  # of paper and cloth: short of the white kept for highlights
Path = NDArray[np.float64]  # [n, 2], in the units of the pen that draws it


@dataclass(frozen=True)
class Gradient:
    """A vertical gradient over the bounding box of whatever is filled with it."""

    top: Colour
    bottom: Colour


def mix(a: Colour, b: Colour, amount: float) -> Colour:
    """The colour `amount` of the way from `a` to `b`."""
    return tuple(round(p + (q - p) * amount) for p, q in zip(a, b, strict=True))  # type: ignore[return-value]


def shaded(colour: Colour, depth: float = 1.0) -> Colour:
    """The colour in cel shadow. Red and blue fall less than green, which keeps skin and hair from turning muddy."""
    deep = (colour[0] * 0.76, colour[1] * 0.66, colour[2] * 0.78)
    return mix(colour, tuple(round(c) for c in deep), depth)  # type: ignore[arg-type]


def inked(colour: Colour) -> Colour:
    """The outline that belongs to a fill: a dark relative of it, softer than black."""
    return mix((48, 20, 32), shaded(colour), 0.26)


def smooth(points: ArrayLike, closed: bool = False, steps: int = 20) -> Path:
    """A Catmull-Rom curve through the points."""
    p = np.asarray(points, dtype=float)
    padded = np.vstack([p[-1:], p, p[:2]]) if closed else np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        parts.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    if not closed:
        parts.append(p[-1:])
    return np.vstack(parts)


def arcs(points: Iterable[Sequence[float]], steps: int = 20) -> Path:
    """Arcs from corner to corner. Each (x, y, bulge) is reached by a curve that leaves the straight way by bulge times
    its length, to the left of the direction of travel."""
    corners = [tuple(p) + (0.0,) * (3 - len(p)) for p in points]
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for (x0, y0, _), (x1, y1, bulge) in zip(corners, corners[1:], strict=False):
        start, end = np.array([x0, y0]), np.array([x1, y1])
        control = (start + end) / 2 + 2 * bulge * np.array([y1 - y0, x0 - x1])
        parts.append((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)
    parts.append(np.array([corners[-1][:2]]))
    return np.vstack(parts)


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360) -> Path:
    """An ellipse, or the part of it between two angles (degrees, clockwise from the right)."""
    a = np.radians(np.linspace(start, end, 60))
    return np.stack([x + rx * np.cos(a), y + ry * np.sin(a)], axis=1)


def band(points: ArrayLike, widths: Sequence[float]) -> Path:
    """A strip around a smooth centre line whose half width runs through `widths`: a limb, a lock of hair."""
    line = smooth(points)
    along = np.linspace(0, 1, len(line))
    half = np.interp(along, np.linspace(0, 1, len(widths)), widths)
    # Averaged, because the corners of a linear interpolation show as kinks in the outline.
    half = np.convolve(np.pad(half, 4, mode="edge"), np.full(9, 1 / 9), mode="valid") if len(half) > 9 else half
    half[0], half[-1] = widths[0], widths[-1]
    direction = np.gradient(line, axis=0)
    normal = np.stack([direction[:, 1], -direction[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    return np.vstack([line + normal * half[:, None], (line - normal * half[:, None])[::-1]])


def mirrored(path: ArrayLike) -> Path:
    """The path on the other side of the axis x = 0."""
    return np.asarray(path, dtype=float) * (-1, 1)


def both_sides(half: ArrayLike) -> Path:
    """A closed symmetric path from its right half, which starts and ends on the axis or near it."""
    right = np.asarray(half, dtype=float)
    return np.vstack([right, mirrored(right)[::-1]])


class Canvas:
    """The supersampled picture."""

    def __init__(self, width: int, height: int, colour: Colour = (255, 255, 255)) -> None:
        self.size = (width, height)
        self.image = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING), colour)

    def finished(self) -> Image.Image:
        return self.image.resize(self.size, Image.Resampling.LANCZOS)


class Pen:
    """Draws paths given in its own units; `at` gives a pen that is moved, scaled, turned or mirrored."""

    def __init__(self, canvas: Canvas, matrix: NDArray[np.float64] | None = None) -> None:
        self.canvas = canvas
        self.matrix = np.diag([SUPERSAMPLING, SUPERSAMPLING, 1.0]) if matrix is None else matrix

    def at(self, x: float = 0, y: float = 0, scale: float = 1, degrees: float = 0, mirror: bool = False) -> Pen:
        a = np.radians(degrees)
        flip = -1 if mirror else 1
        step = [
            [flip * scale * np.cos(a), -scale * np.sin(a), x],
            [flip * scale * np.sin(a), scale * np.cos(a), y],
            [0, 0, 1],
        ]
        return Pen(self.canvas, self.matrix @ np.array(step))

    def about(self, x: float, y: float, degrees: float) -> Pen:
        """This pen turned around a point."""
        return self.at(x, y, degrees=degrees).at(-x, -y)

    def placed(self, path: ArrayLike) -> Path:
        """The path in pixels of the supersampled canvas."""
        return np.asarray(path, dtype=float) @ self.matrix[:2, :2].T + self.matrix[:2, 2]

    @property
    def unit(self) -> float:
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))

    def mask(self, *paths: ArrayLike) -> Image.Image:
        """The area inside any of the paths, to clip later shapes with."""
        mask = Image.new("L", self.canvas.image.size)
        for path in paths:
            ImageDraw.Draw(mask).polygon([tuple(p) for p in self.placed(path)], fill=255)
        return mask

    def fill(
        self,
        path: ArrayLike,
        paint: Colour | Gradient,
        alpha: float = 1,
        clip: Image.Image | None = None,
        blur: float = 0,
    ) -> None:
        points = self.placed(path)
        spread = blur * self.unit
        box = self._box(points, 3 * spread)
        if box:
            mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
            outline = [tuple(p) for p in points - box[:2]]
            ImageDraw.Draw(mask).polygon(outline, fill=round(255 * alpha))
            if spread:
                mask = mask.filter(ImageFilter.GaussianBlur(spread))
            self._paste(mask, box, paint, clip)

    def line(
        self,
        path: ArrayLike,
        colour: Colour,
        width: float,
        ends: tuple[float, float] = (0.15, 0.15),
        alpha: float = 1,
        clip: Image.Image | None = None,
    ) -> None:
        """A brush stroke: full `width` in the middle, the given fractions of it at its two ends."""
        points = self.placed(path)
        t = np.linspace(0, 1, len(points))
        swell = np.sin(np.pi * t) ** 0.6
        rest = ends[0] + (ends[1] - ends[0]) * t
        self._stroke(points, (rest + (1 - rest) * swell) * width * self.unit, colour, alpha, clip)

    def outline(self, path: ArrayLike, colour: Colour, width: float, clip: Image.Image | None = None) -> None:
        """The closed outline, heavier on the sides away from the light (which comes from the upper left)."""
        points = self.placed(path)
        points = np.vstack([points, points[:1]])
        direction = np.gradient(points, axis=0)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
        away = np.abs(direction @ np.array([0.8, -0.6]))
        self._stroke(points, (0.65 + 0.5 * away) * width * self.unit, colour, 1, clip)

    def shape(self, path: ArrayLike, paint: Colour | Gradient, ink: Colour, width: float = 0.024) -> None:
        """A fill with its outline."""
        self.fill(path, paint)
        self.outline(path, ink, width)

    def _box(self, points: Path, margin: float) -> tuple[int, int, int, int] | None:
        low = np.maximum(np.floor(points.min(axis=0) - margin - 1), 0).astype(int)
        high = np.minimum(np.ceil(points.max(axis=0) + margin + 2), self.canvas.image.size).astype(int)
        return (low[0], low[1], high[0], high[1]) if (high > low).all() else None

    def _stroke(
        self, points: Path, widths: NDArray[np.float64], colour: Colour, alpha: float, clip: Image.Image | None
    ) -> None:
        box = self._box(points, float(widths.max()))
        if not box:
            return
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        draw = ImageDraw.Draw(mask)
        level = round(255 * alpha)
        moved = points - box[:2]
        # Dabs close together: segments drawn as lines round their widths to whole pixels, which shows as steps.
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(moved, axis=0), axis=1))])
        dabs = np.linspace(0, length[-1], int(length[-1] / max(1.0, 0.2 * float(widths.mean()))) + 2)
        xs, ys, ws = (np.interp(dabs, length, v) for v in (moved[:, 0], moved[:, 1], widths / 2))
        for x, y, w in zip(xs, ys, ws, strict=True):
            draw.ellipse((x - w, y - w, x + w, y + w), fill=level)
        self._paste(mask, box, colour, clip)

    def _paste(
        self, mask: Image.Image, box: tuple[int, int, int, int], paint: Colour | Gradient, clip: Image.Image | None
    ) -> None:
        if clip is not None:
            mask = ImageChops.multiply(mask, clip.crop(box))
        if isinstance(paint, Gradient):
            t = np.linspace(0, 1, mask.height)[:, None]
            column = (np.array(paint.top) * (1 - t) + np.array(paint.bottom) * t).round().astype(np.uint8)
            self.canvas.image.paste(Image.fromarray(column[:, None]).resize(mask.size), box, mask)
        else:
            self.canvas.image.paste(paint, box, mask)
