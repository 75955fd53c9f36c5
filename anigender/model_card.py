"""A model card: what a classifier is, how to use it, and how good it was on which pictures (Mitchell et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .classify import Classifier

OUTSIDE = {
    "edge": ". The picture's own edge is repeated outside it.",
    "mean": ". Outside the picture it shows the mean colour of what is inside.",
}
# What the stress test and the tables by kind are called in the figures of `anigender evaluate gender --output`.
SECTIONS = {"by_kind": "By kind of picture", "by_head_size": "By size of the head", "stress": "In worse pictures"}
COLUMNS = {
    "balanced_accuracy": "balanced accuracy",
    "female_recall": "women's recall",
    "male_recall": "men's recall",
    "calibration_error": "ECE",
    "count": "pictures",
}


def model_card(
    title: str, source: str, classifier: Classifier, export: Mapping[str, Any], figures: Mapping[str, Any] | None
) -> str:
    """The card of an exported classifier as Markdown.

    Args:
        title: its name, usually its file's.
        source: what it was exported from.
        classifier: as loaded from there.
        export: what :func:`anigender.export.export` returned.
        figures: the ``gender`` part of the JSON that ``anigender evaluate gender --output`` writes; None where it was
            not measured, which the card then says.
    """
    order = "RGB" if export["format"] != "safetensors" or not classifier.bgr else "BGR"
    inside = export["format"] != "safetensors"
    size = classifier.size
    lines = [
        f"# {_plain(title)}",
        "",
        "Says female or male for the head of an anime character.",
        "",
        f"* Exported from `{_plain(source)}` as {export['format']} with anigender; "
        f"{export['parameters']:,} parameters, {export['bytes']:,} bytes.",
        f"* Input: head crops `[N, 3, {size}, {size}]`, {order}"
        + (", values 0-1; normalisation is part of the graph." if inside else ", normalised as the metadata say."),
        f"* A crop is a square of {classifier.margin:g} times the head box's longer side"
        + (f", its middle {classifier.below:g} sides lower than the box's" if classifier.below else "")
        + (
            OUTSIDE[classifier.outside]
            if classifier.framing == "head"
            else ", cut to the picture, resized by its shorter side and cut off from the top left."
        )
        + (
            f" A box that the picture cuts on all four sides is taken for {classifier.cut_scale:g} times as large."
            if classifier.cut_scale != 1
            else ""
        ),  # fmt: skip
        "* Output: "
        + (
            "probabilities `[N, 2]`: female, male." if inside else "two logits; labels and temperature in the metadata."
        ),
        f"* The file was loaded again and gave the same probabilities to within {export['difference']:.1g}.",
        "",
        "## Figures",
        "",
    ]
    return "\n".join([*lines, *_figures(figures), ""])


def _figures(figures: Mapping[str, Any] | None) -> list[str]:
    if figures is None:
        return [
            "Not measured. `anigender evaluate gender --data DIR --classifier FILE --output figures.json` measures it "
            "on pictures with known answers; `anigender export … --figures figures.json` writes the figures here."
        ]
    rows = {"head found": figures["found"], "a missed head counted as wrong": figures["all"]}
    lines = _table(rows)
    low, high = figures["intervals"]["balanced_accuracy"]
    if _absent(low) or _absent(high):
        lines += ["", "The pictures were of one gender, so that nothing is said of the balanced accuracy."]
    else:
        within = f"between {low:.3f} and {high:.3f}"
        lines += ["", f"By bootstrap over characters the balanced accuracy lies {within} (95 %)."]
    for key, heading in SECTIONS.items():
        if figures.get(key):
            lines += ["", f"### {heading}", "", *_table(figures[key])]
    if not _absent(figures.get("stress_loss")):
        lines += ["", f"Lost on average in worse pictures: {figures['stress_loss']:.3f}."]
    return lines


def _table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = [name for name in COLUMNS if all(name in own for own in rows.values())]
    lines = [
        "| | " + " | ".join(COLUMNS[name] for name in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    return lines + [
        f"| {_plain(name)} | " + " | ".join(_number(own[column]) for column in columns) + " |"
        for name, own in rows.items()
    ]


def _absent(value: Any) -> bool:
    """Whether a figure is one that could not be told; JSON has no NaN."""
    return value is None or value != value


def _number(value: Any) -> str:
    if _absent(value):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """A file's name without what Markdown or a table would take for its own."""
    return "".join(" " if not c.isprintable() else f"\\{c}" if c in "`|*_<>[]" else c for c in text)
