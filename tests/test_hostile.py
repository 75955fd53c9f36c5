"""What a data set from a stranger may hold: names, links, texts and pictures made to do harm."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import struct
import subprocess
import tarfile
import time
import zlib
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import EpsImagePlugin, Image

from anigender.captions import CaptionError, read_caption, write_caption
from anigender.characters.preparing import write_crop
from anigender.datasets.duplicates import refuse_contradictions
from anigender.datasets.labelled import COLUMNS, SQUARE, read_known_boxes, read_pictures, read_teacher
from anigender.datasets.own_pictures import read_own
from anigender.datasets.picture import Picture, open_picture, read_rgba
from anigender.datasets.unlabelled import read_faces
from anigender.detect.cascade_file import parse, read_cascade
from anigender.evaluate.detector import cascade_recall
from anigender.evaluate.html_report import html_report, plot, table
from anigender.folders import MAX_PIXELS, NOT_READ, ImageError, find_images, picture_size, read_frames, read_image
from anigender.folders import Result as Found
from anigender.png import png_bytes
from anigender.records import line, record

POSIX = pytest.mark.skipif(os.name != "posix", reason="links and such names are POSIX's")
# What a terminal, a reader of lines, or a browser would take for more than a name.
NAMES = (
    "two\nlines", "carriage\rreturn", "tab\there", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "bell\x07", "back\x08\x08",
    "\x9b31m", "next\x85line", "line\u2028end", "right\u202etoleft", "<img src=x onerror=alert(1)>", "a&amp;b",
    '"quoted", with comma', "'; rm -rf x", "=1+1", "--help", " spaces ", "🎀初音", "\udcff\udcfe",
)  # fmt: skip


@pytest.fixture
def run(anigender: Callable[..., Result]) -> Callable[..., Result]:
    """The command line in this process, on painted pictures, whatever its exit status."""
    return partial(anigender, status=None)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def named(tmp_path: Path, paint: Callable[[Path, str], Path]) -> Path:
    """One good and one broken picture under every name."""
    (tmp_path / "in").mkdir()
    for i, name in enumerate(NAMES):
        try:
            paint(tmp_path / "in" / f"{i:02}{name.replace('/', '')}.png", "F")
            (tmp_path / "in" / f"{i:02}{name.replace('/', '')}.jpg").write_bytes(b"junk")
        except (OSError, ValueError):
            pytest.skip(f"this file system has no names such as {name!r}")
    return tmp_path / "in"


def harmless(text: str) -> bool:
    """Whether every line of it is only characters that can be seen, and tabs between columns."""
    return all(part.isprintable() for row in text.split("\n") for part in row.split("\t"))


@POSIX
@pytest.mark.parametrize("command", ["tag", "classify", "show", "crop", "filter", "list"])
def test_what_is_said_of_odd_names_is_seen_and_on_one_line(
    named: Path, tmp_path: Path, run: Callable[..., Result], command: str
) -> None:
    arguments = {
        "crop": ["crop", named, "--to", tmp_path / "out"],
        "filter": ["filter", named, "--rule", "solo", "--to", tmp_path / "out"],
        "list": ["filter", named, "--rule", "solo", "--action", "list"],
        "tag": ["tag", named, "--extension", "caption"],
    }.get(command, [command, named])
    result = run(*arguments)
    assert result.exit_code == 1
    assert harmless(result.stdout) and harmless(result.stderr)
    failures = [row for row in result.stderr.split("\n") if row.startswith("failed: ")]
    assert len(failures) == len(NAMES) and f"{len(NAMES)} of {2 * len(NAMES)} inputs failed" in result.stderr
    if command == "tag":
        assert len(list(named.glob("*.caption"))) == len(NAMES)
        assert result.stdout.count("\twritten\t1girl, solo\n") == len(NAMES)


@POSIX
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("初音\u3000ミク", True), ("thin\u2009space", True), ("no\xa0break", True), ("می\u200cخواهم", True),
        ("👩\u200d👧", True), ("e\u0301", True), ("right\u202etoleft", False), ("soft\xadhyphen", False),
        ("mark\ufeff", False), ("next\x85line", False), ("line\u2028end", False), ("paragraph\u2029end", False),
    ],
)  # fmt: skip
def test_what_is_listed_can_be_opened(
    tmp_path: Path, run: Callable[..., Result], paint: Callable[[Path, str], Path], name: str, shown: bool
) -> None:
    path = paint(tmp_path / "in" / f"{name}.png", "F")
    [listed] = run("filter", path.parent, "--rule", "solo", "--action", "list").stdout.split("\n")[:-1]
    assert (listed == str(path)) is shown and (shown or "\\" in listed)


@POSIX
def test_json_lines_of_odd_names(named: Path, tmp_path: Path, run: Callable[..., Result]) -> None:
    assert run("classify", named, "--output", tmp_path / "out.jsonl").exit_code == 1
    text = (tmp_path / "out.jsonl").read_bytes().decode("utf-8")
    assert text.count("\n") == len(text.splitlines()) == 2 * len(NAMES)
    images = {json.loads(row)["image"] for row in text.splitlines()}
    for path in named.iterdir():
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        assert shown in images


@pytest.mark.parametrize("name", NAMES)
def test_a_record_of_an_odd_name_and_reason(name: str) -> None:
    text = line(record(Found(Path(name), error=f"cannot: {name.encode('utf-8', 'replace').decode()}")))
    assert text.isprintable() and json.loads(text)["image"] == name.encode("utf-8", "surrogateescape").decode(
        "utf-8", "backslashreplace"
    )


@POSIX
def test_a_name_is_no_option(
    tmp_path: Path, run: Callable[..., Result], paint: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "--help.png", "F")
    monkeypatch.chdir(tmp_path)
    result = run("classify", "--", "--help.png")
    assert result.exit_code == 0 and json.loads(result.stdout)["image"] == "--help.png"
    assert run("tag", ".").exit_code == 0 and (tmp_path / "--help.txt").read_text() == "1girl, solo"


# -- reports ---------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        assert not [name for name, value in attrs if name.startswith("on") or (value or "").startswith("javascript")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(text: str) -> Reader:
    text.encode("utf-8")  # what cannot be written is no page
    reader = Reader()
    reader.feed(text)
    return reader


@pytest.mark.parametrize("name", [*NAMES, "<script>alert(1)</script>", "</td></tr></table><h1>x", "</title><script>"])
def test_names_in_reports_are_text(name: str) -> None:
    plain = page(table({"a": {"value": 0.5, "said": "b"}}, {"value": "c", "said": "d"}, "e"))
    odd = page(table({name: {"value": 0.5, "said": name}}, {"value": name, "said": "d"}, name))
    assert odd.elements == plain.elements and harmless(odd.text)
    line_ = ([0.0, 1.0], [0.0, 1.0], "#333")
    assert page(plot(name, name, name, {name: line_})).elements == page(plot("a", "b", "c", {"d": line_})).elements


def figures(name: str) -> dict[str, Any]:
    """The least that a report needs, with a name wherever the data could put one."""
    row = dict.fromkeys(("balanced_accuracy", "female_recall", "male_recall", "calibration_error"), 0.5) | {"count": 1}
    curve = {"x": [0.0, 1.0], "y": [0.0, 1.0], "area": 0.5}
    return {
        "found": row, "all": row, "share_found": 1.0, "accuracy": 0.5, "roc": curve, "confusion": [[1, 2], [3, 4]],
        "intervals": dict.fromkeys(("balanced_accuracy", "female_recall", "male_recall"), (0.1, 0.9)),
        "classes": dict.fromkeys(("female", "male"), {"precision": 0.5, "recall": 0.5, "f1": 0.5}),
        "precision_recall": {"female": curve, "male": curve}, "reliability": [{"confidence": 0.5, "accuracy": 0.5}],
        "by_kind": {name: row}, "by_head_size": {}, "by": {name: {name: row}},
        "mistakes": [{"file": name, "gender": name, "confidence": 0.9}],
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_report_of_odd_names(name: str) -> None:
    sheet = Image.new("RGB", (4, 4))
    plain, odd = (page(html_report(figures(own), own, sheet)) for own in ("plain", name))
    assert odd.elements == plain.elements
    assert "script" not in odd.elements and odd.elements.count("img") == 1


# -- links and paths -------------------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("mode", ["skip", "overwrite", "append", "prepend"])
@pytest.mark.parametrize("there", [True, False])
def test_a_caption_that_leads_out_of_its_folder_is_not_written_through(
    tmp_path: Path, run: Callable[..., Result], paint: Callable[[Path, str], Path], mode: str, there: bool
) -> None:
    mine = tmp_path / "mine.txt"
    if there:
        mine.write_text("my own notes")
    paint(tmp_path / "in" / "a.png", "F")
    paint(tmp_path / "in" / "b.png", "F")
    (tmp_path / "in" / "a.txt").symlink_to("../mine.txt")
    result = run("tag", tmp_path / "in", "--mode", mode)
    if not (there and mode == "skip"):
        assert result.exit_code == 1 and "leads out of its folder" in result.stderr
    assert mine.exists() == there and (not there or mine.read_text() == "my own notes")
    assert (tmp_path / "in" / "b.txt").read_text() == "1girl, solo"


@POSIX
def test_a_caption_that_leads_to_a_file_of_its_folder_is_written(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "a.txt").symlink_to("texts/a.txt")
    assert write_caption(tmp_path / "a.png", ["1girl"], "append") == "written"
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "texts" / "a.txt").read_text() == "1girl"
    (tmp_path / "b.txt").symlink_to("b.txt")
    with pytest.raises((CaptionError, OSError)):
        write_caption(tmp_path / "b.png", ["1girl"], "append")


@POSIX
def test_folders_behind_links_are_not_walked(
    tmp_path: Path, run: Callable[..., Result], paint: Callable[[Path, str], Path]
) -> None:
    paint(tmp_path / "private" / "me.png", "F")
    paint(tmp_path / "in" / "a.png", "F")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "private")
    (tmp_path / "in" / "up").symlink_to("..")
    result = run("tag", tmp_path / "in", "--recursive")
    assert result.exit_code == 0 and not (tmp_path / "private" / "me.txt").exists()
    assert [path.name for path, _ in find_images([tmp_path / "in"], recursive=True)] == ["a.png"]


@POSIX
@pytest.mark.parametrize("action", ["copy", "move", "link"])
def test_what_is_filtered_stays_below_its_folder(
    tmp_path: Path, run: Callable[..., Result], paint: Callable[[Path, str], Path], action: str
) -> None:
    paint(tmp_path / "data" / "sub" / "a.png", "F")
    (tmp_path / "data" / "in").mkdir()
    odd = tmp_path / "data" / "in" / ".." / "sub"
    for given in (odd / "a.png", odd):
        run("filter", given, "--rule", "solo", "--to", tmp_path / "out", "--action", action)
        assert [path.relative_to(tmp_path).as_posix() for path in (tmp_path / "out").rglob("*")] == ["out/a.png"]


@pytest.mark.parametrize("extension", ["../txt", "/etc/passwd", "a/../../b", "", ".", "\0", "..\\txt"])
def test_caption_extensions_that_lead_elsewhere(tmp_path: Path, extension: str) -> None:
    with pytest.raises(ValueError):
        write_caption(tmp_path / "a.png", ["1girl"], "overwrite", extension=extension)
    assert not list(tmp_path.iterdir())


OUT = ("../private.png", "sub/../../private.png", "{absolute}", "", "..")


@pytest.mark.parametrize("file", OUT)
def test_tables_of_pictures_do_not_lead_out_of_their_folder(tmp_path: Path, file: str) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "private.png")
    file = file.format(absolute=tmp_path / "private.png")
    for name, head in (("manifest.csv", "file,gender"), ("gender/manifest.csv", ",".join(COLUMNS))):
        data = tmp_path / name.replace("/", "_")
        (data / name).parent.mkdir(parents=True)
        with (data / name).open("w", newline="") as stream:
            row = {"file": file, "gender": "male", "character": "x", "kind": "face", "split": "val", "alpha": "0"}
            csv.writer(stream).writerows([head.split(","), [row.get(column, "9") for column in head.split(",")]])
        with pytest.raises(ValueError, match="line 2: (file is|expected)"):
            read_pictures(data)
    boxes = tmp_path / "data" / "detection" / "boxes.csv"
    boxes.parent.mkdir(parents=True)
    with boxes.open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "region", *SQUARE], [file, "face", 1, 2, 3, 4]])
    with pytest.raises(ValueError, match="expected a path inside the data folder"):
        read_known_boxes(tmp_path / "data")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,gender\na.png,cat\n", "manifest.csv, line 2: gender is 'cat'"),
        (b"file,gender,extra\na.png\n", "line 2: expected the columns file and gender, it has file, gender, extra"),
        (b'file,gender\n"' + b"x" * 200_000 + b'",male\n', "line 1: field larger than field limit"),
        (b"file,gender\n\xff.png,male\n", r"is not UTF-8 text \(byte 12\): save it as UTF-8"),
        (b"\x00\x01\x02", "no readable picture|expected the columns|line contains NUL"),
        (b"name,sex,many,more\nb,c,d,e,f,g,h\n", "expected the columns file and gender, it has name, sex"),
    ],
)
def test_what_is_no_table_of_pictures(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_pictures(tmp_path)


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("boxes.csv", "file,region,x\na.png,face,1", "boxes.csv has no column 'y'; it has file, region, x"),
        ("boxes.csv", "file,region,x,y,width,height\na.png,face,1,2,3", "line 2: height is '', expected a number"),
        ("boxes.csv", "file,region,x,y,width,height\na.png,face,1,2,3,nan", "line 2: height is 'nan', expected a num"),
        ("animeface2009.csv", "file,x\na.png,1", "has no column 'likelihood'"),
        ("animeface2009.csv", "file,likelihood,x,y,width,height\na.png,,,,,", "likelihood is '', expected a number"),
    ],
)
def test_what_is_no_table_of_boxes(tmp_path: Path, name: str, lines: str, message: str) -> None:
    (tmp_path / "detection").mkdir()
    (tmp_path / "detection" / name).write_text(lines)
    with pytest.raises(ValueError, match=message):
        (read_known_boxes if name == "boxes.csv" else read_teacher)(tmp_path)


# -- large and inflated ----------------------------------------------------------------------------------------------


def quick(seconds: float = 5.0) -> Callable[[], None]:
    """Called in the end: not more than this of processor time has passed."""
    start = time.process_time()

    def check() -> None:
        assert time.process_time() - start < seconds

    return check


@pytest.mark.parametrize(
    "text", ["1girl, " * 1_500_000, "x" * 10_000_000, "\n" * 10_000_000, ", " * 5_000_000, "é" * 5_000_000]
)
@pytest.mark.parametrize("mode", ["append", "skip"])
def test_captions_of_ten_megabytes(tmp_path: Path, text: str, mode: Any) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    check = quick()
    outcome = write_caption(tmp_path / "a.png", ["1girl", "solo"], mode)
    found = read_caption(path)
    assert found is not None
    if mode == "skip":
        assert outcome == "skipped" and found == text
    else:
        assert "solo" in found and (text.strip(", \n") in found or text.startswith("1girl"))
    check()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*chunks: bytes, behind: bytes = b"") -> bytes:
    """A grey picture of 4 x 4 with these chunks before its pixels and behind them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\7\7\7\7" * 4))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + behind + chunk(b"IEND", b"")


