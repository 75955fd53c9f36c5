"""The embedded identity net: what a character can be known by, colours and shapes side by side.

Two looks at one head. A palette: a histogram over fixed colours in each of nine parts of the crop (the hair's colours
are what everybody draws a character with), as square roots, between which distances are Hellinger's. And means and
deviations of the activations of every stage, since strokes and ornaments are lost in deep layers alone. The stages are
those of :class:`~anigender.classify.gendernet.GenderNet`, smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..classify.gendernet import stages, trunk_shape
from ..classify.pooling import pooled
from ..classify.state import fill
from ..detect.headnet import conv

WIDTHS, DEPTHS = (32, 64, 96, 104), (1, 1, 1, 1)
COLOURS = 400
PLACES = 3  # of the palette, per side of the crop
SMALLEST = 1e-3  # under the roots, whose slope has no end at zero


class IdentityNet(nn.Module):
    """Features from normalised RGB head crops.

    Args:
        widths, depths: of the stages, at strides 2, 4, 8 and 16.
        colours: how many the palette has; they are set by :meth:`set_palette` and not learned.
        places: of the palette, per side of the crop.
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        colours: int = COLOURS,
        places: int = PLACES,
    ) -> None:
        super().__init__()
        self.places = places
        self.palette = nn.Conv2d(3, colours, 1).requires_grad_(False)
        self.stem = conv(3, widths[0], 2)
        self.stages = stages(widths, depths)
        self.width = colours * places**2 + 2 * sum(widths)
        self.scale = nn.BatchNorm1d(self.width, affine=False)
        self.fc: nn.Linear | None = None

    def set_palette(self, centres: Tensor, softness: float) -> None:
        """Let the palette's colours be ``centres [colours, 3]``: a pixel's share in each falls with its distance.

        The softmax of ``-(x - c)² / softness``, without what is the same for all colours, is a 1x1 convolution.
        """
        with torch.no_grad():
            self.palette.weight.copy_((2 * centres / softness)[:, :, None, None])
            self.palette.bias.copy_(-centres.square().sum(1) / softness)  # type: ignore[union-attr]

    def features(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` to ``[B, width]``, each feature of unit variance over the training pictures."""
        share = pooled(self.palette(x).softmax(1), self.places)
        parts = [(share.flatten(1) + SMALLEST).sqrt()]
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            mean = x.mean((2, 3))
            deviation = (x.square().mean((2, 3)) - mean.square()).clamp(min=0).add(SMALLEST).sqrt()
            parts += [mean, deviation]
        return self.scale(torch.cat(parts, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The features, or what the last layer says of them where there is one."""
        return self.features(x) if self.fc is None else self.fc(self.features(x))


def matches(keys: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is this architecture's."""
    return {"palette.weight", "stem.0.weight", "stages.0.0.first.0.weight", "scale.running_mean"} <= keys.keys()


def build(state: Mapping[str, Tensor], settings: Mapping[str, str] | None = None) -> IdentityNet:
    """A net of the state dict's own widths and depths, with its weights; there is nothing to set."""
    widths, depths = trunk_shape(state)
    colours = state["palette.weight"].shape[0]
    places = round(((state["scale.running_mean"].shape[0] - 2 * sum(widths)) / colours) ** 0.5)
    with torch.device("meta"):
        net = IdentityNet(widths, depths, colours, places)
        if "fc.weight" in state:  # fine-tuned for certain characters
            net.fc = nn.Linear(net.width, state["fc.weight"].shape[0])
    return fill(net, state)
