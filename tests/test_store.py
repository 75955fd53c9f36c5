"""The store of results: exact, whole whatever happens, shared by several processes, and never somebody else's file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anigender.faces import Faces
from anigender.folders import Result
from anigender.store import ResultStore, Stamp, StoreError, faces_of, text_of

ROOT = Path(__file__).parent.parent
STAMP = Stamp(100, 5)


def faces(count: int, size: tuple[int, int] = (50, 60)) -> Faces:
    boxes = [[i + 0.3, 1.7, i + 20.1, 33.3] for i in range(count)]
    female = torch.linspace(0.1234567, 0.9, count)
    found = Faces.from_boxes([boxes], [size], [[1 / (i + 3) for i in range(count)]])
    return found.with_probabilities(torch.stack((female, 1 - female), 1))


def same(one: Faces | None, other: Faces | None) -> bool:
    if one is None or other is None:
        return one is other
    arrays = ("boxes", "scores", "image_index", "image_sizes", "probabilities")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in arrays)


@pytest.mark.parametrize(
    ("nanoseconds", "kept"),
    [(5, 5), (-5, -5), (2**63 - 1, 2**63 - 1), (2**63, -(2**63)), (2**63 + 7, 7 - 2**63)],
)
def test_a_time_in_the_far_future_is_kept(tmp_path: Path, nanoseconds: int, kept: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    os.utime(path, ns=(0, nanoseconds))
    if path.stat().st_mtime_ns != nanoseconds:
        pytest.skip("this file system has no such times")
    stamp = Stamp.of(path.stat())
    assert stamp.modified_ns == kept
    with ResultStore(tmp_path / "store") as store:
        store.put(Result(path, (50, 60), faces(1)), stamp)
        assert store.get(path, stamp) is not None and store.get(path, Stamp(0, kept - 1 if kept > 0 else 1)) is None


number = st.floats(-1e5, 1e5, width=32)


@given(st.lists(st.tuples(*[number] * 4, *[st.floats(0, 1, width=32)] * 3), max_size=6))
def test_faces_come_back_bit_by_bit(rows: list[tuple[float, ...]]) -> None:
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
    index = torch.zeros(len(rows), dtype=torch.int64)
    kept = Faces(table[:, :4], table[:, 4], index, torch.tensor([[9, 8]]), table[:, 5:])
    assert same(faces_of(text_of(kept), (9, 8)), kept)


@pytest.mark.parametrize(
    ("later", "sha256", "known"),
    [
        (Stamp(100, 5), None, True),
        (Stamp(101, 5), None, False),
        (Stamp(100, 6), None, False),
        (Stamp(100, 4), None, False),  # a clock that went back
        (Stamp(7, 7, "abc"), "abc", True),
        (Stamp(100, 5, "abd"), "abc", False),
    ],
)
def test_what_counts_as_unchanged(tmp_path: Path, later: Stamp, sha256: str | None, known: bool) -> None:
    with ResultStore(tmp_path / "s") as store:
        store.put(Result(tmp_path / "a.png", (50, 60), faces(2)), Stamp(100, 5, sha256))
        found = store.get(tmp_path / "a.png", later)
    assert (found is not None) == known
    assert found is None or (same(found.faces, faces(2)) and found.size == (50, 60) and found.error is None)


def test_content_is_known_under_any_name(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as store:
        store.put(Result(tmp_path / "a.png", (50, 60), faces(1)), Stamp(1, 1, "abc"))
        found = store.get(tmp_path / "moved.png", Stamp(2, 2, "abc"))
        assert found is not None and found.path == tmp_path / "moved.png" and same(found.faces, faces(1))
        assert list(store.paths()) == [tmp_path / "a.png", tmp_path / "moved.png"]
        assert store.get(tmp_path / "moved.png", Stamp(2, 2)) is not None


def test_one_record_for_each_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "x/../a.png", os.fsdecode(b"broken\xe9.png"), "初音\n.png", "nul\0.png"]
    with ResultStore("s") as store:
        for name in [*names, *names]:
            store.put(Result(Path(name), (50, 60), faces(0)), STAMP)
        assert len(store) == 4 and all(store.get(Path(name), STAMP) is not None for name in names)
        assert store.get(tmp_path / "a.png", STAMP) is not None
        assert set(store.paths()) == {tmp_path / name for name in names if ".." not in name}
        store.forget(Path("a.png"))
        assert len(store) == 3 and store.get(Path("a.png"), STAMP) is None


def test_failures_are_kept_for_people_and_tried_again(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as store:
        store.put(Result(tmp_path / "a.png", error="truncated"), STAMP)
        assert store.get(tmp_path / "a.png", STAMP) is None
        assert (len(store), store.failures()) == (1, 1)
        store.put(Result(tmp_path / "a.png", (50, 60), faces(1)), STAMP)
        assert (len(store), store.failures()) == (1, 0)


def test_many_paths_are_read_in_portions_while_they_are_deleted(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as store:
        for i in range(2500):
            store.put(Result(tmp_path / f"{i:05}.png", (5, 5), faces(0, (5, 5))), STAMP)
        seen = []
        for path in store.paths():
            seen.append(path.name)
            store.forget(path)
        assert seen == [f"{i:05}.png" for i in range(2500)] and len(store) == 0


def test_other_settings_are_refused(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s", {"detector": "a", "limit": "0.4"}) as store:
        store.put(Result(tmp_path / "a.png", (50, 60), faces(1)), STAMP)
    with ResultStore(tmp_path / "s", {"detector": "a", "limit": "0.4"}) as store:
        assert len(store) == 1
    with pytest.raises(StoreError, match=r"limit was 0\.4, is 0\.5; size was not set, is 3") as caught:
        ResultStore(tmp_path / "s", {"detector": "a", "limit": "0.5", "size": "3"})
    assert "detector" not in str(caught.value)
    with ResultStore(tmp_path / "s") as store:  # who only looks need not know them
        assert len(store) == 1


def other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()


def from_the_future(path: Path) -> None:
    ResultStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def damaged(path: Path) -> None:
    with ResultStore(path) as store:
        for i in range(300):
            store.put(Result(Path(f"/{i}.png"), (50, 60), faces(3)), STAMP)
    content = bytearray(path.read_bytes())
    content[100:] = bytes(i % 251 for i in range(len(content) - 100))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: path.write_text("a caption, and no store"), "another file"),
        (lambda path: path.write_bytes(b"SQLite"), "another file"),
        (other_database, "another program"),
        (from_the_future, "format 99"),
        (damaged, "damaged: move it away"),
        (lambda path: path.mkdir(), "ordinary file"),
    ],
)
def test_other_files_are_left_as_they_are(tmp_path: Path, make: object, part: str) -> None:
    path = tmp_path / "s"
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=part):
        store = ResultStore(path, {"a": "b"})
        store.get(Path("/1.png"), STAMP)
    assert before == (path.read_bytes() if path.is_file() else None)


def test_no_folder_for_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"):
        ResultStore(tmp_path / "absent" / "s")


def test_an_empty_file_is_a_store_that_was_killed_at_birth(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    with ResultStore(tmp_path / "s", {"a": "b"}) as store:
        assert len(store) == 0


def test_a_full_disk_is_said_and_leaves_a_whole_store(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as store:
        for i in range(50):
            store.put(Result(Path(f"/{i}.png"), (50, 60), faces(9)), STAMP)
        store._connection.execute("PRAGMA max_page_count = 1")  # SQLite's own way to run out of room
        with pytest.raises(StoreError, match="full; make room"):
            for i in range(50, 5000):
                store.put(Result(Path(f"/{i}.png"), (50, 60), faces(9)), STAMP)
        kept = len(store)
    with ResultStore(tmp_path / "s") as store:
        assert len(store) == kept >= 50
        assert all(same(getattr(store.get(path, STAMP), "faces", None), faces(9)) for path in store.paths())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="can be written to"):
            ResultStore(tmp_path / "s")
    finally:
        tmp_path.chmod(0o700)


PUT_MANY = """
import sys
from pathlib import Path
from anigender.faces import Faces
from anigender.folders import Result
from anigender.store import ResultStore, Stamp
with ResultStore(sys.argv[1], {"a": "b"}) as store:
    for i in range(400):
        for folder in (sys.argv[2], "shared"):
            store.put(Result(Path(f"/{folder}/{i}.png"), (50, 60), Faces.empty([(50, 60)])), Stamp(1, 1))
