"""Training a quality head from folders of pictures, one folder for each class.

Meant to be repeated: train, let the head sort new pictures (``anigender quality --sort-to``), put right what it got
wrong by moving files, train again on both. The encoder is the slow part, so embeddings are kept by the pictures'
contents: a file that has been moved costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..digests import sha256
from ..files import atomic_write_text
from ..folders import decoded, find_images
from ..images import check
from ..quality.encoder import Encoder, load_encoder
from ..quality.head import HIDDEN, LONGEST_LABEL, Head, HeadNet, is_label, save_head, values
from ..quality.scorer import embed
from ..weights import read_weights, save_weights

log = logging.getLogger("anigender")
BATCH = 256
HELD_OUT = 0.15  # share of the pictures that are validated on
AT_ONCE = 16  # pictures decoded before the encoder is asked
KEPT_EVERY = 2000  # pictures embedded, after which their embeddings are written down


@dataclass(frozen=True)
class Options:
    """What to train from and how; see ``anigender train head --help``."""

    data: Sequence[Path]
    output: Path
    encoder: str = "auto"
    name: str = ""
    epochs: int = 60
    learning_rate: float = 3e-4
    hidden: int = HIDDEN
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Pictures:
    """Embedded pictures: ``embeddings[i] [T, width]`` is of the picture with the digest ``keys[i]``."""

    keys: list[str]
    labels: list[int]
    embeddings: list[Tensor]


def find_classes(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The pictures of every class: of the subfolders of that name in all folders.

    Raises:
        ValueError: fewer than two classes, a class with fewer than two pictures, or a name that no class can have.
    """
    classes: dict[str, list[Path]] = {}
    for folder in folders:
        for below in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            found = [path for path, problem in find_images([below], recursive=True) if problem is None]
            classes.setdefault(below.name, []).extend(found)
    if len(classes) < 2:
        told = ", ".join(str(folder) for folder in folders)
        raise ValueError(
            f"{told}: expected a subfolder of pictures for each of two or more classes, got {len(classes)}"
        )
    for name, paths in classes.items():
        _check_name(name, "the class")
        if len(paths) < 2:
            raise ValueError(f"the class {name!r} has {len(paths)} pictures, at least 2 are needed")
    return dict(sorted(classes.items()))


def _check_name(name: str, what: str) -> None:
    if not is_label(name):
        raise ValueError(
            f"{what} {name[:80]!r} cannot be written down: expected at most {LONGEST_LABEL} characters without line "
            "breaks and the like; rename it"
        )


def identity_of(encoder: Encoder, name: str) -> str:
    """What embeddings are known by: the encoder's weights, wherever they lie, or its name where there are none."""
    net = getattr(encoder, "net", None)
    if net is None:
        return f"{name} {encoder.size} {encoder.width}"
    digest = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    # Of its config, what the weights do not show.
    told = [str(getattr(getattr(net, "config", None), part, "")) for part in ("hidden_act", "num_attention_heads")]
    return " ".join((digest.hexdigest()[:16], str(encoder.size), *told))


def embed_files(classes: dict[str, list[Path]], encoder: Encoder, identity: str, cache: Path) -> Pictures:
    """The embeddings of all pictures, from the cache where they are in it; unreadable pictures are left out.

    Args:
        classes: as :func:`find_classes` gives them.
        encoder: what to look through.
        identity: of the encoder; a cache of another one is not used.
        cache: a safetensors file of embeddings, written anew where any is added, and every :data:`KEPT_EVERY` pictures.
    """
    known = _read_cache(cache, identity)
    kept = len(known)
    keys: list[str] = []
    labels: list[int] = []
    first: dict[str, Path] = {}
    for label, paths in enumerate(classes.values()):
        key_of = {path: key for path in paths if (key := _digest(path)) is not None}
        waiting: list[tuple[str, Tensor]] = []
        unreadable = set()
        for path, pixels in decoded([(path, None) for path, key in key_of.items() if key not in known]):
            if isinstance(pixels, str):
                _leave_out(path, pixels)
                unreadable.add(key_of[path])
                continue
            waiting.append((key_of[path], pixels))
            if len(waiting) == AT_ONCE:
                known.update(_embedded(waiting, encoder))
            if len(known) >= kept + KEPT_EVERY:
                _write_cache(cache, identity, known)
                kept = len(known)
        known.update(_embedded(waiting, encoder))
        for path, key in key_of.items():
            first.setdefault(key, path)
        own = [key for key in dict.fromkeys(key_of.values()) if key not in unreadable]
        keys += own
        labels += [label] * len(own)
    if len(known) > kept:
        _write_cache(cache, identity, known)
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} pictures are in several classes; one is {first[twice[0]]}")
    return Pictures(keys, labels, [known[key] for key in keys])


def _digest(path: Path) -> str | None:
    """Of a picture's file; None, and said in the log, where it may not be read."""
    try:
        return sha256(path)
    except OSError as error:
        _leave_out(path, error.strerror or str(error))
        return None


def _leave_out(path: Path, reason: str) -> None:
    log.warning("anigender: %s is left out: %s", path, reason)


