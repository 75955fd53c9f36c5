"""Faces judged by eye: the tables that come with the package, and what is made of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from anigender.datasets import judged
from anigender.datasets.judged import FACES, HEADS, NO_FACE, kept_out, read_judged_faces, read_judged_heads
from anigender.datasets.labelled import read_pictures
from anigender.datasets.tables import read_rows
from anigender.digests import sha256
from anigender.train.gender import draws, scratch


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    (tmp_path / "unlabelled").mkdir()
    path = tmp_path / "unlabelled" / "faces-0.tar"
    path.write_bytes(b"not really a shard")
    return path


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FACES", "HEADS"):
        path = tmp_path / f"{name}.csv"
        path.write_text("file,male\nfaces-0.tar/1.webp,0.75\nfaces-0.tar/2.webp,\ngender/a/1.webp,0.25\n", "utf-8")
        monkeypatch.setattr(judged, name, path)


FILES = ["faces-0.tar/1.webp", "faces-0.tar/2.webp", "faces-0.tar/3.webp", "faces-9.tar/1.webp"]


def test_what_is_not_listed_is_a_womans(table: None, shard: Path) -> None:
    found = read_judged_faces(shard.parents[1], FILES, {"faces-0.tar": sha256(shard)})
    assert found[:3].tolist() == [0.75, NO_FACE, 0.0]
    assert math.isnan(found[3])


def test_nothing_is_said_of_other_shards_of_that_name(table: None, shard: Path) -> None:
    assert read_judged_faces(shard.parents[1], FILES).isnan().all()
    shard.unlink()
    assert read_judged_faces(shard.parents[1], FILES).isnan().all()


def test_heads_that_are_not_listed_are_what_their_label_says(table: None) -> None:
    files = ["gender/a/1.webp", "gender/a/2.webp", "gender/a/3.webp", "faces-0.tar/2.webp"]
    assert read_judged_heads(files, torch.tensor([1, 0, 1, 0])).tolist() == [0.25, 0, 1, NO_FACE]


def test_every_eighth_face_is_kept() -> None:
    names = [f"faces-0.tar/{i:06}.webp" for i in range(17)] + ["other.tar/portrait.webp"]
    assert kept_out(names).nonzero()[:, 0].tolist() == [0, 8, 16]


@pytest.mark.parametrize("path", [FACES, HEADS], ids=["faces", "heads"])
def test_the_tables_are_well_formed(path: Path) -> None:
    rows = read_rows(path, ("file", "male"))
    assert len({row["file"] for row in rows}) == len(rows) > 100
    assert all(not row["male"] or 0 <= row.number("male") <= 1 for row in rows)


def test_the_tables_are_of_pictures_to_learn_from(data: Path) -> None:
    split = {picture.file: picture.split for picture in read_pictures(data)}
    assert {split[row["file"]] for row in read_rows(HEADS)} == {"train"}
    files = [row["file"] for row in read_rows(FACES)]
    assert not read_judged_faces(data, files).isnan().any()


def test_what_is_learned_from_judged_faces(table: None, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [*FILES, "faces-0.tar/8.webp"]
    monkeypatch.setitem(judged.SHARDS, "faces-0.tar", sha256(shard))
    targets, genders = scratch.judgements(shard.parents[1], files)
    # A man's most likely, no face, a woman's, one that was not judged, and one that is kept for measuring.
    expected = [[0.25, 0.75], [0, 0], [1, 0], [math.nan, math.nan], [0, 0]]
    assert torch.equal(targets.nan_to_num(9), torch.tensor(expected).nan_to_num(9))
    assert genders.tolist() == [-1, -1, -1, -1, 0]


def test_judgements_come_before_guesses() -> None:
    judged = torch.tensor([[0.25, 0.75], [math.nan, math.nan]])
    guessed = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    found = scratch.judged_first(guessed, judged)
    assert found is not None and torch.equal(found, torch.tensor([[0.25, 0.75], [0.6, 0.4]]))
    alone = scratch.judged_first(None, judged)
    assert alone is not None and torch.equal(alone, torch.tensor([[0.25, 0.75], [0, 0]]))
    nothing = torch.full((2, 2), math.nan)
    assert scratch.judged_first(None, nothing) is None
    assert scratch.judged_first(guessed, nothing) is guessed


def test_faces_of_whom_nothing_is_said_are_not_drawn() -> None:
    target, chance = draws.balanced(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.2, 0.8]]))
    assert chance[1] == 0 and target[1].tolist() == [0, 0]
    assert chance.sum() == pytest.approx(1)
    drawn = (target.double() * torch.from_numpy(chance)[:, None]).sum(0)
    assert drawn.tolist() == pytest.approx([0.5, 0.5])
