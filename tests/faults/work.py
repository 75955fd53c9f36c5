"""What is killed: real work on small things, in processes of their own."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from anigender.cli import main
from anigender.locate import get
from anigender.train.crops.augment import CACHE_MARGIN, CACHE_SIZE
from anigender.train.crops.crops import source_of
from anigender.train.crops.store import CropStore, stamp_of
from anigender.train.gender import draws, scratch
from tests.hub.server import seen_from, two_files

EPOCHS = 4
CHARACTERS = (("ann", "female", "train"), ("bob", "male", "train"), ("eve", "female", "val"), ("tom", "male", "val"))


def quiet() -> None:
    """One thread, and nothing on the terminal."""
    torch.set_num_threads(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def tag(folder: str, mode: str = "prepend") -> None:
    """``anigender tag`` with the embedded classifier; every picture is taken for one head."""
    quiet()
    main(["tag", folder, "--mode", mode, "--detector", "whole-image", "--device", "cpu", "--batch", "4"])


def download(address: str, home: str) -> None:
    """Fetch a model of two files."""
    quiet()
    get(two_files(), seen_from(address, Path(home)))


def train(folder: str) -> None:
    """A gender training of a few small epochs; it goes on where there is a checkpoint."""
    quiet()
    with small_trainings():
        output = Path(folder, "out", "gender.safetensors")
        resume = output.with_suffix(".checkpoint.pt").is_file()
        scratch.train(scratch.Options(Path(folder, "data"), output, epochs=EPOCHS, small_epochs=1, resume=resume))


@contextlib.contextmanager
def small_trainings() -> Iterator[None]:
    """Epochs of two steps of eight views, in this process."""
    changed: list[tuple[ModuleType, str, Any]] = [
        (scratch, "EPOCH", 16),
        (scratch, "LABELLED", 8),
        (draws, "LABELLED", 8),
        (scratch, "DataLoader", lambda batches, **_: batches),
    ]
    former = [(module, name, getattr(module, name)) for module, name, _ in changed]
    for module, name, value in changed:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in former:
            setattr(module, name, value)


def make_pictures(folder: Path, count: int) -> dict[str, str]:
    """Small pictures, every second of which has a caption by hand; those captions by name."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04}.png")
        if i % 2:
            captions[f"{i:04}.txt"] = text = f"by hand {i}, red hair,\nsitting, № {i}"
            (folder / f"{i:04}.txt").write_bytes(text.encode())
    return captions


def make_training(folder: Path) -> None:
    """A data folder as the real one, and the crops that a detector would have found in it."""
    data, output = folder / "data", folder / "out"
    rows = [
        {
            "file": f"gender/g/{name}_{i}.png",
            "character": name,
            "gender": sex,
            "kind": "bust",
            "split": split,
            "width": 9,
            "height": 9,
            "alpha": 1,
        }
        for name, sex, split in CHARACTERS
        for i in range(2)
    ]
    (data / "gender").mkdir(parents=True)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (data / "gender" / "manifest.csv").write_text(table.getvalue(), encoding="utf-8")
    output.mkdir()
    crops = np.random.default_rng(0).integers(0, 256, (len(rows), 4, CACHE_SIZE, CACHE_SIZE), dtype=np.uint8)
    files = [str(row["file"]) for row in rows]
    for file in files:
        (data / file).parent.mkdir(exist_ok=True)
        (data / file).write_bytes(b"")  # its crop is there already: it is not looked at
    store = CropStore(output / f"crops-{CACHE_SIZE}-{CACHE_MARGIN:g}.cache", source=source_of("auto"))
    store.add(files, [stamp_of(data / file) for file in files], list(torch.from_numpy(crops)))
