"""``anigender models``: which models there are, where they lie, and fetching and checking them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..digests import sha256
from ..known_models import MODELS, KnownModel, find_model, similar_names
from ..printable import printable
from ..weights import read_header, read_weights

_folders = click.option(
    "--folder",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Look here too, such as ComfyUI's models/anigender. May be given several times.",
)


@click.group("models")
def command() -> None:
    """List, fetch and check the models that can be named.

    \b
    anigender models list
    anigender models get chromatic-aberration

    Models come from the Hugging Face hub into its own cache. HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE are honoured.
    """


def _named(name: str) -> KnownModel:
    model = find_model(name)
    if model is None:
        close = similar_names(name)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(MODELS)}"
        raise click.UsageError(f"{name!r} is not a known model; {hint}")
    return model


def _state(model: KnownModel, folders: tuple[Path, ...]) -> str:
    from ..locate import locate_files

    if model.embedded:
        return "embedded"
    try:
        found = locate_files(model, list(folders))
    except (OSError, ValueError) as error:
        return f"refused: {error}"
    return "not here" if found is None else printable(found[0])


@command.command("list")
@click.option("--kind", type=click.Choice(sorted({model.kind for model in MODELS.values()})), help="Only these.")
@_folders
def list_models(kind: str | None, folders: tuple[Path, ...]) -> None:
    """List the known models: name, kind, size, licence, where it is, what it is.

    \b
    anigender models list
    anigender models list --kind quality
    """
    shown = [model for model in MODELS.values() if kind in (None, model.kind)]
    width = max(len(model.name) for model in shown)
    for model in shown:
        alias = f" ({', '.join(model.aliases)})" if model.aliases else ""
        size = f"{model.megabytes:g} MB"
        click.echo(f"{model.name:<{width}}  {model.kind:<10}  {size:>8}  {model.licence:<10}  {model.summary}{alias}")
        click.echo(f"{'':<{width}}  {_state(model, folders)}")


@command.command("get")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--accept", is_flag=True, help="Trust what the repository has now, whatever it had before.")
def get_models(names: tuple[str, ...], accept: bool) -> None:
    """Fetch models into the Hugging Face cache, check them, and print their paths.

    \b
    anigender models get chromatic-aberration compression
    """
    from ..locate import get

    for model in [_named(name) for name in names]:
        for path in _or_exit(partial(get, model, accept=accept)):
            click.echo(printable(path))


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@_folders
def verify(names: tuple[str, ...], folders: tuple[Path, ...]) -> None:
    """Check the digests of models on this machine: of those named, else of all that are here.

    \b
    anigender models verify
    anigender models verify aesthetic --folder ComfyUI/models/anigender
    """
    from ..locate import locate_files

    failed = False
    for model in [_named(name) for name in names] or MODELS.values():
        try:
            paths = locate_files(model, list(folders))
            for path in paths or ():
                if path.suffix == ".safetensors":
                    read_weights(path)
                click.echo(f"ok {sha256(path)}  {printable(path)}")
            if paths is None and names:
                raise FileNotFoundError(f"{model.name} is not on this machine")
        except (OSError, ValueError) as error:
            failed = True
            click.echo(f"failed: {model.name}: {error}", err=True)
    if failed:
        raise SystemExit(1)


@command.command("where")
@click.argument("name")
@_folders
def where(name: str, folders: tuple[Path, ...]) -> None:
    """Print the path of a model that is on this machine; nothing is fetched.

    \b
    anigender models where gender
    """
    from ..locate import locate

    click.echo(printable(_or_exit(lambda: locate(name, folders, download=False))))


@command.command("info")
@click.argument("file")
@_folders
def info(file: str, folders: tuple[Path, ...]) -> None:
    """Say what a weights file (or a known model on this machine) holds.

    \b
    anigender models info gender
    anigender models info mine.safetensors
    """
    from ..locate import locate

    path = _or_exit(lambda: locate(file, folders, download=False))
    click.echo(f"file: {printable(path)}\nsize: {path.stat().st_size} bytes\nsha256: {sha256(path)}")
    model = find_model(file)
    if model is not None:
        click.echo(f"model: {model.name}, {model.kind}, {model.licence}\npreprocessing: {model.preprocessing}")
    if path.suffix != ".safetensors":
        return
    header = _or_exit(lambda: read_header(path))
    metadata = _or_exit(lambda: read_weights(path))[1]
    numbers = Counter({entry["dtype"]: 0 for entry in header.values()})
    for entry in header.values():
        numbers[entry["dtype"]] += math.prod(entry["shape"])
    click.echo(f"tensors: {len(header)}")
    for kind, count in numbers.most_common():
        click.echo(f"numbers: {count} {kind}")
    for key, value in sorted(metadata.items()):
        click.echo(f"{_line(key)}: {_line(value)}")


def _line(text: str) -> str:
    return printable(Path(text if len(text) <= 200 else f"{text[:200]}…"))


def _or_exit(call: Callable[[], Any]) -> Any:
    """The result, or the error's message and status 1."""
    try:
        return call()
    except (OSError, ValueError, ImportError) as error:
        click.echo(f"failed: {error}", err=True)
        raise SystemExit(1) from error
