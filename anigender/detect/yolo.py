"""YOLOv8-style detectors as ONNX models, such as deepghs' face and head detectors, through onnxruntime (optional).

A picture is fitted into the model's canvas (letterbox), the model answers with one box and one score per class for
every cell, and overlapping boxes are suppressed; all but the model itself is torch. The layout of the answer,
``[batch, 4 + classes, cells]`` with centre, width and height in pixels of the canvas, is that of Ultralytics' exports.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..boxes import suppress
from ..faces import Faces
from ..images import Batch, finite_error, resize, unit_range
from ..onnx_runtime import OnnxModel, open_onnx
from .found import as_faces

CANVAS = 640  # side where the model leaves it free
GREY = 114 / 255  # of the canvas around the picture, which these models were trained with
THRESHOLD = 0.3
IOU_THRESHOLD = 0.7
CANDIDATES = 300  # boxes per picture that go into suppression
LARGEST_CANVAS = 4096


class Yolo:
    """A YOLOv8-style model as a detector.

    Args:
        model: opened by :func:`anigender.onnx_runtime.open_onnx`.
        threshold: lowest score reported.
        iou_threshold: overlap above which the less sure box goes.
        minimum_size: shortest side, in pixels, of a reported face's head.

    Raises:
        ValueError: the model does not take ``[b, 3, h, w]`` or does not answer with one tensor of rank 3.
    """

    def __init__(
        self,
        model: OnnxModel,
        threshold: float = THRESHOLD,
        iou_threshold: float = IOU_THRESHOLD,
        minimum_size: float = 0.0,
    ) -> None:
        shape = model.input.shape
        if shape[1] not in (None, 3):
            raise ValueError(f"{model.path} takes {shape[1]} channels in {list(shape)}, expected [b, 3, h, w]")
        if len(model.outputs) != 1 or len(model.outputs[0].shape) not in (0, 3):
            shown = "; ".join(f"{port.name} {list(port.shape)}" for port in model.outputs[:5])
            raise ValueError(
                f"{model.path} is no YOLOv8-style detector: it gives {shown}, expected [b, 4 + classes, cells]"
            )
        self.model = model
        self.canvas = (shape[2] or CANVAS, shape[3] or CANVAS)
        if max(self.canvas) > LARGEST_CANVAS:
            raise ValueError(f"{model.path} takes pictures of {self.canvas}, up to {LARGEST_CANVAS} pixels are made")
        self.device = model.device
        self.region = region_of(model.metadata, model.path.stem)
        self.threshold = threshold
        self.iou_threshold = iou_threshold
        self.minimum_size = minimum_size

    @torch.inference_mode()
    def detect(self, batch: Batch) -> Faces:
        """The faces of every picture, by falling score inside each.

        Raises:
            ValueError: a picture holds NaN or infinity, or the model answers with another layout.
        """
        boxes: list[Tensor] = [torch.zeros(0, 4)] * len(batch)
        scores: list[Tensor] = [torch.zeros(0)] * len(batch)
        for group in batch.groups:
            height, width = group.pixels.shape[1:3]
            canvases, scale, left, top = letterbox(group.pixels.to(self.device), self.canvas)
            finite = canvases.flatten(1).sum(1).isfinite().cpu()
            if not bool(finite.all()):
                raise finite_error(group.index[int((~finite).nonzero()[0])] + batch.first)
            # Exports with a fixed batch take so many pictures and no other number; most take one.
            fixed = self.model.input.shape[0] or len(canvases)
            answers = []
            for part in canvases.split(fixed):
                padded = F.pad(part, (0, 0, 0, 0, 0, 0, 0, fixed - len(part)))
                answers.append(self.model.run(padded)[0][: len(part)])
            found, sure = decode(torch.cat(answers).float(), self.model.path)
            found = (found - torch.tensor([left, top, left, top], device=found.device)) / scale
            limit = torch.tensor([width, height, width, height], device=found.device, dtype=found.dtype)
            found = torch.minimum(found.clamp(min=0), limit)
            keep = suppress(found, sure >= self.threshold, self.iou_threshold)
            for place, index in enumerate(group.index):
                boxes[index], scores[index] = found[place, keep[place]].cpu(), sure[place, keep[place]].cpu()
        return as_faces(boxes, scores, batch.sizes, self.device, self.region, self.threshold, self.minimum_size)


def letterbox(pixels: Tensor, canvas: tuple[int, int]) -> tuple[Tensor, float, int, int]:
    """Pictures shrunk or enlarged to fit a canvas, in its middle.

    Args:
        pixels: ``[b, H, W, 3]``, bytes or 0-1.
        canvas: height and width.

    Returns:
        ``[b, 3, *canvas]`` float32 0-1, by how much the pictures were scaled, and where their left and top edges are.
    """
    height, width = pixels.shape[1:3]
    scale = min(canvas[0] / height, canvas[1] / width)
    rows, columns = (max(1, min(side, round(own * scale))) for own, side in zip((height, width), canvas, strict=True))
    left, top = (canvas[1] - columns) // 2, (canvas[0] - rows) // 2
    small = unit_range(resize(pixels, rows, columns))
    return F.pad(small, (left, canvas[1] - columns - left, top, canvas[0] - rows - top), value=GREY), scale, left, top


def decode(answer: Tensor, name: Path | str = "the model") -> tuple[Tensor, Tensor]:
    """The surest boxes of a model's answer ``[b, 4 + classes, cells]``, by falling score.

    Returns:
        ``[b, k, 4]`` xyxy in pixels of the canvas and ``[b, k]`` scores, the best class's.

    Raises:
        ValueError: another rank, or not even one class.
    """
    if answer.ndim != 3:
        raise ValueError(f"{name} gives {list(answer.shape)}, expected [b, 4 + classes, cells]")
    if answer.shape[1] > answer.shape[2]:  # there are many more cells than classes
        answer = answer.transpose(1, 2)
    if answer.shape[1] < 5:
        raise ValueError(f"{name} gives {list(answer.shape)}: no class beside the four numbers of a box")
    sure = answer[:, 4:].amax(1).nan_to_num(0.0).clamp(0, 1)
    sure, order = sure.sort(dim=1, descending=True, stable=True)
    sure, order = sure[:, :CANDIDATES], order[:, :CANDIDATES]
    centre, half = answer[:, :2], answer[:, 2:4] / 2
    corners = torch.cat((centre - half, centre + half), 1).nan_to_num(0.0).transpose(1, 2)
    return corners.gather(1, order[..., None].expand(-1, -1, 4)), sure


def region_of(metadata: Mapping[str, str], name: str) -> str:
    """What a model's boxes frame: heads where its classes (or its name) say so, else faces.

    >>> region_of({"names": "{0: 'head'}"}, "best"), region_of({}, "face_detect_v1.4_n")
    ('head', 'face')
    """
    try:
        names = ast.literal_eval(metadata.get("names", ""))
        words = " ".join(str(v) for v in (names.values() if isinstance(names, dict) else names))
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
        words = name
    return "head" if "head" in words.lower() else "face"


def read_yolo(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Yolo:
    """A YOLOv8-style detector from its ONNX file; its precision is the file's, so ``dtype`` changes nothing.

    Raises:
        ImportError: onnxruntime is not installed; the message names the extra.
        ValueError: no ONNX model, or of something else.
    """
    return Yolo(open_onnx(path, device))
