"""What the embedded models reach on the data folder; skipped where there is none. Takes minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import anigender
from anigender.detect import load_detector
from anigender.evaluate.detector import evaluate_detector
from anigender.evaluate.gender import evaluate_gender

# The measured figures less a small margin.
ILLUSTRATIONS = 0.95  # recall at IoU 0.5
ILLUSTRATIONS_KEPT_OUT = 0.93
FOUND = {"face": 0.97, "bust": 0.97, "half_body": 0.97, "full_body": 0.93, "screencap": 0.93}
WOMEN_AND_MEN_APART = 0.03  # in the share of pictures in which a head is found
FALSE_HEADS_PER_NEGATIVE = 0.03
BALANCED_ACCURACY = 0.90
RECALL = 0.87  # of each gender
CALIBRATION_ERROR = 0.04


@pytest.fixture(scope="module")
def detector_figures(data: Path) -> dict[str, Any]:
    return evaluate_detector(data, load_detector("auto", "cpu"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def gender_figures(data: Path) -> dict[str, Any]:
    return evaluate_gender(data, anigender.load(device="cpu"))


def test_heads_in_illustrations(detector_figures: dict[str, Any]) -> None:
    assert detector_figures["illustrations"]["recall"] >= ILLUSTRATIONS
    assert detector_figures["illustrations"]["recall_kept_out"] >= ILLUSTRATIONS_KEPT_OUT
    assert detector_figures["illustrations"]["recall"] > detector_figures["illustrations"]["recall_lbp_cascade"]


@pytest.mark.parametrize("kind", FOUND)
def test_heads_by_kind_of_picture(detector_figures: dict[str, Any], kind: str) -> None:
    if kind not in detector_figures["found"]:
        pytest.skip(f"val holds no {kind}")
    assert detector_figures["found"][kind]["both"] >= FOUND[kind]


@pytest.mark.parametrize("kind", ["all", *FOUND])
def test_men_are_found_as_often_as_women(detector_figures: dict[str, Any], kind: str) -> None:
    shares = detector_figures["found"].get(kind, {})
    if "female" not in shares or "male" not in shares:
        pytest.skip(f"val holds no {kind} of both genders")
    assert abs(shares["female"] - shares["male"]) <= WOMEN_AND_MEN_APART


def test_nothing_is_found_where_nobody_is(detector_figures: dict[str, Any]) -> None:
    assert detector_figures["false_heads_per_negative"]["kept_out"] <= FALSE_HEADS_PER_NEGATIVE
    assert detector_figures["false_heads_per_negative"]["all"] <= FALSE_HEADS_PER_NEGATIVE


def test_gender(gender_figures: dict[str, Any]) -> None:
    found = gender_figures["found"]
    assert found["balanced_accuracy"] >= BALANCED_ACCURACY
    assert found["female_recall"] >= RECALL
    assert found["male_recall"] >= RECALL


def test_confidences_are_honest(gender_figures: dict[str, Any]) -> None:
    assert gender_figures["found"]["calibration_error"] <= CALIBRATION_ERROR
