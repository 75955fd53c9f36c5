"""What an evaluation says of given answers, and its report."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import anigender.cli.evaluate as cli
from anigender.cli import main
from anigender.datasets import judged
from anigender.datasets.labelled import Picture
from anigender.detect.whole_image import WholeImage
from anigender.digests import sha256
from anigender.evaluate.bootstrap import interval
from anigender.evaluate.curves import precision_recall, reliability, roc
from anigender.evaluate.gender import Answers, describe, evaluate_gender
from anigender.evaluate.html_report import html_report, mistakes_sheet
from anigender.evaluate.judged_faces import evaluate_judged_faces
from anigender.evaluate.stress import HEAD, MARGINS, STRESSES, region
from anigender.faces import Faces
from anigender.images import Batch, check
from anigender.pipeline import Pipeline

FIGURES = ("balanced_accuracy", "female_recall", "male_recall")


class Brightness:
    """A classifier for which dark heads are men's."""

    size, margin, device = 8, 1.0, torch.device("cpu")

    def classify(self, crops: torch.Tensor) -> torch.Tensor:
        female = crops.mean((1, 2, 3))
        return torch.stack((female, 1 - female), 1)


def answers(rows: list[tuple[str, float | None, str]], side: float = 50.0) -> Answers:
    """From (true gender, probability of female or None where no head is found, character)."""
    pictures = [
        Picture(f"gender/f{i % 2}/{i}.png", character=c, gender=g, kind="face") for i, (g, _, c) in enumerate(rows)
    ]
    found = torch.tensor([p is not None for _, p, _ in rows])
    female = torch.tensor([0.5 if p is None else p for _, p, _ in rows])
    return Answers(
        pictures,
        torch.tensor([0 if g == "female" else 1 for g, _, _ in rows]),
        torch.stack((female, 1 - female), 1),
        found,
        torch.tensor([[0.0, 0, side, side]]).repeat(len(rows), 1) * found[:, None],
    )


# -- curves ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "positive", "area", "average_precision"),
    [
        ([0.9, 0.8, 0.2], [1, 1, 0], 1.0, 1.0),
        ([0.9, 0.8, 0.2], [0, 0, 1], 0.0, 1 / 3),
        ([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], 0.75, (1 + 2 / 3) / 2),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0], 0.5, 0.5),  # ties count half, whatever order they come in
        ([0.5, 0.5, 0.1], [0, 1, 0], 0.75, 0.5),
    ],
)
def test_areas(scores: list[float], positive: list[int], area: float, average_precision: float) -> None:
    given_scores, truth = torch.tensor(scores), torch.tensor(positive, dtype=torch.bool)
    assert roc(given_scores, truth).area == pytest.approx(area)
    assert precision_recall(given_scores, truth).area == pytest.approx(average_precision)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60))
def test_the_roc_area_is_the_chance_that_a_positive_scores_higher(rows: list[tuple[int, bool]]) -> None:
    ups, downs = [s for s, p in rows if p], [s for s, p in rows if not p]
    if not ups or not downs:
        return
    pairs = [(u > d) + 0.5 * (u == d) for u in ups for d in downs]
    curve = roc(torch.tensor([float(s) for s, _ in rows]), torch.tensor([p for _, p in rows]))
    assert curve.area == pytest.approx(sum(pairs) / len(pairs))
    assert curve.x == sorted(curve.x) and curve.y == sorted(curve.y) and curve.x[-1] == curve.y[-1] == 1


def test_long_curves_are_thinned_out_and_keep_their_ends() -> None:
    scores = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    written = roc(scores, scores > 0.3).as_dict()
    assert len(written["x"]) <= 202 and written["x"][0] == 0.0 and written["x"][-1] == written["y"][-1] == 1.0  # type: ignore[arg-type, index]


