"""Going on from any classifier: what may be begun from, the recipes, equal seeds, stopping and resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import anigender
from anigender.classify import Classifier, classifier_crops, read_classifier
from anigender.classify.gendernet import GenderNet
from anigender.classify.mobilenet import mobilenet
from anigender.classify.resnet import ResNet, Stage
from anigender.classify.vgg import VGG
from anigender.cli import main
from anigender.cli.train.gender import RECIPES as OFFERED
from anigender.datasets.picture import Picture
from anigender.faces import Faces
from anigender.images import check
from anigender.quantised import declared
from anigender.train.checkpoints import load_checkpoint
from anigender.train.crops.augment import CACHE_MARGIN, CACHE_SIZE
from anigender.train.crops.crops import Crops, cut, extent_of, source_of
from anigender.train.crops.store import CropStore, stamp_of
from anigender.train.crops.views import cache_shape, plain_views, varied_views
from anigender.train.gender import finetune as module
from anigender.train.gender.finetune import Options, finetune
from anigender.train.gender.learning import Epoch, Plan, balance
from anigender.train.gender.recipes import RECIPES, Recipe
from anigender.train.gender.trainable import head_of, last_layer, learns, read_trainable, save_trained
from anigender.weights import read_weights, save_weights

METADATA = {"anigender.input_size": "32", "anigender.margin": "1.3", "anigender.mean": "0.5,0.4,0.3"}
METADATA |= {"anigender.std": "0.25,0.5,1.0", "anigender.channel_order": "BGR", "anigender.labels": "1boy,1girl"}
STAGES = [Stage(1, 8, 8), Stage(1, 12, 12), Stage(1, 16, 16), Stage(1, 24, 24)]
NETS: dict[str, Callable[[int], nn.Module]] = {
    "gendernet": lambda n: GenderNet((8, 8, 12, 16), (1, 0, 1, 0), n),
    "gendernet with a window": lambda n: GenderNet((8, 8, 12, 16), (1, 0, 1, 0), n, (0.2, 0.1, 0.8, 0.7)),
    "resnet": lambda n: ResNet(STAGES, False, width=8, head=nn.Linear(24, n)),
    "resnet, head of several layers": lambda n: ResNet(
        STAGES, False, width=8, head=nn.Sequential(nn.Linear(24, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, n))
    ),
    "resnet, head without bias": lambda n: ResNet(STAGES, False, width=8, head=nn.Linear(24, n, bias=False)),
    "vgg": lambda n: VGG((8, 0, 12, 12, 0, 16, 16, 0, 16, 16, 0, 16, 16, 0), True, nn.Linear(16, n)),
    "mobilenet_v3": lambda n: mobilenet("mobilenet_v3_small", n),
}


def written(path: Path, name: str = "resnet", outputs: int = 2, **more: str) -> Path:
    """A file of an untrained net."""
    torch.manual_seed(1)
    net = NETS[name](outputs)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)  # else little is left of a picture behind many layers
    state = {key: value for key, value in net.state_dict().items() if "num_batches" not in key}
    save_weights(path, state, METADATA | {f"anigender.{key}": value for key, value in more.items()})
    return path


def pictured(seed: int, man: bool) -> np.ndarray:
    """A head that anybody can tell: women's are red, men's blue."""
    pixels = np.random.default_rng(seed).integers(0, 90, (CACHE_SIZE, CACHE_SIZE, 4), dtype=np.uint8)
    pixels[..., 2 if man else 0] += 150
    pixels[..., 3] = 255
    return pixels


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of somebody's own, whose crops are found already."""
    data, out = tmp_path / "data", tmp_path / "out"
    files, crops = [], []
    for i in range(12):
        for gender in ("female", "male"):
            path = data / ("train" if i < 8 else "validation") / gender / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            crops.append(torch.from_numpy(pictured(2 * i + (gender == "male"), gender == "male")).permute(2, 0, 1))
            Image.fromarray(crops[-1][:3, :24, :24].permute(1, 2, 0).contiguous().numpy()).save(path)
            files.append(path)
    store = CropStore(out / f"crops-{CACHE_SIZE}-{CACHE_MARGIN:g}.cache", source=source_of("auto"))
    store.add([path.relative_to(data).as_posix() for path in files], [stamp_of(path) for path in files], crops)
    return data


