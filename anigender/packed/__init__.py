"""Shards: files with many pictures in them, as datasets of millions of pictures are kept.

A picture in one is named as if the shard were a folder: ``shard-00007.tar/0123.jpg``, and by its row, counted from 0,
in ``part-3.parquet/41``. Such names are for people, and as keys: nothing is ever read from or written to them, so a
member that is called ``../../etc/passwd`` is a picture with an odd name.

A new kind of shard is a new file with a function like :func:`~.tar.pictures_in_tar`, and one entry below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..folders import Known, Result, is_companion, is_picture
from .parquet import has_pictures as has_pictures
from .parquet import pictures_in_parquet
from .tar import pictures_in_tar

Recall = Callable[[Path], "Result | None"]
Reader = Callable[[Path, Recall], Iterator[tuple[Path, Known]]]

READERS: dict[str, Reader] = {
    ".tar": pictures_in_tar,
    ".tar.gz": pictures_in_tar,
    ".tgz": pictures_in_tar,
    ".parquet": pictures_in_parquet,
}


def is_packed(name: str) -> bool:
    """Whether a file's name ends as those of shards do; see :func:`~anigender.folders.is_picture`."""
    return name.lower().endswith(tuple(READERS)) and not is_companion(name)


def is_picture_or_packed(name: str) -> bool:
    """What a folder of a dataset is searched for."""
    return is_picture(name) or is_packed(name)


def is_plain_table(path: Path) -> bool:
    """Whether a file is a Parquet table without pictures, such as a dataset's metadata: no shard after all."""
    return path.name.lower().endswith(".parquet") and not has_pictures(path)


def nothing_known(path: Path) -> None:
    """The recall of a run that starts anew."""


def pictures_in(path: Path, recall: Recall = nothing_known) -> Iterator[tuple[Path, Known]]:
    """The pictures in a shard, in its order, one at a time: nothing is unpacked to disk, and no shard is held whole.

    Args:
        path: a file whose name :func:`is_packed` accepts.
        recall: asked for the result of each picture, by its name, before it is read.

    Yields:
        ``(name, bytes)``; ``(name, result)`` for what is known already; ``(name, reason)`` for a picture that cannot
        be read; ``(path, reason)`` where the shard itself is broken, after what could be read of it.
    """
    ending = max((ending for ending in READERS if path.name.lower().endswith(ending)), key=len)
    return READERS[ending](path, recall)


def unpacked(found: Iterator[tuple[Path, str | None]]) -> Iterator[tuple[Path, Known]]:
    """What was found, with the pictures in place of the shards."""
    for path, problem in found:
        if problem is None and is_packed(path.name):
            yield from pictures_in(path)
        else:
            yield path, problem
