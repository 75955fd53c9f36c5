"""Fused convolutions say what their parts say one after the other, in every state that a net can be in."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anigender import fused
from anigender.fused import ACTIVATIONS, FusedConv2d, Packed, convolved, fuse, kernels_work

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
NEEDS_KERNELS = pytest.mark.skipif(not kernels_work(torch.float32), reason="this PyTorch lacks the kernels of oneDNN")


def picture(count: int, channels: int = 8, side: int = 24) -> Tensor:
    x = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(count))
    return x.contiguous(memory_format=torch.channels_last)


def kernel(groups: int = 1, stride: int = 1, size: int = 3, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(groups + stride)
    conv = nn.Conv2d(8, 8, size, stride, size // 2, groups=groups, bias=bias)
    return conv.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def steps(conv: nn.Module, x: Tensor, shortcut: Tensor | None, activation: type[nn.Module]) -> Tensor:
    """What is expected, by PyTorch's public functions alone."""
    x = conv(x)
    return activation()(x if shortcut is None else x + shortcut)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("added", [False, True], ids=["alone", "with a shortcut"])
@pytest.mark.parametrize(("groups", "stride", "size", "bias"), [(1, 1, 3, True), (1, 1, 1, False), (8, 2, 3, True)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_kernel_says_what_its_parts_say(
    activation: type[nn.Module], added: bool, groups: int, stride: int, size: int, bias: bool, count: int
) -> None:
    conv = kernel(groups, stride, size, bias)
    net = FusedConv2d(conv)
    net.activation = activation
    x = picture(count)
    shortcut = torch.ones_like(conv(x)) / 3 if added else None
    expected = steps(conv, x, shortcut, activation)
    with torch.inference_mode():
        for _ in range(3):  # the weights as they are, packed, and packed before
            given = None if shortcut is None else shortcut.clone(memory_format=torch.channels_last)
            torch.testing.assert_close(net(x, given), expected, **CLOSE)


@pytest.mark.parametrize("added", [False, True], ids=["alone", "with a shortcut"])
def test_bfloat16_is_rounded_as_finely_as_elsewhere(added: bool) -> None:
    exact, x = kernel(), picture(4)
    net = FusedConv2d(kernel().bfloat16())
    net.activation = nn.ReLU
    x = x.bfloat16()
    shortcut = torch.ones_like(x) / 3 if added else None
    expected = steps(exact.bfloat16().float(), x.float(), None if shortcut is None else shortcut.float(), nn.ReLU)
    with torch.inference_mode():
        for _ in range(3):
            given = None if shortcut is None else shortcut.clone(memory_format=torch.channels_last)
            found = net(x, given)
            assert found.dtype == torch.bfloat16
            torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.01)


@NEEDS_KERNELS
def test_weights_are_packed_for_a_shape_that_comes_twice_in_a_row() -> None:
    held = Packed()
    plain, where = kernel().weight, ([1, 1], [1, 1], [1, 1], 1)
    is_plain = [held.weight(plain, where, torch.Size((n, 8, 24, 24))) is plain for n in (4, 2, 4, 4, 2, 4, 2, 2, 4)]
    assert is_plain == [True, True, True, False, True, False, True, False, True]


@NEEDS_KERNELS
@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (picture(2), True),
        (picture(1, side=64), True),
        (picture(1, side=8), False),  # too little work for it to pay
        (picture(2).contiguous(), False),
        (picture(2).double(), False),
        (picture(2).to("meta"), False),
        (picture(2).requires_grad_(), False),
        (picture(0), False),
    ],
    ids=["usual", "one large", "one small", "channels first", "double", "meta", "learning", "empty"],
)
def test_where_the_kernels_are_used(x: Tensor, expected: bool) -> None:
    net = FusedConv2d(kernel())
    assert net._fuses(x) is expected
    if x.dtype == torch.float32 and x.device.type == "cpu":
        torch.testing.assert_close(net(x), kernel()(x), **CLOSE)


def test_a_shortcut_in_another_order_is_added_too() -> None:
    net, x = FusedConv2d(kernel()), picture(2)
    shortcut = torch.ones_like(x).contiguous()
    with torch.inference_mode():
        torch.testing.assert_close(net(x, shortcut.clone()), kernel()(x) + shortcut, **CLOSE)


