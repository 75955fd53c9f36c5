"""The pack as ComfyUI imports it (a package of any name, its core inside it), and a pipeline whose answers are known.

Pictures are drawn, not stored: a red square is a woman's head, a blue one a man's.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH, SIDE = 96, 160, 24


class FoundSquares:
    """Finds the squares of the pictures by their colour, one per row of 32 pixels at most; larger ones first.

    The score of a square is the value of its green channel, so that pictures decide it.
    """

    device = torch.device("cpu")

    def __init__(self, faces: Any) -> None:
        self.faces, self.calls = faces, 0

    def detect(self, batch: Any) -> Any:
        self.calls += 1
        boxes: list[list[list[float]]] = [[] for _ in batch.sizes]
        scores: list[list[float]] = [[] for _ in batch.sizes]
        for group in batch.groups:
            for place, image in enumerate(group.index):
                pixels = group.pixels[place].float() / 255
                found = []
                for x in range(0, pixels.shape[1], 32):
                    column = pixels[:, x : x + 32]
                    inside = (column[..., 0] > 0.5) | (column[..., 2] > 0.5)
                    if bool(inside.any()):
                        ys, xs = inside.nonzero(as_tuple=True)
                        box = [float(v) for v in (x + xs.min(), ys.min(), x + xs.max() + 1, ys.max() + 1)]
                        found.append((float(column[inside][:, 1].mean()), box))
                for score, box in sorted(found, key=lambda entry: -entry[0]):
                    boxes[image].append(box)
                    scores[image].append(score)
        return self.faces.from_boxes(boxes, batch.sizes, scores)


class BlueIsMale:
    """The probability of male is the share of blue."""

    device, size, margin = torch.device("cpu"), 16, 1.0

    def classify(self, crops: Tensor) -> Tensor:
        red, blue = crops[:, 0].mean((1, 2)), crops[:, 2].mean((1, 2))
        male = blue / (red + blue).clamp(min=1e-6)
        return torch.stack((1 - male, male), 1)


def drawn(*pictures: str) -> Tensor:
    """``[B, 96, 160, 3]``: for each word a picture with a square per letter, from left to right.

    ``f`` a woman, ``m`` a man, ``F`` and ``M`` larger ones, ``x`` one between the two, a space for nobody. Squares
    further to the right have higher scores.
    """
    images = torch.zeros(len(pictures), HEIGHT, WIDTH, 3)
    for image, letters in zip(images, pictures, strict=True):
        for i, letter in enumerate(letters):
            if letter != " ":
                side = SIDE + 6 * letter.isupper()
                square = image[20 : 20 + side, 32 * i + 1 : 32 * i + 1 + side]
                red, blue = {"f": (0.9, 0.1), "m": (0.2, 0.8), "x": (0.55, 0.45)}[letter.lower()]
                square[:] = torch.tensor([red, 0.5 + 0.1 * i, blue])
    return images


@pytest.fixture(scope="session")
def pack() -> ModuleType:
    """The repository as a package named as no package is named, since the pack's folder may be called anything."""
    name = "custom nodes/any-name"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def part(pack: ModuleType) -> Any:
    """A module of the pack by its name: ``part("nodes.host")``."""
    return lambda name: importlib.import_module(f"{pack.__name__}.{name}")


@pytest.fixture
def node(pack: ModuleType) -> Any:
    """A fresh node by its id."""
    return lambda name: pack.NODE_CLASS_MAPPINGS[name]()


@pytest.fixture
def models(part: Any) -> Any:
    """What is connected to ``models``: a pipeline that finds the drawn squares."""
    return part("anigender.pipeline").Pipeline(FoundSquares(part("anigender.faces").Faces), BlueIsMale(), chunk=2)


@pytest.fixture
def pictures() -> Any:
    """The function that draws a batch."""
    return drawn


@pytest.fixture
def found(node: Any, models: Any) -> Any:
    """Faces of a batch, as Detect Gender gives them."""
    return lambda image: node("AnigenderDetect").detect(image, models=models)[0]


@pytest.fixture
def recogniser(part: Any, tmp_path: Any) -> str:
    """A fine-tuned network of sorts: red heads are Asuka, blue ones rei, those between nobody known."""
    identitynet, backbones = part("anigender.characters.identitynet"), part("anigender.characters.backbones")
    module = part("anigender.characters.recogniser")
    torch.manual_seed(0)
    net = identitynet.IdentityNet((4, 4, 4, 4), (1, 1, 1, 1), 2, 2).eval()
    red, blue = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.2, 0.5, 0.8])
    net.set_palette(torch.stack((red, blue)), 0.1)
    net.fc = torch.nn.Linear(net.width, 2)
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.zero_()
        net.fc.weight[0, :4] = net.fc.weight[1, 4:8] = 3.0  # the palette's places, colour by colour
    settings = {"input_size": "16", "mean": "0,0,0", "std": "1,1,1"}
    extractor = backbones.Backbone(net, settings, "identity", "0" * 64)
    middles = np.eye(3, net.width, dtype=np.float32)
    path = tmp_path / "pair.safetensors"
    made = module.Recogniser(["Asuka", "rei"], extractor, 0.8, module.OpenSet("probability", 0.9), middles)
    part("anigender.characters.saving").save_recogniser(made, path)
    return str(path)


@pytest.fixture
def is_blocked(part: Any) -> Any:
    """Whether a value stops the branch behind it."""
    blocked = part("nodes.host").Blocked
    return lambda value: isinstance(value, blocked)
