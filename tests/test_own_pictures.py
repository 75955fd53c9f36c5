"""Labelled pictures of somebody's own: layouts, splits, near duplicates, and what is wrong with a folder."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anigender.datasets.duplicates import NEAR, _compared, difference_hash, near_duplicates
from anigender.datasets.labelled import read_column, read_pictures
from anigender.datasets.own_pictures import divide, read_own
from anigender.datasets.picture import Picture, open_picture, read_rgba
from anigender.folders import read_image


def draw(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> Path:
    """A picture like no other, made of a few soft spots."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def split_of(pictures: list[Picture]) -> dict[str, str]:
    return {picture.file: picture.split for picture in pictures}


# -- layouts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("women", "men"), [("female", "male"), ("Women", "Men"), ("1girl", "1boy")])
def test_folders_named_by_gender(tmp_path: Path, women: str, men: str) -> None:
    for i in range(30):
        draw(tmp_path / women / f"{i}.png", i)
        draw(tmp_path / men / f"{i}.png", 100 + i)
    (tmp_path / women / "notes.txt").write_text("x")
    (tmp_path / women / "._0.png").write_bytes(b"what macOS keeps beside 0.png")
    draw(tmp_path / "neither" / "0.png", 500)
    pictures = read_pictures(tmp_path)
    assert [p.gender for p in pictures] == ["male" if p.file.startswith(men) else "female" for p in pictures]
    assert len(pictures) == 60 and {p.split for p in pictures} == {"train", "val"}
    assert all(p.character == p.file and p.folder == "" and (p.width, p.height) == (48, 40) for p in pictures)
    assert split_of(pictures) == split_of(read_pictures(tmp_path))


def test_folders_inside_are_characters_and_stay_together(tmp_path: Path) -> None:
    for i in range(24):
        for k in range(3):
            gender = "female" if i % 2 else "male"
            draw(tmp_path / gender / f"c{i}" / f"{k}.png", 10 * i + k)
    pictures = read_own(tmp_path)
    splits: dict[str, set[str]] = {}
    for picture in pictures:
        splits.setdefault(picture.character, set()).add(picture.split)
    assert len(splits) == 24 and all(len(own) == 1 for own in splits.values())


def test_splits_that_are_given_are_kept(tmp_path: Path) -> None:
    for k, split in enumerate(("train", "validation", "test")):
        for i, gender in enumerate(("female", "male")):
            draw(tmp_path / split / gender / "a.png", 10 * k + i)
    assert split_of(read_own(tmp_path)) == {
        f"{split}/{gender}/a.png": "train" if split == "train" else "val"
        for split in ("train", "validation", "test")
        for gender in ("female", "male")
    }


@pytest.mark.parametrize("name", ["val", "validation", "Test"])
def test_what_lies_beside_pictures_to_judge_by_is_learned_from(tmp_path: Path, name: str) -> None:
    for i, gender in enumerate(("female", "male")):
        draw(tmp_path / gender / "a.png", i)
        draw(tmp_path / name / gender / "b.png", 10 + i)
    assert split_of(read_own(tmp_path)) == {
        **{f"{name}/{gender}/b.png": "val" for gender in ("female", "male")},
        **{f"{gender}/a.png": "train" for gender in ("female", "male")},
    }
    for i, gender in enumerate(("female", "male")):
        draw(tmp_path / "train" / gender / "c.png", 20 + i)
    with pytest.raises(ValueError, match="holds pictures to learn from in train and in female, male: move .* one"):
        read_own(tmp_path)


def test_where_all_is_called_train_some_is_kept_for_judging(tmp_path: Path) -> None:
    for i in range(3):
        for k, gender in enumerate(("female", "male")):
            draw(tmp_path / "train" / gender / f"{i}.png", 10 * k + i)
    for gender in ("female", "male"):
        assert {p.split for p in read_own(tmp_path) if p.gender == gender} == {"train", "val"}


