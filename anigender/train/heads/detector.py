"""Training the embedded head detector on composites.

The first round learns from hand-drawn boxes, face icons and the cleaned boxes of an older detector; a later round
(``teacher``) starts from the previous detector, re-labels every picture with it and prefers the negatives that it
still falls for. See :mod:`anigender.train.composites` for what a composite is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from ...boxes import clip, pairwise_iou
from ...datasets.illustrations import read_judged
from ...datasets.labelled import label_heads, list_negatives, read_pictures
from ...datasets.picture import FIGURES, Picture, read_rgba
from ...detect.head_detector import HeadDetector
from ...detect.headnet import HeadNet, RawHeads
from ...digests import sha256
from ...images import check
from ...inference import mixed_precision, native_dtype, placed
from ...weights import save_weights
from ..checkpoints import (
    Average,
    Log,
    cosine,
    digest_of,
    half_precision,
    parameter_groups,
    resumed,
    save_checkpoint,
    taking_over,
)
from .composites import Composer, CutOut
from .relabel import Mined, relabel

EPOCH = 8192  # composites
SIZES = ((128, 64, 0.25), (192, 40, 0.35), (256, 24, 0.4))  # canvas side, pictures in a batch, share of the batches
TINY = 24.0  # pixels: an unmarked head in an incompletely labelled picture is seldom smaller
METADATA = {
    "anigender.kind": "detector",
    "anigender.architecture": "headnet",
    "anigender.region": "head",
    "anigender.mean": "0.5,0.5,0.5",
    "anigender.std": "0.25,0.25,0.25",
    "anigender.channel_order": "RGB",
    "anigender.threshold": "0.4",
    "anigender.iou_threshold": "0.4",
    "anigender.area": str(512 * 512),
}


@dataclass
class Options:
    """What a run needs; the defaults made the embedded file."""

    data: Path
    output: Path
    epochs: int = 12
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "cpu"
    teacher: Path | None = None
    resume: bool = False

    def fingerprint(self, pictures: list[Picture]) -> dict[str, Any]:
        """What must stay the same for a run to be gone on with; it may become longer."""
        return {
            **{name: getattr(self, name) for name in ("learning_rate", "seed")},
            "teacher": sha256(self.teacher)[:16] if self.teacher is not None else None,
            "files, genders and splits": digest_of((p.file, p.gender, p.split) for p in pictures),
        }


def build_composer(data: Path, pictures: list[Picture], split: str, mined: Mined | None) -> Composer:
    """Read a split's pictures into memory and sort them into cut-outs, scenes, negatives and distractors.

    Args:
        data: the data directory.
        pictures: labelled pictures, illustrations included.
        split: ``train`` or ``val``.
        mined: what the present detector falls for, or None.
    """
    wanted = [p for p in pictures if p.split == split and len(p.heads)]
    negatives = list_negatives(data, split)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda p: read_rgba(data / p.file), wanted))
        patches = [image[..., :3].copy() for image in pool.map(lambda f: read_rgba(data / f), negatives)]
    cut_outs, scenes, distractors, weights = [], [], [], []
    men_share = sum(p.gender == "male" for p in wanted) / max(1, sum(bool(p.gender) for p in wanted))
    for picture, pixels in zip(wanted, images, strict=True):
        opaque = bool((pixels[..., 3] > 250).mean() > 0.97)
        item = CutOut(pixels, picture.heads, picture.complete, opaque)
        if not picture.gender:  # illustrations: whole frames, and panels now and then
            scenes += [item] * 4
            continue
        if opaque and picture.kind != "face" or opaque and max(pixels.shape[:2]) >= 128:
            scenes.append(item)
        cut_outs.append(item)
        weight = 1.0 if picture.gender == "male" else men_share / max(1e-6, 1 - men_share)
        weights.append(weight * {"full_body": 1.3, "half_body": 1.0, "bust": 1.2, "face": 0.8}.get(picture.kind, 1.0))
        y = int(picture.heads[:, 3].max())
        if picture.complete and pixels.shape[0] - y > 48 and picture.kind in FIGURES:
            distractors.append(pixels[y:])
        for x1, y1, x2, y2 in mined.mistakes.get(picture.file, ()) if mined is not None else ():
            crop = pixels[max(0, int(y1)) : int(y2) + 1, max(0, int(x1)) : int(x2) + 1]
            if min(crop.shape[:2]) >= 12:
                distractors += [crop] * 2
    if mined is not None:  # what the detector falls for comes up to ten times as often
        times = 1 + np.round(9 * np.clip(mined.hardness * 2, 0, 1)).astype(int)
        patches = [patch for patch, n in zip(patches, times, strict=True) for _ in range(n)]
    return Composer(cut_outs, scenes, patches, distractors, np.asarray(weights))


class Composites(IterableDataset):
    """Endless batches of composites: uint8 images ``[B, S, S, 3]``, padded heads ``[B, N, 3]``, complete ``[B]``."""

    def __init__(self, composer: Composer, seed: int) -> None:
        self.composer, self.seed = composer, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        cv2.setNumThreads(0)
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, info.id if info else 0))
        shares = np.array([share for *_, share in SIZES])
        while True:
            side, count, _ = SIZES[rng.choice(len(SIZES), p=shares / shares.sum())]
            yield make_batch(self.composer, side, count, rng)


def make_batch(composer: Composer, side: int, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One batch of composites as tensors; unused rows of the heads have side 0."""
    scenes = [composer.draw(side, rng) for _ in range(count)]
    most = max(1, *(len(scene.heads) for scene in scenes))
    heads = np.zeros((count, most, 3), np.float32)
    for i, scene in enumerate(scenes):
        heads[i, : len(scene.heads)] = scene.heads
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    return images, torch.from_numpy(heads), torch.tensor([scene.complete for scene in scenes])


