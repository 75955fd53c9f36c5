"""Gender classifiers, and the registry that recognises an architecture by its checkpoint's own keys.

A new architecture is a new file with ``matches(keys)`` and ``build(state)``, and one entry below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..inference import ready
from ..weights import ASSETS, read_weights
from . import gendernet
from .classifier import Classifier

ARCHITECTURES: dict[str, tuple[Callable[[Mapping[str, Tensor]], bool], Callable[[Mapping[str, Tensor]], nn.Module]]] = {
    "gendernet": (gendernet.matches, gendernet.build),
}
CLASSIFIERS = {"gender": "the embedded gender classifier"}


def read_classifier(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Classifier:
    """A classifier from its safetensors file; the architecture is read off keys and shapes.

    Raises:
        ValueError: no known architecture has these keys, or the preprocessing is not in the metadata.
    """
    tensors, metadata = read_weights(path)
    build = next((build for matches, build in ARCHITECTURES.values() if matches(tensors)), None)
    if build is None:
        seen = ", ".join(sorted(tensors)[:8])
        raise ValueError(f"{path} is of no known architecture ({', '.join(ARCHITECTURES)}); keys seen: {seen} …")
    lacking = [name for name in ("input_size", "margin", "mean", "std") if f"anigender.{name}" not in metadata]
    if lacking:
        raise ValueError(f"{path} does not say its preprocessing: metadata anigender.{lacking[0]} is missing")
    return Classifier(ready(build(tensors), device, dtype), metadata)


def load_classifier(
    name: str | Path = "auto", device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Classifier:
    """A classifier by name or by its weights file.

    Args:
        name: ``auto`` (the embedded one), a name of :data:`CLASSIFIERS`, or a path.
        device: where it computes.
        dtype: its precision; chosen by :func:`anigender.inference.native_dtype` where None.

    Raises:
        ValueError: neither a known name nor a file, or a file of something else.
    """
    if str(name) in ("auto", "gender"):
        return read_classifier(ASSETS / "gender.safetensors", device, dtype)
    if Path(name).is_file():
        return read_classifier(Path(name), device, dtype)
    names = ", ".join(["auto", *CLASSIFIERS])
    raise ValueError(f"classifier {str(name)!r} is neither a known name ({names}) nor a file")
