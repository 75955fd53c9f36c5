"""Exported classifiers say what their sources say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from anigender import export as module
from anigender.classify import load_classifier, read_classifier
from anigender.classify.classifier import Classifier
from anigender.classify.gendernet import GenderNet
from anigender.classify.resnet import ResNet, Stage
from anigender.cli import main
from anigender.export import EXTRA_FILE, FORMATS, export
from anigender.model_card import model_card
from anigender.weights import save_weights

SIZE = 24
METADATA = {
    "anigender.input_size": str(SIZE),
    "anigender.margin": "1.2",
    "anigender.below": "0.1",
    "anigender.mean": "0.5,0.4,0.3",
    "anigender.std": "0.25,0.5,1.0",
    "anigender.temperature": "2.5",
}
FIGURES = {"balanced_accuracy": 0.75, "female_recall": 0.5, "male_recall": 1.0, "calibration_error": 0.1, "count": 8}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small net with random weights."""
    return written(tmp_path / "source.safetensors", gendernet())


def gendernet() -> nn.Module:
    torch.manual_seed(1)
    return GenderNet((8, 8, 12, 16), (1, 1, 1, 1), head=(0.2, 0.1, 0.8, 0.7))


def resnet(outputs: int) -> nn.Module:
    torch.manual_seed(1)
    net = ResNet([Stage(1, 8, 8), Stage(1, 8, 8), Stage(1, 12, 12), Stage(1, 16, 16)], False, width=8)
    net.fc = nn.Linear(16, outputs)
    return net


def written(path: Path, net: nn.Module, **settings: str) -> Path:
    torch.manual_seed(2)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
    state = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_weights(path, state, METADATA | {f"anigender.{key}": value for key, value in settings.items()})
    return path


def answers(format: str, file: Path, crops: Tensor) -> Tensor:
    with torch.no_grad():
        return FORMATS[format][2](file)(crops)


def needs(format: str) -> None:
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)


def test_packages_that_are_missing_are_named_as_they_are_installed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="needs onnx.*: python -m pip install onnx onnxscript onnxruntime$"):
        export(source, "onnx", tmp_path / "exported.onnx")
    assert not (tmp_path / "exported.onnx").exists()


@pytest.mark.parametrize(
    ("format", "net", "settings"),
    [
        ("safetensors", gendernet(), {}),
        ("safetensors", resnet(1), {"channel_order": "BGR", "labels": "male,female"}),
        ("torchscript", gendernet(), {}),
        ("torchscript", resnet(2), {"channel_order": "BGR", "labels": "male,female"}),
        ("pt2", gendernet(), {}),
        ("safetensors", gendernet(), {"flip": "yes"}),
        ("pt2", gendernet(), {"flip": "yes"}),
        ("onnx", gendernet(), {}),
        ("onnx", gendernet(), {"flip": "yes"}),
        ("onnx", resnet(1), {"channel_order": "BGR", "labels": "male,female"}),
    ],
)
def test_an_exported_file_says_what_its_source_says(
    tmp_path: Path, format: str, net: nn.Module, settings: dict[str, str]
) -> None:
    needs(format)
    source = written(tmp_path / "source.safetensors", net, **settings)
    output = tmp_path / f"exported{FORMATS[format][0]}"
    facts = export(source, format, output)
    assert facts["difference"] < 1e-5 and facts["bytes"] == output.stat().st_size and facts["input_size"] == SIZE
    shades = torch.tensor([0.0, 0.4, 1.0])[:, None, None, None]
    crops = shades * torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    expected = read_classifier(source, dtype=torch.float32).classify(crops)
    assert (expected.amax(0) - expected.amin(0)).max() > 0.02, "else the comparison would say nothing"
    torch.testing.assert_close(answers(format, output, crops), expected, atol=1e-5, rtol=0)


def test_an_exported_onnx_file_is_used_like_any_other(tmp_path: Path, source: Path) -> None:
    needs("onnx")
    export(source, "onnx", tmp_path / "net.onnx")
    found, expected = load_classifier(tmp_path / "net.onnx"), load_classifier(source)
    for name in ("size", "margin", "below", "framing", "resample", "outside", "cut_scale"):
        assert getattr(found, name) == getattr(expected, name), name
    assert (found.temperature, found.mean, found.std, found.probabilities) == (1.0, (0, 0, 0), (1, 1, 1), True)


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_archives_hold_how_to_cut_crops(tmp_path: Path, source: Path, format: str) -> None:
    output = tmp_path / "net"
    export(source, format, output)
    texts = {EXTRA_FILE: ""}
    if format == "pt2":
        torch.export.load(output, extra_files=texts)
    else:
        torch.jit.load(str(output), _extra_files=texts)
    held = json.loads(texts[EXTRA_FILE])
    assert (held["anigender.input_size"], held["anigender.margin"], held["anigender.below"]) == ("24", "1.2", "0.1")


