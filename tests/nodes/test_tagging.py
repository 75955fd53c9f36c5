"""Gender Tags and Save Images with Tags as plain Python; both take whole lists, as the host gives them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image


@pytest.mark.parametrize(
    ("inputs", "captions"),
    [
        ({}, ["1girl, 1boy", "", "2girls, multiple girls"]),
        ({"captions": ["hat"]}, ["1girl, 1boy, hat", "hat", "2girls, multiple girls, hat"]),
        (
            {"captions": ["1girl, a", "b", "c"], "position": ["last"]},
            ["1girl, a, 1boy", "b", "c, 2girls, multiple girls"],
        ),
        ({"underscores": [True], "prefix": ["me"]}, ["me, 1girl, 1boy", "me", "me, 2girls, multiple_girls"]),
        ({"count_tags": [False], "focus_tags": [False], "gender_words": [True]}, ["female, male", "", "female"]),
        ({"captions": ["2boys, a"] * 3, "replace_counts": [False]}, None),
    ],
)
def test_captions(node, found, pictures, inputs: dict, captions: list[str] | None) -> None:
    (lines,) = node("AnigenderTags").tag([found(pictures("fm", "", "ff"))], **inputs)
    assert lines == captions if captions is not None else "2boys" in lines[0]


@pytest.mark.parametrize(
    ("caption", "inputs", "line"),
    [
        ("A girl, standing.\nA second line,", {}, "A girl, standing.\nA second line,"),
        ("a, BREAK, b, BREAK", {}, "a, BREAK, b, BREAK"),
        ("mychar, hat", {"prefix": ["mychar"]}, "mychar, hat"),
        ("hat, MyChar", {"prefix": ["mychar"], "suffix": ["end"]}, "mychar, hat, end"),
    ],
)
def test_a_picture_without_a_face_keeps_its_caption(node, found, pictures, caption, inputs, line) -> None:
    assert node("AnigenderTags").tag([found(pictures(""))], captions=[caption], **inputs) == ([line],)


def test_a_second_run_changes_nothing(node, found, pictures) -> None:
    faces, inputs = found(pictures("fm", "ff")), {"prefix": ["mychar"], "suffix": ["best quality"]}
    (first,) = node("AnigenderTags").tag([faces], captions=["red  hair, hat", "solo"], **inputs)
    assert first[0] == "mychar, 1girl, 1boy, red  hair, hat, best quality"
    assert node("AnigenderTags").tag([faces], captions=first, **inputs) == (first,)


def test_faces_of_several_batches_are_one_list(node, found, pictures) -> None:
    (lines,) = node("AnigenderTags").tag([found(pictures("f")), found(pictures("m", ""))])
    assert lines == ["1girl, solo", "1boy, solo, male focus", ""]


def test_an_empty_separator_is_named(node, found, pictures) -> None:
    with pytest.raises(ValueError, match="input `separator`: the separator is empty"):
        node("AnigenderTags").tag([found(pictures("f"))], separator=[""])


def test_a_list_of_pictures_some_of_which_are_left_out_is_saved(save, node, models, pictures, tmp_path: Path) -> None:
    kept = [node("AnigenderFilterBatch").filter(pictures(letter), on_empty="empty", models=models) for letter in "fmf"]
    _, files = save([own[0] for own in kept], filename_prefix=["x"], faces=[own[10] for own in kept])
    assert files == ["x_00001.png", "x_00001.txt", "x_00002.png", "x_00002.txt"]


@pytest.mark.parametrize("batches", [["f", "", "mm"], [""]])
def test_crops_of_pictures_some_of_which_have_no_face_are_saved_with_their_labels(
    save, node, found, pictures, tmp_path: Path, batches: list[str]
) -> None:
    crop = node("AnigenderHeadCrops").crop
    images = [pictures(letters) for letters in batches]
    cut = [crop(found(image), image, 24, on_empty="empty") for image in images]
    labels = [label for own in cut for label in own[1]]  # as the host joins them
    save([own[0] for own in cut], filename_prefix=["x"], captions=labels)
    assert [path.read_text() for path in sorted(tmp_path.glob("*.txt"))] == labels
    assert len(list(tmp_path.glob("*.png"))) == len(labels) == len("".join(batches))


def test_another_number_of_captions_is_refused(node, found, pictures) -> None:
    with pytest.raises(ValueError, match="input `captions`: there are 2 captions for 3 pictures"):
        node("AnigenderTags").tag([found(pictures("f", "m", ""))], captions=["a", "b"])


@pytest.fixture
def save(node, models, monkeypatch, tmp_path, part):
    """Runs the save node in a folder of the test's own, and says which files are there."""
    monkeypatch.setattr(part("nodes.host").tempfile, "gettempdir", lambda: str(tmp_path))

    def run(image: list, **inputs):
        out = node("AnigenderSaveImages").save(image, **{"models": [models], **inputs})
        files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
        return out, files

    return run


