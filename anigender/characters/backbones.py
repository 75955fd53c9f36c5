"""Nets to look through: the penultimate activations of any classifier of the registry, or of the identity net."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints import read_checkpoint
from ..classify import ARCHITECTURES, settings_beside
from ..classify.known import known_settings
from ..classify.preprocessing import PREFIX
from ..digests import sha256
from ..inference import placed, ready
from ..weights import ASSETS
from . import identitynet

EMBEDDED = {"identity": "identity.safetensors", "gender": "gender.safetensors"}
# What ImageNet's nets are trained with, for checkpoints that say nothing.
IMAGENET = {"input_size": "224", "mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225", "channel_order": "RGB"}
# The settings that features go by, and what they are where nothing is said.
SEEN_THROUGH = {"input_size": "", "mean": "", "std": "", "channel_order": "RGB", "head_activation": "", "stem": "auto"}
CHUNK_PIXELS = 64 * 224 * 224  # in one forward


class Backbone:
    """A net as an :class:`~.features.Extractor`: its penultimate activations, averaged with the mirrored crop's.

    Args:
        net: with a last linear layer, before which the activations are taken, or with ``features``.
        settings: ``input_size``, ``mean``, ``std`` and perhaps ``channel_order``, as texts.
        name: what it is called in options and files: a name of :data:`EMBEDDED`, or a path.
        digest: of its file.
    """

    def __init__(self, net: nn.Module, settings: Mapping[str, str], name: str, digest: str) -> None:
        self.net, self.settings, self.name, self.digest = net, dict(settings), name, digest
        self.size = int(float(settings["input_size"]))
        told = hashlib.sha256(json.dumps(self.preprocessing).encode()).hexdigest()
        self.identity = f"{digest[:16]} {self.size} {told[:16]}"

    @property
    def preprocessing(self) -> dict[str, str]:
        """The settings that features go by (:data:`SEEN_THROUGH`), equal where they mean the same."""
        return {name: _plain(str(self.settings.get(name, usual))) for name, usual in SEEN_THROUGH.items()}

    @property
    def device(self) -> torch.device:
        """Where the net computes."""
        return next(self.net.parameters()).device

    def prepared(self, crops: Tensor) -> Tensor:
        """Crops in 0-1 as the net reads them, on its device."""
        device = self.device
        mean, std = (
            torch.tensor([float(part) for part in self.settings[name].split(",")], device=device)[:, None, None]
            for name in ("mean", "std")
        )
        x = crops.to(device)
        x = x.flip(1) if self.settings.get("channel_order") == "BGR" else x
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> np.ndarray:
        """Crops ``[N, 3, size, size]`` in 0-1 to ``[N, width]`` float32."""
        parts = []
        for part in crops.split(max(1, CHUNK_PIXELS // self.size**2)):
            x = self.prepared(part)
            parts.append(((penultimate(self.net, x) + penultimate(self.net, x.flip(-1))) / 2).float().cpu())
        return torch.cat(parts).numpy() if parts else np.zeros((0, 0), np.float32)


def _plain(text: str) -> str:
    """A setting, its numbers written in one way."""
    try:
        return ",".join(f"{float(part):.9g}" for part in text.split(","))
    except ValueError:
        return text.strip()


def last_linear(net: nn.Module) -> str:
    """The path of a net's last linear layer.

    Raises:
        ValueError: it has none.
    """
    found = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)]
    if not found:
        raise ValueError("the net has no linear layer at its end, so no penultimate activations")
    return found[-1]


def penultimate(net: nn.Module, x: Tensor) -> Tensor:
    """The activations ``[N, width]`` before a net's last linear layer; of the identity net, its features."""
    if isinstance(net, identitynet.IdentityNet):
        return net.features(x)
    taken: list[Tensor] = []
    layer = net.get_submodule(last_linear(net))
    handle = layer.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    try:
        net(x)
    finally:
        handle.remove()
    return taken[0].flatten(1)


def load_backbone(name: str, device: torch.device | str = "cpu", trainable: bool = False) -> Backbone:
    """A net to look through.

    Args:
        name: of :data:`EMBEDDED`, or the path of a checkpoint of any architecture of the registry. Where neither the
            file nor a JSON file beside it says the preprocessing, that of ImageNet is taken.
        device: where it computes.
        trainable: as it was saved; else frozen, its norms folded into its convolutions.

    Raises:
        ValueError: neither a name nor a file, or a file of something else.
    """
    path = ASSETS / EMBEDDED[name] if name in EMBEDDED else Path(name)
    if not path.is_file():
        raise ValueError(f"backbone {name!r} is neither a file nor one of {', '.join(EMBEDDED)}")
    if path.suffix.lower() == ".onnx":
        raise ValueError(f"backbone {name}: the inside of an ONNX model cannot be looked at; give its PyTorch weights")
    tensors, metadata = read_checkpoint(path)
    declared: dict[str, Any] = known_settings(path) | metadata | settings_beside(path, metadata)
    plain = {key.removeprefix(PREFIX): str(value) for key, value in declared.items() if key.startswith(PREFIX)}
    net = build_net(tensors, plain, name)
    net = placed(net.eval(), device) if trainable else ready(net, device, torch.float32)
    return Backbone(net, IMAGENET | plain, name, sha256(path))


def build_net(tensors: Mapping[str, Tensor], settings: Mapping[str, str], name: str) -> nn.Module:
    """A net of any architecture here, with its weights.

    Raises:
        ValueError: the tensors are of none.
    """
    architectures = {"identitynet": (identitynet.matches, identitynet.build), **ARCHITECTURES}
    for kind, (matches, build) in architectures.items():
        if matches(tensors):
            try:
                return build(tensors, settings)
            except (ValueError, KeyError, IndexError) as error:
                raise ValueError(f"backbone {name} looks like {kind}, but {error}") from error
    seen = ", ".join(sorted(tensors)[:8])
    raise ValueError(f"backbone {name} is of no known architecture ({', '.join(architectures)}); keys seen: {seen} …")
