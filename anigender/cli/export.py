"""``anigender export``: a classifier as one file for other programs, with a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..printable import printable
from .inputs import settings

FORMATS = ("onnx", "safetensors", "torchscript", "pt2")


@click.command("export")
@click.argument("name", default="auto")
@click.option("--format", "format", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to make; FILE.md beside it.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Figures for the model card: what `anigender evaluate gender --output` wrote.",
)
@click.option(
    "--classifier-setting",
    multiple=True,
    metavar="NAME=VALUE",
    callback=settings,
    help="Preprocessing that NAME's file does not say, such as channel_order=BGR; may be repeated (docs/models.md).",
)
@click.option("--overwrite", is_flag=True, help="Replace the files if they are there.")
def command(
    name: str,
    format: str,
    output: Path,
    figures: Path | None,
    classifier_setting: dict[str, str],
    overwrite: bool,
) -> None:
    """Write the classifier NAME (auto, a known name or a file) in another format, checked against its source.

    \b
    anigender export auto --format onnx --output gender.onnx
    anigender export mine.pth --format safetensors --output mine.safetensors --figures figures.json

    Normalisation and calibration are part of an ONNX, TorchScript or PT2 graph: it takes head crops [N, 3, S, S] with
    values 0-1 and gives the probabilities of female and male. A safetensors file carries its preprocessing as metadata.
    A model card is written beside the file. ONNX needs onnx, onnxscript and onnxruntime.
    """
    from ..classify import load_classifier
    from ..export import export
    from ..files import atomic_write_text
    from ..locate import resolve
    from ..model_card import model_card

    card = output.with_name(output.name + ".md")
    try:
        measured = _read_figures(figures) if figures is not None else None
        if card.exists() and not overwrite:
            raise FileExistsError(f"{card} exists already; use --overwrite to replace it")
        source = resolve(name, "classifier")
        facts = export(source, format, output, classifier_setting, overwrite)
        text = model_card(
            output.name, Path(name).name, load_classifier(source, settings=classifier_setting), facts, measured
        )
        atomic_write_text(card, text)
    except (OSError, ValueError, ImportError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{printable(output)}: {facts['bytes']:,} bytes, differs from its source by {facts['difference']:.1g}")
    click.echo(f"{printable(card)}: its model card" + ("" if measured else "; --figures puts measured figures into it"))


def _read_figures(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    figures = content.get("gender") if isinstance(content, dict) else None
    if not isinstance(figures, dict) or not {"found", "all", "intervals"} <= figures.keys():
        raise ValueError(f"{path} holds no figures of a classifier; `anigender evaluate gender --output` writes them")
    return figures
