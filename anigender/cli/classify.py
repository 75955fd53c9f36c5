"""``anigender classify``: who is in each picture, as JSON lines or as a Parquet table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..files import atomic_file
from ..records import line, record
from ..tables import schema, write_parquet
from ..tags import image_tags
from .inputs import Inputs, picture_options, printable
from .resuming import resumable


@click.command("classify")
@picture_options
@resumable
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write here instead of stdout: JSON lines, or a Parquet table where the name ends in .parquet.",
)
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

    Pictures in shards are read too, without unpacking: WebDataset's .tar (and .tar.gz, .tgz), and .parquet with a
    column of bytes as Hugging Face datasets have it. They are called SHARD/MEMBER and SHARD/ROW.

    \b
    anigender classify portrait.png
    anigender classify pictures/ --recursive --output results.jsonl
    anigender classify icons/ --whole-image --min-confidence 0.9
    anigender classify shards/ --shard 1/8 --resume results.sqlite --output part-1.parquet
    """
    inputs.packed = True
    if whole_image:
        from ..detect import WholeImage

        inputs.pipeline.detector = WholeImage(inputs.pipeline.classifier.device)
        inputs.models = ("whole-image", inputs.models[1])

    def records() -> Iterator[dict[str, Any]]:
        for result in inputs.results():
            if result.faces is None:
                yield record(result)
                continue
            sure = result.faces.filter(result.faces.confidence >= min_confidence)
            yield record(result.with_faces(sure), image_tags(sure)[0])

    if output is None:
        for values in records():
            click.echo(line(values))
        inputs.finish()
        return
    if not output.parent.is_dir():
        raise click.UsageError(f"--output: there is no folder {printable(output.parent)}")
    as_table = output.suffix.lower() == ".parquet"
    if as_table:
        try:
            schema()
        except ImportError as error:
            raise click.UsageError(f"--output: {error}") from error
    with atomic_file(output) as stream:
        if as_table:
            write_parquet(stream, records())
        else:
            for values in records():
                stream.write(line(values).encode("utf-8") + b"\n")
    inputs.finish()
