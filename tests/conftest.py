"""What several tests share: the data folder, ready pipelines, and pictures whose faces are known because painted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import settings
from PIL import Image
from torch import nn

import anigender
from anigender.cli import inputs, main
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
    from anigender.train.heads.detector import save_detector

    path = tmp_path_factory.mktemp("weights") / "random_head.safetensors"
    save_detector(random_headnet, path)
    return path


@pytest.fixture(scope="session")
def write_cascade() -> Callable[..., Path]:
    """A function that writes an OpenCV cascade with random features, loose enough to let some windows of noise pass."""

    def written(path: Path, kind: str = "LBP", depth: int = 1, seed: int = 0, side: int = 12, stages: int = 3) -> Path:
        random = np.random.default_rng(seed)
        features, weak, nodes = [], [], 0
        for stage in range(stages):
            trees = []
            for _ in range(2 + stage):
                inner, leaves = [], random.normal(size=depth + 1)
                for node in range(depth):  # a chain of nodes, each with one leaf and the next node
                    ends = [node + 1 if node + 1 < depth else -depth, -node]
                    if depth == 1:
                        ends = [0, -1]
                    else:
                        random.shuffle(ends)
                    if kind == "LBP":
                        tail = " ".join(str(v) for v in random.integers(-(2**31), 2**31, 8))
                    else:
                        tail = f"{random.normal() * 0.02:.9g}"
                    inner.append(f"{ends[0]} {ends[1]} {nodes} {tail}")
                    nodes += 1
                    if kind == "LBP":
                        w, h = random.integers(1, side // 3 + 1, 2)
                        x, y = random.integers(0, side - 3 * w + 1), random.integers(0, side - 3 * h + 1)
                        features.append(f"<_><rect>{x} {y} {w} {h}</rect></_>")
                        continue
                    rows, tilted = [], int(random.random() < 0.5)
                    for weight in (-1, 3) if random.random() < 0.5 else (-1, 2, 2):
                        w, h = random.integers(1, side // 3, 2)
                        if tilted:
                            x, y = random.integers(h, side - w + 1), random.integers(0, side - w - h + 1)
                        else:
                            x, y = random.integers(0, side - w + 1), random.integers(0, side - h + 1)
                        rows.append(f"<_>{x} {y} {w} {h} {weight}.</_>")
                    features.append(f"<_><rects>{''.join(rows)}</rects><tilted>{tilted}</tilted></_>")
                values = " ".join(f"{v:.9g}" for v in leaves)
                trees.append(
                    f"<_><internalNodes>{' '.join(inner)}</internalNodes><leafValues>{values}</leafValues></_>"
                )
            head = f"<maxWeakCount>{len(trees)}</maxWeakCount><stageThreshold>-1.2</stageThreshold>"
            weak.append(f"<_>{head}<weakClassifiers>{''.join(trees)}</weakClassifiers></_>")
        path.write_text(
            f'<?xml version="1.0"?><opencv_storage><cascade type_id="opencv-cascade-classifier">'
            f"<stageType>BOOST</stageType><featureType>{kind}</featureType><height>{side}</height><width>{side}</width>"
            f"<stageParams><maxDepth>{depth}</maxDepth><maxWeakCount>9</maxWeakCount></stageParams>"
            f"<featureParams><maxCatCount>{256 if kind == 'LBP' else 0}</maxCatCount><featSize>1</featSize>"
            f"<mode>ALL</mode></featureParams><stageNum>{stages}</stageNum><stages>{''.join(weak)}</stages>"
            f"<features>{''.join(features)}</features></cascade></opencv_storage>"
        )
        return path

    return written


@pytest.fixture
def write_yolo(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a model which takes the red of every 8 x 8 block for the score of a box of 20 x 24.

    ``layout`` is ``plain``, ``end-to-end`` (corners, score, class 0) or ``objectness`` (before one class of 0.5).
    """
    onnx = pytest.importorskip("onnx", reason="the package onnx writes the models of these tests")
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the models of these tests")
    helper, kinds = onnx.helper, onnx.TensorProto

    def writing(
        side: int = 64,
        batch: Any = "n",
        names: str = "{0: 'face'}",
        transposed: bool = False,
        layout: str = "plain",
        kind: int = kinds.FLOAT,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        cells = side // 8
        y, x = np.mgrid[:cells, :cells] * 8.0 + 4
        box = (x - 10, y - 12, x + 10, y + 12) if layout == "end-to-end" else (x, y, 0 * x + 20, 0 * y + 24)
        fixed = np.stack(box).reshape(1, 4, -1).astype(np.float32)
        behind = {"plain": [], "end-to-end": [0], "objectness": [0.5]}[layout]
        kernel = np.zeros((1, 3, 8, 8), np.float32)
        kernel[0, 0] = 1 / 64
        constants = {
            "kernel": kernel,
            "fixed": fixed,
            "flat": np.array([0, 1, cells * cells], np.int64),
            "zero": np.array([0], np.int64),
            "one": np.array([1], np.int64),
            "rest": np.array([4, cells * cells], np.int64),
            "behind": np.full((1, len(behind), cells * cells), behind[0] if behind else 0, np.float32),
            "rest behind": np.array([len(behind), cells * cells], np.int64),
            "bytes": np.array(1 if kind == kinds.FLOAT else 1 / 255, np.float32),
        }
        nodes = [
            helper.make_node("Cast", ["images"], ["given"], to=kinds.FLOAT),
            helper.make_node("Mul", ["given", "bytes"], ["scaled"]),
            helper.make_node("Conv", ["scaled", "kernel"], ["red"], strides=[8, 8]),
            helper.make_node("Reshape", ["red", "flat"], ["score"]),
            helper.make_node("Shape", ["images"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["count"], axis=0),
            helper.make_node("Concat", ["count", "rest"], ["wide"], axis=0),
            helper.make_node("Expand", ["fixed", "wide"], ["boxes"]),
            helper.make_node("Concat", ["count", "rest behind"], ["wide behind"], axis=0),
            helper.make_node("Expand", ["behind", "wide behind"], ["last"]),
            helper.make_node("Concat", ["boxes", "score", "last"], ["answer"], axis=1),
        ]
        nodes.append(
            helper.make_node("Transpose", ["answer"], ["output0"], perm=[0, 2, 1])
            if transposed
            else helper.make_node("Identity", ["answer"], ["output0"])
        )
        graph = helper.make_graph(
            nodes,
            "yolo",
            [helper.make_tensor_value_info("images", kind, [batch, 3, side, side])],
            [helper.make_tensor_value_info("output0", kinds.FLOAT, [None, None, None])],
            [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(made, {"names": names, **(metadata or {})})
        path = tmp_path / "model.onnx"
        path.write_bytes(made.SerializeToString())
        return path

    return writing


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


class ColourEncoder:
    """An encoder whose embeddings are known: the mean and the spread of each colour, and two constants."""

    size, width = 16, 8
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.calls: list[int] = []

    def encode(self, tiles: torch.Tensor) -> torch.Tensor:
        assert tiles.shape[1:] == (3, self.size, self.size) and tiles.dtype == torch.float32
        self.calls.append(len(tiles))
        flat = tiles.flatten(2)
        return torch.cat((flat.mean(2), flat.std(2), torch.ones(len(tiles), 2)), 1)


@pytest.fixture
def colour_encoder() -> ColourEncoder:
    """A fresh one, which counts what it is asked."""
    return ColourEncoder()


@pytest.fixture(name="anigender")
def command_line(painted: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line inside this process, with the painted pipeline instead of the embedded models."""
    monkeypatch.setattr(inputs, "load", lambda detector, classifier, device, dtype, settings: painted)

    def run(*arguments: Any, status: int | None = 0) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert status is None or result.exit_code == status, result.stderr
        return result

    return run
