"""A gender classifier ready for use: a net together with the preprocessing its weights file declares."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..transfer import moved, on_device
from .onnx_net import OnnxNet
from .preprocessing import PREFIX, preprocessing

CHUNK = 256  # crops in one forward: bounds memory, and larger batches are no faster
CHUNK_PIXELS = CHUNK * 96 * 96  # the same bound for nets with larger inputs
# What lies between two layers then fits the cache: up to a third faster than all at once.
CHUNK_ON_CPU = 16
CHUNK_PIXELS_ON_CPU = 8 * 224 * 224
SMALLEST_PROBABILITY = 1e-7  # so that a sure answer has a logarithm


def at_once(size: int, device: torch.device) -> int:
    """How many crops of that side go through a net together.

    >>> at_once(112, torch.device("cpu")), at_once(224, torch.device("cpu")), at_once(224, torch.device("cuda"))
    (16, 8, 47)
    """
    most, pixels = (CHUNK_ON_CPU, CHUNK_PIXELS_ON_CPU) if device.type == "cpu" else (CHUNK, CHUNK_PIXELS)
    return max(1, min(most, pixels // size**2))


class Classifier:
    """Gender probabilities of head crops.

    Args:
        net: takes ``[B, 3, S, S]`` and gives two logits or probabilities, or one (of the second label).
        metadata: preprocessing and calibration as in the weights file's metadata.

    Attributes:
        size: input side in pixels.
        margin, below: how many box sides a crop shows, and how far its centre lies under the box's.
        framing, resample, outside, cut_scale: how crops are made (:func:`~.framing.classifier_crops`).
        flip: what is said is the mean of the answers for a crop and its mirror image.
        probabilities: the net gives probabilities rather than logits.
        mean, std, bgr: how crops are normalised, and whether their channels are turned round before.
        columns: the places of female and male among two outputs.
        head_activation, stem: as declared for the building of the net; None where nothing is.

    Raises:
        ValueError: the metadata make no sense; see :func:`~.preprocessing.preprocessing`.
    """

    def __init__(self, net: nn.Module, metadata: Mapping[str, str]) -> None:
        settings = preprocessing(metadata)
        self.net = net
        self.flip = settings.flip
        self.size = settings.size
        self.margin, self.below = settings.margin, settings.below
        self.temperature = settings.temperature
        self.framing = settings.framing
        self.resample = settings.resample
        self.outside = settings.outside
        self.cut_scale = settings.cut_scale
        self.output = settings.output
        self.probabilities = settings.output == "probabilities"
        self.columns = settings.columns
        self.bgr = settings.bgr
        self.mean = settings.mean
        self.std = settings.std
        self.head_activation, self.stem = (metadata.get(f"{PREFIX}{name}") for name in ("head_activation", "stem"))

    @property
    def device(self) -> torch.device:
        """Where the net computes."""
        return next(self.net.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision the net computes in."""
        return next(self.net.parameters()).dtype

    def outputs(self, crops: Tensor) -> Tensor:
        """What the net itself says of crops on any device: ``[N, C]`` float32, one piece."""
        device = self.device
        mean = on_device(self.mean, device)[:, None, None]
        std = on_device(self.std, device)[:, None, None]
        x = moved(crops, device)
        x = x.flip(1) if self.bgr else x
        x = ((x - mean) / std).to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self.net(x).float()

    def logits(self, crops: Tensor) -> Tensor:
        """``[N, 2]``, columns female and male, of crops on any device, in one piece and before the temperature."""
        return self.as_logits(self.outputs(crops))

    def as_logits(self, found: Tensor) -> Tensor:
        """The net's outputs ``[N, C]`` as ``[N, 2]``, columns female and male."""
        if self.probabilities:
            found = torch.cat((1 - found, found), 1) if found.shape[1] == 1 else found
            found = found.clamp(min=SMALLEST_PROBABILITY).log()
        elif found.shape[1] == 1:
            found = torch.cat((torch.zeros_like(found), found), 1)
        return torch.stack([found[:, column] for column in self.columns], 1)

    @torch.inference_mode()
    def classify(self, crops: Tensor) -> Tensor:
        """Calibrated probabilities.

        Args:
            crops: ``[N, 3, S, S]`` in 0-1, RGB, as :func:`~.framing.classifier_crops` gives them.

        Returns:
            ``[N, 2]`` float32 on the classifier's device, columns female and male, rows summing to 1.

        Raises:
            ValueError: crops of another shape.
        """
        if crops.ndim != 4 or tuple(crops.shape[1:]) != (3, self.size, self.size):
            raise ValueError(f"crops have shape {list(crops.shape)}, expected [N, 3, {self.size}, {self.size}]")
        if not len(crops):
            return torch.zeros(0, 2, device=self.device)
        answers = []
        for part in crops.split(at_once(self.size, self.device)):
            logits = self.logits(part)
            if self.flip:
                logits = (logits + self.logits(part.flip(-1))) / 2
            answers.append(logits)
        return (torch.cat(answers) / self.temperature).softmax(1)

    @torch.inference_mode()
    def self_check(self) -> None:
        """Let the net answer for a few made-up heads, and learn whether it gives probabilities or logits.

        Raises:
            ValueError: it does not run at its input size, gives anything but one or two values per head, gives NaN or
                infinity, says the same of everything, or gives what may be probabilities or logits; the message says
                which.
        """
        whole = isinstance(self.net, OnnxNet) and self.net.takes_bytes
        if whole and (self.mean, self.std) != ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
            shown = " and ".join(f"{n}={','.join(f'{v:g}' for v in getattr(self, n))}" for n in ("mean", "std"))
            raise ValueError(
                f"it takes whole numbers, 0-255, and normalises them itself: expected mean=0,0,0 and "
                f"std=1,1,1, not {shown}"
            )
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(2, 3, self.size, self.size, generator=generator)
        slope = torch.linspace(0, 1, self.size).expand(3, self.size, self.size)
        probes = torch.stack((torch.zeros_like(noise[0]), noise[0], slope, (slope.transpose(1, 2) + noise[1]) / 2))
        try:
            found = self.outputs(probes).cpu()
        except RuntimeError as error:
            raise ValueError(f"it does not run on pictures of {self.size}x{self.size}: {error}") from error
        if found.ndim != 2 or found.shape[1] not in (1, 2):
            hint = "; is it trained for something else?" if found.ndim == 2 else ""
            raise ValueError(f"it gives {list(found.shape[1:])} values per head, expected 2 (female, male){hint}")
        if not bool(found.isfinite().all()):
            raise ValueError("it gives NaN or infinity: its weights are broken, or its mean and std are")
        if float((found - found[:1]).abs().max()) <= 1e-7 * float(found.abs().max()):
            raise ValueError("it says the same of every picture: its weights are broken or were never trained")
        if self.output != "auto":
            return
        positive = bool((found >= 0).all())
        self.probabilities = found.shape[1] == 2 and positive and bool((found.sum(1) - 1).abs().max() < 1e-3)
        # A net that was built from a checkpoint ends in a linear layer; one in an ONNX file may end in a sigmoid.
        if isinstance(self.net, OnnxNet) and not self.probabilities and positive and bool((found <= 1).all()):
            raise ValueError(
                "its answers lie between 0 and 1 and may be probabilities or logits: say which with the setting "
                "output=probabilities or output=logits"
            )