def prepare(images: Tensor, device: str) -> Tensor:
    """uint8 ``[B, H, W, 3]`` to what the net reads: see :mod:`anigender.detect.head_detector`."""
    x = images.to(device).permute(0, 3, 1, 2)
    return (x.float() / 255 - 0.5) / 0.25


def square_overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of matching squares ``[..., 3]``, and DIoU (Zheng et al., 2020): IoU less the centres' distance."""
    half_first, half_second = first[..., 2:] / 2, second[..., 2:] / 2
    low_first, high_first = first[..., :2] - half_first, first[..., :2] + half_first
    low_second, high_second = second[..., :2] - half_second, second[..., :2] + half_second
    shared = (torch.minimum(high_first, high_second) - torch.maximum(low_first, low_second)).clamp(min=0).prod(-1)
    iou = shared / (first[..., 2] ** 2 + second[..., 2] ** 2 - shared).clamp(min=1e-6)
    hull = torch.maximum(high_first, high_second) - torch.minimum(low_first, low_second)
    distance = (first[..., :2] - second[..., :2]).square().sum(-1) / hull.square().sum(-1).clamp(min=1e-6)
    return iou, iou - distance


def assign(raw: RawHeads, heads: Tensor) -> tuple[Tensor, Tensor]:
    """Which cells answer for which head.

    A head belongs to the levels whose stride is between 1/6.4 and 1/2.4 of its side (neighbouring ranges overlap),
    the finest and coarsest levels taking what is beyond; there, to the cells near its centre, at least the nearest.

    Returns:
        ``target [B, A]`` index of the head or -1, and ``near [B, A]``: cells inside a head but not its own, which
        are not pushed down hard.
    """
    side = heads[..., 2]
    ratio = side[:, :, None] / raw.strides[None, None]
    finest, coarsest = raw.strides.min(), raw.strides.max()
    fits = ((ratio >= 2.4) | (raw.strides == finest)) & ((ratio < 6.4) | (raw.strides == coarsest))
    away = (raw.centres[None, None] - heads[:, :, None, :2]).abs().amax(-1)
    reach = torch.maximum(0.2 * side[:, :, None], 0.51 * raw.strides[None, None])
    real = side[:, :, None] > 0
    inside = (away <= reach) & fits & real
    cost = torch.where(inside, away / side[:, :, None].clamp(min=1), torch.inf)
    best, target = cost.min(1)
    target = torch.where(best.isfinite(), target, -1)
    near = ((away < 0.3 * side[:, :, None]) & real).any(1) & (target < 0)
    return target, near


def loss(raw: RawHeads, heads: Tensor, complete: Tensor) -> tuple[Tensor, Tensor]:
    """Quality focal loss for the scores and DIoU for the squares, each per positive cell."""
    target, near = assign(raw, heads)
    positive = target >= 0
    wanted = heads.gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 3))
    iou, diou = square_overlap(raw.squares, torch.where(positive[..., None], wanted, 1.0))
    # The square root keeps the order of the overlaps and lets a decent box be sure of itself.
    quality = torch.where(positive, iou.detach().clamp(0.05, 1).sqrt(), 0.0)
    score = raw.logits.sigmoid()
    weight = (quality - score).detach().square()
    # An incompletely labelled picture may hold heads that nobody marked: what looks like one there is let be.
    unmarked = (score.detach() > 0.25) & (raw.squares[..., 2].detach() > TINY)
    weight = torch.where(~positive & ~complete[:, None] & unmarked, 0.0, weight)
    weight = torch.where(near, weight * 0.5, weight)
    classification = (F.binary_cross_entropy_with_logits(raw.logits, quality, reduction="none") * weight).sum()
    count = positive.sum().clamp(min=1)
    regression = torch.where(positive, 1 - diou, 0.0).sum()
    # Centre and side apart, relative to the head: IoU alone is flat for a square inside another.
    relative = (raw.squares[..., :2] - wanted[..., :2]) / wanted[..., 2:].clamp(min=1)
    size = (raw.squares[..., 2] / wanted[..., 2].clamp(min=1)).clamp(min=1e-3).log()
    error = F.smooth_l1_loss(relative, torch.zeros_like(relative), reduction="none", beta=0.1).sum(-1)
    error = error + F.smooth_l1_loss(size, torch.zeros_like(size), reduction="none", beta=0.1)
    regression = regression + 0.5 * torch.where(positive, error, 0.0).sum()
    return classification / count, regression / count


