"""Getting a trained net ready to answer: folded norms, memory layout, and which precision to compute in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .fused import fuse
from .quantised import Range, eight_bits_pay, quantise

Net = TypeVar("Net", bound=nn.Module)

# What people may ask to compute in; None is :func:`settled`'s own choice.
PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def usable(device: torch.device | str) -> torch.device:
    """The device, once it has proved to be one that this PyTorch can compute on.

    Raises:
        ValueError: it is not. PyTorch itself raises an AssertionError, a RuntimeError or an ImportError, and for some
            parts not before they are used.
    """
    try:
        torch.zeros(0).to(device)
    except (AssertionError, RuntimeError, ImportError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used ({reason}): name one that is there, such as cpu, or install a "
            "build of PyTorch for it"
        ) from error
    return torch.device(device)


def native_dtype(device: torch.device | str) -> torch.dtype:
    """The floats to compute in when nobody says: bfloat16 where the device multiplies it natively, else float32.

    CPUs are asked, never guessed: without the instructions bfloat16 is emulated and several times slower.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float32
    if device.type == "cpu":
        for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            if getattr(torch.cpu, question, lambda: False)():
                return torch.bfloat16
    return torch.float32


def mixed_precision(device: torch.device | str) -> torch.autocast:
    """A context in which nets in float32 compute in :func:`native_dtype`, for training and trials."""
    dtype = native_dtype(device)
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def placed(net: Net, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Net:
    """``net`` on ``device`` in ``dtype``, its kernels channels-last, which convolutions are fastest in."""
    return net.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def fold_batch_norms(net: Net) -> Net:
    """Multiply every batch norm into the convolution before it; the net must be in eval mode.

    Before it means: in a ``Sequential``, or as ``conv``, ``conv1`` … before ``bn``, ``bn1`` … of the same module.
    """
    for name, child in list(net.named_children()):
        fold_batch_norms(child)
        norm = getattr(net, f"bn{name[4:]}", None) if name.startswith("conv") else None
        if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(net, name, fuse_conv_bn_eval(child, norm))
            setattr(net, f"bn{name[4:]}", nn.Identity())
    if isinstance(net, nn.Sequential):
        for i in range(len(net) - 1):
            kernel, norm = net[i], net[i + 1]
            if isinstance(kernel, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                net[i] = fuse_conv_bn_eval(kernel, norm)
                net[i + 1] = nn.Identity()
    return net


def ready(
    net: Net,
    device: torch.device | str,
    dtype: torch.dtype | None,
    ranges: Mapping[str, Range] | None = None,
) -> Net:
    """Eval mode, folded, fused, frozen, channels-last, on ``device``, in the precision of :func:`settled`."""
    net = fold_batch_norms(net.eval().requires_grad_(False))
    fuse(net)
    return settled(net, device, dtype, ranges)


def settled(
    net: Net,
    device: torch.device | str,
    dtype: torch.dtype | None,
    ranges: Mapping[str, Range] | None = None,
) -> Net:
    """A frozen net on ``device`` in ``dtype``.

    Where that is None, its convolutions compute in eight bits on a CPU that multiplies these natively, if their
    ``ranges`` are known (:mod:`anigender.quantised`), and else in :func:`native_dtype`.

    Raises:
        ValueError: the ranges are another net's.
    """
    if dtype is None and ranges and torch.device(device).type == "cpu" and eight_bits_pay():
        net = placed(net, device)
        quantise(net, ranges)
        return net
    return placed(net, device, dtype or native_dtype(device))
