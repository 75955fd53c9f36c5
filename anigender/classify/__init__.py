"""Gender classifiers, and the registry that recognises an architecture by its checkpoint's own keys.

A new architecture is a new file with ``matches(keys)`` and ``build(state, settings)``, and one entry below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import read_checkpoint
from ..inference import ready, settled
from ..quantised import declared as declared_ranges
from ..weights import ASSETS
from . import gendernet, mobilenet, resnet, vgg
from .classifier import Classifier
from .framing import classifier_crops
from .framing import samples as samples
from .known import CLASSIFIERS, Known, known_file, known_settings
from .onnx_net import OnnxNet
from .preprocessing import PREFIX, REQUIRED, SETTINGS, normalised, sidecar_settings

__all__ = [
    "ARCHITECTURES",
    "CLASSIFIERS",
    "SETTINGS",
    "Classifier",
    "Known",
    "classifier_crops",
    "classifier_file",
    "declared_by",
    "load_classifier",
    "read_classifier",
    "read_net",
    "recognise",
    "settings_beside",
]

Matches = Callable[[Mapping[str, Tensor]], bool]
Build = Callable[..., nn.Module]
ARCHITECTURES: dict[str, tuple[Matches, Build]] = {
    "gendernet": (gendernet.matches, gendernet.build),
    "resnet": (resnet.matches, resnet.build),
    "vgg": (vgg.matches, vgg.build),
    "mobilenet_v2": (mobilenet.matches_v2, mobilenet.build_v2),
    "mobilenet_v3": (mobilenet.matches_v3, mobilenet.build_v3),
}


def recognise(tensors: Mapping[str, Tensor]) -> str:
    """The architecture of a state dict, by its keys and shapes.

    Raises:
        ValueError: none of :data:`ARCHITECTURES`; the message shows the keys seen.
    """
    for name, (matches, _) in ARCHITECTURES.items():
        if matches(tensors):
            return name
    seen = ", ".join(sorted(tensors)[:8])
    raise ValueError(f"is of no known architecture ({', '.join(ARCHITECTURES)}); keys seen: {seen} …")


def read_classifier(
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Classifier:
    """A classifier from its file: safetensors, ``.pth`` and the like, or ONNX.

    The architecture is read off keys and shapes. The net answers for a few made-up pictures before it is handed out.

    Args:
        path: the file.
        device: where it computes.
        dtype: its precision; chosen by :func:`anigender.inference.settled` where None. ONNX models have theirs.
        settings: see :data:`~.preprocessing.SETTINGS`; they win over what the file and a JSON file beside it say.

    Raises:
        FileNotFoundError: no such file.
        ImportError: an ONNX file without onnxruntime.
        ValueError: no known architecture has these keys, the preprocessing is declared nowhere or makes no sense, or
            the net does not answer as a classifier of two genders does.
    """
    if path.suffix.lower() == ".onnx":
        given = normalised(settings or {}, "settings")
        model = OnnxNet(path, device)
        declared = known_settings(path) | model.metadata | settings_beside(path, model.metadata)
        return _checked(path, model, declared | given)
    net, declared = _built(path, settings)
    # Checked in float32 on the device itself: elsewhere, other precisions may only be emulated.
    classifier = _checked(path, ready(net, device, torch.float32), declared)
    try:
        classifier.net = settled(classifier.net, device, dtype, declared_ranges(declared))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return classifier


def read_net(path: Path, settings: Mapping[str, Any] | None = None) -> tuple[nn.Module, dict[str, str]]:
    """The net of a classifier's file as it was trained, for going on, and what is declared of its preprocessing.

    Args:
        path: safetensors, ``.pth`` and the like.
        settings: see :func:`read_classifier`.

    Returns:
        The net in float32 with its batch norms, whatever its number of outputs, and metadata ``anigender.…``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: ONNX, which cannot be trained; or no known architecture has these keys.
    """
    if path.suffix.lower() == ".onnx":
        raise ValueError(
            f"{path} is an ONNX file, which holds a net for answering only: it cannot be trained. "
            "Name the checkpoint it was exported from (.safetensors or .pth)"
        )
    return _built(path, settings)


def _built(path: Path, settings: Mapping[str, Any] | None) -> tuple[nn.Module, dict[str, str]]:
    tensors, declared = _declared(path, settings)
    try:
        name = recognise(tensors)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    plain = {key.removeprefix(PREFIX): value for key, value in declared.items()}
    try:
        return ARCHITECTURES[name][1](tensors, plain), declared
    except KeyError as error:
        raise ValueError(f"{path} looks like {name}, but lacks {error}; copy or download it again") from error
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path} looks like {name}, but {error}") from error


def declared_by(
    name: str | Path, settings: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a classifier's checkpoint, and its preprocessing from wherever it is declared.

    Args:
        name, settings: as for :func:`load_classifier`; not an ONNX file.
    """
    return _declared(classifier_file(name), settings)


