"""Every example workflow, as saved and with real pictures: converted as the browser does, run, its files read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from .client import Host, Prompt, Run
from .conftest import EXAMPLES, PACK, RECOGNISER, ROOT
from .workflow import MUTED, NOTES, node_types, to_prompt

FOLDER = ROOT / "example_workflows"
WORKFLOWS = sorted(FOLDER.glob("*.json"))
DATASET = "anigender_dataset"  # the input folder that the workflows load folders of pictures from


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def has_muted_part(path: Path) -> bool:
    return any(node.get("mode") == MUTED for node in read(path)["nodes"])


each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


# -- what needs no host ------------------------------------------------------------------------------------------------


def test_there_are_enough_examples() -> None:
    assert len(WORKFLOWS) >= 6


@each_workflow
def test_a_workflow_is_whole(path: Path) -> None:
    workflow = read(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"])
    assert any(node["type"] in NOTES for node in nodes.values()), "nothing says what to do with it"
    assert any(node["type"].startswith("Anigender") for node in nodes.values())
    for number, source, slot, target, place, _ in workflow["links"]:
        assert number in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][place]["link"] == number


@each_workflow
def test_a_thumbnail_stands_beside_it(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG" and max(picture.size) == 512


@each_workflow
def test_pictures_are_the_projects_own(path: Path) -> None:
    pictures = [node["widgets_values"][0] for node in read(path)["nodes"] if node["type"] == "LoadImage"]
    assert [name for name in pictures if not (EXAMPLES / name).is_file()] == []


# -- what needs one ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(host: Host) -> str:
    """A folder of pictures in the host's input folder."""
    for picture in sorted(EXAMPLES.iterdir())[:20]:
        if picture.suffix in (".png", ".jpg", ".webp"):
            host.upload(picture, subfolder=DATASET)
    host.nodes(refresh=True)
    return DATASET


def prepared(path: Path, host: Host, awake: bool = False) -> tuple[dict[str, Any], Prompt]:
    """A workflow and its prompt, with a tiny checkpoint and a recogniser of chance in the place of real ones.

    Args:
        path: of the workflow.
        host: which must know all its nodes; the test is skipped where another pack's are missing.
        awake: take the muted nodes as if they were not.
    """
    workflow = read(path)
    missing = node_types(workflow) - set(host.nodes())
    if missing:
        assert not [name for name in missing if name.startswith("Anigender")]
        pytest.skip(f"needs another pack for {', '.join(sorted(missing))}")
    if awake:
        for node in workflow["nodes"]:
            node["mode"] = 0 if node.get("mode") == MUTED else node.get("mode", 0)
    prompt = to_prompt(workflow, host.nodes())
    for node in prompt.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node.update(class_type="HostTestTinyCheckpoint", inputs={})
        elif node["class_type"] == "AnigenderRecognizeCharacter":
            node["inputs"]["recogniser"] = RECOGNISER
        elif node["class_type"] in ("KSampler", "FaceDetailer", "DetailerForEach"):
            node["inputs"]["steps"] = 1
        if "bbox_crop_factor" in node["inputs"]:
            node["inputs"]["bbox_crop_factor"] = 1.0
        if "noise_mask_feather" in node["inputs"]:
            node["inputs"]["noise_mask_feather"] = 0  # not to fail where an old Impact Pack meets a new ComfyUI
    return workflow, prompt


def check(host: Host, run: Run) -> None:
    """The run went well, its outputs are in the history, and the files they name are pictures."""
    assert run.succeeded, run.error
    assert run.outputs
    for node, shown in run.outputs.items():
        for entry in shown.get("images", []):
            picture = host.picture(entry)
            assert min(picture.size) > 0, (node, entry)


@each_workflow
def test_a_workflow_runs(host: Host, dataset: str, recogniser: str, path: Path) -> None:
    workflow, prompt = prepared(path, host)
    start = len(host.lines())
    check(host, host.run(prompt, workflow=workflow))
    assert not [line for line in host.lines(start) if PACK in line and ("WARN" in line or "ERROR" in line)]


@pytest.mark.parametrize("path", list(filter(has_muted_part, WORKFLOWS)), ids=lambda path: path.stem)
def test_a_workflow_runs_with_its_muted_part(host: Host, dataset: str, path: Path) -> None:
    workflow, prompt = prepared(path, host, awake=True)
    check(host, host.run(prompt, workflow=workflow))


@each_workflow
def test_a_second_run_takes_everything_from_the_cache(host: Host, dataset: str, recogniser: str, path: Path) -> None:
    workflow, prompt = prepared(path, host)
    first = host.run(prompt, workflow=workflow)
    again = host.run(prompt, workflow=workflow)
    assert first.succeeded and again.succeeded
    assert set(prompt) - again.cached == set()
    assert again.outputs.keys() == first.outputs.keys()
