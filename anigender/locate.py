"""From a model's name to its file: a path, the package, the given folders, the Hugging Face cache, the network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from .digests import DigestRecord, check_digest, sha256
from .downloads import Hub, by_hand, fetch
from .known_models import MODELS, KnownFile, KnownModel, find_model, similar_names
from .weights import ASSETS

GENERIC = ("model.safetensors", "config.json")


def locate(
    name_or_path: str | Path, folders: Iterable[str | Path] = (), download: bool = True, hub: Hub | None = None
) -> Path:
    """The weights file that a name or a path stands for; what belongs to it lies beside it.

    Looked for in this order: a path; the embedded models; ``folders`` (a known model by the name of its file, any
    other file by its path in the folder); the Hugging Face cache; the network. A known model's file is checked against
    its digest wherever it is found.

    Args:
        name_or_path: a name of :data:`anigender.known_models.MODELS`, a path, or a path inside one of ``folders``.
        folders: where the user keeps models, such as ComfyUI's.
        download: fetch what is not on this machine.
        hub: where from and where to; from the environment where None.

    Raises:
        FileNotFoundError: no such name and no such file, or it is not on this machine and ``download`` is False.
        DownloadError: it could not be fetched; the message says how to do that by hand.
        DigestError: a known model's file is not the one that it should be.

    >>> locate("gender").name
    'gender.safetensors'
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    name = str(name_or_path)
    places = [Path(folder) for folder in folders]
    model = find_model(name)
    if model is None:
        for folder in places:
            if name and not path.is_absolute() and ".." not in path.parts and (folder / path).is_file():
                return folder / path
        close = similar_names(name)
        hint = f"; did you mean {' or '.join(close)}?" if close else f" ({', '.join(MODELS)})"
        raise FileNotFoundError(f"{name!r} is neither a file nor a known model{hint}")
    found = locate_files(model, places, hub)
    if found is not None:
        return found[0]
    if not download:
        raise FileNotFoundError(f"{model.name} is not on this machine; `anigender models get {model.name}` fetches it")
    return get(model, hub)[0]


def resolve(name: str | Path, kind: str, folders: Iterable[str | Path] = ()) -> str | Path:
    """The file of a known model of this kind that is not embedded, fetched if need be; any other name as it is.

    Args:
        name: what a person gave for a detector or a classifier.
        kind: one of :data:`anigender.known_models.KINDS`.
        folders: where to look before the network is asked.

    Raises:
        DownloadError, DigestError: as of :func:`locate`.
    """
    model = find_model(str(name))
    if model is None or model.embedded or model.kind != kind or Path(name).is_file():
        return name
    return locate(model.name, folders)


def locate_files(model: KnownModel, folders: Sequence[Path] = (), hub: Hub | None = None) -> list[Path] | None:
    """All files of a known model that is on this machine, checked; None where it (or a part of it) is not.

    Raises:
        DigestError: one of them is not what it should be.
    """
    if model.embedded:
        return [ASSETS / file.pattern for file in model.files]
    found = _in_folders(model, folders)
    if found is None:
        hub = hub or Hub.from_environment()
        found = _in_cache(model, hub)
    if found is not None:
        check(model, found, hub or Hub.from_environment())
    return found


def get(model: KnownModel, hub: Hub | None = None, accept: bool = False, quiet: bool = False) -> list[Path]:
    """Fetch a known model, unless the cache has it, and check it.

    Args:
        model: which.
        hub: where from and where to; from the environment where None.
        accept: forget the commit and the digests of earlier, and trust what the repository has now.
        quiet: without progress on stderr.

    Raises:
        DownloadError: it could not be fetched.
        DigestError: it is not what it was, or not what is published.
    """
    if model.embedded:
        return [ASSETS / file.pattern for file in model.files]
    hub = hub or Hub.from_environment()
    if accept:
        paths, commit = fetch(model, hub, model.revision, quiet)
    else:
        paths, commit = fetch(_trusted(model, hub), hub, _commit(model, hub) or model.revision, quiet)
    check(model, paths, hub, commit, accept)
    return paths