def test_reliability_is_by_confidence() -> None:
    confidence = torch.tensor([0.51, 0.53, 0.98, 0.99, 1.0])
    found = reliability(confidence, torch.tensor([True, False, True, True, False]))
    assert [own["count"] for own in found] == [2, 3]
    assert found[0]["accuracy"] == 0.5 and found[0]["confidence"] == pytest.approx(0.52)
    assert found[1]["accuracy"] == pytest.approx(2 / 3, abs=1e-4)


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_pictures_of_one_character_are_drawn_together() -> None:
    labels = np.repeat([0, 1], 200)
    right = np.tile(np.repeat([True, False], 20), 10)  # 20 pictures of a character are all right or all wrong
    alone = interval(right, labels, [str(i) for i in range(400)])
    together = interval(right, labels, [str(i // 20) for i in range(400)])
    for name in FIGURES:
        (low, high), (lower, higher) = alone[name], together[name]
        assert lower < low < 0.5 < high < higher
    assert interval(right, labels, ["x"] * 200 + ["y"] * 200)["female_recall"] == (0.5, 0.5)
    assert together == interval(right, labels, [str(i // 20) for i in range(400)])


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    labels, groups = np.repeat([0, 1], 60), [str(i // 2) for i in range(120)]
    inside = 0
    for seed in range(60):
        right = np.repeat(rng.random(60) < 0.8, 2)  # both pictures of a character
        low, high = interval(right, labels, groups, 200, seed)["balanced_accuracy"]
        inside += low <= 0.8 <= high
    assert inside >= 50


def test_an_absent_gender_has_no_interval() -> None:
    found = interval(np.array([True, False]), np.array([0, 0]), ["a", "b"])
    assert np.isnan(found["male_recall"]).all() and np.isnan(found["balanced_accuracy"]).all()


# -- figures -----------------------------------------------------------------------------------------------------------


def test_figures_of_given_answers() -> None:
    told = answers(
        [
            ("female", 0.9, "a"),
            ("female", 0.8, "a"),
            ("female", 0.3, "b"),
            ("female", None, "c"),
            ("male", 0.2, "d"),
            ("male", 0.95, "e"),
        ]
    )
    figures = describe(told, repeats=50)
    assert figures["found"]["count"] == 5 and figures["all"]["count"] == 6
    assert figures["found"]["female_recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert figures["all"]["female_recall"] == 0.5 and figures["share_found"] == pytest.approx(5 / 6, abs=1e-4)
    assert figures["confusion"] == [[2, 1], [1, 1]] and figures["accuracy"] == 0.6
    assert figures["classes"]["female"] == {"precision": 0.6667, "recall": 0.6667, "f1": 0.6667}
    assert figures["classes"]["male"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert figures["roc"]["area"] == pytest.approx(0.5)
    assert [own["file"] for own in figures["mistakes"]] == ["gender/f1/5.png", "gender/f0/2.png"]
    assert figures["mistakes"][0] == {
        "file": "gender/f1/5.png",
        "gender": "male",
        "confidence": 0.95,
        "box": [0.0, 0.0, 50.0, 50.0],
    }
    assert list(figures["by_head_size"]) == ["32-63 px"] and figures["by_head_size"]["32-63 px"]["count"] == 5
    assert figures["by_folder"] == {"f0": {"count": 3, "right": 2}, "f1": {"count": 3, "right": 1}}


@pytest.mark.parametrize(
    ("side", "name"), [(0.0, "0-31 px"), (31.9, "0-31 px"), (32.0, "32-63 px"), (900, "128 px and more")]
)
def test_head_sizes(side: float, name: str) -> None:
    told = answers([("female", 0.9, "a"), ("male", 0.1, "b")], side)
    assert list(describe(told, 2)["by_head_size"]) == [name]


def test_one_gender_has_no_roc() -> None:
    figures = describe(answers([("female", 0.9, "a"), ("female", 0.2, "b")]), 5)
    assert figures["roc"] is None and list(figures["precision_recall"]) == ["female"]
    assert "ROC" not in html_report(figures, "x")


# -- the stress test ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [[40.0, 30, 80, 70], [-20.0, -10, 30, 40], [0.0, 0, 300, 200], [290.0, 190, 340, 240]])
def test_a_region_keeps_what_is_in_the_box(box: list[float]) -> None:
    image = torch.randint(0, 256, (200, 300, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    part, inside = region(image, torch.tensor(box))
    assert part.shape[0] >= 1 and part.shape[1] >= 1 and part.dtype == torch.uint8
    side = inside[2:] - inside[:2]
    assert float(side.max()) <= HEAD + 1e-3
    if float((torch.tensor(box)[2:] - torch.tensor(box)[:2]).max()) <= HEAD:
        x0, y0, x1, y1 = (int(v) for v in box)
        u0, v0 = (int(v) for v in inside[:2])
        dx, dy = max(0, -x0), max(0, -y0)
        own = image[max(y0, 0) : y1, max(x0, 0) : x1]
        seen = part[v0 + dy : v0 + dy + own.shape[0], u0 + dx : u0 + dx + own.shape[1]]
        assert torch.equal(own, seen)


@pytest.mark.parametrize("name", STRESSES)
def test_every_stress_leaves_a_picture_and_a_box(name: str) -> None:
    image = torch.randint(0, 256, (90, 120, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before, box = image.clone(), torch.tensor([30.0, 20, 90, 80])
    changed, moved = STRESSES[name](image, box)
    assert changed.ndim == 3 and changed.shape[2] == 3 and changed.dtype == torch.uint8
    assert torch.equal(image, before)
    assert bool((moved[2:] > moved[:2]).all())
    assert not torch.equal(changed, image) or not torch.equal(moved, box)
    check([changed])


# -- a whole evaluation ------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six pictures: bright women and dark men, and one bright man whose file has a name that is no HTML."""
    rows = [("a", "female", 220), ("a", "female", 200), ("b", "female", 180), ("c", "male", 30), ("d", "male", 60)]
    folder = tmp_path / "data"
    (folder / "gender" / "set").mkdir(parents=True)
    with (folder / "gender" / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "character", "gender", "kind", "split", "width", "height", "alpha", "source"])
        for i, (character, gender, level) in enumerate([*rows, ("e", "male", 240)]):
            file = f"gender/set/{'<b>&' if i == 5 else ''}{i}.png"
            Image.new("RGB", (40, 40), (level,) * 3).save(folder / file)
            writer.writerow([file, character, gender, "face", "val", 40, 40, 0, "left" if i % 2 else "right"])
    return folder


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(WholeImage("cpu"), Brightness())  # type: ignore[arg-type]


def test_figures_by_a_column_and_under_stress(data: Path, pipeline: Pipeline) -> None:
    figures = evaluate_gender(data, pipeline, by=("source",), repeats=20, stress=True)
    assert figures["found"]["female_recall"] == 1.0
    assert figures["found"]["male_recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert {name: own["count"] for name, own in figures["by"]["source"].items()} == {"left": 3, "right": 3}
    assert list(figures["stress"]) == ["as they are", *STRESSES]
    assert figures["stress"]["as they are"] == figures["found"]
    assert abs(figures["stress_loss"]) < 0.2
    with pytest.raises(ValueError, match="has no column 'colour'; it has file, character, gender"):
        evaluate_gender(data, pipeline, by=("colour",))


def test_the_margin_curve_shows_where_a_framing_no_longer_does(tmp_path: Path) -> None:
    (tmp_path / "gender" / "set").mkdir(parents=True)
    with (tmp_path / "gender" / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "character", "gender", "kind", "split", "width", "height", "alpha"])
        for i, gender in enumerate(("female", "male")):
            pixels = np.zeros((240, 240, 3), np.uint8)
            pixels[100:140, 100:140] = 0 if i else 255  # a bright head on black: more of it is dark in wider crops
            Image.fromarray(pixels).save(tmp_path / "gender" / "set" / f"{i}.png")
            writer.writerow([f"gender/set/{i}.png", str(i), gender, "face", "val", 240, 240, 0])

    class Middle:
        device = torch.device("cpu")
        region = "head"

        def detect(self, batch: Batch) -> Faces:
            return Faces.from_boxes([[[100, 100, 140, 140]]] * len(batch), batch.sizes)

    figures = evaluate_gender(tmp_path, Pipeline(Middle(), Brightness()), repeats=5, margins=True)  # type: ignore[arg-type]
    curve = figures["by_margin"]
    assert {scale: own["female_recall"] for scale, own in curve.items()} == {
        f"{scale:.2f}": float(scale < 1.41) for scale in MARGINS
    }
    assert all(own["male_recall"] == 1 and own["margin"] == float(scale) for scale, own in curve.items())
    assert curve["1.00"] == figures["found"] | {"margin": 1.0}
    text = html_report(figures, "x")
    assert "Crop margin" in text and text.count("<figure>") == 4
    lines = "\n".join(cli.gender_table(figures))
    assert "by crop margin" in lines and re.search(r"1\.50 +0\.500 +0\.000 +1\.000 +2", lines)


def test_the_report_is_whole_and_escapes_names(data: Path, pipeline: Pipeline) -> None:
    figures = evaluate_gender(data, pipeline, by=("source",), repeats=20)
    sheet = mistakes_sheet(data, figures["mistakes"])
    assert sheet is not None
    text = html_report(figures, "<i>x", sheet)
    assert "&lt;i&gt;x" in text and "<i>x" not in text
    assert "&lt;b&gt;&amp;5.png" in text and "<b>" not in text
    assert "http" not in text.replace("http-equiv", "") and "<script" not in text
    assert len(re.findall("<figure>", text)) == 3 and "data:image/jpeg;base64," in text
    for tag in ("table", "figure", "svg", "body", "html"):
        assert text.count(f"<{tag}") == text.count(f"</{tag}>")


def test_the_command_writes_report_and_figures(
    data: Path, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "load", lambda *_: pipeline)
    base = ["evaluate", "gender", "--data", str(data)]
    report, output = tmp_path / "r.html", tmp_path / "f.json"
    run = CliRunner().invoke(main, [*base, "--by", "source", "--report", str(report), "--output", str(output)])
    assert run.exit_code == 0, run.output
    assert "by source" in run.stdout and "precision" in run.stdout
    written: dict[str, Any] = json.loads(output.read_text("utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert written["gender"]["by"]["source"]["left"]["count"] == 3
    assert report.read_text("utf-8").startswith("<!DOCTYPE html>")
    for wrong, message in (
        (["--by", "colour"], "has no column 'colour'"),
        (["--report", str(tmp_path / "none" / "r.html")], "--report: there is no folder"),
    ):
        failed = CliRunner().invoke(main, [*base, *wrong])
        assert failed.exit_code == 2 and message in failed.output.replace("\n", " ")
    failed = CliRunner().invoke(main, ["evaluate", "detector", "--data", str(data), "--stress"])
    assert failed.exit_code == 2 and "are about gender" in failed.output


def test_answers_are_measured_by_the_faces_that_were_surely_judged(
    tmp_path: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unlabelled").mkdir()
    shard = tmp_path / "unlabelled" / "faces-0.tar"
    levels = {"000000": 250, "000001": 250, "000008": 20, "000016": 240, "000024": 90, "000032": 10}
    with tarfile.open(shard, "w") as archive:
        for stem, level in levels.items():
            stream = io.BytesIO()
            Image.new("RGB", (30, 20), (level,) * 3).save(stream, "PNG")
            member = tarfile.TarInfo(f"{stem}.webp")
            member.size = len(stream.getvalue())
            archive.addfile(member, io.BytesIO(stream.getvalue()))
    assert evaluate_judged_faces(tmp_path, pipeline) == {}
    table = tmp_path / "faces.csv"
    rows = ["000008.webp,1", "000016.webp,0.875", "000024.webp,0.5", "000032.webp,"]
    table.write_text("\n".join(["file,male", *(f"faces-0.tar/{row}" for row in rows)]), "utf-8")
    monkeypatch.setattr(judged, "FACES", table)
    monkeypatch.setitem(judged.SHARDS, "faces-0.tar", sha256(shard))
    # Bright is a woman to it. 0 is one, 8 and 16 are men; 1 is learned from, 24 nobody can tell, 32 is no face.
    figures = evaluate_judged_faces(tmp_path, pipeline)
    assert [figures["faces"][name] for name in ("count", "female_recall", "male_recall")] == [3, 1.0, 0.5]