def test_near_duplicates_across_a_given_split_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i, gender in enumerate(("female", "male")):
        for k, split in enumerate(("train", "validation")):
            draw(tmp_path / split / gender / "a.png", 10 * k + i, (120, 100))
    read_own(tmp_path)
    assert not caplog.records
    with Image.open(tmp_path / "train" / "male" / "a.png") as image:
        image.save(tmp_path / "validation" / "male" / "again.jpg", quality=80)
    read_own(tmp_path)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "1 pictures lie on the other side of the split than one that they look the same"
    )
    assert record.getMessage().endswith("train/male/a.png and validation/male/again.jpg")


def test_a_table(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "label": "girl", "character": "x", "split": "Train", "artist": "p"},
        {"file_name": "sub/b.png", "label": "male", "character": "", "split": "test", "artist": "q"},
    ]
    for i, row in enumerate(rows):
        draw(tmp_path / row["file_name"], i)
    table(tmp_path / "metadata.csv", rows)
    first, second = read_pictures(tmp_path)
    assert (first.file, first.gender, first.character, first.split) == ("a.png", "female", "x", "train")
    assert (second.file, second.gender, second.character, second.split) == ("sub/b.png", "male", "sub/b.png", "val")
    assert read_column(tmp_path, "artist") == {"a.png": "p", "sub/b.png": "q"}
    with pytest.raises(ValueError, match=r"metadata\.csv has no column 'colour'; it has file_name, label"):
        read_column(tmp_path, "colour")


# -- decoding ----------------------------------------------------------------------------------------------------------


