"""``anigender quality``: score pictures with quality heads, and sort them by what the heads say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import torch

from ..files import atomic_file, is_name
from ..folders import AHEAD_PIXELS, decoded
from ..printable import printable
from ..quality import Scorer
from ..records import line, text_of
from .filter import ACTIONS, place
from .inputs import PicturePath, check_outputs, found_in
from .outputs import to_file
from .scoring import make_scorer, scorer_options


@click.command("quality")
@click.argument("paths", nargs=-1, required=True, type=PicturePath(), metavar="PATH...")
@click.option("--recursive", "-r", is_flag=True, help="Look into subfolders too.")
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1, 1024), help="Pictures at once.")
@click.option("--device", default=None, help="cpu, cuda, cuda:1 …; CUDA where there is one, else the CPU.")
@scorer_options(required=True)
@to_file
@click.option(
    "--sort-to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Put the pictures into a folder per class below this one, by the first head. Inside PATH it is not read.",
)
@click.option("--action", type=click.Choice(ACTIONS[:3]), show_default="copy", help="For --sort-to.")
def command(
    paths: tuple[Path, ...],
    recursive: bool,
    batch: int,
    device: str | None,
    heads: tuple[str, ...],
    encoder: str,
    combine: str,
    tiling: bool | None,
    output: Path | None,
    sort_to: Path | None,
    action: str | None,
) -> None:
    """Score pictures: chromatic aberration, compression, looks, or what a head of your own was taught.

    \b
    anigender quality pictures/ --head chromatic-aberration --head compression
    anigender quality pictures/ --head aesthetic --output scores.jsonl
    anigender quality new/ --head mine.safetensors --sort-to sorted/ --action link
    """
    if action is not None and sort_to is None:
        raise click.UsageError(f"--action {action} needs --sort-to DIR, which says where to")
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"--output: there is no folder {printable(output.parent)}")
    own = () if sort_to is None else (sort_to,)
    if recursive:  # else the folders of the classes are not read
        check_outputs(paths, own)
    scorer = make_scorer(heads, encoder, combine, tiling, device)
    labels = scorer.heads[0].labels
    if sort_to is not None and (len(labels) < 2 or not all(map(is_name, labels))):
        raise click.UsageError(
            f"--sort-to needs classes that can be names of folders, the head has {', '.join(labels)}"
        )
    failures: list[tuple[Path, str]] = []
    seen = 0
    files = (file for given in paths for file in found_in(given, recursive, own))
    with nullcontext() if output is None else atomic_file(output) as stream:
        for path, pixels, row, top in _scored(files, scorer, batch, failures):
            seen += 1
            if row is None:
                told = {"image": text_of(path), "width": None, "height": None, "quality": None, "error": pixels}
            else:
                height, width = pixels.shape[:2]
                values = {name: round(value, 4) for name, value in row.items()}
                told = {"image": text_of(path), "width": width, "height": height, "quality": values, "error": None}
                if sort_to is not None:
                    try:
                        place(path, sort_to / labels[top] / path.name, action or "copy")
                    except OSError as error:
                        failures.append((path, str(error)))
            if stream is None:
                click.echo(line(told))
            else:
                stream.write(line(told).encode("utf-8") + b"\n")
    if not seen:
        click.echo("no pictures found", err=True)
    for path, reason in failures:
        click.echo(f"failed: {printable(path)}: {printable(reason)}", err=True)
    if failures:
        raise SystemExit(1)


def _scored(
    found: Iterator[tuple[Path, str | None]], scorer: Scorer, batch: int, failures: list[tuple[Path, str]]
) -> Iterator[tuple[Path, Any, dict[str, float] | None, int]]:
    """Each file's path, pixels, values by name and most probable class of the first head; in order.

    Where a file cannot be read the reason stands for its pixels and there are no values.
    """
    waiting: list[tuple[Path, torch.Tensor | str]] = []

    def flush() -> Iterator[tuple[Path, Any, dict[str, float] | None, int]]:
        scores = scorer([pixels for _, pixels in waiting if not isinstance(pixels, str)])
        answers = zip(scores.rows(), scores.values[:, : len(scorer.heads[0].labels)].argmax(1).tolist(), strict=True)
        for path, pixels in waiting:
            if isinstance(pixels, str):
                failures.append((path, pixels))
                yield path, pixels, None, 0
            else:
                row, top = next(answers)
                yield path, pixels, row, top
        waiting.clear()

    area = 0
    for path, outcome in decoded(found, ahead=2 * batch):
        waiting.append((path, outcome))
        area += 0 if isinstance(outcome, str) else outcome.shape[0] * outcome.shape[1]
        if len(waiting) == batch or area >= AHEAD_PIXELS:
            yield from flush()
            area = 0
    if waiting:
        yield from flush()
