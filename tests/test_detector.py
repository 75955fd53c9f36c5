"""What every detector promises, asked of all of the registry and of a net with random weights."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from anigender.bounding_boxes import KINDS, head_boxes
from anigender.detect import (
    DETECTORS,
    FILES,
    Detector,
    GivenBoxes,
    HeadDetector,
    WholeImage,
    load_detector,
    read_head_detector,
)
from anigender.detect.cascade import Cascade
from anigender.detect.found import as_heads
from anigender.detect.head_detector import LONGEST, working_size
from anigender.detect.headnet import STRIDES, HeadNet
from anigender.faces import Faces
from anigender.images import check
from anigender.inference import fold_batch_norms
from anigender.weights import ASSETS, read_weights

NAMES = [*DETECTORS, *FILES]
BOXES = '{"kind": "face", "boxes": [{"x": 0, "y": 0, "width": 30, "height": 30, "score": 0.5}, [0, 0, 5, 90]]}'


@pytest.fixture(params=NAMES)
def detector(
    request: pytest.FixtureRequest, random_headnet_file: Path, write_cascade: Callable[..., Path], tmp_path: Path
) -> Detector:
    """Every detector in float32."""
    name = request.param
    if name == "yolo":
        name = request.getfixturevalue("write_yolo")()
    elif name == "weights":
        name = random_headnet_file
    elif name == "lbp":
        name = write_cascade(tmp_path / "random.xml", side=24, stages=10, seed=2)
    elif name == "given-boxes":
        name = tmp_path / "boxes.json"
        name.write_text(BOXES)
    try:
        return load_detector(name, "cpu", torch.float32)
    except (ImportError, RuntimeError) as error:
        if name in DETECTORS:
            pytest.skip(str(error))
        raise


@pytest.fixture
def random_detector(random_headnet_file: Path) -> HeadDetector:
    """The detector with random weights, which finds something in every noise."""
    return read_head_detector(random_headnet_file, "cpu", torch.float32)


@pytest.fixture(scope="session")
def pictures(examples: Path) -> list[Tensor]:
    """Pictures of several sizes: drawings, noise, flat colours, tiny and thin ones."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for name in ("pair_women.jpg", "solo_man_stubble.jpg"):
        with Image.open(examples / name) as image:
            found.append(torch.from_numpy(np.asarray(image.convert("RGB").resize((250, 190))).copy()))
    for shape in ((190, 250), (64, 64), (130, 70), (64, 64)):
        found.append(torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8))
    for shape in ((1, 1), (3, 200), (90, 40)):
        found.append(torch.full((*shape, 3), 200, dtype=torch.uint8))
    return found


def assert_same(found: Faces, expected: Faces) -> None:
    """The same faces up to the rounding of float32 sums."""
    assert found.image_index.tolist() == expected.image_index.tolist()
    assert found.image_sizes.tolist() == expected.image_sizes.tolist()
    torch.testing.assert_close(found.boxes, expected.boxes, atol=0.02, rtol=1e-4)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-3)


# -- what all promise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [torch.zeros(0, 8, 8, 3), []])
def test_an_empty_batch(detector: Detector, images: Tensor | list[Tensor]) -> None:
    faces = detector.detect(check(images))
    assert (len(faces), faces.images, faces.boxes.shape) == (0, 0, (0, 4))


def test_the_result_fits_the_batch(detector: Detector, pictures: list[Tensor]) -> None:
    faces = detector.detect(check(pictures))
    assert faces.images == len(pictures)
    assert faces.image_sizes.tolist() == [list(p.shape[:2]) for p in pictures]
    assert faces.boxes.dtype == faces.scores.dtype == torch.float32
    assert faces.image_index.dtype == faces.image_sizes.dtype == torch.int64
    assert faces.probabilities is None
    assert faces.device == detector.device
    assert faces.image_index.tolist() == sorted(faces.image_index.tolist())
    for i in range(faces.images):
        own = faces.of_image(i)
        assert own.scores.tolist() == sorted(own.scores.tolist(), reverse=True)
    assert bool(((faces.scores > 0) & (faces.scores <= 1)).all())
    # Boxes are inside their pictures and not empty.
    assert torch.equal(faces.clipped().boxes, faces.boxes)
    assert bool((faces.boxes[:, 2:] > faces.boxes[:, :2]).all())


