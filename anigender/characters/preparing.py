"""From raw pictures of characters to a data set: detect, cut out, resize, divide.

The steps of "Transfer Learning for Anime Characters": heads are cut out to 96 x 96, pictures in which none is found are
kept apart for a person to look at, and what is left is divided into a training and a test set.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..detect import Detector
from ..detect.found import as_heads
from ..faces import Faces
from ..files import atomic_write_bytes, atomic_write_text
from ..folders import ImageError, decoded, find_images, picture_size, read_image
from ..images import check, head_crops
from .features import whole_crops
from .pictures import NOBODY, class_folders, divided, read_characters

SIZE = 96
SHARE = 0.2  # of a character's pictures that are for testing
UNRECOGNISED = NOBODY + "unrecognised"
SETTINGS = NOBODY + "crops.json"  # how the crops of a folder were made; no reader of characters or pictures looks at it
WHICH = {
    "first": "the head that the detector is surest of",
    "only": "the head where there is one alone; pictures with several are kept apart too",
    "all": "every head",
}
AT_ONCE = 8  # pictures

Place = Callable[[Path, Path, str], None]


@dataclass
class Outcome:
    """What became of a folder of raw pictures.

    Attributes:
        pictures: readable ones by character.
        found: in how many of them each detector found a head, by detector and character.
        written: crops written (or there already).
        apart: pictures without a head to cut out.
        failures: files that could not be read or written, with the reason.
    """

    pictures: Counter[str] = field(default_factory=Counter)
    found: dict[str, Counter[str]] = field(default_factory=dict)
    written: int = 0
    apart: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)

    def rate(self, detector: str) -> float:
        """Share of all readable pictures in which a detector found a head; NaN where there are none."""
        total = sum(self.pictures.values())
        return sum(self.found[detector].values()) / total if total else float("nan")


def crop_characters(
    source: Path,
    target: Path,
    detectors: Mapping[str, Detector],
    place: Place,
    size: int = SIZE,
    margin: float = 1.0,
    which: str = "first",
    progress: Callable[[int], None] = lambda count: None,
) -> Outcome:
    """Cut the heads out of a folder of characters into another one, one subfolder for each.

    A crop is called ``NAME_SUFFIX_0.png`` after its picture, further ones ``_1`` and so on. Pictures without a head are
    copied to ``_unrecognised/CHARACTER``. Nothing is overwritten; a crop of the right size that is there already is
    left as it is, so that a run that was killed goes on: the crop 0 is written last, and a picture that has it is done.
    How the crops are made is kept in :data:`SETTINGS`, since nothing else tells crops of one kind from another's.

    Args:
        source: with a subfolder of pictures for each character.
        target: where to.
        detectors: by name; the first one's heads are cut out, the others are only counted.
        place: copies a file to a path, given an action, and never overwrites.
        size: side of the crops in pixels.
        margin: sides of a head's box that they show.
        which: one of :data:`WHICH`.
        progress: called with the number of pictures done.

    Raises:
        ValueError: the source is no folder of characters, ``which`` is another word, or crops of another kind are in
            the target.
        OSError: the target cannot be written into.
    """
    if which not in WHICH:
        raise ValueError(f"which is {which!r}, expected one of {', '.join(WHICH)}")
    outcome = Outcome(found={name: Counter() for name in detectors})
    first = next(iter(detectors))
    folders = class_folders(source)
    _keep_settings(target / SETTINGS, {"detector": first, "margin": margin, "size": size, "heads": which})
    for folder in folders:
        outcome.pictures[folder.name] = 0
        for path, pixels, heads in _found(folder, detectors, target / folder.name, size, outcome, progress):
            outcome.pictures[folder.name] += 1
            for name, faces in heads.items():
                outcome.found[name][folder.name] += len(faces) > 0
            own = heads[first]
            wanted = len(own) if which == "all" else min(len(own), 1)
            if which == "only" and len(own) > 1:
                wanted = 0
            try:
                if not wanted:
                    place(path, target / UNRECOGNISED / folder.name / path.relative_to(folder), "copy")
                    outcome.apart += 1
                    continue
                crops = head_crops([pixels], own, size, margin)
                for i in reversed(range(wanted)):  # the first comes last: where it is, all are
                    to = crop_path(target / folder.name, path.relative_to(folder), i)
                    if not _has_size(to, size):
                        write_crop(crops[i], to)
                    outcome.written += 1
            except OSError as error:
                outcome.failures.append((path, str(error)))
    return outcome


def _keep_settings(path: Path, settings: dict[str, str | float]) -> None:
    """Write down how crops are made, or refuse to add others to those that were made in another way.

    Raises:
        ValueError: they differ, or the file is not what was written here; the message says what to do.
        OSError: it cannot be read or written.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        former = {name: known[name] for name in settings}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} does not say how the crops beside it were made: choose another folder, or delete the file if they "
            "were made as these are to be"
        ) from error
    if differing := [name for name, value in settings.items() if former[name] != value]:
        raise ValueError(
            f"the crops in {path.parent} were made with {_told(former, differing)}, and now it is to be "
            f"{_told(settings, differing)}: give the former again, or choose another folder"
        )


