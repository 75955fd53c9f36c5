"""``anigender classify``: one JSON line per picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ..files import atomic_file
from ..records import line, record
from ..tags import image_tags
from .inputs import Inputs, picture_options, printable


@click.command("classify")
@picture_options
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of stdout.")
@click.option("--whole-image", is_flag=True, help="Take each picture for one head; the detector is not run.")
@click.option(
    "--min-confidence",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0.5, 1),
    help="Leave out faces whose gender is less sure than this.",
)
def command(inputs: Inputs, output: Path | None, whole_image: bool, min_confidence: float) -> None:
    """Say who is in each picture: boxes, genders, confidences and tags, as JSON lines in input order.

    \b
    anigender classify portrait.png
    anigender classify pictures/ --recursive --output results.jsonl
    anigender classify icons/ --whole-image --min-confidence 0.9
    """
    if whole_image:
        from ..detect import WholeImage

        inputs.pipeline.detector = WholeImage(inputs.pipeline.classifier.device)

    def lines() -> Iterator[str]:
        for result in inputs.results():
            if result.faces is None:
                yield line(record(result))
                continue
            sure = result.faces.filter(result.faces.confidence >= min_confidence)
            yield line(record(result.with_faces(sure), image_tags(sure)[0]))

    if output is None:
        for text in lines():
            click.echo(text)
    else:
        if not output.parent.is_dir():
            raise click.UsageError(f"--output: there is no folder {printable(output.parent)}")
        with atomic_file(output) as stream:
            for text in lines():
                stream.write(text.encode("utf-8") + b"\n")
    inputs.finish()
