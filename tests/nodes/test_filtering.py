"""Filter Batch by Gender and Filter Faces: rules, what travels along, and the outcomes of nothing kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

NAMES = (
    *("kept", "rejected", "kept_indices", "any_kept", "kept_count", "rejected_count"),
    *("kept_latent", "rejected_latent", "kept_mask", "rejected_mask", "kept_faces", "rejected_faces"),
)


@pytest.fixture
def run(node, models):
    """The node's outputs by name."""
    return lambda image, **inputs: dict(
        zip(NAMES, node("AnigenderFilterBatch").filter(image, **{"models": models, **inputs}), strict=True)
    )


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"preset": "any-female"}, [0, 2, 4]),
        ({"preset": "only-male"}, [3]),
        ({"preset": "no-face"}, [1]),
        ({"expression": "female >= 1 and male == 0"}, [2, 4]),
        ({"expression": " any-face ", "preset": "no-face"}, [0, 2, 3, 4]),
        ({"expression": "true"}, [0, 1, 2, 3, 4]),
    ],
)
def test_pictures_and_everything_of_theirs_travel_together(run, pictures, rule: dict, kept: list[int]) -> None:
    image = pictures("fm", "", "ff", "M", "f")
    number = torch.arange(5.0)
    latent = {"samples": number.view(5, 1, 1, 1).expand(5, 4, 12, 20), "batch_index": [0, 1, 2, 3, 4]}
    mask = number.view(5, 1, 1).expand(5, 96, 160)
    out = run(image, latent=latent, mask=mask, on_empty="placeholder", **rule)
    rejected = [i for i in range(5) if i not in kept]
    assert out["kept_indices"] == ", ".join(map(str, kept)) and out["any_kept"] is bool(kept)
    assert (out["kept_count"], out["rejected_count"]) == (len(kept), len(rejected))
    for side, indices in (("kept", kept), ("rejected", rejected)):
        if indices:
            assert torch.equal(out[side], image[indices])
            assert out[f"{side}_latent"]["samples"][:, 0, 0, 0].tolist() == indices
            assert out[f"{side}_latent"]["batch_index"] == indices
            assert out[f"{side}_mask"][:, 0, 0].tolist() == indices
        else:
            assert out[side].shape == (1, 96, 160, 3) and float(out[side].sum()) == 0
            assert out[f"{side}_latent"]["samples"].shape == (1, 4, 12, 20)
            assert out[f"{side}_mask"].shape == (1, 96, 160)
        assert out[f"{side}_faces"].images == max(1, len(indices))


def test_given_faces_are_used_and_none_is_detected_again(run, node, models, pictures) -> None:
    image = pictures("f", "m")
    faces = node("AnigenderDetect").detect(image, models=models)[0]
    calls = models.detector.calls
    assert run(image, faces=faces)["kept_indices"] == "0"
    assert models.detector.calls == calls


@pytest.mark.parametrize("letters", [("m", "m"), ("", ""), ()])
def test_nothing_kept_blocks_by_default(run, pictures, is_blocked, letters: tuple[str, ...]) -> None:
    image = pictures(*letters) if letters else torch.zeros(0, 96, 160, 3)
    out = run(image)
    assert all(is_blocked(out[name]) for name in ("kept", "kept_latent", "kept_mask", "kept_faces"))
    assert (out["kept_indices"], out["any_kept"], out["kept_count"]) == ("", False, 0)
    assert is_blocked(out["rejected"]) == (not letters)
    assert out["kept"].message is None, "quietly"


def test_nothing_kept_can_be_a_batch_of_none(run, pictures) -> None:
    image = pictures("m", "m")
    latent, mask = {"samples": torch.ones(2, 4, 12, 20), "batch_index": [3, 4]}, torch.ones(1, 96, 160)
    out = run(image, on_empty="empty", latent=latent, mask=mask)
    assert out["kept"].shape == (0, 96, 160, 3) and out["kept_latent"]["samples"].shape == (0, 4, 12, 20)
    assert out["kept_latent"]["batch_index"] == [] and out["kept_mask"].shape == (0, 96, 160)
    assert (out["kept_faces"].images, len(out["kept_faces"])) == (0, 0)
    assert torch.equal(out["rejected"], image)


@pytest.mark.parametrize(
    ("inputs", "kept"),
    [
        ({}, [0, 2]),
        ({"gender": "male"}, [0, 3]),
        ({"gender": "male", "minimum_confidence": 0.85}, []),
        ({"gender": "any"}, [0, 0, 2, 3]),
    ],
)
def test_faces_are_narrowed_and_pictures_stay(node, found, pictures, inputs: dict, kept: list[int]) -> None:
    faces = found(pictures("fm", "", "f", "M"))
    wanted, others, count = node("AnigenderFilterFaces").filter(faces, **inputs)
    assert wanted.image_index.tolist() == kept and count == len(kept)
    assert wanted.images == others.images == 4 and len(wanted) + len(others) == len(faces)


def test_faces_of_a_character(node, found, pictures) -> None:
    faces = found(pictures("fm", "f"))
    with pytest.raises(ValueError, match="input `character`"):
        node("AnigenderFilterFaces").filter(faces, "any", character="rei")
    named = replace(
        faces,
        characters=("asuka", "rei"),
        character_index=torch.tensor([1, 0, 1]),
        character_confidence=torch.ones(3),
    )
    assert node("AnigenderFilterFaces").filter(named, "any", character=" Rei ")[2] == 2
    assert node("AnigenderFilterFaces").filter(named, "male", character="rei")[2] == 1
    with pytest.raises(ValueError, match="input `character`: the recogniser knows nobody called 'misato'"):
        node("AnigenderFilterFaces").filter(named, "any", character="misato")


def test_nothing_kept_fails_on_demand(run, pictures) -> None:
    with pytest.raises(ValueError, match="no picture of 2 fits the rule 'any-female'"):
        run(pictures("m", "m"), on_empty="fail")
    assert run(pictures("f", "f"), on_empty="fail")["kept_count"] == 2, "nothing rejected is no failure"


def test_what_is_not_connected_says_so_to_whoever_uses_it(run, pictures, is_blocked) -> None:
    out = run(pictures("f", "m"))
    assert "input `latent`" in out["kept_latent"].message and "input `mask`" in out["rejected_mask"].message


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"latent": {"samples": torch.zeros(3, 4, 12, 20)}}, "input `latent`: .*3 samples for 2 pictures"),
        ({"mask": torch.zeros(3, 96, 160)}, "input `mask`: .*3 masks for 2 pictures"),
        ({"expression": "femal > 1"}, "input `expression`: 'femal' is not a known name"),
        ({"expression": "1 / male > 1"}, "input `expression`: .*division by zero"),
    ],
)
def test_what_is_wrong_is_named(run, pictures, inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(pictures("f", "m"), **{"on_empty": "placeholder", **inputs})


def test_faces_of_other_pictures_are_refused(run, found, pictures) -> None:
    with pytest.raises(ValueError, match="input `faces`: .*3 pictures, the batch has 2"):
        run(pictures("f", "m"), faces=found(pictures("f", "m", "f")))


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        (None, True),
        ("", True),
        (" \n", True),
        (" any-male \n", True),
        ("any-male or female > 2", True),
        ("female >", "input `expression`: "),
        ("a", "not a known"),
    ],
)
def test_rules_are_read_before_anything_runs(pack, expression, answer) -> None:
    said = pack.NODE_CLASS_MAPPINGS["AnigenderFilterBatch"].VALIDATE_INPUTS(expression)
    assert said is True if answer is True else answer in said
