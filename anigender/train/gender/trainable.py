"""Any classifier of the registry made ready to learn, and saved as one file when it has."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...classify import SETTINGS, Classifier, classifier_file, read_classifier, read_net
from ...classify.gendernet import GenderNet
from ...classify.preprocessing import PREFIX, REQUIRED
from ...files import atomic_write_bytes
from ...inference import placed
from ...locate import resolve
from ...quantised import written
from ...weights import save_weights
from ..ranges import of_classifier
from .file import broken, refuse_broken

HEADS = ("fc", "classifier")  # what the registry's architectures call what is behind their features
HALF = torch.finfo(torch.float16)


@dataclass
class Trainable:
    """A net that can learn.

    Attributes:
        classifier: the net, in float32 and with its batch norms, with its preprocessing.
        metadata: that preprocessing, as in the file it came from.
    """

    classifier: Classifier
    metadata: dict[str, str]

    @property
    def net(self) -> nn.Module:
        """What learns."""
        return self.classifier.net

    @property
    def head(self) -> nn.Module:
        """What is behind the features."""
        return head_of(self.net)


def head_of(net: nn.Module) -> nn.Module:
    """What is behind a net's features: a linear layer, or several."""
    return next(getattr(net, name) for name in HEADS if hasattr(net, name))


def read_trainable(
    name: str | Path = "auto",
    settings: Mapping[str, Any] | None = None,
    new_head: bool = False,
    device: torch.device | str = "cpu",
) -> Trainable:
    """A classifier, or another checkpoint of one of the registry's architectures, to go on from.

    Args:
        name: ``auto`` (the embedded one), the name of a known classifier, or a file.
        settings: preprocessing where the file does not say it, or to override what it says
            (:data:`anigender.classify.SETTINGS`).
        new_head: put a new last layer with two outputs, for female and male, in the place of the old one.
        device: where it is to learn.

    Raises:
        FileNotFoundError, ValueError: it cannot be had or cannot learn; the message says what to do.
    """
    path = classifier_file(resolve(name, "classifier"))
    net, declared = read_net(path, settings)
    net = copy.deepcopy(net)  # what was read may lie in the file itself
    metadata = {key: text for key, text in declared.items() if key.removeprefix(PREFIX) in SETTINGS}
    lacking = [key for key in REQUIRED if PREFIX + key not in metadata]
    if lacking:
        raise ValueError(
            f"{path} does not say its preprocessing ({', '.join(lacking)}): give it with --classifier-setting, as "
            "input_size=224 margin=1.2 mean=0.485,0.456,0.406 std=0.229,0.224,0.225 for a net of ImageNet"
        )
    last = last_layer(net)
    if new_head:
        replace_layer(net, last, nn.Linear(last.in_features, 2))
        metadata[PREFIX + "labels"] = "female,male"
    elif last.out_features not in (1, 2):
        raise ValueError(
            f"{path} has {last.out_features} outputs, two genders have 1 or 2: with --new-head its last layer is "
            "replaced by a new one for female and male"
        )
    metadata |= {PREFIX + "output": "logits", PREFIX + "kind": "classifier"}
    try:
        classifier = Classifier(placed(net.eval(), device), metadata)
        classifier.self_check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Trainable(classifier, metadata)


def last_layer(net: nn.Module) -> nn.Linear:
    """The layer that gives the outputs."""
    return [layer for layer in head_of(net).modules() if isinstance(layer, nn.Linear)][-1]


def replace_layer(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a layer in the place of another one."""
    name = next(name for name, layer in net.named_modules() if layer is old)
    above, _, last = name.rpartition(".")
    setattr(net.get_submodule(above), last, new)


def learns(model: Trainable, frozen_backbone: bool) -> None:
    """Training mode; with a frozen backbone only the head's, and the norms of the rest keep their statistics."""
    model.net.train(not frozen_backbone).requires_grad_(not frozen_backbone)
    model.head.train().requires_grad_(True)


def save_trained(
    model: Trainable, temperature: float, bias: float, output: Path, shown: Callable[[], Tensor] | None = None
) -> None:
    """The net in half precision with its preprocessing and calibration, as one safetensors file.

    Args:
        model: what learned.
        temperature, bias: of :func:`anigender.evaluate.metrics.fit_calibration`. The bias goes into the last layer,
            the temperature into the metadata, where a reader finds it.
        output: the file; it is replaced when the new one was read again and answers.
        shown: gives crops ``[N, 3, S, S]`` in 0-1 by which a net of this project's own architecture learns how large
            its activations get; without, CPUs compute in floats.

    Raises:
        ValueError: the net learned nothing but broken numbers; the file stays as it was.
    """
    net = copy.deepcopy(model.net).cpu().eval()
    last = last_layer(net)
    male = model.classifier.columns[1]
    with torch.no_grad():
        if last.bias is None:
            last.bias = nn.Parameter(torch.zeros(last.out_features))
        if last.out_features == 1:  # the logit of the second label
            last.bias[0] += bias if male == 1 else -bias
        else:
            last.bias[male] += bias
    state = {name: _halved(value) for name, value in net.state_dict().items() if not name.endswith("batches_tracked")}
    refuse_broken(state, temperature, bias, output)
    metadata = model.metadata | {PREFIX + "temperature": f"{temperature:.4f}"}
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=output.parent) as folder:
        made = Path(folder) / output.name
        save_weights(made, state, metadata)
        try:
            classifier = read_classifier(made, "cpu", torch.float32)
        except ValueError as error:
            raise broken(output, str(error).removeprefix(f"{made}: ")) from error
        if shown is not None and isinstance(net, GenderNet):
            save_weights(made, state, metadata | written(of_classifier(classifier, [shown()])))
        contents = made.read_bytes()
    atomic_write_bytes(output, contents)


def _halved(value: Tensor) -> Tensor:
    """In half precision, unless its numbers are too large for that."""
    return value.half() if value.is_floating_point() and float(value.abs().max()) < HALF.max else value
