"""Eight bits say what floats say, to within the steps they are counted in, and stay out of everybody's way."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

import anigender
from anigender.classify import read_classifier
from anigender.classify.gendernet import GenderNet
from anigender.classify.resnet import ResNet, Stage
from anigender.cli import main
from anigender.cli.inputs import Models
from anigender.detect import read_head_detector
from anigender.folders import decoded
from anigender.fused import FusedConv2d
from anigender.images import check
from anigender.inference import ready, settled
from anigender.quantised import RANGES, QuantisedConv2d, Range, declared, eight_bits_pay, in_steps, quantise, written
from anigender.ranges import Watch
from anigender.weights import ASSETS, read_weights, save_weights

NEEDS_KERNELS = pytest.mark.skipif(not eight_bits_pay(), reason="this CPU does not multiply eight bits natively")


def random(*shape: int, seed: int = 0, low: float = 0.0) -> Tensor:
    """Uniform from ``low`` to 1, channels-last."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * (1 - low) + low
    return x.contiguous(memory_format=torch.channels_last)


def convolution(groups: int = 1, stride: int = 1, size: int = 3, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(groups + stride + size)
    conv = nn.Conv2d(8, 8, size, stride, size // 2, groups=groups, bias=bias)
    return conv.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def quantised_conv(conv: nn.Conv2d, own: Range) -> QuantisedConv2d:
    return QuantisedConv2d(FusedConv2d(conv), own)


# -- one convolution ---------------------------------------------------------------------------------------------------


@NEEDS_KERNELS
@pytest.mark.parametrize(
    ("activation", "output"),
    [(nn.ReLU, 0.0), (nn.ReLU, 4.0), (nn.ReLU6, 0.0), (nn.ReLU6, 4.0), (nn.Identity, 0.0), (nn.Hardswish, 0.0)],
    ids=["ReLU", "ReLU to steps", "ReLU6", "ReLU6 to steps", "none", "Hardswish"],
)
@pytest.mark.parametrize("shortcut", [None, "floats", "steps"])
@pytest.mark.parametrize(("groups", "stride", "size", "bias"), [(1, 1, 3, True), (1, 1, 1, False), (8, 2, 3, True)])
@pytest.mark.parametrize("low", [0.0, -0.7])
def test_one_convolution(
    activation: type[nn.Module],
    output: float,
    shortcut: str | None,
    groups: int,
    stride: int,
    size: int,
    bias: bool,
    low: float,
) -> None:
    conv = convolution(groups, stride, size, bias)
    x = random(2, 8, 24, 24, low=low)
    plain = conv(x)
    added = None if shortcut is None else random(*plain.shape, seed=1)
    expected = activation()(plain if added is None else plain + added)
    net = quantised_conv(conv, Range(low, 1.0, 1.0 if shortcut == "steps" else 0.0, output))
    given = in_steps(added, Range(0.0, 1.0)) if shortcut == "steps" and added is not None else added
    found = net(x, None if given is None else given.clone(memory_format=torch.preserve_format), activation)
    assert found.dtype == (torch.uint8 if output else torch.float32)
    # A step of the input off for each of nine weights, were all off the same way; half a step each of what is added
    # and of what comes out.
    weights = float(conv.weight.abs().sum((1, 2, 3)).max())
    bound = (1 - low) / 255 * weights + 1 / 255 + output / 255
    error = (found.float() * (output / 255 or 1.0) - expected).abs()
    assert float(error.max()) < bound and float(error.mean()) < bound / 4


@NEEDS_KERNELS
def test_what_is_out_of_range_is_clipped() -> None:
    net = quantised_conv(convolution(), Range(0.0, 0.5, 0.0, 0.25))
    x = random(1, 8, 16, 16)
    found = net(x, None, nn.ReLU)
    assert int(found.max()) == 255 and int(found.min()) == 0
    assert torch.equal(found, net(x.clamp(max=0.5), None, nn.ReLU))


@NEEDS_KERNELS
def test_a_picture_says_the_same_alone_and_among_others_whatever_came_before() -> None:
    net = quantised_conv(convolution(), Range(0.0, 1.0))
    together = net(random(5, 8, 24, 24))
    for other in ((1, 8, 4, 4), (2, 8, 40, 12), (1, 8, 9, 9), (3, 8, 64, 64)):
        net(random(*other))
        alone = torch.cat([net(random(5, 8, 24, 24)[i : i + 1]) for i in range(5)])
        assert torch.equal(alone, together)
    assert len(net._counted.held) == 2  # one order of the weights for small maps, one for large ones


@NEEDS_KERNELS
def test_changed_weights_are_used_and_unchanged_ones_are_not_prepared_again() -> None:
    net, x = quantised_conv(convolution(), Range(0.0, 1.0)), random(2, 8, 24, 24)
    before = net(x)
    held = net._counted.held[False]
    net.to("cpu").float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.equal(net(x), before) and net._counted.held[False] is held
    with torch.no_grad():
        net.weight.mul_(2)  # in place, behind its back
        net.bias.mul_(2)  # type: ignore[union-attr]
    torch.testing.assert_close(net(x), before * 2, atol=1e-5, rtol=1e-5)
    net._apply(lambda value: value * 0)
    assert float(net(x).abs().max()) == 0


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (random(2, 8, 6, 6), True),
        (random(2, 8, 6, 6).contiguous(), True),
        (random(2, 8, 6, 6).to("meta"), False),
        (random(2, 8, 6, 6).requires_grad_(), False),
        (random(0, 8, 6, 6), False),
    ],
    ids=["usual", "channels first", "meta", "learning", "empty"],
)
def test_where_eight_bits_are_used(x: Tensor, expected: bool) -> None:
    conv = convolution()
    net = quantised_conv(conv, Range(0.0, 1.0))
    assert net._counts(x) is expected
    if not expected and x.device.type == "cpu":
        torch.testing.assert_close(net(x), conv(x))


