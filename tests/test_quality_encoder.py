"""The CLIP encoder against transformers' own, and configs that lie. Skipped without the extra ``clip``."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from anigender.quality import load_encoder
from anigender.quality.encoder import MEAN, STD
from anigender.weights import read_weights

transformers = pytest.importorskip("transformers", reason="needs anigender[clip]")

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "projection_dim": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A tiny encoder with random weights, as transformers saves it."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    net = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**SIZES))
    net.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_embeddings_are_those_of_transformers(saved: Path) -> None:
    encoder = load_encoder(saved, "cpu")
    assert (encoder.size, encoder.width, encoder.device.type) == (28, 8, "cpu")
    tiles = torch.rand(5, 3, 28, 28)
    own = transformers.CLIPVisionModelWithProjection.from_pretrained(saved).eval()
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    with torch.no_grad():
        expected = own(pixel_values=(tiles - mean) / std).image_embeds
    assert float((encoder.encode(tiles) - expected).abs().max()) < 1e-5
    assert torch.allclose(encoder.encode(tiles[:1]), expected[:1], atol=1e-5)
    assert float(expected.std()) > 0.01


def test_the_encoder_inside_a_whole_clip_in_a_pickled_file(folder: Path) -> None:
    """As openai/clip-vit-large-patch14-336 is published."""
    tiles = torch.rand(2, 3, 28, 28)
    expected = load_encoder(folder, "cpu").encode(tiles)
    state, _ = read_weights(folder / "model.safetensors")
    more = {
        "text_model.x": torch.ones(3),
        "logit_scale": torch.ones(()),
        "vision_model.embeddings.position_ids": torch.ones(1, 5),
    }
    torch.save({**state, **more}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    vision = {key: value for key, value in SIZES.items() if key != "projection_dim"}
    (folder / "config.json").write_text(
        json.dumps({"projection_dim": 8, "vision_config": {**vision, "projection_dim": 512}})
    )
    assert torch.equal(load_encoder(folder, "cpu").encode(tiles), expected)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_a_pickle_with_code_is_refused_and_does_not_run(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_encoder(folder, "cpu")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 10**12}, "hidden_size is 1000000000000, expected 1 to 8192"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"image_size": 10**6}, "image_size"),
        ({"image_size": -1}, "image_size is -1"),
        ({"patch_size": 1.5}, "patch_size is 1.5"),
        ({"projection_dim": True}, "projection_dim is True"),
        ({"hidden_act": "os.system"}, "hidden_act is 'os.system'"),
        ({"vision_config": 5}, "not the config"),
        ({"hidden_size": 32}, "is not the CLIP encoder that its config.json describes"),
        ({"num_hidden_layers": 3}, "is not the CLIP encoder that its config.json describes"),
    ],
)
def test_a_config_that_lies_is_refused(folder: Path, change: dict, message: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=message):
        load_encoder(folder, "cpu")


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_what_is_missing_is_named(folder: Path, lacking: str) -> None:
    (folder / lacking).unlink()
    with pytest.raises(FileNotFoundError, match=lacking):
        load_encoder(folder, "cpu")
