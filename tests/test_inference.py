"""Preparing nets for answering: folding changes nothing but the number of layers, and the precision is asked for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from anigender.classify.gendernet import GenderNet
from anigender.detect.headnet import HeadNet
from anigender.inference import fold_batch_norms, native_dtype, ready, usable


def trained(net: nn.Module, side: int) -> nn.Module:
    """Batch norms with statistics and weights that matter."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        for _ in range(5):
            net(torch.randn(2, 3, side, side) + 0.3)
    return net.eval()


@pytest.mark.parametrize(
    ("net", "side"),
    [
        (HeadNet(neck=8), 128),
        (GenderNet((8, 12, 16, 20), (1, 1, 2, 1)), 32),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), 16),
    ],
    ids=["headnet", "gendernet", "plain"],
)
def test_folding_keeps_the_outputs(net: nn.Module, side: int) -> None:
    net = trained(net, side)
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        before = net(x)
        folded = fold_batch_norms(copy.deepcopy(net))
        after = folded(x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for b, a in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=2e-4)


def test_a_norm_without_a_convolution_before_it_stays() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)).eval()
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fold_batch_norms(net).modules()) == 2


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_ready(dtype: torch.dtype | None) -> None:
    net = ready(GenderNet((8, 12, 16, 20), (1, 1, 1, 1)).train(), "cpu", dtype)
    assert not net.training
    weights = list(net.parameters())
    assert {w.dtype for w in weights} == {dtype or native_dtype("cpu")}
    assert not any(w.requires_grad for w in weights)


@pytest.mark.parametrize(
    ("bf16", "amx", "expected"),
    [
        (False, False, torch.float32),
        (True, False, torch.bfloat16),
        (False, True, torch.bfloat16),
        (True, True, torch.bfloat16),
    ],
)
def test_the_cpu_is_asked_what_it_multiplies(
    bf16: bool, amx: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert native_dtype("cpu") == native_dtype(torch.device("cpu")) == expected


def test_a_torch_that_cannot_be_asked_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, question, raising=False)
    assert native_dtype("cpu") == torch.float32


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((8, 9), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_cuda_by_its_generation(
    capability: tuple[int, int], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert native_dtype("cuda:0") == expected


def test_other_devices_compute_in_float32() -> None:
    assert native_dtype("mps") == torch.float32


@pytest.mark.parametrize("device", ["cuda:99", "xpu:99", "mps:99", "mtia", "nonsense", ""])
def test_a_device_that_cannot_be_used_is_named(device: str) -> None:
    with pytest.raises(ValueError, match=rf"device {device!r} cannot be used \(.{{9,200}}\): name one that is there"):
        usable(device)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_a_device_that_can_be_used_stays_as_it_is(device: torch.device | str) -> None:
    assert usable(device) == torch.device("cpu")