def test_without_the_kernels_it_is_done_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "kernels_work", lambda dtype: False)
    net, x = FusedConv2d(kernel()), picture(2)
    net.activation = nn.ReLU
    torch.testing.assert_close(net(x, torch.ones_like(x)), (kernel()(x) + 1).relu(), **CLOSE)


class Kernels:
    """Stand-ins for oneDNN's, whose answers are their input times a number; none at all where that is None."""

    def __init__(self, factor: float | None) -> None:
        self.factor, self.calls = factor, 0

    def __getattr__(self, name: str) -> Any:
        if self.factor is None:
            raise AttributeError(name)
        return self  # a function, and its overloads

    def __call__(self, x: Tensor, *others: object) -> Tensor:
        self.calls += 1
        return x * self.factor


@pytest.mark.parametrize(("factor", "calls"), [(None, 0), (0.0, 3)], ids=["missing", "wrong"])
def test_kernels_that_are_missing_or_wrong_are_not_used(
    monkeypatch: pytest.MonkeyPatch, factor: float | None, calls: int
) -> None:
    kernels = Kernels(factor)
    monkeypatch.setattr(torch.ops, "mkldnn", kernels, raising=False)
    assert kernels_work.__wrapped__(torch.float32) is False and kernels.calls == calls


class Net(nn.Module):
    """Every way in which nets here use convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.Identity(), nn.ReLU(), nn.MaxPool2d(2), nn.Hardswish())
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, 1, 1), nn.Identity()
        self.reflecting = nn.Conv2d(8, 8, 3, 1, 1, padding_mode="reflect")
        self.same = nn.Conv2d(8, 8, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = convolved(self.conv1, self.bn1, x, x * 2)
        return self.same(convolved(self.reflecting, self.bn1, x, clip=False))


def made() -> Net:
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


def test_fusing_a_net_changes_neither_its_answers_nor_its_weights() -> None:
    plain, net = made(), made()
    fuse(net)
    assert net.state_dict().keys() == plain.state_dict().keys()
    kinds = [type(layer).__name__ for layer in net.stem]
    assert kinds == ["FusedConv2d", "Identity", "Identity", "MaxPool2d", "Hardswish"]
    assert (type(net.conv1), type(net.reflecting), type(net.same)) == (FusedConv2d, nn.Conv2d, nn.Conv2d)
    for _ in range(3):
        torch.testing.assert_close(net(picture(2)), plain(picture(2)), **CLOSE)


def test_changed_weights_are_used() -> None:
    net = made()
    fuse(net)
    for _ in range(3):
        before = net(picture(2))
    for change in (lambda: net.double().float(), lambda: net.to("cpu", torch.float64).to(torch.float32)):
        change()
        torch.testing.assert_close(net(picture(2)), before, **CLOSE)
    with torch.no_grad():
        net.conv1.weight.zero_()  # in place, behind its back
        net.conv1.bias.zero_()
        plain = made()
        plain.conv1.weight.zero_()
        plain.conv1.bias.zero_()
    torch.testing.assert_close(net(picture(2)), plain(picture(2)), **CLOSE)
    net._apply(lambda value: value * 0)
    assert float(net(picture(2)).abs().max()) == 0


def test_copies_and_files_of_a_used_net_say_the_same() -> None:
    net = made()
    fuse(net)
    for _ in range(3):
        expected = net(picture(2))
    stream = io.BytesIO()
    torch.save(net, stream)
    stream.seek(0)
    for other in (copy.deepcopy(net), torch.load(stream, weights_only=False)):
        torch.testing.assert_close(other(picture(2)), expected, **CLOSE)


@pytest.mark.parametrize("form", ["trace", "export"])
def test_a_traced_net_holds_plain_convolutions(form: str) -> None:
    net, x = made(), picture(2)
    fuse(net)
    expected = net(x)
    if form == "trace":
        found = torch.jit.trace(net, (x,))
        text = str(found.inlined_graph)
    else:
        exported = torch.export.export(net, (x,))
        found, text = exported.module(), str(exported.graph)
    assert "pointwise" not in text and "conv" in text
    torch.testing.assert_close(found(x), expected, **CLOSE)


def test_learning_through_a_fused_net_gives_gradients() -> None:
    net = made()
    fuse(net)
    net.requires_grad_(True)
    net(picture(2)).sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())
