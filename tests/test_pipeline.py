"""The whole way: batches of any make, in pieces of any size, with memory running out, one by one or together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import anigender
from anigender.faces import Faces
from anigender.images import Batch
from anigender.pipeline import CHUNK, CHUNK_ON_CPU, Pipeline


class Bright:
    """Finds one head in every picture that is not black, in its upper left quarter; fails above a number of them."""

    device = torch.device("cpu")

    def __init__(self, most: int = 10_000, error: Any = torch.OutOfMemoryError) -> None:
        self.most, self.error = most, error
        self.batches: list[int] = []

    def detect(self, batch: Batch) -> Faces:
        self.batches.append(len(batch))
        if len(batch) > self.most:
            raise self.error("no room") if isinstance(self.error, type) else self.error
        light = {
            i: float(pixels.float().mean())
            for group in batch.groups
            for i, pixels in zip(group.index, group.pixels, strict=True)
        }
        boxes = [[[0, 0, w / 2, h / 2]] if light[i] > 0 else [] for i, (h, w) in enumerate(batch.sizes)]
        return Faces.from_boxes(boxes, batch.sizes)


class Reddish:
    """The mean of red is the probability of female; fails above a number of crops."""

    device = torch.device("cpu")
    size = 8
    margin = 1.0

    def __init__(self, most: int = 10_000, error: Any = torch.OutOfMemoryError) -> None:
        self.most, self.error = most, error
        self.batches: list[int] = []

    def classify(self, crops: Tensor) -> Tensor:
        self.batches.append(len(crops))
        if len(crops) > self.most:
            raise self.error("no room") if isinstance(self.error, type) else self.error
        female = crops[:, 0].mean((1, 2))
        return torch.stack((female, 1 - female), 1)


def shades(count: int) -> Tensor:
    """Pictures of rising red; the first is black."""
    images = torch.zeros(count, 16, 12, 3)
    images[..., 0] = (torch.arange(count) / count)[:, None, None]
    return images


def assert_same(found: Faces, expected: Faces, tolerance: float = 0.0) -> None:
    assert found.image_index.tolist() == expected.image_index.tolist()
    assert found.image_sizes.tolist() == expected.image_sizes.tolist()
    for name in ("boxes", "scores", "probabilities"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=tolerance, rtol=tolerance)


@pytest.fixture
def real(random_headnet_file: Path) -> Pipeline:
    """Real nets in float32, the detector with random weights so that there is something to classify."""
    return anigender.load(random_headnet_file, "auto", "cpu", torch.float32)


@pytest.fixture
def noise() -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    sizes = [(96, 96), (70, 130), (96, 96), (64, 64), (96, 96), (200, 90), (70, 130)]
    return [torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8) for size in sizes]


# -- kinds of input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [torch.zeros(0, 16, 16, 3), torch.zeros(0, 16, 16, 3, dtype=torch.uint8), []])
def test_an_empty_batch(embedded: Pipeline, images: Any) -> None:
    faces = embedded(images)
    assert (len(faces), faces.images, faces.gender) == (0, 0, [])
    assert faces.probabilities is not None and faces.probabilities.shape == (0, 2)


def test_no_face_is_a_normal_result(embedded: Pipeline) -> None:
    faces = embedded(torch.zeros(3, 48, 40, 3))
    assert (len(faces), faces.images, faces.gender, faces.confidence.tolist()) == (0, 3, [], [])
    assert faces.image_sizes.tolist() == [[48, 40]] * 3


def test_bytes_floats_lists_and_tensors_give_the_same(real: Pipeline, noise: list[Tensor]) -> None:
    alike = [noise[0], noise[2], noise[4]]
    expected = real(torch.stack(alike))
    assert len(expected) > 0
    assert_same(real(alike), expected)
    assert_same(real(tuple(alike)), expected)
    assert_same(real(torch.stack(alike).float() / 255), expected)
    assert_same(real(torch.stack(alike).double() / 255), expected)
    opaque = torch.cat((torch.stack(alike), torch.full((3, 96, 96, 1), 255, dtype=torch.uint8)), -1)
    assert_same(real(opaque), expected)


@pytest.mark.parametrize(
    ("images", "error", "part"),
    [
        (torch.zeros(16, 16, 3), ValueError, "images[None]"),
        (torch.zeros(2, 16, 16, 5), ValueError, "image 0"),
        ([torch.zeros(16, 16, 3), torch.zeros(16, 16)], ValueError, "image 1"),
        (["a.png"], TypeError, "image 0"),
        ("a.png", TypeError, "str"),
        (torch.zeros(2, 16, 16, 3).long(), TypeError, "int64"),
    ],
)
def test_what_breaks_the_contract(embedded: Pipeline, images: Any, error: type[Exception], part: str) -> None:
    with pytest.raises(error) as caught:
        embedded(images)
    assert part in str(caught.value)


@pytest.mark.parametrize(("bad", "chunk"), [(0, 2), (3, 2), (5, 2), (5, 16), (6, 4), (6, 1)])
@pytest.mark.parametrize("as_list", [False, True])
def test_the_picture_with_nan_is_named_in_whichever_piece_it_is(bad: int, chunk: int, as_list: bool) -> None:
    images = shades(7)
    images[bad, 3, 3, 1] = float("nan")
    with pytest.raises(ValueError, match=f"image {bad} holds NaN"):
        Pipeline(Bright(), Reddish(), chunk)(list(images) if as_list else images)  # type: ignore[arg-type]


# -- pieces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk", "pieces"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 3, 1]), (7, [7]), (16, [7]), (0, [1] * 7)]
)
def test_the_size_of_the_pieces_does_not_matter(chunk: int, pieces: list[int]) -> None:
    detector = Bright()
    faces = Pipeline(detector, Reddish(), chunk)(shades(7))  # type: ignore[arg-type]
    assert detector.batches == pieces
    assert faces.image_index.tolist() == [1, 2, 3, 4, 5, 6]
    assert faces.images == 7
    assert faces.probabilities is not None
    torch.testing.assert_close(faces.probabilities[:, 0], torch.arange(1, 7) / 7, atol=0.004, rtol=0)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_real_nets_in_pieces(real: Pipeline, noise: list[Tensor], chunk: int) -> None:
    expected = real(noise)
    assert len(set(expected.image_index.tolist())) >= 2
    real.chunk = chunk
    assert_same(real(noise), expected, 0.01)


def test_a_batch_gives_what_its_pictures_give_one_by_one(real: Pipeline, noise: list[Tensor]) -> None:
    together = real(noise)
    assert_same(together, Faces.concatenate([real([picture]) for picture in noise]), 0.01)
    assert_same(real(noise[::-1]).of_image(6), together.of_image(0), 0.01)


def test_progress_is_reported_after_each_piece() -> None:
    told: list[tuple[int, int]] = []
    Pipeline(Bright(), Reddish(), 3)(shades(7), lambda done, total: told.append((done, total)))  # type: ignore[arg-type]
    assert told == [(3, 7), (6, 7), (7, 7)]
    Pipeline(Bright(), Reddish(), 3)([], lambda done, total: told.append((done, total)))  # type: ignore[arg-type]
    assert len(told) == 3


def test_pieces_fit_the_device_that_the_detector_is_on() -> None:
    detector = Bright()
    Pipeline(detector, Reddish())(shades(9))  # type: ignore[arg-type]
    assert detector.batches == [CHUNK_ON_CPU, CHUNK_ON_CPU, 1]
    detector.device = torch.device("meta")  # any other; its pictures may well be in host memory
    Pipeline(detector, Reddish())(shades(CHUNK + 1))  # type: ignore[arg-type]
    assert detector.batches[3:] == [CHUNK, 1]


def test_what_progress_raises_ends_the_call() -> None:
    detector = Bright()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(detector, Reddish(), 2)(shades(7), stop)  # type: ignore[arg-type]
    assert detector.batches == [2]


class Stop(BaseException):
    pass


@pytest.mark.parametrize("step", ["detect", "classify"])
def test_a_call_is_interrupted_between_its_steps(step: str) -> None:
    detector, classifier, pressed = Bright(), Reddish(), []

    def interrupt() -> None:
        if pressed:
            raise Stop

    part = detector if step == "detect" else classifier
    work = getattr(part, step)
    setattr(part, step, lambda given: (pressed.append(step), work(given))[1])
    with pytest.raises(Stop):
        Pipeline(detector, classifier, 2, interrupt=interrupt)(shades(6))  # type: ignore[arg-type]
    assert (detector.batches, classifier.batches) == ([2], [] if step == "detect" else [1])


@pytest.mark.parametrize("part", ["detector", "classifier"])
def test_a_call_is_interrupted_inside_a_net(real: Pipeline, noise: list[Tensor], part: str) -> None:
    net = getattr(real, part).net
    convolutions = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)]
    ran, pressed = [], []
    for i, layer in enumerate(convolutions):
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
    convolutions[3].register_forward_hook(lambda *_: pressed.append(True))

    def interrupt() -> None:
        if pressed:
            raise Stop

    real.interrupt = interrupt
    with pytest.raises(Stop):
        real(noise)
    assert max(ran) == 3, "layers ran after the button was pressed"
    pressed.clear()
    real.interrupt = None
    assert len(real(noise)) > 0 and max(ran) == len(convolutions) - 1


def test_the_nets_of_all_parts_are_known(real: Pipeline) -> None:
    assert real.nets == [real.detector.net, real.classifier.net]  # type: ignore[attr-defined]
    other = anigender.load(device="cpu").classifier
    real.detector.verifier = other  # type: ignore[attr-defined]
    assert real.nets == [real.detector.net, other.net, real.classifier.net]  # type: ignore[attr-defined]
    assert Pipeline(Bright(), Reddish()).nets == []  # type: ignore[arg-type]


def test_other_limits_keep_the_rest() -> None:
    pipeline = Pipeline(Bright(), Reddish(), 3, interrupt=lambda: None)  # type: ignore[arg-type]
    other = pipeline.adjusted(threshold=0.5)
    assert (other.chunk, other.interrupt) == (3, pipeline.interrupt)


# -- memory ----------------------------------------------------------------------------------------------------------

ON_THE_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 12 bytes")
ON_WINDOWS = RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried")
ON_MPS = RuntimeError(
    "MPS backend out of memory (MPS allocated: 8.02 GB, other allocations: 1.10 GB, max allowed: 9 GB)"
)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, ON_THE_CPU, ON_WINDOWS, ON_MPS])
@pytest.mark.parametrize(
    ("chunk", "most", "tried"),
    [(8, 3, [8, 4, 2, 2, 2, 1]), (4, 1, [4, 2, 1, 1, 1, 1, 1, 1, 1]), (3, 2, [3, 1, 1, 1, 1, 1, 1, 1]), (4, 4, [4, 3])],
)
def test_running_out_of_memory_halves_the_pieces(error: Any, chunk: int, most: int, tried: list[int]) -> None:
    detector = Bright(most, error)
    pipeline = Pipeline(detector, Reddish(), chunk)  # type: ignore[arg-type]
    faces = pipeline(shades(7))
    assert detector.batches == [min(n, 7) for n in tried]
    assert_same(faces, Pipeline(Bright(), Reddish())(shades(7)))  # type: ignore[arg-type]
    assert pipeline.chunk == chunk  # the next call starts anew


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, ON_THE_CPU])
def test_one_picture_that_is_too_much_is_given_up(error: Any) -> None:
    detector = Bright(0, error)
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        Pipeline(detector, Reddish(), 4)(shades(7))  # type: ignore[arg-type]
    assert detector.batches == [4, 2, 1]


def test_the_words_of_the_cpu_allocator_are_known() -> None:
    """PyTorch has no class for this error, so its text is compared; this says when the text changes."""

    class Greedy(Bright):
        def detect(self, batch: Batch) -> Faces:
            if len(batch) > 2:
                torch.empty(1 << 50)
            return super().detect(batch)

    assert Pipeline(Greedy(), Reddish(), 4)(shades(4)).images == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [RuntimeError("wrong shapes"), ZeroDivisionError("x"), KeyboardInterrupt()])
def test_other_errors_are_not_tried_again(error: BaseException) -> None:
    detector = Bright(2, error)
    with pytest.raises(type(error)):
        Pipeline(detector, Reddish(), 4)(shades(7))  # type: ignore[arg-type]
    assert detector.batches == [4]


# -- boxes of others, and loading ------------------------------------------------------------------------------------


def test_boxes_that_something_else_found_are_classified() -> None:
    faces = Faces.from_boxes([[[0, 0, 5, 5], [2, 2, 9, 9]], [], [[1, 1, 4, 4]]], [(16, 12)] * 3)
    found = Pipeline(Bright(), Reddish()).classify(shades(3), faces)  # type: ignore[arg-type]
    assert torch.equal(found.boxes, faces.boxes)
    assert found.probabilities is not None
    torch.testing.assert_close(found.probabilities[:, 0], torch.tensor([0, 0, 2 / 3]), atol=0.004, rtol=0)


def boxes_for(count: int) -> Faces:
    """Two boxes in every picture but the third, which has none."""
    both = [[0.0, 0.0, 6.0, 6.0], [4.0, 4.0, 12.0, 12.0]]
    return Faces.from_boxes([[] if i == 2 else both for i in range(count)], [(16, 12)] * count)


@pytest.mark.parametrize("chunk", [1, 2, 3, 16])
def test_boxes_of_others_are_classified_in_pieces(chunk: int) -> None:
    classifier, told = Reddish(), []
    pipeline = Pipeline(Bright(), classifier, chunk)  # type: ignore[arg-type]
    found = pipeline.classify(shades(7), boxes_for(7), lambda done, total: told.append((done, total)))
    assert len(classifier.batches) == len(told) == -(-7 // chunk) and told[-1] == (7, 7)
    assert_same(found, Pipeline(Bright(), Reddish(), 7).classify(shades(7), boxes_for(7)))  # type: ignore[arg-type]
    assert found.probabilities is not None
    expected = torch.tensor([i / 7 for i in (0, 0, 1, 1, 3, 3, 4, 4, 5, 5, 6, 6)])
    torch.testing.assert_close(found.probabilities[:, 0], expected, atol=0.004, rtol=0)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, ON_THE_CPU])
def test_boxes_of_others_are_classified_with_little_memory(error: Any) -> None:
    classifier = Reddish(4, error)
    pipeline = Pipeline(Bright(), classifier, 8)  # type: ignore[arg-type]
    assert_same(
        pipeline.classify(shades(7), boxes_for(7)), Pipeline(Bright(), Reddish()).classify(shades(7), boxes_for(7))
    )  # type: ignore[arg-type]
    assert classifier.batches == [12, 6, 4, 2, 4, 2]
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        Pipeline(Bright(), Reddish(1, error), 8).classify(shades(7), boxes_for(7))  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [torch.zeros(0, 16, 12, 3), []])
def test_boxes_of_no_pictures(embedded: Pipeline, images: Any) -> None:
    faces = embedded.classify(images, Faces.empty([]))
    assert (len(faces), faces.images, faces.gender) == (0, 0, [])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(16, 12, 3), r"images\[None\]"),
        (shades(3), "the faces belong to 7 images, 3 were given"),
        (shades(7).index_fill(0, torch.tensor([5]), float("nan")), "image 5 holds NaN"),
    ],
)
def test_pictures_that_boxes_cannot_be_in(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pipeline(Bright(), Reddish(), 2).classify(images, boxes_for(7))  # type: ignore[arg-type]


def test_load_names(random_headnet_file: Path) -> None:
    whole = anigender.load("whole-image", device="cpu", dtype=torch.float32)
    faces = whole(torch.zeros(2, 30, 20, 3))
    assert faces.boxes.tolist() == [[0, 0, 20, 30]] * 2 and len(faces.gender) == 2
    assert anigender.load(str(random_headnet_file), device="cpu").detector.device.type == "cpu"
    for arguments in ({"detector": "nobody"}, {"classifier": "nobody"}):
        with pytest.raises(ValueError, match="'nobody' is neither a known name"):
            anigender.load(**arguments)


def test_load_takes_the_precision_asked_for() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        pipeline = anigender.load(device="cpu", dtype=dtype)
        assert pipeline.detector.dtype == pipeline.classifier.dtype == dtype  # type: ignore[attr-defined]


def test_bfloat16_finds_nearly_the_same(random_headnet_file: Path, noise: list[Tensor], real: Pipeline) -> None:
    fast = anigender.load(random_headnet_file, "auto", "cpu", torch.bfloat16)
    faces = fast.classify(noise, real(noise))
    expected = real(noise)
    assert faces.probabilities is not None and expected.probabilities is not None
    assert (faces.probabilities - expected.probabilities).abs().max() < 0.1
