"""What the commands write to, so that no picture is replaced: a shell puts all that a glob matches behind an option."""

from __future__ import annotations

from pathlib import Path

import click

from ..captions import caption_path
from ..folders import is_picture
from ..packed import has_pictures, is_packed
from ..printable import printable


def output_file(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    """A file for results; one that is called as pictures or shards are is wrong usage, whether it exists or not.

    Parquet is what tables of results are as well: there one that holds pictures already is wrong usage.
    """
    if value is None:
        return None
    if is_picture(value.name) or (is_packed(value.name) and value.suffix.lower() != ".parquet"):
        raise _replaced(value, "has the name of a picture or shard")
    if value.suffix.lower() == ".parquet" and value.is_file() and has_pictures(value):
        raise _replaced(value, "holds pictures, or is no table that can be read")
    return value


def lines_file(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    """As :func:`output_file`, where results are JSON lines and never a Parquet table."""
    if value is not None and value.suffix.lower() == ".parquet":
        raise _replaced(value, "has the name of a picture or shard")
    return output_file(context, option, value)


def _replaced(path: Path, what: str) -> click.BadParameter:
    return click.BadParameter(
        f"{printable(path)} {what}, which would be replaced: expected a name such as results.jsonl, and the pictures "
        "before this option"
    )


to_file = click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=lines_file,
    help="Write here instead of stdout: JSON lines.",
)


def caption_extension(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """An extension of caption files; one that no file can have, or that pictures have, is wrong usage."""
    if value is None:
        return None
    try:
        caption = caption_path("picture", value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if is_picture(caption.name):
        raise click.BadParameter(f"{value!r} is an extension of pictures; expected one such as .txt")
    return value
