"""Published classifiers: how their files are called, and what to do to a head before they see it.

From here only the files' names and the authors' description could be seen. Channel order and scale follow the authors'
own script, which reads with OpenCV; that they divide by 255 and do nothing else is an assumption. Each setting can be
overridden, and ``anigender evaluate`` says on pictures with known answers which ones fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .preprocessing import normalised

# Dividing by 255 alone; BGR as OpenCV reads; our own square around the head, at the authors' "80 % face or more".
DVGG = {"margin": "1.0", "mean": "0,0,0", "std": "1,1,1", "channel_order": "BGR", "labels": "female,male"}
# The authors' way, for pictures that are cut to a face: framing=top-left, resample=lanczos4.
AUTHORS = {"framing": "top-left", "resample": "lanczos4", "margin": "1.0"}


@dataclass(frozen=True)
class Known:
    """A classifier that people have files of.

    Attributes:
        description: what it is.
        architecture: what its weights should turn out to be.
        pattern: a regular expression of its files' names.
        settings: its preprocessing; see :data:`~.preprocessing.SETTINGS`.
        source: where it is published.
        licence: as its publisher states it.
    """

    description: str
    architecture: str
    pattern: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    licence: str = "Apache-2.0"


CLASSIFIERS: dict[str, Known] = {
    "gender": Known("the embedded gender classifier", "gendernet"),
    "animeGender-dvgg-0.8-alpha": Known(
        "ResNet of DOFOFFICIAL, the smaller one",
        "resnet18",
        r"animegender-dvgg-0\.8.*alpha",
        {**DVGG, "input_size": "224"},
        "https://huggingface.co/DOFOFFICIAL/animeGender-dvgg-0.8",
    ),
    "animeGender-dvgg-0.8-beta": Known(
        "ResNet of DOFOFFICIAL, the larger one",
        "resnet50",
        r"animegender-dvgg-0\.8.*beta",
        {**DVGG, "input_size": "224"},
        "https://huggingface.co/DOFOFFICIAL/animeGender-dvgg-0.8",
    ),
    "animeGender-dvgg-0.7": Known(
        "VGG-16 of DOFOFFICIAL",
        "vgg16",
        r"animegender-dvgg-0\.7",
        {**DVGG, "input_size": "64"},
        "https://huggingface.co/DOFOFFICIAL/animeGender-dvgg-0.7",
        "",
    ),
}


def known_settings(path: Path) -> dict[str, str]:
    """The metadata of a published file by its name; nothing for another."""
    for entry in CLASSIFIERS.values():
        if entry.pattern and re.match(entry.pattern, path.name, re.IGNORECASE):
            return normalised(entry.settings, path.name)
    return {}


def known_file(path: Path) -> Path | None:
    """The file of a published classifier in a folder, from ``folder/name-of-the-classifier``."""
    entry = CLASSIFIERS.get(path.name)
    if entry is None or not entry.pattern or not path.parent.is_dir():
        return None
    suffixes = (".safetensors", ".onnx", ".pth", ".pt", ".ckpt", ".bin")
    found = [
        file
        for file in sorted(path.parent.iterdir())
        if file.is_file() and re.match(entry.pattern, file.name, re.IGNORECASE) and file.suffix.lower() in suffixes
    ]
    return min(found, key=lambda file: suffixes.index(file.suffix.lower()), default=None)
