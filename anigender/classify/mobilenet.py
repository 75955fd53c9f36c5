"""MobileNetV2 and V3, read off a checkpoint (Sandler et al., 2018; Howard et al., 2019).

Widths, kernels, expansions and squeeze-and-excitation are in the weights' shapes. Strides and activations are not: they
come from the papers' tables, by the number of blocks, so that any width multiplier is recognised but no other layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .state import State, build_head, fill, inputs_of, outputs_of, prefix_of, split

ANCHOR_V2 = "features.1.conv.0.0.weight"
ANCHOR_V3 = "features.1.block.0.0.weight"
BACKBONE = r"features\."


class Plan(NamedTuple):
    """A block: channels it takes, expands to and gives, kernel, stride, and channels of the squeeze (0: none)."""

    before: int
    inner: int
    outer: int
    kernel: int
    stride: int
    squeeze: int = 0
    hard: bool = False  # hard swish rather than the plain activation


def _plans(rows: tuple[tuple[int, int, int, int, int, bool], ...]) -> list[Plan]:
    """Rows of kernel, inner, outer, squeeze, stride, hard to plans."""
    before = (rows[0][2], *(row[2] for row in rows[:-1]))
    return [Plan(b, i, o, k, s, q, h) for b, (k, i, o, q, s, h) in zip(before, rows, strict=True)]


# Kernel, inner, outer, squeeze, stride, hard swish: tables 1 and 2 of the paper; squeezes are a quarter, by eights.
LARGE = _plans((
    (3, 16, 16, 0, 1, False), (3, 64, 24, 0, 2, False), (3, 72, 24, 0, 1, False), (5, 72, 40, 24, 2, False),
    (5, 120, 40, 32, 1, False), (5, 120, 40, 32, 1, False), (3, 240, 80, 0, 2, True), (3, 200, 80, 0, 1, True),
    (3, 184, 80, 0, 1, True), (3, 184, 80, 0, 1, True), (3, 480, 112, 120, 1, True), (3, 672, 112, 168, 1, True),
    (5, 672, 160, 168, 2, True), (5, 960, 160, 240, 1, True), (5, 960, 160, 240, 1, True),
))  # fmt: skip
SMALL = _plans((
    (3, 16, 16, 8, 2, False), (3, 72, 24, 0, 2, False), (3, 88, 24, 0, 1, False), (5, 96, 40, 24, 2, True),
    (5, 240, 40, 64, 1, True), (5, 240, 40, 64, 1, True), (5, 120, 48, 32, 1, True), (5, 144, 48, 40, 1, True),
    (5, 288, 96, 72, 2, True), (5, 576, 96, 144, 1, True), (5, 576, 96, 144, 1, True),
))  # fmt: skip


def _second() -> list[Plan]:
    """Table 2 of MobileNetV2: expansion, channels, repeats, stride."""
    plans, before = [], 32
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, width, repeats, stride in rows:
        for i in range(repeats):
            plans.append(Plan(before, before * expansion, width, 3, 1 if i else stride))
            before = width
    return plans


V2 = _second()
LAYOUTS = {"mobilenet_v2": V2, "mobilenet_v3_large": LARGE, "mobilenet_v3_small": SMALL}


def unit(
    before: int, width: int, kernel: int, stride: int, groups: int, eps: float, act: nn.Module | None
) -> nn.Module:
    """Convolution, batch norm and perhaps an activation."""
    conv = nn.Conv2d(before, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width, eps=eps), *([act] if act is not None else []))


class Squeeze(nn.Module):
    """Squeeze and excitation (Hu et al., 2018) with a hard sigmoid."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.fc2 = nn.Conv2d(inner, width, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of ``[B, C, H, W]``."""
        return x * self.gate(self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()))


