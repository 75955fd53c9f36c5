"""``anigender train gender`` and ``calibrate``: classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..inputs import settings
from .options import as_usage, common, copying, resume, run, usable_device

RECIPES = ("scratch", "finetune", "sgd-step")


@click.command("gender")
@common
@resume
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
    help="Write the pictures whose label seems wrong here as HTML, most suspect first, and beside FILE.html as "
    "FILE.suspects.csv and FILE.suspects.json.",
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
    "--workers",
    type=click.IntRange(0),
    help="Processes that make views; half the processors where left out. Not for scratch.",
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
    only = ("batch", "weight_decay", "freeze", "new_head", "settings", "workers")
    if recipe == "scratch":
        _refuse(recipe, options, only)
        from ...train.gender import scratch

        if start is not None and not Path(start).is_file():
            raise click.UsageError(f"--from: the recipe scratch goes on from a file of this program, {start} is none")
        run(scratch.train, scratch.Options, options | {"start": None if start is None else Path(start)})
        return
    _refuse(recipe, options, ("teachers", "small_epochs"))
    options.pop("teachers")
    options.pop("small_epochs")
    from ...train.gender import finetune

    freeze = options.pop("freeze") == "backbone"
    run(finetune.finetune, finetune.Options, options | {"start": start or "auto", "recipe": recipe, "freeze": freeze})


def _refuse(recipe: str, options: dict[str, Any], names: tuple[str, ...]) -> None:
    """Refuse what a recipe does not know, and take out what is not given."""
    for name in names:
        if options.get(name):
            option = {"settings": "classifier-setting", "teachers": "teacher"}.get(name, name.replace("_", "-"))
            raise click.UsageError(f"--{option} is not for the recipe {recipe}")
        if recipe == "scratch":
            options.pop(name)


@click.command("calibrate")
@copying
@click.option("--device", default="cpu", show_default=True, callback=usable_device, help="cpu, cuda …")
def calibrate(**options: Any) -> None:
    """Fit the confidences of a gender classifier anew, as after averaging several.

    \b
    anigender train calibrate average.safetensors --data DIR --output gender.safetensors
    """
    from ...train.gender.file import calibrate

    with as_usage():
        calibrate(**options)
