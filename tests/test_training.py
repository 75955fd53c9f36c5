"""Learning, in miniature: composites, framings, targets and losses, and runs that go on where they were stopped."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from anigender.characters import identity as identity_training
from anigender.characters.backbones import load_backbone
from anigender.classify import read_classifier
from anigender.classify.gendernet import GenderNet
from anigender.datasets.labelled import held_out, label_heads, list_negatives, read_known_boxes, read_pictures
from anigender.detect import read_head_detector
from anigender.detect.headnet import STRIDES, HeadNet, RawHeads
from anigender.detect.verifier import PREFIX, Verifier, VerifierNet
from anigender.faces import Faces
from anigender.images import OUTSIDES, check, head_crops
from anigender.quantised import RANGES
from anigender.train.checkpoints import load_checkpoint, save_checkpoint
from anigender.train.crops import crops
from anigender.train.crops.augment import (
    CACHE_MARGIN,
    CACHE_SIZE,
    augment,
    frame,
    mean_colours,
    mix,
    plain,
    tight_squares,
    vary_surroundings,
)
from anigender.train.crops.store import CropStore, FlatOutside, stamp_of
from anigender.train.gender import draws, scratch, student
from anigender.train.gender import file as gender_file
from anigender.train.heads import detector, pools, verifier
from anigender.train.heads.composites import Composer, CutOut
from anigender.train.heads.patterns import patterns
from anigender.weights import ASSETS, read_weights, save_weights

# -- composites ------------------------------------------------------------------------------------------------------


def person(seed: int, opaque: bool = False, complete: bool = True) -> CutOut:
    """A disc over a rectangle; the head's square is known."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((120, 90, 4), np.uint8)
    ys, xs = np.mgrid[:120, :90]
    pixels[(xs - 45) ** 2 + (ys - 30) ** 2 < 25**2] = [*rng.integers(0, 256, 3), 255]
    pixels[60:, 20:70] = [*rng.integers(0, 256, 3), 255]
    if opaque:
        pixels[..., 3] = 255
    return CutOut(pixels, np.array([[20, 5, 70, 55]], np.float32), complete, opaque)


@pytest.fixture(scope="module")
def composer() -> Composer:
    cut_outs = [person(0), person(1), person(2, opaque=True), person(3, complete=False)]
    negatives = [np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)]
    return Composer(cut_outs, [person(4, True)], negatives, [person(6).pixels[60:]], np.array([1.0, 2.0, 1.0, 1.0]))


def test_equal_seeds_draw_equal_composites(composer: Composer) -> None:
    first, second = (
        [composer.draw(96, rng) for _ in range(12)] for rng in (np.random.default_rng(7) for _ in range(2))
    )
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.heads, b.heads) and a.complete == b.complete
    other = [composer.draw(96, np.random.default_rng(8)) for _ in range(1)]
    assert not np.array_equal(other[0].image, first[0].image)


@pytest.mark.parametrize("size", [96, 160])
def test_composites_know_their_heads_and_those_are_inside(composer: Composer, size: int) -> None:
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(150):
        scene = composer.draw(size, rng)
        assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
        assert scene.heads.ndim == 2 and scene.heads.shape[1] == 3 and scene.heads.dtype == np.float32
        assert np.isfinite(scene.heads).all()
        centres, sides = scene.heads[:, :2], scene.heads[:, 2]
        assert ((centres >= 0) & (centres <= size)).all()
        assert ((sides > 11) & (sides <= size)).all()
        counts.append(len(scene.heads))
    assert min(counts) == 0 and max(counts) >= 3


def test_drawing_does_not_change_what_is_drawn_from(composer: Composer) -> None:
    before = [(item.pixels.copy(), item.heads.copy()) for item in composer.cut_outs + composer.scenes]
    rng = np.random.default_rng(1)
    for _ in range(40):
        composer.draw(96, rng)
    for item, (pixels, heads) in zip(composer.cut_outs + composer.scenes, before, strict=True):
        assert np.array_equal(item.pixels, pixels) and np.array_equal(item.heads, heads)


def test_a_batch_marks_unused_rows_with_side_zero(composer: Composer) -> None:
    images, heads, complete = detector.make_batch(composer, 96, 8, np.random.default_rng(2))
    assert images.shape == (8, 96, 96, 3) and images.dtype == torch.uint8
    assert heads.shape[0] == 8 and heads.shape[2] == 3 and complete.dtype == torch.bool
    used = heads[..., 2] > 0
    assert torch.equal(used, used.sort(1, descending=True).values)  # real heads come first
    assert bool((heads[~used] == 0).all())


# -- the detector's targets and loss ---------------------------------------------------------------------------------


def cells(side: int) -> RawHeads:
    """What a net says of one square canvas: every cell answers with a square of four strides on itself."""
    centres, strides = [], []
    for stride in STRIDES:
        count = side // stride
        ys, xs = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
        centres.append(torch.stack((xs.flatten(), ys.flatten()), -1).add(0.5).mul(stride).float())
        strides.append(torch.full((count * count,), float(stride)))
    at, steps = torch.cat(centres), torch.cat(strides)
    squares = torch.cat((at, 4 * steps[:, None]), -1)[None]
    return RawHeads(torch.zeros(1, len(at)), squares, at, steps)


