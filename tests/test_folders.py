"""Files as they are found in the world: broken, hostile, odd, rotated; each is one result and none stops the rest."""

from __future__ import annotations

import gc
import io
import itertools
import os
import random
import struct
import threading
import time
import tracemalloc
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from anigender import folders
from anigender.detect import GivenBoxes
from anigender.faces import Faces
from anigender.folders import (
    ImageError,
    decoded,
    find_images,
    picture_size,
    process,
    read_frames,
    read_image,
)
from anigender.pipeline import Pipeline

POSIX = pytest.mark.skipif(os.name != "posix", reason="links, pipes and such names are POSIX's")
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def gradient(height: int = 24, width: int = 32) -> np.ndarray:
    """Red grows to the right, green downwards: a corner tells which corner it is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 250, width)
    pixels[..., 1] = np.linspace(0, 250, height)[:, None]
    pixels[..., 2] = 40
    return pixels


def noise(height: int, width: int) -> np.ndarray:
    """What no format makes small."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("empty.png", b"", "the file is empty"),
        ("text.png", b"this is no picture", "not a picture"),
        ("zeros.jpg", bytes(1000), "not a picture"),
        ("signature.png", b"\x89PNG\r\n\x1a\n", ""),
        ("half.jpg", encoded(gradient(200, 300), "JPEG")[:3000], "truncated"),
        ("half.png", encoded(gradient(200, 300), "PNG", compress_level=0)[:3000], "truncated"),
        ("half.webp", encoded(noise(60, 80), "WEBP", lossless=True)[:3000], ""),
        ("half.gif", encoded(gradient(200, 300), "GIF")[:900], ""),
        ("half.bmp", encoded(gradient(200, 300), "BMP")[:3000], ""),
        ("half.tiff", encoded(gradient(200, 300), "TIFF")[:3000], ""),
        ("bomb.png", png_claiming(60_000, 60_000), "pixels"),
        ("bomb_a_little.png", png_claiming(14_000, 14_000), "pixels"),
        ("thin_bomb.png", png_claiming(2_000_000_000, 1), "pixels"),
        ("no_size.png", png_claiming(0, 0), ""),
    ],
)
def test_a_broken_file_is_one_failure_with_a_reason(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    reason = str(caught.value)
    assert reason and part in reason
    assert str(tmp_path) not in reason and "\n" not in reason
    [(found, outcome)] = decoded([(path, None)])
    assert (found, outcome) == (path, reason)


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(60_000, 60_000))
    for ask in (picture_size, read_image, lambda p: list(read_frames(p))):
        with pytest.raises(ImageError, match="178956970"):
            ask(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="directory|ordinary file"):
        read_image(tmp_path)


@POSIX
def test_a_pipe_does_not_make_anybody_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    [(_, outcome)] = decoded(find_images([tmp_path]))
    assert isinstance(outcome, str) and "ordinary file" in outcome


