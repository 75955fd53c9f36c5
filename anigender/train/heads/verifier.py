"""Training the detector's second opinion: crops of heads against crops of whatever else it proposes.

What the first net proposes wrongly is the best thing to learn from: in patches without a head, on bodies, and in
illustrations of which all heads are known. Windows of all three and drawn patterns (grids, stripes, lettering, rings)
stand for the pictures that nobody here has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from ...boxes import clip, pairwise_iou
from ...datasets.illustrations import mistaken, read_judged
from ...datasets.labelled import label_heads, list_negatives, plausible, read_pictures
from ...detect import load_detector
from ...detect.head_detector import HeadDetector
from ...detect.verifier import PREFIX, VerifierNet
from ...inference import mixed_precision, placed
from ...quantised import RANGES
from ...weights import ASSETS, read_weights, save_weights
from ..checkpoints import Average, Log, cosine, half_precision, parameter_groups, save_checkpoint
from ..crops.augment import CACHE_MARGIN, CACHE_SIZE, augment, plain, tight_squares, vary_surroundings
from ..crops.crops import cut, extent_of, labelled_crops, unlabelled_crops
from ..crops.store import FlatOutside, Pixels, SomeRows
from ..gender.file import normalise
from ..gender.learning import single_threaded
from .patterns import patterns
from .relabel import detections

SIZE = 64
MARGIN = 1.5  # a head sits on shoulders, a fist on an arm: what is around it tells as much as what it shows
WIDER = 1.08  # the middle of the framings that views are made with, over the one asked for
OUTSIDE = "mean"
ALONE, TIGHT = 0.2, 0.1  # of the views: as if the picture ended around the head, or within it
PROPOSAL_THRESHOLD = 0.06
THRESHOLD = 0.4
OTHERS_DISCOUNT = 1.5  # log-odds that all heads of a picture lose but its surest
BATCH = 128
STRENGTH = 0.6  # of the views: milder than for gender, which has to see through more
WIDTHS = (24, 48, 72, 112)
SMOOTH = 0.01
ROUND = 400  # steps, after which what is taken for a head comes up more often
EASY = 0.1  # how often what is surely none is drawn, over what is surely taken for one
AT_ONCE = 256  # crops
MOST = 4  # proposals that a cut-out gives away from its head, and a patch


@dataclass
class Options:
    """What a run needs; the defaults made the embedded file."""

    data: Path
    output: Path
    detector: str = "auto"
    steps: int = 3000
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "cpu"


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


class _Gathered:
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


def _rgba(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA"))


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
    proposed, random = _Gathered(), _Gathered()
    for file, faces in zip(files, detections(detector, data, files), strict=True):
        pixels = _rgba(data / file)
        proposed.add(pixels, faces.boxes[:MOST])
        random.add(pixels, _windows(pixels.shape[1], pixels.shape[0], windows, rng))
    return {"empty": proposed.all(), "empty windows": random.all()}


def from_illustrations(
    data: Path, detector: HeadDetector, rng: np.random.Generator, windows: int = 8
) -> dict[str, dict[str, Tensor]]:
    """The heads of the illustrations that are learned from, the proposals that meet them, and whatever is no head."""
    pictures = [picture for picture in read_judged(data) if picture.split == "train"]
    known, met, mistakes, random = _Gathered(), _Gathered(), _Gathered(), _Gathered()
    for picture, faces in zip(pictures, detections(detector, data, [p.file for p in pictures]), strict=True):
        pixels = _rgba(data / picture.file)
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
    pictures = [p for p in pictures if p.alpha and p.kind in ("bust", "half_body", "full_body")]
    proposed, random = _Gathered(), _Gathered()
    for picture, faces in zip(pictures, detections(detector, data, [p.file for p in pictures]), strict=True):
        boxes = faces.boxes
        if len(boxes) and plausible(picture, boxes[0].numpy()):
            head = boxes[0]
        elif len(picture.heads):
            head = torch.from_numpy(picture.heads[0])
        else:
            continue
        pixels = _rgba(data / picture.file)
        side, middle = float(head[2] - head[0]), (head[:2] + head[2:]) / 2
        far = ((boxes[:, :2] + boxes[:, 2:]) / 2 - middle).abs().amax(1) > 0.5 * side
        far &= pairwise_iou(boxes, head[None])[:, 0] < 0.25
        proposed.add(pixels, boxes[far][:MOST])
        windows = []
        for _ in range(12):
            size = side * float(np.exp(rng.uniform(np.log(0.35), np.log(1.9))))
            x, y = rng.uniform(0, picture.width - size * 0.5), rng.uniform(0, picture.height - size * 0.5)
            apart = max(abs(x + size / 2 - float(middle[0])), abs(y + size / 2 - float(middle[1])))
            solid = pixels[int(y) : int(y + size), int(x) : int(x + size), 3]
            if apart > 0.5 * max(size, side) and solid.size and (solid > 127).mean() > 0.3:
                windows.append([x, y, x + size, y + size])
        random.add(pixels, np.array(windows[:1]))
    return {"bodies": proposed.all(), "body windows": random.all()}


def gather(options: Options) -> tuple[list[Pool], list[Pool]]:
    """What is learned from: heads, and what are none."""
    detector = load_detector(options.detector, options.device)
    if not isinstance(detector, HeadDetector):
        raise ValueError(f"{options.detector} is not a head detector of this program")
    detector.threshold, detector.verifier = PROPOSAL_THRESHOLD, None
    rng = np.random.default_rng(options.seed)
    folder = options.output.parent
    cache = folder / "proposals.cache.pt"
    if cache.is_file():
        stored = torch.load(cache, weights_only=True)
    else:
        stored = from_illustrations(options.data, detector, rng)
        stored |= from_negatives(options.data, detector, rng)
        stored |= from_bodies(options.data, detector, rng)
        save_checkpoint(cache, stored)
    proposals = {name: Cut(own["pixels"], own["extents"].numpy()) for name, own in stored.items()}
    characters, _ = labelled_crops(options.data, options.detector, folder)
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
        Pool(Cut(*unlabelled_crops(options.data, folder)), 0.1),
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


class Draws(IterableDataset):
    """Endless batches of views ``[BATCH, 3, SIZE, SIZE]`` in 0-1: heads in the first half, what are none in the other.

    Args:
        heads, others: what is drawn from.
        seed: of the draws and the views.
    """

    def __init__(self, heads: list[Pool], others: list[Pool], seed: int) -> None:
        self.heads, self.others, self.seed = heads, others, seed

    def __iter__(self) -> Iterator[Tensor]:
        info = get_worker_info()
        rng = np.random.default_rng((self.seed, info.id if info else 0))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        while True:
            half = BATCH // 2
            halves = (draw(self.heads, half, rng), draw(self.others, BATCH - half, rng))
            pixels, extents = torch.cat([h[0] for h in halves]), np.concatenate([h[1] for h in halves])
            squares = tight_squares(BATCH, TIGHT, rng)
            pixels = vary_surroundings(pixels, extents, rng, ALONE, squares)
            yield augment(pixels, SIZE, rng, generator, STRENGTH, MARGIN / WIDER, squares=squares)


@torch.no_grad()
def taken_for_heads(model: VerifierNet, crops: Cut, device: str) -> np.ndarray:
    """What the net says of crops as it sees them at inference: probabilities ``[N]``."""
    half = MARGIN / 2 / CACHE_MARGIN
    pixels = FlatOutside(crops.pixels, crops.extents, (0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half))
    said = [
        model(normalise(plain(pixels[i : i + AT_ONCE], SIZE, MARGIN), device)).float().sigmoid().cpu()
        for i in range(0, len(pixels), AT_ONCE)
    ]
    return torch.cat(said).numpy() if said else np.zeros(0, np.float32)


def focus(model: VerifierNet, others: list[Pool], device: str) -> None:
    """Let what the net takes for heads come up more often, and what it is sure about seldom.

    Most of what is no head is easily told (Sung and Poggio, "Example-based learning for view-based human face
    detection", 1998, who began to learn from what was taken for faces). Heads stay as they were: among them what the
    net doubts is often mislabelled.
    """
    for pool in others:
        chance = taken_for_heads(model, pool.crops, device).astype(np.float64) + EASY
        pool.chance = chance / chance.sum() if len(chance) else None


def train(options: Options) -> None:
    """Train a verifier for ``options.detector`` and leave both in one file at ``options.output``."""
    torch.manual_seed(options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    heads, others = gather(options)
    model = placed(VerifierNet(WIDTHS), options.device)
    average = Average(model, 0.995)
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.05), lr=options.learning_rate)
    log = Log(options.output.with_suffix(".log.jsonl"), False)
    target = (torch.arange(BATCH) < BATCH // 2).float().to(options.device)
    running = 0.0
    model.train()
    for step in tqdm(range(options.steps), desc="verifier", unit="step"):
        if step % ROUND == 0:
            if step:
                focus(average.model.eval(), others, options.device)
            draws = Draws(heads, others, options.seed + step)
            batches = iter(DataLoader(draws, batch_size=None, num_workers=1, worker_init_fn=single_threaded))
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * cosine(step, options.steps, min(100, options.steps // 2))
        with mixed_precision(options.device):
            logits = model(normalise(next(batches), options.device))
        loss = F.binary_cross_entropy_with_logits(logits.float(), target * (1 - 2 * SMOOTH) + SMOOTH)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        average.update(model)
        running += float(loss.detach())
        if step % 100 == 99:
            log.write(step=step + 1, loss=round(running / 100, 4))
            running = 0.0
    save_verified(options, average.model)


def save_verified(options: Options, model: VerifierNet) -> None:
    """The detector's file with the verifier and what it needs to know added."""
    source = ASSETS / "head.safetensors" if options.detector in ("auto", "head") else Path(options.detector)
    tensors, metadata = read_weights(source)
    tensors = {name: value for name, value in tensors.items() if not name.startswith(PREFIX)}
    metadata = {name: text for name, text in metadata.items() if name != RANGES}  # to be measured anew
    own = {PREFIX + name: value for name, value in half_precision(model).items()}
    save_weights(
        options.output,
        tensors | own,
        metadata
        | {
            "anigender.verifier_size": str(SIZE),
            "anigender.verifier_margin": str(MARGIN),
            "anigender.verifier_outside": OUTSIDE,
            "anigender.proposal_threshold": str(PROPOSAL_THRESHOLD),
            "anigender.threshold": str(THRESHOLD),
            "anigender.others_discount": str(OTHERS_DISCOUNT),
        },
    )
