"""``anigender train characters`` and ``identity``: who somebody is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...characters.estimators import METHODS
from ...printable import printable
from .options import common, resume, run, usable_device


@click.command("characters")
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
@click.option("--device", default="cpu", show_default=True, callback=usable_device, help="Of the net: cpu, cuda …")
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
    from ...characters.options import Options
    from ...characters.pictures import FEATURES
    from ...characters.training import train

    cache = options.pop("cache") or options["output"].with_suffix(FEATURES)
    try:
        recogniser = train(Options(cache=cache, **options), lambda text: click.echo(printable(text), err=True))
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
                click.echo(f"  {printable(character)}: {recall:.4f}")
    open_set = recogniser.open_set
    if open_set.kind != "none":
        told = f"nobody known: {open_set.kind} below {open_set.threshold:.4f}"
        if "strangers_refused" in open_set.figures:
            shares = open_set.figures
            named, refused = shares["known_named"], shares["strangers_refused"]
            told += f" (names {named:.1%} of the known, refuses {refused:.1%} of others)"
        click.echo(told)


@click.command("identity")
@common
@resume
@click.option("--steps", default=2000, show_default=True, type=click.IntRange(1), help="Of 192 views each.")
@click.option("--detector", default="auto", show_default=True, help="Finds the heads: auto, or a weights file.")
def identity(**options: Any) -> None:
    """Train the net that deep features come from, by telling the characters of a data set apart.

    \b
    anigender train identity --data DIR --output identity.safetensors
    """
    from ...characters.identity import Options, train

    run(train, Options, options)
