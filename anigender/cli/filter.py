"""``anigender filter``: keep the pictures that fit a rule."""

from __future__ import annotations

import errno
import filecmp
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from ..captions import caption_path
from ..folders import SUFFIXES
from ..printable import printable
from ..routing import select
from ..rules import NAMES, PRESETS, RuleError, compile_rule
from .inputs import Inputs, check_outputs, picture_options
from .naming import load_recogniser, with_names
from .outputs import caption_extension
from .scoring import make_scorer, scorer_options, with_scores

ACTIONS = ("copy", "move", "link", "list")
SPELLINGS = tuple(spelled for suffix in sorted(SUFFIXES) for spelled in (suffix, suffix.upper(), suffix.title()))


def place(source: Path, target: Path, action: str, leave: bool = False) -> None:
    """Copy, move or link one file; what is already there is never overwritten.

    Args:
        source: the file.
        target: where it is to be.
        action: of :data:`ACTIONS`.
        leave: keep the source of a move; whoever asks for that removes it later.

    Raises:
        FileExistsError: another file has the target's name.
        OSError: it could not be done.
    """
    remove = action == "move" and not leave
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_there(source, target):
        if remove and not holds(source, target):
            source.unlink()
        return
    try:
        put(source, target, action, remove)
    except FileExistsError:  # by another process, since it was asked for
        place(source, target, action, leave)


def put(source: Path, target: Path, action: str, remove: bool) -> None:
    """Copy, move or link one file to where nothing is; ``remove`` the source of a move.

    Raises:
        FileExistsError: something has the target's name.
        OSError: it could not be done.
    """
    try:
        if action == "link":
            target.symlink_to(source.resolve())
            return
        if action == "move" and source.is_symlink():  # a relative one would lead elsewhere from there
            target.symlink_to(Path(os.path.abspath(source.parent), os.readlink(source)))
            if remove:
                source.unlink()
            return
        if remove:
            rename(source, target)
            return
    except FileExistsError:
        raise
    except OSError:  # no right to make symbolic links, as on many Windows machines; or another file system
        if action == "link":
            os.link(source, target)
            return
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            shutil.copyfileobj(reader, writer)
        rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    shutil.copystat(source, target)
    if remove:
        source.unlink()


def rename(source: Path, target: Path) -> None:
    """Give a file another name, unless that is taken, which ``os.rename`` would not mind on POSIX.

    Raises:
        FileExistsError: something has the target's name.
        OSError: it could not be done, as from one file system to another.
    """
    if os.name == "nt":
        os.rename(source, target)
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise
        # No hard links here, as on exFAT: the name is taken first, and what is renamed replaces that.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(source, target)
        except BaseException:
            target.unlink()
            raise
        return
    source.unlink()


def holds(source: Path, target: Path) -> bool:
    """Whether a target is, or leads to, the source itself, which must stay then; another hard link of it does not."""
    if not os.path.samefile(source, target):
        return False
    return os.path.realpath(source) == os.path.realpath(target) or os.stat(source).st_nlink < 2


def is_there(source: Path, target: Path) -> bool:
    """Whether a file is at its target already.

    Raises:
        FileExistsError: another file has the target's name.
    """
    if not os.path.lexists(target):
        return False
    if target.exists() and filecmp.cmp(source, target, shallow=False):
        return True
    raise FileExistsError(f"{target} exists already and differs; nothing was overwritten")


def place_with_caption(source: Path, target: Path, action: str, extension: str) -> None:
    """Place a picture and the caption file that it may have: both or neither, and no picture beside another's caption.

    The caption arrives before the picture, and that of a moved picture leaves after it, so nothing is lost by whoever
    is killed in between. It stays where another picture needs it too.

    Raises:
        FileExistsError: another file has the target's name or that of its caption, or the caption of one picture would
            be taken for that of another.
        OSError: it could not be done.
    """
    caption, arrived = caption_path(source, extension), caption_path(target, extension)
    new = not is_there(source, target)
    if not os.path.exists(caption):
        if new and os.path.lexists(arrived):
            raise FileExistsError(
                f"{arrived} exists already and would be taken for the caption of {source}, which has none"
            )
        place(source, target, action)
        return
    first = not os.path.lexists(arrived)
    for other in same_caption(target) if first else ():
        if not os.path.exists(source.with_name(other.name)):
            raise FileExistsError(f"{other}, which has no caption, would get that of {source}; neither was placed")
    place(caption, arrived, action, leave=True)
    try:
        place(source, target, action)
    except OSError:
        if first:
            arrived.unlink(missing_ok=True)
        raise
    gone = action == "move" and not os.path.lexists(source)
    # What was there may be a link to the caption, as an earlier run made it.
    if gone and (first or not os.path.samefile(caption, arrived)) and not any(same_caption(source)):
        caption.unlink()


def same_caption(picture: Path) -> Iterator[Path]:
    """The other pictures on disk whose caption file would be the same: those of the same stem.

    They are asked for by name, since listing a folder of a million pictures takes long.
    """
    for suffix in SPELLINGS:
        other = picture.with_name(picture.stem + suffix)
        if other.name != picture.name and os.path.exists(other):
            yield other


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
@click.option(
    "--to",
    "kept",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for what fits. Inside PATH it is not read.",
)
@click.option("--rejected", type=click.Path(path_type=Path, file_okay=False), help="Folder for what does not fit.")
@click.option("--action", type=click.Choice(ACTIONS), default="copy", show_default=True, help="What to do with a file.")
@click.option(
    "--captions",
    "extension",
    metavar="EXTENSION",
    callback=caption_extension,
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
    folders = tuple(folder for folder in (kept, rejected) if folder is not None)
    if action == "list":
        given = {"--to": kept, "--rejected": rejected, "--captions": extension}
        if idle := [name for name, value in given.items() if value is not None]:
            raise click.UsageError(
                f"--action list puts no file anywhere: leave out {', '.join(idle)}, or choose copy, move or link"
            )
    elif not folders:
        raise click.UsageError("--to DIR (or --rejected DIR) is needed, unless --action is list")
    check_outputs(inputs.paths, folders)
    scorer = None
    if heads:
        device = str(inputs.pipeline.classifier.device)
        scorer = make_scorer(heads, encoder, combine, tiling, device)
    namer = load_recogniser(recogniser, str(inputs.pipeline.classifier.device))
    try:
        compiled = compile_rule(rule, scorer.names if scorer is not None else ())
        compiled.check_characters(namer.names if namer is not None else ())
    except RuleError as error:
        raise click.UsageError(str(error)) from error
    counts = {True: 0, False: 0}
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
            if extension is None:
                place(result.path, target, action)
            else:
                place_with_caption(result.path, target, action, extension)
        except (ValueError, OSError) as error:
            inputs.fail(result.path, str(error))
    click.echo(f"{counts[True]} fit, {counts[False]} do not", err=True)
    inputs.finish()
