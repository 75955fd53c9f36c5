"""Sidecars: where they are, what each mode does to an existing one, and that none is ever lost."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anigender.captions import (
    MODES,
    CaptionError,
    CaptionPlan,
    caption_path,
    plan_caption,
    read_caption,
    shared_captions,
    write_caption,
)
from anigender.tags import parse_tags

NEW = ["1girl", "solo"]


# -- where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "extension", "expected"),
    [
        ("a.png", ".txt", "a.txt"),
        ("a.png", "txt", "a.txt"),
        ("x/a.v2.PNG", ".caption", "x/a.v2.caption"),
        ("x.y/a", ".txt", "x.y/a.txt"),
        (".png", ".txt", ".png.txt"),
        ("初音 ミク.webp", ".txt", "初音 ミク.txt"),
    ],
)
def test_the_sidecar_lies_beside_the_picture(image: str, extension: str, expected: str) -> None:
    assert caption_path(image, extension) == Path(expected)


@pytest.mark.parametrize("extension", ["", ".", "/txt", "a\\b", ".PNG", "png", "\0"])
def test_extensions_that_would_do_harm(extension: str) -> None:
    with pytest.raises(ValueError, match="caption extension"):
        caption_path("a.png", extension)


def test_pictures_that_share_a_sidecar(tmp_path: Path) -> None:
    assert shared_captions(["a.png", "b.png", "x/a.png", "a.png", "./a.png"]) == {}
    shared = shared_captions(["x/a.png", "b.png", "x/a.jpg", "x/a.webp", "x/a.png"], ".cap")
    assert shared == {Path("x/a.cap"): [Path("x/a.png"), Path("x/a.jpg"), Path("x/a.webp")]}


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        (b"1girl, hat", "1girl, hat"),
        (b"\xef\xbb\xbf1girl", "1girl"),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
        ("赤い髪".encode(), "赤い髪"),
    ],
)
def test_reading(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert read_caption(path) == expected


def test_no_file_is_none(tmp_path: Path) -> None:
    assert read_caption(tmp_path / "a.txt") is None


NOT_UTF8 = [b"caf\xe9", "赤い髪".encode("shift-jis"), "1girl".encode("utf-16"), "1girl".encode("utf-16-le")]


@pytest.mark.parametrize("data", NOT_UTF8)
@pytest.mark.parametrize("mode", ["overwrite", "append", "prepend"])
def test_what_is_not_utf8_is_never_replaced(tmp_path: Path, data: bytes, mode: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(CaptionError, match="a.txt is not UTF-8"):
        write_caption(tmp_path / "a.png", NEW, mode)
    assert path.read_bytes() == data
    assert write_caption(tmp_path / "a.png", NEW, "skip") == "skipped"


# -- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("existing", "mode", "outcome", "text"),
    [
        (None, "skip", "written", "1girl, solo"),
        (None, "overwrite", "written", "1girl, solo"),
        (None, "append", "written", "1girl, solo"),
        (None, "prepend", "written", "1girl, solo"),
        ("hat", "skip", "skipped", "hat"),
        ("", "skip", "skipped", ""),
        ("hat", "overwrite", "written", "1girl, solo"),
        ("1girl, solo", "overwrite", "unchanged", "1girl, solo"),
        ("hat", "append", "written", "hat, 1girl, solo"),
        ("hat", "prepend", "written", "1girl, solo, hat"),
        ("hat,\n", "append", "written", "hat, 1girl, solo"),
        (", hat", "prepend", "written", "1girl, solo, hat"),
        ("", "append", "written", "1girl, solo"),
        ("1girl, hat", "append", "written", "1girl, hat, solo"),
        ("1girl, hat", "prepend", "written", "1girl, solo, hat"),
        ("SOLO, 1girl,hat", "append", "unchanged", "SOLO, 1girl,hat"),
        # A text whose tags stay as they stand keeps its line ends and its own spacing.
        ("hat,  red hair.\nShe smiles", "append", "written", "hat,  red hair.\nShe smiles, 1girl, solo"),
        ("hat,red hair\nsmile", "prepend", "written", "1girl, solo, hat,red hair\nsmile"),
        ("2girls, hat", "append", "written", "2girls, hat, 1girl, solo"),
    ],
)
def test_modes(tmp_path: Path, existing: str | None, mode: str, outcome: str, text: str) -> None:
    image, path = tmp_path / "a.png", tmp_path / "a.txt"
    if existing is not None:
        path.write_text(existing, encoding="utf-8")
    plan = plan_caption(image, NEW, mode)
    assert plan == CaptionPlan(path, outcome, None if outcome == "skipped" else text)
    assert read_caption(path) == existing  # planning is not writing
    assert write_caption(image, NEW, mode) == outcome
    assert read_caption(path) == text
    assert os.listdir(tmp_path) == ["a.txt"]


def test_contradicting_counts_go_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1boy, male focus, hat")
    assert plan_caption("a.png", NEW).text == "1girl, solo"
    assert plan_caption(tmp_path / "a.png", NEW, "append", replace_counts=True).text == "male focus, hat, 1girl, solo"
    assert plan_caption(tmp_path / "a.png", NEW, "prepend", replace_counts=True).text == "1girl, solo, male focus, hat"
    assert plan_caption(tmp_path / "a.png", NEW, "append").text == "1boy, male focus, hat, 1girl, solo"


def test_a_tag_that_is_there_twice_stays_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a, BREAK, b, BREAK, c")
    assert plan_caption(tmp_path / "a.png", NEW, "prepend").text == "1girl, solo, a, BREAK, b, BREAK, c"


@pytest.mark.parametrize("mode", MODES)
def test_with_nothing_to_say_no_file_is_made(tmp_path: Path, mode: str) -> None:
    assert write_caption(tmp_path / "a.png", [], mode) == "unchanged"
    assert os.listdir(tmp_path) == []


def test_nothing_to_say_overwrites_but_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hat,, hat\n")
    assert write_caption(tmp_path / "a.png", [], "append") == "unchanged"
    assert path.read_text() == "hat,, hat\n"
    assert write_caption(tmp_path / "a.png", [], "overwrite") == "written"
    assert path.read_text() == ""


def test_an_unchanged_caption_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf1girl, solo")
    os.utime(path, (1, 1))
    assert write_caption(tmp_path / "a.png", NEW, "overwrite") == "unchanged"
    assert path.stat().st_mtime == 1 and path.read_bytes().startswith(b"\xef")


@pytest.mark.parametrize("text", ["\ufeff\ufeffhat", "hat\ufeff", " \ufeff, hat"])
def test_marks_of_joined_files_are_no_tags(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text, "utf-8")
    assert write_caption(tmp_path / "a.png", ["solo"], "append") == "written"
    assert parse_tags(read_caption(tmp_path / "a.txt") or "", ", ") == ["hat", "solo"]
    assert write_caption(tmp_path / "a.png", ["solo"], "append") == "unchanged"


def test_a_tag_that_would_grow_into_another_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hat--", "utf-8")
    with pytest.raises(ValueError, match="would not be the tags of a caption with the separator '---'"):
        write_caption(tmp_path / "a.png", ["solo"], "append", "---")
    assert (tmp_path / "a.txt").read_text("utf-8") == "hat--"


def test_a_failure_leaves_the_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hat")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_caption(tmp_path / "a.png", NEW, "append")
    assert path.read_text() == "hat" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("tags", "options", "says"),
    [
        (NEW, {"mode": "replace"}, "skip, overwrite, append, prepend"),
        (NEW, {"separator": ""}, "separator"),
        (NEW, {"separator": "\ufeff,"}, "byte-order mark"),
        (["red hair"], {"mode": "append", "separator": " "}, "'red hair' would not be one tag"),
        (["a, b"], {"mode": "prepend"}, "'a, b' would not be one tag"),
        (["\ufeffhat"], {"mode": "append"}, "would not be one tag"),
        (["h\ufeffat"], {"mode": "append"}, "would not be one tag"),
    ],
)
def test_wrong_arguments(tmp_path: Path, tags: list[str], options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        write_caption(tmp_path / "a.png", tags, **options)
    assert os.listdir(tmp_path) == []


words = st.sampled_from(["1girl", "2girls", "solo", "hat", "Hat", "red_hair", "日本"]) | st.text(
    st.characters(blacklist_categories=["C", "Z"], blacklist_characters=",|"), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\ufeff"), max_size=30),
    st.lists(words, max_size=5),
    st.sampled_from(["append", "prepend"]),
    st.sampled_from([", ", ",", "\n", " ", " | "]),
    st.booleans(),
)
def test_adding_twice_is_adding_once(text: str, tags: list[str], mode: str, separator: str, replace: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image, path = Path(folder, "a.png"), Path(folder, "a.txt")
        path.write_bytes(text.encode())
        write_caption(image, tags, mode, separator, replace_counts=replace)
        once = path.read_bytes()
        assert write_caption(image, tags, mode, separator, replace_counts=replace) == "unchanged"
        assert path.read_bytes() == once


@settings(max_examples=40, deadline=None)
@given(st.lists(words, min_size=1, max_size=5))
def test_what_is_written_is_read(tags: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert write_caption(Path(folder, "a.png"), tags) == "written"
        assert read_caption(Path(folder, "a.txt")) == ", ".join(tags)
