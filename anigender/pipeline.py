"""Detect, crop, classify: the whole way from pictures to classified faces."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .classify import Classifier, classifier_crops, load_classifier, samples
from .detect import Detector, HeadDetector, load_detector
from .detect.found import as_heads
from .faces import Faces
from .images import Batch, Images, check, on_host
from .inference import usable
from .interruption import interruptible
from .locate import resolve
from .padded import PaddedFaces, Room, read

Part = TypeVar("Part")

CHUNK = 16  # pictures worked on at once: enough to keep a device busy
CHUNK_ON_CPU = 4  # what lies between two layers then fits the cache: measured a quarter faster than 16
OUT_OF_MEMORY = (
    "can't allocate memory",  # DefaultCPUAllocator on Linux and macOS
    "DefaultCPUAllocator: not enough memory",  # on Windows
    "MPS backend out of memory",
)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; PyTorch's allocators for CPUs and for MPS say so in words only."""
    said = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in said for words in OUT_OF_MEMORY)


def _nets(part: object) -> Iterator[nn.Module]:
    """The nets that a detector or classifier holds, itself or in a part of its own such as a verifier."""
    for value in vars(part).values():
        if isinstance(value, nn.Module):
            yield value
        elif isinstance(getattr(value, "net", None), nn.Module):
            yield value.net


