"""kill -9 at random instants, a full disk, two processes: captions and stores are whole, and the next run goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PICTURES = 60
KILLS = int(os.environ.get("ANIGENDER_KILLS", 3))  # of each command; more of them take a second or two each

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes that are killed are forked")

# Imports once and forks for each run, since importing takes far longer than the runs do. Nothing is computed before
# the fork, so that each run is like one that was started by itself. It answers (status, seconds).
FORKING = """
import importlib, json, os, resource, signal, sys, time, threading
import torch
from anigender.cli import COMMANDS, main
for name in ("tag", "classify"):
    importlib.import_module("anigender.cli." + name)
for text in sys.stdin:
    arguments, seconds, room = json.loads(text)
    start = time.monotonic()
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        sink = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(sink, 1), os.dup2(sink, 2)
        main(arguments)
    if seconds is not None:
        killer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
        killer.start()
    _, status = os.waitpid(child, 0)
    if seconds is not None:
        killer.cancel()
        killer.join()
    print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - start]), flush=True)
"""

Run = Callable[..., "tuple[int, float]"]


@pytest.fixture(scope="module")
def anigender_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A function that runs the command line in a process of its own, and kills it after some seconds."""
    log = tmp_path_factory.mktemp("runs") / "log"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=log.parent,
        env=environment,
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def run(*arguments: Any, seconds: float | None = None, room: int | None = None) -> tuple[int, float]:
            process.stdin.write(json.dumps([[str(argument) for argument in arguments], seconds, room]) + "\n")
            process.stdin.flush()
            status, took = json.loads(process.stdout.readline())
            return status, took

        run.log = log  # type: ignore[attr-defined]
        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, paint: Callable[[Path, str], Path]) -> Path:
    """Many pictures of different people; one is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(PICTURES):
        paint(folder / f"{i:03}.png", random.Random(i).choice("FMfm") * (1 + i % 3))
    (folder / "broken.png").write_bytes(b"junk")
    return folder


def records(store: Path) -> dict[str, tuple[Any, ...]]:
    """What a store holds by file name, after SQLite itself found nothing wrong with it."""
    if not store.exists() or not store.stat().st_size:
        return {}
    connection = sqlite3.connect(store)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'pictures'").fetchone()[0]:
            return {}
        rows = connection.execute("SELECT path, width, height, faces, error FROM pictures").fetchall()
    finally:
        connection.close()
    assert len({row[0] for row in rows}) == len(rows)
    return {Path(path).name: tuple(values) for path, *values in rows}


def captions(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


@pytest.mark.parametrize("command", ["tag", "classify"])
def test_killed_at_random_instants(anigender_process: Run, pictures: Path, tmp_path: Path, command: str) -> None:
    def begin(name: str) -> list[Any]:
        folder = tmp_path / name / "in"
        shutil.copytree(pictures, folder)
        arguments = [command, folder, "--detector", "whole-image", "--device", "cpu", "--batch", 4]
        arguments += ["--resume", tmp_path / name / "store"]
        return arguments + ([] if command == "tag" else ["--output", tmp_path / name / "out.jsonl"])

    def answers(name: str) -> list[dict[str, Any]]:
        lines = (tmp_path / name / "out.jsonl").read_text().splitlines() if command == "classify" else []
        return [{**json.loads(line), "image": Path(json.loads(line)["image"]).name} for line in lines]

    status, took = anigender_process(*begin("whole"))
    assert status == 1  # for the broken one
    kept, said, written = records(tmp_path / "whole" / "store"), answers("whole"), captions(tmp_path / "whole" / "in")
    assert len(kept) == PICTURES + 1 and len(written or said) >= PICTURES

    moment = random.Random(5)
    inside = 0
    for trial in range(KILLS):
        name = f"trial{trial}"
        arguments = begin(name)
        folder, store = tmp_path / name / "in", tmp_path / name / "store"
        status, _ = anigender_process(*arguments, seconds=moment.uniform(0, took))
        assert status in (-signal.SIGKILL, 1)
        partly = records(store)
        inside += 0 < len(partly) < len(kept)
        assert partly.items() <= kept.items()
        assert captions(folder).items() <= written.items()
        if (tmp_path / name / "out.jsonl").exists():  # whole or not at all
            assert answers(name) == said
        if trial % 4 == 1:  # again, and somewhere else
            anigender_process(*arguments, seconds=moment.uniform(0, took))
            assert partly.items() <= records(store).items() <= kept.items()
        status, _ = anigender_process(*arguments)
        assert status == 1
        assert records(store) == kept and answers(name) == said and captions(folder) == written
    assert inside >= KILLS // 5, "hardly any run was killed while it worked"


@pytest.mark.parametrize(
    ("full", "part"),
    [("out.jsonl", "could not be written"), ("out.parquet", "could not be written"), ("store", "cannot be used")],
)
def test_a_full_disk_is_said_and_half_writes_nothing(
    anigender_process: Run, pictures: Path, tmp_path: Path, full: str, part: str
) -> None:
    """The limit of a file's size stands in for the disk's."""
    if full == "out.parquet":
        pytest.importorskip("pyarrow", reason="the extra anigender[parquet] writes Parquet files")
    log: Path = anigender_process.log  # type: ignore[attr-defined]
    arguments = ["classify", pictures, "--detector", "whole-image", "--device", "cpu"]
    limited = ["--resume", tmp_path / "store"] if full == "store" else ["--output", tmp_path / full]
    room = 40_000 if full == "store" else 1000
    log.unlink(missing_ok=True)
    status, _ = anigender_process(*arguments, *limited, room=room)
    assert status == 1 and part in log.read_text() and "Traceback" not in log.read_text(), log.read_text()
    if full == "store":
        assert len(records(tmp_path / "store")) < PICTURES
    else:
        assert os.listdir(tmp_path) == []
    anigender_process(*arguments, *limited)
    assert len(records(tmp_path / "store")) == PICTURES + 1 if full == "store" else (tmp_path / full).exists()


def test_two_processes_on_one_folder_and_one_store(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "in")
    command = [sys.executable, "-m", "anigender", "tag", str(tmp_path / "in"), "--detector", "whole-image"]
    command += ["--device", "cpu", "--mode", "append", "--resume", str(tmp_path / "store")]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    assert all(f"1 of {PICTURES + 1} inputs failed" in error for error in errors), errors
    assert len(records(tmp_path / "store")) == PICTURES + 1
    found = captions(tmp_path / "in")
    assert len(found) == PICTURES and set(found.values()) <= {"1girl, solo", "1boy, solo, male_focus"}
    assert not list((tmp_path / "in").glob("*.tmp"))
