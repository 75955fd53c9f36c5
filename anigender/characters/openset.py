"""Choosing when a face is nobody known, on pictures that the recogniser did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .recogniser import Answers, OpenSet

KEPT = 0.95  # of the known faces are still named, where there are no strangers to choose by
MOST_LEFT_OUT = 8  # characters that play the stranger in turn


def separation(known: np.ndarray, strangers: np.ndarray) -> float:
    """The probability that a known face scores higher than a stranger (the area under the ROC curve)."""
    ranks = np.concatenate((known, strangers)).argsort(kind="stable").argsort(kind="stable")
    ties = np.concatenate((known, strangers))
    values, inverse = np.unique(ties, return_inverse=True)
    mean_rank = np.bincount(inverse, ranks, len(values)) / np.bincount(inverse, minlength=len(values))
    total = mean_rank[inverse][: len(known)].sum() - len(known) * (len(known) - 1) / 2
    return float(total / max(1, len(known) * len(strangers)))


def best_threshold(known: np.ndarray, strangers: np.ndarray) -> tuple[float, float, float]:
    """The threshold at which the share of known faces above and that of strangers below have the largest sum.

    Args:
        known: scores of faces that are named rightly.
        strangers: scores of faces of nobody known.

    Returns:
        The threshold, midway between two scores, and the two shares (Youden, "Index for rating diagnostic tests",
        1950).
    """
    values = np.unique(np.concatenate((known, strangers)))
    edges = np.concatenate(([values[0]], (values[1:] + values[:-1]) / 2))
    above = 1 - np.searchsorted(np.sort(known), edges) / max(1, len(known))
    below = np.searchsorted(np.sort(strangers), edges) / max(1, len(strangers))
    best = int((above + below).argmax())
    return float(edges[best]), float(above[best]), float(below[best])


def choose(kind: str, known: Answers, right: np.ndarray, strangers: Answers | None) -> OpenSet:
    """The open set for held-out answers.

    Args:
        kind: ``probability``, ``distance``, ``none``, or ``auto`` for the one that tells strangers better.
        known: answers for held-out faces of the characters.
        right: ``[N]`` bool, which of those are named rightly.
        strangers: answers for faces of nobody known; None where there are none.
    """
    if kind == "none":
        return OpenSet()
    kinds = ["probability", "distance"] if kind == "auto" else [kind]
    if strangers is None or not len(strangers.similarity):
        kind = kinds[0]
        scores = known.scores(kind)[right]
        threshold = float(np.quantile(scores, 1 - KEPT)) if len(scores) else 0.0
        return OpenSet(kind, threshold, {"chosen": f"{KEPT:.0%} of the held-out faces that are right stay named"})
    areas = {name: separation(known.scores(name)[right], strangers.scores(name)) for name in kinds}
    kind = max(kinds, key=lambda name: areas[name])
    threshold, kept, refused = best_threshold(known.scores(kind)[right], strangers.scores(kind))
    figures = {
        "chosen": "the most known faces named and strangers refused, on held-out pictures",
        "auroc": {name: round(area, 4) for name, area in areas.items()},
        "known_named": round(kept, 4),
        "strangers_refused": round(refused, 4),
        "strangers": len(strangers.similarity),
    }
    return OpenSet(kind, threshold, figures)


def left_out(labels: Sequence[int], count: int, answer: Callable[[np.ndarray, np.ndarray], Answers]) -> Answers | None:
    """What is said of characters by recognisers that have not seen them, each playing the stranger in turn.

    Args:
        labels: ``[N]``.
        count: of characters; with fewer than three there is nobody to take a stranger for.
        answer: gives the answers for the rows of its second argument, after learning from those of its first.
    """
    if count < 3:
        return None
    own = np.asarray(labels)
    parts = []
    for stranger in range(min(count, MOST_LEFT_OUT)):
        parts.append(answer(np.flatnonzero(own != stranger), np.flatnonzero(own == stranger)))
    # Each was answered by other characters: only the scores can be laid side by side.
    best = np.concatenate([part.probabilities.max(1) for part in parts])
    return Answers(best[:, None], np.concatenate([part.similarity for part in parts]))
