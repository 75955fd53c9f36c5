"""The sockets that several nodes share, and messages that name them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..anigender.faces import Faces
from ..anigender.pipeline import Pipeline
from ..anigender.selection import check_faces
from . import host

CATEGORY = "anigender"
GENDERS = ("female", "male", "any")
ON_EMPTY = ("block", "placeholder", "empty", "fail")

IMAGE = ("IMAGE", {"tooltip": "The pictures, as one batch."})
MODELS = (
    "ANIGENDER",
    {"tooltip": "Detector and classifier from Load Gender Models; the embedded ones where nothing is connected."},
)
FACES = ("FACES", {"tooltip": "Faces from Detect Gender or From Bounding Boxes."})
FACES_OF_IMAGE = (
    "FACES",
    {"tooltip": "The faces of these pictures, if found already; detected here where nothing is connected."},
)
MINIMUM_CONFIDENCE = (
    "FLOAT",
    {
        "default": 0.5,
        "min": 0.5,
        "max": 1.0,
        "step": 0.01,
        "tooltip": "How sure a gender must be to count. At 0.5 every face is female or male.",
    },
)


def on_empty(
    what: str, blank: str = "one black picture", fail: str = "fail is an error", none: str = "a batch of none"
) -> tuple[Any, dict[str, Any]]:
    """The input that says what becomes of a result without anything in it."""
    text = (
        f"Where {what}: block stops the branch quietly, placeholder passes {blank}, empty passes {none} (for "
        f"lists of pictures that are saved: one that is blocked stops saving all), {fail}."
    )
    return (list(ON_EMPTY), {"default": "block", "tooltip": text})


@contextmanager
def named(name: str) -> Iterator[None]:
    """Put the name of the input in front of what is wrong with it."""
    try:
        yield
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"input `{name}`: {error}") from error


def detected(image: Tensor, models: host.Models | Pipeline | None, threshold: float = 0.0, size: float = 0.0) -> Faces:
    """The faces of a batch, classified, in host memory: the one copy that a batch costs."""
    pipeline = host.ready(models).adjusted(threshold or None, size or None)
    with named("image"):
        return pipeline(image, host.progress(len(image))).cpu()


def known_or_detected(image: Tensor, faces: Faces | None, models: host.Models | Pipeline | None) -> Faces:
    """The faces that are connected, if they fit the pictures; else those that are found."""
    return detected(image, models) if faces is None else fitting(faces, image)


def fitting(faces: Faces, image: Tensor) -> Faces:
    """The connected faces, after checking that they are those of the connected pictures."""
    with named("faces"):
        return check_faces(faces.cpu(), image)


def one_by_one(image: Tensor) -> list[Tensor]:
    """The pictures of a batch, each a batch of one; none of a batch of none, which ``split`` gives as one."""
    return [image[i : i + 1] for i in range(len(image))]
