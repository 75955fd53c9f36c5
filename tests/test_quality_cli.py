"""``anigender quality``, ``filter --head`` and ``train head``: sorting, and the loop of training and correcting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anigender.cli import inputs, main, scoring
from anigender.quality import read_head
from anigender.train import quality_head as training
from anigender.train.quality_head import HELD_OUT, Options, held_out, train_with

QUICK = {"hidden": 32, "epochs": 15, "learning_rate": 1e-2}


@pytest.fixture
def anigender(painted, colour_encoder, monkeypatch) -> Callable[..., Result]:
    """The command line with the painted pipeline and the encoder that sees colours."""
    monkeypatch.setattr(inputs, "load", lambda detector, classifier, device, dtype=None, settings=None: painted)
    monkeypatch.setattr(scoring, "load_encoder", lambda name, device: colour_encoder)
    monkeypatch.setattr(training, "load_encoder", lambda name, device: colour_encoder)

    def run(*arguments: Any, status: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return run


def draw(folder: Path, count: int, red: float, seed: int, size: int = 20) -> list[Path]:
    """Noisy pictures that are more or less red."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = []
    for i in range(count):
        pixels = random.uniform(0, 60, (size, size, 3))
        pixels[..., 0 if random.random() < red else 2] += random.uniform(100, 180)
        paths.append(folder / f"{seed}-{i}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A folder of two classes."""
    draw(tmp_path / "classes" / "red sky", 20, 1, seed=1)
    draw(tmp_path / "classes" / "Blue", 14, 0, seed=2)
    return tmp_path / "classes"


@pytest.fixture
def trained(classes: Path, colour_encoder, tmp_path: Path) -> Path:
    """A head that tells them apart."""
    path = tmp_path / "mine.safetensors"
    figures = train_with(colour_encoder, Options([classes], path, name="Mine", **QUICK))
    assert figures["balanced_accuracy"] == 1 and figures["pictures"] == 34
    colour_encoder.calls.clear()
    return path


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_line_for_each_picture(anigender, trained: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new", 3, 1, seed=5)
    (tmp_path / "new" / "5-1.png").write_bytes(b"broken")
    result = anigender("quality", tmp_path / "new", "--head", trained, "--batch", "2", status=1)
    found = lines(result.stdout)
    assert [Path(line["image"]).name for line in found] == ["5-0.png", "5-1.png", "5-2.png"]
    assert [line["error"] is None for line in found] == [True, False, True]
    assert found[1]["quality"] is None and "failed: " in result.stderr
    assert (found[0]["width"], found[0]["height"]) == (20, 20)
    assert list(found[0]["quality"]) == ["blue", "red_sky"] and found[0]["quality"]["red_sky"] > 0.9
    anigender("quality", tmp_path / "new", "--head", trained, "-o", tmp_path / "o.jsonl", status=1)
    assert lines((tmp_path / "o.jsonl").read_text("utf-8")) == found


@pytest.mark.parametrize("command", ["quality", "filter"])
def test_large_pictures_make_small_batches(
    anigender, trained: Path, colour_encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    draw(tmp_path / "new", 5, 1, seed=5)  # of 20 x 20
    monkeypatch.setattr(f"anigender.cli.{'scoring' if command == 'filter' else command}.AHEAD_PIXELS", 700)
    rule = ("--rule", "red_sky > 0.5", "--action", "list") if command == "filter" else ()
    colour_encoder.calls.clear()
    result = anigender(command, tmp_path / "new", "--head", trained, "--batch", "100", *rule)
    assert len(result.stdout.splitlines()) == 5 and colour_encoder.calls == [2, 2, 1]


def test_train_predict_correct_repeat(anigender, trained: Path, classes: Path, colour_encoder, tmp_path: Path) -> None:
    new = draw(tmp_path / "new", 8, 0.5, seed=9)
    anigender("quality", tmp_path / "new", "--head", trained, "--sort-to", tmp_path / "sorted")
    placed = {path.name: path.parent.name for path in (tmp_path / "sorted").rglob("*.png")}
    assert set(placed) == {path.name for path in new}
    for path in new:
        pixels = np.asarray(Image.open(path)).astype(int)
        assert placed[path.name] == ("red sky" if pixels[..., 0].mean() > pixels[..., 2].mean() else "Blue")
    # A person finds the first one to be something else, and there are more like it.
    other = tmp_path / "sorted" / "other"
    draw(other, 3, 0, seed=11)
    first = next((tmp_path / "sorted").rglob(new[0].name))
    first.rename(other / first.name)
    colour_encoder.calls.clear()
    arguments = ("--output", trained, "--epochs", 3)
    result = anigender("train", "head", "--data", classes, "--data", tmp_path / "sorted", *arguments)
    assert "balanced_accuracy: " in result.stdout and "pictures: 45" in result.stdout
    assert read_head(trained).labels == ("Blue", "other", "red sky")
    assert sum(colour_encoder.calls) == 11, "only what was not embedded before"
    colour_encoder.calls.clear()
    anigender("train", "head", "--data", classes, "--data", tmp_path / "sorted", *arguments)
    assert colour_encoder.calls == [], "moving a file costs nothing"


@pytest.mark.parametrize("action", ["copy", "move", "link"])
def test_sorted_pictures_inside_the_input_folder_are_not_read(
    anigender, trained: Path, tmp_path: Path, action: str
) -> None:
    new = {path.name for path in draw(tmp_path / "new", 8, 0.5, seed=9)}
    arguments = ("quality", tmp_path / "new", "-r", "--head", trained, "--sort-to", tmp_path / "new" / "sorted")
    for run in range(2):
        result = anigender(*arguments, "--action", action, "--batch", "2")
        left = action != "move" or run == 0
        assert len(lines(result.stdout)) == (8 if left else 0) and ("no pictures found" in result.stderr) is not left
        assert {path.name for path in (tmp_path / "new" / "sorted").rglob("*.png")} == new


def test_sorting_within_the_input_folder(anigender, trained: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new", 4, 0.5, seed=9)
    arguments = ("quality", tmp_path / "new", "--head", trained, "--sort-to", tmp_path / "new")
    assert "new is a PATH whose pictures are read" in anigender(*arguments, "-r", status=2).stderr
    assert len(lines(anigender(*arguments, "--action", "move").stdout)) == 4
    assert len(list((tmp_path / "new").glob("*/*.png"))) == 4 and not list((tmp_path / "new").glob("*.png"))
    inner = ("quality", tmp_path / "new" / "Blue", *arguments[2:])
    assert len(lines(anigender(*inner).stdout)) == len(list((tmp_path / "new" / "Blue").iterdir()))


def test_filtering_by_quality(anigender, trained: Path, paint, tmp_path: Path) -> None:
    for name, people in {"a.png": "F", "b.png": "M", "c.png": "FF"}.items():
        paint(tmp_path / "in" / name, people)
    common = ("filter", tmp_path / "in", "--action", "list", "--head", trained, "--batch", "2")
    assert anigender(*common, "--rule", "red_sky > 0.5").stdout.split() == [
        str(tmp_path / "in" / "a.png"),
        str(tmp_path / "in" / "c.png"),
    ]
    assert anigender(*common, "--rule", "red_sky > 0.5 and female == 2").stdout.split() == [
        str(tmp_path / "in" / "c.png")
    ]
    assert "did you mean red_sky" in anigender(*common, "--rule", "red_skies > 0.5", status=2).stderr
    without = ("filter", tmp_path / "in", "--action", "list", "--rule", "red_sky > 0.5")
    assert "not a known name" in anigender(*without, status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["quality", "x"], "--head"),
        (["quality", "", "--head", "{head}"], "a PATH is empty"),
        (["quality", "x", "--head", "aestetic"], "did you mean aesthetic"),
        (["quality", "x", "--head", "{head}", "--output", "absent/o.jsonl"], "no folder absent"),
        (["quality", "--head", "{head}", "--output", "a.png", "b.png"], "a.png has the name of a picture"),
        (["quality", "x", "--head", "{head}", "--output", "a.parquet"], "a.parquet has the name of a picture or shard"),
        (["quality", "x", "--head", "{head}", "--action", "move"], "--action move needs --sort-to DIR"),
        (["quality", "x", "--head", "{head}", "--combine", "sum"], "'mean', 'median', 'max', 'min'"),
        (["train", "head", "--data", "{data}", "--output", "o.safetensors"], "two or more classes, got 1"),
    ],
)
def test_wrong_usage(anigender, trained: Path, tmp_path: Path, arguments: list[str], part: str) -> None:
    (tmp_path / "one" / "class").mkdir(parents=True)
    filled = [argument.format(head=trained, data=tmp_path / "one") for argument in arguments]
    assert part in anigender(*filled, status=2).stderr


@pytest.mark.parametrize("arguments", [["train", "head"], ["models", "get"], ["models", "list"], ["models", "where"]])
def test_there_are_examples(arguments: list[str]) -> None:
    text = CliRunner().invoke(main, [*arguments, "--help"]).stdout
    assert f"  anigender {' '.join(arguments)}" in text


def test_a_picture_in_two_classes_is_refused(classes: Path, colour_encoder, tmp_path: Path) -> None:
    (classes / "Blue" / "again.png").write_bytes((classes / "red sky" / "1-0.png").read_bytes())
    with pytest.raises(ValueError, match="1 pictures are in several classes; one is .*(again|1-0).png"):
        train_with(colour_encoder, Options([classes], tmp_path / "a.safetensors", **QUICK))


def test_unreadable_pictures_are_left_out_and_said(classes: Path, colour_encoder, tmp_path: Path, caplog) -> None:
    (classes / "Blue" / "broken.png").write_bytes(b"broken")
    figures = train_with(colour_encoder, Options([classes], tmp_path / "a.safetensors", **QUICK))
    assert figures["pictures"] == 34 and "broken.png is left out" in caplog.text


def test_a_cache_of_another_encoder_is_not_used(classes: Path, trained: Path, colour_encoder) -> None:
    train_with(colour_encoder, Options([classes], trained, encoder="another", **QUICK))
    assert sum(colour_encoder.calls) == 34


def test_embeddings_are_known_by_the_weights_that_made_them(classes: Path, tmp_path: Path) -> None:
    class Linear:
        size, width, device = 16, 8, torch.device("cpu")

        def __init__(self, seed: int) -> None:
            torch.manual_seed(seed)
            self.net, self.calls = torch.nn.Linear(16 * 16 * 3, 8), 0

        def encode(self, tiles: torch.Tensor) -> torch.Tensor:
            self.calls += len(tiles)
            return self.net(tiles.flatten(1)).detach()

    again = (("a", 0, 34), ("a", 0, 0), ("elsewhere", 0, 0), ("a", 1, 34))  # name, seed of the weights, pictures seen
    for name, seed, expected in again:
        encoder = Linear(seed)
        train_with(encoder, Options([classes], tmp_path / "a.safetensors", encoder=name, **QUICK))
        assert encoder.calls == expected


def test_embeddings_are_written_down_on_the_way(
    classes: Path, colour_encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "KEPT_EVERY", 10)
    encode, seen = colour_encoder.encode, []

    def stop(tiles: torch.Tensor) -> torch.Tensor:
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(len(tiles))
        return encode(tiles)

    monkeypatch.setattr(colour_encoder, "encode", stop)
    with pytest.raises(KeyboardInterrupt):
        train_with(colour_encoder, Options([classes], tmp_path / "a.safetensors", **QUICK))
    monkeypatch.setattr(colour_encoder, "encode", encode)
    colour_encoder.calls.clear()
    train_with(colour_encoder, Options([classes], tmp_path / "a.safetensors", **QUICK))
    assert sum(colour_encoder.calls) == 34 - sum(seen) < 34


@pytest.mark.parametrize(
    ("name", "good"), [("青\u3000空", True), ("sky\u00a0blue", True), ("x" * 101, False), ("a\nb", False)]
)
def test_names_of_classes_are_read_as_they_were_trained(
    classes: Path, colour_encoder, tmp_path: Path, name: str, good: bool
) -> None:
    (classes / "Blue").rename(classes / name)
    options = Options([classes], tmp_path / "a.safetensors", **QUICK)
    if good:
        train_with(colour_encoder, options)
        assert set(read_head(options.output).labels) == {name, "red sky"}
        return
    with pytest.raises(ValueError, match=r"the class '.* cannot be written down: expected at most 100 characters"):
        train_with(colour_encoder, options)
    assert not colour_encoder.calls


def test_a_file_that_may_not_be_read_stops_nothing(
    classes: Path, colour_encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (classes / "Blue" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    figures = train_with(colour_encoder, Options([classes], tmp_path / "a.safetensors", **QUICK))
    assert figures["pictures"] == 34 and "gone.png is left out: No such file" in caplog.text


@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.integers(0, 2)), min_size=6, max_size=60, unique=True))
def test_what_is_held_out(pictures: list) -> None:
    keys, labels = [key.hex() for key, _ in pictures], [label for _, label in pictures]
    chosen = held_out(keys, labels)
    for label in set(labels):
        own = [out for out, other in zip(chosen, labels, strict=True) if other == label]
        assert len(own) < 2 or (any(own) and not all(own))
    assert 0 < HELD_OUT < 1
