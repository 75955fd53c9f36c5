"""Reading checkpoints of any of the usual file types into plain tensors, without running what is in them.

The type is told by the content, not by the name. Pickles go through ``torch.load(weights_only=True)``, and only after
a look at what they name and how much they claim to hold: that loader runs no code of a file's choice, but it lets a
file of a hundred bytes ask for any amount of memory.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .weights import read_weights

MAXIMUM_BYTES = 4 << 30  # of a file: several times the largest classifier with its optimiser's state
MAXIMUM_PICKLE = 16 << 20  # of the pickle that lists the tensors; those of real nets take some hundred kilobytes
MAXIMUM_OPCODES = 500_000  # a ResNet-152 with its optimiser's state takes a fifth of that
LEGACY_PICKLES = 5  # a file of torch < 1.6: magic number, protocol, system, the object, the order of the storages
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".th", ".pkl")
WRAPPERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights"),
    *("params_ema", "state_dict_ema", "model_ema", "ema"),
)
# What the pickle of a state dict, or of a training checkpoint of plain values, may name.
_PLAIN = {
    "collections.OrderedDict",
    "torch.Size",
    "torch.device",
    "torch.storage.UntypedStorage",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.nn.parameter.Parameter",
    "_codecs.encode",
    "builtins.set",
    "__builtin__.set",
}
_STORAGES = {f"torch.{kind}Storage" for kind in "Bool Byte Char Short Int Long Half BFloat16 Float Double".split()}
_DTYPES = {f"torch.{kind}" for kind in "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split()}
ALLOWED = _PLAIN | _STORAGES | _DTYPES


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A checkpoint's tensors, on the CPU, and what it says about itself.

    Args:
        path: safetensors, or what ``torch.save`` writes (``.pth``, ``.pt``, ``.ckpt``, ``.bin``). A state dict inside
            the usual wrappers (``state_dict``, ``model`` …) is found; prefixes of its keys stay.

    Returns:
        The tensors by key, and the metadata: safetensors' own, or the plain values of a pickled ``metadata`` entry.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, cut off, larger than :data:`MAXIMUM_BYTES`, or holding more than tensors and
            plain values (code, whole models); the message says what was seen and what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    size = path.stat().st_size
    if size > MAXIMUM_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, checkpoints of up to {MAXIMUM_BYTES:,} are read")
    with path.open("rb") as stream:
        start = stream.read(16)
        kind = _kind(start)
        if kind == "zip":
            _check_archive(path, stream)
        elif kind == "pickle":
            stream.seek(0)
            # In memory, where a length that lies reads no further than there is.
            _check_globals(path, io.BytesIO(stream.read(MAXIMUM_PICKLE)), LEGACY_PICKLES)
        elif kind == "hdf5":
            raise ValueError(f"{path} is an HDF5 file (Keras); use the safetensors or ONNX file of the same model")
        elif kind == "unknown" and path.suffix.lower() not in (".safetensors", ""):
            raise ValueError(
                f"{path} is no checkpoint: it starts with {start[:8]!r}, expected safetensors or a file of torch.save"
            )
    if kind not in ("zip", "pickle"):
        return read_weights(path)
    content = _load(path)
    tensors = _state_dict(path, content)
    _check_tensors(path, tensors, size)
    return tensors, _metadata(content)


def _kind(start: bytes) -> str:
    """What the first bytes of a file announce."""
    if start[8:9] == b"{" and start[5:8] == bytes(3):  # safetensors: a length below 2 ** 40, then JSON
        return "safetensors"
    if start[:4] == b"PK\x03\x04":
        return "zip"
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return "pickle"
    return "hdf5" if start[:4] == b"\x89HDF" else "unknown"


def _check_archive(path: Path, stream: BinaryIO) -> None:
    """Refuse archives that torch.save does not write, before anything of them is unpacked."""
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise ValueError(f"{path} is cut off or broken ({error}); copy or download it again") from error
    with archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if any(name.endswith("model.weights.h5") for name in names):
            raise ValueError(f"{path} is a Keras archive; use the safetensors or ONNX file of the same model")
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            raise ValueError(
                f"{path} is a TorchScript program, not a checkpoint; save the model's state_dict() with "
                "safetensors, or export the model to ONNX"
            )
        lists = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        if len(lists) != 1:
            raise ValueError(f"{path} is a zip archive but none of torch.save (files seen: {', '.join(names[:5])})")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError(f"{path} holds compressed files, which torch.save never writes; it is not read")
        claimed = sum(entry.file_size for entry in entries)
        if claimed > path.stat().st_size:
            raise ValueError(f"{path} claims {claimed:,} bytes of content in {path.stat().st_size:,}; it is not read")
        if lists[0].file_size > MAXIMUM_PICKLE:
            raise ValueError(f"{path} lists its tensors in {lists[0].file_size:,} bytes, too many to be a state dict")
        try:
            pickled = archive.read(lists[0])
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path} is cut off or broken ({error}); copy or download it again") from error
        _check_globals(path, io.BytesIO(pickled), 1)


def _check_globals(path: Path, stream: io.BytesIO, pickles: int) -> None:
    """Read the opcodes of pickles, running none, and refuse what names anything but tensors and plain values."""
    named: set[str] = set()
    problem: Exception | None = None
    try:
        for name in _globals(stream, pickles):
            named.add(name)
    except (ValueError, IndexError, EOFError, OverflowError) as error:
        problem = error
    foreign = sorted(named - ALLOWED)
    if foreign:
        raise ValueError(
            f"{path} holds Python objects or code ({', '.join(foreign[:5])}), which is not loaded because that would "
            "run whatever the file says. If you trust it, load it with the program that made it and save "
            "model.state_dict() with safetensors"
        )
    if problem is not None:
        raise ValueError(f"{path} is cut off or no checkpoint ({problem}); copy or download it again") from problem


def _globals(stream: io.BytesIO, pickles: int) -> Iterator[str]:
    """Every ``module.name`` that this many pickles, one after another, name."""
    count = 0
    for _ in range(pickles):
        strings: list[str] = []
        for opcode, argument, _ in pickletools.genops(stream):
            count += 1
            if count > MAXIMUM_OPCODES:
                raise ValueError("its pickle is far longer than a state dict's")
            if isinstance(argument, str) and opcode.name not in ("GLOBAL", "INST"):
                strings = [*strings[-1:], argument]
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(strings)
            elif opcode.name in ("EXT1", "EXT2", "EXT4"):
                yield f"extension {argument}"


def _load(path: Path) -> Any:
    """The content of a file of torch.save: tensors and plain values."""
    try:
        with path.open("rb") as stream:  # given a path, the loader would go by its suffix
            return torch.load(stream, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # the reader's many ways to say that a file is broken
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} is not a whole checkpoint ({first}); copy or download it again") from error


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of the wrappers they come in."""
    inner = content
    for _ in range(len(WRAPPERS)):
        if not isinstance(inner, Mapping):
            break
        # Beside its net, a training keeps tensors of its own: the best accuracy, the state of its random numbers.
        wrapped = next((inner[name] for name in WRAPPERS if _has_tensors(inner.get(name))), None)
        if wrapped is not None:
            inner = wrapped
            continue
        tensors = {key: value.detach() for key, value in inner.items() if _is_entry(key, value)}
        if tensors:
            return tensors
        deeper = [inner[name] for name in WRAPPERS if isinstance(inner.get(name), Mapping)]
        deeper += [value for value in inner.values() if _has_tensors(value)]
        if not deeper:
            break
        inner = deeper[0]
    seen = f"keys {', '.join(map(str, list(content)[:8]))}" if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(f"{path} holds no state dict (seen: {seen}); save model.state_dict()")


