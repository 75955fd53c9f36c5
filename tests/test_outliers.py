"""Wrong labels: told from right ones by their losses, trusted less, and listed for a person."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anigender.datasets.picture import Picture
from anigender.train.crops.crops import Crops
from anigender.train.gender.learning import trusted
from anigender.train.gender.outliers import LEAST_TRUST, MEMORY, LossHistory, trust, upper_heap
from anigender.train.gender.suspects import check_report, report_suspects, suspects


def losses(count: int, wrong: int, seed: int = 0) -> np.ndarray:
    """Of right labels and then of wrong ones, as a net that learns has them."""
    rng = np.random.default_rng(seed)
    return np.concatenate((rng.gamma(1, 0.25, count - wrong), rng.normal(2, 0.6, wrong).clip(0.01)))


def remembered(values: np.ndarray, male: float = 0.5) -> LossHistory:
    history = LossHistory(len(values))
    history.add(torch.arange(len(values)), torch.from_numpy(values), torch.full((len(values),), male))
    return history


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("seed", [0, 1])
def test_two_heaps_are_told_apart(share: float, seed: int) -> None:
    count = 3000
    wrong = round(count * share)
    found = upper_heap(losses(count, wrong, seed)) > 0.5
    truth = np.arange(count) >= count - wrong
    assert (found & truth).sum() / found.sum() > 0.7
    assert (found & truth).sum() / truth.sum() > 0.8


@given(st.lists(st.floats(0, 20), min_size=2, max_size=60))
def test_a_higher_loss_is_never_less_suspect(values: list[float]) -> None:
    found = upper_heap(np.array(values))
    assert found.shape == (len(values),) and np.isfinite(found).all() and ((found >= 0) & (found <= 1)).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


def test_what_the_net_agrees_with_is_trusted() -> None:
    values = np.concatenate((np.linspace(0, 0.1, 200), np.linspace(0.5, 0.69, 20)))  # two heaps, but no disagreement
    found = trust(remembered(values), torch.arange(220) % 2)
    assert found.tolist() == [1.0] * 220


def test_each_gender_has_its_own_heaps() -> None:
    # Men's losses are higher: by one mixture for both, most of them would be distrusted.
    women, men = losses(1000, 100, 0), losses(1000, 100, 1) + 0.8
    labels = torch.tensor([0] * 1000 + [1] * 1000)
    found = trust(remembered(np.concatenate((women, men))), labels)
    for gender in (0, 1):
        mine = found[labels == gender]
        assert float((mine[:900] > 0.5).float().mean()) > 0.9
        assert float((mine[900:] < 0.5).float().mean()) > 0.8
    assert float(found.min()) == pytest.approx(LEAST_TRUST)


def test_little_or_nothing_known_is_no_reason_for_distrust() -> None:
    history = LossHistory(50)
    assert trust(history, torch.zeros(50, dtype=torch.int64)).tolist() == [1.0] * 50
    history.add(torch.arange(10), torch.full((10,), 9.0), torch.ones(10))
    assert trust(history, torch.zeros(50, dtype=torch.int64)).tolist() == [1.0] * 50


def test_the_history_is_a_running_mean_that_forgets() -> None:
    history = LossHistory(3)
    seen = [4.0, 2.0, 3.0]
    for value in seen:
        history.add(torch.tensor([1, -1]), torch.tensor([value, 100.0]), torch.tensor([0.9, 0.1]))
    assert history.loss.tolist() == pytest.approx([0, 3.0, 0]) and history.seen.tolist() == [0, 3, 0]
    assert float(history.male[1]) == pytest.approx(0.9)
    for _ in range(8 * MEMORY):
        history.add(torch.tensor([1]), torch.tensor([1.0]), torch.tensor([0.2]))
    assert float(history.loss[1]) == pytest.approx(1.0, abs=0.01)
    other = LossHistory(3)
    other.load(history.state())
    assert torch.equal(other.loss, history.loss) and torch.equal(other.seen, history.seen)


def test_distrust_moves_weight_inside_a_gender_and_not_between() -> None:
    mass, labels = torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0]), torch.tensor([0, 0, 0, 1, 1])
    found = trusted(mass, torch.tensor([1.0, 0.1, 1.0, 0.5, 0.5]), labels)
    assert found.tolist() == pytest.approx([4 / 3.1, 0.4 / 3.1, 8 / 3.1, 1, 1])


def test_suspects_are_listed_with_pictures_and_without_tricks(tmp_path: Path) -> None:
    count = 60
    values = losses(count, 6, 3)
    values[-6:] = np.linspace(2.0, 3.0, 6)
    names = [f"female/{i}.png" for i in range(count)]
    names[-1] = 'female/<script>alert("x")</script>,é.png'
    names[-2] = "female/\udcff.png"  # no UTF-8
    pictures = [Picture(name, character=name, gender="female") for name in names]
    pixels = torch.randint(0, 256, (count, 4, 16, 16), dtype=torch.uint8)
    crops = Crops(pixels, torch.zeros(count, dtype=torch.int64), pictures)
    history = remembered(values, male=0.88)
    found = suspects(history, crops)
    assert [one.file for one in found[:6]] == names[:-7:-1]  # the most suspect first
    assert all(one.said == 0.88 and one.gender == "female" and one.views == 1 for one in found)
    report_suspects(tmp_path / "look.html", found, crops, Path("my & data"))
    html = (tmp_path / "look.html").read_text(encoding="utf-8")
    assert "<script>" not in html and "my &amp; data" in html
    assert html.count("data:image/jpeg;base64,") == len(found) and "http" not in html
    with (tmp_path / "look.suspects.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == [one.file.replace("\udcff", r"\xff") for one in found]
    stored = json.loads((tmp_path / "look.suspects.json").read_text(encoding="utf-8"))["suspects"]
    assert [row["file"] for row in stored] == [one.file for one in found] and "row" not in stored[0]


@pytest.mark.parametrize(
    ("name", "others", "message"),
    [
        ("look.html", {}, ""),
        ("list.csv", {}, "list.csv is an HTML file: give it a name ending in .html"),
        ("net", {}, "net is an HTML file"),
        ("no/where.html", {}, "there is no folder .*no"),
        ("net.html", {"net.json": "{}", "net.csv": "file,gender\n", "net.safetensors": ""}, ""),
        (
            "look.html",
            {"look.suspects.csv": "file,gender\n"},
            "would replace .*look.suspects.csv, which is no such list",
        ),
        ("look.html", {"look.suspects.json": '{"margin": 1}'}, "would replace .*look.suspects.json"),
    ],
)
def test_a_report_replaces_nothing_else(tmp_path: Path, name: str, others: dict[str, str], message: str) -> None:
    for other, text in others.items():
        (tmp_path / other).write_text(text)
    if message:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            check_report(tmp_path / name)
        return
    crops = Crops(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), [Picture("a"), Picture("b")])
    for _ in range(2):  # its own are replaced
        check_report(tmp_path / name)
        report_suspects(tmp_path / name, suspects(LossHistory(2), crops), crops, tmp_path)
    assert {other: (tmp_path / other).read_text() for other in others} == others


def test_nobody_to_suspect_is_a_report_too(tmp_path: Path) -> None:
    crops = Crops(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), [Picture("a"), Picture("b")])
    report_suspects(tmp_path / "look.html", suspects(LossHistory(2), crops), crops, tmp_path)
    assert "0 suspects among 2 pictures" in (tmp_path / "look.html").read_text(encoding="utf-8")
