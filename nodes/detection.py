"""Nodes that make FACES: loading models, detecting, and classifying boxes that something else found."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..anigender.bounding_boxes import FORMATS, KINDS, from_bounding_boxes, to_bounding_boxes
from ..anigender.detect import DETECTORS, FILES
from ..anigender.faces import ORDERS, Faces
from ..anigender.known_models import published
from ..anigender.report import confidence_by_image, labels_by_image, report, summary
from ..anigender.selection import limit_faces
from . import host
from .sockets import CATEGORY, IMAGE, MODELS, detected, named


class LoadModels:
    """Names to ``ANIGENDER``."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Chooses the face detector and the gender classifier that the other anigender nodes use. "
        "Without this node they use the embedded ones. Put model files into models/anigender to see them here; "
        "published models that are not there are downloaded when the node runs."
    )
    SEARCH_ALIASES = ("anigender loader", "gender model", "anime face model", "face detector loader")
    RETURN_TYPES = ("ANIGENDER",)
    RETURN_NAMES = ("models",)
    OUTPUT_TOOLTIPS = ("Detector and classifier, for the `models` input of the other nodes.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        endings = tuple(ending for ending, _, _ in FILES.values())
        return {
            "required": {
                "detector": (
                    ["auto", *DETECTORS, *published("detector"), *host.model_files("detector", endings)],
                    {
                        "default": "auto",
                        "tooltip": "What finds the faces. auto is the embedded head detector; "
                        "whole-image takes every picture for one head, for pictures that are crops already. "
                        "Published detectors and the files in models/anigender (.safetensors, .onnx, OpenCV's .xml, "
                        "boxes as .json) are listed too.",
                    },
                ),
                "classifier": (
                    ["auto", *published("classifier"), *host.model_files("classifier")],
                    {
                        "default": "auto",
                        "tooltip": "What tells female from male. auto is the embedded classifier. "
                        "Published classifiers and the files in models/anigender are listed too.",
                    },
                ),
                "precision": (
                    list(host.PRECISIONS),
                    {"default": "auto", "tooltip": "What to compute in. auto takes what the device is fastest at."},
                ),
            },
            "optional": {
                "flip": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "Asks the classifier about each face and its mirror image: a little more accurate, "
                        "for twice its time.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, detector: str, classifier: str, precision: str, flip: bool | None = None) -> str:
        """A file that was replaced under its name is loaded again."""
        return host.models_stamp(detector, classifier)

    def load(self, detector: str, classifier: str, precision: str, flip: bool | None = None) -> tuple[host.Models]:
        """The models, loaded or from the cache."""
        with named("detector / classifier"):
            return (host.load_models(detector, classifier, precision, bool(flip)),)


class DetectGender:
    """``IMAGE`` to ``FACES`` and everything that can be said of them."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Finds the anime faces in a batch of pictures and says female or male for each, with a probability."
    SEARCH_ALIASES = ("anime face detection", "gender classifier", "face detect", "male or female", "anigender")
    RETURN_TYPES = ("FACES", "IMAGE", "STRING", "FLOAT", "BOUNDING_BOX", "INT", "INT", "STRING")
    RETURN_NAMES = (
        "faces",
        "image",
        "labels",
        "confidences",
        "bounding_boxes",
        "female_counts",
        "male_counts",
        "report",
    )
    OUTPUT_IS_LIST = (False, False, True, True, False, True, True, False)
    OUTPUT_TOOLTIPS = (
        "The faces with their genders, for the other anigender nodes.",
        "The pictures, unchanged.",
        "For each picture the genders of its faces, such as female,male; empty without a face.",
        "For each picture the probability of its least sure gender; 0 without a face.",
        "ComfyUI's own boxes: for each picture a list of x, y, width, height, label and score.",
        "For each picture the number of female faces.",
        "For each picture the number of male faces.",
        "All faces in words.",
    )
    FUNCTION = "detect"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": IMAGE,
                "threshold": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Lowest detection score of a face. 0 is the detector's own choice.",
                    },
                ),
                "minimum_size": (
                    "INT",
                    {"default": 0, "min": 0, "max": 8192, "tooltip": "Shortest side of a face's box in pixels."},
                ),
                "maximum_faces": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 256,
                        "tooltip": "Most faces per picture: the first ones in the order below. 0 for all.",
                    },
                ),
                "order": (
                    list(ORDERS),
                    {
                        "default": "score",
                        "tooltip": "How the faces of a picture are sorted. score is by detection score.",
                    },
                ),
            },
            "optional": {"models": MODELS},
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def detect(
        self,
        image: Tensor,
        threshold: float = 0.0,
        minimum_size: int = 0,
        maximum_faces: int = 0,
        order: str = "score",
        models: Any = None,
        unique_id: str | None = None,
    ) -> tuple[Any, ...]:
        """The faces of the batch, and what is said of them."""
        found = detected(image, models, threshold, minimum_size)
        faces = limit_faces(found, threshold, minimum_size, maximum_faces, order)
        host.show_text(summary(faces), unique_id)
        return (faces, image, *described(faces), report(faces))


def described(faces: Faces) -> tuple[Any, ...]:
    """Labels, confidences, boxes and the counts of women and men."""
    return (
        labels_by_image(faces),
        confidence_by_image(faces),
        to_bounding_boxes(faces),
        faces.count_by_image("female").tolist(),
        faces.count_by_image("male").tolist(),
    )


class FromBoundingBoxes:
    """Other people's boxes to ``FACES``."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Classifies boxes that another detector found: ComfyUI's BOUNDING_BOX, or KJNodes' BBOX."
    SEARCH_ALIASES = ("bbox to faces", "bounding box gender", "KJNodes bbox", "classify boxes")
    RETURN_TYPES = ("FACES", "BOUNDING_BOX", "STRING")
    RETURN_NAMES = ("faces", "bounding_boxes", "labels")
    OUTPUT_IS_LIST = (False, False, True)
    OUTPUT_TOOLTIPS = (
        "The boxes as faces with their genders.",
        "ComfyUI's own boxes around the heads, labelled female or male.",
        "For each picture the genders of its faces, such as female,male; empty without a face.",
    )
    FUNCTION = "classify"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        kinds = "; ".join(f"{name}: {text}" for name, text in KINDS.items())
        return {
            "required": {
                "image": IMAGE,
                "kind": (
                    list(KINDS),
                    {"default": "face", "tooltip": f"What the boxes are drawn around. {kinds[0].upper()}{kinds[1:]}."},
                ),
                "bbox_format": (
                    list(FORMATS),
                    {
                        "default": "xywh",
                        "tooltip": "What the numbers of bboxes are: left, top, width, height, or left, top, right, "
                        "bottom, as KJNodes' Points Editor writes by itself.",
                    },
                ),
            },
            "optional": {
                "bounding_boxes": (
                    "BOUNDING_BOX",
                    {"forceInput": True, "tooltip": "Boxes in ComfyUI's own format. Connect this one or bboxes."},
                ),
                "bboxes": ("BBOX", {"tooltip": "Boxes in KJNodes' format. Connect this one or bounding_boxes."}),
                "models": MODELS,
            },
        }

    def classify(
        self,
        image: Tensor,
        kind: str = "face",
        bbox_format: str = "xywh",
        bounding_boxes: Any = None,
        bboxes: Any = None,
        models: Any = None,
    ) -> tuple[Any, ...]:
        """The boxes' faces with their genders."""
        if (bounding_boxes is None) == (bboxes is None):
            raise ValueError("connect one of the inputs `bounding_boxes` and `bboxes`, and not both")
        with named("bboxes" if bounding_boxes is None else "bounding_boxes"):
            sizes = [(int(image.shape[1]), int(image.shape[2]))] * len(image)
            given, layout = (bboxes, bbox_format) if bounding_boxes is None else (bounding_boxes, "xywh")
            boxes = from_bounding_boxes(given, sizes, kind, layout)
        with named("image"):
            faces = host.ready(models).classify(image, boxes, host.progress(len(image))).cpu()
        return (faces, to_bounding_boxes(faces), labels_by_image(faces))
