"""The image contract, and head crops: what is cut, at which pixels, and that both ways of cutting agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anigender import images as module
from anigender.faces import Faces
from anigender.images import Batch, check, head_crops, resize, to_rgb, unit_range

NAN, INF = float("nan"), float("inf")


def spoiled(value: float, image: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Three pictures, one value of one of them replaced."""
    pixels = torch.full((3, 5, 6, 3), 0.5, dtype=dtype)
    pixels[image, 3, 2, 1] = value
    return pixels


def pixels_of(batch: Batch) -> list[Tensor]:
    """The checked pictures in the batch's order."""
    found: dict[int, Tensor] = {}
    for group in batch.groups:
        found.update(zip(group.index, group.pixels, strict=True))
    return [found[i] for i in range(len(batch))]


# -- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize(("channels", "expected"), [(1, [102, 102, 102]), (3, [102, 51, 204]), (4, [179, 153, 230])])
def test_every_precision_and_channel_count(dtype: torch.dtype, channels: int, expected: list[int]) -> None:
    values = torch.tensor([0.4, 0.2, 0.8, 0.5])[:channels]
    pixel = (values * 255).round().to(dtype) if dtype == torch.uint8 else values.to(dtype)
    batch = check(pixel.expand(2, 5, 7, channels).clone())
    assert (len(batch), batch.sizes, batch.device.type) == (2, [(5, 7), (5, 7)], "cpu")
    for pixels in pixels_of(batch):
        assert pixels.dtype == torch.uint8 and pixels.shape == (5, 7, 3)
        assert (pixels.int() - torch.tensor(expected)).abs().max() <= 1


@pytest.mark.parametrize(
    ("value", "expected"), [(-0.02, 0), (-3.0, 0), (0.0, 0), (0.5, 128), (1.0, 255), (1.01, 255), (7.0, 255)]
)
def test_a_little_out_of_range_is_clamped(value: float, expected: int) -> None:
    assert pixels_of(check(torch.full((1, 2, 2, 3), value)))[0].unique().tolist() == [expected]


@pytest.mark.parametrize(
    ("images", "error", "parts"),
    [
        (torch.zeros(8, 8, 3), ValueError, ("[8, 8, 3]", "[B, H, W, C]", "images[None]")),
        (torch.zeros(8, 8), ValueError, ("[8, 8]", "[B, H, W, C]")),
        (torch.zeros(1, 2, 8, 8, 3), ValueError, ("[1, 2, 8, 8, 3]", "[B, H, W, C]")),
        (torch.zeros(2, 0, 8, 3), ValueError, ("image 0", "[0, 8, 3]", "at least one pixel")),
        (torch.zeros(2, 8, 0, 3), ValueError, ("image 0", "[8, 0, 3]", "at least one pixel")),
        (torch.zeros(2, 8, 8, 2), ValueError, ("image 0", "[8, 8, 2]", "1, 3 or 4 channels")),
        (torch.zeros(2, 8, 8, 0), ValueError, ("image 0", "[8, 8, 0]", "1, 3 or 4 channels")),
        (torch.zeros(2, 3, 8, 9), ValueError, ("image 0", "[3, 8, 9]", "channels come last")),
        (torch.zeros(2, 8, 8, 3, dtype=torch.int64), TypeError, ("image 0", "int64", "uint8")),
        (torch.zeros(2, 8, 8, 3, dtype=torch.bool), TypeError, ("image 0", "bool", "uint8")),
        (torch.zeros(2, 8, 8, 3, dtype=torch.int8), TypeError, ("image 0", "int8", "uint8")),
        (spoiled(NAN, 1), ValueError, ("image 1", "NaN or infinity", "0-1")),
        (spoiled(INF, 2), ValueError, ("image 2", "NaN or infinity")),
        (spoiled(-INF, 0), ValueError, ("image 0", "NaN or infinity")),
        (spoiled(NAN, 2, torch.float16), ValueError, ("image 2", "NaN or infinity", "half precision")),
        (spoiled(INF, 1, torch.bfloat16), ValueError, ("image 1", "NaN or infinity")),
        (list(spoiled(NAN, 2)), ValueError, ("image 2", "NaN or infinity")),
        ([torch.zeros(2, 2, 3), *spoiled(NAN, 1)], ValueError, ("image 2", "NaN or infinity")),
        ([torch.zeros(2, 2, 3), torch.zeros(2, 2)], ValueError, ("image 1", "[2, 2]", "[H, W, C]")),
        ([torch.zeros(2, 2, 3), torch.zeros(1, 2, 2, 3)], ValueError, ("image 1", "[1, 2, 2, 3]", "[H, W, C]")),
        ([torch.zeros(2, 2, 3), torch.zeros(2, 0, 3)], ValueError, ("image 1", "[2, 0, 3]", "pixel")),
        ([torch.zeros(2, 2, 3), torch.zeros(2, 2, 5)], ValueError, ("image 1", "[2, 2, 5]", "channels")),
        ([torch.zeros(2, 2, 3), torch.zeros(2, 2, 3).int()], TypeError, ("image 1", "int32")),
        ([torch.zeros(2, 2, 3), np.zeros((2, 2, 3))], TypeError, ("image 1", "ndarray", "torch tensor")),
        (["a.png"], TypeError, ("image 0", "str")),
        ("a.png", TypeError, ("str", "[B, H, W, C]")),
        (np.zeros((1, 2, 2, 3)), TypeError, ("ndarray", "[B, H, W, C]")),
        (None, TypeError, ("NoneType",)),
    ],
)
def test_what_breaks_the_contract_is_named(images: Any, error: type[Exception], parts: tuple[str, ...]) -> None:
    with pytest.raises(error) as caught:
        check(images)
    for part in parts:
        assert part in str(caught.value)


