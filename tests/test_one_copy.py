"""On a device that is not the host: the whole batch is worked on without a wait, and read with one copy.

There need not be such a device. Tensors on ``meta`` have no values, so whatever would ask for one fails there; and the
host itself can be told to work as other devices do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from anigender import images as images_module
from anigender import load
from anigender import pipeline as pipeline_module
from anigender.drawing import draw_faces
from anigender.faces import Faces
from anigender.folders import read_image
from anigender.fused import FusedConv2d
from anigender.images import Batch, Group
from anigender.masks import face_masks
from anigender.padded import PaddedFaces, Room, first_rows, read
from anigender.pipeline import Pipeline
from anigender.selection import face_crops, one_crop_per_picture, take_masks, take_pictures
from anigender.texture import build
from anigender.transfer import moved

EXAMPLES = Path(__file__).parents[1] / "examples"
READS = {"cpu", "tolist", "item", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__", "__len__"}


class Watch(TorchFunctionMode):
    """Notes each question to a tensor whose answer is its values, and each copy to a device that would block."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        result = function(*args, **kwargs)
        if name in READS and name != "__len__":
            self.asked.append(name)
        if isinstance(result, Tensor) and result.device.type == "meta":
            sources = [a for a in args if isinstance(a, Tensor)]
            made = name in ("tensor", "as_tensor", "to") and all(s.device.type == "cpu" for s in sources)
            if made and not kwargs.get("non_blocking", False):
                self.asked.append(f"{name} blocks")
            if name == "__getitem__" and isinstance(args[1], list):
                self.asked.append("a list as index")
        return result


