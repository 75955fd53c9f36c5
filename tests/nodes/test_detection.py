"""Load Gender Models, Detect Gender and From Bounding Boxes as plain Python."""

from __future__ import annotations

import pytest
import torch


def test_everything_that_is_said_of_a_batch(node, models, pictures) -> None:
    image = pictures("fm", "", "ff", "M")
    faces, passed, labels, confidences, boxes, women, men, report = node("AnigenderDetect").detect(image, models=models)
    assert passed is image
    assert labels == ["male,female", "", "female,female", "male"]
    assert confidences == pytest.approx([0.8, 0, 0.9, 0.8], abs=0.01)
    assert (women, men) == ([1, 0, 2, 0], [1, 0, 0, 1])
    assert boxes[0][1] | {"score": 0} == {"x": 1, "y": 20, "width": 24, "height": 24, "label": "female", "score": 0}
    assert boxes[1] == [] and len(boxes) == 4
    assert report.splitlines()[0] == "picture 0: 1 female, 1 male" and "picture 1: no face" in report
    assert faces.images == 4 and faces.device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({}, "male,female,male"),
        ({"order": "left-right"}, "male,female,male"),
        ({"order": "large-small"}, "female,male,male"),
        ({"order": "large-small", "maximum_faces": 1}, "female"),
        ({"order": "right-left", "maximum_faces": 2}, "male,female"),
        ({"threshold": 0.65}, "male"),
        ({"minimum_size": 28}, "female"),
        ({"threshold": 1.0}, ""),
    ],
)
def test_limits_and_order(node, models, pictures, options: dict, labels: str) -> None:
    assert node("AnigenderDetect").detect(pictures("mFm"), models=models, **options)[2] == [labels]


def test_a_batch_equals_its_pictures_one_by_one(node, models, pictures) -> None:
    image = pictures("fm", "", "ff", "M", "fffff")
    whole = node("AnigenderDetect").detect(image, models=models)
    single = [node("AnigenderDetect").detect(image[i : i + 1], models=models) for i in range(len(image))]
    for output in (2, 3, 4, 5, 6):
        assert whole[output] == [entry for one in single for entry in one[output]]
    assert torch.equal(whole[0].boxes, torch.cat([one[0].boxes for one in single]))


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_no_picture_and_no_face_are_results(node, models, batch: int) -> None:
    out = node("AnigenderDetect").detect(torch.zeros(batch, 32, 32, 3), models=models)
    assert out[2:7] == ([""] * batch, [0.0] * batch, [[]] * batch, [0] * batch, [0] * batch)
    assert out[0].images == batch


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda x: x.index_fill(0, torch.tensor([3]), float("nan")), "input `image`: image 3 holds NaN or infinity"),
        (lambda x: x[0], r"input `image`: .*\[B, H, W, C\]"),
        (lambda x: x[..., :2], "input `image`: image 0 has shape .*1, 3 or 4 channels"),
        (lambda x: x[:, :0], "input `image`: image 0 .*at least one pixel"),
    ],
)
def test_a_broken_picture_is_named(node, models, pictures, broken, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        node("AnigenderDetect").detect(broken(pictures("f", "m", "f", "m")), models=models)


def test_the_embedded_models_are_the_default_and_loaded_once(node, part) -> None:
    host = part("nodes.host")
    assert node("AnigenderDetect").detect(torch.zeros(1, 64, 64, 3))[2] == [""]
    (loaded,) = node("AnigenderLoadModels").load("auto", "auto", "auto")
    assert loaded is host.load_models() and host.ready(None) is loaded.pipeline
    (exact,) = node("AnigenderLoadModels").load("whole-image", "auto", "float32")
    assert exact is not loaded
    out = node("AnigenderDetect").detect(torch.rand(2, 64, 64, 3), models=exact)
    assert [len(own) for own in out[4]] == [1, 1] and out[4][0][0]["width"] == 64


def test_an_unknown_model_is_refused_and_a_changed_file_is_noticed(node, pack, tmp_path) -> None:
    with pytest.raises(ValueError, match="input `detector / classifier`: detector 'nothing.safetensors'"):
        node("AnigenderLoadModels").load("nothing.safetensors", "auto", "auto")
    changed = pack.NODE_CLASS_MAPPINGS["AnigenderLoadModels"].IS_CHANGED
    assert changed("auto", "auto", "auto") == changed("auto", "auto", "float32") == ""
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"1")
    first = changed(str(file), "auto", "auto")
    file.write_bytes(b"22")
    assert changed(str(file), "auto", "auto") != first


def test_boxes_of_others_are_classified(node, models, pictures) -> None:
    image = pictures("fm", "", "M")
    boxes = [[{"x": 1, "y": 20, "width": 24, "height": 24}, {"x": 33, "y": 20, "width": 24, "height": 24}], [], []]
    faces, out, labels = node("AnigenderFromBoundingBoxes").classify(image, "head", bounding_boxes=boxes, models=models)
    assert labels == ["female,male", "", ""] and faces.images == 3
    assert [(b["x"], b["label"]) for b in out[0]] == [(1, "female"), (33, "male")]
    kj = node("AnigenderFromBoundingBoxes").classify(
        image, "head", bboxes=[(1, 20, 24, 24), (0, 0, 0, 0), (1, 20, 30, 30)], models=models
    )
    assert kj[2] == ["female", "", "male"]
    corners = [(1, 20, 25, 44), (0, 0, 0, 0), (1, 20, 31, 50)]
    assert node("AnigenderFromBoundingBoxes").classify(image, "head", "xyxy", bboxes=corners, models=models)[1] == kj[1]


@pytest.mark.parametrize(
    ("connected", "message"),
    [
        ({}, "`bounding_boxes` and `bboxes`"),
        ({"bounding_boxes": [], "bboxes": []}, "not both"),
        ({"bounding_boxes": [[], []]}, "input `bounding_boxes`: .*2 pictures, the batch has 3"),
        ({"bboxes": [(500, 0, 5, 5)] * 3}, "input `bboxes`: .*outside picture 0"),
    ],
)
def test_wrong_boxes_are_named(node, models, pictures, connected: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        node("AnigenderFromBoundingBoxes").classify(pictures("f", "m", ""), models=models, **connected)
