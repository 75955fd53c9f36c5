"""Drawing: colours and places of boxes and labels, and that the given pictures stay as they are."""

from __future__ import annotations

import pytest
import torch

from anigender.contact_sheet import COLOURS
from anigender.drawing import draw_faces, label_of, rasterise
from anigender.faces import Face, Faces


def faces() -> Faces:
    """A woman in the first picture, nobody in the second, a man in the corner of the third."""
    found = Faces.from_boxes([[[40, 60, 120, 140]], [], [[0, 0, 50, 50]]], sizes=[(160, 200)] * 3)
    return found.with_probabilities(torch.tensor([[0.97, 0.03], [0.2, 0.8]]))


def colour(gender: str) -> torch.Tensor:
    return torch.tensor(COLOURS[gender]) / 255


def test_boxes_have_the_colour_of_their_gender() -> None:
    images = torch.full((3, 160, 200, 3), 0.5)
    drawn = draw_faces(images, faces(), labels=False, confidences=False, line_width=2)
    assert torch.allclose(drawn[0, 61, 80], colour("female"))
    assert torch.allclose(drawn[0, 139, 80], colour("female"))
    assert torch.allclose(drawn[0, 100, 40], colour("female")) and torch.allclose(drawn[0, 100, 119], colour("female"))
    assert torch.allclose(drawn[2, 49, 20], colour("male"))
    assert torch.equal(drawn[0, 62:138, 42:118], images[0, 62:138, 42:118]), "the inside stays"
    assert torch.equal(drawn[1], images[1])
    assert float(images.min()) == float(images.max()) == 0.5, "the given pictures are left alone"


def test_a_label_stands_above_its_box_or_below_where_there_is_no_room() -> None:
    images = torch.full((3, 160, 200, 3), 0.5)
    plain = draw_faces(images, faces(), False, False)
    changed = (draw_faces(images, faces()) != plain).any(-1)
    assert bool(changed[0, 40:60].any()) and not bool(changed[0, 60:].any())
    assert bool(changed[2, 50:70].any()) and not bool(changed[2, :50].any())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_any_picture_of_the_contract_becomes_rgb(channels: int, dtype: torch.dtype) -> None:
    images = torch.ones(3, 160, 200, channels, dtype=dtype) * (255 if dtype == torch.uint8 else 1)
    drawn = draw_faces(images, faces())
    assert drawn.shape == (3, 160, 200, 3) and drawn.dtype == torch.float32
    assert float(drawn[1].min()) == 1.0
    assert bool((images == images[0, 0, 0, 0]).all())


def test_a_batch_equals_its_pictures_one_by_one() -> None:
    images = torch.rand(3, 160, 200, 3)
    whole = draw_faces(images, faces())
    for i in range(3):
        assert torch.equal(whole[i : i + 1], draw_faces(images[i : i + 1], faces().of_image(i)))


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (8, 8)])
def test_tiny_and_thin_pictures(size: tuple[int, int]) -> None:
    found = Faces.from_boxes([[[0, 0, size[1], size[0]], [-50, -50, 500, 500]]], sizes=[size])
    drawn = draw_faces(torch.zeros(1, *size, 3), found.with_probabilities(torch.full((2, 2), 0.5)))
    assert bool(drawn.isfinite().all()) and float(drawn.max()) <= 1


@pytest.mark.parametrize(
    ("face", "labels", "confidences", "text"),
    [
        (Face(0, (0, 0, 1, 1), 0.6, 0.97, 0.03), True, True, "female 97%"),
        (Face(0, (0, 0, 1, 1), 0.6, 0.2, 0.8), True, False, "male"),
        (Face(0, (0, 0, 1, 1), 0.6, 0.2, 0.8), False, True, "80%"),
        (Face(0, (0, 0, 1, 1), 0.6, 0.2, 0.8), False, False, ""),
        (Face(0, (0, 0, 1, 1), 0.6), True, True, "60%"),
        (Face(0, (0, 0, 1, 1), 0.6, 0.97, 0.03, "asuka", 0.9), True, True, "asuka female 97%"),
        (Face(0, (0, 0, 1, 1), 0.6, 0.97, 0.03, "asuka", 0.9), False, True, "97%"),
        (Face(0, (0, 0, 1, 1), 0.6, 0.97, 0.03, "", 0.1), True, True, "female 97%"),  # nobody known
        (Face(0, (0, 0, 1, 1), 0.6, None, None, "rei", 0.9), True, False, "rei"),
    ],
)
def test_labels(face: Face, labels: bool, confidences: bool, text: str) -> None:
    assert label_of(face, labels, confidences) == text


def test_every_letter_leaves_ink_and_words_are_as_wide_as_their_letters() -> None:
    assert all(float(rasterise(letter, 24).max()) > 0.4 for letter in "female0123456789%_-()'.")
    assert rasterise("ab", 24).shape[1] == rasterise("a", 24).shape[1] + rasterise("b", 24).shape[1]
    assert rasterise("\u2603", 24).shape == (24, 0)


def test_faces_of_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="3 pictures, 2 were given"):
        draw_faces(torch.zeros(2, 8, 8, 3), faces())
