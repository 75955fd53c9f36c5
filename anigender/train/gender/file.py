"""The embedded classifier's file: its framing, what its net says of cached crops, its calibration, and saving it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...classify import Classifier
from ...classify.gendernet import GenderNet, build, matches
from ...evaluate.metrics import fit_calibration
from ...images import OUTSIDES, larger_where_cut
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
CUT_SCALE = 1.2  # what a picture that is cut to a face shows of the head, taken for this many times as large
MEAN, STD = 0.5, 0.25
AT_ONCE = 128  # crops
SHOWN = 512  # of them say how large activations get


class Framing(NamedTuple):
    """What a net sees of a head: the settings of these names (:data:`~anigender.classify.SETTINGS`)."""

    size: int = SIZE
    margin: float = MARGIN
    below: float = BELOW
    outside: str = OUTSIDE
    cut_scale: float = CUT_SCALE


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
    scales: Tensor | None = None,
) -> Tensor:
    """A net's logits (``[N, 2]`` for genders) of cached crops, plainly framed; ``flip``: mean with mirrored ones.

    ``scales [N]``: how many times as large as they are heads are taken for (:func:`cut_scales`).
    """
    out = []
    for start in range(0, len(pixels), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        own = None if scales is None else scales[part]
        x = normalise(plain(pixels[part], size, margin, below, scales=own), device)
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
    """Fit the temperature and bias of a gender net's file anew on ``val``, as after averaging several.

    Raises:
        ValueError: the file holds another net than the embedded one's architecture.
    """
    tensors, metadata = read_weights(source)
    if not matches(tensors):
        raise ValueError(
            f"{source} is not of the embedded classifier's architecture, whose files alone are calibrated anew; "
            "`anigender train gender --from` calibrates whatever it trains"
        )
    net, framing = placed(build(tensors).eval(), device), framing_of(metadata)
    _, judge = labelled_crops(data, detector, output.parent)
    calibration = fit_calibration(answers(net, judge.pixels, judge.extents, device, framing), judge.labels)
    shown = surrounded(judge.pixels, judge.extents, framing.outside, framing.margin, framing.below)
    save_gender(net, *calibration, output, framing, shown)


def answers(
    model: nn.Module,
    pixels: Pixels,
    extents: np.ndarray | None,
    device: str,
    framing: Framing | None = None,
    flip: bool = False,
) -> Tensor:
    """A net's logits ``[N, 2]`` of cached crops, seen as at inference.

    Args:
        model: the net.
        pixels: crops in which the picture's edge is repeated.
        extents: ``[N, 4]`` where the picture lies in each; all of it where None.
        device: where to compute.
        framing: what it sees; as the embedded net's where None.
        flip: the mean with the mirrored crops' logits.
    """
    framing = framing or Framing()
    seen = surrounded(pixels, extents, framing.outside, framing.margin, framing.below)
    scales = cut_scales(extents, framing.cut_scale)
    return predict(model, seen, device, framing.size, framing.margin, framing.below, flip, scales)


def cut_scales(extents: np.ndarray | None, cut_scale: float = CUT_SCALE) -> Tensor | None:
    """How many times as large as they are heads are taken for, ``[N]``, as :func:`~anigender.images.head_crops` does.

    Args:
        extents: ``[N, 4]`` where the picture lies in each cached crop; None where that is not known, for None.
        cut_scale: of a head that the picture cuts on all sides.
    """
    if extents is None:
        return None
    half = 0.5 / CACHE_MARGIN
    gaps = np.concatenate((0.5 - half - extents[:, :2], extents[:, 2:] - 0.5 - half), 1) * CACHE_MARGIN
    return larger_where_cut(torch.from_numpy(gaps), cut_scale)


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


def framing_of(metadata: Mapping[str, str]) -> Framing:
    """What a classifier's net sees, as its file declares it."""
    own = {name.removeprefix("anigender."): text for name, text in metadata.items()}
    return Framing(
        int(float(own["input_size"])),
        float(own["margin"]),
        float(own.get("below", 0)),
        own.get("outside", OUTSIDES[0]),
        float(own.get("cut_scale", 1)),
    )


def broken(output: Path, why: str) -> ValueError:
    """What is said where nothing is written."""
    return ValueError(
        f"the net learned nothing but broken numbers ({why}), {output} was left as it was: try a lower --learning-rate"
    )


def refuse_broken(state: Mapping[str, Tensor], temperature: float, bias: float, output: Path) -> None:
    """Refuse weights and calibrations that are not finite, before they replace a file.

    Raises:
        ValueError: some are not; the message says which.
    """
    if not math.isfinite(temperature) or not math.isfinite(bias):
        raise broken(output, f"its calibration is {temperature:g} and {bias:g}")
    if wrong := [name for name, value in state.items() if not bool(value.isfinite().all())]:
        raise broken(output, f"{len(wrong)} of its {len(state)} weights are not finite, {wrong[0]} first")


def save_gender(
    model: GenderNet,
    temperature: float,
    bias: float,
    output: Path,
    framing: Framing | None = None,
    shown: Pixels | None = None,
) -> None:
    """The net in half precision with its preprocessing and calibration, as one safetensors file.

    Args:
        model: the net.
        temperature, bias: of :func:`~anigender.evaluate.metrics.fit_calibration`.
        output: the file.
        framing: what it sees; as the embedded net's where None.
        shown: cached crops, :func:`surrounded` as the net sees them, by which to learn how large its activations get;
            without, CPUs compute in floats.

    Raises:
        ValueError: the net learned nothing but broken numbers; the file stays as it was.
    """
    framing = framing or Framing()
    refuse_broken(model.state_dict(), temperature, bias, output)
    state = half_precision(model)
    # The bias goes into the last layer, the temperature into the metadata, where a reader finds it.
    state["fc.bias"] = (model.fc.bias.detach() + model.fc.bias.new_tensor([0.0, bias])).half()
    metadata = {
        "anigender.kind": "classifier",
        "anigender.architecture": "gendernet",
        "anigender.labels": "female,male",
        "anigender.input_size": str(framing.size),
        "anigender.margin": str(framing.margin),
        "anigender.below": str(framing.below),
        "anigender.outside": framing.outside,
        "anigender.cut_scale": str(framing.cut_scale),
        "anigender.mean": ",".join([str(MEAN)] * 3),
        "anigender.std": ",".join([str(STD)] * 3),
        "anigender.channel_order": "RGB",
        "anigender.temperature": f"{temperature:.4f}",
    }
    if shown is not None:
        net = ready(build({name: value.float() for name, value in state.items()}), "cpu", torch.float32)
        crops = (plain(shown[i : i + AT_ONCE], *framing[:3]) for i in range(0, min(SHOWN, len(shown)), AT_ONCE))
        metadata |= written(of_classifier(Classifier(net, metadata), crops))
    save_weights(output, state, metadata)
