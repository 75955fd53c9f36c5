"""What the trainings share: their options, and running one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from .. import REFUSALS

_data = click.option(
    "--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="The data folder."
)


def _weights_file(context: click.Context, option: click.Parameter, value: Path) -> Path:
    """A file to write weights to; one of another type by its name may be something else that is still needed."""
    if value.suffix.lower() != ".safetensors":
        raise click.BadParameter(f"{value} is to hold weights: give it a name ending in .safetensors")
    return value


to_output = click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_weights_file,
    help="The .safetensors to write.",
)


def usable_device(context: click.Context, option: click.Parameter, value: str) -> str:
    """A device that can be used; any other is wrong usage, said before the data are read."""
    from ...inference import usable

    try:
        return str(usable(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every training."""
    for option in (
        click.option("--device", default="cpu", show_default=True, callback=usable_device, help="cpu, cuda …"),
        click.option("--seed", default=0, show_default=True, type=int),
        click.option(
            "--learning-rate", type=click.FloatRange(0, min_open=True), help="The recipe's own where left out."
        ),
        to_output,
        _data,
    ):
        command = option(command)
    return command


def copying(command: Callable[..., Any]) -> Callable[..., Any]:
    """SOURCE and the options of what writes a better copy of a weights file."""
    for option in (
        click.option("--detector", default="auto", show_default=True, help="Finds the heads: auto, or a weights file."),
        to_output,
        _data,
        click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True)),
    ):
        command = option(command)
    return command


resume = click.option("--resume", is_flag=True, help="Go on from the checkpoint beside OUTPUT.")


@contextmanager
def as_usage() -> Iterator[None]:
    """A block in which what cannot be done is a wrong usage: data, options, packages, what cannot be fetched.

    What a disk refuses is told by the group of all commands.
    """
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        if isinstance(error, OSError) and error.errno in REFUSALS:
            raise
        raise click.UsageError(str(error)) from error


def run(train: Callable[[Any], Any], options: type, values: dict[str, Any]) -> None:
    """Train with those options that are given; what cannot be done is a wrong usage."""
    with as_usage():
        train(options(**{name: value for name, value in values.items() if value is not None}))
