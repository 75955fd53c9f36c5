"""``anigender tag``: booru tags into caption sidecars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ..captions import MODES, Mode, caption_path, plan_caption, shared_captions, write_caption
from ..printable import printable
from ..tags import GROUPS, image_tags, spell_tags
from .inputs import Inputs, picture_options
from .outputs import caption_extension
from .resuming import resumable


def _groups(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    groups = tuple(part.strip() for part in value.split(",") if part.strip())
    unknown = [group for group in groups if group not in GROUPS]
    if unknown or not groups:
        raise click.BadParameter(f"{value!r}: choose from {', '.join(GROUPS)}, separated by commas")
    return groups


def _separator(context: click.Context, option: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("it is empty, and tags could not be told apart; expected one such as ', '")
    return value


def _with_captions(inputs: Inputs, extension: str) -> Iterator[Path]:
    """The files that can have a caption; a caption that a glob gave is none of them."""
    for path, problem in inputs.found():
        if problem is None:
            try:
                caption_path(path, extension)
            except ValueError:  # told when its turn comes, like whatever else is wrong with it
                continue
            yield path


@click.command("tag")
@picture_options
@resumable
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="skip",
    show_default=True,
    help="What becomes of existing captions; overwrite empties them, also those by hand, where no face is found.",
)
@click.option(
    "--tags",
    "groups",
    default="count,focus",
    show_default=True,
    callback=_groups,
    help="Groups of tags: " + "; ".join(f"{name}: {text}" for name, text in GROUPS.items()) + ".",
)
@click.option("--separator", default=", ", show_default=True, callback=_separator, help="Between tags.")
@click.option("--underscores/--spaces", default=True, show_default=True, help="multiple_girls or multiple girls.")
@click.option(
    "--extension", default=".txt", show_default=True, callback=caption_extension, help="Of the caption files."
)
@click.option(
    "--min-confidence",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0.5, 1),
    help="Do not count a picture in which a gender is less sure than this.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
def command(
    inputs: Inputs,
    mode: Mode,
    groups: tuple[str, ...],
    separator: str,
    underscores: bool,
    extension: str,
    min_confidence: float,
    dry_run: bool,
) -> None:
    """Write count and focus tags (1girl, 2boys, male_focus …) into a caption file beside each picture.

    Existing captions are left alone unless --mode says otherwise; append and prepend lose nothing.

    \b
    anigender tag dataset/ --dry-run
    anigender tag dataset/ --recursive --mode prepend --spaces
    anigender tag dataset/ --recursive --resume results.sqlite     # again after a crash, or when pictures were added
    """
    for sidecar, pictures in shared_captions(_with_captions(inputs, extension), extension).items():
        names = ", ".join(printable(path) for path in pictures)
        click.echo(f"warning: {names} share the caption {printable(sidecar)}", err=True)
    for result in inputs.results():
        if result.faces is None:
            continue
        tags = spell_tags(image_tags(result.faces, groups, min_confidence)[0], underscores)
        try:
            if dry_run:
                outcome = plan_caption(result.path, tags, mode, separator, extension).outcome
            else:
                outcome = write_caption(result.path, tags, mode, separator, extension)
        except (ValueError, OSError) as error:
            inputs.fail(result.path, str(error))
            continue
        said = f"would be {outcome}" if dry_run else outcome
        click.echo(f"{printable(result.path)}\t{said}\t{separator.join(tags)}")
    inputs.finish()
