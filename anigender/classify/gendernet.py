"""The embedded gender classifier: a plain residual net for small head crops.

Full 3x3 convolutions rather than depthwise ones: on CPUs they reach several times the arithmetic rate, and the net
is small either way (He et al., "Deep Residual Learning for Image Recognition", 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..detect.headnet import Residual, conv

WIDTHS = (32, 64, 160, 224)
DEPTHS = (1, 2, 3, 2)


class GenderNet(nn.Module):
    """Two logits (female, male) from normalised RGB head crops.

    Args:
        widths: channels of the four stages, at strides 2, 4, 8 and 16.
        depths: residual blocks of each stage.
        classes: outputs.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS, classes: int = 2) -> None:
        super().__init__()
        self.stem = conv(3, widths[0], 2)
        stages = []
        before = widths[0]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            down = [] if i == 0 else [conv(before, width, 2)]
            stages.append(nn.Sequential(*down, *(Residual(width) for _ in range(depth))))
            before = width
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(before, classes)

    def features(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` to the pooled activations ``[B, widths[-1]]``."""
        return self.stages(self.stem(x)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` to logits ``[B, classes]``."""
        return self.fc(self.features(x))


def matches(keys: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is this architecture's."""
    return {"stem.0.weight", "stages.0.0.first.0.weight", "fc.weight"} <= keys.keys()


def build(state: Mapping[str, Tensor], settings: Mapping[str, str] | None = None) -> GenderNet:
    """A net of the state dict's own widths and depths, with its weights; there is nothing to set."""
    widths, depths = [state["stem.0.weight"].shape[0]], []
    for i in range(4):
        blocks = {int(name.split(".")[2]) for name in state if name.startswith(f"stages.{i}.")}
        depths.append(len(blocks) - (i > 0))
        if i:
            widths.append(state[f"stages.{i}.0.0.weight"].shape[0])
    with torch.device("meta"):
        net = GenderNet(widths, depths, state["fc.weight"].shape[0])
    net.load_state_dict(
        {
            name: state[name].float() if name in state else torch.zeros((), dtype=torch.int64)
            for name in net.state_dict()
            if name in state or name.endswith("num_batches_tracked")
        },
        assign=True,
    )
    return net
