"""The second round's labels: every training picture looked at with the present detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...boxes import pairwise_iou
from ...datasets.labelled import list_negatives, plausible
from ...datasets.picture import Picture, open_picture
from ...detect import Detector, load_detector
from ...detect.found import as_heads
from ...detect.head_detector import HeadDetector
from ...detect.headnet import HeadNet, fill
from ...faces import Faces
from ...images import check
from ...weights import read_weights

LOWEST = 0.1  # scores looked at; what is accepted depends on the picture


def detections(
    detector: Detector, data: Path, files: Sequence[str], batch: int = 16, quiet: bool = False
) -> Iterator[Faces]:
    """The heads of each file in turn, each as a batch of one picture."""
    for start in tqdm(range(0, len(files), batch), desc="labelling", unit="batch", disable=quiet):
        found = detector.detect(check([open_picture(data / file) for file in files[start : start + batch]]))
        faces = as_heads(found, detector.region)
        for i in range(faces.images):
            yield faces.of_image(i)


@dataclass(frozen=True)
class Mined:
    """What the present detector still falls for.

    Attributes:
        hardness: its highest score on each training negative, in the order of :func:`list_negatives`.
        mistakes: by file, boxes ``[n, 4]`` that it takes for heads in cut-outs of one character and that are not.
    """

    hardness: np.ndarray
    mistakes: dict[str, np.ndarray]


def _mistakes(picture: Picture, boxes: torch.Tensor, scores: torch.Tensor) -> np.ndarray:
    """Likely false heads, enlarged a little for their surroundings but clear of the true head."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.7
    wide = torch.cat((centre - half, centre + half), 1)
    head = torch.from_numpy(picture.heads)
    low, high = torch.maximum(wide[:, :2], head[:1, :2]), torch.minimum(wide[:, 2:], head[:1, 2:])
    apart = ((high - low).clamp(min=0).prod(1)) < 0.03 * (head[0, 2:] - head[0, :2]).prod()
    return wide[apart & (scores > 0.2)].numpy()


def relabel(pictures: list[Picture], data: Path, teacher: Path, model: HeadNet | None) -> Mined:
    """Replace uncertain heads by what the detector ``teacher`` finds; start ``model`` from it; judge the negatives.

    Of the pictures see :func:`find_heads`.
    """
    if model is not None:
        # From the file: the detector's own net has its norms folded away.
        fill(model, read_weights(teacher)[0], "the head detector")
    mistakes = find_heads(pictures, data, teacher)
    negatives = list_negatives(data, "train")
    hardness = [float(f.scores.max()) if len(f) else 0.0 for f in detections(_teacher(teacher), data, negatives)]
    return Mined(np.array(hardness), mistakes)


def _teacher(file: Path) -> HeadDetector:
    """The detector of a file, with all scores that are looked at."""
    detector = load_detector(file)
    if not isinstance(detector, HeadDetector):
        raise ValueError(f"{file} is not a head detector of this program")
    detector.threshold = LOWEST
    return detector


def find_heads(pictures: Sequence[Picture], data: Path, teacher: Path, quiet: bool = False) -> dict[str, np.ndarray]:
    """Replace uncertain heads of some pictures by what the detector ``teacher`` finds.

    Hand-drawn boxes stay. In a picture of one character the surest detection is taken if it agrees with the first
    round's label or is sure by itself; in television stills, and in illustrations that nobody judged, every sure one.

    Returns:
        By file, boxes ``[n, 4]`` that it takes for heads in cut-outs of one character and that are not.
    """
    mistakes: dict[str, np.ndarray] = {}
    found = detections(_teacher(teacher), data, [p.file for p in pictures], quiet=quiet)
    for picture, faces in zip(pictures, found, strict=True):
        boxes, scores = faces.boxes, faces.scores
        if not picture.gender:
            if picture.complete or len(picture.unsure):  # judged by eye
                continue
            known = torch.from_numpy(picture.heads)
            sides = boxes[:, 2] - boxes[:, 0]
            # What an illustrator drew beside the main figure is smaller, but not tiny.
            sure = (
                (scores > 0.5) & ~(pairwise_iou(boxes, known) > 0.3).any(1) & (sides > 0.05 * max(faces.image_sizes[0]))
            )
            picture.heads = np.concatenate((picture.heads, boxes[sure].numpy()))
            continue
        if picture.source == "known":
            if picture.alpha:
                mistakes[picture.file] = _mistakes(picture, boxes, scores)
            continue
        if not len(scores):
            continue
        likely = torch.tensor([plausible(picture, box) for box in boxes.numpy()])
        if picture.kind == "screencap":
            sure = likely & (scores > 0.45)
            if bool(sure.any()):
                picture.heads, picture.source, picture.complete = boxes[sure].numpy(), "detector", False
            continue
        scores = torch.where(likely, scores, 0.0)
        best = int(scores.argmax())
        overlap = pairwise_iou(boxes[best : best + 1], torch.from_numpy(picture.heads)) if len(picture.heads) else None
        agrees = overlap is not None and float(overlap.max()) > 0.4
        if picture.source == "icon" and not agrees:
            continue
        if scores[best] > (0.2 if agrees else 0.35):
            picture.heads, picture.source, picture.complete = boxes[best : best + 1].numpy(), "detector", True
            if picture.alpha and picture.kind != "face" and scores[best] > 0.4:
                mistakes[picture.file] = _mistakes(picture, boxes, faces.scores)
        elif picture.source == "teacher":  # neither sees what the other saw: better without than with a chest
            picture.heads, picture.source = np.zeros((0, 4), np.float32), "none"
    return mistakes
