"""Classifiers: recognised by their keys, faithful to the preprocessing in their file, and in the promised columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from anigender.classify import (
    ARCHITECTURES,
    Classifier,
    gendernet,
    load_classifier,
    mobilenet,
    read_classifier,
    resnet,
    vgg,
)
from anigender.classify.classifier import CHUNK_ON_CPU
from anigender.classify.gendernet import GenderNet
from anigender.classify.resnet import ResNet, Stage
from anigender.classify.vgg import VGG
from anigender.images import check
from anigender.weights import read_weights, save_weights

METADATA = {
    "anigender.labels": "female,male",
    "anigender.input_size": "32",
    "anigender.margin": "1.25",
    "anigender.mean": "0.5,0.4,0.3",
    "anigender.std": "0.25,0.5,1.0",
}
OUTER = (8, 12, 16, 24)


def narrow_resnet(name: str, **kinds: Any) -> ResNet:
    """A net of the usual depths with few channels."""
    bottleneck, depths = resnet.DEPTHS[name]
    stages = [Stage(d, o // 2 if bottleneck else o, o) for d, o in zip(depths, OUTER, strict=True)]
    return ResNet(stages, bottleneck, width=6, **kinds)


def narrow_vgg(name: str, norms: bool, side: int = 2) -> VGG:
    """A net of the usual depths with few channels."""
    widths = [width // 16 for width in vgg.DEPTHS[name]]
    return VGG(widths, norms, nn.Sequential(nn.Linear(32 * side**2, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 2)))


def built() -> dict[str, list[nn.Module]]:
    """Nets of every architecture, untrained."""
    torch.manual_seed(1)
    return {
        "gendernet": [
            GenderNet((8, 12, 16, 20), (1, 1, 1, 1)),
            GenderNet((4, 12, 8, 16), (2, 1, 3, 2)),
            GenderNet((16, 16, 16, 16), (1, 2, 1, 4)),
            GenderNet((8, 12, 16, 20), (1, 1, 1, 1), head=(0.25, 0.125, 0.75, 0.625)),
        ],
        "resnet": [
            *(narrow_resnet(name) for name in resnet.DEPTHS),
            narrow_resnet("resnet18", stem=3, pooled=False),
            narrow_resnet("resnet50", stem=(4, 4)),
            narrow_resnet("resnet50", average=True),
            ResNet([Stage(1, 8, 8, 4), Stage(2, 8, 16, 2)], True, width=8),
        ],
        "vgg": [narrow_vgg(name, norms) for name in vgg.DEPTHS for norms in (False, True)],
        "mobilenet_v2": [mobilenet.mobilenet("mobilenet_v2")],
        "mobilenet_v3": [mobilenet.mobilenet("mobilenet_v3_large"), mobilenet.mobilenet("mobilenet_v3_small")],
    }


BUILT = built()
CASES = [(name, net) for name, nets in BUILT.items() for net in nets]


class FirstPixel(nn.Module):
    """Logits that are the first pixel's red and green: what goes in can be read off what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x[:, :2, 0, 0]


