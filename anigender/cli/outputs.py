"""What the commands write to, so that no picture is replaced: a shell puts all that a glob matches behind an option."""

from __future__ import annotations

from pathlib import Path

import click

from ..captions import caption_path
from ..folders import is_picture
from ..packed import is_packed
from .inputs import printable


def output_file(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    """A file for results; one that is called as pictures or shards are is wrong usage, whether it exists or not.

    Parquet is what tables of results are as well.
    """
    if value is not None and (is_picture(value.name) or (is_packed(value.name) and value.suffix.lower() != ".parquet")):
        raise click.BadParameter(
            f"{printable(value)} has the name of a picture or shard, which would be replaced: expected a name such as "
            "results.jsonl, and the pictures before this option"
        )
    return value


to_file = click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=output_file,
    help="Write here instead of stdout.",
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
