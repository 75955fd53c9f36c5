"""The JSON line: exactly the promised fields, consistent with itself, and valid whatever a file is called."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anigender.faces import Faces
from anigender.folders import Result
from anigender.records import line, record


def result(female: list[float] | None, **changes: Any) -> Result:
    """A picture with a face for each probability; None gives one that was not classified."""
    count = 1 if female is None else len(female)
    boxes = [[10.04 + i, 20.06, 110.5 + i, 120.25] for i in range(count)]
    faces = Faces.from_boxes([boxes], [(600, 800)], [[0.98764 - 0.1 * i for i in range(count)]])
    if female is not None:
        share = torch.tensor(female)
        faces = faces.with_probabilities(torch.stack((share, 1 - share), 1))
    values: dict[str, Any] = {"path": Path("in/初音.png"), "size": (600, 800), "faces": faces}
    return Result(**(values | changes))


def test_the_schema() -> None:
    assert record(result([0.97, 0.12]), ["1girl", "1boy"]) == {
        "image": str(Path("in/初音.png")),
        "width": 800,
        "height": 600,
        "faces": [
            {
                "box": [10.0, 20.1, 110.5, 120.2],
                "detection": 0.9876,
                "gender": "female",
                "confidence": 0.97,
                "probabilities": {"female": 0.97, "male": 0.03},
            },
            {
                "box": [11.0, 20.1, 111.5, 120.2],
                "detection": 0.8876,
                "gender": "male",
                "confidence": 0.88,
                "probabilities": {"female": 0.12, "male": 0.88},
            },
        ],
        "tags": ["1girl", "1boy"],
        "error": None,
    }


def test_the_fields_come_in_this_order() -> None:
    found = json.loads(line(record(result([0.9]))))
    assert list(found) == ["image", "width", "height", "faces", "tags", "error"]
    assert list(found["faces"][0]) == ["box", "detection", "gender", "confidence", "probabilities"]
    assert list(found["faces"][0]["probabilities"]) == ["female", "male"]


@pytest.mark.parametrize(
    ("given_result", "expected"),
    [
        (
            Result(Path("a.png"), error="the file is empty"),
            {"image": "a.png", "width": None, "height": None, "faces": [], "tags": [], "error": "the file is empty"},
        ),
        (
            Result(Path("a.png"), (4, 5), Faces.empty([(4, 5)])),
            {"image": "a.png", "width": 5, "height": 4, "faces": [], "tags": [], "error": None},
        ),
    ],
)
def test_no_faces(given_result: Result, expected: dict[str, Any]) -> None:
    assert record(given_result) == expected


def test_a_face_that_was_not_classified_has_no_gender() -> None:
    assert record(result(None))["faces"] == [{"box": [10.0, 20.1, 110.5, 120.2], "detection": 0.9876}]


@given(st.floats(0, 1, width=32))
def test_a_face_agrees_with_itself(female: float) -> None:
    [face] = record(result([female]))["faces"]
    both = face["probabilities"]
    assert both["female"] + both["male"] == pytest.approx(1, abs=1e-9)
    assert both["female"] == pytest.approx(female, abs=6e-5)
    assert face["confidence"] == both[face["gender"]] == max(both.values())
    assert 0.5 <= face["confidence"] <= 1


@given(
    st.lists(st.floats(0, 1, width=32), max_size=4),
    st.lists(st.text(max_size=8), max_size=3),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20),
    st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
)
def test_a_line_is_read_back_as_it_was(female: list[float], tags: list[str], name: str, error: str | None) -> None:
    values = record(result(female, path=Path(name), error=error), [t.encode("utf-8", "ignore").decode() for t in tags])
    text = line(values)
    assert "\n" not in text and "\r" not in text
    text.encode("utf-8")
    assert json.loads(text) == values


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_a_name_of_any_bytes_gives_valid_json(name: bytes) -> None:
    text = line(record(result([0.5], path=Path(os.fsdecode(name)))))
    found = json.loads(text.encode("utf-8"))["image"]
    if found not in (".", ".."):
        assert found == str(Path(os.fsdecode(name))).encode("utf-8", "surrogateescape").decode(
            "utf-8", "backslashreplace"
        )


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_undecodable_bytes_are_shown_escaped_and_letters_as_they_are() -> None:
    assert record(result([0.5], path=Path(os.fsdecode(b"caf\xe9.png"))))["image"] == "caf\\xe9.png"
    assert "初音" in line(record(result([0.5])))
