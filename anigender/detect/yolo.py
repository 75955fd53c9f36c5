"""YOLO detectors as ONNX models, such as deepghs' face and head detectors, through onnxruntime (optional).

A picture is fitted into the model's canvas (letterbox), the model answers with one box and one score per class for
every cell, and overlapping boxes are suppressed; all but the model itself is torch. The layouts of the answer are those
of Ultralytics' exports; which one a model has (:class:`Layout`) is seen from what it answers for an empty canvas.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
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
TASKS = ("detect", "pose")  # of Ultralytics' models: the others answer with masks, turned boxes or no boxes


@dataclass(frozen=True)
class Layout:
    """How a model answers for a picture.

    Attributes:
        numbers: for each box.
        rows: ``[b, boxes, numbers]`` rather than ``[b, numbers, boxes]``.
        classes: the places of the classes that are heads or faces; None where all are.
        end_to_end: a box is two corners, its score and its class, as of models that suppress overlaps themselves; else
            centre, width and height, and a score for each class.
        objectness: a score of there being anything stands before those of the classes, as in YOLOv5.
        behind: numbers behind those of the classes: points of a pose.
    """

    numbers: int
    rows: bool = False
    classes: tuple[int, ...] | None = None
    end_to_end: bool = False
    objectness: bool = False
    behind: int = 0


class Yolo:
    """A YOLO model as a detector.

    Args:
        model: opened by :func:`anigender.onnx_runtime.open_onnx`.
        threshold: lowest score reported.
        iou_threshold: overlap above which the less sure box goes.
        minimum_size: shortest side, in pixels, of a reported face's head.

    Raises:
        ValueError: the model does not take ``[b, 3, h, w]``, answers in no known layout, does something else than
            to detect, or finds neither heads nor faces.
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
            raise ValueError(f"{model.path} is no YOLO detector: it gives {shown}, expected [b, 4 + classes, cells]")
        self.model = model
        self.canvas = (shape[2] or CANVAS, shape[3] or CANVAS)
        if max(self.canvas) > LARGEST_CANVAS:
            raise ValueError(f"{model.path} takes pictures of {self.canvas}, up to {LARGEST_CANVAS} pixels are made")
        self.device = model.device
        empty = torch.full((model.input.shape[0] or 1, 3, *self.canvas), GREY, device=self.device)
        self.layout, self.region = layout_of(model.run(empty)[0], model.metadata, model.path)
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
            found, sure = decode(torch.cat(answers).float(), self.layout, self.model.path)
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


def layout_of(answer: Tensor, metadata: Mapping[str, str], path: Path) -> tuple[Layout, str]:
    """How a model answers, and what its boxes frame.

    Args:
        answer: its answer for an empty canvas.
        metadata: what its file says, as Ultralytics' exports do: ``names`` of the classes, ``task``, ``kpt_shape``.
        path: its file, for messages, and for its name where nothing else says that it finds heads.

    Raises:
        ValueError: no known layout, another task, or neither heads nor faces among its classes.
    """
    task = metadata.get("task", TASKS[0])
    if task not in TASKS:
        raise ValueError(f"{path} is a model for the task {task!r}, expected one for {' or '.join(TASKS)}")
    names = class_names(metadata)
    chosen, region = wanted(names, path)
    behind = 0 if task == TASKS[0] else points(metadata, path)
    known = f", and {len(names)} classes ({shown(names)})" if names else ""
    said = f"{path} gives {list(answer.shape)}{known}"
    if answer.ndim != 3:
        raise ValueError(f"{said}: expected [b, 4 + classes, cells]")
    first, second = answer.shape[1:]
    if second == 6 + behind and is_end_to_end(answer, len(names)):
        return Layout(second, True, chosen, end_to_end=True, behind=behind), region
    rows = first > second  # there are many more cells than classes
    numbers = min(first, second)
    objectness = bool(names) and not behind and numbers == 5 + len(names)
    if names and not objectness and numbers != 4 + len(names) + behind:
        raise ValueError(f"{said}: expected {4 + len(names) + behind} numbers for each box")
    if numbers < 5 + behind:
        raise ValueError(f"{said}: no class beside the four numbers of a box")
    return Layout(numbers, rows, chosen, objectness=objectness, behind=behind), region


