"""What the embedded models reach on the data folder; skipped where there is none. Takes minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import anigender
from anigender.detect import load_detector
from anigender.evaluate.detector import evaluate_detector
from anigender.evaluate.gender import evaluate_gender

# The measured figures less a small margin; where the aim is higher, it stands beside.
ILLUSTRATIONS = 0.945  # recall of the known boxes at IoU 0.5; measured 0.950, aim 0.95; a fortieth of them is no head
ILLUSTRATIONS_KEPT_OUT = 0.91  # measured 0.921
JUDGED = {"recall": 0.97, "precision": 0.965}  # of all heads of those kept out; measured 0.981 and 0.977
FALSE_HEADS_PER_ILLUSTRATION = 0.08  # kept out; measured 0.050
MORE_HEADS_PER_FIGURE = 0.1  # measured 0.078
FOUND = {"face": 0.98, "bust": 0.99, "half_body": 0.99, "full_body": 0.99, "screencap": 0.95}
WOMEN_AND_MEN_APART = {  # in the share of pictures in which a head is found; aim 0.02 for all
    "all": 0.02,  # measured 0.013
    "face": 0.02,  # measured 0.009
    "bust": 0.02,
    "half_body": 0.02,
    "full_body": 0.02,
    "screencap": 0.06,  # measured 0.027: 51 of 52 women, 83 of 87 men; in float32 52 and 82
}
FALSE_HEADS_PER_NEGATIVE = 0.03  # measured 0.024 kept out, 0.009 on all; aim 0.03
BALANCED_ACCURACY = 0.89  # measured 0.896 in eight bits (0.905 with flip=yes), aim 0.90 and then 0.95
RECALL = {"female": 0.895, "male": 0.88}  # measured 0.903 and 0.890 in eight bits, aim 0.87 and then 0.94 for both
CALIBRATION_ERROR = 0.03  # measured 0.021
BY_EYE = {
    "faces": {"female_recall": 0.95, "male_recall": 0.97},
    "illustrations": {"female_recall": 0.965},
}  # 0.962, 0.992, 0.978


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


def test_little_else_is_taken_for_a_head(detector_figures: dict[str, Any]) -> None:
    found = detector_figures["illustrations"]["judged_kept_out"]
    assert {name: found[name] >= least for name, least in JUDGED.items()} == dict.fromkeys(JUDGED, True)
    assert found["false_heads"] <= FALSE_HEADS_PER_ILLUSTRATION
    assert detector_figures["more_heads_per_figure"] <= MORE_HEADS_PER_FIGURE


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
    assert abs(shares["female"] - shares["male"]) <= WOMEN_AND_MEN_APART[kind]


def test_nothing_is_found_where_nobody_is(detector_figures: dict[str, Any]) -> None:
    assert detector_figures["false_heads_per_negative"]["kept_out"] <= FALSE_HEADS_PER_NEGATIVE
    assert detector_figures["false_heads_per_negative"]["all"] <= FALSE_HEADS_PER_NEGATIVE


def test_gender(gender_figures: dict[str, Any]) -> None:
    found = gender_figures["found"]
    assert found["balanced_accuracy"] >= BALANCED_ACCURACY
    assert found["female_recall"] >= RECALL["female"]
    assert found["male_recall"] >= RECALL["male"]


@pytest.mark.parametrize("where", BY_EYE)
def test_gender_in_other_styles(gender_figures: dict[str, Any], where: str) -> None:
    if where not in gender_figures["by_eye"]:
        pytest.skip(f"the data folder holds no {where}")
    found = gender_figures["by_eye"][where]
    assert {name: found[name] >= least for name, least in BY_EYE[where].items()} == dict.fromkeys(BY_EYE[where], True)


def test_confidences_are_honest(gender_figures: dict[str, Any]) -> None:
    assert gender_figures["found"]["calibration_error"] <= CALIBRATION_ERROR
