"""The host takes the pack in: every node, its texts, help pages, labels and templates, and without a complaint."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .client import Host
from .conftest import EXAMPLES, PACK, ROOT

LANGUAGES = ("en", "ja", "ko", "zh")
TEMPLATES = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))


@pytest.fixture(scope="module")
def own(host: Host, pack: ModuleType) -> dict[str, dict[str, Any]]:
    """What the host says of this pack's nodes, by node id."""
    nodes = host.nodes()
    missing = set(pack.NODE_CLASS_MAPPINGS) - set(nodes)
    assert not missing, f"not registered: {sorted(missing)}\n{host.last_words()}"
    return {name: nodes[name] for name in pack.NODE_CLASS_MAPPINGS}


def test_every_node_registers_as_this_packs(own: dict[str, Any], host: Host, pack: ModuleType) -> None:
    assert len(own) >= 12
    assert {node["python_module"] for node in own.values()} == {f"custom_nodes.{PACK}"}
    assert {name for name, node in host.nodes().items() if node["python_module"] == f"custom_nodes.{PACK}"} == set(own)
    assert {name: node["display_name"] for name, node in own.items()} == pack.NODE_DISPLAY_NAME_MAPPINGS


def test_the_log_has_no_complaint_about_the_pack(own: dict[str, Any], host: Host) -> None:
    lines = host.lines()[: host.startup]
    complaint = re.compile(r"WARN|ERROR|Traceback|IMPORT FAILED|Cannot import|Unable to parse", re.IGNORECASE)
    assert not [line for line in lines if PACK in line and complaint.search(line)]
    assert not [line for line in lines if line.startswith("Traceback")], "\n".join(lines)


def test_loading_the_pack_is_quick_and_imports_nothing_heavy(host: Host) -> None:
    """In the host's interpreter, with what the host itself has loaded by then; processor time, for busy machines."""
    entry, folders = str(ROOT / "__init__.py"), [str(ROOT)]
    code = f"""
import importlib.util, sys, time
import numpy, PIL.Image, PIL.ImageDraw, PIL.ImageFont, PIL.PngImagePlugin, safetensors.torch, torch
loaded, start = set(sys.modules), time.process_time()
spec = importlib.util.spec_from_file_location("pack", {entry!r}, submodule_search_locations={folders!r})
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(time.process_time() - start, *sorted({{name.split(".")[0] for name in set(sys.modules) - loaded}}))
"""
    seconds, *modules = host.python(code).split()
    heavy = {"cv2", "huggingface_hub", "matplotlib", "onnxruntime", "scipy", "sklearn", "torchvision", "transformers"}
    assert heavy.isdisjoint(modules)
    assert float(seconds) < 0.3


def test_every_input_has_a_tooltip(own: dict[str, Any]) -> None:
    bare = [
        f"{name}.{socket}"
        for name, node in own.items()
        for group in ("required", "optional")
        for socket, (_, *options) in (node["input"].get(group) or {}).items()
        if not (options and options[0].get("tooltip", "").strip())
    ]
    assert not bare


def test_every_output_has_a_name_and_a_tooltip(own: dict[str, Any]) -> None:
    for name, node in own.items():
        outputs = len(node["output"])
        assert len(node["output_name"]) == len(node["output_is_list"]) == outputs, name
        assert len(node.get("output_tooltips") or []) == outputs, name
        assert all(text.strip() for text in node["output_tooltips"]), name
        assert len(set(node["output_name"])) == outputs, f"{name} has two outputs of one name"


def test_every_node_can_be_found_and_says_what_it_does(own: dict[str, Any]) -> None:
    for name, node in own.items():
        assert node["description"].strip(), name
        assert node["category"].split("/")[0] == PACK, name
        assert node.get("search_aliases"), name


def test_numbers_keep_their_limits_and_defaults_lie_within(own: dict[str, Any]) -> None:
    for name, node in own.items():
        for group in ("required", "optional"):
            for socket, (kind, *options) in (node["input"].get(group) or {}).items():
                given = options[0] if options else {}
                if kind in ("INT", "FLOAT") and not given.get("forceInput"):
                    assert given["min"] <= given["default"] <= given["max"], f"{name}.{socket}"
                if isinstance(kind, list):
                    assert given.get("default", kind[0]) in kind, f"{name}.{socket}"


def test_every_node_has_a_help_page(own: dict[str, Any], host: Host) -> None:
    missing = [name for name in own if not host.found(f"/extensions/{PACK}/docs/{name}.md")]
    assert not missing
    for name, node in own.items():
        text = host.request(f"/extensions/{PACK}/docs/{name}.md").decode("utf-8")
        unexplained = [s for g in ("required", "optional") for s in node["input"].get(g) or {} if s not in text]
        assert not unexplained, f"the help page of {name} does not mention {unexplained}"
        assert not [s for s in node["output_name"] if s not in text], f"the help page of {name} leaves outputs out"


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_are_served_and_fit_the_nodes(own: dict[str, Any], host: Host, language: str) -> None:
    labels = host.get("/i18n").get(language, {}).get("nodeDefs", {})
    assert set(own) <= set(labels), f"{language} lacks {sorted(set(own) - set(labels))}"
    for name, node in own.items():
        label = labels[name]
        assert label["display_name"].strip() and label["description"].strip(), name
        inputs = {s for g in ("required", "optional") for s in node["input"].get(g) or {}}
        assert set(label.get("inputs", {})) == inputs, f"{language}: the inputs of {name}"
        places = {str(i) for i in range(len(node["output"]))}
        assert set(label.get("outputs", {})) <= places, f"{language}: the outputs of {name}"


def test_templates_are_listed_and_served(host: Host) -> None:
    listed = host.get("/workflow_templates").get(PACK, [])
    # The host also takes every .json of a folder called examples for a workflow.
    assert sorted(listed) == TEMPLATES, "the host lists other templates than example_workflows/*.json"
    for name in TEMPLATES:
        assert json.loads(host.request(f"/api/workflow_templates/{PACK}/{name}.json"))["nodes"]
        assert host.request(f"/api/workflow_templates/{PACK}/{name}.jpg").startswith(b"\xff\xd8")


def test_the_packs_folder_is_not_written_to(host: Host) -> None:
    assert not (ROOT / "models").exists()
    assert Path(host.folder / "custom_nodes" / PACK).resolve() == ROOT
    assert EXAMPLES.is_dir()