@pytest.mark.skipif(AS_ROOT or os.name != "posix", reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(gradient(), "PNG"))
    path.chmod(0)
    with pytest.raises(ImageError, match="permission denied"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_never_raise_anything_else(tmp_path: Path, seed: int) -> None:
    """Random bytes of good files changed: whatever a decoder does with them, it is a picture or an ImageError."""
    rng = random.Random(seed)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "TGA", "PPM"):
        content = bytearray(encoded(gradient(40, 50), kind))
        for _ in range(rng.randint(1, 12)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = tmp_path / f"damaged.{kind.lower()}"
        path.write_bytes(content)
        for ask in (picture_size, read_image, lambda p: list(read_frames(p))):
            try:
                ask(path)
            except ImageError as error:
                assert str(error)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage!", b"Exif\0\0MM\0*\0\0\0\x08\0\x05", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_broken_exif_is_a_picture(tmp_path: Path, exif: bytes, kind: str) -> None:
    path = tmp_path / "picture.img"
    path.write_bytes(encoded(gradient(), kind, exif=exif))
    assert picture_size(path) == (24, 32)
    assert read_image(path).shape == (24, 32, 3)


# -- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "TGA", "PPM", "GIF", "WEBP", "JPEG", "JPEG2000", "AVIF"])
def test_formats_whatever_the_suffix(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture.jpg"
    try:
        path.write_bytes(encoded(gradient(), kind, **({"lossless": True} if kind == "WEBP" else {})))
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {kind}")
    found = read_image(path)
    assert found.shape == (24, 32, 3) and found.dtype == torch.uint8
    apart = (found.int() - torch.from_numpy(gradient()).int()).abs()
    assert apart.max() <= (0 if kind in ("PNG", "BMP", "TIFF", "TGA", "PPM", "WEBP") else 40)
    assert picture_size(path) == (24, 32)


def oriented(exif: int) -> tuple[np.ndarray, Image.Exif]:
    """What a camera stores so that :func:`gradient` is seen, for each of the eight ways it can be held."""
    back = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[exif]
    data = Image.Exif()
    data[0x0112] = exif
    return np.ascontiguousarray(back(gradient())), data


@pytest.mark.parametrize("exif", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_every_way_to_hold_a_camera(tmp_path: Path, exif: int, kind: str) -> None:
    pixels, data = oriented(exif)
    path = tmp_path / "photo"
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    path.write_bytes(encoded(pixels, kind, exif=data, **options))
    assert picture_size(path) == (24, 32)
    found = read_image(path)
    assert found.shape == (24, 32, 3)
    assert (found.int() - torch.from_numpy(gradient()).int()).abs().max() <= (4 if kind == "JPEG" else 0)


def test_an_orientation_that_does_not_exist(tmp_path: Path) -> None:
    data = Image.Exif()
    data[0x0112] = 77
    (tmp_path / "a.png").write_bytes(encoded(gradient(), "PNG", exif=data))
    assert picture_size(tmp_path / "a.png") == (24, 32)
    assert read_image(tmp_path / "a.png").shape == (24, 32, 3)


def test_cmyk(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(path, quality=100)
    found = read_image(path)
    assert found.shape == (6, 8, 3)
    assert (found[0, 0].int() - torch.tensor([255, 0, 0])).abs().max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "deep"
    values = np.array([[0, 128, 257, 25_700], [32_768, 65_535, 65_407, 300]], np.uint16)
    Image.fromarray(values).save(path, kind)
    assert read_image(path)[..., 0].tolist() == [[0, 0, 1, 100], [128, 255, 255, 1]]


def test_sixteen_bits_of_a_dark_picture_stay_dark(tmp_path: Path) -> None:
    path = tmp_path / "dark.png"
    Image.fromarray(np.full((4, 4), 200, np.uint16)).save(path)
    assert read_image(path).unique().tolist() == [1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 25_700, 65_535]], np.int32), [0, 100, 255]),
        (np.array([[-5, 65_535, 9_000_000]], np.int32), [0, 255, 255]),
        (np.array([[0.0, 0.4, 1.0]], np.float32), [0, 102, 255]),
        (np.array([[0.0, 102.0, 255.0]], np.float32), [0, 102, 255]),
        (np.array([[-1.0, float("nan"), 0.5]], np.float32), [0, 0, 128]),
        (np.array([[float("nan")] * 3], np.float32), [0, 0, 0]),
    ],
)
def test_whole_numbers_and_floats_of_32_bits(tmp_path: Path, values: np.ndarray, expected: list[int]) -> None:
    path = tmp_path / "science.tiff"
    Image.fromarray(values).save(path)
    assert read_image(path)[0, :, 1].tolist() == expected


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    path = tmp_path / "sprite.png"
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255] + [0] * 759)
    image.putdata([0, 1, 2])
    image.save(path, transparency=1)
    assert read_image(path)[0].tolist() == [[0, 0, 0], [255, 255, 255], [0, 0, 255]]
    assert read_image(path, background=10)[0, 1].tolist() == [10, 10, 10]
    image.save(path, transparency=bytes([255, 255, 102]))
    assert read_image(path)[0].tolist() == [[0, 0, 0], [255, 0, 0], [153, 153, 255]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("LA", (100, 255), [100] * 3),
        ("LA", (100, 0), [255] * 3),
        ("LA", (100, 51), [224] * 3),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [255] * 3),
        ("L", 77, [77] * 3),
        ("1", 1, [255] * 3),
        ("1", 0, [0] * 3),
    ],
)
def test_grey_and_alpha(tmp_path: Path, mode: str, colour: Any, expected: list[int]) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (2, 2), colour).save(path)
    assert (read_image(path)[0, 0].int() - torch.tensor(expected)).abs().max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "animated"
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    assert read_image(path)[0, 0].argmax() == 0
    found = list(read_frames(path))
    assert [frame.shape for frame in found] == [(4, 6, 3)] * 3
    assert [int(frame[2, 2].argmax()) for frame in found] == [0, 1, 2]
    assert all((frame[2, 2].amax() - 250).abs() <= 3 for frame in found)


