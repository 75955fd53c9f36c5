"""The second opinion on proposed heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anigender.boxes import pairwise_iou
from anigender.detect import HeadDetector, load_detector, read_head_detector
from anigender.detect import head_detector as head_detector_module
from anigender.detect.verifier import PREFIX, Verifier, VerifierNet, build
from anigender.faces import Faces
from anigender.images import check
from anigender.weights import read_weights, save_weights

METADATA = {
    "anigender.mean": "0.5,0.5,0.5",
    "anigender.std": "0.25,0.25,0.25",
    "anigender.verifier_size": "16",
    "anigender.verifier_margin": "1.0",
}


class Brightness(nn.Module):
    """Says how bright the crop is: a verifier whose answers can be worked out by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))


@pytest.fixture
def bright() -> Verifier:
    return Verifier(Brightness(), METADATA)  # type: ignore[arg-type]


@pytest.fixture
def verified(random_headnet_file: Path, tmp_path: Path) -> Iterator[HeadDetector]:
    """A detector file with random weights in both nets."""
    torch.manual_seed(3)
    net = VerifierNet((16, 32, 64, 96))
    tensors, metadata = read_weights(random_headnet_file)
    path = tmp_path / "both.safetensors"
    own = {PREFIX + name: value for name, value in net.state_dict().items()}
    more = {"anigender.proposal_threshold": "0.02", "anigender.others_discount": "0.5"}
    save_weights(path, tensors | own, metadata | METADATA | more)
    yield read_head_detector(path, "cpu", torch.float32)


def opinion(verifier: Verifier, pictures: Tensor, faces: Faces, chunk: int = 256) -> Tensor:
    return verifier.scores(check(pictures), faces.boxes, faces.scores, faces.image_index, chunk)