# -- whole nets --------------------------------------------------------------------------------------------------------


@pytest.fixture
def net() -> GenderNet:
    """A small net with norms, whose answers differ from picture to picture."""
    torch.manual_seed(0)
    made = GenderNet((8, 16, 16, 16), (1, 1, 1, 1))
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.uniform_(layer.running_var, 0.3, 0.6)
    return made.eval()


def frozen(net: GenderNet) -> GenderNet:
    return ready(copy.deepcopy(net), "cpu", torch.float32)


def ranges_of(net: GenderNet) -> dict[str, Range]:
    with Watch(frozen_net := frozen(net)) as watch:
        for seed in range(4):
            frozen_net(random(4, 3, 32, 32, seed=seed, low=-1))
    return watch.ranges()


def test_a_watch_sees_what_convolutions_give_one_another(net: GenderNet) -> None:
    ranges = ranges_of(net)
    assert list(ranges)[:3] == ["stem.0", "stages.0.0.first.0", "stages.0.0.second.0"]
    assert ranges["stem.0"].low < -0.9 and ranges["stem.0"].high > 0.9
    for name, own in ranges.items():
        assert (own.shortcut > 0) == name.endswith("second.0")
        assert (own.low == 0) == (name != "stem.0"), "after a ReLU"
        assert (own.output > 0) == (name != list(ranges)[-1]), "the last one's output is pooled"
    assert ranges["stages.0.0.first.0"].high == ranges["stem.0"].output
    assert ranges["stages.0.0.second.0"].shortcut == ranges["stem.0"].output


def test_a_watch_leaves_nothing_behind(net: GenderNet) -> None:
    watched = frozen(net)
    x = random(2, 3, 32, 32)
    before = watched(x)
    with Watch(watched) as watch:
        assert torch.equal(watched(x), before)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in watched.modules())
    assert watch._made == {}


def test_a_watch_that_saw_nothing_says_so(net: GenderNet) -> None:
    with Watch(frozen(net)) as watch:
        pass
    with pytest.raises(ValueError, match=r"the net never came to its convolution stem\.0: show it more pictures"):
        watch.ranges()


@NEEDS_KERNELS
def test_a_net_in_eight_bits_says_what_it_says_in_floats(net: GenderNet) -> None:
    plain, counted = frozen(net), frozen(net)
    quantise(counted, ranges_of(net))
    x = random(16, 3, 32, 32, seed=9, low=-1)
    expected, found = plain(x), counted(x)
    spread = float(expected.std(0).min())
    assert float((found - expected).abs().max()) < spread / 2 and float((found - expected).abs().mean()) < spread / 8
    assert counted.state_dict().keys() == plain.state_dict().keys()
    for form in (copy.deepcopy(counted), pickled(counted), counted.double().float()):
        assert torch.equal(form(x), found)


def pickled(net: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(net, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)  # type: ignore[no-any-return]


@NEEDS_KERNELS
def test_an_exported_net_holds_plain_convolutions(net: GenderNet) -> None:
    counted, x = frozen(net), random(2, 3, 32, 32)
    expected = counted(x)
    quantise(counted, ranges_of(net))
    counted(x)
    exported = torch.export.export(counted, (x,))
    assert "onednn" not in str(exported.graph)
    torch.testing.assert_close(exported.module()(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "known", "native", "expected"),
    [
        (None, True, True, QuantisedConv2d),
        (None, True, False, FusedConv2d),
        (None, False, True, FusedConv2d),
        (torch.float32, True, True, FusedConv2d),
        (torch.bfloat16, True, True, FusedConv2d),
    ],
    ids=["usual", "another CPU", "another file", "float32", "bfloat16"],
)
def test_which_precision_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    net: GenderNet,
    dtype: torch.dtype | None,
    known: bool,
    native: bool,
    expected: type[nn.Module],
) -> None:
    monkeypatch.setattr("anigender.inference.eight_bits_pay", lambda: native)
    found = settled(frozen(net), "cpu", dtype, ranges_of(net) if known else None)
    assert type(found.stem[0]) is expected
    if dtype is not None:
        assert found.fc.weight.dtype == dtype