def test_frames_of_a_still_picture_and_of_a_broken_animation(tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    path.write_bytes(encoded(gradient(), "PNG"))
    assert len(list(read_frames(path))) == 1
    frames = [Image.fromarray(np.roll(gradient(60, 80), i * 9, 1)) for i in range(4)]
    frames[0].save(tmp_path / "whole.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "half.gif").write_bytes(
        (tmp_path / "whole.gif").read_bytes()[: (tmp_path / "whole.gif").stat().st_size // 2]
    )
    with pytest.raises(ImageError):
        for frame in read_frames(tmp_path / "half.gif"):
            assert frame.shape == (60, 80, 3)


@pytest.mark.parametrize("shape", [(1, 1), (10, 20_000), (20_000, 10)])
def test_extreme_shapes(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((*shape, 3), 9, np.uint8)).save(path)
    assert picture_size(path) == shape
    assert read_image(path).shape == (*shape, 3)


@pytest.mark.parametrize("name", ["初音ミク.png", "с пробелом.png", "naïve é.png", "🎀.png", "-r.png", "a'b\"c.png"])
def test_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(gradient(), "PNG"))
    assert list(find_images([tmp_path])) == [(tmp_path / name, None)]
    assert read_image(tmp_path / name).shape == (24, 32, 3)


@POSIX
@pytest.mark.parametrize("name", [b"two\nlines.png", b"latin\xe9.png", b"\xff\xfe.png"])
def test_names_that_are_not_text(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        Path(os.fsdecode(path)).write_bytes(encoded(gradient(), "PNG"))
    except OSError:
        pytest.skip("this file system wants names in Unicode")
    [(found, outcome)] = decoded(find_images([tmp_path]))
    assert os.fsencode(found) == path and isinstance(outcome, Tensor)


# -- finding ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with pictures, other files and folders inside folders."""
    for name in (
        "b.png",
        "a.JPG",
        "c.webp",
        "notes.txt",
        "._b.png",
        "z/1.png",
        "z/deep/2.png",
        "m/x.gif",
        "m/x.txt",
        "folder.png/y.png",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "in"


def names(found: Any, tree: Path) -> list[str]:
    return [path.relative_to(tree).as_posix() for path, problem in found if problem is None]


def test_a_folder_in_the_order_of_names(tree: Path) -> None:
    assert names(find_images([tree]), tree) == ["a.JPG", "b.png", "c.webp"]


def test_folders_in_folders(tree: Path) -> None:
    assert names(find_images([tree], recursive=True), tree) == [
        "a.JPG", "b.png", "c.webp", "folder.png/y.png", "m/x.gif", "z/1.png", "z/deep/2.png",
    ]  # fmt: skip


def test_files_stand_for_themselves_in_the_order_given(tree: Path) -> None:
    given = [tree / "z" / "1.png", tree / "notes.txt", tree, str(tree / "b.png")]
    assert names(find_images(given), tree) == ["z/1.png", "notes.txt", "a.JPG", "b.png", "c.webp", "b.png"]
    assert list(find_images([])) == []


@pytest.mark.parametrize("name", ["absent.png", "absent/", "b.png/inside", "n" * 300 + ".png", "nul\0.png"])
def test_what_is_not_there_is_a_result(tree: Path, name: str) -> None:
    [(path, problem)] = find_images([tree / name])
    assert path == tree / name and problem
    assert list(find_images([tree / name, tree / "b.png"]))[1] == (tree / "b.png", None)


@POSIX
def test_links(tree: Path) -> None:
    (tree / "m" / "up").symlink_to(tree)
    (tree / "m" / "up.png").symlink_to(tree)
    (tree / "z" / "round.png").symlink_to(tree / "z" / "round.png")
    (tree / "b_link.png").symlink_to("b.png")
    (tree / "dead.png").symlink_to("nowhere.png")
    found = names(find_images([tree], recursive=True), tree)
    assert len(found) < 15  # a link that leads back up is not followed
    assert "b_link.png" in found
    broken = {path.name: outcome for path, outcome in decoded(find_images([tree], recursive=True))}
    for name in ("dead.png", "round.png"):
        assert isinstance(broken[name], str)
    link = tree.parent / "elsewhere"
    link.symlink_to(tree)
    assert [path.name for path, _ in find_images([link])][0] == "a.JPG"  # a link that is given is followed


@pytest.mark.skipif(AS_ROOT or os.name != "posix", reason="root may list everything")
def test_a_folder_that_may_not_be_listed(tree: Path) -> None:
    (tree / "m").chmod(0)
    try:
        found = list(find_images([tree], recursive=True))
    finally:
        (tree / "m").chmod(0o700)
    assert [(path.name, problem) for path, problem in found if problem] == [
        ("m", "cannot list the folder: Permission denied")
    ]
    assert len(found) == 7


def test_a_folder_that_cannot_be_listed_is_a_result(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "m":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list(find_images([tree], recursive=True))
    assert [(p.name, problem) for p, problem in found if problem] == [
        ("m", "cannot list the folder: Permission denied")
    ]
    assert names(found, tree)[-1] == "z/deep/2.png"


def test_listing_many_files_takes_little_memory(tmp_path: Path) -> None:
    for i in range(4000):
        (tmp_path / f"{i:012}.jpg").touch()
    tracemalloc.start()
    found = [path.name for path, _ in itertools.islice(find_images([tmp_path]), 3)]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [f"{i:012}.jpg" for i in range(3)]
    assert most < 4000 * 120  # entries would take several times as much


# -- reading ahead ---------------------------------------------------------------------------------------------------


class Probe:
    """Stands in for read_image: counts the pictures that are decoded and not yet let go."""

    def __init__(self, side: int = 10, delay: Callable[[Path], float] = lambda path: 0.0) -> None:
        self.side, self.delay = side, delay
        self.lock = threading.Lock()
        self.alive = self.most = self.made = 0

    def __call__(self, path: Path) -> Tensor:
        time.sleep(self.delay(path))
        pixels = torch.zeros(self.side, self.side, 3, dtype=torch.uint8)
        pixels[0, 0, 0] = int(path.stem) % 256
        with self.lock:
            self.alive += 1
            self.made += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(pixels, self.gone)
        return pixels

    def gone(self) -> None:
        with self.lock:
            self.alive -= 1


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[tuple[Path, None]], Probe]]:
    """A function that gives many files that are not there, and the probe that reads them."""

    def make(count: int, **options: Any) -> tuple[list[tuple[Path, None]], Probe]:
        probe = Probe(**options)
        monkeypatch.setattr(folders, "read_image", probe)
        monkeypatch.setattr(folders, "picture_size", lambda path: (probe.side, probe.side))
        return [(Path(f"{i}.png"), None) for i in range(count)], probe

    return make


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (3, 5), (4, 20)])
def test_however_long_the_folder_no_more_is_held_than_asked_for(numbered: Any, threads: int, ahead: int) -> None:
    files, probe = numbered(300)
    for i, (path, pixels) in enumerate(decoded(iter(files), threads, ahead)):
        assert path.stem == str(i) and isinstance(pixels, Tensor)
        del pixels
    gc.collect()
    assert probe.made == 300
    assert probe.most <= ahead + 1  # and the one that was handed out
    assert probe.alive == 0


