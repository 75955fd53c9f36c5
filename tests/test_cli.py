"""The commands inside one process, on painted pictures whose people are known (see conftest.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from anigender.cli import COMMANDS, main
from anigender.cli.filter import is_there, place
from anigender.cli.inputs import Inputs, Models
from anigender.pipeline import Pipeline

PEOPLE = {"a.png": "F", "b.png": "FM", "c.png": ".", "d.png": "MM", "e.png": "f", "sub/g.png": "m"}


@pytest.fixture
def folder(tmp_path: Path, paint: Callable[[Path, str], Path]) -> Path:
    """Pictures of every mixture, one of them in a subfolder, and a text that is none of them."""
    for name, people in PEOPLE.items():
        paint(tmp_path / "in" / name, people)
    (tmp_path / "in" / "notes.txt").write_text("not a picture")
    return tmp_path / "in"


def tree(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- help and wrong usage --------------------------------------------------------------------------------------------


def test_the_commands_are_listed_in_order() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    places = [text.index(f"\n  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    for status in ("0 all good", "1 some inputs failed", "2 wrong usage"):
        assert status in " ".join(text.split())
    assert CliRunner().invoke(main, ["-h"]).stdout == text


@pytest.mark.parametrize("arguments", [*([name] for name in COMMANDS), ["train", "detector"], ["train", "gender"]])
def test_each_command_has_examples(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    if arguments != ["train"]:
        examples = [
            line for line in result.stdout.splitlines() if line.strip().startswith(f"anigender {' '.join(arguments)} ")
        ]
        assert examples
    assert "Error" not in result.output


def test_version() -> None:
    from anigender import __version__

    assert __version__ in CliRunner().invoke(main, ["--version"]).stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nonsense"], "No such command"),
        (["classify"], "PATH..."),
        (["tag", ""], "a PATH is empty; write . for the current folder"),
        (["filter", "x", "", "--rule", "solo", "--to", "y"], "a PATH is empty"),
        (["classify", "x", "--min-confidence", "0.2"], "--min-confidence"),
        (["classify", "x", "--batch", "0"], "--batch"),
        (["classify", "x", "--no-such-option"], "--no-such-option"),
        (["classify", "x", "--output", "absent/out.jsonl"], "no folder absent"),
        (["tag", "x", "--mode", "replace"], "'skip', 'overwrite', 'append', 'prepend'"),
        (["tag", "x", "--tags", "count,hair"], "choose from count, focus, gender"),
        (["tag", "x", "--tags", ","], "choose from count, focus, gender"),
        (["tag", "x", "--extension", ""], "is not an extension such as .txt"),
        (["tag", "x", "--extension", "../txt"], "is not an extension such as .txt"),
        (["tag", "x", "--extension", "PNG"], "'PNG' is an extension of pictures"),
        (
            ["filter", "x", "--rule", "true", "--to", "y", "--captions", ".png"],
            "'.png' is an extension of pictures",
        ),
        (["tag", "x", "--separator", ""], "expected one such as ', '"),
        (["predict", "x.skops", "x", "--action", "move"], "--action move needs --sort-to DIR"),
        (["predict", "x.skops", "x", "--action", "copy"], "--action copy needs --sort-to DIR"),
        (["filter", "x"], "--rule"),
        (["filter", "x", "--rule", "solo"], "--to DIR"),
        (["filter", "x", "--rule", "femal >= 1", "--to", "y"], "female"),
        (["filter", "x", "--rule", "(female", "--to", "y"], "^"),
        (["filter", "x", "--rule", "solo", "--to", "y", "--captions", "../txt"], "is not an extension such as .txt"),
        (["filter", "x", "--rule", "solo", "--to", "y", "--action", "delete"], "'copy', 'move', 'link', 'list'"),
        (
            ["filter", "x", "--rule", "solo", "--action", "list", "--to", "y", "--captions", "txt"],
            "leave out --to, --captions",
        ),
        (["filter", "x", "--rule", 'solo or has("asuka")', "--to", "y"], "the faces carry no names"),
        (["filter", "x", "y", "--rule", "solo", "--to", "./y"], "y is a PATH whose pictures are read"),
        (["filter", "x", "--rule", "solo", "--rejected", "x"], "x is a PATH whose pictures are read"),
        (["crop", "x"], "--to"),
        (["crop", "x", "--to", "z/../x"], "x is a PATH whose pictures are read"),
        (["crop", "x/male", "--to", "x", "--by-gender"], "male is a PATH whose pictures are read"),
        (["crop", "x", "--to", "y", "--size", "2"], "--size"),
        (["evaluate"], "--data"),
        (["train", "detector"], "--data"),
    ],
)
def test_wrong_usage(anigender: Callable[..., Result], arguments: list[str], part: str) -> None:
    assert part in anigender(*arguments, status=2).stderr


@pytest.mark.parametrize("option", ["--detector", "--classifier"])
def test_an_unknown_model_is_wrong_usage(tmp_path: Path, option: str) -> None:
    result = CliRunner().invoke(main, ["classify", str(tmp_path), option, "nobody"])
    assert result.exit_code == 2 and "neither a known name" in result.stderr


@pytest.mark.parametrize("detector", ["auto", "whole-image"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "{data}"],
        ["evaluate", "--data", "{data}"],
        ["dataset", "crop", "{data}", "--to", "{data}/../heads"],
        ["train", "gender", "--data", "{data}", "--output", "{data}/o.safetensors"],
        ["train", "detector", "--data", "{data}", "--output", "{data}/o.safetensors"],
        ["train", "head", "--data", "{data}", "--output", "{data}/o.safetensors"],
        ["train", "characters", "--data", "{data}", "--output", "{data}/o.skops"],
        ["train", "calibrate", "{data}/x", "--data", "{data}", "--output", "{data}/o.safetensors"],
    ],
)
def test_a_device_that_is_not_there_is_wrong_usage(tmp_path: Path, arguments: list[str], detector: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(b"")
    given = [argument.format(data=tmp_path / "data") for argument in arguments]
    own = ["--detector", detector] if "train" not in arguments else []
    result = CliRunner().invoke(main, [*given, *own, "--device", "cuda:99"])
    assert (result.exit_code, sorted(os.listdir(tmp_path))) == (2, ["data"])
    assert "device 'cuda:99' cannot be used (" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "gender", "--data", "{data}", "--classifier", "animeGender-dvgg-0.7"],
        ["train", "gender", "--data", "{data}", "--output", "{data}/o.safetensors", "--from", "animeGender-dvgg-0.7"],
        ["dataset", "crop", "{data}", "--to", "{data}-heads", "--detector", "face_detect_v1.4_n"],
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}  # read when the hub is imported
    command = [sys.executable, "-m", "anigender", *(argument.format(data=tmp_path) for argument in arguments)]
    result = subprocess.run(command, env=offline, capture_output=True, text=True, timeout=120, check=False)
    said = " ".join(result.stderr.split())
    assert result.returncode == 2 and "HF_HUB_OFFLINE is set" in said and "Traceback" not in said, result.stderr


@pytest.mark.parametrize("what", [[], ["all"], ["detector"]])
def test_a_folder_that_detectors_cannot_be_measured_by(tmp_path: Path, what: list[str]) -> None:
    result = CliRunner().invoke(main, ["evaluate", *what, "--data", str(tmp_path), "--device", "cpu"])
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2 and "holds no detection/boxes.csv" in said and "`anigender evaluate gender" in said


# -- classify --------------------------------------------------------------------------------------------------------


def test_one_line_for_each_picture(anigender: Callable[..., Result], folder: Path) -> None:
    found = lines(anigender("classify", folder))
    assert [Path(line["image"]).name for line in found] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert found[1] == {
        "image": str(folder / "b.png"),
        "width": 64,
        "height": 32,
        "faces": [
            {
                "box": [0.0, 0.0, 32.0, 32.0],
                "detection": 0.9,
                "gender": "female",
                "confidence": 0.99,
                "probabilities": {"female": 0.99, "male": 0.01},
            },
            {
                "box": [32.0, 0.0, 64.0, 32.0],
                "detection": 0.8,
                "gender": "male",
                "confidence": 0.99,
                "probabilities": {"female": 0.01, "male": 0.99},
            },
        ],
        "tags": ["1girl", "1boy"],
        "error": None,
    }
    assert (found[2]["faces"], found[2]["tags"], found[2]["error"]) == ([], [], None)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_lines_come_in_the_order_of_the_inputs(anigender: Callable[..., Result], folder: Path, batch: int) -> None:
    given = [folder / "d.png", folder / "absent.png", folder, folder / "a.png", folder / "notes.txt"]
    result = anigender("classify", *given, "--recursive", "--batch", batch, status=1)
    images = [Path(line["image"]).relative_to(folder).as_posix() for line in lines(result)]
    assert images == ["d.png", "absent.png", *PEOPLE, "a.png", "notes.txt"]
    errors = {Path(line["image"]).name: line["error"] for line in lines(result) if line["error"]}
    assert errors == {
        "absent.png": "no such file or folder",
        "notes.txt": "not a picture in any format that can be read here",
    }
    for line in lines(result):
        if line["error"]:
            assert (line["faces"], line["tags"], line["width"], line["height"]) == ([], [], None, None)
    assert f"failed: {folder / 'absent.png'}: no such file or folder" in result.stderr
    assert "2 of 10 inputs failed" in result.stderr


def test_results_in_a_file(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    expected = anigender("classify", folder).stdout
    result = anigender("classify", folder, "--output", tmp_path / "out.jsonl")
    assert result.stdout == ""
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == expected
    assert sorted(os.listdir(tmp_path)) == ["in", "out.jsonl"]


def test_unsure_faces_are_left_out(anigender: Callable[..., Result], folder: Path) -> None:
    found = lines(anigender("classify", folder, "--min-confidence", 0.9))
    assert [len(line["faces"]) for line in found] == [1, 2, 0, 2, 0]
    assert all(face["confidence"] >= 0.9 for line in found for face in line["faces"])
    assert found[4]["tags"] == []


def test_a_picture_with_an_unsure_face_is_not_counted(
    anigender: Callable[..., Result], tmp_path: Path, paint: Callable[[Path, str], Path]
) -> None:
    for people in ("Ff", "Mf", "ff", "FM"):
        paint(tmp_path / f"{people}.png", people)
    found = {Path(row["image"]).stem: row for row in lines(anigender("classify", tmp_path, "--min-confidence", 0.9))}
    assert {name: len(row["faces"]) for name, row in found.items()} == {"Ff": 1, "Mf": 1, "ff": 0, "FM": 2}
    assert {name: row["tags"] for name, row in found.items()} == {"Ff": [], "Mf": [], "ff": [], "FM": ["1girl", "1boy"]}


@pytest.mark.parametrize("name", ["a.png", "new.JPG", "d.tar", "d.tgz"])
@pytest.mark.parametrize("command", [["classify", "-o"], ["predict", "mine.skops", "-o"], ["classify", "--ray", "-o"]])
def test_no_picture_is_replaced_by_results(
    anigender: Callable[..., Result], folder: Path, command: list[str], name: str
) -> None:
    (folder / "d.tar").write_bytes(b"a shard")
    before = tree(folder)
    refused = anigender(*command, folder / name, folder / "b.png", status=2)
    assert f"{name} has the name of a picture or shard" in refused.stderr and "results.jsonl" in refused.stderr
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("command", "name", "part"),
    [
        (["classify", "-o"], "shard.parquet", "shard.parquet holds pictures, or is no table that can be read"),
        (["classify", "--ray", "-o"], "shard.PARQUET", "shard.PARQUET holds pictures"),
        (["classify", "-o"], "broken.parquet", "broken.parquet holds pictures, or is no table"),
        (["predict", "mine.skops", "-o"], "new.parquet", "new.parquet has the name of a picture or shard"),
    ],
)
def test_no_parquet_file_with_pictures_is_replaced_by_results(
    anigender: Callable[..., Result], folder: Path, command: list[str], name: str, part: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads and writes Parquet files")
    parquet = pytest.importorskip("pyarrow.parquet")
    for shard in ("shard.parquet", "shard.PARQUET"):
        parquet.write_table(pyarrow.table({"image": [(folder / "a.png").read_bytes()]}), folder / shard)
    (folder / "broken.parquet").write_bytes(b"cut off")
    before = tree(folder)
    assert part in anigender(*command, folder / name, folder / "b.png", status=2).stderr
    assert tree(folder) == before


def test_the_whole_picture_as_one_head(anigender: Callable[..., Result], folder: Path) -> None:
    found = lines(anigender("classify", folder, "--whole-image"))
    assert [line["faces"][0]["box"] for line in found] == [[0, 0, line["width"], line["height"]] for line in found]
    assert [len(line["faces"]) for line in found] == [1] * 5
    assert found[0]["tags"] == ["1girl", "solo"]


def test_boxes_are_in_pixels_after_exif_rotation(anigender: Callable[..., Result], tmp_path: Path) -> None:
    upright = np.zeros((64, 32, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright, 1)).save(tmp_path / "a.png", exif=exif)
    [line] = lines(anigender("classify", tmp_path, "--whole-image"))
    assert (line["width"], line["height"], line["faces"][0]["box"]) == (32, 64, [0, 0, 32, 64])


def test_an_empty_folder(anigender: Callable[..., Result], tmp_path: Path) -> None:
    result = anigender("classify", tmp_path)
    assert result.stdout == "" and "no pictures found" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="such names are POSIX's")
def test_odd_names(anigender: Callable[..., Result], tmp_path: Path, paint: Callable[[Path, str], Path]) -> None:
    paint(tmp_path / "two\nlines.png", "F")
    paint(tmp_path / "初音.png", "M")
    try:
        (tmp_path / os.fsdecode(b"broken\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system wants names in Unicode")
    result = anigender("classify", tmp_path, status=1)
    images = [Path(line["image"]).name for line in lines(result)]
    assert sorted(images) == ["broken\\xe9.png", "two\nlines.png", "初音.png"]
    assert "broken\\xe9.png: the file is empty" in result.stderr


# -- tag -------------------------------------------------------------------------------------------------------------


def test_tags_beside_the_pictures(anigender: Callable[..., Result], folder: Path) -> None:
    result = anigender("tag", folder)
    captions = {name: content.decode() for name, content in tree(folder).items() if name.endswith(".txt")}
    assert captions == {
        "a.txt": "1girl, solo",
        "b.txt": "1girl, 1boy",
        "d.txt": "2boys, multiple_boys, male_focus",
        "e.txt": "1girl, solo",
        "notes.txt": "not a picture",
    }
    assert f"{folder / 'd.png'}\twritten\t2boys, multiple_boys, male_focus" in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("skip", "red hair, 1girl"),
        ("overwrite", "1girl, 1boy"),
        ("append", "red hair, 1girl, 1boy"),
        ("prepend", "1girl, 1boy, red hair"),
    ],
)
def test_modes(anigender: Callable[..., Result], folder: Path, mode: str, expected: str) -> None:
    (folder / "b.txt").write_text("red hair, 1girl")
    anigender("tag", folder / "b.png", "--mode", mode)
    found = (folder / "b.txt").read_text().split(", ")
    assert sorted(found) == sorted(expected.split(", "))
    if mode != "prepend":  # where a tag that is there already stands is the captions' business
        assert found == expected.split(", ")


@pytest.mark.parametrize("mode", ["skip", "overwrite", "append", "prepend"])
def test_a_dry_run_says_the_same_and_writes_nothing(anigender: Callable[..., Result], folder: Path, mode: str) -> None:
    (folder / "b.txt").write_text("red hair")
    before = tree(folder)
    planned = anigender("tag", folder, "-r", "--mode", mode, "--dry-run").stdout
    assert tree(folder) == before
    assert "\twould be " in planned
    assert anigender("tag", folder, "-r", "--mode", mode).stdout == planned.replace("\twould be ", "\t")
    assert tree(folder) != before


def test_spelling_and_groups(anigender: Callable[..., Result], folder: Path) -> None:
    arguments = ("--tags", "count,gender", "--spaces", "--separator", "; ", "--extension", ".caption")
    anigender("tag", folder / "d.png", *arguments)
    found = (folder / "d.caption").read_text().split("; ")
    assert {"2boys", "multiple boys", "male"} == set(found)
    assert not (folder / "d.txt").exists()


def test_unsure_pictures_are_not_counted(anigender: Callable[..., Result], folder: Path) -> None:
    anigender("tag", folder, "--min-confidence", 0.9)
    assert (folder / "a.txt").read_text() == "1girl, solo"
    assert not (folder / "e.txt").exists()


def test_a_caption_that_cannot_be_read_is_one_failure(anigender: Callable[..., Result], folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xff\xfe1\0g\0")
    (folder / "broken.png").write_bytes(b"")
    result = anigender("tag", folder, "--mode", "append", status=1)
    assert (folder / "a.txt").read_bytes() == b"\xff\xfe1\0g\0"
    assert (folder / "b.txt").read_text() == "1girl, 1boy"
    assert "a.png: " in result.stderr and "not UTF-8" in result.stderr
    assert "broken.png: the file is empty" in result.stderr
    assert "2 of 6 inputs failed" in result.stderr


def test_pictures_that_share_a_caption_are_warned_of(
    anigender: Callable[..., Result], folder: Path, paint: Callable[[Path, str], Path]
) -> None:
    paint(folder / "a.webp", "M")
    result = anigender("tag", folder, "--dry-run")
    assert "warning" in result.stderr and "a.png" in result.stderr and "a.webp" in result.stderr


def test_captions_that_a_glob_gave_are_failures_of_their_own(anigender: Callable[..., Result], folder: Path) -> None:
    (folder / "a.txt").write_text("red hair")
    given = sorted(path for path in folder.iterdir() if path.is_file())
    result = anigender("tag", *given, "--mode", "prepend", status=1)
    assert (folder / "a.txt").read_text() == "1girl, solo, red hair" and (folder / "b.txt").read_text() == "1girl, 1boy"
    assert f"failed: {folder / 'a.txt'}: not a picture" in result.stderr and "2 of 7 inputs failed" in result.stderr
    assert "warning" not in result.stderr


# -- filter ----------------------------------------------------------------------------------------------------------


def test_where_pictures_are_kept_does_not_change_during_a_run(tmp_path: Path, painted: Pipeline) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "a.png").write_bytes(b"")
    inputs = Inputs((tmp_path / "a.png", tmp_path / "in"), True, 4, painted, Models())
    picture = tmp_path / "in" / "sub" / "b.png"
    assert [inputs.relative(path) for path in (tmp_path / "a.png", picture)] == [Path("a.png"), Path("sub/b.png")]
    (tmp_path / "in" / "sub").rmdir()
    (tmp_path / "in").rmdir()
    assert inputs.relative(picture) == Path("sub/b.png")


def test_copying_what_fits(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    before = tree(folder)
    result = anigender("filter", folder, "--rule", "female >= 1 and male == 0", "--to", tmp_path / "out")
    assert tree(folder) == before
    assert tree(tmp_path / "out") == {name: before[name] for name in ("a.png", "e.png")}
    assert "2 fit, 3 do not" in result.stderr
    assert result.stdout == ""


def test_folders_below_are_kept_below(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    before = tree(folder)
    anigender(
        "filter",
        folder,
        "-r",
        "--rule",
        "any-male",
        "--to",
        tmp_path / "men",
        "--rejected",
        tmp_path / "rest",
        "--action",
        "move",
    )
    assert tree(tmp_path / "men") == {name: before[name] for name in ("b.png", "d.png", "sub/g.png")}
    assert tree(tmp_path / "rest") == {name: before[name] for name in ("a.png", "c.png", "e.png")}
    assert tree(folder) == {"notes.txt": before["notes.txt"]}


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_linking(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    anigender("filter", "in", "--rule", "no-face", "--to", "out/deep", "--action", "link")
    [link] = (tmp_path / "out" / "deep").iterdir()
    assert link.is_symlink() and link.resolve() == (folder / "c.png").resolve()
    assert link.read_bytes() == (folder / "c.png").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_moved_links_lead_where_they_led(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "a.png").symlink_to(Path("..", folder.name, "a.png"))
    anigender("filter", links, "--rule", "any-female", "--to", tmp_path / "out" / "deep", "--action", "move")
    [link] = (tmp_path / "out" / "deep").iterdir()
    assert link.is_symlink() and link.resolve() == (folder / "a.png").resolve()
    assert not list(links.iterdir()) and (folder / "a.png").exists()


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
@pytest.mark.parametrize("hard_links", [True, False], ids=["", "no hard links"])
@pytest.mark.parametrize("action", ["copy", "move", "link"])
@pytest.mark.parametrize("same", [True, False])
def test_what_arrives_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, same: bool, hard_links: bool
) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out" / "a.png"
    source.write_bytes(b"mine")

    def meddling(source: Path, target: Path) -> bool:
        monkeypatch.setattr("anigender.cli.filter.is_there", is_there)
        found = is_there(source, target)
        target.write_bytes(b"mine" if same else b"another's")
        return found

    monkeypatch.setattr("anigender.cli.filter.is_there", meddling)
    if not hard_links:
        monkeypatch.setattr(os, "link", lambda *names: (tmp_path / "absent").stat())  # raises an OSError
    if same:
        place(source, target, action)
        assert source.exists() == (action != "move")
    else:
        with pytest.raises(FileExistsError, match="exists already and differs; nothing was overwritten"):
            place(source, target, action)
        assert source.read_bytes() == b"mine"
    assert target.read_bytes() == (b"mine" if same else b"another's")
    assert os.listdir(tmp_path / "out") == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
@pytest.mark.parametrize("hard_links", [True, False], ids=["", "no hard links"])
@pytest.mark.parametrize("action", ["copy", "move"])
def test_placing_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, hard_links: bool
) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out" / "a.png"
    source.write_bytes(b"mine")
    os.utime(source, (1, 1))
    if not hard_links:
        monkeypatch.setattr(os, "link", lambda *names: (tmp_path / "absent").stat())  # raises an OSError
    place(source, target, action)
    assert target.read_bytes() == b"mine" and target.stat().st_mtime == 1 and target.stat().st_nlink == 1
    assert os.listdir(tmp_path / "out") == ["a.png"] and source.exists() == (action == "copy")


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_move_that_was_killed_between_its_two_names_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    source.write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    os.link(source, tmp_path / "out" / "a.png")
    place(source, tmp_path / "out" / "a.png", "move")
    assert not source.exists() and (tmp_path / "out" / "a.png").read_bytes() == b"mine"


CAPTIONED = {"a.txt": b"1girl", "b.txt": b"1girl, 1boy", "e.TXT": b"other", "sub/g.txt": b"1boy"}


@pytest.fixture
def captioned(folder: Path) -> Path:
    for name, caption in CAPTIONED.items():
        (folder / name).write_bytes(caption)
    return folder


@pytest.mark.parametrize("action", ["copy", "move", "link"])
def test_captions_go_along(anigender: Callable[..., Result], captioned: Path, tmp_path: Path, action: str) -> None:
    if action == "link" and os.name != "posix":
        pytest.skip("links need rights elsewhere")
    before = tree(captioned)
    arguments = ("filter", captioned, "-r", "--rule", "any-male", "--to", tmp_path / "men", "--action", action)
    anigender(*arguments, "--captions", "txt")
    expected = ("b.png", "b.txt", "d.png", "sub/g.png", "sub/g.txt")
    assert tree(tmp_path / "men") == {name: before[name] for name in expected}
    left = {name: text for name, text in before.items() if name not in expected} if action == "move" else before
    assert tree(captioned) == left


def test_captions_stay_where_nobody_asks_for_them(
    anigender: Callable[..., Result], captioned: Path, tmp_path: Path
) -> None:
    anigender("filter", captioned, "--rule", "any-male", "--to", tmp_path / "men", "--action", "move")
    assert set(tree(tmp_path / "men")) == {"b.png", "d.png"} and tree(captioned)["b.txt"] == CAPTIONED["b.txt"]


def test_a_caption_of_two_pictures_reaches_both(
    anigender: Callable[..., Result], captioned: Path, tmp_path: Path, paint: Callable[[Path, str], Path]
) -> None:
    paint(captioned / "a.webp", "M")
    for rule, to in (("any-female", "women"), ("any-male", "men")):
        anigender("filter", captioned, "--rule", rule, "--to", tmp_path / to, "--action", "move", "--captions", ".txt")
    assert tree(tmp_path / "women")["a.txt"] == tree(tmp_path / "men")["a.txt"] == CAPTIONED["a.txt"]


def test_a_caption_that_is_there_already_is_reported(
    anigender: Callable[..., Result], captioned: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_bytes(b"mine")
    arguments = ("filter", captioned, "--rule", "any-female", "--to", tmp_path / "out", "--action", "move")
    result = anigender(*arguments, "--captions", ".txt", status=1)
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"mine"
    assert (captioned / "a.txt").read_bytes() == CAPTIONED["a.txt"]
    assert "a.txt exists already and differs" in result.stderr and "1 of 5 inputs failed" in result.stderr


@pytest.fixture
def two_folders(tmp_path: Path, paint: Callable[[Path, str], Path]) -> Path:
    """Two folders whose pictures have one stem, with captions of their own."""
    paint(tmp_path / "in" / "a" / "x.png", "F")
    paint(tmp_path / "in" / "b" / "x.bmp", "M")
    (tmp_path / "in" / "a" / "x.txt").write_bytes(b"1girl")
    (tmp_path / "in" / "b" / "x.txt").write_bytes(b"1boy")
    return tmp_path / "in"


@pytest.mark.parametrize("without", ["", "a/x.txt", "b/x.txt"])
@pytest.mark.parametrize("action", ["copy", "move", "link"])
def test_no_picture_gets_the_caption_of_another(
    anigender: Callable[..., Result], two_folders: Path, tmp_path: Path, action: str, without: str
) -> None:
    if action == "link" and os.name != "posix":
        pytest.skip("links need rights elsewhere")
    if without:
        (two_folders / without).unlink()
    before = tree(two_folders)
    arguments = ("filter", two_folders / "a", two_folders / "b", "--rule", "any-face", "--to", tmp_path / "out")
    for _ in range(1 if action == "move" else 2):
        result = anigender(*arguments, "--action", action, "--captions", ".txt", status=1)
        assert f"failed: {two_folders / 'b' / 'x.bmp'}: " in result.stderr and "1 of 2 inputs failed" in result.stderr
        placed = {f"a/{name}": content for name, content in tree(tmp_path / "out").items()}
        assert placed == {name: content for name, content in before.items() if name.startswith("a/")}
    left = {name: content for name, content in before.items() if name.startswith("b/")}
    assert tree(two_folders) == (left if action == "move" else before)


@pytest.mark.parametrize("arrived", [["x.txt"], ["x.txt", "x.png"]])
def test_a_killed_move_of_a_captioned_picture_goes_on(
    anigender: Callable[..., Result], two_folders: Path, tmp_path: Path, arrived: list[str]
) -> None:
    """As it is left behind when the caption has arrived, or the copy of the picture on another disk too."""
    before = tree(two_folders / "a")
    (tmp_path / "out").mkdir()
    for name in arrived:
        (tmp_path / "out" / name).write_bytes(before[name])
    arguments = ("filter", two_folders / "a", "--rule", "any-face", "--to", tmp_path / "out", "--action", "move")
    anigender(*arguments, "--captions", ".txt")
    assert tree(tmp_path / "out") == before and not tree(two_folders / "a")


def test_a_caption_does_not_stay_where_its_picture_cannot_come(
    anigender: Callable[..., Result], two_folders: Path, tmp_path: Path
) -> None:
    """The limit of a file's size stands in for the disk's."""
    resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
    before = tree(two_folders)
    arguments = ("filter", two_folders / "a", "--rule", "any-face", "--to", tmp_path / "out", "--captions", ".txt")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, former[1]))
    try:
        result = anigender(*arguments, status=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert "x.png: " in result.stderr and tree(two_folders) == before and not tree(tmp_path / "out")


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
@pytest.mark.parametrize("first", [[], ["--captions", ".txt"]])
def test_moving_after_linking_loses_no_caption(
    anigender: Callable[..., Result], two_folders: Path, tmp_path: Path, first: list[str]
) -> None:
    before = tree(two_folders / "a")
    arguments = ("filter", two_folders / "a", "--rule", "any-face", "--to", tmp_path / "out", "--action")
    anigender(*arguments, "link", *first)
    if first:
        (tmp_path / "out" / "x.png").unlink()
    for _ in range(2):
        anigender(*arguments, "move", "--captions", ".txt", status=None)
        assert tree(tmp_path / "out") == before and tree(two_folders / "a").items() <= before.items()


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_linked_caption_is_moved_as_a_link(
    anigender: Callable[..., Result], two_folders: Path, tmp_path: Path
) -> None:
    (two_folders / "a" / "x.txt").unlink()
    (two_folders / "a" / "x.txt").symlink_to("../b/x.txt")
    arguments = ("filter", two_folders / "a", "--rule", "any-face", "--to", tmp_path / "out", "--action", "move")
    anigender(*arguments, "--captions", ".txt")
    link = tmp_path / "out" / "x.txt"
    assert link.is_symlink() and link.resolve() == (two_folders / "b" / "x.txt").resolve()
    assert os.listdir(two_folders / "a") == []


@pytest.mark.parametrize("sibling", ["a.webp", "a.BMP", "a.Jpg"])
def test_a_caption_stays_with_pictures_that_are_not_of_the_run(
    anigender: Callable[..., Result], captioned: Path, tmp_path: Path, paint: Callable[[Path, str], Path], sibling: str
) -> None:
    paint(captioned / sibling, "M")
    arguments = ("--rule", "any-face", "--to", tmp_path / "out", "--action", "move", "--captions", ".txt")
    anigender("filter", captioned / "a.png", *arguments)
    assert tree(tmp_path / "out")["a.txt"] == tree(captioned)["a.txt"] == CAPTIONED["a.txt"]
    anigender("filter", captioned / sibling, *arguments)
    assert set(tree(tmp_path / "out")) == {"a.png", "a.txt", sibling} and "a.txt" not in tree(captioned)


def test_listing(anigender: Callable[..., Result], folder: Path) -> None:
    before = tree(folder)
    result = anigender("filter", folder, "-r", "--rule", "solo", "--action", "list")
    assert result.stdout.splitlines() == [str(folder / name) for name in ("a.png", "e.png", "sub/g.png")]
    assert tree(folder) == before


@pytest.mark.parametrize("action", ["copy", "move", "link"])
def test_nothing_is_ever_overwritten(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, action: str
) -> None:
    before = tree(folder)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"mine")
    result = anigender("filter", folder, "--rule", "any-female", "--to", tmp_path / "out", "--action", action, status=1)
    assert (tmp_path / "out" / "a.png").read_bytes() == b"mine"
    assert (folder / "a.png").read_bytes() == before["a.png"]
    assert tree(tmp_path / "out")["b.png"] == before["b.png"]
    assert "a.png: " in result.stderr and "nothing was overwritten" in result.stderr


@pytest.mark.parametrize("action", ["copy", "link"])
def test_doing_it_again_is_no_failure(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, action: str
) -> None:
    arguments = ("filter", folder, "--rule", "any-female", "--to", tmp_path / "out", "--action", action)
    anigender(*arguments)
    before = tree(tmp_path / "out")
    anigender(*arguments)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("action", ["copy", "move", "link"])
def test_an_output_folder_inside_the_input_folder_is_not_read(
    anigender: Callable[..., Result], folder: Path, action: str
) -> None:
    arguments = ("filter", folder, "-r", "--rule", "any-face", "--to", folder / "out", "--rejected", folder / "rest")
    anigender(*arguments, "--action", action)
    once = tree(folder)
    assert "out/a.png" in once and "rest/c.png" in once and "out/sub/g.png" in once
    anigender(*arguments, "--action", action)
    assert tree(folder) == once


def test_files_from_several_folders_with_one_name(
    anigender: Callable[..., Result], tmp_path: Path, paint: Callable[[Path, str], Path]
) -> None:
    first, second = paint(tmp_path / "1" / "x.png", "F"), paint(tmp_path / "2" / "x.png", "FF")
    result = anigender(
        "filter", first.parent, second.parent, "--rule", "any-female", "--to", tmp_path / "out", status=1
    )
    assert (tmp_path / "out" / "x.png").read_bytes() == first.read_bytes()
    assert second.exists() and "nothing was overwritten" in result.stderr


def test_unreadable_files_are_neither_kept_nor_rejected(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.png").write_bytes(b"junk")
    result = anigender(
        "filter",
        folder,
        "--rule",
        "any-face",
        "--to",
        tmp_path / "out",
        "--rejected",
        tmp_path / "rest",
        "--action",
        "move",
        status=1,
    )
    assert (folder / "broken.png").read_bytes() == b"junk"
    assert set(tree(tmp_path / "out")) | set(tree(tmp_path / "rest")) == {"a.png", "b.png", "c.png", "d.png", "e.png"}
    assert "1 of 6 inputs failed" in result.stderr


@pytest.mark.parametrize("action", ["copy", "move"])
def test_an_output_folder_around_the_input_folder(anigender: Callable[..., Result], folder: Path, action: str) -> None:
    arguments = ("filter", folder / "sub", "--rule", "any-face", "--to", folder, "--action", action)
    assert "1 fit" in anigender(*arguments).stderr
    assert "g.png" in tree(folder) and ("sub/g.png" in tree(folder)) == (action == "copy")


# -- crop ------------------------------------------------------------------------------------------------------------


def test_crops(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    result = anigender("crop", folder, "-r", "--to", tmp_path / "heads", "--size", 20)
    names = [
        "a_png_0.png",
        "b_png_0.png",
        "b_png_1.png",
        "d_png_0.png",
        "d_png_1.png",
        "e_png_0.png",
        "sub/g_png_0.png",
    ]
    assert sorted(tree(tmp_path / "heads")) == names
    assert result.stdout.splitlines() == [str(tmp_path / "heads" / name) for name in names]
    assert "7 crops" in result.stderr
    with Image.open(tmp_path / "heads" / "b_png_1.png") as image:
        assert (image.size, image.mode, image.getpixel((10, 10))) == ((20, 20), "RGB", (0, 0, 255))


def test_crops_by_gender(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    anigender("crop", folder, "-r", "--to", tmp_path / "heads", "--by-gender")
    names = ["female/a_png_0.png", "female/b_png_0.png", "female/e_png_0.png", "male/b_png_1.png"]
    assert sorted(tree(tmp_path / "heads")) == [*names, "male/d_png_0.png", "male/d_png_1.png", "male/sub/g_png_0.png"]


def test_a_margin_shows_the_neighbour(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    anigender("crop", folder / "b.png", "--to", tmp_path / "heads", "--size", 64, "--margin", 2)
    with Image.open(tmp_path / "heads" / "b_png_0.png") as image:
        assert image.getpixel((20, 32)) == (255, 0, 0) and image.getpixel((60, 32)) == (0, 0, 255)


def test_crops_are_replaced_only_when_asked(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    mine = tmp_path / "heads" / "a_png_0.png"
    mine.write_bytes(b"mine")
    result = anigender("crop", folder, "--to", tmp_path / "heads", status=1)
    assert mine.read_bytes() == b"mine" and "use --overwrite" in result.stderr
    assert (tmp_path / "heads" / "d_png_1.png").exists()
    anigender("crop", folder, "--to", tmp_path / "heads", "--overwrite")
    assert mine.read_bytes() != b"mine"


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_crops_of_two_pictures_of_one_name(
    anigender: Callable[..., Result], tmp_path: Path, paint: Callable[[Path, str], Path], options: list[str]
) -> None:
    first, second = paint(tmp_path / "1" / "x.png", "FM"), paint(tmp_path / "2" / "x.png", "MFM")
    heads = tmp_path / "heads"
    anigender("crop", first, "--to", tmp_path / "alone")
    result = anigender("crop", first.parent, second.parent, "--to", heads, *options, status=1)
    assert result.stdout.splitlines() == [str(heads / f"x_png_{i}.png") for i in range(2)]
    assert tree(heads) == tree(tmp_path / "alone")
    assert f"x_png_1.png is a crop of {first}, another picture of this run" in result.stderr
    assert "1 of 2 inputs failed" in result.stderr and "--overwrite" not in result.stderr


def test_a_picture_given_twice_is_cropped_once(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    arguments = (folder, folder / "b.png", folder, "--to", tmp_path / "heads")
    assert "6 crops" in anigender("crop", *arguments).stderr
    assert "6 crops" in anigender("crop", *arguments, "--overwrite").stderr


def test_failed_pictures_are_counted_and_not_their_crops(
    anigender: Callable[..., Result], tmp_path: Path, paint: Callable[[Path, str], Path]
) -> None:
    arguments = ("crop", paint(tmp_path / "x.png", "FFMMFF"), "--to", tmp_path / "heads")
    anigender(*arguments)
    result = anigender(*arguments, status=1)
    assert result.stderr.count("use --overwrite") == 6 and "1 of 1 inputs failed" in result.stderr


def test_crops_around_the_input_folder(anigender: Callable[..., Result], folder: Path) -> None:
    assert "1 crops" in anigender("crop", folder / "sub", "--to", folder).stderr
    assert "g_png_0.png" in tree(folder)


def test_crops_inside_the_input_folder_are_not_cropped_again(anigender: Callable[..., Result], folder: Path) -> None:
    for _ in range(2):
        anigender("crop", folder, "-r", "--to", folder / "heads", "--overwrite")
        assert len(tree(folder / "heads")) == 7


def test_pictures_that_differ_in_their_suffix_have_crops_of_their_own(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, paint: Callable[[Path, str], Path]
) -> None:
    paint(folder / "a.bmp", "M")
    anigender("crop", folder, "--to", tmp_path / "heads")
    assert {"a_png_0.png", "a_bmp_0.png"} <= set(tree(tmp_path / "heads"))


# -- show ------------------------------------------------------------------------------------------------------------


def test_the_table(anigender: Callable[..., Result], folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"")
    result = anigender("show", folder, status=1)
    rows = {row.split()[0]: row for row in result.stdout.splitlines()[1:]}
    assert list(rows) == ["a.png", "b.png", "broken.png", "c.png", "d.png", "e.png"]
    assert "female 0.99, male 0.99" in rows["b.png"] and rows["b.png"].endswith("1girl, 1boy")
    assert rows["c.png"].split()[1] == "0"
    assert "the file is empty" in rows["broken.png"]


def test_the_sheet(anigender: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    result = anigender("show", folder, "--sheet", tmp_path / "new" / "sheet.png", "--tile", 100)
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        assert image.size == (3 * 106 + 6, 2 * 106 + 6)
    assert "sheet.png" in result.stderr
    assert os.listdir(tmp_path / "new") == ["sheet.png"]


def test_a_sheet_is_replaced_and_is_no_picture_of_its_own(anigender: Callable[..., Result], folder: Path) -> None:
    first = anigender("show", folder, "--sheet", folder / "sheet.png")
    sheet = (folder / "sheet.png").read_bytes()
    (folder / "sheet.png").write_bytes(sheet[:-20])  # cut off behind its mark
    again = anigender("show", folder, folder / "sheet.png", "--sheet", folder / "sheet.png")
    assert again.stdout == first.stdout and (folder / "sheet.png").read_bytes() == sheet


@pytest.mark.parametrize("name", ["a.png", "notes.txt"])
def test_a_sheet_replaces_nothing_else(anigender: Callable[..., Result], folder: Path, name: str) -> None:
    before = tree(folder)
    refused = anigender("show", "--sheet", folder / name, folder / "b.png", status=2)
    assert f"{name} exists and is not a contact sheet" in refused.stderr and tree(folder) == before


def test_a_sheet_of_some_of_the_pictures_says_so(
    anigender: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the first" not in anigender("show", folder, "--sheet", tmp_path / "sheet.png").stderr
    monkeypatch.setattr("anigender.cli.show.MOST", 2)
    (folder / "broken.png").write_bytes(b"")
    result = anigender("show", folder, "--sheet", tmp_path / "sheet.png", status=1)
    assert "sheet.png (the first 2 of 5 pictures)" in result.stderr


def test_no_pictures_no_sheet(anigender: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    anigender("show", tmp_path / "in", "--sheet", tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
