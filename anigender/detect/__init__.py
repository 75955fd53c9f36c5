"""Detectors, and the registry that finds the right one for a name or a file.

A new detector is a new file with a class that has ``device``, ``region`` and ``detect(batch) -> Faces``, and one entry
in :data:`DETECTORS` (those with a name) or :data:`FILES` (those that are read from a file).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from ..faces import Faces
from ..images import Batch
from ..inference import ready, usable
from ..quantised import declared
from ..weights import ASSETS, read_weights
from .cascade import Cascade
from .cascade_file import read_cascade
from .given_boxes import GivenBoxes as GivenBoxes
from .given_boxes import read_given_boxes
from .head_detector import HeadDetector
from .headnet import HeadNet, fill
from .verifier import PREFIX, Verifier, build
from .whole_image import WholeImage
from .yolo import read_yolo


class Detector(Protocol):
    """What the pipeline asks of a detector."""

    @property
    def device(self) -> torch.device:
        """Where the faces will be."""
        ...

    @property
    def region(self) -> str:
        """What its boxes frame, one of :data:`anigender.bounding_boxes.KINDS`."""
        ...

    def detect(self, batch: Batch) -> Faces:
        """The faces of every picture, by falling score inside each; an empty ``Faces`` where there are none."""
        ...


def read_head_detector(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> HeadDetector:
    """A head detector from its safetensors file.

    Raises:
        ValueError: the file holds something else.
    """
    if is_pickled(path):
        raise ValueError(
            f"{path} is a pickled model, which is not run: export it with "
            f"`yolo export model={path.name} format=onnx` where it is a YOLO, and give the .onnx file"
        )
    tensors, metadata = read_weights(path)
    if metadata.get("anigender.architecture") != "headnet":
        seen = ", ".join(sorted(tensors)[:5])
        raise ValueError(
            f"{path} is not a head detector of anigender (keys seen: {seen} …); train one with "
            "`anigender train detector`"
        )
    net = HeadNet()
    try:
        fill(net, tensors, "the head detector")
        own = build(tensors)
        verifier = None
        if own is not None:
            verifier = Verifier(ready(own, device, dtype, declared(metadata, PREFIX)), metadata)
        ranges = {name: range_ for name, range_ in declared(metadata).items() if not name.startswith(PREFIX)}
        return HeadDetector(ready(net, device, dtype, ranges), metadata, verifier)
    except KeyError as error:
        raise ValueError(f"{path} is incomplete: it lacks {error}; copy or download it again") from error
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def is_pickled(path: Path) -> bool:
    """Whether a file is, by its ending or its first bytes, what ``torch.save`` writes."""
    if path.suffix.lower() in (".pt", ".pth"):
        return True
    with path.open("rb") as stream:
        return stream.read(2) in (b"PK", b"\x80\x02")


def read_cascade_detector(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Cascade:
    """An OpenCV cascade as a detector of faces; it computes in whole numbers, so ``dtype`` changes nothing.

    Raises:
        ValueError: the file holds something else.
    """
    file = read_cascade(path)
    try:
        return Cascade(file, device)
    except ValueError as error:
        raise ValueError(f"{path} is not a cascade that can be used: {error}") from error


def _animeface2009(device: torch.device | str) -> Detector:
    from .animeface2009 import AnimeFace2009  # here, because it needs Pillow, which importing this package must not

    return AnimeFace2009(device)


Loader = Callable[..., Detector]

DETECTORS: dict[str, tuple[str, Loader]] = {
    "head": (
        "the embedded head detector",
        lambda device, dtype: read_head_detector(ASSETS / "head.safetensors", device, dtype),
    ),
    "whole-image": ("every picture is one head", lambda device, dtype: WholeImage(device)),
    "animeface-2009": (
        "nagadomi's detector of 2009, with the package animeface",
        lambda device, dtype: _animeface2009(device),
    ),
}
# Kinds of files: their ending, what they are, and how they are read.
FILES: dict[str, tuple[str, str, Loader]] = {
    "weights": (".safetensors", "a head detector of `anigender train detector`", read_head_detector),
    "lbp": (".xml", "an OpenCV cascade", read_cascade_detector),
    "yolo": (".onnx", "a YOLO that finds faces or heads, with the package onnxruntime", read_yolo),
    "given-boxes": (".json", "boxes that are the same in every picture", read_given_boxes),
}


def load_detector(
    name: str | Path = "auto", device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Detector:
    """A detector by name or by its file.

    Args:
        name: ``auto`` (the embedded one), a name of :data:`DETECTORS`, or a path. What a file is, its ending says
            (:data:`FILES`; any other ending is weights), or a word before it: ``lbp:file``.
        device: where it computes.
        dtype: its precision; chosen by :func:`anigender.inference.settled` where None.

    Raises:
        ValueError: neither a known name nor a file, a file of something else, or a device that cannot be used.
        ImportError: it needs a package that is not installed; the message says what to install.
        RuntimeError: that package does not work.
    """
    device = usable(device)  # detectors without a net would not ask it
    known = "head" if str(name) == "auto" else str(name)
    if known in DETECTORS:
        return DETECTORS[known][1](device, dtype)
    kind, colon, rest = known.partition(":")
    if colon and kind in FILES:
        if not Path(rest).is_file():
            raise ValueError(f"detector {known!r}: there is no file {rest}")
        return FILES[kind][2](Path(rest), device, dtype)
    path = Path(name)
    if path.is_file():
        kind = next((kind for kind, (ending, _, _) in FILES.items() if path.suffix.lower() == ending), "weights")
        return FILES[kind][2](path, device, dtype)
    names = ", ".join(["auto", *DETECTORS])
    endings = ", ".join(f"{ending} ({what})" for ending, what, _ in FILES.values())
    needs = f"; {known} needs its file, as in {known}:FILE" if known in FILES else ""
    raise ValueError(f"detector {known!r} is neither a known name ({names}) nor a file: {endings}{needs}")
