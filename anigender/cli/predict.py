"""``anigender predict``: who is in the pictures, by a recogniser of one's own."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import click

from ..files import atomic_file
from ..printable import printable
from ..records import line, record
from .filter import ACTIONS, place
from .inputs import Inputs, picture_options
from .naming import load_recogniser, with_names
from .outputs import to_file

NOBODY = "_nobody"


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False), metavar="MODEL")
@picture_options
@click.option("--crops", is_flag=True, help="Each picture is a head crop already, as the recogniser was trained on.")
@to_file
@click.option(
    "--sort-to",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Put pictures of one face into a folder by its name below this one; nobody known into {NOBODY}.",
)
@click.option("--action", type=click.Choice(ACTIONS[:3]), show_default="copy", help="For --sort-to.")
def command(
    inputs: Inputs, model: Path, crops: bool, output: Path | None, sort_to: Path | None, action: str | None
) -> None:
    """Say who is in each picture, as JSON lines in input order: those of classify, with a name for every face.

    MODEL is what `anigender train characters` wrote. A face of nobody known has the name null.

    \b
    anigender predict mine.skops pictures/
    anigender predict mine.skops heads/ --crops --output names.jsonl
    anigender predict mine.skops new/ --crops --sort-to sorted/ --action link
    """
    if action is not None and sort_to is None:
        raise click.UsageError(f"--action {action} needs --sort-to DIR, which says where to")
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"--output: there is no folder {printable(output.parent)}")
    recogniser = load_recogniser(model, str(inputs.pipeline.classifier.device))
    assert recogniser is not None
    if crops:
        from ..detect import WholeImage

        inputs.pipeline.detector = WholeImage(inputs.pipeline.classifier.device)
        recogniser.margin = 1.0  # the picture is what a crop would be cut to
    counts: Counter[str] = Counter()
    own = () if sort_to is None else (sort_to,)
    with nullcontext() if output is None else atomic_file(output) as stream:
        for result in with_names(inputs.results(keep_pixels=True, without=own), recogniser):
            if stream is None:
                click.echo(line(record(result)))
            else:
                stream.write(line(record(result)).encode("utf-8") + b"\n")
            names = [] if result.faces is None else result.faces.names
            counts.update(name or "nobody known" for name in names)
            if sort_to is not None and len(names) == 1:
                try:
                    place(result.path, sort_to / (names[0] or NOBODY) / result.path.name, action or "copy")
                except OSError as error:
                    inputs.fail(result.path, str(error))
    for name, count in counts.most_common():
        click.echo(f"{printable(name)}: {count}", err=True)
    inputs.finish()
