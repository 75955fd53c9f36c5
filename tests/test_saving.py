"""Saving: names, sidecars, metadata, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from anigender.saving import free_names, kohya_folder, save_with_captions, to_bytes


def test_pictures_and_captions_stand_side_by_side(tmp_path: Path) -> None:
    batches = [torch.full((2, 4, 6, 3), 0.5), torch.zeros(1, 8, 8, 3)]
    paths = save_with_captions(
        batches, ["1girl", "", "1boy, \u5e3d\u5b50"], tmp_path / "a" / "b", "x", {"prompt": "{}"}
    )
    assert [path.name for path in paths] == ["x_00001.png", "x_00002.png", "x_00003.png"]
    assert (tmp_path / "a/b/x_00001.txt").read_text("utf-8") == "1girl"
    assert not (tmp_path / "a/b/x_00002.txt").exists()
    assert (tmp_path / "a/b/x_00003.txt").read_text("utf-8") == "1boy, \u5e3d\u5b50"
    with Image.open(paths[0]) as image:
        assert image.size == (6, 4) and image.getpixel((0, 0)) == (128, 128, 128) and image.text == {"prompt": "{}"}


def test_numbering_goes_on_and_overwriting_is_only_on_demand(tmp_path: Path) -> None:
    one = [torch.zeros(1, 4, 4, 3)]
    (tmp_path / "x_00007.txt").write_text("mine")
    assert save_with_captions(one, ["new"], tmp_path, "x")[0].name == "x_00008.png"
    assert save_with_captions(one, ["new"], tmp_path, "x")[0].name == "x_00009.png"
    assert (tmp_path / "x_00007.txt").read_text() == "mine"
    (tmp_path / "x_00001.txt").write_text("old")
    assert save_with_captions(one, ["new"], tmp_path, "x", overwrite=True)[0].name == "x_00001.png"
    assert (tmp_path / "x_00001.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ([], "x_00001"),
        (["x_00003.png"], "x_00004"),
        (["x_00003_.PNG"], "x_00004"),
        (["x_9.txt", "y_00050.png", "x_y_00060.png", "x_00070.jpg"], "x_00010"),
    ],
)
def test_free_names(tmp_path: Path, there: list[str], name: str) -> None:
    for file in there:
        (tmp_path / file).touch()
    assert next(free_names(tmp_path, "x")) == name


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_channels_are_kept(tmp_path: Path, channels: int, mode: str) -> None:
    with Image.open(save_with_captions([torch.rand(1, 4, 4, channels)], [""], tmp_path, "x")[0]) as image:
        assert image.mode == mode


def test_values_are_rounded_and_clamped() -> None:
    assert to_bytes(torch.tensor([-0.1, 0.0, 0.4999, 1.0, 1.2])).tolist() == [0, 0, 127, 255, 255]
    assert to_bytes(torch.tensor([7], dtype=torch.uint8)).tolist() == [7]


def test_an_interruption_leaves_whole_files(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        save_with_captions([torch.zeros(4, 4, 4, 3)], ["a"] * 4, tmp_path, "x", progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "x_00001.png",
        "x_00001.txt",
        "x_00002.png",
        "x_00002.txt",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: save_with_captions([torch.zeros(2, 4, 4, 3)], ["a"], p, "x"), "1 captions for 2 pictures"),
        (lambda p: kohya_folder(0, "x"), "repeats is 0"),
        (lambda p: kohya_folder(1, "a/b"), "'a/b'"),
        (lambda p: kohya_folder(1, " "), "' '"),
        (lambda p: kohya_folder(1, "dot."), "'dot.'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not list(tmp_path.iterdir())