def check(model: KnownModel, paths: Sequence[Path], hub: Hub, commit: str = "", accept: bool = False) -> list[str]:
    """The digests of a model's files, after checking them against what is published or was written down.

    Raises:
        DigestError: one of them is another file.
    """
    record = record_of(hub)
    return [
        check_digest(path, _key(model, file, path, record), record, file.sha256, commit, accept)
        for file, path in zip(model.files, paths, strict=True)
    ]


def _key(model: KnownModel, file: KnownFile, path: Path, record: DigestRecord) -> str:
    """Under which name the digest of a file is written down: each alternative of a pattern is a file of its own.

    Earlier versions wrote one down under the whole pattern: that counts for the file that it is of.
    """
    keys = _keys(model, file)
    whole, fitting = keys[-1], [key for key in keys if KnownFile(key.rpartition("/")[2]).fits(path.name)]
    own = fitting[0] if fitting else whole
    former = record.get(whole) if record.get(own) is None else None
    return whole if former is not None and former.sha256 == sha256(path) else own


def _keys(model: KnownModel, file: KnownFile) -> list[str]:
    """The names of a file's alternatives in the record, and last that of its whole pattern."""
    return [f"{model.name}/{pattern}" for pattern in (*file.pattern.split("|"), file.pattern)]


def record_of(hub: Hub) -> DigestRecord:
    """The record of digests that belongs to a hub's cache."""
    return DigestRecord(hub.own / "digests.json")


def _trusted(model: KnownModel, hub: Hub) -> KnownModel:
    """The model with the digests that were written down, so that another file is not even put into place.

    Of alternatives the repository says which it has: those are checked when they are there.
    """
    record = record_of(hub)
    known = [None if "|" in file.pattern else record.get(_keys(model, file)[0]) for file in model.files]
    files = zip(model.files, known, strict=True)
    return replace(model, files=tuple(replace(f, sha256=f.sha256 or (k.sha256 if k else None)) for f, k in files))


def _commit(model: KnownModel, hub: Hub) -> str:
    """The commit that a model was first fetched from: its revision is pinned by that."""
    record = record_of(hub)
    known = [record.get(key) for key in _keys(model, model.files[0])]
    return next((one.commit for one in known if one is not None and one.commit), "")


def _in_folders(model: KnownModel, folders: Sequence[Path]) -> list[Path] | None:
    """The files of a model in one of the folders or below it; what belongs to the weights must lie beside them."""
    for folder in folders:
        for place, below, names in os.walk(folder):
            below.sort()
            own = Path(place).name.lower() == model.name.lower()
            found = [_fitting(file, sorted(names), own) for file in model.files]
            if all(found):
                return [Path(place, str(name)) for name in found]
            if found[0]:
                lacking = next(file.pattern for file, name in zip(model.files, found, strict=True) if not name)
                raise FileNotFoundError(f"{Path(place, found[0])} lacks {lacking} beside it. {by_hand(model)}")
    return None


def _fitting(file: KnownFile, names: list[str], own: bool) -> str | None:
    """The one of these file names that is meant.

    Some repositories call every file model.safetensors, and some names are not certain: those count only in a folder
    of the model's ``own`` name.
    """
    if not own and (file.pattern in GENERIC or set("*|/") & set(file.pattern)):
        return None
    bare = KnownFile("|".join(part.rpartition("/")[2] for part in file.pattern.split("|")))
    return next((name for name in names if bare.fits(name)), None)


def _in_cache(model: KnownModel, hub: Hub) -> list[Path] | None:
    """The files of a model in the hub's cache: of the commit that was trusted, else of the revision."""
    if not model.repository:
        folder = hub.own / model.name
    else:
        repository = hub.folder(model.repository)
        commit = _commit(model, hub)
        note = repository / "refs" / model.revision
        if not commit and note.is_file():
            commit = note.read_text("utf-8").strip()
        if not commit or "/" in commit or ".." in commit:
            return None
        folder = repository / "snapshots" / commit
    if not folder.is_dir():
        return None
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    found = [next((name for name in names if file.fits(name)), None) for file in model.files]
    return [folder / str(name) for name in found] if all(found) else None
