"""A cascade's stages as tensors, and the sum of their votes for many windows at once.

Votes are summed as integers: the sum does not depend on its order, and is as exact as OpenCV's double precision.
All of it are buffers of modules, so that a cascade is moved between devices as a net is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .cascade_file import CODES, Stage

MOST_COMBINED = 12  # trees of a stage whose 4096 combinations are tabulated
VOTE = 2.0**40  # one vote in fixed point
LARGEST_VOTE = 2.0**20


class Votes(nn.Module):
    """One stage, ready to judge.

    Args:
        stage: as the file says it.

    Attributes:
        threshold: sum of votes from which a window goes on.
        stumps: whether every tree is one node.
        features, used: ``[nodes]`` int64, the feature that each node asks for; and the same as a list.
        leaves: ``[T, leaves]`` int64 votes, padded.
        left, right: ``[T, nodes]`` int64, padded: the next node, or minus the leaf.
        node: ``[T, nodes]`` int64, padded: each node's row in ``features``.
        goes_left: LBP: ``[nodes, 256]`` bool by pattern, else empty.
        limits: Haar: ``[nodes]`` float32, the values below which a window goes left, else empty.
        table: stumps with LBP: ``[T, 256]`` int64 votes by pattern, else empty.

    Raises:
        ValueError: a vote is larger than any sense.
    """

    features: Tensor
    leaves: Tensor
    left: Tensor
    right: Tensor
    node: Tensor
    goes_left: Tensor
    limits: Tensor
    table: Tensor

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        trees = stage.trees
        nodes = max(len(tree.left) for tree in trees)
        self.stumps = nodes == 1
        self.threshold = int(np.ceil(np.clip(stage.threshold, -LARGEST_VOTE, LARGEST_VOTE) * VOTE))
        left, right, node = (torch.zeros(len(trees), nodes, dtype=torch.int64) for _ in range(3))
        leaves = torch.zeros(len(trees), max(len(tree.leaves) for tree in trees), dtype=torch.int64)
        first = 0
        for row, tree in enumerate(trees):
            count = len(tree.left)
            left[row, :count], right[row, :count] = torch.tensor(tree.left), torch.tensor(tree.right)
            node[row, :count] = torch.arange(first, first + count)
            leaves[row, : len(tree.leaves)] = _fixed(tree.leaves)
            first += count
        subsets = [tree.subsets for tree in trees if tree.subsets is not None]
        thresholds = [tree.thresholds for tree in trees if tree.thresholds is not None]
        goes_left = torch.from_numpy(np.concatenate(subsets)) if subsets else torch.zeros(0, CODES, dtype=torch.bool)
        table = torch.zeros(0, CODES, dtype=torch.int64)
        if subsets and self.stumps:
            table = leaves.gather(1, torch.where(goes_left, -left, -right))
        self.used = [feature for tree in trees for feature in tree.features]
        self.register_buffer("features", torch.tensor(self.used))
        self.register_buffer("leaves", leaves)
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        self.register_buffer("node", node)
        self.register_buffer("goes_left", goes_left)
        self.register_buffer("limits", torch.from_numpy(np.concatenate(thresholds or [np.zeros(0, np.float32)])))
        self.register_buffer("table", table)

    def passed(self, values: Tensor) -> Tensor:
        """``[n]`` bool: which windows go on, from the features' values ``[nodes, n]`` (patterns, or Haar's floats)."""
        return self._sums(values) >= self.threshold

    def _sums(self, values: Tensor) -> Tensor:
        if len(self.table):
            return self._look_up(self.table, values).sum(0)
        left = self._look_up(self.goes_left, values) if len(self.goes_left) else values < self.limits[:, None]
        if self.stumps:
            return self.leaves.gather(1, torch.where(left, -self.left, -self.right)).sum(0)
        trees, depth = self.node.shape
        at = torch.zeros(trees, values.shape[1], dtype=torch.int64, device=values.device)
        walking = torch.ones_like(at, dtype=torch.bool)
        for _ in range(depth):  # every step leads to a later node or to a leaf
            here = at.clamp(min=0)
            onward = torch.where(
                left.gather(0, self.node.gather(1, here)), self.left.gather(1, here), self.right.gather(1, here)
            )
            at = torch.where(walking, onward, at)
            walking &= at > 0
        return self.leaves.gather(1, -at).sum(0)

    @staticmethod
    def _look_up(table: Tensor, values: Tensor) -> Tensor:
        """Row by row the entries of ``table [nodes, 256]`` for patterns ``[nodes, n]``."""
        rows = CODES * torch.arange(len(values), device=values.device, dtype=torch.int32)[:, None]
        return table.reshape(-1).index_select(0, (values.int() + rows).reshape(-1)).reshape(values.shape)


class Combined(nn.Module):
    """A short stage of stumps with LBP as two look-ups, by what all its trees answer together.

    Args:
        stage: one that is :meth:`possible`.

    Attributes:
        bits: ``[T, 256]`` int16: by pattern, the tree's own bit where the window goes left.
        passes: ``[2 ** T]`` bool: by the sum of all bits, whether a window goes on.
    """

    bits: Tensor
    passes: Tensor

    @staticmethod
    def possible(stage: Votes) -> bool:
        """Whether a stage is such a one."""
        return len(stage.table) > 0 and len(stage.features) <= MOST_COMBINED

    def __init__(self, stage: Votes) -> None:
        super().__init__()
        trees = torch.arange(len(stage.features))[:, None]
        left = (torch.arange(1 << len(trees)) >> trees) & 1
        votes = stage.leaves.gather(1, torch.where(left > 0, -stage.left, -stage.right)).sum(0)
        self.register_buffer("bits", stage.goes_left.short() << trees.short())
        self.register_buffer("passes", votes >= stage.threshold)


def _fixed(values: np.ndarray) -> Tensor:
    """Votes as int64 in fixed point."""
    if bool((abs(values) > LARGEST_VOTE).any()):
        raise ValueError(f"a weak classifier's vote is {values[abs(values).argmax()]:g}, larger than any sense")
    return torch.from_numpy(np.rint(values.astype(np.float64) * VOTE).astype(np.int64))
