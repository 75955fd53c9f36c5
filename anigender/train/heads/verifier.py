"""Training the detector's second opinion: crops of heads against crops of whatever else it proposes.

What the first net proposes wrongly is the best thing to learn from; windows of head-free patches, of bodies and of
drawn patterns (grids, stripes, lettering, rings) stand for the pictures that nobody here has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ...boxes import clip, pairwise_iou
from ...datasets.labelled import label_heads, list_negatives, plausible, read_illustrations, read_pictures
from ...detect import load_detector
from ...detect.head_detector import HeadDetector
from ...detect.verifier import PREFIX, VerifierNet
from ...inference import mixed_precision, placed
from ...quantised import RANGES
from ...weights import ASSETS, read_weights, save_weights
from ..checkpoints import Average, Log, cosine, half_precision, parameter_groups, save_checkpoint
from ..crops.augment import augment
from ..crops.crops import cut, labelled_crops, unlabelled_crops
from ..crops.store import Pixels, SomeRows
from ..gender.file import normalise
from .patterns import patterns
from .relabel import detections

SIZE = 48
MARGIN = 1.08  # the middle of the framings that views are made with
PROPOSAL_THRESHOLD = 0.06
THRESHOLD = 0.4
BATCH = 128
STRENGTH = 0.6  # of the views: milder than for gender, which has to see through more
BODIES = 3000  # cut-outs looked at for proposals away from the head


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
class Pool:
    """Cached crops ``pixels [N, 4, K, K]`` that make up ``share`` of their side of a batch."""

    pixels: Pixels
    share: float


def _rgba(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA"))


def _crops(pixels: np.ndarray, boxes: np.ndarray) -> Tensor:
    return cut(pixels, np.asarray(boxes, np.float32).reshape(-1, 4))


def from_negatives(
    data: Path, detector: HeadDetector, rng: np.random.Generator, windows: int = 5
) -> tuple[Tensor, Tensor]:
    """Proposals in head-free patches, and random windows of them, as cached crops."""
    files = list_negatives(data, "train")
    proposed, random = [], []
    for file, faces in zip(files, detections(detector, data, files), strict=True):
        pixels = _rgba(data / file)
        height, width = pixels.shape[:2]
        proposed.append(_crops(pixels, faces.boxes[:6].numpy()))
        sides = np.exp(rng.uniform(np.log(20), np.log(max(height, width) * 1.1), windows))
        corners = np.stack((rng.uniform(-0.3, 0.7, windows), rng.uniform(-0.3, 0.7, windows)), 1)
        corners = corners * np.array([width, height]) * 0.9
        random.append(_crops(pixels, np.concatenate((corners, corners + sides[:, None]), 1)))
    return torch.cat(proposed), torch.cat(random)


def from_illustrations(data: Path, detector: HeadDetector) -> tuple[Tensor, Tensor]:
    """The known heads of the illustrations that are learned from, and the proposals that meet them."""
    pictures = [picture for picture in read_illustrations(data) if picture.split == "train"]
    known, proposed = [], []
    for picture, faces in zip(pictures, detections(detector, data, [p.file for p in pictures]), strict=True):
        pixels = _rgba(data / picture.file)
        height, width = pixels.shape[:2]
        head = clip(torch.from_numpy(picture.heads[:1]), width, height)
        meets = pairwise_iou(clip(faces.boxes, width, height), head)[:, 0] > 0.6
        known.append(_crops(pixels, picture.heads[:1]))
        proposed.append(_crops(pixels, faces.boxes[meets].numpy()))
    return torch.cat(known), torch.cat(proposed)


def from_bodies(data: Path, detector: HeadDetector, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Proposals away from the head of cut-out figures, and random windows of their bodies."""
    pictures = [p for p in read_pictures(data) if p.split == "train"]
    label_heads(pictures, data)
    pictures = [p for p in pictures if p.alpha and p.kind in ("bust", "half_body", "full_body")]
    pictures = [pictures[i] for i in rng.permutation(len(pictures))[:BODIES]]
    proposed, random = [], []
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
        proposed.append(_crops(pixels, boxes[far][:4].numpy()))
        windows = []
        for _ in range(12):
            size = side * float(np.exp(rng.uniform(np.log(0.35), np.log(1.9))))
            x, y = rng.uniform(0, picture.width - size * 0.5), rng.uniform(0, picture.height - size * 0.5)
            apart = max(abs(x + size / 2 - float(middle[0])), abs(y + size / 2 - float(middle[1])))
            solid = pixels[int(y) : int(y + size), int(x) : int(x + size), 3]
            if apart > 0.5 * max(size, side) and solid.size and (solid > 127).mean() > 0.3:
                windows.append([x, y, x + size, y + size])
        random.append(_crops(pixels, np.array(windows[:3])))
    return torch.cat(proposed), torch.cat(random)


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
        known, met = from_illustrations(options.data, detector)
        empty, empty_windows = from_negatives(options.data, detector, rng)
        bodies, body_windows = from_bodies(options.data, detector, rng)
        stored = {
            "known": known,
            "met": met,
            "empty": empty,
            "empty_windows": empty_windows,
            "bodies": bodies,
            "body_windows": body_windows,
        }
        save_checkpoint(cache, stored)
    characters, _ = labelled_crops(options.data, options.detector, folder)
    stills = torch.tensor([picture.kind == "screencap" for picture in characters.pictures])
    # Men and television stills are the fewest and the most often missed.
    heads = [
        Pool(SomeRows(characters.pixels, np.flatnonzero((characters.labels == 0) & ~stills)), 0.2),
        Pool(SomeRows(characters.pixels, np.flatnonzero((characters.labels == 1) & ~stills)), 0.25),
        Pool(SomeRows(characters.pixels, np.flatnonzero(stills)), 0.2),
        Pool(unlabelled_crops(options.data, folder)[0], 0.1),
        Pool(stored["known"], 0.12),
        Pool(stored["met"], 0.13),
    ]
    others = [
        Pool(stored["empty"], 0.35),
        Pool(stored["empty_windows"], 0.2),
        Pool(stored["bodies"], 0.2),
        Pool(stored["body_windows"], 0.15),
        Pool(patterns(3000, rng), 0.1),
    ]
    return heads, others