def test_a_batch_gives_what_its_pictures_give_one_by_one(detector: Detector, pictures: list[Tensor]) -> None:
    alone = [detector.detect(check([picture])) for picture in pictures]
    assert_same(detector.detect(check(pictures)), Faces.concatenate(alone))


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_the_size_of_a_batch_does_not_matter(detector: Detector, pictures: list[Tensor], count: int) -> None:
    picture = pictures[2]
    faces = detector.detect(check(picture.expand(count, -1, -1, -1)))
    one = detector.detect(check(picture[None]))
    assert_same(faces, Faces.concatenate([one] * count))


def test_neighbours_do_not_matter(detector: Detector, pictures: list[Tensor]) -> None:
    picture = pictures[2]
    expected = detector.detect(check([picture]))
    for neighbour in (torch.zeros_like(picture), torch.full_like(picture, 255), pictures[0], pictures[6]):
        assert_same(detector.detect(check([neighbour, picture])).of_image(1), expected)
        assert_same(detector.detect(check([picture, neighbour])).of_image(0), expected)


def test_floats_and_bytes_give_the_same(detector: Detector, pictures: list[Tensor]) -> None:
    expected = detector.detect(check(pictures))
    assert_same(detector.detect(check([picture.float() / 255 for picture in pictures])), expected)


def test_a_threshold_and_a_size_leave_the_others_as_they_are(detector: Detector, pictures: list[Tensor]) -> None:
    batch = check(pictures)
    everything = detector.detect(batch)
    heads = as_heads(everything, detector.region).boxes if detector.region != "head" else everything.boxes
    if not hasattr(detector, "threshold"):
        pytest.skip("a detector without limits")
    detector.threshold = float(everything.scores.median())
    assert_same(detector.detect(batch), everything.filter(everything.scores >= detector.threshold))
    detector.threshold, detector.minimum_size = 1.0, 1e6  # type: ignore[attr-defined]
    none = detector.detect(batch)
    assert (len(none), none.images, len(heads)) == (0, len(pictures), len(everything))


