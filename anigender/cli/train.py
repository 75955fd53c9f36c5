"""``anigender train``: learn the embedded models anew, or better ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..characters.estimators import METHODS


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
    """Train the head detector, its verifier, the gender classifier, a quality head, or a recogniser of characters.

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


@command.command("characters")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder with a subfolder of head crops for each character, or with train/ and test/ of such folders.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="What to write: .skops, or .safetensors for the method network.",
)
@click.option(
    "--method",
    type=click.Choice([*METHODS, "network"]),
    default="logistic",
    show_default=True,
    help="; ".join(f"{name}: {text}" for name, text in METHODS.items()) + "; network: fine-tune a net (sgd-step).",
)
@click.option(
    "--features",
    type=click.Choice(["deep", "hand-made"]),
    default="deep",
    show_default=True,
    help="deep: penultimate activations of --backbone; hand-made: Hu moments, Haralick texture, HSV histogram.",
)
@click.option(
    "--backbone",
    default="identity",
    show_default=True,
    help="identity, gender, or a checkpoint of any classifier here, such as a ResNet-18, -34, -50 or -101.",
)
@click.option("--search", is_flag=True, help="Search for better hyper-parameters than the published ones.")
@click.option(
    "--open-set",
    type=click.Choice(["auto", "probability", "distance", "none"]),
    default="auto",
    show_default=True,
    help="What tells that a face is nobody known; auto takes what tells it better on held-out pictures.",
)
@click.option(
    "--unknown",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Pictures of nobody known, to choose the threshold by. Without: each character in turn, left out.",
)
@click.option(
    "--margin",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 10),
    help="How many sides of a head's box the crops show: what `dataset crop` was told.",
)
@click.option("--folds", default=5, show_default=True, type=click.IntRange(2, 50), help="Of the cross-validation.")
@click.option(
    "--cache", type=click.Path(path_type=Path, file_okay=False), help="Keep features here; beside OUTPUT if left out."
)
@click.option("--jobs", default=1, show_default=True, type=int, help="Processes at once; -1 for one per core.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--device", default="cpu", show_default=True, help="Of the net: cpu, cuda …")
@click.option("--epochs", default=25, show_default=True, type=click.IntRange(1), help="Of the method network.")
@click.option("--batch", default=8, show_default=True, type=click.IntRange(2), help="Of the method network.")
def characters(**options: Any) -> None:
    """Train a recogniser of characters, with the published hyper-parameters, and say how good it is.

    Accuracy is that of a cross-validation in which near duplicates stay together, with an interval of 95 %. Faces
    below a threshold, chosen on pictures that were not learned from, will be nobody known.

    \b
    anigender train characters --data set/ --output mine.skops
    anigender train characters --data set/ --output mine.skops --method svm --features hand-made
    anigender train characters --data set/ --output mine.skops --backbone resnet18.pth --search
    anigender train characters --data set/ --output mine.safetensors --method network
    """
    from ..characters.training import Options, train

    cache = options.pop("cache") or options["output"].with_suffix(".features")
    try:
        recogniser = train(Options(cache=cache, **options), lambda text: click.echo(text, err=True))
    except (ValueError, OSError, ImportError) as error:
        raise click.UsageError(str(error)) from error
    for name, figures in recogniser.figures.items():
        if isinstance(figures, dict) and "accuracy" in figures:
            low, high = figures["interval"]
            click.echo(
                f"{name.replace('_', ' ')}: accuracy {figures['accuracy']:.4f} ({low:.4f} to {high:.4f}), "
                f"balanced {figures['balanced_accuracy']:.4f}, {figures['pictures']} pictures"
            )
            for character, recall in figures["recall"].items():
                click.echo(f"  {character}: {recall:.4f}")
    open_set = recogniser.open_set
    if open_set.kind != "none":
        told = f"nobody known: {open_set.kind} below {open_set.threshold:.4f}"
        if "strangers_refused" in open_set.figures:
            shares = open_set.figures
            named, refused = shares["known_named"], shares["strangers_refused"]
            told += f" (names {named:.1%} of the known, refuses {refused:.1%} of others)"
        click.echo(told)


@command.command("identity")
@_common
@click.option("--steps", default=6000, show_default=True, type=click.IntRange(1))
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0, min_open=True), help="At most.")
@click.option("--detector", default="auto", show_default=True, help="Finds the heads: auto, or a weights file.")
def identity(**options: Any) -> None:
    """Train the net that deep features come from, by telling the characters of a data set apart.

    \b
    anigender train identity --data DIR --output identity.safetensors
    """
    from ..characters.identity import Options, train

    _run(train, Options, options)


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
