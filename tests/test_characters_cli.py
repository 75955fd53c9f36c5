"""Data sets of characters and recognisers from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from anigender.cli import main


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
        image.resize((image.width // 2, image.height // 2)).save(folder / "stubble" / "again.png")
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
    other = run("dataset", "crop", raw, "--to", folder, "--size", "64")
    assert other.exit_code == 1 and "exists already and differs; nothing was overwritten" in other.output
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_pictures_are_resized(raw: Path, tmp_path: Path) -> None:
    said = run("dataset", "resize", raw, "--to", tmp_path / "small", "--size", "32")
    assert "8 pictures in" in said.output
    with Image.open(tmp_path / "small/bob/street_jpg.png") as image:
        assert image.size == (32, 32)


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
    assert unknown.exit_code == 1 and "knows nobody called 'bbo'; did you mean bob?" in unknown.output
    without = run("filter", raw / "bob", "--rule", 'has("bob")', "--action", "list")
    assert without.exit_code == 1 and "the faces carry no names" in without.output


def test_a_sheet_of_noise_has_no_one_folder(tmp_path: Path) -> None:
    (tmp_path / "Asuka").mkdir()
    (tmp_path / "asuka").mkdir()
    rng = np.random.default_rng(0)
    for name in ("Asuka", "asuka"):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / name / "0.png")
    said = run("dataset", "crop", tmp_path, "--to", tmp_path.parent / "never")
    assert said.exit_code == 2 and "are one name in two folders" in said.output
    assert not (tmp_path.parent / "never").exists()
