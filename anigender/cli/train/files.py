"""``anigender train average`` and ``ranges``: better copies of weights files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import as_usage, copying, to_output


@click.command("average")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@to_output
def average(files: tuple[Path, ...], output: Path) -> None:
    """Average the weights of several files of one line of training.

    \b
    anigender train average round3.safetensors round4.safetensors --output head.safetensors
    """
    from ...train.averaging import average_files

    with as_usage():
        average_files(files, output)


@click.command("ranges")
@copying
def ranges(**options: Any) -> None:
    """Write a copy of a head detector's or classifier's file that CPUs can compute in eight bits.

    It is shown up to 512 pictures to learn from, and how large its activations get is written down. The weights stay as
    they are.

    \b
    anigender train ranges head.safetensors --data DIR --output head.safetensors
    anigender train ranges animeGender-dvgg-0.8-alpha.safetensors --data my/pictures --output alpha-fast.safetensors
    """
    from ...train.ranges import measure

    with as_usage():
        measure(**options)
