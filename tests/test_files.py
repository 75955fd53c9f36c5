"""Files appear whole or not at all, keep their permissions, and leave nothing behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from anigender.files import atomic_file, atomic_write_bytes, atomic_write_text, is_name

POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's here")


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "初音.txt"
    atomic_write_text(path, "赤い髪\r\n")
    assert path.read_bytes() == "赤い髪\r\n".encode()
    atomic_write_bytes(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_writing_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"half")
        file.flush()
        raise error
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_renaming_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(error):
        atomic_write_text(tmp_path / "a.txt", "text")
    assert os.listdir(tmp_path) == []


def test_text_that_cannot_be_encoded_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        atomic_write_text(tmp_path / "a.txt", "\ud800")
    assert os.listdir(tmp_path) == []


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_permissions_stay(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    path.chmod(mode)
    atomic_write_text(path, "after")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@POSIX
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("x")
    atomic_write_text(tmp_path / "ours.txt", "x")
    assert (tmp_path / "ours.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@POSIX
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real.txt", tmp_path / "link.txt"
    real.write_text("before")
    link.symlink_to(real)
    atomic_write_text(link, "after")
    assert link.is_symlink() and real.read_text() == "after"


def test_a_read_only_file_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    # The superuser may write anywhere, so the answer is put in the system's mouth.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="read-only"):
        atomic_write_text(path, "after")
    assert path.read_text() == "before"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        atomic_write_text(tmp_path / "nowhere" / "a.txt", "x")


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match="ordinary file"):
        atomic_write_text(tmp_path / "a.txt", "x")
    assert os.listdir(tmp_path) == ["a.txt"]


@POSIX
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="ordinary file"):
        atomic_write_text(tmp_path / "pipe", "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_the_longest_file_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 251 + ".txt")
    atomic_write_text(path, "x")
    assert path.read_text() == "x"


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    versions = [bytes([i]) * 200_000 for i in range(2)]
    atomic_write_bytes(path, versions[0])
    done = threading.Event()

    def write() -> None:
        for i in range(40):
            atomic_write_bytes(path, versions[i % 2])
        done.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while not done.is_set():
        assert path.read_bytes() in versions
    for writer in writers:
        writer.join()
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_process_that_dies_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    # The file is loaded on its own, since the package would import torch.
    script = (
        "import runpy, sys\n"
        "atomic_file = runpy.run_path(sys.argv[1])['atomic_file']\n"
        "with atomic_file(sys.argv[2]) as file:\n"
        "    file.write(b'half')\n"
        "    raise KeyboardInterrupt\n"
    )
    source = Path(__file__).parent.parent / "anigender" / "files.py"
    ended = subprocess.run([sys.executable, "-c", script, str(source), str(path)], capture_output=True, timeout=60)
    assert ended.returncode != 0 and b"KeyboardInterrupt" in ended.stderr
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("asuka", True),
        ("rem_(re:zero)", True),
        ("綾波レイ", True),
        (".hidden", True),
        ("Inc.", True),
        ("", False),
        (".", False),
        ("..", False),
        ("...", False),
        (" ", False),
        (".. ", False),
        ("../a", False),
        ("a/b", False),
        ("a/", False),
        ("/a", False),
        ("a\0b", False),
        ("a\\b", os.name == "posix"),
        ("..\\a", os.name == "posix"),
        ("C:a", os.name == "posix"),
        ("\udce9", True),  # a byte that is not UTF-8
        pytest.param("\ud800", False, marks=pytest.mark.skipif(os.name != "posix", reason="Windows has such names")),
    ],
)
def test_what_can_be_a_name(tmp_path: Path, text: str, expected: bool) -> None:
    assert is_name(text) is expected
    if expected:  # whatever the file system makes of it, it is inside
        assert (tmp_path / text).resolve().parent == tmp_path.resolve()
