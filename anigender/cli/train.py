"""``anigender train``: learn the embedded models anew, or better ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both trainings."""
    for option in (
        click.option("--resume", is_flag=True, help="Go on from the checkpoint beside OUTPUT."),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda …"),
        click.option("--seed", default=0, show_default=True, type=int),
        click.option(
            "--learning-rate", type=click.FloatRange(0, min_open=True), help="The recipe's own where left out."
        ),
        click.option(
            "--output",
            required=True,
            type=click.Path(path_type=Path, dir_okay=False),
            help="The .safetensors to write.",
        ),
        click.option(
            "--data",
            required=True,
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="The data folder.",
        ),
    ):
        command = option(command)
    return command


@click.group("train")
def command() -> None:
    """Train the head detector or the gender classifier.

    Beside OUTPUT stand a checkpoint (for --resume) and a log of losses and validation figures, one JSON object per
    line. The best network so far is at OUTPUT at any time.
    """


@command.command("detector")
@_common
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
    from ..train.detector import Options, train

    _run(train, Options, options)


@command.command("gender")
@_common
@click.option("--epochs", default=36, show_default=True, type=click.IntRange(1), help="Of 8192 labelled crops each.")
@click.option("--detector", default="auto", show_default=True, help="Finds the heads: auto, or a weights file.")
@click.option("--hold-out", multiple=True, help="A folder of gender/ to validate on instead of learning from it.")
def gender(hold_out: tuple[str, ...], **options: Any) -> None:
    """Train the gender classifier on head crops.

    \b
    anigender train gender --data DIR --output gender.safetensors
    anigender train gender --data DIR --output test.safetensors --hold-out conan --hold-out genshin
    """
    from ..train.gender import Options, train

    _run(train, Options, {"hold_out": hold_out, **options})


@command.command("average")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The .safetensors to write."
)
def average(files: tuple[Path, ...], output: Path) -> None:
    """Average the weights of several files of one line of training.

    \b
    anigender train average round3.safetensors round4.safetensors --output head.safetensors
    """
    from ..train.averaging import average_files

    try:
        average_files(files, output)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _run(train: Callable[[Any], None], options: type, values: dict[str, Any]) -> None:
    try:
        train(options(**{name: value for name, value in values.items() if value is not None}))
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
