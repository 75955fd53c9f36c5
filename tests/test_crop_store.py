"""Head crops on disk: stopped and gone on with, made anew where something changed, and read without being held."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anigender.datasets.picture import Picture
from anigender.train.crops import crops as module
from anigender.train.crops.crops import extent_of, labelled_crops, require_both, unlabelled_crops
from anigender.train.crops.store import CropStore, SomeRows, stamp_of

SIZE = 8


def some(count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(0, 256, (count, 4, SIZE, SIZE), generator=generator, dtype=torch.uint8))


def filled(folder: Path, count: int = 5) -> CropStore:
    store = CropStore(folder, SIZE, 2.0, "x")
    store.add([f"{i}.png" for i in range(count)], [[i, i] for i in range(count)], some(count))
    return store


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.add(["none.png", "more.png"], [[1, 1], [2, 2]], [None, some(1, 9)[0]], [[0, 0, 1, 1], [0.25, 0, 1, 0.5]])
    again = CropStore(tmp_path, SIZE, 2.0, "x")
    assert len(store) == len(again) == 6 and again.entries == store.entries
    assert again.entries["none.png"]["row"] is None and again.entries["more.png"]["extent"] == [0.25, 0, 1, 0.5]
    expected = torch.stack([*some(5), *some(1, 9)])
    assert torch.equal(again[:], expected) and torch.equal(again[[5, 0]], expected[[5, 0]])
    part = SomeRows(again, np.array([4, 2, 5]))
    assert torch.equal(part[1:], expected[[2, 5]]) and torch.equal(part[torch.tensor([0])], expected[[4]])
    assert torch.equal(SomeRows(part, np.array([2]))[:], expected[[5]]) and len(part) == 3


@pytest.mark.parametrize("lost", [1, 7, 4 * SIZE * SIZE + 3])
def test_a_run_that_was_killed_loses_what_was_not_finished(tmp_path: Path, lost: int) -> None:
    filled(tmp_path)
    pixels = tmp_path / "pixels.bin"
    os.truncate(pixels, pixels.stat().st_size - lost)
    store = CropStore(tmp_path, SIZE, 2.0, "x")
    kept = 4 if lost < 4 * SIZE * SIZE else 3
    assert len(store) == kept and store.lacks(f"{kept}.png", [kept, kept])
    store.add(["new.png"], [[9, 9]], some(1, 4))
    assert torch.equal(CropStore(tmp_path, SIZE, 2.0, "x")[:], torch.stack([*some(5)[:kept], *some(1, 4)]))


@pytest.mark.parametrize("cut", [1, 20, 45])
def test_a_list_that_was_cut_off_is_gone_on_with(tmp_path: Path, cut: int) -> None:
    filled(tmp_path)
    index = tmp_path / "index.jsonl"
    os.truncate(index, index.stat().st_size - cut)
    store = CropStore(tmp_path, SIZE, 2.0, "x")
    assert len(store) == 4 and store.lacks("4.png", [4, 4])
    store.add(["4.png"], [[4, 4]], some(5)[4:])
    assert torch.equal(CropStore(tmp_path, SIZE, 2.0, "x")[:], torch.stack(some(5)))


@pytest.mark.parametrize(("size", "margin", "source"), [(16, 2.0, "x"), (SIZE, 2.1, "x"), (SIZE, 2.0, "another")])
def test_crops_of_another_kind_are_not_taken(tmp_path: Path, size: int, margin: float, source: str) -> None:
    filled(tmp_path)
    assert len(CropStore(tmp_path, size, margin, source)) == 0
    assert len(CropStore(tmp_path, SIZE, 2.0, "x")) == 0  # and were made room for


@pytest.mark.parametrize("count", [0, 5], ids=["of a new folder", "of a folder with crops"])
def test_two_stores_do_not_write_over_one_another(tmp_path: Path, count: int) -> None:
    filled(tmp_path, count)
    first, second = CropStore(tmp_path, SIZE, 2.0, "x"), CropStore(tmp_path, SIZE, 2.0, "x")
    first.add(["a.png"], [[1, 1]], some(1, 1))
    with pytest.raises(ValueError, match="were changed by something else since they were read: start again when"):
        second.add(["b.png"], [[2, 2]], some(1, 2))
    first.add(["c.png"], [[3, 3]], some(1, 3))
    assert torch.equal(first[:], torch.stack([*some(count), *some(1, 1), *some(1, 3)]))
    again = CropStore(tmp_path, SIZE, 2.0, "x")
    assert torch.equal(again[:], first[:]) and again.entries == first.entries
    again.add(["b.png"], [[2, 2]], some(1, 2))
    assert len(CropStore(tmp_path, SIZE, 2.0, "x")) == count + 3


OTHER = """
import sys
from pathlib import Path
import torch
from anigender.train.crops.store import CropStore
folder, source = sys.argv[1:]
try:
    store = CropStore(Path(folder), 8, 2.0, source)
    print(len(store), store[:].sum().item())
    store.add(["other.png"], [[1, 1]], [torch.zeros(4, 8, 8, dtype=torch.uint8)])
