"""Sidecar captions: the text file beside a picture that says what is in it, as trainers such as kohya's read it.

Captions are often hand-made, so nothing here loses one: modes say what becomes of an existing text, a file that is
not UTF-8 is refused rather than replaced, and files are written whole or not at all.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .caption_text import with_tags
from .files import atomic_write_text
from .tags import merge_tags, parse_tags

Mode = Literal["skip", "overwrite", "append", "prepend"]
MODES: tuple[Mode, ...] = get_args(Mode)
Outcome = Literal["written", "unchanged", "skipped"]
BYTE_ORDER_MARK = "\ufeff"


class CaptionError(ValueError):
    """A caption that cannot be read, and so must not be replaced."""


@dataclass(frozen=True)
class CaptionPlan:
    """What becomes of one sidecar.

    Attributes:
        path: the sidecar.
        outcome: ``written``, ``unchanged`` (it says so already), or ``skipped`` (mode skip, and there is one).
        text: what the sidecar says afterwards; None where it is skipped, since then it is not even read.
    """

    path: Path
    outcome: Outcome
    text: str | None


def caption_path(image: str | os.PathLike[str], extension: str = ".txt") -> Path:
    """The sidecar of a picture: same folder, same stem, another extension (with or without its dot).

    Raises:
        ValueError: the extension is empty, holds a folder, or is the picture's own, which would overwrite the picture.

    >>> caption_path("set/miku.v2.png").as_posix(), caption_path("a.jpg", "caption").as_posix()
    ('set/miku.v2.txt', 'a.caption')
    """
    image = Path(image)
    extension = "." + extension.removeprefix(".")
    if extension == "." or "/" in extension or "\\" in extension or "\0" in extension:
        raise ValueError(f"caption extension {extension!r} is not an extension such as .txt")
    if extension.casefold() == image.suffix.casefold():
        raise ValueError(f"caption extension {extension} is that of the picture {image}, which would be overwritten")
    return image.with_name(image.stem + extension)


def read_caption(path: str | os.PathLike[str]) -> str | None:
    r"""The text of a sidecar with ``\n`` as line end, without byte-order marks; None where there is no file.

    Joined files have such marks in their middle, where they would be read as letters of a tag.

    Raises:
        CaptionError: the file is not UTF-8 text.
        OSError: it cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return None
    advice = "save it as UTF-8 or move it away; it was left as it is"
    try:
        text = data.decode("utf-8").replace(BYTE_ORDER_MARK, "")
    except UnicodeDecodeError as error:
        raise CaptionError(f"{path} is not UTF-8 text (byte {error.start}): {advice}") from error
    if "\0" in text:  # UTF-16 without a mark, or no text at all
        raise CaptionError(f"{path} is not UTF-8 text (it holds zero bytes): {advice}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def plan_caption(
    image: str | os.PathLike[str],
    tags: Sequence[str],
    mode: Mode = "skip",
    separator: str = ", ",
    extension: str = ".txt",
    replace_counts: bool = False,
) -> CaptionPlan:
    """What :func:`write_caption` would do with these arguments; reads, but writes nothing."""
    if mode not in MODES:
        raise ValueError(f"caption mode {mode!r} is not known; choose one of {', '.join(MODES)}")
    if not separator:
        raise ValueError("the separator of a caption is empty: its tags could not be told apart")
    if BYTE_ORDER_MARK in separator:
        raise ValueError(f"the separator {separator!r} holds a byte-order mark, which captions are read without")
    path = caption_path(image, extension)
    if mode == "skip" and path.exists():
        return CaptionPlan(path, "skipped", None)
    existing = read_caption(path) or ""
    if mode in ("append", "prepend"):
        text = _combine(existing, tags, mode == "prepend", separator, replace_counts)
    else:
        text = separator.join(tags)
    return CaptionPlan(path, "unchanged" if text == existing else "written", text)


