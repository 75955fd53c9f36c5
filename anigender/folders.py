"""Pictures from files: finding them, decoding them ahead of the computation, and outliving the broken ones."""

from __future__ import annotations

import io
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
import torch
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from .faces import Faces
from .pipeline import Pipeline

SUFFIXES = frozenset(
    (
        ".png .apng .jpg .jpeg .jpe .jfif .webp .avif .jp2 .gif .bmp .dib .tif .tiff .tga .ppm .pgm .pbm .pnm .ico .qoi"
    ).split()
)
# What Pillow knows and is not asked for: one hands the file to another program (Ghostscript), the others are stubs or
# play a record of drawing commands.
NOT_READ = frozenset(("EPS", "WMF", "BUFR", "GRIB", "HDF5"))
MAX_PIXELS = 178_956_970  # where Pillow itself refuses a picture as a decompression bomb
AHEAD_PIXELS = 48_000_000  # decoded pictures waiting for the computation: 144 MB as RGB
AHEAD_KNOWN = 4096  # results known beforehand that may wait for pictures before them

# What is known of a picture before it is decoded: nothing (its file is to be read), the bytes of its file, why there is
# none, or, from an earlier run, the result.
Known: TypeAlias = "None | bytes | str | Result"


class ImageError(ValueError):
    """A file that cannot be read as a picture; the message says why, without the path."""


def is_picture(name: str) -> bool:
    """Whether a file's name ends as those of pictures do; not what macOS keeps beside a file, such as ``._a.png``."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not is_companion(name)


def is_companion(name: str) -> bool:
    """Whether a file is called as those are in which macOS keeps another one's attributes, on disks and in tars."""
    return os.path.basename(name).startswith("._")


def find_images(
    paths: Iterable[str | Path], recursive: bool = False, wanted: Callable[[str], bool] = is_picture
) -> Iterator[tuple[Path, str | None]]:
    """The pictures that the given files and folders stand for.

    A file stands for itself, whatever its suffix; a folder for the pictures in it by suffix, in name order
    (with ``recursive``, those of its subfolders too, in the order of their relative paths). Memory grows with the
    files of the largest folder, about 100 bytes for each, and not with the files in all.

    Args:
        paths: files and folders.
        recursive: look into subfolders.
        wanted: tells by its name whether a file in a folder is one of those looked for.

    Yields:
        ``(path, None)``, or ``(path, reason)`` for what does not exist or may not be listed.
    """
    for given in paths:
        path = Path(given)
        try:
            folder = stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            yield path, "no such file or folder"
        except (OSError, ValueError) as error:  # too long a name, a zero byte, a parent that may not be entered
            yield path, _reason(error)
        else:
            if folder:
                yield from _in_folder(path, recursive, wanted)
            else:
                yield path, None


def _in_folder(folder: Path, recursive: bool, wanted: Callable[[str], bool]) -> Iterator[tuple[Path, str | None]]:
    names = []  # and not the entries, which take several times as much memory
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                # A link to a folder may lead back up: it is not followed.
                if entry.is_dir(follow_symlinks=False):
                    if recursive:
                        names.append(entry.name + "\0")  # no name holds it, and it changes nothing in their order
                elif wanted(entry.name):
                    names.append(entry.name)
    except OSError as error:
        yield folder, f"cannot list the folder: {error.strerror}"
        return
    names.sort()
    for name in names:
        if name.endswith("\0"):
            yield from _in_folder(folder / name[:-1], recursive, wanted)
        else:
            yield folder / name, None


def picture_size(source: str | Path | bytes) -> tuple[int, int]:
    """(height, width) after EXIF rotation, from the header alone, of a file or of a file's bytes.

    Raises:
        ImageError: the header cannot be read, or it claims more than :data:`MAX_PIXELS`.
    """
    with open_image(source) as image:
        turned = _orientation(image) in (5, 6, 7, 8)
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # newer versions of Pillow turn these themselves
            turned = turned and image.width == image.tag_v2.get(TiffImagePlugin.IMAGEWIDTH)
        return (image.width, image.height) if turned else (image.height, image.width)


def read_image(source: str | Path | bytes, background: int = 255) -> Tensor:
    """A file as ``[H, W, 3]`` uint8 sRGB: EXIF rotation applied, alpha composited, the first frame of an animation.

    Args:
        source: a file of any format that Pillow reads by itself, whatever its suffix (not :data:`NOT_READ`), or the
            bytes of one.
        background: grey level behind transparent pixels, 0-255.

    Raises:
        ImageError: missing, truncated, not a picture, or a decompression bomb.
    """
    with open_image(source) as image:
        return _decode(image, background)


