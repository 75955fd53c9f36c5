"""``anigender train head``: quality heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import to_output, usable_device


@click.command("head")
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A folder with a subfolder of pictures for each class. May be given several times.",
)
@to_output
@click.option("--encoder", default="auto", show_default=True, help="auto, a known encoder, or a folder.")
@click.option("--name", default="", help="Of the head; the output's name where left out.")
@click.option("--epochs", default=60, show_default=True, type=click.IntRange(1))
@click.option("--learning-rate", default=3e-4, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--device", default="cpu", show_default=True, callback=usable_device, help="Of the encoder: cpu, cuda …")
@click.option("--seed", default=0, show_default=True, type=int)
def head(**options: Any) -> None:
    """Train a quality head from folders of pictures, one subfolder for each class.

    Embeddings are kept beside OUTPUT, by the pictures' contents: train, sort new pictures with the head, move what it
    got wrong, and train again on both.

    \b
    anigender train head --data classes/ --output mine.safetensors
    anigender quality new/ --head mine.safetensors --sort-to sorted/
    anigender train head --data classes/ --data sorted/ --output mine.safetensors
    """
    from ...train.quality_head import Options, train

    try:
        figures = train(Options(**options))
    except (ValueError, OSError, ImportError) as error:
        raise click.UsageError(str(error)) from error
    for name, value in figures.items():
        click.echo(f"{name}: {value:.4g}")
