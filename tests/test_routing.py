"""Routing: what is known of every picture, and which pictures fit a rule."""

from __future__ import annotations

import pytest
import torch

from anigender.faces import Faces
from anigender.routing import facts, select
from anigender.rules import NAMES, PRESETS, RuleError, compile_rule

NOBODY = dict.fromkeys(NAMES, 0.0)


def batch() -> Faces:
    """Four pictures: a woman and a man, nobody, a sure man, two women."""
    faces = Faces.from_boxes(
        [
            [[0, 0, 50, 50], [60, 60, 80, 80]],
            [],
            [[-10, -10, 90, 90]],
            [[0, 0, 10, 10], [20, 0, 40, 20]],
        ],
        sizes=[(100, 100), (50, 200), (80, 80), (40, 40)],
        scores=[[0.9, 0.5], [], [0.75], [0.6, 0.6]],
    )
    return faces.with_probabilities(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.01, 0.99], [0.7, 0.3], [0.6, 0.4]]))


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("any-female", [1, 0, 0, 1]),
        ("any-male", [1, 0, 1, 0]),
        ("only-female", [0, 0, 0, 1]),
        ("only-male", [0, 0, 1, 0]),
        ("solo-female", [0, 0, 0, 0]),
        ("solo-male", [0, 0, 1, 0]),
        ("solo", [0, 0, 1, 0]),
        ("mixed", [1, 0, 0, 0]),
        ("no-face", [0, 1, 0, 0]),
        ("any-face", [1, 0, 1, 1]),
        ("many-faces", [1, 0, 0, 1]),
        ("sure", [0, 0, 1, 0]),
        ("unsure", [1, 0, 0, 1]),
    ],
)
def test_presets(preset: str, expected: list[int]) -> None:
    assert select(batch(), preset) == [bool(e) for e in expected]
    assert select(batch(), f"not {preset}") == [not e for e in expected]


def test_every_preset_is_tested() -> None:
    cases = next(mark for mark in test_presets.pytestmark if mark.name == "parametrize").args[1]
    assert {preset for preset, _ in cases} == set(PRESETS)


def test_unclassified_faces_can_be_counted_but_not_called_female() -> None:
    unclassified = Faces.from_boxes([[[0, 0, 5, 5]], []], sizes=[(10, 10), (10, 10)])
    assert select(unclassified, "any-face and largest >= 0.5") == [True, False]
    with pytest.raises(RuleError, match="not been classified"):
        select(unclassified, "any-female")
    assert select(Faces.empty([(5, 5)]), "any-female") == [False]


def test_facts() -> None:
    both, nobody, man, women = facts(batch())
    assert both == pytest.approx(
        {
            "female": 1,
            "male": 1,
            "faces": 2,
            "largest": 0.5,
            "smallest": 0.2,
            "confidence": 0.8,
            "detection": 0.9,
            "female_confidence": 0.9,
            "male_confidence": 0.8,
            "largest_is_female": 1,
            "largest_is_male": 0,
            "width": 100,
            "height": 100,
            "aspect": 1,
        }
    )
    assert nobody == {**NOBODY, "width": 200, "height": 50, "aspect": 4}
    assert man["largest"] == 1  # a box that reaches over the border counts only what is in the picture
    assert (man["largest_is_female"], man["largest_is_male"]) == (0, 1)
    assert (women["female"], women["largest"], women["confidence"]) == pytest.approx((2, 0.5, 0.6))
    assert list(both) == list(NAMES)


def test_float32_does_not_push_a_value_off_its_threshold() -> None:
    faces = Faces.from_boxes([[[0, 0, 5, 5]]], sizes=[(10, 10)], scores=[[0.7]])
    faces = faces.with_probabilities(torch.tensor([[0.9, 0.1]]))
    assert select(faces, "confidence == 0.9 and detection == 70%") == [True]


def test_a_tie_is_female_and_a_near_tie_is_what_faces_says() -> None:
    faces = Faces.from_boxes([[[0, 0, 5, 5]], [[0, 0, 5, 5]]], sizes=[(10, 10)] * 2)
    faces = faces.with_probabilities(torch.tensor([[0.5, 0.5], [0.49999997, 0.50000003]]))
    assert faces.gender == ["female", "male"]
    assert select(faces, "any-female and largest_is_female") == [True, False]


def test_select_takes_compiled_rules_and_empty_batches() -> None:
    assert select(batch(), compile_rule("male >= 1")) == [True, False, True, False]
    assert select(Faces.empty([]), "any-face") == []
