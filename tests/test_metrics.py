"""Figures against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anigender.evaluate.metrics import calibration_error, fit_calibration, gender_figures


def rows(*female: float) -> torch.Tensor:
    share = torch.tensor(female, dtype=torch.float64)
    return torch.stack((share, 1 - share), 1)


@pytest.mark.parametrize(
    ("female", "labels", "recalls"),
    [
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], (1.0, 1.0)),
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], (0.0, 0.0)),
        ([0.9, 0.9, 0.9, 0.9], [0, 0, 0, 1], (1.0, 0.0)),  # always female: 3 of 4 right, and worth nothing
        ([0.9, 0.4, 0.9, 0.4, 0.4], [0, 0, 1, 1, 1], (0.5, 2 / 3)),
        ([0.5, 0.5], [0, 1], (1.0, 0.0)),  # a tie is female
    ],
)
def test_recalls_and_balanced_accuracy(female: list[float], labels: list[int], recalls: tuple[float, float]) -> None:
    figures = gender_figures(rows(*female), torch.tensor(labels))
    assert (figures.female_recall, figures.male_recall) == pytest.approx(recalls)
    assert figures.balanced_accuracy == pytest.approx(sum(recalls) / 2)
    assert figures.count == len(labels)


def test_a_gender_that_is_not_there_has_no_recall() -> None:
    figures = gender_figures(rows(0.9, 0.2), torch.tensor([0, 0]))
    assert figures.female_recall == 0.5
    assert math.isnan(figures.male_recall) and math.isnan(figures.balanced_accuracy)


def test_figures_for_reports_are_rounded() -> None:
    values = gender_figures(rows(0.9, 0.9, 0.2, 0.3), torch.tensor([0, 0, 0, 1])).as_dict()
    assert list(values) == ["count", "balanced_accuracy", "female_recall", "male_recall", "calibration_error"]
    assert values["female_recall"] == 0.6667 and values["count"] == 4


@pytest.mark.parametrize(
    ("female", "labels", "bins", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], [0, 0, 0, 0], 15, 0.0),
        ([1.0, 1.0, 1.0, 1.0], [0, 0, 1, 1], 15, 0.5),
        ([1.0, 0.0], [1, 0], 15, 1.0),
        ([0.75, 0.75, 0.75, 0.75], [0, 0, 0, 1], 10, 0.0),  # three of four right at 75 %
        ([0.25, 0.25, 0.25, 0.25], [1, 1, 1, 1], 10, 0.25),
        # Bin .6: two at 0.62 and 0.66, one right: |0.5 - 0.64|; bin .9: one at 0.95, right: |1 - 0.95|.
        ([0.62, 0.66, 0.95], [0, 1, 0], 10, (2 * 0.14 + 0.05) / 3),
        ([0.38, 0.66, 0.05], [1, 1, 1], 10, (2 * 0.14 + 0.05) / 3),  # the same seen as male
        # In one bin the errors of the two cancel, in two they do not.
        ([0.55, 0.95], [0, 1], 1, abs(0.5 - 0.75)),
        ([0.55, 0.95], [0, 1], 2, abs(0.5 - 0.75)),  # both are above one half
        ([0.55, 0.95], [0, 1], 10, (0.45 + 0.95) / 2),
    ],
)
def test_calibration_error(female: list[float], labels: list[int], bins: int, expected: float) -> None:
    assert calibration_error(rows(*female), torch.tensor(labels), bins) == pytest.approx(expected)


def test_calibration_error_of_nothing() -> None:
    assert calibration_error(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)) == 0.0


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1)), min_size=1, max_size=40))
def test_calibration_error_is_a_share(answers: list[tuple[int, int]]) -> None:
    found = calibration_error(rows(*(a / 100 for a, _ in answers)), torch.tensor([label for _, label in answers]))
    assert 0 <= found <= 1


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("men", [0.5, 0.2])
def test_the_temperature_is_the_factor_by_which_logits_are_too_large(scale: float, men: float) -> None:
    """Honest answers of a classifier for balanced genders, made too sure, are brought back by their factor.

    A classifier that sees a point x drawn around +1 for women and -1 for men knows 2x as its log-odds. The share of
    men among the pictures must not matter, since genders are weighted equally.
    """
    generator = torch.Generator().manual_seed(0)
    count = 40_000
    labels = (torch.rand(count, generator=generator) < men).long()
    x = torch.randn(count, generator=generator) + 1 - 2 * labels
    for leaning in (0.0, 0.7, -2.0):
        logits = torch.stack((x, -x + leaning), 1) * scale
        temperature, bias = fit_calibration(logits, labels)
        assert temperature == pytest.approx(scale, rel=0.04)
        assert bias == pytest.approx(-leaning * scale, abs=0.06 * scale)


@pytest.mark.parametrize("logits", [torch.tensor([[90.0, -90.0], [-90.0, 90.0]]), torch.zeros(2, 2)])
def test_the_calibration_of_few_pictures_stays_within_reason(logits: torch.Tensor) -> None:
    for labels in ([0, 1], [1, 0], [0, 0]):
        temperature, bias = fit_calibration(logits, torch.tensor(labels))
        assert 0.05 <= temperature <= 20 and -20 <= bias <= 20


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e2, 1e6])
def test_the_calibration_stays_within_reason(scale: float) -> None:
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(40, 2, generator=generator) * scale + torch.randn(2, generator=generator)
        labels = torch.randint(0, 2, (40,), generator=generator)
        temperature, bias = fit_calibration(logits, labels)
        assert 0.05 <= temperature <= 20 and -20 <= bias <= 20
