"""YOLO models: a small one made here, against a plain re-implementation in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anigender.detect import load_detector
from anigender.detect.yolo import CANDIDATES, GREY, IOU_THRESHOLD, Layout, decode, layout_of, letterbox
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


@pytest.mark.parametrize(("batch", "layout"), [("n", "end-to-end"), (1, "end-to-end"), ("n", "objectness")])
def test_other_layouts_give_the_same_boxes(write_yolo: Callable[..., Path], batch: Any, layout: str) -> None:
    pictures = check([torch.from_numpy(dots(64, 64, 0)), torch.from_numpy(dots(90, 40, 3))])
    expected = load_detector(write_yolo()).detect(pictures)
    detector = load_detector(write_yolo(layout=layout, batch=batch, transposed=True))
    if layout == "objectness":  # the class of every box has a half
        detector.threshold /= 2
        expected = replace(expected, scores=expected.scores / 2)
    found = detector.detect(pictures)
    assert len(found) > 10 and found.image_index.tolist() == expected.image_index.tolist()
    torch.testing.assert_close(found.boxes, expected.boxes)
    torch.testing.assert_close(found.scores, expected.scores)


def test_a_model_that_takes_bytes_finds_the_same(write_yolo: Callable[..., Path]) -> None:
    pictures = check([torch.from_numpy(dots(64, 64, 0))])
    expected = load_detector(write_yolo()).detect(pictures)
    found = load_detector(write_yolo(kind=2)).detect(pictures)  # onnx.TensorProto.UINT8
    assert len(found) == len(expected) > 5
    torch.testing.assert_close(found.boxes, expected.boxes)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)


def empty_answer(shape: tuple[int, ...]) -> torch.Tensor:
    """What nets say of nothing: scores near 0, no two numbers alike."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 1e-3


def end_to_end_answer(boxes: int, classes: int, behind: int = 0) -> torch.Tensor:
    corners = torch.tensor([4.0, 5, 20, 30]).expand(1, boxes, 4)
    kinds = (torch.arange(boxes) % classes).float()[None, :, None]
    return torch.cat((corners, empty_answer((1, boxes, 1)), kinds, empty_answer((1, boxes, behind))), 2)


NUDE = "{0: 'BELLY', 1: 'FACE_FEMALE', 2: 'FACE_MALE'}"
POSE = {"task": "pose", "kpt_shape": "[5, 3]"}


@pytest.mark.parametrize(
    ("answer", "metadata", "layout", "region"),
    [
        (empty_answer((1, 5, 84)), {"names": "{0: 'face'}"}, Layout(5, classes=(0,)), "face"),
        (empty_answer((1, 84, 5)), {"names": "['head']"}, Layout(5, True, (0,)), "head"),
        (empty_answer((1, 7, 84)), {"names": NUDE, "task": "detect"}, Layout(7, classes=(1, 2)), "face"),
        (empty_answer((1, 6, 84)), {"names": "{0: 'face', 1: 'head'}"}, Layout(6, classes=(1,)), "head"),
        (empty_answer((1, 5, 84)), {"names": "{0: 'person'}"}, Layout(5), "face"),
        (empty_answer((1, 6, 84)), {}, Layout(6), "face"),
        (empty_answer((1, 84, 6)), {"names": "{0: 'face', 1: 'body'}"}, Layout(6, True, (0,)), "face"),
        (empty_answer((1, 252, 6)), {"names": "['face']"}, Layout(6, True, (0,), objectness=True), "face"),
        (torch.ones(1, 252, 6), {"names": "['face']"}, Layout(6, True, (0,), objectness=True), "face"),
        (empty_answer((1, 252, 8)), {"names": NUDE}, Layout(8, True, (1, 2), objectness=True), "face"),
        (empty_answer((1, 20, 84)), {"names": "{0: 'face'}", **POSE}, Layout(20, classes=(0,), behind=15), "face"),
        (end_to_end_answer(300, 3), {"names": NUDE}, Layout(6, True, (1, 2), end_to_end=True), "face"),
        (end_to_end_answer(300, 1), {}, Layout(6, True, end_to_end=True), "face"),
        (torch.zeros(1, 300, 6), {"names": "{0: 'head'}"}, Layout(6, True, (0,), end_to_end=True), "head"),
        (torch.zeros(1, 0, 6), {"names": "{0: 'head'}"}, Layout(6, True, (0,), end_to_end=True), "head"),
        (end_to_end_answer(300, 1, 15), POSE, Layout(21, True, end_to_end=True, behind=15), "face"),
    ],
)
def test_the_layout_is_seen_from_an_answer(
    answer: torch.Tensor, metadata: dict[str, str], layout: Layout, region: str
) -> None:
    assert layout_of(answer, metadata, Path("best.onnx")) == (layout, region)