except ValueError as error:
    print(error)
"""


def another_process(folder: Path, source: str) -> list[str]:
    """What another training that uses the folder prints."""
    command = [sys.executable, "-c", OTHER, str(folder), source]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_another_training_reads_while_this_one_writes_but_writes_only_when_it_has_ended(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = store.folder.joinpath("pixels.bin").read_bytes()
    total = int(torch.stack(some(5)).sum())
    refused = f"another training that writes crops to {tmp_path} is running: wait until it has ended, or name an output"
    read, said = another_process(tmp_path, "x")
    assert read == f"5 {total}" and said.startswith(refused)
    (said,) = another_process(tmp_path, "another detector")
    assert said.startswith(refused) and store.folder.joinpath("pixels.bin").read_bytes() == before
    store.add(["5.png"], [[5, 5]], some(1, 5))
    del store
    assert another_process(tmp_path, "x") == [f"6 {total + int(some(1, 5)[0].sum())}"]
    assert len(CropStore(tmp_path, SIZE, 2.0, "x")) == 7


def test_crops_that_are_made_anew_under_a_reader_are_not_taken_for_its_own(tmp_path: Path) -> None:
    filled(tmp_path)
    reader = CropStore(tmp_path, SIZE, 2.0, "x")
    sent = pickle.dumps(reader)
    CropStore(tmp_path, SIZE, 2.0, "another").add([f"{i}.png" for i in range(9)], [[0, 0]] * 9, some(9, 3))
    for store in (reader, pickle.loads(sent)):
        with pytest.raises(ValueError, match="made anew, with another detector or size, while they were used"):
            store[[0]]


def test_opening_a_store_changes_nothing(tmp_path: Path) -> None:
    """Another training may be in the middle of a line."""
    filled(tmp_path)
    with (tmp_path / "index.jsonl").open("ab") as index, (tmp_path / "pixels.bin").open("ab") as pixels:
        index.write(b'{"file": ')
        pixels.write(bytes(100))
    before = [(tmp_path / name).read_bytes() for name in ("index.jsonl", "pixels.bin")]
    store = CropStore(tmp_path, SIZE, 2.0, "x")
    assert torch.equal(store[:], torch.stack(some(5)))
    assert [(tmp_path / name).read_bytes() for name in ("index.jsonl", "pixels.bin")] == before


def test_a_changed_picture_is_looked_at_again(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert not store.lacks("2.png", [2, 2]) and store.lacks("2.png", [2, 3]) and store.lacks("9.png", [0, 0])
    store.add(["2.png"], [[2, 3]], some(1, 7))
    assert not store.lacks("2.png", [2, 3])
    assert torch.equal(store[[store.entries["2.png"]["row"]]], torch.stack(some(1, 7)))


def test_other_processes_map_the_file_and_are_sent_no_crops(tmp_path: Path) -> None:
    store = filled(tmp_path, 400)
    assert store[[0]].shape == (1, 4, SIZE, SIZE)  # mapped here
    sent = pickle.dumps(SomeRows(store, np.arange(400)))
    assert len(sent) < 6000 < 400 * 4 * SIZE * SIZE
    assert torch.equal(pickle.loads(sent)[:3], torch.stack(some(400)[:3]))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ([40, 40, 60, 60], [0, 0, 1, 1]),
        ([0, 40, 20, 60], [0.25, 0, 1, 1]),
        ([80, 80, 100, 100], [0, 0, 0.75, 0.75]),
        ([-10, -10, 110, 110], [70 / 240, 70 / 240, 170 / 240, 170 / 240]),
    ],
)
def test_where_the_picture_lies_in_a_crop(head: list[float], expected: list[float]) -> None:
    assert extent_of(np.array(head, np.float32), 2.0, 100, 100) == pytest.approx(expected, abs=1e-6)


# -- crops of a folder -------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, examples: Path) -> Path:
    """A folder of somebody's own: drawn people, each as a woman and, mirrored, as a man."""
    files = sorted(examples.glob("solo_*"))[:3]
    assert len(files) == 3
    for i, file in enumerate(files):
        split = "validation" if i == 2 else "train"
        for gender in ("female", "male"):
            (tmp_path / "data" / split / gender).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "data" / split / "female" / file.name)
        with Image.open(file) as image:
            mirrored = image.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mirrored.save(tmp_path / "data" / split / "male" / f"{file.stem}.png")
    return tmp_path / "data"


