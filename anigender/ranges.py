"""How large a net's activations get on pictures: what :mod:`anigender.quantised` needs to know."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .fused import FusedConv2d
from .quantised import Range

RARE = 0.01  # of the pictures may have larger activations, which are clipped rather than make all steps coarser


class Watch(TorchFunctionMode):
    """While open, notes between which values what the convolutions of a net read and give lies, and who else reads it.

    Args:
        net: as :func:`anigender.inference.ready` gives it in float32.

    >>> from anigender.inference import ready
    >>> from anigender.ranges import Watch
    >>> net = ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 1)), "cpu", torch.float32)
    >>> with Watch(net) as watch:
    ...     _ = net(torch.rand(8, 3, 16, 16))
    >>> [own.output > 0 for own in watch.ranges().values()]
    [True, False]
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.convolutions = {name: module for name, module in net.named_modules() if isinstance(module, FusedConv2d)}
        self._seen: dict[str, list[Tensor]] = {name: [] for name in self.convolutions}
        self._first: str | None = None
        self._made: dict[int, tuple[str, Tensor]] = {}  # in this forward, by identity; held, so that none comes twice
        self._read: set[str] = set()  # the convolutions whose output another one reads
        self._read_elsewhere: set[str] = set()  # and those whose output something else reads, such as a pooling
        self._inside = False  # a convolution, or what is done here
        self._hooks: list[Any] = []

    def __enter__(self) -> Watch:
        for name, conv in self.convolutions.items():
            self._hooks.append(conv.register_forward_pre_hook(lambda _, given, name=name: self._before(name, *given)))
            self._hooks.append(conv.register_forward_hook(lambda _, __, made, name=name: self._after(name, made)))
        super().__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        for hook in self._hooks:
            hook.remove()
        self._made.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._inside and func.__name__ != "__get__":  # a shape or the like is no reading
            for value in (*args, *(kwargs or {}).values()):
                for tensor in value if isinstance(value, (list, tuple)) else (value,):
                    if id(tensor) in self._made:
                        self._read_elsewhere.add(self._made[id(tensor)][0])
        return func(*args, **(kwargs or {}))

    def _before(self, name: str, x: Tensor, shortcut: Tensor | None = None, *_: Any) -> None:
        self._inside = True
        self._first = self._first or name
        if name == self._first:
            self._made.clear()
        added = torch.zeros(len(x))
        for tensor in (x, shortcut):
            if tensor is not None and id(tensor) in self._made:
                self._read.add(self._made[id(tensor)][0])
        if shortcut is not None:
            added = shortcut.amax((1, 2, 3))  # now: it may be overwritten
        self._seen[name].append(torch.stack((-x.amin((1, 2, 3)), x.amax((1, 2, 3)), added), 1))

    def _after(self, name: str, made: Tensor) -> None:
        self._made[id(made)] = name, made
        extremes = torch.stack((-made.amin((1, 2, 3)), made.amax((1, 2, 3))), 1)
        self._seen[name][-1] = torch.cat((self._seen[name][-1], extremes), 1)
        self._inside = False

    def ranges(self) -> dict[str, Range]:
        """By the convolution's name.

        Raises:
            ValueError: the net was shown nothing.
        """
        found = {}
        for name, rows in self._seen.items():
            if not rows:
                raise ValueError(f"the net never came to its convolution {name}: show it more pictures")
            low, high, shortcut, least, output = torch.cat(rows).quantile(1 - RARE, 0).tolist()
            counted = name in self._read - self._read_elsewhere and least <= 0
            found[name] = Range(0.0 - max(low, 0.0), max(high, 0.0), max(shortcut, 0.0), output if counted else 0.0)
        return found
