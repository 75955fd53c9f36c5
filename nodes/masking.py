"""The node that turns faces into masks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..anigender.faces import Faces
from ..anigender.masks import SHAPES, gender_masks
from . import host
from .sockets import CATEGORY, FACES, named


class GenderMasks:
    """``FACES`` to three masks."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Masks of the female faces, of the male faces, and of all; a zero mask for a picture without one."
    SEARCH_ALIASES = ("face mask", "female mask", "male mask", "head mask", "regional prompt", "inpaint face")
    RETURN_TYPES = ("MASK", "MASK", "MASK")
    RETURN_NAMES = ("female", "male", "all")
    OUTPUT_TOOLTIPS = (
        "Where the female faces are, one mask per picture.",
        "Where the male faces are, one mask per picture.",
        "Where any face is, one mask per picture.",
    )
    FUNCTION = "mask"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "faces": FACES,
                "shape": (
                    list(SHAPES),
                    {
                        "default": "head",
                        "tooltip": "head narrows towards the chin, ellipse is even, box is the whole box.",
                    },
                ),
                "grow": (
                    "INT",
                    {
                        "default": 0,
                        "min": -4096,
                        "max": 4096,
                        "tooltip": "Pixels added on every side; negative shrinks.",
                    },
                ),
                "grow_percent": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": -100.0,
                        "max": 500.0,
                        "step": 1.0,
                        "tooltip": "Added on every side, as a percentage of each face's own size.",
                    },
                ),
                "feather": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 1024,
                        "tooltip": "Pixels over which the mask fades out beyond the shape.",
                    },
                ),
            }
        }

    def mask(
        self, faces: Faces, shape: str = "head", grow: int = 0, grow_percent: float = 0.0, feather: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Female, male and all."""
        with named("faces"):
            return gender_masks(faces, shape, grow, grow_percent, feather, host.output_device())
