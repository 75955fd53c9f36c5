"""Classifiers of other people: their wrappers, heads, preprocessing and file types, and the same answers elsewhere."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from anigender.classify import ARCHITECTURES, CLASSIFIERS, SETTINGS, load_classifier, read_classifier, recognise
from anigender.classify.framing import classifier_crops, matrix, resized
from anigender.classify.known import AUTHORS, known_file, known_settings
from anigender.classify.mobilenet import mobilenet
from anigender.classify.preprocessing import preprocessing, sidecar_settings
from anigender.classify.resnet import ResNet, Stage
from anigender.classify.state import build_head, prefix_of
from anigender.faces import Faces
from anigender.inference import fold_batch_norms
from anigender.weights import save_weights

METADATA = {
    "anigender.input_size": "32",
    "anigender.margin": "1.0",
    "anigender.mean": "0.5,0.4,0.3",
    "anigender.std": "0.25,0.5,1.0",
}
PLAIN = {"input_size": 32, "margin": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}


def lively(net: nn.Module, seed: int = 2) -> nn.Module:
    """Random kernels that keep the signal's size, and batch norms that do something."""
    torch.manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
        elif isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.uniform_(layer.weight, 0.4, 0.6)
            nn.init.normal_(layer.bias, 0, 0.1)
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net.eval()


def small(head: nn.Module | None = None, **kinds: Any) -> ResNet:
    stages = [Stage(1, 8, 8), Stage(1, 12, 12), Stage(2, 16, 16), Stage(1, 24, 24)]
    return lively(ResNet(stages, False, width=8, head=head, **kinds))  # type: ignore[return-value]


def crops(count: int, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def answers(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)


def rebuilt(state: Mapping[str, Tensor], settings: dict[str, str] | None = None) -> nn.Module:
    return ARCHITECTURES[recognise(state)][1](state, settings or {}).eval()


# -- wrappers and heads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "backbone.", "net.encoder.", "0."])
@pytest.mark.parametrize("head", ["fc.", "module.fc.", "head."])
def test_wrappers_are_looked_through(prefix: str, head: str) -> None:
    net = small()
    state = {(head + key[3:] if key.startswith("fc.") else prefix + key): t for key, t in net.state_dict().items()}
    torch.testing.assert_close(answers(rebuilt(state), crops(2)), answers(net, crops(2)))


@pytest.mark.parametrize("outer", ["", "features.", "0."])
def test_children_in_a_list_are_recognised(outer: str) -> None:
    net = small()
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state = {}
    for key, value in net.state_dict().items():
        first, _, rest = key.partition(".")
        state[f"{outer}{places[first]}.{rest}" if first in places else f"head.{rest}"] = value
    torch.testing.assert_close(answers(rebuilt(state), crops(2)), answers(net, crops(2)))


HEADS: dict[str, nn.Sequential] = {
    "linear, relu, linear": nn.Sequential(nn.Linear(24, 9), nn.ReLU(), nn.Linear(9, 2)),
    "with dropouts": nn.Sequential(
        nn.Dropout(), nn.Linear(24, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 2)
    ),
    "norm before": nn.Sequential(nn.Linear(24, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 2)),
    "norm behind": nn.Sequential(
        nn.BatchNorm1d(24), nn.Dropout(), nn.Linear(24, 9), nn.ReLU(), nn.BatchNorm1d(9), nn.Dropout(), nn.Linear(9, 2)
    ),
    "layer norm": nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 2, bias=False)),
    "nothing between": nn.Sequential(nn.Linear(24, 9), nn.Linear(9, 2)),
    "eleven places": nn.Sequential(nn.Linear(24, 9), *[nn.Dropout()] * 9, nn.Linear(9, 2)),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_of_several_layers_is_rebuilt(name: str) -> None:
    head = lively(HEADS[name])
    found = build_head({f"fc.{key}": value for key, value in head.state_dict().items() if "num_" not in key}).eval()
    x = torch.randn(6, 24)
    if name == "eleven places":  # what is left out first is taken for an activation
        expected = head[10](answers(head[0], x).relu())  # type: ignore[index]
        torch.testing.assert_close(answers(found, x), expected)
    else:
        torch.testing.assert_close(answers(found, x), answers(head, x))
    net = small(found)
    torch.testing.assert_close(answers(rebuilt(net.state_dict()), crops(2)), answers(net, crops(2)))


