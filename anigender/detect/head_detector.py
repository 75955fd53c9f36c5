"""Finding heads in a batch with :class:`~anigender.detect.headnet.HeadNet`: scaling, buckets, decoding, suppression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..boxes import suppress
from ..faces import Faces
from ..images import Batch, resize
from ..padded import PaddedFaces, Room, first_rows, read
from ..quantised import QuantisedConv2d
from ..transfer import moved, on_device
from .headnet import STRIDES, HeadNet
from .verifier import Verifier

CANDIDATES = (256, 64)  # boxes per picture that go into suppression, from the full and from the shrunk picture
SHRINK = 4  # the second look is at a quarter of the size
SECOND_LOOK = 64  # pixels of the longer side above which a head may be too large for the first look
LARGEST_IN_FULL = 128.0  # working pixels: what the first look calls larger than that is the second's business
SMALLEST_IN_SHRUNK = 22.0
USUAL_SIZE = (0.5, 2.0)  # of a head, over the side of the surest head in the picture
UNUSUAL_DISCOUNT = 0.2  # taken off the score of any other
LONGEST = 4096  # pixels of the longer side, whatever the area allows: bounds the padding of very thin pictures
CONCENTRIC = 0.25  # of the larger side: two boxes whose centres are nearer are one head
LEAST_DOUBT = 1e-6  # so that a score of 1 has log-odds
PROPOSALS = 96  # of a picture that get a second opinion, by score
NO_BOX = -1.0  # the score of an unused place: below any threshold, 0 among them
STEP = STRIDES[-1]  # canvas sides are multiples of the coarsest stride


def working_size(height: int, width: int, area: int) -> tuple[int, int]:
    """The size at which a picture is searched: its own, or shrunk to ``area`` pixels; never enlarged.

    >>> working_size(1024, 1024, 640 * 640), working_size(300, 200, 640 * 640)
    ((640, 640), (300, 200))
    """
    scale = min(1.0, math.sqrt(area / (height * width)), LONGEST / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _discounted(scores: Tensor, boxes: Tensor) -> Tensor:
    """Lower the scores ``[B, K]`` of boxes whose size does not go with the picture's surest one.

    Heads in one picture are mostly of like size; what is taken for a head beside a sure one is mostly an emblem or a
    torso. Measured on pictures of one character: a third fewer boxes, with as many pictures found.
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).amax(-1)
    surest = sides.gather(1, scores.argmax(1, keepdim=True))
    unusual = (sides < surest * USUAL_SIZE[0]) | (sides > surest * USUAL_SIZE[1])
    return torch.where(unusual & (scores > 0), (scores - UNUSUAL_DISCOUNT).clamp(min=1e-6), scores)


def _beside_a_surer(scores: Tensor, image_index: Tensor, images: int, discount: float) -> Tensor:
    """Lower the scores ``[N]`` of all but each picture's surest head by ``discount`` in log-odds.

    That a picture of anime characters shows one head is likely, that it shows another is less so: what looks as much
    like a head as like a fist is the one where there is nothing else, and the other beside a face.
    """
    best = torch.full((images,), NO_BOX, device=scores.device).scatter_reduce(0, image_index, scores, "amax")
    lowered = (scores.clamp(min=0).logit(LEAST_DOUBT) - discount).sigmoid()
    return torch.where((scores >= 0) & (scores < best[image_index]), lowered, scores)


