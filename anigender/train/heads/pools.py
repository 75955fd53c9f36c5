"""What the verifier learns from: heads, and what the first net proposes that is none, a pool for each source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...boxes import clip, pairwise_iou
from ...datasets.illustrations import mistaken, read_judged
from ...datasets.labelled import label_heads, list_negatives, plausible, read_pictures
from ...datasets.picture import FIGURES, read_rgba
from ...detect import load_detector
from ...detect.head_detector import HeadDetector
from ..checkpoints import save_checkpoint
from ..crops.augment import CACHE_MARGIN, CACHE_SIZE
from ..crops.crops import cut, extent_of, labelled_crops, unlabelled_crops
from ..crops.store import Pixels, SomeRows
from .patterns import patterns
from .relabel import detections

PROPOSAL_THRESHOLD = 0.06
MOST = 4  # proposals that a cut-out gives away from its head, and a patch


@dataclass
class Cut:
    """Cached crops ``pixels [N, 4, K, K]``, and where their pictures lie in them, ``extents [N, 4]``."""

    pixels: Pixels
    extents: np.ndarray


@dataclass
class Pool:
    """Crops that make up ``share`` of their side of a batch; ``chance [N]`` says how often each, alike where None."""

    crops: Cut
    share: float
    chance: np.ndarray | None = None


class Gathered:
    """Crops of boxes in one picture after another."""

    def __init__(self) -> None:
        self._pixels: list[Tensor] = [torch.zeros(0, 4, CACHE_SIZE, CACHE_SIZE, dtype=torch.uint8)]
        self._extents: list[list[float]] = []

    def add(self, pixels: np.ndarray, boxes: np.ndarray | Tensor) -> None:
        """The crops around ``boxes [n, 4]`` of a picture ``[h, w, 4]``."""
        squares = np.asarray(boxes, np.float32).reshape(-1, 4)
        self._pixels.append(cut(pixels, squares))
        self._extents += [extent_of(square, CACHE_MARGIN, pixels.shape[1], pixels.shape[0]) for square in squares]

    def all(self) -> dict[str, Tensor]:
        """As a checkpoint keeps them."""
        return {"pixels": torch.cat(self._pixels), "extents": torch.tensor(self._extents).reshape(-1, 4)}


def _windows(width: int, height: int, count: int, rng: np.random.Generator) -> Tensor:
    """Random squares ``[count, 4]`` of a picture, which may reach beyond it."""
    sides = np.exp(rng.uniform(np.log(20), np.log(max(height, width) * 1.1), count))
    corners = np.stack((rng.uniform(-0.3, 0.7, count), rng.uniform(-0.3, 0.7, count)), 1)
    corners = corners * np.array([width, height]) * 0.9
    return torch.from_numpy(np.concatenate((corners, corners + sides[:, None]), 1)).float()


def from_negatives(
    data: Path, detector: HeadDetector, rng: np.random.Generator, windows: int = 3
) -> dict[str, dict[str, Tensor]]:
    """Proposals in head-free patches, and random windows of them."""
    files = list_negatives(data, "train")
    proposed, random = Gathered(), Gathered()
    for file, faces in zip(files, detections(detector, data, files), strict=True):
        pixels = read_rgba(data / file)
        proposed.add(pixels, faces.boxes[:MOST])
        random.add(pixels, _windows(pixels.shape[1], pixels.shape[0], windows, rng))
    return {"empty": proposed.all(), "empty windows": random.all()}


def from_illustrations(
    data: Path, detector: HeadDetector, rng: np.random.Generator, windows: int = 8
) -> dict[str, dict[str, Tensor]]:
    """The heads of the illustrations that are learned from, the proposals that meet them, and whatever is no head."""
    pictures = [picture for picture in read_judged(data) if picture.split == "train"]
    known, met, mistakes, random = Gathered(), Gathered(), Gathered(), Gathered()
    for picture, faces in zip(pictures, detections(detector, data, [p.file for p in pictures]), strict=True):
        pixels = read_rgba(data / picture.file)
        height, width = pixels.shape[:2]
        known.add(pixels, picture.heads)
        heads = clip(torch.from_numpy(picture.heads), width, height)
        met.add(pixels, faces.boxes[(pairwise_iou(clip(faces.boxes, width, height), heads) > 0.6).any(1)])
        mistakes.add(pixels, faces.boxes[mistaken(faces.boxes, picture)])
        squares = _windows(width, height, windows, rng)
        random.add(pixels, squares[mistaken(squares, picture)])
    return {"known": known.all(), "met": met.all(), "mistakes": mistakes.all(), "illustrations": random.all()}


def from_bodies(data: Path, detector: HeadDetector, rng: np.random.Generator) -> dict[str, dict[str, Tensor]]:
    """Proposals away from the head of cut-out figures, and random windows of their bodies."""
    pictures = [p for p in read_pictures(data) if p.split == "train"]
    label_heads(pictures, data)
    pictures = [p for p in pictures if p.alpha and p.kind in FIGURES]
    proposed, random = Gathered(), Gathered()
    for picture, faces in zip(pictures, detections(detector, data, [p.file for p in pictures]), strict=True):
        boxes = faces.boxes
        if len(boxes) and plausible(picture, boxes[0].numpy()):
            head = boxes[0]
        elif len(picture.heads):
            head = torch.from_numpy(picture.heads[0])
        else:
            continue
        pixels = read_rgba(data / picture.file)
        side, middle = float(head[2] - head[0]), (head[:2] + head[2:]) / 2
        far = ((boxes[:, :2] + boxes[:, 2:]) / 2 - middle).abs().amax(1) > 0.5 * side
        far &= pairwise_iou(boxes, head[None])[:, 0] < 0.25
        proposed.add(pixels, boxes[far][:MOST])
        for _ in range(12):
            size = side * float(np.exp(rng.uniform(np.log(0.35), np.log(1.9))))
            x, y = rng.uniform(0, picture.width - size * 0.5), rng.uniform(0, picture.height - size * 0.5)
            apart = max(abs(x + size / 2 - float(middle[0])), abs(y + size / 2 - float(middle[1])))
            solid = pixels[int(y) : int(y + size), int(x) : int(x + size), 3]
            if apart > 0.5 * max(size, side) and solid.size and (solid > 127).mean() > 0.3:
                random.add(pixels, np.array([x, y, x + size, y + size]))
                break
    return {"bodies": proposed.all(), "body windows": random.all()}


def gather(data: Path, file: str, folder: Path, seed: int, device: str) -> tuple[list[Pool], list[Pool]]:
    """What is learned from: heads, and what are none.

    Args:
        data: the data directory.
        file: the detector that proposes: ``auto`` or a weights file.
        folder: where proposals and crops are kept from run to run.
        seed: of what is drawn.
        device: where the detector computes.

    Raises:
        ValueError: the file is no head detector's.
    """
    detector = load_detector(file, device)
    if not isinstance(detector, HeadDetector):
        raise ValueError(f"{file} is not a head detector of this program")
    detector.threshold, detector.verifier = PROPOSAL_THRESHOLD, None
    rng = np.random.default_rng(seed)
    cache = folder / "proposals.cache.pt"
    if cache.is_file():
        stored = torch.load(cache, weights_only=True)
    else:
        stored = from_illustrations(data, detector, rng)
        stored |= from_negatives(data, detector, rng)
        stored |= from_bodies(data, detector, rng)
        save_checkpoint(cache, stored)
    proposals = {name: Cut(own["pixels"], own["extents"].numpy()) for name, own in stored.items()}
    characters, _ = labelled_crops(data, file, folder)
    assert characters.extents is not None
    stills = np.array([picture.kind == "screencap" for picture in characters.pictures])
    women = (characters.labels == 0).numpy()

    def some(chosen: np.ndarray) -> Cut:
        rows = np.flatnonzero(chosen)
        return Cut(SomeRows(characters.pixels, rows), characters.extents[rows])  # type: ignore[index]

    drawn = patterns(3000, rng)
    # Men and television stills are the fewest and the most often missed.
    heads = [
        Pool(some(women & ~stills), 0.2),
        Pool(some(~women & ~stills), 0.25),
        Pool(some(stills), 0.2),
        Pool(Cut(*unlabelled_crops(data, folder)[:2]), 0.1),
        Pool(proposals["known"], 0.12),
        Pool(proposals["met"], 0.13),
    ]
    others = [
        Pool(proposals["mistakes"], 0.2),
        Pool(proposals["illustrations"], 0.08),
        Pool(proposals["empty"], 0.25),
        Pool(proposals["empty windows"], 0.1),
        Pool(proposals["bodies"], 0.2),
        Pool(proposals["body windows"], 0.09),
        Pool(Cut(drawn, np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(drawn), 1))), 0.08),
    ]
    return heads, others


def draw(pools: list[Pool], count: int, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """``count`` cached crops and their extents, each pool's share of them."""
    pools = [pool for pool in pools if len(pool.crops.pixels)]
    share = np.array([pool.share for pool in pools])
    counts = rng.multinomial(count, share / share.sum())
    rows = [rng.choice(len(pool.crops.pixels), n, p=pool.chance) for pool, n in zip(pools, counts, strict=True)]
    pixels = [pool.crops.pixels[own] for pool, own in zip(pools, rows, strict=True)]
    return torch.cat(pixels), np.concatenate([p.crops.extents[own] for p, own in zip(pools, rows, strict=True)])