@pytest.fixture
def pipeline() -> Pipeline:
    return load(device="cpu", dtype=torch.float32)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host works as other devices do, with less room, because it is slow to fill."""
    monkeypatch.setattr(Room, "usual", lambda images: Room(16 * images, 4 * images))
    for module in (images_module, pipeline_module):
        monkeypatch.setattr(module, "on_host", lambda batch: False)
    yield


@pytest.fixture(scope="module")
def pictures() -> list[Tensor]:
    names = ["pair_woman_man.webp", "group_of_six.webp", "no_people_street.jpg", "solo_man_glasses.webp"]
    return [read_image(EXAMPLES / name)[::2, ::2].contiguous() for name in names]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_nothing_is_asked_of_the_device_before_the_end(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, channels: int
) -> None:
    settled: list[Any] = []
    monkeypatch.setattr(Pipeline, "_settled", lambda self, images, parts: settled.extend(parts) or [Faces.empty([])])
    for net in pipeline.nets:
        net.to("meta")
    pictures = [torch.empty(h, w, channels, dtype=dtype, device="meta") for h, w in [(700, 500), (64, 64), (700, 500)]]
    with Watch() as watch:
        pipeline(pictures * 6)
    assert watch.asked == []
    assert [type(part) for part in settled] == [PaddedFaces, PaddedFaces] and settled[0].probabilities is not None


def test_the_watch_notices_what_it_is_for() -> None:
    here = torch.ones(3)
    with Watch() as watch:
        torch.tensor([1], device="meta")
        here.to("meta")
        here.to("meta", non_blocking=True)
        torch.empty(3, device="meta")[[0, 1]]
        here.tolist(), bool(here[0]), here.nonzero()
    assert watch.asked == ["tensor blocks", "to blocks", "a list as index", "tolist", "__bool__", "nonzero"]


class Copied(Exception):
    """Tells how."""


@pytest.mark.parametrize(
    ("device", "waits"),
    [("cuda", False), ("cuda:1", False), ("meta", False), ("mps", True), ("xpu", True), ("cpu", True)],
)
@pytest.mark.parametrize("move", [moved, lambda sizes, device: Faces.empty(sizes).to(device)], ids=["array", "faces"])
def test_a_copy_is_waited_for_where_it_may_be_made_later(
    monkeypatch: pytest.MonkeyPatch, move: Any, device: str, waits: bool
) -> None:
    """None of these devices need be there: it is seen what is asked of them."""

    def to(self: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        raise Copied(non_blocking)

    sizes = torch.ones(1, 2, dtype=torch.int64)
    if device == "cpu" and move is not moved:
        return  # they are there
    monkeypatch.setattr(Tensor, "to", to)
    with pytest.raises(Copied) as caught:
        move(sizes, device)
    assert caught.value.args == (not waits,)


@pytest.mark.parametrize(
    "use",
    [
        lambda images, faces: face_masks(faces, feather=4.0, device=images.device),
        lambda images, faces: draw_faces(images, faces),
        lambda images, faces: face_crops(images, faces, 32, 1.2),
        lambda images, faces: one_crop_per_picture(images, faces, 32, 1.2),
        lambda images, faces: take_pictures(images, [2, 0]),
        lambda images, faces: take_masks(images[..., 0], [1], 3),
    ],
    ids=["masks", "preview", "crops", "pick", "filter", "masks of pictures"],
)
def test_what_is_done_with_faces_asks_nothing_either(use: Any) -> None:
    """The faces are in host memory by then, the pictures are not."""
    faces = Faces.from_boxes([[[4, 4, 30, 30]], [], [[2, 8, 50, 60], [9, 9, 20, 20]]], [(64, 64)] * 3)
    faces = faces.with_probabilities(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    with Watch() as watch:
        result = use(torch.empty(3, 64, 64, 3, device="meta"), faces)
    assert result.device.type == "meta"
    on_meta = [question for question in watch.asked if "blocks" in question or "a list" in question]
    assert on_meta == []


@pytest.mark.usefixtures("elsewhere")
def test_the_results_of_all_pieces_are_read_with_one_copy(pipeline: Pipeline, pictures: list[Tensor]) -> None:
    pipeline.chunk = 2
    pipeline(pictures)  # loads what is loaded lazily
    with Watch() as watch:
        faces = pipeline(pictures)
        faces.cpu(), faces.gender, faces[0], list(faces)
    assert watch.asked.count("cpu") == 1  # other questions are the checks of arrays that are in host memory
    assert len(faces) >= 8 and faces.on_host is not None


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("room", "chunk"), [(Room(1, 1), 1), (Room(1, 1), 3), (Room(9, 2), 16), (Room(80, 2), 16), (Room(9, 20), 3)]
)
def test_where_room_is_short_the_result_is_the_same(
    pipeline: Pipeline, pictures: list[Tensor], room: Room, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.chunk = chunk
    expected = pipeline(pictures)
    monkeypatch.setattr(Room, "usual", lambda images: room)
    assert_close(pipeline(pictures), expected, 1e-4, 1e-3)


@pytest.mark.usefixtures("elsewhere")
def test_a_batch_gives_what_its_pictures_give(pipeline: Pipeline, pictures: list[Tensor]) -> None:
    """To within the rounding of coordinates in a larger texture."""
    together = pipeline(pictures)
    assert_close(together, Faces.concatenate([pipeline([picture]) for picture in pictures]), 1e-3, 1e-2)


def test_both_ways_agree(pipeline: Pipeline, pictures: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """To within what two filters make of a crop (0.06 seen); the boxes come from the same candidates."""
    expected = pipeline(pictures)
    for module in (images_module, pipeline_module):
        monkeypatch.setattr(module, "on_host", lambda batch: False)
    monkeypatch.setattr(Room, "usual", lambda images: Room(16 * images, 4 * images))
    found = pipeline(pictures)
    # Two heads that are as sure may change places, so both are ordered from left to right.
    here, there = found.order("left-right"), expected.order("left-right")
    sure = there.confidence > 0.58
    assert torch.equal(here.gender_index[sure], there.gender_index[sure])
    assert_close(found, expected, 0.08, 0.08, order=False)


@pytest.mark.usefixtures("elsewhere")
def test_no_face_and_no_picture(pipeline: Pipeline) -> None:
    faces = pipeline(torch.zeros(3, 40, 50, 3))
    assert (len(faces), faces.images, faces.gender) == (0, 3, [])
    assert faces.cpu().probabilities is not None
    assert pipeline(torch.zeros(0, 40, 50, 3)).images == 0


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 2, 3], ids=["first of all", "first of a piece", "last of a piece"])
def test_nan_is_found_when_the_results_are_read(
    pipeline: Pipeline, place: int, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unchecked(images: Tensor, first: int = 0) -> Batch:
        """On other devices values are neither looked at nor made bytes."""
        places = list(range(len(images)))
        return Batch([Group(images, places)], [(40, 50)] * len(images), images.device, first)

    monkeypatch.setattr(pipeline_module, "check", unchecked)
    # What the plain convolutions of other devices do with NaN: they pass it on.
    monkeypatch.setattr(FusedConv2d, "_fuses", lambda self, x: False)
    pictures = torch.zeros(5, 40, 50, 3)
    pictures[place, 7, 9, 1] = bad
    pipeline.chunk = 2
    with pytest.raises(ValueError, match=f"image {place} holds NaN or infinity"):
        pipeline(pictures)


def test_a_crop_of_no_place_is_sampled_somewhere() -> None:
    """Out of bounds, a GPU would stop answering for good."""
    texture = build([(torch.rand(1, 40, 50, 3), [0])], 1, torch.device("cpu"))
    nowhere = torch.tensor([math.nan, math.inf, 8.0])
    crops = texture.crops(torch.zeros(3, dtype=torch.int64), nowhere[:, None].expand(-1, 2), nowhere, 8)
    assert crops.shape == (3, 3, 8, 8) and bool(crops[2].isfinite().all())


@pytest.mark.parametrize(
    ("counts", "room", "expected"),
    [
        ((3, 2), Room(3, 2), None),
        ((4, 2), Room(3, 2), Room(4, 4)),
        ((3, 3), Room(3, 2), Room(3, 3)),
        ((9, 9), Room(), None),
        ((0, 0), Room(3, 2), None),
    ],
)
def test_what_did_not_fit_says_how_much_would(counts: tuple[int, int], room: Room, expected: Room | None) -> None:
    rows = 9 if room.faces is None else room.faces
    part = PaddedFaces(
        torch.rand(rows, 4), torch.rand(rows), torch.zeros(rows, dtype=torch.int64), torch.tensor(counts),
        torch.ones(1, dtype=torch.bool), [(8, 8)], room,
    )  # fmt: skip
    (found,) = read([part])
    assert found == expected if expected else isinstance(found, Faces) and len(found) == counts[1]


@pytest.mark.parametrize(
    ("mask", "room", "expected"),
    [
        ([], None, []),
        ([], 4, []),
        ([0, 1, 1], None, [1, 2]),
        ([0, 1, 1], 1, [1]),
        ([0, 1, 1], 2, [1, 2]),
        ([0, 1, 1], 9, [1, 2, 0]),
        ([0, 0], 9, [0, 1]),
    ],
)
def test_first_rows(mask: list[int], room: int | None, expected: list[int]) -> None:
    assert first_rows(torch.tensor(mask, dtype=torch.bool), room).tolist() == expected


def assert_close(found: Faces, expected: Faces, probability: float, score: float, order: bool = True) -> None:
    found, expected = found.cpu(), expected.cpu()
    assert found.image_index.tolist() == expected.image_index.tolist()
    assert found.image_sizes.tolist() == expected.image_sizes.tolist()
    if not order:
        found, expected = found.order("left-right"), expected.order("left-right")
    torch.testing.assert_close(found.boxes, expected.boxes, atol=0.01, rtol=0)
    torch.testing.assert_close(found.scores, expected.scores, atol=score, rtol=0)
    assert found.probabilities is not None and expected.probabilities is not None
    torch.testing.assert_close(found.probabilities, expected.probabilities, atol=probability, rtol=0)
