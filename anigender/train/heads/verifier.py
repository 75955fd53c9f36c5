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
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from ...detect.verifier import PREFIX, VerifierNet, build
from ...inference import mixed_precision, placed
from ...quantised import RANGES
from ...weights import ASSETS, read_weights, save_weights
from ..checkpoints import Average, Log, cosine, half_precision, parameter_groups
from ..crops.augment import augment, tight_squares, vary_surroundings
from ..gender.file import normalise, predict, surrounded
from ..workers import single_threaded
from .pools import PROPOSAL_THRESHOLD, Cut, Pool, draw, gather

SIZE = 64
MARGIN = 1.5  # a head sits on shoulders, a fist on an arm: what is around it tells as much as what it shows
WIDER = 1.08  # the middle of the framings that views are made with, over the one asked for
OUTSIDE = "mean"
ALONE, TIGHT = 0.2, 0.1  # of the views: as if the picture ended around the head, or within it
THRESHOLD = 0.2
OTHERS_DISCOUNT = 1.79  # log-odds that all heads of a picture lose but its surest
BATCH = 128
TURNED = 0.08  # of the views, by any angle: people lie, and hang upside down
STRENGTH = 0.6  # of the views: milder than for gender, which has to see through more
WIDTHS = (24, 48, 72, 108)  # with the detector's net, 3 MB in half precision
SMOOTH = 0.01
ROUND = 800  # steps, after which what is mistaken comes up more often
EASY_HEAD, EASY_OTHER = 0.5, 0.1  # added to how wrong a crop is taken, for how often it is drawn
FEW = 10000  # crops: larger pools are drawn alike


@dataclass
class Options:
    """What a run needs; the defaults made the embedded file."""

    data: Path
    output: Path
    detector: str = "auto"
    steps: int = 4000
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "cpu"
    start: Path | None = None  # a detector's file whose verifier to go on from


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
            taken = misplaced(squares, rng)
            yield augment(pixels, SIZE, rng, generator, STRENGTH, MARGIN / WIDER, squares=taken, turned=TURNED)


def taken_for_heads(model: VerifierNet, crops: Cut, device: str) -> np.ndarray:
    """What the net says of crops as it sees them at inference: probabilities ``[N]``."""
    pixels = surrounded(crops.pixels, crops.extents, OUTSIDE, MARGIN, 0.0)
    return predict(model, pixels, device, SIZE, MARGIN, 0.0).sigmoid().numpy()


def focus(model: VerifierNet, heads: list[Pool], others: list[Pool], device: str) -> None:
    """Let what the net takes wrong come up more often.

    Most of what is no head is easily told (Sung and Poggio, "Example-based learning for view-based human face
    detection", 1998, who went on to learn from what was taken for faces). Heads change less: what the net doubts among
    them is now and then mislabelled.
    """
    for pools, answer, easy in ((heads, 1.0, EASY_HEAD), (others, 0.0, EASY_OTHER)):
        for pool in pools:
            if 0 < len(pool.crops.pixels) < FEW:
                chance = np.abs(answer - taken_for_heads(model, pool.crops, device).astype(np.float64)) + easy
                pool.chance = chance / chance.sum()


def misplaced(squares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Squares ``[n, 3]`` of :func:`~..crops.augment.tight_squares` as the first net might draw them: a little off."""
    sides = squares[:, :1] * np.exp(rng.normal(0, 0.1, (len(squares), 1)))
    middles = squares[:, 1:] + rng.normal(0, 0.05, (len(squares), 2)) * sides
    return np.concatenate((sides, middles), 1).astype(np.float32)


def begun(start: Path | None) -> VerifierNet:
    """A new net, or the verifier of a detector's file.

    Raises:
        ValueError: the file has none.
    """
    if start is None:
        return VerifierNet(WIDTHS)
    net = build(read_weights(start)[0])
    if net is None:
        raise ValueError(f"{start} has no verifier to go on from: leave --from out")
    return net


def train(options: Options) -> None:
    """Train a verifier for ``options.detector`` and leave both in one file at ``options.output``."""
    torch.manual_seed(options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    heads, others = gather(options.data, options.detector, options.output.parent, options.seed, options.device)
    model = placed(begun(options.start), options.device)
    average = Average(model, 0.995)
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.05), lr=options.learning_rate)
    log = Log(options.output.with_suffix(".log.jsonl"), False)
    target = (torch.arange(BATCH) < BATCH // 2).float().to(options.device)
    running = 0.0
    model.train()
    for step in tqdm(range(options.steps), desc="verifier", unit="step"):
        if step % ROUND == 0:
            if step:
                focus(average.model, heads, others, options.device)
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