def unusual(path: Path) -> None:
    """A picture that is 40 x 24 once it is decoded as its name says."""
    pixels = np.random.default_rng(5).integers(0, 256, (24, 40), dtype=np.uint8)
    colour = np.stack((pixels, 255 - pixels, pixels // 2), 2)
    if path.stem == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(colour).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    elif path.stem == "16 bits":
        Image.fromarray(pixels.astype(np.uint16) * 257).save(path)
    elif path.stem == "float":
        Image.fromarray(pixels.astype(np.float32) / 255).save(path)
    else:
        Image.fromarray(np.dstack((colour, pixels))).save(path)


@pytest.mark.parametrize("name", ["turned.png", "16 bits.png", "float.tiff", "transparent.png"])
def test_pictures_to_learn_from_and_to_judge_by_are_decoded_as_at_inference(tmp_path: Path, name: str) -> None:
    for folder, others in (("female", 30), ("male", 40)):
        for i in range(3):
            draw(tmp_path / folder / f"{i}.png", others + i)
    unusual(tmp_path / "female" / name)
    seen = read_image(tmp_path / "female" / name)
    assert seen.shape == (24, 40, 3) and 80 < float(seen.float().mean()) < 200
    assert np.array_equal(open_picture(tmp_path / "female" / name), seen)
    rgba = read_rgba(tmp_path / "female" / name)
    over_white = rgba[..., :3] * (rgba[..., 3:] / 255) + 255 * (1 - rgba[..., 3:] / 255)
    assert np.abs(over_white - seen.numpy()).max() <= 1
    (own,) = (picture for picture in read_own(tmp_path) if picture.file == f"female/{name}")
    assert (own.width, own.height, own.alpha) == (40, 24, name == "transparent.png")


@pytest.mark.parametrize("name", ["turned.png", "16 bits.png"])
def test_a_picture_saved_as_usual_is_a_near_duplicate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    for folder, others in (("train/female", 30), ("train/male", 40), ("val/male", 50), ("val/female", 60)):
        draw(tmp_path / folder / "other.png", others)
    unusual(tmp_path / "train" / "female" / name)
    plain = Image.fromarray(read_image(tmp_path / "train" / "female" / name).numpy())
    plain.save(tmp_path / "val" / "female" / "plain.png")
    read_own(tmp_path)
    (record,) = caplog.records
    assert record.getMessage().endswith(f"train/female/{name} and val/female/plain.png")


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file": "a.png", "gender": "cat"}], "line 2: gender is 'cat', expected female or male"),
        ([{"name": "a.png", "gender": "male"}], "line 2: expected the columns file and gender, it has name, gender"),
        ([{"file": "a.png", "gender": "male", "split": "some"}], "line 2: split is 'some', expected one of train"),
        ([{"file": "a.png", "gender": g} for g in ("male", "female")], "a.png is said to be female and male"),
        ([{"file": "a.png", "gender": "male"}], "no readable picture of the gender female"),
    ],
)
def test_wrong_tables_are_explained(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    draw(tmp_path / "a.png", 0)
    table(tmp_path / "manifest.csv", rows)
    with pytest.raises(ValueError, match=message):
        read_own(tmp_path)


def test_folders_of_something_else_are_explained(tmp_path: Path) -> None:
    draw(tmp_path / "cats" / "a.png", 0)
    with pytest.raises(ValueError, match="expected gender/manifest.csv, .* or pictures in the folders female and male"):
        read_own(tmp_path)


def test_an_empty_class_is_named_and_broken_pictures_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw(tmp_path / "female" / "a.png", 0)
    (tmp_path / "male").mkdir()
    (tmp_path / "male" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no readable picture of the gender male"):
        read_own(tmp_path)
    draw(tmp_path / "male" / "b.png", 1)
    caplog.clear()
    assert [picture.file for picture in read_own(tmp_path)] == ["female/a.png", "male/b.png"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "1 of 3 pictures cannot be read and are left out; replace or delete them: male/broken.png"
    )


@pytest.mark.parametrize("name", ["a.png", "other.webp", "sub/b.bmp"])
def test_one_picture_under_both_genders_is_refused_whatever_its_name(tmp_path: Path, name: str) -> None:
    first = draw(tmp_path / "female" / "a.png", 0)
    for i in range(1, 4):
        draw(tmp_path / "female" / f"{i}.png", i)
        draw(tmp_path / "male" / f"{i}.png", 10 + i)
    copy = tmp_path / "male" / name
    copy.parent.mkdir(exist_ok=True)
    with Image.open(first) as image:
        image.save(copy, **({"lossless": True, "exact": True} if copy.suffix == ".webp" else {}))
    with pytest.raises(
        ValueError, match=f"1 pictures are under both genders, .* delete the wrong one .*: female/a.png and male/{name}"
    ):
        read_own(tmp_path)


def test_one_picture_saved_anew_under_the_other_gender_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(4):
        draw(tmp_path / "female" / f"{i}.png", i, (120, 100))
        draw(tmp_path / "male" / f"{i}.png", 10 + i, (120, 100))
    with Image.open(tmp_path / "female" / "2.png") as image:
        image.resize((96, 80)).save(tmp_path / "male" / "again.jpg", quality=85)
        inverted = Image.fromarray(255 - np.asarray(image))
    inverted.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "male" / "unlike.png")  # has the same hash
    assert len(read_own(tmp_path)) == 10
    (record,) = caplog.records
    assert "1 pairs look like one picture under both genders" in record.getMessage()
    assert record.getMessage().endswith("female/2.png and male/again.jpg")


# -- near duplicates ---------------------------------------------------------------------------------------------------


def test_a_picture_saved_again_keeps_its_hash(tmp_path: Path) -> None:
    with Image.open(draw(tmp_path / "a.png", 3, (300, 240))) as image:
        first = difference_hash(image)
        image.save(tmp_path / "a.jpg", quality=60)
        image.resize((150, 120)).save(tmp_path / "small.png")
        image.convert("L").save(tmp_path / "grey.png")
    for name in ("a.jpg", "small.png", "grey.png"):
        with Image.open(tmp_path / name) as again:
            assert (difference_hash(again) ^ first).bit_count() <= NEAR
    with Image.open(draw(tmp_path / "b.png", 4)) as other:
        assert (difference_hash(other) ^ first).bit_count() > 10


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.data())
def test_groups_are_those_of_comparing_all_with_all(prints: list[int], data: st.DataObject) -> None:
    for value in list(prints)[:4]:
        for bit in data.draw(st.lists(st.integers(0, 63), max_size=5)):
            value ^= 1 << bit
        prints.append(value)
    expected = list(range(len(prints)))
    for _ in prints:  # spread along chains
        for i, a in enumerate(prints):
            for j, b in enumerate(prints):
                if (a ^ b).bit_count() <= NEAR:
                    expected[i] = expected[j] = min(expected[i], expected[j])
    assert near_duplicates(prints) == expected


