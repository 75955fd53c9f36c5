"""Values that other nodes and programs hand over, and records that are written of any of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from anigender.bounding_boxes import KINDS, from_bounding_boxes, to_bounding_boxes
from anigender.faces import Faces
from anigender.folders import Result
from anigender.pipeline import Pipeline
from anigender.printable import is_shown, printable
from anigender.records import line, record
from anigender.segs import MATCHES, SEG, classify_segs, split_segs

from ..choices import Choices
from .target import Target, random_seeds


def run_boxes(data: bytes, folder: Path) -> None:
    """Other people's boxes, right and wrong."""
    choices = Choices(data)

    def box() -> Any:
        numbers = [choices.number() if choices.byte() % 4 == 0 else choices.whole(0, 30) for _ in range(4)]
        kind = choices.byte() % 6
        if kind == 0:
            return dict(zip(("x", "y", "width", "height"), numbers, strict=True)) | {"score": choices.number()}
        if kind == 1:
            return torch.tensor([float(v) if abs(v) < 1e300 else 0.0 for v in numbers])
        return numbers if kind < 4 else tuple(numbers) if kind == 4 else choices.value(2)

    sizes = [(choices.whole(1, 60), choices.whole(1, 60)) for _ in range(choices.whole(0, 3))]
    given: Any = choices.value(3)
    form = choices.byte() % 4
    if form == 1:
        given = choices.some(box, 4)
    elif form > 1:
        given = [choices.some(box, 3) for _ in sizes]
    faces = from_bounding_boxes(given, sizes, choices.pick((*KINDS, "head", "hat")))
    assert faces.images == len(sizes) and bool(faces.boxes.isfinite().all())
    assert len(to_bounding_boxes(faces)) == len(sizes)


class Answers:
    """Stands in for the nets: a head where there is a picture, and one answer for every crop."""

    device, region, size, margin = torch.device("cpu"), "head", 8, 1.0

    def detect(self, batch: Any) -> Faces:
        return Faces.from_boxes([[[0, 0, w / 2, h / 2]] for h, w in batch.sizes], batch.sizes)

    def classify(self, crops: Tensor) -> Tensor:
        female = crops.mean((1, 2, 3))
        return torch.stack((female, 1 - female), 1)


PIPELINE = Pipeline(Answers(), Answers())  # type: ignore[arg-type]


def run_segs(data: bytes, folder: Path) -> None:
    """SEGS of any detector, and what is none."""
    choices = Choices(data)
    size = (choices.whole(1, 40), choices.whole(1, 40))
    image = torch.full((1, *size, 3), 0.5)

    def seg() -> Any:
        numbers = [choices.number() if choices.byte() % 6 == 0 else choices.whole(0, 40) for _ in range(4)]
        bbox: Any = numbers if choices.byte() % 8 else choices.value(2)
        made = SEG(None, None, choices.value(1), numbers, bbox, choices.value(1))
        kind = choices.byte() % 12
        return choices.value(2) if kind == 0 else SimpleNamespace(bbox=bbox) if kind == 1 else made

    segs: Any = (size, choices.some(seg, 4))
    if choices.byte() % 8 == 0:
        segs = choices.pick((choices.value(3), (choices.value(1), [seg()]), (size, choices.value(2)), size))
    before = repr(segs)
    faces = classify_segs(segs, image, PIPELINE, choices.pick((*MATCHES, "hat")))
    female, male, every = split_segs(segs, faces, choices.whole(50, 100) / 100)
    assert len(every[1]) == len(segs[1]) >= len(female[1]) + len(male[1]) and repr(segs) == before


def run_records(data: bytes, folder: Path) -> None:
    """Records of any path, answer and error: one line of valid UTF-8 that is read back as it was."""
    choices = Choices(data)
    name = os.fsdecode(choices.bytes(40).replace(b"\0", b"") or b"x") + choices.text(6).replace("\0", "")
    size = (choices.whole(1, 99999), choices.whole(1, 99999))

    def box() -> list[float]:
        x, y, w, h = (float(v) if abs(v) < 1e30 else 1e30 for v in (choices.number() for _ in range(4)))
        return [x, y, x + abs(w), y + abs(h)]

    faces = None
    if choices.flag():
        faces = Faces.from_boxes([choices.some(box, 4)], [size])
        if choices.flag():
            female = torch.tensor([choices.byte() / 255 for _ in range(len(faces))])
            faces = faces.with_probabilities(torch.stack((female, 1 - female), 1))
    error = None if faces is not None else choices.text(20)
    text = line(record(Result(Path(name), size, faces, error), choices.some(lambda: choices.text(6), 3)))
    assert "\n" not in text and "\r" not in text
    assert json.loads(text.encode("utf-8").decode("utf-8"))["height"] == size[0]
    assert not set(text) & set(map(chr, range(32)))
    shown = printable(Path(name))
    assert all(map(is_shown, shown)) and len(shown.splitlines()) < 2, shown
    shown.encode("utf-8")


VALUES = (
    Target("boxes", "other people's boxes", run_boxes, (ValueError,), random_seeds, (), 512),
    Target("segs", "other people's SEGS", run_segs, (ValueError,), random_seeds, (), 512),
    Target("records", "JSON lines", run_records, (ValueError,), random_seeds, (), 512),
)