def test_large_pictures_are_held_by_their_pixels(numbered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "AHEAD_PIXELS", 1000)
    files, probe = numbered(60, side=20)  # 400 pixels each
    for _, _pixels in decoded(iter(files), 4, 64):
        del _pixels
    assert probe.made == 60
    assert probe.most <= 4  # three make 1200 pixels, and the one that was handed out
    files, probe = numbered(10, side=50)  # each larger than the limit: one at a time
    assert sum(1 for _ in decoded(iter(files), 4, 64)) == 10
    assert probe.most <= 3


def test_slow_files_do_not_change_the_order(numbered: Any) -> None:
    files, _ = numbered(20, delay=lambda path: 0.02 if int(path.stem) % 5 == 0 else 0.0)
    found = list(decoded(files, 4, 8))
    assert [path for path, _ in found] == [path for path, _ in files]
    assert [int(pixels[0, 0, 0]) for _, pixels in found] == list(range(20))


def test_an_abandoned_iteration_stops_decoding(numbered: Any) -> None:
    files, probe = numbered(200)
    iteration = decoded(iter(files), 2, 4)
    next(iteration)
    iteration.close()
    assert probe.made <= 6
    assert threading.active_count() < 20


def test_reasons_pass_through_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(gradient(), "PNG"))
    (tmp_path / "b.png").write_bytes(b"")
    found = [(tmp_path / "x", "no such file"), (tmp_path / "a.png", None), (tmp_path / "b.png", None)]
    outcomes = [outcome if isinstance(outcome, str) else tuple(outcome.shape) for _, outcome in decoded(found)]
    assert outcomes == ["no such file", (24, 32, 3), "the file is empty"]


# -- through the pipeline --------------------------------------------------------------------------------------------


