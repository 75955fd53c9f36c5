"""``anigender show``: a table and a contact sheet, to see at a glance what is found."""

from __future__ import annotations

from pathlib import Path

import click
from PIL import Image

from ..contact_sheet import contact_sheet, labelled_tile
from ..files import atomic_file
from ..tags import image_tags
from .inputs import Inputs, picture_options, printable

MOST = 400  # tiles on one sheet


@click.command("show")
@picture_options
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Draw a contact sheet (PNG) here.")
@click.option("--tile", default=320, show_default=True, type=click.IntRange(64, 2048), help="Side of a picture on it.")
def command(inputs: Inputs, sheet: Path | None, tile: int) -> None:
    """Print a table of the faces found and draw a contact sheet with their boxes.

    \b
    anigender show examples/ --sheet sheet.png
    """
    tiles: list[Image.Image] = []
    click.echo(f"{'picture':<36}  {'faces':>6}  {'who (confidence)':<50}  tags")
    for result in inputs.results(keep_pixels=True):
        name = printable(inputs.relative(result.path))
        if result.faces is None or result.pixels is None:
            click.echo(f"{name:<36}  {'-':>6}  {printable(result.error or '')}")
            continue
        who = ", ".join(f"{face.gender} {face.confidence:.2f}" for face in result.faces)
        click.echo(f"{name:<36}  {len(result.faces):>6}  {who:<50}  {', '.join(image_tags(result.faces)[0])}")
        if sheet is not None and len(tiles) < MOST:
            tiles.append(labelled_tile(result.pixels, result.faces, tile))
    if sheet is not None and tiles:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(sheet) as stream:
            contact_sheet(tiles).save(stream, "PNG")
        click.echo(f"contact sheet: {printable(sheet)}", err=True)
    inputs.finish()