def validate(model: HeadNet, batches: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
    """Average precision at IoU 0.5 on fixed composites of unseen characters, and recall at the default threshold.

    Scenes that may hold unmarked heads are used for the recall only.
    """
    net = copy.deepcopy(model).to(native_dtype(next(model.parameters()).device))
    detector = HeadDetector(net, METADATA, threshold=0.05)
    marks: list[tuple[float, bool]] = []
    known, met, expected = 0, 0, 0
    for images, heads, complete in batches:
        faces = detector.detect(check(images)).cpu()
        for i in range(len(images)):
            own, real = faces.of_image(i), heads[i][heads[i, :, 2] > 0]
            half = real[:, 2:] / 2
            truth = clip(torch.cat((real[:, :2] - half, real[:, :2] + half), 1), images.shape[2], images.shape[1])
            overlap = pairwise_iou(own.boxes, truth) >= 0.5
            sure = own.scores >= float(METADATA["anigender.threshold"])
            met += int(overlap[sure].any(0).sum())
            known += len(truth)
            if not complete[i]:
                continue
            expected += len(truth)
            taken = torch.zeros(len(truth), dtype=torch.bool)
            for score, row in zip(own.scores.tolist(), overlap, strict=True):
                free = (row & ~taken).nonzero()
                if len(free):
                    taken[free[0]] = True
                marks.append((score, len(free) > 0))
    marks.sort(reverse=True)
    right = np.cumsum([hit for _, hit in marks]) if marks else np.zeros(1)
    precision = right / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(np.concatenate(([0], right)))
    return {"average_precision": float((precision * steps).sum() / max(1, expected)), "recall": met / max(1, known)}


def train(options: Options) -> None:
    """Run (or resume) a training and leave the averaged net, with its preprocessing, at ``options.output``."""
    torch.manual_seed(options.seed)
    pictures = read_pictures(options.data)
    label_heads(pictures, options.data)
    pictures += read_judged(options.data)
    fingerprint = options.fingerprint(pictures)
    checkpoint = options.output.with_suffix(".checkpoint.pt")
    state = resumed(checkpoint, fingerprint) if options.resume else None
    model, mined = HeadNet(), None
    if options.teacher is not None:
        mined = relabel(pictures, options.data, options.teacher, model)
    model = placed(model, options.device)
    composer = build_composer(options.data, pictures, "train", mined)
    judge = build_composer(options.data, pictures, "val", None)
    rng = np.random.default_rng(12345)
    fixed = [make_batch(judge, side, 16, rng) for side in (128, 192, 256, 128, 192, 256, 384)]
    del judge

    average = Average(model)
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.02), lr=options.learning_rate)
    step, seen, best = 0, 0, -1.0
    if state is not None:
        with taking_over(checkpoint):
            model.load_state_dict(state["model"])
            average.model.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
            step, seen, best, average.steps = state["step"], state["seen"], state["best"], state["step"]
    total = options.epochs * EPOCH
    log = Log(options.output.with_suffix(".log.jsonl"), options.resume)
    loader = DataLoader(
        Composites(composer, options.seed + 1000 * step), batch_size=None, num_workers=1, prefetch_factor=6
    )
    bar = tqdm(total=total, initial=seen, unit="picture", desc="detector")
    running = np.zeros(3)
    for images, heads, complete in loader:
        if seen >= total:
            break
        factor = cosine(seen, total, EPOCH // 4)
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * factor
        x = prepare(images, options.device).contiguous(memory_format=torch.channels_last)
        with mixed_precision(options.device):
            raw = model(x)
        classification, regression = loss(raw, heads.to(options.device), complete.to(options.device))
        optimiser.zero_grad(set_to_none=True)
        (classification + 1.5 * regression).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        average.update(model)
        step += 1
        before, seen = seen, seen + len(images)
        running += (float(classification.detach()), float(regression.detach()), 1)
        bar.update(len(images))
        if seen // (EPOCH // 2) > before // (EPOCH // 2) or seen >= total:
            figures = validate(average.model, fixed)
            bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()})
            log.write(
                seen=seen,
                loss=[round(float(v), 4) for v in running[:2] / running[2]],
                **{name: round(value, 4) for name, value in figures.items()},
            )
            running[:] = 0
            if figures["average_precision"] >= best:
                best = figures["average_precision"]
                save_detector(average.model, options.output)
            save_checkpoint(
                checkpoint,
                {
                    "model": model.state_dict(),
                    "average": average.model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "step": step,
                    "seen": seen,
                    "best": best,
                    "options": fingerprint,
                },
            )
    bar.close()


def save_detector(model: HeadNet, output: Path) -> None:
    """The net in half precision with everything that inference must know, as one safetensors file."""
    save_weights(
        output,
        half_precision(model),
        METADATA,
    )
