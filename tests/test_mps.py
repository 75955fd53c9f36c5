"""What Apple's GPUs (MPS) cannot do is done by the host; there need not be one.

A stand-in says of itself that it is on MPS, and refuses what that refuses; what is made of it is there too, until it is
copied to the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from anigender.characters.backbones import Backbone
from anigender.characters.identitynet import IdentityNet
from anigender.characters.networks import predicted
from anigender.characters.recogniser import OpenSet, Recogniser
from anigender.classify.gendernet import GenderNet
from anigender.classify.pooling import pooled
from anigender.classify.vgg import VGG
from anigender.detect.cascade_haar import HaarFeatures
from anigender.faces import Faces

MPS = torch.device("mps")


class OnMps(Tensor):
    """Values in host memory that are taken for some on MPS."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function == Tensor.device.__get__:  # type: ignore[attr-defined]
            return MPS
        name = getattr(function, "__name__", "")
        if name == "adaptive_avg_pool2d" and any(side % args[1] for side in args[0].shape[-2:]):
            raise RuntimeError("Adaptive pool MPS: input sizes must be divisible by output sizes.")
        result = super().__torch_function__(function, types, args, kwargs or {})
        if name == "cpu":
            return result.as_subclass(Tensor)
        if isinstance(result, OnMps) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype, which the MPS framework does not support")
        return result


class Moves(TorchFunctionMode):
    """Copies to MPS give the stand-in."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.to and MPS in args:
            return args[0].as_subclass(OnMps)
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def moves() -> Iterator[None]:
    with Moves():
        yield


def there(values: Any) -> OnMps:
    return torch.as_tensor(values).as_subclass(OnMps)


def test_the_stand_in_refuses_what_it_is_for() -> None:
    values = there([1.0, 2.0])
    assert values.device == MPS and (values + 1).device == MPS and values.cpu().device.type == "cpu"
    with pytest.raises(TypeError, match="float64"):
        values.double()
    with pytest.raises(RuntimeError, match="divisible"):
        F.adaptive_avg_pool2d(there(torch.ones(1, 1, 64, 64)), 3)


@pytest.mark.parametrize(("before", "side"), [(64, 3), (2, 7), (8, 4)])
def test_uneven_pooling(before: int, side: int) -> None:
    values = torch.rand(2, 3, before, before)
    found = pooled(there(values), side)
    assert found.device == MPS
    assert torch.equal(found.cpu(), F.adaptive_avg_pool2d(values, side)) and torch.equal(
        found.cpu(), pooled(values, side)
    )


@pytest.mark.parametrize(
    "net",
    [
        IdentityNet((8, 8, 12, 12), (1, 1, 1, 1), 16),
        VGG((4, 0, 4, 0), False, nn.Sequential(nn.Linear(4 * 49, 2))),
    ],
    ids=["identity", "vgg"],
)
def test_nets_that_pool_unevenly(net: nn.Module) -> None:
    net.eval()
    x = torch.rand(1, 3, 8 if isinstance(net, VGG) else 64, 8 if isinstance(net, VGG) else 64)
    with torch.inference_mode():
        found = net(there(x))
        assert found.device == MPS
        torch.testing.assert_close(found.cpu(), net(x))


def test_a_cascades_norms() -> None:
    features = HaarFeatures.__new__(HaarFeatures)
    nn.Module.__init__(features)
    features.inner = (6, 6)
    tables = torch.randint(0, 1 << 20, (2, 1, 12, 12), dtype=torch.int32).cumsum(2).cumsum(3).to(torch.int32)
    places = torch.arange(8)
    expected = features._norm(tables, places)
    found = features._norm(there(tables), there(places))
    assert all(part.device == MPS for part in found)
    assert torch.equal(found[0].cpu(), expected[0]) and torch.equal(found[1].cpu(), expected[1])


class Last(nn.Linear):
    """The last layer of a net that is on MPS."""

    def forward(self, x: Tensor) -> Tensor:
        return there(super().forward(x))


def net_with_a_last_layer() -> Backbone:
    torch.manual_seed(0)
    net = GenderNet((4, 4, 4, 4), (1, 1, 1, 1)).eval().requires_grad_(False)
    net.fc = Last(4, 2).requires_grad_(False)
    return Backbone(net, {"input_size": "32", "mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"}, "small", "0" * 64)


def test_the_probabilities_of_a_recogniser() -> None:
    middles = np.zeros((3, 4), np.float32)
    made = Recogniser(["x", "y"], net_with_a_last_layer(), 1.0, OpenSet(), middles)
    told = made.answers(torch.rand(3, 3, 32, 32)).probabilities
    assert told.dtype == np.float64 and told.sum(1) == pytest.approx([1, 1, 1])


def test_the_probabilities_of_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (200, 60, 30)).save(tmp_path / "a.png")
    _, told = predicted(net_with_a_last_layer(), [tmp_path / "a.png"], [0])
    assert told.dtype == np.float64 and told.sum(1) == pytest.approx([1])


@pytest.mark.parametrize("scores", [None, there([[0.5]])], ids=["without scores", "with scores"])
def test_boxes_from_elsewhere_become_faces_on_one_device(scores: Tensor | None) -> None:
    boxes = there([[[0.0, 0.0, 4.0, 4.0]]])
    made = Faces.from_boxes(list(boxes), there([[8, 8]]), None if scores is None else list(scores))
    nobody = Faces.from_boxes([there(torch.zeros(0, 4))], there([[8, 8]]))
    for faces in (made, nobody):
        arrays = (faces.boxes, faces.scores, faces.image_index, faces.image_sizes)
        assert {array.device.type for array in arrays} == {"cpu"}
    assert made.scores.tolist() == [1.0 if scores is None else 0.5]
