"""Giving the faces that the pipeline found the names of characters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from ..characters import Recogniser, read_recogniser
from ..folders import Result


def load_recogniser(path: Path | None, device: str = "cpu") -> Recogniser | None:
    """The recogniser of a file, or None for none; what is wrong with it is wrong usage."""
    if path is None:
        return None
    try:
        return read_recogniser(path, device)
    except (ValueError, OSError, ImportError) as error:
        raise click.UsageError(str(error)) from error


def with_names(results: Iterable[Result], recogniser: Recogniser | None) -> Iterator[Result]:
    """The results, with names for their faces where there is a recogniser; they must have their pixels then."""
    for result in results:
        if recogniser is None or result.faces is None or result.pixels is None:
            yield result
        else:
            yield result.with_faces(recogniser.name_faces([result.pixels], result.faces))