@pytest.mark.parametrize(("activation", "layer"), [("gelu", nn.GELU()), ("none", nn.Identity()), ("tanh", nn.Tanh())])
def test_the_activation_of_a_head_can_be_declared(activation: str, layer: nn.Module) -> None:
    head = nn.Sequential(nn.Linear(24, 9), layer, nn.Linear(9, 2))
    net = small(head)
    found = rebuilt(net.state_dict(), {"head_activation": activation})
    torch.testing.assert_close(answers(found, crops(2)), answers(net, crops(2)))


def test_pooling_of_largest_values_and_means_is_seen_from_the_width() -> None:
    net = small(nn.Sequential(nn.BatchNorm1d(48), nn.Linear(48, 2)))
    assert net.concatenated
    torch.testing.assert_close(answers(rebuilt(net.state_dict()), crops(2)), answers(net, crops(2)))


@pytest.mark.parametrize("pooled", [True, False])
def test_strides_of_a_stem_that_cannot_be_seen_are_declared(pooled: bool) -> None:
    net = small(stem=3, pooled=pooled)
    found = rebuilt(net.state_dict(), {"stem": "strided" if pooled else "plain"})
    torch.testing.assert_close(answers(found, crops(2)), answers(net, crops(2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1.0.se.fc1.weight": torch.zeros(2, 8, 1, 1)}, "has besides layer1.0.se.fc1.weight"),
        ({"layer1.0.conv2.weight": None}, "no convolutions like a ResNet's"),
        ({"layer3.1.bn2.running_var": None}, "lacks layer3.1.bn2.running_var"),
        ({"layer3.1.bn2.bias": torch.zeros(3)}, r"layer3.1.bn2.bias has shape \[3\], expected \[16\]"),
        ({"fc.weight": torch.zeros(2, 23)}, "head takes 23 values, the backbone gives 24"),
        ({"fc.weight": None, "fc.bias": None}, "no linear layer behind the features"),
        ({"extra": torch.zeros(2, 2, 2)}, "belongs neither to the backbone nor to a head"),
    ],
)
def test_relatives_and_damage_are_explained(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    state = {key: t for key, t in ({**small().state_dict(), **change}).items() if t is not None}
    save_weights(tmp_path / "net.safetensors", state, METADATA)
    with pytest.raises(ValueError, match=f"net.safetensors looks like resnet, but .*{message}"):
        read_classifier(tmp_path / "net.safetensors")


def test_the_shortest_prefix_is_taken() -> None:
    assert prefix_of(["a.b.conv.weight", "b.conv.weight"], "conv.weight") == "b."
    assert prefix_of(["myconv.weight"], "conv.weight") is None


# -- files and settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin"])
def test_pickled_checkpoints_give_the_same_answers(tmp_path: Path, suffix: str) -> None:
    net = small()
    save_weights(tmp_path / "net.safetensors", net.state_dict(), METADATA)
    content = {"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}, "epoch": 3, "metadata": METADATA}
    torch.save(content, tmp_path / f"net{suffix}")
    expected = read_classifier(tmp_path / "net.safetensors", dtype=torch.float32).classify(crops(3))
    found = load_classifier(str(tmp_path / f"net{suffix}"), dtype=torch.float32)
    torch.testing.assert_close(found.classify(crops(3)), expected)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("name", ["net.pth.json", "net.json"])
@pytest.mark.parametrize("content", [PLAIN, {"anigender": PLAIN, "licence": "mine"}, {"anigender.margin": 1, **PLAIN}])
def test_settings_come_from_a_json_file_beside_the_weights(tmp_path: Path, name: str, content: Any) -> None:
    torch.save(small().state_dict(), tmp_path / "net.pth")
    with pytest.raises(ValueError, match="input_size is missing. Write net.pth.json beside it"):
        load_classifier(tmp_path / "net.pth")
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    assert load_classifier(tmp_path / "net.pth").size == 32


def test_later_declarations_win(tmp_path: Path) -> None:
    path = tmp_path / "animeGender-dvgg-0.8_alpha.safetensors"
    assert known_settings(path)["anigender.input_size"] == "224"
    save_weights(path, small().state_dict(), {"anigender.input_size": "48", "anigender.margin": "1.5"})
    (tmp_path / f"{path.name}.json").write_text(json.dumps({"input_size": 40, "channel_order": "RGB"}))
    found = load_classifier(path, settings={"input_size": 32})
    assert (found.size, found.margin, found.bgr) == (32, 1.5, False)
    assert load_classifier(path).size == 40


@pytest.mark.parametrize(
    ("name", "text", "swapped"),
    [
        ("net.json", '{"labels": ["male", "female"], "temperature": 9}', False),  # of the checkpoint it was made from
        ("net.json", " " * (1 << 21), False),  # of anything
        ("net.safetensors.json", '{"labels": ["male", "female"]}', True),
    ],
)
def test_a_whole_file_is_not_taken_for_the_one_it_was_made_from(
    tmp_path: Path, name: str, text: str, swapped: bool
) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(path, small().state_dict(), METADATA)
    plain = load_classifier(path, dtype=torch.float32).classify(crops(3))
    (tmp_path / name).write_text(text)
    found = load_classifier(path, dtype=torch.float32).classify(crops(3))
    torch.testing.assert_close(found, plain.flip(1) if swapped else plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"input_size": 32, "colour": "BGR"}', "no setting 'colour'; there are input_size"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (" " * (1 << 21), "too many for settings"),
    ],
)
def test_a_wrong_json_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "net.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        sidecar_settings(tmp_path / "net.pth")


def test_a_json_file_about_something_else_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text('{"architectures": ["ResNet"]}')
    assert sidecar_settings(tmp_path / "net.pth") == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", "1e9"),
        ("input_size", "32.5"),
        ("input_size", "many"),
        ("margin", "0"),
        ("margin", "nan"),
        ("below", "6"),
        ("mean", "0.5"),
        ("std", "0,0,0"),
        ("std", "1,1,inf"),
        ("temperature", "0"),
        ("channel_order", "GBR"),
        ("framing", "centre"),
        ("resample", "cubic"),
        ("outside", "black"),
        ("cut_scale", "0.2"),
        ("cut_scale", "many"),
        ("output", "sigmoid"),
        ("flip", "true"),
    ],
)
def test_absurd_settings_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"anigender.{name} is") as caught:
        preprocessing({**METADATA, f"anigender.{name}": value})
    assert value in str(caught.value) or str(float(value)) in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("framing", "top-left"), ("resample", "lanczos4")])
