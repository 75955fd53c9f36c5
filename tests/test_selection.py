"""Choosing faces and pictures, and what travels along with them."""

from __future__ import annotations

import pytest
import torch

from anigender.caption_text import caption_batch
from anigender.faces import Faces
from anigender.report import confidence_by_image, crop_labels, labels_by_image, report, summary
from anigender.selection import (
    check_faces,
    format_indices,
    limit_faces,
    one_crop_per_picture,
    select_pictures,
    take_faces,
    take_latents,
    take_masks,
    take_pictures,
)


def faces() -> Faces:
    """A woman left of a larger man, nobody, two women, a man."""
    found = Faces.from_boxes(
        [[[10, 10, 30, 30], [50, 10, 90, 50]], [], [[60, 10, 80, 30], [10, 10, 40, 40]], [[5, 5, 25, 25]]],
        sizes=[(100, 100)] * 4,
        scores=[[0.9, 0.6], [], [0.8, 0.7], [0.5]],
    )
    return found.with_probabilities(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.99, 0.01], [0.4, 0.6]]))


@pytest.mark.parametrize(
    ("options", "lefts"),
    [
        ({}, [10, 50, 60, 10, 5]),
        ({"threshold": 0.65}, [10, 60, 10]),
        ({"minimum_size": 25}, [50, 10]),
        ({"order": "left-right"}, [10, 50, 10, 60, 5]),
        ({"order": "large-small", "maximum": 1}, [50, 10, 5]),
        ({"maximum": 1}, [10, 60, 5]),
        ({"threshold": 1.0}, []),
    ],
)
def test_limits(options: dict, lefts: list[int]) -> None:
    limited = limit_faces(faces(), **options)
    assert limited.boxes[:, 0].tolist() == lefts
    assert limited.images == 4


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("any-female", [0, 2]),
        ("only-male", [3]),
        ("no-face", [1]),
        ("female >= 3", []),
        ("any-face or no-face", [0, 1, 2, 3]),
    ],
)
def test_every_picture_is_kept_or_rejected(rule: str, kept: list[int]) -> None:
    selection = select_pictures(faces(), rule)
    assert selection.kept == kept
    assert sorted(selection.kept + selection.rejected) == [0, 1, 2, 3]


def test_pictures_masks_latents_and_faces_are_taken_by_the_same_indices() -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 100, 100, 3)
    latent = {
        "samples": torch.arange(4.0).view(4, 1, 1, 1).expand(4, 16, 12, 12),
        "noise_mask": torch.arange(4.0).view(4, 1, 1),
        "batch_index": [7, 8, 9, 10],
        "type": "audio",
    }
    assert take_pictures(images, [2, 0])[:, 0, 0, 0].tolist() == [2, 0]
    assert take_masks(images[..., 0], [3], 4)[:, 0, 0].tolist() == [3]
    taken = take_latents(latent, [3, 1], 4)
    assert taken["samples"][:, 0, 0, 0].tolist() == [3, 1] and taken["noise_mask"].flatten().tolist() == [3, 1]
    assert taken["batch_index"] == [10, 8] and taken["type"] == "audio"
    chosen = take_faces(faces(), [2, 1])
    assert chosen.image_index.tolist() == [0, 0] and chosen.images == 2


def test_a_single_mask_serves_every_picture() -> None:
    assert take_masks(torch.ones(5, 6), [0, 2], 3).shape == (2, 5, 6)
    assert take_masks(torch.ones(1, 5, 6), [0, 1, 2], 3).shape == (3, 5, 6)
    assert take_masks(torch.ones(1, 5, 6), [0], 1).shape == (1, 5, 6)


