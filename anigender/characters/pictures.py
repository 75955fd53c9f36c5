"""Pictures of characters, one folder for each, and what is wrong with them said before anything is learned."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..datasets.own_pictures import difference_hash, near_duplicates
from ..digests import sha256
from ..folders import as_seen, find_images, open_image
from .packages import needs

FEWEST = 2  # pictures of a character: one to learn from and one to judge by
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
NOBODY = "_"  # folders that begin with it are of no character
FEATURES = ".features"  # nor those that end with it, in which features are kept


@dataclass(frozen=True)
class Characters:
    """Labelled pictures.

    Attributes:
        names: the characters, in the folders' order.
        files: the readable pictures.
        labels: for each of them, which character it is.
        groups: for each of them a number that near duplicates share.
        keys: for each of them the SHA-256 of its contents.
        unreadable: the other pictures, each with the reason.
    """

    names: tuple[str, ...]
    files: list[Path]
    labels: list[int]
    groups: list[int]
    keys: list[str]
    unreadable: list[tuple[Path, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)

    def only(self, rows: Sequence[int]) -> Characters:
        """These pictures, of the same characters."""
        return Characters(
            self.names,
            [self.files[i] for i in rows],
            [self.labels[i] for i in rows],
            [self.groups[i] for i in rows],
            [self.keys[i] for i in rows],
        )


def plain_name(name: str) -> str:
    """What two names have in common that people take for one: case, width, and what stands between words.

    >>> plain_name("Nishikino_Maki") == plain_name("nishikino maki")
    True
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(text.replace("_", " ").replace("-", " ").split())


def class_folders(data: Path) -> list[Path]:
    """The folders of characters inside a folder, in name order; hidden ones, _… and ….features are none.

    Raises:
        ValueError: none, or two whose names are one to people.
    """
    if not data.is_dir():
        raise ValueError(f"{data} is no folder: expected one with a subfolder of pictures for each character")
    found = _folders_in(data)
    if not found:
        raise ValueError(
            f"{data} holds no folders: expected a subfolder of pictures for each character, such as {data.name}/asuka"
        )
    known: dict[str, Path] = {}
    for folder in found:
        other = known.setdefault(plain_name(folder.name), folder)
        if other != folder:
            raise ValueError(
                f"{other.name!r} and {folder.name!r} in {data} are one name in two folders: "
                "move their pictures into one of them, or rename one if they are different characters"
            )
    return found


def _folders_in(data: Path) -> list[Path]:
    return sorted(
        path
        for path in data.iterdir()
        if path.is_dir() and path.name[0] not in (".", NOBODY) and path.suffix != FEATURES
    )


def parts_of(data: Path) -> tuple[Path, Path | None]:
    """The folder to learn from and the one to judge by: ``train`` and ``test`` inside it, or itself and None."""
    if not data.is_dir():
        raise ValueError(f"{data} is no folder: expected one with a subfolder of pictures for each character")
    below = {path.name.lower(): path for path in data.iterdir() if path.is_dir()}
    train = next((below[name] for name in TRAIN if name in below), None)
    if train is None:
        return data, None
    return train, next((below[name] for name in TEST if name in below), None)


