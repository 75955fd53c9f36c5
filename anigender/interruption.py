"""Stopping a net in the middle: a forward pass over a large batch can take longer than anyone wants to wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def interruptible(nets: Iterable[nn.Module], check: Callable[[], None]) -> Iterator[None]:
    """While this lasts, call ``check`` before every layer of these nets that this thread runs.

    What ``check`` raises ends the forward pass. On devices that compute asynchronously the layers that are under way
    finish by themselves.

    Args:
        nets: any modules; their layers are those without modules of their own in them.
        check: cheap, since a net has many layers.

    >>> net, calls = nn.Sequential(nn.Flatten(), nn.ReLU()), []
    >>> with interruptible([net], lambda: calls.append("asked")):
    ...     out = net(__import__("torch").zeros(1, 2))
    >>> out, calls = net(out), calls
    >>> calls
    ['asked', 'asked']
    """
    thread = threading.get_ident()  # nets are shared: another thread's pass is not ours to end

    def before(layer: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == thread:
            check()

    layers = [layer for net in nets for layer in net.modules() if next(layer.children(), None) is None]
    handles = [layer.register_forward_pre_hook(before) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