def draw(pools: list[Pool], count: int, rng: np.random.Generator) -> Tensor:
    """``count`` cached crops, each pool's share of them."""
    pools = [pool for pool in pools if len(pool.pixels)]
    share = np.array([pool.share for pool in pools])
    counts = rng.multinomial(count, share / share.sum())
    rows = [torch.from_numpy(rng.integers(0, len(p.pixels), n)) for p, n in zip(pools, counts, strict=True)]
    return torch.cat([pool.pixels[own] for pool, own in zip(pools, rows, strict=True)])


def train(options: Options) -> None:
    """Train a verifier for ``options.detector`` and leave both in one file at ``options.output``."""
    torch.manual_seed(options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    heads, others = gather(options)
    model = placed(VerifierNet(), options.device)
    average = Average(model, 0.995)
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.05), lr=options.learning_rate)
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    log = Log(options.output.with_suffix(".log.jsonl"), False)
    target = (torch.arange(BATCH) < BATCH // 2).float().to(options.device)
    running = 0.0
    model.train()
    for step in tqdm(range(options.steps), desc="verifier", unit="step"):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * cosine(step, options.steps, min(100, options.steps // 2))
        pixels = torch.cat((draw(heads, BATCH // 2, rng), draw(others, BATCH - BATCH // 2, rng)))
        views = augment(pixels, SIZE, rng, generator, STRENGTH)
        with mixed_precision(options.device):
            logits = model(normalise(views, options.device))
        loss = F.binary_cross_entropy_with_logits(logits.float(), target * 0.96 + 0.02)
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
            "anigender.proposal_threshold": str(PROPOSAL_THRESHOLD),
            "anigender.threshold": str(THRESHOLD),
        },
    )
