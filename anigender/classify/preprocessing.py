"""What becomes of a head before a net sees it: the settings, where they are declared, and their checking.

Later ones win: what is known of a published file by its name, the file's own metadata (keys ``anigender.…``), a JSON
file beside it (``net.pth.json``, or ``net.json`` where the file does not declare all it must itself), and what the
caller gives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..images import OUTSIDES

PREFIX = "anigender."
REQUIRED = ("input_size", "margin", "mean", "std")
SETTINGS = {
    "input_size": "side of the net's input in pixels",
    "margin": "side of what is shown over the side of the head's box",
    "below": "how far the middle of what is shown lies under the box's, over the side of that box (default: 0)",
    "mean": "what is subtracted from the channels, in units of 0-1: three numbers in the net's channel order",
    "std": "what the channels are then divided by: three numbers",
    "channel_order": "RGB (default) or BGR",
    "labels": "names of the outputs in order (default: female,male)",
    "temperature": "what the logits are divided by (default: 1)",
    "framing": "head (default): a square around the head; top-left: the box resized by its shorter side, and cut",
    "resample": "bilinear (default, antialiased), lanczos (antialiased, as Pillow's) or lanczos4 (as OpenCV's)",
    "outside": "where the picture ends: edge (default, which is repeated) or mean (the colour of what is shown of it)",
    "cut_scale": "how many times as large as its box a head is that the picture cuts on all sides (default: 1)",
    "flip": "no (default), or yes: the mean of the answers for a crop and its mirror image, for twice the time",
    "output": "logits or probabilities (default: seen from the answers)",
    "head_activation": "between the linear layers of a head (default: the architecture's)",
    "stem": "auto (default), strided or plain: whether a ResNet's stem strides and pools",
}
LABELS = {
    "female": {"female", "f", "woman", "women", "girl", "girls", "1girl"},
    "male": {"male", "m", "man", "men", "boy", "boys", "1boy"},
}
FRAMINGS = ("head", "top-left")
RESAMPLES = ("bilinear", "lanczos", "lanczos4")
FLIPS = ("no", "yes")
OUTPUTS = ("auto", "logits", "probabilities")
LARGEST_INPUT = 1024
SIDECAR_BYTES = 1 << 20


@dataclass(frozen=True)
class Preprocessing:
    """Checked settings; see :data:`SETTINGS`. ``columns`` are the places of female and male among the outputs."""

    size: int
    margin: float
    below: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    columns: tuple[int, int]
    bgr: bool
    temperature: float
    framing: str
    resample: str
    outside: str
    cut_scale: float
    flip: bool
    output: str


def preprocessing(metadata: Mapping[str, str]) -> Preprocessing:
    """Settings from metadata with keys ``anigender.…``.

    Raises:
        ValueError: one is missing or makes no sense; the message names it, its value and what was expected.
    """
    for name in REQUIRED:
        if PREFIX + name not in metadata:
            raise ValueError(f"metadata {PREFIX}{name} is missing ({SETTINGS[name]})")
    (size,) = _numbers(metadata, "input_size", 1, 1, LARGEST_INPUT)
    if size != int(size):
        raise ValueError(f"{PREFIX}input_size is {size}, expected whole pixels")
    (margin,) = _numbers(metadata, "margin", 1, 0.05, 20)
    (below,) = _numbers({PREFIX + "below": "0", **metadata}, "below", 1, -5, 5)
    mean = _numbers(metadata, "mean", 3, -1e4, 1e4)
    std = _numbers(metadata, "std", 3, 1e-6, 1e6)
    (temperature,) = _numbers({PREFIX + "temperature": "1", **metadata}, "temperature", 1, 1e-3, 1e3)
    framing, resample = _choice(metadata, "framing", FRAMINGS), _choice(metadata, "resample", RESAMPLES)
    outside = _choice(metadata, "outside", OUTSIDES)
    (cut_scale,) = _numbers({PREFIX + "cut_scale": "1", **metadata}, "cut_scale", 1, 0.5, 4)
    if (framing, resample) != (FRAMINGS[0], RESAMPLES[0]):
        for name, value, usual in (("outside", outside, OUTSIDES[0]), ("cut_scale", cut_scale, 1.0)):
            if value != usual:
                where = f"with framing {framing} and resample {resample}"
                raise ValueError(f"{PREFIX}{name} is {value!r} {where}: leave it out")
    return Preprocessing(
        size=int(size),
        margin=margin,
        below=below,
        mean=mean,
        std=std,
        columns=gender_columns(metadata.get(PREFIX + "labels", "female,male").split(",")),
        bgr=_choice(metadata, "channel_order", ("RGB", "BGR")) == "BGR",
        temperature=temperature,
        framing=framing,
        resample=resample,
        outside=outside,
        cut_scale=cut_scale,
        flip=_choice(metadata, "flip", FLIPS) == "yes",
        output=_choice(metadata, "output", OUTPUTS),
    )


def gender_columns(labels: list[str]) -> tuple[int, int]:
    """The places of female and male among two labels, whatever usual words they are called by.

    >>> gender_columns(["1boy", "1girl"])
    (1, 0)
    """
    clean = [label.strip().lower() for label in labels]
    places = [[i for i, label in enumerate(clean) if label in names] for names in LABELS.values()]
    if len(clean) != 2 or any(len(found) != 1 for found in places):
        raise ValueError(f"the classifier's labels are {labels}, expected female and male")
    return places[0][0], places[1][0]


def _numbers(metadata: Mapping[str, str], name: str, count: int, low: float, high: float) -> tuple[float, ...]:
    text = metadata[PREFIX + name]
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(math.isfinite(value) and low <= value <= high for value in values):
        what = "a number" if count == 1 else f"{count} numbers with commas between"
        raise ValueError(f"{PREFIX}{name} is {text!r}, expected {what} from {low:g} to {high:g}")
    return values


def _choice(metadata: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = metadata.get(PREFIX + name, choices[0])
    if value not in choices:
        raise ValueError(f"{PREFIX}{name} is {value!r}, expected one of {', '.join(choices)}")
    return value


def normalised(settings: Mapping[str, Any], source: str) -> dict[str, str]:
    """Settings with or without ``anigender.`` in front, lists or texts, as metadata.

    Raises:
        ValueError: an unknown name.
    """
    found = {}
    for name, value in settings.items():
        plain = str(name).removeprefix(PREFIX)
        if plain not in SETTINGS:
            raise ValueError(f"{source}: there is no setting {name!r}; there are {', '.join(SETTINGS)}")
        found[PREFIX + plain] = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return found


def sidecars(path: Path) -> list[Path]:
    """The JSON files beside a weights file that may hold its settings."""
    beside = (path.with_name(path.name + ".json"), path.with_suffix(".json"))
    return [file for file in beside if file.is_file()]


def sidecar_settings(path: Path) -> dict[str, str]:
    """Settings from the JSON file beside a weights file; none where there is none, or it is about something else.

    The file is an object of settings, or holds one under ``anigender``.

    Raises:
        ValueError: it is too large or no JSON, or some of its names are settings and others are not.
    """
    for file in sidecars(path):
        if file.stat().st_size > SIDECAR_BYTES:
            raise ValueError(f"{file} has more than {SIDECAR_BYTES:,} bytes, too many for settings")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is not JSON: {error}") from error
        if not isinstance(content, dict):
            continue
        own = content.get("anigender", content)
        if isinstance(own, dict) and (own is not content or any(k.removeprefix(PREFIX) in SETTINGS for k in own)):
            return normalised(own, str(file))
    return {}
