"""Checkpoints that a killed training run resumes from, and the moving average that is kept in the end."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..files import atomic_file

Net = TypeVar("Net", bound=nn.Module)


class Average(Generic[Net]):
    """Exponential moving average of a net's weights and buffers, with a short memory at the start.

    Args:
        model: the net that is trained; ``self.model`` is the averaged copy, in eval mode.
        decay: share kept per step once the average has run for a while.
    """

    def __init__(self, model: Net, decay: float = 0.999) -> None:
        self.model: Net = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: Net) -> None:
        """Move towards ``model``'s present weights."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, share)
            else:
                mine.copy_(theirs)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` whole or not at all, also where two trainings have one name; errors as of :func:`atomic_file`."""
    with atomic_file(path) as stream:
        torch.save(state, stream)


def half_precision(model: nn.Module) -> dict[str, Tensor]:
    """A state dict as it is shipped: floats halved, and without the norms' counters, which only training needs."""
    return {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are unpickled.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is broken, or something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path} to resume from: leave --resume out to begin")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader's many ways to say that a file is broken
        raise ValueError(f"{path} is not a whole checkpoint: {_first_line(error)}") from error
    if not isinstance(state, dict) or "step" not in state:
        raise ValueError(f"{path} is not a training checkpoint of this program")
    return state


def resumed(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint of a run to go on with, if that had the options that are given now.

    Args:
        path: where :func:`save_checkpoint` left it.
        options: plain values by name; the former ones are the state's ``options``. What a checkpoint does not say, as
            one of an earlier version, is not compared.

    Raises:
        FileNotFoundError, ValueError: as of :func:`load_checkpoint`, or it is of another run; the message says what
            differs.
    """
    state = load_checkpoint(path)
    before = state.get("options", {})
    changed = [name for name, value in options.items() if name in before and before[name] != value]
    if changed:
        shown = ", ".join(f"{name} {before[name]!r} (now {options[name]!r})" for name in changed)
        raise ValueError(
            f"{path} is of a run with {shown}: give the same options and pictures to go on with it, or leave "
            "--resume out to begin anew"
        )
    return state


def digest_of(rows: Iterable[Sequence[str | None]]) -> str:
    """16 hexadecimal digits that are others for other rows, or another order of them: what a run learns from."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(list(row)).encode() + b"\n")
    return digest.hexdigest()[:16]


@contextmanager
def taking_over(path: Path) -> Iterator[None]:
    """A block in which nets and optimisers get what a checkpoint holds of them.

    Raises:
        ValueError: it does not fit them.
    """
    try:
        yield
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is of another net than is trained now ({_first_line(error)}): leave --resume out to begin anew"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Log:
    """A training log: one JSON object per line, appended and flushed, with the seconds since the start."""

    def __init__(self, path: Path, resume: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a" if resume else "w", encoding="utf-8")
        if resume and _ends_within_a_line(path):  # a run that ended there; what follows is a line of its own
            self._stream.write("\n")
        self._start = time.monotonic()

    def write(self, **values: float | int | str | dict | list) -> None:
        """Add one line."""
        values["seconds"] = round(time.monotonic() - self._start, 1)
        self._stream.write(json.dumps(values) + "\n")
        self._stream.flush()


def _ends_within_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.seek(0, 2) > 0 and stream.seek(-1, 2) >= 0 and stream.read(1) != b"\n"


def cosine(step: int, total: int, warmup: int, final: float = 0.01) -> float:
    """Learning-rate factor: a linear warm-up, then half a cosine down to ``final``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (1 - final) * 0.5 * (1 + float(torch.cos(torch.tensor(progress * torch.pi))))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels only, not for norms and biases."""
    decayed: list[Tensor] = [p for p in model.parameters() if p.ndim > 1]
    plain: list[Tensor] = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