@pytest.mark.parametrize(
    ("what", "text", "usual", "other"), [("outside", "mean", "edge", "mean"), ("cut_scale", "1.2", 1.0, 1.2)]
)
def test_only_plain_squares_know_where_pictures_end(
    what: str, text: str, usual: str | float, other: str | float, name: str, value: str
) -> None:
    metadata = {**METADATA, f"anigender.{what}": text}
    assert getattr(preprocessing(metadata), what) == other and getattr(preprocessing(METADATA), what) == usual
    with pytest.raises(ValueError, match=f"anigender.{what} is {other!r} with .*{name} {value}.*: leave it out"):
        preprocessing({**metadata, f"anigender.{name}": value})


@pytest.mark.parametrize("name", [name for name, entry in CLASSIFIERS.items() if entry.pattern])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".onnx"])
def test_published_files_are_known_by_their_names(tmp_path: Path, name: str, suffix: str) -> None:
    file = tmp_path / f"{name.lower()}-20240101{suffix}"
    file.write_bytes(b"")
    assert known_file(tmp_path / name) == file
    settings = preprocessing(known_settings(file))
    assert settings.bgr and settings.columns == (0, 1) and settings.size in (64, 224)
    assert preprocessing(known_settings(file) | {f"anigender.{k}": v for k, v in AUTHORS.items()}).framing == "top-left"
    with pytest.raises(ValueError, match=f"{name}' is not embedded: fetch it with `anigender models get {name}`"):
        load_classifier(name)