def _told(settings: Mapping[str, object], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {str(settings[name])[:200]}" for name in names)


def _found(
    folder: Path,
    detectors: Mapping[str, Detector],
    target: Path,
    size: int,
    outcome: Outcome,
    progress: Callable[[int], None],
) -> Iterator[tuple[Path, Tensor, dict[str, Faces]]]:
    """Readable pictures of a folder with the heads of each detector; those that are done already are counted here."""
    waiting: list[tuple[Path, Tensor]] = []

    def flush() -> Iterator[tuple[Path, Tensor, dict[str, Faces]]]:
        batch = check([pixels for _, pixels in waiting])
        heads = {
            name: as_heads(detector.detect(batch), getattr(detector, "region", "head")).cpu()
            for name, detector in detectors.items()
        }
        for i, (path, pixels) in enumerate(waiting):
            yield path, pixels, {name: faces.of_image(i) for name, faces in heads.items()}
        progress(len(waiting))
        waiting.clear()

    def todo() -> Iterator[tuple[Path, str | None]]:
        for path, problem in find_images([folder], recursive=True):
            if (
                problem is None
                and len(detectors) == 1
                and (done := _count_crops(target, path.relative_to(folder), size))
            ):
                outcome.pictures[folder.name] += 1
                outcome.found[next(iter(detectors))][folder.name] += 1
                outcome.written += done
                progress(1)
                continue
            yield path, problem

    for path, pixels in decoded(todo()):
        if isinstance(pixels, str):
            outcome.failures.append((path, pixels))
            progress(1)
            continue
        waiting.append((path, pixels))
        if len(waiting) == AT_ONCE:
            yield from flush()
    if waiting:
        yield from flush()


def crop_path(folder: Path, relative: Path, number: int) -> Path:
    """Where a crop of a picture goes; two pictures may differ in their suffix alone, so it is part of the name."""
    return folder / relative.with_name(f"{relative.stem}_{relative.suffix.lstrip('.')}_{number}.png")


def _count_crops(folder: Path, relative: Path, size: int) -> int:
    """How many crops of a picture are there; as they are written last to first, all of them or none."""
    crops = (crop_path(folder, relative, number) for number in itertools.count())
    return sum(1 for _ in itertools.takewhile(lambda crop: _has_size(crop, size), crops))


def _has_size(path: Path, size: int) -> bool:
    try:
        return picture_size(path) == (size, size)
    except ImageError:
        return False


def write_crop(crop: Tensor, path: Path) -> None:
    """Write a crop ``[3, S, S]`` in 0-1 as a PNG, whole or not at all; one that is there already must be equal.

    Raises:
        FileExistsError: another file has the name.
        OSError: it could not be written.
    """
    stream = io.BytesIO()
    pixels = (crop.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    if path.exists():
        with contextlib.suppress(ImageError):
            if np.array_equal(read_image(path).numpy(), pixels):
                return
        raise FileExistsError(f"{path} exists already and differs; nothing was overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, stream.getvalue())


def resize_characters(
    source: Path, target: Path, size: int = SIZE, progress: Callable[[int], None] = lambda count: None
) -> Outcome:
    """Pictures that are heads already as squares of one size, in folders as they were; nothing is overwritten.

    A picture that is not square is made so by repeating its edge.

    Raises:
        ValueError: the source is no folder of characters.
    """
    outcome = Outcome()
    for folder in class_folders(source):
        for path, pixels in decoded(find_images([folder], recursive=True)):
            progress(1)
            if isinstance(pixels, str):
                outcome.failures.append((path, pixels))
                continue
            outcome.pictures[folder.name] += 1
            try:
                relative = path.relative_to(folder)
                name = relative.with_name(f"{relative.stem}_{relative.suffix.lstrip('.')}.png")
                write_crop(whole_crops([pixels], size)[0], target / folder.name / name)
                outcome.written += 1
            except OSError as error:
                outcome.failures.append((path, str(error)))
    return outcome


@dataclass
class Division:
    """How a data set is divided.

    Attributes:
        train, test: pictures by character on either side.
        standing: those that were there already.
        alike: those that have near duplicates.
        failures: files that could not be read or placed, with the reason.
    """

    train: Counter[str] = field(default_factory=Counter)
    test: Counter[str] = field(default_factory=Counter)
    standing: int = 0
    alike: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


def split_characters(
    source: Path,
    target: Path,
    place: Place,
    share: float = SHARE,
    seed: int = 0,
    action: str = "copy",
    progress: Callable[[int], None] = lambda count: None,
) -> Division:
    """Copy (move, link) a folder of characters into ``train`` and ``test`` of another one; nothing is overwritten.

    Near duplicates stay on one side. What stands in the target already, from a run that was stopped or had fewer
    pictures, stays there and counts, and what is a near duplicate of it, or has its path, goes to its side: whatever
    ``share`` and ``seed`` are, they choose among the rest.

    Raises:
        ValueError: the source is no set of characters to learn from, or a side of the target that would keep what goes
            to the other one; the message says what to do.
    """
    sides = {"train": target / "train", "test": target / "test"}
    others = {side: folder for side, folder in sides.items() if folder.resolve() != source.resolve()}
    if len(others) < len(sides) and action != "move":
        raise ValueError(
            f"{source} is a side of {target} itself, where action {action} leaves pictures on both: choose move, or "
            "another target"
        )
    characters = read_characters(source, standing=list(others.values()))
    standing = [_standing(path, source, others) for path in characters.files]
    own = [path not in there.values() for path, there in zip(characters.files, standing, strict=True)]
    places: dict[int, dict[str, Path]] = defaultdict(dict)  # of each group, a member on each side
    for group, there in zip(characters.groups, standing, strict=True):
        for side, path in there.items():
            places[group].setdefault(side, path)
    # A picture that is there and in the source is one picture.
    each = characters.only([i for i, there in enumerate(standing) if not (own[i] and there)])
    decided = {group: "test" in there for group, there in places.items()}
    for group, test in zip(each.groups, divided(each, share, seed, decided), strict=True):
        decided[group] = test
    sizes = Counter(each.groups)
    division = Division(failures=list(characters.unreadable), alike=sum(n for n in sizes.values() if n > 1))
    counts = {"train": division.train, "test": division.test}
    for i, (path, group) in enumerate(zip(characters.files, characters.groups, strict=True)):
        side = "test" if decided[group] else "train"
        if not own[i]:
            division.standing += 1
            counts[next(iter(standing[i]))][characters.names[characters.labels[i]]] += 1
            continue
        progress(1)
        if len(places[group]) > 1:
            first, second = (places[group][name] for name in sides)
            division.failures.append(
                (path, f"by its path or looks it is both {first} and {second}: delete one of them")
            )
            continue
        try:
            place(path, target / side / path.relative_to(source), action)
        except OSError as error:
            division.failures.append((path, str(error)))
        else:
            if not standing[i]:
                counts[side][characters.names[characters.labels[i]]] += 1
    return division


def _standing(path: Path, source: Path, sides: Mapping[str, Path]) -> dict[str, Path]:
    """Where a picture stands by its path: on the side that it is of, or where one of the source has its namesakes."""
    for side, folder in sides.items():
        if path.is_relative_to(folder):
            return {side: path}
    namesakes = {side: folder / path.relative_to(source) for side, folder in sides.items()}
    return {side: namesake for side, namesake in namesakes.items() if os.path.lexists(namesake)}


def rates(outcome: Outcome, names: Sequence[str]) -> list[list[str]]:
    """A table of detection rates: a row for each character and one for all, a column for each detector."""
    rows = [["character", "pictures", *names]]
    for character, count in outcome.pictures.items():
        found = [outcome.found[name][character] for name in names]
        rows.append([character, str(count), *(f"{n / count:.1%}" if count else "-" for n in found)])
    total = sum(outcome.pictures.values())
    rows.append(["all", str(total), *(f"{outcome.rate(name):.1%}" if total else "-" for name in names)])
    return rows
