"""Shards: every picture in them, once, by a name that leads nowhere; and broken ones, which end nothing."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anigender.folders import Result, find_images, process
from anigender.packed import is_packed, is_picture_or_packed, is_plain_table, pictures_in, unpacked
from anigender.packed.limits import LARGEST_PICTURE
from anigender.packed.tar import CUT_OFF, MOST_PADDING
from anigender.pipeline import Pipeline


def png(red: int = 0, side: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), (red, 0, 0), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def named(path: Path) -> list[tuple[str, Any]]:
    """What is in a shard, by the names below it."""
    return [(str(name.relative_to(path)) if name != path else ".", known) for name, known in pictures_in(path)]


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.tar", True),
        ("A.TAR", True),
        ("a.tar.gz", True),
        ("a.tgz", True),
        ("a.parquet", True),
        ("a.gz", False),
        ("._a.tar", False),
    ],
)
def test_what_shards_are_called(name: str, packed: bool) -> None:
    assert is_packed(name) == packed == is_picture_or_packed(name)


# -- tar -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mode"), [("s.tar", "w"), ("s.tar.gz", "w:gz"), ("s.tgz", "w:gz")])
def test_pictures_of_a_webdataset(tmp_path: Path, name: str, mode: str) -> None:
    members = [
        ("0001.png", png(1)),
        ("0001.json", b"{}"),
        ("0002.JPG", b"junk"),
        ("x/0003.webp", png(3)),
        ("n.txt", b"x"),
        ("x/._0003.webp", b"what macOS keeps beside a file"),
    ]
    path = write_tar(tmp_path / name, members, mode)
    assert named(path) == [("0001.png", png(1)), ("0002.JPG", b"junk"), ("x/0003.webp", png(3))]


def test_member_names_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "victim.png").write_bytes(b"mine")
    names = ["../victim.png", "/etc/a.png", "a/../../b.png", "./c.png", "c.png", "two\nlines.png", "x" * 300 + ".png"]
    path = write_tar(tmp_path / "s.tar", [(name, png()) for name in names])
    before = sorted(os.listdir(tmp_path))
    found = dict(named(path))
    assert found["../victim.png"] == found["a/../../b.png"] == "its name leads out of the tar file"
    assert found["etc/a.png"] == png() and found["two\nlines.png"] == png() and found["x" * 300 + ".png"] == png()
    assert sorted(os.listdir(tmp_path)) == before and (tmp_path / "victim.png").read_bytes() == b"mine"


def test_a_name_that_comes_twice_is_one_picture_and_one_failure(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", png(1)), ("./a.png", png(2)), ("a.png", png(3))])
    first, *others = named(path)
    assert first == ("a.png", png(1))
    assert [("another member of this name" in known) for _, known in others] == [True, True]


def test_links_and_devices_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            entry = tarfile.TarInfo(f"{kind!r}.png")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
    assert named(tmp_path / "s.tar") == []


def header_claiming(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    entry = tarfile.TarInfo("a.png")
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b"this is no tar file" * 100, "damaged"),
        (b"\x1f\x8b" + b"junk" * 100, "damaged"),
        (header_claiming(10**15), f"at most {LARGEST_PICTURE}"),
        (header_claiming(10**12, tarfile.XHDTYPE), "damaged"),
        (header_claiming(10**12, tarfile.GNUTYPE_LONGNAME), "damaged"),
        (header_claiming(5000) + b"x" * 600, "damaged or cut off"),
    ],
)
def test_what_is_no_whole_tar(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(content)
    found = named(path)
    assert part in found[0][1] and all(isinstance(known, str) for _, known in found)


def test_a_shard_that_is_not_there_or_may_not_be_read(tmp_path: Path) -> None:
    assert named(tmp_path / "s.tar") == [(".", "no such file or directory")]
    (tmp_path / "d.tar").mkdir()
    assert named(tmp_path / "d.tar") == [(".", "not an ordinary file")]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_is_cut_off_gives_what_it_has(tmp_path: Path, mode: str) -> None:
    members = [(f"{i}.png", png(i, 16)) for i in range(20)]
    whole = write_tar(tmp_path / "s.tar", members, mode).read_bytes()
    path = tmp_path / "cut.tar"
    for length in range(1, len(whole), 97 if mode == "w:gz" else 512):
        path.write_bytes(whole[:length])
        found = named(path)
        assert found[:-1] == members[: len(found) - 1]  # all that is whole, in order
        if found != members:
            assert found[-1][0] == "." and isinstance(found[-1][1], str), length
    path.write_bytes(whole[: 5 * 1024] if mode == "w" else whole)
    assert (named(path)[-1] == (".", CUT_OFF)) == (mode == "w")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tars_that_were_put_together_are_read_to_the_end(tmp_path: Path, mode: str) -> None:
    parts = [[("a.png", png(1)), ("a.json", b"{}")], [], [("b.png", png(2)), ("a.png", png(3))]]
    written = [write_tar(tmp_path / "part", members, mode).read_bytes() for members in parts]
    path = tmp_path / "s.tar"
    path.write_bytes(b"".join(written))
    *first, last = named(path)
    assert first == [("a.png", png(1)), ("b.png", png(2))]
    assert last == ("a.png", "the tar file has another member of this name before it")


@pytest.mark.parametrize("behind", [b"junk" * 1000, b"junk"])
def test_something_else_behind_the_end_mark_is_one_failure(tmp_path: Path, behind: bytes) -> None:
    path = write_tar(tmp_path / "s.tar", [("a.png", png(1))])
    path.write_bytes(path.read_bytes() + bytes(700) + behind)
    first, (name, reason) = named(path)
    assert first == ("a.png", png(1)) and name == "." and "damaged" in reason


@pytest.mark.parametrize(("zeros", "refused"), [(MOST_PADDING // 2, False), (40 * MOST_PADDING, True)])
def test_zeros_behind_the_end_mark_are_read_up_to_a_bound(tmp_path: Path, zeros: int, refused: bool) -> None:
    path = tmp_path / "s.tar"
    plain = write_tar(path, [("a.png", png(1))]).read_bytes()
    bomb = gzip.compress(bytes(MOST_PADDING)) * (zeros // MOST_PADDING)  # gigabytes would be no larger a file
    path.write_bytes(gzip.compress(plain) + bomb + gzip.compress(bytes(zeros % MOST_PADDING)))
    first, *rest = named(path)
    assert first == ("a.png", png(1)) and len(rest) == refused
    assert all(name == "." and "zeros follow the tar file's end mark" in str(reason) for name, reason in rest)


@given(st.data())
def test_damaged_tars_never_raise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    kind = data.draw(st.sampled_from(["w", "w:gz"]))
    format = data.draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=kind, format=format) as tar:
        for i in range(3):
            entry = tarfile.TarInfo("é" * 40 + f"{i}.png")
            entry.size = 100
            tar.addfile(entry, io.BytesIO(bytes(100)))
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content), 8000) - 1))] = data.draw(st.integers(0, 255))
    (folder / "damaged.tar").write_bytes(content)
    for _, known in pictures_in(folder / "damaged.tar"):
        assert isinstance(known, (bytes, str))


def test_a_shard_is_never_held_whole(tmp_path: Path) -> None:
    content = os.urandom(500_000)
    write_tar(tmp_path / "s.tar", [(f"{i}.png", content) for i in range(60)])
    write_parquet(tmp_path / "s.parquet", {"image": [content] * 60}, row_group_size=60)
    for name in ("s.tar", "s.parquet"):
        tracemalloc.start()
        assert sum(len(known) for _, known in pictures_in(tmp_path / name) if isinstance(known, bytes)) == 30_000_000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
        tracemalloc.stop()


# -- Parquet ---------------------------------------------------------------------------------------------------------


def write_parquet(
    path: Path, columns: dict[str, list[Any]], kinds: dict[str, Any] | None = None, **options: Any
) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra anigender[parquet] reads Parquet files")
    parquet = pytest.importorskip("pyarrow.parquet")
    arrays = {name: pyarrow.array(values, (kinds or {}).get(name)) for name, values in columns.items()}
    parquet.write_table(pyarrow.table(arrays), path, **options)
    return path


def test_the_only_column_of_bytes_whatever_it_is_called(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "s.parquet", {"id": [5, 6], "jpg": [png(1), b"junk"], "text": ["a", "b"]})
    assert named(path) == [("0", png(1)), ("1", b"junk")]


@pytest.mark.parametrize("large", [False, True])
def test_structs_of_hugging_face(tmp_path: Path, large: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the extra anigender[parquet] reads Parquet files")
    (tmp_path / "secret.png").write_bytes(png(9))
    struct = pyarrow.struct({"bytes": pyarrow.large_binary() if large else pyarrow.binary(), "path": pyarrow.string()})
    values = [{"bytes": png(1), "path": "a.png"}, {"bytes": None, "path": str(tmp_path / "secret.png")}, None]
    path = write_parquet(tmp_path / "s.parquet", {"image": values, "thumbnail": [b"x"] * 3}, {"image": struct})
    assert named(path) == [("0", png(1)), ("1", "the row holds no bytes"), ("2", "the row holds no bytes")]


def test_bytes_of_other_kinds(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads Parquet files")
    contents = [png(red).ljust(80, b"\0") for red in (1, 2, 1)]
    columns = {"jpg": contents, "sha256": [bytes(32)] * 3}
    encoded = pyarrow.dictionary(pyarrow.int32(), pyarrow.binary())
    for kind in (encoded, pyarrow.large_binary(), pyarrow.binary(80)):
        path = write_parquet(tmp_path / "s.parquet", columns, {"jpg": kind, "sha256": pyarrow.binary(32)})
        assert named(path) == [(str(row), content) for row, content in enumerate(contents)]


@pytest.mark.parametrize(
    ("columns", "plain"),
    [
        ({"text": ["a"], "n": [1]}, True),
        ({"names": [["a", "b"]], "box": [{"x": 1.0}]}, True),
        ({"jpg": [b"a"]}, False),
        ({"images": [[{"bytes": b"a"}]]}, False),
        ({"image": [{"data": b"a"}]}, False),
        ({"images": [[b"a", b"b"]]}, False),
    ],
)
def test_which_tables_are_passed_over(tmp_path: Path, columns: dict[str, list[Any]], plain: bool) -> None:
    path = write_parquet(tmp_path / "s.parquet", columns)
    assert is_plain_table(path) == plain


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"text": ["a"]}, "no column of bytes (text)"),
        ({"front": [b"a"], "back": [b"b"]}, "several columns of bytes (front, back)"),
        ({"images": [[{"bytes": b"a"}]]}, "bytes within lists or other structs only (images)"),
    ],
)
def test_tables_without_a_clear_column(tmp_path: Path, columns: dict[str, list[Any]], part: str) -> None:
    [(name, reason)] = named(write_parquet(tmp_path / "s.parquet", columns))
    assert name == "." and part in reason and "called image" in reason


def test_rows_are_counted_over_row_groups_and_known_groups_are_not_read(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "s.parquet", {"image": [png(i) for i in range(40)]}, row_group_size=9)
    assert named(path) == [(str(i), png(i)) for i in range(40)]
    known = {path / str(i): Result(path / str(i)) for i in (*range(9), 12)}
    found = list(pictures_in(path, known.get))
    assert [isinstance(content, Result) for _, content in found] == [i < 9 or i == 12 for i in range(40)]
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(100) + whole[104:])  # in the first row group
    assert "damaged" in str(list(pictures_in(path))[0][1])
    assert [content for _, content in pictures_in(path, known.get)][9:12] == [png(9), png(10), png(11)]


@pytest.mark.parametrize("cut", [0, 3, 100, 1000, -5])
def test_a_parquet_file_that_is_cut_off_is_one_failure(tmp_path: Path, cut: int) -> None:
    path = write_parquet(tmp_path / "s.parquet", {"image": [png(i) for i in range(30)]})
    path.write_bytes(path.read_bytes()[:cut])
    [(name, reason)] = named(path)
    assert name == "." and "damaged" in reason


def test_without_pyarrow_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "s.parquet", {"image": [png()]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    [(_, reason)] = named(path)
    assert "python -m pip install pyarrow" in reason


# -- through the pipeline --------------------------------------------------------------------------------------------


def test_pictures_in_shards_are_judged_as_files_are(
    tmp_path: Path, painted: Pipeline, paint: Callable[[Path, str], Path]
) -> None:
    people = ["F", "FM", ".", "MM", "f", "m"]
    files = [paint(tmp_path / "in" / f"{i}.png", letters) for i, letters in enumerate(people)]
    contents = [path.read_bytes() for path in files]
    write_tar(tmp_path / "in" / "b.tar", [(path.name, path.read_bytes()) for path in files])
    write_parquet(tmp_path / "in" / "c.parquet", {"image": contents})
    (tmp_path / "in" / "a.tar.gz").write_bytes(gzip.compress((tmp_path / "in" / "b.tar").read_bytes()))
    found = find_images([tmp_path / "in"], wanted=is_picture_or_packed)
    results = list(process(unpacked(found), painted, batch=4))
    assert len(results) == 4 * len(people)
    genders = [[] if result.faces is None else result.faces.gender for result in results]
    assert all(genders[i] == genders[i % 6] for i in range(24)) and genders[1] == ["female", "male"]
    assert [result.path.relative_to(tmp_path / "in").parts[0] for result in results[6::6]] == [
        "a.tar.gz",
        "b.tar",
        "c.parquet",
    ]
