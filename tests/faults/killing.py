"""Killing work at a random instant, looking at what it left, and letting it finish."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anigender.captions import read_caption
from anigender.classify import read_classifier
from anigender.locate import locate_files
from anigender.tags import parse_tags
from anigender.train.checkpoints import load_checkpoint
from anigender.train.crops.crops import source_of
from anigender.train.crops.store import CropStore
from anigender.weights import read_weights
from tests.faults import work
from tests.hub.server import running_hub, seen_from, two_files

PICTURES = 120
OURS = {"1girl", "1boy", "solo", "male_focus"}
LONGEST = 300  # seconds
ATTEMPTS = 5  # to hit it before it is done


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        kind: of the work.
        seed: of the instant.
        after: seconds from its start to the kill.
        killed: it was still running.
        done: how much was done by then, of ``total``.
        total: captions, epochs or files.
        leftovers: temporary files that nobody takes for finished.
    """

    kind: str
    seed: int
    after: float
    killed: bool
    done: int
    total: int
    leftovers: int


def _start(job: Callable[..., None], *arguments: Any) -> Any:
    """A process that has everything imported already and works at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.work"])
    process = context.Process(target=job, args=arguments)
    process.start()
    return process


def complete(job: Callable[..., None], *arguments: Any) -> float:
    """Let it work to the end; the seconds that it took."""
    start = time.monotonic()
    process = _start(job, *arguments)
    process.join(LONGEST)
    assert process.exitcode == 0, f"{job.__name__} ended with {process.exitcode}"
    return time.monotonic() - start


def kill(
    seconds: float, seed: int, prepare: Callable[[], object], job: Callable[..., None], *arguments: Any
) -> tuple[float, bool]:
    """Let it work for a random part of the time that it takes, then ``kill -9``.

    Where it is done before that, since a busy machine was busier when the time was taken, it begins again.

    Args:
        seconds: that it takes.
        seed: of the instant.
        prepare: makes what it works on, from nothing.
        job, arguments: the work.

    Returns:
        When that was, and whether it was still working.
    """
    rng, after = random.Random(seed), 0.0
    for _ in range(ATTEMPTS):
        prepare()
        after = rng.uniform(0, seconds)
        process = _start(job, *arguments)
        process.join(after)
        process.kill()
        process.join(LONGEST)
        assert process.exitcode in (0, -9), process.exitcode
        if process.exitcode == -9:
            return after, True
        seconds = after
    return after, False


def fresh(folder: Path, make: Callable[[Path], object]) -> None:
    """The folder as it was before any work."""
    shutil.rmtree(folder, ignore_errors=True)
    make(folder)


def leftovers(folder: Path) -> int:
    """Files that a killed process was writing."""
    return sum(1 for _ in folder.rglob(".*.tmp"))


class Tagging:
    """Captions of pictures, half of which have one by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first = folder / "whole"
        self.make(folder / "hand")
        self.make(first)
        self.seconds = complete(work.tag, str(first))
        self.expected = {path.name: path.read_bytes() for path in first.glob("*.txt")}
        assert len(self.expected) == PICTURES

    @staticmethod
    def make(folder: Path) -> None:
        work.make_pictures(folder, PICTURES)

    def __call__(self, seed: int) -> Kill:
        folder = self.folder / f"killed{seed}"
        after, killed = kill(self.seconds, seed, lambda: fresh(folder, self.make), work.tag, str(folder))
        hand = {path.name: path.read_text() for path in (self.folder / "hand").glob("*.txt")}
        pictures = {path.name: path.read_bytes() for path in (self.folder / "hand").glob("*.png")}
        done = 0
        for name, expected in self.expected.items():
            found = (folder / name).read_bytes() if (folder / name).exists() else None
            before = hand[name].encode() if name in hand else None
            assert found in (before, expected), f"{name} is {found!r}, neither {before!r} nor {expected!r}"
            done += found == expected
        left = leftovers(folder)
        complete(work.tag, str(folder))
        assert {path.name: path.read_bytes() for path in folder.glob("*.txt")} == self.expected
        assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == pictures
        for name, text in hand.items():
            assert set(parse_tags(text)) <= set(parse_tags(read_caption(folder / name) or "")) - OURS
        return Kill("tagging", seed, after, killed, done, PICTURES, left)


class Training:
    """A small training, whose checkpoint, weights, crops and log must be whole at any time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        work.make_training(folder / "whole")
        self.seconds = complete(work.train, str(folder / "whole"))

    def __call__(self, seed: int) -> Kill:
        folder = self.folder / f"killed{seed}"
        after, killed = kill(self.seconds, seed, lambda: fresh(folder, work.make_training), work.train, str(folder))
        done = self.look(folder / "out", final=False)
        left = leftovers(folder)
        complete(work.train, str(folder))
        assert self.look(folder / "out", final=True) == work.EPOCHS
        return Kill("training", seed, after, killed, done, work.EPOCHS, left)

    @staticmethod
    def look(output: Path, final: bool) -> int:
        """The epochs that the checkpoint has seen; everything beside it is whole."""
        assert len(CropStore(next(output.glob("crops-*.cache")), source=source_of("auto"))) == 8
        checkpoint, weights = output / "gender.checkpoint.pt", output / "gender.safetensors"
        epoch = load_checkpoint(checkpoint)["epoch"] if checkpoint.exists() else 0
        if weights.exists():
            read_weights(weights)
        if final:
            assert read_classifier(weights, "cpu", torch.float32).size == 112
        log = output / "gender.log.jsonl"
        epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines()] if log.exists() else []
        # The line comes before the checkpoint, so an epoch that was cut off between both is logged twice.
        assert sorted(set(epochs)) == list(range(1, max(epochs, default=0) + 1)) and max(epochs, default=0) >= epoch
        return int(epoch)


class Downloading:
    """A model of two files from a slow hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with running_hub() as server:
            server.behaviour["head.safetensors"] = "slow"
            self.seconds = complete(work.download, server.address, str(folder / "whole"))

    def __call__(self, seed: int) -> Kill:
        home = self.folder / f"killed{seed}"
        with running_hub() as server:
            server.behaviour["head.safetensors"] = "slow"
            after, killed = kill(
                self.seconds, seed, lambda: fresh(home, lambda _: None), work.download, server.address, str(home)
            )
            hub = seen_from(server.address, home)
            snapshot = hub.folder("someone/heads") / "snapshots" / server.commit
            found = {name: (snapshot / name).read_bytes() for name in server.files if (snapshot / name).exists()}
            assert all(server.files[name] == contents for name, contents in found.items())
            located = locate_files(two_files(), [], hub)
            assert located is None or len(found) == len(server.files)
            left = leftovers(home)
            server.behaviour.clear()
            complete(work.download, server.address, str(home))
            located = locate_files(two_files(), [], hub)
            assert located is not None and [path.read_bytes() for path in located] == list(server.files.values())
            assert leftovers(home) == 0, "what the killed one had begun is cleared away"
        return Kill("downloading", seed, after, killed, len(found), len(server.files), left)


KINDS: dict[str, Callable[[Path], Callable[[int], Kill]]] = {
    "tagging": Tagging,
    "training": Training,
    "downloading": Downloading,
}