def test_pictures_get_their_own_tags(save, pictures, tmp_path: Path) -> None:
    out, files = save([pictures("f", ""), pictures("m")])
    assert files == [
        f"anigender/image_0000{i}.{end}" for i in (1, 2, 3) for end in ("png", "txt") if (i, end) != (2, "txt")
    ]
    assert (tmp_path / "anigender/image_00001.txt").read_text() == "1girl, solo"
    assert (tmp_path / "anigender/image_00003.txt").read_text() == "1boy, solo, male focus"
    assert [entry["filename"] for entry in out["ui"]["images"]] == [Path(path).name for path in out["result"][0]]
    assert out["ui"]["images"][0]["subfolder"] == "anigender"


def test_captions_the_workflow_and_kohyas_folders(save, pictures, tmp_path: Path) -> None:
    _, files = save(
        [pictures("f", "m")],
        filename_prefix=["set/x"],
        layout=["kohya"],
        repeats=[5],
        concept=["miku"],
        captions=["one", "two"],
        prompt=[{"1": {}}],
        extra_pnginfo=[{"workflow": {"nodes": []}}],
    )
    assert files == [f"set/5_miku/x_0000{i}.{end}" for i in (1, 2) for end in ("png", "txt")]
    with Image.open(tmp_path / files[0]) as picture:
        assert {name: json.loads(text) for name, text in picture.text.items()} == {
            "prompt": {"1": {}},
            "workflow": {"nodes": []},
        }


def test_a_date_may_name_folders(save, pictures) -> None:
    _, files = save([pictures("f")], filename_prefix=["a/%date:yyyy/MM%/x"], layout=["kohya"], concept=["b"])
    assert [re.sub(r"\d{4}/\d\d/", "year/month/", name) for name in files] == [
        f"a/year/month/10_b/x_00001.{end}" for end in ("png", "txt")
    ]


def test_one_caption_serves_all_and_nothing_is_overwritten_unless_told(save, pictures, tmp_path: Path) -> None:
    save([pictures("f", "m")], filename_prefix=["x"], captions=["a"])
    _, files = save([pictures("f")], filename_prefix=["x"], captions=["b"])
    assert len(files) == 6
    assert [(tmp_path / f"x_0000{i}.txt").read_text() for i in (1, 2, 3)] == ["a", "a", "b"]
    _, files = save([pictures("f")], filename_prefix=["x"], captions=["c"], overwrite=[True])
    assert len(files) == 6 and (tmp_path / "x_00001.txt").read_text() == "c"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"captions": ["a", "b"]}, "input `captions`: there are 2 captions for 3 pictures"),
        ({"layout": ["kohya"], "concept": ["a/b"]}, "input `concept`: 'a/b'"),
        ({"faces": []}, "input `faces`: there are 0 FACES for 1 batches"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_written(save, pictures, tmp_path, inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save([pictures("f", "m", "")], **inputs)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("concept", "fine"), [(None, True), ("", True), ("miku 2", True), ("a/b", False), ("a:b", False)]
)
def test_a_folders_name_is_read_before_anything_runs(pack, concept, fine: bool) -> None:
    said = pack.NODE_CLASS_MAPPINGS["AnigenderSaveImages"].VALIDATE_INPUTS(concept)
    assert said is True if fine else "input `concept`" in said
