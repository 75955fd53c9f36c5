"""The unlabelled faces: tar shards of pictures, each one face."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..folders import as_seen, open_image

log = logging.getLogger("anigender")

FOLDER = "unlabelled"


def shards(data: Path) -> list[Path]:
    """Those of a data folder, in name order."""
    return sorted((data / FOLDER).glob("*.tar"))


def face_names(shard: Path) -> list[str]:
    """``shard/file`` of each face."""
    with tarfile.open(shard) as archive:
        return [f"{shard.name}/{member.name}" for member in archive.getmembers() if member.isfile()]


def read_faces(shard: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, np.ndarray]]:
    """The faces of a shard whose name (``shard/file``) is wanted: name and pixels ``[h, w, 4]`` uint8 RGBA.

    Unreadable ones are left out, which is said in the log.
    """
    with tarfile.open(shard) as archive:
        for member in tqdm(archive.getmembers(), desc=shard.name, unit="face", disable=None):
            name = f"{shard.name}/{member.name}"
            if not member.isfile() or not wanted(name):
                continue
            stream = archive.extractfile(member)
            assert stream is not None
            try:
                with open_image(stream.read()) as image:
                    pixels = np.asarray(as_seen(image).convert("RGBA"))
            except Exception as error:  # decoders raise anything on hostile bytes; one bad file is one failure
                log.warning("%s cannot be read and is left out: %s", name, error)
                continue
            yield name, pixels
