"""Detect, crop, classify: the whole way from pictures to classified faces."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .classify import Classifier, load_classifier
from .detect import Detector, load_detector
from .faces import Faces
from .images import Images, check, head_crops

CHUNK = 16  # pictures worked on at once: enough to keep a device busy, small enough to stop within


def ran_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; PyTorch's CPU allocator says so in words only."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


class Pipeline:
    """Finds faces and says their gender, a batch at a time. Made by :func:`load`.

    Args:
        detector: finds the heads.
        classifier: judges them.
        chunk: pictures worked on at once; halved, for the rest of the call, when memory runs out.
        out_of_memory: tells whether an error means that; some devices say it in their own words.
    """

    def __init__(
        self,
        detector: Detector,
        classifier: Classifier,
        chunk: int = CHUNK,
        out_of_memory: Callable[[Exception], bool] = ran_out_of_memory,
    ) -> None:
        self.detector = detector
        self.classifier = classifier
        self.chunk = chunk
        self.out_of_memory = out_of_memory

    def adjusted(self, threshold: float | None = None, minimum_size: float | None = None) -> Pipeline:
        """The same pipeline, sharing its nets, with other limits of the detector; None leaves one as it is.

        A detector without such a limit stays as it is.

        >>> load(device="cpu").adjusted(threshold=0.9).detector.threshold
        0.9
        """
        detector = copy.copy(self.detector)
        for name, value in (("threshold", threshold), ("minimum_size", minimum_size)):
            if value is not None and hasattr(detector, name):
                setattr(detector, name, value)
        return Pipeline(detector, self.classifier, self.chunk, self.out_of_memory)

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
            except (MemoryError, RuntimeError) as error:
                if chunk == 1 or not self.out_of_memory(error):
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
