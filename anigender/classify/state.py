"""State dicts of other people's making: finding a net inside wrappers, rebuilding its head, filling in its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)
State = Mapping[str, Tensor]
COUNTERS = "num_batches_tracked"  # kept by training only
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
}


def prefix_of(keys: Iterable[str], anchor: str) -> str | None:
    """What wrappers (``module.``, ``model.backbone.`` …) put in front of a net that has the key ``anchor``.

    >>> prefix_of(["module.net.conv1.weight", "module.fc.weight"], "conv1.weight")
    'module.net.'
    """
    found = [key[: -len(anchor)] for key in keys if key == anchor or key.endswith("." + anchor)]
    return min(found, key=len) if found else None


def split(state: State, prefix: str, backbone: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The backbone's tensors without their prefix, and all others: the head's.

    Args:
        prefix: see :func:`prefix_of`.
        backbone: a regular expression of the backbone's keys.

    Returns:
        Backbone and head. Head keys under the prefix come first and without it: a head that the net had already
        answers before one that was put behind it.
    """
    pattern = re.compile(backbone)
    inside: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    outside: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(COUNTERS):
            continue
        if not key.startswith(prefix):
            outside[key] = value
        elif pattern.match(key[len(prefix) :]):
            inside[key[len(prefix) :]] = value
        else:
            head[key[len(prefix) :]] = value
    return inside, {**head, **outside}


def fill(net: Net, state: State) -> Net:
    """``net`` with exactly these weights, as float32.

    Raises:
        ValueError: weights are missing, left over, or of another shape; the message names the first ones.
    """
    state = {name: value for name, value in state.items() if not name.endswith(COUNTERS)}
    wanted = {name: value for name, value in net.state_dict().items() if not name.endswith(COUNTERS)}
    for problem, names in (("lacks", wanted.keys() - state.keys()), ("has besides", state.keys() - wanted.keys())):
        if names:
            raise ValueError(f"the checkpoint {problem} {', '.join(sorted(names)[:4])} ({len(names)} in all)")
    for name, value in wanted.items():
        if value.shape != state[name].shape:
            raise ValueError(f"{name} has shape {list(state[name].shape)}, expected {list(value.shape)}")
    weights = {name: state[name].float() for name in wanted}
    counters = {name: torch.zeros((), dtype=torch.int64) for name in net.state_dict() if name.endswith(COUNTERS)}
    net.load_state_dict(weights | counters, assign=True)
    return net


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Sorts ``fc.10`` behind ``fc.9``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.split(".")]


def build_head(head: State, activation: str = "relu") -> nn.Module:
    """The layers behind the pooled features, from their weights.

    A state dict does not hold activations and dropouts, only the numbers they leave out: the first number left out
    between two linear layers of a ``Sequential`` is taken for an activation, any other for a dropout. Between layers
    with names (``fc1``, ``fc2``) an activation is assumed.

    Args:
        head: weights of linear layers (1x1 and whole-map convolutions count as such) and norms, by key.
        activation: one of :data:`ACTIVATIONS`.

    Returns:
        A linear layer, or a ``Sequential``.

    Raises:
        ValueError: something else is among them, or a layer does not take what the one before it gives.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"head_activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    modules: dict[str, dict[str, Tensor]] = {}
    for key, value in head.items():
        path, _, name = key.rpartition(".")
        modules.setdefault(path, {})[name] = value.float()
    groups = list(dict.fromkeys(path.rpartition(".")[0] for path in modules))
    order = sorted(modules, key=lambda path: (groups.index(path.rpartition(".")[0]), _natural(path)))
    layers: list[nn.Module] = []
    width, before, activated = None, "", True
    for path in order:
        layer, takes, gives = _layer(path, modules[path])
        if width is not None and takes != width:
            raise ValueError(f"the head's {path} takes {takes} values but {before} gives {width}")
        if not activated and _room(before, path, isinstance(layer, nn.Linear)):
            layers.append(ACTIVATIONS[activation]())
            activated = True
        layers.append(layer)
        if isinstance(layer, nn.Linear):
            activated = False
        width, before = gives, path
    if not any(isinstance(layer, nn.Linear) for layer in layers):
        raise ValueError("there is no linear layer behind the features, so no outputs")
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _room(before: str, path: str, linear: bool) -> bool:
    """Whether an activation lies between two modules of a head, of which ``before`` comes first."""
    first, second = before.rpartition("."), path.rpartition(".")
    if first[0] != second[0]:
        return False
    if first[2].isdigit() and second[2].isdigit():
        return int(second[2]) > int(first[2]) + 1
    return linear


def _layer(path: str, weights: Mapping[str, Tensor]) -> tuple[nn.Module, int, int]:
    """One module of a head with its weights, how many values it takes, and how many it gives."""
    weight = weights.get("weight", torch.empty(0))
    names = set(weights)
    layer: nn.Module
    with torch.device("meta"):
        if weight.ndim in (2, 4) and names <= {"weight", "bias"}:
            weight = weight.flatten(1)
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in names)
        elif weight.ndim == 1 and names == {"weight", "bias", "running_mean", "running_var"}:
            layer = nn.BatchNorm1d(len(weight))
        elif weight.ndim == 1 and names == {"weight", "bias"}:
            layer = nn.LayerNorm(len(weight))
        else:
            shown = ", ".join(f"{path}.{name} {list(value.shape)}" for name, value in weights.items())
            raise ValueError(f"{shown} belongs neither to the backbone nor to a head of linear layers and norms")
    fill(layer, {**weights, "weight": weight})
    return layer, weight.shape[-1], weight.shape[0]


def outputs_of(head: nn.Module) -> int:
    """How many values a head gives."""
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear)][-1].out_features


def inputs_of(head: nn.Module) -> int:
    """How many values a head takes."""
    known = (nn.Linear, nn.BatchNorm1d, nn.LayerNorm)
    return next(layer.weight.shape[-1] for layer in head.modules() if isinstance(layer, known))
