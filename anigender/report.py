"""What was found, in words: per picture a label and a confidence, and a report for people."""

from __future__ import annotations

from .faces import GENDERS, Face, Faces
from .routing import facts
from .segs import NOBODY


def labels_by_image(faces: Faces) -> list[str]:
    """For each picture the genders of its faces in order, ``"female,male"``; empty where there is none.

    >>> import torch
    >>> faces = Faces.from_boxes([[[0, 0, 9, 9]], []], sizes=[(10, 10), (10, 10)])
    >>> labels_by_image(faces.with_probabilities(torch.tensor([[0.1, 0.9]])))
    ['male', '']
    """
    genders: list[list[str]] = [[] for _ in range(faces.images)]
    for face in faces:
        genders[face.image].append(face.gender or "face")
    return [",".join(own) for own in genders]


def confidence_by_image(faces: Faces) -> list[float]:
    """For each picture how sure its least sure gender is, 0.5-1; 0 without a face. The same as in rules.

    Raises:
        ValueError: there are faces and they have not been classified.
    """
    if len(faces):
        faces.confidence.shape  # noqa: B018  (asked for its error)
    return [row["confidence"] for row in facts(faces)]


def summary(faces: Faces) -> str:
    """The whole batch in one line.

    >>> summary(Faces.empty([(10, 10)]))
    '1 picture: 0 female, 0 male, 1 without a face'
    """
    women, men = (int(faces.count_by_image(gender).sum()) if len(faces) else 0 for gender in GENDERS)
    without = int((faces.count_by_image() == 0).sum())
    pictures = "1 picture" if faces.images == 1 else f"{faces.images} pictures"
    return f"{pictures}: {women} female, {men} male" + (f", {without} without a face" if without else "")


def report(faces: Faces) -> str:
    """One line per picture, and one per face below it."""
    lines: list[str] = []
    own: list[list[Face]] = [[] for _ in range(faces.images)]
    for face in faces:
        own[face.image].append(face)
    for image, found in enumerate(own):
        women = sum(face.gender == "female" for face in found)
        men = sum(face.gender == "male" for face in found)
        lines.append(f"picture {image}: {f'{women} female, {men} male' if found else 'no face'}")
        for i, face in enumerate(found):
            x1, y1, x2, y2 = (round(v) for v in face.box)
            sure = "not classified" if face.confidence is None else f"{face.gender} {face.confidence:.1%}"
            if face.name is not None:
                sure = f"{face.name or NOBODY} {face.name_confidence:.1%}, {sure}"
            place = f"{x2 - x1} x {y2 - y1} at ({x1}, {y1})"
            lines.append(f"  face {i}: {sure}, {place}, detection {face.detection:.2f}")
    return "\n".join(lines) or "no pictures"


def names_by_image(faces: Faces) -> list[str]:
    """For each picture the names of its faces in order, ``"asuka,nobody"``; empty where there is no face.

    Raises:
        ValueError: the faces carry no names.
    """
    names: list[list[str]] = [[] for _ in range(faces.images)]
    for image, name in zip(faces.image_index.tolist(), faces.names, strict=True):
        names[image].append(name or NOBODY)
    return [",".join(own) for own in names]


def name_confidence_by_image(faces: Faces) -> list[float]:
    """For each picture how sure the least sure of its names is, 0-1; 0 without a face."""
    sure: list[list[float]] = [[] for _ in range(faces.images)]
    for face in faces:
        sure[face.image].append(face.name_confidence or 0.0)
    return [min(own, default=0.0) for own in sure]


def crop_labels(faces: Faces) -> tuple[list[str], list[float], list[int]]:
    """For each face its gender, how sure that is, and the picture it is in.

    Raises:
        ValueError: the faces have not been classified.
    """
    host = faces.cpu()
    return host.gender, host.confidence.tolist(), host.image_index.tolist()