# -- self-check --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: nn.init.constant_(net.fc.bias, float("nan")), "NaN or infinity"),
        (lambda net: nn.init.zeros_(net.fc.weight), "the same of every picture"),
        (lambda net: setattr(net, "fc", nn.Linear(24, 1000)), r"gives \[1000\] values per head, expected 2"),
    ],
)
def test_a_net_that_cannot_answer_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    net = small()
    with torch.no_grad():
        change(net)
    save_weights(tmp_path / "net.safetensors", net.state_dict(), METADATA)
    with pytest.raises(ValueError, match=f"net.safetensors: it .*{message}"):
        read_classifier(tmp_path / "net.safetensors")


def test_one_output_is_of_the_second_label(tmp_path: Path) -> None:
    net = small(nn.Linear(24, 1))
    save_weights(tmp_path / "net.safetensors", net.state_dict(), METADATA)
    found = read_classifier(tmp_path / "net.safetensors", dtype=torch.float32)
    x = crops(3)
    logits = found.outputs(x)
    torch.testing.assert_close(found.classify(x)[:, 1:], logits.sigmoid())
    swapped = read_classifier(tmp_path / "net.safetensors", dtype=torch.float32, settings={"labels": "male,female"})
    torch.testing.assert_close(swapped.classify(x)[:, :1], logits.sigmoid())


# -- resampling --------------------------------------------------------------------------------------------------------

SIZES = [(60, 60), (90, 61), (33, 200), (20, 24), (48, 48), (301, 257)]


def picture(height: int, width: int) -> np.ndarray:
    """Smooth parts, sharp edges and noise, 8 bits."""
    rng = np.random.default_rng(height * width)
    pixels = np.linspace(0, 255, width)[None, :, None] * np.linspace(0.2, 1, height)[:, None, None] * np.ones(3)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = (255, 0, 90)
    pixels += rng.normal(0, 12, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("filter_name", ["lanczos", "bilinear"])
def test_resampling_equals_pillows(height: int, width: int, filter_name: str) -> None:
    pixels = picture(height, width)
    scale = 48 / min(height, width)
    whole = (max(48, round(width * scale)), max(48, round(height * scale)))
    kind = Image.Resampling.LANCZOS if filter_name == "lanczos" else Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(pixels).resize(whole, kind))[:48, :48]
    found = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, 48, filter_name)
    difference = (found[0].permute(1, 2, 0).numpy() * 255 - expected).__abs__()
    assert difference.max() <= 1.6 and difference.mean() <= 0.35  # Pillow rounds to 8 bits twice


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_resampling_equals_opencvs(height: int, width: int) -> None:
    pixels = picture(height, width)
    scale = 48 / min(height, width)
    whole = (max(48, round(width * scale)), max(48, round(height * scale)))
    expected = cv2.resize(pixels, whole, interpolation=cv2.INTER_LANCZOS4)[:48, :48]
    found = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, 48, "lanczos4")
    difference = np.abs(found[0].permute(1, 2, 0).numpy() * 255 - expected)
    assert difference.max() <= 1.6 and difference.mean() <= 0.35


@pytest.mark.parametrize("kind", ["bilinear", "lanczos", "lanczos4"])
@pytest.mark.parametrize(("before", "after"), [(7, 7), (9, 3), (3, 9), (100, 41), (1, 5), (5, 1)])
def test_resampling_keeps_flat_pictures_flat_and_the_same_size_the_same(kind: str, before: int, after: int) -> None:
    found = matrix(before, after, after, kind)
    torch.testing.assert_close(found.sum(1), torch.ones(after))
    if before == after:
        torch.testing.assert_close(found, torch.eye(after))


class Wants:
    """What a classifier says of its crops."""

    def __init__(self, framing: str, resample: str, margin: float = 1.0, below: float = 0.0) -> None:
        self.size, self.margin, self.framing, self.resample, self.below = 24, margin, framing, resample, below


