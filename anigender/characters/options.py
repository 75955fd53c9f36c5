"""What ``anigender train characters`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What to train and how; see ``anigender train characters --help``."""

    data: Path
    output: Path
    method: str = "logistic"
    features: str = "deep"
    backbone: str = "identity"
    search: bool = False
    open_set: str = "auto"
    unknown: Path | None = None
    margin: float = 1.0
    folds: int = 5
    cache: Path | None = None
    jobs: int = 1
    seed: int = 0
    device: str = "cpu"
    epochs: int = 25
    batch: int = 8
