"""Quality heads: small nets that read a property of a picture off its CLIP embedding.

The architecture and the file format are those of city96's classifiers and aesthetic predictor
(https://github.com/city96/CityClassifiers, Apache-2.0): a ``.safetensors`` with a ``.config.json`` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import atomic_write_text
from ..printable import is_shown
from ..weights import read_weights, save_weights

FEATURES, HIDDEN = 768, 1024
MOST_OUTPUTS = 1000
LONGEST_CONFIG = 1 << 20  # bytes
LONGEST_LABEL = 100  # characters


class Residual(nn.Module):
    """Three linear layers around which their input is passed on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.long = nn.Sequential(
            nn.Linear(width, width),
            nn.LeakyReLU(0.1),
            nn.Linear(width, width),
            nn.LeakyReLU(0.1),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, width]`` to the same shape."""
        return torch.relu(self.long(x) + x)


class HeadNet(nn.Module):
    """Logits from embeddings.

    Args:
        features: values of an embedding.
        hidden: width of the first layers.
        outputs: classes, or 1 for a score.
    """

    def __init__(self, features: int = FEATURES, hidden: int = HIDDEN, outputs: int = 2) -> None:
        super().__init__()
        self.features, self.hidden, self.outputs = features, hidden, outputs
        self.up = nn.Sequential(nn.Linear(features, hidden), Residual(hidden))
        self.down = nn.Sequential(
            nn.Linear(hidden, 128),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.LeakyReLU(),
            nn.Linear(64, 32),
            nn.Linear(32, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, features]`` to logits ``[B, outputs]``."""
        return self.down(self.up(x))


def values(logits: Tensor) -> Tensor:
    """What logits ``[B, N]`` mean: probabilities of N classes, or for N = 1 a score from 0 to 1."""
    return (logits.tanh() + 1) / 2 if logits.shape[1] == 1 else logits.softmax(1)


def matches(keys: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is this architecture's."""
    return {"up.0.weight", "up.1.long.0.weight", "down.0.weight", "down.5.weight"} <= keys.keys()


def build(state: Mapping[str, Tensor]) -> HeadNet:
    """A net of the state dict's own sizes, with its weights.

    Raises:
        ValueError: the shapes do not go together.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    hidden, features, outputs = *shapes["up.0.weight"][:2], shapes["down.5.weight"][0]
    if not (min(hidden, features) >= 1 and 1 <= outputs <= MOST_OUTPUTS):
        raise ValueError(f"a quality head of {features} to {outputs} values makes no sense")
    with torch.device("meta"):
        net = HeadNet(features, hidden, outputs)
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    wrong = [name for name in sorted(wanted.keys() | shapes.keys()) if wanted.get(name) != shapes.get(name)]
    if wrong:
        raise ValueError(f"{wrong[0]} has shape {shapes.get(wrong[0])}, a quality head has {wanted.get(wrong[0])}")
    net.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    return net.eval().requires_grad_(False)


@dataclass(frozen=True)
class Head:
    """A quality head ready for use.

    Attributes:
        net: takes embeddings ``[B, features]`` and gives logits ``[B, len(labels)]``.
        name: of the head, such as ``CCAnime-ChromaticAberration``.
        labels: of its outputs; one label means a score.
    """

    net: HeadNet
    name: str
    labels: tuple[str, ...]

    @property
    def features(self) -> int:
        """Values of an embedding."""
        return self.net.features

    @property
    def tiled(self) -> bool:
        """Whether pictures are to be cut into tiles: so are the published classifiers used, the score is not."""
        return len(self.labels) > 1


def read_head(path: Path, device: torch.device | str = "cpu") -> Head:
    """A quality head from its safetensors file and the ``.config.json`` beside it (without: numbers as labels).

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no quality head, or the two files contradict each other.
    """
    tensors, _ = read_weights(path)
    if not matches(tensors):
        seen = ", ".join(sorted(tensors)[:8])
        raise ValueError(f"{path} is no quality head (keys up.0.weight … down.5.weight); keys seen: {seen} …")
    try:
        net = build(tensors)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is no whole quality head: {error}") from error
    sizes = {"features": net.features, "hidden": net.hidden, "outputs": net.outputs}
    name, labels = _read_config(config_path(path), sizes)
    return Head(net.to(device), name or path.stem, labels)


def is_label(text: str) -> bool:
    """Whether a head or a class can be called this: one line, not too long; spaces of any width are allowed.

    >>> [is_label(text) for text in ("青　空", "sky\\n", "x" * 101)]
    [True, False, False]
    """
    shown = map(is_shown, text)
    return len(text) <= LONGEST_LABEL and all(shown)


def config_path(path: Path) -> Path:
    """Where the config of a head's file is."""
    return path.with_suffix(".config.json")


def _read_config(path: Path, sizes: dict[str, int]) -> tuple[str, tuple[str, ...]]:
    numbers = tuple(str(i) for i in range(sizes["outputs"]))
    if not path.is_file():
        return "", numbers
    with path.open("rb") as stream:
        contents = stream.read(LONGEST_CONFIG + 1)
    try:
        if len(contents) > LONGEST_CONFIG:
            raise ValueError(f"it is longer than {LONGEST_CONFIG} bytes")
        config = json.loads(contents)
        labels, parameters = config.get("labels") or {}, config.get("model_params") or {}
        for key, size in sizes.items():
            if parameters.get(key, size) != size:
                raise ValueError(f"model_params.{key} is {str(parameters[key])[:40]}, the weights have {size}")
        if len(labels) > len(numbers):
            raise ValueError(f"it has {len(labels)} labels for {len(numbers)} outputs")
        named = [labels.get(number, number) for number in numbers]
        named = [label["name"] if isinstance(label, dict) else label for label in named]
        for text in (*named, config.get("name", "")):
            if not isinstance(text, str) or not is_label(text):
                raise ValueError(f"{str(text)[:40]!r} is no name")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not the config of this quality head: {error}") from error
    return config.get("name", ""), tuple(named)


def save_head(head: Head, path: Path, metadata: Mapping[str, str] | None = None, revision: str = "v1") -> None:
    """Write a head as the published ones are written: weights, and a config beside them."""
    save_weights(path, head.net.state_dict(), {"anigender.kind": "quality", **(metadata or {})})
    config = {
        "name": head.name,
        "rev": revision,
        "arch": "class" if len(head.labels) > 1 else "score",
        "labels": {str(i): label for i, label in enumerate(head.labels)},
        "model_params": {
            "features": head.features,
            "hidden": head.net.hidden,
            "outputs": len(head.labels),
        },
    }
    atomic_write_text(config_path(path), json.dumps(config, indent=2, ensure_ascii=False) + "\n")