def test_the_authors_way_is_to_resize_the_shorter_side_and_take_the_top_left() -> None:
    pixels = picture(80, 50)
    faces = Faces.from_boxes([[[0, 0, 50, 80]]], [(80, 50)])
    found = classifier_crops([torch.from_numpy(pixels)], faces, Wants("top-left", "lanczos4"))
    expected = cv2.resize(pixels, (24, 38), interpolation=cv2.INTER_LANCZOS4)[:24]
    assert np.abs(found[0].permute(1, 2, 0).numpy() * 255 - expected).max() <= 1.6


@pytest.mark.parametrize("framing", ["head", "top-left"])
@pytest.mark.parametrize("resample", ["bilinear", "lanczos", "lanczos4"])
def test_crops_below_a_box_are_those_of_a_lower_box(framing: str, resample: str) -> None:
    image = [torch.from_numpy(picture(90, 70)).float() / 255]
    here, lower = ([[[20, y, 40, y + 20]]] for y in (15, 25))
    found = classifier_crops(image, Faces.from_boxes(here, [(90, 70)]), Wants(framing, resample, 1.4, 0.5))
    expected = classifier_crops(image, Faces.from_boxes(lower, [(90, 70)]), Wants(framing, resample, 1.4))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("resample", ["lanczos", "lanczos4"])
@pytest.mark.parametrize("box", [[-30, -20, 30, 40], [40, 50, 90, 100], [-50, -50, 150, 150], [60, -40, 90, -10]])
def test_outside_the_picture_its_edge_is_repeated(resample: str, box: list[int]) -> None:
    pixels = torch.from_numpy(picture(90, 70))
    found = classifier_crops([pixels], Faces.from_boxes([[box]], [(90, 70)]), Wants("head", resample))
    rows, columns = torch.arange(box[1], box[3]).clamp(0, 89), torch.arange(box[0], box[2]).clamp(0, 69)
    region = pixels[rows][:, columns].permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(found, resized(region, 24, resample), atol=1e-5, rtol=0)


@pytest.mark.parametrize("framing", ["head", "top-left"])
@pytest.mark.parametrize("resample", ["bilinear", "lanczos", "lanczos4"])
@pytest.mark.parametrize("box", [[0, 0, 1e9, 1e9], [-1e30, -1e30, 1e30, 1e30], [1e30, 5, 2e30, 6], [5, 5, 5, 5]])
def test_crops_of_nonsense_take_neither_time_nor_memory(framing: str, resample: str, box: list[float]) -> None:
    image = [torch.from_numpy(picture(90, 70)).float() / 255]
    found = classifier_crops(image, Faces.from_boxes([[box]], [(90, 70)]), Wants(framing, resample, 20.0))
    assert found.shape == (1, 3, 24, 24) and bool(((found >= 0) & (found <= 1)).all())


@pytest.mark.parametrize("framing", ["head", "top-left"])
@pytest.mark.parametrize("resample", ["bilinear", "lanczos", "lanczos4"])
@pytest.mark.parametrize("margin", [0.6, 1.0, 1.7])
def test_crops_of_a_batch_are_those_of_its_pictures_in_the_faces_order(
    framing: str, resample: str, margin: float
) -> None:
    pictures = [torch.from_numpy(picture(*size)).float() / 255 for size in ((60, 50), (90, 61), (60, 50))]
    boxes = [[[5, 5, 30, 40], [-5, -9, 20, 8], [40, 50, 70, 90]], [], [[5, 5, 30, 40], [0, 0, 1, 1]]]
    faces = Faces.from_boxes(boxes, [tuple(p.shape[:2]) for p in pictures])
    wants = Wants(framing, resample, margin)
    found = classifier_crops(pictures, faces, wants)
    assert found.shape == (5, 3, 24, 24) and found.dtype == torch.float32
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    single = [
        classifier_crops([p], Faces.from_boxes([own], [tuple(p.shape[:2])]), wants)
        for p, own in zip(pictures, boxes, strict=True)
    ]
    torch.testing.assert_close(torch.cat(single), found, atol=1e-5, rtol=0)
    assert classifier_crops(pictures, Faces.empty(faces.image_sizes), wants).shape == (0, 3, 24, 24)


