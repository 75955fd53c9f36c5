"""A few hundred inputs of every target; ``python -m tests.fuzz --all`` runs as many as one likes."""

from __future__ import annotations

import random

import pytest

from . import running
from .mutation import mutated
from .running import Report, inputs, run_one, run_random
from .targets import TARGETS
from .targets.target import Target, random_seeds


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_but_documented_errors(name: str) -> None:
    report = run_random(TARGETS[name], 300, seed=0, watch=False)
    assert report.count == 300
    assert not report.findings, "\n".join(f"{f.what}: {f.detail}\n{f.data!r}" for f in report.findings.values())


def boom(data: bytes, folder: object) -> None:
    if data == b"slow":
        while True:
            pass
    if data == b"large":
        bytearray(64 << 20)[::4096] = bytes((64 << 20) // 4096)
    if data == b"wordy":
        raise ValueError("x" * 20_000)
    if data:
        raise {b"v": ValueError("refused"), b"k": KeyError("lost")}[data]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", []),
        (b"v", []),
        (b"k", ["KeyError test_fuzz.py:boom"]),
        (b"slow", ["slow test_fuzz.py:boom"]),
        (b"large", ["KeyError test_fuzz.py:boom", "memory"]),
        (b"wordy", ["message ValueError test_fuzz.py:boom"]),
    ],
)
def test_what_counts_as_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path, data: bytes, found: list[str]) -> None:
    monkeypatch.setattr(running, "SECONDS", 0.2)
    report = Report("boom")
    target = Target("boom", "", boom, (ValueError,), random_seeds, megabytes=32)  # type: ignore[arg-type]
    run_one(target, data, tmp_path, report)
    assert sorted(report.findings) == found and report.count == 1


def test_equal_seeds_make_equal_inputs() -> None:
    target = TARGETS["rules"]
    first, second, other = (list(inputs(target, 200, seed)) for seed in (1, 1, 2))
    assert first == second != other and len(set(first)) > 150
    rng = random.Random(0)
    assert all(len(mutated(b"abc" * 50, rng, (b"word",), (b"other",), 40)) <= 40 for _ in range(200))
