"""Data sets of characters and recognisers from the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from anigender.characters.preparing import split_characters
from anigender.cli import main
from anigender.cli.filter import place


def run(*arguments: object) -> Result:
    """A command in this process; what went wrong inside is raised."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def raw(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn people in folders, a street without people and a broken file."""
    folder = tmp_path_factory.mktemp("raw")
    people = {
        "bob": ["solo_woman_bob.jpg", "solo_woman_dress.webp", "solo_woman_twintails.png"],
        "stubble": ["solo_man_stubble.jpg", "solo_man_glasses.webp", "solo_man_gakuran.png"],
    }
    for name, files in people.items():
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_bytes((examples / file).read_bytes())
    (folder / "bob" / "street.jpg").write_bytes((examples / "no_people_street.jpg").read_bytes())
    (folder / "stubble" / "broken.png").write_bytes(b"no picture")
    with Image.open(examples / "solo_man_stubble.jpg") as image:
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)  # which is no near duplicate
        mirrored.resize((image.width // 2, image.height // 2)).save(folder / "stubble" / "again.png")
    return folder


@pytest.fixture(scope="module")
def heads(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Their heads, and what the command said."""
    folder = tmp_path_factory.mktemp("heads") / "heads"
    return folder, run("dataset", "crop", raw, "--to", folder, "--compare", "whole-image")


def test_heads_are_cut_out_and_the_rest_kept_apart(heads: tuple[Path, Result]) -> None:
    folder, said = heads
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert "_unrecognised/bob/street.jpg" in names and "bob/solo_woman_bob_jpg_0.png" in names
    assert [name for name in names if name.startswith("stubble/")] == [
        "stubble/again_png_0.png",
        "stubble/solo_man_gakuran_png_0.png",
        "stubble/solo_man_glasses_webp_0.png",
        "stubble/solo_man_stubble_jpg_0.png",
    ]
    with Image.open(folder / "bob/solo_woman_bob_jpg_0.png") as image:
        assert image.size == (96, 96)
    rows = [line.split() for line in said.output.splitlines()]
    assert ["character", "pictures", "auto", "whole-image"] in rows
    assert ["bob", "4", "75.0%", "100.0%"] in rows and ["stubble", "4", "100.0%", "100.0%"] in rows
    assert ["all", "8", "87.5%", "100.0%"] in rows
    assert said.exit_code == 1 and "broken.png: not a picture" in said.output


def test_a_second_run_overwrites_nothing(raw: Path, heads: tuple[Path, Result]) -> None:
    folder, _ = heads
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    said = run("dataset", "crop", raw, "--to", folder)
    assert "7 crops in" in said.output and "87.5%" in said.output
    for option, former, value in (
        ("size", 96, 64),
        ("margin", 1.0, 1.5),
        ("heads", "first", "all"),
        ("detector", "auto", "whole-image"),
    ):
        other = run("dataset", "crop", raw, "--to", folder, f"--{option}", value)
        assert other.exit_code == 2 and "give the former again, or choose another folder" in other.output
        assert f"were made with {option} {former}, and now it is to be {option} {value}" in other.output
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_pictures_are_resized(raw: Path, tmp_path: Path) -> None:
    said = run("dataset", "resize", raw, "--to", tmp_path / "small", "--size", "32")
    assert "8 pictures in" in said.output
    with Image.open(tmp_path / "small/bob/street_jpg.png") as image:
        assert image.size == (32, 32)
    again = run("dataset", "resize", raw, "--to", tmp_path / "small", "--size", "24")
    assert "exists already and differs; nothing was overwritten" in again.output


def test_a_picture_is_done_when_all_its_heads_are_there(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "raw" / "three").mkdir(parents=True)
    with Image.open(examples / "solo_woman_bob.jpg") as image:
        sheet = Image.new("RGB", (image.width * 3, image.height))
        for i in range(3):
            sheet.paste(image, (image.width * i, 0))
        sheet.save(tmp_path / "raw" / "three" / "a.png")
    crops = [tmp_path / "heads" / "three" / f"a_png_{i}.png" for i in range(3)]
    crops[1].mkdir(parents=True)  # what stops the run between two crops
    stopped = run("dataset", "crop", tmp_path / "raw", "--to", tmp_path / "heads", "--heads", "all")
    assert stopped.exit_code == 1 and sum(crop.is_file() for crop in crops) == 1
    crops[1].rmdir()
    for _ in range(2):
        said = run("dataset", "crop", tmp_path / "raw", "--to", tmp_path / "heads", "--heads", "all")
        assert said.exit_code == 0 and "3 crops in" in said.output and all(crop.is_file() for crop in crops)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_settings_of_crops_that_say_nothing_are_refused(content: bytes, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "_crops.json").write_bytes(content)
    said = run("dataset", "crop", raw, "--to", tmp_path)
    assert said.exit_code == 2 and "_crops.json does not say how the crops beside it were made" in said.output


def test_near_duplicates_are_on_one_side(heads: tuple[Path, Result], tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path in heads[0].glob("[!_]*/*.png"):
        (source / path.parent.name).mkdir(parents=True, exist_ok=True)
        (source / path.parent.name / path.name).write_bytes(path.read_bytes())
    with Image.open(source / "bob" / "solo_woman_bob_jpg_0.png") as image:
        image.resize((120, 120)).save(source / "bob" / "larger.jpg")
    for seed in range(3):
        target = tmp_path / str(seed)
        said = run("dataset", "split", source, "--to", target, "--test", "0.34", "--seed", seed)
        assert said.exit_code == 0 and "2 pictures have near duplicates" in said.output
        sides = {path.name: path.parts[-3] for path in target.rglob("*.*")}
        assert len(sides) == 8 and sides["larger.jpg"] == sides["solo_woman_bob_jpg_0.png"]
        assert set(sides.values()) == {"train", "test"}


def draw(folder: Path, numbers: range) -> None:
    """Pictures of two characters, no two of them alike."""
    for k, name in enumerate(("ann", "bob")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in numbers:
            small = np.random.default_rng(1000 * k + i).integers(0, 256, (6, 7, 3), dtype=np.uint8)
            Image.fromarray(small).resize((48, 40), Image.Resampling.BICUBIC).save(folder / name / f"{i:02d}.png")


def sides_of(target: Path) -> dict[str, str]:
    """The side of each picture, which is on one alone."""
    found = sorted(path.relative_to(target) for path in target.rglob("*.*"))
    sides = {Path(*path.parts[1:]).as_posix(): path.parts[0] for path in found}
    assert len(sides) == len(found)
    return sides


@pytest.mark.skipif(os.name != "posix", reason="names that are not UTF-8")
def test_names_that_are_no_text_are_shown_escaped(tmp_path: Path) -> None:
    pytest.importorskip("skops", reason="skops is not installed: pip install 'anigender[characters]'")
    draw(tmp_path / "raw", range(4))
    (tmp_path / "raw" / "ann").rename(tmp_path / "raw" / os.fsdecode(b"ann\xff"))
    said = run("dataset", "split", tmp_path / "raw", "--to", tmp_path / "set", "--test", "0.25")
    assert said.exit_code == 0 and [r"ann\xff", "3", "1"] in [line.split() for line in said.output.splitlines()]
    options = ("--output", tmp_path / "m.skops", "--method", "bayes", "--open-set", "none")
    said = run("train", "characters", "--data", tmp_path / "raw", *options)
    assert said.exit_code == 0 and r"  ann\xff: " in said.output


def test_a_picture_stays_on_its_side(tmp_path: Path) -> None:
    raw, target = tmp_path / "raw", tmp_path / "set"
    draw(raw, range(4))
    assert run("dataset", "split", raw, "--to", target, "--test", "0.25").exit_code == 0
    first = sides_of(target)
    assert list(first.values()).count("test") == 2
    for seed in range(1, 4):
        said = run("dataset", "split", raw, "--to", target, "--seed", seed)
        assert said.exit_code == 0 and sides_of(target) == first
        assert "8 pictures stood there already" in said.output and "near duplicates" not in said.output
        assert [line.split() for line in said.output.splitlines()][1:3] == [["ann", "3", "1"], ["bob", "3", "1"]]
    draw(raw, range(12))
    for name in first:  # a near duplicate and a renamed copy of each
        with Image.open(raw / name) as image:
            image.resize((60, 50)).save((raw / name).with_suffix(".webp"), quality=90)
        (raw / name).with_suffix(".copy.png").write_bytes((raw / name).read_bytes())
    said = run("dataset", "split", raw, "--to", target, "--test", "0.3")
    second = sides_of(target)
    assert said.exit_code == 0 and len(second) == 40 and second.items() >= first.items()
    for name, side in first.items():
        assert second[name.replace(".png", ".webp")] == second[name.replace(".png", ".copy.png")] == side
    counts = [line.split() for line in said.output.splitlines()][1:3]
    assert counts == [["ann", "14", "6"], ["bob", "14", "6"]]  # those that stood there are counted, once each


@pytest.mark.parametrize("stop", [1, 5, 9, 10, 11, 19, 20])
def test_a_move_that_was_stopped_goes_on(tmp_path: Path, stop: int) -> None:
    raw, target = tmp_path / "raw", tmp_path / "set"
    draw(raw, range(6))
    for path in [*raw.rglob("0[0-3].png")][:8:2]:
        with Image.open(path) as image:
            image.resize((60, 50)).save(path.with_suffix(".webp"), quality=90)
    total = len([*raw.rglob("*.*")])
    left = stop

    def stopping(source: Path, to: Path, action: str) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        place(source, to, action)

    if stop < total:
        with pytest.raises(KeyboardInterrupt):
            split_characters(raw, target, stopping, action="move")
    for seed in (1, 2):
        said = run("dataset", "split", raw, "--to", target, "--action", "move", "--seed", seed)
        assert said.exit_code == 0, said.output
    sides = sides_of(target)
    assert len(sides) == total and not [*raw.rglob("*.*")]
    for name in sides:
        assert sides[name] == sides.get(name.replace(".png", ".webp"), sides[name])
    assert {(name[:3], side) for name, side in sides.items()} == {
        (n, s) for n in ("ann", "bob") for s in ("train", "test")
    }


def test_what_stands_on_both_sides_is_told(tmp_path: Path) -> None:
    raw, target = tmp_path / "raw", tmp_path / "set"
    draw(raw, range(4))
    run("dataset", "split", raw, "--to", target)
    name = next(name for name, side in sides_of(target).items() if side == "test")
    (target / "train" / name).write_bytes((raw / name).read_bytes())
    said = run("dataset", "split", raw, "--to", target)
    assert said.exit_code == 1 and said.output.count("failed: ") == 1
    both = f"it is both {target / 'train' / name} and {target / 'test' / name}: delete one of them"
    assert both in said.output
    (target / "train" / name).unlink()
    assert run("dataset", "split", raw, "--to", target).exit_code == 0


def test_a_side_is_divided_by_moving_alone(tmp_path: Path) -> None:
    target = tmp_path / "set"
    draw(target / "train", range(5))
    said = run("dataset", "split", target / "train", "--to", target)
    assert said.exit_code == 2 and "choose move, or another target" in said.output
    said = run("dataset", "split", target / "train", "--to", target, "--action", "move")
    assert said.exit_code == 0 and sorted(sides_of(target).values()) == ["test"] * 2 + ["train"] * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dataset", "crop", "{raw}", "--to", "{raw}/inside"), "choose a folder beside it"),
        (("dataset", "crop", "{empty}", "--to", "{out}"), "holds no folders"),
        (("dataset", "crop", "{raw}", "--to", "{out}", "--detector", "nothing"), "neither a known name"),
        (("dataset", "split", "{empty}", "--to", "{out}"), "expected a subfolder of pictures for each character"),
        (("train", "characters", "--data", "{out}/none", "--output", "{out}/m.skops"), "is no folder"),
        (("predict", "{out}/m.skops", "{raw}"), "there is no recogniser"),
        (
            ("filter", "{raw}", "-r", "--rule", 'has("bob")', "--recogniser", "{out}/x.skops", "--action", "list"),
            "no rec",
        ),
        (("filter", "{raw}", "--rule", "has(bob)", "--action", "list"), 'write has("name")'),
    ],
)
def test_wrong_usage_says_what_to_do(arguments: tuple[str, ...], message: str, raw: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    places = {"raw": raw, "empty": tmp_path / "empty", "out": tmp_path / "out"}
    said = run(*(argument.format(**places) for argument in arguments))
    assert said.exit_code == 2 and message in said.output


def test_train_predict_and_filter(heads: tuple[Path, Result], raw: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("skops")
    model = tmp_path / "mine.skops"
    said = run("train", "characters", "--data", heads[0], "--output", model, "--open-set", "none", "--method", "knn")
    assert said.exit_code == 0 and "cross validation: accuracy" in said.output and model.is_file()
    assert (tmp_path / "mine.features").is_dir()
    said = run("predict", model, heads[0] / "bob", "--crops", "--output", tmp_path / "names.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "names.jsonl").read_text().splitlines()]
    assert said.exit_code == 0 and len(rows) == 3
    assert all(face["name"] in ("bob", "stubble") for row in rows for face in row["faces"])
    run("predict", model, heads[0] / "bob", "--crops", "--sort-to", tmp_path / "sorted")
    assert len([*(tmp_path / "sorted").rglob("*.png")]) == 3
    counts = []
    for rule in ('has("bob")', 'has("stubble")', "faces == 0"):
        listed = run("filter", raw / "bob", "--recogniser", model, "--rule", rule, "--action", "list")
        counts.append(sum(line.endswith((".jpg", ".png", ".webp")) for line in listed.output.splitlines()))
    assert counts[2] == 1 and counts[0] + counts[1] == 3
    unknown = run("filter", raw / "bob", "--recogniser", model, "--rule", 'has("bbo")', "--action", "list")
    assert unknown.exit_code == 2 and "knows nobody called 'bbo'; did you mean bob?" in unknown.output
    without = run("filter", raw / "bob", "--rule", 'has("bob")', "--action", "list")
    assert without.exit_code == 2 and "the faces carry no names" in without.output


def test_pictures_are_sorted_into_no_other_folder(heads: tuple[Path, Result], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("skops")
    from anigender.characters import read_recogniser, save_recogniser

    model, pictures, target = tmp_path / "mine.skops", tmp_path / "in", tmp_path / "a" / "b" / "sorted"
    options = ("--output", model, "--open-set", "none", "--method", "knn", "--features", "hand-made")
    run("train", "characters", "--data", heads[0], *options)
    shutil.copytree(heads[0] / "bob", pictures)
    before = sorted(tmp_path.rglob("*"))
    recogniser = read_recogniser(model)
    for name in ("../../escaped/ann", str(tmp_path / "escaped")):
        recogniser.names = (name, f"{name}2")
        save_recogniser(recogniser, model)
        said = run("predict", model, pictures, "--crops", "--sort-to", target, "--action", "move")
        assert said.exit_code == 2 and "cannot be that of a folder" in said.output
        assert sorted(tmp_path.rglob("*")) == before
    recogniser.names = ("rem_(maid)", "綾波レイ")
    save_recogniser(recogniser, model)
    assert run("predict", model, pictures, "--crops", "--sort-to", target, "--action", "move").exit_code == 0
    assert len([*target.rglob("*.png")]) == 3 and not [*pictures.iterdir()]


def test_a_sheet_of_noise_has_no_one_folder(tmp_path: Path) -> None:
    (tmp_path / "Asuka").mkdir()
    (tmp_path / "asuka").mkdir()
    rng = np.random.default_rng(0)
    for name in ("Asuka", "asuka"):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / name / "0.png")
    said = run("dataset", "crop", tmp_path, "--to", tmp_path.parent / "never")
    assert said.exit_code == 2 and "are one name in two folders" in said.output
    assert not (tmp_path.parent / "never").exists()