BOMB = zlib.compress(bytes(300_000_000), 9)
BOMBS = {
    "zTXt": chunk(b"zTXt", b"prompt\0\0" + BOMB),
    "iTXt": chunk(b"iTXt", b"prompt\0\1\0\0\0" + BOMB),
    "iCCP": chunk(b"iCCP", b"profile\0\0" + BOMB),
    "many zTXt": b"".join(chunk(b"zTXt", b"k%d\0\0" % i + zlib.compress(bytes(1_000_000))) for i in range(100)),
}


@POSIX
@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("name", BOMBS)
def test_texts_that_swell_are_not_unpacked(tmp_path: Path, name: str, place: str) -> None:
    import resource

    path = tmp_path / "bomb.png"
    path.write_bytes(png(BOMBS[name]) if place == "before" else png(behind=BOMBS[name]))
    check, before = quick(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for ask in (picture_size, read_image):
        try:
            ask(path)
        except ImageError as error:
            assert str(error)
    check()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < 150, f"{grown} MB"  # Pillow keeps 64 MB of texts at most


def claiming(width: int, height: int, kind: str) -> bytes:
    """A file of some hundred bytes whose header claims a size."""
    stream = io.BytesIO()
    Image.new("RGB", (300, 300)).save(stream, kind)
    content = bytearray(stream.getvalue())
    if kind == "PNG":
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif kind == "BMP":
        content[18:26] = struct.pack("<ii", width, height)
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    elif kind == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG"])
def test_pictures_that_claim_to_be_huge(tmp_path: Path, kind: str, run: Callable[..., Result]) -> None:
    path = tmp_path / f"huge.{kind.lower()}"
    path.write_bytes(claiming(60_000, 60_000, kind))
    check = quick()
    for ask in (picture_size, read_image, lambda p: list(read_frames(p))):
        with pytest.raises(ImageError, match=re.escape(str(MAX_PIXELS))):
            ask(path)
    result = run("tag", tmp_path)
    assert result.exit_code == 1 and not list(tmp_path.glob("*.txt"))
    check()


def test_a_later_page_that_claims_to_be_huge(tmp_path: Path) -> None:
    path = tmp_path / "pages.tiff"
    pages = [Image.new("L", (8, 8), shade) for shade in (10, 20)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    content = bytearray(path.read_bytes())
    for tag in (256, 257):  # width and height, each a number of 16 or 32 bits
        places = [content.rfind(struct.pack("<HHI", tag, kind, 1)) for kind in (3, 4)]
        content[max(places) + 2 : max(places) + 12] = struct.pack("<HII", 4, 1, 60_000)
    path.write_bytes(content)
    frames = read_frames(path)
    assert next(frames).shape == (8, 8, 3)
    with pytest.raises(ImageError, match="claims 60000 x 60000 pixels"):
        next(frames)


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What appears when a program is started that is called as Ghostscript is."""
    trace = tmp_path / "started"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho \"$@\" >> '{trace}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # where Pillow keeps what it found earlier
    return trace


def postscript(path: Path) -> Path:
    """An EPS file, whatever it is called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    Image.new("RGB", (96, 96)).save(stream, "EPS")
    path.write_bytes(stream.getvalue())
    return path


def refused(read: Callable[[Path], object]) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with pytest.raises(ImageError, match="not a picture in any format that can be read here"):
            read(path)

    return check


def labelled_by_gender(path: Path) -> None:
    for i, folder in enumerate(("female", "male")):
        (path.parent / folder).mkdir()
        pixels = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path.parent / folder / "0.png")
    path.rename(path.parent / "female" / path.name)
    assert [picture.file for picture in read_own(path.parent)] == ["female/0.png", "male/0.png"]


def in_a_shard(path: Path) -> None:
    with tarfile.open(path.parent / "faces.tar", "w") as shard:
        shard.add(path, path.name)
        Image.new("RGB", (8, 8)).save(path.parent / "good.png")
        shard.add(path.parent / "good.png", "good.png")
    assert [name for name, _ in read_faces(path.parent / "faces.tar", lambda name: True)] == ["faces.tar/good.png"]


def under_both_genders(path: Path) -> None:
    other = postscript(path.with_name("other.png"))
    pictures = [Picture(path.name, gender="female"), Picture(other.name, gender="male")]
    refuse_contradictions(path.parent, pictures, [0, 0])


def in_place_of_a_crop(path: Path) -> None:
    with pytest.raises(FileExistsError, match="exists already and differs"):
        write_crop(torch.zeros(3, 96, 96), path)


@POSIX
@pytest.mark.parametrize(
    "check",
    [
        refused(read_image),
        refused(picture_size),
        refused(lambda path: [*read_frames(path)]),
        refused(read_rgba),
        refused(open_picture),
        refused(lambda path: cascade_recall(path.parent, [Picture(path.name)])),
        labelled_by_gender,
        in_a_shard,
        under_both_genders,
        in_place_of_a_crop,
    ],
)
def test_no_other_program_is_started_for_a_picture(
    tmp_path: Path, ghostscript: Path, check: Callable[[Path], None]
) -> None:
    path = postscript(tmp_path / "in" / "picture.png")
    (path.parent / "lbp_opencv4.json").write_text('{"faces": {}}')
    check(path)
    assert not ghostscript.exists() and "EPS" in NOT_READ


@POSIX
@pytest.mark.parametrize("step", ["crop", "resize", "split"])
def test_no_other_program_is_started_by_the_steps_to_a_data_set(
    tmp_path: Path, ghostscript: Path, run: Callable[..., Result], step: str
) -> None:
    for i, name in enumerate(("ann", "bob")):
        (tmp_path / "raw" / name).mkdir(parents=True)
        for k in range(2):
            pixels = np.random.default_rng(10 * i + k).integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "raw" / name / f"{k}.png")
    postscript(tmp_path / "raw" / "ann" / "picture.png")
    postscript(tmp_path / "to" / "ann" / "0_png_0.png")  # where a crop goes
    postscript(tmp_path / "to" / "train" / "ann" / "1.png")  # where a picture may stand
    more = ("--detector", "whole-image") if step == "crop" else ()
    said = run("dataset", step, tmp_path / "raw", "--to", tmp_path / "to", *more)
    assert said.exit_code == 1 and "picture.png: not a picture in any format" in said.output
    assert not ghostscript.exists()


