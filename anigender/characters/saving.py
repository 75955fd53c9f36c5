"""Recognisers in files: skops for estimators, safetensors for nets. Nothing is unpickled.

skops keeps an estimator as plain data and names every type it would make on loading. What is not of numpy, scipy or
scikit-learn as skops itself vouches for it, or one of :data:`TRUSTED`, is refused before anything is made.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..digests import sha256
from ..files import atomic_write_bytes, is_name
from ..inference import ready
from ..weights import read_header, read_weights, save_weights
from .backbones import EMBEDDED, Backbone, build_net, load_backbone
from .features import HAND_MADE, HandMade
from .packages import needs
from .recogniser import OpenSet, Recogniser

KIND = "anigender.characters"
TRUSTED = frozenset(("sklearn.tree._tree.Tree",))  # of decision trees and forests; plain arrays inside
LARGEST = 4 << 30  # bytes of a recogniser's file when unpacked: many times a forest of 3000 trees
SUFFIXES = (".skops", ".safetensors")


def save_recogniser(recogniser: Recogniser, path: str | Path) -> None:
    """Write a recogniser, whole or not at all.

    Args:
        recogniser: one with an estimator goes to ``.skops``, one whose net answers itself to ``.safetensors``.
        path: the file.

    Raises:
        ValueError: the path has another suffix.
        ImportError: skops is not installed.
    """
    path = Path(path)
    check_output(path, recogniser.estimator is None)
    told = _told(recogniser)
    if recogniser.estimator is None:
        net = recogniser.extractor
        assert isinstance(net, Backbone)
        tensors = {f"net.{name}": value for name, value in net.net.state_dict().items()}
        tensors["middles"] = torch.from_numpy(recogniser.middles)
        metadata = {f"anigender.{name}": text for name, text in net.settings.items() if isinstance(text, str)}
        save_weights(path, tensors, metadata | {"anigender.kind": "characters", KIND: json.dumps(told)})
        return
    contents = {"about": json.dumps(told), "estimator": recogniser.estimator, "middles": recogniser.middles}
    data = needs("skops.io").dumps(contents, compression=zipfile.ZIP_DEFLATED, compresslevel=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, data)


def check_output(path: Path, network: bool) -> None:
    """Refuse what a recogniser cannot be written to: a ``network`` goes to ``.safetensors``, others to ``.skops``.

    Raises:
        ValueError: the path has another suffix.
        ImportError: skops is not installed.
    """
    wanted = ".safetensors" if network else ".skops"
    if path.suffix.lower() != wanted:
        raise ValueError(f"{path.name}: a recogniser of this kind is written to a {wanted} file")
    if not network:
        needs("skops.io")


def _told(recogniser: Recogniser) -> dict[str, Any]:
    extractor, open_set = recogniser.extractor, recogniser.open_set
    features: dict[str, Any] = {"name": extractor.name, "size": extractor.size}
    if isinstance(extractor, Backbone):
        features |= {"sha256": extractor.digest, "preprocessing": extractor.preprocessing}
    return {
        "version": 1,
        "names": list(recogniser.names),
        "features": features,
        "margin": recogniser.margin,
        "open_set": {"kind": open_set.kind, "threshold": open_set.threshold, "figures": dict(open_set.figures)},
        "figures": recogniser.figures,
    }


def is_recogniser(path: Path) -> bool:
    """Whether a file is one, from a look at its beginning: for lists of files to choose from."""
    if path.suffix.lower() == ".skops":
        return zipfile.is_zipfile(path)
    try:
        return path.suffix.lower() == ".safetensors" and "middles" in read_header(path)
    except (ValueError, OSError):
        return False


def read_recogniser(
    path: str | Path, device: torch.device | str = "cpu", folders: Iterable[str | Path] = ()
) -> Recogniser:
    """A recogniser from its file.

    Args:
        path: as :func:`save_recogniser` wrote it.
        device: where its net computes.
        folders: where else the net that it looks through may be, if that is a file of its own.

    Raises:
        FileNotFoundError: no such file.
        ImportError: skops or scikit-learn is not installed.
        ValueError: the file is something else, damaged, or would make types that are not trusted; or the net that it
            looks through is not the one it was trained with.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no recogniser {path}; `anigender train characters` makes one")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is no recogniser: expected a file ending in {' or '.join(SUFFIXES)}")
    if path.suffix.lower() == ".safetensors":
        return _read_net(path, device)
    contents = _read_skops(path)
    try:
        told, estimator, middles = json.loads(contents["about"]), contents["estimator"], contents["middles"]
        names, open_set, margin = _understood(told)
        steps = [type(step).__module__.split(".")[0] for _, step in estimator.steps]
        fits = steps == ["sklearn", "sklearn"] and isinstance(middles, np.ndarray) and middles.ndim == 2
        if not fits or len(middles) != len(names) + 1 or estimator.classes_.tolist() != list(range(len(names))):
            raise ValueError("its parts do not belong together")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a recogniser of this program: {error}") from error
    extractor = (
        HandMade() if told["features"]["name"] == HAND_MADE else _backbone(told["features"], path, device, folders)
    )
    return Recogniser(names, extractor, margin, open_set, middles, estimator, told.get("figures"))


