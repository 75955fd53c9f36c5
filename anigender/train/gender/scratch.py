"""Training the embedded gender classifier.

Head crops of labelled characters, drawn by character and balanced by gender, and unlabelled faces as they were judged
by eye (:mod:`anigender.datasets.judged`). The labels of others are the answers of earlier nets (Xie et al.,
"Self-training with Noisy Student", 2020), or where there are none of the moving average (Tarvainen and Valpola, "Mean
teachers are better role models", 2017). A second target asks the features to tell characters apart: two pictures of
one character, or two views of one unlabelled face, should be closer than any others of the batch (Khosla et al.,
"Supervised Contrastive Learning", 2020). Without it a net of this size learns the games it was shown more than the
faces in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ...classify.gendernet import build
from ...datasets.judged import kept_out, measured_by, read_judged_faces, read_judged_heads
from ...evaluate.metrics import fit_calibration, gender_figures
from ...inference import mixed_precision, placed
from ...weights import read_weights
from ..checkpoints import (
    Average,
    Log,
    cosine,
    digest_of,
    parameter_groups,
    resumed,
    save_checkpoint,
    taking_over,
)
from ..crops.crops import Crops, labelled_crops, source_of, unlabelled_crops
from ..crops.store import Pixels, SomeRows
from .draws import LABELLED, Draws
from .file import SIZE, Framing, answers, calibrated, framing_of, normalise, save_gender, surrounded
from .learning import WARM_UP
from .outliers import LossHistory, trust
from .student import Student, begin_from, contrast
from .suspects import check_report, report_suspects, suspects

EPOCH = 8192  # labelled views
SMALL = 80  # views of the first epochs: half the work while the coarse features are learned
LEARNING_RATE = 1.5e-3
SEEN = 0.5  # of a target is how the drawing reads, the rest its label
CONTRAST = 0.2  # weight of telling characters apart


@dataclass
class Options:
    """What a run needs; the model card says how the embedded file came about."""

    data: Path
    output: Path
    detector: str = "auto"
    epochs: int = 46
    small_epochs: int | None = None  # at most three quarters of all; 26, or none where it starts from another net
    learning_rate: float | None = None  # 0.0015, or a third of it where it starts from another net
    seed: int = 0
    device: str = "cpu"
    hold_out: tuple[str, ...] = ()
    teachers: tuple[Path, ...] = ()
    start: Path | None = None  # a net of this architecture to go on from
    strength: float = 0.45  # of the views' changes: at full strength a net of this size does not fit what it is shown
    mixed: float = 0.12  # of a batch
    own_labels_from: int = 8  # without teachers the unlabelled faces have no labels before that, and then the net's own
    refresh: int = 10  # epochs after which these are asked for anew
    reweight: bool = False  # trust pictures less whose label the net does not come to agree with
    suspects: Path | None = None  # the report of these to write
    resume: bool = False

    def fingerprint(self, learn: Crops, unlabelled: Sequence[str]) -> dict[str, Any]:
        """What must stay the same for a run to be gone on with, which may become longer.

        Args:
            learn: labelled crops.
            unlabelled: names of the other faces.
        """
        same = ("small_epochs", "learning_rate", "seed", "strength", "mixed", "reweight")
        return {
            "from": str(self.start),
            **{name: getattr(self, name) for name in same},
            "teachers": [str(path) for path in self.teachers],
            "hold_out": sorted(self.hold_out),
            "detector": source_of(self.detector)[:16],
            "files, characters, genders and splits": digest_of(
                (p.file, p.character, p.gender, p.split) for p in learn.pictures
            ),
            "unlabelled faces": digest_of((name,) for name in unlabelled),
        }


def teachings(options: Options, unlabelled: Pixels, extents: np.ndarray | None = None) -> Tensor | None:
    """What the teachers think of the unlabelled faces: the mean of their calibrated answers ``[N, 2]``, or None."""
    opinions = []
    for path in options.teachers:
        tensors, metadata = read_weights(path)
        net = placed(build(tensors).eval(), options.device)
        logits = answers(net, unlabelled, extents, options.device, framing_of(metadata), flip=True)
        opinions.append((logits / float(metadata["anigender.temperature"])).softmax(1))
    return torch.stack(opinions).mean(0) if opinions else None


def readable(crops: Crops) -> Tensor:
    """What labelled heads are to be called, ``[N, 2]``: half what their label says and half how the drawing reads.

    Zeros where what was taken for the head is none.
    """
    files = [picture.file for picture in crops.pictures]
    seen = read_judged_heads(files, crops.labels)
    male = crops.labels.float().lerp(seen, SEEN)
    targets = torch.stack((1 - male, male), 1)
    targets[seen < 0] = 0
    return targets


def judgements(data: Path, files: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What was judged of the unlabelled faces.

    Returns:
        Targets ``[N, 2]``, NaN where a face was not judged and zeros where it is not to be learned from, and ``[N]``
        the genders of those that are kept for measuring and were surely judged, else -1.
    """
    male = read_judged_faces(data, files)
    targets = torch.stack((1 - male, male), 1)
    targets[(kept_out(files) & ~male.isnan()) | (male < 0)] = 0
    return targets, measured_by(files, male)