def read_frames(path: str | Path, background: int = 255) -> Iterator[Tensor]:
    """Every frame of an animation, one at a time, each as :func:`read_image` gives the first."""
    with open_image(path) as image:
        try:
            count = getattr(image, "n_frames", 1)
        except Exception as error:  # see open_image
            raise ImageError(f"its frames cannot be counted: {_reason(error)}") from error
        for i in range(count):
            try:
                image.seek(i)
            except Exception as error:  # see open_image
                raise ImageError(f"frame {i} cannot be read: {_reason(error)}") from error
            _check_size(image)  # pages differ in size
            yield _decode(image, background)


def open_image(source: str | Path | bytes) -> Image.Image:
    """A picture with its header read, for whoever needs more than :func:`read_image` gives; close it.

    Every picture that is not this program's own is opened here, since ``Image.open`` alone would hand some to another
    program. The pixels are decoded later, and whatever is wrong with those may raise anything.

    Raises:
        ImageError: as of :func:`read_image`, as far as the header tells.
    """
    if not isinstance(source, bytes) and os.path.exists(source) and not os.path.isfile(source):
        raise ImageError("not an ordinary file")  # a pipe would be waited for
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats())
    except Exception as error:  # decoders raise anything on hostile bytes; one bad file is one failure
        raise ImageError(_reason(error, source)) from error
    try:
        _check_size(image)
    except ImageError:
        image.close()
        raise
    return image


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.preinit()  # the common ones come first
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_READ)


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"claims {image.width} x {image.height} pixels, the limit is {MAX_PIXELS} in all")


