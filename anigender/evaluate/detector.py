"""How well heads are found: on illustrations, by kind and gender on characters, and what is none but found."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..boxes import clip, head_from_face, pairwise_iou
from ..datasets.illustrations import mistaken, read_judged
from ..datasets.labelled import list_negatives, read_illustrations, read_pictures
from ..datasets.picture import FIGURES, Picture
from ..detect import Detector
from ..faces import Faces
from ..folders import picture_size
from ..train.heads.relabel import detections

THRESHOLDS = tuple(round(0.2 + 0.05 * i, 2) for i in range(11))


def illustration_recall(found: Iterable[Faces], pictures: Sequence[Picture]) -> list[bool]:
    """Whether each picture's known head is met by a box at IoU of 0.5 or more; squares are clipped to the picture."""
    hits = []
    for faces, picture in zip(found, pictures, strict=True):
        height, width = faces.image_sizes[0].tolist()
        known = clip(torch.from_numpy(picture.heads[:1]), width, height)
        boxes = clip(faces.boxes.cpu(), width, height)
        hits.append(bool((pairwise_iou(boxes, known) >= 0.5).any()))
    return hits


def judged_heads(found: Iterable[Faces], pictures: Sequence[Picture]) -> dict[str, float]:
    """What is found in pictures of which all heads are known.

    Returns:
        ``recall`` of the heads at IoU of 0.5, ``false_heads`` per picture, and the ``precision`` that follows from
        both; unsure heads count neither way.
    """
    met = known = false = 0
    for faces, picture in zip(found, pictures, strict=True):
        boxes, heads = faces.boxes.cpu(), torch.from_numpy(picture.heads)
        known += len(heads)
        met += int((pairwise_iou(heads, boxes) >= 0.5).any(1).sum())
        false += int(mistaken(boxes, picture).sum())
    shares = {"recall": met / max(1, known), "false_heads": false / max(1, len(pictures))}
    return shares | {"precision": met / max(1, met + false)}


def cascade_recall(data: Path, pictures: Sequence[Picture]) -> list[bool]:
    """The same for what OpenCV's LBP cascade found (``lbp_opencv4.json``), its faces turned into heads."""
    stored = json.loads((data / "lbp_opencv4.json").read_text(encoding="utf-8"))["faces"]
    found = []
    for picture in pictures:
        boxes = torch.tensor(stored.get(picture.file, []), dtype=torch.float32).reshape(-1, 4)
        boxes = head_from_face(torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1))
        found.append(Faces.from_boxes([boxes], [picture_size(data / picture.file)]))
    return illustration_recall(found, pictures)


def evaluate_detector(data: Path, detector: Detector) -> dict[str, Any]:
    """All detector figures at its own threshold, and the ones that pull against each other at other thresholds.

    Args:
        data: the data directory.
        detector: what is measured, any of the registry's; its boxes are turned into heads first. One without a
            ``threshold`` of its own is measured at 0.

    Returns:
        ``illustrations``: recall of the known heads on all, on those kept out of training, and the LBP cascade's on
        all; ``judged`` and ``judged_kept_out`` as :func:`judged_heads`;
        ``found``: for each kind of ``val`` picture the share of women's and men's in which a head is found;
        ``false_heads_per_negative``: on the negatives kept out of training, and on all;
        ``more_heads_per_figure``: on cut-outs of one figure in ``val``, how many more than one are found;
        ``by_threshold``: recall kept out, share found, and false heads on negatives and illustrations kept out.
    """
    detector = copy.copy(detector)
    chosen = getattr(detector, "threshold", 0.0)
    if hasattr(detector, "threshold"):
        detector.threshold = min(chosen, *THRESHOLDS)
    illustrations, judged = read_illustrations(data), read_judged(data)
    pictures = [p for p in read_pictures(data) if p.split == "val"]
    negatives = {split: list_negatives(data, split) for split in ("train", "val")}
    on_illustrations = list(detections(detector, data, [p.file for p in illustrations]))
    on_pictures = list(detections(detector, data, [p.file for p in pictures]))
    on_negatives = {split: list(detections(detector, data, files)) for split, files in negatives.items()}

    def above(found: Sequence[Faces], threshold: float) -> list[Faces]:
        # Suppression goes by falling score, so what a higher threshold would give is a part of what this one gave.
        return [faces.filter(faces.scores >= threshold) for faces in found]

    def figures(threshold: float) -> dict[str, Any]:
        hits = illustration_recall(above(on_illustrations, threshold), illustrations)
        found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for faces, picture in zip(above(on_pictures, threshold), pictures, strict=True):
            for kind in (picture.kind, "all"):
                found[kind][picture.gender].append(len(faces) > 0)
        shares: dict[str, dict[str, float]] = {}
        for kind, by_gender in found.items():
            both = [hit for own in by_gender.values() for hit in own]
            shares[kind] = {name: float(np.mean(own)) for name, own in by_gender.items()}
            shares[kind] |= {"both": float(np.mean(both)), "count": len(both)}
        false = {split: [len(f) for f in above(own, threshold)] for split, own in on_negatives.items()}
        places = [i for i, picture in enumerate(illustrations) if picture.split == "val"]
        kept_out = [hits[i] for i in places]
        seen = above(on_illustrations, threshold)
        more = [
            max(0, len(faces) - 1)
            for faces, picture in zip(above(on_pictures, threshold), pictures, strict=True)
            if picture.alpha and picture.kind in FIGURES
        ]
        return {
            "illustrations": {
                "recall": float(np.mean(hits)),
                "recall_kept_out": float(np.mean(kept_out)),
                "count": len(hits),
                "count_kept_out": len(kept_out),
                "judged": judged_heads(seen, judged),
                "judged_kept_out": judged_heads([seen[i] for i in places], [judged[i] for i in places]),
            },
            "found": shares,
            "false_heads_per_negative": {
                "kept_out": float(np.mean(false["val"])),
                "all": float(np.mean(false["val"] + false["train"])),
            },
            "more_heads_per_figure": float(np.mean(more)) if more else 0.0,
        }

    result = {"threshold": chosen, **figures(chosen)}
    result["illustrations"]["recall_lbp_cascade"] = float(np.mean(cascade_recall(data, illustrations)))
    result["by_threshold"] = {}
    for threshold in THRESHOLDS:
        own = figures(threshold)
        result["by_threshold"][f"{threshold:.2f}"] = {
            "recall_kept_out": own["illustrations"]["recall_kept_out"],
            "recall": own["illustrations"]["recall"],
            "found_women": own["found"]["all"]["female"],
            "found_men": own["found"]["all"]["male"],
            "false_heads_kept_out": own["false_heads_per_negative"]["kept_out"],
            "false_heads_in_illustrations": own["illustrations"]["judged_kept_out"]["false_heads"],
            "more_heads_per_figure": own["more_heads_per_figure"],
        }
    return result
