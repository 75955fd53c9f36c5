"""The figures of a gender evaluation as one HTML file that needs nothing beside it: tables, plots, mistakes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..contact_sheet import contact_sheet, labelled_tile
from ..datasets.picture import open_picture
from ..faces import Faces

SIDE, EDGE = 260, 42  # pixels of a plot, and of the room for its labels
TILE = 160
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .6rem 0 1.4rem }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
figure { display: inline-block; margin: 0 1.2rem 1.2rem 0 }
figcaption { font-weight: 600 }
svg text { font: 11px system-ui, sans-serif; fill: #444 }
img { max-width: 100% }
"""
FEMALE, MALE = "#d6286e", "#1e64dc"
COLUMNS = {
    "balanced_accuracy": "balanced accuracy",
    "female_recall": "women's recall",
    "male_recall": "men's recall",
    "calibration_error": "calibration error",
    "count": "pictures",
}


def table(rows: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str], first: str = "") -> str:
    """Rows by name, with the named columns; names may hold anything."""
    head = "".join(f"<th>{html_text(title)}</th>" for title in (first, *columns.values()))
    body = "".join(
        f"<tr><td>{html_text(name)}</td>" + "".join(f"<td>{_number(row[key])}</td>" for key in columns) + "</tr>"
        for name, row in rows.items()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " – ".join(_number(part) for part in value)
    return f"{value:.3f}" if isinstance(value, float) else html_text(value)


def html_text(value: Any) -> str:
    """Anything as text of HTML; what would change the text around it, or is no character, is shown as an escape."""
    text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


def plot(
    title: str,
    across: str,
    up: str,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float], str]],
    diagonal: bool = False,
    dots: bool = False,
    reach: tuple[float, float] = (0.0, 1.0),
    height: tuple[float, float] = (0.0, 1.0),
) -> str:
    """A square plot, as SVG.

    Args:
        title: above it.
        across, up: what the axes are.
        lines: by name x, y and a colour.
        diagonal: draw one.
        dots: mark the points.
        reach, height: the ends of the axes; what lies beyond is drawn at the end.
    """

    def share(value: float, ends: tuple[float, float]) -> float:
        return min(1.0, max(0.0, (value - ends[0]) / (ends[1] - ends[0])))

    def place(x: float, y: float) -> str:
        return f"{EDGE + share(x, reach) * SIDE:.1f},{10 + (1 - share(y, height)) * SIDE:.1f}"

    parts = [f'<rect x="{EDGE}" y="10" width="{SIDE}" height="{SIDE}" fill="none" stroke="#bbb"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        across_at, up_at = (ends[0] + tick * (ends[1] - ends[0]) for ends in (reach, height))
        x, y = place(across_at, up_at).split(",")
        parts.append(f'<text x="{x}" y="{SIDE + 26}" text-anchor="middle">{across_at:.3g}</text>')
        parts.append(f'<text x="{EDGE - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{up_at:.3g}</text>')
        if 0 < tick < 1:
            parts.append(f'<path d="M{x},10 V{10 + SIDE} M{EDGE},{y} H{EDGE + SIDE}" stroke="#eee" fill="none"/>')
    if diagonal:
        parts.append(f'<path d="M{place(0, 0)} L{place(1, 1)}" stroke="#bbb" stroke-dasharray="4"/>')
    for i, (name, (xs, ys, colour)) in enumerate(lines.items()):
        points = [place(x, y) for x, y in zip(xs, ys, strict=True)]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if dots:
            corners = (point.split(",") for point in points)
            parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in corners]
        top = SIDE - 16 * (len(lines) - i)
        parts.append(
            f'<text x="{EDGE + SIDE - 8}" y="{top}" text-anchor="end" style="fill:{colour}">{html_text(name)}</text>'
        )
    parts.append(f'<text x="{EDGE + SIDE / 2}" y="{SIDE + 44}" text-anchor="middle">{html_text(across)}</text>')
    middle = f"12,{10 + SIDE / 2}"
    parts.append(f'<text transform="translate({middle}) rotate(-90)" text-anchor="middle">{html_text(up)}</text>')
    size = f'width="{EDGE + SIDE + 12}" height="{SIDE + 52}"'
    return f'<figure><figcaption>{html_text(title)}</figcaption><svg {size} role="img">{"".join(parts)}</svg></figure>'


