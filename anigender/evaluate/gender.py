"""How well gender is told: end to end on unseen characters, with the project's own head crops."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..datasets.labelled import read_column, read_pictures
from ..datasets.picture import GENDERS, Picture, open_picture
from ..faces import Faces
from ..pipeline import Pipeline
from .bootstrap import interval
from .curves import precision_recall, reliability, roc
from .judged_faces import evaluate_judged_faces
from .metrics import gender_figures
from .stress import FRAMINGS, HEAD, MARGINS, REGION, STRESSES, region

BATCH = 16
HEAD_SIZES = (0, 32, 64, 128, 1 << 30)  # pixels; the parts by which figures are given
WORST = 60  # mistakes that are written down
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # of a picture and a head's box in it


@dataclass(frozen=True)
class Answers:
    """What a pipeline says of pictures of one character each.

    Attributes:
        pictures: the ``N`` pictures.
        labels: ``[N]`` int64, 0 female and 1 male.
        probabilities: ``[N, 2]`` of the head with the highest detection score; 0.5 where none is found.
        found: ``[N]`` bool, whether a head is.
        boxes: ``[N, 4]`` of that head; zeros where none is found.
    """

    pictures: Sequence[Picture]
    labels: Tensor
    probabilities: Tensor
    found: Tensor
    boxes: Tensor

    @property
    def right(self) -> Tensor:
        """``[N]`` bool; a head that is not found is not right."""
        return (self.probabilities.argmax(1) == self.labels) & self.found


def surest_heads(pipeline: Pipeline, data: Path, pictures: Sequence[Picture]) -> Answers:
    """Ask a pipeline about pictures of one character each: what it says of the surest head in each."""
    answers = torch.full((len(pictures), 2), 0.5)
    found = torch.zeros(len(pictures), dtype=torch.bool)
    boxes = torch.zeros(len(pictures), 4)
    for start in tqdm(range(0, len(pictures), BATCH), desc="gender", unit="batch", disable=None):
        part = pictures[start : start + BATCH]
        faces = pipeline([open_picture(data / picture.file) for picture in part]).cpu().pick(0)
        rows = faces.image_index + start
        assert faces.probabilities is not None
        answers[rows], boxes[rows], found[rows] = faces.probabilities, faces.boxes, True
    labels = torch.tensor([GENDERS.index(picture.gender) for picture in pictures])
    return Answers(pictures, labels, answers, found, boxes)


def evaluate_gender(
    data: Path,
    pipeline: Pipeline,
    folders: Sequence[str] = (),
    by: Sequence[str] = (),
    repeats: int = 1000,
    stress: bool = False,
    everything: bool = False,
    margins: bool = False,
) -> dict[str, Any]:
    """Figures on ``val``, or on every picture of whole ``folders`` (for models that never saw them).

    Args:
        data: the data folder, or labelled pictures of somebody's own (:mod:`anigender.datasets.own_pictures`).
        pipeline: what is measured.
        folders: of ``gender/``.
        by: columns of the manifest by whose values figures are given.
        repeats: draws of the bootstrap over characters.
        everything: on all pictures, whatever their split, for models that saw none of them.
        stress: also measure on worse pictures and boxes (:mod:`anigender.evaluate.stress`), which takes minutes.
        margins: also measure in narrower and wider framings than the classifier was trained with.

    Returns:
        ``found``: figures on the pictures in which a head is found; ``all``: with a missed head counted as a wrong
        answer; ``by_kind``: as ``found``; ``by_folder``: pictures and right answers; ``share_found``; ``accuracy``,
        ``classes`` (precision, recall and F1), ``confusion`` (rows are the truth), ``intervals``, ``roc``,
        ``precision_recall``, ``reliability`` and ``by_head_size``, all on found heads; ``by``: by the columns asked
        for; ``stress``: by change, and ``stress_loss``, the balanced accuracy lost on average;
        ``by_margin``: by framing over the trained one, with the ``margin`` in head sides;
        ``mistakes``: the surest wrong answers; ``by_eye``: figures on faces whose gender was
        judged by eye (:mod:`.judged_faces`), where ``val`` is measured.

    Raises:
        ValueError: no pictures, or the manifest has no such column.
    """
    pictures = read_pictures(data)
    columns = {name: read_column(data, name) for name in by}
    if not everything:
        pictures = [p for p in pictures if (p.folder in folders if folders else p.split == "val")]
    if not pictures:
        raise ValueError(
            f"no pictures to evaluate in {data}" + (f" for the folders {', '.join(folders)}" if folders else "")
        )
    told = surest_heads(pipeline, data, pictures)
    if not bool(told.found.any()):
        raise ValueError(f"no head is found in any of the {len(pictures)} pictures")
    figures = describe(told, repeats)
    figures["by"] = {
        name: parts(told, [values[picture.file] for picture in pictures]) for name, values in columns.items()
    }
    if stress:
        as_they_are: dict[str, Change] = {"as they are": lambda image, box: (image, box)}
        figures["stress"] = changed(data, pipeline, told, as_they_are | STRESSES, "stress test")
        before, *after = (own["balanced_accuracy"] for own in figures["stress"].values())
        figures["stress_loss"] = round(before - sum(after) / len(after), 4)
    if margins:
        figures["by_margin"] = changed(data, pipeline, told, FRAMINGS, "margins")
        for scale, own in figures["by_margin"].items():
            own["margin"] = round(float(scale) * pipeline.classifier.margin, 3)
    figures["by_eye"] = {} if everything or folders else evaluate_judged_faces(data, pipeline)
    return figures


def describe(told: Answers, repeats: int = 1000) -> dict[str, Any]:
    """All figures that need nothing but the answers; see :func:`evaluate_gender`."""
    found, labels = told.found, told.labels
    answers, own = told.probabilities[found], labels[found]
    wrong = torch.stack((labels.float(), 1 - labels.float()), 1)
    with_misses = torch.where(found[:, None], told.probabilities, wrong)
    names = [picture.folder for picture in told.pictures]
    right = told.right
    # As everywhere: a tie is female.
    said = (answers[:, 1] > answers[:, 0]).long()
    confusion = torch.bincount(own * 2 + said, minlength=4).reshape(2, 2)
    characters = [picture.character for picture, seen in zip(told.pictures, found.tolist(), strict=True) if seen]
    both = bool((own == 0).any() and (own == 1).any())
    curves = {gender: (answers[:, i], own == i) for i, gender in enumerate(GENDERS)}
    return {
        "found": gender_figures(answers, own).as_dict(),
        "all": gender_figures(with_misses, labels).as_dict(),
        "share_found": round(float(found.float().mean()), 4),
        "by_kind": parts(told, [picture.kind for picture in told.pictures]),
        "by_folder": {
            name: {
                "count": names.count(name),
                "right": sum(bool(r) for r, other in zip(right.tolist(), names, strict=True) if other == name),
            }
            for name in sorted(set(names))
        },
        "accuracy": round(float((said == own).double().mean()), 4),
        "classes": {gender: _class_figures(confusion, i) for i, gender in enumerate(GENDERS)},
        "confusion": confusion.tolist(),
        "intervals": interval((said == own).numpy(), own.numpy(), characters, repeats),
        "roc": roc(*curves["male"]).as_dict() if both else None,
        "precision_recall": {
            gender: precision_recall(*curve).as_dict() for gender, curve in curves.items() if bool(curve[1].any())
        },
        "reliability": reliability(answers.amax(1), said == own),
        "by_head_size": _by_head_size(told),
        "mistakes": mistakes(told),
    }


def _class_figures(confusion: Tensor, i: int) -> dict[str, float]:
    hits, truth, said = float(confusion[i, i]), float(confusion[i].sum()), float(confusion[:, i].sum())
    precision = hits / said if said else float("nan")
    recall = hits / truth if truth else float("nan")
    f1 = 2 * hits / (truth + said) if truth + said else float("nan")
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def _by_head_size(told: Answers) -> dict[str, dict[str, float]]:
    """Figures by the side of the head's box, from small to large."""
    sides = (told.boxes[:, 2:] - told.boxes[:, :2]).amax(1).tolist()
    names = [
        f"{low}-{high - 1} px" if high < HEAD_SIZES[-1] else f"{low} px and more"
        for low, high in zip(HEAD_SIZES, HEAD_SIZES[1:], strict=False)
    ]
    found = parts(told, [names[bisect_right(HEAD_SIZES, side) - 1] for side in sides])
    return {name: found[name] for name in names if name in found}


