"""Gender Masks, Pick Face, Head Crops, Preview Gender and the SEGS nodes as plain Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image


def test_masks_of_women_men_and_all(node, found, pictures) -> None:
    female, male, both = node("AnigenderMasks").mask(found(pictures("fm", "", "M")), "box")
    assert female.shape == male.shape == both.shape == (3, 96, 160)
    assert [int(mask.sum()) for mask in female] == [24 * 24, 0, 0]
    assert [int(mask.sum()) for mask in male] == [24 * 24, 0, 30 * 30]
    assert float(female[0, 30, 10]) == 1 and float(male[0, 30, 40]) == 1


@pytest.mark.parametrize(
    ("gender", "index", "order", "left"),
    [
        ("female", 0, "left-right", 1),
        ("female", 1, "left-right", 65),
        ("female", 1, "right-left", 1),
        ("female", -1, "left-right", 65),
        ("male", 0, "left-right", 33),
        ("male", 1, "left-right", 97),
        ("male", 0, "large-small", 97),
        ("any", 2, "left-right", 65),
        ("any", 0, "score", 97),
    ],
)
def test_the_index_counts_the_chosen_gender_only(node, found, pictures, gender, index, order, left) -> None:
    image = pictures("fmfM", "")
    out = node("AnigenderPickFace").pick(found(image), image, gender, index, order, size=32, margin=1.0)
    crop, mask, boxes, any_found, indices, face = out
    assert crop.shape == (2, 32, 32, 3) and mask.shape == (2, 96, 160)
    assert boxes[0][0]["x"] == left and boxes[1] == []
    assert (any_found, indices, face.images) == (True, "0", 2)
    assert float(crop[1].sum()) == 0 and float(mask[1].sum()) == 0
    assert float(crop[0].max()) > 0.5 and float(mask[0].sum()) > 0


def test_no_such_face_has_a_clear_outcome(node, found, pictures, is_blocked) -> None:
    image = pictures("m", "")
    pick = node("AnigenderPickFace").pick
    crop, mask, boxes, any_found, indices, face = pick(found(image), image)
    assert all(map(is_blocked, (crop, mask, boxes, face))) and (any_found, indices) == (False, "")
    crop, mask, boxes, any_found, *_ = pick(found(image), image, size=16, on_empty="placeholder")
    assert crop.shape == (2, 16, 16, 3) and float(crop.sum()) == float(mask.sum()) == 0 and boxes == [[], []]
    crop, mask, boxes, any_found, indices, face = pick(found(image), image, size=16, on_empty="empty")
    assert crop.shape == (0, 16, 16, 3) and mask.shape == (0, *image.shape[1:3]) and boxes == [] and not any_found
    assert (indices, face.images) == ("", 0)
    with pytest.raises(ValueError, match="no picture has a female face with the index 3"):
        pick(found(image), image, index=3, on_empty="fail")


def test_head_crops_say_what_and_whence(node, found, pictures, is_blocked) -> None:
    image = pictures("fm", "", "M")
    crops, labels, confidences, indices = node("AnigenderHeadCrops").crop(found(image), image, 24, 1.0)
    assert crops.shape == (3, 24, 24, 3) and crops.is_contiguous()
    assert (labels, indices) == (["male", "female", "male"], [0, 0, 2])
    assert confidences == pytest.approx([0.8, 0.9, 0.8], abs=0.01)
    assert float(crops[1, 12, 12, 0]) == pytest.approx(0.9, abs=0.01)
    nobody = pictures("", "")
    crop = node("AnigenderHeadCrops").crop
    out = crop(found(nobody), nobody)
    assert is_blocked(out[0]) and all(is_blocked(entry[0]) for entry in out[1:])
    out = crop(found(nobody), nobody, 24, on_empty="placeholder")
    assert out[0].shape == (1, 24, 24, 3) and out[1:] == ([""], [0.0], [-1])
    out = crop(found(nobody), nobody, 24, on_empty="empty")
    assert out[0].shape == (0, 24, 24, 3) and out[1:] == ([], [], [])
    with pytest.raises(ValueError, match="no face in any picture"):
        crop(found(nobody), nobody, on_empty="fail")


def test_the_preview_is_drawn_and_shown(node, models, found, pictures, monkeypatch, tmp_path, part) -> None:
    monkeypatch.setattr(part("nodes.host").tempfile, "gettempdir", lambda: str(tmp_path))
    image = pictures("fm", "")
    out = node("AnigenderPreview").preview(image, models=models)
    (drawn,) = out["result"]
    assert drawn.shape == image.shape and not torch.equal(drawn[0], image[0]) and torch.equal(drawn[1], image[1])
    assert torch.equal(image, pictures("fm", ""))
    shown = out["ui"]["images"]
    assert [entry["type"] for entry in shown] == ["temp", "temp"]
    with Image.open(Path(tmp_path) / shown[0]["filename"]) as picture:
        assert picture.size == (160, 96)
    again = node("AnigenderPreview").preview(image, faces=found(image))
    assert torch.equal(again["result"][0], drawn)


def test_faces_as_segs_one_per_picture(node, found, pictures) -> None:
    image = pictures("fm", "", "M")
    segs, images = node("AnigenderFacesToSegs").convert(found(image), image, dilation=0)
    assert [[seg.label for seg in own[1]] for own in segs] == [["male", "female"], [], ["male"]]
    assert [own[0] for own in segs] == [(96, 160)] * 3
    assert [one.shape for one in images] == [(1, 96, 160, 3)] * 3 and torch.equal(torch.cat(images), image)
    nobody = image[:0]
    assert node("AnigenderFacesToSegs").convert(found(nobody), nobody) == ([], []), "as many pictures as SEGS"


def test_segs_are_split(node, models, found, pictures) -> None:
    image = pictures("fm")
    given = node("AnigenderFacesToSegs").convert(found(image), image)[0][0]
    plain = (given[0], [seg._replace(label="face", cropped_image=None) for seg in given[1]])
    female, male, both = node("AnigenderSplitSegs").split(plain, image, "head", models=models)
    assert [seg.label for seg in both[1]] == ["male", "female"]
    assert (len(female[1]), len(male[1])) == (1, 1) and female[1][0].cropped_image is None
    with pytest.raises(ValueError, match="input `segs / image`: .*expected"):
        node("AnigenderSplitSegs").split(plain, pictures("fm", "f"), models=models)


@pytest.mark.parametrize(
    ("gender", "labels"), [("female", ["female"]), ("male", ["male"]), ("any", ["male", "female"])]
)
def test_the_provider_gives_detectors(node, models, pictures, gender: str, labels: list[str]) -> None:
    boxes, heads = node("AnigenderDetectorProvider").provide(gender, models=models)
    assert [seg.label for seg in boxes.detect(pictures("fm"), 0.5, 0, 3.0)[1]] == labels
    a, b = boxes.detect_combined(pictures("fm"), 0.5, 0), heads.detect_combined(pictures("fm"), 0.5, 0)
    assert a.shape == b.shape == (96, 160) and float(a.sum()) > float(b.sum()) > 0
    assert boxes.detect_combined(pictures(" "), 0.5, 0) is None


@pytest.mark.parametrize(
    ("name", "function"),
    [("AnigenderPickFace", "pick"), ("AnigenderHeadCrops", "crop"), ("AnigenderFacesToSegs", "convert")],
)
def test_faces_of_other_pictures_are_refused(node, found, pictures, name: str, function: str) -> None:
    faces = found(pictures("f", "m"))
    with pytest.raises(ValueError, match="input `faces`: .*2 pictures, the batch has 1"):
        getattr(node(name), function)(faces, pictures("f"))
    with pytest.raises(ValueError, match="input `faces`: .*160 x 96, this is 80 x 96"):
        getattr(node(name), function)(faces, pictures("f", "m")[:, :, :80])
