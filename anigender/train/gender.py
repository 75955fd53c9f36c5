"""Training the embedded gender classifier.

Head crops of labelled characters, drawn by character and balanced by gender, and as many unlabelled faces whose
labels are the answers of earlier nets and of the moving average (Xie et al., "Self-training with Noisy Student", 2020;
Tarvainen and Valpola, "Mean teachers are better role models", 2017), refreshed as it learns. A second target asks the
features to tell characters apart: two pictures of one character, or two views of one unlabelled face, should be
closer than any others of the batch (Khosla et al., "Supervised Contrastive Learning", 2020). Without it a net of this
size learns the games it was shown more than the faces in them.
"""

from __future__ import annotations

import io
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
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

from ..classify.gendernet import GenderNet, build
from ..evaluate.metrics import fit_calibration, gender_figures
from ..faces import Faces
from ..images import check, head_crops
from ..inference import mixed_precision, placed
from ..weights import read_weights, save_weights
from . import dataset
from .augment import CACHE_MARGIN, CACHE_SIZE, alone, augment, mix, plain
from .checkpoints import Average, Log, cosine, half_precision, load_checkpoint, parameter_groups, save_checkpoint

EPOCH = 8192  # labelled views
SIZE = 112
SMALL = 80  # views of the first epochs: half the work while the coarse features are learned
MARGIN, BELOW = 1.5, 0.17  # the head, the shoulders and the collar: clothes tell where a face does not
ALONE = 0.25  # of a batch are seen as if the picture ended around the head
LABELLED, UNLABELLED = 128, 64  # views in a batch, two of each character and of each unlabelled face
CONTRAST = 0.2  # weight of telling characters apart
MEAN, STD = 0.5, 0.25


@dataclass
class Options:
    """What a run needs; the model card says how the embedded file came about."""

    data: Path
    output: Path
    detector: str = "auto"
    epochs: int = 46
    small_epochs: int = 26  # at most three quarters of all; none where it starts from another net
    learning_rate: float = 1.5e-3
    seed: int = 0
    device: str = "cpu"
    hold_out: tuple[str, ...] = ()
    teachers: tuple[Path, ...] = ()
    start: Path | None = None  # a net of this architecture to go on from
    strength: float = 0.45  # of the views' changes: at full strength a net of this size does not fit what it is shown
    mixed: float = 0.12  # of a batch
    own_labels_from: int = 8  # before that the unlabelled faces have the teachers' labels, or none
    refresh: int = 10
    resume: bool = False


def cut(pixels: np.ndarray, heads: np.ndarray) -> Tensor:
    """Cached crops around heads.

    Args:
        pixels: ``[h, w, 4]`` uint8 RGBA.
        heads: ``[n, 4]`` xyxy.

    Returns:
        ``[n, 4, CACHE_SIZE, CACHE_SIZE]`` uint8 RGBA, made by :func:`anigender.images.head_crops`.
    """
    image = torch.from_numpy(np.array(pixels))[None]  # a copy: Pillow gives pixels that must not be written to
    faces = Faces.from_boxes([torch.from_numpy(heads)], [pixels.shape[:2]])
    alpha = image[..., 3:].expand(-1, -1, -1, 3).contiguous()
    rgb = head_crops(check(image[..., :3].contiguous()), faces, CACHE_SIZE, CACHE_MARGIN)
    mask = head_crops(check(alpha), faces, CACHE_SIZE, CACHE_MARGIN)[:, :1]
    return (torch.cat((rgb, mask), 1) * 255).round().to(torch.uint8)


