"""Numbers: the same picture has the same answer in any batch, beside any neighbours, with any threads, at any time.

On the CPU in float32 that is exact where the same kernels see the same shapes, and else within the bounds below: a
convolution over four pictures adds the same products in another order than one over a single picture, and so does one
that is shared between threads. What is decided from those numbers (how many heads, in which order, which gender) is
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import anigender
from anigender.boxes import pairwise_iou
from anigender.faces import Faces
from anigender.folders import read_image
from anigender.images import check, head_crops, resize
from anigender.pipeline import Pipeline

PIXELS = 1e-3  # of a box; the most seen was 0.00012
SHARE = 1e-5  # of a score or probability; the most seen was 0.00000012
# On a GPU crops are sampled from mip maps and not cut at whole pixels, and it computes in other precisions. The first
# way, on the CPU, moved the examples' probabilities by up to 0.043.
OVERLAP_ON_GPU, SHARE_ON_GPU = 0.85, 0.1


@pytest.fixture(scope="module")
def pictures(examples: Path) -> list[Tensor]:
    """The examples, of many sizes, with one to six people; and what no head is in."""
    files = [path for path in sorted(examples.iterdir()) if path.suffix in (".png", ".jpg", ".webp")]
    drawn = [smaller(read_image(path), 2 + i % 2) for i, path in enumerate(files[:6])]
    noise = torch.randint(0, 256, (133, 217, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return [*drawn[:3], noise, *drawn[3:], torch.zeros(40, 40, 3, dtype=torch.uint8)]


def smaller(picture: Tensor, factor: int) -> Tensor:
    """Tests are quicker on small pictures, and the net sees large ones no larger."""
    height, width = (side // factor for side in picture.shape[:2])
    return resize(picture[None], height, width)[0].permute(1, 2, 0).contiguous()


@pytest.fixture(scope="module")
def together(embedded: Pipeline, pictures: list[Tensor]) -> Faces:
    """All of them in one call."""
    faces = embedded(pictures)
    assert len(faces) >= 8
    return faces


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def assert_close(found: Faces, expected: Faces, pixels: float = PIXELS, share: float = SHARE) -> None:
    """The same heads in the same order, and numbers within these bounds."""
    assert found.image_index.tolist() == expected.image_index.tolist()
    assert found.image_sizes.tolist() == expected.image_sizes.tolist()
    assert found.gender == expected.gender
    for name, bound in (("boxes", pixels), ("scores", share), ("probabilities", share)):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=bound, rtol=0, msg=name)


def joined(parts: list[Faces]) -> Faces:
    return Faces.concatenate(parts)


def test_a_batch_is_its_single_pictures(embedded: Pipeline, pictures: list[Tensor], together: Faces) -> None:
    assert_close(joined([embedded([picture]) for picture in pictures]), together)


@pytest.mark.parametrize("chunk", [1, 3])
def test_the_size_of_the_pieces(embedded: Pipeline, pictures: list[Tensor], together: Faces, chunk: int) -> None:
    other = Pipeline(embedded.detector, embedded.classifier, chunk)
    assert_close(other(pictures), together)


def test_pictures_of_one_size_as_a_tensor(embedded: Pipeline, pictures: list[Tensor]) -> None:
    side = 256
    alike = [picture[:side, :side] for picture in pictures if min(picture.shape[:2]) >= side]
    assert len(alike) >= 3
    assert_close(embedded(torch.stack(alike)), joined([embedded([picture]) for picture in alike]))


def test_two_runs_are_equal(embedded: Pipeline, pictures: list[Tensor], together: Faces) -> None:
    assert_close(embedded(pictures), together, 0, 0)


def test_a_fresh_pipeline_is_equal(pictures: list[Tensor], together: Faces) -> None:
    assert_close(anigender.load(device="cpu", dtype=torch.float32)(pictures), together, 0, 0)


def test_nothing_drifts(embedded: Pipeline, pictures: list[Tensor]) -> None:
    first = embedded(pictures[:1])
    for _ in range(3):
        embedded(pictures[1:4])
        assert_close(embedded(pictures[:1]), first, 0, 0)


def test_one_thread_and_two(embedded: Pipeline, pictures: list[Tensor], threads: Callable[[int], None]) -> None:
    found = []
    for count in (1, 2):
        threads(count)
        found.append(embedded(pictures[:3]))
    assert_close(*found)


@pytest.mark.parametrize("seed", range(2))
def test_the_neighbours_do_not_matter(embedded: Pipeline, pictures: list[Tensor], together: Faces, seed: int) -> None:
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed)).tolist()
    found = embedded([pictures[i] for i in order])
    assert_close(joined([found.of_image(order.index(i)) for i in range(len(pictures))]), together)


@pytest.mark.parametrize("neighbour", ["black", "white", "noise", "huge", "tiny"])
def test_a_neighbour_of_any_kind(embedded: Pipeline, pictures: list[Tensor], neighbour: str) -> None:
    picture = pictures[0]
    other = {
        "black": torch.zeros_like(picture),
        "white": torch.full_like(picture, 255),
        "noise": torch.randint(0, 256, picture.shape, generator=torch.Generator().manual_seed(2), dtype=torch.uint8),
        "huge": torch.full((1500, 2000, 3), 90, dtype=torch.uint8),
        "tiny": torch.full((1, 1, 3), 90, dtype=torch.uint8),
    }[neighbour]
    alone = embedded([picture])
    assert len(alone)
    for place, batch in enumerate(([picture, other], [other, picture])):
        assert_close(embedded(batch).of_image(place), alone)


@pytest.mark.parametrize("cut", (1, 6, 15, 33))
def test_sizes_that_share_a_canvas(embedded: Pipeline, pictures: list[Tensor], cut: int) -> None:
    """Pictures a few pixels apart are padded to one canvas and run together: none sees the other's padding."""
    whole = pictures[0][:320, :320]
    less = whole[: len(whole) - cut, : whole.shape[1] - cut // 2]
    alone = [embedded([whole]), embedded([less])]
    assert_close(embedded([whole, less]), joined(alone))


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64])
def test_crops_do_not_depend_on_their_batch(kind: torch.dtype, pictures: list[Tensor], together: Faces) -> None:
    given = [picture if kind == torch.uint8 else picture.to(kind) / 255 for picture in pictures]
    crops = head_crops(check(given), together, 64, 1.5, 0.17)
    parts = [head_crops(check([given[i]]), together.of_image(i), 64, 1.5, 0.17) for i in range(len(given))]
    assert torch.equal(crops, torch.cat(parts))


