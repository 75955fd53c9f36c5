"""``anigender crop``: head crops, for datasets."""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np
from PIL import Image

from ..faces import GENDERS
from ..files import atomic_file
from ..images import check, head_crops
from ..printable import printable
from .inputs import Inputs, check_outputs, picture_options


@click.command("crop")
@picture_options
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the crops. Inside PATH it is not read.",
)
@click.option("--size", default=96, show_default=True, type=click.IntRange(8, 4096), help="Side of a crop in pixels.")
@click.option(
    "--margin", default=1.0, show_default=True, type=click.FloatRange(0.1, 10), help="Crop side over head side."
)
@click.option("--by-gender", is_flag=True, help="Sort into the subfolders female and male.")
@click.option("--overwrite", is_flag=True, help="Replace crops of former runs.")
def command(inputs: Inputs, target: Path, size: int, margin: float, by_gender: bool, overwrite: bool) -> None:
    """Cut every head out as a square PNG named NAME_SUFFIX_0.png, NAME_SUFFIX_1.png … by detection score.

    \b
    anigender crop pictures/ --to heads/ --size 96
    anigender crop pictures/ --to heads/ --by-gender --margin 1.3
    """
    check_outputs(inputs.paths, (target, *(target / gender for gender in GENDERS if by_gender)))
    count = 0
    made: dict[str, Path] = {}  # the crops of this run, and the pictures that they are of
    for result in inputs.results(keep_pixels=True, without=(target,)):
        if result.faces is None or result.pixels is None:
            continue
        crops = head_crops(check([result.pixels]), result.faces, size, margin)
        # Two pictures may differ in their suffix alone: the suffix is part of the name.
        name = inputs.relative(result.path)
        stem = f"{name.stem}_{name.suffix.lstrip('.')}"
        folders = [target / gender if by_gender else target for gender in result.faces.gender]
        paths = [folder / name.with_name(f"{stem}_{i}.png") for i, folder in enumerate(folders)]
        source = Path(os.path.abspath(result.path))
        taken = {made[key]: path for path in paths if (key := os.path.normcase(path)) in made}
        if source in taken:  # the same picture given twice
            continue
        if taken:
            other, path = taken.popitem()
            inputs.fail(
                result.path, f"{path} is a crop of {other}, another picture of this run: use another --to for it"
            )
            continue
        for path, crop in zip(paths, crops, strict=True):
            try:
                if path.exists() and not overwrite:
                    raise FileExistsError(f"{path} exists already; use --overwrite to replace it")
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = (crop.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
                with atomic_file(path) as stream:
                    Image.fromarray(pixels).save(stream, "PNG")
            except OSError as error:
                inputs.fail(result.path, str(error))
                continue
            made[os.path.normcase(path)] = source
            count += 1
            click.echo(printable(path))
    click.echo(f"{count} crops", err=True)
    inputs.finish()
