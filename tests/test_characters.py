"""Recognisers of characters: reading folders, features, estimators, the open set, saving, fine-tuned networks."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'anigender[characters]'")
pytest.importorskip("skops", reason="skops is not installed: pip install 'anigender[characters]'")

from anigender.characters import METHODS, read_recogniser, save_recogniser, saving  # noqa: E402
from anigender.characters.backbones import Backbone, build_net, last_linear, load_backbone, penultimate  # noqa: E402
from anigender.characters.estimators import SEARCHED, preset  # noqa: E402
from anigender.characters.features import HAND_MADE, HandMade, features_of  # noqa: E402
from anigender.characters.identitynet import IdentityNet, build, matches  # noqa: E402
from anigender.characters.openset import best_threshold, choose, separation  # noqa: E402
from anigender.characters.options import Options  # noqa: E402
from anigender.characters.pictures import divided, read_characters  # noqa: E402
from anigender.characters.recogniser import Answers, OpenSet, Recogniser, similarity  # noqa: E402
from anigender.characters.training import folds_of, train  # noqa: E402
from anigender.classify.resnet import resnet  # noqa: E402
from anigender.faces import Faces  # noqa: E402
from anigender.weights import save_weights  # noqa: E402

HAIR = {"asuka": (200, 60, 30), "rei": (90, 140, 220), "mari": (120, 80, 50)}


def draw(colour: tuple[int, int, int], seed: int, side: int = 72) -> Image.Image:
    """A head of sorts: hair of a colour around a face, at random places on a random ground."""
    rng = np.random.default_rng(seed)
    pixels = np.empty((side, side, 3), np.uint8)
    pixels[:] = rng.integers(0, 256, (6, 6, 3)).repeat(side // 6, 0).repeat(side // 6, 1)
    x, y = rng.integers(4, 16, 2)
    pixels[y : y + 48, x : x + 48] = np.clip(np.array(colour) + rng.integers(-25, 26, (48, 48, 3)), 0, 255)
    pixels[y + 14 : y + 46, x + 10 : x + 38] = (240, 205, 185)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three characters with 8 pictures each."""
    folder = tmp_path_factory.mktemp("heads")
    for k, (name, colour) in enumerate(HAIR.items()):
        (folder / name).mkdir()
        for i in range(8):
            draw(colour, 100 * k + i).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def net_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small identity net with random weights that has seen some pictures."""
    torch.manual_seed(0)
    net = IdentityNet((8, 8, 12, 12), (1, 1, 1, 1), 16)
    net.set_palette(torch.rand(16, 3) * 4 - 2, 0.3)
    with torch.no_grad():
        for _ in range(10):
            net(torch.randn(16, 3, 32, 32))
    path = tmp_path_factory.mktemp("net") / "small.safetensors"
    metadata = {"input_size": "32", "mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25", "margin": "1"}
    save_weights(path, net.state_dict(), {f"anigender.{key}": value for key, value in metadata.items()})
    return path


def test_the_class_folders_are_read(heads: Path) -> None:
    characters = read_characters(heads)
    assert characters.names == ("asuka", "mari", "rei") and len(characters) == 24
    assert [characters.labels.count(k) for k in range(3)] == [8, 8, 8]
    assert [path.parent.name for path in characters.files] == [characters.names[k] for k in characters.labels]


def _broken(folder: Path, how: str) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            draw(HAIR["rei"] if name == "a" else HAIR["asuka"], i + 50 * (name == "b")).save(folder / name / f"{i}.png")
    if how == "one picture":
        (folder / "c").mkdir()
        draw(HAIR["mari"], 1).save(folder / "c" / "0.png")
    if how == "empty":
        (folder / "c").mkdir()
    if how == "corrupt":
        (folder / "c").mkdir()
        (folder / "c" / "0.png").write_bytes(b"no picture")
    if how == "two folders":
        (folder / "A").mkdir()
        draw(HAIR["mari"], 1).save(folder / "A" / "0.png")
    if how == "two names":
        (folder / "b" / "same.png").write_bytes((folder / "a" / "0.png").read_bytes())
    if how == "one character":
        for path in [*(folder / "b").iterdir()]:
            path.unlink()
        (folder / "b").rmdir()
    if how == "none":
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("one picture", r"c holds a single picture: at least 2 are needed.*add some, or remove the folder"),
        ("empty", r"c holds no picture that can be read: add pictures, or remove the folder"),
        ("corrupt", r"c holds no picture that can be read \(1 more cannot be read\)"),
        ("two folders", r"'A' and 'a' in .* are one name in two folders: move their pictures into one"),
        ("two names", r"0.png and .*same.png are the same picture under two names: keep the right one"),
        ("one character", r"holds one character, a: at least two are needed"),
        ("none", r"holds no folders: expected a subfolder of pictures for each character"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, how: str, message: str) -> None:
    _broken(tmp_path / "data", how)
    with pytest.raises(ValueError, match=message):
        read_characters(tmp_path / "data")


def test_one_corrupt_picture_is_left_out(tmp_path: Path) -> None:
    _broken(tmp_path / "data", "")
    (tmp_path / "data" / "a" / "9.png").write_bytes(b"no picture")
    characters = read_characters(tmp_path / "data")
    assert len(characters) == 6 and [path.name for path, _ in characters.unreadable] == ["9.png"]


def test_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    for k, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for i in range(8):
            picture = draw(HAIR["rei"], 10 * k + i)
            picture.save(tmp_path / name / f"{i}.png")
            picture.resize((90, 90)).save(tmp_path / name / f"{i}.jpg")
    characters = read_characters(tmp_path)
    for seed in range(4):
        test = divided(characters, 0.25, seed)
        sides: dict[int, set[bool]] = {}
        for group, side in zip(characters.groups, test, strict=True):
            sides.setdefault(group, set()).add(side)
        assert all(len(side) == 1 for side in sides.values()) and 0 < sum(test) <= 8
        for learn, judge in folds_of(np.array(characters.labels), characters.groups, 4, seed):
            assert not {characters.groups[i] for i in learn} & {characters.groups[i] for i in judge}


def test_hand_made_features_are_what_their_names_say() -> None:
    pytest.importorskip("mahotas")
    flat = torch.zeros(2, 3, 128, 128)
    flat[0, 0] = 1.0  # pure red: hue 0, full saturation and value
    rows = HandMade()(flat)
    assert rows.shape == (2, 7 + 13 + 512) and rows.dtype == np.float32 and np.isfinite(rows).all()
    assert rows[0, 20:].sum() == pytest.approx(1) and rows[0, 20 + 0 * 64 + 7 * 8 + 7] == pytest.approx(1)
    assert rows[1, 20] == pytest.approx(1)
    turned = HandMade()(torch.rot90(torch.linspace(0, 1, 128).expand(1, 3, 128, 128), 1, (2, 3)))
    plain = HandMade()(torch.linspace(0, 1, 128).expand(1, 3, 128, 128))
    np.testing.assert_allclose(plain[0, :2], turned[0, :2], rtol=1e-3)  # Hu's moments do not see a turn


def test_features_are_kept_by_contents(heads: Path, net_file: Path, tmp_path: Path) -> None:
    characters = read_characters(heads)
    calls = []
    extractor = load_backbone(str(net_file))

    class Counting:
        name, identity, size = extractor.name, extractor.identity, extractor.size

        def __call__(self, crops: torch.Tensor) -> np.ndarray:
            calls.append(len(crops))
            return extractor(crops)

    first = features_of(characters.files, characters.keys, Counting(), tmp_path / "cache", quiet=True)
    again = features_of(characters.files[::-1], characters.keys[::-1], Counting(), tmp_path / "cache", quiet=True)
    assert sum(calls) == 24 and np.array_equal(first, again[::-1])
    one = features_of(characters.files[:1], characters.keys[:1], extractor, quiet=True)
    np.testing.assert_allclose(one[0], first[0], atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18"])
def test_penultimate_activations_of_a_resnet(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = resnet(name, 1000)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    backbone = load_backbone(str(tmp_path / "net.pth"), trainable=True)
    assert backbone.size == 224 and last_linear(backbone.net) == "fc"
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = penultimate(backbone.net, x)
        assert torch.allclose(backbone.net.fc(found), backbone.net(x), atol=1e-5)


def test_an_identity_net_survives_its_file(net_file: Path) -> None:
    from anigender.weights import read_weights

    tensors, _ = read_weights(net_file)
    assert matches(tensors)
    net = build(tensors).eval()
    assert net.width == 16 * 9 + 2 * (8 + 8 + 12 + 12)
    folded = load_backbone(str(net_file))
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        wanted = (net((x - 0.5) / 0.25) + net((x.flip(-1) - 0.5) / 0.25)) / 2
    np.testing.assert_allclose(folded(x), wanted.numpy(), atol=2e-3)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing.pth", "neither a file nor one of identity, gender"), ("x.onnx", "neither a file"), ("odd", "neither")],
)
def test_an_unknown_backbone_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(name)
    with pytest.raises(ValueError, match="no known architecture"):
        build_net({"x": torch.zeros(1)}, {}, name)


@pytest.mark.parametrize(
    ("method", "kind", "expected"),
    [
        ("logistic", "hand-made", {"C": 4.5}),
        ("logistic", "deep", {"C": 1.1}),
        ("knn", "hand-made", {"n_neighbors": 6}),
        ("knn", "deep", {"n_neighbors": 8}),
        ("forest", "hand-made", {"n_estimators": 3000, "criterion": "gini"}),
        ("forest", "deep", {"n_estimators": 500, "criterion": "gini"}),
        ("svm", "hand-made", {"kernel": "poly", "degree": 4, "C": 4.0}),
        ("svm", "deep", {"kernel": "poly", "degree": 4, "C": 1.0}),
        ("svm-cubic", "hand-made", {"kernel": "poly", "degree": 3, "C": 11.0}),
    ],
)
def test_the_published_hyper_parameters(method: str, kind: str, expected: dict) -> None:
    parameters = preset(method, kind).steps[-1][1].get_params()
    assert {name: parameters[name] for name in expected} == expected


@pytest.mark.parametrize("method", [m for m in METHODS if m != "forest"])
def test_every_estimator_learns_is_saved_and_read(method: str, heads: Path, net_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    options = Options(heads, path, method, "deep", str(net_file), folds=3, cache=net_file.parent / "cache")
    made = train(options)
    figures = made.figures["cross_validation"]
    assert figures["accuracy"] >= 0.6, "a third by chance, and the net's weights are random"
    assert figures["interval"][0] <= figures["accuracy"] <= figures["interval"][1]
    read = read_recogniser(path)
    crops = torch.rand(4, 3, 32, 32)
    assert read.names == ("asuka", "mari", "rei") and read.open_set == made.open_set
    np.testing.assert_allclose(read.answers(crops).probabilities, made.answers(crops).probabilities, atol=1e-6)
    assert torch.equal(read.recognise(crops)[0], made.recognise(crops)[0])


def test_training_twice_gives_the_same(heads: Path, net_file: Path, tmp_path: Path) -> None:
    made = [train(Options(heads, tmp_path / f"{i}.skops", "cart", "deep", str(net_file), seed=3)) for i in range(2)]
    assert made[0].figures == made[1].figures and made[0].open_set == made[1].open_set


def test_a_search_tries_only_what_the_estimator_has() -> None:
    for method, grid in SEARCHED.items():
        assert set(grid) <= set(preset(method, "deep").steps[-1][1].get_params()), method


def test_a_file_of_untrusted_types_is_refused(tmp_path: Path) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    harmful = FunctionTransformer(json.loads)
    (tmp_path / "bad.skops").write_bytes(skops.io.dumps({"about": "{}", "estimator": harmful, "middles": None}))
    with pytest.raises(ValueError, match=r"types that are not trusted: .*loads.*do not load it"):
        read_recogniser(tmp_path / "bad.skops")


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("x.skops", b"no zip", "not a whole skops file"),
        ("x.pkl", b"\x80\x04.", "expected a file ending in .skops or .safetensors"),
        ("x.safetensors", b"\0" * 20, "not"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, contents: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_recogniser(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="train characters"):
        read_recogniser(tmp_path / "missing.skops")


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anigender.characters.saving.LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "x.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 2000)
    with pytest.raises(ValueError, match="claims 2,000 bytes when unpacked"):
        read_recogniser(tmp_path / "x.skops")


@pytest.mark.parametrize(("method", "ending"), [("knn", ".skops"), ("network", ".safetensors")])
def test_names_that_no_folder_has_are_refused(
    method: str, ending: str, heads: Path, net_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"model{ending}"
    made = train(Options(heads, path, method, "deep", str(net_file), open_set="none", epochs=1))
    for name in ("", "..", "../../escaped/ann", "/escaped/ann", "a\0b"):
        made.names = ("asuka", name, "rei")
        save_recogniser(made, path)
        with pytest.raises(ValueError, match=f"{re.escape(repr(name))} cannot be that of a folder"):
            read_recogniser(path)


def test_a_changed_backbone_is_noticed(heads: Path, net_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "net.safetensors"
    copy.write_bytes(net_file.read_bytes())
    train(Options(heads, tmp_path / "m.skops", "bayes", "deep", str(copy), open_set="none"))
    read_recogniser(tmp_path / "m.skops")
    torch.manual_seed(1)
    metadata = {"input_size": "32", "mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"}
    save_weights(copy, IdentityNet((8, 8, 12, 12)).state_dict(), {f"anigender.{k}": v for k, v in metadata.items()})
    with pytest.raises(ValueError, match="trained with another net"):
        read_recogniser(tmp_path / "m.skops")
    copy.unlink()
    with pytest.raises(ValueError, match="put it beside the recogniser"):
        read_recogniser(tmp_path / "m.skops")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("mean", [0.1, 0.5, 0.5], "mean '0.5,0.5,0.5' .now '0.1,0.5,0.5'.: put the former settings into the JSON"),
        ("channel_order", "BGR", "channel_order 'RGB' .now 'BGR'."),
        ("input_size", 48, "input_size '32' .now '48'."),
        ("std", [0.25, 0.25, 0.250], ""),
        ("temperature", 2, ""),  # nothing to do with features
    ],
)
def test_changed_preprocessing_of_a_backbone_is_noticed(
    heads: Path, net_file: Path, tmp_path: Path, setting: str, value: object, message: str
) -> None:
    copy = tmp_path / "net.safetensors"
    copy.write_bytes(net_file.read_bytes())
    train(Options(heads, tmp_path / "m.skops", "bayes", "deep", str(copy), open_set="none"))
    before = load_backbone(str(copy)).identity
    (tmp_path / "net.safetensors.json").write_text(json.dumps({setting: value}))
    assert (load_backbone(str(copy)).identity != before) is bool(message), "kept features are known by it"
    if not message:
        read_recogniser(tmp_path / "m.skops")
        return
    with pytest.raises(ValueError, match=message):
        read_recogniser(tmp_path / "m.skops")


def test_a_recogniser_of_an_earlier_version_is_read(
    heads: Path, net_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = saving._told

    def as_before(recogniser: Recogniser) -> dict:
        former = told(recogniser)
        del former["features"]["preprocessing"]
        return former

    monkeypatch.setattr(saving, "_told", as_before)
    train(Options(heads, tmp_path / "m.skops", "bayes", "deep", str(net_file), open_set="none"))
    assert read_recogniser(tmp_path / "m.skops").names == ("asuka", "mari", "rei")


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("m.safetensors", "knn", "m.safetensors: a recogniser of this kind is written to a .skops file"),
        ("m.skops", "network", "m.skops: a recogniser of this kind is written to a .safetensors file"),
    ],
)
def test_the_output_is_looked_at_before_the_pictures(tmp_path: Path, name: str, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(Options(tmp_path / "no such data", tmp_path / name, method))


@pytest.mark.parametrize(
    ("different", "options", "message"),
    [
        (1, {}, "the pictures of asuka, rei are all near duplicates of one another, so that none is left to judge by"),
        (2, {"method": "lda"}, "the method lda cannot learn from 2 pictures of 2 characters: add different pictures"),
        (2, {"method": "cart", "search": True}, "cannot learn from .* pictures .* or leave --search out, or choose"),
    ],
)
def test_too_few_pictures_are_explained(
    heads: Path, net_file: Path, tmp_path: Path, different: int, options: dict, message: str
) -> None:
    for name in ("asuka", "rei"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            shutil.copy(heads / name / f"{i % different:02d}.png", tmp_path / "data" / name / f"{i}.png")
    given = {"method": "logistic", "features": "deep", "backbone": str(net_file), "open_set": "none", **options}
    with pytest.raises(ValueError, match=message):
        train(Options(tmp_path / "data", tmp_path / "m.skops", **given))


def test_kept_features_inside_the_data_are_no_character(heads: Path, net_file: Path, tmp_path: Path) -> None:
    data = shutil.copytree(heads, tmp_path / "data")
    options = Options(
        data, data / "m.skops", "bayes", "deep", str(net_file), open_set="none", cache=data / "m.features"
    )
    first, second = (train(options) for _ in range(2))
    assert first.names == second.names == ("asuka", "mari", "rei")


def test_a_network_is_fine_tuned_saved_and_read(heads: Path, net_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    options = Options(heads, path, "network", "deep", str(net_file), epochs=2, batch=6, seed=1)
    made = train(options)
    read = read_recogniser(path)
    crops = torch.rand(3, 3, 32, 32)
    np.testing.assert_allclose(read.answers(crops).probabilities, made.answers(crops).probabilities, atol=1e-4)
    assert made.figures["held_out"]["pictures"] >= 3 and read.open_set.kind == made.open_set.kind
    again = train(
        Options(heads, tmp_path / "b.safetensors", "network", "deep", str(net_file), epochs=2, batch=6, seed=1)
    )
    assert again.figures == made.figures


def test_separation_and_threshold() -> None:
    known, strangers = np.array([0.9, 0.8, 0.7, 0.4]), np.array([0.1, 0.3, 0.5])
    assert separation(known, strangers) == pytest.approx(11 / 12)
    assert separation(known, known) == pytest.approx(0.5)
    threshold, kept, refused = best_threshold(known, strangers)
    assert 0.5 < threshold < 0.7 and (kept, refused) == (0.75, 1.0)


def _answers(confidence: list[float], similar: list[float]) -> Answers:
    sure = np.array(confidence)
    return Answers(np.stack((sure, 1 - sure), 1), np.array(similar))


@pytest.mark.parametrize(
    ("kind", "expected"), [("auto", "distance"), ("probability", "probability"), ("distance", "distance")]
)
def test_the_open_set_takes_what_tells_strangers(kind: str, expected: str) -> None:
    known, strangers = _answers([0.9, 0.6, 0.8], [0.9, 0.8, 0.7]), _answers([0.9, 0.8], [0.1, 0.2])
    found = choose(kind, known, np.ones(3, bool), strangers)
    assert found.kind == expected
    if expected == "distance":
        assert 0.2 < found.threshold < 0.7 and found.figures["strangers_refused"] == 1.0
    assert choose("none", known, np.ones(3, bool), strangers).kind == "none"
    alone = choose(kind, known, np.ones(3, bool), None)
    assert "95%" in alone.figures["chosen"] and alone.threshold <= 0.8


def test_a_character_that_was_never_judged_does_not_lower_the_threshold(
    heads: Path, net_file: Path, tmp_path: Path
) -> None:
    """All its pictures are alike, so every fold learns from them, and nothing is said of them."""
    data = tmp_path / "data"
    shutil.copytree(heads / "rei", data / "rei")
    (data / "asuka").mkdir()  # the first of the characters, which zeros would be taken for
    for i in range(8):
        shutil.copy(heads / "asuka" / "00.png", data / "asuka" / f"{i}.png")
    options = {"folds": 3, "cache": net_file.parent / "cache", "open_set": "probability"}
    made = train(Options(data, tmp_path / "a.skops", "logistic", "deep", str(net_file), **options))
    assert made.figures["cross_validation"]["pictures"] == 8
    assert made.open_set.threshold >= 0.5, "the likelier of two"


def test_strangers_are_nobody_known() -> None:
    class Directions:
        name, identity, size = HAND_MADE, "", 2

        def __call__(self, crops: torch.Tensor) -> np.ndarray:
            return crops[:, :2, 0, 0].numpy()

    class Identity:
        def transform(self, x: np.ndarray) -> np.ndarray:
            return x

    class Nearest(list):
        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x / x.sum(1, keepdims=True)

    middles = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    estimator = Nearest([Identity()])
    crops = torch.zeros(3, 3, 2, 2)
    crops[:, 0], crops[:, 1] = (
        torch.tensor([1.0, 0.1, 0.5])[:, None, None],
        torch.tensor([0.0, 0.9, 0.5])[:, None, None],
    )
    near = similarity(crops[:, :2, 0, 0].numpy(), middles)
    assert near == pytest.approx([1, 0.9 / np.hypot(0.1, 0.9), np.sqrt(0.5)])
    made = Recogniser(["x", "y"], Directions(), 1.0, OpenSet("distance", 0.8), middles, estimator)
    assert made.recognise(crops)[0].tolist() == [0, 1, -1]
    faces = Faces.from_boxes([[[0, 0, 4, 4]], []], sizes=[(4, 4), (4, 4)])
    picture = torch.zeros(4, 4, 3)
    picture[..., 1] = 1.0
    named = made.name_faces([picture, picture], faces)
    assert named.names == ["y"] and named.images == 2
    assert made.name_faces([picture, picture], faces.filter(torch.zeros(1, dtype=torch.bool))).names == []


def test_the_embedded_net_is_an_extractor() -> None:
    backbone = load_backbone("identity")
    assert isinstance(backbone, Backbone) and backbone(torch.rand(2, 3, backbone.size, backbone.size)).shape[0] == 2
