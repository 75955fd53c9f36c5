"""ResNet-18 to -152 and its kin, read off a checkpoint (He et al., "Deep Residual Learning for Image Recognition").

Everything a state dict shows is taken from it: block type, depths, widths, groups (ResNeXt), the stem (7x7, 3x3, or
three 3x3 as in He et al., "Bag of Tricks", 2019) and the head. Not to be seen are strides: a stem of one 3x3 is taken
for the usual one of small pictures (stride 1, no pooling), and bottlenecks stride in their 3x3 (version 1.5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..fused import convolved
from .state import State, build_head, fill, inputs_of, outputs_of, prefix_of, split

ANCHOR = "layer1.0.conv1.weight"
LISTED_ANCHOR = "4.0.conv1.weight"  # where the children were put into a list
BACKBONE = r"(conv1|bn1|layer\d+)\."
LISTED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
# The keys of transformers' ResNetForImageClassification; #i is i + 1.
_LAYER = r"^(.*?)(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\."
RENAMES = (
    (r"^(.*?)(?:resnet\.)?embedder\.embedder\.convolution\.", r"\1conv1."),
    (r"^(.*?)(?:resnet\.)?embedder\.embedder\.normalization\.", r"\1bn1."),
    (_LAYER + r"shortcut\.convolution\.", r"\1layer#\2.\3.downsample.0."),
    (_LAYER + r"shortcut\.normalization\.", r"\1layer#\2.\3.downsample.1."),
    (_LAYER + r"layer\.(\d+)\.convolution\.", r"\1layer#\2.\3.conv#\4."),
    (_LAYER + r"layer\.(\d+)\.normalization\.", r"\1layer#\2.\3.bn#\4."),
)
DEPTHS = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}


class Stage(NamedTuple):
    """One of a net's stages: its blocks, the channels inside and behind each, and the groups of its 3x3 kernels."""

    depth: int
    inner: int
    outer: int
    groups: int = 1


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1, around a shortcut."""

    def __init__(self, before: int, stage: Stage, bottleneck: bool, stride: int, average: bool) -> None:
        super().__init__()
        inner, outer = stage.inner, stage.outer
        if bottleneck:
            self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(inner)
            self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=stage.groups, bias=False)
            self.bn2 = nn.BatchNorm2d(inner)
            self.conv3 = nn.Conv2d(inner, outer, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outer)
        else:
            self.conv1 = nn.Conv2d(before, inner, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(inner)
            self.conv2 = nn.Conv2d(inner, outer, 3, 1, 1, groups=stage.groups, bias=False)
            self.bn2 = nn.BatchNorm2d(outer)
        self.bottleneck = bottleneck
        self.downsample: nn.Module | None = None
        if stride != 1 or before != outer:
            pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False) if stride != 1 else nn.Identity()
            kernel = nn.Conv2d(before, outer, 1, 1 if average else stride, bias=False)
            norm = nn.BatchNorm2d(outer)
            self.downsample = nn.Sequential(pool, kernel, norm) if average else nn.Sequential(kernel, norm)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, outer, H / stride, W / stride]``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = convolved(self.conv1, self.bn1, x)
        if not self.bottleneck:
            return convolved(self.conv2, self.bn2, x, shortcut)
        return convolved(self.conv3, self.bn3, convolved(self.conv2, self.bn2, x), shortcut)


class ResNet(nn.Module):
    """Logits from normalised pictures.

    Args:
        stages: usually four, at strides 4, 8, 16 and 32.
        bottleneck: blocks of three convolutions rather than two.
        stem: the kernel size of the first convolution, or the widths of the three of a deep stem.
        width: channels behind the stem.
        pooled: the stem strides and pools: strides 2 and 2 rather than none.
        average: shortcuts average before their 1x1 convolution rather than striding in it.
        head: what is behind the pooled features; a linear layer of two outputs where None.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        bottleneck: bool,
        stem: int | tuple[int, int] = 7,
        width: int = 64,
        pooled: bool = True,
        average: bool = False,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        stride = 2 if pooled else 1
        if isinstance(stem, int):
            self.conv1: nn.Module = nn.Conv2d(3, width, stem, stride, stem // 2, bias=False)
        else:
            self.conv1 = nn.Sequential(
                nn.Conv2d(3, stem[0], 3, stride, 1, bias=False),
                nn.BatchNorm2d(stem[0]),
                nn.ReLU(),
                nn.Conv2d(stem[0], stem[1], 3, 1, 1, bias=False),
                nn.BatchNorm2d(stem[1]),
                nn.ReLU(),
                nn.Conv2d(stem[1], width, 3, 1, 1, bias=False),
            )
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pooled else nn.Identity()
        before = width
        for i, stage in enumerate(stages):
            blocks = []
            for j in range(stage.depth):
                blocks.append(Block(before, stage, bottleneck, 2 if i and not j else 1, average))
                before = stage.outer
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.layers = len(stages)
        self.fc = nn.Linear(before, 2) if head is None else head
        self.concatenated = inputs_of(self.fc) == 2 * before  # fastai's pooling: largest values, then means
        kind = (bottleneck, tuple(stage.depth for stage in stages))
        plain = next((name for name, known in DEPTHS.items() if known == kind), f"resnet {kind[1]}")
        self.variant = f"{plain}{'' if stem == 7 and not average else ' (another stem)'}"

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, outputs]``."""
        x = self.maxpool(convolved(self.conv1, self.bn1, x))
        for i in range(self.layers):
            x = getattr(self, f"layer{i + 1}")(x)
        pooled = x.mean((2, 3))
        return self.fc(torch.cat((x.amax((2, 3)), pooled), 1) if self.concatenated else pooled)


def resnet(name: str, outputs: int = 2) -> ResNet:
    """An untrained net of :data:`DEPTHS`."""
    bottleneck, depths = DEPTHS[name]
    outer = 4 if bottleneck else 1
    stages = [Stage(depth, 64 << i, (64 << i) * outer) for i, depth in enumerate(depths)]
    return ResNet(stages, bottleneck, head=nn.Linear(512 * outer, outputs))


def _usual_keys(state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """Backbone and head with the usual keys; None for another architecture."""
    if any("embedder.embedder.convolution" in key for key in state):
        state = {_renamed(key): value for key, value in state.items()}
    prefix = prefix_of(state, ANCHOR)
    if prefix is None:
        prefix = prefix_of(state, LISTED_ANCHOR)
        if prefix is None:
            return None
        state = {_unlisted(key, prefix): value for key, value in state.items()}
    backbone, head = split(state, prefix, BACKBONE)
    return (backbone, head) if {"conv1.weight", "conv1.0.weight"} & backbone.keys() else None


def _renamed(key: str) -> str:
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return re.sub(r"#(\d+)", lambda found: str(int(found[1]) + 1), key)


def _unlisted(key: str, prefix: str) -> str:
    first, dot, rest = key[len(prefix) :].partition(".")
    return f"{prefix}{LISTED[first]}.{rest}" if key.startswith(prefix) and dot and first in LISTED else key


def matches(state: State) -> bool:
    """Whether a state dict looks like this architecture's."""
    return _usual_keys(state) is not None


