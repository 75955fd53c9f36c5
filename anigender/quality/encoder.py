"""CLIP image encoders, through which the quality heads look."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..inference import usable
from ..transfer import on_device
from ..weights import read_weights

DEFAULT = "clip-vit-large-patch14-336"  # what the published heads were made with
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LONGEST_CONFIG = 1 << 20  # bytes
# What an encoder's config may say; the largest published CLIP has 1664 channels in 48 layers.
LIMITS = {
    "hidden_size": 8192,
    "intermediate_size": 32768,
    "projection_dim": 8192,
    "num_hidden_layers": 128,
    "num_attention_heads": 128,
    "num_channels": 3,
    "image_size": 1024,
    "patch_size": 128,
}


class Encoder(Protocol):
    """What the scorer asks of an encoder."""

    @property
    def size(self) -> int:
        """Side of its inputs in pixels."""
        ...

    @property
    def width(self) -> int | None:
        """Values of an embedding; None where that is only known afterwards."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def encode(self, tiles: Tensor) -> Tensor:
        """Pictures ``[N, 3, size, size]``, float32 0-1, RGB, to embeddings ``[N, width]``, not normalised."""
        ...


class ClipEncoder:
    """``CLIPVisionModelWithProjection`` of transformers."""

    def __init__(self, net: nn.Module, size: int, width: int) -> None:
        self.net, self.size, self.width = net, size, width

    @property
    def device(self) -> torch.device:
        """Where the net computes."""
        return next(self.net.parameters()).device

    @torch.inference_mode()
    def encode(self, tiles: Tensor) -> Tensor:
        """See :class:`Encoder`."""
        parameter = next(self.net.parameters())
        mean = on_device(MEAN, parameter.device)[:, None, None]
        std = on_device(STD, parameter.device)[:, None, None]
        x = (tiles.to(parameter.device) - mean) / std
        return self.net(pixel_values=x.to(parameter.dtype)).image_embeds.float()


def load_encoder(
    name: str | Path = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    folders: Iterable[str | Path] = (),
) -> ClipEncoder:
    """A CLIP encoder by name, or from a folder with ``config.json`` and weights as transformers saves them.

    Args:
        name: ``auto`` (:data:`DEFAULT`), another known encoder, a folder, or the weights file in one.
        device: where it computes; CUDA where there is one, else the CPU, when None.
        dtype: its precision.
        folders: where to look for known encoders first.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: no such encoder.
        ValueError: the files are not those of a CLIP encoder, or a device that cannot be used.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = usable(device)  # before anything is downloaded
    path = Path(name)
    if path.is_dir():
        found = [path / file for file in ("model.safetensors", "pytorch_model.bin") if (path / file).is_file()]
        if not found:
            raise FileNotFoundError(f"{path} holds neither model.safetensors nor pytorch_model.bin")
        path = found[0]
    else:
        from ..locate import locate

        path = locate(DEFAULT if str(name) == "auto" else name, folders)
    return read_encoder(path, device, dtype)


def read_encoder(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> ClipEncoder:
    """A CLIP encoder from its weights file and the ``config.json`` beside it; errors as of :func:`load_encoder`."""
    try:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    except ImportError as error:
        raise ImportError(
            "quality heads need a CLIP encoder, which transformers makes: python -m pip install transformers"
        ) from error
    config = _read_config(path.with_name("config.json"))
    net = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    state = {
        key: value
        for key, value in _read_state(path).items()
        if key.startswith(("vision_model.", "visual_projection.")) and not key.endswith("position_ids")
    }
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        what = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise ValueError(f"{path} is not the CLIP encoder that its config.json describes: {what[:400]}") from error
    net = net.eval().requires_grad_(False).to(device, dtype)
    return ClipEncoder(net, config["image_size"], config["projection_dim"])


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_weights(path)[0]
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickles can fail in any way; nothing of them has been run
        raise ValueError(f"{path} cannot be read as weights: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no table of tensors")
    return state


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: a CLIP encoder is its weights and its config.json")
    with path.open("rb") as stream:
        contents = stream.read(LONGEST_CONFIG + 1)
    try:
        if len(contents) > LONGEST_CONFIG:
            raise ValueError(f"it is longer than {LONGEST_CONFIG} bytes")
        whole = json.loads(contents)
        # Either an encoder's own, or that of a whole CLIP with the encoder's inside.
        table = {**whole.get("vision_config", whole), "projection_dim": whole.get("projection_dim", 512)}
        config: dict[str, Any] = {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 32,
            "num_channels": 3,
        }
        config |= {key: table[key] for key in LIMITS if key in table}
        for key, most in LIMITS.items():
            if type(config[key]) is not int or not 1 <= config[key] <= most:
                raise ValueError(f"{key} is {str(config[key])[:40]}, expected 1 to {most}")
        if table.get("hidden_act", "quick_gelu") not in ("quick_gelu", "gelu"):
            raise ValueError(f"hidden_act is {str(table['hidden_act'])[:40]!r}, expected quick_gelu or gelu")
        return {**config, "hidden_act": table.get("hidden_act", "quick_gelu")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not the config of a CLIP encoder: {error}") from error
