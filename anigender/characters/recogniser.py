"""A trained recogniser: which known character a head shows, or that it is nobody known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..faces import Faces
from ..images import Batch, Images, head_crops
from .backbones import Backbone, last_linear
from .features import Extractor

OPEN_SETS = ("probability", "distance", "none")
NOBODY_KNOWN = -1


@dataclass(frozen=True)
class OpenSet:
    """When a face is nobody known.

    Attributes:
        kind: ``probability`` (of the likeliest character), ``distance`` (to the nearest character's mean features) or
            ``none`` (every face is somebody).
        threshold: lowest score of a known face. The score of a distance is its cosine, so that more is nearer.
        figures: what was seen on the held-out pictures by which it was chosen.
    """

    kind: str = "none"
    threshold: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in OPEN_SETS:
            raise ValueError(f"open set {self.kind!r} is not known; choose one of {', '.join(OPEN_SETS)}")


@dataclass(frozen=True)
class Answers:
    """What a recogniser says of head crops.

    Attributes:
        probabilities: ``[N, K]``, rows summing to 1: who of the known it would be.
        similarity: ``[N]``, the cosine to the nearest character's mean features, less the mean of all.
    """

    probabilities: np.ndarray
    similarity: np.ndarray

    def scores(self, kind: str) -> np.ndarray:
        """``[N]``: what the threshold of an open set of this kind is compared with."""
        return self.similarity if kind == "distance" else self.probabilities.max(1, initial=0)


def centres(features: np.ndarray, labels: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """``[count + 1, D]``: the mean features of every character, and of all in the last row."""
    own = np.asarray(labels)
    means = [features[own == k].mean(0) for k in range(count)]
    return np.stack([*means, np.mean(means, axis=0)]).astype(np.float32)


def similarity(features: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """``[N]``: the largest cosine of features to a character's mean; see :func:`centres`."""

    def directions(x: np.ndarray) -> np.ndarray:
        x = x - middles[-1]
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)

    if not len(features):
        return np.zeros(0, np.float32)
    return (directions(features) @ directions(middles[:-1]).T).max(1)


def probabilities_of(estimator: Any, features: np.ndarray) -> np.ndarray:
    """``[N, K]`` of a fitted pipeline; of an estimator that has only decision values, their softmax."""
    if hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict_proba(features), np.float64)
    values = np.asarray(estimator.decision_function(features), np.float64)
    if values.ndim == 1:  # two classes have one value
        values = np.stack((-values, values), 1)
    values = np.exp(values - values.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True)


class Recogniser:
    """Names for head crops.

    Args:
        names: the characters.
        extractor: what it looks with.
        margin: how many sides of a head's box the crops show that it was trained on.
        open_set: when a face is nobody known.
        middles: see :func:`centres`.
        estimator: fitted on the features, whose classes are the places of ``names``; None where the extractor is a
            net whose last layer answers.
        figures: how well it did, as trained.
    """

    def __init__(
        self,
        names: Sequence[str],
        extractor: Extractor,
        margin: float,
        open_set: OpenSet,
        middles: np.ndarray,
        estimator: Any = None,
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.extractor, self.estimator = extractor, estimator
        self.margin, self.open_set, self.middles = margin, open_set, middles
        self.figures = dict(figures or {})

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return self.extractor.size

    @property
    def nets(self) -> list[nn.Module]:
        """The nets in it, for whoever moves them."""
        return [self.extractor.net] if isinstance(self.extractor, Backbone) else []

    def answers(self, crops: Tensor) -> Answers:
        """Probabilities and similarities of crops ``[N, 3, size, size]`` in 0-1.

        Raises:
            ValueError: crops of another shape.
        """
        if crops.ndim != 4 or tuple(crops.shape[1:]) != (3, self.size, self.size):
            raise ValueError(f"crops have shape {list(crops.shape)}, expected [N, 3, {self.size}, {self.size}]")
        if not len(crops):
            return Answers(np.zeros((0, len(self.names))), np.zeros(0))
        features = self.extractor(crops)
        if self.estimator is None:
            assert isinstance(self.extractor, Backbone)
            layer = self.extractor.net.get_submodule(last_linear(self.extractor.net))
            with torch.inference_mode():
                logits = layer(torch.from_numpy(features).to(self.extractor.device)).cpu().double()
            return Answers(logits.softmax(1).numpy(), similarity(features, self.middles))
        scaled = self.estimator[0].transform(features)
        return Answers(probabilities_of(self.estimator, features), similarity(scaled, self.middles))

    def recognise(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Who crops ``[N, 3, size, size]`` show.

        Returns:
            ``[N]`` int64, places in ``names`` or -1 for nobody known; and ``[N]`` float32, the probability of the
            likeliest of the known.
        """
        answers = self.answers(crops)
        best = answers.probabilities.argmax(1) if len(crops) else np.zeros(0, np.int64)
        if self.open_set.kind != "none":
            best = np.where(answers.scores(self.open_set.kind) < self.open_set.threshold, NOBODY_KNOWN, best)
        sure = answers.probabilities.max(1, initial=0)
        return torch.from_numpy(best.astype(np.int64)), torch.from_numpy(sure.astype(np.float32))

    def name_faces(self, images: Images | Batch, faces: Faces) -> Faces:
        """The faces with names, on their own device.

        Args:
            images: the batch in which the faces were found.
            faces: their boxes.

        Raises:
            ValueError, TypeError: a picture breaks the image contract, or the faces are of another number of them.
        """
        crops = head_crops(images, faces, self.size, self.margin)
        index, confidence = self.recognise(crops)
        return faces.with_names(self.names, index.to(faces.device), confidence.to(faces.device))
