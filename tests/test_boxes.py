"""Boxes: overlap, clipping, suppression against the textbook algorithm, and faces against heads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from anigender.boxes import (
    HEAD_PER_TIGHT_FACE,
    HEAD_RISE_PER_TIGHT_FACE,
    clip,
    face_from_head,
    head_from_face,
    pairwise_iou,
    suppress,
)

Box = tuple[float, float, float, float]


@st.composite
def boxes(draw: st.DrawFn, largest: int = 60) -> Box:
    """A box with whole corners, so that overlaps are exact."""
    x, y = draw(st.integers(-20, largest)), draw(st.integers(-20, largest))
    return float(x), float(y), float(x + draw(st.integers(0, 40))), float(y + draw(st.integers(0, 40)))


def overlap(a: Box, b: Box) -> float:
    """Intersection over union in plain Python; empty boxes overlap nothing."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def greedy(rows: list[Box], valid: list[bool], threshold: float) -> list[bool]:
    """Non-maximum suppression as it is usually written."""
    kept: list[int] = []
    for i, row in enumerate(rows):
        if valid[i] and all(overlap(rows[j], row) <= threshold for j in kept):
            kept.append(i)
    return [i in kept for i in range(len(rows))]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (5, 5, 15, 15), 25 / 175),
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),  # touching is not overlapping
        ((0, 0, 10, 10), (30, 30, 40, 40), 0.0),
        ((-10, -10, 10, 10), (0, 0, 20, 20), 100 / 700),
        ((5, 5, 5, 5), (5, 5, 5, 5), 0.0),  # empty boxes
        ((0, 0, 10, 10), (5, 5, 5, 9), 0.0),
        ((10, 10, 0, 0), (0, 0, 10, 10), 0.0),  # inside out counts as empty
    ],
)
def test_iou(first: Box, second: Box, expected: float) -> None:
    found = pairwise_iou(torch.tensor([first]).float(), torch.tensor([second]).float())
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [((3, 4), (2, 4), (3, 2)), ((0, 4), (2, 4), (0, 2)), ((5, 3, 4), (5, 2, 4), (5, 3, 2)), ((3, 4), (0, 4), (3, 0))],
)
def test_iou_shapes(first: tuple[int, ...], second: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert pairwise_iou(torch.zeros(first), torch.zeros(second)).shape == expected


@given(st.lists(boxes(), min_size=1, max_size=8), st.lists(boxes(), min_size=1, max_size=8))
def test_iou_agrees_with_plain_python_and_is_symmetric(first: list[Box], second: list[Box]) -> None:
    a, b = torch.tensor(first), torch.tensor(second)
    found = pairwise_iou(a, b)
    expected = torch.tensor([[overlap(x, y) for y in second] for x in first])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(pairwise_iou(b, a), found.T)
    assert float(found.min()) >= 0 and float(found.max()) <= 1


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2, 3, 8, 9), (2, 3, 8, 9)),
        ((-5, -6, 8, 9), (0, 0, 8, 9)),
        ((2, 3, 80, 90), (2, 3, 20, 10)),
        ((-5, -5, 80, 90), (0, 0, 20, 10)),
        ((30, 30, 40, 40), (20, 10, 20, 10)),  # wholly outside: nothing is left
        ((-9, -9, -1, -1), (0, 0, 0, 0)),
    ],
)
def test_clip(box: Box, expected: Box) -> None:
    assert tuple(clip(torch.tensor(box).float(), 20, 10).tolist()) == expected


def test_clip_with_a_size_for_each_box() -> None:
    rows = torch.tensor([[-1.0, -1, 100, 100], [-1, -1, 100, 100]])
    assert clip(rows, torch.tensor([10, 20]), torch.tensor([30, 40])).tolist() == [[0, 0, 10, 30], [0, 0, 20, 40]]


@given(st.lists(boxes(), max_size=6), st.integers(1, 50), st.integers(1, 50))
def test_clipped_boxes_are_inside_and_stay_so(rows: list[Box], width: int, height: int) -> None:
    once = clip(torch.tensor(rows).reshape(-1, 4), width, height)
    assert bool(((once >= 0) & (once <= torch.tensor([width, height, width, height]))).all())
    assert bool((once[:, 2:] >= once[:, :2]).all())
    assert torch.equal(clip(once, width, height), once)


