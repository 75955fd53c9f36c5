"""Learning from labelled crops, epoch by epoch: the loop behind the recipes that go on from a trained net.

What a step sees depends on the seed and the number of the step alone, so that a run that was stopped and resumed ends
with the same weights as one that was not, however many processes make the views.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ...classify import Classifier
from ...inference import mixed_precision
from ..checkpoints import Average
from ..crops.augment import mix
from ..crops.crops import Crops
from ..crops.views import plain_views, varied_views
from ..workers import single_threaded
from .draws import folder_weight
from .outliers import LossHistory, trust
from .recipes import Recipe
from .trainable import Trainable, learns

SMOOTH = 0.03  # of each label is given to the other
CLIP = 5.0  # the largest gradient
WARM_UP = 0.3  # of the epochs, before which all pictures are trusted alike
JUDGED_AT_ONCE = 64
UNBALANCED = 5.0  # a picture counts for at most this many others


@dataclass(frozen=True)
class Plan:
    """How to learn.

    Attributes:
        recipe: optimiser, schedule and length.
        seed: of the order and the views.
        strength: of the views' changes.
        mixed: share of views made of two pictures.
        frozen_backbone: only the head learns.
        reweight: trust pictures less whose label the net does not come to agree with (:mod:`.outliers`).
        workers: processes that make views; they change nothing but the speed.
    """

    recipe: Recipe
    seed: int = 0
    strength: float = 0.45
    mixed: float = 0.12
    frozen_backbone: bool = False
    reweight: bool = False
    workers: int = field(default_factory=lambda: max(1, min(8, (os.cpu_count() or 2) // 2)))


def balance(crops: Crops) -> Tensor:
    """How much each picture counts, ``[N]`` with a mean of 1: genders alike in each folder, characters alike in each.

    See :func:`~.draws.folder_weight`. Nothing counts for more than :data:`UNBALANCED` pictures.
    """
    labels = crops.labels.tolist()
    keys = [(picture.folder, label) for picture, label in zip(crops.pictures, labels, strict=True)]
    whose = [(picture.character, label) for picture, label in zip(crops.pictures, labels, strict=True)]
    pictures = Counter(whose)
    characters = Counter(dict(zip(whose, keys, strict=True)).values())
    mass = torch.tensor(
        [
            folder_weight(characters, key[0]) / characters[key] / pictures[own]
            for key, own in zip(keys, whose, strict=True)
        ]
    )
    for gender in (0, 1):
        mine = crops.labels == gender
        mass[mine] /= mass[mine].sum().clamp(min=1e-9)
    mass = (mass / mass.mean()).clamp(max=UNBALANCED)
    return mass / mass.mean()


def trusted(mass: Tensor, trust: Tensor, labels: Tensor) -> Tensor:
    """How much each picture counts when it is trusted so much: ``mass * trust``, each gender with what it had in all.

    Where more labels of one gender are wrong, its pictures lose weight to one another and not to the other gender.
    """
    found = mass * trust
    for gender in (0, 1):
        mine = labels == gender
        found[mine] *= mass[mine].sum() / found[mine].sum().clamp(min=1e-9)
    return found


class Epoch(Dataset):
    """The steps of one epoch: views ``[B, 3, S, S]``, weighted targets ``[B, 2]`` and rows ``[B]`` of each.

    Every picture is in one step; the last step is filled up with the first ones. The row of a view mixed of two is -1.
    """

    def __init__(self, crops: Crops, weight: Tensor, classifier: Classifier, plan: Plan, epoch: int) -> None:
        # Processes that make views need neither the net nor the names of a million pictures.
        self.crops, self.weight, self.plan, self.epoch = replace(crops, pictures=[]), weight, plan, epoch
        self.framing = Classifier(torch.nn.Identity(), _metadata(classifier))
        order = np.random.default_rng((plan.seed, epoch)).permutation(len(crops))
        self.steps = steps_per_epoch(len(crops), plan.recipe.batch)
        self.order = np.resize(order, self.steps * min(plan.recipe.batch, len(crops)))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """One step's views, targets and rows."""
        rng = np.random.default_rng((self.plan.seed, self.epoch, step))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        size = len(self.order) // self.steps
        rows = self.order[step * size : (step + 1) * size]
        views = varied_views(self.crops, rows.tolist(), self.framing, rng, generator, self.plan.strength)
        origin = torch.from_numpy(rows.astype(np.int64))
        target = F.one_hot(self.crops.labels[origin], 2).float() * (1 - 2 * SMOOTH) + SMOOTH
        target *= self.weight[origin][:, None]
        mix(views, target, origin, rng, self.plan.mixed)
        return views, target, origin