# -- the same answers elsewhere ----------------------------------------------------------------------------------------


def independent(name: str) -> Any:
    """Another implementation; it may be absent, or not load with this torch."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        pytest.skip(f"{name} is not there to compare with: {error}")


def both(theirs: nn.Module, size: int = 64) -> float:
    """The largest difference between a net of someone else and ours from its state dict, relative to the answers."""
    theirs = lively(theirs)
    x = torch.randn(2, 3, size, size)
    ours = rebuilt(theirs.state_dict())
    expected = answers(theirs, x)
    expected = getattr(expected, "logits", expected)
    worst = 0.0
    for net in (ours, fold_batch_norms(ours)):
        worst = max(worst, float((answers(net, x) - expected).abs().max() / expected.abs().max()))
    return worst


TORCHVISION = [
    *("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "vgg11", "vgg13_bn", "mobilenet_v2"),
    *("mobilenet_v3_large", "mobilenet_v3_small"),
]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_nets(name: str) -> None:
    assert both(getattr(independent("torchvision.models"), name)(num_classes=2)) < 1e-4


@pytest.mark.parametrize("name", ["resnet18", "resnet26d", "vgg11", "resnet10t"])
def test_timms_nets(name: str) -> None:
    assert both(independent("timm").create_model(name, num_classes=2), 224 if "vgg" in name else 64) < 1e-4


@pytest.mark.parametrize("layer", ["basic", "bottleneck"])
def test_transformers_resnet(layer: str) -> None:
    library = independent("transformers")
    config = library.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[2, 1, 3, 1], layer_type=layer, num_labels=2
    )
    assert both(library.ResNetForImageClassification(config)) < 1e-4


def test_transformers_mobilenet_v2() -> None:
    library = independent("transformers")
    config = library.MobileNetV2Config(num_labels=2, tf_padding=False, layer_norm_eps=1e-5, finegrained_output=True)
    theirs = lively(library.MobileNetV2ForImageClassification(config))
    ours = mobilenet("mobilenet_v2")
    # Both list their layers from the first to the last, under other names.
    tensors = [t for key, t in theirs.state_dict().items()]
    assert len(tensors) == len(ours.state_dict())
    ours.load_state_dict(dict(zip(ours.state_dict(), tensors, strict=True)))
    x = torch.randn(2, 3, 64, 64)
    expected = answers(theirs, x).logits
    assert float((answers(ours.eval(), x) - expected).abs().max()) < 1e-4 * float(expected.abs().max())


# -- from the command line, and in words -------------------------------------------------------------------------------


def test_the_command_line_takes_a_checkpoint_and_its_settings(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from anigender.cli import main

    Image.fromarray(picture(40, 40)).save(tmp_path / "a.png")
    torch.save(small().state_dict(), tmp_path / "net.pth")
    base = ["classify", str(tmp_path / "a.png"), "--detector", "whole-image", "--device", "cpu"]
    base += ["--classifier", str(tmp_path / "net.pth")]
    given = [
        part for setting in ("input_size=32", "margin=1", "mean=0,0,0") for part in ("--classifier-setting", setting)
    ]
    found = CliRunner().invoke(main, [*base, *given, "--classifier-setting", "std=1,1,1"])
    assert found.exit_code == 0, found.output
    expected = load_classifier(tmp_path / "net.pth", settings=PLAIN)
    pixels = torch.from_numpy(picture(40, 40))
    crop = classifier_crops([pixels], Faces.from_boxes([[[0, 0, 40, 40]]], [(40, 40)]), expected)
    answer = json.loads(found.stdout)["faces"][0]["probabilities"]["female"]
    assert answer == pytest.approx(float(expected.classify(crop)[0, 0]), abs=0.02)
    for wrong, message in (("std=0", "std is '0'"), ("colour=1", "no setting 'colour'"), ("std", "is not NAME=VALUE")):
        failed = CliRunner().invoke(main, [*base, *given, "--classifier-setting", wrong])
        assert failed.exit_code == 2 and message in failed.output.replace("\n", " ")


def test_every_setting_is_documented() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in SETTINGS if f"`{name}`" not in text] == []