@pytest.mark.parametrize("says", [None, False])
def test_the_cpu_is_asked(monkeypatch: pytest.MonkeyPatch, says: bool | None) -> None:
    if says is None:
        monkeypatch.delattr(torch.cpu, "_is_vnni_supported", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: says)
    assert eight_bits_pay.__wrapped__() is False


class Kernels:
    """Stand-ins for oneDNN's, whose answers are zero; none at all where they are missing."""

    def __init__(self, missing: bool) -> None:
        self.missing = missing

    def __getattr__(self, name: str) -> Kernels:
        if self.missing:
            raise AttributeError(name)
        return self

    def __call__(self, x: Tensor, *others: object) -> Tensor:
        return torch.zeros(2, 4, 6, 6) if len(others) > 10 else x


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "wrong"])
def test_kernels_that_are_missing_or_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch, missing: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.ops, "onednn", Kernels(missing), raising=False)
    assert eight_bits_pay.__wrapped__() is False


# -- what files say ----------------------------------------------------------------------------------------------------


def test_ranges_are_read_as_they_were_written() -> None:
    ranges = {"stem.0": Range(-2.0, 2.0, 0.0, 11.125), "verifier.stem.0": Range(0.0, 0.5, 3.0)}
    assert declared(written(ranges)) == ranges
    assert declared(written(ranges), "verifier.") == {"stem.0": ranges["verifier.stem.0"]}
    assert declared({}) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is '', expected \[low, high, shortcut, output\] by name"),
        ("[]", r"is '\[\]', expected"),
        ('{"a": 1}', "expected"),
        ('{"a": [0]}', "expected"),
        ('{"a": [0, 1, 2, 3, 4]}', "expected"),
        ('{"a": [0, "x"]}', "expected"),
        ('{"a": [0, NaN]}', r"gives 'a' the range \[0.0, nan, 0.0, 0.0\], which no net needs"),
        ('{"a": [0, 1e7]}', "which no net needs"),
        ('{"a": [0, 1e999]}', "which no net needs"),
        ('{"a": [0.5, 1]}', "which no net needs"),
        ('{"a": [-1, -0.5]}', "which no net needs"),
        ('{"a": [0, 1, -1]}', "which no net needs"),
        ("[" * 100_000, "expected"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declared({RANGES: text})


@NEEDS_KERNELS
@pytest.mark.parametrize("name", ["head", "gender"])
def test_a_file_with_the_ranges_of_another_net_is_refused(tmp_path: Path, name: str) -> None:
    tensors, metadata = read_weights(ASSETS / f"{name}.safetensors")
    path = tmp_path / "a.safetensors"
    save_weights(path, tensors, metadata | written({"elsewhere": Range(0.0, 1.0)}))
    read = read_head_detector if name == "head" else read_classifier
    with pytest.raises(ValueError, match=r"a\.safetensors: .*names 'elsewhere', which is no convolution of this net"):
        read(path, "cpu")
    read(path, "cpu", torch.float32)


# -- the embedded models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(examples: Path) -> list[Tensor]:
    files = sorted(path for path in examples.iterdir() if path.suffix in (".png", ".jpg"))
    return [pixels for _, pixels in decoded((path, None) for path in files) if isinstance(pixels, Tensor)]


@NEEDS_KERNELS
def test_the_embedded_models_compute_in_eight_bits_and_say_the_same(
    pictures: list[Tensor], embedded: anigender.pipeline.Pipeline
) -> None:
    pipeline = anigender.load(device="cpu")
    assert isinstance(pipeline.classifier.net.stem[0], QuantisedConv2d)
    exact, found = embedded(pictures), pipeline(pictures)
    assert torch.equal(found.image_index, exact.image_index)
    assert found.gender == exact.gender
    assert exact.probabilities is not None and found.probabilities is not None
    assert float((found.probabilities - exact.probabilities).abs().max()) < 0.1
    side = (exact.boxes[:, 2] - exact.boxes[:, 0])[:, None]
    assert float(((found.boxes - exact.boxes) / side).abs().max()) < 0.05


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", QuantisedConv2d if eight_bits_pay() else FusedConv2d), ("float32", FusedConv2d)],
)
def test_the_command_line_takes_what_is_asked_for(precision: str, expected: type[nn.Module]) -> None:
    pipeline = Models(device="cpu", precision=precision).load()
    for net in pipeline.nets:
        assert type(next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))) is expected
    if precision == "float32":
        assert pipeline.classifier.dtype == torch.float32