@pytest.mark.parametrize(
    ("heads", "strides"),
    [
        ([[128, 128, 32]], {8}),
        ([[128, 128, 12]], {8}),  # smaller than any level's range: the finest takes it
        ([[128, 128, 45]], {8, 16}),  # where ranges overlap, both
        ([[128, 128, 64]], {16}),
        ([[128, 128, 250]], {32}),
        ([[131.7, 124.9, 30]], {8}),
        ([[3, 3, 30]], {8}),
        ([[0, 0, 0]], set()),  # an unused row
    ],
)
def test_which_levels_answer_for_a_head(heads: list[list[float]], strides: set[int]) -> None:
    raw = cells(256)
    target, near = detector.assign(raw, torch.tensor([heads], dtype=torch.float32))
    own = target[0] == 0
    assert {int(s) for s in raw.strides[own].tolist()} == strides
    assert not bool((near[0] & own).any())
    if strides:
        x, y, side = heads[0]
        apart = (raw.centres - torch.tensor([x, y])).abs().amax(1)
        assert bool((apart[own] <= torch.maximum(torch.tensor(0.2 * side), 0.51 * raw.strides[own])).all())
        assert bool((apart[near[0]] < 0.3 * side).all())
        assert bool((target[0][~own] == -1).all())
    else:
        assert not bool(near.any())


def test_a_cell_answers_for_the_head_that_is_relatively_nearest() -> None:
    raw = cells(256)
    heads = torch.tensor([[[100.0, 100, 30], [120, 100, 30], [0, 0, 0]]])
    target, _ = detector.assign(raw, heads)
    for i in (0, 1):
        assert bool((target[0] == i).any())
        mine = raw.centres[target[0] == i]
        own, other = (mine - heads[0, i, :2]).abs().amax(1), (mine - heads[0, 1 - i, :2]).abs().amax(1)
        assert bool((own <= other).all())
    assert not bool((target == 2).any())


@pytest.mark.parametrize(
    ("first", "second", "iou", "diou"),
    [
        ((10, 10, 8), (10, 10, 8), 1.0, 1.0),
        ((10, 10, 8), (14, 10, 8), 1 / 3, 1 / 3 - 16 / (12**2 + 8**2)),
        ((10, 10, 8), (40, 10, 8), 0.0, -900 / (38**2 + 8**2)),
        ((10, 10, 8), (10, 10, 4), 0.25, 0.25),
    ],
)
def test_overlap_of_squares(first: tuple[float, ...], second: tuple[float, ...], iou: float, diou: float) -> None:
    found = detector.square_overlap(torch.tensor(first).float(), torch.tensor(second).float())
    assert [float(v) for v in found] == pytest.approx([iou, diou])


def test_perfect_answers_cost_nothing() -> None:
    raw = cells(256)
    heads = torch.tensor([[[100.0, 100, 32], [180, 60, 64]]])
    target, _ = detector.assign(raw, heads)
    positive = target >= 0
    squares = torch.where(positive[..., None], heads[0][target.clamp(min=0)], raw.squares)
    logits = torch.where(positive, 20.0, -20.0)
    classification, regression = detector.loss(
        RawHeads(logits, squares, raw.centres, raw.strides), heads, torch.tensor([True])
    )
    assert float(classification) < 1e-3 and float(regression) < 1e-3
    wrong = detector.loss(RawHeads(-logits, squares, raw.centres, raw.strides), heads, torch.tensor([True]))
    assert float(wrong[0]) > 1


def test_what_may_be_an_unmarked_head_is_let_be() -> None:
    raw = cells(256)
    heads = torch.tensor([[[100.0, 100, 32]]])
    large = raw.strides[None] * 4 > detector.TINY
    sure = RawHeads(torch.where(large, 3.0, -20.0), raw.squares, raw.centres, raw.strides)
    strict, _ = detector.loss(sure, heads, torch.tensor([True]))
    lenient, _ = detector.loss(sure, heads, torch.tensor([False]))
    assert float(lenient) < 0.1 * float(strict)


def test_a_few_steps_on_one_batch_lower_the_loss(composer: Composer) -> None:
    torch.manual_seed(0)
    images, heads, complete = detector.make_batch(composer, 96, 4, np.random.default_rng(3))
    assert bool((heads[..., 2] > 0).any())
    x = detector.prepare(images, "cpu")
    assert x.shape == (4, 3, 96, 96) and float(x.min()) >= -2 and float(x.max()) <= 2
    net = HeadNet(neck=16)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        classification, regression = detector.loss(net(x), heads, complete)
        total = classification + regression
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_validation_figures_are_shares(composer: Composer, random_headnet: HeadNet) -> None:
    batches = [detector.make_batch(composer, 96, 3, np.random.default_rng(4))]
    figures = detector.validate(random_headnet, batches)
    assert set(figures) == {"average_precision", "recall"}
    assert all(0 <= value <= 1 for value in figures.values())


# -- framings --------------------------------------------------------------------------------------------------------