def options(data: Path, start: Path | str, name: str = "mine", **more: Any) -> Options:
    values: dict[str, Any] = {"epochs": 2, "batch": 8, "workers": 0, **more}
    return Options(data, data.parent / "out" / f"{name}.safetensors", str(start), **values)


# -- what may be begun from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_any_net_is_saved_as_it_was_read(tmp_path: Path, name: str, outputs: int) -> None:
    model = read_trainable(written(tmp_path / "a.safetensors", name, outputs))
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        expected = model.classifier.logits(x)
    bias, temperature = 0.7, 1.6
    save_trained(model, temperature, bias, tmp_path / "b.safetensors")
    found = read_classifier(tmp_path / "b.safetensors", "cpu", torch.float32)
    wanted = ((expected + torch.tensor([0.0, bias])) / temperature).softmax(1)
    torch.testing.assert_close(found.classify(x), wanted, atol=5e-3, rtol=0)
    metadata = read_weights(tmp_path / "b.safetensors")[1]
    assert {key: metadata[key] for key in METADATA} == METADATA
    assert metadata["anigender.temperature"] == "1.6000" and metadata["anigender.kind"] == "classifier"


@pytest.mark.parametrize(
    ("name", "shown", "expected"),
    [("gendernet", True, True), ("gendernet", False, False), ("resnet", True, False)],
)
def test_own_nets_learn_how_large_their_activations_get(tmp_path: Path, name: str, shown: bool, expected: bool) -> None:
    model = read_trainable(written(tmp_path / "a.safetensors", name))
    save_trained(model, 1.0, 0.0, tmp_path / "b.safetensors", partial(torch.rand, 6, 3, 32, 32) if shown else None)
    ranges = declared(read_weights(tmp_path / "b.safetensors")[1])
    assert bool(ranges) is expected
    if expected:
        assert (ranges["stem.0"].low, ranges["stem.0"].high) == (-2.0, 2.0), "by the mean and the std"
        assert ranges["stem.0"].output > 0
        assert read_classifier(tmp_path / "b.safetensors").classify(torch.rand(2, 3, 32, 32)).shape == (2, 2)


@pytest.mark.parametrize(
    ("weight", "calibration", "message"),
    [
        (float("nan"), (1.0, 0.0), "1 of its .* weights are not finite, fc.weight first"),
        (float("-inf"), (1.0, 0.0), "weights are not finite"),
        (0.1, (float("nan"), 0.0), "its calibration is nan and 0"),
        (0.0, (1.0, 0.0), "broken numbers .it says the same of every picture.*b.safetensors was left as it was"),
    ],
)
def test_a_broken_net_does_not_replace_a_good_one(
    tmp_path: Path, weight: float, calibration: tuple[float, float], message: str
) -> None:
    model = read_trainable(written(tmp_path / "a.safetensors"))
    output = tmp_path / "out" / "b.safetensors"
    save_trained(model, 1.0, 0.0, output)
    before = output.read_bytes()
    with torch.no_grad():
        last_layer(model.net).weight[:] = weight
    with pytest.raises(ValueError, match=message):
        save_trained(model, *calibration, output)
    assert output.read_bytes() == before and [path.name for path in output.parent.iterdir()] == [output.name]


@pytest.mark.parametrize(
    ("outputs", "more", "message"),
    [
        (1000, {}, "has 1000 outputs, two genders have 1 or 2: with --new-head its last layer is replaced"),
        (2, {"labels": "cat,dog"}, "labels are .'cat', 'dog'., expected female and male"),
    ],
)
def test_a_net_of_something_else_needs_a_new_head(
    tmp_path: Path, outputs: int, more: dict[str, str], message: str
) -> None:
    path = written(tmp_path / "a.safetensors", outputs=outputs, **more)
    with pytest.raises(ValueError, match=message):
        read_trainable(path)
    model = read_trainable(path, new_head=True)
    assert last_layer(model.net).out_features == 2
    assert model.metadata["anigender.labels"] == "female,male"


def test_undeclared_preprocessing_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, {k: v for k, v in NETS["resnet"](2).state_dict().items() if "num_" not in k}, {})
    with pytest.raises(
        ValueError, match="does not say its preprocessing .input_size, margin, mean, std.: give it with"
    ):
        read_trainable(path)
    given = {"input_size": 32, "margin": 1.2, "mean": [0, 0, 0], "std": [1, 1, 1]}
    model = read_trainable(path, given)
    assert (model.classifier.size, model.classifier.margin) == (32, 1.2)


