"""Choosing: which faces count, which pictures of a batch are kept, and whatever travels along with them.

Nothing shifts: what is taken is taken by index, from pictures, latents, masks and faces alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .faces import GENDERS, Faces
from .images import head_crops
from .routing import select
from .rules import Rule
from .transfer import moved, on_device


def limit_faces(
    faces: Faces, threshold: float = 0.0, minimum_size: float = 0.0, maximum: int = 0, order: str = "score"
) -> Faces:
    """The faces that are sure and large enough, sorted, and of those the first ``maximum`` in each picture.

    Args:
        faces: of a batch; every picture stays.
        threshold: lowest detection score, 0-1.
        minimum_size: shortest side of a box in pixels.
        maximum: most faces per picture after sorting; 0 for all.
        order: one of :data:`anigender.faces.ORDERS`.

    Raises:
        ValueError: another order.
    """
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).amin(1)
    faces = faces.filter((faces.scores >= threshold) & (sides >= minimum_size)).order(order)
    if maximum < 1 or not len(faces):
        return faces
    rank = torch.arange(len(faces), device=faces.device) - torch.searchsorted(faces.image_index, faces.image_index)
    return faces.filter(rank < maximum)


def narrow_faces(
    faces: Faces, gender: str | None = None, minimum_confidence: float = 0.5, character: str = ""
) -> tuple[Faces, Faces]:
    """The faces that are all of this, and the others; every picture stays with both.

    Args:
        faces: classified faces of a batch.
        gender: ``female`` or ``male``; None for both.
        minimum_confidence: how sure a face's gender must be.
        character: one that was recognised, in any case; empty for anybody.

    Raises:
        ValueError: another gender, or a character whom the recogniser does not know, or where none has looked.
    """
    if gender not in (None, *GENDERS):
        raise ValueError(f"gender {gender!r} is not known; choose one of {', '.join(GENDERS)}")
    fits = faces.confidence >= minimum_confidence
    if gender is not None:
        fits &= faces.gender_index == GENDERS.index(gender)
    if character.strip():
        fits &= faces.is_character(character)
    return faces.filter(fits), faces.filter(~fits)


def check_faces(faces: Faces, images: Tensor) -> Faces:
    """The faces, if they can be those of these pictures ``[B, H, W, C]``.

    Raises:
        ValueError: they belong to another number of pictures or to pictures of another size.
    """
    if faces.images != len(images):
        raise ValueError(f"the faces belong to {faces.images} pictures, the batch has {len(images)}")
    size = [int(images.shape[1]), int(images.shape[2])]
    for i, other in enumerate(faces.image_sizes.tolist()):
        if other != size:
            raise ValueError(
                f"the faces of picture {i} were found in one of {other[1]} x {other[0]}, this is {size[1]} x {size[0]};"
                " detect again after resizing"
            )
    return faces


@dataclass(frozen=True)
class Selection:
    """Which pictures of a batch fit a rule: two lists of indices, each in batch order, all pictures in one of them."""

    kept: list[int]
    rejected: list[int]


def select_pictures(faces: Faces, rule: Rule | str, known: Sequence[Mapping[str, float]] | None = None) -> Selection:
    """The pictures for which a rule holds, and the others; ``known`` as for :func:`anigender.routing.select`.

    Raises:
        RuleError: the rule cannot be understood or worked out.
    """
    fits = select(faces, rule, known)
    return Selection([i for i, fit in enumerate(fits) if fit], [i for i, fit in enumerate(fits) if not fit])


def format_indices(indices: Sequence[int]) -> str:
    """``"0, 2, 5"``, as KJNodes and others write a list of indices."""
    return ", ".join(str(i) for i in indices)


def take_pictures(images: Tensor, indices: Sequence[int], blank: bool = False) -> Tensor:
    """These pictures of a batch ``[B, ...]``, on its own device; the batch itself where all are taken.

    With ``blank``, one black picture where none is taken: for where there must be one.
    """
    if list(indices) == list(range(len(images))) and (len(images) or not blank):
        return images
    if blank and not indices:
        return torch.zeros(1, *images.shape[1:], dtype=images.dtype, device=images.device)
    return images[on_device(list(indices), images.device, torch.int64)]


def take_masks(masks: Tensor, indices: Sequence[int], pictures: int, blank: bool = False) -> Tensor:
    """These masks of a batch ``[B, H, W]``; a single mask ``[H, W]`` or ``[1, H, W]`` serves every picture.

    Raises:
        ValueError: another number of masks.
    """
    masks = masks[None] if masks.ndim == 2 else masks
    if len(masks) == 1 and pictures > 1:
        return masks.repeat(len(indices), 1, 1) if indices or not blank else torch.zeros_like(masks)
    if len(masks) != pictures:
        raise ValueError(f"there are {len(masks)} masks for {pictures} pictures")
    return take_pictures(masks, indices, blank)


def take_latents(latent: dict[str, Any], indices: Sequence[int], pictures: int, blank: bool = False) -> dict[str, Any]:
    """These samples of a ComfyUI latent, with their noise masks and batch indices.

    Raises:
        ValueError: it is no latent, or holds another number of samples than there are pictures.
    """
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if samples is None:
        raise ValueError("a latent is a dict with samples")
    if len(samples) != pictures:
        raise ValueError(f"the latent holds {len(samples)} samples for {pictures} pictures")
    if blank and not indices:
        return {"samples": take_pictures(samples, indices, blank)}
    taken = {**latent, "samples": take_pictures(samples, indices)}
    if latent.get("noise_mask") is not None and len(latent["noise_mask"]) == pictures:
        taken["noise_mask"] = take_pictures(latent["noise_mask"], indices)
    if latent.get("batch_index") is not None:
        taken["batch_index"] = [latent["batch_index"][i] for i in indices]
    return taken


def take_faces(faces: Faces, indices: Sequence[int], blank: tuple[int, int] | None = None) -> Faces:
    """The faces of these pictures, as those of a batch of only them.

    With ``blank``, a (height, width): where no picture is taken, those of one such picture, which has none.
    """
    if indices:
        return Faces.concatenate([faces.of_image(i) for i in indices])
    nobody = faces.filter(torch.zeros(len(faces), dtype=torch.bool, device=faces.device))
    sizes = faces.image_sizes[:0] if blank is None else on_device([blank], faces.device)
    return replace(nobody, image_sizes=sizes)


def face_crops(images: Tensor, faces: Faces, size: int, margin: float) -> Tensor:
    """``[N, size, size, 3]``: a square picture of every face, in the faces' order, on the pictures' device."""
    return head_crops(images, faces, size, margin).permute(0, 2, 3, 1).contiguous()


def one_crop_per_picture(images: Tensor, faces: Faces, size: int, margin: float) -> Tensor:
    """``[B, size, size, 3]``: for every picture its face (the first, where it has more), black where it has none."""
    first = faces.pick(0)
    crops = torch.zeros(faces.images, size, size, 3, device=images.device)
    crops[moved(first.image_index, images.device)] = face_crops(images, first, size, margin)
    return crops
