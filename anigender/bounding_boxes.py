"""Boxes in other people's formats: ComfyUI's ``BOUNDING_BOX`` and KJNodes' ``BBOX``, in and out.

``BOUNDING_BOX`` is a list per picture of ``{x, y, width, height, label, score}``; ``BBOX`` a list of
``(x, y, w, h)``, one per picture.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .boxes import HEAD_PER_TIGHT_FACE, HEAD_RISE_PER_TIGHT_FACE, head_from_face
from .faces import Faces

# What a foreign box draws around, and how to get from it to the head that classifiers want.
KINDS = {
    "face": "from the brows or the hairline to the chin, as most face detectors draw",
    "tight face": "from the brows to the chin",
    "head": "the whole head with its hair, as anigender's own detector draws",
}
FORMATS = ("xywh", "xyxy")  # of boxes that are four numbers; dicts name theirs
LARGEST = 1e9  # pixels: far beyond any picture, and products of a few such numbers are still finite


def to_bounding_boxes(faces: Faces) -> list[list[dict[str, Any]]]:
    """ComfyUI's ``BOUNDING_BOX``: for each picture a list of dicts, empty where there is no face.

    The label is ``female`` or ``male`` and the score its probability; before classification ``face`` and the
    detector's score. Boxes are cut off at the picture's borders.

    >>> to_bounding_boxes(Faces.from_boxes([[[1, 2, 5, 8]]], sizes=[(10, 10)]))
    [[{'x': 1, 'y': 2, 'width': 4, 'height': 6, 'label': 'face', 'score': 1.0}]]
    """
    found: list[list[dict[str, Any]]] = [[] for _ in range(faces.images)]
    for face in faces.cpu().clipped():
        x1, y1, x2, y2 = (round(v) for v in face.box)
        score = face.detection if face.confidence is None else face.confidence
        entry = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
        found[face.image].append({**entry, "label": face.gender or "face", "score": score})
    return found


def from_bounding_boxes(
    boxes: Any,
    sizes: Sequence[tuple[int, int]],
    kind: str = "head",
    layout: str = "xywh",
    everywhere: bool = False,
) -> Faces:
    """Faces, not yet classified, from boxes of either format.

    Args:
        boxes: a dict or a flat list of dicts (the same for every picture), a list of such lists (one per picture, or
            one for all), KJNodes' ``(x, y, w, h)`` per picture, or lists of those per picture. An empty box means that
            there is nothing in that picture.
        sizes: for each picture (height, width).
        kind: one of :data:`KINDS`: what the boxes are drawn around.
        layout: one of :data:`FORMATS`: what four numbers of a box are.
        everywhere: the boxes were drawn for pictures of any size: those outside a picture are left out.

    Raises:
        ValueError: another kind, layout or structure, another number of pictures, or a box that is no box or lies
            outside its picture.

    >>> from_bounding_boxes([(10, 10, 20, 30)], sizes=[(100, 100)]).boxes.tolist()
    [[10.0, 10.0, 30.0, 40.0]]
    """
    if kind not in KINDS:
        raise ValueError(f"box kind {kind!r} is not known; choose one of {', '.join(KINDS)}")
    if layout not in FORMATS:
        raise ValueError(f"box layout {layout!r} is not known; choose one of {', '.join(FORMATS)}")
    per_picture = _per_picture(boxes, len(sizes))
    rows: list[list[list[float]]] = []
    scores: list[list[float]] = []
    for picture, (entries, (height, width)) in enumerate(zip(per_picture, sizes, strict=True)):
        read = [_read(entry, f"box {place} of picture {picture}", layout) for place, entry in enumerate(entries)]
        kept = []
        for box, score in read:
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
            if box[0] < width and box[1] < height and box[2] > 0 and box[3] > 0:
                kept.append((box, score))
            elif not everywhere:
                raise ValueError(
                    f"box {box} (x1, y1, x2, y2) lies outside picture {picture}, which is {width} x {height}; "
                    "were the boxes found in a picture of another size?"
                )
        rows.append([box for box, _ in kept])
        scores.append([score for _, score in kept])
    faces = Faces.from_boxes(rows, sizes, scores)
    return Faces(head_boxes(faces.boxes, kind), faces.scores, faces.image_index, faces.image_sizes)


def head_boxes(boxes: Tensor, kind: str) -> Tensor:
    """Head squares ``[N, 4]`` for boxes that are drawn around something else; see :data:`KINDS`."""
    if kind == "face":
        return head_from_face(boxes)
    if kind == "tight face":
        return head_from_face(boxes, HEAD_PER_TIGHT_FACE, HEAD_RISE_PER_TIGHT_FACE)
    return boxes


def _is_box(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, Sequence) and len(value) == 4 and all(isinstance(v, numbers.Real) for v in value)


def _per_picture(boxes: Any, pictures: int) -> list[list[Any]]:
    """The boxes sorted into one list per picture, whatever nesting they came in."""
    if hasattr(boxes, "tolist"):
        boxes = boxes.tolist()
    if isinstance(boxes, Mapping) or _is_box(boxes):
        return [[boxes]] * pictures
    if boxes is None or isinstance(boxes, str) or not isinstance(boxes, Sequence):
        raise ValueError(f"boxes are a {type(boxes).__name__}, expected a list of boxes")
    items = [item.tolist() if hasattr(item, "tolist") else item for item in boxes]
    if not items:
        return [[] for _ in range(pictures)]
    if all(isinstance(item, Mapping) for item in items):
        return [items] * pictures
    if all(_is_box(item) for item in items):
        # KJNodes: one box per picture; with a single picture all are in it.
        if pictures == 1:
            return [items]
        items = [[item] for item in items]
    for item in items:
        if not isinstance(item, Sequence) or isinstance(item, str):
            raise ValueError(
                f"boxes hold a {type(item).__name__}, expected dicts, (x, y, width, height) or lists of them"
            )
    if len(items) == 1:
        return [list(items[0])] * pictures
    if len(items) != pictures:
        raise ValueError(f"boxes are given for {len(items)} pictures, the batch has {pictures}")
    return [list(item) for item in items]


def _read(entry: Any, name: str, layout: str) -> tuple[list[float], float]:
    """One box as xyxy, and its score."""
    entry = entry.tolist() if hasattr(entry, "tolist") else entry
    if not _is_box(entry):
        raise ValueError(f"{name} is {shown(entry)}, expected x, y, width, height")
    try:
        values = [entry[k] for k in ("x", "y", "width", "height")] if isinstance(entry, Mapping) else list(entry)
        x, y, width, height = (float(v) for v in values)
        if layout == "xyxy" and not isinstance(entry, Mapping):
            width, height = width - x, height - y
        score = entry.get("score") if isinstance(entry, Mapping) else None
        score = 1.0 if score is None else float(score)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} is {shown(entry)}, expected numbers x, y, width, height") from error
    if not all(abs(v) <= LARGEST for v in (x, y, width, height)) or width < 0 or height < 0 or not math.isfinite(score):
        raise ValueError(
            f"{name} is {shown(entry)}: width and height must be 0 or more, and all numbers at most {LARGEST:g}"
        )
    return [x, y, x + width, y + height], score


def shown(value: Any) -> str:
    """Anything as a text for a message, which a person has to read: not more than 200 characters of it."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