def cached(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth cached crops with a transparent border."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 4, 6, 6, generator=generator)
    large = torch.nn.functional.interpolate(small, (CACHE_SIZE, CACHE_SIZE), mode="bicubic").clamp(0, 1)
    return (large * 255).to(torch.uint8)


def identity(count: int, margin: float = 1.0) -> dict[str, torch.Tensor]:
    return {
        "margin": torch.full((count,), margin),
        "shift": torch.zeros(count, 2),
        "turn": torch.zeros(count),
        "mirror": torch.zeros(count, dtype=torch.bool),
    }


def test_the_plain_framing_is_the_centre() -> None:
    crops = cached(2).float()
    whole = frame(crops, CACHE_SIZE, **identity(2, CACHE_MARGIN))
    torch.testing.assert_close(whole, crops, atol=0.05, rtol=0)
    side = round(CACHE_SIZE / CACHE_MARGIN)
    edge = (CACHE_SIZE - side) // 2
    head = frame(crops, side, **identity(2))
    torch.testing.assert_close(head, crops[..., edge : edge + side, edge : edge + side], atol=0.05, rtol=0)


def test_mirroring_turning_and_shifting() -> None:
    crops = cached(1).float()
    plain_view = frame(crops, 60, **identity(1))
    mirrored = frame(crops, 60, **(identity(1) | {"mirror": torch.tensor([True])}))
    torch.testing.assert_close(mirrored, plain_view.flip(-1), atol=0.05, rtol=0)
    turned = frame(crops, 60, **(identity(1) | {"turn": torch.tensor([torch.pi / 2])}))
    quarters = [torch.rot90(plain_view, k, (2, 3)) for k in (1, 3)]
    assert min(float((turned - quarter).abs().max()) for quarter in quarters) < 0.1
    # Half a head to the right: what was in the middle of the right half is in the middle now.
    shifted = frame(crops, 60, **(identity(1) | {"shift": torch.tensor([[0.25, 0.0]])}))
    torch.testing.assert_close(shifted[..., :45], plain_view[..., 15:], atol=0.05, rtol=0)


def test_inference_sees_transparency_as_white() -> None:
    clear = torch.zeros(1, 4, CACHE_SIZE, CACHE_SIZE, dtype=torch.uint8)
    assert plain(clear, 16).unique().tolist() == [1.0]
    clear[:, 3] = 255
    assert plain(clear, 16).unique().tolist() == [0.0]


@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("size", [32, 96])
def test_augmented_views(size: int, strength: float) -> None:
    crops = cached(12)
    before = crops.clone()

    def views(seed: int) -> torch.Tensor:
        return augment(crops, size, np.random.default_rng(seed), torch.Generator().manual_seed(seed), strength)

    found = views(1)
    assert found.shape == (12, 3, size, size) and found.dtype == torch.float32
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert torch.equal(found, views(1))
    assert not torch.equal(found, views(2))
    assert torch.equal(crops, before)


def test_large_views_are_not_made_worse_than_jpeg_can(capfd: pytest.CaptureFixture[str]) -> None:
    for seed in range(4):
        augment(cached(8), 320, np.random.default_rng(seed), torch.Generator().manual_seed(seed))
    assert "WARN" not in capfd.readouterr().err  # OpenCV says so where a quality is none


def test_views_of_one_picture_differ() -> None:
    views = augment(cached(1).repeat(6, 1, 1, 1), 32, np.random.default_rng(0), torch.Generator().manual_seed(0))
    apart = [(views[i] - views[j]).abs().mean() for i in range(6) for j in range(i)]
    assert min(apart) > 0.01


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.3, 100, 200), (1.0, 500, 500)])
def test_tight_squares(share: float, least: int, most: int) -> None:
    squares = tight_squares(500, share, np.random.default_rng(0))
    tight = squares[:, 0] < 1
    assert least <= tight.sum() <= most and (squares[~tight] == (1, 0, 0)).all()
    assert (squares[:, 0] >= 0.5).all() and (np.abs(squares[:, 1:]) < 0.3).all()