def _is_entry(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(_is_entry(key, entry) for key, entry in value.items())


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], size: int) -> None:
    """Refuse tensors that are larger than what the file stores for them."""
    total = 0
    for name, value in tensors.items():
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise ValueError(f"{path}: tensor {name} is sparse, quantised or without data; save a plain state dict")
        stored = value.untyped_storage().nbytes()
        if value.numel() * value.element_size() > stored:
            raise ValueError(f"{path}: tensor {name} claims the shape {list(value.shape)} with {stored:,} bytes stored")
        total += value.numel() * value.element_size()
    # Shared tensors are counted every time: an output layer tied to an input layer doubles a file at most.
    if total > 2 * size:
        raise ValueError(f"{path} claims {total:,} bytes of tensors in a file of {size:,}; it is not read")


def _metadata(content: Any) -> dict[str, str]:
    """Plain values of the ``metadata`` entry, and entries called ``anigender.…``, as text."""
    if not isinstance(content, Mapping):
        return {}
    own = content.get("metadata")
    found = dict(own) if isinstance(own, Mapping) else {}
    found |= {key: value for key, value in content.items() if isinstance(key, str) and key.startswith("anigender.")}
    return {
        str(key): ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for key, value in found.items()
        if isinstance(value, (str, int, float, list, tuple))
    }
