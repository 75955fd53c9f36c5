"""The embedded classifier's file: its framing, what its net says of cached crops, its calibration, and saving it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...classify import Classifier
from ...classify.gendernet import GenderNet, build
from ...evaluate.metrics import fit_calibration
from ...images import OUTSIDES
from ...inference import mixed_precision, placed, ready
from ...quantised import written
from ...weights import read_weights, save_weights
from ..checkpoints import half_precision
from ..crops.augment import CACHE_MARGIN, plain
from ..crops.crops import labelled_crops
from ..crops.store import FlatOutside, Pixels
from ..ranges import of_classifier

SIZE = 112
MARGIN, BELOW = 1.5, 0.17  # the head, the shoulders and the collar: clothes tell where a face does not
OUTSIDE = "mean"  # where a picture ends: its edge, repeated, looks like nothing drawn, and in each game in its own way
MEAN, STD = 0.5, 0.25
AT_ONCE = 128  # crops
SHOWN = 512  # of them say how large activations get


def normalise(x: Tensor, device: str) -> Tensor:
    """0-1 to what the net reads."""
    return ((x - MEAN) / STD).to(device).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(
    model: nn.Module,
    pixels: Pixels,
    device: str,
    size: int = SIZE,
    margin: float = MARGIN,
    below: float = BELOW,
    flip: bool = False,
) -> Tensor:
    """A net's logits (``[N, 2]`` for genders) of cached crops, plainly framed; ``flip``: mean with mirrored ones."""
    out = []
    for start in range(0, len(pixels), AT_ONCE):
        x = normalise(plain(pixels[start : start + AT_ONCE], size, margin, below), device)
        with mixed_precision(device):
            logits = model(x).float()
            if flip:
                logits = (logits + model(x.flip(-1)).float()) / 2
        out.append(logits.cpu())
    return torch.cat(out) if out else torch.zeros(0, 2)


def calibrated(logits: Tensor, temperature: float, bias: float) -> Tensor:
    """Probabilities ``[N, 2]``; see :func:`~anigender.evaluate.metrics.fit_calibration`."""
    return ((logits + logits.new_tensor([0.0, bias])) / temperature).softmax(1)


def calibrate(data: Path, source: Path, output: Path, detector: str = "auto", device: str = "cpu") -> None:
    """Fit the temperature and bias of a gender net's file anew on ``val``, as after averaging several."""
    tensors, metadata = read_weights(source)
    net, framing = placed(build(tensors).eval(), device), framing_of(metadata)
    _, judge = labelled_crops(data, detector, output.parent)
    outside = metadata.get("anigender.outside", OUTSIDES[0])
    pixels = surrounded(judge.pixels, judge.extents, outside, *framing[1:])
    calibration = fit_calibration(predict(net, pixels, device, *framing), judge.labels)
    save_gender(net, *calibration, output, framing, pixels, outside)


def surrounded(
    pixels: Pixels, extents: np.ndarray | None, outside: str = OUTSIDE, margin: float = MARGIN, below: float = BELOW
) -> Pixels:
    """Cached crops as a net sees them that declares ``outside``.

    Args:
        pixels: crops in which the picture's edge is repeated.
        extents: ``[N, 4]`` where the picture lies in each; all of it where None.
        outside: of :data:`~anigender.images.OUTSIDES`.
        margin, below: the net's framing.
    """
    if outside == OUTSIDES[0] or extents is None:
        return pixels
    half, middle = margin / 2 / CACHE_MARGIN, 0.5 + below / CACHE_MARGIN
    return FlatOutside(pixels, extents, (0.5 - half, middle - half, 0.5 + half, middle + half))


def framing_of(metadata: Mapping[str, str]) -> tuple[int, float, float]:
    """Input size, margin and how far below the head's a crop's centre lies, as a classifier's file declares them."""
    size, margin, below = (float(metadata.get(f"anigender.{name}", 0)) for name in ("input_size", "margin", "below"))
    return int(size), margin, below


def save_gender(
    model: GenderNet,
    temperature: float,
    bias: float,
    output: Path,
    framing: tuple[int, float, float] = (SIZE, MARGIN, BELOW),
    shown: Pixels | None = None,
    outside: str = OUTSIDE,
) -> None:
    """The net in half precision with its preprocessing and calibration, as one safetensors file.

    Args:
        model: the net.
        temperature, bias: of :func:`~anigender.evaluate.metrics.fit_calibration`.
        output: the file.
        framing: input size, margin and how far below the head's the crops' centre lies.
        shown: cached crops, :func:`surrounded` as the net sees them, by which to learn how large its activations get;
            without, CPUs compute in floats.
        outside: what crops show where there is no picture.
    """
    size, margin, below = framing
    state = half_precision(model)
    # The bias goes into the last layer, the temperature into the metadata, where a reader finds it.
    state["fc.bias"] = (model.fc.bias.detach() + model.fc.bias.new_tensor([0.0, bias])).half()
    metadata = {
        "anigender.kind": "classifier",
        "anigender.architecture": "gendernet",
        "anigender.labels": "female,male",
        "anigender.input_size": str(size),
        "anigender.margin": str(margin),
        "anigender.below": str(below),
        "anigender.outside": outside,
        "anigender.mean": ",".join([str(MEAN)] * 3),
        "anigender.std": ",".join([str(STD)] * 3),
        "anigender.channel_order": "RGB",
        "anigender.temperature": f"{temperature:.4f}",
    }
    if shown is not None:
        net = ready(build({name: value.float() for name, value in state.items()}), "cpu", torch.float32)
        crops = (plain(shown[i : i + AT_ONCE], *framing) for i in range(0, min(SHOWN, len(shown)), AT_ONCE))
        metadata |= written(of_classifier(Classifier(net, metadata), crops))
    save_weights(output, state, metadata)
