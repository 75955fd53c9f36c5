"""One picture's answer as the JSON line that the command line prints and files keep."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from .folders import Result
from .tags import image_tags


def record(result: Result, tags: Sequence[str] = ()) -> dict[str, Any]:
    """The answer for one file as plain values.

    Returns:
        ``image`` (the path as given), ``width`` and ``height`` (None where unreadable), ``faces`` (boxes in pixels
        of the original picture, after EXIF rotation; ``name`` is there where somebody was looked for, and None for
        nobody known), ``tags``, and ``error`` (None where all went well).
    """
    faces = []
    for face in result.faces or ():
        entry: dict[str, Any] = {"box": [round(v, 1) for v in face.box], "detection": round(face.detection, 4)}
        if face.female is not None:
            female = round(face.female, 4)
            both = {"female": female, "male": round(1 - female, 4)}
            # From the rounded ones, so that the line agrees with itself.
            entry |= {"gender": face.gender, "confidence": max(both.values()), "probabilities": both}
        if face.name is not None:
            entry |= {"name": face.name or None, "name_confidence": round(face.name_confidence or 0.0, 4)}
        faces.append(entry)
    height, width = result.size if result.size is not None else (None, None)
    return {
        "image": text_of(result.path),
        "width": width,
        "height": height,
        "faces": faces,
        "tags": list(tags),
        "error": result.error,
    }


def record_of_sure(result: Result, minimum_confidence: float) -> dict[str, Any]:
    """The answer for one file without the faces whose gender is less sure, and with the tags of all its faces.

    A face that is left out is somebody all the same: a picture with one gets no count (:func:`image_tags`).
    """
    if result.faces is None:
        return record(result)
    sure = result.faces.filter(result.faces.confidence >= minimum_confidence)
    return record(result.with_faces(sure), image_tags(result.faces, minimum_confidence=minimum_confidence)[0])


def text_of(path: os.PathLike[str]) -> str:
    """A path as valid Unicode: bytes that are not UTF-8 are shown escaped, since JSON cannot hold them."""
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def line(values: dict[str, Any]) -> str:
    """A record as one line of JSON, without the newline; letters outside ASCII stay readable.

    What is no letter (control characters above ASCII, which terminals obey, and the line ends of Unicode, at which
    some readers break lines) is escaped.
    """
    text = json.dumps(values, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
