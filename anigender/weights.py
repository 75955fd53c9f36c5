"""Weight files: writing and reading safetensors whose metadata says how to use them.

A file may come from anywhere, so what it claims is checked before memory is spent on it: a header of a sensible
length, sizes that fit the file, and numbers in the metadata within what any model needs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import atomic_write_bytes

if TYPE_CHECKING:
    from torch import Tensor

ASSETS = Path(__file__).parent / "assets"
LONGEST_HEADER = 16 * 1024 * 1024  # bytes; a model of a thousand tensors needs 0.1 MB
LARGEST_SIDE = 1 << 31  # of a tensor: a shape such as [0, 10**15] costs nothing here, and all the memory later

# What any model could mean by the numbers of its metadata; anything else is damage or an attack on memory.
RANGES = {
    "input_size": (1.0, 4096.0),
    "margin": (0.05, 20.0),
    "below": (-5.0, 5.0),
    "cut_scale": (0.5, 4.0),
    "temperature": (1e-3, 1e3),
    "threshold": (0.0, 1.0),
    "proposal_threshold": (0.0, 1.0),
    "others_discount": (0.0, 100.0),
    "verifier_size": (1.0, 4096.0),
    "verifier_margin": (0.05, 20.0),
    "iou_threshold": (0.0, 1.0),
    "area": (1.0, float(1 << 28)),
    "mean": (-1000.0, 1000.0),
    "std": (1e-6, 1000.0),
}


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole or not at all: beside the target, then renamed over it."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    contents = save({name: value.contiguous().cpu() for name, value in tensors.items()}, dict(metadata))
    atomic_write_bytes(path, contents)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file's tensors and metadata.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a whole safetensors file, or claims what no model needs.
    """
    from safetensors import SafetensorError, safe_open

    header = read_header(path)
    try:
        with safe_open(str(path), "pt") as stream:
            metadata = dict(stream.metadata() or {})
            check_metadata(metadata, path)
            tensors = {name: stream.get_tensor(name) for name in header}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); copy or download it again") from error
    except (AttributeError, KeyError, TypeError) as error:  # a type of numbers that this torch does not have
        raise ValueError(f"{path} holds numbers of a type that this torch cannot read ({error})") from error
    return tensors, metadata


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """What a safetensors file says of its tensors, without reading them: ``{"dtype", "shape", …}`` by name.

    The format: 8 bytes with the header's length, the header as JSON, then the numbers
    (https://github.com/huggingface/safetensors). That sizes and offsets fit is checked by safetensors itself.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the header is longer than the file or than 16 MB, is no JSON object, or holds an absurd shape.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 10 or length > size - 8:
            raise ValueError(
                f"{path} is not a whole safetensors file (its header claims {length} bytes, the file has {size}); "
                "copy or download it again"
            )
        if length > LONGEST_HEADER:
            raise ValueError(f"{path} has a header of {length} bytes, at most {LONGEST_HEADER} are read")
        contents = stream.read(length)
    try:
        header = json.loads(contents)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a safetensors file (its header is no JSON: {_short(error)})") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path} is not a safetensors file (its header is no JSON object)")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(isinstance(v, int) and 0 <= v < LARGEST_SIDE for v in shape):
            raise ValueError(f"{path}: tensor {name[:80]!r} has the shape {_short(shape)}, which no model needs")
    return header


def declared_kind(path: Path) -> str:
    """What a file of this program says that it holds: ``classifier``, ``detector``, ``quality``, ``characters`` ….

    Empty where it says nothing, or is no safetensors file: for lists of files to choose from, which no file may break.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix.lower() != ".safetensors":
        return ""
    try:
        with safe_open(str(path), "pt") as stream:
            return str((stream.metadata() or {}).get("anigender.kind", ""))
    except (SafetensorError, OSError):
        return ""


def check_metadata(metadata: Mapping[str, str], path: Path) -> None:
    """Refuse preprocessing that would ask for absurd sizes or divide by zero.

    Raises:
        ValueError: a number of :data:`RANGES` is none, is not finite or is out of its range.
    """
    for name, (lowest, highest) in RANGES.items():
        text = metadata.get(f"anigender.{name}")
        if text is None:
            continue
        try:
            values = [float(part) for part in text.split(",", 16)]
        except ValueError:
            values = [math.nan]
        if not all(lowest <= value <= highest for value in values):
            wanted = f"numbers from {lowest:g} to {highest:g}"
            raise ValueError(f"{path}: metadata anigender.{name} is {_short(text)}, expected {wanted}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
