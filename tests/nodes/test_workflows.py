"""What the example workflows and the help pages promise, without a host."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


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
