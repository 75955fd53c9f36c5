"""Convolutions in eight bits, on CPUs that multiply them natively: several times as fast as in float32.

What lies between two layers is counted in 256 steps, the weights of an output channel in 255 (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018; Krishnamoorthi,
"Quantizing deep convolutional networks for efficient inference", 2018). How large a step is follows from how large the
activations of pictures were that the net was shown once (:mod:`anigender.ranges`), and stands in its weights file: it
depends on no other picture of a batch, and as sums of whole numbers are not rounded, neither does an answer.

The kernels are oneDNN's as PyTorch's own compiler calls them, no public interface: like those of
:mod:`anigender.fused` they are tried once on a small case, and where they are missing or wrong nets stay in floats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fused import ACTIVATIONS, FusedConv2d, in_order

RANGES = "anigender.ranges"  # of a weights file's metadata
LARGEST = 1e6  # of an activation that any net could mean
STEPS = 255
SMALL_MAP = 90  # pixels; measured, with oneDNN 3: 9 x 9 are few, 10 x 10 and 4 x 32 are many


class Range(NamedTuple):
    """Between which values what a convolution reads and gives lies.

    Attributes:
        low, high: of its input; 0 lies between them.
        shortcut: the highest value of what is added to its output; 0 where nothing is, or nothing counted in steps.
        output: the highest value it gives, where only other convolutions read it and it is never negative; else 0,
            and the output is in floats.
    """

    low: float
    high: float
    shortcut: float = 0.0
    output: float = 0.0

    @property
    def step(self) -> float:
        """Between two values of the input."""
        return (self.high - self.low) / STEPS or 1.0

    @property
    def zero(self) -> int:
        """The number that stands for 0, as nearly as a whole one can."""
        return round(-self.low / self.step)


def written(ranges: Mapping[str, Range]) -> dict[str, str]:
    """Ranges as metadata of a weights file."""
    return {RANGES: json.dumps({name: [float(f"{v:.5g}") for v in own] for name, own in ranges.items()})}


def declared(metadata: Mapping[str, str], prefix: str = "") -> dict[str, Range]:
    """The ranges by convolution that a file's metadata declare; of names with a prefix, without it. None: empty.

    Raises:
        ValueError: they make no sense.
    """
    text = metadata.get(RANGES)
    if text is None:
        return {}
    try:
        rows = {str(name): Range(*(float(v) for v in own)) for name, own in json.loads(text).items()}
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as error:
        expected = "[low, high, shortcut, output] by name"
        raise ValueError(f"metadata {RANGES} is {text[:80]!r}, expected {expected}") from error
    for name, own in rows.items():
        if not (all(abs(v) <= LARGEST for v in own) and own.low <= 0 <= own.high and min(own[2:]) >= 0):
            raise ValueError(f"metadata {RANGES} gives {name[:80]!r} the range {list(own)}, which no net needs")
    return {name.removeprefix(prefix): own for name, own in rows.items() if name.startswith(prefix)}


class QuantisedConv2d(FusedConv2d):
    """A fused convolution that computes in eight bits on the CPU, and elsewhere as the fused one does.

    Takes floats, or what another of its kind gave for it: numbers of steps as uint8.

    Args:
        conv: whose weights it takes over, not copied.
        own: between which values what it reads and gives lies.
    """

    def __init__(self, conv: FusedConv2d, own: Range) -> None:
        super().__init__(conv)
        self.activation = conv.activation
        self.own = own
        self._counted = Counted()

    def _forget(self) -> None:
        super()._forget()
        self._counted = Counted()

    def forward(self, x: Tensor, shortcut: Tensor | None = None, activation: type[nn.Module] | None = None) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C', H', W']``, as of the fused one; uint8 where its range has an output."""
        if x.dtype != torch.uint8 and not self._counts(x):
            return super().forward(x, shortcut, activation)
        own = self.own
        behind = ACTIVATIONS[activation or self.activation]
        if x.dtype != torch.uint8:
            x = in_steps(x, own)
        where = (self.stride, self.padding, self.dilation, self.groups)
        given = (x, own.step, own.zero, *self._counted.weights(self, x.shape))
        kernels = torch.ops.onednn.qconv2d_pointwise
        made_as: tuple[Any, ...] = (own.output / STEPS, 0, torch.uint8) if own.output else (1.0, 0, torch.float32)
        if shortcut is None:
            return kernels.default(*given, *where, *made_as, behind.name, behind.limits, "")
        counted = shortcut.dtype == torch.uint8 and in_order(shortcut)
        if counted and own.output and behind.name in ("none", "relu"):
            added: tuple[Any, ...] = (own.shortcut / STEPS, 0, "sum", 1.0, behind.name, [], "")
            return kernels.binary(*given[:-1], shortcut, given[-1], *where, *made_as, *added)
        made = kernels.default(*given, *where, 1.0, 0, torch.float32, "none", [], "")
        made = behind.in_place(made.add_(shortcut, alpha=own.shortcut / STEPS if counted else 1.0))
        return in_steps(made, Range(0.0, own.output)) if own.output else made

    def reads_pictures(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        """Whether the steps of what it reads are those of an eight-bit picture, normalised by ``mean`` and ``std``."""
        ends = [(-m / s, (1 - m) / s) for m, s in zip(mean, std, strict=True)]
        return all(abs(low - self.own.low) + abs(high - self.own.high) < 1e-3 for low, high in ends)

    def _counts(self, x: Tensor) -> bool:
        return (
            not torch.jit.is_tracing()
            and type(x) is Tensor  # no stand-in of whoever looks at how things are computed
            and x.is_cpu
            and self.weight.is_cpu
            and x.numel() > 0
            and not (torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad))
        )


