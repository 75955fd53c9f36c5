"""Quality heads: the architecture, its files, tiles, names of values, and scoring."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anigender.quality import Head, Scorer, Scores, load_head, read_head, save_head
from anigender.quality import scorer as scorer_module
from anigender.quality.head import HeadNet, config_path, values
from anigender.quality.tiles import cut
from anigender.rules import RuleError, compile_rule
from anigender.weights import save_weights

KEYS = [
    f"{name}.{kind}" for name in ("up.0", "up.1.long.0", "up.1.long.2", "up.1.long.4") for kind in ("bias", "weight")
]
KEYS += [f"down.{i}.{kind}" for i in (0, 1, 4, 5) for kind in ("bias", "weight")]


def random_head(outputs: int = 2, features: int = 8, hidden: int = 12, name: str = "A", seed: int = 0) -> Head:
    torch.manual_seed(seed)
    labels = tuple(f"label {chr(97 + i)}" for i in range(outputs)) if outputs > 1 else ("score",)
    return Head(HeadNet(features, hidden, outputs).eval().requires_grad_(False), name, labels)


# -- the architecture --------------------------------------------------------------------------------------------------


def test_the_published_size_and_keys() -> None:
    net = HeadNet()
    assert sum(parameter.numel() for parameter in net.parameters()) == 4_077_858
    assert sorted(net.state_dict()) == sorted(KEYS)


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_what_a_head_computes(outputs: int) -> None:
    """Against the layers written out one by one."""
    head = random_head(outputs)
    state, x = head.net.state_dict(), torch.randn(5, 8)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    x0 = linear(x, "up.0")
    y = x0
    for i in (0, 2, 4):
        y = linear(F.leaky_relu(y, 0.1) if i else y, f"up.1.long.{i}")
    y = F.relu(y + x0)
    y = F.leaky_relu(linear(linear(y, "down.0"), "down.1"), 0.01)
    y = linear(linear(y, "down.4"), "down.5")
    expected = torch.softmax(y, 1) if outputs > 1 else (torch.tanh(y) + 1) / 2
    assert torch.allclose(values(head.net(x)), expected, atol=1e-6)


@pytest.mark.parametrize(("outputs", "features", "hidden"), [(1, 8, 12), (2, 8, 12), (5, 3, 20), (1, 1, 1)])
def test_build_save_recognise_load(tmp_path: Path, outputs: int, features: int, hidden: int) -> None:
    head = random_head(outputs, features, hidden)
    path = tmp_path / "Some-Head-v1.16.safetensors"
    save_head(head, path)
    assert config_path(path).name == "Some-Head-v1.16.config.json"
    found = load_head(path)
    assert (found.name, found.labels, found.features, found.tiled) == ("A", head.labels, features, outputs > 1)
    x = torch.randn(4, features)
    assert torch.equal(values(found.net(x)), values(head.net(x)))
    config_path(path).unlink()
    bare = load_head(path)
    assert (bare.name, bare.labels) == ("Some-Head-v1.16", tuple(str(i) for i in range(outputs)))


PUBLISHED = {
    "name": "CCAnime-ChromaticAberration",
    "rev": "v1.16",
    "arch": "class",
    "labels": {"0": "Pass", "1": "Chromatic Aberration"},
    "model_params": {"features": 8, "hidden": 12, "outputs": 2},
}


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({}, ("Pass", "Chromatic Aberration")),
        ({"labels": {"1": "b"}}, ("0", "b")),
        ({"labels": {}}, ("0", "1")),
        ({"labels": {"0": {"name": "a", "loss": 1}, "1": "b"}}, ("a", "b")),
        ({"model_params": {}}, ("Pass", "Chromatic Aberration")),
    ],
)
def test_labels_come_from_the_config(tmp_path: Path, change: dict, labels: tuple) -> None:
    path = tmp_path / "a.safetensors"
    save_head(random_head(), path)
    config_path(path).write_text(json.dumps({**PUBLISHED, **change}))
    head = read_head(path)
    assert (head.name, head.labels) == ("CCAnime-ChromaticAberration", labels)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "no attribute"),
        ("[" * 200_000, "recursion"),
        (" " * (1 << 20) + "{}", "longer than 1048576 bytes"),
        (
            json.dumps({**PUBLISHED, "model_params": {"features": 10**12}}),
            "features is 1000000000000, the weights have 8",
        ),
        (json.dumps({**PUBLISHED, "model_params": {"outputs": 3}}), "outputs is 3, the weights have 2"),
        (json.dumps({**PUBLISHED, "model_params": {"hidden": "12"}}), "hidden is 12, the weights have 12"),
        (json.dumps({**PUBLISHED, "labels": {str(i): "x" for i in range(1000)}}), "1000 labels for 2 outputs"),
        (json.dumps({**PUBLISHED, "labels": {"0": "x" * 101}}), "is no name"),
        (json.dumps({**PUBLISHED, "labels": {"0": "a\nb"}}), "is no name"),
        (json.dumps({**PUBLISHED, "labels": {"0": 5}}), "is no name"),
        (json.dumps({**PUBLISHED, "labels": {"0": {}}}), "name"),
        (json.dumps({**PUBLISHED, "name": 5}), "is no name"),
    ],
)
def test_a_config_that_lies_is_refused(tmp_path: Path, contents: str, message: str) -> None:
    path = tmp_path / "a.safetensors"
    save_head(random_head(), path)
    config_path(path).write_text(contents)
    with pytest.raises(ValueError, match="a.config.json is not the config of this quality head: ") as raised:
        read_head(path)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up.0.bias": torch.ones(5)}, "up.0.bias has shape (5,), a quality head has (12,)"),
        ({"down.5.weight": torch.ones(2, 31)}, "down.5.weight has shape (2, 31), a quality head has (2, 32)"),
        ({"more": torch.ones(1)}, "more has shape (1,), a quality head has None"),
        ({"up.0.weight": torch.ones(12)}, "no whole quality head"),
        ({"up.0.weight": torch.zeros(12, 0)}, "a quality head of 0 to 2 values makes no sense"),
        ({"down.5.weight": torch.ones(2000, 32)}, "makes no sense"),
        ({"up.1.long.0.weight": None}, "is no quality head"),
        ({"down.1.bias": None}, "down.1.bias has shape None"),
    ],
)
def test_weights_that_do_not_go_together_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    tensors = {**random_head().net.state_dict(), **change}
    save_weights(tmp_path / "a.safetensors", {k: v for k, v in tensors.items() if v is not None}, {})
    with pytest.raises(ValueError) as raised:
        read_head(tmp_path / "a.safetensors")
    assert message in str(raised.value)


# -- tiles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "tiled", "tiles"),
    [
        (33, 33, True, 5),
        (32, 100, True, 1),
        (32, 33, True, 1),
        (100, 40, True, 5),
        (100, 100, False, 1),
        (1, 1, True, 1),
    ],
)
def test_which_pictures_are_cut(height: int, width: int, tiled: bool, tiles: int) -> None:
    for pixels in (torch.zeros(2, height, width, 3), torch.zeros(2, height, width, 3, dtype=torch.uint8)):
        found = cut(pixels, 16, tiled)
        assert found.shape == (2, tiles, 3, 16, 16) and found.dtype == pixels.dtype


def test_where_the_tiles_are() -> None:
    """Each pixel says where it is: red its row, green its column."""
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(90.0), indexing="ij")
    pixels = torch.stack((rows / 100, columns / 100, torch.zeros(60, 90)), -1)[None]
    found = cut(pixels, 16, True)[0]
    centres = (found.mean((2, 3))[:, :2] * 100).flatten().tolist()
    expected = [15.5, 15.5, 15.5, 73.5, 43.5, 15.5, 43.5, 73.5, 29.5, 44.5]  # of squares of 32 pixels
    assert centres == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("height", "width", "shrunk"), [(100, 1700, (1536, 16384)), (800, 1600, (1536, 3072))])
def test_a_large_picture_is_resized_first(monkeypatch, height: int, width: int, shrunk: tuple) -> None:
    from anigender.quality import tiles

    asked = []
    monkeypatch.setattr(tiles, "resize", lambda x, *size: asked.append(size) or torch.zeros(1, 3, 64, 64))
    cut(torch.zeros(1, height, width, 3), 16, True)
    cut(torch.zeros(1, width, height, 3), 16, True)
    assert asked == [shrunk, shrunk[::-1]]


@pytest.mark.parametrize("size", [(50, 40), (31, 97), (20, 20), (300, 16)])
def test_a_whole_picture_is_seen_as_clip_sees_it(size: tuple[int, int]) -> None:
    """Against Pillow: bicubic to the shorter side, then the centre."""
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    short = min(size)
    picture = Image.fromarray(pixels).resize((16 * width // short, 16 * height // short), Image.Resampling.BICUBIC)
    top, left = (picture.height - 16) // 2, (picture.width - 16) // 2
    expected = np.asarray(picture)[top : top + 16, left : left + 16]
    found = cut(torch.from_numpy(pixels)[None], 16, False)[0, 0].permute(1, 2, 0).numpy()
    if height / width <= 8:  # of thinner pictures only the middle is resized
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert found.shape == expected.shape


@given(st.integers(1, 80), st.integers(1, 80), st.booleans())
def test_tiles_of_a_batch_are_those_of_its_pictures(height: int, width: int, tiled: bool) -> None:
    pixels = torch.rand(3, height, width, 3)
    together = cut(pixels, 16, tiled)
    assert torch.equal(together, torch.cat([cut(pixels[i : i + 1], 16, tiled) for i in range(3)]))
    assert float(together.min()) >= 0 and float(together.max()) <= 1


# -- names and scores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ([("CCAnime-ChromaticAberration", "Pass"), ("", "Chromatic Aberration")], ("pass", "chromatic_aberration")),
        ([("CCAnime-Compression", "JPEG"), ("CCAnime-Compression", "WEBP")], ("jpeg", "webp")),
        ([("CityAesthetics-Anime", "0")], ("aesthetic",)),
        ([("My Head v2", "0")], ("my_head_v2",)),
        ([("a", "Pass"), ("b", "x"), ("b", "Pass")], ("a_pass", "x", "b_pass")),
        ([("a", "male"), ("a", "not"), ("a", "2 girls")], ("a_male", "a_not", "label_2_girls")),
        ([("a", "has"), ("a", "True")], ("a_has", "a_true")),
        ([("頭", "色"), ("頭", "線")], ("value_0", "value_1")),
        ([("a", "x"), ("a", "x")], ("a_x", "a_x_1")),
    ],
)
def test_values_have_names_for_rules(columns: list, names: tuple) -> None:
    scores = Scores(torch.full((1, len(columns)), 0.9), tuple(columns))
    assert scores.names == names
    for name in names:
        assert compile_rule(f"{name} >= 0.9", names).evaluate({**scores.rows()[0], "female": 0})


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=6))
def test_names_are_always_usable_and_different(columns: list) -> None:
    names = Scores(torch.zeros(1, len(columns)), tuple(columns)).names
    assert len(set(names)) == len(names)
    for name in names:
        compile_rule(name, names)


def test_scores_side_by_side() -> None:
    one = Scores(torch.tensor([[0.1], [0.2]]), (("a", "x"),))
    two = Scores(torch.tensor([[0.3, 0.4], [0.5, 0.6]]), (("b", "y"), ("b", "z")))
    both = one.beside(two)
    assert both.rows() == [{"x": 0.1, "y": 0.3, "z": 0.4}, {"x": 0.2, "y": 0.5, "z": 0.6}]
    assert both.take([1]).rows() == both.rows()[1:]
    with pytest.raises(ValueError, match="scores of 1 pictures and of 2"):
        one.take([0]).beside(two)
    with pytest.raises(ValueError, match=r"shape \[2, 1\], expected \[B, 2\]"):
        Scores(one.values, two.columns)


# -- scoring -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", ["mean", "median", "max", "min"])
def test_scores_are_those_of_the_tiles(colour_encoder, combine: str) -> None:
    head = random_head(3)
    image = torch.rand(1, 50, 40, 3, dtype=torch.float64).float()
    scores = Scorer([head], colour_encoder, combine)(image)
    tiles = cut((image * 255 + 0.5).to(torch.uint8), 16, True)[0]
    each = values(head.net(colour_encoder.encode(tiles.float() / 255)))
    ordered = each.sort(0).values
    expected = {"mean": each.mean(0), "median": ordered[2], "max": ordered[-1], "min": ordered[0]}[combine]
    assert torch.allclose(scores.values[0], expected, atol=1e-6)


def test_a_batch_is_its_pictures_and_shares_one_look(colour_encoder) -> None:
    heads = [random_head(2, name="A"), random_head(3, name="B", seed=1), random_head(1, name="C", seed=2)]
    scorer = Scorer(heads, colour_encoder)
    images = [torch.rand(50, 40, 3), torch.rand(20, 20, 3), torch.rand(50, 40, 3), torch.rand(90, 40, 1)]
    scores = scorer(images)
    assert colour_encoder.calls == [4, 16], "whole pictures for the score, tiles of all pictures for the classes"
    assert scores.values.shape == (4, 6) and scorer.names == scores.names
    for i, image in enumerate(images):
        assert torch.allclose(scores.values[i], scorer([image]).values[0], atol=1e-6)
    assert torch.allclose(scores.values[:, :2].sum(1), torch.ones(4)) and bool((scores.values >= 0).all())
    assert scorer(torch.zeros(0, 8, 8, 3)).values.shape == (0, 6)


@pytest.mark.parametrize(("tiling", "tiles"), [(None, 5), (True, 5), (False, 1)])
def test_tiling_can_be_chosen(colour_encoder, tiling: bool | None, tiles: int) -> None:
    Scorer([random_head(2)], colour_encoder, tiling=tiling)(torch.rand(1, 50, 50, 3))
    assert colour_encoder.calls == [tiles]


def test_many_tiles_go_in_several_pieces(colour_encoder) -> None:
    done = []
    Scorer([random_head(2)], colour_encoder)(torch.rand(30, 40, 40, 3), lambda *told: done.append(told))
    assert sum(colour_encoder.calls) == 150 and max(colour_encoder.calls) <= 64
    assert done[-1] == (30, 30) and done == sorted(done)


def test_memory_that_runs_out_halves_the_pieces(colour_encoder) -> None:
    whole = Scorer([random_head(2)], colour_encoder)(torch.ones(4, 40, 40, 3))
    encode = colour_encoder.encode

    def tight(tiles: torch.Tensor) -> torch.Tensor:
        if len(tiles) > 3:
            raise MemoryError
        return encode(tiles)

    colour_encoder.encode = tight
    assert torch.allclose(Scorer([random_head(2)], colour_encoder)(torch.ones(4, 40, 40, 3)).values, whole.values)
    colour_encoder.encode = lambda tiles: (_ for _ in ()).throw(RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        Scorer([random_head(2)], colour_encoder)(torch.ones(4, 40, 40, 3))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("MPS backend out of memory")])
def test_memory_that_runs_out_while_tiles_are_cut_halves_the_pieces(
    colour_encoder, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(7, 40, 40, 3)
    whole = Scorer([random_head(2)], colour_encoder)(images)
    tried: list[int] = []

    def tight(pixels: torch.Tensor, size: int, tiled: bool) -> torch.Tensor:
        tried.append(len(pixels))
        if len(pixels) > 4:
            raise error
        return cut(pixels, size, tiled)

    monkeypatch.setattr(scorer_module, "cut", tight)
    assert torch.allclose(Scorer([random_head(2)], colour_encoder)(images).values, whole.values)
    assert tried == [7, 7, 7, 7, 4, 3]  # 64, 32, 16, 8 and 4 at most


def test_an_encoder_of_another_width_is_named_with_both_numbers(colour_encoder) -> None:
    with pytest.raises(ValueError, match="A takes embeddings of 5 values, the encoder gives 8"):
        Scorer([random_head(features=5)], colour_encoder)
    colour_encoder.width = None
    with pytest.raises(ValueError, match="A takes embeddings of 5 values, the encoder gives 8"):
        Scorer([random_head(features=5)], colour_encoder)(torch.zeros(1, 8, 8, 3))


def test_what_is_wrong_is_named(colour_encoder) -> None:
    with pytest.raises(ValueError, match="combine is 'sum', expected one of mean, median, max, min"):
        Scorer([random_head()], colour_encoder, "sum")
    with pytest.raises(ValueError, match="image 1 holds NaN"):
        Scorer([random_head()], colour_encoder)([torch.zeros(8, 8, 3), torch.full((8, 8, 3), torch.nan)])


def test_a_rule_with_values_of_quality() -> None:
    from anigender.faces import Faces
    from anigender.routing import select
    from anigender.rules import words

    faces = Faces.from_boxes([[], []], sizes=[(8, 8), (8, 8)])
    known = [{"chromatic_aberration": 0.4}, {"chromatic_aberration": 0.6}]
    assert select(faces, "faces == 0 and chromatic_aberration < 0.5", known) == [True, False]
    with pytest.raises(RuleError, match="did you mean chromatic_aberration"):
        select(faces, "chromatic_aberation < 0.5", known)
    with pytest.raises(ValueError, match="1 pictures are scored, the faces are of 2"):
        select(faces, "true", known[:1])
    text = "any-female and JPEG + webp < 30% or not solo"
    assert {"jpeg", "webp"} <= words(text) and not {"and", "or", "not", "solo"} & words(text)
    assert {"jpeg", "webp"} <= compile_rule(text, words(text)).names
