"""The options of the commands that work on more pictures than one run, or one machine, gets through."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..classify.known import known_file
from ..digests import sha256
from ..locate import resolve
from ..onnx_runtime import check_onnx
from ..sharding import Shard
from ..store import ResultStore, StoreError
from ..weights import ASSETS
from .inputs import Inputs

EMBEDDED = {"detector": ("head", "head.safetensors"), "classifier": ("gender", "gender.safetensors")}


def resumable(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--resume``, ``--by-content`` and ``--shard``, which end up in the command's :class:`~.inputs.Inputs`."""

    @click.option(
        "--resume",
        "store",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="STORE",
        help="Keep every result in this file (SQLite), and do only what it does not know or what has changed since; "
        "made where there is none.",
    )
    @click.option(
        "--by-content",
        is_flag=True,
        help="With --resume: know pictures by the SHA-256 of their bytes and not by path, size and time, so that moved "
        "and copied ones are known too.",
    )
    @click.option(
        "--shard",
        callback=_shard,
        metavar="PART/PARTS",
        help="Do only this part of the files, such as 1/8 … 8/8 on eight machines; each file is in one part.",
    )
    @functools.wraps(command)
    def wrapped(inputs: Inputs, store: Path | None, by_content: bool, shard: Shard | None, **rest: Any) -> None:
        if by_content and store is None:
            raise click.UsageError("--by-content says how pictures are known in a store: give one with --resume STORE")
        inputs.shard, inputs.by_content = shard, by_content
        if store is not None:
            inputs.open_store = functools.partial(open_store, inputs, store)
        command(inputs=inputs, **rest)

    return wrapped


def open_store(inputs: Inputs, path: Path) -> ResultStore:
    """The store of a run's results.

    Raises:
        click.UsageError: it cannot be used.
    """
    try:
        return ResultStore(path, settings(inputs))
    except StoreError as error:
        raise click.UsageError(f"--resume: {error}") from error


def settings(inputs: Inputs) -> dict[str, str]:
    """What results depend on beside the pictures: the models, and their preprocessing and limits as they now are.

    The device is not among them: what it is fastest at moves a probability by about a hundredth, and machines may share
    work. A precision that somebody asks for is.
    """
    found = {}
    if inputs.models.precision != "auto":
        found["precision"] = inputs.models.precision
    parts = {"detector": inputs.pipeline.detector, "classifier": inputs.pipeline.classifier}
    for kind, part in parts.items():
        name = str(getattr(inputs.models, kind))
        found[kind] = f"{type(part).__name__} {identity(name, kind)}"
        for attribute, value in vars(part).items():
            if isinstance(value, (int, float, str, list, tuple)):
                found[f"{kind} {attribute.strip('_')}"] = str(value)
    return found


def identity(name: str, kind: str) -> str:
    """The digest of a model's file and of those that hold weights beside it, or its name where it has no file."""
    short, file = EMBEDDED[kind]
    known = ASSETS / file if name in ("auto", short) else Path(resolve(name, kind))
    for path in (known, known_file(known), Path(str(known).partition(":")[2])):
        if path is not None and path.is_file():
            beside = check_onnx(path) if path.suffix.lower() == ".onnx" or name.startswith("yolo:") else []
            return "+".join(sha256(file)[:16] for file in (path, *beside))
    return name


def _shard(context: click.Context, option: click.Parameter, value: str | None) -> Shard | None:
    try:
        return None if value is None else Shard.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
