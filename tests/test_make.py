"""The Makefile, asked what it would run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("settings", "index"), [([], []), (["TORCH_INDEX=https://a/cpu"], ["--index-url", "https://a/cpu"])]
)
def test_torch_comes_from_pips_own_index_unless_told(settings: list[str], index: list[str]) -> None:
    command = ["make", "--dry-run", "--always-make", "run", *settings]
    own = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "TORCH_INDEX")  # of a make that runs this test
    environment = {name: value for name, value in os.environ.items() if name not in own}
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    installs = [line.split() for line in told.replace("\\\n", " ").splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert installs[0][-len(index) - 1 :] == [*index, "torch"]
    assert installs[1][-2:] == ["--editable", '".[dev]"'] and "--index-url" not in installs[1]
