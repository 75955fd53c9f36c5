"""Pictures into a folder with their captions, as trainers read them: numbered, atomic, and never over existing ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from .captions import write_caption
from .files import atomic_write_bytes
from .images import bytes_on_cpu
from .png import encoded, png_bytes

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$')


def to_bytes(images: Tensor) -> Tensor:
    """``[B, H, W, C]`` float 0-1 to uint8 in host memory: rounded on their device, then copied once."""
    if images.dtype == torch.uint8 or images.device.type == "cpu":
        return bytes_on_cpu(images.cpu())
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def kohya_folder(repeats: int, name: str) -> str:
    """The folder's name that kohya's trainers read: how often to repeat its pictures, and what they show.

    Raises:
        ValueError: fewer than one repeat, or a name that some system cannot have.

    >>> kohya_folder(10, "mychar")
    '10_mychar'
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, expected 1 or more")
    if not name.strip() or _FORBIDDEN.search(name):
        raise ValueError(f"{name!r} cannot be part of a folder's name: use letters, digits, spaces, _ and -")
    return f"{repeats}_{name}"


def free_names(folder: Path, prefix: str, extensions: Sequence[str] = (".png", ".txt")) -> Iterator[str]:
    """Names ``<prefix>_00001``, ``<prefix>_00002`` and so on, from behind the highest number that is taken.

    A number counts as taken when a file of any of the extensions has it.
    """
    pattern = re.compile(re.escape(prefix) + r"_(\d+)_?")
    taken = [0]
    if folder.is_dir():
        for entry in folder.iterdir():
            match = pattern.fullmatch(entry.stem)
            if match and entry.suffix.lower() in extensions:
                taken.append(int(match[1]))
    number = max(taken)
    while True:
        number += 1
        yield f"{prefix}_{number:05d}"


def save_with_captions(
    images: Sequence[Tensor],
    captions: Sequence[str],
    folder: Path,
    prefix: str,
    texts: Mapping[str, str] | None = None,
    overwrite: bool = False,
    compress_level: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Save every picture as ``<prefix>_<number>.png`` with its caption in a ``.txt`` beside it.

    Args:
        images: batches ``[B, H, W, C]``, each of any size.
        captions: one per picture over all batches; an empty one makes no file.
        folder: made where it does not exist.
        prefix: of the names, without a folder.
        texts: what goes into every PNG, such as the workflow.
        overwrite: number from 1 and replace what is there, instead of numbering on.
        compress_level: of the PNG, 0-9.
        progress: called with (done, in all) after each picture; what it raises ends the call.

    Returns:
        The pictures' paths, in order.

    Raises:
        ValueError: another number of captions than of pictures.
        OSError: a file could not be written; those before it are whole.
    """
    total = sum(len(batch) for batch in images)
    if len(captions) != total:
        raise ValueError(f"there are {len(captions)} captions for {total} pictures")
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{prefix}_{i:05d}" for i in range(1, total + 1)) if overwrite else free_names(folder, prefix)
    paths: list[Path] = []
    for batch in images:
        with closing(encoded(to_bytes(batch), lambda pixels: png_bytes(pixels, texts or {}, compress_level))) as files:
            for data in files:
                path = folder / f"{next(names)}.png"
                if path.exists() and not overwrite:  # somebody else has been as quick
                    raise FileExistsError(f"{path} exists already; nothing was overwritten")
                atomic_write_bytes(path, data)
                caption = captions[len(paths)]
                write_caption(path, [caption] if caption else [], "overwrite" if overwrite else "skip")
                paths.append(path)
                if progress is not None:
                    progress(len(paths), total)
    return paths
