"""``anigender train``: learn the embedded models anew, or better ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every training."""
    for option in (
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


_resume = click.option("--resume", is_flag=True, help="Go on from the checkpoint beside OUTPUT.")


@click.group("train")
def command() -> None:
    """Train the head detector, its verifier, the gender classifier, or a quality head.

    Beside OUTPUT stand a checkpoint (for --resume) and a log of losses and validation figures, one JSON object per
    line. The best network so far is at OUTPUT at any time.
    """


@command.command("detector")
@_common
@_resume
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


@command.command("verifier")
@_common
@click.option("--steps", default=3000, show_default=True, type=click.IntRange(2), help="Of 128 crops each.")
@click.option("--detector", default="auto", show_default=True, help="Whose proposals: auto, or a weights file.")
def verifier(**options: Any) -> None:
    """Train the second opinion on a detector's proposals; OUTPUT holds both.

    \b
    anigender train verifier --data DIR --detector round2.safetensors --output head.safetensors
    """
    from ..train.verifier import Options, train

    _run(train, Options, options)


@command.command("gender")
@_common
@_resume
@click.option("--epochs", default=46, show_default=True, type=click.IntRange(1), help="Of 8192 labelled views each.")
@click.option("--detector", default="auto", show_default=True, help="Finds the heads: auto, or a weights file.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="An earlier classifier that labels the unlabelled faces; several are averaged.",
)
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A gender classifier of this program to go on from, with a third of the learning rate.",
)
@click.option(
    "--strength",
    default=0.45,
    show_default=True,
    type=click.FloatRange(0.05, 1),
    help="How much views differ from pictures.",
)
@click.option(
    "--mixed", default=0.12, show_default=True, type=click.FloatRange(0, 1), help="Share of views made of two pictures."
)
@click.option("--hold-out", multiple=True, help="A folder of gender/ to validate on instead of learning from it.")
def gender(hold_out: tuple[str, ...], teachers: tuple[Path, ...], **options: Any) -> None:
    """Train the gender classifier on head crops.

    \b
    anigender train gender --data DIR --output gender.safetensors
    anigender train gender --data DIR --output second.safetensors --teacher gender.safetensors
    anigender train gender --data DIR --output third.safetensors --from second.safetensors --strength 0.6 --mixed 0.3
    anigender train gender --data DIR --output test.safetensors --hold-out conan --hold-out genshin
    """
    from ..train.gender import Options, train

    _run(train, Options, {"hold_out": hold_out, "teachers": teachers, **options})


@command.command("calibrate")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="The data folder."
)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The .safetensors to write."
)
@click.option("--detector", default="auto", show_default=True, help="Finds the heads: auto, or a weights file.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda …")
def calibrate(**options: Any) -> None:
    """Fit the confidences of a gender classifier anew, as after averaging several.

    \b
    anigender train calibrate average.safetensors --data DIR --output gender.safetensors
    """
    from ..train.gender import calibrate

    try:
        calibrate(**options)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error


@command.command("head")
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A folder with a subfolder of pictures for each class. May be given several times.",
)
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The .safetensors to write."
)
@click.option("--encoder", default="auto", show_default=True, help="auto, a known encoder, or a folder.")
@click.option("--name", default="", help="Of the head; the output's name where left out.")
@click.option("--epochs", default=60, show_default=True, type=click.IntRange(1))
@click.option("--learning-rate", default=3e-4, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--device", default="cpu", show_default=True, help="Of the encoder: cpu, cuda …")
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
    from ..train.head import Options, train

    try:
        figures = train(Options(**options))
    except (ValueError, OSError, ImportError) as error:
        raise click.UsageError(str(error)) from error
    for name, value in figures.items():
        click.echo(f"{name}: {value:.4g}")


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
