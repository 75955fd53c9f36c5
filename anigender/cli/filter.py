"""``anigender filter``: keep the pictures that fit a rule."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

import click

from ..captions import caption_path, shared_captions
from ..files import atomic_file
from ..routing import select
from ..rules import NAMES, PRESETS, RuleError, compile_rule
from .inputs import Inputs, picture_options, printable
from .naming import load_recogniser, with_names
from .scoring import make_scorer, scorer_options, with_scores

ACTIONS = ("copy", "move", "link", "list")


def place(source: Path, target: Path, action: str) -> None:
    """Copy, move or link one file; what is already there is never overwritten.

    Raises:
        FileExistsError: another file has the target's name.
        OSError: it could not be done.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() or target.is_symlink():
        if target.exists() and filecmp.cmp(source, target, shallow=False):
            if action == "move" and not os.path.samefile(source, target):
                source.unlink()
            return
        raise FileExistsError(f"{target} exists already and differs; nothing was overwritten")
    if action == "link":
        try:
            target.symlink_to(source.resolve())
        except OSError:  # no right to make symbolic links, as on many Windows machines
            os.link(source, target)
        return
    if action == "move":
        try:
            if source.is_symlink():  # a relative one would lead elsewhere from there
                target.symlink_to(Path(os.path.abspath(source.parent), os.readlink(source)))
                source.unlink()
                return
            os.rename(source, target)
            return
        except OSError:  # another file system
            pass
    with source.open("rb") as reader, atomic_file(target) as writer:
        shutil.copyfileobj(reader, writer)
    shutil.copystat(source, target)
    if action == "move":
        source.unlink()


def check_extension(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An extension of caption files, or a usage error."""
    if value is not None:
        try:
            caption_path("picture", value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


@click.command(
    "filter",
    epilog="Names in rules: "
    + ", ".join(NAMES)
    + ". Presets: "
    + ", ".join(PRESETS)
    + '. With --recogniser, has("asuka") is the number of faces that are asuka.',
)
@picture_options
@click.option("--rule", required=True, help='A preset or an expression, e.g. "female >= 1 and male == 0".')
@click.option("--to", "kept", type=click.Path(path_type=Path, file_okay=False), help="Folder for what fits.")
@click.option("--rejected", type=click.Path(path_type=Path, file_okay=False), help="Folder for what does not fit.")
@click.option("--action", type=click.Choice(ACTIONS), default="copy", show_default=True, help="What to do with a file.")
@click.option(
    "--captions",
    "extension",
    metavar="EXTENSION",
    callback=check_extension,
    help="Take the caption files of this extension, such as .txt, along with their pictures.",
)
@click.option(
    "--recogniser",
    type=click.Path(path_type=Path, dir_okay=False),
    help='Of `anigender train characters`: its names can be asked for, as in has("asuka").',
)
@scorer_options(required=False)
def command(
    inputs: Inputs,
    rule: str,
    kept: Path | None,
    rejected: Path | None,
    action: str,
    extension: str | None,
    recogniser: Path | None,
    heads: tuple[str, ...],
    encoder: str,
    combine: str,
    tiling: bool | None,
) -> None:
    """Copy, move, link or list the pictures that fit a rule. Folders below PATH are kept below DIR.

    \b
    anigender filter pictures/ --rule "female >= 1 and male == 0" --to women/
    anigender filter pictures/ --rule solo-male --to men/ --rejected rest/ --action link
    anigender filter dataset/ --rule solo-female --to women/ --action move --captions .txt
    anigender filter pictures/ --rule "largest > 30% and confidence >= 0.9" --action list
    anigender filter pictures/ --recogniser mine.skops --rule 'has("asuka") and faces == 1' --to asuka/
    anigender filter in/ --head chromatic-aberration --rule "chromatic_aberration < 0.5" --to clean/
    """
    scorer = None
    if heads:
        device = str(inputs.pipeline.classifier.device)
        scorer = make_scorer(heads, encoder, combine, tiling, device)
    namer = load_recogniser(recogniser, str(inputs.pipeline.classifier.device))
    try:
        compiled = compile_rule(rule, scorer.names if scorer is not None else ())
    except RuleError as error:
        raise click.UsageError(str(error)) from error
    if action != "list" and kept is None and rejected is None:
        raise click.UsageError("--to DIR (or --rejected DIR) is needed, unless --action is list")
    counts = {True: 0, False: 0}
    shared: set[Path] = set()
    if extension is not None and action == "move":
        groups = shared_captions((path for path, problem in inputs.found() if problem is None), extension)
        shared = {caption_path(path, extension) for group in groups.values() for path in group}
    folders = tuple(folder for folder in (kept, rejected) if folder is not None and action != "list")
    results = inputs.results(keep_pixels=scorer is not None or namer is not None, without=folders)
    for result, known in with_scores(with_names(results, namer), scorer, inputs.batch):
        if result.faces is None:
            continue
        try:
            fits = select(result.faces, compiled, [known])[0]
        except RuleError as error:
            inputs.fail(result.path, str(error).partition("\n")[0])  # the rule itself need not be said for every file
            continue
        counts[fits] += 1
        if action == "list":
            if fits:
                click.echo(printable(result.path))
            continue
        folder = kept if fits else rejected
        if folder is None:
            continue
        try:
            target = folder / inputs.relative(result.path)
            place(result.path, target, action)
            if extension is not None:
                caption = caption_path(result.path, extension)
                if caption.exists():
                    # What another picture needs too stays where it is.
                    place(caption, caption_path(target, extension), "copy" if caption in shared else action)
        except (ValueError, OSError) as error:
            inputs.fail(result.path, str(error))
    click.echo(f"{counts[True]} fit, {counts[False]} do not", err=True)
    inputs.finish()
