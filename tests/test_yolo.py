"""YOLOv8-style models: a small one made here, against a plain re-implementation in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anigender.detect import load_detector
from anigender.detect.yolo import CANDIDATES, GREY, IOU_THRESHOLD, decode, letterbox
from anigender.images import check


def plain_decode(answer: np.ndarray, threshold: float) -> list[tuple[float, list[float]]]:
    """Boxes of one picture ``[4 + classes, cells]`` by falling score, written as it usually is."""
    boxes = []
    for x, y, w, h, *classes in answer.T.astype(np.float64):
        boxes.append((max(classes), [x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    return sorted((b for b in boxes if b[0] >= threshold), key=lambda b: -b[0])


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def cell_answers(canvas: np.ndarray) -> np.ndarray:
    """What the model of :func:`write_yolo` answers for a canvas ``[3, h, w]`` 0-1: every 8 x 8 block is a cell."""
    _, height, width = canvas.shape
    blocks = canvas[0].reshape(height // 8, 8, width // 8, 8).mean((1, 3))
    y, x = np.mgrid[: height // 8, : width // 8] * 8 + 4
    return np.stack((x, y, np.full_like(x, 20), np.full_like(y, 24), blocks)).reshape(5, -1)


def dots(height: int, width: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height))).copy()


@pytest.mark.parametrize(("batch", "transposed"), [("n", False), (1, False), (2, False), ("n", True)])
def test_the_boxes_are_those_of_a_plain_decoding(write_yolo: Callable[..., Path], batch: Any, transposed: bool) -> None:
    detector = load_detector(write_yolo(batch=batch, transposed=transposed))
    pictures = [dots(64, 64, 0), dots(64, 64, 1), dots(64, 64, 2), dots(90, 40, 3), dots(20, 50, 4)]
    faces = detector.detect(check([torch.from_numpy(picture) for picture in pictures]))
    assert detector.region == "face"
    for i, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        canvas, scale, left, top = letterbox(torch.from_numpy(picture)[None], (64, 64))
        assert scale == 64 / max(height, width)
        inside = plain_decode(cell_answers(canvas[0].numpy()), 0.3)
        expected = []
        for score, (x1, y1, x2, y2) in inside:
            box = [(x1 - left) / scale, (y1 - top) / scale, (x2 - left) / scale, (y2 - top) / scale]
            box = [min(max(v, 0), limit) for v, limit in zip(box, (width, height) * 2, strict=True)]
            if box[2] > box[0] and box[3] > box[1]:
                expected.append((score, box))
        for face, (score, box) in zip(faces.of_image(i), suppressed(expected), strict=True):
            assert face.detection == pytest.approx(score, abs=1e-5)
            assert face.box == pytest.approx(box, abs=1e-3)
    assert len(faces) > 10


def suppressed(boxes: list[tuple[float, list[float]]]) -> list[tuple[float, list[float]]]:
    kept: list[tuple[float, list[float]]] = []
    for score, box in boxes:
        if all(overlap(box, other) <= IOU_THRESHOLD for _, other in kept):
            kept.append((score, box))
    return kept


def test_what_the_classes_are_called_says_the_region(write_yolo: Callable[..., Path]) -> None:
    assert load_detector(write_yolo(names="{0: 'head'}")).region == "head"


def test_a_letterbox_keeps_the_proportions() -> None:
    canvas, scale, left, top = letterbox(torch.full((1, 20, 40, 3), 255, dtype=torch.uint8), (64, 80))
    assert (scale, left, top, tuple(canvas.shape)) == (2.0, 0, 12, (1, 3, 64, 80))
    assert bool((canvas[..., 12:52, :] == 1).all()) and bool((canvas[..., :12, :] == GREY).all())
    assert letterbox(torch.zeros(1, 1000, 1, 3), (64, 64))[0].shape == (1, 3, 64, 64)


@pytest.mark.parametrize("shape", [(1, 4, 100), (1, 100), (1, 3, 2)])
def test_another_answer_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="gives"):
        decode(torch.zeros(shape))


def test_the_best_class_counts_and_the_surest_come_first() -> None:
    answer = torch.zeros(1, 6, 400)
    answer[0, :4] = torch.tensor([10.0, 20, 4, 8])[:, None]
    answer[0, 4], answer[0, 5] = torch.linspace(0, 0.5, 400), torch.linspace(0.9, 0, 400)
    boxes, scores = decode(answer)
    assert boxes.shape == (1, CANDIDATES, 4) and boxes[0, 0].tolist() == [8, 16, 12, 24]
    assert float(scores[0, 0]) == pytest.approx(0.9) and bool((scores[0].diff() <= 0).all())


def test_a_model_of_something_else_is_explained(write_yolo: Callable[..., Path], tmp_path: Path) -> None:
    path = write_yolo()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="not a whole ONNX model"):
        load_detector(path)
