"""The project's own pictures: every head is found, its gender is right, and nothing else is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from anigender.boxes import pairwise_iou
from anigender.folders import read_image
from anigender.pipeline import Pipeline

FOLDER = Path(__file__).resolve().parents[1] / "examples"
OVERLAP = 0.4  # the script leaves tails and loose hair out of its squares, the detector takes some of them in
EXPECTED = json.loads((FOLDER / "drawing" / "expected.json").read_text(encoding="utf-8"))


def test_every_picture_is_described() -> None:
    pictures = {path.name for path in FOLDER.iterdir() if path.suffix in (".png", ".jpg", ".webp")}
    assert pictures == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_nobody_else_is_found(embedded: Pipeline, name: str) -> None:
    assert len(embedded([read_image(FOLDER / name)])) <= len(EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED)
def test_who_is_in_the_picture(embedded: Pipeline, name: str) -> None:
    faces = embedded([read_image(FOLDER / name)])
    known = EXPECTED[name]
    if not known:
        return
    overlaps = pairwise_iou(faces.boxes, torch.tensor([head["box"] for head in known]).float().reshape(-1, 4))
    for i, head in enumerate(known):
        place = int(overlaps[:, i].argmax())
        assert float(overlaps[place, i]) >= OVERLAP
        assert faces.gender[place] == head["gender"]