def test_messages_count_from_the_first_picture_of_the_whole_batch() -> None:
    for images in (spoiled(NAN, 1), list(spoiled(NAN, 1))):
        with pytest.raises(ValueError, match="image 33 holds NaN"):
            check(images, first=32)
    with pytest.raises(ValueError, match="image 33 has shape"):
        check([torch.zeros(2, 2, 3), torch.zeros(2, 2, 2)], first=32)


@pytest.mark.parametrize("images", [torch.zeros(0, 8, 8, 3), []])
def test_an_empty_batch_is_a_batch(images: Any) -> None:
    batch = check(images)
    assert (len(batch), batch.sizes, batch.groups) == (0, [], [])


def test_pictures_of_several_sizes_are_grouped_and_keep_their_places() -> None:
    given_images = [
        torch.full((h, w, 3), i * 10, dtype=torch.uint8) for i, (h, w) in enumerate([(4, 5), (6, 5), (4, 5)])
    ]
    batch = check(given_images)
    assert batch.sizes == [(4, 5), (6, 5), (4, 5)]
    assert sorted(group.index for group in batch.groups) == [[0, 2], [1]]
    for found, expected in zip(pixels_of(batch), given_images, strict=True):
        assert torch.equal(found, expected)


def test_checking_does_not_change_the_callers_pixels() -> None:
    for channels in (1, 3, 4):
        images = torch.rand(2, 5, 5, channels) * 1.5 - 0.2
        before = images.clone()
        check(images)
        assert torch.equal(images, before)