def _declared(path: Path, settings: Mapping[str, Any] | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata = read_checkpoint(path)
    given = normalised(settings or {}, "settings")
    return tensors, known_settings(path) | metadata | settings_beside(path, metadata) | given


def settings_beside(path: Path, metadata: Mapping[str, str]) -> dict[str, str]:
    """Settings from the JSON file beside a weights file; see :func:`~.preprocessing.sidecar_settings`.

    Beside a file that says itself what must be declared, ``NAME.json`` is let be: it is of the checkpoint of that name
    that the file was made from, whose columns and temperature are others. ``NAME.SUFFIX.json`` always counts.

    Args:
        path: the file.
        metadata: its own.
    """
    whole = all(PREFIX + name in metadata for name in REQUIRED)
    return {} if whole and not path.with_name(path.name + ".json").is_file() else sidecar_settings(path)


def _checked(path: Path, net: nn.Module, metadata: Mapping[str, str]) -> Classifier:
    lacking = [name for name in REQUIRED if PREFIX + name not in metadata]
    if lacking:
        raise ValueError(
            f"{path} does not say its preprocessing: metadata {PREFIX}{lacking[0]} is missing. Write {path.name}.json "
            f"beside it with {', '.join(lacking)} (and what else differs from the defaults), or give them as settings"
        )
    try:
        classifier = Classifier(net, metadata)
        classifier.self_check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return classifier


def load_classifier(
    name: str | Path = "auto",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Classifier:
    """A classifier by name or by its file.

    Args:
        name: ``auto`` (the embedded one), a name of :data:`CLASSIFIERS`, a path, or ``folder/name`` for a published
            classifier whose file lies in that folder under any of its names.
        device: where it computes.
        dtype: its precision; chosen by :func:`anigender.inference.settled` where None.
        settings: see :func:`read_classifier`.

    Raises:
        ImportError: an ONNX file without onnxruntime.
        ValueError: neither a known name nor a file, or a file of something else.
    """
    return read_classifier(classifier_file(name), device, dtype, settings)


def classifier_file(name: str | Path) -> Path:
    """The file that :func:`load_classifier` reads for a name.

    Raises:
        ValueError: neither a known name nor a file.
    """
    if str(name) in ("auto", "gender"):
        return ASSETS / "gender.safetensors"
    path = Path(name)
    file = path if path.is_file() else known_file(path)
    if file is not None:
        return file
    if str(name) in CLASSIFIERS:
        raise ValueError(
            f"classifier {name!r} is not embedded: fetch it with `anigender models get {name}` and name it to "
            f"`anigender.load`, or download it from {CLASSIFIERS[str(name)].source} and give the path of its file"
        )
    names = ", ".join(["auto", *CLASSIFIERS])
    raise ValueError(f"classifier {str(name)!r} is neither a known name ({names}) nor a file")
