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