def test_nothing_is_overwritten_unless_told(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "there.safetensors"
    output.write_text("mine")
    with pytest.raises(FileExistsError, match=r"there\.safetensors exists already; use --overwrite"):
        export(source, "safetensors", output)
    assert output.read_text() == "mine"
    export(source, "safetensors", output, overwrite=True)
    assert load_classifier(output).size == SIZE


def test_what_differs_is_not_written(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(classifier: Classifier, name: Any, settings: Any, file: Path) -> None:
        written(file, gendernet(), temperature="1.0")

    suffix, _, read = FORMATS["safetensors"]
    monkeypatch.setitem(module.FORMATS, "safetensors", (suffix, broken, read))
    with pytest.raises(ValueError, match="differs from .* in a probability, more than 0.001: nothing was written"):
        export(source, "safetensors", tmp_path / "net.safetensors")
    assert not (tmp_path / "net.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "format", "output", "message"),
    [
        ("auto", "tflite", "x", "format 'tflite' is not known; choose one of safetensors, onnx, torchscript, pt2"),
        ("nobody", "pt2", "x", "classifier 'nobody' is neither a known name"),
        ("auto", "pt2", "no/such/folder/x", "there is no folder"),
    ],
)
def test_what_cannot_be_exported(tmp_path: Path, name: str, format: str, output: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export(name, format, tmp_path / output)


def test_an_onnx_file_is_no_source(tmp_path: Path, source: Path) -> None:
    needs("onnx")
    export(source, "onnx", tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="is an ONNX file, which can be used but not exported"):
        export(tmp_path / "net.onnx", "pt2", tmp_path / "net.pt2")


# -- the command and its card ------------------------------------------------------------------------------------------


def test_the_command_writes_a_card_with_the_figures(tmp_path: Path, source: Path) -> None:
    figures = {
        "found": FIGURES, "all": FIGURES, "intervals": {"balanced_accuracy": [0.5, 0.9]},
        "by_kind": {"a|b": FIGURES}, "stress": {"grey": FIGURES}, "stress_loss": 0.125,
    }  # fmt: skip
    (tmp_path / "figures.json").write_text(json.dumps({"gender": figures}))
    output = tmp_path / "net.safetensors"
    command = ["export", str(source), "--format", "safetensors", "--output", str(output)]
    result = CliRunner().invoke(main, [*command, "--figures", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    card = (tmp_path / "net.safetensors.md").read_text()
    for line in (
        "# net.safetensors",
        "| head found | 0.750 | 0.500 | 1.000 | 0.100 | 8 |",
        "| a\\|b | 0.750 | 0.500 | 1.000 | 0.100 | 8 |",
        "between 0.500 and 0.900 (95 %)",
        "worse pictures: 0.125",
        "1.2 times the head box's longer side, its middle 0.1 sides lower",
    ):
        assert line in card, line
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2 and "exists already; use --overwrite to replace it" in again.output


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "holds no figures of a classifier"), ('{"gender": {}}', "holds no figures")],
)
def test_figures_of_something_else_are_refused(tmp_path: Path, source: Path, content: str, message: str) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text(content)
    output = str(tmp_path / "net.pt2")
    result = CliRunner().invoke(
        main, ["export", str(source), "--format", "pt2", "--output", output, "--figures", str(figures)]
    )
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert not Path(output).exists()


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_figures_of_one_gender_make_a_card(source: Path, nothing: float | None) -> None:
    one = FIGURES | {"balanced_accuracy": nothing, "male_recall": nothing}
    figures = {"found": one, "all": one, "intervals": {"balanced_accuracy": [nothing, nothing]}, "stress_loss": nothing}
    facts = {"format": "onnx", "parameters": 3, "bytes": 4, "difference": 0.0}
    card = model_card("a", "b", load_classifier(source), facts, figures)
    assert "| head found | - | 0.500 | - | 0.100 | 8 |" in card
    assert "were of one gender" in card and "Lost on average" not in card


def test_a_card_without_figures_says_so(source: Path) -> None:
    facts = {"format": "onnx", "difference": 2e-7, "bytes": 10, "input_size": SIZE, "parameters": 5}
    card = model_card("a`b\n.onnx", "<b>", load_classifier(source), facts, None)
    assert "# a\\`b .onnx" in card and "\\<b\\>" in card and "Not measured." in card and "RGB, values 0-1" in card
