"""What the commands share: the options that name pictures and models, progress, and the list of failures."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ..detect import DETECTORS, FILES
from ..folders import Result, find_images, is_picture, process
from ..inference import PRECISIONS
from ..packed import is_packed, is_picture_or_packed, is_plain_table, unpacked
from ..pipeline import Pipeline, load
from ..printable import printable
from ..resuming import resumed
from ..sharding import Shard
from ..store import ResultStore, StoreError

DETECTOR_HELP = f"auto, {', '.join(DETECTORS)}, or a file ({' '.join(ending for ending, _, _ in FILES.values())})."
PUBLISHED_HELP = "Or the name of a published one of `anigender models list`."


class PicturePath(click.Path):
    """A PATH whose pictures are read; one that is empty, as a variable may be, would stand for the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A path; see above."""
        if value == "":
            self.fail("a PATH is empty; write . for the current folder", param, ctx)
        return super().convert(value, param, ctx)


precision_option = click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(tuple(PRECISIONS)),
    help="What to compute in; auto is what the device is fastest at (docs/speed.md).",
)


def picture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """PATH… and the options of every command that runs the pipeline, handed over as one :class:`Inputs`."""

    @click.argument("paths", nargs=-1, required=True, type=PicturePath(), metavar="PATH...")
    @click.option("--recursive", "-r", is_flag=True, help="Look into subfolders too.")
    @click.option("--batch", default=16, show_default=True, type=click.IntRange(1, 1024), help="Pictures at once.")
    @click.option("--device", default=None, help="cpu, cuda, cuda:1 …; CUDA where there is one, else the CPU.")
    @precision_option
    @click.option("--detector", default="auto", show_default=True, help=f"{DETECTOR_HELP} {PUBLISHED_HELP}")
    @click.option(
        "--classifier",
        default="auto",
        show_default=True,
        help=f"auto, or a file: safetensors, .pth …, or .onnx. {PUBLISHED_HELP}",
    )
    @click.option(
        "--classifier-setting",
        multiple=True,
        metavar="NAME=VALUE",
        callback=settings,
        help="Preprocessing of the classifier, such as channel_order=BGR; may be repeated (docs/models.md).",
    )
    @click.option(
        "--min-detection",
        default=None,
        type=click.FloatRange(0, 1),
        help="Lowest detection score; the detector's own default where left out.",
    )
    @click.option(
        "--min-size", default=0.0, show_default=True, type=click.FloatRange(0), help="Smallest head in pixels."
    )
    @functools.wraps(command)
    def wrapped(
        paths: tuple[Path, ...],
        recursive: bool,
        batch: int,
        device: str | None,
        precision: str,
        detector: str,
        classifier: str,
        classifier_setting: dict[str, str],
        min_detection: float | None,
        min_size: float,
        **rest: Any,
    ) -> None:
        models = Models(detector, classifier, device, classifier_setting, min_detection, min_size, precision)
        try:
            pipeline = models.load()
        except (ValueError, RuntimeError, OSError, ImportError) as error:
            raise click.UsageError(str(error)) from error
        command(inputs=Inputs(paths, recursive, batch, pipeline, models), **rest)

    return wrapped


@dataclass(frozen=True)
class Models:
    """The options of :func:`picture_options` that say what judges the pictures."""

    detector: str = "auto"
    classifier: str = "auto"
    device: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    min_detection: float | None = None
    min_size: float = 0.0
    precision: str = "auto"

    def load(self) -> Pipeline:
        """The pipeline that they stand for; errors as of :func:`anigender.load`."""
        dtype = PRECISIONS[self.precision]
        pipeline = load(self.detector, self.classifier, self.device, dtype, self.settings)
        if self.min_detection is not None and hasattr(pipeline.detector, "threshold"):
            pipeline.detector.threshold = self.min_detection
        if hasattr(pipeline.detector, "minimum_size"):
            pipeline.detector.minimum_size = self.min_size
        return pipeline


def settings(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VALUE`` options as a dictionary."""
    if wrong := [value for value in values if "=" not in value]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE")
    return {name.strip(): text.strip() for name, _, text in (value.partition("=") for value in values)}


