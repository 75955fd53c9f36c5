"""Detect, crop, classify: the whole way from pictures to classified faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .classify import Classifier, load_classifier
from .detect import Detector, load_detector
from .faces import Faces
from .images import Images, check, head_crops

CHUNK = 16  # pictures worked on at once: enough to keep a device busy, small enough to stop within


class Pipeline:
    """Finds faces and says their gender, a batch at a time. Made by :func:`load`.

    Args:
        detector: finds the heads.
        classifier: judges them.
        chunk: pictures worked on at once; halved, for the rest of the call, when memory runs out.
    """

    def __init__(self, detector: Detector, classifier: Classifier, chunk: int = CHUNK) -> None:
        self.detector = detector
        self.classifier = classifier
        self.chunk = chunk

    def __call__(self, images: Images, progress: Callable[[int, int], None] | None = None) -> Faces:
        """Classified faces of a batch.

        Args:
            images: ``[B, H, W, C]`` or a sequence of ``[H, W, C]``; see :func:`anigender.images.check`.
            progress: called with (pictures done, pictures in all) after each chunk; what it raises ends the call.

        Returns:
            The faces, by falling detection score inside each picture; pictures without one simply have none.

        Raises:
            ValueError, TypeError: a picture breaks the image contract; the message names it.

        >>> pipeline = load()
        >>> faces = pipeline(torch.zeros(2, 64, 64, 3))
        >>> len(faces), faces.images
        (0, 2)
        """
        if isinstance(images, Tensor) and images.ndim != 4:
            check(images)  # raises
        total = len(images)
        parts: list[Faces] = []
        done, chunk = 0, max(1, self.chunk)
        while done < total:
            try:
                parts.append(self._run(images[done : done + chunk], done))
            except (torch.OutOfMemoryError, MemoryError):
                if chunk == 1:
                    raise
                chunk = max(1, chunk // 2)
                continue
            done = min(total, done + chunk)
            if progress is not None:
                progress(done, total)
        if not parts:
            check(images)
            empty = Faces.empty(torch.zeros(0, 2, dtype=torch.int64)).to(self.classifier.device)
            return empty.with_probabilities(torch.zeros(0, 2, device=self.classifier.device))
        return Faces.concatenate(parts)

    def _run(self, images: Images, first: int) -> Faces:
        batch = check(images, first=first)
        faces = self.detector.detect(batch)
        crops = head_crops(batch, faces, self.classifier.size, self.classifier.margin)
        return faces.to(self.classifier.device).with_probabilities(self.classifier.classify(crops))

    def classify(self, images: Images, faces: Faces) -> Faces:
        """The given faces with (new) gender probabilities, for boxes that something else found."""
        crops = head_crops(images, faces, self.classifier.size, self.classifier.margin)
        return faces.to(self.classifier.device).with_probabilities(self.classifier.classify(crops))


def load(
    detector: str | Path = "auto",
    classifier: str | Path = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Pipeline:
    """A ready pipeline; the default one is embedded and needs no network.

    Args:
        detector: ``auto``, ``whole-image`` or the path of a detector's weights.
        classifier: ``auto`` or the path of a classifier's weights.
        device: where to compute; CUDA where there is one, else the CPU, when None. Pictures may be elsewhere:
            only small canvases and crops are moved.
        dtype: precision; bfloat16 where the device has it natively, else float32, when None.

    Raises:
        ValueError: a name that is neither known nor a file.

    >>> load(device="cpu").classifier.size
    96
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Pipeline(load_detector(detector, device, dtype), load_classifier(classifier, device, dtype))
