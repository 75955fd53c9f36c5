"""Composite pictures for the detector: cut-outs with known heads pasted over backgrounds.

A composite knows every head in it, which no found picture does, and it can be made in any number: heads of any
size, turned, mirrored, blurred, grey, overlapping or absent. NumPy and OpenCV, because it runs in loader
processes while the net trains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray


@dataclass
class Scene:
    """A composite: ``image`` [H, W, 3] uint8, ``heads`` [n, 3] (centre x, centre y, side), ``complete``."""

    image: Array
    heads: Array
    complete: bool


@dataclass
class CutOut:
    """A picture to paste: ``pixels`` [h, w, 4] uint8 RGBA, ``heads`` [n, 4] xyxy, and whether those are all."""

    pixels: Array
    heads: Array
    complete: bool
    opaque: bool


def _background(size: int, pool: list[Array], rng: np.random.Generator) -> Array:
    """A head-free canvas: patches, a gradient, flat colour, noise or a mixture."""
    choice = rng.random()
    if choice < 0.55 and pool:
        canvas = cv2.resize(pool[rng.integers(len(pool))], (size, size), interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.5:  # a second and third patch beside it give edges, which flat patches lack
            for _ in range(rng.integers(1, 4)):
                patch = pool[rng.integers(len(pool))]
                w, h = rng.integers(size // 8, size, 2)
                x, y = rng.integers(0, size - w + 1), rng.integers(0, size - h + 1)
                canvas[y : y + h, x : x + w] = cv2.resize(patch, (int(w), int(h)))
        return canvas
    if choice < 0.8:
        corners = rng.integers(0, 256, (2, 2, 3)).astype(np.float32)
        if rng.random() < 0.5:
            corners = corners * 0.25 + 190
        return cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    if choice < 0.92:
        colour: Array = rng.integers(0, 256, 3)
        if rng.random() < 0.6:
            colour[:] = rng.choice([0, 255, colour[0]])
        return np.full((size, size, 3), colour, np.uint8)
    cells = int(rng.choice([4, 8, 16, size // 4, size // 2]))
    noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return cv2.resize(noise, (size, size), interpolation=int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_CUBIC])))


def _placement(head: Array, side: float, centre: Array, turn: float, mirror: bool) -> Array:
    """The 2x3 matrix that puts ``head``'s centre at ``centre`` with the given side, turned and mirrored."""
    scale = side / max(1.0, float(head[2] - head[0]))
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    matrix = np.array([[cos, -sin], [sin, cos]], np.float32)
    if mirror:
        matrix[:, 0] *= -1
    middle = np.array([(head[0] + head[2]) / 2, (head[1] + head[3]) / 2], np.float32)
    return np.concatenate((matrix, (centre - matrix @ middle)[:, None]), 1)


def _transform_heads(heads: Array, matrix: Array) -> Array:
    """Head squares [n, 4] through an affine matrix as [n, 3]: squares stay upright."""
    middles = (heads[:, :2] + heads[:, 2:]) / 2
    sides = (heads[:, 2:] - heads[:, :2]).mean(1)
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    return np.concatenate((middles @ matrix[:, :2].T + matrix[:, 2], sides[:, None] * scale), 1).astype(np.float32)


def _visible(head: Array, pixels: Array, size: int) -> tuple[Array, float]:
    """The square clipped to its own picture's and the canvas's borders, re-squared around what is left, and its share.

    A close-up icon shows less than a head; pasted as a panel, what can be found is the panel.
    """
    x, y, side = head
    half = side / 2
    low = np.maximum([x - half, y - half], np.maximum(pixels[:2], 0))
    high = np.minimum([x + half, y + half], np.minimum(pixels[2:], size))
    extent = high - low
    return np.array([*(low + high) / 2, extent.max()], np.float32), float(extent.min() / max(side, 1e-6))


def _degrade(image: Array, rng: np.random.Generator) -> Array:
    """What pictures go through in the world: colour shifts, grey, blur, noise, resampling, JPEG."""
    if rng.random() < 0.5:
        gain = rng.uniform(0.6, 1.3) * rng.uniform(0.9, 1.1, 3)
        shift = rng.uniform(-30, 30)
        image = np.clip(image * gain.astype(np.float32) + np.float32(shift), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int32) + rng.integers(0, 180)) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if rng.random() < 0.15:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.8)))
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(2, 14), image.shape).astype(np.float32)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 92))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    return image


