"""``anigender train detector`` and ``verifier``: finding heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import common, resume, run


@click.command("detector")
@common
@resume
@click.option("--epochs", default=12, show_default=True, type=click.IntRange(1), help="Of 8192 composites each.")
@click.option(
    "--teacher",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A detector of an earlier round: start from it, label every picture with it, mine what it falls for.",
)
def detector(**options: Any) -> None:
    """Train the head detector on composites.

    \b
    anigender train detector --data DIR --output round1.safetensors
    anigender train detector --data DIR --output round2.safetensors --teacher round1.safetensors
    """
    from ...train.heads.detector import Options, train

    run(train, Options, options)


@click.command("verifier")
@common
@click.option("--steps", default=4000, show_default=True, type=click.IntRange(2), help="Of 128 crops each.")
@click.option("--detector", default="auto", show_default=True, help="Whose proposals: auto, or a weights file.")
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A detector's file whose verifier to go on from.",
)
def verifier(**options: Any) -> None:
    """Train the second opinion on a detector's proposals; OUTPUT holds both.

    \b
    anigender train verifier --data DIR --detector round2.safetensors --output head.safetensors
    """
    from ...train.heads.verifier import Options, train

    run(train, Options, options)