@NEEDS_KERNELS
def test_pictures_in_floats_and_in_whole_numbers_are_searched_alike(pictures: list[Tensor]) -> None:
    detector = anigender.load(device="cpu").detector
    whole = detector.detect(check(pictures))
    for kind in (torch.float32, torch.float64):
        found = detector.detect(check([picture.to(kind) / 255 for picture in pictures]))
        assert torch.equal(found.image_index, whole.image_index)
        torch.testing.assert_close(found.boxes, whole.boxes, atol=1.0, rtol=0)
        torch.testing.assert_close(found.scores, whole.scores, atol=0.02, rtol=0)


@NEEDS_KERNELS
def test_a_picture_is_searched_the_same_alone_and_among_others(pictures: list[Tensor]) -> None:
    detector = anigender.load(device="cpu").detector
    together = detector.detect(check(pictures))
    for i, picture in enumerate(pictures):
        alone, own = detector.detect(check([picture])), together.of_image(i)
        torch.testing.assert_close(alone.boxes, own.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(alone.scores, own.scores, atol=1e-5, rtol=0)


# -- writing ranges down -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Tensor]) -> Iterator[Path]:
    """A data folder of somebody's own, with the examples in it, whatever their gender."""
    from PIL import Image

    for i, picture in enumerate(pictures):
        place = tmp_path / "data" / ("female", "male")[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(picture)).save(place)
    yield tmp_path / "data"


def trained(source: Path, data: Path, output: Path) -> Result:
    arguments = ("train", "ranges", source, "--data", data, "--output", output)
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["head", "gender"])
def test_ranges_are_measured_by_a_command(folder: Path, name: str) -> None:
    source, output = ASSETS / f"{name}.safetensors", folder.parent / "out.safetensors"
    run = trained(source, folder, output)
    assert run.exit_code == 0, run.output
    (before, old), (after, new) = read_weights(source), read_weights(output)
    assert before.keys() == after.keys() and all(torch.equal(value, after[key]) for key, value in before.items())
    assert {key: text for key, text in old.items() if key != RANGES} == {k: t for k, t in new.items() if k != RANGES}
    known, measured = declared(old), declared(new)
    assert known.keys() == measured.keys()
    first = next(iter(measured.values()))
    assert (first.low, first.high) == (-2.0, 2.0), "every picture there can be"
    for key, own in measured.items():
        assert 0.3 < (own.high + 1) / (known[key].high + 1) < 3
        assert (own.output > 0, own.shortcut > 0) == (known[key].output > 0, known[key].shortcut > 0)


@pytest.mark.parametrize("average", [False, True], ids=["plain", "shortcuts that average, read by no convolution"])
def test_a_checkpoint_of_any_kind_can_be_given_ranges(folder: Path, average: bool) -> None:
    torch.manual_seed(0)
    stages = [Stage(1, 8, 8), Stage(1, 12, 12), Stage(1, 16, 16), Stage(1, 24, 24)]
    net = ResNet(stages, False, width=8, average=average, head=nn.Linear(24, 2))
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
    source, output = folder.parent / "net.pth", folder.parent / "net.safetensors"
    torch.save(net.state_dict(), source)
    declared_there = {"input_size": 32, "margin": 1.3, "mean": [0.5] * 3, "std": [0.25] * 3, "labels": "female,male"}
    source.with_name("net.pth.json").write_text(json.dumps(declared_there))
    run = trained(source, folder, output)
    assert run.exit_code == 0, run.output
    found = read_classifier(output, "cpu")
    assert isinstance(found.net.conv1, QuantisedConv2d if eight_bits_pay() else FusedConv2d)
    crops = random(12, 3, 32, 32)
    exact = read_classifier(source, "cpu", torch.float32).classify(crops)
    assert float((found.classify(crops) - exact).abs().mean()) < 0.05


def test_onnx_files_have_a_precision_of_their_own(folder: Path) -> None:
    source = folder.parent / "net.onnx"
    source.write_bytes(b"")
    run = trained(source, folder, folder.parent / "out.safetensors")
    assert run.exit_code == 2 and "name the checkpoint it was made from" in run.output


def test_ranges_of_neither_detector_nor_classifier_are_refused(folder: Path) -> None:
    path = folder.parent / "other.safetensors"
    save_weights(path, {"a": torch.zeros(1)}, {})
    run = trained(path, folder, folder.parent / "out.safetensors")
    assert run.exit_code == 2 and "is of no known architecture" in run.output
    assert not (folder.parent / "out.safetensors").exists()


def test_a_map_that_is_always_zero_has_a_step_too() -> None:
    assert Range(0.0, 0.0).step == 1.0 and Range(0.0, 0.0).zero == 0
