"""Pictures: files of every format that Pillow writes, PNG files chunk by chunk, texts in PNG files, tensors."""

from __future__ import annotations

import io
import struct
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from anigender.faces import Faces
from anigender.folders import ImageError, picture_size, read_frames, read_image
from anigender.images import check, head_crops
from anigender.png import png_bytes, quick_png_bytes

from ..choices import Choices
from .target import Target, random_seeds

FRAMES = 4  # of an animation


def read(path: Path) -> None:
    """Everything that is asked of a file; each may refuse it by itself."""
    refusal: ImageError | None = None
    for ask in (picture_size, read_image, lambda p: list(islice(read_frames(p), FRAMES))):
        try:
            found = ask(path)
        except ImageError as error:
            refusal = error
            continue
        if isinstance(found, torch.Tensor):
            assert found.dtype == torch.uint8 and found.ndim == 3 and found.shape[2] == 3, found.shape
    if refusal is not None:
        raise refusal


def run_file(data: bytes, folder: Path) -> None:
    path = folder / "picture"
    path.write_bytes(data)
    read(path)


def picture_files() -> list[bytes]:
    """A small picture in every mode and format that this Pillow writes."""
    Image.init()
    ramp = np.arange(20 * 16 * 4, dtype=np.uint8).reshape(16, 20, 4)
    colour = Image.fromarray(ramp[..., :3].copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {mode: colour.convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB")}
    images |= {"RGBA": Image.fromarray(ramp), "LA": Image.fromarray(ramp).convert("LA")}
    images["I;16"] = Image.fromarray(ramp.view(np.uint16)[..., 0].copy())
    images["F"] = Image.fromarray(np.linspace(0, 1, 320, dtype=np.float32).reshape(16, 20))
    images["I"] = Image.fromarray(np.arange(320, dtype=np.int32).reshape(16, 20))
    frames = [colour, colour.transpose(Image.Transpose.ROTATE_180), colour]
    found = []
    for kind in sorted(Image.SAVE):
        if kind in ("PDF", "XVTHUMB", "PALM"):
            continue
        for mode, image in images.items():
            options = [{}, {"exif": exif}] if mode == "RGB" else [{}]
            if kind == "TIFF":
                options += [{"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
            for option in options:
                stream = io.BytesIO()
                try:
                    image.save(stream, kind, **option)
                except Exception:  # this format cannot hold this mode
                    continue
                found.append(stream.getvalue())
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        stream = io.BytesIO()
        try:
            colour.save(stream, kind, save_all=True, append_images=frames)
        except (KeyError, OSError):
            continue
        found.append(stream.getvalue())
    return found


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def run_chunks(data: bytes, folder: Path) -> None:
    """A PNG file whose chunks are whole and whose contents are anything."""
    choices = Choices(data)
    width, height = choices.whole(1, 40), choices.whole(1, 40)
    kind = choices.pick((0, 2, 3, 4, 6))
    rows = (b"\0" + bytes(width * 4)) * height
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, choices.byte() & 1))]
    names = b"tEXt zTXt iTXt eXIf iCCP tRNS PLTE gAMA sRGB pHYs tIME acTL fcTL fdAT cHRM bKGD hIST sBIT oFFs"
    for _ in range(choices.whole(0, 10)):
        content = choices.bytes(60)
        form = choices.byte() % 6
        if form == 0:
            content = b"name\0\0" + zlib.compress(content * choices.pick((1, 100, 30_000)))
        elif form == 1:
            content = b"name\0\1\0en\0\0" + zlib.compress(content * choices.pick((1, 100, 30_000)))
        elif form == 2:
            content = struct.pack(">IIIIIHHBB", choices.whole(0, 3), *(choices.whole(0, 50) for _ in range(8)))
        elif form == 3:
            content = content[:12] * choices.pick((1, 50, 5000))
        parts.insert(choices.whole(1, len(parts)), chunk(choices.pick(names.split()), content))
    parts.insert(choices.whole(1, len(parts)), chunk(b"IDAT", zlib.compress(rows)))
    path = folder / "chunks.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    read(path)


def run_texts(data: bytes, folder: Path) -> None:
    """Texts written into a PNG file are there when it is read."""
    choices = Choices(data)
    texts = {choices.text(10): choices.text(30) for _ in range(choices.whole(0, 4))}
    pixels = torch.full((choices.whole(1, 9), choices.whole(1, 9), choices.pick((1, 3, 4))), 7, dtype=torch.uint8)
    assert quick_png_bytes(pixels)
    with Image.open(io.BytesIO(png_bytes(pixels, texts))) as image:
        assert image.size == (pixels.shape[1], pixels.shape[0])
        found = {name: str(text) for name, text in image.info.items() if isinstance(text, str)}
    assert bool(found) == bool(texts), (found, texts)
    for name, text in texts.items():
        plain = name.isascii() and name.isprintable() and name == name.strip() and name
        if plain and "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text):
            assert found[name] == text, (found, texts)


def run_tensors(data: bytes, folder: Path) -> None:
    """Batches of any shape and type, with boxes anywhere."""
    choices = Choices(data)
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64, torch.bool)

    def image() -> torch.Tensor:
        shape = [choices.whole(0, 12) for _ in range(choices.pick((3, 3, 3, 3, 2, 4)))]
        if len(shape) == 3 and choices.byte() % 4:
            shape[2] = choices.pick((3, 3, 1, 4))
        found = torch.full(shape, choices.whole(0, 4) / 4).to(choices.pick(kinds))
        if found.numel() and found.dtype.is_floating_point and not choices.byte() % 4:
            number = choices.number()
            found.view(-1)[choices.whole(0, found.numel() - 1)] = float(number) if not abs(number) > 6e4 else 0.0
        return found

    images = image() if choices.flag() else choices.some(image, 4)
    batch = check(images, choices.whole(0, 4) / 4)
    assert len(batch) == len(images) and all(h > 0 and w > 0 for h, w in batch.sizes)

    def box() -> list[float]:
        x, y, w, h = (float(v) if abs(v) < 1e300 else 1e30 for v in (choices.number() for _ in range(4)))
        return [x, y, x + abs(w), y + abs(h)]

    faces = Faces.from_boxes([choices.some(box, 2) for _ in batch.sizes], batch.sizes)
    size = choices.whole(1, 40)
    crops = head_crops(batch, faces, size, choices.pick((1.0, 0.1, 3.0, 20.0)), choices.pick((0.0, 0.2, -5.0)))
    assert crops.shape == (len(faces), 3, size, size) and bool(((crops >= 0) & (crops <= 1)).all())


