"""Training the embedded gender classifier.

Head crops of labelled characters, drawn by character and balanced by gender, with the characters' identities as a
second target (so that the features describe faces and not only games), plus unlabelled faces whose labels are the
moving average's own answers (Tarvainen and Valpola, "Mean teachers are better role models", 2017; Lee,
"Pseudo-Label", 2013), refreshed as it learns.
"""

from __future__ import annotations

import io
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from ..classify.gendernet import GenderNet
from ..evaluate.metrics import fit_temperature, gender_figures
from ..faces import Faces
from ..images import check, head_crops
from ..inference import placed
from . import dataset
from .augment import CACHE_MARGIN, CACHE_SIZE, augment, plain
from .checkpoints import Average, Log, cosine, load_checkpoint, parameter_groups, save_checkpoint

EPOCH = 8192  # labelled pictures
SIZE = 96
SMALL = 64  # views of the first epochs: less than half the work while the coarse features are learned
MARGIN = 1.0
BATCH = 96
MEAN, STD = 0.5, 0.25


@dataclass
class Options:
    """What a run needs; the defaults made the embedded file."""

    data: Path
    output: Path
    detector: str = "auto"
    epochs: int = 36
    small_epochs: int = 26  # at most three quarters of all
    learning_rate: float = 1.5e-3
    seed: int = 0
    device: str = "cpu"
    hold_out: tuple[str, ...] = ()
    unlabelled_from: int = 18
    refresh: int = 8
    resume: bool = False


def cut(pixels: np.ndarray, heads: np.ndarray) -> Tensor:
    """Cached crops around heads.

    Args:
        pixels: ``[h, w, 4]`` uint8 RGBA.
        heads: ``[n, 4]`` xyxy.

    Returns:
        ``[n, 4, CACHE_SIZE, CACHE_SIZE]`` uint8 RGBA, made by :func:`anigender.images.head_crops`.
    """
    image = torch.from_numpy(np.ascontiguousarray(pixels))[None]
    faces = Faces.from_boxes([torch.from_numpy(heads)], [pixels.shape[:2]])
    alpha = image[..., 3:].expand(-1, -1, -1, 3).contiguous()
    rgb = head_crops(check(image[..., :3].contiguous()), faces, CACHE_SIZE, CACHE_MARGIN)
    mask = head_crops(check(alpha), faces, CACHE_SIZE, CACHE_MARGIN)[:, :1]
    return (torch.cat((rgb, mask), 1) * 255).round().to(torch.uint8)


