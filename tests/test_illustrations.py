"""Illustrations with all of their heads: what was judged by eye, and what is no head in them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anigender.datasets import illustrations
from anigender.datasets.illustrations import TABLE, mistaken, read_judged
from anigender.datasets.labelled import held_out
from anigender.datasets.picture import Picture
from anigender.datasets.tables import read_rows
from anigender.evaluate.detector import judged_heads
from anigender.faces import Faces

HEAD = [10, 10, 50, 50]
UNSURE = [60, 10, 80, 30]


def judged() -> Picture:
    return Picture("a.png", heads=np.array([HEAD], np.float32), unsure=np.array([UNSURE], np.float32))


@pytest.mark.parametrize(
    ("box", "wrong"),
    [
        (HEAD, False),
        ([14, 14, 54, 54], False),  # badly placed, but of the head
        ([20, 10, 30, 20], True),  # an ornament in the hair
        ([0, 0, 100, 100], True),  # the whole figure
        ([10, 60, 50, 100], True),  # elsewhere
        (UNSURE, False),
        ([58, 8, 84, 34], False),  # roughly what is unsure
        ([62, 12, 66, 16], False),  # a part of that
    ],
)
def test_what_is_no_head(box: list[float], wrong: bool) -> None:
    assert mistaken(torch.tensor([box], dtype=torch.float32), judged()).tolist() == [wrong]


def test_nothing_is_known_of_no_box() -> None:
    assert mistaken(torch.zeros(0, 4), judged()).shape == (0,)
    assert mistaken(torch.tensor([[0.0, 0, 9, 9]]), Picture("b.png")).tolist() == [True]


def test_figures_of_judged_pictures() -> None:
    found = [
        Faces.from_boxes([[HEAD, [10, 60, 50, 100], UNSURE]], sizes=[(100, 100)]),
        Faces.from_boxes([torch.zeros(0, 4)], sizes=[(100, 100)]),
    ]
    assert judged_heads(found, [judged(), judged()]) == {"recall": 0.5, "false_heads": 0.5, "precision": 0.5}


def test_the_table_is_whole() -> None:
    rows = read_rows(TABLE, ("file", "picture", "head", "x", "y", "width", "height", "gender"))
    assert {(row["head"], row["gender"]) for row in rows} == {("yes", "female"), ("yes", ""), ("unsure", "")}
    assert all(row.number("width") > 0 and row.number("height") > 0 for row in rows)
    pictures: dict[str, set[str]] = {}
    for row in rows:
        pictures.setdefault(row.file("file"), set()).add(row["picture"])
    assert all(len(numbers) == 1 for numbers in pictures.values())


def test_heads_of_a_known_gender_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        "a.png,0,yes,1,2,3,4,female",
        "a.png,0,yes,5,6,7,8,male",
        "a.png,0,yes,5,5,5,5,",  # not sure
        "b.png,0,yes,1,2,3,4,female",  # a copy of a.png
        "c.png,1,yes,1,2,3,4,female",  # not in the folder
    ]
    table = tmp_path / "heads.csv"
    table.write_text("\n".join(["file,picture,head,x,y,width,height,gender", *rows]), "utf-8")
    monkeypatch.setattr(illustrations, "TABLE", table)
    (tmp_path / illustrations.FOLDER).mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (tmp_path / illustrations.FOLDER / name).touch()
    expected = {illustrations.FOLDER + "a.png": ([[1, 2, 4, 6], [5, 6, 12, 14]], [0, 1])}
    assert illustrations.surely_judged_heads(tmp_path) == expected


def test_copies_of_what_is_kept_for_measuring_are_not_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i}.png" for i in range(40)]
    kept = next(name for name in names if held_out(illustrations.FOLDER + name))
    others = [name for name in names if not held_out(illustrations.FOLDER + name)][:3]
    box = {"x": 5, "y": 6, "width": 20, "height": 20}
    known: list[dict[str, Any]] = [
        {"file": illustrations.FOLDER + name, "region": "head"} | box for name in (kept, *others)
    ]
    table: list[dict[str, Any]] = [
        {"file": kept, "picture": 1, "head": "yes"} | box,
        {"file": others[0], "picture": 1, "head": "yes"} | box,
        {"file": others[1], "picture": 2, "head": "yes"} | box,
        {"file": others[1], "picture": 2, "head": "unsure"} | box,
    ]
    monkeypatch.setattr(illustrations, "TABLE", tmp_path / "heads.csv")
    for path, rows in ((tmp_path / "detection" / "boxes.csv", known), (tmp_path / "heads.csv", table)):
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    found = {Path(picture.file).name: picture for picture in read_judged(tmp_path)}
    assert {name: (p.split, p.complete, len(p.heads), len(p.unsure)) for name, p in found.items()} == {
        kept: ("val", True, 1, 0),
        others[0]: ("copy", True, 1, 0),
        others[1]: ("train", False, 1, 1),
        others[2]: ("train", False, 1, 0),  # not in the table: its known head alone
    }
    assert found[kept].heads.tolist() == [[5, 6, 25, 26]]