@pytest.mark.parametrize("count", [1, 2, 5, 17])
def test_a_crop_is_judged_by_itself(embedded: Pipeline, count: int) -> None:
    size = embedded.classifier.size
    crops = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))
    at_once = embedded.classifier.classify(crops)
    singly = torch.cat([embedded.classifier.classify(crop[None]) for crop in crops])
    torch.testing.assert_close(at_once, singly, atol=SHARE, rtol=0)
    torch.testing.assert_close(at_once.sum(1), torch.ones(count), atol=1e-6, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("on_device", [True, False])
def test_a_gpu_says_what_the_cpu_says(pictures: list[Tensor], together: Faces, on_device: bool) -> None:
    pipeline = anigender.load(device="cuda", dtype=torch.float32)
    found = pipeline([picture.cuda() for picture in pictures] if on_device else pictures).cpu()
    for i in range(len(pictures)):
        mine, theirs = together.of_image(i), found.of_image(i)
        sure = mine.filter(mine.scores >= 0.5)
        if not len(sure):
            continue
        best = pairwise_iou(sure.boxes, theirs.boxes).max(1)
        assert bool((best.values >= OVERLAP_ON_GPU).all()), (sure.boxes, theirs.boxes)
        apart = (sure.probabilities - theirs.probabilities[best.indices]).abs()  # type: ignore[index, operator]
        assert float(apart.max()) <= SHARE_ON_GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu(pictures: list[Tensor]) -> None:
    pipeline = anigender.load(device="cuda", dtype=torch.float32)
    given = [picture.cuda() for picture in pictures]
    first = pipeline(given).cpu()
    assert_close(pipeline(given).cpu(), first, 0.5, 0.01)
    assert_close(joined([pipeline([picture]).cpu() for picture in given]), first, 0.5, 0.01)