class Student(nn.Module):
    """What is trained: the classifier, and a second answer on its features, who the character is."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.net = GenderNet()
        self.identity = nn.Linear(self.net.fc.in_features, characters)


@dataclass
class Crops:
    """Cached crops with what is known of them; ``pixels [N, 4, K, K]`` uint8, ``labels [N]`` int64."""

    pixels: Tensor
    labels: Tensor
    pictures: list[dataset.Picture]


def labelled_crops(data: Path, detector: str, cache: Path | None) -> tuple[Crops, Crops]:
    """Head crops of ``train`` and ``val``, in the frames the detector finds.

    In a picture of one character the head is the detector's surest, or the first label where it finds none; a
    television still without a head, and cut-outs on which nothing is known, are left out of training and of ``val``
    alike: what is measured there is the classifier. (:mod:`anigender.evaluate` measures both together.)
    """
    from .relabel import relabel

    if cache is not None and cache.is_file():
        stored = torch.load(cache, weights_only=True)
        rows = {picture.file: picture for picture in dataset.read_pictures(data)}
        pictures = [rows[file] for file in stored["files"]]
        pixels, labels = stored["pixels"], stored["labels"]
    else:
        everything = dataset.read_pictures(data)
        dataset.label_heads(everything, data)
        relabel(everything, data, Path(detector), None)
        parts, pictures, genders = [], [], []
        for picture in tqdm(everything, desc="crops", unit="picture"):
            if not len(picture.heads):
                continue
            head = picture.heads[(picture.heads[:, 2] - picture.heads[:, 0]).argmax()][None]
            with Image.open(data / picture.file) as image:
                parts.append(cut(np.asarray(image.convert("RGBA")), head))
            pictures.append(picture)
            genders.append(dataset.GENDERS.index(picture.gender))
        pixels, labels = torch.cat(parts), torch.tensor(genders)
        if cache is not None:
            save_checkpoint(cache, {"pixels": pixels, "labels": labels, "files": [p.file for p in pictures]})
    splits = []
    for split in ("train", "val"):
        rows_of = [i for i, picture in enumerate(pictures) if picture.split == split]
        splits.append(Crops(pixels[rows_of], labels[rows_of], [pictures[i] for i in rows_of]))
    return splits[0], splits[1]


def unlabelled_crops(data: Path) -> Tensor:
    """The unlabelled faces as cached crops ``[N, 4, K, K]``: each picture is taken for one head square."""
    parts = []
    for shard in sorted((data / "unlabelled").glob("*.tar")):
        with tarfile.open(shard) as archive:
            for member in tqdm(archive.getmembers(), desc=shard.name, unit="face"):
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None:
                    continue
                with Image.open(io.BytesIO(stream.read())) as image:
                    pixels = np.asarray(image.convert("RGBA"))
                side = max(pixels.shape[:2])
                parts.append(cut(pixels, np.array([[0, 0, side, side]], np.float32)))
    return torch.cat(parts) if parts else torch.zeros(0, 4, CACHE_SIZE, CACHE_SIZE, dtype=torch.uint8)


class Draws(IterableDataset):
    """Endless augmented batches: views ``[B, 3, S, S]``, gender targets ``[B, 2]``, identities ``[B]`` (-1: none).

    Genders in equal parts; inside a gender by character, characters of large folders somewhat less often, so that
    no game sets the style; inside a character any of its pictures.
    """

    def __init__(
        self, crops: Crops, identities: Tensor, unlabelled: Tensor, soft: Tensor | None, seed: int, size: int = SIZE
    ) -> None:
        self.size = size
        self.crops, self.identities = crops, identities
        self.unlabelled, self.soft, self.seed = unlabelled, soft, seed
        groups: dict[str, list[int]] = defaultdict(list)
        for i, picture in enumerate(crops.pictures):
            groups[picture.character].append(i)
        in_folder = Counter(crops.pictures[rows[0]].folder for rows in groups.values())
        self.by_gender: list[tuple[list[list[int]], np.ndarray]] = []
        for gender in (0, 1):
            mine = [rows for rows in groups.values() if int(crops.labels[rows[0]]) == gender]
            weight = np.array([in_folder[crops.pictures[rows[0]].folder] ** -0.3 for rows in mine])
            self.by_gender.append((mine, weight / weight.sum()))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, info.id if info else 0))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        extra = BATCH // 2 if self.soft is not None else 0
        if self.soft is not None:  # unlabelled faces are mostly women: draw both kinds of answer alike
            male = self.soft[:, 1].double()
            share = (male / male.sum() + (1 - male) / (1 - male).sum()).numpy()
            share /= share.sum()
        while True:
            rows = []
            for gender in (0, 1):
                mine, weight = self.by_gender[gender]
                for choice in rng.choice(len(mine), BATCH // 2, p=weight):
                    rows.append(mine[choice][rng.integers(len(mine[choice]))])
            pixels, identity = self.crops.pixels[rows], self.identities[rows]
            target = F.one_hot(self.crops.labels[rows], 2).float() * 0.94 + 0.03
            if self.soft is not None:
                more = torch.from_numpy(rng.choice(len(self.unlabelled), extra, p=share))
                pixels = torch.cat((pixels, self.unlabelled[more]))
                target = torch.cat((target, self.soft[more]))
                identity = torch.cat((identity, torch.full((extra,), -1)))
            # Small views have less to lose, and a net that knows nothing yet learns little from ruined ones.
            yield augment(pixels, self.size, rng, generator, 1.0 if self.size == SIZE else 0.5), target, identity


def normalise(x: Tensor, device: str) -> Tensor:
    """0-1 to what the net reads."""
    return ((x - MEAN) / STD).to(device).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(model: GenderNet, pixels: Tensor, device: str, size: int = SIZE, flip: bool = False) -> Tensor:
    """Logits ``[N, 2]`` of cached crops in the plain framing, averaged with the mirrored ones where asked."""
    out = []
    for part in pixels.split(128):
        x = normalise(plain(part, size, MARGIN), device)
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            logits = model(x).float()
            if flip:
                logits = (logits + model(x.flip(-1)).float()) / 2
        out.append(logits.cpu())
    return torch.cat(out) if out else torch.zeros(0, 2)


def train(options: Options) -> None:
    """Run (or resume) a training and leave the best averaged net, calibrated, at ``options.output``."""
    torch.manual_seed(options.seed)
    device = options.device
    options.output.parent.mkdir(parents=True, exist_ok=True)
    learn, judge = labelled_crops(options.data, options.detector, options.output.parent / "crops.cache.pt")
    if options.hold_out:
        apart = [i for i, p in enumerate(learn.pictures) if p.folder in options.hold_out]
        also = [i for i, p in enumerate(judge.pictures) if p.folder in options.hold_out]
        judge = Crops(
            torch.cat((learn.pixels[apart], judge.pixels[also])),
            torch.cat((learn.labels[apart], judge.labels[also])),
            [learn.pictures[i] for i in apart] + [judge.pictures[i] for i in also],
        )
        kept = sorted(set(range(len(learn.pictures))) - set(apart))
        learn = Crops(learn.pixels[kept], learn.labels[kept], [learn.pictures[i] for i in kept])
    wanted = options.unlabelled_from < options.epochs
    unlabelled = unlabelled_crops(options.data) if wanted else torch.zeros(0, 4, CACHE_SIZE, CACHE_SIZE)
    names = {name: i for i, name in enumerate(sorted({p.character for p in learn.pictures}))}
    identities = torch.tensor([names[p.character] for p in learn.pictures])

    model = placed(Student(len(names)), device)
    average = Average(model, 0.998)
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.05), lr=options.learning_rate)
    checkpoint = options.output.with_suffix(".checkpoint.pt")
    step, epoch, best = 0, 0, 0.0
    if options.resume:
        state = load_checkpoint(checkpoint)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, epoch, best, average.steps = state["step"], state["epoch"], state["best"], state["step"]
    log = Log(options.output.with_suffix(".log.jsonl"), options.resume)
    small_epochs = min(options.small_epochs, options.epochs * 3 // 4)
    per_epoch = EPOCH // BATCH
    total = options.epochs * per_epoch
    soft: Tensor | None = None
    batches: Iterator | None = None
    while epoch < options.epochs:
        size = SMALL if epoch < small_epochs else SIZE
        due = epoch >= options.unlabelled_from and len(unlabelled)
        if due and (soft is None or (epoch - options.unlabelled_from) % options.refresh == 0):
            # Sharpened a little: agreement of the net with itself is worth more than its caution.
            soft = (predict(average.model.net, unlabelled, device, size) / 0.7).softmax(1)
            log.write(epoch=epoch, unlabelled_male=round(float((soft[:, 1] > 0.5).float().mean()), 4))
            batches = None
        if batches is None or epoch == small_epochs:
            draws = Draws(learn, identities, unlabelled, soft, options.seed + 1000 * (epoch + 1), size)
            batches = iter(DataLoader(draws, batch_size=None, num_workers=1, prefetch_factor=4))
        model.train()
        running = np.zeros(3)
        bar = tqdm(range(per_epoch), desc=f"gender {epoch + 1}/{options.epochs}", unit="step")
        for _ in bar:
            views, target, identity = next(batches)
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * cosine(step, total, per_epoch)
            target, identity = target.to(device), identity.to(device)
            with torch.autocast(device.split(":")[0], torch.bfloat16):
                features = F.dropout(model.net.features(normalise(views, device)), 0.1)
                logits = model.net.fc(features)
                who = model.identity(features[identity >= 0])
            gender_loss = F.cross_entropy(logits.float(), target)
            identity_loss = F.cross_entropy(who.float(), identity[identity >= 0], label_smoothing=0.1)
            optimiser.zero_grad(set_to_none=True)
            (gender_loss + 0.1 * identity_loss).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            average.update(model)
            step += 1
            running += (float(gender_loss.detach()), float(identity_loss.detach()), 1)
        epoch += 1
        logits = predict(average.model.net, judge.pixels, device, size)
        temperature = fit_temperature(logits, judge.labels)
        figures = gender_figures((logits / temperature).softmax(1), judge.labels)
        log.write(
            epoch=epoch,
            gender_loss=round(running[0] / running[2], 4),
            identity_loss=round(running[1] / running[2], 4),
            temperature=round(temperature, 3),
            **figures.as_dict(),
        )
        tqdm.write(f"epoch {epoch}: {figures.as_dict()}")
        if size == SIZE and figures.balanced_accuracy >= best:
            best = figures.balanced_accuracy
            save_gender(average.model.net, temperature, options.output)
        save_checkpoint(
            checkpoint,
            {
                "model": model.state_dict(),
                "average": average.model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "epoch": epoch,
                "best": best,
            },
        )


def save_gender(model: GenderNet, temperature: float, output: Path) -> None:
    """The net in half precision with its preprocessing and calibration, as one safetensors file."""
    from ..weights import save_weights

    save_weights(
        output,
        {
            name: value.half() if value.is_floating_point() else value
            for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        },
        {
            "anigender.kind": "classifier",
            "anigender.architecture": "gendernet",
            "anigender.labels": "female,male",
            "anigender.input_size": str(SIZE),
            "anigender.margin": str(MARGIN),
            "anigender.mean": ",".join([str(MEAN)] * 3),
            "anigender.std": ",".join([str(STD)] * 3),
            "anigender.channel_order": "RGB",
            "anigender.temperature": f"{temperature:.4f}",
        },
    )