def _read_skops(path: Path) -> dict[str, Any]:
    io_ = needs("skops.io")
    needs("sklearn.base")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > LARGEST:
            raise ValueError(f"it claims {unpacked:,} bytes when unpacked, at most {LARGEST:,} are read")
        data = path.read_bytes()
        unknown = sorted(set(io_.get_untrusted_types(data=data)) - TRUSTED)
    except (zipfile.BadZipFile, NotImplementedError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole skops file ({error}); copy it again") from error
    if unknown:
        raise ValueError(
            f"{path} would make objects of types that are not trusted: {', '.join(unknown[:8])}. It was not made by "
            "`anigender train characters`; do not load it, or train a recogniser anew"
        )
    try:
        contents = io_.loads(data, trusted=sorted(TRUSTED))
    except Exception as error:  # whatever a damaged file makes skops raise
        raise ValueError(f"{path} cannot be read by this version of skops and scikit-learn ({error})") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{path} is not a recogniser of this program: it holds a {type(contents).__name__}")
    return contents


def _understood(told: Mapping[str, Any]) -> tuple[list[str], OpenSet, float]:
    if told["version"] != 1:
        raise ValueError(f"it is of version {told['version']}, this program reads version 1")
    names = [str(name) for name in told["names"]]
    margin = float(told["margin"])
    if len(set(names)) != len(names) or len(names) < 2 or not 0.05 <= margin <= 20:
        raise ValueError(f"it has {len(names)} names and a margin of {margin}")
    if wrong := [name for name in names if not is_name(name)]:  # pictures are sorted into folders by them
        raise ValueError(f"its name {wrong[0]!r} cannot be that of a folder, as the names of characters are")
    return names, OpenSet(**told["open_set"]), margin


def _backbone(
    features: Mapping[str, Any], path: Path, device: torch.device | str, folders: Iterable[str | Path]
) -> Backbone:
    name = str(features["name"])
    places = [Path(name), *(Path(folder) / Path(name).name for folder in (path.parent, *folders))]
    found = name if name in EMBEDDED else next((str(place) for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(f"{path} looks through the net {name}, which is not there: put it beside the recogniser")
    backbone = load_backbone(found, device)
    if backbone.digest != features["sha256"]:
        raise ValueError(
            f"{path} was trained with another net than the present {name}: train it anew with this one, or put the "
            "former file back"
        )
    # Earlier versions wrote down the size alone.
    former = features.get("preprocessing", {"input_size": str(features["size"])})
    now = backbone.preprocessing
    if changed := [name for name, value in now.items() if former.get(name, value) != value]:
        told = ", ".join(f"{key} {str(former[key])[:80]!r} (now {now[key]!r})" for key in changed)
        raise ValueError(
            f"{path} was trained with {name} as it looked at pictures with {told}: put the former settings into the "
            "JSON file beside that net, or train the recogniser anew"
        )
    return backbone


def _read_net(path: Path, device: torch.device | str) -> Recogniser:
    tensors, metadata = read_weights(path)
    if KIND not in metadata or "middles" not in tensors:
        raise ValueError(f"{path} is no recogniser of characters: its metadata lack {KIND}")
    middles = tensors.pop("middles").float().numpy()
    settings = {key.removeprefix("anigender."): text for key, text in metadata.items() if key.startswith("anigender.")}
    try:
        told = json.loads(metadata[KIND])
        names, open_set, margin = _understood(told)
        net = build_net({key.removeprefix("net."): value for key, value in tensors.items()}, settings, path.name)
        features = told["features"]
        extractor = Backbone(ready(net, device, torch.float32), settings, str(features["name"]), sha256(path))
        if len(middles) != len(names) + 1:
            raise ValueError("its parts do not belong together")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a recogniser of this program: {error}") from error
    return Recogniser(names, extractor, margin, open_set, middles, None, told.get("figures"))
