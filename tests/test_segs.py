"""SEGS: the fields that detailers read, crop regions, splitting those of other detectors, and the detector provider."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from anigender.faces import Faces
from anigender.images import Batch
from anigender.pipeline import Pipeline
from anigender.segs import SEG, GenderDetector, classify_segs, crop_region, faces_to_segs, split_segs

SIZE = (100, 120)
Foreign = namedtuple("SEG", SEG._fields, defaults=[None])  # what another pack has made itself


class FoundHeads:
    """A detector that always finds these boxes, by falling score."""

    device = torch.device("cpu")

    def __init__(self, boxes: Sequence[Sequence[float]], scores: Sequence[float]) -> None:
        self.boxes, self.scores, self.threshold = boxes, scores, 0.5

    def detect(self, batch: Batch) -> Faces:
        kept = [(box, score) for box, score in zip(self.boxes, self.scores, strict=True) if score >= self.threshold]
        return Faces.from_boxes([[b for b, _ in kept]] * len(batch), batch.sizes, [[s for _, s in kept]] * len(batch))


class BlueIsMale:
    """A classifier that goes by the blue channel: the probability of male is its mean."""

    device, size, margin = torch.device("cpu"), 8, 1.0

    def classify(self, crops: Tensor) -> Tensor:
        blue = crops[:, 2].mean((1, 2))
        return torch.stack((1 - blue, blue), 1)


def pipeline(boxes: Sequence[Sequence[float]] = (), scores: Sequence[float] = ()) -> Pipeline:
    return Pipeline(FoundHeads(boxes, scores), BlueIsMale())


def picture() -> Tensor:
    """Left half red (a woman's colour here), right half blue (a man's)."""
    image = torch.zeros(1, *SIZE, 3)
    image[:, :, :60, 0] = 1
    image[:, :, 60:, 2] = 1
    return image


def faces() -> Faces:
    """A woman on the left, a man on the right."""
    found = Faces.from_boxes([[[10, 10, 30, 30], [80, 40, 110, 80]]], sizes=[SIZE])
    return found.with_probabilities(torch.tensor([[0.9, 0.1], [0.2, 0.8]]))


def seg(box: Sequence[float], label: str = "face", image: Tensor | None = None) -> Foreign:
    region = crop_region(box, *SIZE, 2)
    mask = np.ones((region[3] - region[1], region[2] - region[0]), np.float32)
    return Foreign(image, mask, np.float32(0.7), region, np.array(box), label, "wrapper")


@pytest.mark.parametrize(
    ("box", "factor", "region"),
    [
        ((40, 40, 60, 60), 1, [40, 40, 60, 60]),
        ((40, 40, 60, 60), 2, [30, 30, 70, 70]),
        ((0, 0, 20, 20), 2, [0, 0, 40, 40]),
        ((100, 80, 120, 100), 2, [80, 60, 120, 100]),
        ((40, 40, 60, 60), 100, [0, 0, 120, 100]),
        ((50, 50, 50, 50), 3, [50, 50, 51, 51]),
        ((10.4, 10.6, 30.4, 30.6), 1, [10, 11, 30, 31]),
    ],
)
def test_a_crop_region_is_whole_pixels_inside_the_picture(box, factor: float, region: list[int]) -> None:
    found = crop_region(box, *SIZE, factor)
    assert found == region and all(type(v) is int for v in found)


def test_a_seg_has_what_consumers_read() -> None:
    image = picture()
    (size, (woman, man)) = faces_to_segs(faces(), image, crop_factor=2)[0]
    assert size == SIZE and (woman.label, man.label) == ("female", "male")
    assert SEG._fields == tuple(
        "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper".split()
    )
    assert woman.confidence == pytest.approx(0.9) and woman.control_net_wrapper is None
    for one in (woman, man):
        x1, y1, x2, y2 = one.crop_region
        assert isinstance(one.cropped_mask, np.ndarray) and one.cropped_mask.dtype == np.float32
        assert one.cropped_mask.shape == (y2 - y1, x2 - x1) and one.cropped_mask.ndim == 2
        assert torch.equal(one.cropped_image, image[:, y1:y2, x1:x2])
        bx1, by1, bx2, by2 = one.bbox
        assert one.cropped_mask.sum() == (bx2 - bx1) * (by2 - by1)
    woman.cropped_image.zero_()
    assert torch.equal(image, picture()), "writing into a piece leaves the picture alone"
    assert woman._replace(label="x").label == "x"


@pytest.mark.parametrize(("dilation", "side"), [(0, 20), (10, 30), (-10, 10)])
def test_dilation(dilation: int, side: int) -> None:
    woman = faces_to_segs(faces(), crop_factor=3, dilation=dilation)[0][1][0]
    assert woman.cropped_image is None
    assert int(woman.cropped_mask.sum()) == side * side


@pytest.mark.parametrize(("drop_size", "left"), [(1, 2), (19, 2), (20, 1), (29, 1), (30, 0)])
def test_small_faces_are_dropped(drop_size: int, left: int) -> None:
    assert len(faces_to_segs(faces(), drop_size=drop_size)[0][1]) == left


def test_every_picture_has_segs_and_those_of_an_empty_one_are_empty() -> None:
    batch = Faces.concatenate([faces(), Faces.empty([SIZE]), faces()])
    assert [len(segs[1]) for segs in faces_to_segs(batch, picture().expand(3, -1, -1, -1))] == [2, 0, 2]
    assert faces_to_segs(Faces.empty([])) == []


def test_hooks_are_called_where_they_exist() -> None:
    class Hook:
        def post_crop_region(self, w, h, bbox, region):
            assert (w, h) == (SIZE[1], SIZE[0]) and bbox[0] < bbox[2]
            return [0, 0, w, h]

        def post_detection(self, segs):
            return segs[0], segs[1][:1]

    size, found = faces_to_segs(faces(), picture(), hook=Hook())[0]
    assert size == SIZE and len(found) == 1 and found[0].crop_region == [0, 0, 120, 100]
    assert found[0].cropped_mask.shape == SIZE
    assert len(faces_to_segs(faces(), picture(), hook=object())[0][1]) == 2


def test_splitting_keeps_everything_but_label_and_confidence() -> None:
    image = torch.rand(1, 9, 9, 3)
    given = (SIZE, [seg((80, 40, 110, 80)), seg((10, 10, 30, 30), "person", image), seg((0, 60, 20, 80))])
    found = classify_segs(given, picture(), pipeline(), "head")
    female, male, both = split_segs(given, found)
    assert [s.label for s in both[1]] == ["male", "female", "female"]
    assert [s.label for s in female[1]] == ["female", "female"] and [s.label for s in male[1]] == ["male"]
    assert female[0] == male[0] == both[0] == SIZE
    for before, after in zip(given[1], both[1], strict=True):
        assert type(after) is Foreign
        assert after.cropped_mask is before.cropped_mask and after.cropped_image is before.cropped_image
        assert after.crop_region is before.crop_region and after.bbox is before.bbox
        assert after.control_net_wrapper == "wrapper" and after.confidence == pytest.approx(1.0)


def test_an_unsure_seg_keeps_its_label_and_is_in_neither() -> None:
    given = (SIZE, [seg((50, 10, 70, 30)), seg((10, 10, 30, 30))])  # the first lies across the middle
    female, male, both = split_segs(given, classify_segs(given, picture(), pipeline(), "head"), 0.9)
    assert ([s.label for s in both[1]], len(female[1]), len(male[1])) == (["face", "female"], 1, 0)
    assert both[1][0] is given[1][0]


@pytest.mark.parametrize(
    ("heads", "labels"),
    [
        ([], ["female"]),
        ([[85, 5, 105, 25]], ["male"]),
        ([[5, 5, 25, 25], [85, 5, 105, 25]], ["female"]),
    ],
)
def test_a_persons_head_decides_when_it_is_found(heads, labels: list[str]) -> None:
    # A box around two halves, mostly red: as a face it would be female.
    given = (SIZE, [seg((0, 0, 112, 100), "person")])
    found = classify_segs(given, picture(), pipeline(heads, [0.9] * len(heads)), "auto")
    both = split_segs(given, found)[2]
    if len(heads) < 2:
        assert [s.label for s in both[1]] == labels
    else:
        assert both[1][0].label in ("female", "male")


def test_no_segs_are_no_segs() -> None:
    given = (SIZE, [])
    for match in ("auto", "face", "head"):
        assert split_segs(given, classify_segs(given, picture(), pipeline(), match)) == (given, given, given)


@pytest.mark.parametrize(
    ("segs", "image", "match", "message"),
    [
        ((SIZE, []), picture(), "body", "'body'"),
        ((SIZE, []), picture().expand(2, -1, -1, -1), "auto", r"\[2, 100, 120, 3\]"),
        (((50, 60), []), picture(), "auto", "60 x 50, but this one is 120 x 100"),
        (None, picture(), "auto", "SEGS are None, expected"),
        (SIZE, picture(), "auto", "expected .*SEG"),
        ((SIZE, 3), picture(), "auto", "expected .*SEG"),
        ((SIZE, "SEG"), picture(), "auto", "expected .*SEG"),
        (({"x": 1}, []), picture(), "auto", "expected .*SEG"),
        (((10**400, None), []), picture(), "auto", "expected .*SEG"),
        ((SIZE, [[1, 2, 3, 4]]), picture(), "auto", r"SEG 0 is \[1, 2, 3, 4\], expected a SEG with a bbox"),
        (
            (SIZE, [seg((1, 2, 3, 4)), seg((1, 2, 3, 4))._replace(bbox=7)]),
            picture(),
            "auto",
            "the bbox of SEG 1 is 7, expected x1, y1, x2, y2",
        ),
        ((SIZE, [seg((1, 2, 3, 4))._replace(bbox=(1, 2, 3))]), picture(), "auto", "expected x1, y1, x2, y2"),
        ((SIZE, [seg((1, 2, 3, 4))._replace(bbox=(1, 2, 3, 10**400))]), picture(), "auto", "expected x1, y1, x2, y2"),
        (
            (SIZE, [seg((1, 2, 3, 4))._replace(bbox=(1, 2, 3, float("nan")))]),
            picture(),
            "auto",
            "expected x1 <= x2 and y1 <= y2",
        ),
        ((SIZE, [seg((1, 2, 3, 4))._replace(bbox=(9, 2, 3, 4))]), picture(), "auto", "expected x1 <= x2 and y1 <= y2"),
        ((SIZE, [seg((1, 2, 3, 4))._replace(bbox=(1, 2, 1e30, 4))]), picture(), "auto", "none beyond 1e.09"),
    ],
)
def test_what_is_wrong_is_said(segs, image: Tensor, match: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classify_segs(segs, image, pipeline(), match)


@pytest.mark.parametrize(
    ("gender", "minimum", "threshold", "labels"),
    [
        (None, 0.5, 0.5, ["female", "male"]),
        ("female", 0.5, 0.5, ["female"]),
        ("male", 0.5, 0.5, ["male"]),
        (None, 0.5, 0.65, ["male"]),
        (None, 0.5, 0.1, ["female", "male", "male"]),
        (None, 0.95, 0.1, ["female", "male"]),
        ("female", 0.5, 1.0, []),
    ],
)
def test_the_detector_finds_only_what_is_wanted(gender, minimum: float, threshold: float, labels: list[str]) -> None:
    boxes = [[10, 10, 30, 30], [80, 40, 110, 80], [56, 60, 76, 80]]  # red, blue, four fifths blue
    found = pipeline(boxes, [0.6, 0.8, 0.3])
    detector = GenderDetector(lambda: found, gender, minimum)
    size, segs = detector.detect(picture(), threshold, 0, 3.0)
    assert size == SIZE and sorted(s.label for s in segs) == labels
    mask = detector.detect_combined(picture(), threshold, 0)
    assert (mask is None) == (not labels)
    if mask is not None:
        assert mask.shape == SIZE and mask.dtype == torch.float32
    assert found.detector.threshold == 0.5, "the shared detector stays as it was"


def test_the_detector_takes_five_arguments_or_seven_and_drops_what_is_small() -> None:
    detector = GenderDetector(lambda: pipeline([[10, 10, 30, 30], [80, 40, 110, 80]], [0.9, 0.9]), shape="head")
    assert len(detector.detect(picture(), 0.5, 4, 3.0, 20)[1]) == 1
    assert len(detector.detect(picture(), 0.5, 4, 3.0, 1, None)[1]) == 2
    assert len(detector.detect(picture(), 0.5, 4, 3.0, drop_size=0, detailer_hook=None)[1]) == 2
    detector.setAux("face")
    with pytest.raises(ValueError, match="one picture"):
        detector.detect(picture().expand(2, -1, -1, -1), 0.5, 4, 3.0)
    with pytest.raises(ValueError, match="'woman'"):
        GenderDetector(pipeline, "woman")
