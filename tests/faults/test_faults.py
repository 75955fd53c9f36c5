"""What a process leaves when it is killed, and what work makes of disks and files that fail under it."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from anigender.folders import find_images, process, read_image
from anigender.pipeline import Pipeline
from anigender.tags import parse_tags
from anigender.train.checkpoints import Log, load_checkpoint, save_checkpoint
from tests.faults import work
from tests.faults.killing import KINDS, OURS, complete
from tests.hub.server import running_hub, seen_from, two_files

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="processes are killed and disks mounted as POSIX does it")


@POSIX
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_a_random_instant(tmp_path: Path, kind: str) -> None:
    kill = KINDS[kind](tmp_path)(seed=1)
    assert 0 <= kill.done <= kill.total


@pytest.fixture
def run(anigender: Callable[..., Result]) -> Callable[..., Result]:
    """The command line in this process, on painted pictures, whatever its exit status."""
    return partial(anigender, status=None)


@pytest.fixture
def women(tmp_path: Path, paint: Callable[[Path, str], Path]) -> Path:
    """Twelve pictures of a woman, three with captions by hand."""
    for i in range(12):
        paint(tmp_path / "in" / f"{i:02}.png", "F")
    for i in (1, 5, 9):
        (tmp_path / "in" / f"{i:02}.txt").write_text(f"by hand {i}")
    return tmp_path / "in"


# -- disks -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A mount that is gone afterwards; skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    if os.name != "posix" or subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here: it needs root (or CAP_SYS_ADMIN)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """A file that takes all of a small disk but ``leave`` bytes."""
    free = os.statvfs(folder)
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - leave)))
    return ballast


def test_captions_on_a_full_disk(tmp_path: Path, women: Path, run: Callable[..., Result]) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=400k", "tmpfs") as disk:
        for path in women.iterdir():
            (disk / path.name).write_bytes(path.read_bytes())
        ballast = fill(disk, 3 * 4096)
        result = run("tag", disk, "--mode", "prepend")
        assert result.exit_code == 1 and "No space left on device" in result.stderr
        assert "of 12 inputs failed" in result.stderr
        written = {path.name: path.read_text() for path in disk.glob("*.txt")}
        assert 3 <= len(written) < 12 and not list(disk.glob(".*"))
        for name, text in written.items():
            hand = f"by hand {int(name[:2])}"
            allowed = {hand, f"1girl, solo, {hand}"} if int(name[:2]) in (1, 5, 9) else {"1girl, solo"}
            assert text in allowed
        ballast.unlink()
        assert run("tag", disk, "--mode", "prepend").exit_code == 0
        assert len(list(disk.glob("*.txt"))) == 12


def test_results_and_checkpoints_on_a_full_disk(tmp_path: Path, women: Path, run: Callable[..., Result]) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=400k", "tmpfs") as disk:
        (disk / "results.jsonl").write_text("from before")
        save_checkpoint(disk / "run.checkpoint.pt", {"step": 1})
        fill(disk, 0)
        before = {path.name: path.stat().st_size for path in disk.iterdir()}
        result = run("classify", women, "--output", disk / "results.jsonl")
        assert result.exit_code == 1 and "No space left on device" in result.stderr
        result = run("show", women, "--sheet", disk / "sheet.png")
        assert result.exit_code == 1 and "No space left on device" in result.stderr
        with pytest.raises((OSError, RuntimeError)):
            save_checkpoint(disk / "run.checkpoint.pt", {"step": 2, "model": torch.zeros(100_000)})
        assert {path.name: path.stat().st_size for path in disk.iterdir()} == before
        assert (disk / "results.jsonl").read_text() == "from before"
        assert load_checkpoint(disk / "run.checkpoint.pt") == {"step": 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_that_is_full(women: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "anigender", "classify", str(women), "--whole-image", "--device", "cpu"],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=300,
        )  # fmt: skip
    assert done.returncode not in (0, 2)
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, women: Path, run: Callable[..., Result]) -> None:
    before = {path.name: path.read_bytes() for path in women.iterdir()}
    with mounted(women, "--bind", str(women)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(women)], check=True)
        result = run("tag", women, "--mode", "append")
        assert result.exit_code == 1 and "12 of 12 inputs failed" in result.stderr
        assert "ead-only" in result.stderr
        assert run("classify", women).exit_code == 0  # reading is all it does
        assert run("classify", women, "--output", women / "results.jsonl").exit_code == 1
        for arguments in (["crop", "--to"], ["filter", "--rule", "any-face", "--to"]):
            result = run(arguments[0], women, *arguments[1:], women / "out")
            assert result.exit_code == 1 and "12 of 12 inputs failed" in result.stderr
        moved = run("filter", women, "--rule", "any-face", "--action", "move", "--to", tmp_path / "out")
        assert moved.exit_code == 1
    assert {path.name: path.read_bytes() for path in women.iterdir()} == before


# -- files that do not stay as they are ------------------------------------------------------------------------------


def test_files_that_vanish_and_change_while_they_are_read(
    tmp_path: Path, painted: Pipeline, paint: Callable[[Path, str], Path]
) -> None:
    for i in range(150):
        paint(tmp_path / f"{i:03}.png", "FM")
    content = (tmp_path / "000.png").read_bytes()
    rng, stop = random.Random(0), threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            path = tmp_path / f"{rng.randrange(150):03}.png"
            kind = rng.randrange(4)
            if kind == 0:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes((content, content[: rng.randrange(len(content))], b"", b"other")[kind])

    meddler = threading.Thread(target=meddle)
    found = list(find_images([tmp_path]))
    assert len(found) == 150
    meddler.start()
    try:
        results = list(process(found, painted, batch=8))
    finally:
        stop.set()
        meddler.join()
    assert [result.path for result in results] == [path for path, _ in found]
    for result in results:
        assert (result.faces is None) == (result.error is not None)
        assert result.faces is None or result.faces.gender == ["female", "male"]
    assert sum(result.error is not None for result in results) > 0


def test_a_picture_that_vanishes_before_its_caption_is_written(women: Path, run: Callable[..., Result]) -> None:
    (women / "03.png").unlink()
    (women / "03.png").symlink_to(women / "gone.png")
    result = run("tag", women)
    assert result.exit_code == 1 and "1 of 12 inputs failed" in result.stderr
    assert "03.png: no such file" in result.stderr
    assert not (women / "03.txt").exists() and (women / "04.txt").read_text() == "1girl, solo"


def test_moving_a_picture_that_has_vanished(
    women: Path, tmp_path: Path, painted: Pipeline, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    detect = painted.detector.detect

    def vanishing(batch: object) -> object:
        (women / "07.png").unlink(missing_ok=True)
        return detect(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(painted.detector, "detect", vanishing)
    result = run("filter", women, "--rule", "any-female", "--action", "move", "--to", tmp_path / "out")
    assert result.exit_code == 1 and "1 of 12 inputs failed" in result.stderr
    assert len(list((tmp_path / "out").iterdir())) == 11


# -- two at once -----------------------------------------------------------------------------------------------------


@POSIX
def test_two_processes_tag_one_folder(tmp_path: Path) -> None:
    hand = work.make_pictures(tmp_path / "one", 60)
    work.make_pictures(tmp_path / "both", 60)
    complete(work.tag, str(tmp_path / "one"))
    threads = [threading.Thread(target=complete, args=(work.tag, str(tmp_path / "both"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, both = ({path.name: path.read_text() for path in (tmp_path / n).glob("*.txt")} for n in ("one", "both"))
    assert one == both and not list((tmp_path / "both").glob(".*"))
    for name, text in hand.items():
        assert set(parse_tags(text)) <= set(parse_tags(both[name])) - OURS


def test_two_threads_write_one_checkpoint(tmp_path: Path) -> None:
    path, wrong = tmp_path / "run.checkpoint.pt", []

    def write(own: int) -> None:
        for step in range(30):
            save_checkpoint(path, {"step": step, "own": torch.full((5000,), own)})
            state = load_checkpoint(path)
            if len(state["own"].unique()) != 1:
                wrong.append(state)

    threads = [threading.Thread(target=write, args=(own,)) for own in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and os.listdir(tmp_path) == [path.name]


# -- the clock -------------------------------------------------------------------------------------------------------


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is an hour before the last one."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", earlier)
    monkeypatch.setattr(time, "time_ns", lambda: int(earlier() * 1e9))


def test_a_clock_that_goes_back(tmp_path: Path, women: Path, run: Callable[..., Result], backwards: None) -> None:
    assert run("tag", women, "--mode", "append").exit_code == 0
    assert run("tag", women, "--mode", "append").stdout.count("\tunchanged\t") == 12
    log = Log(tmp_path / "log.jsonl", resume=False)
    log.write(epoch=1)
    log.write(epoch=2)
    assert all('"seconds": -' not in line for line in (tmp_path / "log.jsonl").read_text().splitlines())
    with running_hub() as server:
        hub = seen_from(server.address, tmp_path / "home")
        from anigender.locate import get

        for path in get(two_files(), hub):
            path.unlink()
        assert [path.read_bytes() for path in get(two_files(), hub)] == list(server.files.values())


@pytest.mark.parametrize("moment", [0, 1, 2**31 + 5, 2**33, -5])
def test_files_of_any_time(tmp_path: Path, women: Path, run: Callable[..., Result], moment: int) -> None:
    for path in women.iterdir():
        os.utime(path, (moment, moment))
    assert run("tag", women, "--mode", "append").exit_code == 0
    assert run("classify", women).stdout.count('"error": null') == 12


def test_a_file_that_changes_and_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for shade in (10, 200):
        Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path)
        os.utime(path, (1000, 1000))
        assert int(read_image(path)[0, 0, 0]) == shade