def _metadata(classifier: Classifier) -> dict[str, str]:
    """The framing alone, as metadata."""
    names = ("margin", "below", "framing", "resample", "outside", "cut_scale")
    values = {name: getattr(classifier, name) for name in names}
    values |= {"input_size": classifier.size, "mean": "0,0,0", "std": "1,1,1"}
    return {f"anigender.{name}": str(value) for name, value in values.items()}


def steps_per_epoch(pictures: int, batch: int) -> int:
    """Steps in which every picture is seen once."""
    return -(-pictures // batch)


class Learning:
    """A training under way.

    Args:
        model: what learns, on its device.
        crops: from what.
        plan: how.

    Attributes:
        epoch: how many are done.
        history: what the net thought of each picture.
        trust: ``[N]`` how much each picture is trusted; all alike until the warm-up is over.
    """

    def __init__(self, model: Trainable, crops: Crops, plan: Plan) -> None:
        self.model, self.crops, self.plan = model, crops, plan
        learns(model, plan.frozen_backbone)
        self.optimiser = plan.recipe.optimiser_for([model.net])
        self.steps = steps_per_epoch(len(crops), plan.recipe.batch)
        self.scheduler = plan.recipe.scheduler_for(self.optimiser, self.steps)
        self.average = Average(model.net, 0.998)
        self.epoch = 0
        self.history = LossHistory(len(crops))
        self.trust = torch.ones(len(crops))
        self._balance = balance(crops)

    @property
    def learned(self) -> Trainable:
        """The net as it is to be used: the moving average where the recipe says so."""
        if not self.plan.recipe.averaged:
            return self.model
        classifier = Classifier(self.average.model, self.model.metadata)
        return Trainable(classifier, self.model.metadata)

    def run_epoch(self) -> float:
        """Learn from every picture once; the mean loss."""
        device = self.model.classifier.device
        learns(self.model, self.plan.frozen_backbone)
        if self.plan.reweight and self.epoch >= max(1, round(WARM_UP * self.plan.recipe.epochs)):
            self.trust = trust(self.history, self.crops.labels)
        weight = trusted(self._balance, self.trust, self.crops.labels)
        steps = Epoch(self.crops, weight, self.model.classifier, self.plan, self.epoch)
        workers = self.plan.workers
        batches = DataLoader(steps, batch_size=None, num_workers=workers, worker_init_fn=single_threaded)
        name = f"epoch {self.epoch + 1}/{self.plan.recipe.epochs}"
        total = 0.0
        bar = tqdm(batches, desc=name, total=len(steps), unit="step", disable=None)
        for done, (views, target, rows) in enumerate(bar, 1):
            target = target.to(device)
            with mixed_precision(device):
                logits = self.model.classifier.logits(views).float()
            loss = F.cross_entropy(logits, target, reduction="sum") / target.sum()
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.net.parameters(), CLIP)
            self.optimiser.step()
            self.scheduler.step()
            self.average.update(self.model.net)
            self._remember(rows, logits.detach().cpu())
            total += float(loss.detach())
            bar.set_postfix(loss=f"{total / done:.3f}", rate=f"{self.optimiser.param_groups[-1]['lr']:.1e}")
        self.epoch += 1
        self.model.net.eval()
        return total / len(steps)

    def _remember(self, rows: Tensor, logits: Tensor) -> None:
        known = rows >= 0
        labels = self.crops.labels[rows[known]]
        losses = F.cross_entropy(logits[known], labels, reduction="none")
        self.history.add(rows[known], losses, logits[known].softmax(1)[:, 1])

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "step": self.epoch * self.steps,
            "epoch": self.epoch,
            "model": self.model.net.state_dict(),
            "average": self.average.model.state_dict(),
            "average_steps": self.average.steps,
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "history": self.history.state(),
            "trust": self.trust,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.epoch = state["epoch"]
        self.model.net.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.average.steps = state["average_steps"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.history.load(state["history"])
        self.trust = state["trust"]


@torch.no_grad()
def judged(model: Trainable, crops: Crops) -> Tensor:
    """Logits ``[N, 2]`` of crops as they are seen at inference."""
    model.net.eval()
    found = []
    for start in range(0, len(crops), JUDGED_AT_ONCE):
        rows = range(start, min(len(crops), start + JUDGED_AT_ONCE))
        with mixed_precision(model.classifier.device):
            found.append(model.classifier.logits(plain_views(crops, rows, model.classifier)).float().cpu())
    return torch.cat(found) if found else torch.zeros(0, 2)
