"""``anigender evaluate``: the figures of both models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from ..files import atomic_write_text
from ..inference import PRECISIONS
from ..pipeline import load
from ..printable import printable
from .inputs import DETECTOR_HELP, PUBLISHED_HELP, precision_option, settings


def detector_table(figures: dict[str, Any]) -> list[str]:
    """The detector's figures as lines of text."""
    seen, false = figures["illustrations"], figures["false_heads_per_negative"]
    judged, everywhere = seen["judged_kept_out"], seen["judged"]
    lines = [
        f"Detector (threshold {figures['threshold']:.2f})",
        f"  illustrations, recall at IoU 0.5     {seen['recall']:.3f}  ({seen['count']} pictures)",
        f"    kept out of training               {seen['recall_kept_out']:.3f}  ({seen['count_kept_out']} pictures)",
        f"    OpenCV's LBP cascade               {seen['recall_lbp_cascade']:.3f}",
        f"  all heads of those, judged by eye    {judged['recall']:.3f}",
        f"    false heads per illustration       {judged['false_heads']:.3f}  (all: {everywhere['false_heads']:.3f})",
        f"    of what is found, heads            {judged['precision']:.3f}  (all: {everywhere['precision']:.3f})",
        f"  false heads per negative, kept out   {false['kept_out']:.3f}  (all: {false['all']:.3f})",
        f"  more heads than one per figure       {figures['more_heads_per_figure']:.3f}",
        "",
        f"  {'a head is found in':<18}{'women':>8}{'men':>8}{'both':>8}{'pictures':>10}",
    ]
    for kind, own in sorted(figures["found"].items()):
        women, men = own.get("female", float("nan")), own.get("male", float("nan"))
        lines.append(f"  {kind:<18}{women:>8.3f}{men:>8.3f}{own['both']:>8.3f}{own['count']:>10}")
    lines += [
        "",
        f"  {'':<12}{'recall':>8}{'':>10}{'found':>8}{'':>8}{'false heads, kept out':>25}{'more than':>11}",
        f"  {'threshold':<12}{'all':>8}{'kept out':>10}{'women':>8}{'men':>8}{'patches':>10}{'illustrations':>15}"
        f"{'one':>11}",
    ]
    for threshold, own in figures["by_threshold"].items():
        lines.append(
            f"  {threshold:<12}{own['recall']:>8.3f}{own['recall_kept_out']:>10.3f}{own['found_women']:>8.3f}"
            f"{own['found_men']:>8.3f}{own['false_heads_kept_out']:>10.3f}"
            f"{own['false_heads_in_illustrations']:>15.3f}{own['more_heads_per_figure']:>11.3f}"
        )
    return lines


def gender_table(figures: dict[str, Any]) -> list[str]:
    """The classifier's figures as lines of text."""
    lines = [
        "Gender, end to end",
        f"  {'pictures':<18}{'balanced':>9}{'women':>8}{'men':>8}{'ECE':>8}{'count':>8}",
    ]
    parts = {"head found": figures["found"], "misses are wrong": figures["all"], **figures["by_kind"]}
    for name, own in parts.items():
        lines.append(
            f"  {name:<18}{own['balanced_accuracy']:>9.3f}{own['female_recall']:>8.3f}{own['male_recall']:>8.3f}"
            f"{own['calibration_error']:>8.3f}{own['count']:>8}"
        )
    low, high = figures["intervals"]["balanced_accuracy"]
    lines += [
        "",
        f"  balanced accuracy {low:.3f} to {high:.3f} (95 %, over characters); accuracy {figures['accuracy']:.3f}",
    ]
    for gender, own in figures["classes"].items():
        lines.append(f"  {gender:<8} precision {own['precision']:.3f}, recall {own['recall']:.3f}, F1 {own['f1']:.3f}")
    sections = {"by head size": figures["by_head_size"], **{f"by {k}": v for k, v in figures["by"].items()}}
    sections |= {"faces judged by eye": figures.get("by_eye", {})}
    sections |= {"by crop margin, over the trained": figures.get("by_margin", {})}
    for heading, rows in {**sections, "stress test": figures.get("stress", {})}.items():
        if rows:
            lines += ["", f"  {heading:<32}{'balanced':>9}{'women':>8}{'men':>8}{'count':>8}"]
            lines += [
                f"  {printable(name):<32}{own['balanced_accuracy']:>9.3f}{own['female_recall']:>8.3f}"
                f"{own['male_recall']:>8.3f}{own['count']:>8}"
                for name, own in rows.items()
            ]
    if "stress_loss" in figures:
        lines.append(f"  lost on average: {figures['stress_loss']:.3f}")
    return lines