def _reason(error: Exception, source: str | Path | bytes | None = None) -> str:
    if isinstance(error, UnidentifiedImageError):
        empty = source == b""
        if isinstance(source, (str, Path)):
            try:
                empty = os.path.getsize(source) == 0
            except OSError as gone:  # since it was opened
                return _reason(gone)
        return "the file is empty" if empty else "not a picture in any format that can be read here"
    if isinstance(error, Image.DecompressionBombError):
        return f"claims too many pixels, the limit is {MAX_PIXELS} in all"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """How the camera was held, as EXIF numbers it; 1 (upright) where that cannot be read."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # see open_image; the pixels may be whole all the same
        return 1


def _decode(image: Image.Image, background: int) -> Tensor:
    try:
        pixels = np.asarray(_to_rgb(as_seen(image), background))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"needs more memory than there is ({image.width} x {image.height})") from error
    except Exception as error:  # see open_image
        raise ImageError(_reason(error)) from error
    return torch.from_numpy(pixels.copy() if not pixels.flags.writeable else pixels)


def as_seen(image: Image.Image) -> Image.Image:
    """A picture turned as EXIF says, and of 8 bits where it has more; its alpha and its other modes stay.

    For whoever needs more than :func:`read_image` gives. Decoders may raise anything.
    """
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        top = float(np.nanmax(values, initial=0.0))
        # 16-bit files come as I;16 or I, and small values are still 16-bit; floats are either 0-1 or 0-255.
        whole = 65535.0 if image.mode.startswith("I") else (1.0 if top <= 1.0 else 255.0)
        image = Image.fromarray((np.nan_to_num(values).clip(0, whole) * (255.0 / whole)).round().astype(np.uint8))
    return image


def _to_rgb(image: Image.Image, background: int) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, (background, background, background, 255))
        canvas.alpha_composite(image)
        image = canvas
    return image.convert("RGB")


@dataclass(frozen=True)
class Result:
    """What became of one file.

    Attributes:
        path: as found.
        size: (height, width), or None where it could not be read.
        faces: its faces in host memory, as a batch of one picture; None where ``error`` is set.
        error: why there are none to speak of.
        pixels: the decoded picture ``[H, W, 3]`` uint8, where it was asked for.
    """

    path: Path
    size: tuple[int, int] | None = None
    faces: Faces | None = None
    error: str | None = None
    pixels: Tensor | None = None

    def with_faces(self, faces: Faces) -> Result:
        """The same file with other faces."""
        return replace(self, faces=faces)


@overload
def decoded(
    found: Iterable[tuple[Path, str | None]], threads: int | None = None, ahead: int = 64
) -> Iterator[tuple[Path, Tensor | str]]: ...


@overload
def decoded(
    found: Iterable[tuple[Path, Known]], threads: int | None = None, ahead: int = 64
) -> Iterator[tuple[Path, Tensor | str | Result]]: ...


def decoded(
    found: Iterable[tuple[Path, Known]], threads: int | None = None, ahead: int = 64
) -> Iterator[tuple[Path, Tensor | str | Result]]:
    """Decode files in threads, ahead of whoever consumes them, in order and within bounded memory.

    Args:
        found: what :func:`find_images` yields, or pictures of which more is known: see :data:`Known`.
        threads: decoding threads; the CPU's count where None.
        ahead: most pictures decoded but not yet consumed; :data:`AHEAD_PIXELS` bounds them too.

    Yields:
        ``(path, pixels)``, or ``(path, reason)`` for what could not be read; a known result as it came.
    """
    source = iter(found)
    waiting: deque[tuple[Path, Future[Tensor] | str | Result, int]] = deque()
    pixels_waiting = 0
    exhausted = False
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        try:
            while True:
                while not exhausted and len(waiting) < ahead and (pixels_waiting < AHEAD_PIXELS or not waiting):
                    try:
                        path, known = next(source)
                    except StopIteration:
                        exhausted = True
                        break
                    if isinstance(known, (str, Result)):
                        waiting.append((path, known, 0))
                        continue
                    content = path if known is None else known
                    try:
                        height, width = picture_size(content)
                    except ImageError as error:
                        waiting.append((path, str(error), 0))
                        continue
                    area = height * width + (0 if known is None else len(known) // 3)
                    waiting.append((path, pool.submit(read_image, content), area))
                    pixels_waiting += area
                if not waiting:
                    return
                path, outcome, area = waiting.popleft()
                pixels_waiting -= area
                if isinstance(outcome, Future):
                    try:
                        outcome_or_reason: Tensor | str | Result = outcome.result()
                    except ImageError as error:
                        outcome_or_reason = str(error)
                else:
                    outcome_or_reason = outcome
                yield path, outcome_or_reason
        finally:  # an abandoned iteration must not decode on
            for _, outcome, _ in waiting:
                if isinstance(outcome, Future):
                    outcome.cancel()


def process(
    found: Iterable[tuple[Path, Known]],
    pipeline: Pipeline,
    batch: int = 16,
    threads: int | None = None,
    keep_pixels: bool = False,
) -> Iterator[Result]:
    """Files through the pipeline: one result per file, in order, whatever becomes of single files.

    Memory does not grow with the number of files: at most one batch and the pictures decoded ahead are held.
    What is known already (see :data:`Known`) is handed on in its place.
    """
    pending: list[tuple[Path, Tensor | str | Result]] = []

    def flush() -> Iterator[Result]:
        answers = iter(_answers([pixels for _, pixels in pending if isinstance(pixels, Tensor)], pipeline))
        for path, pixels in pending:
            if isinstance(pixels, Result):
                yield pixels
                continue
            answer = pixels if isinstance(pixels, str) else next(answers)
            if isinstance(pixels, str) or isinstance(answer, str):
                yield Result(path, error=str(answer))
                continue
            size = (pixels.shape[0], pixels.shape[1])
            yield Result(path, size, answer, pixels=pixels if keep_pixels else None)
        pending.clear()

    area = count = 0
    for item in decoded(found, threads, ahead=max(2, batch) * 2):
        pending.append(item)
        if isinstance(item[1], Tensor):
            count += 1
            area += item[1].shape[0] * item[1].shape[1]
        if count >= batch or area >= AHEAD_PIXELS or count == 0 or len(pending) >= AHEAD_KNOWN:
            yield from flush()
            area = count = 0
    yield from flush()


def _answers(pictures: list[Tensor], pipeline: Pipeline) -> list[Faces | str]:
    """The faces of each picture, or why there are none: one that cannot be judged must not take the rest along."""
    if not pictures:
        return []
    try:
        faces = pipeline(pictures).cpu()
    except Exception as error:
        exceeded = pipeline.out_of_memory(error)
        if not exceeded and not isinstance(error, ValueError):  # which is what the models say of a picture
            raise
        if len(pictures) > 1:
            return [answer for picture in pictures for answer in _answers([picture], pipeline)]
        if exceeded:
            return [f"needs more memory than there is ({pictures[0].shape[1]} x {pictures[0].shape[0]})"]
        return [_reason(error)]
    return [faces.of_image(i) for i in range(len(pictures))]
