"""Parts of the work: disjoint, complete, stable, and about equal."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anigender.sharding import Shard

names = st.lists(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1), min_size=1)


@given(names, st.integers(1, 50))
def test_each_file_is_in_one_part(parts: list[str], count: int) -> None:
    path = Path(*parts)
    assert sum(Shard(i, count).holds(path) for i in range(1, count + 1)) == 1


@pytest.mark.parametrize(
    ("name", "count", "part"),
    [("a.png", 8, 1), ("a/b.png", 8, 4), ("a/b.png", 1000, 516), ("初音.png", 8, 3), ("shard-00001.tar", 3, 3)],
)
def test_parts_never_change(name: str, count: int, part: int) -> None:
    """Written down once: machines with other versions must agree."""
    assert [i for i in range(1, count + 1) if Shard(i, count).holds(Path(name))] == [part]


def test_parts_are_about_equal() -> None:
    sizes = [sum(Shard(i, 8).holds(Path(f"{n:06}.jpg")) for n in range(8000)) for i in range(1, 9)]
    assert sum(sizes) == 8000 and min(sizes) > 850 and max(sizes) < 1150


@pytest.mark.parametrize("text", ["0/8", "9/8", "1", "1/0", "-1/8", "1/8/2", "a/b", "", " 1/8", "1.0/2", "１/８"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(ValueError, match="PART/PARTS: expected 1/8"):
        Shard.parse(text)


@pytest.mark.skipif(os.name != "posix", reason="the plan's script is for a POSIX shell")
@pytest.mark.parametrize(
    ("mounted", "ended", "status", "answered"),
    [
        ("missing", 0, 3, False),
        ("empty", 0, 3, False),
        ("full", 0, 0, True),
        ("full", 1, 0, True),
        ("full", 2, 2, True),
    ],
)
def test_the_plans_script_marks_no_part_as_done_without_the_mount(
    tmp_path: Path, mounted: str, ended: int, status: int, answered: bool
) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
    [script] = re.findall(r"```\n(#!/bin/sh\n# part.sh\n.*?)```", text, re.DOTALL)
    for name in ("answers", "logs", "bin"):
        (tmp_path / name).mkdir()
    if mounted != "missing":
        (tmp_path / "shards").mkdir()
    if mounted == "full":
        (tmp_path / "shards" / "a.tar").write_bytes(b"")
    program = tmp_path / "bin" / "anigender"
    program.write_text(f'#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\n: > "$1"\nexit {ended}\n')
    program.chmod(0o755)
    (tmp_path / "part.sh").write_text(script.replace("/mnt", str(tmp_path)).replace("/scratch", str(tmp_path)))
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "7"}
    assert subprocess.run(["sh", tmp_path / "part.sh"], env=environment, timeout=60).returncode == status
    assert (tmp_path / "answers" / "7.parquet").exists() == answered
