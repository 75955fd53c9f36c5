"""Nodes for detailers: faces as SEGS, SEGS of any detector by gender, and a detector of our own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..anigender.faces import Faces
from ..anigender.masks import SHAPES
from ..anigender.segs import MATCHES, GenderDetector, classify_segs, faces_to_segs, split_segs
from . import host
from .sockets import CATEGORY, FACES, GENDERS, IMAGE, MINIMUM_CONFIDENCE, MODELS, fitting, named, one_by_one

SHAPE = (list(SHAPES), {"default": "box", "tooltip": "The shape of each SEG's mask."})


class FacesToSegs:
    """``FACES`` to one SEGS per picture."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Faces as SEGS for the Impact Pack's detailers, labelled female and male: a label filter or "
        "[LAB] prompts then treat women and men differently."
    )
    SEARCH_ALIASES = ("SEGS", "impact pack", "detailer", "FaceDetailer", "bbox to segs")
    RETURN_TYPES = ("SEGS", "IMAGE")
    RETURN_NAMES = ("segs", "images")
    OUTPUT_IS_LIST = (True, True)
    OUTPUT_TOOLTIPS = (
        "One SEGS per picture, labelled female or male.",
        "The same pictures one by one, so that each meets its own SEGS.",
    )
    FUNCTION = "convert"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "faces": FACES,
                "image": IMAGE,
                "crop_factor": (
                    "FLOAT",
                    {
                        "default": 3.0,
                        "min": 1.0,
                        "max": 100.0,
                        "step": 0.1,
                        "tooltip": "How many times the face's size a detailer sees.",
                    },
                ),
                "shape": SHAPE,
                "dilation": (
                    "INT",
                    {
                        "default": 10,
                        "min": -512,
                        "max": 512,
                        "tooltip": "How much wider and higher the masks become; negative shrinks.",
                    },
                ),
                "drop_size": (
                    "INT",
                    {
                        "default": 10,
                        "min": 1,
                        "max": 16384,
                        "tooltip": "Faces no larger than this many pixels are left out.",
                    },
                ),
            }
        }

    def convert(
        self,
        faces: Faces,
        image: Tensor,
        crop_factor: float = 3.0,
        shape: str = "box",
        dilation: int = 10,
        drop_size: int = 10,
    ) -> tuple[list[Any], list[Tensor]]:
        """One SEGS and one picture for each picture of the batch."""
        faces = fitting(faces, image)
        return faces_to_segs(faces, image, crop_factor, shape, dilation, drop_size), one_by_one(image)


class SplitSegs:
    """SEGS of any detector to those of women and of men."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Sorts the SEGS of any detector into female and male. Masks, order and sizes stay as they were."
    SEARCH_ALIASES = ("SEGS gender", "filter SEGS", "impact pack", "female SEGS", "male SEGS", "ultralytics")
    RETURN_TYPES = ("SEGS", "SEGS", "SEGS")
    RETURN_NAMES = ("female", "male", "all")
    OUTPUT_TOOLTIPS = (
        "The female SEGS, relabelled female.",
        "The male SEGS, relabelled male.",
        "All SEGS, relabelled; those that are not sure enough keep their own label.",
    )
    FUNCTION = "split"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "segs": ("SEGS", {"tooltip": "SEGS from any detector."}),
                "image": ("IMAGE", {"tooltip": "The one picture in which the SEGS were found."}),
                "match": (
                    list(MATCHES),
                    {
                        "default": "auto",
                        "tooltip": "; ".join(f"{name}: {text}" for name, text in MATCHES.items()) + ".",
                    },
                ),
                "minimum_confidence": MINIMUM_CONFIDENCE,
            },
            "optional": {"models": MODELS},
        }

    def split(
        self, segs: Any, image: Tensor, match: str = "auto", minimum_confidence: float = 0.5, models: Any = None
    ) -> tuple[Any, Any, Any]:
        """Female, male and all."""
        pipeline = host.ready(models)
        with named("segs / image"):
            return split_segs(segs, classify_segs(segs, image, pipeline, match), minimum_confidence)


class DetectorProvider:
    """Models to detectors that detailers call."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "A face detector for FaceDetailer and the other detailers that finds only female faces, only male ones, or any."
    )
    SEARCH_ALIASES = ("BBOX_DETECTOR", "SEGM_DETECTOR", "FaceDetailer", "ultralytics detector provider", "adetailer")
    RETURN_TYPES = ("BBOX_DETECTOR", "SEGM_DETECTOR")
    RETURN_NAMES = ("bbox_detector", "segm_detector")
    OUTPUT_TOOLTIPS = (
        "A detector whose masks are boxes.",
        "The same detector with masks in the shape of heads.",
    )
    FUNCTION = "provide"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "gender": (list(GENDERS), {"default": "female", "tooltip": "Whose faces it finds."}),
                "minimum_confidence": MINIMUM_CONFIDENCE,
            },
            "optional": {"models": MODELS},
        }

    def provide(
        self, gender: str = "female", minimum_confidence: float = 0.5, models: Any = None
    ) -> tuple[GenderDetector, GenderDetector]:
        """The detectors; they ask the host for their nets at each call."""
        wanted = None if gender == "any" else gender
        boxes, heads = (
            GenderDetector(lambda: host.ready(models), wanted, minimum_confidence, shape) for shape in ("box", "head")
        )
        return boxes, heads