class Student(nn.Module):
    """What is trained: the classifier, and on its features a projection in which characters are told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.net = GenderNet(head=head_window())
        width = self.net.fc.in_features
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, 128))


def head_window() -> tuple[float, float, float, float]:
    """Where crops of :data:`MARGIN` and :data:`BELOW` show the head, in shares of their sides."""
    half = 0.5 / MARGIN
    middle = 0.5 - BELOW / MARGIN
    return 0.5 - half, max(0.0, middle - half), 0.5 + half, middle + half


def begin_from(net: GenderNet, path: Path) -> None:
    """Give a new net the weights of a file; where that net saw heads alone, what it made of them counts for the head.

    Raises:
        ValueError: it is of other widths or depths.
    """
    tensors, _ = read_weights(path)
    state = build(tensors).state_dict()
    if "head" not in state:
        weight = state["fc.weight"]
        state |= {"head": net.state_dict()["head"], "fc.weight": torch.cat((weight, torch.zeros_like(weight)), 1)}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be gone on from: {error}") from error


def contrast(projected: Tensor, identity: Tensor, temperature: float = 0.15) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020, eq. 2).

    Args:
        projected: ``[B, D]``.
        identity: ``[B]``; views of -1 are left out.
        temperature: of the softmax over cosines.
    """
    known = identity >= 0
    x, who = F.normalize(projected[known].float(), dim=1), identity[known]
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    logits = (x @ x.T / temperature).masked_fill(own, -1e9)
    same = (who[:, None] == who) & ~own
    likely = (logits.log_softmax(1) * same).sum(1) / same.sum(1).clamp(min=1)
    paired = same.any(1)
    return -likely[paired].sum() / paired.sum().clamp(min=1)


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

    stored = torch.load(cache, weights_only=True) if cache is not None and cache.is_file() else None
    if stored is not None and stored["pixels"].shape[-1] == CACHE_SIZE:
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


def balanced(soft: Tensor) -> tuple[Tensor, np.ndarray]:
    """Targets and drawing chances of faces of which only guesses are known, so that neither gender is favoured.

    Most unlabelled faces are women's, and the guesses are made for equal parts: taken as they are, they would teach
    "rather a woman". So the guesses are sharpened, those called men are drawn as often as those called women, and
    what is still missing is made up by weight.

    Args:
        soft: ``[N, 2]`` guessed probabilities.

    Returns:
        Targets ``[N, 2]``, whose rows no longer sum to 1, and chances ``[N]``. Over the draws, both columns have a
        mean of one half.
    """
    sharp = soft.double() ** 2
    sharp /= sharp.sum(1, keepdim=True)
    chance = (sharp / sharp.sum(0)).mean(1)
    mass = (sharp * chance[:, None]).sum(0)
    return (sharp * 0.5 / mass).float(), chance.numpy() / float(chance.sum())


def folder_weight(characters: Mapping[tuple[str, int], int], folder: str) -> float:
    """How often each gender of a folder is drawn, the same for both.

    Else a show of mostly men teaches that its style is a man's: on television stills, where men are in the majority,
    a third of the women were called men. Large folders count for less than their size, and those of one gender, which
    can teach nothing but their style, for little.

    Args:
        characters: how many there are by folder and gender (0 female, 1 male).
        folder: one of them.
    """
    women, men = characters.get((folder, 0), 0), characters.get((folder, 1), 0)
    return (women * men) ** 0.35 if women and men else 0.3 * (women + men) ** 0.35