class Composer:
    """Draws random composites.

    Args:
        cut_outs: pictures that hold at least one known head.
        scenes: opaque pictures used as whole frames.
        negatives: head-free RGB patches.
        distractors: RGBA pictures without heads (bodies, props) that are pasted like people.
        weights: sampling weight of each cut-out.
    """

    def __init__(
        self,
        cut_outs: list[CutOut],
        scenes: list[CutOut],
        negatives: list[Array],
        distractors: list[Array],
        weights: Array,
    ) -> None:
        self.cut_outs, self.scenes = cut_outs, scenes
        self.negatives, self.distractors = negatives, distractors
        self.cumulative = np.cumsum(weights / weights.sum())

    def draw(self, size: int, rng: np.random.Generator) -> Scene:
        """One composite of ``size`` x ``size`` pixels."""
        kind = rng.random()
        if self.scenes and kind < 0.3:
            return self._frame(size, rng)
        canvas = _background(size, self.negatives, rng)
        heads = np.zeros((0, 3), np.float32)
        people = 0 if kind > 0.93 else int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.5, 0.22, 0.12, 0.07, 0.05, 0.04]))
        if self.distractors and (people == 0 or rng.random() < 0.45):
            for _ in range(int(rng.integers(1, 4))):
                self._paste_distractor(canvas, rng)
        complete = True
        largest = size * (1.15 if people == 1 else 0.75 / math.sqrt(max(people, 1)))
        for _ in range(people):
            heads, all_known = self._paste_person(canvas, heads, largest, rng)
            complete &= all_known
        return Scene(_degrade(canvas, rng), heads, complete)

    def _paste_person(
        self, canvas: Array, heads: Array, largest: float, rng: np.random.Generator
    ) -> tuple[Array, bool]:
        size = canvas.shape[0]
        person = self.cut_outs[min(int(np.searchsorted(self.cumulative, rng.random())), len(self.cut_outs) - 1)]
        head = person.heads[rng.integers(len(person.heads))]
        # Large heads are what most pictures hold, and a log-uniform draw alone gives few of them.
        smallest = 16.0 if rng.random() < 0.6 else largest * 0.3
        side = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        side = min(side, float(head[2] - head[0]) * 3.5)  # beyond that it is only blur
        centre = rng.uniform(side * 0.35, max(size - side * 0.35, side * 0.36), 2).astype(np.float32)
        turn = 0.0 if rng.random() < 0.5 else float(rng.normal(0, 0.3))
        if person.opaque:
            turn *= 0.4
        matrix = _placement(head, side, centre, turn, rng.random() < 0.5)
        placed = _transform_heads(person.heads, matrix)
        for one in placed:  # two heads on the same spot would teach nothing
            if len(heads) and (np.abs(heads[:, :2] - one[:2]).max(1) < 0.42 * (heads[:, 2] + one[2]) / 2 * 1.4).any():
                return heads, True
        height, width = person.pixels.shape[:2]
        scaled = cv2.INTER_AREA if side < (head[2] - head[0]) * 0.5 and turn == 0 else cv2.INTER_LINEAR
        pixels = person.pixels
        shrink = float(head[2] - head[0]) / side
        if scaled == cv2.INTER_AREA or shrink > 1.6:  # warpAffine does not low-pass: shrink first
            factor = 1.0 / shrink
            target = (max(1, round(width * factor)), max(1, round(height * factor)))
            pixels = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
            matrix = matrix.copy()
            matrix[:, 0] *= width / target[0]
            matrix[:, 1] *= height / target[1]
        corners = np.array([[0, 0], [pixels.shape[1], 0], [0, pixels.shape[0]], pixels.shape[1::-1]], np.float32)
        corners = corners @ matrix[:, :2].T + matrix[:, 2]
        low = np.floor(np.clip(corners.min(0), 0, size)).astype(int)
        high = np.ceil(np.clip(corners.max(0), 0, size)).astype(int)
        if (high <= low).any():
            return heads, True
        local = matrix.copy()
        local[:, 2] -= low
        patch = cv2.warpAffine(pixels, local, tuple(int(v) for v in high - low), flags=cv2.INTER_LINEAR)
        region = canvas[low[1] : high[1], low[0] : high[0]]
        alpha = patch[..., 3:].astype(np.uint16)
        region[:] = ((patch[..., :3] * alpha + region * (255 - alpha) + 127) // 255).astype(np.uint8)
        heads = self._without_covered(heads, low, high, patch[..., 3])
        extent = np.concatenate((corners.min(0), corners.max(0)))
        for one in placed:
            square, share = _visible(one, extent, size)
            if share > 0.45 and square[2] > 11:
                heads = np.concatenate((heads, square[None]))
        return heads, person.complete

    @staticmethod
    def _without_covered(heads: Array, low: Array, high: Array, alpha: Array) -> Array:
        """Drop the heads of which the patch just pasted hides more than half."""
        keep = []
        for head in heads:
            a = np.maximum((head[:2] - head[2] * 0.3).astype(int) - low, 0)
            b = np.minimum((head[:2] + head[2] * 0.3).astype(int) + 1 - low, high - low)
            area = max(1.0, (head[2] * 0.6) ** 2)
            covered = float((alpha[a[1] : b[1], a[0] : b[0]] > 127).sum()) if (b > a).all() else 0.0
            keep.append(covered / area < 0.4)
        return heads[np.array(keep, bool)] if len(heads) else heads

    def _paste_distractor(self, canvas: Array, rng: np.random.Generator) -> None:
        size = canvas.shape[0]
        pixels = self.distractors[rng.integers(len(self.distractors))]
        scale = math.exp(rng.uniform(math.log(0.15), math.log(1.1))) * size / max(pixels.shape[:2])
        w, h = (max(2, int(v * scale)) for v in pixels.shape[1::-1])
        patch = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        x, y = int(rng.integers(-w // 3, size - w // 3)), int(rng.integers(-h // 3, size - h // 3))
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, size), min(y + h, size)
        if x1 <= x0 or y1 <= y0:
            return
        patch = patch[y0 - y : y1 - y, x0 - x : x1 - x]
        alpha = patch[..., 3:].astype(np.uint16)
        region = canvas[y0:y1, x0:x1]
        region[:] = ((patch[..., :3] * alpha + region * (255 - alpha) + 127) // 255).astype(np.uint8)

    def _frame(self, size: int, rng: np.random.Generator) -> Scene:
        """A whole picture as the scene, at a random scale and offset, padded with a flat colour."""
        scene = self.scenes[rng.integers(len(self.scenes))]
        height, width = scene.pixels.shape[:2]
        scale = size / max(height, width) * math.exp(rng.uniform(math.log(0.7), math.log(2.2)))
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(scene.pixels, target, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        mirror = rng.random() < 0.5
        if mirror:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        head = scene.heads[rng.integers(len(scene.heads))] * scale
        middle = (head[:2] + head[2:]) / 2
        if mirror:
            middle[0] = target[0] - middle[0]
        offset = []
        for extent, at in zip(target, middle, strict=True):
            if extent <= size:
                offset.append(int(rng.integers(0, size - extent + 1)) if rng.random() < 0.5 else 0)
            else:
                low, high = max(size - extent, int(size * 0.8 - at)), min(0, int(size * 0.2 - at))
                offset.append(int(rng.integers(min(low, high), max(low, high) + 1)))
        if rng.random() < 0.5:
            canvas = np.full((size, size, 3), 128, np.uint8)  # what inference pads with
        else:
            canvas = _background(size, self.negatives, rng)
        matrix = np.array([[-scale if mirror else scale, 0, offset[0]], [0, scale, offset[1]]], np.float32)
        if mirror:
            matrix[0, 2] += target[0]
        x0, y0 = max(offset[0], 0), max(offset[1], 0)
        x1, y1 = min(offset[0] + target[0], size), min(offset[1] + target[1], size)
        patch = pixels[y0 - offset[1] : y1 - offset[1], x0 - offset[0] : x1 - offset[0]]
        alpha = patch[..., 3:].astype(np.uint16)
        region = canvas[y0:y1, x0:x1]
        region[:] = ((patch[..., :3] * alpha + region * (255 - alpha) + 127) // 255).astype(np.uint8)
        extent = np.array([offset[0], offset[1], offset[0] + target[0], offset[1] + target[1]], np.float32)
        kept = []
        for one in _transform_heads(scene.heads, matrix):
            square, share = _visible(one, extent, size)
            if share > 0.45 and square[2] > 11:
                kept.append(square)
        heads = np.array(kept, np.float32).reshape(-1, 3)
        return Scene(_degrade(canvas, rng), heads, scene.complete)