def test_onnx_cannot_be_trained(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match="net.onnx is an ONNX file, .* cannot be trained. Name the checkpoint"):
        read_trainable(tmp_path / "net.onnx")


def test_the_embedded_net_can_go_on(own: Path) -> None:
    before = read_weights(Path(anigender.__file__).parent / "assets" / "gender.safetensors")[1]
    figures = finetune(options(own, "auto", epochs=1, batch=16))
    after = read_weights(own.parent / "out" / "mine.safetensors")[1]
    kept = ("input_size", "margin", "below", "mean", "std")
    assert {key: float(after[f"anigender.{key}"].split(",")[0]) for key in kept} == {
        key: float(before[f"anigender.{key}"].split(",")[0]) for key in kept
    }
    assert figures["count"] == 8


# -- learning ----------------------------------------------------------------------------------------------------------


def test_a_frozen_backbone_keeps_all_but_the_head(own: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", "resnet, head of several layers")
    finetune(options(own, path, freeze=True, learning_rate=0.05))
    before = read_trainable(path).net.state_dict()
    after = load_checkpoint(tmp_path / "out" / "mine.checkpoint.pt")["model"]
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert changed and all(key.startswith("fc.") for key in changed)
    assert "fc.1.running_mean" in changed  # the head's own norm learns


def test_the_command_offers_all_recipes() -> None:
    assert list(OFFERED) == ["scratch", *RECIPES]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_learns_what_anybody_can_tell(own: Path, tmp_path: Path, recipe: str) -> None:
    path = written(tmp_path / "a.safetensors", labels="1girl,1boy")
    figures = finetune(options(own, path, recipe=recipe, epochs=8, learning_rate=0.02, strength=0.05, mixed=0.0))
    assert figures["balanced_accuracy"] == 1.0
    lines = [json.loads(line) for line in (tmp_path / "out" / "mine.log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(9))
    assert lines[-1]["loss"] < lines[1]["loss"]
    classifier = read_classifier(tmp_path / "out" / "mine.safetensors", "cpu", torch.float32)
    red, blue = torch.zeros(2, 1, 3, 32, 32).unbind(0)
    red[:, 0], blue[:, 2] = 0.8, 0.8
    answer = classifier.classify(torch.cat((red, blue)))
    assert answer[0, 0] > 0.5 > answer[1, 0]


def test_equal_seeds_give_equal_nets_and_others_do_not(own: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", outputs=5)
    for name, seed, workers in (("a", 3, 0), ("b", 3, 2), ("c", 4, 0)):
        finetune(options(own, path, name, seed=seed, workers=workers, new_head=True))
    a, b, c = (read_weights(tmp_path / "out" / f"{name}.safetensors")[0] for name in "abc")
    assert all(torch.equal(value, b[key]) for key, value in a.items())
    assert any(not torch.equal(value, c[key]) for key, value in a.items())


def test_a_stopped_run_ends_as_one_that_was_not(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.safetensors")
    whole = options(own, path, "whole", epochs=3, reweight=True)
    finetune(whole)

    class Stopped(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Stopped

    stopped = replace(whole, output=whole.output.with_name("stopped.safetensors"))
    with monkeypatch.context() as patch:
        save, count = module.save_checkpoint, []
        patch.setattr(module, "save_checkpoint", lambda *a: (save(*a), count.append(1), len(count) == 2 and stop()))
        with pytest.raises(Stopped):
            finetune(stopped)
    finetune(replace(stopped, resume=True))
    first, second = (read_weights(o.output)[0] for o in (whole, stopped))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    lines = (tmp_path / "out" / "stopped.log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 4}, "is of a run with epochs 2 .now 4.: give the same options"),
        ({"seed": 1, "recipe": "sgd-step"}, "recipe 'finetune' .now 'sgd-step'."),
        ({"settings": {"margin": 1.2}}, "settings {} .now {'margin': '1.2'}."),
    ],
)
def test_another_run_is_not_gone_on_with(own: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    first = options(own, written(tmp_path / "a.safetensors"))
    with pytest.raises(FileNotFoundError, match="there is no checkpoint .*: leave --resume out to begin"):
        finetune(replace(first, resume=True))
    finetune(first)
    with pytest.raises(ValueError, match=message):
        finetune(replace(first, resume=True, **change))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_run_with_other_labels_is_not_gone_on_with(own: Path, tmp_path: Path, split: str) -> None:
    first = options(own, written(tmp_path / "a.safetensors"))
    finetune(first)
    number = 0 if split == "train" else 8
    a, b = (own / split / gender / f"{number}.png" for gender in ("female", "male"))
    a.rename(b.with_name("was a woman's.png")), b.rename(a.with_name("was a man's.png"))  # as many as before
    store = CropStore(tmp_path / "out" / f"crops-{CACHE_SIZE}-{CACHE_MARGIN:g}.cache", source=source_of("auto"))
    for path in (a.with_name("was a man's.png"), b.with_name("was a woman's.png")):
        store.add([path.relative_to(own).as_posix()], [stamp_of(path)], [torch.zeros(4, 192, 192, dtype=torch.uint8)])
    with pytest.raises(ValueError, match="is of a run with files, genders and splits '[0-9a-f]{16}' .now '"):
        finetune(replace(first, resume=True))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("sgd-step", {0: 1e-3, 6: 1e-3, 7: 1e-4, 13: 1e-4, 14: 1e-5, 24: 1e-6}),
        ("finetune", {3: 3e-4}),  # the top of the cycle is behind three tenths
    ],
)
def test_learning_rates(recipe: str, expected: dict[int, float]) -> None:
    found = RECIPES[recipe]
    optimiser = found.optimiser_for([nn.Linear(2, 2)])
    scheduler = found.scheduler_for(optimiser, 10)
    rates = []
    for _ in range(found.epochs * 10):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    for epoch, rate in expected.items():
        assert rates[epoch * 10] == pytest.approx(rate, rel=0.03)
    assert max(rates) == pytest.approx(found.learning_rate, rel=0.01) and rates[-1] < 0.02 * max(rates)
    if recipe == "sgd-step":
        assert isinstance(optimiser, torch.optim.SGD) and optimiser.param_groups[0]["momentum"] == 0.9


def test_every_picture_is_in_every_epoch(own: Path, tmp_path: Path) -> None:
    crops = some_crops(11)
    plan = Plan(Recipe("sgd", 0.1, "step", 2, batch=4), mixed=0.0, workers=0)
    classifier = read_trainable(written(tmp_path / "a.safetensors")).classifier
    orders = []
    for epoch in (0, 1):
        steps = Epoch(crops, torch.ones(11), classifier, plan, epoch)
        rows = [steps[i][2].tolist() for i in range(len(steps))]
        assert [len(own) for own in rows] == [4, 4, 4] and set(sum(rows, [])) == set(range(11))
        orders.append(rows)
    assert orders[0] != orders[1]


def test_genders_count_alike_in_every_folder_that_has_both() -> None:
    names = [("x", "a", 0)] * 3 + [("x", "b", 0), ("x", "c", 1)] + [("y", "d", 0), ("y", "e", 1), ("y", "f", 1)]
    pictures = [Picture(f"gender/{f}/{i}.png", character=c) for i, (f, c, _) in enumerate(names)]
    labels = torch.tensor([gender for *_, gender in names])
    mass = balance(Crops(torch.zeros(8, 4, 8, 8, dtype=torch.uint8), labels, pictures))
    assert float(mass.mean()) == pytest.approx(1)
    for folder in ("x", "y"):
        mine = torch.tensor([f == folder for f, *_ in names])
        women, men = (float(mass[mine & (labels == gender)].sum()) for gender in (0, 1))
        assert women == pytest.approx(men, rel=1e-5)
    assert torch.allclose(mass[:3], mass[3].expand(3) / 3)  # a character with more pictures counts no more


def test_only_what_is_asked_for_learns(tmp_path: Path) -> None:
    model = read_trainable(written(tmp_path / "a.safetensors", "vgg"))
    for frozen in (True, False):
        learns(model, frozen)
        assert all(p.requires_grad for p in model.head.parameters())
        assert {m.training for m in model.net.features.modules()} == {not frozen}  # type: ignore[union-attr]
        assert {p.requires_grad for p in model.net.features.parameters()} == {not frozen}  # type: ignore[union-attr]
    assert head_of(model.net) is model.head


# -- views -------------------------------------------------------------------------------------------------------------


def some_crops(count: int, margin: float = CACHE_MARGIN, size: int = 64) -> Crops:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 4, size, size), generator=generator, dtype=torch.uint8)
    pixels[:, 3] = 255
    labels = torch.arange(count) % 2
    return Crops(pixels, labels, [Picture(f"{i}.png", character=str(i)) for i in range(count)], margin)


@pytest.mark.parametrize(
    "framing", [{}, {"outside": "mean"}, {"resample": "lanczos"}, {"framing": "top-left", "resample": "lanczos"}]
)
@pytest.mark.parametrize("box", [(90, 80, 150, 140), (5, 160, 75, 230), (200, -4, 236, 32)])
def test_views_for_judging_are_those_of_inference(framing: dict[str, str], box: tuple[int, ...]) -> None:
    small = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(small, (240, 240), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
    rgba = torch.cat((pixels * 255, torch.full((240, 240, 1), 255.0)), 2).to(torch.uint8)
    metadata = METADATA | {f"anigender.{name}": value for name, value in framing.items()}
    classifier = Classifier(nn.Identity(), metadata)
    size, margin = cache_shape(classifier, 96, 1.2)
    head = np.array(box, np.float32)
    crops = Crops(
        cut(rgba.numpy(), head[None], 160, margin),
        torch.zeros(1, dtype=torch.int64),
        [Picture("a.png")],
        margin,
        np.array([extent_of(head, margin, 240, 240)], np.float32),
    )
    faces = Faces.from_boxes([torch.from_numpy(head)[None]], [(240, 240)])
    expected = classifier_crops(check([rgba[..., :3]]), faces, classifier)
    found = plain_views(crops, [0], classifier)
    assert float((found - expected).abs().mean()) < 0.02
    varied = varied_views(crops, [0], classifier, np.random.default_rng(0), torch.Generator().manual_seed(0), 0.5)
    assert varied.shape == (1, 3, 32, 32) and float(varied.min()) >= 0 and float(varied.max()) <= 1
    assert not torch.allclose(varied, found)
    assert size >= 64


@pytest.mark.parametrize(
    ("size", "margin", "below", "expected"),
    [
        (112, 1.5, 0.17, (192, 2.4)),  # the embedded one's
        (64, 1.0, 0.0, (192, 2.4)),
        (224, 1.0, 0.0, (314, 1.4)),
        (224, 1.5, 0.0, (314, 2.1)),
        (96, 2.0, 0.0, (134, 2.8)),
        (448, 1.0, 0.0, (512, 1.4)),
    ],
)
def test_cached_crops_are_sharp_and_wide_enough(
    size: int, margin: float, below: float, expected: tuple[int, float]
) -> None:
    given = {"anigender.input_size": str(size), "anigender.margin": str(margin), "anigender.below": str(below)}
    classifier = Classifier(nn.Identity(), METADATA | given)
    assert cache_shape(classifier, CACHE_SIZE, CACHE_MARGIN) == pytest.approx(expected)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_trains_a_classifier_that_the_pipeline_takes(own: Path, tmp_path: Path) -> None:
    start, out = written(tmp_path / "a.safetensors", outputs=7), tmp_path / "out" / "mine.safetensors"
    arguments = ["train", "gender", "--data", own, "--output", out, "--from", start, "--new-head", "--epochs", 1]
    arguments += ["--workers", 0, "--batch", 8, "--report-suspects", tmp_path / "look.html"]
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    pipeline = anigender.load(classifier=out, device="cpu")
    assert pipeline.classifier.size == 32
    assert (tmp_path / "look.html").is_file() and (tmp_path / "look.suspects.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "scratch", "--freeze", "backbone"], "--freeze is not for the recipe scratch"),
        (["--batch", "4"], "--batch is not for the recipe scratch"),
        (["--recipe", "scratch", "--from", "auto"], "the recipe scratch goes on from a file of this program"),
        (["--from", "nothing"], "classifier 'nothing' is neither a known name"),
        (["--recipe", "sgd-step", "--teacher", "FILE"], "--teacher is not for the recipe sgd-step"),
        (["--report-suspects", "no/where.html"], "the report of suspects: there is no folder no"),
        (["--from", "FILE", "--report-suspects", "look.csv"], "look.csv is an HTML file"),
        (["--output", "mine.onnx"], "mine.onnx is to hold weights: give it a name ending in .safetensors"),
    ],
)
def test_what_the_command_refuses(own: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    file = written(tmp_path / "a.safetensors")
    given = ["train", "gender", "--data", own, "--output", tmp_path / "out" / "x.safetensors", *arguments]
    result = CliRunner().invoke(main, [str(file) if a == "FILE" else str(a) for a in given])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