def write_caption(
    image: str | os.PathLike[str],
    tags: Sequence[str],
    mode: Mode = "skip",
    separator: str = ", ",
    extension: str = ".txt",
    replace_counts: bool = False,
) -> Outcome:
    """Write the sidecar of a picture, whole or not at all.

    A missing sidecar counts as an empty one: where there is nothing to say none is made, but ``overwrite`` with no
    tags empties an existing one. A sidecar that says it already is not touched.

    Args:
        image: the picture's path; it need not exist.
        tags: what to write, spelled as wanted (:func:`anigender.tags.spell_tags`).
        mode: for an existing sidecar ``skip`` leaves it alone, ``overwrite`` replaces it, ``append`` and ``prepend``
            put the tags that it lacks behind or before its own.
        separator: goes between tags.
        extension: the sidecar's.
        replace_counts: in ``append`` and ``prepend`` drop existing count tags that contradict the new ones
            (:func:`anigender.tags.merge_tags`). Off by default, since neither mode sounds as if it dropped anything.

    Raises:
        ValueError: another mode, a wrong extension, an empty separator, or (in ``append`` and ``prepend``) a tag that
            the separator or a line end would split, so that it could not be found again.
        CaptionError: an existing sidecar is not UTF-8 text (in every mode but ``skip``), or a link that leads out of
            its folder: a data set from elsewhere must not have other files written to.
        OSError: it cannot be read or written.
    """
    plan = plan_caption(image, tags, mode, separator, extension, replace_counts)
    if plan.outcome == "written" and plan.text is not None:
        _check_link(plan.path)
        atomic_write_text(plan.path, plan.text)
    return plan.outcome


def _check_link(path: Path) -> None:
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(path.parent)):
        raise CaptionError(f"{path} is a link that leads out of its folder; it was left as it is: tag what it leads to")


def _combine(text: str, new: Sequence[str], first: bool, separator: str, replace_counts: bool) -> str:
    for tag in new:
        # A byte-order mark is not read again, and the tag is another one then.
        if parse_tags(tag, separator) != [tag] or BYTE_ORDER_MARK in tag:
            raise ValueError(f"tag {tag!r} would not be one tag in a caption with the separator {separator!r}")
    if not new:
        return text
    merged = merge_tags(parse_tags(text, separator), new, "first" if first else "last", replace_counts)
    joined = with_tags(text, merged, first, separator)
    if parse_tags(joined, separator) != merged:  # an existing tag holds half a separator
        raise ValueError(f"{merged} would not be the tags of a caption with the separator {separator!r}")
    return joined


def shared_captions(images: Iterable[str | os.PathLike[str]], extension: str = ".txt") -> dict[Path, list[Path]]:
    """Sidecars that more than one of these pictures would have (``a.png`` and ``a.jpg``), with their pictures.

    A path given twice is one picture. On systems whose file names ignore case, so does this.

    >>> shared = shared_captions(["x/a.png", "x/b.png", "x/a.jpg"])
    >>> [(path.as_posix(), [image.name for image in images]) for path, images in shared.items()]
    [('x/a.txt', ['a.png', 'a.jpg'])]
    """
    # A database of its own, which SQLite keeps on disk where it grows: there may be millions of pictures.
    with closing(sqlite3.connect("")) as table:
        table.execute("CREATE TABLE pictures (sidecar BLOB, picture BLOB, path BLOB, UNIQUE (sidecar, picture))")
        table.executemany(
            "INSERT OR IGNORE INTO pictures VALUES (?, ?, ?)",
            (
                (_identity(caption_path(image, extension)), _identity(image), os.fsencode(image))
                for image in map(Path, images)
            ),
        )
        shared = table.execute(
            "SELECT sidecar FROM pictures GROUP BY sidecar HAVING COUNT(*) > 1 ORDER BY MIN(rowid)"
        ).fetchall()
        groups = [
            [Path(os.fsdecode(path)) for (path,) in rows]
            for rows in (
                table.execute("SELECT path FROM pictures WHERE sidecar = ? ORDER BY rowid", sidecar).fetchall()
                for sidecar in shared
            )
        ]
    return {caption_path(group[0], extension): group for group in groups}


def _identity(path: Path) -> bytes:
    return os.fsencode(os.path.normcase(os.path.abspath(path)))