def test_suppression_table() -> None:
    rows = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [2, 0, 12, 10], [30, 30, 40, 41]])
    every = torch.ones(1, 5, dtype=torch.bool)
    assert suppress(rows[None], every, 0.5).tolist() == [[True, False, True, False, False]]
    assert suppress(rows[None], every, 0.95).tolist() == [[True, True, True, True, True]]
    # A box that does not take part neither stays nor suppresses.
    without_first = every.clone()
    without_first[0, 0] = False
    assert suppress(rows[None], without_first, 0.5).tolist() == [[False, True, True, False, False]]


@pytest.mark.parametrize(
    ("second", "stays"),
    [
        ((30, 30, 70, 70), False),  # a face in its head
        ((-60, -60, 160, 160), False),  # a head with its shoulders
        ((40, 50, 90, 100), True),  # off the centre: another one in front of it
        ((110, 0, 210, 100), True),
    ],
)
def test_concentric_boxes_are_one_head(second: Box, stays: bool) -> None:
    rows = torch.tensor([[0.0, 0, 100, 100], second])[None]
    every = torch.ones(1, 2, dtype=torch.bool)
    assert suppress(rows, every, 0.5).tolist() == [[True, True]]
    assert suppress(rows, every, 0.5, concentric=0.25).tolist() == [[True, stays]]


def test_boxes_of_different_pictures_do_not_meet() -> None:
    rows = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [1, 0, 11, 10]])[None]
    every, owners = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[0, 0, 1, 2]])
    assert suppress(rows, every, 0.5).tolist() == [[True, False, False, False]]
    assert suppress(rows, every, 0.5, owners=owners).tolist() == [[True, False, True, True]]


def test_a_suppressed_box_suppresses_nothing() -> None:
    chain = torch.tensor([[[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [12, 0, 22, 10]]])
    assert suppress(chain, torch.ones(1, 4, dtype=torch.bool), 0.3).tolist() == [[True, False, True, False]]


@given(
    st.integers(0, 12).flatmap(
        lambda n: st.lists(
            st.tuples(st.lists(boxes(30), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)),
            min_size=1,
            max_size=3,
        )
    ),
    st.sampled_from([0.05, 0.21, 0.37, 0.52, 0.83]),
)
def test_suppression_is_the_greedy_one(batch: list[tuple[list[Box], list[bool]]], threshold: float) -> None:
    count = len(batch[0][0])
    rows = torch.tensor([own for own, _ in batch]).reshape(len(batch), count, 4)
    valid = torch.tensor([own for _, own in batch], dtype=torch.bool).reshape(len(batch), count)
    found = suppress(rows, valid, threshold)
    assert found.tolist() == [greedy(own, marks, threshold) for own, marks in batch]


@pytest.mark.parametrize("relation", [(), (HEAD_PER_TIGHT_FACE, HEAD_RISE_PER_TIGHT_FACE), (1.0, 0.0)])
@given(x=st.floats(-500, 500), y=st.floats(-500, 500), side=st.floats(1, 900))
def test_a_face_becomes_a_head_and_a_face_again(relation: tuple[float, ...], x: float, y: float, side: float) -> None:
    face = torch.tensor([x, y, x + side, y + side], dtype=torch.float64)
    head = head_from_face(face, *relation)
    torch.testing.assert_close(face_from_head(head, *relation), face, atol=1e-6, rtol=0)
    width, height = (head[2:] - head[:2]).tolist()
    assert width == pytest.approx(height)


def test_a_head_is_wider_than_its_face_and_higher_up() -> None:
    face = torch.tensor([[100.0, 100, 200, 200]])
    head = head_from_face(face)
    assert head.tolist() == [[80.0, 71.5, 220.0, 211.5]]
    assert bool((head[:, :2] < face[:, :2]).all() and (head[:, 2:] > face[:, 2:]).all())


def test_an_oblong_face_becomes_a_square_over_its_longer_side() -> None:
    head: Tensor = head_from_face(torch.tensor([0.0, 0, 10, 20]), 2.0, 0.0)
    assert head.tolist() == [-15, -10, 25, 30]
