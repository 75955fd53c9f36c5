"""A gender classifier ready for use: a net together with the preprocessing its weights file declares."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

CHUNK = 256  # crops in one forward: bounds memory, and larger batches are no faster


class Classifier:
    """Gender probabilities of head crops.

    Args:
        net: takes ``[B, 3, S, S]`` and gives two logits.
        metadata: preprocessing and calibration as in the weights file's metadata.
        flip: average the answers for a crop and its mirror image: twice the time for a little more accuracy.

    Attributes:
        size: input side in pixels.
        margin: how many box sides a crop shows.
    """

    def __init__(self, net: nn.Module, metadata: Mapping[str, str], flip: bool = False) -> None:
        labels = metadata.get("anigender.labels", "female,male").split(",")
        if sorted(labels) != ["female", "male"]:
            raise ValueError(f"the classifier's labels are {labels}, expected female and male")
        self.net = net
        self.flip = flip
        self.size = int(metadata["anigender.input_size"])
        self.margin = float(metadata["anigender.margin"])
        self.temperature = float(metadata.get("anigender.temperature", "1"))
        self._columns = [labels.index("female"), labels.index("male")]
        self._bgr = metadata.get("anigender.channel_order", "RGB") == "BGR"
        self._mean = [float(v) for v in metadata["anigender.mean"].split(",")]
        self._std = [float(v) for v in metadata["anigender.std"].split(",")]

    @property
    def device(self) -> torch.device:
        """Where the net computes."""
        return next(self.net.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision the net computes in."""
        return next(self.net.parameters()).dtype

    @torch.inference_mode()
    def classify(self, crops: Tensor) -> Tensor:
        """Calibrated probabilities.

        Args:
            crops: ``[N, 3, S, S]`` in 0-1, RGB, as :func:`anigender.images.head_crops` gives them.

        Returns:
            ``[N, 2]`` float32 on the classifier's device, columns female and male, rows summing to 1.

        Raises:
            ValueError: crops of another shape.
        """
        if crops.ndim != 4 or tuple(crops.shape[1:]) != (3, self.size, self.size):
            raise ValueError(f"crops have shape {list(crops.shape)}, expected [N, 3, {self.size}, {self.size}]")
        device = self.device
        if not len(crops):
            return torch.zeros(0, 2, device=device)
        mean = torch.tensor(self._mean, device=device)[:, None, None]
        std = torch.tensor(self._std, device=device)[:, None, None]
        answers = []
        for part in crops.split(CHUNK):
            x = part.to(device)
            x = x.flip(1) if self._bgr else x
            x = ((x - mean) / std).to(self.dtype).contiguous(memory_format=torch.channels_last)
            logits = self.net(x).float()
            if self.flip:
                logits = (logits + self.net(x.flip(-1)).float()) / 2
            answers.append(logits[:, self._columns])
        return (torch.cat(answers) / self.temperature).softmax(1)
