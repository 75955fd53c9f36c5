"""What every classifier promises, whatever it is made of: all of these run for each entry of the registry and ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anigender
from anigender.classify import ARCHITECTURES, Classifier, load_classifier
from anigender.classify.gendernet import GenderNet
from anigender.classify.mobilenet import mobilenet
from anigender.classify.resnet import ResNet, Stage
from anigender.classify.vgg import POOL, VGG
from anigender.weights import save_weights

METADATA = {
    "anigender.input_size": "32",
    "anigender.margin": "1.25",
    "anigender.mean": "0.5,0.4,0.3",
    "anigender.std": "0.25,0.5,1.0",
    "anigender.channel_order": "BGR",
    "anigender.labels": "male,female",
}
STAGES = [Stage(1, 8, 8), Stage(1, 12, 12), Stage(1, 16, 16), Stage(1, 24, 24)]
NETS: dict[str, Callable[[], nn.Module]] = {
    "gendernet": lambda: GenderNet((8, 12, 16, 20), (1, 1, 1, 1)),
    "resnet": lambda: ResNet(STAGES, False, width=8),
    "vgg": lambda: VGG((8, POOL, 12, POOL), True, nn.Sequential(nn.Linear(48, 6), nn.ReLU(), nn.Linear(6, 2))),
    "mobilenet_v2": lambda: mobilenet("mobilenet_v2"),
    "mobilenet_v3": lambda: mobilenet("mobilenet_v3_large"),
}


def net(name: str) -> nn.Module:
    torch.manual_seed(5)
    made = NETS[name]()
    for layer in made.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
    with torch.no_grad():
        for _ in range(6):
            made.train()(torch.randn(4, 3, 32, 32))
    return made.eval()


class ChannelsLast(nn.Module):
    """A net that takes ``[N, H, W, C]``, as those exported from Keras do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.permute(0, 3, 1, 2))


def export(
    made: nn.Module,
    path: Path,
    metadata: dict[str, str],
    batch: int | None = None,
    last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """The net as an ONNX file, for batches of any or of one size."""
    onnx = pytest.importorskip("onnx", reason="the package onnx is needed to export a net")
    pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX files")
    x = torch.zeros(batch or 2, *((32, 32, 3) if last else (3, 32, 32)), dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its being replaced
        torch.onnx.export(
            ChannelsLast(made).eval() if last else made,
            (x,),
            str(path),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=None if batch else {"x": {0: "n"}, "y": {0: "n"}},
        )
    model = onnx.load(str(path))
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, str(path))
    return path


def crops(count: int, device: str = "cpu") -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)


def normalised(x: Tensor) -> Tensor:
    """As :data:`METADATA` declares."""
    return (x.flip(1) - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.25, 0.5, 1.0])[:, None, None]


Load = Callable[..., Classifier]


