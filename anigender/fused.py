"""Convolutions that add a shortcut and activate in the same kernel, where the CPU's library can.

Between two layers of a small net there is little to compute and much to read and write; a kernel that adds and clips
what it holds anyway saves that (compilers call it epilogue fusion). PyTorch has such kernels of oneDNN's for its own
compiler. They are no public interface, so they are tried once, on a small case whose answer is known, and where they
are missing or wrong the same is computed in steps. They also take weights in the order in which they are read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Activation(NamedTuple):
    """What oneDNN calls it, with what limits, and the same on a tensor that may be overwritten."""

    name: str
    limits: list[float]
    in_place: Callable[[Tensor], Tensor]


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Identity: Activation("none", [], lambda x: x),
    nn.ReLU: Activation("relu", [], torch.relu_),
    nn.ReLU6: Activation("hardtanh", [0.0, 6.0], partial(F.relu6, inplace=True)),
    nn.Hardswish: Activation("hardswish", [], partial(F.hardswish, inplace=True)),
}
AFTER_SUMS = {"none": None, "relu": "relu"}  # the others follow in a step of their own
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}  # of the trial, which all who compute in these types must pass
SMALL = 20_480  # numbers in a single picture's activations, below which PyTorch does not ask oneDNN, with good reason


class FusedConv2d(nn.Conv2d):
    """A convolution with what follows it; its weights and their names are those of the plain one.

    On a CPU, where nobody learns or traces, one kernel does all. Anywhere else it is done in steps, the
    later ones in place.

    Args:
        conv: whose weights it takes over, not copied.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        shape = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        super().__init__(*shape, conv.groups, conv.bias is not None, device="meta")  # type: ignore[arg-type]
        self.weight, self.bias = conv.weight, conv.bias
        self.activation: type[nn.Module] = nn.Identity
        self._packed = Packed()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = self.weight
        place = before.data_ptr()
        result = super()._apply(fn, recurse)
        if self.weight is not before or self.weight.data_ptr() != place:  # a host may ask for no change at all, often
            self._forget()
        return result

    def _forget(self) -> None:
        """Let go of what was made of weights that are no more."""
        self._packed = Packed()

    def forward(self, x: Tensor, shortcut: Tensor | None = None, activation: type[nn.Module] | None = None) -> Tensor:
        """``[B, C, H, W]`` to ``[B, C', H', W']``.

        Args:
            x: the picture or activations.
            shortcut: added before the activation, and perhaps overwritten.
            activation: one of :data:`ACTIVATIONS` rather than its own.
        """
        behind = ACTIVATIONS[activation or self.activation]
        if not self._fuses(x) or not (shortcut is None or in_order(shortcut)):
            x = super().forward(x)
            if shortcut is not None:
                x += shortcut
            return behind.in_place(x)
        where = (self.padding, self.stride, self.dilation, self.groups)
        weight = self._packed.weight(self.weight, where, x.shape)
        if shortcut is None:
            kernel = torch.ops.mkldnn._convolution_pointwise.default
            return kernel(x, weight, self.bias, *where, behind.name, behind.limits, "")
        kernel = torch.ops.mkldnn._convolution_pointwise_.binary
        clip = AFTER_SUMS.get(behind.name)
        total = kernel(shortcut, x, weight, self.bias, *where, "add", 1.0, clip, [], None)
        return total if behind.name in AFTER_SUMS else behind.in_place(total)

    def _fuses(self, x: Tensor) -> bool:
        return (
            not torch.jit.is_tracing()
            and type(x) is Tensor  # no stand-in of whoever looks at how things are computed
            and x.is_cpu
            and self.weight.is_cpu
            and x.dtype == self.weight.dtype
            and in_order(x)
            and (x.numel() > SMALL or (len(x) > 1 and x.numel() > 0))
            and not (torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad))
            and kernels_work(x.dtype)
        )


