"""A classifier in an ONNX file, made to look like any other net: normalised pictures in, logits out."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..onnx_runtime import OnnxModel, open_onnx
from .preprocessing import PREFIX

LABEL_KEYS = ("labels", "names", "classes", "class_names", "id2label")  # what exporters call them
LONGEST_LABELS = 10_000  # characters; two names need fewer


class OnnxNet(nn.Module):
    """The net; its session lies on the device of its only parameter and is made anew when that moves.

    Args:
        path: the file.
        device: where to begin.

    Attributes:
        metadata: what the model says of itself, as metadata ``anigender.…``: input size and labels.
        takes_bytes: it takes whole numbers, 0-255, which fractions of 0-1 are made into.
        variant: in words.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: see :func:`~anigender.onnx_runtime.open_onnx`; or not a classifier of pictures.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.path = path
        self.place = nn.Parameter(torch.zeros(1, device=device), requires_grad=False)
        self._model: OnnxModel | None = open_onnx(path, self.place.device)
        _, *sides = self._model.input.shape
        self.takes_bytes = not self._model.input.dtype.is_floating_point
        self.last = sides[2] == 3 and sides[0] != 3  # channels last
        if not self.last and sides[0] not in (3, None):
            raise ValueError(
                f"{path} takes {list(self._model.input.shape)}, expected 3 channels as [N, 3, H, W] or [N, H, W, 3]"
            )
        height, width = sides[:2] if self.last else sides[1:]
        if height != width and None not in (height, width):
            raise ValueError(f"{path} takes pictures of {width}x{height}, expected squares")
        outputs = [i for i, port in enumerate(self._model.outputs) if port.shape[-1:] in ((1,), (2,))]
        self._output = outputs[0] if outputs else 0
        size = height or width
        self.metadata = _described(self._model.metadata) | ({f"{PREFIX}input_size": str(size)} if size else {})
        self.variant = f"ONNX ({self._model.provider}, {'NHWC' if self.last else 'NCHW'})"

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to the outputs ``[B, C]`` float32, on the device of ``x``."""
        if self._model is None:
            self._model = open_onnx(self.path, self.place.device)
        x = x.permute(0, 2, 3, 1) if self.last else x
        fixed = self._model.input.shape[0]
        if fixed is None:
            found = [self._model.run(x)[self._output]]
        else:  # exported for batches of one size: the last is filled up
            spare = -len(x) % fixed
            filled = torch.cat((x, x[:1].expand(spare, *x.shape[1:]))) if spare else x
            found = [self._model.run(part)[self._output] for part in filled.split(fixed)]
        return torch.cat(found)[: len(x)].reshape(len(x), -1).float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnnxNet:
        """Whatever moves the net gives its session up where that is elsewhere."""
        before = self.place.device
        super()._apply(fn, recurse)
        if self.place.device != before:
            self._model = None
        return self


def _described(texts: Mapping[str, str]) -> dict[str, str]:
    """A model's texts as metadata: those of this project as they are, and labels in the forms that exporters write."""
    found = {key: value for key, value in texts.items() if key.startswith(PREFIX)}
    for key in LABEL_KEYS:
        labels = _labels(texts.get(key, ""))
        if labels and f"{PREFIX}labels" not in found:
            found[f"{PREFIX}labels"] = ",".join(labels)
    return found


def _labels(text: str) -> list[str]:
    """Label names from a JSON or Python list or dictionary, or from a text with commas."""
    text = text.strip()
    if not text or len(text) > LONGEST_LABELS:
        return []
    value: Any = None
    if text[0] in "[{(":
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(text)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value, key=lambda key: int(key) if str(key).isdigit() else 0)]
    return [str(label) for label in value] if isinstance(value, (list, tuple)) else text.split(",")