@pytest.fixture(scope="module", params=[*NETS, "onnx", "onnx of one", "onnx channels last"])
def load(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Load:
    """A function that loads a classifier; the same weights every time."""
    folder = tmp_path_factory.mktemp("nets")
    if request.param in NETS:
        path = folder / "net.safetensors"
        save_weights(path, net(request.param).state_dict(), METADATA)
    else:
        batch, last = (1 if "one" in request.param else None), "last" in request.param
        path = export(net("resnet"), folder / "net.onnx", METADATA, batch, last)
    return lambda **settings: load_classifier(path, **{"dtype": torch.float32, **settings})


def test_every_architecture_keeps_the_contract() -> None:
    assert set(NETS) == set(ARCHITECTURES)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_row_per_crop_that_sums_to_one(load: Load, count: int) -> None:
    found = load().classify(crops(count))
    assert found.shape == (count, 2) and found.dtype == torch.float32 and found.device.type == "cpu"
    assert bool(((found >= 0) & (found <= 1)).all())
    torch.testing.assert_close(found.sum(1), torch.ones(count))


def test_a_batch_says_what_its_crops_say_one_by_one(load: Load) -> None:
    classifier = load()
    x = crops(7)
    single = torch.cat([classifier.classify(x[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(single, classifier.classify(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(classifier.classify(x.flip(0)), single.flip(0), atol=1e-5, rtol=0)
    assert float((single - single[:1]).abs().max()) > 1e-3


def test_labels_channels_and_sizes_are_those_of_the_file(load: Load) -> None:
    classifier = load()
    assert (classifier.size, classifier.margin) == (32, 1.25)
    other = load(settings={"labels": "female,male"})
    torch.testing.assert_close(other.classify(crops(3)).flip(1), classifier.classify(crops(3)))
    swapped = load(settings={"channel_order": "RGB", "mean": "0.5,0.4,0.3"})
    torch.testing.assert_close(swapped.classify(crops(3).flip(1)), classifier.classify(crops(3)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_precision_gives_nearly_the_same(load: Load, dtype: torch.dtype) -> None:
    exact, found = load().classify(crops(4)), load(dtype=dtype).classify(crops(4))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.08 if dtype == torch.bfloat16 else 1e-4, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu(load: Load) -> None:
    classifier = load(device="cuda")
    found = classifier.classify(crops(4, "cuda"))
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), load().classify(crops(4)), atol=1e-3, rtol=0)


def test_crops_of_another_size_are_refused(load: Load) -> None:
    with pytest.raises(ValueError, match=r"expected \[N, 3, 32, 32\]"):
        load().classify(torch.zeros(1, 3, 31, 32))


def test_the_pipeline_takes_any_of_them(load: Load, tmp_path: Path) -> None:
    found = anigender.Pipeline(anigender.load("whole-image", device="cpu").detector, load())(torch.rand(2, 40, 30, 3))
    assert len(found) == 2 and len(found.gender) == 2


# -- ONNX alone --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_an_exported_net_answers_like_the_net_itself(tmp_path: Path, name: str) -> None:
    made = net(name)
    metadata = METADATA | {"anigender.output": "logits"}  # which some made-up answers do not look like
    path = export(made, tmp_path / "net.onnx", metadata)
    save_weights(tmp_path / "net.safetensors", made.state_dict(), metadata)
    found, expected = (load_classifier(p, dtype=torch.float32) for p in (path, tmp_path / "net.safetensors"))
    a, b = found.outputs(crops(3)), expected.outputs(crops(3))
    assert float((a - b).abs().max()) < 1e-4 * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize(
    "labels",
    [
        {"names": "{0: 'male', 1: 'female'}"},
        {"labels": '["1boy", "1girl"]'},
        {"classes": "male, female"},
        {"id2label": '{"1": "female", "0": "male"}'},
    ],
)
def test_labels_are_read_in_the_forms_that_exporters_write(tmp_path: Path, labels: dict[str, str]) -> None:
    rest = {key: value for key, value in METADATA.items() if not key.endswith(("labels", "input_size"))}
    found = load_classifier(export(net("resnet"), tmp_path / "net.onnx", {**rest, **labels}))
    assert (found.columns, found.size) == ((1, 0), 32)


def test_probabilities_are_told_from_logits(tmp_path: Path) -> None:
    made = net("resnet")
    plain = load_classifier(export(made, tmp_path / "a.onnx", METADATA))
    soft = load_classifier(export(nn.Sequential(made, nn.Softmax(1)).eval(), tmp_path / "b.onnx", METADATA))
    assert (plain.probabilities, soft.probabilities) == (False, True)
    torch.testing.assert_close(soft.classify(crops(3)), plain.classify(crops(3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("outputs", [1, 2])
def test_sigmoids_are_not_taken_for_logits(tmp_path: Path, outputs: int) -> None:
    made = nn.Sequential(net("resnet"), nn.Linear(2, outputs), nn.Sigmoid()).eval()
    path = export(made, tmp_path / "net.onnx", METADATA)
    with pytest.raises(ValueError, match="may be probabilities or logits.*output=probabilities or output=logits"):
        load_classifier(path)
    answers = made(normalised(crops(3)))
    found = load_classifier(path, settings={"output": "probabilities"}).classify(crops(3))
    female = answers[:, 0] if outputs == 1 else answers[:, 1] / answers.sum(1)  # the labels are male, female
    torch.testing.assert_close(found[:, 0], female, atol=1e-5, rtol=0)


class Bytes(nn.Module):
    """A net that takes bytes and normalises them itself."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.float() / 255)


def test_a_net_that_takes_bytes_is_given_bytes(tmp_path: Path) -> None:
    made = net("resnet")
    path = export(Bytes(made).eval(), tmp_path / "net.onnx", METADATA, dtype=torch.uint8)
    with pytest.raises(ValueError, match="whole numbers.*expected mean=0,0,0 and std=1,1,1, not mean=0.5,0.4,0.3 and"):
        load_classifier(path)
    found = load_classifier(path, settings={"mean": "0,0,0", "std": "1,1,1"})
    x = (crops(3) * 255).round() / 255
    torch.testing.assert_close(found.outputs(x), made(x.flip(1)), atol=1e-4, rtol=1e-4)


def test_a_net_that_is_moved_opens_its_file_again(tmp_path: Path) -> None:
    classifier: Any = load_classifier(export(net("resnet"), tmp_path / "net.onnx", METADATA))
    before = classifier.classify(crops(2))
    classifier.net._model = None  # what moving to another device does
    assert torch.equal(classifier.classify(crops(2)), before)
    assert classifier.net.to("cpu")._model is not None
    assert classifier.net.to("meta")._model is None