def test_a_tight_square_is_seen_as_the_head_would_be() -> None:
    def view(margin: float, below: float, squares: np.ndarray | None = None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return augment(crops.clone(), 48, np.random.default_rng(0), generator, 1e-6, margin, below, squares=squares)

    crops = cached(4)
    half = np.tile(np.array([[0.5, 0.0, 0.0]], np.float32), (4, 1))
    torch.testing.assert_close(view(1.5, 0.2, half), view(0.75, 0.1), atol=1e-3, rtol=0)
    lower = np.tile(np.array([[0.5, 0.0, 0.1]], np.float32), (4, 1))
    torch.testing.assert_close(view(1.5, 0.2, lower), view(0.75, 0.2), atol=1e-3, rtol=0)


def test_pictures_end_at_tight_squares() -> None:
    crops, whole = cached(4), np.tile(np.array([[0, 0, 1, 1]], np.float32), (4, 1))
    squares = np.array([[0.5, 0, 0], [0.8, 0.1, 0], [0.8, 0, 0.1], [1, 0, 0]], np.float32)
    made = vary_surroundings(crops.clone(), whole, np.random.default_rng(2), squares=squares)
    kept = (made == crops).all(1)
    head = CACHE_SIZE / CACHE_MARGIN
    for i, (side, x, y) in enumerate(squares[:3].tolist()):
        low_x, low_y = (round(CACHE_SIZE / 2 + (v - side / 2) * head) for v in (x, y))
        square = slice(low_y, low_y + round(side * head)), slice(low_x, low_x + round(side * head))
        assert kept[i][square].all()
    assert kept[3].all() and kept[:3].float().mean() < 0.5


EXTENTS: list[tuple[list[float], list[int], list[int]]] = [
    ([0, 0, 1, 1], [0, 8], [0, 8]),
    ([0.25, 0.5, 0.75, 1], [2, 6], [4, 8]),
    ([0.3, 0.0, 1.0, 0.31], [2, 8], [0, 2]),
    ([0.5, 0.5, 0.5, 0.5], [4, 5], [4, 5]),
    ([1, 1, 1, 1], [7, 8], [7, 8]),
]


@pytest.mark.parametrize(("extent", "columns", "rows"), EXTENTS)
def test_where_the_picture_ends_is_its_mean_colour(extent: list[float], columns: list[int], rows: list[int]) -> None:
    crops = torch.randint(0, 256, (3, 4, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    crops[:, 3] = 255
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[rows[0] : rows[1], columns[0] : columns[1]] = True
    made = FlatOutside(crops.clone(), np.array([extent] * 3, np.float32), (0, 0, 1, 1))
    assert len(made) == 3
    for some, expected in ((made[[1, 2]], crops[1:]), (made[1:3], crops[1:])):
        assert torch.equal(some[..., inside], expected[..., inside])
        mean = expected[..., inside].float().mean(2, keepdim=True)
        assert bool(((some[..., ~inside] - mean).abs() <= 1).all())


def test_a_mean_colour_looks_over_any_background_as_what_it_is_the_mean_of() -> None:
    crops = torch.randint(0, 256, (1, 4, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    colour = mean_colours(crops, np.array([[0, 0, 1, 1]], np.float32)).float() / 255
    rgba = crops.float() / 255
    for background in (0.0, 0.4, 1.0):
        wanted = (rgba[:, :3] * rgba[:, 3:] + background * (1 - rgba[:, 3:])).mean((2, 3), keepdim=True)
        assert (colour[:, :3] * colour[:, 3:] + background * (1 - colour[:, 3:]) - wanted).abs().max() < 0.01


def test_surroundings_vary_and_pictures_stay() -> None:
    crops, extents = cached(200), np.tile(np.array([[0.3, 0.3, 0.7, 0.8]], np.float32), (200, 1))
    inside = slice(round(0.3 * CACHE_SIZE), round(0.7 * CACHE_SIZE))
    varied = vary_surroundings(crops.clone(), extents, np.random.default_rng(0))
    assert torch.equal(varied[:, :, inside, inside], crops[:, :, inside, inside])
    flat = varied[:, :, 0].float().std(2).amax(1) == 0
    assert 0.55 < flat.float().mean() < 0.85
    same = (varied == crops).flatten(1).all(1)
    assert 0.04 < same.float().mean() < 0.2


def test_heads_may_be_alone() -> None:
    crops, whole = cached(40), np.tile(np.array([[0, 0, 1, 1]], np.float32), (40, 1))
    assert torch.equal(vary_surroundings(crops.clone(), whole, np.random.default_rng(0)), crops)
    lonely = vary_surroundings(crops.clone(), whole, np.random.default_rng(0), alone=1.0)
    kept = (lonely == crops).all(1)
    middle = slice(round(CACHE_SIZE * 0.45), round(CACHE_SIZE * 0.55))
    assert kept[:, middle, middle].all()
    sides = kept.sum((1, 2)).float().sqrt() * CACHE_MARGIN / CACHE_SIZE
    assert ((sides > 0.8) & (sides < 1.4)).float().mean() > 0.7


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ([90.0, 80.0, 150.0, 140.0], 12),
        ([170.0, 20.0, 230.0, 80.0], 12),
        ([10.0, 175.0, 70.0, 235.0], 12),
        ([0.0, 0.0, 240.0, 240.0], 3),  # all of the picture
    ],
)
@pytest.mark.parametrize("outside", OUTSIDES)
def test_training_sees_what_inference_sees(box: list[float], cells: int, outside: str) -> None:
    small = torch.rand(1, 3, cells, cells, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(small, (240, 240), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
    rgba = torch.cat((pixels * 255, torch.full((240, 240, 1), 255.0)), 2).to(torch.uint8)
    framing = gender_file.Framing(outside=outside)
    head = np.array(box, np.float32)
    kept = crops.cut(rgba.numpy(), head[None])
    extent = np.array([crops.extent_of(head, CACHE_MARGIN, 240, 240)], np.float32)
    faces = Faces.from_boxes([[box]], [(240, 240)])
    seen = head_crops(check([rgba[..., :3]]), faces, *framing)
    scales = gender_file.cut_scales(extent, framing.cut_scale)
    told = plain(gender_file.surrounded(kept, extent, outside)[[0]], *framing[:3], scales=scales)
    apart = (told - seen).abs()
    # Where the mean colour begins, they may differ by a pixel.
    assert apart.mean() < 0.01
    assert (apart.amax(1) > 0.03).float().mean() < (0.05 if outside == "mean" else 0.001)


def test_the_head_window_is_where_the_head_is() -> None:
    x0, y0, x1, y1 = student.head_window()
    assert (x1 - x0) == pytest.approx(1 / gender_file.MARGIN) and (x0 + x1) / 2 == pytest.approx(0.5)
    assert (y1 - y0) == pytest.approx(1 / gender_file.MARGIN) and (y0 + y1) / 2 == pytest.approx(
        0.5 - gender_file.BELOW / gender_file.MARGIN
    )


def test_going_on_from_a_net_that_saw_heads_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    heads_only, wide = GenderNet().eval(), GenderNet(head=student.head_window()).eval()
    gender_file.save_gender(heads_only, 1.0, 0.0, tmp_path / "a.safetensors", gender_file.Framing(96, 1.0, 0.0))
    student.begin_from(wide, tmp_path / "a.safetensors")
    before = GenderNet(head=student.head_window())
    before.load_state_dict(wide.state_dict())
    x = torch.rand(2, 3, 64, 64)
    width = heads_only.fc.in_features
    with torch.no_grad():
        expected = wide.features(x)[:, :width] @ heads_only.fc.weight.T + heads_only.fc.bias
        torch.testing.assert_close(wide(x), expected, atol=2e-3, rtol=1e-2)
    gender_file.save_gender(wide, 1.0, 0.0, tmp_path / "b.safetensors")
    student.begin_from(before, tmp_path / "b.safetensors")
    elsewhere = GenderNet(head=(0.1, 0.2, 0.8, 0.9))  # its crops showed the head in another place
    gender_file.save_gender(elsewhere, 1.0, 0.0, tmp_path / "d.safetensors")
    student.begin_from(before, tmp_path / "d.safetensors")
    torch.testing.assert_close(before.state_dict()["head"], torch.tensor(before.window), atol=1e-6, rtol=0)
    torch.testing.assert_close(before.fc.bias, elsewhere.fc.bias, atol=1e-3, rtol=0)
    gender_file.save_gender(GenderNet((8, 8, 8, 8)), 1.0, 0.0, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors cannot be gone on from"):
        student.begin_from(wide, tmp_path / "c.safetensors")


def test_cut_crops_show_the_head_in_their_middle() -> None:
    pixels = np.zeros((100, 80, 4), np.uint8)
    pixels[30:50, 20:40] = [200, 100, 50, 255]
    found = crops.cut(pixels, np.array([[20, 30, 40, 50]], np.float32))
    assert found.shape == (1, 4, CACHE_SIZE, CACHE_SIZE) and found.dtype == torch.uint8
    middle, corner = found[0, :, CACHE_SIZE // 2, CACHE_SIZE // 2], found[0, :, 3, 3]
    assert middle.tolist() == [200, 100, 50, 255] and corner.tolist() == [0, 0, 0, 0]
    share = (found[0, 3] > 127).float().mean().sqrt()
    assert float(share) == pytest.approx(1 / CACHE_MARGIN, abs=0.03)


# -- data, and whole runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder like the real one, with four characters of two pictures each."""
    data = tmp_path_factory.mktemp("data")
    rows = []
    for i, (character, sex, split) in enumerate(
        [("ann", "female", "train"), ("bob", "male", "train"), ("eve", "female", "val"), ("tom", "male", "val")]
    ):
        for j in range(2):
            file = f"gender/game{i % 2}/{character}_{j}.png"
            (data / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(person(10 * i + j).pixels).save(data / file)
            rows.append(
                {
                    "file": file,
                    "character": character,
                    "gender": sex,
                    "kind": "bust",
                    "split": split,
                    "width": 90,
                    "height": 120,
                    "alpha": 1,
                }
            )
    write(data / "gender" / "manifest.csv", rows)
    boxes = [{"file": row["file"], "region": "head", "x": 20, "y": 5, "width": 50, "height": 50} for row in rows[::2]]
    (data / "detection" / "illustrations").mkdir(parents=True)
    for i in range(8):
        file = f"detection/illustrations/{i}.png"
        Image.fromarray(person(50 + i, True).pixels[..., :3]).save(data / file)
        boxes.append({"file": file, "region": "face", "x": 28, "y": 16, "width": 34, "height": 34})
    write(data / "detection" / "boxes.csv", boxes)
    teacher = [
        {"file": row["file"], "likelihood": 0.99, "x": 33, "y": 22, "width": 24, "height": 24} for row in rows[1::2]
    ]
    write(data / "detection" / "animeface2009.csv", teacher)
    (data / "detection" / "negatives").mkdir()
    for i in range(8):
        noise = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(data / "detection" / "negatives" / f"{i}.png")
    return data


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_heads_come_from_the_first_source_that_knows_them(tiny: Path) -> None:
    pictures = read_pictures(tiny)
    assert [p.character for p in pictures] == ["ann", "ann", "bob", "bob", "eve", "eve", "tom", "tom"]
    assert {p.folder for p in pictures} == {"game0", "game1"}
    label_heads(pictures, tiny)
    assert [p.source for p in pictures] == ["known", "teacher"] * 4
    assert pictures[0].heads.tolist() == [[20, 5, 70, 55]]
    x1, y1, x2, y2 = pictures[1].heads[0]
    assert x2 - x1 == pytest.approx(24 * 2.05, abs=0.01) and (x1 + x2) / 2 == pytest.approx(45)
    assert (y1 + y2) / 2 < 34  # above the face's centre


def test_what_is_held_out_depends_on_the_name_alone(tiny: Path) -> None:
    files = [f"detection/negatives/{i}.png" for i in range(4000)]
    share = sum(held_out(file) for file in files) / len(files)
    assert share == pytest.approx(0.25, abs=0.03)
    learn, judge = list_negatives(tiny, "train"), list_negatives(tiny, "val")
    assert len(learn) + len(judge) == 8 and not set(learn) & set(judge)


def test_a_folder_without_the_data_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected gender/manifest.csv, manifest.csv or metadata.csv, or pictures in"):
        read_pictures(tmp_path)
    with pytest.raises(FileNotFoundError, match="boxes.csv is missing: --data must name"):
        read_known_boxes(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trainings of a few steps on a few small pictures, in this process."""
    threads = torch.get_num_threads()
    for module in (detector, scratch):
        monkeypatch.setattr(module, "DataLoader", lambda batches, **_: batches)
        monkeypatch.setattr(module, "tqdm", Silent)
    monkeypatch.setattr(detector, "EPOCH", 8)
    monkeypatch.setattr(detector, "SIZES", ((64, 4, 1.0),))
    monkeypatch.setattr(detector, "validate", lambda model, batches: {"average_precision": 0.5, "recall": 0.5})
    monkeypatch.setattr(scratch, "EPOCH", 16)
    monkeypatch.setattr(scratch, "LABELLED", 8)
    monkeypatch.setattr(draws, "LABELLED", 8)
    yield
    torch.set_num_threads(threads)


class Silent:
    """A progress bar that shows nothing."""

    def __init__(self, items: Any = (), **_: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def update(self, _: int) -> None: ...
    def close(self) -> None: ...
    def set_postfix(self, *_: Any) -> None: ...
    def set_description(self, *_: Any) -> None: ...

    @staticmethod
    def write(_: str) -> None: ...


def store(data: Path, folder: Path) -> None:
    """The crops that the detector would have found in a data folder."""
    files = [picture.file for picture in read_pictures(data)]
    made = CropStore(folder / "crops-192-2.4.cache", source=crops.source_of("auto"))
    made.add(files, [stamp_of(data / file) for file in files], list(cached(len(files))))


def log(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_detector_training_goes_on_where_it_was_stopped(quick: None, tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "head.safetensors"
    detector.train(detector.Options(tiny, output, epochs=1))
    first = load_checkpoint(tmp_path / "head.checkpoint.pt")
    assert (first["seen"], first["step"]) == (8, 2)
    lines = log(tmp_path / "head.log.jsonl")
    assert [line["seen"] for line in lines] == [4, 8]
    assert all(len(line["loss"]) == 2 and np.isfinite(line["loss"]).all() for line in lines)

    detector.train(detector.Options(tiny, output, epochs=2, resume=True))
    second = load_checkpoint(tmp_path / "head.checkpoint.pt")
    assert (second["seen"], second["step"]) == (16, 4)
    assert [line["seen"] for line in log(tmp_path / "head.log.jsonl")] == [4, 8, 12, 16]
    assert any(not torch.equal(first["model"][name], value) for name, value in second["model"].items())
    steps = {int(state["step"]) for state in second["optimiser"]["state"].values()}
    assert steps == {4}  # the optimiser's memory went on too
    with pytest.raises(ValueError, match="is of a run with seed 0 .now 1., teacher None .now '[0-9a-f]{16}'."):
        detector.train(detector.Options(tiny, output, epochs=3, resume=True, seed=1, teacher=output))
    assert read_head_detector(output).threshold == float(detector.METADATA["anigender.threshold"])


def test_equal_seeds_train_equal_detectors(quick: None, tiny: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        detector.train(detector.Options(tiny, tmp_path / f"{name}.safetensors", epochs=1, seed=5))
        found.append(load_checkpoint(tmp_path / f"{name}.checkpoint.pt")["model"])
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], msg=name)


def test_a_gender_training_goes_on_where_it_was_stopped(quick: None, tiny: Path, tmp_path: Path) -> None:
    store(tiny, tmp_path)
    output = tmp_path / "gender.safetensors"
    scratch.train(scratch.Options(tiny, output, epochs=1, small_epochs=1))
    first = load_checkpoint(tmp_path / "gender.checkpoint.pt")
    scratch.train(scratch.Options(tiny, output, epochs=2, small_epochs=1, resume=True))
    second = load_checkpoint(tmp_path / "gender.checkpoint.pt")
    assert (first["epoch"], first["step"], second["epoch"], second["step"]) == (1, 2, 2, 4)
    lines = log(tmp_path / "gender.log.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all({"gender_loss", "balanced_accuracy", "female_recall", "male_recall"} <= set(line) for line in lines)
    assert any(not torch.equal(first["model"][name], value) for name, value in second["model"].items())
    with pytest.raises(ValueError, match="is of a run with from 'None' .now 'a.safetensors'., strength 0.45 .now 0.7."):
        scratch.train(
            scratch.Options(
                tiny, output, epochs=3, small_epochs=1, resume=True, strength=0.7, start=Path("a.safetensors")
            )
        )
    classifier = read_classifier(output, "cpu", torch.float32)
    assert classifier.classify(torch.rand(2, 3, classifier.size, classifier.size)).shape == (2, 2)
    with safe_open(str(output), "pt") as stream:
        assert stream.metadata()["anigender.labels"] == "female,male"
    last, _ = read_weights(tmp_path / "gender.last.safetensors")  # what no figure has chosen
    assert torch.equal(last["stem.0.weight"], second["average"]["net.stem.0.weight"].half())


def check_stopping(training: Any, make: Callable[[Path], Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train once whole and once stopped at the first checkpoint and resumed; the last checkpoint, the same of both."""
    states = []
    for name, stopped in (("whole", False), ("stopped", True)):
        options = make(folder / f"{name}.safetensors")
        if stopped:
            with monkeypatch.context() as patch:
                patch.setattr(training, "save_checkpoint", lambda *state: (save_checkpoint(*state), 1 / 0))
                with pytest.raises(ZeroDivisionError):
                    training.train(options)
            options.resume = True
        training.train(options)
        states.append(load_checkpoint(folder / f"{name}.checkpoint.pt"))
    for part in ("model", "average", "history"):
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0].get(part, {}).items())
    return states[0]


def test_a_stopped_gender_training_ends_as_one_that_was_not(
    quick: None, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def options(output: Path) -> scratch.Options:
        report = output.with_suffix(".html")
        return scratch.Options(tiny, output, epochs=2, small_epochs=1, reweight=True, suspects=report)

    store(tiny, tmp_path)
    state = check_stopping(scratch, options, tmp_path, monkeypatch)
    assert int(state["history"]["seen"].sum()) > 0
    for name in ("whole", "stopped"):
        assert "suspects among 4 pictures" in (tmp_path / f"{name}.html").read_text(encoding="utf-8")


def test_a_stopped_identity_training_ends_as_one_that_was_not(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tiny, tmp_path)
    monkeypatch.setattr(identity_training, "LOOK", 2)
    check_stopping(
        identity_training, lambda output: identity_training.Options(tiny, output, steps=4), tmp_path, monkeypatch
    )
    for name in ("whole", "stopped"):
        assert [line["step"] for line in log(tmp_path / f"{name}.log.jsonl")] == [2, 4]
    with pytest.raises(ValueError, match="is of a run with learning_rate 0.002 .now 0.1.: give the same options"):
        identity_training.train(
            identity_training.Options(tiny, tmp_path / "whole.safetensors", learning_rate=0.1, resume=True)
        )
    backbone = load_backbone(str(tmp_path / "whole.safetensors"))
    assert backbone(torch.rand(2, 3, backbone.size, backbone.size)).shape == (2, backbone.net.width)


def test_distrusted_pictures_have_smaller_targets(tiny: Path, tmp_path: Path) -> None:
    store(tiny, tmp_path)
    learn, _ = crops.labelled_crops(tiny, "auto", tmp_path)
    trust = torch.tensor([1.0, 1.0, 0.1, 1.0])
    threads = torch.get_num_threads()
    nobody = torch.zeros(0, 4, 192, 192), np.zeros((0, 4))
    drawn = draws.Draws(learn, torch.arange(4), nobody, None, 0, 32, trust=trust)
    _, target, _, rows = next(iter(drawn))
    torch.set_num_threads(threads)
    mass = target.sum(1)
    assert float(mass.mean()) == pytest.approx(1)
    assert float(mass[rows == 2].mean() / mass[rows == 0].mean()) == pytest.approx(0.1, rel=1e-4)


def test_a_verifier_joins_its_detector_in_one_file(
    quick: None, tiny: Path, random_headnet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "tqdm", Silent)
    monkeypatch.setattr(verifier, "BATCH", 8)
    output = tmp_path / "both.safetensors"
    options = verifier.Options(tiny, output, detector=str(random_headnet_file), steps=2)
    verifier.train(options)
    found = read_head_detector(output, "cpu", torch.float32)
    assert found.verifier is not None
    assert (found.verifier.size, found.verifier.margin) == (verifier.SIZE, verifier.MARGIN)
    assert (found.threshold, found.proposal_threshold) == (verifier.THRESHOLD, verifier.PROPOSAL_THRESHOLD)
    before, after = read_weights(random_headnet_file)[0], read_weights(output)[0]
    assert all(torch.equal(after[name], value) for name, value in before.items())
    # Trained again on its own file, the verifier is replaced and not kept twice.
    again = verifier.Options(tiny, tmp_path / "again.safetensors", detector=str(output), steps=2, seed=1)
    verifier.train(again)
    assert read_weights(again.output)[0].keys() == after.keys()
    # Going on from it begins where it ended.
    begun, ended = verifier.begun(output).state_dict(), {n: v for n, v in after.items() if n.startswith(PREFIX)}
    assert all(torch.equal(begun[name.removeprefix(PREFIX)], value.float()) for name, value in ended.items())
    with pytest.raises(ValueError, match="has no verifier to go on from"):
        verifier.begun(random_headnet_file)
    # How large activations get was another verifier's, and is to be measured anew.
    known = ASSETS / "head.safetensors"
    assert RANGES in read_weights(known)[1]
    verifier.train(verifier.Options(tiny, tmp_path / "third.safetensors", detector=str(known), steps=2))
    assert RANGES not in read_weights(tmp_path / "third.safetensors")[1]


def test_patterns_are_opaque_and_differ() -> None:
    found = patterns(40, np.random.default_rng(0))
    assert found.shape == (40, 4, CACHE_SIZE, CACHE_SIZE) and found.dtype == torch.uint8
    assert bool((found[:, 3] == 255).all())
    assert len({picture.numpy().tobytes() for picture in found}) == 40
    assert torch.equal(found, patterns(40, np.random.default_rng(0)))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_mixed_views_have_mixed_answers(share: float) -> None:
    views = torch.arange(8.0)[:, None, None, None].expand(8, 3, 16, 16).clone() / 8
    target = torch.nn.functional.one_hot(torch.arange(8) % 2, 2).float()
    identity = torch.arange(8)
    before, answers = views.clone(), target.clone()
    mix(views, target, identity, np.random.default_rng(0), share)
    mixed = identity < 0
    assert int(mixed.sum()) == round(share * 8)
    assert torch.equal(views[~mixed], before[~mixed]) and torch.equal(target[~mixed], answers[~mixed])
    torch.testing.assert_close(target.sum(1), torch.ones(8))
    assert float(views.min()) >= 0 and float(views.max()) <= 1


@pytest.mark.parametrize(
    ("projected", "identity", "expected"),
    [
        # Two pairs, each alike and at right angles to the other: log(1 + 2 exp(-1)) at temperature 1.
        ([[1, 0], [1, 0], [0, 1], [0, 1]], [0, 0, 1, 1], 0.5514),
        ([[1, 0], [0, 1], [0, 1], [1, 0]], [0, 0, 1, 1], 1.5514),  # each nearest to the wrong one
        ([[1, 0], [1, 0], [0, 1], [5, 5]], [0, 0, 1, -1], 0.3133),  # no pair of its own, and a mixed one: log(1 + 1/e)
        ([[1, 0], [0, 1]], [0, 1], 0.0),
        ([[1, 0], [0, 1]], [-1, -1], 0.0),
    ],
)
def test_the_contrast_of_characters(projected: list[list[float]], identity: list[int], expected: float) -> None:
    found = student.contrast(torch.tensor(projected, dtype=torch.float32), torch.tensor(identity), temperature=1.0)
    assert float(found) == pytest.approx(expected, abs=1e-3)


def test_the_learning_rate_rises_again_with_the_size() -> None:
    rates = [scratch.learning_rate_at(epoch, 30, 48) for epoch in (0.5, 1, 15, 29.9, 30.5, 39, 48)]
    assert rates == pytest.approx([0.65, 1.0, 0.66, 0.307, 0.7, 0.36, 0.007], abs=0.03)


@pytest.mark.parametrize("male", [[0.5, 0.5], [0.9, 0.2, 0.1, 0.1], [0.05] * 20 + [0.6]])
def test_guesses_favour_neither_gender(male: list[float]) -> None:
    soft = torch.tensor([[1 - p, p] for p in male])
    target, chance = draws.balanced(soft)
    assert chance.sum() == pytest.approx(1)
    drawn = (target.double() * torch.from_numpy(chance)[:, None]).sum(0)
    assert drawn.tolist() == pytest.approx([0.5, 0.5])
    assert bool((target >= 0).all())
    # Surer guesses stay surer.
    order = soft[:, 1].argsort(stable=True)
    ratio = target[:, 1] / target[:, 0]
    assert torch.equal(ratio[order], ratio[order].sort().values)


def test_calibrating_changes_confidences_and_nothing_else(tiny: Path, tmp_path: Path) -> None:
    store(tiny, tmp_path)
    source, output = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    gender_file.save_gender(GenderNet().eval(), 1.0, 0.5, source)
    gender_file.calibrate(tiny, source, output)
    (before, told), (after, tells) = read_weights(source), read_weights(output)
    assert {name for name in before if not torch.equal(before[name], after[name])} <= {"fc.bias"}
    assert {name for name in told if told[name] != tells[name]} <= {"anigender.temperature"}
    first, second = before["fc.bias"].float(), after["fc.bias"].float()
    assert float(first[0]) == float(second[0])


@pytest.mark.parametrize(("weight", "temperature"), [(float("nan"), 1.0), (0.0, float("nan"))])
def test_a_net_that_learned_broken_numbers_replaces_no_file(tmp_path: Path, weight: float, temperature: float) -> None:
    net = GenderNet((8, 8, 8, 8)).eval()
    with torch.no_grad():
        net.fc.bias[0] = weight
    (tmp_path / "good.safetensors").write_bytes(b"good")
    with pytest.raises(ValueError, match="broken numbers .*, .*good.safetensors was left as it was: try a lower"):
        gender_file.save_gender(net, temperature, 0.0, tmp_path / "good.safetensors")
    assert (tmp_path / "good.safetensors").read_bytes() == b"good"


def test_only_files_of_the_own_architecture_are_calibrated(tmp_path: Path) -> None:
    source = tmp_path / "other.safetensors"
    save_weights(source, {"conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(2, 1)}, {})
    with pytest.raises(ValueError, match="other.safetensors is not of the embedded classifier's architecture"):
        gender_file.calibrate(tmp_path, source, tmp_path / "out.safetensors")


@pytest.mark.parametrize(("hold_out", "known"), [(("Game0",), "game0, game1"), (("game1", "game2"), "game0, game1")])
def test_a_misspelt_folder_to_hold_out_is_refused(
    tiny: Path, tmp_path: Path, hold_out: tuple[str, ...], known: str
) -> None:
    with pytest.raises(
        ValueError, match=f"the folder '{hold_out[-1]}' to hold out is none of gender/; there are {known}$"
    ):
        crops.labelled_crops(tiny, "auto", tmp_path, hold_out)
    assert not list(tmp_path.glob("crops-*"))


def test_teachers_are_averaged(tmp_path: Path) -> None:
    crops = cached(3)
    answers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = GenderNet().eval()
        gender_file.save_gender(net, 1.0, 0.0, tmp_path / f"{seed}.safetensors")
        options = scratch.Options(tmp_path, tmp_path / "out", teachers=(tmp_path / f"{seed}.safetensors",))
        answers.append(scratch.teachings(options, crops))
    both = scratch.Options(
        tmp_path, tmp_path / "out", teachers=(tmp_path / "0.safetensors", tmp_path / "1.safetensors")
    )
    found = scratch.teachings(both, crops)
    assert found is not None and answers[0] is not None and answers[1] is not None
    torch.testing.assert_close(found, (answers[0] + answers[1]) / 2)
    assert scratch.teachings(scratch.Options(tmp_path, tmp_path / "out"), crops) is None


def test_resuming_without_a_checkpoint_says_so(quick: None, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        detector.train(detector.Options(tiny, tmp_path / "head.safetensors", resume=True))


def test_what_a_verifier_takes_wrong_comes_up_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    said = np.array([0.9, 0.1], np.float32)
    monkeypatch.setattr(verifier, "taken_for_heads", lambda model, crops, device: said)
    cut = pools.Cut(torch.zeros(2, 4, CACHE_SIZE, CACHE_SIZE, dtype=torch.uint8), np.zeros((2, 4), np.float32))
    heads, others = [pools.Pool(cut, 1.0)], [pools.Pool(cut, 1.0)]
    verifier.focus(VerifierNet((4, 8)), heads, others, "cpu")
    assert heads[0].chance is not None and others[0].chance is not None
    assert heads[0].chance.tolist() == pytest.approx([0.6 / 2, 1.4 / 2])
    assert others[0].chance.tolist() == pytest.approx([1.0 / 1.2, 0.2 / 1.2])
    monkeypatch.setattr(verifier, "FEW", 2)
    many = [pools.Pool(cut, 1.0)]
    verifier.focus(VerifierNet((4, 8)), many, [], "cpu")
    assert many[0].chance is None


def test_a_verifier_says_the_same_of_crops_as_at_inference() -> None:
    torch.manual_seed(0)
    net = VerifierNet((4, 8)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 4), np.uint8)
    pixels[..., 3] = 255
    boxes = np.array([[40, 30, 100, 90], [5, 10, 45, 50]], np.float32)
    gathered = pools.Gathered()
    gathered.add(pixels, boxes)
    stored = gathered.all()
    crops = pools.Cut(stored["pixels"], stored["extents"].numpy())
    learned = verifier.taken_for_heads(net, crops, "cpu")
    metadata = {"anigender.mean": "0.5,0.5,0.5", "anigender.std": "0.25,0.25,0.25"}
    metadata |= {"anigender.verifier_size": str(verifier.SIZE), "anigender.verifier_margin": str(verifier.MARGIN)}
    metadata["anigender.verifier_outside"] = verifier.OUTSIDE
    image = check(torch.from_numpy(pixels[..., :3].copy())[None])
    found = Verifier(net, metadata).scores(image, torch.from_numpy(boxes), torch.full((2,), 0.5), torch.zeros(2).long())
    assert learned.tolist() == pytest.approx(found.tolist(), abs=0.03)


def test_boxes_are_misplaced_a_little() -> None:
    squares = np.tile(np.array([[1.0, 0.0, 0.0]], np.float32), (4000, 1))
    off = verifier.misplaced(squares, np.random.default_rng(0))
    assert off.dtype == np.float32
    assert off.mean(0).tolist() == pytest.approx([1.0, 0.0, 0.0], abs=0.02)
    assert off.std(0).tolist() == pytest.approx([0.1, 0.05, 0.05], rel=0.1)


@pytest.mark.parametrize(("turned", "expected"), [(0.0, 0.0), (0.5, 0.25), (1.0, 0.5)])
def test_a_share_of_views_is_turned_by_any_angle(turned: float, expected: float) -> None:
    top = torch.zeros(400, 4, 48, 48, dtype=torch.uint8)
    top[:, :, :24] = 255  # what is bright is above
    top[:, 3] = 255
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    views = augment(top, 24, rng, generator, strength=1e-6, turned=turned)
    upside_down = views[:, :, :12].mean((1, 2, 3)) < views[:, :, 12:].mean((1, 2, 3))
    assert float(upside_down.float().mean()) == pytest.approx(expected, abs=0.06)