def in_order(x: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side, as the kernels want them."""
    return x.is_contiguous(memory_format=torch.channels_last)


class Packed:
    """A kernel's weights in the order in which they are read, for the shape of input that last came twice in a row.

    The order that is best for one shape may be many times slower for another, so others get the weights as they are,
    which are then put in order every time.
    """

    def __init__(self) -> None:
        self.last: tuple[torch.Size, int] | None = None  # a shape, and the state of the weights
        self.held: tuple[tuple[torch.Size, int], Tensor] | None = None

    def weight(self, plain: Tensor, where: tuple[Any, ...], shape: torch.Size) -> Tensor:
        """The weights for an input of that shape: packed or ``plain``; ``where`` is padding, stride and so on."""
        now = (shape, 0 if plain.is_inference() else plain._version)
        held, again = self.held, now == self.last
        self.last = now
        if held is not None and held[0] == now:
            return held[1]
        if not again:
            return plain
        packed = torch.ops.mkldnn._reorder_convolution_weight(plain, *where, list(shape))
        self.held = now, packed
        return packed

    def __deepcopy__(self, memo: Any) -> Packed:
        return Packed()

    def __reduce__(self) -> Any:
        return Packed, ()  # what it holds cannot be written, and is soon made again


@cache
def kernels_work(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has the kernels, with the arguments they are given here, and their answers are right."""
    if dtype not in TOLERANCE:
        return False
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 6, 6), (2, 4, 6, 6), (4, 4, 3, 3), (4,))
    x, shortcut, weight, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    x, shortcut = (value.contiguous(memory_format=torch.channels_last) for value in (x, shortcut))
    where = ([1, 1], [1, 1], [1, 1], 1)
    plain = F.conv2d(x, weight, bias, padding=1)
    try:
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *where, list(x.shape))
        clipped = torch.ops.mkldnn._convolution_pointwise.default(x, packed, bias, *where, "relu", [], "")
        kernel = torch.ops.mkldnn._convolution_pointwise_.binary
        summed = kernel(shortcut.clone(), x, packed, bias, *where, "add", 1.0, "relu", [], None)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    margin = TOLERANCE[dtype]
    right = torch.allclose(clipped, plain.relu(), margin, margin)
    return right and torch.allclose(summed, (plain + shortcut).relu(), margin, margin)


def fuse(net: nn.Module) -> None:
    """Turn every convolution of a frozen net into a :class:`FusedConv2d`, with the activation behind it if in one
    ``Sequential``.

    Norms must be folded before. What else a net does with its convolutions it says by :func:`convolved`.
    """
    for name, child in list(net.named_children()):
        fuse(child)
        if type(child) is nn.Conv2d and not isinstance(child.padding, str) and child.padding_mode == "zeros":
            setattr(net, name, FusedConv2d(child))
    if isinstance(net, nn.Sequential):
        kept = [i for i, layer in enumerate(net) if not isinstance(layer, nn.Identity)]
        for place, behind in zip(kept, kept[1:], strict=False):
            layer = net[place]
            if isinstance(layer, FusedConv2d) and type(net[behind]) in ACTIVATIONS:
                layer.activation = type(net[behind])
                net[behind] = nn.Identity()


def convolved(conv: nn.Module, norm: nn.Module, x: Tensor, shortcut: Tensor | None = None, clip: bool = True) -> Tensor:
    """Convolution, norm, shortcut and ReLU: in one kernel where the net is frozen, else one after the other.

    Sums and clips in place, perhaps in ``shortcut``, which nothing may need any more: memory is what this waits for.
    Where the net learns, only what learning needs not is overwritten.
    """
    if isinstance(conv, FusedConv2d) and isinstance(norm, nn.Identity):
        return conv(x, shortcut, nn.ReLU if clip else nn.Identity)
    x = norm(conv(x))
    if shortcut is not None:
        x += shortcut
    return x.relu_() if clip else x
