"""Random framings and degradations of head crops, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CACHE_MARGIN = 2.4  # cached crops show this many head sides, so that any framing can be cut from them
CACHE_SIZE = 192


def frame(
    crops: Tensor,
    size: int,
    margin: Tensor,
    shift: Tensor,
    turn: Tensor,
    mirror: Tensor,
    stretch: Tensor | None = None,
    shown: float = CACHE_MARGIN,
) -> Tensor:
    """Cut a framing out of cached crops.

    Args:
        crops: ``[B, C, K, K]`` float, the head filling ``1 / shown`` of each side.
        size: side of the result.
        margin: ``[B]`` head sides that the framing shows.
        shift: ``[B, 2]`` offset of its centre, in head sides.
        turn: ``[B]`` radians.
        mirror: ``[B]`` bool.
        stretch: ``[B]`` width over height of what is shown, 1 where left out.
        shown: head sides that the crops show.

    Returns:
        ``[B, C, size, size]``; the crop's own edge is repeated beyond it.
    """
    scale = margin / shown
    stretch = torch.ones_like(scale) if stretch is None else stretch
    cos, sin = turn.cos() * scale, turn.sin() * scale
    sign = torch.where(mirror, -1.0, 1.0)
    offset = shift * 2 / shown
    theta = torch.stack(
        (
            torch.stack((cos * sign * stretch, -sin / stretch, offset[:, 0]), -1),
            torch.stack((sin * sign * stretch, cos / stretch, offset[:, 1]), -1),
        ),
        1,
    )
    grid = F.affine_grid(theta, [len(crops), crops.shape[1], size, size], align_corners=False)
    return F.grid_sample(crops, grid, padding_mode="border", align_corners=False)


def corners(extents: np.ndarray, size: int) -> list[list[int]]:
    """Where pictures lie in crops of some size: ``extents [B, 4]`` in shares of their sides as whole pixels.

    At least one pixel of each is left.
    """
    low = np.clip(np.round(extents[:, :2] * size), 0, size - 1)
    high = np.clip(np.round(extents[:, 2:] * size), low + 1, size)
    return np.concatenate((low, high), 1).astype(int).tolist()


def mean_colours(crops: Tensor, extents: np.ndarray) -> Tensor:
    """The mean colours of crops ``[B, 4, K, K]`` uint8 RGBA inside ``extents [B, 4]``, as ``[B, 4, 1, 1]``.

    Over any one colour they look as the mean of what shows over it.
    """
    found = torch.empty(len(crops), 4, 1, 1, dtype=torch.uint8)
    for i, (x0, y0, x1, y1) in enumerate(corners(extents, crops.shape[-1])):
        inner = crops[i, :, y0:y1, x0:x1].float()
        alpha = inner[3:].mean()
        shown = (inner[:3] * inner[3:]).mean((1, 2)) / alpha.clamp(min=1e-3)
        found[i, :, 0, 0] = torch.cat((shown, alpha[None])).round().to(torch.uint8)
    return found


def surround(crops: Tensor, extents: np.ndarray, fills: Tensor | Sequence[Tensor]) -> Tensor:
    """Crops ``[B, 4, K, K]`` with other surroundings, in place.

    Args:
        crops: uint8 RGBA.
        extents: ``[B, 4]`` what is left of each, in shares of its sides.
        fills: of each what is around that, ``[4, K, K]`` or ``[4, 1, 1]`` uint8 RGBA.
    """
    for crop, (x0, y0, x1, y1), fill in zip(crops, corners(extents, crops.shape[-1]), fills, strict=True):
        kept = crop[:, y0:y1, x0:x1].clone()
        crop[:] = fill
        crop[:, y0:y1, x0:x1] = kept
    return crops


def tight_squares(count: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """What a detector takes for the head in pictures that end within it, such as those cut to a face: all there is.

    Returns:
        ``[count, 3]`` the side of that over the head's, and where its middle lies from the head's, in head sides:
        faces lie a little lower. 1, 0 and 0 for all but a ``share``.
    """
    squares = np.stack((rng.uniform(0.5, 0.95, count), rng.normal(0, 0.04, count), rng.normal(0.06, 0.04, count)), 1)
    return np.where((rng.random(count) < share)[:, None], squares, (1.0, 0.0, 0.0)).astype(np.float32)


def enlarged(squares: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Squares ``[n, 3]`` of :func:`tight_squares`, those within a head up to ``most`` times as large.

    So a face that fills its picture is seen at sizes from the one that the picture suggests to nearly its own.
    """
    factor = np.where(squares[:, :1] < 1, rng.uniform(1, most, (len(squares), 1)), 1)
    return np.concatenate((squares[:, :1] * factor, squares[:, 1:]), 1).astype(np.float32)


