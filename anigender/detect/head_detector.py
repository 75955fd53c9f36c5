"""Finding heads in a batch with :class:`~anigender.detect.headnet.HeadNet`: scaling, buckets, decoding, suppression."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..boxes import suppress
from ..faces import Faces
from ..images import Batch, finite_error, resize, unit_range
from .headnet import STRIDES, HeadNet

CANDIDATES = 256  # boxes per picture that go into suppression
LONGEST = 4096  # pixels of the longer side, whatever the area allows: bounds the padding of very thin pictures
STEP = STRIDES[-1]  # canvas sides are multiples of the coarsest stride


def working_size(height: int, width: int, area: int) -> tuple[int, int]:
    """The size at which a picture is searched: its own, or shrunk to ``area`` pixels; never enlarged.

    >>> working_size(1024, 1024, 640 * 640), working_size(300, 200, 640 * 640)
    ((640, 640), (300, 200))
    """
    scale = min(1.0, math.sqrt(area / (height * width)), LONGEST / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


class HeadDetector:
    """Heads of a whole batch, in one forward per canvas size.

    A picture's canvas follows from its own size alone, so that its result depends neither on its neighbours nor on
    whether it comes in a batch.

    Args:
        net: a trained net.
        metadata: what the weights file says of its preprocessing.
        threshold: lowest score reported; the file's own where None.
        area: pixels at which pictures are searched; more finds smaller heads and takes longer.
        minimum_size: shortest side of a reported box, in pixels of the original picture.
    """

    def __init__(
        self,
        net: HeadNet,
        metadata: Mapping[str, str],
        threshold: float | None = None,
        area: int | None = None,
        minimum_size: float = 0.0,
    ) -> None:
        self.net = net.eval()
        self.threshold = float(metadata["anigender.threshold"]) if threshold is None else threshold
        self.iou_threshold = float(metadata["anigender.iou_threshold"])
        self.area = int(metadata["anigender.area"]) if area is None else area
        self.minimum_size = minimum_size
        self.mean = [float(v) for v in metadata["anigender.mean"].split(",")]
        self.std = [float(v) for v in metadata["anigender.std"].split(",")]

    @property
    def device(self) -> torch.device:
        """Where the net computes."""
        return next(self.net.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision the net computes in."""
        return next(self.net.parameters()).dtype

    @torch.inference_mode()
    def detect(self, batch: Batch) -> Faces:
        """The heads of every picture, by falling score inside each, on the net's device.

        The host waits for the device once, to learn how many there are.

        Raises:
            ValueError: a picture holds NaN or infinity.
        """
        device = self.device
        if not len(batch):
            return Faces.empty(torch.zeros(0, 2, dtype=torch.int64, device=device))
        buckets: dict[tuple[int, int], list[tuple[Tensor, list[int], tuple[int, int]]]] = {}
        for group in batch.groups:
            height, width = working_size(*group.pixels.shape[1:3], self.area)
            small = resize(group.pixels, height, width).to(device, non_blocking=True)
            canvas = (math.ceil(height / STEP) * STEP, math.ceil(width / STEP) * STEP)
            buckets.setdefault(canvas, []).append((small, group.index, (height, width)))
        order: list[int] = []
        boxes, scores, finite = [], [], []
        for canvas, members in buckets.items():
            found, marks, whole = self._forward(canvas, [(small, size) for small, _, size in members])
            sizes = [batch.sizes[i] for _, index, _ in members for i in index]
            works = [size for _, index, size in members for _ in index]
            scale = torch.tensor(
                [[w / ww, h / hh] for (h, w), (hh, ww) in zip(sizes, works, strict=True)], device=device
            )
            limits = torch.tensor([[w, h] for h, w in sizes], device=device, dtype=torch.float32)
            found = found * scale.repeat(1, 2)[:, None]
            found = torch.minimum(found.clamp(min=0), limits.repeat(1, 2)[:, None])
            boxes.append(found)
            scores.append(marks)
            finite.append(whole)
            order += [i for _, index, _ in members for i in index]
        rows = torch.tensor(order, device=device).argsort()
        all_boxes, all_scores = torch.cat(boxes)[rows], torch.cat(scores)[rows]
        sides = (all_boxes[..., 2:] - all_boxes[..., :2]).amin(-1)
        keep = (all_scores >= self.threshold) & (sides >= max(self.minimum_size, 1.0))
        # The one wait: the finite flags ride along as one more column.
        flags = torch.cat((keep, torch.cat(finite)[rows, None]), 1).cpu()
        if not bool(flags[:, -1].all()):
            raise finite_error(int((~flags[:, -1]).nonzero()[0]) + batch.first)
        image, candidate = (axis.to(device) for axis in flags[:, :-1].nonzero(as_tuple=True))
        return Faces(
            all_boxes[image, candidate],
            all_scores[image, candidate],
            image,
            torch.tensor(batch.sizes, dtype=torch.int64, device=device),
        )

    def _forward(
        self, canvas: tuple[int, int], members: list[tuple[Tensor, tuple[int, int]]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All pictures of one canvas size through the net.

        Returns:
            ``boxes [b, K, 4]`` in working pixels and ``scores [b, K]`` by falling score, 0 for suppressed ones, and
            ``finite [b]``.
        """
        mean = torch.tensor(self.mean, device=self.device)[:, None, None]
        std = torch.tensor(self.std, device=self.device)[:, None, None]
        padded, finite = [], []
        for small, (height, width) in members:
            if small.dtype.is_floating_point:
                finite.append(small.flatten(1).sum(1).isfinite())
            else:
                finite.append(torch.ones(len(small), dtype=torch.bool, device=small.device))
            x = (unit_range(small) - mean) / std
            padded.append(F.pad(x, (0, canvas[1] - width, 0, canvas[0] - height)))
        x = torch.cat(padded).to(self.dtype).contiguous(memory_format=torch.channels_last)
        raw = self.net(x)
        logits, best = raw.logits.topk(min(CANDIDATES, raw.logits.shape[1]), 1)
        squares = raw.squares.gather(1, best[..., None].expand(-1, -1, 3))
        half = squares[..., 2:] / 2
        boxes = torch.cat((squares[..., :2] - half, squares[..., :2] + half), -1)
        limits = torch.tensor([[w, h, w, h] for small, (h, w) in members for _ in range(len(small))], device=x.device)
        boxes = torch.minimum(boxes.clamp(min=0), limits[:, None].to(boxes.dtype))
        scores = logits.float().sigmoid()
        keep = suppress(boxes, scores >= self.threshold, self.iou_threshold)
        scores = torch.where(keep, scores, 0.0)
        if scores.shape[1] < CANDIDATES:  # tiny canvases have fewer cells than candidates
            scores = F.pad(scores, (0, CANDIDATES - scores.shape[1]))
            boxes = F.pad(boxes, (0, 0, 0, CANDIDATES - boxes.shape[1]))
        return boxes, scores, torch.cat(finite)