def trained(net: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, and kernels that let something through all the layers."""
    torch.manual_seed(4)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
    with torch.no_grad():
        for _ in range(12):
            net.train()(torch.randn(4, 3, 32, 32))
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.0)
                nn.init.normal_(layer.bias, 0, 0.1)
    return net.eval()


def saved(net: nn.Module, path: Path, **changes: str | None) -> Path:
    """The net as a weights file; a change to None leaves a line of the metadata out."""
    metadata = METADATA | {f"anigender.{name}": value for name, value in changes.items()}
    tensors = {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_weights(path, tensors, {name: value for name, value in metadata.items() if value is not None})
    return path


def crops(count: int, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


# -- files -----------------------------------------------------------------------------------------------------------


def test_every_architecture_is_tested() -> None:
    assert set(BUILT) == set(ARCHITECTURES)


@pytest.mark.parametrize(("name", "net"), CASES)
def test_building_saving_recognising_and_loading_keeps_the_outputs(tmp_path: Path, name: str, net: nn.Module) -> None:
    net = trained(net)
    path = saved(net, tmp_path / "net.safetensors")
    state = read_weights(path)[0]
    assert [key for key, (matches, _) in ARCHITECTURES.items() if matches(state)] == [name]
    again = ARCHITECTURES[name][1](state).eval()
    assert [p.shape for p in again.parameters()] == [p.shape for p in net.parameters()]
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(x), net(x))
        found = read_classifier(path, "cpu", torch.float32).net(x)  # with its norms folded away
        torch.testing.assert_close(found, net(x), atol=1e-4, rtol=1e-3)


def test_half_precision_files_give_nearly_the_same(tmp_path: Path) -> None:
    net = trained(CASES[0][1])
    exact = read_classifier(saved(net, tmp_path / "a.safetensors"), "cpu", torch.float32).classify(crops(5))
    state = {name: t.half() if t.is_floating_point() else t for name, t in net.state_dict().items()}
    save_weights(tmp_path / "b.safetensors", state, METADATA)
    half = read_classifier(tmp_path / "b.safetensors", "cpu", torch.float32).classify(crops(5))
    torch.testing.assert_close(half, exact, atol=5e-3, rtol=0)


def test_the_preprocessing_comes_from_the_file(tmp_path: Path) -> None:
    classifier = load_classifier(
        saved(CASES[0][1], tmp_path / "net.safetensors", temperature="1.7"), dtype=torch.float32
    )
    assert (classifier.size, classifier.margin, classifier.temperature) == (32, 1.25, 1.7)
    assert (classifier.device.type, classifier.dtype) == ("cpu", torch.float32)


def test_keys_of_no_architecture_are_listed_with_the_architectures(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({f"{name}.weight": torch.zeros(1) for name in ("backbone", "embed", "head")}, path)
    with pytest.raises(ValueError) as caught:
        read_classifier(path)
    for part in (str(path), "backbone.weight, embed.weight, head.weight", "no known architecture", *ARCHITECTURES):
        assert part in str(caught.value)


@pytest.mark.parametrize("lacking", ["input_size", "margin", "mean", "std"])
def test_a_file_without_its_preprocessing_is_refused(tmp_path: Path, lacking: str) -> None:
    path = saved(CASES[0][1], tmp_path / "net.safetensors", **{lacking: None})
    with pytest.raises(ValueError, match=f"anigender.{lacking} is missing"):
        read_classifier(path)


@pytest.mark.parametrize("labels", ["female", "female,male,unknown", "cat,dog", "girl,woman", ""])
def test_other_labels_are_refused(tmp_path: Path, labels: str) -> None:
    with pytest.raises(ValueError, match="expected female and male"):
        read_classifier(saved(CASES[0][1], tmp_path / "net.safetensors", labels=labels))


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 100])
def test_what_is_no_weights_file_is_explained(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a whole safetensors file") as caught:
        load_classifier(path)
    assert str(path) in str(caught.value)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'nobody' is neither a known name .auto, gender, .*dvgg-0.7. nor a file"):
        load_classifier("nobody")
    with pytest.raises(FileNotFoundError, match="no weights file"):
        read_classifier(tmp_path / "absent.safetensors")


def test_writing_weights_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(CASES[0][1], tmp_path / "net.safetensors")
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        saved(CASES[1][1], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auto", "gender"])
def test_the_embedded_classifier_answers_with_probabilities(name: str) -> None:
    classifier = load_classifier(name, dtype=torch.float32)
    found = classifier.classify(crops(3, classifier.size))
    assert found.shape == (3, 2) and found.dtype == torch.float32
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    torch.testing.assert_close(classifier.classify(crops(3, classifier.size)[1:2]), found[1:2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 32, 31), (2, 1, 32, 32), (3, 32, 32), (2, 32, 32, 3)])
def test_crops_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[N, 3, 32, 32\]") as caught:
        Classifier(FirstPixel(), METADATA).classify(torch.zeros(shape))
    assert str(list(shape)) in str(caught.value)


def test_no_crops_no_answers() -> None:
    found = Classifier(FirstPixel(), METADATA).classify(torch.zeros(0, 3, 32, 32))
    assert found.shape == (0, 2) and found.dtype == torch.float32


def test_pixels_are_normalised_as_the_file_says() -> None:
    net = FirstPixel()
    Classifier(net, METADATA).classify(torch.full((1, 3, 32, 32), 0.8))
    assert net.seen[0][0, :, 5, 7].tolist() == pytest.approx([1.2, 0.8, 0.5])


@pytest.mark.parametrize(("order", "expected"), [("RGB", [0.1, 0.2, 0.3]), ("BGR", [0.3, 0.2, 0.1])])
def test_channel_order(order: str, expected: list[float]) -> None:
    net = FirstPixel()
    plain = {"anigender.mean": "0,0,0", "anigender.std": "1,1,1", "anigender.channel_order": order}
    Classifier(net, METADATA | plain).classify(torch.tensor([0.1, 0.2, 0.3])[None, :, None, None].expand(1, 3, 32, 32))
    assert net.seen[0][0, :, 0, 0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("labels", "female"), [("female,male", 0.9), ("male,female", 0.1), ("1boy, 1girl", 0.1)])
def test_columns_are_female_and_male_whatever_the_file_says(labels: str, female: float) -> None:
    plain = {"anigender.mean": "0,0,0", "anigender.std": "1,1,1", "anigender.labels": labels}
    logits = torch.tensor([0.9, 0.1, 0.5]).log()[None, :, None, None].expand(1, 3, 32, 32)
    found = Classifier(FirstPixel(), METADATA | plain).classify(logits)
    assert found.tolist() == [pytest.approx([female, 1 - female])]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_temperature_divides_the_logits(temperature: float) -> None:
    plain = {"anigender.mean": "0,0,0", "anigender.std": "1,1,1", "anigender.temperature": str(temperature)}
    x = torch.tensor([0.9, 0.1, 0.0])[None, :, None, None].expand(1, 3, 32, 32)
    found = Classifier(FirstPixel(), METADATA | plain).classify(x)
    torch.testing.assert_close(found[0, 0], torch.tensor(0.8 / temperature).sigmoid())


def test_flipping_averages_a_crop_and_its_mirror_image() -> None:
    plain = {"anigender.mean": "0,0,0", "anigender.std": "1,1,1"}
    x = torch.zeros(1, 3, 32, 32)
    x[:, 0, 0, 0], x[:, 0, 0, -1] = 1.0, 0.5
    once = Classifier(FirstPixel(), METADATA | plain).classify(x)
    both = Classifier(FirstPixel(), METADATA | plain | {"anigender.flip": "yes"})
    torch.testing.assert_close(once[0, 0], torch.tensor(1.0).sigmoid())
    torch.testing.assert_close(both.classify(x)[0, 0], torch.tensor(0.75).sigmoid())
    torch.testing.assert_close(both.classify(x.flip(-1)), both.classify(x))


def test_many_crops_are_worked_on_in_pieces_and_come_in_order() -> None:
    net = FirstPixel()
    plain = {"anigender.mean": "0,0,0", "anigender.std": "1,1,1", "anigender.input_size": "1"}
    count = 2 * CHUNK_ON_CPU + 3
    x = torch.zeros(count, 3, 1, 1)
    x[:, 0, 0, 0] = torch.arange(count) / count
    found = Classifier(net, METADATA | plain).classify(x)
    assert [len(part) for part in net.seen] == [CHUNK_ON_CPU, CHUNK_ON_CPU, 3]
    torch.testing.assert_close(found[:, 0], (torch.arange(count) / count).sigmoid())


def test_the_crop_maker_gives_what_the_classifier_takes(tmp_path: Path) -> None:
    from anigender.faces import Faces
    from anigender.images import head_crops

    classifier = load_classifier(saved(trained(CASES[0][1]), tmp_path / "net.safetensors"), dtype=torch.float32)
    faces = Faces.from_boxes([[[5, 5, 30, 30]], [[0, 0, 9, 9]]], [(40, 40), (40, 40)])
    found = classifier.classify(head_crops(check(torch.rand(2, 40, 40, 3)), faces, classifier.size, classifier.margin))
    assert found.shape == (2, 2)


@pytest.mark.parametrize(
    ("head", "cells"),
    [
        ((0.25, 0.25, 0.75, 0.75), {(y, x): 0.25 for y in (1, 2) for x in (1, 2)}),
        ((0.0, 0.0, 1.0, 0.25), {(0, x): 0.25 for x in range(4)}),
        ((0.25, 0.125, 0.5, 0.5), {(0, 1): 1 / 3, (1, 1): 2 / 3}),  # half of the first row
    ],
)
def test_activations_are_pooled_over_the_head_and_over_everything(
    head: tuple[float, ...], cells: dict[tuple[int, int], float]
) -> None:
    torch.manual_seed(0)
    net = GenderNet((8, 8, 8, 6), (1, 1, 1, 1), head=head).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = net.stages(net.stem(x))
        assert maps.shape[2:] == (4, 4)
        over_head = torch.stack([share * maps[:, :, y, x] for (y, x), share in cells.items()]).sum(0)
        expected = torch.cat((over_head, maps.mean((2, 3))), 1)
        torch.testing.assert_close(net.features(x), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages.2.": None}, "lacks 'stages.2.0.0.weight'; copy or download it again"),
        ({"stem.0.weight": torch.tensor(1.0)}, "tuple index out of range"),
        ({"head": torch.tensor(0.5)}, "len"),
    ],
)
def test_what_is_left_of_a_file_is_explained(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    state = GenderNet((4, 4, 4, 4), head=(0.1, 0.1, 0.9, 0.9)).state_dict()
    kept = {key: value for key, value in state.items() if not key.startswith(tuple(change))}
    kept |= {key: value for key, value in change.items() if value is not None}
    save_weights(tmp_path / "net.safetensors", kept, METADATA)
    with pytest.raises(ValueError, match=f"net.safetensors looks like gendernet, but .*{message}"):
        read_classifier(tmp_path / "net.safetensors")


def test_a_head_outside_the_crop_is_refused() -> None:
    state = GenderNet((8, 8, 8, 6), (1, 1, 1, 1), head=(0.2, 0.2, 0.8, 0.8)).state_dict()
    for head in ([0.2, 0.2, 0.8, 1.2], [0.8, 0.2, 0.2, 0.8], [0.2, 0.2, 0.8], [float("nan")] * 4):
        with pytest.raises(ValueError, match="expected x0, y0, x1, y1 from 0 to 1"):
            gendernet.build(state | {"head": torch.tensor(head)})
