"""How far a classifier agrees with a judge about faces of other styles than ``val``'s, none of them learned from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.illustrations import surely_judged_heads
from ..datasets.judged import measured_by, read_judged_faces
from ..datasets.picture import open_picture
from ..datasets.unlabelled import face_names, read_faces, shards
from ..faces import Faces
from ..pipeline import Pipeline
from .metrics import gender_figures

BATCH = 32
Sample = tuple[Tensor, list[list[float]], list[int]]  # a picture, heads in it (xyxy), their genders


def evaluate_judged_faces(data: Path, pipeline: Pipeline) -> dict[str, dict[str, float]]:
    """Figures on heads whose gender was surely judged.

    Args:
        data: the data folder.
        pipeline: whose classifier is measured; the boxes are given.

    Returns:
        By where the heads are: the unlabelled ``faces`` that are kept for measuring, and ``illustrations``. What the
        folder does not hold is left out.
    """
    parts = {"faces": _faces(data), "illustrations": _illustrations(data)}
    figures = {name: _measured(samples, pipeline) for name, samples in parts.items()}
    return {name: own for name, own in figures.items() if own is not None}


def _measured(samples: Iterable[Sample], pipeline: Pipeline) -> dict[str, float] | None:
    answers, labels = [], []
    samples = iter(samples)
    while some := list(islice(samples, BATCH)):
        images, boxes, genders = zip(*some, strict=True)
        heads = Faces.from_boxes(boxes, [(image.shape[0], image.shape[1]) for image in images])
        told = pipeline.classify(list(images), heads).cpu().probabilities
        assert told is not None
        answers.append(told)
        labels += [gender for own in genders for gender in own]
    return gender_figures(torch.cat(answers), torch.tensor(labels)).as_dict() if labels else None


def _faces(data: Path) -> Iterator[Sample]:
    for shard in shards(data):
        names = face_names(shard)
        told = measured_by(names, read_judged_faces(data, names)).tolist()
        genders = {name: gender for name, gender in zip(names, told, strict=True) if gender >= 0}
        for name, pixels in read_faces(shard, genders.__contains__):
            height, width = pixels.shape[:2]
            yield torch.from_numpy(pixels.copy()), [[0, 0, width, height]], [genders[name]]


def _illustrations(data: Path) -> Iterator[Sample]:
    for file, (boxes, genders) in surely_judged_heads(data).items():
        yield open_picture(data / file), boxes, genders
