"""Tar files as shards, as WebDataset writes them: the members that are called as pictures are."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from ..folders import Known, Result, is_picture
from .limits import LARGEST_PICTURE, too_large

GZIP = b"\x1f\x8b"
MOST_PADDING = 1 << 24  # bytes of zeros behind an end mark; tar fills up to a record, of 10,240 by itself
CUT_OFF = "the tar file ends without its end mark: it is cut off or damaged, and pictures may be missing"


class _Careful:
    """A file of which no header makes anybody read more than a picture's worth at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_PICTURE:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self.stream.read(size)


def pictures_in_tar(path: Path, recall: Callable[[Path], Result | None]) -> Iterator[tuple[Path, Known]]:
    """The pictures among a tar's members; see :func:`anigender.packed.pictures_in`.

    Tars that gzip compressed are read too, and so are several that were put together (``cat a.tar b.tar``). Links,
    devices and whatever is not called as a picture are passed over.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        yield path, "not an ordinary file"
        return
    try:
        with path.open("rb") as stream:
            yield from _members(path, stream, recall)
    except (tarfile.TarError, EOFError) as error:
        yield path, f"the tar file is damaged or cut off, and pictures may be missing ({error})"
    except OSError as error:
        yield path, error.strerror.lower() if error.strerror else f"the tar file is damaged ({error})"
    except Exception as error:  # decompressors and header fields raise anything on hostile bytes
        yield path, f"the tar file is damaged, and pictures may be missing ({error or type(error).__name__})"


def _members(path: Path, stream: IO[bytes], recall: Callable[[Path], Result | None]) -> Iterator[tuple[Path, Known]]:
    start = stream.read(2)
    if not start:
        yield path, "the file is empty"
        return
    stream.seek(0)
    contents = _Careful(cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if start == GZIP else stream)
    names: set[Path] = set()
    while True:
        with tarfile.open(fileobj=cast("IO[bytes]", contents), mode="r:", errorlevel=2) as tar:
            yield from _members_of_one(path, tar, names, recall)
            contents.seek(tar.offset)
        # tarfile takes whatever is no header for the end; in a whole file that is an empty block.
        if contents.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            yield path, CUT_OFF
            return
        for _ in range(MOST_PADDING // tarfile.BLOCKSIZE):
            block = contents.read(tarfile.BLOCKSIZE)
            if not block:
                return
            if block.strip(tarfile.NUL):  # another tar, as of several that were put together
                contents.seek(contents.tell() - len(block))
                break
        else:
            yield path, f"more than {MOST_PADDING:,} zeros follow the tar file's end mark: what is behind is not read"
            return


def _members_of_one(
    path: Path, tar: tarfile.TarFile, names: set[Path], recall: Callable[[Path], Result | None]
) -> Iterator[tuple[Path, Known]]:
    """The pictures up to a tar's end mark; ``names`` are those met so far in the file ``path``."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # which tarfile keeps for look-ups, and which would grow
        if not member.isreg() or not is_picture(member.name):
            continue
        name = Path(f"{path}/{member.name}")
        if ".." in name.parts[len(path.parts) :]:
            yield name, "its name leads out of the tar file"
            continue
        if name in names:
            yield name, "the tar file has another member of this name before it"
            continue
        names.add(name)
        if (known := recall(name)) is not None:
            yield name, known
        elif member.size > LARGEST_PICTURE:
            yield name, too_large(member.size)
        else:
            content = tar.extractfile(member)
            assert content is not None  # as for every regular file
            with content:
                yield name, content.read(member.size)