def test_nothing_taken_is_nothing_or_one_blank() -> None:
    images = torch.ones(2, 8, 6, 4)
    assert take_pictures(images, []).shape == (0, 8, 6, 4)
    assert take_pictures(images, [], blank=True).shape == (1, 8, 6, 4)
    assert float(take_pictures(images, [], blank=True).sum()) == 0
    assert take_pictures(images[:0], [], blank=True).shape == (1, 8, 6, 4)
    latent = {"samples": torch.ones(2, 4, 1, 1), "noise_mask": torch.ones(2, 8, 6)}
    assert take_latents(latent, [], 2, blank=True).keys() == {"samples"}
    assert take_masks(torch.ones(1, 8, 6), [], 2, blank=True).shape == (1, 8, 6)
    assert take_faces(faces(), []).images == 0
    assert take_faces(faces(), [], blank=(8, 6)).image_sizes.tolist() == [[8, 6]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: take_latents({"samples": torch.ones(3, 4, 1, 1)}, [0], 4), "3 samples for 4 pictures"),
        (lambda: take_latents(torch.ones(4, 4), [0], 4), "dict with samples"),
        (lambda: take_masks(torch.ones(3, 5, 5), [0], 4), "3 masks for 4 pictures"),
        (lambda: check_faces(faces(), torch.zeros(3, 100, 100, 3)), "4 pictures, the batch has 3"),
        (lambda: check_faces(faces(), torch.zeros(4, 50, 100, 3)), "picture 0 were found in one of 100 x 100"),
        (lambda: limit_faces(faces(), order="biggest"), "'biggest'"),
        (lambda: caption_batch(faces(), ["a", "b"]), "2 captions for 4 pictures"),
        (lambda: caption_batch(faces(), separator=""), "separator is empty"),
        (lambda: confidence_by_image(Faces.from_boxes([[[0, 0, 5, 5]]], sizes=[(9, 9)])), "not been classified"),
    ],
)
def test_what_is_wrong_is_said(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_indices_are_written_as_others_read_them() -> None:
    assert format_indices([0, 2, 5]) == "0, 2, 5" and format_indices([]) == ""


def test_one_crop_per_picture_is_black_where_there_is_no_face() -> None:
    crops = one_crop_per_picture(torch.ones(4, 100, 100, 3), faces().pick(0, "female"), 16, 1.0)
    assert crops.shape == (4, 16, 16, 3)
    assert [round(float(crop.mean()), 3) for crop in crops] == [1, 0, 1, 0]


def test_words() -> None:
    assert labels_by_image(faces()) == ["female,male", "", "female,female", "male"]
    assert confidence_by_image(faces()) == pytest.approx([0.8, 0, 0.7, 0.6])
    assert crop_labels(faces())[0] == ["female", "male", "female", "female", "male"]
    assert crop_labels(faces())[2] == [0, 0, 2, 2, 3]
    assert summary(faces()) == "4 pictures: 3 female, 2 male, 1 without a face"
    lines = report(faces()).splitlines()
    assert lines[0] == "picture 0: 1 female, 1 male" and lines[3] == "picture 1: no face"
    assert lines[1] == "  face 0: female 90.0%, 20 x 20 at (10, 10), detection 0.90"
    assert report(Faces.empty([])) == "no pictures"


@pytest.mark.parametrize(
    ("existing", "options", "captions"),
    [
        ((), {}, ["1girl, 1boy", "", "2girls, multiple_girls", "1boy, solo, male_focus"]),
        ((), {"underscores": False, "groups": ("focus",)}, ["", "", "", "male focus"]),
        (
            ["hat"],
            {"groups": ("count",)},
            ["1girl, 1boy, hat", "hat", "2girls, multiple_girls, hat", "1boy, solo, hat"],
        ),
        (
            ["2girls, hat", "solo", "a", "b"],
            {"position": "last"},
            ["hat, 1girl, 1boy", "solo", "a, 2girls, multiple_girls", "b, 1boy, solo, male_focus"],
        ),
        (
            (),
            {"prefix": "me,", "suffix": "end", "groups": ("gender",)},
            ["me, female, male, end", "me, end", "me, female, end", "me, male, end"],
        ),
        ((), {"separator": " ", "minimum_confidence": 0.75}, ["1girl 1boy", "", "", ""]),
    ],
)
def test_captions(existing, options: dict, captions: list[str]) -> None:
    assert caption_batch(faces(), existing, **options) == captions