def test_boxes_say_what_they_frame_and_become_heads(detector: Detector, pictures: list[Tensor]) -> None:
    assert detector.region in KINDS
    found = detector.detect(check(pictures))
    heads = as_heads(found, detector.region)
    assert torch.equal(heads.clipped().boxes, heads.boxes) and torch.equal(heads.scores, found.scores)
    expected = found.boxes if detector.region == "head" else head_boxes(found.boxes, detector.region)
    torch.testing.assert_close(heads.boxes, replace(found, boxes=expected).clipped().boxes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_finds_the_same(detector: Detector, pictures: list[Tensor]) -> None:
    expected = detector.detect(check(pictures))
    if hasattr(detector, "net"):
        detector.net.to("cuda")
    else:
        detector.device = torch.device("cuda")  # type: ignore[misc]
    assert_same(detector.detect(check([picture.cuda() for picture in pictures])).cpu(), expected)


# -- the head detector -----------------------------------------------------------------------------------------------


def test_random_weights_find_something(random_detector: HeadDetector, pictures: list[Tensor]) -> None:
    """Else the tests above would compare nothing with nothing."""
    faces = random_detector.detect(check(pictures))
    assert len(faces) >= 5 and len(set(faces.image_index.tolist())) >= 2


def test_a_random_cascade_finds_something(
    write_cascade: Callable[..., Path], pictures: list[Tensor], tmp_path: Path
) -> None:
    faces = load_detector(write_cascade(tmp_path / "random.xml", side=24, stages=10, seed=2)).detect(check(pictures))
    assert len(faces) >= 5 and len(set(faces.image_index.tolist())) >= 2


def test_no_face_is_a_normal_result(random_detector: HeadDetector, pictures: list[Tensor]) -> None:
    random_detector.threshold = 1.0
    faces = random_detector.detect(check(pictures))
    assert (len(faces), faces.images) == (0, len(pictures))
    assert faces.count_by_image().tolist() == [0] * len(pictures)


def test_a_higher_threshold_leaves_the_others_as_they_are(
    random_detector: HeadDetector, pictures: list[Tensor]
) -> None:
    batch = check(pictures)
    everything = random_detector.detect(batch)
    random_detector.threshold = float(everything.scores.median())
    assert_same(random_detector.detect(batch), everything.filter(everything.scores >= random_detector.threshold))


@pytest.mark.parametrize("threshold", [0.0, 0.001])
def test_suppressed_boxes_are_never_reported(random_detector: HeadDetector, threshold: float) -> None:
    """A threshold of 0 is allowed, and must not bring back what was suppressed."""
    from anigender.boxes import pairwise_iou

    random_detector.threshold = threshold
    faces = random_detector.detect(check(torch.rand(1, 200, 200, 3, generator=torch.Generator().manual_seed(1))))
    assert len(faces) > 0
    assert float(faces.scores.min()) > 0
    overlaps = pairwise_iou(faces.boxes, faces.boxes)
    overlaps.fill_diagonal_(0)
    assert float(overlaps.max()) <= random_detector.iou_threshold + 0.01


def test_a_smallest_size_leaves_smaller_heads_out(random_detector: HeadDetector, pictures: list[Tensor]) -> None:
    batch = check(pictures)
    everything = random_detector.detect(batch)
    sides = (everything.boxes[:, 2:] - everything.boxes[:, :2]).amin(1)
    random_detector.minimum_size = float(sides.median())
    kept = random_detector.detect(batch)
    assert_same(kept, everything.filter(sides >= random_detector.minimum_size))
    assert 0 < len(kept) < len(everything)


def test_a_large_picture_is_searched_smaller_and_its_boxes_scaled_back(random_detector: HeadDetector) -> None:
    noise = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    small, large = (
        torch.nn.functional.interpolate(noise, (side, side), mode="bilinear").permute(0, 2, 3, 1) for side in (128, 512)
    )
    random_detector.threshold = 0.01
    expected = random_detector.detect(check(small))
    random_detector.area = 128 * 128
    faces = random_detector.detect(check(large))
    assert faces.image_sizes.tolist() == [[512, 512]]
    best, reference = faces.boxes[0], expected.boxes[0] * 4
    assert (best - reference).abs().max() < 8  # the resampled picture is not quite the small one


@pytest.mark.parametrize(
    ("height", "width", "area", "expected"),
    [
        (100, 100, 10_000, (100, 100)),
        (100, 100, 1_000_000, (100, 100)),  # never enlarged
        (200, 200, 10_000, (100, 100)),
        (400, 100, 10_000, (200, 50)),
        (1, 1, 10_000, (1, 1)),
        (20_000, 10, 1_000_000, (LONGEST, 2)),
        (10, 20_000, 1_000_000, (2, LONGEST)),
        (100_000, 1, 1_000_000, (LONGEST, 1)),
    ],
)
def test_working_sizes(height: int, width: int, area: int, expected: tuple[int, int]) -> None:
    assert working_size(height, width, area) == expected


def test_a_thin_picture_is_no_trouble(random_detector: HeadDetector) -> None:
    faces = random_detector.detect(check(torch.full((1, 20_000, 10, 3), 128, dtype=torch.uint8)))
    assert faces.image_sizes.tolist() == [[20_000, 10]]
    assert torch.equal(faces.clipped().boxes, faces.boxes)


def test_the_net_has_one_cell_per_stride() -> None:
    with torch.no_grad():
        raw = HeadNet(neck=4).eval()(torch.zeros(1, 3, 128, 192))
    counts = [(128 // s) * (192 // s) for s in STRIDES]
    assert raw.logits.shape == (1, sum(counts)) and raw.squares.shape == (1, sum(counts), 3)
    assert raw.centres[0].tolist() == [4, 4] and raw.centres[1].tolist() == [12, 4]
    assert raw.strides.unique(return_counts=True)[1].tolist() == counts
    assert bool((raw.squares[..., 2] > 0).all())


# -- files -----------------------------------------------------------------------------------------------------------


def test_saving_and_loading_keeps_the_outputs(random_headnet: HeadNet, random_detector: HeadDetector) -> None:
    x = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = random_headnet(x), random_detector.net(x)
    torch.testing.assert_close(found.logits, expected.logits, atol=0.03, rtol=0.01)  # stored in half precision
    torch.testing.assert_close(found.squares, expected.squares, atol=0.5, rtol=0.01)


def test_the_file_says_its_preprocessing(random_headnet_file: Path) -> None:
    tensors, metadata = read_weights(random_headnet_file)
    assert metadata["anigender.architecture"] == "headnet"
    assert metadata["anigender.region"] == "head"
    for name in ("mean", "std", "threshold", "iou_threshold", "area", "channel_order"):
        assert f"anigender.{name}" in metadata
    assert all(not t.is_floating_point() or t.dtype == torch.float16 for t in tensors.values())
    assert random_headnet_file.stat().st_size <= 3_000_000


def test_what_the_caller_asks_for_goes_before_the_file(random_headnet: HeadNet, random_headnet_file: Path) -> None:
    metadata = read_weights(random_headnet_file)[1]
    net = fold_batch_norms(random_headnet)
    own = HeadDetector(net, metadata)
    assert (own.threshold, own.iou_threshold, own.area) == (0.4, 0.4, 512 * 512)
    asked = HeadDetector(net, metadata, threshold=0.0, area=64 * 64, minimum_size=5)
    assert (asked.threshold, asked.area, asked.minimum_size) == (0.0, 64 * 64, 5)


def empty(path: Path, good: Path) -> None:
    path.write_bytes(b"")


def text(path: Path, good: Path) -> None:
    path.write_text("not weights")


def truncated(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:-1000])


def other(path: Path, good: Path) -> None:
    save_file({"some.weight": torch.zeros(2), "a.bias": torch.zeros(1)}, path)


def incomplete(path: Path, good: Path) -> None:
    tensors, metadata = read_weights(good)
    del tensors["predict.weight"], tensors["predict.bias"]
    save_file(tensors, path, metadata)


def unsaid(name: str) -> Callable[[Path, Path], None]:
    """The embedded detector, with its verifier, whose file does not say one thing."""

    def make(path: Path, good: Path) -> None:
        tensors, metadata = read_weights(ASSETS / "head.safetensors")
        del metadata[f"anigender.{name}"]
        save_file(tensors, path, metadata)

    return make


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (unsaid("threshold"), ("is incomplete: it lacks 'anigender.threshold'; copy or download it again",)),
        (unsaid("verifier_size"), ("lacks 'anigender.verifier_size'",)),
        (unsaid("mean"), ("lacks 'anigender.mean'",)),
        (empty, ("not a whole safetensors file", "copy or download it again")),
        (text, ("not a whole safetensors file",)),
        (truncated, ("not a whole safetensors file",)),
        (other, ("not a head detector of anigender", "a.bias, some.weight", "anigender train detector")),
        (incomplete, ("lacks 2 weights", "predict.")),
    ],
)
def test_a_wrong_file_is_explained(
    tmp_path: Path, random_headnet_file: Path, make: Callable[[Path, Path], None], parts: tuple[str, ...]
) -> None:
    path = tmp_path / "wrong.safetensors"
    make(path, random_headnet_file)
    with pytest.raises(ValueError) as caught:
        load_detector(path)
    assert str(path) in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'nobody' is neither a known name") as caught:
        load_detector("nobody")
    for name in ("auto", *DETECTORS):
        assert name in str(caught.value)


