"""``anigender dataset``: from raw pictures of characters to a data set to learn from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ..characters import preparing
from ..detect import load_detector
from ..folders import find_images
from ..locate import resolve
from ..printable import printable
from .filter import place
from .inputs import DETECTOR_HELP, PUBLISHED_HELP

_SOURCE = click.argument("source", type=click.Path(path_type=Path, file_okay=False))
_TO = click.option(
    "--to", "target", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write into."
)
_SIZE = click.option(
    "--size", default=preparing.SIZE, show_default=True, type=click.IntRange(8, 4096), help="Side in pixels."
)


@click.group("dataset")
def command() -> None:
    """Prepare a data set of characters: SOURCE holds a subfolder of pictures for each.

    \b
    anigender dataset crop raw/ --to heads/             heads of 96 x 96; those without one in heads/_unrecognised
    anigender dataset split heads/ --to set/            set/train and set/test, near duplicates on one side
    anigender train characters --data set/ --output mine.skops

    Nothing is overwritten, files are written whole or not at all, and a run that was stopped can be started again.
    """


@command.command("crop")
@_SOURCE
@_TO
@_SIZE
@click.option(
    "--margin", default=1.0, show_default=True, type=click.FloatRange(0.1, 10), help="Crop side over head side."
)
@click.option(
    "--detector", default="auto", show_default=True, help=f"Whose heads are cut out: {DETECTOR_HELP} {PUBLISHED_HELP}"
)
@click.option("--compare", multiple=True, help="Another detector whose rate is told too. May be given several times.")
@click.option(
    "--heads",
    "which",
    type=click.Choice(list(preparing.WHICH)),
    default="first",
    show_default=True,
    help="; ".join(f"{name}: {text}" for name, text in preparing.WHICH.items()) + ".",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda …")
def crop(
    source: Path,
    target: Path,
    size: int,
    margin: float,
    detector: str,
    compare: tuple[str, ...],
    which: str,
    device: str,
) -> None:
    """Cut the heads out, and say in how many pictures each detector finds one.

    A folder holds crops of one --detector, --margin, --size and --heads; it is refused with others.

    \b
    anigender dataset crop raw/ --to heads/
    anigender dataset crop raw/ --to heads/ --compare lbpcascade_animeface.xml --compare animeface-2009
    """
    _apart(source, target)
    detectors = {}
    for name in dict.fromkeys((detector, *compare)):
        try:
            detectors[name] = load_detector(resolve(name, "detector"), device)
        except (ImportError, RuntimeError, OSError, ValueError) as error:
            if name == detector or isinstance(error, (OSError, ValueError)):
                raise click.UsageError(str(error)) from error
            click.echo(f"{name} is left out: {error}", err=True)
    outcome = _run(
        source,
        lambda progress: preparing.crop_characters(source, target, detectors, place, size, margin, which, progress),
    )
    _table(preparing.rates(outcome, list(detectors)))
    click.echo(f"{outcome.written} crops in {printable(target)}")
    if outcome.apart:
        apart = target / preparing.UNRECOGNISED
        click.echo(f"{outcome.apart} pictures without a head to cut out are in {printable(apart)}: look at them")
    _finish(outcome.failures)


@command.command("resize")
@_SOURCE
@_TO
@_SIZE
def resize(source: Path, target: Path, size: int) -> None:
    """Make pictures that are heads already square and of one size.

    \b
    anigender dataset resize faces/ --to small/ --size 96
    """
    _apart(source, target)
    outcome = _run(source, lambda progress: preparing.resize_characters(source, target, size, progress))
    click.echo(f"{outcome.written} pictures in {printable(target)}")
    _finish(outcome.failures)


@command.command("split")
@_SOURCE
@_TO
@click.option(
    "--test",
    "share",
    default=preparing.SHARE,
    show_default=True,
    type=click.FloatRange(0, 0.9, min_open=True),
    help="Share of each character's pictures that is for testing.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--action", type=click.Choice(("copy", "move", "link")), default="copy", show_default=True)
def split(source: Path, target: Path, share: float, seed: int, action: str) -> None:
    """Divide into train and test; near duplicates never stand on both sides.

    What stands there already stays on its side, and what looks the same goes to it; --test and --seed choose among the
    rest.

    \b
    anigender dataset split heads/ --to set/
    anigender dataset split heads/ --to set/ --test 0.3 --seed 1 --action link
    """
    _apart(source, target)
    division = _run(
        source, lambda progress: preparing.split_characters(source, target, place, share, seed, action, progress)
    )
    names = list(dict.fromkeys((*division.train, *division.test)))
    _table([["character", "train", "test"], *([n, str(division.train[n]), str(division.test[n])] for n in names)])
    if division.standing:
        click.echo(f"{division.standing} pictures stood there already, and stay on their side")
    if division.alike:
        click.echo(f"{division.alike} pictures have near duplicates; those stay on one side")
    _finish(division.failures)


def _apart(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve() or target.resolve().is_relative_to(source.resolve()):
        raise click.UsageError(f"--to {printable(target)} is inside {printable(source)}: choose a folder beside it")


def _run(source: Path, work: Callable[[Callable[[int], None]], Any]) -> Any:
    total = sum(1 for _ in find_images([source], recursive=True)) if source.is_dir() else 0
    with tqdm(total=total, unit="picture", file=sys.stderr, disable=None, leave=False) as bar:
        try:
            return work(lambda count: bar.update(count) and None)
        except ValueError as error:
            raise click.UsageError(str(error)) from error


def _table(rows: list[list[str]]) -> None:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        click.echo("  ".join(cells))


def _finish(failures: list[tuple[Path, str]]) -> None:
    for path, reason in failures:
        click.echo(f"failed: {printable(path)}: {reason}", err=True)
    if failures:
        raise SystemExit(1)
