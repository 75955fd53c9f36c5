"""Training the embedded identity net: what two pictures of one character have in common.

Two pictures of one character, or two views of one unlabelled face, should be closer to each other than to anybody
else of the batch (Khosla et al., "Supervised Contrastive Learning", 2020; Chen et al., "A Simple Framework for
Contrastive Learning", 2020). Colours are changed less than for gender: those of hair and eyes tell characters apart.
The first layers begin as the gender net's, which has seen the same pictures, and the palette is made of
the pictures' own colours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..inference import placed
from ..train.checkpoints import (
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
from ..train.crops.augment import augment, plain
from ..train.crops.crops import Crops, labelled_crops, source_of, unlabelled_crops
from ..train.crops.store import Pixels
from ..train.gender.student import contrast
from ..train.workers import single_threaded
from ..weights import ASSETS, read_weights, save_weights
from .identitynet import COLOURS, IdentityNet

SIZE = 64
SMALL, LARGE_FROM = 48, 0.6  # views of the first part: half the work while the coarse features are learned
MARGINS = (0.6, 1.1)  # head sides that views show: from a tight face to the whole head
MARGIN = 0.85
PROJECTED = 128
LABELLED, UNLABELLED = 56, 40  # identities in a batch, two views each
STRENGTH = 0.3
TEMPERATURE = 0.1
SOFTNESS = 0.02  # of the palette
LOOK = 200  # steps between two looks at characters it does not learn from
MEAN, STD = 0.5, 0.25


@dataclass
class Options:
    """What a run needs."""

    data: Path
    output: Path
    detector: str = "auto"
    steps: int = 2000
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "cpu"
    resume: bool = False

    def fingerprint(self, learn: Crops, unlabelled: Sequence[str]) -> dict[str, Any]:
        """What must stay the same for a run to be gone on with, which may become longer.

        Args:
            learn: labelled crops.
            unlabelled: names of the other faces.
        """
        return {
            **{name: getattr(self, name) for name in ("learning_rate", "seed")},
            "detector": source_of(self.detector)[:16],
            "files, characters and splits": digest_of((p.file, p.character, p.split) for p in learn.pictures),
            "unlabelled faces": digest_of((name,) for name in unlabelled),
        }


class Student(nn.Module):
    """The net, and on its features a projection in which identities are told apart (Chen et al., 2020, section 4.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = IdentityNet()
        hidden = 512
        self.project = nn.Sequential(
            nn.Linear(self.net.width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, PROJECTED)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, S, S]`` to ``[B, PROJECTED]``."""
        return self.project(self.net.features(x))


def begin(net: IdentityNet, path: Path, pixels: Tensor, seed: int) -> None:
    """Give a new net the first layers of a file's, as far as their shapes agree, and the colours of some crops.

    Args:
        net: what is changed.
        path: a net whose layers have the same names.
        pixels: ``[N, 3, K, K]`` normalised crops, in whose colours the palette begins.
        seed: of the choice of colours.
    """
    tensors, _ = read_weights(path)
    state = net.state_dict()
    alike = {name for name, value in state.items() if name in tensors and tensors[name].shape == value.shape}
    net.load_state_dict({name: tensors[name].float() if name in alike else state[name] for name in state})
    colours = pixels.permute(0, 2, 3, 1).reshape(-1, 3)
    rng = np.random.default_rng(seed)
    sample = colours[torch.from_numpy(rng.choice(len(colours), min(len(colours), 40_000), replace=False))].numpy()
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 8, 0.0)
    cv2.setRNGSeed(seed)
    _, _, centres = cv2.kmeans(sample, COLOURS, np.zeros(0, np.int32), criteria, 1, cv2.KMEANS_PP_CENTERS)
    net.set_palette(torch.from_numpy(np.asarray(centres, np.float32)), SOFTNESS)


class Pairs(Dataset):
    """The batches of a training: two views of each identity ``[2 B, 3, S, S]``, and identities ``[2 B]``.

    What a batch holds depends on the seed and its number alone.
    """

    def __init__(self, crops: Crops, unlabelled: Pixels, seed: int) -> None:
        self.crops, self.unlabelled, self.seed = crops, unlabelled, seed
        groups: dict[str, list[int]] = defaultdict(list)
        for i, picture in enumerate(crops.pictures):
            groups[picture.character].append(i)
        self.groups = list(groups.values())

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """One batch."""
        rng = np.random.default_rng((self.seed, step))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        chosen = rng.choice(len(self.groups), min(LABELLED, len(self.groups)), replace=False)
        rows = np.stack([rng.choice(own, 2, replace=len(own) < 2) for own in (self.groups[i] for i in chosen)])
        more = rng.choice(len(self.unlabelled), min(UNLABELLED, len(self.unlabelled)), replace=False)
        identity = torch.cat((torch.from_numpy(chosen), torch.from_numpy(more) + len(self.groups)))
        views = []
        for column in (0, 1):
            pixels = torch.cat((self.crops.pixels[rows[:, column]], self.unlabelled[more]))
            views.append(augment(pixels, SIZE, rng, generator, STRENGTH, float(rng.uniform(*MARGINS)) / 1.08))
        return torch.cat(views), identity.repeat(2)


def normalise(x: Tensor, device: str) -> Tensor:
    """0-1 to what the net reads."""
    return ((x - MEAN) / STD).to(device).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def recall_at_1(student: Student, crops: Crops, device: str) -> float:
    """Share of pictures whose nearest neighbour, of all others, shows the same character; characters seen once not."""
    found = []
    for first in range(0, len(crops), 128):
        part = crops.pixels[first : first + 128]
        found.append(student(normalise(plain(part, SIZE, MARGIN), device)).cpu())
    x = F.normalize(torch.cat(found), dim=1)
    names = sorted({picture.character for picture in crops.pictures})
    who = torch.tensor([names.index(picture.character) for picture in crops.pictures])
    near = (x @ x.T).fill_diagonal_(-1).argmax(1)
    judged = torch.bincount(who)[who] > 1
    return float((who[near] == who)[judged].float().mean())


def train(options: Options) -> None:
    """Run (or resume) a training; at every look the moving average is written to ``options.output``."""
    torch.manual_seed(options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    learn, judge = labelled_crops(options.data, options.detector, options.output.parent)
    unlabelled, _, names = unlabelled_crops(options.data, options.output.parent)
    checkpoint, done = options.output.with_suffix(".checkpoint.pt"), 0
    fingerprint = options.fingerprint(learn, names)
    state = resumed(checkpoint, fingerprint) if options.resume else None
    student = Student()
    some = normalise(plain(learn.pixels[:: max(1, len(learn.pixels) // 500)], SIZE, MARGIN), "cpu")
    begin(student.net, ASSETS / "gender.safetensors", some, options.seed)
    student = placed(student, options.device)
    average = Average(student, 0.998)
    optimiser = torch.optim.AdamW(
        parameter_groups(student, 0.03), options.learning_rate
    )  # the palette gets no gradient
    if state is not None:
        with taking_over(checkpoint):
            student.load_state_dict(state["model"])
            average.model.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
        done = average.steps = state["step"]
    log = Log(options.output.with_suffix(".log.jsonl"), options.resume)
    steps = range(done, options.steps)
    pairs = Pairs(learn, unlabelled, options.seed)
    batches = DataLoader(pairs, None, sampler=steps, num_workers=1, worker_init_fn=single_threaded)
    losses: list[float] = []
    bar = tqdm(batches, desc="identity", initial=done, total=options.steps, unit="step")
    for step, (views, identity) in zip(steps, bar, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * cosine(step, options.steps, min(100, options.steps // 10 + 1))
        if step < LARGE_FROM * options.steps:
            views = F.interpolate(views, (SMALL, SMALL), mode="bilinear", antialias=True, align_corners=False)
        loss = contrast(student(normalise(views, options.device)), identity.to(options.device), TEMPERATURE)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimiser.step()
        average.update(student)
        losses.append(float(loss.detach()))
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
        if (step + 1) % LOOK == 0 or step + 1 == options.steps:
            recall = recall_at_1(average.model, judge, options.device)
            log.write(step=step + 1, loss=round(float(np.mean(losses)), 4), recall_at_1=round(recall, 4))
            losses.clear()
            save(average.model.net, options.output)
            state = {"step": step + 1, "model": student.state_dict(), "average": average.model.state_dict()}
            save_checkpoint(checkpoint, state | {"optimiser": optimiser.state_dict(), "options": fingerprint})


def save(net: IdentityNet, path: Path) -> None:
    """Write a net as it is shipped, with its preprocessing."""
    metadata = {
        "anigender.kind": "identity",
        "anigender.architecture": "identitynet",
        "anigender.input_size": str(SIZE),
        "anigender.margin": str(MARGIN),
        "anigender.mean": ",".join([str(MEAN)] * 3),
        "anigender.std": ",".join([str(STD)] * 3),
        "anigender.channel_order": "RGB",
    }
    save_weights(path, half_precision(net), metadata)