class Counted:
    """A convolution's weights in steps, in the orders in which they are read for small and for large maps.

    oneDNN has one order for maps of up to some 90 pixels and another one for larger ones; weights in the wrong order
    are put in order at every call, which takes twenty times as long as the rest.
    """

    def __init__(self) -> None:
        self.held: dict[bool, tuple[int, tuple[Any, ...]]] = {}  # and the state of the weights it was made of

    def weights(self, conv: QuantisedConv2d, shape: torch.Size) -> tuple[Any, ...]:
        """For an input of that shape: packed weights, the step of each output channel, their zeros, and the bias."""
        small = shape[2] * shape[3] <= SMALL_MAP * conv.stride[0] * conv.stride[1]
        parameters = (conv.weight,) if conv.bias is None else (conv.weight, conv.bias)
        state = sum(0 if own.is_inference() else own._version for own in parameters)
        held = self.held.get(small)
        if held is None or held[0] != state:
            held = self.held[small] = state, _packed(conv, shape)
        return held[1]

    def __deepcopy__(self, memo: Any) -> Counted:
        return Counted()

    def __reduce__(self) -> Any:
        return Counted, ()  # what it holds cannot be written, and is soon made again


def _packed(conv: QuantisedConv2d, shape: torch.Size) -> tuple[Any, ...]:
    own, weight = conv.own, conv.weight.detach().float()
    steps = (weight.abs().amax((1, 2, 3)) / 127).clamp(min=1e-12)
    whole = (weight / steps[:, None, None, None]).round().to(torch.int8)
    where = (conv.stride, conv.padding, conv.dilation, conv.groups)
    packed = torch.ops.onednn.qconv_prepack(whole, steps, own.step, own.zero, *where, list(shape))
    # What stands for 0 is a whole number; the part of a step by which that is off is the same for all, like a bias.
    off = own.zero * own.step + own.low
    bias = off * weight.sum((1, 2, 3))
    if conv.bias is not None:
        bias = bias + conv.bias.detach().float()
    return packed, steps, torch.zeros(len(steps), dtype=torch.int32), bias


def in_steps(x: Tensor, own: Range) -> Tensor:
    """Floats ``[B, C, H, W]`` as numbers of steps, uint8; what is out of range is clipped."""
    counted = (x * (1 / own.step)).add_(0.5 - own.low / own.step)
    return counted.clamp_(0, STEPS).to(torch.uint8)  # which cuts off what is behind the point


@cache
def eight_bits_pay() -> bool:
    """Whether this CPU multiplies eight bits natively, and this PyTorch has the kernels, and their answers are right.

    The CPU is asked, never guessed: without the instructions eight bits are hardly faster than floats, and kernels
    that make do may overflow.
    """
    if not getattr(torch.cpu, "_is_vnni_supported", lambda: False)():
        return False
    generator = torch.Generator().manual_seed(0)
    x, shortcut = (torch.rand(2, 4, 6, 6, generator=generator).contiguous(memory_format=torch.channels_last),) * 2
    plain = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    plain.weight.copy_(torch.randn(plain.weight.shape, generator=generator))
    expected = F.conv2d(x, plain.weight, plain.bias, padding=1)
    highest = float(expected.max()) + 1
    try:
        for output in (0.0, highest):
            conv = QuantisedConv2d(FusedConv2d(plain), Range(0.0, 1.0, 1.0, output))
            step = output / STEPS or 1.0
            clipped, summed = (conv(x, added, nn.ReLU) for added in (None, in_steps(shortcut, Range(0.0, 1.0))))
            for found, wanted in ((clipped, expected.relu()), (summed, (expected + shortcut).relu())):
                if not torch.allclose(found * step, wanted, rtol=0, atol=0.15):
                    return False
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return True


def quantise(net: nn.Module, ranges: Mapping[str, Range]) -> None:
    """Let the :class:`~anigender.fused.FusedConv2d` of a frozen net of which ranges are known compute in eight bits.

    Raises:
        ValueError: ranges of convolutions that it has not.
    """
    convolutions = {name: module for name, module in net.named_modules() if type(module) is FusedConv2d}
    for name, own in ranges.items():
        if name not in convolutions:
            raise ValueError(f"metadata {RANGES} names {name[:80]!r}, which is no convolution of this net")
        above, _, last = name.rpartition(".")
        setattr(net.get_submodule(above), last, QuantisedConv2d(convolutions[name], own))