def vary_surroundings(
    crops: Tensor,
    extents: np.ndarray,
    rng: np.random.Generator,
    alone: float = 0.0,
    squares: np.ndarray | None = None,
) -> Tensor:
    """Crops, in place, with various surroundings where their pictures end, so that no net learns what these look like.

    Half get the mean colour, as at inference; a fifth any other one, a fifth all that is there far out of focus, and
    the rest stay as they are.

    Args:
        crops: ``[B, 4, K, K]`` uint8 RGBA, in which the pictures' edges are repeated.
        extents: ``[B, 4]`` where the pictures lie in them.
        rng: the randomness.
        alone: share of the crops whose pictures are to end around the head, as face icons do: 0.9 to 1.3 head sides.
        squares: ``[B, 3]`` of :func:`tight_squares`, where pictures are to end within the head.
    """
    count, size = len(crops), crops.shape[-1]
    half = rng.uniform(0.45, 0.65, (count, 1)) / CACHE_MARGIN
    middle = 0.5 + rng.normal(0, 0.04, (count, 2)) / CACHE_MARGIN
    lonely = (rng.random(count) < alone)[:, None]
    if squares is not None:
        tight = squares[:, :1] < 1
        half = np.where(tight, squares[:, :1] / 2 / CACHE_MARGIN, half)
        middle = np.where(tight, 0.5 + squares[:, 1:] / CACHE_MARGIN, middle)
        lonely |= tight
    low = np.where(lonely, np.maximum(extents[:, :2], middle - half), extents[:, :2])
    high = np.where(lonely, np.minimum(extents[:, 2:], middle + half), extents[:, 2:])
    extents = np.concatenate((low, high), 1)
    kinds = rng.choice(4, count, p=(0.5, 0.2, 0.2, 0.1))
    fills: list[Tensor] = []
    for kind, crop, colour in zip(kinds, crops, mean_colours(crops, extents), strict=True):
        if kind == 1:
            colour = torch.tensor([*rng.integers(0, 256, 3).tolist(), 255], dtype=torch.uint8)[:, None, None]
        elif kind == 2:
            coarse = F.adaptive_avg_pool2d(crop.float(), 6)[None]
            colour = F.interpolate(coarse, (size, size), mode="bilinear")[0].round().to(torch.uint8)
        fills.append(crop.clone() if kind == 3 else colour)
    return surround(crops, extents, fills)


def plain(
    crops: Tensor,
    size: int,
    margin: float = 1.0,
    below: float = 0.0,
    shown: float = CACHE_MARGIN,
    scales: Tensor | None = None,
) -> Tensor:
    """The framing that inference uses, from cached uint8 RGBA crops over white, as RGB in 0-1.

    Where ``scales [B]`` are given, heads are taken for so many times as large as they are.
    """
    x = crops.float() / 255
    n = len(x)
    zeros = torch.zeros(n)
    sides = torch.ones(n) if scales is None else scales
    shift = torch.stack((zeros, sides * below), 1)
    x = frame(x, size, sides * margin, shift, zeros, zeros.bool(), shown=shown)
    return x[:, :3] * x[:, 3:] + (1 - x[:, 3:])


def backgrounds(count: int, size: int, generator: torch.Generator) -> Tensor:
    """``[count, 3, size, size]``: white, flat colours, gradients and coarse noise in equal parts."""
    kind = torch.randint(0, 4, (count,), generator=generator)
    result = torch.where(kind[:, None] == 0, 1.0, torch.rand(count, 3, generator=generator))
    result = result[:, :, None, None].repeat(1, 1, size, size)
    for which, cells in ((2, 2), (3, 6)):
        rows = (kind == which).nonzero()[:, 0]
        small = torch.rand(len(rows), 3, cells, cells, generator=generator)
        if len(rows):
            result[rows] = F.interpolate(small, (size, size), mode="bilinear", align_corners=True)
    return result