def parts(told: Answers, values: Sequence[str]) -> dict[str, dict[str, float]]:
    """Figures on found heads by a value of each picture; ``values [N]``."""
    result = {}
    for value in sorted(set(values)):
        rows = told.found & torch.tensor([own == value for own in values])
        if bool(rows.any()):
            result[value] = gender_figures(told.probabilities[rows], told.labels[rows]).as_dict()
    return result


def mistakes(told: Answers, count: int = WORST) -> list[dict[str, Any]]:
    """The surest wrong answers, worst first."""
    wrong = (told.found & ~told.right).nonzero()[:, 0]
    confidence = told.probabilities[wrong].amax(1)
    worst = wrong[confidence.argsort(descending=True)][:count].tolist()
    return [
        {
            "file": told.pictures[i].file,
            "gender": told.pictures[i].gender,
            "confidence": round(float(told.probabilities[i].max()), 4),
            "box": [round(v, 1) for v in told.boxes[i].tolist()],
        }
        for i in worst
    ]


def changed(
    data: Path, pipeline: Pipeline, told: Answers, changes: Mapping[str, Change], purpose: str
) -> dict[str, dict[str, float]]:
    """Figures on the heads that were found, after each of some changes to pictures and boxes, by its name."""
    rows = told.found.nonzero()[:, 0].tolist()
    answers = {name: torch.zeros(len(rows), 2) for name in changes}
    classifier = pipeline.classifier
    sides = max(REGION, 1.6 * classifier.margin + 2 * abs(getattr(classifier, "below", 0.0)))
    sharp = max(HEAD, round(classifier.size / classifier.margin / min(MARGINS)))
    for start in tqdm(range(0, len(rows), BATCH), desc=purpose, unit="batch", disable=None):
        part = rows[start : start + BATCH]
        regions = [region(open_picture(data / told.pictures[i].file), told.boxes[i], sides, sharp) for i in part]
        for name, change in changes.items():
            seen = [change(image, box) for image, box in regions]
            faces = Faces.from_boxes(
                [box[None] for _, box in seen], [(image.shape[0], image.shape[1]) for image, _ in seen]
            )
            probabilities = pipeline.classify([image for image, _ in seen], faces).cpu().probabilities
            assert probabilities is not None
            answers[name][start : start + len(part)] = probabilities
    labels = told.labels[told.found]
    return {name: gender_figures(own, labels).as_dict() for name, own in answers.items()}
