"""Masks from faces: boxes, ellipses and head shapes, drawn straight into ``[B, H, W]``.

Every shape is a distance to its outline, so that growing and feathering are arithmetic instead of filters over whole
pictures, and only the window around a face is ever touched.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .faces import GENDERS, Face, Faces

SHAPES = ("head", "ellipse", "box")
# A head is an egg: this much narrower at the chin than at the temples, as a share of the half width.
CHIN_NARROWING = 0.3


def face_masks(
    faces: Faces,
    shape: str = "head",
    grow: float = 0.0,
    grow_percent: float = 0.0,
    feather: float = 0.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Where the faces of each picture are; zero for a picture without one.

    Args:
        faces: of pictures of one size, as an image batch has it.
        shape: one of :data:`SHAPES`.
        grow: pixels added on every side; negative shrinks.
        grow_percent: the same as a percentage of the longer side of each box.
        feather: pixels over which the mask fades out beyond the shape, which itself stays covered.
        device: where the masks are made; the faces' own where None.

    Returns:
        ``[B, H, W]`` float32 in 0-1; overlapping faces take the larger value.

    Raises:
        ValueError: another shape, a negative feather, or pictures of different sizes.

    >>> faces = Faces.from_boxes([[[1, 1, 3, 3]], []], sizes=[(4, 4), (4, 4)])
    >>> face_masks(faces, "box").sum((1, 2)).tolist()
    [4.0, 0.0]
    """
    height, width = common_size(faces)
    masks = torch.zeros(faces.images, height, width, device=faces.device if device is None else device)
    for face in faces:
        region = (0, 0, width, height)
        window = grown_window(face, region, grow, grow_percent, feather)
        if window is not None:
            x1, y1, x2, y2 = window
            part = masks[face.image, y1:y2, x1:x2]
            drawn = shape_in_window(face.box, window, shape, grow, grow_percent, feather, masks.device)
            torch.maximum(part, drawn, out=part)
    if shape not in SHAPES or feather < 0:
        shape_in_window((0, 0, 1, 1), (0, 0, 1, 1), shape, feather=feather)  # raises, also where there are no faces
    return masks


def gender_masks(
    faces: Faces,
    shape: str = "head",
    grow: float = 0.0,
    grow_percent: float = 0.0,
    feather: float = 0.0,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The masks of the women, of the men, and of both; arguments and errors as of :func:`face_masks`.

    Raises:
        ValueError: the faces have not been classified.
    """
    female, male = (
        face_masks(
            faces.filter(faces.gender_index == i) if len(faces) else faces, shape, grow, grow_percent, feather, device
        )
        for i in range(len(GENDERS))
    )
    return female, male, torch.maximum(female, male)


def common_size(faces: Faces) -> tuple[int, int]:
    """(height, width) of all pictures; (1, 1) where there are none.

    Raises:
        ValueError: they differ.
    """
    sizes = {(height, width) for height, width in faces.image_sizes.tolist()}
    if len(sizes) > 1:
        raise ValueError(f"masks of a batch need pictures of one size, these have {sorted(sizes)} (height, width)")
    return next(iter(sizes), (1, 1))


def grown_window(
    face: Face,
    region: tuple[int, int, int, int],
    grow: float = 0.0,
    grow_percent: float = 0.0,
    feather: float = 0.0,
) -> tuple[int, int, int, int] | None:
    """The part of ``region`` (xyxy) that a face's mask can reach, or None where it reaches none."""
    x1, y1, x2, y2 = face.box
    reach = grow + grow_percent / 100 * max(x2 - x1, y2 - y1) + feather + 1
    left, top = max(region[0], int(x1 - reach)), max(region[1], int(y1 - reach))
    right, bottom = min(region[2], int(x2 + reach) + 1), min(region[3], int(y2 + reach) + 1)
    return (left, top, right, bottom) if left < right and top < bottom else None


def shape_in_window(
    box: tuple[float, float, float, float],
    window: tuple[int, int, int, int],
    shape: str = "head",
    grow: float = 0.0,
    grow_percent: float = 0.0,
    feather: float = 0.0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """One face's mask inside a window (xyxy, whole pixels): ``[h, w]`` float32 in 0-1.

    Raises:
        ValueError: another shape, or a negative feather.
    """
    if shape not in SHAPES:
        raise ValueError(f"mask shape {shape!r} is not known; choose one of {', '.join(SHAPES)}")
    if feather < 0:
        raise ValueError(f"feather is {feather}, expected 0 or more pixels")
    x1, y1, x2, y2 = box
    more = grow + grow_percent / 100 * max(x2 - x1, y2 - y1)
    half_width, half_height = (x2 - x1) / 2 + more, (y2 - y1) / 2 + more
    left, top, right, bottom = window
    if half_width <= 0 or half_height <= 0:  # shrunk away
        return torch.zeros(bottom - top, right - left, device=device)
    x = torch.arange(left, right, device=device, dtype=torch.float32)[None, :] + (0.5 - (x1 + x2) / 2)
    y = torch.arange(top, bottom, device=device, dtype=torch.float32)[:, None] + (0.5 - (y1 + y2) / 2)
    outside_x, outside_y = x.abs() - half_width, y.abs() - half_height
    distance = torch.hypot(outside_x.clamp(min=0), outside_y.clamp(min=0))  # to the box
    if shape == "box":
        distance = distance + torch.maximum(outside_x, outside_y).clamp(max=0)
    else:
        across: float | Tensor = half_width
        if shape == "head":
            across = half_width * (1 - CHIN_NARROWING * (y / half_height).clamp(0, 1))
        # How far out as a multiple of the radius, less one, over how fast that grows: the distance to first order,
        # exact on the outline and on the axes. Beside the ends of a long shape it is too small, less than to the box.
        times = torch.hypot(x / across, y / half_height)
        growth = torch.hypot(x / across**2, y / half_height**2).clamp(min=1e-12)  # none in the middle
        distance = torch.maximum(times * (times - 1) / growth, distance)
    if feather == 0:
        return (distance <= 0).float()
    return (1 - distance / feather).clamp(0, 1)