def mistakes_sheet(data: Path, mistakes: Sequence[Mapping[str, Any]]) -> Image.Image | None:
    """The pictures of wrong answers with what was said of them, worst first; None where there are none."""
    tiles = []
    for mistake in mistakes:
        pixels = open_picture(data / mistake["file"])
        said = 1.0 - mistake["confidence"] if mistake["gender"] == "female" else mistake["confidence"]
        faces = Faces.from_boxes([torch.tensor([mistake["box"]])], [(pixels.shape[0], pixels.shape[1])])
        tiles.append(labelled_tile(pixels, faces.with_probabilities(torch.tensor([[said, 1 - said]])), TILE))
    return contact_sheet(tiles) if tiles else None


def html_report(figures: Mapping[str, Any], title: str, sheet: Image.Image | None = None) -> str:
    """The whole file.

    Args:
        figures: what :func:`anigender.evaluate.gender.evaluate_gender` gives.
        title: its heading.
        sheet: the worst mistakes, from :func:`mistakes_sheet`.
    """
    found, between = figures["found"], figures["intervals"]
    summary = {
        COLUMNS[key]: {"value": found[key], "interval": between[key]}
        for key in ("balanced_accuracy", "female_recall", "male_recall")
    }
    female, male = figures["classes"]["female"], figures["classes"]["male"]
    (a, b), (c, d) = figures["confusion"]
    parts = [
        f"<h1>{html_text(title)}</h1>",
        f"<p>{found['count']} pictures in which a head is found, {figures['share_found']:.1%} of all. "
        f"Accuracy {figures['accuracy']:.3f}; calibration error {found['calibration_error']:.3f}; with every missed "
        f"head counted as a wrong answer, balanced accuracy {figures['all']['balanced_accuracy']:.3f}. "
        "Intervals are of 95 %, by bootstrap over characters.</p>",
        table(summary, {"value": "value", "interval": "interval"}),
        "<h2>Classes</h2>",
        table({"female": female, "male": male}, {"precision": "precision", "recall": "recall", "f1": "F1"}),
        table(
            {"is female": {"f": a, "m": b}, "is male": {"f": c, "m": d}},
            {"f": "said to be female", "m": "said to be male"},
        ),
        "<h2>Curves</h2>",
    ]
    if figures["roc"] is not None:
        roc = figures["roc"]
        lines = {f"area {roc['area']:.3f}": (roc["x"], roc["y"], MALE)}
        parts.append(plot("ROC, men", "women said to be men", "men found", lines, diagonal=True))
    curves = figures["precision_recall"]
    colours = {"female": FEMALE, "male": MALE}
    lines = {f"{name}, AP {own['area']:.3f}": (own["x"], own["y"], colours[name]) for name, own in curves.items()}
    parts.append(plot("Precision and recall", "recall", "precision", lines))
    points = figures["reliability"]
    lines = {
        f"error {found['calibration_error']:.3f}": (
            [point["confidence"] for point in points],
            [point["accuracy"] for point in points],
            "#333",
        )
    }
    parts.append(plot("Reliability", "confidence", "share right", lines, diagonal=True, dots=True))
    if margins := figures.get("by_margin"):
        at = [float(scale) for scale in margins]
        lines = {
            title: (at, [own[key] for own in margins.values()], colour)
            for title, key, colour in (
                ("women's recall", "female_recall", FEMALE),
                ("men's recall", "male_recall", MALE),
                ("balanced accuracy", "balanced_accuracy", "#333"),
            )
        }
        ends = (min(at), max(at))
        across = "framing over the trained one"
        parts.append(plot("Crop margin", across, "", lines, dots=True, reach=ends, height=(0.5, 1.0)))
    sections = {
        "By kind": figures["by_kind"],
        "Faces judged by eye": figures.get("by_eye", {}),
        "By head size": figures["by_head_size"],
        **{f"By {name}": own for name, own in figures.get("by", {}).items()},
        "By crop margin, over the trained one": figures.get("by_margin", {}),
        "Stress test": figures.get("stress", {}),
    }
    for heading, rows in sections.items():
        if rows:
            parts += [f"<h2>{html_text(heading)}</h2>", table(rows, COLUMNS)]
    if sheet is not None:
        parts.append("<h2>The surest mistakes</h2><p>What was said is wrong in every one of these.</p>")
        parts.append(embedded_image(sheet, "pictures with wrong answers"))
        rows = {own["file"]: own for own in figures["mistakes"]}
        parts.append(table(rows, {"gender": "is", "confidence": "said otherwise with"}, "file"))
    return page(title, "\n".join(parts))


def page(title: str, body: str) -> str:
    """An HTML file with this title and these contents, which are HTML."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html_text(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def embedded_image(picture: Image.Image, description: str) -> str:
    """A picture as HTML that holds it, as JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="{html_text(description)}" src="data:image/jpeg;base64,{encoded}">'