def read_characters(data: Path, names: Sequence[str] | None = None, standing: Sequence[Path] = ()) -> Characters:
    """All pictures of a folder with a subfolder for each character; unreadable ones are told and left out.

    Args:
        data: the folder.
        names: the characters that there may be, as for a test set; any, but two at least, where None.
        standing: other such folders, which need not be there; their pictures are read first and count with those of
            the same character, one of the same path once.

    Raises:
        ValueError: fewer than two characters, one without or with a single picture, one that is not among ``names``,
            or the same picture under two names; the message says what to do.
    """
    folders = class_folders(data)
    others = [folder for other in standing if other.is_dir() for folder in _folders_in(other)]
    spelled: dict[str, str] = {}
    for folder in (*folders, *others):
        spelled.setdefault(plain_name(folder.name), folder.name)
    known = tuple(spelled.values()) if names is None else tuple(names)
    places = {plain_name(name): i for i, name in enumerate(known)}
    for folder in (*others, *folders):
        if plain_name(folder.name) not in places:
            raise ValueError(f"{folder} is of a character that is not known here; known are {', '.join(known)}")
    if names is None and len(known) < 2:
        raise ValueError(f"{data} holds one character, {folders[0].name}: at least two are needed to tell them apart")
    files, labels, hashes, keys, unreadable = [], [], [], [], []
    listed = {
        folder: [path for path, problem in find_images([folder], recursive=True) if problem is None]
        for folder in (*others, *folders)
    }
    bar = needs("tqdm").tqdm(total=sum(map(len, listed.values())), desc="reading", unit="picture", disable=None)
    readable: dict[str, set[Path]] = defaultdict(set)  # by character, their paths below its folder
    for folder, paths in listed.items():
        own = readable[plain_name(folder.name)]
        broken = 0
        with ThreadPoolExecutor() as pool:
            for path, outcome in zip(paths, pool.map(look, paths), strict=True):
                bar.update()
                if isinstance(outcome, str):
                    unreadable.append((path, outcome))
                    broken += 1
                    continue
                files.append(path)
                labels.append(places[plain_name(folder.name)])
                hashes.append(outcome[0])
                keys.append(outcome[1])
                own.add(path.relative_to(folder))
        if folder in folders and len(own) < (FEWEST if names is None else 1):
            raise ValueError(_too_few(folder, len(own), broken))
    bar.close()
    by_key: dict[str, int] = {}
    for i, key in enumerate(keys):
        first = by_key.setdefault(key, i)
        if labels[first] != labels[i]:
            raise ValueError(f"{files[first]} and {files[i]} are the same picture under two names: keep the right one")
    return Characters(known, files, labels, near_duplicates(hashes), keys, unreadable)


def look(path: Path) -> tuple[int, str] | str:
    """A picture's perceptual hash and digest, or why it cannot be read."""
    try:
        with open_image(path) as image:
            return difference_hash(as_seen(image)), sha256(path)
    except Exception as error:  # decoders raise anything on hostile bytes; one bad file is one failure
        return str(error) or type(error).__name__


def stranger_files(folder: Path) -> tuple[list[Path], list[str]]:
    """The readable pictures of a folder of nobody known, and their digests.

    Raises:
        ValueError: there are none.
    """
    found = [(path, look(path)) for path, problem in find_images([folder], True) if problem is None]
    usable = [(path, told[1]) for path, told in found if not isinstance(told, str)]
    if not usable:
        raise ValueError(f"{folder} holds no picture that can be read, so no strangers to choose by")
    return [path for path, _ in usable], [key for _, key in usable]


def _too_few(folder: Path, readable: int, unreadable: int) -> str:
    broken = f" ({unreadable} more cannot be read)" if unreadable else ""
    if not readable:
        return f"{folder} holds no picture that can be read{broken}: add pictures, or remove the folder"
    return (
        f"{folder} holds a single picture{broken}: at least {FEWEST} are needed, one to learn from and one to judge "
        "by; add some, or remove the folder"
    )


def divided(characters: Characters, share: float, seed: int, decided: Mapping[int, bool] | None = None) -> list[bool]:
    """Which pictures are kept for testing: about ``share`` of every character's, near duplicates on one side.

    Every character keeps something to learn from; one whose pictures are all alike has nothing to test.

    Args:
        characters: the pictures.
        share: of those of a character.
        seed: of the order in which groups are tried.
        decided: groups that are for testing, or for learning, whatever the numbers say.
    """
    decided = decided or {}
    members: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(characters.groups):
        members[group].append(i)
    order = sorted(
        members, key=lambda group: (group not in decided, sha_order(characters.keys[members[group][0]], seed))
    )
    test = [False] * len(characters)
    counts = [characters.labels.count(label) for label in range(len(characters.names))]
    taken = [0] * len(characters.names)
    for group in order:
        own = members[group]
        gains = [0] * len(characters.names)
        for i in own:
            gains[characters.labels[i]] += 1
        # Near duplicates under two names move together, so every character in the group must have room.
        fits = all(
            taken[k] + gain <= max(1, round(share * counts[k])) and taken[k] + gain < counts[k]
            for k, gain in enumerate(gains)
            if gain
        )
        if decided.get(group, fits):
            for i in own:
                test[i] = True
            taken = [t + gain for t, gain in zip(taken, gains, strict=True)]
    return test


def sha_order(key: str, seed: int) -> int:
    """A place in a fixed random order, by a picture's contents: the same whatever the file is called."""
    start = seed * 7 % 48
    return int(key[start : start + 16], 16)
