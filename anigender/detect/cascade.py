"""OpenCV's cascades in torch: what ``CascadeClassifier.detectMultiScale`` of OpenCV 4 gives, for whole batches.

OpenCV 5 has no cascades any more, and earlier ones look at one picture at a time on the CPU. The method is that of
Viola and Jones ("Rapid Object Detection using a Boosted Cascade of Simple Features", 2001): windows of every place
and size are put to one stage after another, and most are gone after the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor, nn

from ..faces import Faces
from ..images import Batch, finite_error
from .cascade_file import CascadeFile
from .cascade_haar import HaarFeatures
from .cascade_lbp import Patterns
from .cascade_stages import Combined, Votes
from .found import as_faces
from .grouping import group_rectangles
from .pyramid import Level, equalise, grey, levels, resize_exact_transposed, rows_needed

SCALE_FACTOR = 1.1
MINIMUM_NEIGHBOURS = 5
SMALLEST = 24
BUFFER = 1 << 26  # numbers of summed-area tables held at once
GATHERED = 1 << 19  # numbers gathered at once on a CPU, few enough for its cache; elsewhere 64 times as many
MOST_WINDOWS = 10_000  # of one picture; what tells faces apart lets some hundred pass
SHIFT_ABOVE = 0.08  # share of windows alive above which shifting whole planes is cheaper than picking windows


def visited(passed: Tensor) -> Tensor:
    """Which windows of a row OpenCV looks at: after one that fails the first stage, it leaves the next one out.

    A window is looked at exactly when the run of failures just before it has even length, whether or not those were
    looked at themselves; so all of a row can be told at once.

    >>> visited(torch.tensor([False, True, False, False, False, True])).long().tolist()
    [1, 0, 1, 0, 1, 0]

    Args:
        passed: ``[..., columns]`` bool, what the first stage says.
    """
    columns = torch.arange(passed.shape[-1], device=passed.device).expand_as(passed)
    last = torch.where(passed, columns, -1).cummax(-1).values
    before = torch.nn.functional.pad(last[..., :-1], (1, 0), value=-1)
    return (columns - 1 - before) % 2 == 0


class Cascade:
    """A boosted cascade as a detector of faces.

    Its score is n / (n + m) for a group of n windows where more than m are asked for, so it starts at a half.

    Args:
        file: what was read from the cascade's XML.
        device: where it computes.
        factor: each scale over the one before it.
        minimum_neighbours: a face is a group of more overlapping windows than this.
        smallest: side of the smallest window in pixels.
        threshold: lowest score reported.
        minimum_size: shortest side, in pixels, of a reported face's head.

    Raises:
        ValueError: a factor of 1 or less, a negative number of neighbours, or a vote larger than any sense.
    """

    region = "face"

    def __init__(
        self,
        file: CascadeFile,
        device: torch.device | str = "cpu",
        factor: float = SCALE_FACTOR,
        minimum_neighbours: int = MINIMUM_NEIGHBOURS,
        smallest: int = SMALLEST,
        threshold: float = 0.0,
        minimum_size: float = 0.0,
    ) -> None:
        if not factor > 1 or minimum_neighbours < 0:
            raise ValueError(f"factor is {factor} and minimum_neighbours {minimum_neighbours}, expected > 1 and >= 0")
        self.window = (file.width, file.height)
        self.factor = factor
        self.minimum_neighbours = minimum_neighbours
        self.smallest = smallest
        self.threshold = threshold
        self.minimum_size = minimum_size
        features: Patterns | HaarFeatures = HaarFeatures(file) if file.haar else Patterns(file)
        stages = [Votes(stage) for stage in file.stages]
        short = [Combined(stage) for stage in takewhile(Combined.possible, stages)]
        self.stages, self.short, self.features = stages, short, features
        self.net = nn.ModuleList([*stages, *short, features]).to(device)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.net.buffers()).device

    def detect(self, batch: Batch) -> Faces:
        """The faces of every picture, by falling number of windows inside each.

        Raises:
            ValueError: a picture holds NaN or infinity.
        """
        grouped = self.rectangles(batch)
        boxes = [np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1) for boxes, _ in grouped]
        scores = [counts / (counts + self.minimum_neighbours) for _, counts in grouped]
        return as_faces(boxes, scores, batch.sizes, self.device, self.region, self.threshold, self.minimum_size)

    def rectangles(self, batch: Batch) -> list[tuple[np.ndarray, np.ndarray]]:
        """What OpenCV's ``detectMultiScale2`` gives for each picture.

        Returns:
            For each picture ``[n, 4]`` int64, x, y, width and height of the faces, and ``[n]`` int64, how many windows
            each was grouped from.

        Raises:
            ValueError: a picture holds NaN or infinity, or the cascade tells nothing apart: grouping takes time with
                the square of the number of windows, so there is a limit to it.
        """
        found = []
        for windows, (height, width) in zip(self.windows(batch), batch.sizes, strict=True):
            if self.minimum_neighbours and len(windows) > MOST_WINDOWS:
                raise ValueError(
                    f"the cascade lets {len(windows)} windows of one picture pass, {MOST_WINDOWS} at most are grouped: "
                    "it tells nothing apart"
                )
            boxes, counts = group_rectangles(windows, self.minimum_neighbours)
            boxes[:, 2:] = np.minimum(boxes[:, 2:], (width, height) - boxes[:, :2])
            found.append((boxes, counts))
        return found

    @torch.inference_mode()
    def windows(self, batch: Batch) -> list[np.ndarray]:
        """For each picture ``[n, 4]`` int64, the windows that pass all stages: x, y, width, height in its pixels.

        Raises:
            ValueError: a picture holds NaN or infinity.
        """
        found: list[list[np.ndarray]] = [[] for _ in batch.sizes]
        for group in batch.groups:
            height, width = group.pixels.shape[1:3]
            scales = levels(width, height, self.window, self.factor, self.smallest)
            at_once = max(1, BUFFER // (6 * height * width))
            for first in range(0, len(group.index), at_once):
                pixels = group.pixels[first : first + at_once].to(self.device)
                index = group.index[first : first + at_once]
                if pixels.dtype.is_floating_point:
                    finite = pixels.flatten(1).sum(1, dtype=torch.float32).isfinite().cpu()
                    if not bool(finite.all()):
                        raise finite_error(index[int((~finite).nonzero()[0])] + batch.first)
                images = equalise(grey(pixels)) if scales else grey(pixels)
                for chunk in _chunks(scales, len(index)):
                    for place, rectangle in zip(*self._search(images, chunk), strict=True):
                        found[index[place]].append(rectangle)
        return [np.array(own, np.int64).reshape(-1, 4) for own in found]

    def _search(self, images: Tensor, scales: list[Level]) -> tuple[list[int], np.ndarray]:
        """The windows of some scales of ``[b, H, W]`` that pass: each one's picture, and ``[n, 4]`` rectangles."""
        stride = max(rows_needed(level.width) for level in scales)
        starts = np.cumsum([0, *(rows_needed(level.height) for level in scales)])
        rows = int(starts[-1])
        tables = self.features.tables(len(images), rows, stride)
        # Places are numbers up to the buffer's length; the short ones are faster to gather with.
        kind = torch.int32 if len(images) * rows * stride < 1 << 31 else torch.int64
        waiting: list[list[Tensor]] = [[] for _ in range(len(self.stages) + 1)]
        for level, start in zip(scales, starts.tolist(), strict=False):
            if min(level.rows, level.columns) <= 0:
                continue
            self.features.fill(tables, start, level, resize_exact_transposed(images, level.width, level.height))
            counts = (math.ceil(level.rows / level.step), math.ceil(level.columns / level.step))
            alive, done = self._first_stages(tables, start, level, counts)
            image, y, x = alive.nonzero(as_tuple=True)
            waiting[done].append((((image * rows + start + y * level.step) * stride) + x * level.step).to(kind))
        places = torch.zeros(0, dtype=kind, device=self.device)
        for stage, arrived in zip(self.stages, waiting, strict=False):
            places = torch.cat((places, *arrived))
            places = places[self._judge(tables, places, stage)]
        last = torch.cat((places, *waiting[-1])).sort().values.cpu().numpy().astype(np.int64)
        pictures, inside = np.divmod(last, rows * stride)
        row, column = np.divmod(inside, stride)
        which = np.searchsorted(starts, row, side="right") - 1
        scale = np.array([level.scale for level in scales], np.float32)[which]
        corner = [np.rint(v.astype(np.float32) * scale) for v in (column, row - starts[which])]
        sides = [np.rint(np.float32(side) * scale) for side in self.window]
        return pictures.tolist(), np.stack((*corner, *sides), 1).astype(np.int64)

    def _first_stages(self, tables: Tensor, start: int, level: Level, counts: tuple[int, int]) -> tuple[Tensor, int]:
        """Put all windows of a level to the first stage, and to more of them while most are alive.

        Returns:
            ``[b, *counts]`` bool, which windows are alive, and how many stages they have passed.
        """
        if not isinstance(self.features, Patterns) or not self.short:
            return self._first_stage(tables, start, level, counts), 1
        plane = self.features.plane(tables, start, level, self.window)
        alive = torch.ones(tables.shape[1], *counts, dtype=torch.bool, device=self.device)
        done = 0
        for stage, short in zip(self.stages, self.short, strict=False):
            answers = torch.zeros(plane.count, dtype=torch.int16, device=self.device)
            for bits, feature in zip(short.bits, stage.used, strict=True):
                answers += bits.index_select(0, plane.pattern(self.features.blocks[feature]).int())
            passed = plane.windows(short.passes.index_select(0, answers.int()))[:, : counts[0], : counts[1]]
            alive &= passed
            if not done:
                alive &= visited(passed)
            done += 1
            # Elsewhere than on a CPU the host would wait for the answer.
            if self.device.type != "cpu" or float(alive.float().mean()) < SHIFT_ABOVE:
                break
        return alive, done

    def _first_stage(self, tables: Tensor, start: int, level: Level, counts: tuple[int, int]) -> Tensor:
        """``[b, *counts]`` bool: which windows of a level are alive after the first stage, picked one by one."""
        y, x = (level.step * torch.arange(count, device=self.device) for count in counts)
        image = torch.arange(tables.shape[1], device=self.device)[:, None, None] * tables.shape[2]
        places = ((image + start + y[:, None]) * tables.shape[3] + x).reshape(-1)
        passed = self._judge(tables, places, self.stages[0]).reshape(-1, *counts)
        if isinstance(self.features, Patterns):
            return passed & visited(passed)
        # A window without contrast is not judged, so it has not failed: the one after it is looked at.
        fit = self.features.fit(tables, places).reshape(-1, *counts)
        return passed & fit & visited(passed | ~fit)

    def _judge(self, tables: Tensor, places: Tensor, stage: Votes) -> Tensor:
        """``[n]`` bool: which of the windows at ``places`` pass a stage."""
        budget = GATHERED if self.device.type == "cpu" else 64 * GATHERED
        at_once = max(1, budget // (self.features.gathers * len(stage.features)))
        passed = [torch.zeros(0, dtype=torch.bool, device=self.device)]
        for part in places.split(at_once):
            passed.append(stage.passed(self.features.values(tables, part, stage.features)))
        return torch.cat(passed)


def _chunks(scales: list[Level], pictures: int) -> Iterator[list[Level]]:
    """Runs of scales whose tables fit into the buffer together; one scale at least."""
    chunk: list[Level] = []
    size = 0
    for level in scales:
        rows = rows_needed(level.height)
        if chunk and pictures * (size + rows) * rows_needed(chunk[0].width) > BUFFER:
            yield chunk
            chunk, size = [], 0
        chunk.append(level)
        size += rows
    if chunk:
        yield chunk