@POSIX
def test_the_program_in_place_of_ghostscript_would_be_started(tmp_path: Path, ghostscript: Path) -> None:
    with Image.open(postscript(tmp_path / "picture.png")) as image, pytest.raises(subprocess.CalledProcessError):
        image.load()
    assert ghostscript.exists()


# -- XML, names of texts ---------------------------------------------------------------------------------------------

STUMP = "<_><internalNodes>0 -1 0 0 0 0 0 0 0 0 0</internalNodes><leafValues>1 1</leafValues></_>"
FRAME = (
    "<opencv_storage><cascade><stageType>BOOST</stageType><featureType>LBP</featureType><height>12</height><width>12"
    "</width><featureParams><maxCatCount>256</maxCatCount></featureParams><stageNum>1</stageNum><stages><_>"
    "<stageThreshold>0</stageThreshold><weakClassifiers>{}</weakClassifiers></_></stages><features><_><rect>0 0 1 1"
    "</rect></_></features></cascade></opencv_storage>"
)


def chain(nodes: int) -> str:
    rows = (f"{i + 1 if i + 1 < nodes else 0} 0 0 0 0 0 0 0 0 0 0" for i in range(nodes))
    return f"<_><internalNodes>{' '.join(rows)}</internalNodes><leafValues>1 1</leafValues></_>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a>" + "<_/>" * 1_500_000 + "</a>", "more than 300,000 elements"),
        (FRAME.format(STUMP * 70_000), "trees have more than 30,000 nodes"),
        (FRAME.format(chain(2000) + STUMP * 2000), "trees of up to 2,000 nodes, larger than any sense"),
        ("<a>" + " " * (9 << 20) + "</a>", "has 9437191 bytes"),
    ],
    ids=["elements", "trees", "a padded stage", "bytes"],
)
def test_cascades_that_would_take_long(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cascade.xml"
    path.write_text(text)
    check = quick()
    with pytest.raises(ValueError, match=message):
        read_cascade(path)
    check()


def test_entities_are_not_expanded() -> None:
    levels = "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 10))
    with pytest.raises(ValueError, match="document type or an entity"):
        parse(f"<!DOCTYPE a [<!ENTITY a0 'x'>{levels}]><a>&a9;</a>".encode())


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("prompt", '{"a": "初音"}', ("prompt", '{"a": "初音"}')),
        ("プロンプト", "x", (r"\u30d7\u30ed\u30f3\u30d7\u30c8", "x")),
        ("", "x", ("text", "x")),
        ("  ", "x", ("text", "x")),
        ("two\nlines", "x", ("two\\nlines", "x")),
        ("n" * 200, "x", ("n" * 79, "x")),
        ("nul", "a\0b", ("nul", "a\\0b")),
        ("half", "a\ud800", ("half", "a\\ud800")),
    ],
)
def test_texts_of_any_name_are_kept_in_a_png(name: str, text: str, kept: tuple[str, str]) -> None:
    content = png_bytes(torch.from_numpy(np.zeros((3, 3, 3), np.uint8)), {name: text})
    with Image.open(io.BytesIO(content)) as image:
        assert {key: str(value) for key, value in image.info.items()} == dict([kept])
