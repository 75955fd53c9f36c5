"""Averaging trained files: the mean of the weights, and refusal of what does not belong together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anigender.quantised import RANGES
from anigender.train.averaging import average_files
from anigender.weights import read_weights, save_weights


def test_the_mean_of_the_weights(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 4.0)):
        save_weights(tmp_path / name, {"w": torch.full((2, 3), value).half()}, {"from": name, RANGES: "{}"})
    average_files([tmp_path / "a", tmp_path / "b"], tmp_path / "mean")
    tensors, metadata = read_weights(tmp_path / "mean")
    assert tensors["w"].dtype == torch.float16 and tensors["w"].tolist() == [[2.5] * 3] * 2
    assert metadata == {"from": "a"}, "not the ranges of other weights"


@pytest.mark.parametrize(
    ("other", "message"), [({"w": (3, 3)}, "differ"), ({"v": (2, 3)}, "differ"), (None, "at least")]
)
def test_what_cannot_be_averaged(tmp_path: Path, other: dict[str, tuple[int, ...]] | None, message: str) -> None:
    save_weights(tmp_path / "a", {"w": torch.zeros(2, 3)}, {})
    files = [tmp_path / "a"]
    if other is not None:
        save_weights(tmp_path / "b", {name: torch.zeros(shape) for name, shape in other.items()}, {})
        files.append(tmp_path / "b")
    with pytest.raises(ValueError, match=message):
        average_files(files, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
