"""Fine-tuned networks that recognise characters by themselves.

Recipe ``sgd-step``, as published for characters: stochastic gradient descent at 0.001 with a momentum of 0.9, a tenth
of the rate after every 7 of 25 epochs, on random crops and mirrored pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..folders import decoded
from ..inference import mixed_precision
from .backbones import Backbone, last_linear, load_backbone, penultimate
from .features import whole_crops
from .figures import accuracy_figures
from .identitynet import IdentityNet
from .openset import choose
from .options import Options
from .pictures import Characters, divided, stranger_files
from .recogniser import Answers, Recogniser, centres, similarity

RATE, MOMENTUM, EPOCHS, STEP, FACTOR = 0.001, 0.9, 25, 7, 0.1
AREA = (0.35, 1.0)  # of a picture that a random crop shows
HELD_OUT = 0.15


def with_outputs(net: nn.Module, outputs: int) -> nn.Module:
    """The net with a new last layer of so many outputs; the identity net gets one behind its features."""
    if isinstance(net, IdentityNet):
        net.fc = nn.Linear(net.width, outputs)
        return net
    path = last_linear(net)
    parent = net.get_submodule(path.rpartition(".")[0])
    width = net.get_submodule(path).weight.shape[1]  # type: ignore[index]
    setattr(parent, path.rpartition(".")[2], nn.Linear(int(width), outputs))
    return net


def random_views(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Random parts of crops ``[B, 3, S, S]``, half of them mirrored, at the same size."""
    n = len(crops)
    area = torch.empty(n).uniform_(*AREA, generator=generator)
    stretch = torch.empty(n).uniform_(-0.29, 0.29, generator=generator).exp().sqrt()  # 3:4 to 4:3
    across, down = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    shift = torch.rand(n, 2, generator=generator) * 2 - 1
    sign = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = across * sign, down
    theta[:, 0, 2], theta[:, 1, 2] = shift[:, 0] * (1 - across), shift[:, 1] * (1 - down)
    grid = F.affine_grid(theta, list(crops.shape), align_corners=False)
    return F.grid_sample(crops, grid, padding_mode="border", align_corners=False)


def batches(files: Sequence[Path], order: Sequence[int], size: int, count: int) -> Iterator[tuple[list[int], Tensor]]:
    """Rows and their crops, ``count`` at a time in this order, decoded as they are needed.

    Raises:
        ValueError: a picture cannot be read.
    """
    rows: list[int] = []
    pictures: list[Tensor] = []
    for row, (path, pixels) in zip(order, decoded((files[i], None) for i in order), strict=True):
        if isinstance(pixels, str):
            raise ValueError(f"{path} cannot be read: {pixels}; remove it, or put a whole copy in its place")
        rows.append(row)
        pictures.append(pixels)
        if len(rows) == count:
            yield rows, whole_crops(pictures, size)
            rows, pictures = [], []
    if rows:
        yield rows, whole_crops(pictures, size)


def fine_tune(
    backbone: Backbone,
    characters: Characters,
    learn: Sequence[int],
    epochs: int = EPOCHS,
    batch: int = 8,
    seed: int = 0,
    rate: float = RATE,
) -> None:
    """Train a backbone, whose last layer answers for the characters, on the rows ``learn``, in place.

    Args:
        backbone: neither frozen nor folded, with its new last layer.
        characters: the pictures.
        learn: which of them.
        epochs: passes over the pictures; the rate falls as the recipe says, in the same shares of them.
        batch: pictures in a step.
        seed: of order and views; equal seeds give equal nets on one machine.
        rate: the learning rate at the start.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(characters.labels)
    net = backbone.net.train()
    optimiser = torch.optim.SGD(net.parameters(), rate, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, max(1, round(STEP * epochs / EPOCHS)), FACTOR)
    bar = tqdm(total=epochs * len(learn), desc="fine-tuning", unit="picture", disable=None)
    for _ in range(epochs):
        total = 0.0
        for rows, crops in batches(characters.files, rng.permutation(learn).tolist(), backbone.size, batch):
            if len(rows) < 2:  # batch norms have nothing to learn from a single picture
                continue
            with mixed_precision(backbone.device):
                logits = net(backbone.prepared(random_views(crops, generator)))
            loss = F.cross_entropy(logits.float(), labels[rows].to(backbone.device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
            bar.update(len(rows))
        schedule.step()
        bar.set_postfix(loss=f"{total / len(learn):.3f}")
    bar.close()
    net.eval()


@torch.inference_mode()
def predicted(backbone: Backbone, files: Sequence[Path], rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Penultimate features ``[N, D]`` and probabilities ``[N, K]`` of these rows, averaged with the mirrored crops."""
    layer = backbone.net.get_submodule(last_linear(backbone.net))
    features, told = [], []
    for _, crops in batches(files, rows, backbone.size, 64):
        x = backbone.prepared(crops)
        own = (penultimate(backbone.net, x) + penultimate(backbone.net, x.flip(-1))) / 2
        features.append(own.float().cpu().numpy())
        told.append(layer(own).cpu().double().softmax(1).numpy())
    return np.concatenate(features), np.concatenate(told)


def start(name: str, outputs: int, device: str, seed: int) -> Backbone:
    """A backbone to fine-tune: its weights, and a new last layer."""
    torch.manual_seed(seed)
    backbone = load_backbone(name, device, trainable=True)
    with_outputs(backbone.net, outputs).to(device)
    return backbone


def train_network(
    options: Options, characters: Characters, judged: Characters | None, say: Callable[[str], None]
) -> Recogniser:
    """Fine-tune on most of the pictures, choose the threshold on the rest, and tell the figures of both."""
    apart = np.array(divided(characters, HELD_OUT, options.seed))
    learn, rest = np.flatnonzero(~apart).tolist(), np.flatnonzero(apart).tolist()
    backbone = start(options.backbone, len(characters.names), options.device, options.seed)
    say(f"fine-tuning {options.backbone} on {len(learn)} pictures, {len(rest)} held out")
    fine_tune(backbone, characters, learn, options.epochs, options.batch, options.seed)
    backbone.net.requires_grad_(False)  # neither folded: what is saved is what was trained
    y = np.asarray(characters.labels)
    middles = centres(predicted(backbone, characters.files, learn)[0], y[learn], len(characters.names))
    figures: dict[str, Any] = {}
    answers = Answers(np.zeros((0, len(characters.names))), np.zeros(0))
    if rest:
        features, told = predicted(backbone, characters.files, rest)
        answers = Answers(told, similarity(features, middles))
        figures["held_out"] = accuracy_figures(told, y[rest], characters.only(rest))
    strangers = None
    if options.unknown is not None and options.open_set != "none":
        files, _ = stranger_files(options.unknown)
        features, told = predicted(backbone, files, range(len(files)))
        strangers = Answers(told, similarity(features, middles))
    right = answers.probabilities.argmax(1) == y[rest] if rest else np.zeros(0, bool)
    open_set = choose(options.open_set, answers, right, strangers)
    if judged is not None:
        told = predicted(backbone, judged.files, range(len(judged)))[1]
        figures["test"] = accuracy_figures(told, np.asarray(judged.labels), judged)
    return Recogniser(characters.names, backbone, options.margin, open_set, middles, None, figures)
