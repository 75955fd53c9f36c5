"""Faces: what is refused and how it is said, making, choosing, ordering, and that pictures never shift."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from anigender.faces import GENDERS, ORDERS, Face, Faces


def arrays(**changes: Any) -> dict[str, Any]:
    """Arguments of three good faces in two pictures, with changes."""
    return {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [20, 5, 60, 45], [5, 5, 9, 9]]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "image_index": torch.tensor([0, 0, 1]),
        "image_sizes": torch.tensor([[50, 70], [30, 40]]),
        "probabilities": torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]),
    } | changes


@st.composite
def batches(draw: st.DrawFn) -> Faces:
    """Classified faces of a batch; some pictures have none."""
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    boxes, scores, female = [], [], []
    number = st.integers(0, 40)
    for count in counts:
        rows = []
        for _ in range(count):
            x, y = draw(number), draw(number)
            rows.append([x, y, x + draw(number), y + draw(number)])
            female.append(draw(st.integers(0, 10)) / 10)
        boxes.append(rows)
        scores.append([draw(st.integers(1, 9)) / 10 for _ in rows])
    faces = Faces.from_boxes(boxes, [(80, 90)] * len(counts), scores)
    share = torch.tensor(female, dtype=torch.float32)
    return faces.with_probabilities(torch.stack((share, 1 - share), 1))


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"boxes": torch.zeros(3, 5)}, ("Faces.boxes", "[3, 5]", "[3, 4]")),
        ({"boxes": torch.zeros(3, 4, 1)}, ("Faces.boxes", "[3, 4, 1]", "[3, 4]")),
        ({"scores": torch.zeros(2)}, ("Faces.scores", "[2]", "[3]")),
        ({"scores": torch.zeros(3, 1)}, ("Faces.scores", "[3, 1]", "[3]")),
        ({"image_index": torch.zeros(2, dtype=torch.int64)}, ("Faces.image_index", "[2]", "[3]")),
        ({"image_index": torch.zeros(3)}, ("Faces.image_index", "float32", "int64")),
        ({"image_sizes": torch.zeros(2, 3)}, ("Faces.image_sizes", "[2, 3]", "'B', 2")),
        ({"probabilities": torch.zeros(3, 3)}, ("Faces.probabilities", "[3, 3]", "[3, 2]")),
        ({"probabilities": torch.zeros(1, 2)}, ("Faces.probabilities", "[1, 2]", "[3, 2]")),
        ({"image_index": torch.tensor([0, 1, 0])}, ("image_index", "sorted")),
        ({"image_index": torch.tensor([0, 0, 2])}, ("image_index", "0..2", "2 pictures")),
        ({"image_index": torch.tensor([-1, 0, 1])}, ("image_index", "-1..1", "2 pictures")),
    ],
)
def test_wrong_arrays_are_refused(changes: dict[str, Tensor], parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        Faces(**arrays(**changes))
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"boxes": [[]], "sizes": [(9, 9), (9, 9)]}, ("1 pictures", "sizes for 2")),
        ({"boxes": [[], [[1, 2, 3]]], "sizes": [(9, 9)] * 2}, ("picture 1", "[1, 3]", "[n, 4]")),
        ({"boxes": [[1, 2, 3, 4]], "sizes": [(9, 9)]}, ("picture 0", "[4]", "[n, 4]")),
        ({"boxes": [[], [[5, 0, 4, 1]]], "sizes": [(9, 9)] * 2}, ("picture 1", "[5.0, 0.0, 4.0, 1.0]", "x1 <= x2")),
        ({"boxes": [[[0, 0, float("nan"), 1]]], "sizes": [(9, 9)]}, ("picture 0", "nan")),
        ({"boxes": [[[0, 0, float("inf"), 1]]], "sizes": [(9, 9)]}, ("picture 0", "inf")),
        ({"boxes": [[[0, 0, 1, 1]]], "sizes": [(9, 9)], "scores": [[0.1, 0.2]]}, ("picture 0", "1 boxes", "[2]")),
    ],
)
def test_wrong_boxes_are_refused(arguments: dict[str, Any], parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        Faces.from_boxes(**arguments)
    for part in parts:
        assert part in str(caught.value)


def test_what_needs_a_classifier_says_so() -> None:
    faces = Faces(**arrays(probabilities=None))
    for ask in (
        lambda: faces.gender,
        lambda: faces.confidence,
        lambda: faces.gender_index,
        lambda: faces.order("confidence"),
        lambda: faces.count_by_image("male"),
        lambda: faces.pick(0, "female"),
    ):
        with pytest.raises(ValueError, match="have not been classified"):
            ask()


@pytest.mark.parametrize(
    ("mask", "part"),
    [
        (torch.ones(3), "float32"),
        (torch.ones(2, dtype=torch.bool), "[2]"),
        (torch.ones(3, 1, dtype=torch.bool), "[3, 1]"),
    ],
)
def test_a_mask_of_another_kind_is_refused(mask: Tensor, part: str) -> None:
    with pytest.raises(ValueError, match=r"expected torch.bool \[3\]") as caught:
        Faces(**arrays()).filter(mask)
    assert part in str(caught.value)


def test_an_unknown_order_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'size' is not known") as caught:
        Faces(**arrays()).order("size")
    for word in ORDERS:
        assert word in str(caught.value)


@pytest.mark.parametrize("image", [2, -3, 99])
def test_a_picture_that_is_not_there(image: int) -> None:
    with pytest.raises(IndexError, match=f"image {image} .* 2 pictures"):
        Faces(**arrays()).of_image(image)


# -- making ----------------------------------------------------------------------------------------------------------


def test_from_boxes() -> None:
    faces = Faces.from_boxes(
        [[], torch.tensor([[1, 2, 3, 4]]), [[0, 0, 1, 1], [5, 6, 7, 8]]],
        [(10, 20), (30, 40), (50, 60)],
        [[], [0.5], [1, 0.2]],
    )
    assert (len(faces), faces.images) == (3, 3)
    assert faces.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 1, 1], [5, 6, 7, 8]]
    assert faces.boxes.dtype == faces.scores.dtype == torch.float32
    assert faces.scores.tolist() == pytest.approx([0.5, 1, 0.2])
    assert faces.image_index.tolist() == [1, 2, 2]
    assert faces.image_sizes.tolist() == [[10, 20], [30, 40], [50, 60]]
    assert faces.probabilities is None
    assert Faces.from_boxes([[[0, 0, 1, 1]]], [(2, 2)]).scores.tolist() == [1.0]


@pytest.mark.parametrize("faces", [Faces.empty([(4, 5), (6, 7)]), Faces.from_boxes([[], []], [(4, 5), (6, 7)])])
def test_no_faces_is_a_normal_result(faces: Faces) -> None:
    assert (len(faces), faces.images, list(faces)) == (0, 2, [])
    assert faces.image_sizes.tolist() == [[4, 5], [6, 7]]
    assert faces.count_by_image().tolist() == [0, 0]
    assert len(faces.of_image(1)) == 0 and faces.of_image(1).images == 1
    assert len(faces.clipped()) == len(faces.pick(0)) == len(faces.order("left-right")) == 0
    classified = faces.with_probabilities(torch.zeros(0, 2))
    assert classified.gender == [] and classified.confidence.shape == (0,)
    assert classified.count_by_image("female").tolist() == [0, 0]


def test_no_pictures() -> None:
    faces = Faces.empty([])
    assert (len(faces), faces.images, faces.count_by_image().tolist()) == (0, 0, [])
    assert Faces.concatenate([faces, faces]).images == 0


def test_concatenate_counts_pictures_on() -> None:
    first, second = Faces(**arrays()), Faces(**arrays())
    both = Faces.concatenate([first, Faces.empty([(1, 1)]), second])
    assert both.image_index.tolist() == [0, 0, 1, 3, 3, 4]
    assert both.images == 5
    assert both.image_sizes.tolist() == [[50, 70], [30, 40], [1, 1], [50, 70], [30, 40]]
    assert both.gender == first.gender + second.gender


def test_concatenate_refuses_a_mixture() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        Faces.concatenate([])
    with pytest.raises(ValueError, match="some parts are classified and some are not"):
        Faces.concatenate([Faces(**arrays()), Faces(**arrays(probabilities=None))])


@given(batches())
def test_the_pictures_of_a_batch_make_the_batch_again(faces: Faces) -> None:
    again = Faces.concatenate([faces.of_image(i) for i in range(faces.images)])
    for name in ("boxes", "scores", "image_index", "image_sizes", "probabilities"):
        assert torch.equal(getattr(again, name), getattr(faces, name)), name


# -- looking ---------------------------------------------------------------------------------------------------------


def test_gender_and_confidence() -> None:
    faces = Faces(**arrays())
    assert faces.gender == ["female", "male", "female"]  # a tie is female
    assert faces.gender_index.tolist() == [0, 1, 0]
    assert faces.confidence.tolist() == pytest.approx([0.9, 0.8, 0.5])
    assert faces.count_by_image().tolist() == [2, 1]
    assert faces.count_by_image("female").tolist() == [1, 1]
    assert faces.count_by_image("male").tolist() == [1, 0]


@given(batches())
def test_one_face_and_all_faces_agree(faces: Faces) -> None:
    rows = list(faces)
    assert rows == [faces[i] for i in range(len(faces))]
    assert [row.gender for row in rows] == faces.gender
    assert [row.confidence for row in rows] == faces.confidence.tolist()
    assert [row.image for row in rows] == faces.image_index.tolist()


def test_a_face_before_classification() -> None:
    face = Faces(**arrays(probabilities=None))[2]
    assert face == Face(1, (5.0, 5.0, 9.0, 9.0), pytest.approx(0.7))
    assert face.gender is None and face.confidence is None


def test_a_face_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        Faces(**arrays())[3]


def test_of_image() -> None:
    faces = Faces(**arrays())
    second = faces.of_image(1)
    assert (second.images, second.image_index.tolist(), second.boxes.tolist()) == (1, [0], [[5, 5, 9, 9]])
    assert second.image_sizes.tolist() == [[30, 40]]
    assert torch.equal(faces.of_image(-1).boxes, second.boxes)


@given(batches(), st.integers(0, 6))
def test_of_images(faces: Faces, cut: int) -> None:
    cut = min(cut, faces.images)
    for first, last in ((0, cut), (cut, faces.images)):
        part = faces.of_images(first, last)
        assert part.images == last - first
        if part.images:
            alone = Faces.concatenate([faces.of_image(i) for i in range(first, last)])
            for name in ("boxes", "scores", "image_index", "image_sizes", "probabilities"):
                assert torch.equal(getattr(part, name), getattr(alone, name)), name


def test_clipped() -> None:
    faces = Faces(**arrays()).clipped()
    assert faces.boxes.tolist() == [[0, 0, 10, 10], [20, 5, 60, 45], [5, 5, 9, 9]]
    outside = Faces.from_boxes([[[-5, -5, 5, 5]], [[20, 10, 90, 90]]], [(50, 70), (30, 40)]).clipped()
    assert outside.boxes.tolist() == [[0, 0, 5, 5], [20, 10, 40, 30]]


# -- choosing --------------------------------------------------------------------------------------------------------


@given(batches(), st.randoms(use_true_random=False))
def test_filtering_never_shifts_a_picture(faces: Faces, random: Any) -> None:
    mask = torch.tensor([random.random() < 0.5 for _ in range(len(faces))], dtype=torch.bool)
    kept = faces.filter(mask)
    assert kept.images == faces.images
    assert list(kept) == [face for face, stays in zip(faces, mask.tolist(), strict=True) if stays]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("score", [1, 0, 2]),
        ("confidence", [2, 0, 1]),
        ("left-right", [0, 2, 1]),
        ("right-left", [1, 2, 0]),
        ("top-bottom", [2, 1, 0]),
        ("bottom-top", [0, 1, 2]),
        ("large-small", [1, 2, 0]),
        ("small-large", [0, 2, 1]),
    ],
)
def test_orders(by: str, expected: list[int]) -> None:
    rows = [[0.0, 30, 4, 34], [20, 8, 50, 38], [10, 0, 20, 10]]
    faces = Faces.from_boxes([rows], [(60, 60)], [[0.5, 0.9, 0.4]])
    faces = faces.with_probabilities(torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.05, 0.95]]))
    assert faces.order(by).boxes.tolist() == [rows[i] for i in expected]


@given(batches(), st.sampled_from(ORDERS))
def test_ordering_is_stable_and_stays_inside_pictures(faces: Faces, by: str) -> None:
    keys = {
        "score": lambda f: -f.detection,
        "confidence": lambda f: -f.confidence,
        "left-right": lambda f: f.box[0] + f.box[2],
        "right-left": lambda f: -(f.box[0] + f.box[2]),
        "top-bottom": lambda f: f.box[1] + f.box[3],
        "bottom-top": lambda f: -(f.box[1] + f.box[3]),
        "large-small": lambda f: -(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]),
        "small-large": lambda f: (f.box[2] - f.box[0]) * (f.box[3] - f.box[1]),
    }
    expected = sorted(faces, key=lambda face: (face.image, keys[by](face)))
    assert list(faces.order(by)) == expected


@given(batches(), st.integers(-5, 5), st.sampled_from([None, *GENDERS]), st.sampled_from(ORDERS))
def test_the_second_female_is_the_second_among_the_females(
    faces: Faces, index: int, gender: str | None, by: str
) -> None:
    expected = []
    for image in range(faces.images):
        own = [f for f in faces.order(by) if f.image == image and gender in (None, f.gender)]
        if -len(own) <= index < len(own):
            expected.append(own[index])
    picked = faces.pick(index, gender, by)
    assert list(picked) == expected
    assert picked.images == faces.images


def test_moving_keeps_everything() -> None:
    faces = Faces(**arrays())
    for moved in (faces.cpu(), faces.to("cpu"), faces.to(torch.device("cpu"))):
        assert list(moved) == list(faces)
        assert moved.device == torch.device("cpu")
    assert Faces(**arrays(probabilities=None)).cpu().probabilities is None


def named(*names: str) -> Faces:
    """A picture with a face for each name; the empty one is nobody known."""
    known = tuple(sorted({name for name in names if name}))
    boxes = [[10.0 * i, 0, 10.0 * i + 9, 9] for i in range(len(names))]
    faces = Faces.from_boxes([boxes], [(20, 200)])
    index = torch.tensor([known.index(name) if name else -1 for name in names], dtype=torch.int64)
    return faces.with_names(known, index, torch.linspace(0.9, 0.5, len(names)))


def test_names_travel_with_their_faces() -> None:
    faces = named("rei", "", "asuka")
    assert faces.names == ["rei", "", "asuka"] and [face.name for face in faces] == faces.names
    assert (faces[1].name, faces[1].name_confidence) == ("", pytest.approx(0.7))
    assert faces.order("right-left").names == ["asuka", "", "rei"]
    assert faces.filter(torch.tensor([False, True, True])).names == ["", "asuka"]
    assert faces.of_image(0).names == faces.cpu().clipped().names == faces.names
    assert faces.of_character("REI").names == ["rei"] and len(faces.of_character("rei", "asuka")) == 2
    with pytest.raises(ValueError, match="nobody called 'shinji'; it knows asuka, rei"):
        faces.of_character("shinji")
    with pytest.raises(ValueError, match="carry no names"):
        Faces.from_boxes([[[0, 0, 1, 1]]], [(4, 4)]).names  # noqa: B018


def test_names_of_several_recognisers_are_joined() -> None:
    empty = Faces.empty([(20, 20)])
    both = Faces.concatenate([named("rei", "asuka"), empty, named("mari", "", "asuka")])
    assert both.names == ["rei", "asuka", "mari", "", "asuka"] and both.characters == ("asuka", "rei", "mari")
    assert both.image_index.tolist() == [0, 0, 2, 2, 2]
    with pytest.raises(ValueError, match="some parts have been recognised and some have not"):
        Faces.concatenate([named("rei"), Faces.from_boxes([[[0, 0, 1, 1]]], [(4, 4)])])
    with pytest.raises(ValueError, match="belong together"):
        Faces(empty.boxes, empty.scores, empty.image_index, empty.image_sizes, None, ("rei",))