class Inputs:
    """The pictures a command works on, and what became of them.

    Args:
        paths: as given.
        recursive: look into subfolders.
        batch: pictures at once.
        pipeline: what judges them.
        models: what the pipeline was loaded from.

    Attributes:
        packed: whether pictures in shards are wanted too (see :mod:`anigender.packed`).
        shard: the part of the files that is to be done; all of them where None.
        open_store: opens what keeps the results and knows those of former runs, once the pipeline is as it will be;
            None where nothing is kept.
        by_content: know pictures in the store by their content.
    """

    def __init__(
        self,
        paths: tuple[Path, ...],
        recursive: bool,
        batch: int,
        pipeline: Pipeline,
        models: Models,
    ) -> None:
        self.paths, self.recursive, self.batch, self.pipeline = paths, recursive, batch, pipeline
        self.models = models
        self.packed = False
        self.shard: Shard | None = None
        self.open_store: Callable[[], ResultStore] | None = None
        self.by_content = False
        self.failures: list[tuple[Path, str]] = []
        self.seen = 0

    def found(self, without: tuple[Path, ...] = ()) -> Iterator[tuple[Path, str | None]]:
        """The files, less those of a command's own output ``without``; see :func:`found_in`."""
        wanted = is_picture_or_packed if self.packed else is_picture
        for given in self.paths:
            for path, problem in found_in(given, self.recursive, without, wanted):
                # What is missing fails on every machine: one without the mount must not pass for done.
                if self.shard is not None and problem is None and not self.shard.holds(_below(given, path)):
                    continue
                if problem is None and is_packed(path.name):
                    if not self.packed:
                        problem = "a shard of pictures is read by `anigender classify` only"
                    elif path != given and is_plain_table(path):
                        continue
                yield path, problem

    def results(self, keep_pixels: bool = False, without: tuple[Path, ...] = ()) -> Iterator[Result]:
        """One result per file in order, with a progress bar on stderr; unreadable files are noted as failures.

        Raises:
            click.UsageError: see :func:`check_outputs`.
            click.ClickException: the store cannot be used any longer, as on a full disk.
        """
        if self.recursive:  # else what is put into folders below is not read
            check_outputs(self.paths, without)
        # Counted only for whoever watches: listing millions of files takes its time.
        total = self._count(without) if sys.stderr.isatty() else None
        with nullcontext() if self.open_store is None else self.open_store() as store:
            files = self.found(without)
            if store is None:
                found = process(unpacked(files), self.pipeline, self.batch, keep_pixels=keep_pixels)
            else:
                found = resumed(files, self.pipeline, store, self.batch, self.by_content)
            try:
                for result in tqdm(found, total=total, unit="picture", file=sys.stderr, disable=None, leave=False):
                    self.seen += 1
                    if result.error is not None:
                        self.fail(result.path, result.error)
                    yield result
            except StoreError as error:
                raise click.ClickException(str(error)) from error

    def _count(self, without: tuple[Path, ...]) -> int | None:
        """How many pictures there are; None where shards hold some, which nobody has counted."""
        total = 0
        for path, problem in self.found(without):
            if problem is None and is_packed(path.name):
                return None
            total += 1
        return total

    def relative(self, path: Path) -> Path:
        """A path below the given folder that holds it; the bare name for files given themselves."""
        for folder in self._folders:
            if path.is_relative_to(folder):
                return path.relative_to(folder)
        return Path(path.name)

    @cached_property
    def _folders(self) -> list[Path]:
        """The PATHs that are folders: asked for once, and not for every picture."""
        return [given for given in self.paths if given.is_dir()]

    def fail(self, path: Path, reason: str) -> None:
        """Note that a file could not be done; the rest goes on."""
        self.failures.append((path, reason))

    def finish(self) -> None:
        """List the failures on stderr and leave with status 1 where there are any."""
        if not self.seen and not self.failures:
            click.echo("no pictures found", err=True)
        for path, reason in self.failures:
            click.echo(f"failed: {printable(path)}: {printable(reason)}", err=True)
        if self.failures:
            failed = len({path for path, _ in self.failures})  # one picture may fail several times, as its crops do
            click.echo(f"{failed} of {self.seen} inputs failed", err=True)
            raise SystemExit(1)


def found_in(
    given: Path, recursive: bool, without: Iterable[Path] = (), wanted: Callable[[str], bool] = is_picture
) -> Iterator[tuple[Path, str | None]]:
    """What :func:`~anigender.folders.find_images` finds for one PATH, less a command's own output.

    Only files, and folders inside the PATH, are left out: a folder that holds the PATH would leave nothing.
    """
    place = Path(os.path.realpath(given))
    outputs = [Path(os.path.realpath(output)) for output in without]
    apart = [output for output in outputs if output.is_relative_to(place) and (output != place or output.is_file())]
    for path, problem in find_images([given], recursive, wanted):
        # Where the file is, not where it points to: links in the output folder lead back to the pictures.
        if apart and any((place / path.relative_to(given)).is_relative_to(output) for output in apart):
            continue
        yield path, problem


def check_outputs(paths: Iterable[Path], outputs: Iterable[Path]) -> None:
    """Refuse an output folder that is a PATH as well, where what is put there would be read as a picture of it.

    Raises:
        click.UsageError: there is one.
    """
    read = {os.path.realpath(path) for path in paths if not os.path.isfile(path)}
    for folder in outputs:
        if os.path.realpath(folder) in read:
            raise click.UsageError(
                f"{printable(folder)} is a PATH whose pictures are read, and would be written to: "
                "name another folder, which may be inside it"
            )


def _below(given: Path, path: Path) -> Path:
    """A found path below the one that was given; the bare name of a file that was given itself."""
    return Path(path.name) if path == given else path.relative_to(given)