def judged_first(guessed: Tensor | None, judged: Tensor) -> Tensor | None:
    """Targets ``[N, 2]`` of the unlabelled faces: as they were judged, else what a net guessed, or zeros.

    None where nothing is known of any.
    """
    unjudged = judged.isnan()
    if unjudged.all():
        return guessed
    return torch.where(unjudged, torch.zeros_like(judged) if guessed is None else guessed, judged)


def last_of(output: Path) -> Path:
    """Where the net after the last epoch is left."""
    return output.with_suffix(".last.safetensors")


def learning_rate_at(epoch: float, small_epochs: int, epochs: int) -> float:
    """The factor on the learning rate: half a cosine to a third at the small size, then a new, lower one to zero.

    The change of size sets a net back; at the end of one long cosine it has no rate left to recover with.
    """
    if epoch < small_epochs:
        return 0.3 + 0.7 * cosine(round(epoch * 1000), small_epochs * 1000, 1000)
    return 0.7 * cosine(round((epoch - small_epochs) * 1000), max(1, epochs - small_epochs) * 1000, 500)


def train(options: Options) -> None:
    """Run (or resume) a training and leave the best averaged net, calibrated, at ``options.output``.

    The average after the last epoch, which no figure has chosen, is left beside it (:func:`last_of`).
    """
    if options.suspects is not None:
        check_report(options.suspects)
    torch.manual_seed(options.seed)
    device = options.device
    options.output.parent.mkdir(parents=True, exist_ok=True)
    learn, judge = labelled_crops(options.data, options.detector, options.output.parent, options.hold_out)
    targets = readable(learn)
    pixels, ends, files = unlabelled_crops(options.data, options.output.parent)
    judged, measured = judgements(options.data, files)
    told = (measured >= 0).nonzero()[:, 0].numpy()
    names = {name: i for i, name in enumerate(sorted({p.character for p in learn.pictures}))}
    identities = torch.tensor([names[p.character] for p in learn.pictures])

    checkpoint, fingerprint = options.output.with_suffix(".checkpoint.pt"), options.fingerprint(learn, files)
    state = resumed(checkpoint, fingerprint) if options.resume else None
    student = Student()
    if options.start is not None and state is None:
        begin_from(student.net, options.start)
    goes_on = options.start is not None  # the first third of the way is behind it
    highest = options.learning_rate or (LEARNING_RATE / 3 if goes_on else LEARNING_RATE)
    model = placed(student, device)
    average = Average(model, 0.998)
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.05), lr=highest)
    step, epoch, best, temperature, bias = 0, 0, 0.0, 1.0, 0.0
    soft = None if options.resume else judged_first(teachings(options, pixels, ends), judged)
    history, trusted = LossHistory(len(learn)), None
    if state is not None:
        with taking_over(checkpoint):
            model.load_state_dict(state["model"])
            average.model.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
        step, epoch, best, average.steps = state["step"], state["epoch"], state["best"], state["step"]
        soft, temperature, bias = state.get("soft"), state["temperature"], state["bias"]
        if "history" in state:
            history.load(state["history"])
    log = Log(options.output.with_suffix(".log.jsonl"), options.resume)
    small_epochs = options.small_epochs
    if small_epochs is None:
        small_epochs = 0 if goes_on else 26
    small_epochs = min(small_epochs, options.epochs * 3 // 4)
    per_epoch = EPOCH // LABELLED
    while epoch < options.epochs:
        torch.manual_seed(options.seed + 1000 * (epoch + 1))  # so that a resumed run drops out what another would have
        size = SMALL if epoch < small_epochs else SIZE
        due = epoch >= options.own_labels_from and epoch % options.refresh == 0
        if due and not options.teachers and judged.isnan().any():
            logits = answers(average.model.net, pixels, ends, device, Framing(size), flip=True)
            soft = judged_first(calibrated(logits, temperature, bias), judged)
            assert soft is not None
            log.write(epoch=epoch, unlabelled_male=round(float((soft[:, 1] > 0.5).float().mean()), 4))
        if options.reweight and epoch >= WARM_UP * options.epochs:
            trusted = trust(history, learn.labels)
        draws = Draws(
            learn,
            identities,
            (pixels, ends),
            soft,
            options.seed + 1000 * (epoch + 1),
            size,
            options.strength,
            options.mixed,
            trusted,
            targets,
        )
        batches = iter(DataLoader(draws, batch_size=None, num_workers=1, prefetch_factor=4))
        model.train()
        running = np.zeros(3)
        bar = tqdm(range(per_epoch), desc=f"gender {epoch + 1}/{options.epochs}", unit="step")
        for _ in bar:
            views, target, identity, rows = next(batches)
            for group in optimiser.param_groups:
                group["lr"] = highest * learning_rate_at(step / per_epoch, small_epochs, options.epochs)
            target, identity = target.to(device), identity.to(device)
            with mixed_precision(device):
                features = model.net.features(normalise(views, device))
                logits = model.net.fc(F.dropout(features, 0.1))
                projected = model.project(features)
            gender_loss = F.cross_entropy(logits.float(), target)
            identity_loss = contrast(projected, identity)
            optimiser.zero_grad(set_to_none=True)
            (gender_loss + CONTRAST * identity_loss).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            average.update(model)
            known = rows >= 0
            said = logits.detach().float().cpu()[known]
            losses = F.cross_entropy(said, learn.labels[rows[known]], reduction="none")
            history.add(rows[known], losses, said.softmax(1)[:, 1])
            step += 1
            running += (float(gender_loss.detach()), float(identity_loss.detach()), 1)
        del batches
        epoch += 1
        logits = answers(average.model.net, judge.pixels, judge.extents, device, Framing(size))
        temperature, bias = fit_calibration(logits, judge.labels)
        figures = gender_figures(calibrated(logits, temperature, bias), judge.labels)
        of_faces = {}
        if len(told):
            seen = answers(average.model.net, SomeRows(pixels, told), ends[told], device, Framing(size))
            of_faces = gender_figures(calibrated(seen, temperature, bias), measured[told]).as_dict()
        log.write(
            epoch=epoch,
            gender_loss=round(running[0] / running[2], 4),
            identity_loss=round(running[1] / running[2], 4),
            temperature=round(temperature, 3),
            bias=round(bias, 3),
            **figures.as_dict(),
            faces=of_faces,
        )
        tqdm.write(f"epoch {epoch}: {figures.as_dict()}")
        if size == SIZE and figures.balanced_accuracy >= best:
            best = figures.balanced_accuracy
            shown = surrounded(judge.pixels, judge.extents)
            save_gender(average.model.net, temperature, bias, options.output, shown=shown)
        state = {
            "model": model.state_dict(),
            "average": average.model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "epoch": epoch,
            "best": best,
            "temperature": temperature,
            "bias": bias,
            "history": history.state(),
            "options": fingerprint,
        }
        save_checkpoint(checkpoint, state if soft is None else state | {"soft": soft})
    shown = surrounded(judge.pixels, judge.extents)
    save_gender(average.model.net, temperature, bias, last_of(options.output), shown=shown)
    if options.suspects is not None:
        report_suspects(options.suspects, suspects(history, learn), learn, options.data)
