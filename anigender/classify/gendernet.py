"""The embedded gender classifier: a plain residual net for small head crops.

Full 3x3 convolutions rather than depthwise ones: on CPUs they reach several times the arithmetic rate, and the net
is small either way (He et al., "Deep Residual Learning for Image Recognition", 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..detect.headnet import Residual, conv
from .state import fill

WIDTHS = (32, 64, 160, 224)
DEPTHS = (1, 2, 3, 2)


def stages(widths: Sequence[int], depths: Sequence[int]) -> nn.Sequential:
    """Residual blocks, ``depths`` of them in each stage; every stage but the first begins by halving its input."""
    made = []
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        down = [] if i == 0 else [conv(widths[i - 1], width, 2)]
        made.append(nn.Sequential(*down, *(Residual(width) for _ in range(depth))))
    return nn.Sequential(*made)


class GenderNet(nn.Module):
    """Two logits (female, male) from normalised RGB head crops.

    Args:
        widths: channels of the four stages, at strides 2, 4, 8 and 16.
        depths: residual blocks of each stage.
        classes: outputs.
        head: where the crop shows the head, x0, y0, x1 and y1 in shares of its sides. With it the activations are
            pooled twice, over the head and over everything: what somebody wears counts, but not as much as the face.
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        classes: int = 2,
        head: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.stem = conv(3, widths[0], 2)
        self.stages = stages(widths, depths)
        self.window = None if head is None else tuple(head)
        if head is not None:
            self.register_buffer("head", torch.tensor(head))  # for the file; what is computed with is the window
        self.fc = nn.Linear(widths[-1] if head is None else 2 * widths[-1], classes)

    def features(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` to the pooled activations ``[B, fc.in_features]``."""
        maps = self.stages(self.stem(x))
        everything = maps.mean((2, 3))
        if self.window is None:
            return everything
        x0, y0, x1, y1 = self.window
        down, across = (torch.linspace(0, 1, side + 1, device=maps.device) for side in maps.shape[2:])
        weight = down.clamp(y0, y1).diff()[:, None] * across.clamp(x0, x1).diff()  # of the cells, by their share in it
        weight = (weight / weight.sum()).to(maps.dtype)
        return torch.cat(((maps * weight).sum((2, 3)), everything), 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` to logits ``[B, classes]``."""
        return self.fc(self.features(x))


def matches(keys: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is this architecture's."""
    return {"stem.0.weight", "stages.0.0.first.0.weight", "fc.weight"} <= keys.keys()


def trunk_shape(state: Mapping[str, Tensor]) -> tuple[list[int], list[int]]:
    """Widths and depths of the four stages behind the stem, from a state dict's keys and shapes."""
    widths, depths = [state["stem.0.weight"].shape[0]], []
    for i in range(4):
        blocks = {int(name.split(".")[2]) for name in state if name.startswith(f"stages.{i}.")}
        depths.append(len(blocks) - (i > 0))
        if i:
            widths.append(state[f"stages.{i}.0.0.weight"].shape[0])
    return widths, depths


def build(state: Mapping[str, Tensor], settings: Mapping[str, str] | None = None) -> GenderNet:
    """A net of the state dict's own widths and depths, with its weights; there is nothing to set.

    Raises:
        ValueError: the head is no part of the crop, or weights are missing, left over or of another shape.
    """
    widths, depths = trunk_shape(state)
    head = None if "head" not in state else state["head"].double().tolist()
    if head is not None and not (len(head) == 4 and 0 <= head[0] < head[2] <= 1 and 0 <= head[1] < head[3] <= 1):
        raise ValueError(f"its head is {head}, expected x0, y0, x1, y1 from 0 to 1")
    with torch.device("meta"):
        net = GenderNet(widths, depths, state["fc.weight"].shape[0], head)
    return fill(net, state)
