"""The node that shows what was found."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..anigender.drawing import draw_faces
from ..anigender.faces import Faces
from . import host
from .sockets import CATEGORY, FACES_OF_IMAGE, IMAGE, MODELS, known_or_detected


class PreviewGender:
    """``IMAGE`` with the faces drawn in, shown on the node."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Shows the pictures with a box, the gender and its probability at every face, and names where faces have them."
    )
    SEARCH_ALIASES = ("draw boxes", "visualize detections", "preview faces", "annotate", "show gender")
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The pictures with boxes and labels drawn in.",)
    OUTPUT_NODE = True
    FUNCTION = "preview"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": IMAGE,
                "labels": (
                    "BOOLEAN",
                    {"default": True, "tooltip": "Write female or male at each face, and its name where it has one."},
                ),
                "confidences": ("BOOLEAN", {"default": True, "tooltip": "Write the probability at each face."}),
                "line_width": (
                    "INT",
                    {"default": 0, "min": 0, "max": 64, "tooltip": "Of the boxes in pixels; 0 fits it to the picture."},
                ),
            },
            "optional": {"faces": FACES_OF_IMAGE, "models": MODELS},
        }

    def preview(
        self,
        image: Tensor,
        labels: bool = True,
        confidences: bool = True,
        line_width: int = 0,
        faces: Faces | None = None,
        models: Any = None,
    ) -> dict[str, Any]:
        """The drawn pictures, and the files that the node shows."""
        faces = known_or_detected(image, faces, models)
        drawn = draw_faces(image, faces, labels, confidences, line_width)
        return {"ui": host.preview(drawn), "result": (drawn,)}
