"""SEGS, the structure in which ComfyUI's detailers hand faces around, with a gender in its labels.

The Impact Pack's format: ``((height, width), [SEG, ...])`` for one picture. Labels that are exactly ``female`` and
``male`` make its label filter and the detailers' ``[LAB] [female] ... [male] ...`` prompts work without further nodes.
A SEG's confidence here is the probability of its label.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .bounding_boxes import LARGEST, head_boxes, shown
from .faces import GENDERS, Face, Faces
from .masks import face_masks, shape_in_window
from .pipeline import Pipeline

SEG = namedtuple(
    "SEG",
    ["cropped_image", "cropped_mask", "confidence", "crop_region", "bbox", "label", "control_net_wrapper"],
    defaults=[None],
)
Segs = tuple[tuple[int, int], list[Any]]
NOBODY = "nobody"  # the label of a face whose name is not known

# How a SEG of any detector becomes a head for the classifier.
MATCHES = {
    "auto": "the head that anigender finds inside the SEG; where it finds none, the SEG's box taken for a face",
    "face": "the SEG's box is a face",
    "head": "the SEG's box is a whole head",
}
SAME_HEAD = 0.5  # overlap of two boxes, as a share of the smaller one, from which they show the same person


def crop_region(box: Sequence[float], height: int, width: int, crop_factor: float) -> list[int]:
    """``[x1, y1, x2, y2]``: ``crop_factor`` times the box, moved into the picture and no larger than it.

    >>> crop_region((0, 40, 20, 60), height=100, width=50, crop_factor=2)
    [0, 30, 40, 70]
    """
    region = []
    for low, high, limit in ((box[0], box[2], width), (box[1], box[3], height)):
        size = min(limit, max(1, round((high - low) * crop_factor)))
        start = min(max(0, round((low + high) / 2 - size / 2)), limit - size)
        region.append((start, start + size))
    (x1, x2), (y1, y2) = region
    return [x1, y1, x2, y2]


def faces_to_segs(
    faces: Faces,
    images: Tensor | None = None,
    crop_factor: float = 3.0,
    shape: str = "box",
    dilation: int = 0,
    drop_size: int = 1,
    hook: Any = None,
    by_name: bool = False,
) -> list[Segs]:
    """SEGS for every picture of a batch, in the faces' order; an empty list of SEG where there is no face.

    Args:
        faces: classified faces.
        images: ``[B, H, W, C]``; where given, each SEG carries its piece of it.
        crop_factor: side of what a detailer sees over the side of the box.
        shape: of the masks; see :data:`anigender.masks.SHAPES`.
        dilation: size of the square that the masks are dilated with, as in the Impact Pack: half of it on each side.
        drop_size: boxes not larger than this in both directions are dropped.
        hook: a detailer hook; ``post_crop_region`` and ``post_detection`` are called where it has them.
        by_name: labels are the characters' names rather than genders, ``nobody`` for nobody known.

    Raises:
        ValueError: the faces are not classified (or not recognised) or belong to a batch of another length, or another
            shape.
    """
    if images is not None and len(images) != faces.images:
        raise ValueError(f"the faces belong to {faces.images} pictures, {len(images)} were given")
    found: list[list[Any]] = [[] for _ in range(faces.images)]
    sizes = [(int(height), int(width)) for height, width in faces.image_sizes.tolist()]
    if by_name:
        faces.names  # noqa: B018  (asked for its error)
    for face in faces.cpu().clipped():
        box = (round(face.box[0]), round(face.box[1]), round(face.box[2]), round(face.box[3]))
        if box[2] - box[0] <= drop_size or box[3] - box[1] <= drop_size:
            continue
        image = None if images is None else images[face.image : face.image + 1]
        label = (face.name or NOBODY, face.name_confidence) if by_name else (face.gender, face.confidence)
        found[face.image].append(_seg(face, label, box, sizes[face.image], image, crop_factor, shape, dilation, hook))
    batch: list[Segs] = list(zip(sizes, found, strict=True))
    if hook is not None and hasattr(hook, "post_detection"):
        batch = [hook.post_detection(segs) for segs in batch]
    return batch


def _seg(
    face: Face,
    label: tuple[str | None, float | None],
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    image: Tensor | None,
    crop_factor: float,
    shape: str,
    dilation: int,
    hook: Any,
) -> Any:
    if label[0] is None:
        raise ValueError("these faces have not been classified: SEGS are labelled with their gender")
    region = crop_region(box, *size, crop_factor)
    if hook is not None and hasattr(hook, "post_crop_region"):
        region = [int(v) for v in hook.post_crop_region(size[1], size[0], box, region)]
    x1, y1, x2, y2 = region
    mask = shape_in_window(face.box, (x1, y1, x2, y2), shape, grow=dilation / 2).numpy()
    piece = None if image is None else image[:, y1:y2, x1:x2].clone()
    return SEG(piece, mask, label[1], region, box, label[0], None)


def check_segs(segs: Any) -> Segs:
    """What another program handed over as SEGS, if it is that.

    Raises:
        ValueError: it is not ``((height, width), [SEG, ...])``; the message says what was met.
    """
    try:
        (height, width), members = segs
        if isinstance(members, (str, bytes, dict)):
            raise TypeError
        size, found = (int(height), int(width)), list(members)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"SEGS are {shown(segs)}, expected ((height, width), [SEG, ...])") from None
    for i, seg in enumerate(found):
        if not hasattr(seg, "bbox") or not hasattr(seg, "_replace"):
            raise ValueError(f"SEG {i} is {shown(seg)}, expected a SEG with a bbox, as the Impact Pack makes them")
    return size, found


def seg_boxes(segs: Segs) -> Tensor:
    """``[N, 4]``: the SEGs' boxes.

    Raises:
        ValueError: it is no SEGS, or a box is not four finite numbers x1, y1, x2, y2 of a sensible size.
    """
    rows = []
    for i, seg in enumerate(check_segs(segs)[1]):
        try:
            x1, y1, x2, y2 = row = [float(v) for v in seg.bbox]
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"the bbox of SEG {i} is {shown(seg.bbox)}, expected x1, y1, x2, y2") from None
        if not (x1 <= x2 and y1 <= y2 and all(abs(v) <= LARGEST for v in row)):
            raise ValueError(
                f"the bbox of SEG {i} is {shown(seg.bbox)}, expected x1 <= x2 and y1 <= y2, none beyond {LARGEST:g}"
            )
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def classify_segs(segs: Segs, image: Tensor, pipeline: Pipeline, match: str = "auto") -> Faces:
    """For every SEG, in order, the head that decides its gender, classified.

    Args:
        segs: from any detector; only sizes and boxes are looked at, so ``cropped_image`` may be None.
        image: ``[1, H, W, C]``, the picture in which they were found.
        pipeline: what judges them.
        match: one of :data:`MATCHES`.

    Raises:
        ValueError: another word, more pictures than one, a picture of another size, or what is no SEGS.
    """
    if match not in MATCHES:
        raise ValueError(f"match {match!r} is not known; choose one of {', '.join(MATCHES)}")
    if image.ndim != 4 or image.shape[0] != 1:
        raise ValueError(
            f"SEGS belong to one picture, but images have shape {list(image.shape)}, expected [1, H, W, C]"
        )
    size = (int(image.shape[1]), int(image.shape[2]))
    segs = check_segs(segs)
    if segs[0] != size:
        raise ValueError(
            f"the SEGS were found in a picture of {segs[0][1]} x {segs[0][0]}, but this one is {size[1]} x {size[0]}"
        )
    boxes = seg_boxes(segs)
    ones = [[1.0] * len(boxes)]
    given = Faces.from_boxes([head_boxes(boxes, "head" if match == "head" else "face")], [size], ones)
    if not len(given):
        return given.with_probabilities(torch.zeros(0, 2))
    answers = pipeline.classify(image, given).cpu()
    if match != "auto":
        return answers
    heads = pipeline(image).cpu()
    if not len(heads) or heads.probabilities is None or answers.probabilities is None:
        return answers
    shared, union = _overlaps(boxes, heads.boxes)
    best = torch.where(shared >= SAME_HEAD, union, -1.0).max(1)
    known = best.values >= 0
    return Faces(
        torch.where(known[:, None], heads.boxes[best.indices], answers.boxes),
        torch.where(known, heads.scores[best.indices], answers.scores),
        answers.image_index,
        answers.image_sizes,
        torch.where(known[:, None], heads.probabilities[best.indices], answers.probabilities),
    )


def _overlaps(boxes: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
    """``[N, M]`` twice: the overlap as a share of the smaller box, and over the union."""
    sides = torch.minimum(boxes[:, None, 2:], heads[None, :, 2:]) - torch.maximum(
        boxes[:, None, :2], heads[None, :, :2]
    )
    shared = sides.clamp(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None]
    head_areas = (heads[:, 2:] - heads[:, :2]).prod(1)[None]
    smaller = torch.minimum(areas.expand_as(shared), head_areas.expand_as(shared)).clamp(min=1e-9)
    return shared / smaller, shared / (areas + head_areas - shared).clamp(min=1e-9)


def split_segs(segs: Segs, faces: Faces, minimum_confidence: float = 0.5) -> tuple[Segs, Segs, Segs]:
    """(female, male, all) SEGS, relabelled; order, masks, regions and sizes stay as they were.

    A SEG whose gender is less sure than ``minimum_confidence`` is in neither of the first two, and in the last with
    its own label and confidence.

    Args:
        segs: what is split.
        faces: one classified face per SEG, as :func:`classify_segs` gives them.
        minimum_confidence: 0.5-1; at 0.5 every SEG is female or male.

    Raises:
        ValueError: another number of faces than of SEGs, or what is no SEGS.
    """
    check_segs(segs)
    size = segs[0]  # as it came, since others compare it
    if len(faces) != len(segs[1]):
        raise ValueError(f"there are {len(segs[1])} SEGs but {len(faces)} faces")
    by_gender: dict[str, list[Any]] = {gender: [] for gender in GENDERS}
    relabelled = []
    for seg, face in zip(segs[1], faces, strict=True):
        sure = face.gender is not None and face.confidence is not None and face.confidence >= minimum_confidence
        if sure:
            seg = seg._replace(label=face.gender, confidence=face.confidence)
            by_gender[str(face.gender)].append(seg)
        relabelled.append(seg)
    return (size, by_gender["female"]), (size, by_gender["male"]), (size, relabelled)


class GenderDetector:
    """What a detailer takes for its ``BBOX_DETECTOR`` or ``SEGM_DETECTOR``, limited to a gender.

    Args:
        pipeline: gives the pipeline, ready to compute; asked at each call, since a host may have unloaded its nets.
        gender: ``female``, ``male``, or None for both.
        minimum_confidence: a face whose gender is less sure is left out, 0.5-1.
        shape: of the masks; see :data:`anigender.masks.SHAPES`.
    """

    def __init__(
        self,
        pipeline: Callable[[], Pipeline],
        gender: str | None = None,
        minimum_confidence: float = 0.5,
        shape: str = "box",
    ) -> None:
        if gender is not None and gender not in GENDERS:
            raise ValueError(f"gender {gender!r} is not known; choose {', '.join(GENDERS)} or None")
        self._pipeline = pipeline
        self.gender = gender
        self.minimum_confidence = minimum_confidence
        self.shape = shape

    def find(self, image: Tensor, threshold: float) -> Faces:
        """The wanted faces of one picture ``[1, H, W, C]``, in host memory.

        Raises:
            ValueError: more pictures than one, or a broken one.
        """
        if image.ndim != 4 or image.shape[0] != 1:
            raise ValueError(f"a detector takes one picture [1, H, W, C] at a time, this is {list(image.shape)}")
        faces = self._pipeline().adjusted(threshold=threshold)(image).cpu()
        wanted = (faces.scores >= threshold) & (faces.confidence >= self.minimum_confidence)
        if self.gender is not None:
            wanted &= faces.gender_index == GENDERS.index(self.gender)
        return faces.filter(wanted)

    def detect(
        self,
        image: Tensor,
        threshold: float,
        dilation: int,
        crop_factor: float,
        drop_size: int = 1,
        detailer_hook: Any = None,
    ) -> Segs:
        """SEGS of one picture, as detailers ask for them; arguments as of :func:`faces_to_segs`."""
        faces = self.find(image, threshold)
        return faces_to_segs(faces, image, crop_factor, self.shape, dilation, max(1, drop_size), detailer_hook)[0]

    def detect_combined(self, image: Tensor, threshold: float, dilation: int) -> Tensor | None:
        """One mask ``[H, W]`` of all wanted faces, or None where there is none."""
        faces = self.find(image, threshold)
        return face_masks(faces, self.shape, grow=dilation / 2)[0] if len(faces) else None

    def setAux(self, x: Any) -> None:  # the name that callers use
        """Detectors that take a text prompt receive it here; this one needs none."""
