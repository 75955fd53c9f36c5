"""What learns: the embedded classifier, with a projection in which characters are told apart."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...classify.gendernet import GenderNet, build
from ...weights import read_weights
from .file import BELOW, MARGIN


class Student(nn.Module):
    """What is trained: the classifier, and on its features a projection in which characters are told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.net = GenderNet(head=head_window())
        width = self.net.fc.in_features
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, 128))


def head_window() -> tuple[float, float, float, float]:
    """Where crops of :data:`MARGIN` and :data:`BELOW` show the head, in shares of their sides."""
    half = 0.5 / MARGIN
    middle = 0.5 - BELOW / MARGIN
    return 0.5 - half, max(0.0, middle - half), 0.5 + half, middle + half


def begin_from(net: GenderNet, path: Path) -> None:
    """Give a new net the weights of a file; where that net saw heads alone, what it made of them counts for the head.

    Where the head is in a crop stays the new net's own, whatever the file's crops showed: it learns with that.

    Raises:
        ValueError: it is of other widths or depths.
    """
    tensors, _ = read_weights(path)
    state = build(tensors).state_dict()
    if "head" not in state:
        weight = state["fc.weight"]
        state |= {"fc.weight": torch.cat((weight, torch.zeros_like(weight)), 1)}
    state |= {"head": net.state_dict()["head"]}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be gone on from: {error}") from error


def contrast(projected: Tensor, identity: Tensor, temperature: float = 0.15) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020, eq. 2).

    Args:
        projected: ``[B, D]``.
        identity: ``[B]``; views of -1 are left out.
        temperature: of the softmax over cosines.
    """
    known = identity >= 0
    x, who = F.normalize(projected[known].float(), dim=1), identity[known]
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    logits = (x @ x.T / temperature).masked_fill(own, -1e9)
    same = (who[:, None] == who) & ~own
    likely = (logits.log_softmax(1) * same).sum(1) / same.sum(1).clamp(min=1)
    paired = same.any(1)
    return -likely[paired].sum() / paired.sum().clamp(min=1)
