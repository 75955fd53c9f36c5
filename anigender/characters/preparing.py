"""From raw pictures of characters to a data set: detect, cut out, resize, divide.

The steps of "Transfer Learning for Anime Characters": heads are cut out to 96 x 96, pictures in which none is found are
kept apart for a person to look at, and what is left is divided into a training and a test set.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..detect import Detector
from ..detect.found import as_heads
from ..faces import Faces
from ..files import atomic_write_bytes
from ..folders import decoded, find_images
from ..images import check, head_crops
from .features import whole_crops
from .pictures import NOBODY, class_folders, divided, read_characters

SIZE = 96
SHARE = 0.2  # of a character's pictures that are for testing
UNRECOGNISED = NOBODY + "unrecognised"
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

    A crop is called ``NAME_SUFFIX_0.png`` after its picture. Pictures without a head are copied to
    ``_unrecognised/CHARACTER``. Nothing is overwritten; a crop of the right size that is there already is left as it
    is, so that a run that was killed goes on.

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
        ValueError: the source is no folder of characters, or ``which`` is another word.
    """
    if which not in WHICH:
        raise ValueError(f"which is {which!r}, expected one of {', '.join(WHICH)}")
    outcome = Outcome(found={name: Counter() for name in detectors})
    first = next(iter(detectors))
    for folder in class_folders(source):
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
                for i in range(wanted):
                    write_crop(crops[i], crop_path(target / folder.name, path.relative_to(folder), i))
                    outcome.written += 1
            except OSError as error:
                outcome.failures.append((path, str(error)))
    return outcome


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
            done = crop_path(target, path.relative_to(folder), 0)
            if problem is None and len(detectors) == 1 and _has_size(done, size):
                outcome.pictures[folder.name] += 1
                outcome.found[next(iter(detectors))][folder.name] += 1
                outcome.written += 1
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


def _has_size(path: Path, size: int) -> bool:
    try:
        with Image.open(path) as image:
            return image.size == (size, size)
    except OSError:
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
        with Image.open(path) as image:
            if np.array_equal(np.asarray(image.convert("RGB")), pixels):
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
    """How a data set was divided: pictures by character on either side, near duplicates that moved together."""

    train: Counter[str] = field(default_factory=Counter)
    test: Counter[str] = field(default_factory=Counter)
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

    Near duplicates stay on one side, and a picture stays on its side when others are added, as far as the numbers
    allow.

    Raises:
        ValueError: the source is no set of characters to learn from; the message says what to do.
    """
    characters = read_characters(source)
    division = Division(failures=list(characters.unreadable))
    sizes = Counter(characters.groups)
    division.alike = sum(count for count in sizes.values() if count > 1)
    for path, label, test in zip(characters.files, characters.labels, divided(characters, share, seed), strict=True):
        side = "test" if test else "train"
        try:
            place(path, target / side / path.relative_to(source), action)
        except OSError as error:
            division.failures.append((path, str(error)))
        else:
            (division.test if test else division.train)[characters.names[label]] += 1
        progress(1)
    return division


def rates(outcome: Outcome, names: Sequence[str]) -> list[list[str]]:
    """A table of detection rates: a row for each character and one for all, a column for each detector."""
    rows = [["character", "pictures", *names]]
    for character, count in outcome.pictures.items():
        found = [outcome.found[name][character] for name in names]
        rows.append([character, str(count), *(f"{n / count:.1%}" if count else "-" for n in found)])
    total = sum(outcome.pictures.values())
    rows.append(["all", str(total), *(f"{outcome.rate(name):.1%}" if total else "-" for name in names)])
    return rows