@pytest.mark.parametrize(
    ("level", "score", "expected"),
    [
        # The logit of the score plus the brightness, which is (level - 0.5) / 0.25.
        (0.5, 0.5, 0.5),
        (1.0, 0.5, 0.8808),
        (0.0, 0.5, 0.1192),
        (0.5, 0.9, 0.9),
        (0.0, 0.9, 0.5491),
        (1.0, 0.1, 0.4509),
        (1.0, 1.0, 1.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_two_opinions_become_one(bright: Verifier, level: float, score: float, expected: float) -> None:
    faces = Faces.from_boxes([[[4, 4, 20, 20]]], sizes=[(32, 32)], scores=[[score]])
    found = opinion(bright, torch.full((1, 32, 32, 3), level), faces)
    assert found.tolist() == pytest.approx([expected], abs=4e-3)


def test_each_proposal_has_its_own_crop(bright: Verifier) -> None:
    pictures = torch.zeros(2, 32, 64, 3)
    pictures[0, :, 32:] = 1.0
    pictures[1] = 0.5
    faces = Faces.from_boxes([[[4, 4, 20, 20], [40, 4, 56, 20]], [[10, 10, 20, 20]]], sizes=[(32, 64)] * 2)
    faces = Faces(faces.boxes, torch.full((3,), 0.5), faces.image_index, faces.image_sizes)
    for chunk in (1, 2, 256):
        assert opinion(bright, pictures, faces, chunk).tolist() == pytest.approx([0.1192, 0.8808, 0.5], abs=4e-3)


def test_no_proposal_is_no_trouble(bright: Verifier, verified: HeadDetector) -> None:
    assert opinion(bright, torch.zeros(2, 8, 8, 3), Faces.empty([(8, 8)] * 2)).shape == (0,)
    verified.proposal_threshold = 1.0
    faces = verified.detect(check(torch.rand(2, 64, 64, 3)))
    assert (len(faces), faces.images) == (0, 2)


def noise(count: int = 3) -> Tensor:
    return torch.rand(count, 96, 120, 3, generator=torch.Generator().manual_seed(4))


def test_scores_fall_inside_each_picture_and_stay_above_the_threshold(verified: HeadDetector) -> None:
    verified.threshold = 0.01
    faces = verified.detect(check(noise()))
    assert len(faces) >= 5
    assert faces.image_index.tolist() == sorted(faces.image_index.tolist())
    for i in range(3):
        scores = faces.of_image(i).scores.tolist()
        assert scores == sorted(scores, reverse=True)
    threshold = float(faces.scores.median())
    verified.threshold = threshold
    fewer = verified.detect(check(noise()))
    torch.testing.assert_close(fewer.boxes, faces.boxes[faces.scores >= threshold])


def test_a_verified_batch_gives_what_its_pictures_give(verified: HeadDetector) -> None:
    verified.threshold = 0.01
    alone = Faces.concatenate([verified.detect(check(picture[None])) for picture in noise()])
    together = verified.detect(check(noise()))
    assert together.image_index.tolist() == alone.image_index.tolist()
    torch.testing.assert_close(together.boxes, alone.boxes, atol=0.02, rtol=1e-4)
    torch.testing.assert_close(together.scores, alone.scores, atol=1e-4, rtol=1e-3)


def test_only_the_surest_proposals_are_looked_at(verified: HeadDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    verified.threshold = 0.0
    everything = verified.detect(check(noise()))
    monkeypatch.setattr(head_detector_module, "PROPOSALS", 2)
    fewer = verified.detect(check(noise()))
    assert fewer.count_by_image().tolist() == [min(2, n) for n in everything.count_by_image().tolist()]
    best = pairwise_iou(fewer.boxes, everything.boxes).amax(1)
    assert float(best.min()) > 0.99


@pytest.mark.parametrize(
    ("scores", "images", "expected"),
    [
        ([0.9, 0.5], [0, 0], [0.9, 0.2689]),
        ([0.5, 0.9], [0, 0], [0.2689, 0.9]),  # in whatever order
        ([0.9, 0.5], [0, 1], [0.9, 0.5]),  # each the surest of its picture
        ([0.5, 0.5], [0, 0], [0.5, 0.5]),  # nothing tells which is
        ([1.0, 0.99, 0.0], [0, 0, 0], [1.0, 0.9733, 0.0]),
        ([0.5, -1.0], [0, 0], [0.5, -1.0]),  # an unused place stays one
        ([], [], []),
    ],
)
def test_a_head_beside_a_surer_one_counts_for_less(
    scores: list[float], images: list[int], expected: list[float]
) -> None:
    found = head_detector_module._beside_a_surer(torch.tensor(scores), torch.tensor(images, dtype=torch.int64), 2, 1.0)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_a_file_without_a_verifier_gives_the_nets_own_scores(random_headnet_file: Path) -> None:
    detector = read_head_detector(random_headnet_file, "cpu", torch.float32)
    assert detector.verifier is None


def test_the_embedded_detector_has_one() -> None:
    detector = load_detector("auto", "cpu", torch.float32)
    assert isinstance(detector, HeadDetector) and detector.verifier is not None
    assert detector.proposal_threshold < detector.threshold


@pytest.mark.parametrize("widths", [(4,), (8, 16), (16, 32, 64, 96)])
def test_a_verifier_of_any_width_is_read_from_its_weights(widths: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    net = VerifierNet(widths).eval()
    crops = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        read = build({PREFIX + name: value for name, value in net.state_dict().items()})
        assert read is not None and torch.equal(read.eval()(crops), net(crops))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), "lacks 1 weights of the verifier, fc.bias"),
        (lambda state: state.pop("stages.0.0.0.weight"), "of the verifier"),
        (lambda state: state.update({"fc.weight": torch.zeros(1, 3)}), "do not fit together"),
    ],
)
def test_a_verifier_that_is_not_whole_is_refused(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    state = dict(VerifierNet((4, 8)).state_dict())
    change(state)
    with pytest.raises(ValueError, match=message):
        build({PREFIX + name: value for name, value in state.items()})


def test_what_cannot_be_beyond_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="verifier_outside is 'sky', expected one of edge, mean"):
        Verifier(Brightness(), METADATA | {"anigender.verifier_outside": "sky"})  # type: ignore[arg-type]


def test_a_file_says_what_its_verifier_sees_beyond_the_picture() -> None:
    picture = torch.zeros(1, 40, 40, 3)
    picture[:, :20] = 1.0
    corner = Faces(torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([0.5]), torch.tensor([0]), torch.tensor([[40, 40]]))
    wide = METADATA | {"anigender.verifier_margin": "4.0"}
    flat = Verifier(Brightness(), wide | {"anigender.verifier_outside": "mean"})  # type: ignore[arg-type]
    edge = Verifier(Brightness(), wide)  # type: ignore[arg-type]
    # 24 of the 64 pixels are outside on the left and above; there the edge is white, and the mean of both is not.
    assert float(opinion(flat, picture, corner)) < float(opinion(edge, picture, corner))