class InvertedResidual(nn.Module):
    """1x1 expansion (where there is one), depthwise convolution, squeeze, 1x1 projection."""

    def __init__(self, plan: Plan, third: bool) -> None:
        super().__init__()
        eps = 1e-3 if third else 1e-5
        act: type[nn.Module] = nn.ReLU if third else nn.ReLU6
        act = nn.Hardswish if plan.hard else act
        inner = plan.inner
        layers: list[nn.Module] = [unit(plan.before, inner, 1, 1, 1, eps, act())] if inner != plan.before else []
        layers.append(unit(inner, inner, plan.kernel, plan.stride, inner, eps, act()))
        if plan.squeeze:
            layers.append(Squeeze(inner, plan.squeeze))
        if third:
            self.block = nn.Sequential(*layers, unit(inner, plan.outer, 1, 1, 1, eps, None))
        else:
            self.conv = nn.Sequential(*layers, *unit(inner, plan.outer, 1, 1, 1, eps, None).children())
        self.third = third
        self.residual = plan.stride == 1 and plan.before == plan.outer

    def forward(self, x: Tensor) -> Tensor:
        """``[B, before, H, W]`` to ``[B, outer, H / stride, W / stride]``."""
        y = self.block(x) if self.third else self.conv(x)
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """Logits from normalised pictures.

    Args:
        plans: the blocks.
        last: channels of the last convolution.
        third: version 3 rather than 2.
        head: what is behind the pooled features.
        name: of :data:`LAYOUTS`.
    """

    def __init__(self, plans: list[Plan], last: int, third: bool, head: nn.Module, name: str) -> None:
        super().__init__()
        eps = 1e-3 if third else 1e-5
        act: type[nn.Module] = nn.Hardswish if third else nn.ReLU6
        self.features = nn.Sequential(
            unit(3, plans[0].before, 3, 2, 1, eps, act()),
            *(InvertedResidual(plan, third) for plan in plans),
            unit(plans[-1].outer, last, 1, 1, 1, eps, act()),
        )
        if inputs_of(head) != last:
            raise ValueError(f"its head takes {inputs_of(head)} values, the backbone gives {last}")
        self.classifier = head
        self.variant = f"{name}, {outputs_of(head)} outputs"

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, outputs]``."""
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet(name: str, outputs: int = 2) -> MobileNet:
    """An untrained net of :data:`LAYOUTS`."""
    plans = LAYOUTS[name]
    if name == "mobilenet_v2":
        return MobileNet(plans, 1280, False, nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, outputs)), name)
    last, hidden = 6 * plans[-1].outer, 1280 if name == "mobilenet_v3_large" else 1024
    layers = (nn.Linear(last, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, outputs))
    return MobileNet(plans, last, True, nn.Sequential(*layers), name)


def matches_v2(state: State) -> bool:
    """Whether a state dict looks like MobileNetV2's."""
    return prefix_of(state, ANCHOR_V2) is not None


def matches_v3(state: State) -> bool:
    """Whether a state dict looks like MobileNetV3's."""
    return prefix_of(state, ANCHOR_V3) is not None


def build_v2(state: State, settings: Mapping[str, str] | None = None) -> MobileNet:
    """MobileNetV2 of the state dict's own widths, with its weights; settings: ``head_activation``."""
    return _build(state, ANCHOR_V2, (settings or {}).get("head_activation", "relu"))


def build_v3(state: State, settings: Mapping[str, str] | None = None) -> MobileNet:
    """MobileNetV3, large or small, of the state dict's own widths, with its weights; settings: ``head_activation``."""
    return _build(state, ANCHOR_V3, (settings or {}).get("head_activation", "hardswish"))


def _build(state: State, anchor: str, activation: str) -> MobileNet:
    prefix = prefix_of(state, anchor)
    assert prefix is not None, "build() needs a state dict that matches()"
    backbone, head_weights = split(state, prefix, BACKBONE)
    third = anchor == ANCHOR_V3
    count = len({key.split(".")[1] for key in backbone}) - 2
    known = {len(plans): name for name, plans in LAYOUTS.items() if ("v3" in name) == third}
    if count not in known:
        shown = " or ".join(f"{blocks} ({name})" for blocks, name in known.items())
        raise ValueError(f"it has {count} blocks, expected {shown}: its strides cannot be told")
    plans = [_plan(backbone, i + 1, third, plan) for i, plan in enumerate(LAYOUTS[known[count]])]
    head = build_head(head_weights, activation)
    last = backbone.get(f"features.{count + 1}.0.weight")
    if last is None:
        raise ValueError(f"the checkpoint lacks features.{count + 1}.0.weight")
    with torch.device("meta"):
        net = MobileNet(plans, last.shape[0], third, head, known[count])
    return fill(net, backbone | {f"classifier.{name}": value for name, value in head.state_dict().items()})


def _plan(backbone: State, place: int, third: bool, usual: Plan) -> Plan:
    """The block at this place: its sizes from the weights, the rest as the paper has it."""
    name = f"features.{place}.{'block' if third else 'conv'}."
    own = {key: value for key, value in sorted(backbone.items()) if key.startswith(name) and value.ndim == 4}
    kernels = [value for key, value in own.items() if ".fc" not in key]
    deep = [kernel for kernel in kernels if kernel.shape[1] == 1 and kernel.shape[-1] > 1]
    flat = [kernel for kernel in kernels if kernel.shape[-1] == 1]  # expansion, where there is one, and projection
    if len(deep) != 1 or len(flat) not in (1, 2):
        raise ValueError(f"its {name[:-1]} is no inverted residual block")
    inner = deep[0].shape[0]
    before = flat[0].shape[1] if len(flat) == 2 else inner
    squeeze = next((value.shape[0] for key, value in own.items() if key.endswith("fc1.weight")), 0)
    return Plan(before, inner, flat[-1].shape[0], deep[0].shape[-1], usual.stride, squeeze, usual.hard)