def test_one_result_for_each_file(tmp_path: Path, painted: Pipeline, paint: Callable[[Path, str], Path]) -> None:
    expected: list[tuple[str, Any]] = []
    for i, people in enumerate(["F", "FM", ".", "", "m.F", "M", "f", "FF"]):
        path = tmp_path / f"{i}.png"
        if people:
            paint(path, people)
        else:
            path.write_bytes(b"")
        expected.append((path.name, people.replace(".", "").upper() if people else None))
    for batch in (1, 2, 3, 100):
        results = list(process(find_images([tmp_path, tmp_path / "absent"]), painted, batch))
        found = []
        for result in results[:-1]:
            genders = None if result.faces is None else "".join(g[0].upper() for g in result.faces.gender)
            found.append((result.path.name, genders))
            assert (result.faces is None) == (result.error is not None) == (result.size is None)
            assert result.pixels is None
            if result.faces is not None:
                assert result.faces.images == 1
                assert result.faces.image_sizes.tolist() == [list(result.size or ())]
        assert found == expected
        assert results[-1].error == "no such file or folder"


def test_pixels_are_kept_where_asked_for(tmp_path: Path, painted: Pipeline, paint: Callable[[Path, str], Path]) -> None:
    paint(tmp_path / "a.png", "FM")
    [result] = process(find_images([tmp_path]), painted, keep_pixels=True)
    assert result.pixels is not None and torch.equal(result.pixels, read_image(tmp_path / "a.png"))
    assert result.size == (32, 64)
    without = result.with_faces(Faces.empty([(32, 64)]))
    assert without.faces is not None and len(without.faces) == 0 and without.path == result.path


def test_nothing_found_is_nothing(painted: Pipeline) -> None:
    assert list(process([], painted)) == []


@pytest.mark.parametrize("batch", [1, 4])
def test_memory_stays_flat(numbered: Any, painted: Pipeline, batch: int) -> None:
    files, probe = numbered(200, side=40)
    for _ in process(iter(files), painted, batch, threads=3):
        pass
    assert probe.made == 200
    assert probe.most <= 2 * max(2, batch) + 2 * batch + 1


def test_large_pictures_make_small_batches(numbered: Any, painted: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "AHEAD_PIXELS", 4000)
    files, probe = numbered(60, side=40)  # 1600 pixels each: three fill a batch
    assert sum(1 for _ in process(iter(files), painted, 16, threads=3)) == 60
    assert probe.most <= 9


def test_a_picture_that_exceeds_the_memory_is_one_failure(
    tmp_path: Path, painted: Pipeline, paint: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, people in (("a.png", "F"), ("b.png", "MMM"), ("c.png", "M")):
        paint(tmp_path / name, people)
    real = painted.detector.detect

    def detect(batch: Any) -> Faces:
        if any(width > 64 for _, width in batch.sizes):
            raise torch.OutOfMemoryError("out of memory")
        return real(batch)

    monkeypatch.setattr(painted.detector, "detect", detect)
    results = list(process(find_images([tmp_path]), painted, batch=8))
    assert [result.error is None for result in results] == [True, False, True]
    assert "memory" in str(results[1].error)


def test_a_picture_that_cannot_be_judged_is_one_failure(
    tmp_path: Path, painted: Pipeline, paint: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, people in (("a.png", "F"), ("b.png", "MMM"), ("c.png", "M")):
        paint(tmp_path / name, people)
    given = {(32, 32): [(0, 0, 20, 20)], (32, 96): [(100, 0, 20, 20)]}

    def detect(batch: Any) -> Faces:
        return GivenBoxes([given[size] for size in batch.sizes]).detect(batch)

    monkeypatch.setattr(painted.detector, "detect", detect)
    results = list(process(find_images([tmp_path]), painted, batch=8))
    assert [result.error is None for result in results] == [True, False, True]
    assert "lies outside picture 0, which is 96 x 32" in str(results[1].error)


def test_a_mistake_of_the_program_is_not_a_failure_of_a_picture(
    tmp_path: Path, painted: Pipeline, paint: Callable[[Path, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "a.png", "F")
    monkeypatch.delattr(type(painted.classifier), "classify")
    with pytest.raises(AttributeError):
        list(process(find_images([tmp_path]), painted))


def test_a_file_that_vanishes_after_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")
    monkeypatch.setattr(os.path, "getsize", lambda path: os.stat(tmp_path / "gone").st_size)
    with pytest.raises(ImageError, match="no such file or directory"):
        read_image(path)