def build(state: State, settings: Mapping[str, str] | None = None) -> ResNet:
    """A net of the state dict's own shape, with its weights.

    Args:
        state: see :func:`matches`.
        settings: ``head_activation`` (see :func:`~.state.build_head`); ``stem`` is ``strided`` or ``plain`` where a
            3x3 or 7x7 stem is not what its size suggests.

    Raises:
        ValueError: a relative with parts that this architecture has not.
    """
    found = _usual_keys(state)
    assert found is not None, "build() needs a state dict that matches()"
    backbone, head_weights = found
    settings = settings or {}
    bottleneck = "layer1.0.conv3.weight" in backbone
    stages: list[Stage] = []
    while any(key.startswith(f"layer{len(stages) + 1}.") for key in backbone):
        name = f"layer{len(stages) + 1}"
        depth = len({key.split(".")[1] for key in backbone if key.startswith(name + ".")})
        last = backbone.get(f"{name}.0.conv{3 if bottleneck else 2}.weight")
        middle = backbone.get(f"{name}.0.conv2.weight")
        if last is None or middle is None or middle.ndim != 4:
            raise ValueError(f"its {name} has no convolutions like a ResNet's")
        groups = max(1, (middle.shape[0] if bottleneck else middle.shape[1]) // max(1, middle.shape[1]))
        inner = middle.shape[0] if bottleneck else middle.shape[1]
        stages.append(Stage(depth, inner, last.shape[0], groups))
    single = backbone.get("conv1.weight")
    stem: int | tuple[int, int]
    if single is not None:
        stem, width = single.shape[-1], single.shape[0]
    else:
        thin = [backbone.get(f"conv1.{i}.weight", torch.empty(0)) for i in (0, 3, 6)]
        if any(kernel.ndim != 4 for kernel in thin):
            raise ValueError("its stem is neither one convolution nor three")
        stem, width = (thin[0].shape[0], thin[1].shape[0]), thin[2].shape[0]
    kinds = {"strided": True, "plain": False, "auto": stem != 3}
    kind = settings.get("stem", "auto")
    if kind not in kinds:
        raise ValueError(f"stem is {kind!r}, expected one of {', '.join(kinds)}")
    average = any(re.fullmatch(r"layer\d+\.0\.downsample\.2\.weight", key) for key in backbone)
    head = build_head(head_weights, settings.get("head_activation", "relu"))
    features = stages[-1].outer
    if inputs_of(head) not in (features, 2 * features):
        raise ValueError(f"its head takes {inputs_of(head)} values, the backbone gives {features}")
    with torch.device("meta"):
        net = ResNet(stages, bottleneck, stem, width, kinds[kind], average, head)
    fill(net, backbone | {f"fc.{name}": value for name, value in head.state_dict().items()})
    net.variant += f", {outputs_of(head)} outputs"
    return net
