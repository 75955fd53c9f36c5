"""What a killed training comes back to, and the average that is kept."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from anigender.train.checkpoints import (
    Average,
    Log,
    cosine,
    digest_of,
    load_checkpoint,
    parameter_groups,
    resumed,
    save_checkpoint,
    taking_over,
)


def test_a_checkpoint_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint.pt"
    net = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    save_checkpoint(path, {"step": 7, "model": net.state_dict(), "optimiser": optimiser.state_dict(), "best": 0.5})
    state = load_checkpoint(path)
    assert (state["step"], state["best"]) == (7, 0.5)
    for name, value in net.state_dict().items():
        assert torch.equal(state["model"][name], value)
    again = torch.optim.AdamW(nn.Linear(3, 2).parameters())
    again.load_state_dict(state["optimiser"])
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("at", ["torch.save", "os.replace"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_former(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    path = tmp_path / "run.pt"
    save_checkpoint(path, {"step": 1})

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(at, fail)
        with pytest.raises(OSError, match="disk full"):
            save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}


@pytest.mark.parametrize("content", [{"steps": 1}, [1, 2], torch.zeros(2)])
def test_another_file_is_no_checkpoint(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a training checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


def test_what_cannot_be_gone_on_with_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint.pt"
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*run.checkpoint.pt .*: leave --resume out"):
        load_checkpoint(path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"seed": 1, "teacher": None}, {"seed": 1, "teacher": None}, ""),
        ({"seed": 1, "teacher": None}, {"seed": 2, "teacher": "ab"}, "seed 1 .now 2., teacher None .now 'ab'.: give"),
        ({"seed": 1}, {"seed": 1, "hold_out": []}, ""),  # of an earlier version
        (None, {"seed": 1}, ""),
    ],
)
def test_only_the_same_run_is_gone_on_with(
    tmp_path: Path, before: dict[str, Any] | None, now: dict[str, Any], message: str
) -> None:
    path = tmp_path / "run.checkpoint.pt"
    save_checkpoint(path, {"step": 1} if before is None else {"step": 1, "options": before})
    if not message:
        assert resumed(path, now)["step"] == 1
        return
    with pytest.raises(ValueError, match=f"is of a run with {message}"):
        resumed(path, now)


def test_another_net_is_not_taken_over(tmp_path: Path) -> None:
    state = {"model": nn.Linear(3, 2).state_dict()}
    with taking_over(tmp_path / "a.pt"):
        nn.Linear(3, 2).load_state_dict(state["model"])
    for net, name in ((nn.Linear(4, 2), "model"), (nn.Linear(3, 2), "average")):
        message = "a.pt is of another net than is trained now .*leave --resume out"
        with pytest.raises(ValueError, match=message), taking_over(tmp_path / "a.pt"):
            net.load_state_dict(state[name])


def test_digests_of_what_is_learned_from() -> None:
    rows = [("a.png", "female", "train"), ("b\udcff.png", "male", "val")]
    others = [rows[::-1], rows[:1], [("a.png", "male", "train"), rows[1]], [("a.pngfemale", "", "train"), rows[1]], []]
    found = [digest_of(own) for own in (rows, list(rows), *others)]
    assert found[0] == found[1] and len(set(found)) == len(found) - 1


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("it_ran",)


def test_nothing_is_run_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"step": 1, "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match="[Ww]eights"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "it_ran").exists()


def test_the_average_follows_with_a_short_memory_at_first() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 0.0)
    average = Average(net, 0.9)
    nn.init.constant_(net.weight, 1.0)
    expected = 0.0
    for step in range(1, 200):
        average.update(net)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep)
        assert float(average.model.weight) == pytest.approx(expected, abs=1e-5)
    assert average.steps == 199
    assert float(average.model.weight) > 0.99


def test_the_average_is_a_copy_that_does_not_learn() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = Average(net)
    assert not average.model.training and net.training
    assert not any(p.requires_grad for p in average.model.parameters())
    for _ in range(3):
        net(torch.randn(4, 1, 3, 3) * 5 + 2)
    assert float(average.model[1].running_mean.abs().sum()) == 0
    average.update(net)
    assert float(average.model[1].running_mean.abs().sum()) > 0  # statistics are averaged too
    assert int(average.model[1].num_batches_tracked) == 3  # and counters are taken as they are


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.505), (100, 0.01), (1000, 0.01)],
)
def test_the_learning_rate(step: int, expected: float) -> None:
    assert cosine(step, 100, 10) == pytest.approx(expected)


def test_the_learning_rate_rises_and_then_falls() -> None:
    values = [cosine(step, 300, 50) for step in range(300)]
    assert values[:50] == sorted(values[:50])
    assert values[50:] == sorted(values[50:], reverse=True)
    assert all(0 < value <= 1 for value in values)
    assert cosine(0, 0, 0) == pytest.approx(1.0)


def test_only_kernels_are_decayed() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    decayed, plain = parameter_groups(net, 0.3)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert len(decayed["params"]) + len(plain["params"]) == len(list(net.parameters()))


def test_the_log_is_one_object_per_line_and_goes_on_when_resumed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "run.log.jsonl"
    log = Log(path, resume=False)
    log.write(epoch=1, loss=[0.5, 0.25])
    log.write(epoch=2, note="初音")
    Log(path, resume=True).write(epoch=3)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[0]["loss"] == [0.5, 0.25]
    assert all(math.isfinite(line["seconds"]) and line["seconds"] >= 0 for line in lines)
    path.write_text('{"epoch": 1}\n{"epo')  # killed, or a disk that was full
    Log(path, resume=True).write(epoch=2)
    assert [line[:12] for line in path.read_text().splitlines()] == ['{"epoch": 1}', '{"epo', '{"epoch": 2,']
    Log(path, resume=False).write(epoch=1)
    assert len(path.read_text().splitlines()) == 1
