"""``anigender classify``: who is in each picture, as JSON lines or as a Parquet table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ..files import atomic_file
from ..printable import printable
from ..records import line, record_of_sure
from ..tables import schema, write_parquet
from .inputs import Inputs, picture_options
from .on_ray import HERE, classify_there
from .outputs import output_file
from .resuming import resumable


def _address(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and value not in (HERE, "auto") and ":" not in value:
        raise click.BadParameter(
            f"{value!r} is not an address such as 10.0.0.1:6379; write --ray behind the paths, or --ray={HERE}"
        )
    return value


@click.command("classify")
@picture_options
@resumable
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    callback=output_file,
    help="Write here instead of stdout: JSON lines, or a Parquet table where the name ends in .parquet.",
)
@click.option("--whole-image", is_flag=True, help="Take each picture for one head; the detector is not run.")
@click.option(
    "--min-confidence",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0.5, 1),
    help="Leave out faces whose gender is less sure than this; a picture with such a face gets no count tags.",
)
@click.option(
    "--ray",
    "address",
    is_flag=False,
    flag_value=HERE,
    metavar="[ADDRESS]",
    callback=_address,
    help="Run on a Ray cluster: at this address (HOST:PORT, or auto), or made of this machine where none is given. "
    "Write it behind the paths.",
)
def command(inputs: Inputs, output: Path | None, whole_image: bool, min_confidence: float, address: str | None) -> None:
    """Say who is in each picture: boxes, genders, confidences and tags, as JSON lines in input order.

    Pictures in shards are read too, without unpacking: WebDataset's .tar (and .tar.gz, .tgz), and .parquet with a
    column of bytes as Hugging Face datasets have it. They are called SHARD/MEMBER and SHARD/ROW.

    With --ray, --output is a folder of Parquet or JSON lines files, paths are absolute and in no order.

    \b
    anigender classify portrait.png
    anigender classify pictures/ --recursive --output results.jsonl
    anigender classify icons/ --whole-image --min-confidence 0.9
    anigender classify shards/ --shard 1/8 --resume results.sqlite --output part-1.parquet
    anigender classify /mnt/shards/ --output /mnt/results.parquet --ray 10.0.0.1:6379
    """
    inputs.packed = True
    if whole_image:
        from ..detect import WholeImage

        inputs.pipeline.detector = WholeImage(inputs.pipeline.classifier.device)
        inputs.models = replace(inputs.models, detector="whole-image")
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"--output: there is no folder {printable(output.parent)}")
    if address is not None:
        if output is None:
            raise click.UsageError("--ray needs --output FOLDER, which every machine writes into")
        if inputs.open_store is not None:
            raise click.UsageError("--resume keeps results on one machine; with --ray split a long run with --shard")
        classify_there(inputs, output, min_confidence, address)
        return

    if output is not None and output.is_dir():
        raise click.UsageError(f"--output: {printable(output)} is a folder; name a file")

    records = (record_of_sure(result, min_confidence) for result in inputs.results())
    if output is None:
        for values in records:
            click.echo(line(values))
        inputs.finish()
        return
    as_table = output.suffix.lower() == ".parquet"
    if as_table:
        try:
            schema()
        except ImportError as error:
            raise click.UsageError(f"--output: {error}") from error
    try:
        with atomic_file(output) as stream:
            if as_table:
                write_parquet(stream, records)
            else:
                for values in records:
                    stream.write(line(values).encode("utf-8") + b"\n")
    except OSError as error:
        raise click.ClickException(
            f"--output: {printable(output)} could not be written ({error.strerror or error}); it was left as it was"
        ) from error
    inputs.finish()
