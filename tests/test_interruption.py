"""Interrupting a net: before every layer, in one's own thread only, and never longer than asked for."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from anigender.interruption import interruptible


class Stop(BaseException):
    pass


class Traced(nn.Module):
    """A layer that counts how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return x + 1


def nested() -> tuple[nn.Module, list[Traced]]:
    """Five layers at several depths, in the order in which they run."""
    layers = [Traced() for _ in range(5)]
    return nn.Sequential(layers[0], nn.Sequential(layers[1], nn.Sequential(layers[2])), *layers[3:]), layers


def stop_at(call: int):
    """A check that raises the ``call``-th time it is made, from 0."""
    calls = iter(range(100))

    def check() -> None:
        if next(calls) == call:
            raise Stop

    return check


@pytest.mark.parametrize("layer", range(5))
def test_no_layer_runs_after_the_check_has_raised(layer: int) -> None:
    net, layers = nested()
    with pytest.raises(Stop), interruptible([net], stop_at(layer)):
        net(torch.zeros(1))
    assert [own.runs for own in layers] == [1] * layer + [0] * (5 - layer)


def test_several_nets_and_none() -> None:
    (first, _), (second, layers) = nested(), nested()
    with pytest.raises(Stop), interruptible([first, second], stop_at(7)):
        second(first(torch.zeros(1)))
    assert [own.runs for own in layers] == [1, 1, 0, 0, 0]
    with interruptible([], stop_at(0)):
        assert first(torch.zeros(1)).item() == 5


@pytest.mark.parametrize("ends_by", ["itself", "an error"])
def test_nothing_is_left_behind(ends_by: str) -> None:
    net, _ = nested()
    check = stop_at(0 if ends_by == "an error" else 5)
    try:
        with interruptible([net], check):
            net(torch.zeros(1))
    except Stop:
        assert ends_by == "an error"
    with_hooks = [layer for layer in net.modules() if layer._forward_pre_hooks]
    assert with_hooks == [] and net(torch.zeros(1)).item() == 5


def test_another_thread_is_not_stopped() -> None:
    net, _ = nested()
    results: list[float] = []
    with interruptible([net], stop_at(0)):
        thread = threading.Thread(target=lambda: results.append(net(torch.zeros(1)).item()))
        thread.start()
        thread.join()
        assert results == [5]
        with pytest.raises(Stop):
            net(torch.zeros(1))
