"""Figures for a two-class answer that is meant to be trusted: recalls, balanced accuracy, calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

COLDEST, HOTTEST = 0.05, 20.0  # temperatures


@dataclass(frozen=True)
class GenderFigures:
    """What an evaluation says.

    Attributes:
        count: pictures measured.
        balanced_accuracy: mean of the two recalls.
        female_recall, male_recall: share of each gender that is called so; NaN where there is none.
        calibration_error: expected calibration error over 15 equal bins of confidence (Guo et al., 2017).
    """

    count: int
    balanced_accuracy: float
    female_recall: float
    male_recall: float
    calibration_error: float

    def as_dict(self) -> dict[str, float]:
        """Rounded for reports."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error of the winning class's probability.

    Args:
        probabilities: ``[N, 2]``.
        labels: ``[N]`` int64.
        bins: equal bins of confidence between 0 and 1.

    >>> calibration_error(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    0.5
    """
    confidence, answer = probabilities.max(1)
    right = (answer == labels).double()
    place = (confidence * bins).long().clamp(max=bins - 1)
    total = 0.0
    for b in range(bins):
        inside = place == b
        if bool(inside.any()):
            total += abs(float(right[inside].mean()) - float(confidence[inside].double().mean())) * int(inside.sum())
    return total / max(1, len(labels))


def gender_figures(probabilities: Tensor, labels: Tensor) -> GenderFigures:
    """All figures from ``probabilities [N, 2]`` (female, male) and ``labels [N]`` (0 female, 1 male)."""
    answer = (probabilities[:, 1] > probabilities[:, 0]).long()
    recalls = [float((answer[labels == g] == g).double().mean()) for g in (0, 1)]
    return GenderFigures(
        len(labels), sum(recalls) / 2, recalls[0], recalls[1], calibration_error(probabilities, labels)
    )


def fit_calibration(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """The temperature and the bias that minimise the negative log-likelihood, weighting genders equally.

    Platt scaling (Platt, "Probabilistic Outputs for Support Vector Machines", 1999), whose slope is one over the
    temperature of Guo et al., "On Calibration of Modern Neural Networks", 2017. The bias takes out a leaning towards
    one gender, which a temperature cannot.

    Args:
        logits: ``[N, 2]``.
        labels: ``[N]`` int64.

    Returns:
        ``(temperature, bias)``: calibrated probabilities are ``((logits + [0, bias]) / temperature).softmax(1)``.
    """
    counts = torch.bincount(labels, minlength=2).clamp(min=1)
    weight = (1.0 / counts.double())[labels]
    weight /= weight.sum()
    margin, target = (logits[:, 1] - logits[:, 0]).double(), labels.double()

    def loss(slope: Tensor, offset: Tensor) -> Tensor:
        nll = torch.nn.functional.binary_cross_entropy_with_logits(slope * margin + offset, target, reduction="none")
        # The last term keeps the answer finite where the data would let it run away: all right, or of one gender.
        return (nll * weight).sum() + 1e-4 * ((slope - 1).square() + offset.square())

    # In slope and offset the loss is convex, in temperature and bias it is not.
    slope, offset = _minimum(loss, torch.tensor([1.0, 0.0], dtype=torch.float64))
    allowed = slope.clamp(1 / HOTTEST, 1 / COLDEST)
    if allowed != slope:
        (offset,) = _minimum(lambda offset: loss(allowed, offset), offset[None])
    return float(1 / allowed), float((offset / allowed).clamp(-20, 20))


def _minimum(loss: Callable[..., Tensor], start: Tensor) -> Tensor:
    """Where a smooth convex function of a few numbers is least."""
    values = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([values], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(*values)
        value.backward()
        return value

    optimiser.step(closure)
    return values.detach()