def _colour(x: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Per picture: brightness, contrast, saturation, hue turn, channel gains, gamma, grey, inversion never."""
    n = len(x)

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.rand(n, channels, 1, 1, generator=generator) * (high - low) + low

    luma = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]
    grey = (x * luma).sum(1, keepdim=True)
    turned = torch.rand(n, generator=generator) < 0.3 * strength
    angle = torch.where(turned, (torch.rand(n, generator=generator) - 0.5) * 2 * torch.pi, 0.0)
    angle = torch.where(torch.rand(n, generator=generator) < 0.5, angle, angle * 0.12)
    # A turn around the grey axis in RGB: cheap and close enough to a hue turn.
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    third = 1.0 / 3.0
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * third**0.5
    rotation = cos * torch.eye(3) + sin * cross + (1 - cos) * third
    x = torch.einsum("nij,njhw->nihw", rotation, x)
    x = grey + (x - grey) * uniform(1 - 0.6 * strength, 1 + 0.5 * strength)
    middle = x.mean((1, 2, 3), keepdim=True)
    shift = 0.18 * strength
    x = middle + (x - middle) * uniform(1 - 0.4 * strength, 1 + 0.35 * strength) + uniform(-shift, shift)
    x = (x * uniform(1 - 0.12 * strength, 1 + 0.12 * strength, 3)).clamp(0, 1)
    x = x ** uniform(1 - 0.3 * strength, 1 + 0.4 * strength)
    flat = torch.rand(n, 1, 1, 1, generator=generator) < 0.15 * strength
    return torch.where(flat, (x * luma).sum(1, keepdim=True), x)


def _restyle(x: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Per picture, sometimes: another's colour statistics, a random convolution, few tones, or a pencil drawing.

    What is left of a face under all of these is its shapes, which is what carries over to shows nobody has seen.
    Colour statistics: Reinhard et al., "Color Transfer between Images", 2001. Random convolutions: Xu et al., "Robust
    and Generalizable Visual Representation Learning via Random Convolutions", 2021.
    """
    n = len(x)
    chance = torch.rand(4, n, generator=generator) / strength
    rows = (chance[0] < 0.2).nonzero()[:, 0]
    if len(rows):
        mean, std = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True) + 1e-3
        other = torch.randint(0, n, (len(rows),), generator=generator)
        share = torch.rand(len(rows), 1, 1, 1, generator=generator)
        to_mean = mean[rows].lerp(mean[other], share)
        to_std = std[rows].lerp(std[other], share)
        x[rows] = ((x[rows] - mean[rows]) / std[rows] * to_std + to_mean).clamp(0, 1)
    rows = (chance[1] < 0.15).nonzero()[:, 0]
    if len(rows):
        k = len(rows)
        kernel = torch.randn(k * 3, 3, 3, 3, generator=generator) * (1 / 27) ** 0.5
        flat = F.pad(x[rows], (1, 1, 1, 1), mode="replicate").reshape(1, k * 3, x.shape[2] + 2, x.shape[3] + 2)
        made = F.conv2d(flat, kernel, groups=k).reshape(k, 3, *x.shape[2:])
        low, high = made.amin((2, 3), keepdim=True), made.amax((2, 3), keepdim=True)
        made = (made - low) / (high - low).clamp(min=1e-3)
        share = torch.rand(k, 1, 1, 1, generator=generator) * 0.8
        x[rows] = x[rows].lerp(made, share)
    rows = (chance[2] < 0.08).nonzero()[:, 0]
    if len(rows):
        tones = torch.randint(3, 8, (len(rows), 1, 1, 1), generator=generator).float()
        x[rows] = (x[rows] * tones).round() / tones
    rows = (chance[3] < 0.05).nonzero()[:, 0]
    if len(rows):
        grey = x[rows].mean(1, keepdim=True)
        soft = F.avg_pool2d(F.pad(grey, (2, 2, 2, 2), mode="replicate"), 5, 1)
        strokes = (grey / soft.clamp(min=0.05)).clamp(0, 1) ** 3
        x[rows] = strokes.expand(-1, 3, -1, -1)
    return x


