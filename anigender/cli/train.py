"""``anigender train``: learn the embedded models anew, or better ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..characters.estimators import METHODS
from .inputs import settings

RECIPES = ("scratch", "finetune", "sgd-step")


_data = click.option(
    "--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="The data folder."
)
_output = click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The .safetensors to write."
)


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every training."""
    for option in (
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda …"),
        click.option("--seed", default=0, show_default=True, type=int),
        click.option(
            "--learning-rate", type=click.FloatRange(0, min_open=True), help="The recipe's own where left out."
        ),
        _output,
        _data,
    ):
        command = option(command)
    return command


def _copying(command: Callable[..., Any]) -> Callable[..., Any]:
    """SOURCE and the options of what writes a better copy of a weights file."""
    for option in (
        click.option("--detector", default="auto", show_default=True, help="Finds the heads: auto, or a weights file."),
        _output,
        _data,
        click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True)),
    ):
        command = option(command)
    return command


_resume = click.option("--resume", is_flag=True, help="Go on from the checkpoint beside OUTPUT.")


@click.group("train")
def command() -> None:
    """Train the head detector, its verifier, the gender classifier, a quality head, or a recogniser of characters.

    Beside OUTPUT stand a checkpoint (for --resume) and a log of losses and validation figures, one JSON object per
    line. The best network so far is at OUTPUT at any time; where a classifier is gone on with, the latest.
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
    from ..train.heads.detector import Options, train

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
    from ..train.heads.verifier import Options, train

    _run(train, Options, options)


@command.command("gender")
@_common
@_resume
@click.option(
    "--from",
    "start",
    metavar="NAME|FILE",
    help="The classifier to go on from: auto (the embedded one), a known name, or a file of any architecture that "
    "--classifier takes, but ONNX.",
)
@click.option(
    "--recipe",
    type=click.Choice(RECIPES),
    help="scratch: what trains the embedded net. finetune: AdamW, one cycle. sgd-step: SGD, rate 0.001, momentum 0.9, "
    "a tenth every 7 of 25 epochs. finetune where --from is given, else scratch.",
)
@click.option("--epochs", type=click.IntRange(1), help="The recipe's own where left out: 46, 10, 25.")
@click.option(
    "--small-epochs",
    type=click.IntRange(0),
    help="How many of them see small views, which take half the time, at most three quarters; 26, or none with --from. "
    "For scratch.",
)
@click.option("--batch", type=click.IntRange(2), help="Views in a step; not for scratch.")
@click.option("--weight-decay", type=click.FloatRange(0), help="Not for scratch.")
@click.option("--freeze", type=click.Choice(("backbone",)), help="Only the head learns; not for scratch.")
@click.option("--new-head", is_flag=True, help="Replace the last layer by a new one for female and male.")
@click.option(
    "--classifier-setting",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=settings,
    help="Preprocessing of --from where its file does not say it, such as input_size=224; may be repeated "
    "(docs/models.md).",
)
@click.option("--reweight-outliers", "reweight", is_flag=True, help="Trust pictures less whose label seems wrong.")
@click.option(
    "--report-suspects",
    "suspects",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the pictures whose label seems wrong here as HTML, most suspect first, and as CSV and JSON beside it.",
)
@click.option("--detector", default="auto", show_default=True, help="Finds the heads: auto, or a weights file.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="An earlier classifier that labels the unlabelled faces; several are averaged. For scratch.",
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
@click.option(
    "--workers", type=click.IntRange(0), help="Processes that make views; half the processors where left out."
)
def gender(start: str | None, recipe: str | None, hold_out: tuple[str, ...], **options: Any) -> None:
    """Train a gender classifier on head crops: from nothing, or on from any other one.

    DIR holds pictures in the folders female and male, or a table of them (docs/training.md). OUTPUT is used as
    --classifier OUTPUT, or from models/anigender by the ComfyUI node.

    \b
    anigender train gender --data my/pictures --output mine.safetensors --from auto
    anigender train gender --data my/pictures --output mine.safetensors --from resnet50.pth --new-head \\
        --classifier-setting input_size=224 --classifier-setting margin=1.2 \\
        --classifier-setting mean=0.485,0.456,0.406 --classifier-setting std=0.229,0.224,0.225 --recipe sgd-step
    anigender train gender --data my/pictures --output mine.safetensors --from auto --freeze backbone
    anigender train gender --data my/pictures --output mine.safetensors --from auto --report-suspects look.html
    anigender train gender --data DIR --output gender.safetensors
    anigender train gender --data DIR --output second.safetensors --teacher gender.safetensors
    anigender train gender --data DIR --output third.safetensors --recipe scratch --from second.safetensors
    anigender train gender --data DIR --output test.safetensors --hold-out conan --hold-out genshin
    """
    recipe = recipe or ("scratch" if start is None else "finetune")
    options["hold_out"] = hold_out
    suspects = options["suspects"]
    if suspects is not None and not suspects.parent.is_dir():  # said now, not after hours of training
        raise click.UsageError(f"--report-suspects: there is no folder {suspects.parent}")
    only = ("batch", "weight_decay", "freeze", "new_head", "settings", "workers")
    if recipe == "scratch":
        _refuse(recipe, options, only)
        from ..train.gender import scratch

        if start is not None and not Path(start).is_file():
            raise click.UsageError(f"--from: the recipe scratch goes on from a file of this program, {start} is none")
        _run(scratch.train, scratch.Options, options | {"start": None if start is None else Path(start)})
        return
    _refuse(recipe, options, ("teachers", "small_epochs"))
    options.pop("teachers")
    options.pop("small_epochs")
    from ..train.gender import finetune

    freeze = options.pop("freeze") == "backbone"
    _run(finetune.finetune, finetune.Options, options | {"start": start or "auto", "recipe": recipe, "freeze": freeze})


def _refuse(recipe: str, options: dict[str, Any], names: tuple[str, ...]) -> None:
    """Refuse what a recipe does not know, and take out what is not given."""
    for name in names:
        if options.get(name):
            option = {"settings": "classifier-setting", "teachers": "teacher"}.get(name, name.replace("_", "-"))
            raise click.UsageError(f"--{option} is not for the recipe {recipe}")
        if recipe == "scratch":
            options.pop(name)


@command.command("calibrate")
@_copying
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda …")
def calibrate(**options: Any) -> None:
    """Fit the confidences of a gender classifier anew, as after averaging several.

    \b
    anigender train calibrate average.safetensors --data DIR --output gender.safetensors
    """
    from ..train.gender.file import calibrate

    try:
        calibrate(**options)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error


@command.command("ranges")
@_copying
def ranges(**options: Any) -> None:
    """Write a copy of a head detector's or classifier's file that CPUs can compute in eight bits.

    It is shown up to 512 pictures to learn from, and how large its activations get is written down. The weights stay as
    they are.

    \b
    anigender train ranges head.safetensors --data DIR --output head.safetensors
    anigender train ranges animeGender-dvgg-0.8-alpha.safetensors --data my/pictures --output alpha-fast.safetensors
    """
    from ..train.ranges import measure

    try:
        measure(**options)
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
    from ..train.quality_head import Options, train

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
    from ..characters.options import Options
    from ..characters.training import train

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
@_resume
@click.option("--steps", default=2000, show_default=True, type=click.IntRange(1), help="Of 192 views each.")
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


def _run(train: Callable[[Any], Any], options: type, values: dict[str, Any]) -> None:
    try:
        train(options(**{name: value for name, value in values.items() if value is not None}))
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