"""


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PUT_MANY, str(tmp_path / "s")]
    processes = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("a", "b")]
    assert [process.wait(100) for process in processes] == [0, 0]
    with ResultStore(tmp_path / "s") as store:
        assert len(store) == 1200


def test_a_store_that_several_make_at_the_same_instant(tmp_path: Path) -> None:
    """SQLite does not wait by itself when two change to a write-ahead log at once."""

    def make(number: int) -> None:
        for attempt in range(40):
            start.wait(60)
            with ResultStore(tmp_path / f"{attempt}", {"a": "b"}) as store:
                store.put(Result(Path(f"/{number}.png"), (50, 60), faces(1)), STAMP)

    start = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(4)))
    for attempt in range(40):
        with ResultStore(tmp_path / f"{attempt}") as store:
            assert len(store) == 4


def test_a_store_that_stays_locked_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anigender.store.PATIENCE", 0.2)
    with ResultStore(tmp_path / "s") as store:
        other = sqlite3.connect(tmp_path / "s", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(StoreError, match="another process"):
            store.put(Result(Path("/a.png"), (50, 60), faces(1)), STAMP)
        assert time.monotonic() - start < 20
        other.execute("ROLLBACK")
        other.close()
        store.put(Result(Path("/a.png"), (50, 60), faces(1)), STAMP)
        assert len(store) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with ResultStore(tmp_path / "s") as store:
        found = faces(2)
        for i in range(6000):
            store.put(Result(Path(f"/{i}.png"), (50, 60), found), STAMP)
            if i == 2000:
                before = resident()
        assert resident() - before < 6_000_000
