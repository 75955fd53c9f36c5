"""The options that name quality heads, and scoring what the pipeline has gone through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from ..folders import AHEAD_PIXELS, Result
from ..quality import COMBINATIONS, Scorer, load_encoder, load_head


def scorer_options(required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that make a scorer, for this command and for filter."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--tiling/--no-tiling", default=None, help="Cut large pictures; as the head wants if left out."
            ),
            click.option("--combine", type=click.Choice(list(COMBINATIONS)), default="mean", show_default=True),
            click.option("--encoder", default="auto", show_default=True, help="auto, a known encoder, or a folder."),
            click.option(
                "--head",
                "heads",
                multiple=True,
                required=required,
                help="A known quality head, or a file. May be given several times.",
            ),
        ):
            command = option(command)
        return command

    return decorate


def make_scorer(
    heads: tuple[str, ...], encoder: str, combine: str, tiling: bool | None, device: str | None = None
) -> Scorer:
    """The scorer that the options describe; what is wrong with them is wrong usage."""
    try:
        return Scorer([load_head(head) for head in heads], load_encoder(encoder, device), combine, tiling)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        raise click.UsageError(str(error)) from error


def with_scores(
    results: Iterable[Result], scorer: Scorer | None, batch: int
) -> Iterator[tuple[Result, dict[str, float]]]:
    """Each result with the values of its picture by name; none where there is no scorer, or no picture.

    Args:
        results: with their pixels, where there is a scorer.
        scorer: what scores them.
        batch: pictures at once; fewer of large ones, which are held until then.
    """
    waiting: list[Result] = []

    def flush() -> Iterator[tuple[Result, dict[str, float]]]:
        pictures = [result.pixels for result in waiting if result.pixels is not None]
        rows = iter(scorer(pictures).rows() if scorer is not None else ())
        for result in waiting:
            yield result, {} if result.pixels is None or scorer is None else next(rows)
        waiting.clear()

    area = 0
    for result in results:
        waiting.append(result)
        area += 0 if result.pixels is None else result.pixels.shape[0] * result.pixels.shape[1]
        if scorer is None or len(waiting) == batch or area >= AHEAD_PIXELS:
            yield from flush()
            area = 0
    yield from flush()
