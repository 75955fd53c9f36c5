"""Going on from any trained net of the registry, with pictures of one's own: the recipes other than ``scratch``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ...evaluate.metrics import fit_calibration, gender_figures
from ..checkpoints import Log, digest_of, resumed, save_checkpoint, taking_over
from ..crops.augment import CACHE_MARGIN, CACHE_SIZE
from ..crops.crops import Crops, labelled_crops, source_of
from ..crops.views import cache_shape, plain_views
from .file import SHOWN, calibrated
from .learning import Learning, Plan, judged
from .recipes import RECIPES
from .suspects import check_report, report_suspects, suspects
from .trainable import Trainable, read_trainable, save_trained

log = logging.getLogger("anigender")


@dataclass
class Options:
    """What a run needs. What is None is the recipe's own."""

    data: Path
    output: Path
    start: str = "auto"  # a classifier's name or file
    recipe: str = "finetune"
    epochs: int | None = None
    learning_rate: float | None = None
    batch: int | None = None
    weight_decay: float | None = None
    freeze: bool = False  # the backbone
    new_head: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    detector: str = "auto"
    seed: int = 0
    device: str = "cpu"
    hold_out: tuple[str, ...] = ()
    strength: float = 0.45
    mixed: float = 0.12
    reweight: bool = False
    suspects: Path | None = None  # the report to write
    workers: int | None = None
    resume: bool = False

    def plan(self) -> Plan:
        """The recipe with what is given explicitly in the place of its own."""
        named = {name: getattr(self, name) for name in ("epochs", "learning_rate", "batch", "weight_decay")}
        recipe = replace(RECIPES[self.recipe], **{name: value for name, value in named.items() if value is not None})
        plan = Plan(recipe, self.seed, self.strength, self.mixed, self.freeze, self.reweight)
        return plan if self.workers is None else replace(plan, workers=self.workers)

    def fingerprint(self, plan: Plan, learn: Crops, judge: Crops) -> dict[str, Any]:
        """What must stay the same for a run to be gone on with."""
        pictures = [*learn.pictures, *judge.pictures]
        return {
            "from": str(self.start),
            "recipe": self.recipe,
            **{name: getattr(plan.recipe, name) for name in ("epochs", "learning_rate", "batch", "weight_decay")},
            **{name: getattr(self, name) for name in ("freeze", "new_head", "seed", "strength", "mixed", "reweight")},
            "settings": {name: str(value) for name, value in sorted(self.settings.items())},
            "hold_out": sorted(self.hold_out),
            "detector": source_of(self.detector)[:16],
            "pictures": len(learn),
            "files, genders and splits": digest_of((p.file, p.gender, p.split) for p in pictures),
        }


def finetune(options: Options) -> dict[str, float]:
    """Run (or resume) a training and leave the net, calibrated, at ``options.output``.

    The file holds the net as it is after the last finished epoch. It is never chosen by what it reaches on ``val``,
    so that the figures there are not flattered; only the calibration is fitted on ``val``.

    Returns:
        The last epoch's figures on ``val``.

    Raises:
        ValueError, FileNotFoundError: something that is given does not do; the message says what.
    """
    if options.suspects is not None:
        check_report(options.suspects)
    torch.manual_seed(options.seed)  # a new last layer is drawn
    model = read_trainable(options.start, options.settings, options.new_head, options.device)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    size, margin = cache_shape(model.classifier, CACHE_SIZE, CACHE_MARGIN)
    learn, judge = labelled_crops(options.data, options.detector, options.output.parent, options.hold_out, size, margin)
    plan = options.plan()
    if len(learn) < 2:
        raise ValueError(f"{len(learn)} pictures are too few to learn from")
    learning = Learning(model, learn, plan)
    checkpoint = options.output.with_suffix(".checkpoint.pt")
    fingerprint = options.fingerprint(plan, learn, judge)
    if options.resume:
        state = resumed(checkpoint, fingerprint)
        with taking_over(checkpoint):
            learning.load(state)
    lines = Log(options.output.with_suffix(".log.jsonl"), options.resume)
    figures = {}
    if learning.epoch == 0:
        figures = _judge(model, judge)[0]
        lines.write(epoch=0, **figures)
        tqdm.write(f"before: {figures}")
    while learning.epoch < plan.recipe.epochs:
        loss = learning.run_epoch()
        figures, (temperature, bias) = _judge(learning.learned, judge)
        trusted = round(float(learning.trust.mean()), 4)
        lines.write(
            epoch=learning.epoch,
            loss=round(loss, 4),
            trusted=trusted,
            temperature=round(temperature, 3),
            bias=round(bias, 3),
            **figures,
        )
        tqdm.write(f"epoch {learning.epoch}: {figures}")
        rows = range(min(SHOWN, len(judge)))
        shown = partial(plain_views, judge, rows, learning.learned.classifier)
        save_trained(learning.learned, temperature, bias, options.output, shown)
        save_checkpoint(checkpoint, learning.state() | {"options": fingerprint})
    if not figures:
        figures = _judge(learning.learned, judge)[0]
    if options.suspects is not None:
        found = suspects(learning.history, learn)
        report_suspects(options.suspects, found, learn, options.data)
    return figures


def _judge(model: Trainable, judge: Crops) -> tuple[dict[str, float], tuple[float, float]]:
    """Figures on pictures that were not learned from, and the calibration fitted on them."""
    logits = judged(model, judge)
    temperature, bias = fit_calibration(logits, judge.labels)
    return gender_figures(calibrated(logits, temperature, bias), judge.labels).as_dict(), (temperature, bias)
