"""The command line as people run it, in processes of its own: exit status, streams, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

COMMAND = [sys.executable, "-m", "anigender"]


def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8", timeout=120, **options
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_all_good_is_status_0(tmp_path: Path, paint: Callable[[Path, str], Path]) -> None:
    paint(tmp_path / "初音.png", "F")
    done = run("classify", tmp_path, "--whole-image", "--device", "cpu", env=os.environ | {"PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0
    [line] = [json.loads(text) for text in done.stdout.splitlines()]
    assert line["image"] == str(tmp_path / "初音.png")
    assert line["faces"][0]["box"] == [0, 0, 32, 32]


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_output_is_utf_8_whatever_the_locale(
    tmp_path: Path, paint: Callable[[Path, str], Path], locale: dict[str, str]
) -> None:
    paint(tmp_path / "in" / "初音é.png", "F")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "PYTHONUTF8")}
    common = ("--whole-image", "--device", "cpu")
    done = run("classify", tmp_path / "in", *common, env=environment | locale)
    assert done.returncode == 0
    [line] = [json.loads(text) for text in done.stdout.splitlines()]
    assert Path(line["image"]).name == "初音é.png"
    done = run("tag", tmp_path / "in", "--detector", "whole-image", "--device", "cpu", env=environment | locale)
    assert done.returncode == 0 and "初音é.png\twritten\t" in done.stdout


def test_some_failed_is_status_1_and_the_rest_is_done(tmp_path: Path, paint: Callable[[Path, str], Path]) -> None:
    paint(tmp_path / "b.png", "F")
    (tmp_path / "a.png").write_bytes(b"junk")
    done = run("classify", tmp_path, tmp_path / "absent", "--whole-image", "--device", "cpu")
    assert done.returncode == 1
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert [Path(line["image"]).name for line in lines] == ["a.png", "b.png", "absent"]
    assert [bool(line["error"]) for line in lines] == [True, False, True]
    listed = [text for text in done.stderr.splitlines() if text.startswith("failed: ")]
    assert len(listed) == 2 and "2 of 3 inputs failed" in done.stderr


def test_wrong_usage_is_status_2() -> None:
    done = run("filter", "anything", "--rule", "femal >= 1", "--to", "out")
    assert done.returncode == 2
    assert done.stdout == "" and "female" in done.stderr
    assert not Path("out").exists()


def hold(folder: Path, count: int) -> Path:
    """A folder that keeps the command line busy for long, of one picture under many names."""
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)).save(folder / "00000.png")
    for i in range(1, count):
        os.link(folder / "00000.png", folder / f"{i:05}.png")
    return folder


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a signal")
def test_ctrl_c_leaves_no_half_written_file(tmp_path: Path) -> None:
    pictures = hold(tmp_path / "in", 4000)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.jsonl").write_text("from before")
    process = subprocess.Popen(
        [*COMMAND, "classify", str(pictures), "--output", str(tmp_path / "out" / "results.jsonl"), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that started the tests in the background may have told them to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and process.poll() is None:
            if any(path.suffix == ".tmp" for path in (tmp_path / "out").iterdir()):
                break
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode not in (0, 2)
    assert b"Traceback" not in errors
    assert os.listdir(tmp_path / "out") == ["results.jsonl"]
    assert (tmp_path / "out" / "results.jsonl").read_text() == "from before"
