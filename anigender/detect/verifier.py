"""The second opinion on a proposed head: a crop of the picture itself, through a net that only says head or not.

The fully-convolutional net sees every place of the picture at one or two fixed scales, small heads with few pixels.
What it proposes is looked at again at one size, whatever size it has in the picture; like the second stage of a
cascade (Viola and Jones, "Rapid Object Detection using a Boosted Cascade of Simple Features", 2001; Zhang et al.,
"Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016), it costs next to nothing,
because there are few proposals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..faces import Faces
from ..images import OUTSIDES, Batch, head_crops
from ..transfer import moved, on_device
from .headnet import Residual, conv, fill

PREFIX = "verifier."  # of its weights in the detector's file


class VerifierNet(nn.Module):
    """One logit, head or not, from normalised RGB crops.

    Args:
        widths: channels at strides 2, 4, 8 and so on, one residual block each.

    Attributes:
        widths: the same.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        inputs = (3, *widths[:-1])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(conv(before, width, 2), Residual(width))
                for before, width in zip(inputs, widths, strict=True)
            )
        )
        self.fc = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 3, S, S]`` to logits ``[N]``."""
        return self.fc(self.stages(x).mean((2, 3)))[:, 0]


def build(tensors: Mapping[str, Tensor]) -> VerifierNet | None:
    """The verifier among the tensors of a detector's file, of its own widths; None where there is none.

    Raises:
        ValueError: weights are missing or of another shape.
    """
    state = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    if not state:
        return None
    entries = (f"stages.{i}.0.0.weight" for i in range(len(state)))
    net = VerifierNet([len(state[name]) for name in entries if name in state] or [1])
    fill(net, state, "the verifier")
    return net


class Verifier:
    """Scores proposals.

    Args:
        net: a trained net.
        metadata: of the detector's file; ``verifier_size``, ``verifier_margin`` and ``verifier_outside`` (``edge``
            where it is not there) are the crop's, ``mean`` and ``std`` the detector's own.
    """

    def __init__(self, net: VerifierNet, metadata: Mapping[str, str]) -> None:
        self.net = net.eval()
        self.size = int(metadata["anigender.verifier_size"])
        self.margin = float(metadata["anigender.verifier_margin"])
        self.outside = metadata.get("anigender.verifier_outside", OUTSIDES[0])
        if self.outside not in OUTSIDES:
            raise ValueError(f"verifier_outside is {self.outside!r}, expected one of {', '.join(OUTSIDES)}")
        self.mean = [float(v) for v in metadata["anigender.mean"].split(",")]
        self.std = [float(v) for v in metadata["anigender.std"].split(",")]

    def scores(self, batch: Batch, boxes: Tensor, scores: Tensor, image_index: Tensor, chunk: int = 256) -> Tensor:
        """Both nets' opinions as one score.

        Args:
            batch: the pictures.
            boxes: ``[N, 4]`` heads proposed in them.
            scores: ``[N]`` the first net's.
            image_index: ``[N]`` which picture each is in.
            chunk: crops at a time.

        Returns:
            ``[N]`` in 0-1: the sigmoid of the sum of both logits, as of two witnesses who saw different things.
        """
        proposals = Faces(boxes, scores, image_index, on_device(batch.sizes, boxes.device, torch.int64).reshape(-1, 2))
        crops = moved(head_crops(batch, proposals, self.size, self.margin, outside=self.outside), boxes.device)
        mean = on_device(self.mean, crops.device)[:, None, None]
        std = on_device(self.std, crops.device)[:, None, None]
        dtype = next(self.net.parameters()).dtype
        logits = [
            self.net(((part - mean) / std).to(dtype).contiguous(memory_format=torch.channels_last)).float()
            for part in crops.split(chunk)
        ]
        own = scores.clamp(min=0).logit(1e-6)
        return (own + torch.cat(logits)).sigmoid() if logits else own
