"""How well gender is told: end to end on unseen characters, with the project's own head crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..pipeline import Pipeline
from ..train import dataset
from ..train.relabel import open_picture
from .metrics import gender_figures


def surest_heads(
    pipeline: Pipeline, data: Path, pictures: Sequence[dataset.Picture], batch: int = 16
) -> tuple[Tensor, Tensor]:
    """What the pipeline says of pictures of one character each.

    Returns:
        ``probabilities [N, 2]`` of the head with the highest detection score, and ``found [N]`` bool; rows of
        pictures without a head are 0.5.
    """
    answers = torch.full((len(pictures), 2), 0.5)
    found = torch.zeros(len(pictures), dtype=torch.bool)
    for start in tqdm(range(0, len(pictures), batch), desc="gender", unit="batch", disable=None):
        part = pictures[start : start + batch]
        faces = pipeline([open_picture(data / picture.file) for picture in part]).cpu().pick(0)
        rows = faces.image_index + start
        assert faces.probabilities is not None
        answers[rows] = faces.probabilities
        found[rows] = True
    return answers, found


def evaluate_gender(data: Path, pipeline: Pipeline, folders: Sequence[str] = ()) -> dict[str, Any]:
    """Figures on ``val``, or on every picture of whole ``folders`` (for models that never saw them).

    Returns:
        ``found``: figures on the pictures in which a head is found; ``all``: with a missed head counted as a wrong
        answer; ``by_kind``: as ``found``; ``by_folder``: pictures and right answers; ``share_found``.
    """
    pictures = dataset.read_pictures(data)
    pictures = [p for p in pictures if (p.folder in folders if folders else p.split == "val")]
    if not pictures:
        raise ValueError(
            f"no pictures to evaluate in {data}" + (f" for the folders {', '.join(folders)}" if folders else "")
        )
    answers, found = surest_heads(pipeline, data, pictures)
    labels = torch.tensor([dataset.GENDERS.index(p.gender) for p in pictures])
    wrong = torch.stack((labels.float(), 1 - labels.float()), 1)
    with_misses = torch.where(found[:, None], answers, wrong)
    right = (answers.argmax(1) == labels) & found
    kinds = sorted({p.kind for p in pictures})
    names = sorted({p.folder for p in pictures})

    def rows(attribute: str, value: str) -> Tensor:
        return torch.tensor([getattr(p, attribute) == value for p in pictures])

    return {
        "found": gender_figures(answers[found], labels[found]).as_dict(),
        "all": gender_figures(with_misses, labels).as_dict(),
        "share_found": round(float(found.float().mean()), 4),
        "by_kind": {
            kind: gender_figures(answers[found & rows("kind", kind)], labels[found & rows("kind", kind)]).as_dict()
            for kind in kinds
        },
        "by_folder": {
            name: {"count": int(rows("folder", name).sum()), "right": int(right[rows("folder", name)].sum())}
            for name in names
        },
    }