def _by_score(scores: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Scores ``[B, K]`` and boxes ``[B, K, 4]``, each row by falling score."""
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores, boxes.gather(1, order[..., None].expand(-1, -1, 4))


def _filled(image_index: Tensor, number: Tensor, images: int) -> Tensor:
    """``[N]`` of which only the first ``number`` are meant; the others become the last picture's: it stays sorted."""
    return torch.where(torch.arange(len(image_index), device=image_index.device) < number, image_index, images - 1)


class _Look(NamedTuple):
    """Pictures of one canvas size: those resized to ``size``, and their places in the batch."""

    pixels: Tensor
    places: list[int]
    size: tuple[int, int]


def _in_whole_numbers(canvas: tuple[int, int], members: list[_Look], empty: int) -> Tensor:
    """The pictures ``[B, 3, H, W]`` as uint8, padded into one canvas size with the value ``empty``."""
    shape = (sum(len(look.places) for look in members), 3, *canvas)
    padded = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    if any(look.size != canvas for look in members):
        padded.fill_(empty)
    first = 0
    for look in members:
        pixels = look.pixels
        if pixels.dtype.is_floating_point:
            pixels = pixels.float().clamp(0, 1).mul_(255).round_()
        padded[first : first + len(look.places), :, : look.size[0], : look.size[1]].copy_(pixels)
        first += len(look.places)
    return padded


class HeadDetector:
    """Heads of a whole batch.

    Every picture is looked at twice, at its working size and (unless it is small) at a quarter of that, for 1/16 of
    the cost more: the net sees heads of any size at the sizes it is good at. Pictures that share a canvas size go
    through the net together. A picture's canvases follow from its own size alone, so that its result depends neither
    on its neighbours nor on whether it comes in a batch.

    Args:
        net: a trained net.
        metadata: what the weights file says of its preprocessing.
        verifier: gives a second opinion on what scores ``proposal_threshold`` of the metadata; left out, the net's
            own scores count.
        threshold: lowest score reported; the file's own where None.
        area: pixels at which pictures are searched; more finds smaller heads and takes longer.
        minimum_size: shortest side of a reported box, in pixels of the original picture.
    """

    region = "head"

    def __init__(
        self,
        net: HeadNet,
        metadata: Mapping[str, str],
        verifier: Verifier | None = None,
        threshold: float | None = None,
        area: int | None = None,
        minimum_size: float = 0.0,
    ) -> None:
        self.net = net.eval()
        self.verifier = verifier
        self.proposal_threshold = float(metadata.get("anigender.proposal_threshold", "0"))
        self.threshold = float(metadata["anigender.threshold"]) if threshold is None else threshold
        self.others_discount = float(metadata.get("anigender.others_discount", "0"))
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

        A score is the net's, less 0.2 for a head of another size than the surest one's (:func:`_discounted`), joined
        with the verifier's, and less what the file says where a surer head is in the picture
        (:func:`_beside_a_surer`). The host waits for the device to learn how many proposals there are, and again where
        the verifier has a say; :meth:`detect_padded` does without.

        Raises:
            ValueError: a picture holds NaN or infinity.
        """
        if not len(batch):
            return Faces.empty(torch.zeros(0, 2, dtype=torch.int64, device=self.device))
        (found,) = read([self.detect_padded(batch, Room())])
        assert isinstance(found, Faces), "there is room for all"
        return found

    @torch.inference_mode()
    def detect_padded(self, batch: Batch, room: Room) -> PaddedFaces:
        """The same, without the host's waiting for anything where ``room`` is limited. The batch is not empty."""
        scores, boxes, finite = self._candidates(batch)
        lowest = self.threshold if self.verifier is None else self.proposal_threshold
        valid = scores >= lowest
        if valid.is_cpu:  # where asking costs nothing: rows are sorted, what is behind the last proposal says nothing
            most = max(1, int(valid.sum(1).max()))
            scores, boxes, valid = scores[:, :most], boxes[:, :most], valid[:, :most]
        keep = suppress(boxes, valid, self.iou_threshold)
        if self.verifier is not None:
            keep &= keep.cumsum(1) <= PROPOSALS
        keep &= (boxes[..., 2:] - boxes[..., :2]).amin(-1) >= max(self.minimum_size, 1.0)
        count, places = keep.shape
        rows = first_rows(keep.flatten(), room.faces if self.verifier is None else room.proposals)
        proposals = faces = keep.sum()
        boxes, scores, image = boxes.flatten(0, 1)[rows], scores.flatten()[rows], _filled(rows // places, faces, count)
        if self.verifier is not None:
            scores = self.verifier.scores(batch, boxes, scores, image)
            scores = torch.where(torch.arange(len(rows), device=scores.device) < proposals, scores, NO_BOX)
            if self.others_discount:
                scores = _beside_a_surer(scores, image, count, self.others_discount)
            order = scores.argsort(descending=True, stable=True)
            order = order[image[order].argsort(stable=True)]
            boxes, scores, image = boxes[order], scores[order], image[order]
            valid = scores >= max(self.threshold, 0.0)
            kept = suppress(boxes[None], valid[None], self.iou_threshold, 16, CONCENTRIC, image[None])[0]
            faces = kept.sum()
            rows = first_rows(kept, room.faces)
            boxes, scores, image = boxes[rows], scores[rows], _filled(image[rows], faces, count)
        return PaddedFaces(
            boxes, scores, image, torch.stack((proposals, faces)), finite, batch.sizes, room, batch.first
        )

    def _candidates(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Scores ``[B, K]`` and boxes ``[B, K, 4]`` of both looks, by falling score; ``[B]`` without NaN."""
        device = self.device
        count, total = len(batch), sum(CANDIDATES)
        full: list[_Look] = []
        shrunk: list[_Look] = []
        for group in batch.groups:
            height, width = working_size(group.pixels.shape[1], group.pixels.shape[2], self.area)
            small = resize(group.pixels, height, width)
            full.append(_Look(moved(small, device), group.index, (height, width)))
            if max(height, width) > SECOND_LOOK:
                size = (max(1, round(height / SHRINK)), max(1, round(width / SHRINK)))
                tiny = resize(small.permute(0, 2, 3, 1), *size)
                shrunk.append(_Look(moved(tiny, device), group.index, size))
        boxes = torch.zeros(count, total, 4, device=device)
        scores = torch.full((count, total), NO_BOX, device=device)
        finite = torch.ones(count, dtype=torch.bool, device=device)
        self._look(full, batch.sizes, slice(0, CANDIDATES[0]), (0.0, LARGEST_IN_FULL), boxes, scores, finite)
        self._look(shrunk, batch.sizes, slice(CANDIDATES[0], total), (SMALLEST_IN_SHRUNK, 1e9), boxes, scores, finite)
        scores, boxes = _by_score(_discounted(scores, boxes), boxes)
        return scores, boxes, finite

    def _look(
        self,
        looks: list[_Look],
        sizes: list[tuple[int, int]],
        columns: slice,
        sides: tuple[float, float],
        boxes: Tensor,
        scores: Tensor,
        finite: Tensor,
    ) -> None:
        """Run the net over pictures at one scale and write the best candidates into ``columns`` of the results.

        Candidates whose side in net pixels is outside ``sides`` get the score :data:`NO_BOX`.
        """
        canvases: dict[tuple[int, int], list[_Look]] = {}
        for look in looks:
            canvas = (math.ceil(look.size[0] / STEP) * STEP, math.ceil(look.size[1] / STEP) * STEP)
            canvases.setdefault(canvas, []).append(look)
        for canvas, members in canvases.items():
            index = on_device([i for look in members for i in look.places], boxes.device)
            raw = self.net(self._input(canvas, members, finite))
            logits, best = raw.logits.topk(min(columns.stop - columns.start, raw.logits.shape[1]), 1)
            squares = raw.squares.gather(1, best[..., None].expand(-1, -1, 3))
            half = squares[..., 2:] / 2
            found = torch.cat((squares[..., :2] - half, squares[..., :2] + half), -1)
            works = [look.size for look in members for _ in look.places]
            wholes = [sizes[i] for look in members for i in look.places]
            scale = on_device(
                [[w / ww, h / hh] * 2 for (h, w), (hh, ww) in zip(wholes, works, strict=True)], boxes.device
            )
            limits = on_device([[w, h] * 2 for h, w in wholes], boxes.device, torch.float32)
            found = torch.minimum((found * scale[:, None]).clamp(min=0), limits[:, None])
            inside = (squares[..., 2] >= sides[0]) & (squares[..., 2] < sides[1])
            place = slice(columns.start, columns.start + logits.shape[1])
            boxes[index, place] = found.nan_to_num(0.0)  # of a picture with NaN, which is refused when all are read
            scores[index, place] = torch.where(inside, logits.sigmoid(), NO_BOX)

    def _input(self, canvas: tuple[int, int], members: list[_Look], finite: Tensor) -> Tensor:
        """The pictures padded into one canvas size; notes in ``finite [B]`` which hold no NaN.

        Normalised, or as they are where the net counts in the very steps of eight-bit pictures.
        """
        for look in members:
            if look.pixels.dtype.is_floating_point:
                rows = on_device(look.places, finite.device)
                finite[rows] &= look.pixels.flatten(1).sum(1, dtype=torch.float32).isfinite()
        entry = self.net.get_submodule("stem.0.0")
        if isinstance(entry, QuantisedConv2d) and entry.weight.is_cpu and entry.reads_pictures(self.mean, self.std):
            return _in_whole_numbers(canvas, members, entry.own.zero)
        mean = on_device(self.mean, self.device)[:, None, None]
        std = on_device(self.std, self.device)[:, None, None]
        shape = (sum(len(look.places) for look in members), 3, *canvas)
        padded = torch.empty(shape, device=self.device, memory_format=torch.channels_last)
        if any(look.size != canvas for look in members):
            padded.zero_()
        first = 0
        for look in members:
            own = padded[first : first + len(look.places), :, : look.size[0], : look.size[1]]
            own.copy_(look.pixels)  # converted where it is needed: memory is what this waits for
            scale = 255.0 if look.pixels.dtype == torch.uint8 else 1.0
            if look.pixels.dtype.is_floating_point:
                own.clamp_(0, 1)
            own.sub_(mean * scale).div_(std * scale)
            first += len(look.places)
        return padded.to(self.dtype)
