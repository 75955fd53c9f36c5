"""``anigender filter``: keep the pictures that fit a rule."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

import click

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
            os.rename(source, target)
            return
        except OSError:  # another file system
            pass
    with source.open("rb") as reader, atomic_file(target) as writer:
        shutil.copyfileobj(reader, writer)
    shutil.copystat(source, target)
    if action == "move":
        source.unlink()


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
    own = tuple(folder for folder in (kept, rejected) if folder is not None and action != "list")
    results = inputs.results(keep_pixels=scorer is not None or namer is not None, without=own)
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
            place(result.path, folder / inputs.relative(result.path), action)
        except OSError as error:
            inputs.fail(result.path, str(error))
    click.echo(f"{counts[True]} fit, {counts[False]} do not", err=True)
    inputs.finish()
