"""Writing files whole or not at all.

A caption or a result that is half written is worse than none: the next run takes it for finished. So every file is
written under another name in the same folder and renamed into place.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def is_name(text: str) -> bool:
    """Whether a file or folder can be called this here: neither nothing nor a path, which may lead anywhere.

    >>> [is_name(text) for text in ("asuka", "rem_(re:zero)", "", "..", "../asuka", "/asuka")]
    [True, True, False, False, False, False]
    """
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    # Nothing but dots and spaces: Windows takes away those at the end of a name.
    return bool(text.strip(". ")) and "\0" not in text and Path(text).name == text


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write into, that becomes ``path`` when the block ends well.

    Whatever ends the block early (an exception, Ctrl-C) leaves the former file as it was and no other behind.
    An existing file keeps its permissions; a symbolic link stays one, the file it points to is replaced.

    Args:
        path: the file to make or to replace; its folder must exist.

    Raises:
        FileNotFoundError: the folder does not exist.
        PermissionError: the existing file is read-only, or the folder may not be written to.
        OSError: ``path`` is a folder, a device or a pipe, or the disk failed.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder to write into does not exist", str(target.parent))
    mode = None
    if target.exists():
        found = target.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "only an ordinary file can be replaced", str(target))
        # Renaming would replace a read-only file without asking, where writing to it would not.
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "the file is read-only", str(target))
        mode = stat.S_IMODE(found.st_mode)
    # A random name that nobody else has; mode "x" makes it with the user's own umask, which mkstemp would not.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` as the whole of ``path``, or leave ``path`` as it was; errors as of :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(data)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as the whole of ``path`` in UTF-8, line ends as given; errors as of :func:`atomic_file`.

    Raises:
        UnicodeEncodeError: the text holds half of a surrogate pair; nothing is written.
    """
    atomic_write_bytes(path, text.encode("utf-8"))