def without_nan(value: Any) -> Any:
    """The same figures with None for what cannot be said: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(own) for own in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@click.command("evaluate")
@click.argument("what", type=click.Choice(("all", "detector", "gender")), default="all")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="The data folder."
)
@click.option("--detector", default="auto", show_default=True, help=f"{DETECTOR_HELP} {PUBLISHED_HELP}")
@click.option("--classifier", default="auto", show_default=True, help="auto, or a weights file.")
@click.option(
    "--classifier-setting",
    "classifier_settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=settings,
    help="Preprocessing of the classifier, such as flip=yes; may be repeated (docs/models.md).",
)
@precision_option
@click.option("--device", default=None, help="cpu, cuda …")
@click.option("--folder", "folders", multiple=True, help="Gender on all pictures of this folder instead of val.")
@click.option("--by", multiple=True, metavar="COLUMN", help="Gender also by the values of this column of the manifest.")
@click.option("--all-pictures", is_flag=True, help="Gender on all pictures, not on those kept out of training only.")
@click.option("--stress", is_flag=True, help="Gender also in worse pictures and boxes: grey, blurred, turned, small …")
@click.option("--margins", is_flag=True, help="Gender also in narrower and wider crops than the classifier's own.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the gender figures here as HTML, with plots and the worst mistakes.",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures as JSON here.")
def command(
    what: str,
    data: Path,
    detector: str,
    classifier: str,
    classifier_settings: dict[str, str],
    precision: str,
    device: str | None,
    folders: tuple[str, ...],
    by: tuple[str, ...],
    all_pictures: bool,
    stress: bool,
    margins: bool,
    report: Path | None,
    output: Path | None,
) -> None:
    """Measure the detector and the gender classifier on pictures of characters they never saw.

    \b
    anigender evaluate --data DIR
    anigender evaluate detector --data DIR --detector animeface-2009
    anigender evaluate gender --data DIR --classifier mine.safetensors --output figures.json
    anigender evaluate gender --data DIR --classifier-setting flip=yes --precision float32
    anigender evaluate gender --data DIR --by kind --stress --margins --report report.html
    anigender evaluate gender --data my/pictures --all-pictures   (with the folders female and male)
    """
    from ..evaluate.detector import evaluate_detector
    from ..evaluate.gender import evaluate_gender

    figures: dict[str, Any] = {}
    for option, file in (("--output", output), ("--report", report)):
        if file is not None and not file.parent.is_dir():  # said now, not after minutes of measuring
            raise click.UsageError(f"{option}: there is no folder {file.parent}")
    if what == "detector" and (by or stress or margins or report is not None):
        raise click.UsageError("--by, --stress, --margins and --report are about gender: evaluate gender, or all")
    try:
        pipeline = load(detector, classifier, device, PRECISIONS[precision], classifier_settings)
        if what != "gender" and not (data / "detection" / "boxes.csv").is_file():
            raise click.UsageError(
                f"{printable(data)} holds no detection/boxes.csv, by which detectors are measured; "
                f"`anigender evaluate gender --data {printable(data)}` measures the classifier alone"
            )
        if what in ("all", "detector"):
            figures["detector"] = evaluate_detector(data, pipeline.detector)
        if what in ("all", "gender"):
            figures["gender"] = evaluate_gender(
                data, pipeline, folders, by, stress=stress, everything=all_pictures, margins=margins
            )
    except (ValueError, ImportError, RuntimeError, OSError) as error:
        raise click.UsageError(str(error)) from error
    if "detector" in figures:
        click.echo("\n".join(detector_table(figures["detector"])) + "\n")
    if "gender" in figures:
        click.echo("\n".join(gender_table(figures["gender"])))
    if report is not None:
        from ..evaluate.html_report import html_report, mistakes_sheet

        sheet = mistakes_sheet(data, figures["gender"]["mistakes"])
        title = f"Gender: {classifier} on " + ("all pictures" if all_pictures else ", ".join(folders) or "val")
        atomic_write_text(report, html_report(figures["gender"], title, sheet))
    if output is not None:
        atomic_write_text(output, json.dumps(without_nan(figures), indent=2, allow_nan=False) + "\n")