def is_end_to_end(answer: Tensor, classes: int) -> bool:
    """Whether rows ``[b, boxes, 6 …]`` are corners, score and class, and not centre and sides with other scores.

    Args:
        answer: for an empty canvas.
        classes: how many there are; 0 where that is not known.
    """
    x1, y1, x2, y2, score, kind = answer.float()[..., :6].unbind(-1)
    if not len(kind.flatten()):
        return True
    indices = (kind == kind.round()) & (kind >= 0) & ((kind < classes) if classes else True)
    ordered = ((x2 >= x1) & (y2 >= y1)).float().mean()  # the worst boxes may be turned inside out
    return bool(indices.all()) and bool(((score >= 0) & (score <= 1)).all()) and float(ordered) > 0.5


def decode(answer: Tensor, layout: Layout, name: Path | str = "the model") -> tuple[Tensor, Tensor]:
    """The surest boxes of a model's answer, by falling score.

    Returns:
        ``[b, k, 4]`` xyxy in pixels of the canvas and ``[b, k]`` scores, the best class's.

    Raises:
        ValueError: another layout than this.
    """
    if answer.ndim != 3 or answer.shape[2 if layout.rows else 1] != layout.numbers:
        expected = f"[b, boxes, {layout.numbers}]" if layout.rows else f"[b, {layout.numbers}, boxes]"
        raise ValueError(f"{name} gives {list(answer.shape)}, expected {expected}")
    answer = answer.transpose(1, 2) if layout.rows else answer
    if layout.end_to_end:
        corners, sure = answer[:, :4], answer[:, 4]
        if layout.classes is not None:
            counted = torch.tensor(layout.classes, device=answer.device, dtype=answer.dtype)
            sure = sure * torch.isin(answer[:, 5], counted)
    else:
        centre, half = answer[:, :2], answer[:, 2:4] / 2
        corners = torch.cat((centre - half, centre + half), 1)
        scores = answer[:, 5 if layout.objectness else 4 : layout.numbers - layout.behind]
        sure = (scores if layout.classes is None else scores[:, list(layout.classes)]).amax(1)
        sure = sure * answer[:, 4] if layout.objectness else sure
    sure, order = sure.nan_to_num(0.0).clamp(0, 1).sort(dim=1, descending=True, stable=True)
    sure, order = sure[:, :CANDIDATES], order[:, :CANDIDATES]
    corners = corners.nan_to_num(0.0).transpose(1, 2)
    return corners.gather(1, order[..., None].expand(-1, -1, 4)), sure


def class_names(metadata: Mapping[str, str]) -> list[str]:
    """The names of a model's classes in order; none where its file does not say them.

    >>> class_names({"names": "{0: 'head', 1: 'hand'}"}), class_names({"names": "['face']"}), class_names({})
    (['head', 'hand'], ['face'], [])
    """
    try:
        names = ast.literal_eval(metadata.get("names", ""))
        in_order = [names[key] for key in sorted(names)] if isinstance(names, dict) else list(names)
        return [str(name) for name in in_order]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []


def wanted(names: Sequence[str], path: Path) -> tuple[tuple[int, ...] | None, str]:
    """Which classes of a model count, None for all, and what their boxes frame.

    Heads where there are any, else faces; a class that is the only one, or that has no name, is taken for either.

    Raises:
        ValueError: it has several classes, and neither heads nor faces among them.

    >>> wanted(["body", "Head", "face"], Path("best.onnx")), wanted([], Path("face_detect_v1.4_n.onnx"))
    (((1,), 'head'), (None, 'face'))
    """
    for word in ("head", "face"):
        if chosen := tuple(place for place, name in enumerate(names) if word in name.lower()):
            return chosen, word
    if len(names) > 1:
        raise ValueError(f"{path} finds {shown(names)}: expected a class called head or face")
    return None, "head" if not names and "head" in path.stem.lower() else "face"


def points(metadata: Mapping[str, str], path: Path) -> int:
    """How many numbers the points of a pose are.

    Raises:
        ValueError: the model does not say it.
    """
    try:
        numbers = prod(int(side) for side in ast.literal_eval(metadata.get("kpt_shape", "")))
        if numbers <= 0:
            raise ValueError(f"{numbers} numbers")
        return numbers
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"{path} finds poses and does not say of how many points (kpt_shape)") from error


def shown(names: Sequence[str]) -> str:
    """The first names of a model's classes, for a message."""
    return ", ".join(name[:40] for name in names[:8]) + (" …" if len(names) > 8 else "")


def read_yolo(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Yolo:
    """A YOLO detector from its ONNX file; its precision is the file's, so ``dtype`` changes nothing.

    Raises:
        ImportError: onnxruntime is not installed; the message says what to install.
        ValueError: no ONNX model, or of something else.
    """
    return Yolo(open_onnx(path, device))