WORDS = (
    *(b"IHDR", b"IDAT", b"IEND", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"tRNS", b"PLTE"),
    *(
        b"\xff\xd8",
        b"\xff\xd9",
        b"\xff\xc0",
        b"\xff\xe1",
        b"\xff\xda",
        b"GIF89a",
        b"\x2c",
        b"\x21\xf9\x04",
        b"\x21\xfe",
    ),
    *(
        b"RIFF",
        b"WEBP",
        b"VP8 ",
        b"VP8L",
        b"VP8X",
        b"ANIM",
        b"ANMF",
        b"ALPH",
        b"II*\0",
        b"MM\0*",
        b"BM",
        b"P6\n",
        b"8BPS",
    ),
    *(b"%!PS-Adobe", b"DDS ", b"qoif", b"\0\0\1\0", b"icns", b"\x0a\x05", b"ftypavif", b"\0\0\0\x0cjP  ", b"SIMPLE  ="),
)

PICTURES = (
    # 20 bytes a pixel: the picture, its conversions, and the copy that is handed on, of the largest that is allowed.
    Target("image", "picture files", run_file, (ImageError,), picture_files, WORDS, 8192, 3600),
    Target("png-chunks", "PNG files, chunk by chunk", run_chunks, (ImageError,), random_seeds, (), 512),
    Target("png-texts", "texts written into PNG files", run_texts, (ValueError,), random_seeds, (), 256),
    Target("tensors", "batches and boxes", run_tensors, (ValueError, TypeError), random_seeds, (), 256),
)
