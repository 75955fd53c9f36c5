"""Curves of a two-class answer over all thresholds, and how far its confidences are what they say."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15  # of a reliability diagram, as many as the calibration error has
POINTS = 200  # of a curve that is written down


@dataclass(frozen=True)
class Curve:
    """A curve through ``x`` and ``y``, both ``[points]``, and the one number that sums it up."""

    x: list[float]
    y: list[float]
    area: float

    def as_dict(self) -> dict[str, float | list[float]]:
        """Rounded, and thinned out to :data:`POINTS` points."""
        step = max(1, -(-len(self.x) // POINTS))
        kept = sorted({*range(0, len(self.x), step), len(self.x) - 1})
        return {
            "x": [round(self.x[i], 4) for i in kept],
            "y": [round(self.y[i], 4) for i in kept],
            "area": round(self.area, 4),
        }


def _counts(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """True and false positives when everything down to each distinct score, highest first, is called positive."""
    order = scores.argsort(descending=True, stable=True)
    sorted_scores, hits = scores[order], positive[order].double()
    last_of_score = torch.cat((sorted_scores[1:] != sorted_scores[:-1], torch.ones(1, dtype=torch.bool)))
    true = hits.cumsum(0)[last_of_score]
    false = (1 - hits).cumsum(0)[last_of_score]
    return true, false


def roc(scores: Tensor, positive: Tensor) -> Curve:
    """Share of the positives found (y) over share of the others called so (x); the area under it is the AUC.

    Args:
        scores: ``[N]``, higher means more likely positive; ties count half.
        positive: ``[N]`` bool, with at least one of each.

    >>> roc(torch.tensor([0.9, 0.8, 0.3]), torch.tensor([True, False, True])).area
    0.5
    """
    true, false = _counts(scores, positive)
    zero = torch.zeros(1, dtype=torch.float64)
    x, y = torch.cat((zero, false / false[-1])), torch.cat((zero, true / true[-1]))
    return Curve(x.tolist(), y.tolist(), float(torch.trapezoid(y, x)))


def precision_recall(scores: Tensor, positive: Tensor) -> Curve:
    """Precision (y) over recall (x); the number is the average precision, the mean over the steps in recall.

    Args:
        scores: ``[N]``, higher means more likely positive.
        positive: ``[N]`` bool, with at least one positive.

    >>> precision_recall(torch.tensor([0.9, 0.8, 0.3]), torch.tensor([True, False, True])).y
    [1.0, 1.0, 0.5, 0.6666666666666666]
    """
    true, false = _counts(scores, positive)
    recall, precision = true / true[-1], true / (true + false)
    steps = torch.cat((recall[:1], recall.diff()))
    one = torch.ones(1, dtype=torch.float64)
    return Curve(
        torch.cat((one * 0, recall)).tolist(), torch.cat((one, precision)).tolist(), float((steps * precision).sum())
    )


def reliability(confidence: Tensor, right: Tensor, bins: int = BINS) -> list[dict[str, float]]:
    """How often answers of about one confidence are right.

    Args:
        confidence: ``[N]`` 0-1 of the answer given.
        right: ``[N]`` bool.
        bins: equal parts of 0-1.

    Returns:
        For each part that has any: ``confidence`` and ``accuracy`` (means), and ``count``.
    """
    place = (confidence.double() * bins).ceil().long().clamp(1, bins) - 1
    found = []
    for i in place.unique().tolist():
        here = place == i
        found.append(
            {
                "confidence": round(float(confidence[here].double().mean()), 4),
                "accuracy": round(float(right[here].double().mean()), 4),
                "count": int(here.sum()),
            }
        )
    return found
