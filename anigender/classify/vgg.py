"""VGG-11 to -19, with and without batch norms, read off a checkpoint (Simonyan and Zisserman, 2015).

The places of the convolutions in ``features`` say where a batch norm and where a pooling lies between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .pooling import pooled
from .state import State, build_head, fill, inputs_of, outputs_of, prefix_of, split

ANCHOR = "features.0.weight"
BACKBONE = r"features\."
# The names of timm's head, which is made of convolutions over the whole map.
RENAMES = {"pre_logits.fc1.": "classifier.0.", "pre_logits.fc2.": "classifier.3.", "head.fc.": "classifier.6."}
POOL = 0  # among the widths
DEPTHS = {
    "vgg11": (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    "vgg13": (64, 64, POOL, 128, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    "vgg16": (64, 64, POOL, 128, 128, POOL, *[256] * 3, POOL, *[512] * 3, POOL, *[512] * 3, POOL),
    "vgg19": (64, 64, POOL, 128, 128, POOL, *[256] * 4, POOL, *[512] * 4, POOL, *[512] * 4, POOL),
}


class VGG(nn.Module):
    """Logits from normalised pictures.

    Args:
        widths: channels of the convolutions in order, :data:`POOL` for a pooling.
        norms: a batch norm behind each convolution.
        head: what is behind the map of features.
    """

    def __init__(self, widths: Sequence[int], norms: bool, head: nn.Module) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            if width == POOL:
                layers.append(nn.MaxPool2d(2, 2))
                continue
            norm = [nn.BatchNorm2d(width)] if norms else []
            layers += [nn.Conv2d(before, width, 3, padding=1), *norm, nn.ReLU()]
            before = width
        self.features = nn.Sequential(*layers)
        self.side = math.isqrt(inputs_of(head) // before)  # of the map that the head takes
        if self.side**2 * before != inputs_of(head):
            raise ValueError(f"its head takes {inputs_of(head)} values, which is no square map of {before} channels")
        self.classifier = head
        plain = f"vgg{sum(width != POOL for width in widths) + 3}"
        self.variant = f"{plain}{'_bn' if norms else ''}, {outputs_of(head)} outputs"

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, outputs]``."""
        return self.classifier(pooled(self.features(x), self.side).flatten(1))


def vgg(name: str, norms: bool = False, outputs: int = 2, hidden: int = 4096, side: int = 7) -> VGG:
    """An untrained net of :data:`DEPTHS`."""
    layers = (nn.Linear(512 * side * side, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden))
    return VGG(DEPTHS[name], norms, nn.Sequential(*layers, nn.ReLU(), nn.Dropout(), nn.Linear(hidden, outputs)))


def _usual_keys(state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """Backbone and head with the usual keys; None for another architecture."""
    prefix = prefix_of(state, ANCHOR)
    if prefix is None or state[prefix + ANCHOR].shape[1:] != (3, 3, 3):
        return None
    backbone, head = split(state, prefix, BACKBONE)
    if not all(key.split(".")[1].isdigit() and key.count(".") == 2 for key in backbone):
        return None
    for old, new in RENAMES.items():
        head = {new + key[len(old) :] if key.startswith(old) else key: value for key, value in head.items()}
    return backbone, head


def matches(state: State) -> bool:
    """Whether a state dict looks like this architecture's."""
    return _usual_keys(state) is not None


def build(state: State, settings: Mapping[str, str] | None = None) -> VGG:
    """A net of the state dict's own shape, with its weights.

    Args:
        state: see :func:`matches`.
        settings: ``head_activation`` (see :func:`~.state.build_head`).

    Raises:
        ValueError: a relative with parts that this architecture has not.
    """
    found = _usual_keys(state)
    assert found is not None, "build() needs a state dict that matches()"
    backbone, head_weights = found
    norms = any(key.endswith("running_mean") for key in backbone)
    places = sorted(int(key.split(".")[1]) for key, value in backbone.items() if value.ndim == 4)
    step = 3 if norms else 2
    widths: list[int] = []
    for place, after in zip(places, [*places[1:], places[-1] + step + 1], strict=True):
        if after - place not in (step, step + 1):
            raise ValueError(f"its features.{place} and features.{after} are not as far apart as a VGG's")
        widths += [backbone[f"features.{place}.weight"].shape[0]] + [POOL] * (after - place - step)
    head = build_head(head_weights, (settings or {}).get("head_activation", "relu"))
    with torch.device("meta"):
        net = VGG(widths, norms, head)
    return fill(net, backbone | {f"classifier.{name}": value for name, value in head.state_dict().items()})
