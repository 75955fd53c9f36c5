"""Pictures whose label the net never comes to agree with: recognised by their losses, and trusted less.

While a net learns, it fits rightly labelled pictures first and wrong labels last (Arpit et al., "A Closer Look at
Memorization in Deep Networks", 2017). So the losses of right and wrong labels form two heaps. A mixture of two beta
distributions over the losses says for each picture how likely it belongs to the lower one (Arazo et al., "Unsupervised
Label Noise Modeling and Loss Correction", 2019), and that probability is its weight in the gradient.

Different from the paper: the loss is a running mean over the views a picture was shown in, so that no pass over all
pictures is needed; there is a mixture for each gender, because men's losses are higher and one for both would trust men
less; and what the net agrees with on average is trusted whatever the mixture says, because without wrong labels the
heaps are but the easier and the harder pictures.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

MEMORY = 5  # views; losses of long ago say how little the net knew then
FEWEST = 20  # pictures of a gender below which there is nothing to tell two heaps from
ROUNDS = 30  # of expectation and maximisation; the paper has 10
LEAST_TRUST = 0.02  # so that no batch is without weight


class LossHistory:
    """What the net thought of each of ``count`` pictures when it learned from them.

    Attributes:
        loss: ``[count]`` running mean of the cross-entropy with the picture's label.
        male: ``[count]`` running mean of the probability of a man.
        seen: ``[count]`` views so far.
    """

    def __init__(self, count: int) -> None:
        self.loss = torch.zeros(count, dtype=torch.float64)
        self.male = torch.full((count,), 0.5, dtype=torch.float64)
        self.seen = torch.zeros(count, dtype=torch.int64)

    def add(self, rows: Tensor, losses: Tensor, male: Tensor) -> None:
        """Take down what was said of some views; ``rows [B]``, those of -1 are of no one picture."""
        known = rows >= 0
        for row, loss, answer in zip(
            rows[known].tolist(), losses[known].double().tolist(), male[known].double().tolist(), strict=True
        ):
            self.seen[row] += 1
            share = 1.0 / min(int(self.seen[row]), MEMORY)
            self.loss[row] += share * (loss - self.loss[row])
            self.male[row] += share * (answer - self.male[row])

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"loss": self.loss, "male": self.male, "seen": self.seen}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from :meth:`state`."""
        self.loss, self.male, self.seen = state["loss"], state["male"], state["seen"]


def trust(history: LossHistory, labels: Tensor) -> Tensor:
    """How likely each picture's label is right, by what is known of it so far.

    Args:
        history: of ``N`` pictures.
        labels: ``[N]`` int64, 0 female and 1 male.

    Returns:
        ``[N]`` from :data:`LEAST_TRUST` to 1; 1 for pictures that were not shown yet.
    """
    found = torch.ones(len(labels))
    for gender in (0, 1):
        mine = ((labels == gender) & (history.seen > 0)).nonzero()[:, 0]
        if len(mine) >= FEWEST:
            losses = history.loss[mine].numpy()
            wrong = upper_heap(losses)
            wrong[losses <= math.log(2)] = 0.0  # the net rather agrees
            found[mine] = torch.from_numpy(1 - wrong).float().clamp(LEAST_TRUST, 1.0)
    return found


def upper_heap(losses: np.ndarray) -> np.ndarray:
    """How likely each of some losses ``[N]`` belongs to the higher of two heaps: two beta distributions fitted to them.

    As Arazo et al., section 3.1: losses scaled to 0-1 without their outermost hundredths, and the maximisation by
    weighted moments. A higher loss is never less suspect than a lower one.
    """
    low, high = np.quantile(losses, (0.01, 0.99))
    if high - low < 1e-6:
        return np.zeros(len(losses))
    x = np.clip((losses - low) / (high - low), 0.005, 0.995)
    shapes = np.array([[1.0, 2.0], [2.0, 1.0]])
    share = np.array([0.5, 0.5])
    for _ in range(ROUNDS):
        belongs = _posterior(x, shapes, share)
        share = belongs.mean(1)
        for k in (0, 1):
            mean = np.average(x, weights=belongs[k] + 1e-12)
            variance = np.average((x - mean) ** 2, weights=belongs[k] + 1e-12) + 1e-4
            strength = max(mean * (1 - mean) / variance - 1, 0.1)
            shapes[k] = mean * strength, (1 - mean) * strength
    upper = int(np.argmax(shapes[:, 0] / shapes.sum(1)))
    found = _posterior(x, shapes, share)[upper]
    order = np.argsort(x, kind="stable")
    found[order] = np.maximum.accumulate(np.where(x[order] < _mean(shapes[1 - upper]), 0.0, found[order]))
    return found


def _mean(shape: np.ndarray) -> float:
    return float(shape[0] / shape.sum())


def _posterior(x: np.ndarray, shapes: np.ndarray, share: np.ndarray) -> np.ndarray:
    """``[2, N]`` how likely each value comes from each of two beta distributions."""
    logarithm = np.stack(
        [
            math.log(max(own, 1e-12))
            + (a - 1) * np.log(x)
            + (b - 1) * np.log1p(-x)
            + math.lgamma(a + b)
            - math.lgamma(a)
            - math.lgamma(b)
            for (a, b), own in zip(shapes.tolist(), share.tolist(), strict=True)
        ]
    )
    likely = np.exp(logarithm - logarithm.max(0))
    return likely / likely.sum(0)