class Pipeline:
    """Finds faces and says their gender, a batch at a time. Made by :func:`load`.

    Args:
        detector: finds the heads.
        classifier: judges them.
        chunk: pictures worked on at once; halved, for the rest of the call, when memory runs out. Where None, what
            is best for the device that the detector is on at the time.
        out_of_memory: tells whether an error means that; some devices say it in their own words.
        interrupt: called many times during a call, between its steps and before every layer of the nets; what it
            raises ends the call.
    """

    def __init__(
        self,
        detector: Detector,
        classifier: Classifier,
        chunk: int | None = None,
        out_of_memory: Callable[[Exception], bool] = ran_out_of_memory,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.detector = detector
        self.classifier = classifier
        self.chunk = chunk
        self.out_of_memory = out_of_memory
        self.interrupt = interrupt

    @property
    def nets(self) -> list[nn.Module]:
        """The nets in it: what moves between devices. A detector need not have one, and may have several."""
        return [*_nets(self.detector), *_nets(self.classifier)]

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
        return Pipeline(detector, self.classifier, self.chunk, self.out_of_memory, self.interrupt)

    def __call__(self, images: Images, progress: Callable[[int, int], None] | None = None) -> Faces:
        """Classified faces of a batch.

        Args:
            images: ``[B, H, W, C]`` or a sequence of ``[H, W, C]``; see :func:`anigender.images.check`.
            progress: called with (pictures done, pictures in all) after each chunk, on a GPU when it has been handed
                over; what it raises ends the call.

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
        parts = self._in_pieces(0, len(images), lambda first, last: self._run(images[first:last], first), progress)
        if not parts:
            check(images)
            empty = Faces.empty(torch.zeros(0, 2, dtype=torch.int64)).to(self.classifier.device)
            return empty.with_probabilities(torch.zeros(0, 2, device=self.classifier.device))
        return Faces.concatenate(self._settled(images, parts))

    def classify(self, images: Images, faces: Faces, progress: Callable[[int, int], None] | None = None) -> Faces:
        """The given faces with (new) gender probabilities, for boxes that something else found.

        Args:
            images: as for a call.
            faces: boxes in those pictures.
            progress: as for a call.

        Raises:
            ValueError, TypeError: a picture breaks the image contract, or the faces belong to another number of them.
        """
        if isinstance(images, Tensor) and images.ndim != 4:
            check(images)  # raises
        if faces.images != len(images):
            raise ValueError(f"the faces belong to {faces.images} images, {len(images)} were given")

        def judge(first: int, last: int) -> Faces:
            return self._judged(check(images[first:last], first=first), faces.of_images(first, last))

        parts = self._in_pieces(0, len(images), judge, progress)
        return Faces.concatenate(parts) if parts else self._judged(check(images), faces)

    def _run(self, images: Images, first: int, room: Room | None = None) -> Faces | PaddedFaces:
        batch = check(images, first=first)
        self._may_stop()
        detector = self.detector
        if isinstance(detector, HeadDetector) and self._stays_on_device(batch):
            batch = batch.to(detector.device)
            found = detector.detect_padded(batch, room or Room.usual(len(batch)))
            judged = self._judged(batch, found.faces())
            return replace(found, probabilities=judged.probabilities)
        # A detector that does not say what it frames is one of somebody's own, for heads.
        return self._judged(batch, as_heads(detector.detect(batch), getattr(detector, "region", "head")))

    def _stays_on_device(self, batch: Batch) -> bool:
        """Whether everything can be done where the nets are, with one copy to the host at the end.

        Pictures in host memory are copied to a CUDA device first, as bytes: that takes less time than shrinking them
        on the host does. Where the host has to cut the crops itself, it needs the boxes before that.
        """
        device = self.detector.device
        here = device == batch.device and not on_host(batch)
        uploaded = device.type == "cuda" and batch.device.type == "cpu"
        return (here or uploaded) and self.classifier.device == device and samples(self.classifier)

    def _settled(self, images: Images, parts: Sequence[Faces | PaddedFaces]) -> list[Faces]:
        """The faces of all pieces: the host waits for the device here, once.

        Pieces with more faces than there was room for are done again with enough.
        """
        padded = [part for part in parts if isinstance(part, PaddedFaces)]
        known = iter(read(padded)) if padded else iter(())
        settled: list[Faces] = []
        for part in parts:
            found = next(known) if isinstance(part, PaddedFaces) else part
            if isinstance(part, PaddedFaces) and isinstance(found, Room):
                settled += self._again(images, part.first, part.first + len(part.sizes), found)
            elif isinstance(found, Faces):
                settled.append(found)
        return settled

    def _again(self, images: Images, first: int, last: int, room: Room) -> list[Faces]:
        def work(start: int, end: int) -> Faces | PaddedFaces:
            return self._run(images[start:end], start, room)

        return self._settled(images, self._in_pieces(first, last, work, None))

    def _judged(self, batch: Batch, faces: Faces) -> Faces:
        self._may_stop()
        crops = classifier_crops(batch, faces, self.classifier)
        self._may_stop()
        return faces.to(self.classifier.device).with_probabilities(self.classifier.classify(crops))

    def _may_stop(self) -> None:
        if self.interrupt is not None:
            self.interrupt()

    def _in_pieces(
        self, start: int, total: int, work: Callable[[int, int], Part], progress: Callable[[int, int], None] | None
    ) -> list[Part]:
        """What ``work(first, last)`` gives from ``start`` on, in pieces that become smaller when memory runs out."""
        chunk = self.chunk
        if chunk is None:
            chunk = CHUNK_ON_CPU if self.detector.device.type == "cpu" else CHUNK
        parts: list[Part] = []
        done, chunk = start, max(1, chunk)
        with interruptible(self.nets if self.interrupt else (), self._may_stop):
            while done < total:
                last = min(total, done + chunk)
                try:
                    parts.append(work(done, last))
                except (MemoryError, RuntimeError) as error:
                    if chunk == 1 or not self.out_of_memory(error):
                        raise
                    chunk = max(1, chunk // 2)
                    continue
                done = last
                if progress is not None:
                    progress(done, total)
        return parts


def load(
    detector: str | Path = "auto",
    classifier: str | Path = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Pipeline:
    """A ready pipeline; the default one is embedded and needs no network.

    Args:
        detector: ``auto``, another name of :data:`anigender.detect.DETECTORS` such as ``whole-image``, the path of a
            detector's weights, of an OpenCV cascade (.xml) or of another file of :data:`anigender.detect.FILES`, or
            the name of a known detector.
        classifier: ``auto``, the path of a classifier's file (safetensors, ``.pth`` and the like, or ONNX), or the
            name of a known classifier.
        device: where to compute; CUDA where there is one, else the CPU, when None. Pictures may be elsewhere.
        dtype: precision; what is fastest on the device where None (:func:`anigender.inference.settled`).
        settings: preprocessing of the classifier where its file does not say it, or to override what it says
            (:data:`anigender.classify.SETTINGS`).

    Raises:
        ValueError: a name that is neither known nor a file, or a device that cannot be used.
        DownloadError: a known model is not on this machine and cannot be fetched.
        ImportError, RuntimeError: it needs a package that is not installed, or does not work.

    >>> load(device="cpu").classifier.size
    112
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = usable(device)  # before anything is downloaded
    detector, classifier = resolve(detector, "detector"), resolve(classifier, "classifier")
    return Pipeline(load_detector(detector, device, dtype), load_classifier(classifier, device, dtype, settings))