def test_heads_are_found_once(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    find = module.find_heads

    def watched(pictures: list[Picture], *rest: object, **named: object) -> object:
        looked.extend(picture.file for picture in pictures)
        return find(pictures, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "find_heads", watched)
    learn, judge = labelled_crops(own, "auto", tmp_path / "out")
    assert len(looked) == 6 and len(learn) == 4 and len(judge) == 2
    assert learn.pixels[:].shape[1:] == (4, 192, 192) and sorted(learn.labels.tolist()) == [0, 0, 1, 1]
    again, _ = labelled_crops(own, "auto", tmp_path / "out")
    assert len(looked) == 6 and torch.equal(again.pixels[:], learn.pixels[:])
    changed = own / learn.pictures[0].file
    os.utime(changed, (1, 1))
    labelled_crops(own, "auto", tmp_path / "out")
    assert looked[6:] == [learn.pictures[0].file]
    other, _ = labelled_crops(own, "auto", tmp_path / "out", size=96, margin=1.5)
    assert other.pixels[:].shape[1:] == (4, 96, 96) and other.margin == 1.5


def test_pictures_without_a_head_are_said(own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flat = own / "train" / "male" / "flat.png"
    Image.new("RGB", (64, 64), (10, 90, 60)).save(flat)
    learn, _ = labelled_crops(own, "auto", tmp_path / "out")
    assert len(learn) == 4
    assert [r.getMessage() for r in caplog.records] == ["no head is found in 1 of 7 pictures: train/male/flat.png"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("female", "train"), ("female", "val")], "of the gender male there is no picture: add more, at least two"),
        (
            [("female", "train"), ("female", "val"), ("male", "train")],
            r"of the gender male there is only one picture \(2.png\): add more, at least two of two characters",
        ),
        (
            [("female", "train"), ("female", "val"), ("male", "train"), ("male", "train")],
            "all 2 pictures of the gender male are in the split train, none is left to judge by: add pictures of other",
        ),
        (
            [("female", "val"), ("female", "val"), ("male", "train"), ("male", "val")],
            "gender female are in the split val, none is left to learn from: .* or name the split train for some",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_explained(rows: list[tuple[str, str]], message: str) -> None:
    pictures = [Picture(f"{i}.png", gender=gender, split=split) for i, (gender, split) in enumerate(rows)]
    with pytest.raises(ValueError, match=message):
        require_both(pictures, "")


def test_no_unlabelled_faces_are_none(tmp_path: Path) -> None:
    assert [len(part) for part in unlabelled_crops(tmp_path, tmp_path)] == [0, 0, 0]


def test_unlabelled_faces_that_were_removed_are_not_learned_from(tmp_path: Path) -> None:
    folder = tmp_path / "unlabelled"
    folder.mkdir()

    def pack(shard: str, names: list[str]) -> None:
        with tarfile.open(folder / shard, "w") as archive:
            for name in names:
                picture = io.BytesIO()
                if name[0].isdigit():
                    Image.new("RGB", (12, 12), (int(name[0]) * 20, 0, 0)).save(picture, "PNG")
                else:
                    picture.write(b"no picture")
                member = tarfile.TarInfo(name)
                member.size = picture.tell()
                archive.addfile(member, io.BytesIO(picture.getvalue()))

    pack("a.tar", ["1.png", "2.png", "3.png", "broken.png"])
    pack("b.tar", ["4.png"])
    out = tmp_path / "out"
    assert unlabelled_crops(tmp_path, out).files == ["a.tar/1.png", "a.tar/2.png", "a.tar/3.png", "b.tar/4.png"]
    pack("a.tar", ["1.png", "3.png", "5.png"])
    (folder / "b.tar").unlink()
    pixels, extents, files = unlabelled_crops(tmp_path, out)
    assert files == ["a.tar/1.png", "a.tar/3.png", "a.tar/5.png"] and len(pixels) == len(extents) == 3
    assert pixels[:][:, 0, 96, 96].tolist() == [20, 60, 100]


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    first = stamp_of(path)
    path.write_bytes(b"xy")
    assert stamp_of(path) != first
