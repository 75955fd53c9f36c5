"""What the example workflows and the help pages promise, without a host."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = json.loads((ROOT / "examples" / "drawing" / "expected.json").read_text("utf-8"))
PAIR, SIX, TRIO = "pair_woman_man.webp", "group_of_six.webp", "trio_woman_two_men.webp"


@pytest.fixture(scope="session")
def thumbnails() -> Any:
    """The script that draws the thumbnails, since it runs workflows."""
    spec = importlib.util.spec_from_file_location("thumbnails", ROOT / "examples" / "thumbnails.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(thumbnails, pack, part, monkeypatch, tmp_path) -> Any:
    """What the nodes of a workflow give out, with its own settings and the embedded models."""
    monkeypatch.setattr(part("nodes.host").tempfile, "gettempdir", lambda: str(tmp_path))
    return lambda name, **settings: thumbnails.run(name, pack.NODE_CLASS_MAPPINGS, **settings)


def genders(picture: str) -> list[str]:
    """Who is in an example picture, from left to right."""
    return [head["gender"] for head in EXPECTED[picture]]


def middles(picture: str, gender: str) -> list[tuple[int, int]]:
    """(x, y) of the heads of a gender in an example picture, from left to right."""
    boxes = [head["box"] for head in EXPECTED[picture] if head["gender"] == gender]
    return [((x1 + x2) // 2, (y1 + y2) // 2) for x1, y1, x2, y2 in boxes]


def texts() -> list[str]:
    """Every text of the example workflows and of the help pages."""
    workflows = [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "example_workflows").glob("*.json"))]
    values = [value for workflow in workflows for node in workflow["nodes"] for value in node.get("widgets_values", ())]
    pages = [path.read_text("utf-8") for path in sorted((ROOT / "web" / "docs").glob("*.md"))]
    return [*(value for value in values if isinstance(value, str)), *pages]


def test_a_detailers_prompt_for_all_ends_with_a_comma() -> None:
    lines = [line for text in texts() for line in re.findall(r"^ *\[ALL\] (.*)$", text, re.MULTILINE)]
    assert len(lines) >= 3, "the workflow, its note and a help page"
    assert [line for line in lines if not line.endswith(",")] == [], "the Impact Pack puts nothing in between"


def test_what_is_pointed_to_is_in_the_registrys_archive() -> None:
    left_out = [line[1:] for line in (ROOT / ".comfyignore").read_text("utf-8").splitlines() if line.startswith("/")]
    assert "tests/" in left_out
    said = "\n".join(texts())
    pictures = {f"examples/{name}" for name in re.findall(r"\b\w+\.(?:png|jpg|webp)\b", said)}
    pages = set(re.findall(r"\bdocs/\w+\.md\b", said))
    commands = {"anigender/train", "anigender/evaluate"}
    assert pictures and pages and "anigender train" in said
    for path in sorted(pictures | pages | commands):
        assert (ROOT / path).exists(), path
        assert not [folder for folder in left_out if f"{path}/".startswith(folder)], path


def test_what_is_to_be_installed_is_named_by_its_packages(part) -> None:
    assert [text for text in texts() if re.search(r"install \S*anigender", text)] == [], "it is in no registry"
    extras = (ROOT / "pyproject.toml").read_text("utf-8")
    (listed,) = re.findall(r"^characters = \[(.*)\]$", extras, re.MULTILINE)
    told = "python -m pip install " + " ".join(re.findall(r'"([\w-]+)', listed))
    assert told == part("anigender.characters.packages").INSTALL
    assert sum(told in text for text in texts()) == 2, "the workflow's note and the help page"


# -- promises ----------------------------------------------------------------------------------------------------------


def test_crop_all_faces_cuts_out_and_saves_everybody(run) -> None:
    out = run("crop_all_faces")
    labels = out["AnigenderHeadCrops"]["labels"]
    assert labels == genders(SIX) + genders(TRIO)
    assert out["AnigenderHeadCrops"]["crops"][0].shape == (9, 256, 256, 3)
    files = [Path(path) for path in out["AnigenderSaveImages"]["files"]]
    assert [path.with_suffix(".txt").read_text("utf-8") for path in files] == labels


def test_the_detector_gives_the_detailer_a_woman_and_a_man(run, thumbnails) -> None:
    name = "detail_women_and_men_with_impact_pack"
    (detector,) = run(name)["AnigenderDetectorProvider"]["bbox_detector"]
    workflow = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text("utf-8"))
    (detailer,) = (node["widgets_values"] for node in workflow["nodes"] if node["type"] == "FaceDetailer")
    threshold, dilation, crop_factor = detailer[13:16]
    _, segs = detector.detect(thumbnails.read(PAIR), threshold, dilation, crop_factor)
    assert [seg.label for seg in sorted(segs, key=lambda seg: seg.bbox[0])] == genders(PAIR)


def test_filter_a_batch_keeps_the_pictures_with_men(run) -> None:
    out = run("filter_a_batch")["AnigenderFilterBatch"]
    assert out["kept_indices"] == ["1, 2"] and out["rejected_count"] == [2]


def test_masks_cover_the_woman_and_the_man(run) -> None:
    out = run("masks_for_regional_inpainting")["AnigenderMasks"]
    for gender, other in (("female", "male"), ("male", "female")):
        ((x, y),) = middles(PAIR, gender)
        assert float(out[gender][0][0, y, x]) == 1 and float(out[other][0][0, y, x]) == 0


def test_the_second_woman_is_picked(run) -> None:
    out = run("pick_the_second_woman")["AnigenderPickFace"]
    (box,) = out["bounding_box"][0][0]
    x, y = middles(SIX, "female")[1]
    assert box["x"] < x < box["x"] + box["width"] and box["y"] < y < box["y"] + box["height"]
    assert out["found"] == [True] and float(out["crop"][0].std()) > 0.1


def test_the_preview_shows_who_is_in_the_picture(run, thumbnails) -> None:
    out = run("preview_who_is_in_the_picture")
    assert out["AnigenderDetect"]["labels"] == [",".join(genders(SIX))]
    assert not torch.equal(out["AnigenderPreview"]["image"][0], thumbnails.read(SIX))


def test_characters_are_named_and_covered(run, recogniser: str) -> None:
    out = run("recognize_your_characters", AnigenderRecognizeCharacter={"recogniser": recogniser})
    known = out["AnigenderRecognizeCharacter"]
    assert set(known["names"][0].split(",")) <= {"Asuka", "rei", "nobody"} and known["names"][0].count(",") == 1
    assert known["characters"] == ["Asuka", "rei"] and known["mask"][0].shape == (1, 768, 1024)
    assert known["faces"][0].count_by_image("male").tolist() == [1]


def test_a_dataset_is_tagged_and_saved(run) -> None:
    dataset = ["solo_woman_bob.jpg", "solo_man_gakuran.png", PAIR, "pair_women.jpg", TRIO]
    out = run("tag_and_save_a_dataset", dataset=dataset)
    captions = out["AnigenderTags"]["captions"]
    assert captions == [
        "1girl, solo",
        "1boy, solo, male focus",
        "1girl, 1boy",
        "2girls, multiple girls",
        "1girl, 2boys, multiple boys",
    ]
    files = [Path(path) for path in out["AnigenderSaveImages"]["files"]]
    assert [path.with_suffix(".txt").read_text("utf-8") for path in files] == captions
    assert {path.parent.name for path in files} == {"10_character"}


def test_every_workflow_that_can_be_drawn_has_a_thumbnail(thumbnails) -> None:
    drawn = {card.__name__ for card in (*thumbnails.CARDS, thumbnails.recognize_your_characters)}
    assert drawn == {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
    assert drawn == {path.stem for path in (ROOT / "example_workflows").glob("*.jpg")}
