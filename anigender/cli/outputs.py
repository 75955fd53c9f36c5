"""What the commands write to, so that no picture is replaced: a shell puts all that a glob matches behind an option."""

from __future__ import annotations

from pathlib import Path

import click

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
