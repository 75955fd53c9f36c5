"""How good a recogniser is on pictures that it has not seen."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from .pictures import Characters

REPEATS = 2000  # of the bootstrap


def accuracy_figures(probabilities: np.ndarray, y: np.ndarray, characters: Characters, seed: int = 0) -> dict[str, Any]:
    """Accuracy with an interval, balanced accuracy, and each character's recall.

    The interval is of 95 %, by drawing groups of near duplicates anew (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13).

    Raises:
        ValueError: no picture could be judged.
    """
    judged = probabilities.sum(1) > 0.5
    if not judged.any():
        raise ValueError(
            f"the pictures of {', '.join(characters.names)} are all near duplicates of one another, so that none is "
            "left to judge by: add different pictures of each"
        )
    right = (probabilities.argmax(1) == y)[judged]
    y = y[judged]
    groups = np.unique(np.asarray(characters.groups)[judged], return_inverse=True)[1]
    hits, sizes = np.bincount(groups, right.astype(float)), np.bincount(groups).astype(float)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(hits), (REPEATS, len(hits)))
    low, high = np.quantile(hits[drawn].sum(1) / sizes[drawn].sum(1), (0.025, 0.975))
    counts = Counter(y.tolist())
    recalls = {characters.names[k]: round(float(right[y == k].mean()), 4) for k in sorted(counts)}
    return {
        "pictures": len(y),
        "accuracy": round(float(right.mean()), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "balanced_accuracy": round(sum(recalls.values()) / len(recalls), 4),
        "recall": recalls,
    }