def test_the_files_name_says_what_is_found_where_nothing_else_does() -> None:
    assert [layout_of(empty_answer((1, 5, 84)), {}, Path(name))[1] for name in ("head_s.onnx", "s.onnx")] == [
        "head", "face",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "metadata", "part"),
    [
        ((1, 4, 100), {}, "no class beside"),
        ((1, 3, 2), {}, "no class beside"),
        ((1, 100), {}, r"gives \[1, 100\]: expected"),
        ((1, 8, 84), {"names": "{0: 'face'}"}, r"gives \[1, 8, 84\], and 1 classes \(face\): expected 5 numbers"),
        ((1, 20, 84), {"names": "{0: 'face'}"}, "expected 5 numbers"),
        ((1, 20, 84), {"names": "{0: 'face'}", "task": "pose"}, "of how many points"),
        ((1, 20, 84), {"names": "{0: 'face'}", **POSE, "kpt_shape": "[-5, 3]"}, "of how many points"),
        ((1, 6, 84), {"names": "{0: 'face'}", "task": "obb"}, "the task 'obb', expected one for detect or pose"),
        ((1, 84, 8400), {"names": "{0: 'person', 1: 'bicycle'}"}, "person, bicycle: expected a class called head or"),
    ],
)
def test_another_answer_is_refused(shape: tuple[int, ...], metadata: dict[str, str], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        layout_of(empty_answer(shape), metadata, Path("best.onnx"))


def test_a_model_is_tried_as_it_is_loaded(write_yolo: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="expected 6 numbers for each box"):
        load_detector(write_yolo(names="{0: 'face', 1: 'body'}"))
    with pytest.raises(ValueError, match="the task 'segment'"):
        load_detector(write_yolo(metadata={"task": "segment"}))


def test_an_answer_that_changes_its_layout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gives \[1, 7, 84\], expected \[b, 5, boxes\]"):
        decode(torch.zeros(1, 7, 84), Layout(5))


def test_only_heads_and_faces_count() -> None:
    answer = torch.zeros(1, 7, 2)
    answer[0, :4] = torch.tensor([10.0, 20, 4, 8])[:, None]
    answer[0, 4:] = torch.tensor([[0.9, 0.9], [0.2, 0.3], [0.1, 0.6]])
    assert decode(answer, Layout(7, classes=(1, 2)))[1][0].tolist() == pytest.approx([0.6, 0.2])
    ends = torch.tensor([[[8.0, 16, 12, 24, 0.9, 0], [8, 16, 12, 24, 0.5, 2], [1, 2, 3, 4, 0.4, 1]]])
    boxes, scores = decode(ends, Layout(6, True, (1, 2), end_to_end=True))
    assert scores[0].tolist() == pytest.approx([0.5, 0.4, 0.0]) and boxes[0, 1].tolist() == [1, 2, 3, 4]


def test_the_best_class_counts_and_the_surest_come_first() -> None:
    answer = torch.zeros(1, 6, 400)
    answer[0, :4] = torch.tensor([10.0, 20, 4, 8])[:, None]
    answer[0, 4], answer[0, 5] = torch.linspace(0, 0.5, 400), torch.linspace(0.9, 0, 400)
    boxes, scores = decode(answer, Layout(6))
    assert boxes.shape == (1, CANDIDATES, 4) and boxes[0, 0].tolist() == [8, 16, 12, 24]
    assert float(scores[0, 0]) == pytest.approx(0.9) and bool((scores[0].diff() <= 0).all())


def test_a_model_of_something_else_is_explained(write_yolo: Callable[..., Path], tmp_path: Path) -> None:
    path = write_yolo()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="not a whole ONNX model"):
        load_detector(path)
