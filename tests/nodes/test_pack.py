"""The pack as a whole: what ComfyUI reads of every node, translations, help pages, and what loading imports."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "ja", "zh", "ko")
IDS = [
    "AnigenderDetect",
    "AnigenderDetectorProvider",
    "AnigenderFacesToSegs",
    "AnigenderFilterBatch",
    "AnigenderFilterFaces",
    "AnigenderFromBoundingBoxes",
    "AnigenderHeadCrops",
    "AnigenderLoadModels",
    "AnigenderMasks",
    "AnigenderPickFace",
    "AnigenderPreview",
    "AnigenderRecognizeCharacter",
    "AnigenderSaveImages",
    "AnigenderScoreQuality",
    "AnigenderSplitSegs",
    "AnigenderTags",
]


def inputs_of(node: Any) -> dict[str, Any]:
    """All inputs that people see."""
    declared = node.INPUT_TYPES()
    return {**declared["required"], **declared.get("optional", {})}


def test_the_door_holds_the_mappings_and_nothing_else(pack) -> None:
    assert sorted(pack.NODE_CLASS_MAPPINGS) == IDS
    assert pack.NODE_CLASS_MAPPINGS.keys() == pack.NODE_DISPLAY_NAME_MAPPINGS.keys()
    assert len(set(pack.NODE_DISPLAY_NAME_MAPPINGS.values())) == len(IDS)
    assert (ROOT / pack.WEB_DIRECTORY).is_dir()
    assert sorted(pack.__all__) == ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]


@pytest.mark.parametrize("name", IDS)
def test_a_node_declares_what_the_host_reads(pack, name: str) -> None:
    node = pack.NODE_CLASS_MAPPINGS[name]
    outputs = len(node.RETURN_TYPES)
    assert len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS) == outputs
    assert len(getattr(node, "OUTPUT_IS_LIST", (False,) * outputs)) == outputs
    assert node.CATEGORY == "anigender" and node.DESCRIPTION.endswith(".") and node.SEARCH_ALIASES
    assert len(set(node.RETURN_NAMES)) == outputs
    json.dumps([node.INPUT_TYPES(), node.SEARCH_ALIASES])  # goes to the browser
    taken = inspect.signature(getattr(node, node.FUNCTION)).parameters
    for group, members in node.INPUT_TYPES().items():
        for socket, declared in members.items():
            assert socket in taken, f"{socket} is declared but not taken"
            if group != "hidden":
                assert declared[1]["tooltip"].endswith("."), socket
                assert "list" not in str(type(declared[0])) or declared[1]["default"] in declared[0]
            if group != "required":
                assert taken[socket].default is None, socket
    assert set(taken) - {"self"} == {s for members in node.INPUT_TYPES().values() for s in members}


@pytest.mark.parametrize("name", IDS)
def test_only_texts_and_links_lose_the_hosts_checks(pack, name: str) -> None:
    check = getattr(pack.NODE_CLASS_MAPPINGS[name], "VALIDATE_INPUTS", None)
    if check is not None:
        declared = inputs_of(pack.NODE_CLASS_MAPPINGS[name])
        assert all(declared[socket][0] in ("STRING", "QUALITY") for socket in inspect.signature(check).parameters)
        assert check(**dict.fromkeys(inspect.signature(check).parameters)) is True, "a linked input arrives as None"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", IDS)
def test_every_socket_is_translated(pack, name: str, language: str) -> None:
    table = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    assert sorted(table) == IDS
    node, own = pack.NODE_CLASS_MAPPINGS[name], table[name]
    assert own["display_name"] and own["description"]
    assert list(own["inputs"]) == list(inputs_of(node))
    assert list(own["outputs"]) == [str(i) for i in range(len(node.RETURN_TYPES))]
    assert all(entry["name"] and entry["tooltip"] for entry in [*own["inputs"].values(), *own["outputs"].values()])
    if language == "en":
        assert own["display_name"] == pack.NODE_DISPLAY_NAME_MAPPINGS[name]
        assert own["description"] == node.DESCRIPTION
        assert [e["tooltip"] for e in own["inputs"].values()] == [d[1]["tooltip"] for d in inputs_of(node).values()]
        assert [e["tooltip"] for e in own["outputs"].values()] == list(node.OUTPUT_TOOLTIPS)


@pytest.mark.parametrize("name", IDS)
def test_every_node_has_a_help_page_that_names_all_its_sockets(pack, name: str) -> None:
    node = pack.NODE_CLASS_MAPPINGS[name]
    page = (ROOT / pack.WEB_DIRECTORY / "docs" / f"{name}.md").read_text("utf-8")
    assert page.startswith(f"# {pack.NODE_DISPLAY_NAME_MAPPINGS[name]}\n")
    missing = [socket for socket in [*inputs_of(node), *node.RETURN_NAMES] if f"`{socket}`" not in page]
    assert not missing
    assert name in (ROOT / "docs" / "nodes.md").read_text("utf-8")


def test_loading_needs_only_what_comfyui_ships() -> None:
    program = """
import importlib.util, json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"cv2", "huggingface_hub", "click", "tqdm", "onnxruntime", "transformers"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import torch
before = set(sys.modules)
root = sys.argv[1]
spec = importlib.util.spec_from_file_location("pack", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
new = {name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
labels = module.NODE_CLASS_MAPPINGS["AnigenderDetect"]().detect(torch.zeros(1, 64, 64, 3))[2]
print(json.dumps({"imported": sorted(new), "labels": labels, "also as anigender": "anigender" in sys.modules}))
"""
    run = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    assert set(said["imported"]) <= {"PIL", "numpy", "pack", "safetensors", "torch"}
    assert said["labels"] == [""] and said["also as anigender"] is False, "the core inside the pack is the one used"
