"""Confidence intervals by drawing whole characters anew: pictures of one character are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def interval(
    right: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    repeats: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

    Groups are drawn within each gender, so that every draw has both in the numbers they came in.

    Args:
        right: ``[N]`` bool, whether each answer is right.
        labels: ``[N]`` 0 female, 1 male; the members of a group are of one gender.
        groups: ``[N]`` names, such as characters; what is drawn.
        repeats: how many draws.
        seed: equal seeds give equal intervals.
        level: share of the draws inside.

    Returns:
        Lower and upper end of ``balanced_accuracy``, ``female_recall`` and ``male_recall``; NaN where a gender is
        absent.
    """
    rng = np.random.default_rng(seed)
    recalls = np.full((2, repeats), np.nan)
    for gender in (0, 1):
        mine = labels == gender
        if not mine.any():
            continue
        _, member = np.unique(np.asarray(groups)[mine], return_inverse=True)
        hits = np.bincount(member, right[mine].astype(float))
        counts = np.bincount(member).astype(float)
        for i in range(repeats):  # one by one: a table of all draws would be large
            drawn = rng.integers(0, len(counts), len(counts))
            recalls[gender, i] = hits[drawn].sum() / counts[drawn].sum()
    ends = [(1 - level) / 2, (1 + level) / 2]

    def between(values: np.ndarray) -> tuple[float, float]:
        low, high = np.quantile(values, ends)
        return round(float(low), 4), round(float(high), 4)

    return {
        "balanced_accuracy": between(recalls.mean(0)),
        "female_recall": between(recalls[0]),
        "male_recall": between(recalls[1]),
    }