@pytest.mark.parametrize(("background", "expected"), [(1.0, 255), (0.0, 0), (0.5, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_alpha_shows_the_background(background: float, expected: int, dtype: torch.dtype) -> None:
    clear = torch.zeros(1, 2, 2, 4, dtype=dtype)
    clear[..., 0] = 1
    assert pixels_of(check(clear, background))[0].unique().tolist() == [expected]
    assert to_rgb(clear, background).shape == (1, 2, 2, 3)


def test_unit_range() -> None:
    assert unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert unit_range(torch.tensor([-1.0, 0.25, 2.0])).tolist() == [0, 0.25, 1]
    assert bool(unit_range(torch.tensor([NAN])).isnan().all())
    assert unit_range(torch.tensor([0.5]), torch.float16).dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_resize_has_a_share_for_every_pixel(dtype: torch.dtype) -> None:
    flat = torch.full((2, 30, 20, 3), 1, dtype=dtype)
    assert resize(flat, 30, 20).shape == (2, 3, 30, 20)
    assert (resize(flat, 3, 4).float() - 1).abs().max() < 1e-5
    if dtype.is_floating_point:
        flat[1, 17, 9, 2] = NAN
        assert resize(flat, 3, 4).isnan().any((1, 2, 3)).tolist() == [False, True]


# -- head crops ------------------------------------------------------------------------------------------------------


def ramp(height: int, width: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Red is the column, green the row, blue constant: a crop says where it was cut."""
    pixels = torch.zeros(1, height, width, 3, dtype=dtype)
    pixels[..., 0] = torch.arange(width, dtype=dtype)
    pixels[..., 1] = torch.arange(height, dtype=dtype)[:, None]
    pixels[..., 2] = 77
    return pixels


def crop(images: Tensor, box: list[float], size: int, margin: float = 1.0, outside: str = "edge") -> Tensor:
    """One crop in bytes, ``[3, size, size]``."""
    faces = Faces.from_boxes([[box]], [tuple(images.shape[1:3])])
    return (head_crops(images, faces, size, margin, outside=outside)[0] * 255).round()


def test_a_crop_of_its_own_size_is_cut_exactly() -> None:
    picture = ramp(40, 60)
    found = crop(picture, [10, 20, 18, 28], 8)
    assert torch.equal(found, picture[0, 20:28, 10:18].permute(2, 0, 1).float())
    # A margin of 2 shows as much again around it.
    assert torch.equal(crop(picture, [10, 20, 18, 28], 16, 2.0), picture[0, 16:32, 6:22].permute(2, 0, 1).float())


def test_an_oblong_box_is_cut_square_over_its_longer_side() -> None:
    picture = ramp(60, 60)
    assert torch.equal(crop(picture, [20, 10, 24, 18], 8), picture[0, 10:18, 18:26].permute(2, 0, 1).float())


def test_a_shrunk_crop_averages() -> None:
    found = crop(ramp(64, 64), [16, 16, 48, 48], 8)
    # Cells of 4 pixels: the first is columns 16..19, the last 44..47; the triangle filter leans on neighbours.
    assert (found[0, 0] - (torch.arange(8) * 4 + 17.5)).abs().max() <= 1
    assert (found[1, :, 0] - (torch.arange(8) * 4 + 17.5)).abs().max() <= 1
    assert found[2].unique().tolist() == [77]


def test_an_enlarged_crop_interpolates() -> None:
    found = crop(ramp(64, 64), [16, 16, 24, 24], 32)
    assert (found[0, 5, 4:28] - ((torch.arange(32) + 0.5) / 4 + 15.5)[4:28]).abs().max() <= 1


@pytest.mark.parametrize(
    ("box", "column", "row"),
    [
        ([-8, 8, 8, 24], [0] * 8 + list(range(8)), list(range(8, 24))),  # over the left edge
        ([24, 8, 40, 24], [*range(24, 32), *[31] * 8], list(range(8, 24))),  # right
        ([8, -8, 24, 8], list(range(8, 24)), [0] * 8 + list(range(8))),  # above
        ([8, 24, 24, 40], list(range(8, 24)), [*range(24, 32), *[31] * 8]),  # below
        ([-8, -8, 8, 8], [0] * 8 + list(range(8)), [0] * 8 + list(range(8))),  # a corner
        ([-100, 8, -84, 24], [0] * 16, list(range(8, 24))),  # wholly outside: the nearest column
        ([100, 8, 116, 24], [31] * 16, list(range(8, 24))),
        ([100, 200, 116, 216], [31] * 16, [31] * 16),
        ([-100, -200, -84, -184], [0] * 16, [0] * 16),
    ],
)
def test_beyond_the_picture_its_edge_is_repeated(box: list[float], column: list[int], row: list[int]) -> None:
    found = crop(ramp(32, 32), box, 16)
    assert found[0, 3].tolist() == column
    assert found[1, :, 3].tolist() == row


@pytest.mark.parametrize("cut", ["one by one", "at once"])
@pytest.mark.parametrize(
    ("box", "columns", "rows"),
    [
        ([8, 8, 24, 24], [0, 16], [0, 16]),
        ([-8, 8, 8, 24], [8, 16], [0, 16]),
        ([24, 8, 40, 24], [0, 8], [0, 16]),
        ([8, -8, 24, 8], [0, 16], [8, 16]),
        ([8, 24, 24, 40], [0, 16], [0, 8]),
        ([-8, -8, 8, 8], [8, 16], [8, 16]),
        ([-16, -16, 48, 48], [4, 12], [4, 12]),
    ],
)
def test_beyond_the_picture_there_may_be_its_mean_colour(
    cut: str, box: list[float], columns: list[int], rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if cut == "at once":
        monkeypatch.setattr(module, "on_host", lambda batch: False)
    edge, mean = (crop(ramp(32, 32), box, 16, outside=outside) for outside in ("edge", "mean"))
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[rows[0] : rows[1], columns[0] : columns[1]] = True
    assert bool(((mean - edge)[:, inside].abs() <= 1).all())
    expected = edge[:, inside].mean(1, keepdim=True)
    assert bool(((mean[:, ~inside] - expected).abs() <= 1).all())


@pytest.mark.parametrize("cut", ["one by one", "at once"])
def test_a_box_larger_than_the_picture_shows_it_small_in_its_middle(cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if cut == "at once":
        monkeypatch.setattr(module, "on_host", lambda batch: False)
    picture = torch.zeros(1, 40, 40, 3)
    picture[:, :, 20:] = 1.0
    found = crop(picture, [-40, -40, 80, 80], 12)
    assert found[:, :, :5].max() <= 1 and found[:, :, 7:].min() >= 254


@pytest.mark.parametrize("cut", ["one by one", "at once"])
@pytest.mark.parametrize(
    ("box", "scale"),
    [
        ([0, 0, 40, 40], 1.5),  # all of the picture
        ([-9, -9, 49, 49], 1.5),  # more than that
        ([1, 0, 41, 40], 1.25),  # a fortieth of its side away from the left edge: half-way
        ([2, 0, 42, 40], 1.0),  # a twentieth
        ([0, 0, 40, 20], 1.0),  # cut on three sides
        ([10, 10, 30, 30], 1.0),
    ],
)
def test_a_head_that_the_picture_cuts_on_all_sides_may_be_taken_for_a_larger_one(
    cut: str, box: list[float], scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cut == "at once":
        monkeypatch.setattr(module, "on_host", lambda batch: False)
    picture = ramp(40, 40)
    (x0, y0, x1, y1), side = box, max(box[2] - box[0], box[3] - box[1]) * scale
    middle_x, middle_y = (x0 + x1) / 2, (y0 + y1) / 2
    larger = [middle_x - side / 2, middle_y - side / 2, middle_x + side / 2, middle_y + side / 2]
    for margin, below in ((1.0, 0.0), (1.5, 0.25)):
        found, expected = (
            head_crops(picture, Faces.from_boxes([[own]], [(40, 40)]), 24, margin, below, "mean", cut_scale)
            for own, cut_scale in ((box, 1.5), (larger, 1.0))
        )
        assert float((found - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("cut", ["one by one", "at once"])
@pytest.mark.parametrize("side", [1e3, 1e5, 1e7])
def test_a_huge_box_is_no_trouble(cut: str, side: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole picture is less than one pixel of the crop: its colours remain, and no memory is needed for it."""
    if cut == "at once":
        monkeypatch.setattr(module, "on_host", lambda batch: False)
    picture = torch.full((1, 40, 40, 3), 0.2)
    picture[:, :, 20:] = 0.6
    found = crop(picture, [20 - side, 20 - side, 20 + side, 20 + side], 10)
    assert found.shape == (3, 10, 10)
    assert found.min() >= 51 and found.max() <= 153


@pytest.mark.parametrize("cut", ["one by one", "at once"])
@pytest.mark.parametrize("box", [[5.2, 7.3, 5.2, 7.3], [5.2, 7.3, 5.5, 7.4], [4.9, 6.9, 6.1, 8.1]])
def test_a_box_smaller_than_a_pixel_shows_that_pixel(
    cut: str, box: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    if cut == "at once":
        monkeypatch.setattr(module, "on_host", lambda batch: False)
    found = crop(ramp(16, 16), box, 4)
    assert (found[0] - 5).abs().max() <= 1 and (found[1] - 7).abs().max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3000, 2)])
def test_crops_of_odd_pictures(shape: tuple[int, int]) -> None:
    picture = torch.full((1, *shape, 3), 0.4)
    assert crop(picture, [0, 0, shape[1], shape[0]], 12).unique().tolist() == [102]


@pytest.mark.parametrize(("size", "margin"), [(0, 1.0), (-4, 1.0), (8, 0.0), (8, -1.0)])
def test_size_and_margin_must_be_positive(size: int, margin: float) -> None:
    faces = Faces.from_boxes([[[0, 0, 4, 4]]], [(8, 8)])
    with pytest.raises(ValueError, match=f"size is {size}, margin {margin} and cut_scale 1.0, all must be positive"):
        head_crops(torch.zeros(1, 8, 8, 3), faces, size, margin)


def test_what_is_outside_must_be_known() -> None:
    with pytest.raises(ValueError, match="outside is 'black', expected one of edge, mean"):
        crop(torch.zeros(1, 8, 8, 3), [0, 0, 4, 4], 4, outside="black")


def test_faces_of_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="belong to 2 images, 1 were given"):
        head_crops(torch.zeros(1, 8, 8, 3), Faces.empty([(8, 8)] * 2), 4)
    with pytest.raises(ValueError, match="image 0 holds NaN"):
        head_crops(torch.full((1, 8, 8, 3), NAN), Faces.empty([(8, 8)]), 4)


def test_no_faces_give_no_crops() -> None:
    crops = head_crops(torch.zeros(2, 8, 8, 3), Faces.empty([(8, 8)] * 2), 5)
    assert crops.shape == (0, 3, 5, 5) and crops.dtype == torch.float32


def test_crops_come_in_the_faces_order() -> None:
    pictures = [torch.full((20 + 4 * i, 20, 3), i * 50, dtype=torch.uint8) for i in (3, 1, 3, 0)]
    boxes = [[[0, 0, 9, 9]], [[0, 0, 9, 9], [3, 3, 5, 5]], [], [[1, 1, 2, 2]]]
    crops = head_crops(pictures, Faces.from_boxes(boxes, [p.shape[:2] for p in pictures]), 4)
    assert (crops.mean((1, 2, 3)) * 255).round().tolist() == [150, 50, 50, 0]


def sampled_crops(batch: Batch, faces: Faces, size: int, margin: float = 1.0, outside: str = "edge") -> Tensor:
    """The crops as devices other than the host make them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "on_host", lambda batch: False)
        return head_crops(batch, faces, size, margin, outside=outside)


@st.composite
def waves(draw: st.DrawFn) -> tuple[Tensor, list[list[float]]]:
    """A smooth picture and boxes around it; smooth, because the two ways of cutting filter differently."""
    height, width = draw(st.integers(24, 140)), draw(st.integers(24, 140))
    x = torch.linspace(0, width / 40, width)
    y = torch.linspace(0, height / 40, height)[:, None]
    phases = [draw(st.floats(0, 6)) for _ in range(3)]
    picture = torch.stack([0.5 + 0.25 * ((x + p).sin() + (y - p).cos()) for p in phases], -1)
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        centre_x, centre_y = draw(st.floats(-10, width + 10)), draw(st.floats(-10, height + 10))
        half = draw(st.floats(4, 100))
        boxes.append([centre_x - half, centre_y - half, centre_x + half, centre_y + half])
    return picture, boxes


@settings(max_examples=40)
@given(waves(), st.sampled_from([16, 33, 64]), st.sampled_from([0.8, 1.0, 1.4]))
def test_both_ways_of_cutting_agree(wave: tuple[Tensor, list[list[float]]], size: int, margin: float) -> None:
    picture, boxes = wave
    batch = check([picture])
    faces = Faces.from_boxes([boxes], batch.sizes)
    exact, sampled = head_crops(batch, faces, size, margin), sampled_crops(batch, faces, size, margin)
    assert exact.shape == sampled.shape == (len(boxes), 3, size, size)
    # Two filters lean on different neighbours, and bytes are rounded on one side; 0.019 is the most that was seen.
    assert float((exact - sampled).abs().max()) <= 0.025
    exact, sampled = (cut(batch, faces, size, margin, outside="mean") for cut in (head_crops, sampled_crops))
    assert float((exact - sampled).abs().max()) <= 0.025


def test_both_ways_begin_a_picture_at_the_same_pixel() -> None:
    """Where it would begin at a half one."""
    picture = torch.linspace(0, 1, 80)[:, None, None].expand(80, 30, 3).contiguous()
    batch = check([picture])
    faces = Faces.from_boxes([[[-55, -41, 55, 69]]], batch.sizes)  # 25 of its 110 pixels are right of the picture
    exact, sampled = (cut(batch, faces, 33, outside="mean") for cut in (head_crops, sampled_crops))
    assert float((exact - sampled).abs().max()) <= 0.025


@settings(max_examples=30)
@given(st.lists(waves(), min_size=1, max_size=4), st.sampled_from([8, 24]))
@pytest.mark.parametrize(("way", "off"), [(head_crops, 0.0), (sampled_crops, 2e-3)])
def test_a_batch_gives_what_its_pictures_give_one_by_one(
    way: Callable[..., Tensor], off: float, items: list[tuple[Tensor, list[list[float]]]], size: int
) -> None:
    """Exactly where crops are cut; where they are sampled, coordinates are rounded in another texture."""

    def cut(pictures: list[Tensor], boxes: list[list[list[float]]]) -> Tensor:
        return way(check(pictures), Faces.from_boxes(boxes, [p.shape[:2] for p in pictures]), size)

    together = cut([p for p, _ in items], [b for _, b in items])
    alone = torch.cat([cut([p], [b]) for p, b in items])
    assert together.shape == alone.shape and float((together - alone).abs().max()) <= off
