"""What several tests share: the data folder, ready pipelines, and pictures whose faces are known because painted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch import nn

import anigender
from anigender.detect.headnet import HeadNet
from anigender.faces import Faces
from anigender.images import Batch
from anigender.pipeline import Pipeline

settings.register_profile("anigender", deadline=None, max_examples=60)  # a busy machine is no failure
settings.load_profile("anigender")

CELL = 32  # side of one painted square
COLOURS = {"F": (255, 0, 0), "f": (170, 0, 100), "m": (100, 0, 170), "M": (0, 0, 255), ".": (128, 128, 128)}


@pytest.fixture(scope="session")
def data() -> Path:
    """The data folder, from ANIGENDER_DATA or beside the repository."""
    given = os.environ.get("ANIGENDER_DATA")
    path = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (path / "gender" / "manifest.csv").is_file():
        pytest.skip(f"there is no data at {path}: set ANIGENDER_DATA to the folder that holds gender/manifest.csv")
    return path


@pytest.fixture(scope="session")
def examples() -> Path:
    """The project's own drawn pictures."""
    return Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="session")
def embedded() -> Pipeline:
    """The embedded models in float32; tests must leave it as it is."""
    return anigender.load(device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def random_headnet() -> HeadNet:
    """A head net with random weights that answers as a trained one does: few cells high, most low."""
    torch.manual_seed(3)
    net = HeadNet()
    with torch.no_grad():
        for _ in range(20):  # batch norms learn the statistics that random weights cause
            net(torch.randn(2, 3, 128, 128))
        nn.init.normal_(net.predict.weight, std=0.1)
        net.predict.weight[0] *= 6
        net.predict.bias[0] = -4.0
    return net.eval()


@pytest.fixture(scope="session")
def random_headnet_file(random_headnet: HeadNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a detector's weights file."""
    from anigender.train.detector import save_detector

    path = tmp_path_factory.mktemp("weights") / "random_head.safetensors"
    save_detector(random_headnet, path)
    return path


class PaintedDetector:
    """Finds the painted squares: every red or blue cell is a head, from left to right."""

    device = torch.device("cpu")
    threshold = 0.35

    def detect(self, batch: Batch) -> Faces:
        boxes: list[list[list[float]]] = [[] for _ in batch.sizes]
        for group in batch.groups:
            for image, pixels in zip(group.index, group.pixels, strict=True):
                for column in range(pixels.shape[1] // CELL):
                    red, green, blue = pixels[CELL // 2, column * CELL + CELL // 2].tolist()
                    if max(red, blue) - green > 60:
                        boxes[image].append([column * CELL, 0, (column + 1) * CELL, CELL])
        return Faces.from_boxes(boxes, batch.sizes, [[0.9 - 0.1 * i for i in range(len(own))] for own in boxes])


class PaintedClassifier:
    """Red is female, blue is male, and what is between is less sure."""

    device = torch.device("cpu")
    size = 16
    margin = 1.0

    def classify(self, crops: torch.Tensor) -> torch.Tensor:
        mean = crops.mean((2, 3))
        female = (0.5 + 0.49 * (mean[:, 0] - mean[:, 2])).clamp(0, 1)
        return torch.stack((female, 1 - female), 1)


@pytest.fixture
def painted() -> Pipeline:
    """A pipeline whose answers are known for pictures made by :func:`paint`."""
    return Pipeline(PaintedDetector(), PaintedClassifier())  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def paint() -> Callable[[Path, str], Path]:
    """A function that paints people into a file: F and M are sure women and men, f and m less sure, . is nobody."""

    def painting(path: Path, people: str) -> Path:
        cells = [np.full((CELL, CELL, 3), COLOURS[letter], np.uint8) for letter in people]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(cells, 1)).save(path)
        return path

    return painting