def _degrade(x: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Per picture, sometimes: resampling to a small size, Gaussian blur, noise, JPEG, erased rectangles."""
    pictures = (x.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    size = pictures.shape[1]
    fine = size / 96  # what these do to a face goes by its size in pixels
    result = []
    for picture in pictures:
        draw = rng.random(5) / strength
        if draw[0] < 0.25:
            small = int(rng.integers(round(24 * fine), size))
            down = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
            picture = cv2.resize(down, (size, size), interpolation=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])))
        if draw[1] < 0.15:
            picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.6) * fine))
        if draw[2] < 0.12:
            noise = rng.normal(0, rng.uniform(3, 18), picture.shape)
            picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
        if draw[3] < 0.3:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(max(8, round(40 - 25 * fine)), 90))]
            picture = cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)
        if draw[4] < 0.25:
            picture = picture.copy()
            w, h = (rng.uniform(0.12, 0.45, 2) * size).astype(int)
            x0, y0 = int(rng.integers(-w // 2, size - w // 2)), int(rng.integers(-h // 2, size - h // 2))
            fill = rng.integers(0, 256, 3) if rng.random() < 0.5 else picture.mean((0, 1))
            picture[max(0, y0) : y0 + h, max(0, x0) : x0 + w] = fill
        result.append(picture)
    return torch.from_numpy(np.stack(result)).permute(0, 3, 1, 2).float() / 255


def augment(
    crops: Tensor,
    size: int,
    rng: np.random.Generator,
    generator: torch.Generator,
    strength: float = 1.0,
    margin: float = 1.0,
    below: float = 0.0,
    cached: float = CACHE_MARGIN,
    squares: np.ndarray | None = None,
    turned: float = 0.0,
) -> Tensor:
    """Training views of cached crops.

    Args:
        crops: ``[B, 4, K, K]`` uint8 RGBA, see :data:`CACHE_MARGIN`.
        size: side of the result.
        rng, generator: the randomness; equal seeds give equal views.
        strength: of the changes, from 0.
        margin, below: of the framing that inference uses, around which views vary.
        cached: head sides that the crops show.
        squares: ``[B, 3]`` what is taken for the head, where that is less (:func:`tight_squares`).
        turned: share of the views that are turned by any angle, upside down too.

    Returns:
        ``[B, 3, size, size]`` in 0-1.
    """
    n = len(crops)

    def normal(scale: float, *more: int) -> Tensor:
        return torch.randn(n, *more, generator=generator) * scale * strength

    shown = margin * torch.empty(n).uniform_(1.08 - 0.3 * strength, 1.08 + 0.3 * strength, generator=generator)
    shift = normal(0.05, 2) + torch.tensor([0.0, below])
    if squares is not None:
        taken = torch.from_numpy(squares)
        shown, shift = shown * taken[:, 0], shift * taken[:, :1] + taken[:, 1:]
    turn = torch.where(torch.rand(n, generator=generator) < 0.5, normal(0.06), normal(0.3))
    if turned:
        anyhow = (torch.rand(n, generator=generator) * 2 - 1) * torch.pi
        turn = torch.where(torch.rand(n, generator=generator) < turned, anyhow, turn)
    mirror = torch.rand(n, generator=generator) < 0.5
    stretch = (normal(0.05)).exp()
    x = frame(crops.float() / 255, size, shown, shift, turn, mirror, stretch, cached)
    x = x[:, :3] * x[:, 3:] + backgrounds(n, size, generator) * (1 - x[:, 3:])
    return disturbed(x, rng, generator, strength)


def disturbed(x: Tensor, rng: np.random.Generator, generator: torch.Generator, strength: float) -> Tensor:
    """Views ``[B, 3, S, S]`` in 0-1 with other colours, in other styles, and worse."""
    return _degrade(_restyle(_colour(x, generator, strength), generator, strength), rng, strength)


def mix(views: Tensor, target: Tensor, identity: Tensor, rng: np.random.Generator, share: float) -> None:
    """Blend some views, in place, with others of the batch, and their targets with them.

    Half by weighted means (Zhang et al., "mixup", 2018), half by a pasted rectangle (Yun et al., "CutMix", 2019).

    Args:
        views: ``[B, 3, S, S]``.
        target: ``[B, 2]`` probabilities.
        identity: ``[B]``; -1 afterwards where two characters are in one view.
        rng: the randomness.
        share: of the batch that is blended.
    """
    rows = rng.permutation(len(views))[: round(share * len(views))]
    others = rng.integers(0, len(views), len(rows))
    source, answer, size = views.clone(), target.clone(), views.shape[-1]
    for k, (i, j) in enumerate(zip(rows.tolist(), others.tolist(), strict=True)):
        if k % 2:
            keep = float(rng.beta(0.6, 0.6))
            views[i] = source[i] * keep + source[j] * (1 - keep)
        else:
            w, h = (rng.uniform(0.25, 0.75, 2) * size).astype(int)
            x, y = int(rng.integers(0, size - w + 1)), int(rng.integers(0, size - h + 1))
            views[i, :, y : y + h, x : x + w] = source[j, :, y : y + h, x : x + w]
            keep = 1 - w * h / size**2
        target[i] = answer[i] * keep + answer[j] * (1 - keep)
        identity[i] = -1