def _embedded(waiting: list[tuple[str, Tensor]], encoder: Encoder) -> dict[str, Tensor]:
    found = embed(check([pixels for _, pixels in waiting]), encoder, tiled=True) if waiting else []
    result = {key: own for (key, _), own in zip(waiting, found, strict=True)}
    waiting.clear()
    return result


def _read_cache(path: Path, identity: str) -> dict[str, Tensor]:
    if not path.is_file():
        return {}
    tensors, metadata = read_weights(path)
    if metadata.get("anigender.encoder") != identity:
        return {}
    keys = [bytes(row).hex() for row in tensors["keys"].tolist()]
    return dict(zip(keys, tensors["embeddings"].split(tensors["counts"].tolist()), strict=True))


def _write_cache(path: Path, identity: str, known: dict[str, Tensor]) -> None:
    tensors = {
        "keys": torch.tensor([list(bytes.fromhex(key)) for key in known], dtype=torch.uint8),
        "counts": torch.tensor([len(own) for own in known.values()]),
        "embeddings": torch.cat(list(known.values())),
    }
    save_weights(path, tensors, {"anigender.kind": "embeddings", "anigender.encoder": identity})


def held_out(keys: Sequence[str], labels: Sequence[int]) -> list[bool]:
    """Which pictures to validate on: by their contents, so that a picture stays on its side from round to round.

    Of each class at least one picture is on either side.
    """
    chosen = [int(key[:8], 16) / 0x1_0000_0000 < HELD_OUT for key in keys]
    for label in set(labels):
        own = sorted((i for i, other in enumerate(labels) if other == label), key=lambda i: keys[i])
        if not any(chosen[i] for i in own):
            chosen[own[0]] = True
        if all(chosen[i] for i in own):
            chosen[own[-1]] = False
    return chosen


def train(options: Options) -> dict[str, float]:
    """Train a head; the best so far by balanced accuracy on what is held out is what is written.

    Returns:
        The figures of the head that was written; they are logged beside it as one JSON object per epoch.

    Raises:
        ValueError: the data is not a folder of classes.
    """
    encoder = load_encoder(options.encoder, options.device)
    return train_with(encoder, options)


def train_with(encoder: Encoder, options: Options) -> dict[str, float]:
    """:func:`train` with an encoder that is loaded already."""
    classes = find_classes(options.data)
    name = options.name or options.output.stem
    _check_name(name, "the head's name")
    identity = identity_of(encoder, options.encoder)
    cache = options.output.with_suffix(".embeddings.safetensors")
    pictures = embed_files(classes, encoder, identity, cache)
    for label, class_name in enumerate(classes):
        if pictures.labels.count(label) < 2:
            raise ValueError(f"the class {class_name!r} has fewer than 2 different readable pictures")
    torch.manual_seed(options.seed)
    apart = held_out(pictures.keys, pictures.labels)
    learned = [i for i, out in enumerate(apart) if not out]
    x = torch.cat([pictures.embeddings[i] for i in learned])
    y = torch.cat([torch.full((len(pictures.embeddings[i]),), pictures.labels[i]) for i in learned])
    net = HeadNet(x.shape[1], options.hidden, len(classes))
    head = Head(net, name, tuple(classes))
    weight = len(y) / (len(classes) * torch.bincount(y, minlength=len(classes)).float())
    optimiser = torch.optim.AdamW(net.parameters(), options.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs * math.ceil(len(y) / BATCH))
    best: dict[str, float] = {}
    lines: list[str] = []
    for epoch in range(1, options.epochs + 1):
        net.train()
        total = 0.0
        for rows in torch.randperm(len(y)).split(BATCH):
            loss = F.cross_entropy(net(x[rows]), y[rows], weight=weight)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        net.eval()
        figures = {"epoch": float(epoch), "loss": total / len(y), **measure(head, pictures, apart)}
        lines.append(json.dumps(figures))
        if not best or (figures["balanced_accuracy"], -figures["held_out_loss"]) > (
            best["balanced_accuracy"],
            -best["held_out_loss"],
        ):
            best = figures
            save_head(head, options.output, {"anigender.encoder": identity})
    atomic_write_text(options.output.with_suffix(".log.jsonl"), "\n".join(lines) + "\n")
    return {**best, "pictures": float(len(pictures.keys)), "held_out": float(sum(apart))}


@torch.inference_mode()
def measure(head: Head, pictures: Pictures, apart: Sequence[bool]) -> dict[str, float]:
    """Balanced accuracy and loss on the pictures held out, each judged by the mean over its tiles as in use."""
    chosen = [i for i, out in enumerate(apart) if out]
    means = torch.stack([values(head.net(pictures.embeddings[i])).mean(0) for i in chosen])
    labels = torch.tensor([pictures.labels[i] for i in chosen])
    right = means.argmax(1) == labels
    recalls = [float(right[labels == label].float().mean()) for label in range(len(head.labels))]
    loss = -means.gather(1, labels[:, None]).clamp(min=1e-9).log().mean()
    return {"balanced_accuracy": sum(recalls) / len(recalls), "held_out_loss": float(loss)}