def test_auto_is_the_embedded_head_detector() -> None:
    assert isinstance(load_detector("auto"), HeadDetector)
    assert isinstance(load_detector("whole-image"), WholeImage)


def test_whole_image_takes_each_picture_for_a_head() -> None:
    faces = WholeImage().detect(check([torch.zeros(4, 6, 3), torch.zeros(9, 2, 3)]))
    assert faces.boxes.tolist() == [[0, 0, 6, 4], [0, 0, 2, 9]]
    assert faces.scores.tolist() == [1, 1]
    assert faces.image_index.tolist() == [0, 1]


# -- names and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lbp", "lbp needs its file, as in lbp:FILE"),
        ("lbp:absent.xml", "there is no file absent.xml"),
        ("absent.xml", "neither a known name"),
    ],
)
def test_a_name_without_its_file_is_explained(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_detector(name)


def test_the_kind_of_a_file_can_be_said(write_cascade: Callable[..., Path], tmp_path: Path) -> None:
    path = write_cascade(tmp_path / "cascade.txt")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_detector(path)
    assert isinstance(load_detector(f"lbp:{path}"), Cascade)


@pytest.mark.parametrize("name", ["face_yolov8n.pt", "m.PTH", "zipped.bin", "pickled"])
def test_a_pickled_model_is_not_run(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save({"model": torch.zeros(3)}, path, _use_new_zipfile_serialization=name != "pickled")
    with pytest.raises(ValueError, match=rf"is a pickled model.*`yolo export model={re.escape(name)} format=onnx`"):
        load_detector(path)


@pytest.mark.parametrize(
    "text", ["", "3", "{}", '{"boxes": 3}', "[[1, 2, 3]]", '{"boxes": [], "kind": "nose"}', "[" * 9999]
)
def test_a_file_without_boxes_is_explained(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no list of boxes"):
        load_detector(path)


def test_given_boxes_follow_the_pieces_of_a_long_batch() -> None:
    boxes = [[], [(1, 2, 3, 4)], [(5, 6, 7, 8), (0, 0, 9, 9)], []]
    faces = [GivenBoxes(boxes).detect(check(torch.zeros(2, 20, 20, 3), first=first)) for first in (0, 2)]
    assert [own.boxes.tolist() for own in faces] == [[[1, 2, 4, 6]], [[5, 6, 12, 14], [0, 0, 9, 9]]]
    assert [own.image_index.tolist() for own in faces] == [[1], [0, 0]]
    with pytest.raises(ValueError, match="boxes are given for 4 pictures, the batch has 5 or more"):
        GivenBoxes(boxes).detect(check(torch.zeros(2, 20, 20, 3), first=3))


def test_a_box_for_every_picture_is_not_in_a_smaller_one() -> None:
    boxes = [(1, 2, 3, 4), (30, 0, 9, 9), (0, 20, 9, 9)]
    faces = GivenBoxes(boxes, everywhere=True).detect(check([torch.zeros(20, 20, 3), torch.zeros(40, 40, 3)]))
    assert faces.image_index.tolist() == [0, 1, 1, 1]
    assert faces.boxes[0].tolist() == [1, 2, 4, 6]


# -- animeface-2009 --------------------------------------------------------------------------------------------------


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "animeface", None)
    with pytest.raises(ImportError, match=r"python -m pip install animeface 'pillow<12'"):
        load_detector("animeface-2009")


def test_a_package_that_finds_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a Pillow too new for it, it finds nothing in any picture and says nothing."""
    silent = types.ModuleType("animeface")
    silent.detect = lambda image: []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "animeface", silent)
    with pytest.raises(RuntimeError, match="Pillow too new for it.*pillow<12"):
        load_detector("animeface-2009")
