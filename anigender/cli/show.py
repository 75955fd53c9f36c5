"""``anigender show``: a table and a contact sheet, to see at a glance what is found."""

from __future__ import annotations

import os
from pathlib import Path

import click
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..contact_sheet import contact_sheet, labelled_tile
from ..files import atomic_file
from ..printable import printable
from ..tags import image_tags
from .inputs import Inputs, picture_options

MOST = 400  # tiles on one sheet
MARK = ("Software", "anigender show")  # a text in every sheet


def _is_sheet(path: Path) -> bool:
    """Whether this command drew a file, which it may then replace."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get(MARK[0]) == MARK[1]
    except Exception:  # decoders raise anything on what is no picture, or a damaged one
        return False


def _new_or_sheet(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.exists() and not _is_sheet(value):
        raise click.BadParameter(
            f"{printable(value)} exists and is not a contact sheet, so it is not replaced: put the pictures before "
            "this option, and name another file or delete this one"
        )
    return value


@click.command("show")
@picture_options
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_new_or_sheet,
    help=f"Draw a contact sheet (PNG) of at most {MOST} pictures here; of what is there, only a sheet is replaced.",
)
@click.option("--tile", default=320, show_default=True, type=click.IntRange(64, 2048), help="Side of a picture on it.")
def command(inputs: Inputs, sheet: Path | None, tile: int) -> None:
    """Print a table of the faces found and draw a contact sheet with their boxes.

    \b
    anigender show examples/ --sheet sheet.png
    """
    if sheet is not None:  # a glob gives the former one as well
        inputs.paths = tuple(path for path in inputs.paths if os.path.realpath(path) != os.path.realpath(sheet))
    tiles: list[Image.Image] = []
    click.echo(f"{'picture':<36}  {'faces':>6}  {'who (confidence)':<50}  tags")
    read = 0
    for result in inputs.results(keep_pixels=True, without=() if sheet is None else (sheet,)):
        name = printable(inputs.relative(result.path))
        if result.faces is None or result.pixels is None:
            click.echo(f"{name:<36}  {'-':>6}  {printable(result.error or '')}")
            continue
        who = ", ".join(f"{face.gender} {face.confidence:.2f}" for face in result.faces)
        click.echo(f"{name:<36}  {len(result.faces):>6}  {who:<50}  {', '.join(image_tags(result.faces)[0])}")
        read += 1
        if sheet is not None and len(tiles) < MOST:
            tiles.append(labelled_tile(result.pixels, result.faces, tile))
    if sheet is not None and tiles:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        marked = PngInfo()
        marked.add_text(*MARK)
        with atomic_file(sheet) as stream:
            contact_sheet(tiles).save(stream, "PNG", pnginfo=marked)
        only = f" (the first {len(tiles)} of {read} pictures)" if read > len(tiles) else ""
        click.echo(f"contact sheet: {printable(sheet)}{only}", err=True)
    inputs.finish()