class Draws(IterableDataset):
    """Endless augmented batches: views ``[B, 3, S, S]``, gender targets ``[B, 2]``, identities ``[B]``.

    Genders in equal parts, in all and inside each folder that has both (:func:`folder_weight`); inside a folder by
    character; of a character two of its pictures. Unlabelled faces have a target of zeros where
    ``soft`` is None, and an identity of their own; a view mixed of two has none (-1).
    """

    def __init__(
        self,
        crops: Crops,
        identities: Tensor,
        unlabelled: Tensor,
        soft: Tensor | None,
        seed: int,
        size: int = SIZE,
        strength: float = 1.0,
        mixed: float = 0.0,
    ) -> None:
        self.size, self.strength, self.mixed = size, strength, mixed
        self.crops, self.identities = crops, identities
        self.unlabelled, self.soft, self.seed = unlabelled, soft, seed
        groups: dict[str, list[int]] = defaultdict(list)
        for i, picture in enumerate(crops.pictures):
            groups[picture.character].append(i)
        characters = Counter((crops.pictures[rows[0]].folder, int(crops.labels[rows[0]])) for rows in groups.values())
        self.by_gender: list[tuple[list[list[int]], np.ndarray]] = []
        for gender in (0, 1):
            mine = [rows for rows in groups.values() if int(crops.labels[rows[0]]) == gender]
            folders = [crops.pictures[rows[0]].folder for rows in mine]
            weight = np.array([folder_weight(characters, f) / characters[f, gender] for f in folders])
            self.by_gender.append((mine, weight / weight.sum()))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, info.id if info else 0))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        soft, share = (None, None) if self.soft is None else balanced(self.soft)
        first_unlabelled = int(self.identities.max()) + 1
        while True:
            rows: list[int] = []
            for mine, weight in self.by_gender:
                for choice in rng.choice(len(mine), LABELLED // 4, p=weight):
                    own = mine[choice]
                    rows += rng.choice(own, 2, replace=False).tolist() if len(own) > 1 else [own[0], own[0]]
            pixels, identity = self.crops.pixels[rows], self.identities[rows]
            target = F.one_hot(self.crops.labels[rows], 2).float() * 0.94 + 0.03
            if len(self.unlabelled):
                more = torch.from_numpy(rng.choice(len(self.unlabelled), UNLABELLED // 2, p=share)).repeat(2)
                pixels = torch.cat((pixels, self.unlabelled[more]))
                target = torch.cat((target, torch.zeros(len(more), 2) if soft is None else soft[more]))
                identity = torch.cat((identity, first_unlabelled + more))
            lonely = np.flatnonzero(rng.random(len(pixels)) < ALONE)
            pixels[lonely] = alone(pixels[lonely], float(rng.uniform(0.95, 1.25)))
            views = augment(pixels, self.size, rng, generator, self.strength, MARGIN, BELOW)
            mix(views, target, identity, rng, self.mixed)
            yield views, target, identity


def normalise(x: Tensor, device: str) -> Tensor:
    """0-1 to what the net reads."""
    return ((x - MEAN) / STD).to(device).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(
    model: GenderNet,
    pixels: Tensor,
    device: str,
    size: int = SIZE,
    margin: float = MARGIN,
    below: float = BELOW,
    flip: bool = False,
) -> Tensor:
    """Logits ``[N, 2]`` of cached crops in the plain framing, averaged with the mirrored ones where asked."""
    out = []
    for part in pixels.split(128):
        x = normalise(plain(part, size, margin, below), device)
        with mixed_precision(device):
            logits = model(x).float()
            if flip:
                logits = (logits + model(x.flip(-1)).float()) / 2
        out.append(logits.cpu())
    return torch.cat(out) if out else torch.zeros(0, 2)


def calibrated(logits: Tensor, temperature: float, bias: float) -> Tensor:
    """Probabilities ``[N, 2]``; see :func:`~anigender.evaluate.metrics.fit_calibration`."""
    return ((logits + logits.new_tensor([0.0, bias])) / temperature).softmax(1)


def calibrate(data: Path, source: Path, output: Path, detector: str = "auto", device: str = "cpu") -> None:
    """Fit the temperature and bias of a gender net's file anew on ``val``, as after averaging several."""
    tensors, metadata = read_weights(source)
    net, framing = placed(build(tensors).eval(), device), framing_of(metadata)
    _, judge = labelled_crops(data, detector, output.parent / "crops.cache.pt")
    calibration = fit_calibration(predict(net, judge.pixels, device, *framing), judge.labels)
    save_gender(net, *calibration, output, framing)


def framing_of(metadata: Mapping[str, str]) -> tuple[int, float, float]:
    """Input size, margin and how far below the head's a crop's centre lies, as a classifier's file declares them."""
    size, margin, below = (float(metadata.get(f"anigender.{name}", 0)) for name in ("input_size", "margin", "below"))
    return int(size), margin, below


def teachings(options: Options, unlabelled: Tensor) -> Tensor | None:
    """What the teachers think of the unlabelled faces: the mean of their calibrated answers ``[N, 2]``, or None."""
    answers = []
    for path in options.teachers:
        tensors, metadata = read_weights(path)
        net = placed(build(tensors).eval(), options.device)
        logits = predict(net, unlabelled, options.device, *framing_of(metadata), flip=True)
        answers.append((logits / float(metadata["anigender.temperature"])).softmax(1))
    return torch.stack(answers).mean(0) if answers else None


def learning_rate_at(epoch: float, small_epochs: int, epochs: int) -> float:
    """The factor on the learning rate: half a cosine to a third at the small size, then a new, lower one to zero.

    The change of size sets a net back; at the end of one long cosine it has no rate left to recover with.
    """
    if epoch < small_epochs:
        return 0.3 + 0.7 * cosine(round(epoch * 1000), small_epochs * 1000, 1000)
    return 0.7 * cosine(round((epoch - small_epochs) * 1000), max(1, epochs - small_epochs) * 1000, 500)


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
    unlabelled = unlabelled_crops(options.data)
    names = {name: i for i, name in enumerate(sorted({p.character for p in learn.pictures}))}
    identities = torch.tensor([names[p.character] for p in learn.pictures])

    student, highest = Student(), options.learning_rate
    if options.start is not None:
        highest /= 3  # the first third of the way is behind it
        begin_from(student.net, options.start)
    model = placed(student, device)
    average = Average(model, 0.998)
    optimiser = torch.optim.AdamW(parameter_groups(model, 0.05), lr=options.learning_rate)
    checkpoint = options.output.with_suffix(".checkpoint.pt")
    step, epoch, best, temperature, bias = 0, 0, 0.0, 1.0, 0.0
    taught = teachings(options, unlabelled)
    soft = taught
    if options.resume:
        state = load_checkpoint(checkpoint)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, epoch, best, average.steps = state["step"], state["epoch"], state["best"], state["step"]
        soft, temperature, bias = state.get("soft"), state["temperature"], state["bias"]
    log = Log(options.output.with_suffix(".log.jsonl"), options.resume)
    small_epochs = 0 if options.start is not None else min(options.small_epochs, options.epochs * 3 // 4)
    per_epoch = EPOCH // LABELLED
    while epoch < options.epochs:
        size = SMALL if epoch < small_epochs else SIZE
        if len(unlabelled) and epoch >= options.own_labels_from and epoch % options.refresh == 0:
            own = calibrated(predict(average.model.net, unlabelled, device, size, flip=True), temperature, bias)
            soft = own if taught is None else (own + taught) / 2
            log.write(epoch=epoch, unlabelled_male=round(float((soft[:, 1] > 0.5).float().mean()), 4))
        draws = Draws(
            learn,
            identities,
            unlabelled,
            soft,
            options.seed + 1000 * (epoch + 1),
            size,
            options.strength,
            options.mixed,
        )
        batches = iter(DataLoader(draws, batch_size=None, num_workers=1, prefetch_factor=4))
        model.train()
        running = np.zeros(3)
        bar = tqdm(range(per_epoch), desc=f"gender {epoch + 1}/{options.epochs}", unit="step")
        for _ in bar:
            views, target, identity = next(batches)
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
            step += 1
            running += (float(gender_loss.detach()), float(identity_loss.detach()), 1)
        del batches
        epoch += 1
        logits = predict(average.model.net, judge.pixels, device, size)
        temperature, bias = fit_calibration(logits, judge.labels)
        figures = gender_figures(calibrated(logits, temperature, bias), judge.labels)
        log.write(
            epoch=epoch,
            gender_loss=round(running[0] / running[2], 4),
            identity_loss=round(running[1] / running[2], 4),
            temperature=round(temperature, 3),
            bias=round(bias, 3),
            **figures.as_dict(),
        )
        tqdm.write(f"epoch {epoch}: {figures.as_dict()}")
        if size == SIZE and figures.balanced_accuracy >= best:
            best = figures.balanced_accuracy
            save_gender(average.model.net, temperature, bias, options.output)
        state = {
            "model": model.state_dict(),
            "average": average.model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "epoch": epoch,
            "best": best,
            "temperature": temperature,
            "bias": bias,
        }
        save_checkpoint(checkpoint, state if soft is None else state | {"soft": soft})


def save_gender(
    model: GenderNet,
    temperature: float,
    bias: float,
    output: Path,
    framing: tuple[int, float, float] = (SIZE, MARGIN, BELOW),
) -> None:
    """The net in half precision with its preprocessing and calibration, as one safetensors file."""
    size, margin, below = framing
    state = half_precision(model)
    # The bias goes into the last layer, the temperature into the metadata, where a reader finds it.
    state["fc.bias"] = (model.fc.bias.detach() + model.fc.bias.new_tensor([0.0, bias])).half()
    save_weights(
        output,
        state,
        {
            "anigender.kind": "classifier",
            "anigender.architecture": "gendernet",
            "anigender.labels": "female,male",
            "anigender.input_size": str(size),
            "anigender.margin": str(margin),
            "anigender.below": str(below),
            "anigender.mean": ",".join([str(MEAN)] * 3),
            "anigender.std": ",".join([str(STD)] * 3),
            "anigender.channel_order": "RGB",
            "anigender.temperature": f"{temperature:.4f}",
        },
    )
