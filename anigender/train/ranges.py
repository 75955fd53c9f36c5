"""Writing down how large a net's activations get, so that CPUs can compute in eight bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..classify import Classifier, declared_by, read_classifier
from ..datasets.labelled import MANIFEST, read_illustrations, read_pictures
from ..detect import load_detector, read_head_detector
from ..detect.head_detector import HeadDetector
from ..detect.verifier import PREFIX
from ..folders import decoded
from ..images import check
from ..pipeline import Pipeline
from ..quantised import Range, written
from ..ranges import Watch
from ..weights import read_weights, save_weights

PICTURES = 512  # that a net is shown
AT_ONCE = 16
# Of the head detector: what answers. In eight bits scores would be off by 0.010 on average rather than 0.005.
IN_FLOATS = ("smooth", "shared", "predict")


def entered(ranges: dict[str, Range], mean: Sequence[float], std: Sequence[float]) -> dict[str, Range]:
    """The ranges, the first one that of every picture there can be: what the net reads is in 0-1 before ``mean``."""
    first = next(iter(ranges))
    low = min(-m / s for m, s in zip(mean, std, strict=True))
    high = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    return ranges | {first: ranges[first]._replace(low=min(low, 0.0), high=max(high, 0.0))}


def of_classifier(classifier: Classifier, crops: Iterable[Tensor]) -> dict[str, Range]:
    """The ranges of a classifier in float32, from crops as :meth:`~anigender.classify.Classifier.classify` takes them.

    Raises:
        ValueError: there are none.
    """
    with Watch(classifier.net) as watch:
        for part in crops:
            classifier.classify(part)
    return entered(watch.ranges(), classifier.mean, classifier.std)


def of_detector(detector: HeadDetector, pictures: Iterable[Sequence[Tensor]]) -> dict[str, Range]:
    """The ranges of a head detector in float32 and of its verifier, from batches of pictures.

    Raises:
        ValueError: there are none, or none in which it proposes a head.
    """
    nets: dict[str, nn.Module] = {"": detector.net}
    if detector.verifier is not None:
        nets[PREFIX] = detector.verifier.net
    with ExitStack() as stack:
        watches = {prefix: stack.enter_context(Watch(net)) for prefix, net in nets.items()}
        for part in pictures:
            detector.detect(check(list(part)))
    found: dict[str, Range] = {}
    for prefix, watch in watches.items():
        own = entered(watch.ranges(), detector.mean, detector.std)
        found |= {prefix + name: value for name, value in own.items() if not name.startswith(IN_FLOATS)}
    return found


def measure(data: Path, source: Path, output: Path, detector: str = "auto") -> None:
    """Write a copy of a head detector's or classifier's file that says how large its activations get.

    Args:
        data: the data folder, whose pictures to learn from are shown, 512 of them at most.
        source: the file, a classifier's in any form that can be read but ONNX; what it said before of its activations
            is replaced.
        output: the copy.
        detector: finds the heads for a classifier: ``auto`` or a weights file.

    Raises:
        ValueError: it is neither, or no picture can be read, or no head is found in them.
    """
    pictures = shown(data)
    if source.suffix.lower() == ".onnx":
        raise ValueError(f"{source} is an ONNX file, which has its own precision: name the checkpoint it was made from")
    if is_head_detector(source):
        tensors, metadata = read_weights(source)
        ranges = of_detector(read_head_detector(source, "cpu", torch.float32), pictures)
    else:
        tensors, metadata = declared_by(source)
        classifier = read_classifier(source, "cpu", torch.float32)
        pipeline = Pipeline(load_detector(detector, "cpu", torch.float32), classifier)
        with Watch(classifier.net) as watch:
            for part in pictures:
                pipeline(list(part))
        ranges = entered(watch.ranges(), classifier.mean, classifier.std)
    save_weights(output, tensors, metadata | written(ranges))


def is_head_detector(path: Path) -> bool:
    """Whether a file is a head detector's; any that is no safetensors file is not."""
    return path.suffix.lower() == ".safetensors" and read_weights(path)[1].get("anigender.architecture") == "headnet"


def shown(data: Path) -> Iterator[list[Tensor]]:
    """Pictures to learn from, drawn by chance but always the same, a few at a time."""
    pictures = read_pictures(data)
    if (data / MANIFEST).is_file():
        pictures = pictures + read_illustrations(data)
    files = sorted({data / picture.file for picture in pictures if picture.split == "train"})
    chosen = np.random.default_rng(0).permutation(len(files))[:PICTURES]
    part: list[Tensor] = []
    for _, pixels in tqdm(decoded((files[i], None) for i in chosen), total=len(chosen), desc="ranges", unit="picture"):
        if isinstance(pixels, Tensor):
            part.append(pixels)
        if len(part) == AT_ONCE:
            yield part
            part = []
    if part:
        yield part
