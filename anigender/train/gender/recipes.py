"""Ways of going on from a trained net, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR

from ..checkpoints import parameter_groups


@dataclass(frozen=True)
class Recipe:
    """An optimiser, how its learning rate goes, and for how long.

    Attributes:
        optimiser: ``adamw`` or ``sgd``.
        learning_rate: the highest.
        schedule: ``one-cycle`` (Smith and Topin, "Super-Convergence", 2018) or ``step``: a tenth every ``step`` epochs.
        epochs: passes over the pictures.
        batch: views in a step.
        weight_decay: of kernels and matrices, not of norms and biases.
        momentum: of ``sgd``.
        step: epochs.
        averaged: the moving average of the weights is kept, rather than the last ones.
    """

    optimiser: str
    learning_rate: float
    schedule: str
    epochs: int
    batch: int = 64
    weight_decay: float = 0.0
    momentum: float = 0.9
    step: int = 7
    averaged: bool = True

    def optimiser_for(self, nets: Iterable[nn.Module]) -> torch.optim.Optimizer:
        """Of those parameters that learn."""
        groups: list[dict[str, Any]] = []
        for net in nets:
            for group in parameter_groups(net, self.weight_decay):
                learning = [parameter for parameter in group["params"] if parameter.requires_grad]
                groups += [group | {"params": learning}] if learning else []
        if self.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum)
        return torch.optim.AdamW(groups, lr=self.learning_rate)

    def scheduler_for(self, optimiser: torch.optim.Optimizer, steps_per_epoch: int) -> LRScheduler:
        """To be stepped after every step."""
        if self.schedule == "step":
            return StepLR(optimiser, self.step * steps_per_epoch, 0.1)
        total = max(2, self.epochs * steps_per_epoch)
        # Momentum stays: with a moving average and few steps, cycling it only adds a thing to choose.
        return OneCycleLR(optimiser, self.learning_rate, total_steps=total, cycle_momentum=False)


RECIPES: dict[str, Recipe] = {
    "finetune": Recipe("adamw", 3e-4, "one-cycle", epochs=10, weight_decay=0.05),
    # As "Transfer Learning for Anime Characters" trains its nets.
    "sgd-step": Recipe("sgd", 1e-3, "step", epochs=25, batch=32, averaged=False),
}
