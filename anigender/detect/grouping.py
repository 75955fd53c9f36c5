"""Grouping overlapping windows into faces, as OpenCV's ``groupRectangles`` does it, down to its rounding."""

from __future__ import annotations

import numpy as np

EPSILON = 0.2  # OpenCV's own constant: how far apart, over their size, alike windows may be
ROWS_AT_ONCE = 1 << 22  # pairs compared at a time


def group_rectangles(windows: np.ndarray, minimum_neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Join alike windows, drop small groups, and drop groups inside larger, better supported ones.

    Args:
        windows: ``[n, 4]`` int64: x, y, width, height.
        minimum_neighbours: groups must have more windows than this; at 0 nothing is grouped.

    Returns:
        ``[m, 4]`` int64 means of the groups, by their first window, and ``[m]`` int64, how many windows each has.
    """
    if minimum_neighbours <= 0 or not len(windows):
        return windows, np.ones(len(windows), np.int64)
    classes = similar_classes(windows)
    counts = np.bincount(classes)
    sums = np.stack([np.bincount(classes, windows[:, column]) for column in range(4)], 1)
    # Single precision and rounding half to even, as in OpenCV, or a mean may differ by a pixel.
    means = np.rint(sums.astype(np.float32) * (np.float32(1) / counts.astype(np.float32))[:, None]).astype(np.int64)
    enough = counts > minimum_neighbours
    means, counts = means[enough], counts[enough]
    keep = np.array([not _inside_a_better_one(i, means, counts) for i in range(len(means))], bool)
    return means[keep], counts[keep]


def similar_classes(windows: np.ndarray) -> np.ndarray:
    """``[n]`` the class of each window, numbered by first appearance: connected by chains of alike windows.

    Two are alike when all four edges are within a fifth of the mean of the smaller width and the smaller height.
    """
    edges = np.stack((windows[:, 0], windows[:, 1], *(windows[:, :2] + windows[:, 2:]).T), 1)
    labels = np.full(len(windows), -1, np.int64)
    step = max(1, ROWS_AT_ONCE // len(windows))
    number = 0
    for first in range(len(windows)):
        if labels[first] >= 0:
            continue
        front = np.array([first])
        labels[first] = number
        while len(front):
            free = np.flatnonzero(labels < 0)
            reached = np.zeros(len(free), bool)
            for start in range(0, len(front), step):
                part = front[start : start + step, None]
                delta = EPSILON * (np.minimum(windows[part, 2:], windows[free, 2:]).sum(-1)) * 0.5
                reached |= (abs(edges[part] - edges[free]).max(-1) <= delta).any(0)
            front = free[reached]
            labels[front] = number
        number += 1
    return labels


def _inside_a_better_one(i: int, means: np.ndarray, counts: np.ndarray) -> bool:
    x, y, width, height = means[i]
    slack = np.rint(means[:, 2:] * EPSILON).astype(np.int64)
    low, high = means[:, :2] - slack, means[:, :2] + means[:, 2:] + slack
    inside = (x >= low[:, 0]) & (y >= low[:, 1]) & (x + width <= high[:, 0]) & (y + height <= high[:, 1])
    inside &= (counts > max(3, counts[i])) | (counts[i] < 3)
    inside[i] = False
    return bool(inside.any())
