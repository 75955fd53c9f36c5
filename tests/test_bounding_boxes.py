"""Boxes of ComfyUI and KJNodes: every nesting they come in, there and back, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anigender.bounding_boxes import from_bounding_boxes, to_bounding_boxes
from anigender.faces import Faces

ONE, TWO = [(100, 80)], [(100, 80)] * 2
A = {"x": 10, "y": 20, "width": 30, "height": 40, "label": "face", "score": 0.5}
B = {"x": 1, "y": 2, "width": 3, "height": 4}


@pytest.mark.parametrize(
    ("boxes", "sizes", "counts"),
    [
        (A, ONE, [1]),
        (A, TWO, [1, 1]),
        ([A, B], ONE, [2]),
        ([A, B], TWO, [2, 2]),
        ([[A, B]], TWO, [2, 2]),
        ([[A, B], []], TWO, [2, 0]),
        ([[], []], TWO, [0, 0]),
        ([], TWO, [0, 0]),
        ([(10, 20, 30, 40)], ONE, [1]),
        ([(10, 20, 30, 40), (1, 2, 3, 4)], ONE, [2]),
        ([(10, 20, 30, 40), (1, 2, 3, 4)], TWO, [1, 1]),
        ([(10, 20, 30, 40), (0, 0, 0, 0)], TWO, [1, 0]),
        ([[[10, 20, 30, 40], [1, 2, 3, 4]], []], TWO, [2, 0]),
        (np.array([[10, 20, 30, 40], [1, 2, 3, 4]]), TWO, [1, 1]),
        ([torch.tensor([10, 20, 30, 40])], ONE, [1]),
        ([], [], []),
    ],
)
def test_every_nesting_is_understood(boxes, sizes, counts) -> None:
    faces = from_bounding_boxes(boxes, sizes)
    assert faces.count_by_image().tolist() == counts
    if counts and counts[0]:
        assert faces.boxes[0].tolist() == [10, 20, 40, 60]


def test_scores_are_kept_and_1_where_there_is_none() -> None:
    assert from_bounding_boxes([A, B], ONE).scores.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("boxes", "layout"),
    [
        ([(10, 20, 30, 40)], "xywh"),
        ([(10, 20, 40, 60)], "xyxy"),
        ([tuple(np.array([10, 20, 40, 60]))], "xyxy"),
        ([np.array([10.0, 20, 40, 60])], "xyxy"),
        ([{"x": 10, "y": 20, "width": 30, "height": 40}], "xyxy"),  # says itself what it is
    ],
)
def test_layouts(boxes: list, layout: str) -> None:
    assert from_bounding_boxes(boxes, ONE, layout=layout).boxes.tolist() == [[10, 20, 40, 60]]


def test_corners_in_the_wrong_order_and_unknown_layouts_are_refused() -> None:
    with pytest.raises(ValueError, match="box 0 of picture 0"):
        from_bounding_boxes([(40, 20, 10, 60)], ONE, layout="xyxy")
    with pytest.raises(ValueError, match="'cxcywh'.*xywh, xyxy"):
        from_bounding_boxes([A], ONE, layout="cxcywh")


@pytest.mark.parametrize(("kind", "wider"), [("head", 1.0), ("face", 1.4), ("tight face", 2.05)])
def test_faces_become_heads(kind: str, wider: float) -> None:
    box = from_bounding_boxes([(30, 40, 20, 20)], ONE, kind).boxes[0]
    assert float(box[2] - box[0]) == pytest.approx(20 * wider)
    assert float(box[0] + box[2]) / 2 == pytest.approx(40)


def test_there_and_back() -> None:
    faces = Faces.from_boxes([[[10, 20, 40, 60]], []], sizes=TWO, scores=[[0.7], []])
    out = to_bounding_boxes(faces)
    assert out == [[{"x": 10, "y": 20, "width": 30, "height": 40, "label": "face", "score": pytest.approx(0.7)}], []]
    assert torch.equal(from_bounding_boxes(out, TWO).boxes, faces.boxes)
    classified = to_bounding_boxes(faces.with_probabilities(torch.tensor([[0.1, 0.9]])))
    assert classified[0][0]["label"] == "male" and classified[0][0]["score"] == pytest.approx(0.9)


def test_boxes_are_cut_off_at_the_border() -> None:
    out = to_bounding_boxes(Faces.from_boxes([[[-5, -5, 200, 200]]], sizes=ONE))
    assert (out[0][0]["x"], out[0][0]["width"], out[0][0]["height"]) == (0, 80, 100)


@pytest.mark.parametrize(
    ("boxes", "kind", "message"),
    [
        ([A], "body", "'body'"),
        ("1,2,3,4", "head", "str"),
        (None, "head", "NoneType"),
        ([[A], [A], [A]], "head", "3 pictures, the batch has 2"),
        ([[{"x": 1}]], "head", "box 0 of picture 0.*expected numbers"),
        ([[A, {**A, "width": -3}]], "head", "box 1 of picture 0"),
        ([[A, {**A, "x": float("nan")}]], "head", "box 1 of picture 0"),
        ([[{**A, "x": "left"}]], "head", "expected numbers"),
        ([[], [{**A, "x": 80}]], "head", "outside picture 1, which is 80 x 100"),
        ([A, "x"], "head", "expected dicts"),
        ([[3]], "head", "expected x, y, width, height"),
        ([[{**A, "x": 10**400}]], "head", "expected numbers"),
        ([[{**A, "score": 10**400}]], "head", "expected numbers"),
        ([[{**A, "score": float("nan")}]], "head", "all numbers at most 1e.09"),
        ([[{**A, "width": 1e30}]], "head", "all numbers at most 1e.09"),
        ([[{**A, "note": "x" * 100_000, "x": None}]], "head", r"is .{1,250}…, expected numbers"),
    ],
)
def test_what_is_wrong_is_said(boxes, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_bounding_boxes(boxes, TWO, kind)
