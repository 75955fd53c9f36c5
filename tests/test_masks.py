"""Masks: the shapes against plain geometry, growing, feathering, and that batches equal single pictures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anigender.faces import Faces
from anigender.masks import SHAPES, face_masks, gender_masks

SIZE = (60, 80)


def faces() -> Faces:
    """A woman and a man in the first picture, nobody in the second, a man at the border of the third."""
    found = Faces.from_boxes(
        [[[10, 10, 30, 30], [40, 20, 60, 50]], [], [[-10, 40, 20, 70]]],
        sizes=[SIZE] * 3,
        scores=[[0.9, 0.8], [], [0.7]],
    )
    return found.with_probabilities(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]))


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [("box", 1.0, 1.0), ("ellipse", 0.75, 0.82), ("head", 0.6, 0.78)],
)
def test_a_shape_fills_its_share_of_the_box(shape: str, low: float, high: float) -> None:
    mask = face_masks(Faces.from_boxes([[[10, 10, 50, 50]]], sizes=[SIZE]), shape)[0]
    assert mask.shape == SIZE and mask.dtype == torch.float32
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert low <= float(mask[10:50, 10:50].mean()) <= high
    assert float(mask.sum()) == float(mask[10:50, 10:50].sum())


def test_a_head_is_narrower_at_the_chin() -> None:
    mask = face_masks(Faces.from_boxes([[[10, 10, 50, 50]]], sizes=[SIZE]), "head")[0]
    assert mask[18].sum() > mask[41].sum() > 0


@pytest.mark.parametrize(
    ("grow", "percent", "side"),
    [(0, 0, 20), (5, 0, 30), (0, 50, 40), (5, 50, 50), (-5, 0, 10), (-10, 0, 0), (-50, 0, 0)],
)
def test_growing_is_the_same_on_every_side(grow: int, percent: float, side: int) -> None:
    mask = face_masks(Faces.from_boxes([[[30, 20, 50, 40]]], sizes=[SIZE]), "box", grow, percent)[0]
    assert int(mask.amax(0).sum()) == side and int(mask.amax(1).sum()) == side
    assert torch.equal(mask, mask.flip(0)) and torch.equal(mask, mask.flip(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_feathering_keeps_the_shape_and_fades_beyond_it(shape: str) -> None:
    given = Faces.from_boxes([[[30, 20, 50, 40]]], sizes=[SIZE])
    hard, soft = face_masks(given, shape)[0], face_masks(given, shape, feather=8)[0]
    assert bool((soft[hard == 1] == 1).all())
    row = soft[30, 40:]
    assert bool((row[1:] <= row[:-1]).all()), "it falls outwards"
    assert float(soft[30, 60]) == 0 and 0 < float(soft[30, 54]) < 1


@pytest.mark.parametrize("shape", SHAPES)
@given(width=st.integers(2, 160), height=st.integers(2, 160), feather=st.integers(2, 48), grow=st.integers(-20, 20))
@example(width=20, height=80, feather=32, grow=0)  # a head that the picture's border cuts
@example(width=100, height=20, feather=32, grow=0)
@settings(max_examples=25, deadline=None)
def test_a_feathered_mask_falls_evenly_and_has_no_hard_edge(
    shape: str, width: int, height: int, feather: int, grow: int
) -> None:
    reach = 50 + max(grow, 0)
    box = [reach, reach, reach + width, reach + height]
    drawn = Faces.from_boxes([[box]], sizes=[(height + 2 * reach, width + 2 * reach)])
    mask = face_masks(drawn, shape, grow, feather=feather)[0]
    steps = torch.cat([mask.diff(dim=0).abs().flatten(), mask.diff(dim=1).abs().flatten()])
    steepest = 1 if max(width, height) <= 2 * min(width, height) and grow == 0 else 3  # long ones: exact to first order
    assert float(steps.max()) <= 1.1 * steepest / feather
    assert float(mask[0].max()) == float(mask[:, 0].max()) == 0
    assert float(mask[-1].max()) == float(mask[:, -1].max()) == 0


def test_women_men_and_all_and_a_zero_mask_where_there_is_none() -> None:
    female, male, both = gender_masks(faces(), "box")
    assert female.shape == (3, *SIZE)
    assert [int(m.sum()) for m in female] == [400, 0, 0]
    assert [int(m.sum()) for m in male] == [20 * 30, 0, 20 * 20]
    assert torch.equal(both, torch.maximum(female, male))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_equals_its_pictures_one_by_one(shape: str) -> None:
    whole = face_masks(faces(), shape, grow=3, feather=4)
    for i in range(3):
        assert torch.equal(whole[i], face_masks(faces().of_image(i), shape, grow=3, feather=4)[0])


def test_an_empty_batch_and_faces_outside() -> None:
    assert face_masks(Faces.empty([])).shape[0] == 0
    outside = Faces.from_boxes([[[200, 200, 220, 220]]], sizes=[SIZE])
    assert float(face_masks(outside).sum()) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: face_masks(faces(), "star"), "'star'.*head, ellipse, box"),
        (lambda: face_masks(Faces.empty([SIZE]), "star"), "'star'"),
        (lambda: face_masks(faces(), feather=-1), "feather is -1"),
        (lambda: face_masks(Faces.empty([(8, 8), (8, 9)])), "one size"),
        (lambda: gender_masks(Faces.from_boxes([[[0, 0, 5, 5]]], sizes=[SIZE])), "not been classified"),
    ],
)
def test_what_is_wrong_is_said(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