@pytest.mark.parametrize("ground", [0x0000_0000_00FF_FFFF, 0x3C3C_3C3C_3C3C_3C3C, 0x0000_3C3C_3C3C_3C3C])
def test_figures_on_a_plain_ground_are_not_all_compared_with_all(ground: int) -> None:
    """What is flat above, or on both sides, is one in all hashes."""
    random = np.random.default_rng(0).integers(0, 2**64, 2000, np.uint64).tolist()
    prints = list(dict.fromkeys(value & ground for value in random))
    pairs = sum(len(own) ** 2 for own in _compared(prints, range(len(prints))))
    assert pairs < 0.1 * len(prints) ** 2


def test_near_duplicates_never_straddle_the_split(tmp_path: Path) -> None:
    for i in range(40):
        gender = "female" if i % 2 else "male"
        path = draw(tmp_path / gender / f"{i}.png", i, (120, 100))
        with Image.open(path) as image:
            image.save(path.with_name(f"{i}_again.jpg"), quality=70)
    splits = split_of(read_own(tmp_path))
    assert len(splits) == 80
    for file, split in splits.items():
        if file.endswith(".png"):
            assert splits[file.replace(".png", "_again.jpg")] == split


def test_few_pictures_are_on_both_sides(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / "female" / f"{i}.png", i)
        draw(tmp_path / "male" / f"{i}.png", 10 + i)
    for gender in ("female", "male"):
        assert {p.split for p in read_own(tmp_path) if p.gender == gender} == {"train", "val"}


@pytest.mark.parametrize(
    ("women", "judged"),
    [
        ({"ab": 90, "ad": 3, "ae": 40}, {"ad"}),  # all would be learned from
        ({"aa": 90, "ac": 3}, {"ac"}),  # all would be judged by
        ({"aa": 3, "ac": 3}, {"aa"}),
        ({"aa": 7, "ab": 50}, {"aa"}),
        ({"ab": 7}, set()),  # nothing to choose from
    ],
)
def test_the_smallest_character_is_kept_for_judging_where_all_would_be_on_one_side(
    women: dict[str, int], judged: set[str]
) -> None:
    pictures = [
        Picture(f"{name}/{i}.png", character=name, gender="female") for name in women for i in range(women[name])
    ]
    divide(pictures, range(len(pictures)))
    assert {picture.character for picture in pictures if picture.split == "val"} == judged


@pytest.mark.parametrize(("sizes", "said"), [((90, 10), ""), ((10, 90), "90 of 100 female pictures are kept")])
def test_how_many_are_kept_for_judging_is_said(
    caplog: pytest.LogCaptureFixture, sizes: tuple[int, int], said: str
) -> None:
    caplog.set_level("INFO", "anigender")
    characters = ["ab"] * sizes[0] + ["aa"] * sizes[1]
    pictures = [Picture(f"{i}.png", character=name, gender="female") for i, name in enumerate(characters)]
    divide(pictures, range(len(pictures)))
    counts, _, *warnings = [record.getMessage() for record in caplog.records]
    assert counts == f"female: {sizes[0]} pictures to learn from, {sizes[1]} to judge by"
    assert [text.startswith(said) for text in warnings] == ([True] if said else [])


@pytest.mark.skipif(os.name != "posix", reason="names that are not UTF-8")
def test_names_that_are_no_text_are_divided(tmp_path: Path) -> None:
    for i, gender in enumerate(("female", "male")):
        for k in range(3):
            path = draw(tmp_path / gender / f"{k}.png", 10 * i + k)
            path.rename(os.fsdecode(os.fsencode(path).replace(b".png", b"\xff.png")))
    assert {picture.split for picture in read_own(tmp_path)} == {"train", "val"}
